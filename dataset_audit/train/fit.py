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
from dataset_audit.train.batches import Batch, Images, batch_lengths
from dataset_audit.train.device import seed_torch
from dataset_audit.train.distributed import ALONE, Gradients, World, average_statistics
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
    """Train ``state`` up to ``recipe.epochs`` epochs, or as far as ``task.course`` says, and return it.

    Every example of ``task.rows`` is presented exactly once in each epoch, augmented, in train mode; ``observe``
    sees the presentation before the update it causes. Order, crops and flips depend on (seed, epoch, index), so a
    state that was saved after an epoch and resumed goes on as if nothing had happened; a subset of rows sees its
    examples in the order the full set would have shown them.

    Several processes (``task.world``) make the same updates as one, up to the order of sums, each from its part of
    every batch; ``observe`` sees that part, ``after_epoch`` and the figures are those of all. Only what is computed
    across a batch differs: batch norm takes the statistics of its own part, and their running means are averaged
    after each epoch; dropout draws anew for each process.

    Args:
        task: Images, labels, device.
        recipe: Optimiser, schedule, augmentation.
        state: From ``start``, or resumed; changed in place.
        observe: Called with (indices, logits, labels, features) of every batch.
        after_epoch: Called with the state after each finished epoch, for example to save a checkpoint.
        progress: Told the number of images done and the figures of the last epoch.

    Raises:
        DataError: The loss is no longer finite; names epoch, step and learning rate.
        PeerFailed: Another process failed.
    """
    progress = progress or Silent()
    lengths = batch_lengths(len(task.rows), recipe.batch_size)
    course, world = task.course, task.world
    if course.skip and world.size > 1:
        raise ValueError("which examples are easy is not known across processes")
    steps = course.steps or recipe.epochs * len(lengths)
    features = torch.compile(state.network.features) if task.compile else state.network.features
    if course.skip and state.last_loss is None:
        state.last_loss = torch.full((len(task.labels),), math.inf, device=task.device)
    world.as_first(*state.network.state_dict().values())
    gradients = Gradients(state.network.parameters(), world)
    try:
        while state.epoch * len(lengths) < steps:
            seed_torch(task.seed, "epoch", state.epoch, *(("process", world.rank) if world.rank else ()))
            these = lengths[: steps - state.epoch * len(lengths)]
            figures = _epoch(
                _Pass(
                    task=task,
                    recipe=recipe,
                    state=state,
                    features=features,
                    gradients=gradients,
                    order=presented(task, state.epoch)[: sum(these)],
                    lengths=these,
                    first_step=state.epoch * len(lengths),
                    steps=steps,
                    epochs=math.ceil(steps / len(lengths)),
                    skip=course.skip,
                ),
                observe=observe,
                progress=progress,
            )
            state.history.loss.append(figures[0])
            state.history.accuracy.append(figures[1])
            state.epoch += 1
            if after_epoch is not None:
                after_epoch(state)
    finally:
        gradients.close()
    return state


def presented(task: Task, epoch: int) -> NDArray[np.int64]:
    """Return int64[M], the rows of an epoch in the order they are presented: that of the full set, others left out."""
    rows = task.rows if task.course.rows is None else task.course.rows(epoch)
    wanted = np.zeros(len(task.labels), dtype=bool)
    wanted[rows] = True
    order = seeds.rng(task.seed, "order", epoch).permutation(len(task.labels))
    return order[wanted[order]]


@dataclass(frozen=True, kw_only=True)
class _Pass:
    """One epoch: ``order`` and ``lengths`` are of the batches of all processes."""

    task: Task
    recipe: Recipe
    state: State
    features: Callable[[Tensor], Tensor]
    gradients: Gradients
    order: NDArray[np.int64]
    lengths: list[int]
    first_step: int
    steps: int
    epochs: int
    skip: float

    @property
    def world(self) -> World:
        return self.task.world


@dataclass
class _Sums:
    """Of an epoch, on the device."""

    loss: Tensor
    correct: Tensor
    presented: int = 0


