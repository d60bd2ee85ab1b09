"""Parts of scripts/gpu_speed: what short runs on a GPU are worth, in accuracy and as rankings."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import partial
from hashlib import sha256
from pathlib import Path
from time import perf_counter

import numpy as np
import torch
from gpu_common import HELD_OUT, Held, Setting, Stamps, chosen, model_for
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from dataset_audit.report.charts import save
from dataset_audit.report.trends import Trend, trends
from dataset_audit.runs import Run, Settings, run
from dataset_audit.scores.merge import merge
from dataset_audit.select.order import order, tie_keys
from dataset_audit.stats.agreement import overlap, spearman
from dataset_audit.tables.scores import COLUMNS
from dataset_audit.train import augment
from dataset_audit.train.fit import fit, start
from dataset_audit.train.models import build
from dataset_audit.train.networks import Network
from dataset_audit.train.recipes import Recipe
from dataset_audit.train.task import State, Task

KEPT = 0.3  # share of the hardest whose overlap is stated
SCORES = ("aum", "el2n_mean", "forgetting")
LONG_SEEDS = (101, 102)  # none that a short run has
SHORT = (  # name, recipe, network, epochs, runs
    ("fast-gpu, 8 epochs", "fast-gpu", "airbench", 8, 6),
    ("fast-gpu, 16 epochs", "fast-gpu", "airbench", 16, 6),
    ("fast-gpu, 28 epochs", "fast-gpu", "airbench", 28, 6),
    ("fast-gpu, 56 epochs", "fast-gpu", "airbench", 56, 3),
    ("ResNet-18, 15 epochs", "toneva-cifar", "resnet18", 15, 3),
    ("ResNet-18, 30 epochs", "toneva-cifar", "resnet18", 30, 2),
)


def fast(setting: Setting) -> dict[str, object]:
    """Return test accuracy and seconds of the fast recipe by length and label smoothing, two seeds each."""
    held, test = setting.images(), setting.test_images()
    rows = np.arange(len(held.labels))
    if test is None:
        limit = setting.pick(HELD_OUT, 24)
        test = Held(held.images[limit:], held.labels[limit:], held.classes)
        rows = rows[:limit]
    found: dict[str, object] = {"trained_on": len(rows), "tested_on": len(test.labels)}
    for epochs in (10, 16, 28, 48) if not setting.tiny else (2,):
        for smoothing in (0.0, 0.2):
            recipe = chosen("fast-gpu", setting, epochs=epochs, label_smoothing=smoothing)
            measured = [
                _tested(setting, held.task(setting, rows, seed=seed), recipe, test)
                for seed in range(1, setting.pick(2, 1) + 1)
            ]
            found[f"{epochs} epochs, smoothing {smoothing}"] = {
                key: [one[key] for one in measured] for key in measured[0]
            }
    return found


def _tested(setting: Setting, task: Task, recipe: Recipe, test: Held) -> dict[str, float]:
    began, stamps = perf_counter(), Stamps()
    state = start(task, recipe, lambda: _network(task, "airbench"))
    fit(task, recipe, state, after_epoch=stamps, progress=setting.clock)
    seconds = perf_counter() - began
    views = _views(task, state, test.images)
    correct = {
        name: float((logits.argmax(1) == test.labels).float().mean()) for name, logits in views.items()
    }
    return {"seconds": seconds, "last_epoch_s": stamps.epochs()[-1], **correct}


@torch.no_grad()
def _views(task: Task, state: State, images: Tensor) -> dict[str, Tensor]:
    """Return logits of the images as they are, averaged with their mirror, and over airbench's six views."""
    state.network.eval()
    once, mirrored, six = [], [], []
    for part in torch.split(images, 1000):
        x = augment.normalise(part, task.mean, task.std)
        with torch.autocast(task.device.type, torch.bfloat16, enabled=task.precision == "bf16"):
            height, width = x.shape[2:]
            padded = functional.pad(x, (1, 1, 1, 1), "reflect")
            shifted = [padded[:, :, :height, :width], padded[:, :, 2:, 2:]]
            pairs = [
                (state.network(view).float(), state.network(view.flip(3)).float()) for view in (x, *shifted)
            ]
        both = [(a + b) / 2 for a, b in pairs]
        once.append(pairs[0][0])
        mirrored.append(both[0])
        six.append(both[0] / 2 + (both[1] + both[2]) / 4)
    state.network.train()
    return {"accuracy": torch.cat(once), "with_mirror": torch.cat(mirrored), "with_six_views": torch.cat(six)}


def _network(task: Task, model: str) -> Network:
    return build(model, classes=task.classes, channels=task.images.channels, image_size=max(task.images.size))


