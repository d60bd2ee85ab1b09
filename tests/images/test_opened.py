"""An opened data set: which of its files a pattern names."""

from __future__ import annotations

import numpy as np
import pytest

from dataset_audit.errors import UsageError
from dataset_audit.images.opened import ArraySource, ImageDataset


def dataset(names: list[str] | None) -> ImageDataset:
    pixels = np.zeros((3, 2, 2, 1), np.uint8)
    return ImageDataset(
        spec="s", name="s", labels=np.zeros(3, np.int32), class_names=("a",), source=ArraySource(pixels),
        file_names=names,
    )  # fmt: skip


def test_patterns_name_files_by_their_whole_path() -> None:
    found = dataset(["a/1.png", "b/1.png", "b/2.jpg"])
    assert found.matching(["b/*", "*1.png"]).tolist() == [True, True, True]
    assert found.matching(["*.jpg"]).tolist() == [False, False, True]


def test_a_pattern_that_names_nothing_is_refused() -> None:
    with pytest.raises(UsageError, match=r"1\.png matches no file"):
        dataset(["a/1.png", "b/1.png", "b/2.jpg"]).matching(["1.png"])
    with pytest.raises(UsageError, match="is an array"):
        dataset(None).matching(["*"])
