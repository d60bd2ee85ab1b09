"""The one training loop: it presents every example once per epoch and lets an observer see each presentation."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from dataset_audit import seeds
from dataset_audit.errors import DataError
from dataset_audit.progress import Progress, Silent
from dataset_audit.train import augment
from dataset_audit.train.batches import Images, batch_lengths
from dataset_audit.train.device import seed_torch
from dataset_audit.train.networks import Network, Scalar
from dataset_audit.train.recipes import Recipe

PATIENCE = 5  # epochs in a row at or below chance that mark a run as diverged
SCALAR_LR = 0.1  # Fixup: biases and multipliers learn at a tenth of the rate (Zhang et al. 2019)


class Observer(Protocol):
    """Whoever watches a training: called once per batch, before its update, with what the network said."""

    def __call__(
        self, indices: Tensor, logits: Tensor, labels: Tensor, features: Tensor | None = None, /
    ) -> None:
        """Take indices int64[B], logits float32[B, classes], labels int64[B], embeddings float32[B, D]."""


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

    def pack(self) -> dict[str, object]:
        """Return plain containers of tensors and numbers, as a checkpoint holds them."""
        return {
            "network": self.network.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "loss": list(self.history.loss),
            "accuracy": list(self.history.accuracy),
            "epoch": self.epoch,
        }

    def unpack(self, packed: Mapping[str, object]) -> None:
        """Take over what ``pack`` gave."""
        self.network.load_state_dict(packed["network"])  # type: ignore[arg-type]  # foreign containers from a checkpoint
        self.optimiser.load_state_dict(packed["optimiser"])  # type: ignore[arg-type]
        self.history = History(list(packed["loss"]), list(packed["accuracy"]))  # type: ignore[call-overload]
        self.epoch = int(packed["epoch"])  # type: ignore[call-overload]


def start(task: Task, recipe: Recipe, build: Callable[[], Network]) -> State:
    """Return a run at epoch 0: weights drawn from the task's seed, SGD as the recipe says."""
    seed_torch(task.seed, "weights")
    network = build().to(device=task.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    scalars = [p for module in network.modules() if isinstance(module, Scalar) for p in module.parameters()]
    known = {id(parameter) for parameter in scalars}
    groups = [{"params": [p for p in network.parameters() if id(p) not in known], "scale": 1.0}]
    if scalars:
        groups.append({"params": scalars, "scale": SCALAR_LR})
    optimiser = torch.optim.SGD(
        groups,
        lr=recipe.lr,
        momentum=recipe.momentum,
        nesterov=recipe.nesterov,
        weight_decay=recipe.weight_decay,
        fused=True,
    )
    return State(network=network, optimiser=optimiser, history=History())


def fit(
    task: Task,
    recipe: Recipe,
    state: State,
    *,
    observe: Observer | None = None,
    after_epoch: Callable[[State], None] | None = None,
    progress: Progress | None = None,
) -> State:
    """Train ``state`` up to ``recipe.epochs`` epochs and return it.

    Every example of ``task.rows`` is presented exactly once in each epoch, augmented, in train mode; ``observe``
    sees the presentation before the update it causes. Order, crops and flips depend on (seed, epoch, index), so a
    state that was saved after an epoch and resumed goes on as if nothing had happened; a subset of rows sees its
    examples in the order the full set would have shown them.

    Args:
        task: Images, labels, device.
        recipe: Optimiser, schedule, augmentation.
        state: From ``start``, or resumed; changed in place.
        observe: Called with (indices, logits, labels, features) of every batch.
        after_epoch: Called with the state after each finished epoch, for example to save a checkpoint.
        progress: Told the number of images done and the figures of the last epoch.

    Raises:
        DataError: The loss is no longer finite; names epoch, step and learning rate.
    """
    progress = progress or Silent()
    lengths = batch_lengths(len(task.rows), recipe.batch_size)
    features = torch.compile(state.network.features) if task.compile else state.network.features
    wanted = np.zeros(len(task.labels), dtype=bool)
    wanted[task.rows] = True
    while state.epoch < recipe.epochs:
        seed_torch(task.seed, "epoch", state.epoch)
        order = seeds.rng(task.seed, "order", state.epoch).permutation(len(task.labels))
        figures = _epoch(
            _Pass(task, recipe, state, features, order[wanted[order]], lengths),
            observe=observe,
            progress=progress,
        )
        state.history.loss.append(figures[0])
        state.history.accuracy.append(figures[1])
        state.epoch += 1
        if after_epoch is not None:
            after_epoch(state)
    return state


@dataclass(frozen=True)
class _Pass:
    task: Task
    recipe: Recipe
    state: State
    features: Callable[[Tensor], Tensor]
    order: NDArray[np.int64]
    lengths: list[int]


def _epoch(one: _Pass, *, observe: Observer | None, progress: Progress) -> tuple[float, float]:
    """Run one epoch; return (mean loss, accuracy). Nothing waits for a GPU before the end."""
    task, recipe, state = one.task, one.recipe, one.state
    network, optimiser = state.network, state.optimiser
    network.train()
    draws = augment.draw(
        task.seed, state.epoch, len(task.labels), padding=recipe.crop_padding, device=task.device
    )
    loss_sum = torch.zeros(
        (), dtype=torch.float64 if task.device.type == "cpu" else torch.float32, device=task.device
    )
    correct_sum = torch.zeros((), dtype=torch.int64, device=task.device)
    step, steps = state.epoch * len(one.lengths), recipe.epochs * len(one.lengths)
    done = 0
    for indices, pixels in task.images.epoch(one.order, one.lengths):
        rate = recipe.learning_rate(step, steps)
        for group in optimiser.param_groups:
            group["lr"] = rate * group["scale"]
        labels = task.labels[indices]
        if recipe.crop_padding or recipe.flip:
            pixels = augment.crop_and_flip(  # noqa: PLW2901 - the batch goes through stages
                pixels, indices, draws, padding=recipe.crop_padding, flip=recipe.flip
            )
        logits, embedding = forward(one.features, network.head, pixels, task)
        loss = functional.cross_entropy(logits, labels, label_smoothing=recipe.label_smoothing)
        if task.device.type == "cpu" and not math.isfinite(loss.item()):
            raise _not_finite(state, step - state.epoch * len(one.lengths), rate, int(indices[0]))
        if observe is not None:
            observe(indices, logits.detach(), labels, embedding.detach())
        optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        with torch.no_grad():
            loss_sum += loss.detach() * len(indices)
            correct_sum += (logits.argmax(1) == labels).sum()
        step += 1
        done += len(indices)
        progress.advance(
            state.epoch * len(one.order) + done, epoch=f"{state.epoch + 1}/{recipe.epochs}", **_last(state)
        )
    mean_loss = float(loss_sum) / len(one.order)
    if not math.isfinite(mean_loss):
        raise _not_finite(state, None, recipe.learning_rate(step - 1, steps), None)
    return mean_loss, int(correct_sum) / len(one.order)


def forward(
    features: Callable[[Tensor], Tensor], head: nn.Module, pixels: Tensor, task: Task
) -> tuple[Tensor, Tensor]:
    """Return (logits float32[B, classes], embedding float32[B, D]) of uint8 images [B, H, W, C]."""
    x = augment.normalise(pixels, task.mean, task.std)
    with torch.autocast(task.device.type, torch.bfloat16, enabled=task.precision == "bf16"):
        embedding = features(x)
    embedding = embedding.float()
    return head(embedding), embedding


def predict(
    task: Task, state: State, rows: NDArray[np.int64], *, batch_size: int = 512
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield (indices int64[B], logits float32[B, classes]) over ``rows`` in order: eval mode, no augmentation.

    The network is left in train mode.
    """
    state.network.eval()
    lengths = [min(batch_size, len(rows) - at) for at in range(0, len(rows), batch_size)]
    with torch.no_grad():
        for indices, pixels in task.images.epoch(rows, lengths):
            yield indices, forward(state.network.features, state.network.head, pixels, task)[0]
    state.network.train()


def _last(state: State) -> dict[str, float]:
    if not state.history.loss:
        return {}
    return {"loss": state.history.loss[-1], "accuracy": state.history.accuracy[-1]}


def _not_finite(state: State, step: int | None, rate: float, index: int | None) -> DataError:
    last = f"; last finite epoch loss {state.history.loss[-1]:.4g}" if state.history.loss else ""
    at = f"epoch {state.epoch + 1}" + (f", step {step + 1}" if step is not None else "")
    first = f", first index of the batch {index}" if index is not None else ""
    return DataError(
        f"The loss is not finite at learning rate {rate:.4g}{last}.",
        where=at + first,
        do="a lower --lr; --precision fp32 if it was bf16",
        id="E-diverged",
    )