def _scored(
    setting: Setting, name: str, recipe: Recipe, model: str, seeds: Sequence[int]
) -> tuple[list[Run], list[float]]:
    """Return the runs of these seeds and the seconds of each; those that are finished are read, one goes on.

    The seconds are those of training and recording, without the decoding of the images, which is done once.
    """
    held = setting.images()
    folder = setting.out / "runs" / name.replace(" ", "-").replace(",", "")
    folder.mkdir(parents=True, exist_ok=True)
    digest = sha256(json.dumps([asdict(recipe), model, len(held.labels)]).encode()).hexdigest()
    spent = _Seconds(folder / "seconds.json")
    runs = []
    for seed in seeds:
        task, began, finished = held.task(setting, seed=seed), perf_counter(), False
        settings = Settings(folder=folder, digest=digest, checkpoint_every=25)
        try:
            runs.append(run(task, recipe, partial(_network, task, model), settings, progress=setting.clock))
            finished = runs[-1].epochs_trained == 0
        finally:
            if not finished:
                spent.add(seed, perf_counter() - began)
    return runs, [spent.of(seed) for seed in seeds]


class _Seconds:
    """Seconds by seed, over all calls."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.known: dict[str, float] = json.loads(path.read_text()) if path.exists() else {}

    def add(self, seed: int, seconds: float) -> None:
        self.known[str(seed)] = self.of(seed) + seconds
        self.path.write_text(json.dumps(self.known), encoding="utf-8")

    def of(self, seed: int) -> float:
        return self.known.get(str(seed), 0.0)


def _long(setting: Setting) -> tuple[list[Run], list[float]]:
    recipe = chosen("toneva-cifar", setting)
    return _scored(setting, "long", recipe, model_for(setting, "resnet18"), LONG_SEEDS)


def long(setting: Setting) -> dict[str, object]:
    """Return seconds of each run of the full protocol, how far they agree, and the published share beside theirs."""
    runs, seconds = _long(setting)
    found: dict[str, object] = {
        "seeds": list(LONG_SEEDS),
        "seconds": seconds,
        "epochs": len(runs[0].history.loss),
    }
    found["train_accuracy"] = [one.history.accuracy[-1] for one in runs]
    found["unforgettable"] = [float(np.mean(_events(one) == 0)) for one in runs]
    found["unforgettable_in_both"] = float(np.mean((_events(runs[0]) == 0) & (_events(runs[1]) == 0)))
    for name in SCORES:
        found[f"agreement_{name}"] = _agreement(
            merge([runs[0].columns]), name, merge([runs[1].columns]), name
        )
    return found


def _events(one: Run) -> NDArray[np.float64]:
    """Return forgetting events, inf where an example was never learned."""
    return np.where(one.columns["never_learned"], np.inf, one.columns["forgetting_events"].astype(float))


def curve(setting: Setting) -> dict[str, object]:
    """Return how far k short runs agree with the long ranking, over their GPU seconds; draw it as curve.svg."""
    reference = merge([one.columns for one in _long(setting)[0]])
    found: dict[str, object] = {}
    drawn: list[Trend] = []
    for name, recipe_name, network, epochs, count in (
        SHORT if not setting.tiny else (("tiny", "fast-gpu", "small", 2, 2),)
    ):
        recipe = chosen(recipe_name, setting, epochs=epochs)
        runs, seconds = _scored(setting, name, recipe, model_for(setting, network), range(1, count + 1))
        points = []
        for k in range(1, count + 1):
            merged, cost = merge([one.columns for one in runs[:k]]), sum(seconds[:k])
            agreements = {score: _agreement(merged, score, reference, score) for score in SCORES}
            agreements["aum with forgetting"] = _agreement(merged, "aum", reference, "forgetting")
            found[f"{name}, {k} runs"] = {"seconds": cost, **agreements}
            points.append((cost, *agreements["aum"]))
        spent, rho, common = np.array(points).T
        drawn.append(Trend(label=f"{name}: Spearman", x=spent, y=rho))
        drawn.append(Trend(label=f"{name}: overlap", x=spent, y=common))
    words = ("AUM of short runs against two runs of 200 epochs", "GPU seconds", "agreement")
    try:
        chart = trends("curve", drawn, words=words, log=True)
        save([chart], setting.out, prefix="gpu", caption=f"overlap of the hardest {KEPT:.0%}")
    except ModuleNotFoundError:
        found["chart"] = "none: matplotlib is not installed"
    return found


def _agreement(
    one: Mapping[str, NDArray[np.generic]], name: str, other: Mapping[str, NDArray[np.generic]], target: str
) -> list[float]:
    """Return [Spearman, overlap of the hardest share] of two scores, both turned so that high is hard."""
    a, b = (
        np.ma.filled(np.ma.asarray(columns[key]).astype(np.float64), np.nan)
        * (1 if COLUMNS[key].hard == "high" else -1)
        for columns, key in ((one, name), (other, target))
    )
    known = np.flatnonzero(np.isfinite(a) & np.isfinite(b))
    tie = tie_keys(1, None, known)
    count = max(1, round(KEPT * len(known)))
    hardest = [order([values[known]], ["high"], tie)[:count] for values in (a, b)]
    return [float(spearman(a[known], b[known])), float(overlap(*hardest))]
