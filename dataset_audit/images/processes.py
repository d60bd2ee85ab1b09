"""Many tiny pieces of work in processes: where the interpreter takes most of the time, threads wait for each other.

A process is a fork: it sees everything as it was, nothing has to be sent to it, and what it puts into memory mapped as
shared is seen here. It works and no more: it starts no thread, touches no GPU, says nothing to the terminal, and ends
without tidying up what is not its own.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import warnings
from collections.abc import Callable
from contextlib import suppress
from multiprocessing.connection import Connection
from typing import Final, TypeVar

from dataset_audit.progress import Progress

T = TypeVar("T")

CHUNK: Final = 256  # of which only the results travel


def available() -> bool:
    """Return whether processes may be made so: on Linux; elsewhere system libraries do not survive a fork."""
    return sys.platform == "linux"


def share_out(
    total: int,
    work: Callable[[range], T],
    take: Callable[[range, T], None],
    *,
    workers: int,
    progress: Progress,
) -> None:
    """Call ``work`` on ranges below ``total`` in other processes, and ``take`` here on each range and what came of it.

    Results are taken in order. A range whose process failed or died is worked here, so that what it raises is raised
    here, and what killed the process does not lose the range.

    Args:
        total: How many.
        work: Must depend on its range alone; its result is pickled.
        take: Called here.
        workers: Processes.
        progress: Told how many are done; the phase is begun and ended by the caller.
    """
    ranges = [range(at, min(at + CHUNK, total)) for at in range(0, total, CHUNK)]
    workers = min(workers, len(ranges))
    pool: list[tuple[multiprocessing.process.BaseProcess, Connection[T | None, T | None]]] = []
    try:
        for number in range(workers):
            pool.append(_started(work, ranges[number::workers], [reader for _, reader in pool]))
        for number, chunk in enumerate(ranges):
            found: T | None = None
            with suppress(EOFError, OSError):  # it is gone
                found = pool[number % workers][1].recv()
            take(chunk, work(chunk) if found is None else found)
            progress.advance(chunk.stop)
    finally:
        for process, reader in pool:
            reader.close()
            process.kill()
            process.join()


def _started(
    work: Callable[[range], T], ranges: list[range], others: list[Connection[T | None, T | None]]
) -> tuple[multiprocessing.process.BaseProcess, Connection[T | None, T | None]]:
    context = multiprocessing.get_context("fork")
    reader, writer = context.Pipe(duplex=False)

    def run() -> None:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all; this side decides
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        for other in (*others, reader):
            other.close()  # so that writing fails once the first process is gone
        with suppress(OSError):
            for chunk in ranges:
                writer.send(_tried(work, chunk))
        os._exit(0)  # what else stands on this stack belongs to the first process

    process = context.Process(target=run, daemon=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of forking beside threads, from Python 3.12 on
        process.start()
    writer.close()
    return process, reader


def _tried(work: Callable[[range], T], chunk: range) -> T | None:
    try:
        return work(chunk)
    except Exception:  # noqa: BLE001 - the first process does it again and raises it
        return None
