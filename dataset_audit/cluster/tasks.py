"""An engine over tasks that may run anywhere: what a shard gives is merged where the shard is read.

A task is a plain function with its arguments, all of which can be pickled; it opens its file itself. What travels are
histograms (at most 8 MB), rows at a boundary, counts, and for one manifest its rows: never the table.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, Protocol, TypeVar

from dataset_audit.progress import Progress, Silent
from dataset_audit.select.survey import Nothing
from dataset_audit.tables.shards import Shard, Shards

T = TypeVar("T")
Handle = Any  # of a task, as whoever runs it has it


class Runner(Protocol):
    """Where tasks run."""

    def submit(self, task: Callable[[], object], /) -> Handle:
        """Begin a task."""

    def result(self, handle: Handle, /) -> Any:
        """Wait for a task; raise what it raised."""


class Tasks:
    """Runs work as one task per shard, a bounded number of them at a time; see `select.stream.Engine`."""

    def __init__(self, runner: Runner, *, in_flight: int, progress: Progress | None = None) -> None:
        self._runner, self._in_flight = runner, max(1, in_flight)
        self._progress = progress or Silent()
        self._passes = 0

    def forget(self) -> None:
        """Nothing waits between passes: each task reads what it needs."""

    def gather(self, table: Shards, work: Callable[..., T], merge: Callable[[T, T], T]) -> T:
        """Return what ``work(part, kept=...)`` gives for all parts, merged in each shard and then here."""
        results = self._in_turn([partial(_merged, shard, work, merge) for shard in _filled(table)])
        merged: T = next(results)
        for result in results:
            merged = merge(merged, result)
        return merged

    def each(self, table: Shards, work: Callable[..., T]) -> Iterator[T]:
        """Give what ``work`` gives for each part, in their order; what one shard gives arrives at once."""
        for listed in self._in_turn([partial(_listed, shard, work) for shard in _filled(table)]):
            yield from listed

    def shards(self, table: Shards, work: Callable[..., T]) -> list[T]:
        """Return what ``work(shard, kept=...)`` gives for each file."""
        return list(self._in_turn([partial(work, shard, kept=Nothing()) for shard in table.shards()]))

    def _in_turn(self, tasks: Sequence[Callable[[], object]]) -> Iterator[Any]:
        self._passes += 1
        self._progress.start(f"pass {self._passes}", len(tasks), "shards")
        flying: deque[Handle] = deque()
        for done in range(len(tasks)):
            while len(flying) < self._in_flight and done + len(flying) < len(tasks):
                flying.append(self._runner.submit(tasks[done + len(flying)]))
            result = self._runner.result(flying.popleft())
            self._progress.advance(done + 1)
            yield result
        self._progress.finish()


def _filled(table: Shards) -> list[Shard]:
    """Return the shards that have rows."""
    return [shard for shard, source in zip(table.shards(), table.sources, strict=True) if sum(source.sizes)]


def _merged(shard: Shard, work: Callable[..., T], merge: Callable[[T, T], T]) -> T:
    results = (work(part, kept=Nothing()) for part in shard.parts())
    merged = next(results)
    for result in results:
        merged = merge(merged, result)
    return merged


def _listed(shard: Shard, work: Callable[..., T]) -> list[T]:
    return [work(part, kept=Nothing()) for part in shard.parts()]
