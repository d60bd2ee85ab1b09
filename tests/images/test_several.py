from __future__ import annotations

from pathlib import Path

import pytest

from dataset_audit.errors import UsageError
from dataset_audit.images.several import refuse_twice, short_names


def test_names_are_as_short_as_tells_them_apart() -> None:
    assert short_names(["x/a", "y/b/"]) == ["a", "b"]
    assert short_names(["x/a/train", "x/b/train"]) == ["a/train", "b/train"]
    assert short_names(["digits", "./digits"]) == ["digits", "./digits"]
    assert short_names(["x/a", "x/a"]) == ["x/a (1)", "x/a (2)"]


def test_one_folder_spelt_twice_is_refused_and_two_are_not(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    refuse_twice([f"{tmp_path}/a", f"{tmp_path}/b", "digits"])
    for again in (f"{tmp_path}/./a/", f"{tmp_path}/b/../a"):
        with pytest.raises(UsageError) as refused:
            refuse_twice([f"{tmp_path}/a", f"{tmp_path}/b", again])
        assert refused.value.id == "E-identical"
    with pytest.raises(UsageError):
        refuse_twice(["digits", "digits"])
