"""The one training loop: it presents every example once per epoch and lets an observer see each presentation."""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from dataset_audit import seeds
from dataset_audit.errors import DataError
from dataset_audit.progress import Progress, Silent
from dataset_audit.train import augment
from dataset_audit.train.batches import Batch, Resident, batch_lengths
from dataset_audit.train.device import seed_torch
from dataset_audit.train.distributed import World
from dataset_audit.train.gradients import Gradients, average_statistics
from dataset_audit.train.networks import Network
from dataset_audit.train.recipes import Recipe
from dataset_audit.train.step import Observer, Plain, Said, Steps, Stream, Work
from dataset_audit.train.task import History, State, Task

Figures = Generator[None, None, tuple[float, float]]
"""Pauses after each step of an epoch; gives its mean loss and accuracy."""

LOOK = 512  # images of a batch that a network looks at before it is trained


def start(task: Task, recipe: Recipe, build: Callable[[], Network]) -> State:
    """Return a run at epoch 0: weights drawn from the task's seed, SGD as the recipe says."""
    seed_torch(task.seed, "weights")
    network = build().to(device=task.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    if network.looks_at:
        with torch.no_grad():
            network.look(_looked_at(task, network.looks_at))
    groups = [
        {
            "params": group.parameters,
            "scale": group.rate,
            "weight_decay": recipe.weight_decay * group.decay,
        }
        for group in network.groups()
    ]
    optimiser = torch.optim.SGD(
        groups,
        lr=recipe.lr,
        momentum=recipe.momentum,
        nesterov=recipe.nesterov,
        fused=True,
    )
    return State(network=network, optimiser=optimiser, history=History())


def _looked_at(task: Task, count: int) -> Iterator[Tensor]:
    """Yield a seeded draw of the rows that are trained on, normalised, in batches of at most ``LOOK``."""
    rows = np.sort(seeds.rng(task.seed, "look").permutation(task.rows)[:count])
    for _, pixels in task.images.epoch(
        rows, [len(part) for part in np.array_split(rows, -(-len(rows) // LOOK))]
    ):
        yield augment.normalise(pixels, task.mean, task.std)


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
    for _ in in_steps(task, recipe, state, observe=observe, after_epoch=after_epoch, progress=progress):
        pass
    return state


def in_steps(
    task: Task,
    recipe: Recipe,
    state: State,
    *,
    observe: Observer | None = None,
    after_epoch: Callable[[State], None] | None = None,
    progress: Progress | None = None,
) -> Iterator[None]:
    """Train as ``fit`` does, and give control back after every step that was asked for.

    Trainings that take turns this way run side by side on a GPU that one of them does not fill, each in a stream of
    its own. Dropout draws from the one global generator: with it they are no longer what each is alone.
    """
    progress = progress or Silent()
    lengths = batch_lengths(len(task.rows), recipe.batch_size)
    course, world = task.course, task.world
    if course.skip and world.size > 1:
        raise ValueError("which examples are easy is not known across processes")
    steps = course.steps or recipe.epochs * len(lengths)
    features: Callable[[Tensor], Tensor] = state.network.features
    if task.compile:  # each length of a batch for itself; the next seed's network finds them compiled
        features = torch.compile(features, dynamic=False)
    if course.skip and state.last_loss is None:
        state.last_loss = torch.full((len(task.labels),), math.inf, device=task.device)
    world.as_first(*state.network.state_dict().values())
    gradients = Gradients(state.network.parameters(), world)
    run = _Run(
        task=task,
        recipe=recipe,
        state=state,
        features=features,
        gradients=gradients,
        lengths=lengths,
        steps=steps,
        observe=observe,
        progress=progress,
    )
    replayed = _laid_out(run)
    try:
        while run.first_step < steps:
            seed_torch(task.seed, "epoch", state.epoch, *(("process", world.rank) if world.rank else ()))
            figures = yield from (_epoch(run) if replayed is None else _replayed_epoch(run, replayed))
            state.history.loss.append(figures[0])
            state.history.accuracy.append(figures[1])
            state.epoch += 1
            if after_epoch is not None:
                after_epoch(state)
    finally:
        gradients.close()


def presented(task: Task, epoch: int) -> NDArray[np.int64]:
    """Return int64[M], the rows of an epoch in the order they are presented: that of the full set, others left out."""
    rows = task.rows if task.course.rows is None else task.course.rows(epoch)
    wanted = np.zeros(len(task.labels), dtype=bool)
    wanted[rows] = True
    order = seeds.rng(task.seed, "order", epoch).permutation(len(task.labels))
    return order[wanted[order]]


@dataclass(frozen=True, kw_only=True)
class _Run:
    """What stays from epoch to epoch; ``lengths`` are those of a whole epoch's batches, of all processes."""

    task: Task
    recipe: Recipe
    state: State
    features: Callable[[Tensor], Tensor]
    gradients: Gradients
    lengths: list[int]
    steps: int
    observe: Observer | None
    progress: Progress

    @property
    def world(self) -> World:
        return self.task.world

    @property
    def first_step(self) -> int:
        """Number of the first update of this epoch."""
        return self.state.epoch * len(self.lengths)

    @property
    def epochs(self) -> int:
        return math.ceil(self.steps / len(self.lengths))


@dataclass(frozen=True)
class _Drawn:
    """An epoch before it is run: which rows in which order and batches, and what augmentation does to them."""

    order: NDArray[np.int64]
    lengths: list[int]
    draws: augment.Draws


def _drawn(run: _Run, epoch: int) -> _Drawn:
    task = run.task
    lengths = run.lengths[: run.steps - epoch * len(run.lengths)]
    draws = augment.draw(
        task.seed, epoch, len(task.labels), padding=run.recipe.crop_padding, device=task.device
    )
    return _Drawn(presented(task, epoch)[: sum(lengths)], lengths, draws)


@dataclass
class _Sums:
    """Of an epoch, on the device."""

    loss: Tensor
    correct: Tensor
    presented: int = 0


def _epoch(run: _Run) -> Figures:
    """Run one epoch; return (mean loss, accuracy). Nothing waits for a GPU before the end."""
    task, recipe, state, drawn = run.task, run.recipe, run.state, _drawn(run, run.state.epoch)
    state.network.train()
    exact = torch.float64 if task.device.type == "cpu" else torch.float32
    sums = _Sums(
        torch.zeros((), dtype=exact, device=task.device),
        torch.zeros((), dtype=torch.int64, device=task.device),
    )
    step, done, rate = run.first_step, state.epoch * len(task.rows), recipe.lr
    for batch, length in zip(_batches(run, drawn), drawn.lengths, strict=True):
        rate = recipe.learning_rate(step, run.steps)
        for group in state.optimiser.param_groups:
            group["lr"] = rate * group["scale"]
        said = None
        if batch is not None:
            said = _present(run, batch, drawn.draws)
            if task.device.type == "cpu" and not math.isfinite(said.loss.item()):
                raise _not_finite(state, step - run.first_step, rate, int(batch[0][0]))
            if run.observe is not None:
                run.observe(batch[0], said.logits.detach(), said.labels, said.embedding.detach())
        _update(run, said, length, sums)
        step += 1
        done += length
        run.progress.advance(done, epoch=f"{state.epoch + 1}/{run.epochs}", **_last(state))
        yield
    run.world.add(sums.loss, sums.correct)
    average_statistics(state.network, run.world, sums.presented / len(drawn.order))
    return _means(run, (float(sums.loss), int(sums.correct)), len(drawn.order))


@dataclass
class _Replay:
    """Steps that are replayed, and the next epoch, which the host draws while the device works at this one."""

    steps: Steps
    coming: tuple[int, _Drawn] | None = None


def _replayable(task: Task, observe: Observer | None) -> bool:
    """Return whether steps are replayed: not streamed images, several processes, skipped examples.

    Unasked, only where an observer says that nothing is lost: what it does in Python is not repeated.
    """
    able = isinstance(task.images, Resident) and task.world.size == 1 and not task.course.skip
    if task.replay is not None:
        return able and task.replay
    return able and task.device.type == "cuda" and (observe is None or getattr(observe, "replayable", False))


def _laid_out(run: _Run) -> _Replay | None:
    """Return the steps to replay; None where the plain loop runs."""
    task, on_gpu = run.task, run.task.device.type == "cuda"
    if not isinstance(task.images, Resident) or not _replayable(task, run.observe):
        return None
    observe = run.observe
    if task.compile and on_gpu and observe is not None:
        observe = torch.compile(observe, dynamic=False)  # some fifty small kernels become a few
    work = Work(
        images=task.images.images,
        say=partial(_say, run),
        observe=observe,
        optimiser=run.state.optimiser,
        padding=run.recipe.crop_padding,
        flip=run.recipe.flip,
    )
    steps = Steps(
        work,
        rows=len(task.rows),
        steps=len(run.lengths),
        lane=Stream(task.device) if on_gpu else Plain(),
        warn=partial(run.progress.warn, "W-graph"),
    )
    return _Replay(steps)


def _replayed_epoch(run: _Run, replay: _Replay) -> Figures:
    """Run one epoch as ``_epoch`` does, from buffers that stay: the host asks for all its steps, then waits once."""
    state, steps = run.state, replay.steps
    state.network.train()
    number, drawn = replay.coming or (-1, None)
    if drawn is None or number != state.epoch:
        drawn = _drawn(run, state.epoch)
    steps.begin(
        drawn.order,
        drawn.draws,
        [run.recipe.learning_rate(run.first_step + step, run.steps) for step in range(len(drawn.lengths))],
    )
    done = state.epoch * len(run.task.rows)
    for length in drawn.lengths:
        steps.run(length)
        done += length
        run.progress.advance(done, epoch=f"{state.epoch + 1}/{run.epochs}", **_last(state))
        yield
    if state.epoch + 1 < run.epochs:
        replay.coming = state.epoch + 1, _drawn(run, state.epoch + 1)
    return _means(run, steps.figures(), len(drawn.order))


def _means(run: _Run, sums: tuple[float, int], presented: int) -> tuple[float, float]:
    """Return (mean loss, accuracy) of an epoch from the sums over its presentations."""
    mean_loss = sums[0] / presented
    if not math.isfinite(mean_loss):
        raise _not_finite(run.state, None, run.recipe.lr, None)
    return mean_loss, sums[1] / presented


def _batches(run: _Run, drawn: _Drawn) -> Iterator[Batch | None]:
    """Yield this process's part of each batch, None where it has none: only the shortest batches, which come last."""
    order, lengths = run.world.share(drawn.order, drawn.lengths)
    filled = [length for length in lengths if length]
    yield from run.task.images.epoch(order, filled)
    yield from [None] * (len(lengths) - len(filled))


def _present(run: _Run, batch: Batch, draws: augment.Draws) -> Said:
    """Augment a batch and run it forward."""
    indices, pixels = batch
    recipe = run.recipe
    if recipe.crop_padding or recipe.flip:
        pixels = augment.crop_and_flip(pixels, indices, draws, padding=recipe.crop_padding, flip=recipe.flip)
    return _say(run, indices, pixels)


def _update(run: _Run, said: Said | None, length: int, sums: _Sums) -> None:
    """Learn from a batch of ``length`` examples, of which ``said`` is this process's part."""
    run.state.optimiser.zero_grad(set_to_none=True)
    if said is not None:
        mine = len(said.labels)
        loss = (
            said.loss if run.world.size == 1 else said.loss * (mine / length)
        )  # parts add up to the mean of all
        loss.backward()  # type: ignore[no-untyped-call]
        with torch.no_grad():
            sums.loss += said.loss.detach() * mine
            sums.correct += (said.logits.argmax(1) == said.labels).sum()
        sums.presented += mine
    run.gradients.sum()
    run.state.optimiser.step()


def _say(run: _Run, indices: Tensor, pixels: Tensor) -> Said:
    """Run a batch forward; with ``skip``, the part with the lowest last loss without gradient."""
    task, head, smoothing = run.task, run.state.network.head, run.recipe.label_smoothing
    labels, last_loss = task.labels[indices], run.state.last_loss
    skipped = int(run.task.course.skip * len(indices))
    if not skipped or last_loss is None or run.state.epoch == 0:  # nothing is known yet
        logits, embedding = forward(run.features, head, pixels, task)
        loss = functional.cross_entropy(logits, labels, label_smoothing=smoothing)
    else:
        ranked = torch.argsort(last_loss[indices], stable=True)
        easy, rest = ranked[:skipped], ranked[skipped:].sort().values
        learned = forward(run.features, head, pixels[rest], task)
        with torch.no_grad():
            only_seen = forward(run.features, head, pixels[easy], task)
        loss = functional.cross_entropy(learned[0], labels[rest], label_smoothing=smoothing)
        place = torch.argsort(torch.cat([rest, easy]))
        logits, embedding = (torch.cat(pair)[place] for pair in zip(learned, only_seen, strict=True))
    if last_loss is not None:
        with torch.no_grad():
            last_loss[indices] = functional.cross_entropy(logits, labels, reduction="none")
    return Said(logits, labels, embedding, loss)


def forward(
    features: Callable[[Tensor], Tensor], head: nn.Module, pixels: Tensor, task: Task
) -> tuple[Tensor, Tensor]:
    """Return (logits float32[B, classes], embedding float32[B, D]) of uint8 images [B, H, W, C]."""
    x = augment.normalise(pixels, task.mean, task.std)
    with torch.autocast(
        task.device.type, torch.bfloat16, enabled=task.precision == "bf16", cache_enabled=False
    ):
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
