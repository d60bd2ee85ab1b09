"""The engine of one machine: threads that take row groups in turn, and a place where arrays wait for the next pass."""

from __future__ import annotations

import os
import tempfile
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from itertools import islice
from pathlib import Path
from threading import Lock
from typing import BinaryIO, Final, Self, TypeVar

import numpy as np

from dataset_audit.progress import Progress, Silent
from dataset_audit.select.histogram import Words
from dataset_audit.tables.shards import Shards

T = TypeVar("T")
MEMORY: Final = 128 * 2**20  # bytes that may wait in memory; the rest waits in a file without a name
AHEAD: Final = 2  # row groups in flight per thread


def allowed() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class Scratch:
    """Keeps arrays by name, in memory up to a budget, then in a temporary file that the system removes by itself.

    Args:
        memory: The budget, bytes.
        folder: Where the file lies; None is the system's folder for such files, which may itself be memory.
    """

    def __init__(self, memory: int = MEMORY, folder: Path | None = None) -> None:
        self._free, self._folder = memory, folder
        self._held: dict[tuple[object, ...], Words] = {}
        self._places: dict[tuple[object, ...], tuple[int, int, np.dtype[np.generic]]] = {}
        self._file: BinaryIO | None = None
        self._end, self._full = 0, False
        self._lock = Lock()

    def get(self, name: tuple[object, ...], make: Callable[[], Words]) -> Words:
        """Return what is kept under a name; made now, and kept, where there is nothing."""
        held = self._held.get(name)
        if held is not None:
            return held
        place = self._places.get(name)
        if place is not None and self._file is not None:
            start, count, kind = place
            found = np.empty(count, kind)
            read = os.preadv(self._file.fileno(), [found.data], start)
            if read == found.nbytes:
                return found
        made = make()
        self._keep(name, made)
        return made

    def _keep(self, name: tuple[object, ...], made: Words) -> None:
        with self._lock:
            if self._full or name in self._held:
                return
            if made.nbytes <= self._free:
                self._free -= made.nbytes
                self._held[name] = made
                return
            start, self._end = self._end, self._end + made.nbytes
            if self._file is None:
                with suppress(OSError):
                    self._file = tempfile.TemporaryFile(buffering=0, dir=self._folder)  # noqa: SIM115
        written = 0
        if self._file is not None:  # closed with this object
            with suppress(OSError):
                written = os.pwrite(self._file.fileno(), made.data, start)
        if written == made.nbytes:
            self._places[name] = (start, len(made), made.dtype)
        else:
            self._full = True  # no room for more: made again in each pass

    def close(self) -> None:
        """Drop everything."""
        self._held.clear()
        self._places.clear()
        if self._file is not None:
            self._file.close()


class Threads:
    """Runs work on row groups in threads; a bounded number of them is in flight."""

    def __init__(
        self,
        workers: int | None = None,
        memory: int = MEMORY,
        progress: Progress | None = None,
        folder: Path | None = None,
    ) -> None:
        self._workers = workers or min(8, allowed())
        self._progress = progress or Silent()
        self._pool = ThreadPoolExecutor(self._workers)
        self._memory, self._folder = memory, folder
        self._scratch = Scratch(memory, folder)
        self._passes = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown(cancel_futures=True)
        self._scratch.close()

    def forget(self) -> None:
        """Drop what waits: another selection begins."""
        self._scratch.close()
        self._scratch = Scratch(self._memory, self._folder)

    def gather(self, table: Shards, work: Callable[..., T], merge: Callable[[T, T], T]) -> T:
        """Return what ``work(part, kept=...)`` gives for all parts, merged in their order."""
        results = self.each(table, work)
        merged = next(results)
        for result in results:
            merged = merge(merged, result)
        return merged

    def each(self, table: Shards, work: Callable[..., T]) -> Iterator[T]:
        """Give what ``work`` gives for each part, in their order."""
        total = sum(1 for _ in table.parts())
        yield from self._in_turn(total, (partial(work, part, kept=self._scratch) for part in table.parts()))

    def shards(self, table: Shards, work: Callable[..., T]) -> list[T]:
        """Return what ``work(shard, kept=...)`` gives for each file."""
        files = table.shards()
        return list(self._in_turn(len(files), (partial(work, shard, kept=self._scratch) for shard in files)))

    def _in_turn(self, total: int, calls: Iterator[Callable[[], T]]) -> Iterator[T]:
        flying: deque[Future[T]] = deque()
        self._passes += 1
        self._progress.start(f"pass {self._passes}", total, "parts")
        done = 0
        try:
            while done < total:
                # a part holds what it has read: it is let go as soon as its call is made
                for call in islice(calls, AHEAD * self._workers - len(flying)):
                    flying.append(self._pool.submit(call))
                result = flying.popleft().result()
                done += 1
                self._progress.advance(done)
                yield result
        finally:
            for future in flying:
                future.cancel()
            self._progress.finish()
