"""What waits between two passes: in memory up to a budget, in a file beyond it, nowhere when there is no room."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from dataset_audit.select.threads import Scratch


class Made:
    """Makes arrays and counts how often."""

    def __init__(self) -> None:
        self.times = 0

    def array(self, number: int, n: int = 100) -> NDArray[np.uint32]:
        self.times += 1
        return np.arange(n, dtype=np.uint32) + np.uint32(number)


@pytest.fixture
def scratch() -> Iterator[Scratch]:
    made = Scratch(memory=1000)  # two arrays of 400 bytes
    yield made
    made.close()


def test_an_array_is_made_once_and_comes_back_from_memory_or_from_the_file(scratch: Scratch) -> None:
    made = Made()
    for _ in range(3):
        for number in range(5):
            found = scratch.get(("part", number), lambda number=number: made.array(number))
            assert np.array_equal(found, np.arange(100) + number)
    assert made.times == 5


@pytest.mark.parametrize("n", [0, 1, 99])
def test_any_length_and_width_comes_back(n: int) -> None:
    scratch = Scratch(memory=0)
    for kind in (np.uint32, np.uint64):
        values = np.random.default_rng(n).integers(0, 2**32, n).astype(kind)
        for _ in range(2):
            found = scratch.get((n, kind), lambda values=values: values)
            assert found.dtype == kind
            assert np.array_equal(found, values)
    scratch.close()


def test_a_full_disk_costs_time_and_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "pwrite", full)
    scratch, made = Scratch(memory=0), Made()
    for _ in range(3):
        assert np.array_equal(scratch.get(("a",), lambda: made.array(7)), np.arange(100) + 7)
    assert made.times == 3
    scratch.close()


def test_the_file_lies_where_it_is_told_to_and_a_folder_that_is_none_costs_time_alone(tmp_path: Path) -> None:
    told, made = Scratch(memory=0, folder=tmp_path), Made()
    told.get(("a",), lambda: made.array(7))
    assert any(
        link.readlink().is_relative_to(tmp_path)
        for link in Path("/proc/self/fd").iterdir()
        if link.is_symlink()
    )
    told.close()
    nowhere = Scratch(memory=0, folder=tmp_path / "absent")
    for _ in range(2):
        assert np.array_equal(nowhere.get(("a",), lambda: made.array(7)), np.arange(100) + 7)
    assert made.times == 3
