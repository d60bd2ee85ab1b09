"""One seeded training, resumable: with a recorder watching (``run``), or for the network alone (``learn``)."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from dataset_audit.progress import Progress
from dataset_audit.scores.recorder import Recorder
from dataset_audit.tables.scores import read_shard, write_shard
from dataset_audit.train import checkpoint
from dataset_audit.train.fit import History, State, Task, fit, predict, start
from dataset_audit.train.recipes import Recipe

if TYPE_CHECKING:
    from dataset_audit.train.networks import Network


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What a scoring run records and how it protects itself.

    Attributes:
        folder: Holds checkpoints of the run under way and one shard per finished run.
        digest: Of the whole configuration; shards and checkpoints of another one are never used.
        checkpoint_every: Epochs between checkpoints.
        el2n_epochs: After which epochs (1-based) to score EL2N in eval mode.
        tdds: (T, J) of TDDS, or None.
    """

    folder: Path
    digest: str
    checkpoint_every: int = 1
    el2n_epochs: tuple[int, ...] = ()
    tdds: tuple[int, int] | None = None


@dataclass(frozen=True)
class Run:
    """A finished run: its per-example columns, its learning curve, and how many of its epochs were trained just now."""

    seed: int
    columns: dict[str, NDArray[np.generic]]
    history: History
    epochs_trained: int


def run(
    task: Task, recipe: Recipe, build: Callable[[], Network], settings: Settings, *, progress: Progress
) -> Run:
    """Train once with a recorder watching, or pick up where an interrupted call of the same configuration was.

    The per-example columns are a function of the task, recipe, settings and number of threads alone: on a CPU a run
    that was killed any number of times gives the same bytes as one that was not. At most ``checkpoint_every`` epochs
    are repeated.

    Raises:
        DataError: The loss diverged, or every checkpoint is damaged.
        EnvironmentProblem: A checkpoint or shard could not be written.
    """
    name = f"seed-{task.seed}"
    shard = settings.folder / f"{name}.parquet"
    if shard.exists():
        columns, facts = read_shard(shard)
        if facts.get("audit.config") == settings.digest:
            return Run(task.seed, columns, _history(facts["audit.history"]), epochs_trained=0)
    state = start(task, recipe, build)
    recorder = Recorder(
        len(task.labels),
        task.classes,
        device=task.device,
        tdds=settings.tdds,
        el2n_epochs=settings.el2n_epochs,
    )
    _resume(state, recorder, settings, name, progress)
    already = state.epoch

    def after_epoch(state: State) -> None:
        if state.epoch in settings.el2n_epochs:
            for indices, logits in predict(task, state, task.rows):
                recorder.update_checkpoint(indices, logits, task.labels[indices])
        if state.epoch % settings.checkpoint_every == 0 and state.epoch < recipe.epochs:
            packed = {
                "config": settings.digest,
                "threads": torch.get_num_threads(),
                "fit": state.pack(),
                "recorder": recorder.state_dict(),
            }
            checkpoint.save(settings.folder, name, state.epoch, packed)

    fit(task, recipe, state, observe=recorder.update, after_epoch=after_epoch, progress=progress)
    columns = recorder.columns()
    history = json.dumps({"loss": state.history.loss, "accuracy": state.history.accuracy})
    write_shard(shard, columns, {"audit.config": settings.digest, "audit.history": history})
    checkpoint.discard(settings.folder, name)
    return Run(task.seed, columns, state.history, epochs_trained=recipe.epochs - already)


def _resume(state: State, recorder: Recorder, settings: Settings, name: str, progress: Progress) -> None:
    found = checkpoint.load(settings.folder, name, progress)
    if found is None:
        return
    epoch, packed = found
    if packed["config"] != settings.digest:
        return  # the folder is bound to one configuration; this is a leftover of another
    state.unpack(packed["fit"])  # type: ignore[arg-type]  # plain containers, as packed above
    recorder.load_state_dict(packed["recorder"])  # type: ignore[arg-type]
    progress.note(f"resumed {name} after epoch {epoch}")
    threads = torch.get_num_threads()
    if packed.get("threads") != threads:  # sums are split among threads, so their last digits differ
        progress.warn(
            "W-threads",
            f"begun with {packed.get('threads')} threads, resumed with {threads}: last digits may differ",
        )


def _history(text: str) -> History:
    stored = json.loads(text)
    return History(stored["loss"], stored["accuracy"])


@dataclass(frozen=True)
class Learned:
    """A trained network, the seconds its epochs took, and how many of them were trained just now."""

    state: State
    seconds: float
    epochs_trained: int


def learn(
    task: Task,
    recipe: Recipe,
    build: Callable[[], Network],
    *,
    settings: Settings,
    name: str,
    progress: Progress,
) -> Learned:
    """Train once without a recorder, or pick up where an interrupted call of the same configuration was.

    The checkpoints stay until ``forget`` is called, so that what is made of the network can be written first.

    Args:
        task: What is learned.
        recipe: How.
        build: Makes the network, after the seed of its weights is set.
        settings: Where checkpoints lie, whose they are, and how often they are written.
        name: Of this training among those in the folder.
        progress: Told of each batch.

    Raises:
        DataError: The loss diverged, or every checkpoint is damaged.
        EnvironmentProblem: A checkpoint could not be written.
    """
    state = start(task, recipe, build)
    spent = 0.0
    found = checkpoint.load(settings.folder, name, progress)
    if found is not None and found[1]["config"] == settings.digest:
        state.unpack(found[1]["fit"])  # type: ignore[arg-type]  # plain containers, as packed below
        spent = float(found[1]["seconds"])  # type: ignore[arg-type]
        progress.note(f"resumed {name} after epoch {found[0]}")
    already, began = state.epoch, perf_counter()

    def after_epoch(state: State) -> None:
        nonlocal began, spent
        spent += perf_counter() - began
        if state.epoch % settings.checkpoint_every == 0:
            packed = {"config": settings.digest, "seconds": spent, "fit": state.pack()}
            checkpoint.save(settings.folder, name, state.epoch, packed)
        began = perf_counter()

    fit(task, recipe, state, after_epoch=after_epoch, progress=progress)
    return Learned(state, spent, state.epoch - already)


def forget(settings: Settings, name: str) -> None:
    """Remove the checkpoints of a training that is done with."""
    checkpoint.discard(settings.folder, name)
