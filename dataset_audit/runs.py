"""One seeded training, resumable: with a recorder watching (``run``), or for the network alone (``learn``)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from time import monotonic, perf_counter
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from dataset_audit.progress import Progress
from dataset_audit.scores.recorder import Recorder
from dataset_audit.scores.shared import SharedRecorder
from dataset_audit.tables import unfinished
from dataset_audit.train import checkpoint
from dataset_audit.train.fit import fit, predict, start
from dataset_audit.train.recipes import Recipe
from dataset_audit.train.task import History, State, Task

if TYPE_CHECKING:
    from dataset_audit.train.networks import Network

SPARING = 15.0  # seconds between checkpoints on a GPU, where writing one takes as long as an epoch


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What a scoring run records and how it protects itself.

    Attributes:
        folder: Holds checkpoints of the run under way and what each finished one came to.
        digest: Of the whole configuration; runs and checkpoints of another one are never used.
        checkpoint_every: Epochs between checkpoints; on a GPU none is written within 15 s of the last.
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
    """A finished run: its per-example columns, its learning curve, and how many of its epochs were trained just now.

    Of several processes that share the examples, the first alone has the columns.
    """

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
    are repeated, on a GPU at most these or 15 s.

    The processes of ``task.world`` call it together and share the examples; the first reads and writes, so a run may
    go on with another number of them.

    Raises:
        DataError: The loss diverged, or every checkpoint is damaged.
        EnvironmentProblem: A checkpoint or the finished run could not be written.
    """
    name, world = f"seed-{task.seed}", task.world
    done = world.once(lambda: finished(settings, task.seed))
    if done is not None:
        return done
    state = start(task, recipe, build)
    recorder = _recorder(task, settings)
    _resume(task, state, recorder, settings, progress)
    already, saving = state.epoch, _Saving(settings, task)

    def after_epoch(state: State) -> None:
        if isinstance(recorder, SharedRecorder):
            recorder.exchange()
        if state.epoch in settings.el2n_epochs:
            for indices, logits in predict(task, state, world.owned(task.rows)):
                recorder.update_checkpoint(indices, logits, task.labels[indices])
        if state.epoch < recipe.epochs and saving.due(state.epoch):
            packed = {
                "config": settings.digest,
                "threads": torch.get_num_threads(),
                "processes": world.size,
                "fit": state.pack(),
                "recorder": recorder.state_dict(),
            }
            if world.first:
                checkpoint.save(settings.folder, name, state.epoch, packed)

    fit(task, recipe, state, observe=recorder.update, after_epoch=after_epoch, progress=progress)
    columns = recorder.columns()
    if world.first:
        history = {"loss": state.history.loss, "accuracy": state.history.accuracy}
        unfinished.keep(kept_at(settings, task.seed), columns, history, digest=settings.digest)
        checkpoint.discard(settings.folder, name)
    return Run(task.seed, columns, state.history, epochs_trained=recipe.epochs - already)


def finished(settings: Settings, seed: int) -> Run | None:
    """Return a run that an earlier call finished, None if there is none of the same configuration.

    Raises:
        DataError: What it came to is damaged.
    """
    kept = unfinished.kept(kept_at(settings, seed), digest=settings.digest)
    if kept is None:
        return None
    columns, history = kept
    return Run(seed, columns, History(history["loss"], history["accuracy"]), epochs_trained=0)


def kept_at(settings: Settings, seed: int) -> Path:
    """Return where a finished run lies until the table is written."""
    return settings.folder / f"seed-{seed}.parquet"


class _Saving:
    """Decides after which epochs a checkpoint is written, alike on all processes."""

    def __init__(self, settings: Settings, task: Task) -> None:
        self._every, self._world = settings.checkpoint_every, task.world
        self._sparing = task.device.type == "cuda"
        self._last = monotonic()

    def due(self, epoch: int) -> bool:
        """Return whether one is to be written after this epoch, the ``epoch``-th."""
        if epoch % self._every:
            return False
        if self._sparing and not self._world.once(lambda: monotonic() - self._last >= SPARING):
            return False
        self._last = monotonic()
        return True


def _recorder(task: Task, settings: Settings) -> Recorder | SharedRecorder:
    n, classes, world = len(task.labels), task.classes, task.world
    if world.size > 1:
        return SharedRecorder(
            world, n, classes, device=task.device, tdds=settings.tdds, el2n_epochs=settings.el2n_epochs
        )
    return Recorder(n, classes, device=task.device, tdds=settings.tdds, el2n_epochs=settings.el2n_epochs)


def _resume(
    task: Task, state: State, recorder: Recorder | SharedRecorder, settings: Settings, progress: Progress
) -> None:
    name, world = f"seed-{task.seed}", task.world
    found = world.once(lambda: checkpoint.load(settings.folder, name, progress))
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
    if packed.get("processes", 1) != world.size:
        progress.warn(
            "W-processes",
            f"begun by {packed.get('processes', 1)} processes, resumed by {world.size}: last digits may differ",
        )


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
    already, began, saving = state.epoch, perf_counter(), _Saving(settings, task)

    def after_epoch(state: State) -> None:
        nonlocal began, spent
        spent += perf_counter() - began
        if saving.due(state.epoch):
            packed = {"config": settings.digest, "seconds": spent, "fit": state.pack()}
            checkpoint.save(settings.folder, name, state.epoch, packed)
        began = perf_counter()

    fit(task, recipe, state, after_epoch=after_epoch, progress=progress)
    return Learned(state, spent, state.epoch - already)


def forget(settings: Settings, name: str) -> None:
    """Remove the checkpoints of a training that is done with."""
    checkpoint.discard(settings.folder, name)
