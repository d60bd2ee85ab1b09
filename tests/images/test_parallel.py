"""Many small pieces of work: each once, the first failure told, the rest given up, memory bounded."""

from __future__ import annotations

import threading
import time
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dataset_audit.images import parallel
from dataset_audit.images.parallel import for_each
from dataset_audit.progress import Silent


class Told(Silent):
    def __init__(self) -> None:
        super().__init__()
        self.done: list[int] = []

    def advance(self, done: int, **figures: float | str) -> None:
        self.done.append(done)


def threads() -> int:
    return sum(thread.name.startswith("decode") for thread in threading.enumerate())


@given(st.integers(0, 700), st.integers(0, 5))
def test_every_index_is_worked_once_and_progress_ends_at_the_total(total: int, workers: int) -> None:
    seen: list[int] = []
    told = Told()
    for_each(total, seen.append, workers=workers, progress=told)
    assert Counter(seen) == Counter(range(total))
    assert told.done == sorted(set(told.done))
    assert told.done[-1:] == ([total] if total else [])


def test_work_is_shared_by_as_many_threads_as_asked_for() -> None:
    together = threading.Barrier(3, timeout=10)  # breaks unless three arrive at one time

    def work(index: int) -> None:
        if index % 32 == 0:
            together.wait()

    for_each(3 * 32, work, workers=3, progress=Silent())
    assert not together.broken
    assert threads() == 0


@given(st.sets(st.integers(0, 399), min_size=1, max_size=4), st.integers(1, 4))
def test_the_failure_of_the_lowest_chunk_is_raised_whichever_came_first(bad: set[int], workers: int) -> None:
    chunk = min(bad) // 32

    def work(index: int) -> None:
        if index in bad:
            if index // 32 == chunk and len({each // 32 for each in bad}) > 1:
                time.sleep(0.002)  # the others fail before it
            raise LookupError(index)

    with pytest.raises(LookupError) as caught:
        for_each(400, work, workers=workers, progress=Silent())
    assert caught.value.args == (min(bad),)


def test_after_a_failure_the_rest_is_given_up_and_no_thread_is_left() -> None:
    seen: list[int] = []
    told = Told()

    def work(index: int) -> None:
        seen.append(index)
        if index == 40:
            raise LookupError(index)
        time.sleep(0.0005)

    with pytest.raises(LookupError, match="40"):
        for_each(100_000, work, workers=2, progress=told)
    assert len(seen) < 1000
    assert told.done == [32]
    assert threads() == 0


def test_an_interruption_stops_the_work() -> None:
    seen: list[int] = []

    class Interrupted(Silent):
        def advance(self, done: int, **figures: float | str) -> None:
            raise KeyboardInterrupt

    def work(index: int) -> None:
        seen.append(index)
        time.sleep(0.0005)

    with pytest.raises(KeyboardInterrupt):
        for_each(100_000, work, workers=2, progress=Interrupted())
    assert len(seen) < 1000
    assert threads() == 0


def test_only_a_few_chunks_wait_at_one_time(monkeypatch: pytest.MonkeyPatch) -> None:
    waiting: list[int] = []

    class Counted(parallel.ThreadPoolExecutor):
        def submit(self, *args: object) -> object:  # type: ignore[override]
            waiting.append(self._work_queue.qsize())
            return super().submit(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(parallel, "ThreadPoolExecutor", Counted)
    for_each(20_000, lambda _: None, workers=2, progress=Silent())
    assert len(waiting) == 625
    assert max(waiting) <= 4 * 2 + 1
