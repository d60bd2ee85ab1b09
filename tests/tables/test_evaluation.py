"""``evaluation.parquet``: every column of every row comes back, and equal evaluations have one content hash."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from dataset_audit.errors import DataError, MismatchError, UsageError
from dataset_audit.tables import parquet, sidecar
from dataset_audit.tables.evaluation import EVALUATION, TIMES, EvaluationTable
from dataset_audit.tables.provenance import Provenance

ORIGIN = Provenance(
    spec="digits", fingerprint="ab", n=9, class_names=("=cat", "do\ng"), config={"budget": "epochs"}, seeds=(1, 2),
    opened={"split": "train"},
)  # fmt: skip


def row(**changes: object) -> dict[str, object]:
    plain: dict[str, object] = {
        "arm": "hardest", "by": "aum", "keep_fraction": 0.5, "keep_count": 4, "seed": 1, "fixed": True,
        "recipe": "fast", "model": "small", "budget": "epochs", "epochs": 2.5, "steps": 5, "presentations": 10,
        "batch_size": 2, "lr": 0.1, "weight_decay": 0.0, "skip": 0.0, "status": "done", "accuracy": 2 / 3,
        "accuracy_low": 0.1, "accuracy_high": 0.9, "worst_class": "=cat", "worst_recall": 0.5,
        "recall": np.array([0.5, np.nan]), "class_share": np.array([0.25, 0.75]), "wrong_labels": math.nan,
        "ece": 0.05, "loss": 0.7, "train_accuracy": 1.0, "predicted": np.array([0, 1, 1], np.int64),
        "seconds_train": 1.25, "seconds_score": math.nan, "seconds_tune": 0.0, "device": "cpu",
        "rows_sha256": "ff",
    }  # fmt: skip
    return {**plain, **changes}


def made(*rows: dict[str, object]) -> EvaluationTable:
    return EvaluationTable.of(rows or (row(), row(arm="random", by=None, seed=2, fixed=False)), ORIGIN)


def written(table: EvaluationTable, path: Path) -> Any:
    document = sidecar.document("evaluation", path, rows=len(table), config={}, facts={})
    return table.write(path, document=document)


def test_the_row_of_this_test_has_every_column() -> None:
    assert list(row()) == list(EVALUATION)
    assert all(about for _, about in EVALUATION.values())


def test_columns_have_the_types_of_the_format_and_what_is_unknown_is_null() -> None:
    data = made().data
    assert {field.name: field.type for field in data.schema} == {
        name: kind for name, (kind, _) in EVALUATION.items()
    }
    assert data["wrong_labels"].to_pylist() == [None, None]
    assert data["seconds_score"].null_count == 2
    assert data["by"].to_pylist() == ["aum", None]
    assert data["recall"].to_pylist() == [[0.5, None], [0.5, None]]
    assert data["predicted"].to_pylist() == [[0, 1, 1]] * 2


@pytest.mark.parametrize("nothing", [math.nan, np.float64("nan"), np.float32("nan")])
def test_no_number_is_null_whatever_its_width(nothing: object) -> None:
    assert made(row(ece=nothing)).data["ece"].to_pylist() == [None]


def test_numbers_of_numpy_are_numbers() -> None:
    table = made(row(seed=np.int64(3), accuracy=np.float64(0.5), fixed=np.bool_(False), loss=np.float32(0.5)))
    assert table.data["seed"].to_pylist() == [3]
    assert table.data["accuracy"].to_pylist() == [0.5]
    assert table.data["fixed"].to_pylist() == [False]
    assert table.data["loss"].to_pylist() == [0.5]


def test_a_row_without_a_column_is_a_bug_and_no_null() -> None:
    short = row()
    del short["ece"]
    with pytest.raises(KeyError, match="ece"):
        made(short)


def test_what_is_written_is_read(tmp_path: Path) -> None:
    path = tmp_path / "evaluation.parquet"
    table = made()
    written(table, path)
    back = EvaluationTable.read(path)
    assert back.data.to_pylist() == table.data.to_pylist()
    assert len(back) == 2
    assert back.data["arm"].to_pylist() == ["hardest", "random"]
    assert back.data["by"].to_pylist() == ["aum", None]
    assert back.data["accuracy"].to_pylist() == [2 / 3, 2 / 3]
    assert back.data["wrong_labels"].to_pylist() == [None, None]
    assert back.data["seed"].to_pylist() == [1, 2]
    assert back.data["fixed"].to_pylist() == [1, 0]
    assert back.provenance.class_names == ("=cat", "do\ng")
    assert back.provenance.seeds == (1, 2)
    assert back.provenance.opened == {"split": "train"}
    assert parquet.metadata(path)["audit.format"] == "evaluation"


def test_equal_tables_are_equal_files(tmp_path: Path) -> None:
    first = written(made(), tmp_path / "a.parquet")
    second = written(made(), tmp_path / "b.parquet")
    assert first.sha256 == second.sha256


def test_the_content_hash_is_of_all_but_the_measured_seconds(tmp_path: Path) -> None:
    first = made().content_sha256()
    second = row(arm="random", by=None, seed=2, fixed=False)
    slower = row(seconds_train=99.0, seconds_score=3.0, seconds_tune=7.0)
    assert made(slower, second).content_sha256() == first
    for name in EVALUATION:
        if name in TIMES:
            continue
        value = row()[name]
        other: object = (
            value[::-1] if isinstance(value, np.ndarray) else 0.5 if name == "wrong_labels" else None
        )
        assert made(row(**{name: other}), second).content_sha256() != first, name


def test_the_content_hash_is_that_of_the_file_read_back(tmp_path: Path) -> None:
    path = tmp_path / "evaluation.parquet"
    written(made(), path)
    back = EvaluationTable.read(path)
    assert back.content_sha256() == made().content_sha256()
    joined = EvaluationTable(pa.concat_tables([back.data.slice(0, 1), back.data.slice(1)]), back.provenance)
    assert joined.content_sha256() == back.content_sha256(), "in however many pieces it is held"


def test_no_trainings_are_an_empty_table(tmp_path: Path) -> None:
    table = EvaluationTable.of([], ORIGIN)
    written(table, tmp_path / "e.parquet")
    back = EvaluationTable.read(tmp_path / "e.parquet")
    assert len(back) == 0
    assert back.data["accuracy"].to_pylist() == []


def test_bad_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="There is no"):
        EvaluationTable.read(tmp_path / "none.parquet")
    path = tmp_path / "evaluation.parquet"
    written(made(), path)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(DataError, match="does not have the hash"):
        EvaluationTable.read(path)
    text = tmp_path / "text.parquet"
    text.write_text("no table")
    with pytest.raises(DataError, match="not a readable Parquet file"):
        EvaluationTable.read(text)


def test_another_kind_of_table_is_not_read_as_an_evaluation(tmp_path: Path) -> None:
    path = tmp_path / "scores.parquet"
    table = made()
    document = sidecar.document("scores", path, rows=2, config={}, facts={})
    table.write(path, document=document)
    with pytest.raises(MismatchError, match="belongs to a scores table"):
        EvaluationTable.read(path)
