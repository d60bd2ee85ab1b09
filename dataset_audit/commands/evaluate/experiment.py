"""The trainings of ``audit evaluate``: every arm with every seed, each finished one kept, tuned before if asked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch

from dataset_audit.commands.evaluate.choices import Resolved
from dataset_audit.commands.evaluate.config import Config
from dataset_audit.commands.evaluate.data import Data
from dataset_audit.commands.evaluate.findings import Done
from dataset_audit.evaluate.arms import Job
from dataset_audit.evaluate.experiment import Bench, Outcome, finished, kept_at, outcome, presentations
from dataset_audit.evaluate.measure import measured
from dataset_audit.evaluate.tune import best, trial, trials, validation
from dataset_audit.progress import Progress
from dataset_audit.runs import Settings
from dataset_audit.train.distributed import awaited, world
from dataset_audit.train.hold import normalisation
from dataset_audit.train.models import build
from dataset_audit.train.task import Task


def prepared(config: Config, data: Data, resolved: Resolved) -> Bench:
    """Return what all arms share."""
    images, chosen, device = data.images, resolved.recipe, resolved.device
    mean, std = normalisation(chosen, images, data.rows, device)
    classes = len(data.class_names)
    task = Task(
        images=images,
        labels=torch.from_numpy(data.labels).to(device),
        rows=data.rows,
        classes=classes,
        seed=resolved.seeds[0],
        device=device,
        precision=resolved.precision,
        mean=mean,
        std=std,
        compile=config.compile,
    )
    return Bench(
        task=task,
        test=data.test,
        test_rows=data.test_rows,
        test_labels=data.test_labels,
        recipe=chosen,
        budget=config.budget,
        build=lambda: build(
            resolved.model, classes=classes, channels=images.channels, image_size=max(images.size)
        ),
    )


class _Shifted:
    """Passes the progress of one training on as that of all."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self.before, self.doing = 0, ""

    def advance(self, done: int, **figures: float | str) -> None:
        self._progress.advance(self.before + done, arm=self.doing, **figures)

    def __getattr__(self, name: str) -> object:
        return getattr(self._progress, name)


@dataclass(kw_only=True)
class Work:
    """Runs trainings one after the other; finished ones are read, an interrupted one goes on where it was.

    Several processes take one each, the longest first; no training depends on who runs it.

    Attributes:
        config: What was asked for.
        data: Images and labels.
        bench: What all arms share.
        settings: Where unfinished work lies.
        progress: Told of all of it.
        trained_epochs: Just now, by all processes.
    """

    config: Config
    data: Data
    bench: Bench
    settings: Settings
    progress: Progress
    trained_epochs: int = 0

    def all(self, planned: Sequence[Job]) -> list[Done]:
        """Tune if asked to, then train every job and return it with its figures."""
        tuned = self._tune(planned) if self.config.tune else {}
        given = [replace(job, knobs=tuned.get(_of(job), ({}, 0.0))[0]) for job in planned]
        outcomes = self._train("arms", given, self.bench)
        return [
            self._figures(job, outcome, tuned.get(_of(job), ({}, 0.0))[1])
            for job, outcome in zip(given, outcomes, strict=True)
        ]

    def _train(self, task: str, planned: Sequence[Job], bench: Bench) -> list[Outcome]:
        """Return the outcome of every job, on every process."""
        peers, works = world(), [presentations(bench, job) for job in planned]
        order = sorted(range(len(planned)), key=lambda number: -works[number] if peers.size > 1 else number)
        self.progress.start(task, sum(works) // peers.size, "images")
        shifted = _Shifted(self.progress)
        mine: dict[int, Outcome] = {}
        epochs = 0
        for number in (order[turn] for turn in peers.dealt(task, len(planned))):
            job = planned[number]
            shifted.doing = f"{number + 1}/{len(planned)} {job.name}"
            mine[number], trained = outcome(bench, job, self.settings, shifted)  # type: ignore[arg-type]  # delegates the rest
            epochs += trained
            shifted.before += works[number]
            self.progress.advance(shifted.before, arm=shifted.doing)
        self.progress.finish()
        self.trained_epochs += sum(peers.collected(epochs) or [])  # met: all are trained
        found = []
        for number, job in enumerate(planned):
            one = mine.get(number) or awaited(
                partial(finished, job, self.settings), kept_at(job, self.settings)
            )
            if not one.learned and not job.trial:
                self.progress.warn("W-untrained", f"{job.name} learned nothing; try a lower --lr")
            found.append(one)
        return found

    def _tune(self, planned: Sequence[Job]) -> dict[str, tuple[dict[str, float], float]]:
        """Return by arm and size the best of the trials and the seconds they took."""
        data, bench = self.data, self.bench
        held = validation(data.rows, data.labels[data.rows], self.config.seed)
        judged = replace(bench, test=data.images, test_rows=held, test_labels=data.labels[held])
        settings = trials(bench.recipe, self.config.tune, self.config.seed)
        first = {_of(job): job for job in reversed(planned) if job.arm != "curve"}
        tried = [
            trial(job, knobs, number, held, data.rows)
            for job in first.values()
            for number, knobs in enumerate(settings)
        ]
        outcomes = self._train("trials", tried, judged)
        found = {}
        for number, name in enumerate(first):
            own = outcomes[number * len(settings) : (number + 1) * len(settings)]
            accuracies = [float((one.predicted == judged.test_labels).mean()) for one in own]
            found[name] = settings[best(accuracies)], sum(one.seconds for one in own)
        return found

    def _figures(self, job: Job, outcome: Outcome, seconds_tune: float) -> Done:

        data, classes = self.data, len(self.data.class_names)
        labels = data.labels[job.rows]
        return Done(
            job=job,
            outcome=outcome,
            measured=measured(outcome.predicted, outcome.confidence, outcome.loss, data.test_labels, classes),
            class_share=np.bincount(labels, minlength=classes) / len(labels),
            wrong_labels=float((labels != data.clean[job.rows]).mean()) if data.known_wrong else float("nan"),
            seconds_tune=seconds_tune,
        )


def _of(job: Job) -> str:
    """Return what a job shares with its other seeds; a shorter training on all has the settings of the full one."""
    return "full" if job.arm in {"full", "curve"} else f"{job.arm} {len(job.rows)}"
