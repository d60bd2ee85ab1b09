"""``testset.parquet`` and its classes: columns as declared, the same bytes twice, a change in either found."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from dataset_audit.tables import files, parquet, sidecar
from dataset_audit.tables.testset import (
    CLASSES,
    TESTSET,
    TestsetTable,
    classes_path,
    foreign_classes,
    standing_classes,
)


def row(kinds: dict[str, tuple[pa.DataType, str]], number: int) -> dict[str, Any]:
    made: dict[str, Any] = {}
    for name, (kind, _) in kinds.items():
        made[name] = (
            number if pa.types.is_integer(kind) else number / 4 if pa.types.is_floating(kind) else None
        )
    return {**made, next(iter(kinds)): f"m{number}"}


def table(path: Path) -> files.Written:
    made = TestsetTable.of(
        [row(TESTSET, n) for n in (1, 2)], [row(CLASSES, n) for n in (1, 2, 3)], {"seed": 1}
    )
    document = sidecar.document("testset", path, rows=len(made), config={"seed": 1}, facts={})
    return made.write(path, document=document)


def test_what_is_written_is_read(tmp_path: Path) -> None:
    path = tmp_path / "testset.parquet"
    table(path)
    models, classes = parquet.read(path), parquet.read(classes_path(path))
    assert models.column_names == list(TESTSET)
    assert classes.column_names == list(CLASSES)
    assert models["gap"].to_pylist() == [0.25, 0.5]
    assert sidecar.verify(path, "testset") == "finished"
    assert pq.read_schema(path).metadata[b"audit.format"] == b"testset"
    assert sidecar.read(path)["classes"]["rows"] == 3  # type: ignore[index]


def test_two_writes_give_the_same_bytes(tmp_path: Path) -> None:
    assert table(tmp_path / "a.parquet").sha256 == table(tmp_path / "b.parquet").sha256
    assert (
        classes_path(tmp_path / "a.parquet").read_bytes() == classes_path(tmp_path / "b.parquet").read_bytes()
    )


def test_numbers_that_are_none_become_null() -> None:
    made = TestsetTable.of([{**row(TESTSET, 1), "gap": float("nan"), "p": None}], [], {})
    assert made.models["gap"].null_count == 1
    assert made.models["p"].null_count == 1


def test_classes_that_are_gone_or_changed_are_no_finished_result(tmp_path: Path) -> None:
    path = tmp_path / "testset.parquet"
    table(path)
    stated = sidecar.read(path)["classes"]["sha256"]  # type: ignore[index]
    assert standing_classes(path, stated=stated)
    classes_path(path).write_bytes(b"changed")
    assert not standing_classes(path, stated=stated)
    classes_path(path).unlink()
    assert not standing_classes(path, stated=stated)
    assert not standing_classes(path, stated=None)


def test_somebody_elses_file_is_told(tmp_path: Path) -> None:
    path = tmp_path / "testset.parquet"
    assert not foreign_classes(path)
    table(path)
    assert not foreign_classes(path)
    pq.write_table(pa.table({"a": [1]}), classes_path(path))
    assert foreign_classes(path)
