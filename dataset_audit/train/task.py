"""What a training is given, and what it has come to: task, course, state, history."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dataset_audit.train.batches import Images
from dataset_audit.train.distributed import ALONE, World
from dataset_audit.train.networks import Network

PATIENCE = 5  # epochs in a row at or below chance that mark a run as diverged


@dataclass(frozen=True, kw_only=True)
class Course:
    """What is presented and learned from, where it is not every example once in each of the recipe's epochs.

    Attributes:
        steps: Updates in all, with the schedule stretched or shortened to end at the last of them; the last epoch
            is cut where they run out. None: as many as the recipe's epochs have.
        rows: The rows to present in an epoch, from its number; as many in each as ``Task.rows`` has. None: those.
        skip: Share of every batch, those with the lowest loss at their last presentation, that is only run
            forward, without gradient, to learn its loss anew; the rest is learned from. No example is run twice.
    """

    steps: int | None = None
    rows: Callable[[int], NDArray[np.int64]] | None = None
    skip: float = 0.0


ALL = Course()


@dataclass(frozen=True, kw_only=True)
class Task:
    """What is learned, and where.

    Attributes:
        images: All images of the data set, of one size.
        labels: int64[N] on the device; rows outside ``rows`` are never looked at.
        rows: Indices of the examples to train on, ascending.
        classes: Number of classes.
        seed: Order, crops, flips, initial weights and dropout depend on it alone.
        device: Where to compute.
        precision: Of everything before the last layer; the last layer and the loss are float32 always, because
            bf16 logits tie and would make correctness depend on the class number.
        mean: float32[C] for normalisation, as a share of 255.
        std: float32[C], likewise.
        compile: Whether to use torch.compile.
        course: Where not every row is presented in every epoch, or learned from.
        world: The processes that share each batch; the others have the same task but for their rank.
        replay: Whether an epoch is laid out on the device and its steps captured and replayed there (``train.step``);
            the updates are the same. None: on a GPU, where it can be done.
    """

    images: Images
    labels: Tensor
    rows: NDArray[np.int64]
    classes: int
    seed: int
    device: torch.device
    precision: Literal["bf16", "fp32"]
    mean: Tensor
    std: Tensor
    compile: bool = False
    course: Course = ALL
    world: World = ALONE
    replay: bool | None = None


@dataclass
class History:
    """Mean training loss and accuracy of each epoch, as presented (augmented, train mode, before the update)."""

    loss: list[float] = field(default_factory=list)
    accuracy: list[float] = field(default_factory=list)

    def trained(self, classes: int) -> bool:
        """Return whether the run learned anything: not at chance for five epochs, final loss below ln(classes)."""
        stuck = len(self.accuracy) >= PATIENCE and all(
            value <= 1 / classes for value in self.accuracy[-PATIENCE:]
        )
        return not stuck and self.loss[-1] <= math.log(classes)


@dataclass
class State:
    """Everything a resumed run needs besides the observer's own state."""

    network: Network
    optimiser: torch.optim.Optimizer
    history: History
    epoch: int = 0
    last_loss: Tensor | None = None  # float32[N], of each example's last presentation; only with Course.skip

    def pack(self) -> dict[str, object]:
        """Return plain containers of tensors and numbers, as a checkpoint holds them."""
        return {
            "network": self.network.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "loss": list(self.history.loss),
            "accuracy": list(self.history.accuracy),
            "epoch": self.epoch,
            "last_loss": self.last_loss,
        }

    def unpack(self, packed: Mapping[str, object]) -> None:
        """Take over what ``pack`` gave."""
        self.network.load_state_dict(packed["network"])  # type: ignore[arg-type]  # foreign containers from a checkpoint
        self.optimiser.load_state_dict(packed["optimiser"])  # type: ignore[arg-type]
        self.history = History(list(packed["loss"]), list(packed["accuracy"]))  # type: ignore[call-overload]
        self.epoch = int(packed["epoch"])  # type: ignore[call-overload]
        stored = packed.get("last_loss")
        self.last_loss = stored if isinstance(stored, Tensor) else None
