"""One training of one arm: what it is given, and what it says of the test set."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from dataset_audit.errors import DataError
from dataset_audit.evaluate.arms import Job
from dataset_audit.progress import Progress
from dataset_audit.runs import Settings, forget, learn
from dataset_audit.tables import unfinished
from dataset_audit.train.batches import Images, batch_lengths
from dataset_audit.train.fit import predict
from dataset_audit.train.recipes import Recipe
from dataset_audit.train.task import Course, State, Task

if TYPE_CHECKING:
    from dataset_audit.train.networks import Network

Budget = Literal["epochs", "steps"]
_FACTS = ("seconds", "steps", "presentations", "train_accuracy", "learned")


@dataclass(frozen=True, kw_only=True, eq=False)
class Bench:
    """What all arms share.

    Attributes:
        task: Training images and labels, device, precision; its rows, seed and course are each job's own.
        test: Images tested on; the training images where test rows are held out of them.
        test_rows: int64[M], which of them.
        test_labels: int64[M].
        recipe: As the user has it, before an arm's knobs.
        budget: ``epochs``: every arm has the recipe's epochs, so a smaller one takes fewer steps. ``steps``: every
            arm takes as many steps as the full one.
        build: Makes the network.
    """

    task: Task
    test: Images
    test_rows: NDArray[np.int64]
    test_labels: NDArray[np.int64]
    recipe: Recipe
    budget: Budget
    build: Callable[[], Network]


@dataclass(frozen=True, kw_only=True, eq=False)
class Outcome:
    """What a training came to.

    Attributes:
        predicted: int64[M], the class named for each test example by the network of the last epoch.
        confidence: float32[M], the probability of that class.
        loss: float32[M], cross-entropy in nats.
        seconds: Of training, without the test.
        steps: Updates.
        presentations: Examples presented, one more for each time.
        train_accuracy: In the last epoch, as presented.
        learned: Whether the run got above chance.
    """

    predicted: NDArray[np.int64]
    confidence: NDArray[np.float32]
    loss: NDArray[np.float32]
    seconds: float
    steps: int
    presentations: int
    train_accuracy: float
    learned: bool


def planned(bench: Bench, job: Job) -> tuple[Recipe, Course]:
    """Return the recipe of a job with its knobs, and its course: as many steps as the budget gives it.

    The learning rate falls to its end at the last of those steps, whatever their number.
    """
    chosen = replace(bench.recipe, **job.knobs)
    per_epoch = len(batch_lengths(len(job.rows), chosen.batch_size))
    steps = chosen.epochs * per_epoch
    if bench.budget == "steps":
        steps = chosen.epochs * len(batch_lengths(len(bench.task.rows), chosen.batch_size))
    steps = max(1, round(job.share * steps))
    return chosen, Course(steps=steps, rows=job.redrawn, skip=job.skip)


def presentations(bench: Bench, job: Job) -> int:
    """Return how many examples a job presents in all."""
    chosen, course = planned(bench, job)
    lengths = batch_lengths(len(job.rows), chosen.batch_size)
    whole, rest = divmod(course.steps or 0, len(lengths))
    return whole * sum(lengths) + sum(lengths[:rest])


def outcome(bench: Bench, job: Job, settings: Settings, progress: Progress) -> tuple[Outcome, int]:
    """Return what a training came to, and the epochs trained just now; a finished one is read.

    Raises:
        DataError: The loss diverged and this is no trial, or what was kept is damaged.
        EnvironmentProblem: Something could not be written.
    """
    known = finished(job, settings)
    if known is not None:
        return known, 0
    began = perf_counter()
    try:
        found, epochs = train(bench, job, settings, progress)
    except DataError as error:
        if error.id != "E-diverged" or not job.trial:
            raise
        progress.note(f"{job.name} diverged: {error.what}")
        found, epochs = _diverged(bench, job, perf_counter() - began), 0
    unfinished.keep(
        kept_at(job, settings),
        {"predicted": found.predicted, "confidence": found.confidence, "loss": found.loss},
        {name: getattr(found, name) for name in _FACTS},
        digest=settings.digest,
    )
    forget(settings, job.name)
    return found, epochs


def kept_at(job: Job, settings: Settings) -> Path:
    """Return where the outcome of a finished training lies until the table is written."""
    return settings.folder / f"{job.name}.parquet"


def finished(job: Job, settings: Settings) -> Outcome | None:
    """Return what a training of the same configuration came to that was finished before; None if there is none.

    Raises:
        DataError: It is damaged.
    """
    kept = unfinished.kept(kept_at(job, settings), digest=settings.digest)
    if kept is None:
        return None
    columns, facts = kept
    return Outcome(
        predicted=columns["predicted"].astype(np.int64),
        confidence=columns["confidence"].astype(np.float32),
        loss=columns["loss"].astype(np.float32),
        **{name: facts[name] for name in _FACTS},
    )


def _diverged(bench: Bench, job: Job, seconds: float) -> Outcome:
    """Return what comes to no example right, so that other settings are chosen."""
    count = len(bench.test_rows)
    return Outcome(
        predicted=np.full(count, -1),
        confidence=np.zeros(count, np.float32),
        loss=np.full(count, np.inf, np.float32),
        seconds=seconds,
        steps=planned(bench, job)[1].steps or 0,
        presentations=presentations(bench, job),
        train_accuracy=0.0,
        learned=False,
    )


def train(bench: Bench, job: Job, settings: Settings, progress: Progress) -> tuple[Outcome, int]:
    """Train one arm with one seed and test it once, after its last step; return that and the epochs trained just now.

    What an interrupted call had done is taken over from its checkpoints.

    Raises:
        DataError: The loss diverged, or what the network says at the end is not finite; names arm, size and seed.
        EnvironmentProblem: A checkpoint could not be written.
    """
    chosen, course = planned(bench, job)
    task = replace(bench.task, rows=job.rows, seed=job.seed, course=course)
    try:
        learned = learn(task, chosen, bench.build, settings=settings, name=job.name, progress=progress)
        said = tested(replace(task, images=bench.test), learned.state, bench.test_rows, bench.test_labels)
        if not np.isfinite(said[2]).all():  # the last update of all has no loss after it
            raise DataError("The trained network says nothing finite.", where="last epoch", id="E-diverged")
    except DataError as error:
        if error.id != "E-diverged":
            raise
        raise DataError(
            error.what,
            where=f"arm {job.arm}, {len(job.rows):,} examples, seed {job.seed}; {error.where}",
            do="a lower --lr for all arms; nothing is known of an evaluation in which one arm diverged",
            id="E-diverged",
        ) from error
    history = learned.state.history
    found = Outcome(
        predicted=said[0],
        confidence=said[1],
        loss=said[2],
        seconds=learned.seconds,
        steps=course.steps or 0,
        presentations=presentations(bench, job),
        train_accuracy=history.accuracy[-1],
        learned=history.accuracy[-1] > 1 / task.classes if job.skip else history.trained(task.classes),
    )
    return found, learned.epochs_trained


def tested(
    task: Task, state: State, rows: NDArray[np.int64], labels: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.float32], NDArray[np.float32]]:
    """Return (predicted int64[M], its probability float32[M], cross-entropy float32[M]) over ``rows`` of the images."""
    said: list[tuple[torch.Tensor, torch.Tensor, torch.Tensor]] = []
    truth = torch.from_numpy(labels).to(task.device)
    start = 0
    for indices, logits in predict(task, state, rows):
        log_p = torch.log_softmax(logits.double(), 1)
        best = log_p.max(1)
        own = truth[start : start + len(indices), None]
        said.append((best.indices, best.values.exp().float(), -log_p.gather(1, own)[:, 0].float()))
        start += len(indices)
    predicted, confidence, loss = (torch.cat(part).cpu().numpy() for part in zip(*said, strict=True))
    return predicted, confidence, loss
