"""Unfinished work: bound to one configuration, and what each finished training came to is there again."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from dataset_audit.errors import AuditError, DataError, MismatchError
from dataset_audit.tables import unfinished

WANTED = {"keep": "0.5", "seed": 1}


def test_it_lies_beside_the_table_or_where_it_was_asked_to(tmp_path: Path) -> None:
    assert unfinished.folder_of(tmp_path / "s.parquet") == tmp_path / ".s.parquet.runs"
    assert unfinished.folder_of(tmp_path / "s.parquet", tmp_path / "a") == tmp_path / "a" / ".s.parquet.runs"


def test_unfinished_work_is_bound_to_one_configuration(tmp_path: Path) -> None:
    folder = tmp_path / "runs"
    unfinished.bind(folder, WANTED, force=False)
    (folder / "run-1").write_bytes(b"kept")
    unfinished.bind(folder, WANTED, force=False)
    assert (folder / "run-1").exists()
    other = WANTED | {"seed": 2}
    with pytest.raises(MismatchError, match="seed: 1 -> 2"):
        unfinished.bind(folder, other, force=False)
    unfinished.release(folder, other)
    assert (folder / "run-1").exists()
    unfinished.bind(folder, other, force=True)
    assert not (folder / "run-1").exists()
    unfinished.release(folder, other)
    assert not folder.exists()


def test_a_note_that_cannot_be_read_is_another_configuration(tmp_path: Path) -> None:
    unfinished.bind(tmp_path / "runs", WANTED, force=False)
    (tmp_path / "runs" / unfinished.NOTE).write_bytes(b"{")
    with pytest.raises(AuditError) as raised:
        unfinished.bind(tmp_path / "runs", WANTED, force=False)
    assert raised.value.exit_code == 2


def test_what_is_kept_is_there_again(tmp_path: Path) -> None:
    data = {
        "a": np.array([1, -1], np.int32),
        "b": np.array([1.5, np.nan], np.float32),
        "c": np.array([True, False]),
    }
    unfinished.keep(tmp_path / "r.parquet", data, {"loss": [1.5, 0.25]}, digest="one")
    found = unfinished.kept(tmp_path / "r.parquet", digest="one")
    assert found is not None
    assert found[1] == {"loss": [1.5, 0.25]}
    for name, values in data.items():
        assert found[0][name].dtype == values.dtype
        assert np.array_equal(found[0][name], values, equal_nan=values.dtype.kind == "f")


def test_nothing_is_kept_of_another_configuration(tmp_path: Path) -> None:
    path = tmp_path / "r.parquet"
    assert unfinished.kept(path, digest="one") is None
    unfinished.keep(path, {"a": np.arange(2)}, {}, digest="one")
    assert unfinished.kept(path, digest="other") is None


def test_what_is_damaged_is_told(tmp_path: Path) -> None:
    path = tmp_path / "r.parquet"
    unfinished.keep(path, {"a": np.arange(2)}, {}, digest="one")
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(DataError, match="not a readable Parquet file"):
        unfinished.kept(path, digest="one")
