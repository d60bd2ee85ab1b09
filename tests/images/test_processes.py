"""Work in other processes: the same as in this one, whatever becomes of them."""

from __future__ import annotations

import mmap
import multiprocessing
import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from dataset_audit.errors import DataError
from dataset_audit.images import processes
from dataset_audit.images.dataset import open_dataset
from dataset_audit.images.processes import share_out
from dataset_audit.images.scan import Kept, Scan, scan, tiny
from dataset_audit.progress import Silent

HERE = os.getpid()
pytestmark = pytest.mark.skipif(not processes.available(), reason="processes are forked on Linux only")


class Told(Silent):
    def __init__(self) -> None:
        super().__init__()
        self.done: list[int] = []

    def advance(self, done: int, **figures: float | str) -> None:
        self.done.append(done)


def shared(total: int, work: Any, *, workers: int = 2) -> tuple[list[Any], list[int]]:
    taken: list[Any] = []
    told = Told()
    share_out(total, work, lambda chunk, found: taken.append((chunk, found)), workers=workers, progress=told)
    assert multiprocessing.active_children() == []
    return taken, told.done


@settings(max_examples=5)
@given(st.integers(0, 3000), st.integers(1, 4))
def test_every_range_is_worked_elsewhere_and_taken_in_order(total: int, workers: int) -> None:
    taken, done = shared(total, lambda chunk: (os.getpid() != HERE, sum(chunk)), workers=workers)
    assert [index for chunk, _ in taken for index in chunk] == list(range(total))
    assert all(found == (True, sum(chunk)) for chunk, found in taken)
    assert done == sorted(done)
    assert done[-1:] == ([total] if total else [])


def test_what_a_process_puts_into_shared_memory_is_seen_here() -> None:
    place = np.frombuffer(mmap.mmap(-1, 1000), np.uint8)
    shared(1000, lambda chunk: place.__setitem__(slice(chunk.start, chunk.stop), 7))
    assert (place == 7).all()


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM, "exit"])
def test_the_work_of_a_process_that_dies_is_done_here(how: Any) -> None:
    def work(chunk: range) -> int:
        if chunk.start == 512 and os.getpid() != HERE:
            os._exit(1) if how == "exit" else os.kill(os.getpid(), how)
        return sum(chunk)

    taken, _ = shared(2000, work)
    assert all(found == sum(chunk) for chunk, found in taken)
    assert len(taken) == 8


def test_what_a_process_raises_is_raised_here_and_all_processes_end() -> None:
    def work(chunk: range) -> None:
        if chunk.start == 256:
            raise DataError("It broke.", where=f"range {chunk.start}")

    with pytest.raises(DataError, match="It broke"):
        shared(100_000, work)
    assert multiprocessing.active_children() == []


def test_ctrl_c_is_for_the_first_process() -> None:
    def work(chunk: range) -> bool:
        if os.getpid() != HERE:
            os.kill(os.getpid(), signal.SIGINT)
        return os.getpid() != HERE

    assert all(found for _, found in shared(1000, work)[0])


def test_an_interruption_here_ends_the_processes() -> None:
    def take(chunk: range, found: object) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        share_out(5000, len, take, workers=2, progress=Silent())
    assert multiprocessing.active_children() == []


# -- the pass over a data set ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Small files, a few of them bad."""
    root = tmp_path_factory.mktemp("many")
    for folder in ("a", "b"):
        (root / folder).mkdir()
    for index in range(600):
        path = root / "ab"[index % 2] / f"{index:03}.png"
        Image.fromarray(np.full((8, 8, 3), 1 + index % 250, np.uint8)).save(path)
    (root / "a" / "004.png").write_bytes(b"")
    (root / "b" / "301.png").write_bytes((root / "b" / "303.png").read_bytes()[:50])
    return root


@pytest.mark.parametrize("excluded", [(), (7, 599)])
def test_a_pass_in_processes_finds_and_keeps_what_one_in_threads_does(
    many: Path, excluded: tuple[int, ...]
) -> None:
    dataset = open_dataset(many)
    exclude = np.isin(np.arange(len(dataset)), excluded)
    found: list[Scan] = []
    pixels = []
    for in_processes in (True, False):
        place = np.frombuffer(mmap.mmap(-1, 600 * 192), np.uint8).reshape(600, 8, 8, 3)
        kept = Kept(place.__setitem__, shared=in_processes)
        found.append(scan(dataset, workers=2, memory=10**8, progress=Silent(), keep=kept, exclude=exclude))
        pixels.append(place)
    assert np.array_equal(*pixels)
    assert (
        len({(tuple(each.uid), tuple(each.status), tuple(each.error), each.fingerprint) for each in found})
        == 1
    )
    assert found[0].status.count("unreadable") == 2
    assert found[0].status.count("excluded") == len(excluded)


def test_many_tiny_files_are_for_processes_and_nothing_else_is(
    many: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset = open_dataset(many)
    assert not tiny(dataset), "too few"
    monkeypatch.setattr("dataset_audit.images.scan.MANY", 100)
    assert tiny(dataset)
    monkeypatch.setattr("dataset_audit.images.scan.TINY", 50)
    assert not tiny(dataset), "too large"
    monkeypatch.setattr("dataset_audit.images.scan.TINY", 5000)
    monkeypatch.setattr("sys.platform", "darwin")
    assert not tiny(dataset)
