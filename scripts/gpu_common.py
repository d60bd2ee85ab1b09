"""What the parts of scripts/gpu_speed share: the data, the clock, the figures of a part."""

from __future__ import annotations

import json
import math
import platform
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from importlib import metadata
from pathlib import Path
from time import perf_counter

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from dataset_audit import seeds
from dataset_audit.images.dataset import open_dataset
from dataset_audit.progress import Silent
from dataset_audit.train.batches import Resident
from dataset_audit.train.hold import Holding, hold, statistics
from dataset_audit.train.networks import Network
from dataset_audit.train.recipes import Recipe, recipe
from dataset_audit.train.task import State, Task

EPOCHS = 200  # of the protocol
HELD_OUT = 40_000  # training rows of CIFAR-10 from here on are the test set where no other is named


class TimeUp(BaseException):
    """The part's time is over; what is finished stays."""


class Clock(Silent):
    """Progress that stops a training when the time of this call is over."""

    def __init__(self, seconds: float) -> None:
        super().__init__()
        self.until = perf_counter() + seconds

    def advance(self, done: int, **figures: float | str) -> None:  # noqa: ARG002 - the protocol's
        """Raise TimeUp when it is time."""
        if perf_counter() > self.until:
            raise TimeUp

    def left(self) -> float:
        """Return the seconds of this call that are left."""
        return self.until - perf_counter()


@dataclass(frozen=True, kw_only=True)
class Setting:
    """Where the parts run, on what, and how much of it.

    Attributes:
        device: Of all parts.
        out: Folder of figures, tables and unfinished work.
        data: What ``audit`` would open; None for pictures drawn here.
        test: Another data set of the same classes; None for the rows from 40,000 on.
        tiny: Everything in seconds, for a test of the script: no figure means anything.
        seconds: Of this call.
    """

    device: torch.device
    out: Path
    data: str | None
    test: str | None
    tiny: bool
    clock: Clock
    held: dict[str, Held] = field(default_factory=dict)

    def pick(self, whole: int, tiny: int) -> int:
        """Return a size: for figures, or for a test of the script."""
        return tiny if self.tiny else whole

    def images(self) -> Held:
        """Return the data set, decoded once a call."""
        if "data" not in self.held:
            self.held["data"] = _read(self.data, self)
        return self.held["data"]

    def test_images(self) -> Held | None:
        """Return the test set that was named, if one was."""
        if self.test is None:
            return None
        if "test" not in self.held:
            self.held["test"] = _read(self.test, self)
        return self.held["test"]


@dataclass(frozen=True)
class Held:
    """Images uint8[N, H, W, C] on the device, labels int64[N] there, number of classes."""

    images: Tensor
    labels: Tensor
    classes: int

    def task(self, setting: Setting, rows: NDArray[np.int64] | None = None, **changes: object) -> Task:
        """Return the task to learn these (or those ``rows``), seed 1, bf16 on a GPU."""
        images = Resident(self.images)
        rows = np.arange(len(self.labels)) if rows is None else rows
        mean, std = statistics(images, rows)
        made = Task(
            images=images,
            labels=self.labels,
            rows=rows,
            classes=self.classes,
            seed=1,
            device=setting.device,
            precision="bf16" if setting.device.type == "cuda" else "fp32",
            mean=mean.to(setting.device),
            std=std.to(setting.device),
        )
        return replace(made, **changes)  # type: ignore[arg-type]  # names of the dataclass


def _read(spec: str | None, setting: Setting) -> Held:
    if spec is None:
        rng = seeds.rng(0, "gpu")
        labels = rng.integers(0, 3, 36)
        pixels = rng.integers(0, 90, (36, 12, 12, 3)) + 80 * labels[:, None, None, None]
        images = Resident(torch.from_numpy(pixels.astype(np.uint8)).to(setting.device))
        return Held(images.images, torch.from_numpy(labels).to(setting.device), 3)
    dataset = open_dataset(spec)
    found, _ = hold(dataset, Holding(resident="yes"), device=setting.device, progress=Silent())
    if not isinstance(found, Resident):
        raise SystemExit(f"{spec} is not held on the device")
    labels = np.asarray(dataset.labels, dtype=np.int64)
    return Held(found.images, torch.from_numpy(labels).to(setting.device), len(dataset.class_names))


