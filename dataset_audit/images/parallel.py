"""Many small pieces of work in threads, in bounded memory, with one way to stop."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Final

from dataset_audit.progress import Progress

_CHUNK: Final = 32


def for_each(total: int, work: Callable[[int], None], *, workers: int, progress: Progress) -> None:
    """Call ``work(index)`` for every index below ``total``; decoders release the interpreter's lock.

    Args:
        total: How many.
        work: Must not depend on the order in which others finish.
        workers: Threads.
        progress: Told how many are done; the phase is begun and ended by the caller.

    Raises:
        Exception: What ``work`` raised, for the first chunk of indices in which it raised; the rest is given up.
    """
    stop = threading.Event()

    def run(chunk: range) -> int:
        for index in chunk:
            if stop.is_set():
                break
            work(index)
        return len(chunk)

    done = 0
    with ThreadPoolExecutor(max(1, workers), thread_name_prefix="decode") as pool:
        waiting: deque[Future[int]] = deque()
        try:
            for start in range(0, total, _CHUNK):
                waiting.append(pool.submit(run, range(start, min(start + _CHUNK, total))))
                if len(waiting) > 4 * max(1, workers):  # bounded: a million futures are a gigabyte
                    done += waiting.popleft().result()
                    progress.advance(done)
            while waiting:
                done += waiting.popleft().result()
                progress.advance(done)
        except BaseException:
            stop.set()
            pool.shutdown(wait=False, cancel_futures=True)
            raise
