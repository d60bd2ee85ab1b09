"""What each of two processes does in test_distributed: everything that needs the other one; no test by itself.

Prints nothing; leaves what it found in the folder it is given.
"""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import numpy as np
import torch

from dataset_audit.errors import MismatchError
from dataset_audit.progress import Silent
from dataset_audit.runs import Settings, run
from dataset_audit.train.batches import Resident
from dataset_audit.train.distributed import ALONE, World, world
from dataset_audit.train.models import build
from dataset_audit.train.recipes import recipe
from dataset_audit.train.task import Task

N, CLASSES, EPOCHS = 41, 3, 3
PLAN = recipe("fast", {"epochs": str(EPOCHS), "batch_size": "13", "crop_padding": "1", "lr": "0.02"})


def task(processes: World = ALONE) -> Task:
    """Batches of 13, 13, 13 and 2 of 41 images; two processes get 7 + 6 of the full ones and 1 + 1 of the last."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, CLASSES, N)
    images = rng.integers(0, 120, (N, 28, 28, 1)) + 60 * labels[:, None, None, None]
    return Task(
        images=Resident(torch.from_numpy(images.astype(np.uint8))),
        labels=torch.from_numpy(labels),
        rows=np.arange(N),
        classes=CLASSES,
        seed=1,
        device=torch.device("cpu"),
        precision="fp32",
        mean=torch.tensor([0.5]),
        std=torch.tensor([0.2]),
        world=processes,
    )


def scored(folder: Path, processes: World = ALONE, model: str = "mnist-net", progress: Silent | None = None):
    """Return the finished run."""
    folder.mkdir(exist_ok=True)
    settings = Settings(folder=folder, digest="one", el2n_epochs=(2,))
    network = lambda: build(model, classes=CLASSES, channels=1, image_size=28)  # noqa: E731
    return run(task(processes), PLAN, network, settings, progress=progress or Silent())


class Stopping(Silent):
    """Ends the training in its second epoch, on every process at the same step."""

    def advance(self, done: int, **figures: float | str) -> None:
        if done > N + 20:
            raise KeyboardInterrupt


def main(root: Path) -> None:
    """Do all of it."""
    us = world()
    said: dict[str, object] = {}
    said["once"] = us.once(lambda: f"from {us.rank}")
    said["collected"] = us.collected(us.rank * 10)
    said["dealt"] = list(us.dealt("numbers", 7))
    us.meet("after dealing")
    index, values = us.exchanged(
        torch.tensor([1, 0, 1]), torch.arange(3) + 10 * us.rank, torch.full((3, 2), float(us.rank))
    )
    said["index"], said["values"] = index.tolist(), values.tolist()
    try:
        us.agree(f"digest of {us.rank}")
    except MismatchError as error:
        said["disagreed"] = str(error)
    whole = scored(root / "whole", us)
    said["history"] = [whole.history.loss, whole.history.accuracy]
    if us.first:
        np.savez(root / "whole.npz", **whole.columns)
    try:
        scored(root / "half", us, progress=Stopping())
    except KeyboardInterrupt:
        said["stopped"] = True
    us.meet("stopped")
    if us.first:
        shutil.copytree(root / "half", root / "alone")
    resumed = scored(root / "half", us)
    said["resumed"] = resumed.epochs_trained
    if us.first:
        np.savez(root / "resumed.npz", **resumed.columns)
    normalised = scored(root / "normalised", us, model="small")
    said["normalised"] = normalised.history.loss
    (root / f"said-{us.rank}.json").write_text(json.dumps(said))
    us.leave(0, 10)
    us.close()


if __name__ == "__main__":
    torch.use_deterministic_algorithms(mode=True)
    main(Path(sys.argv[1]))