def chosen(name: str, setting: Setting, **changes: object) -> Recipe:
    """Return a recipe with fields changed; a short one of small batches for a test of the script."""
    made = recipe(name)
    if setting.tiny:
        made = replace(made, batch_size=12, crop_padding=2, lr=0.05, epochs=2)
        changes.pop("batch_size", None)
        changes.pop("epochs", None)
    return replace(made, **changes)  # type: ignore[arg-type]  # names of the dataclass


def model_for(setting: Setting, name: str) -> str:
    """Return a network's name; that of a small one for a test of the script."""
    return "small" if setting.tiny else name


def synchronise(device: torch.device) -> None:
    """Wait for everything that was asked of the device."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def timed(call: Callable[[], object], device: torch.device, repeats: int) -> float:
    """Return seconds per call, after one that is not timed."""
    call()
    synchronise(device)
    began = perf_counter()
    for _ in range(repeats):
        call()
    synchronise(device)
    return (perf_counter() - began) / repeats


class Stamps:
    """Called after each epoch: notes when it was."""

    def __init__(self) -> None:
        self.at = [perf_counter()]

    def __call__(self, state: State) -> None:  # noqa: ARG002 - whose epoch it was is known
        """Note the time."""
        self.at.append(perf_counter())

    def epochs(self) -> list[float]:
        """Return the seconds of each epoch."""
        return np.diff(self.at).tolist()


def flops(network: Network, size: int, channels: int) -> float:
    """Return the floating-point operations of training on one image: six per multiply-add of the layers."""
    total = 0

    def count(module: nn.Module, _: object, out: Tensor) -> None:
        nonlocal total
        if isinstance(module, nn.Conv2d | nn.Linear):
            total += module.weight[0].numel() * out.numel()

    hooks = [module.register_forward_hook(count) for module in network.modules()]
    device = next(network.parameters()).device
    was = network.training
    network.eval()
    with torch.no_grad():
        network(torch.zeros(1, channels, size, size, device=device))
    network.train(was)
    for hook in hooks:
        hook.remove()
    return 6.0 * total


def machine(device: torch.device) -> dict[str, object]:
    """Return what a figure must stand beside."""
    about: dict[str, object] = {
        "python": platform.python_version(),
        "torch": metadata.version("torch"),
        "device": str(device),
    }
    if device.type == "cuda":
        properties = torch.cuda.get_device_properties(device)
        about |= {
            "gpu": properties.name,
            "memory_gb": round(properties.total_memory / 1e9, 1),
            "cuda": torch.version.cuda,
            "cudnn": torch.backends.cudnn.version(),  # type: ignore[no-untyped-call]  # as torch has it
            "cudnn_benchmark": torch.backends.cudnn.benchmark,
        }
    return about


def write(setting: Setting, part: str, figures: Mapping[str, object]) -> None:
    """Write a finished part's figures beside what they were measured on."""
    document = {
        "part": part,
        "tiny": setting.tiny,
        "machine": machine(setting.device),
        "figures": _without_nan(dict(figures)),
    }
    (setting.out / f"{part}.json").write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")


def _without_nan(value: object) -> object:
    """Return a figure that is not defined as None: JSON has no word for NaN."""
    if isinstance(value, dict):
        return {key: _without_nan(one) for key, one in value.items()}
    if isinstance(value, list):
        return [_without_nan(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def read(setting: Setting, part: str) -> dict[str, object] | None:
    """Return the figures of a finished part, None if it is not finished."""
    path = setting.out / f"{part}.json"
    if not path.exists():
        return None
    figures: dict[str, object] = json.loads(path.read_text(encoding="utf-8"))["figures"]
    return figures