def _epoch(one: _Pass, *, observe: Observer | None, progress: Progress) -> tuple[float, float]:
    """Run one epoch; return (mean loss, accuracy). Nothing waits for a GPU before the end."""
    task, recipe, state = one.task, one.recipe, one.state
    state.network.train()
    draws = augment.draw(
        task.seed, state.epoch, len(task.labels), padding=recipe.crop_padding, device=task.device
    )
    exact = torch.float64 if task.device.type == "cpu" else torch.float32
    sums = _Sums(
        torch.zeros((), dtype=exact, device=task.device),
        torch.zeros((), dtype=torch.int64, device=task.device),
    )
    step, done, rate = one.first_step, state.epoch * len(task.rows), recipe.lr
    for batch, length in zip(_batches(one), one.lengths, strict=True):
        rate = recipe.learning_rate(step, one.steps)
        for group in state.optimiser.param_groups:
            group["lr"] = rate * group["scale"]
        said = None
        if batch is not None:
            said = _present(one, batch, draws)
            if task.device.type == "cpu" and not math.isfinite(said.loss.item()):
                raise _not_finite(state, step - one.first_step, rate, int(batch[0][0]))
            if observe is not None:
                observe(batch[0], said.logits.detach(), said.labels, said.embedding.detach())
        _update(one, said, length, sums)
        step += 1
        done += length
        progress.advance(done, epoch=f"{state.epoch + 1}/{one.epochs}", **_last(state))
    one.world.add(sums.loss, sums.correct)
    average_statistics(state.network, one.world, sums.presented / len(one.order))
    mean_loss = float(sums.loss) / len(one.order)
    if not math.isfinite(mean_loss):
        raise _not_finite(state, None, rate, None)
    return mean_loss, int(sums.correct) / len(one.order)


def _batches(one: _Pass) -> Iterator[Batch | None]:
    """Yield this process's part of each batch, None where it has none: only the shortest batches, which come last."""
    order, lengths = one.world.share(one.order, one.lengths)
    filled = [length for length in lengths if length]
    yield from one.task.images.epoch(order, filled)
    yield from [None] * (len(lengths) - len(filled))


def _present(one: _Pass, batch: Batch, draws: augment.Draws) -> _Said:
    """Augment a batch and run it forward."""
    indices, pixels = batch
    recipe = one.recipe
    if recipe.crop_padding or recipe.flip:
        pixels = augment.crop_and_flip(pixels, indices, draws, padding=recipe.crop_padding, flip=recipe.flip)
    return _say(one, indices, pixels)


def _update(one: _Pass, said: _Said | None, length: int, sums: _Sums) -> None:
    """Learn from a batch of ``length`` examples, of which ``said`` is this process's part."""
    one.state.optimiser.zero_grad(set_to_none=True)
    if said is not None:
        mine = len(said.labels)
        loss = (
            said.loss if one.world.size == 1 else said.loss * (mine / length)
        )  # parts add up to the mean of all
        loss.backward()  # type: ignore[no-untyped-call]
        with torch.no_grad():
            sums.loss += said.loss.detach() * mine
            sums.correct += (said.logits.argmax(1) == said.labels).sum()
        sums.presented += mine
    one.gradients.sum()
    one.state.optimiser.step()


@dataclass(frozen=True)
class _Said:
    """What the network said of a batch, and the loss it is to learn from."""

    logits: Tensor
    labels: Tensor
    embedding: Tensor
    loss: Tensor


def _say(one: _Pass, indices: Tensor, pixels: Tensor) -> _Said:
    """Run a batch forward; with ``skip``, the part with the lowest last loss without gradient."""
    task, head, smoothing = one.task, one.state.network.head, one.recipe.label_smoothing
    labels, last_loss = task.labels[indices], one.state.last_loss
    skipped = int(one.skip * len(indices))
    if not skipped or last_loss is None or one.state.epoch == 0:  # nothing is known yet
        logits, embedding = forward(one.features, head, pixels, task)
        loss = functional.cross_entropy(logits, labels, label_smoothing=smoothing)
    else:
        ranked = torch.argsort(last_loss[indices], stable=True)
        easy, rest = ranked[:skipped], ranked[skipped:].sort().values
        learned = forward(one.features, head, pixels[rest], task)
        with torch.no_grad():
            only_seen = forward(one.features, head, pixels[easy], task)
        loss = functional.cross_entropy(learned[0], labels[rest], label_smoothing=smoothing)
        place = torch.argsort(torch.cat([rest, easy]))
        logits, embedding = (torch.cat(pair)[place] for pair in zip(learned, only_seen, strict=True))
    if last_loss is not None:
        with torch.no_grad():
            last_loss[indices] = functional.cross_entropy(logits, labels, reduction="none")
    return _Said(logits, labels, embedding, loss)


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
