"""Predictions in every form that people keep them in give the same answers; what is no class is refused by name."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest

from dataset_audit.errors import DataError, MismatchError, UsageError
from dataset_audit.tables.columns import holds_images
from dataset_audit.tables.predictions import Answers, read_answers, read_labels

A, B, TRUTH = [0, 1, 2, 1], [2, 1, 0, 1], [0, 1, 2, 2]


def _parquet(folder: Path) -> Path:
    pq.write_table(pa.table({"a": A, "b": B, "label": TRUTH}), folder / "p.parquet")
    return folder / "p.parquet"


def _csv(folder: Path) -> Path:
    rows = "\n".join(f"{a},{b},{t}" for a, b, t in zip(A, B, TRUTH, strict=True))
    (folder / "p.csv").write_text(f"a,b,label\n{rows}\n")
    return folder / "p.csv"


def _npz(folder: Path) -> Path:
    np.savez(folder / "p.npz", a=np.array(A, np.int8), b=np.array(B, np.uint16), label=np.array(TRUTH))
    return folder / "p.npz"


def _json(folder: Path) -> Path:
    (folder / "p.json").write_text(json.dumps({"a": A, "b": B, "label": TRUTH}))
    return folder / "p.json"


def _long(folder: Path, **more: Any) -> Path:
    rows = {
        "model": ["a"] * 4 + ["b"] * 4,
        "index": [*range(4)] * 2,
        "prediction": A + B,
        "label": TRUTH * 2,
        **more,
    }
    pq.write_table(pa.table(rows), folder / "long.parquet")
    return folder / "long.parquet"


def _shuffled(folder: Path) -> Path:
    table = pq.read_table(_long(folder)).take(pa.array([5, 2, 7, 0, 3, 4, 1, 6]))
    pyarrow.csv.write_csv(table, folder / "long.csv")
    return folder / "long.csv"


@pytest.mark.parametrize("write", [_parquet, _csv, _npz, _json, _long, _shuffled])
def test_every_form_gives_the_same_answers(write: Callable[[Path], Path], tmp_path: Path) -> None:
    found = read_answers(write(tmp_path))
    assert sorted(found.models) == ["a", "b"]
    assert (found.models["a"].tolist(), found.models["b"].tolist()) == (A, B)
    assert found.labels is not None
    assert found.labels.tolist() == TRUTH
    assert len(found) == 4


def test_a_folder_has_a_file_per_model(tmp_path: Path) -> None:
    (tmp_path / "a_predictions.json").write_text(json.dumps(A))
    np.save(tmp_path / "b.npy", np.array(B))
    (tmp_path / "notes.md").write_text("not one of them")
    found = read_answers(tmp_path)
    assert {name: values.tolist() for name, values in found.models.items()} == {"a": A, "b": B}
    (tmp_path / "b_predictions.json").write_text(json.dumps(B))
    with pytest.raises(DataError, match="two files of model b"):
        read_answers(tmp_path)


def test_names_of_classes_stay_text_even_where_they_look_like_nothing(tmp_path: Path) -> None:
    (tmp_path / "p.csv").write_text('a\nNA\nnull\ntrue\n"cat, small"\n')
    assert read_answers(tmp_path / "p.csv").models["a"].tolist() == ["NA", "null", "true", "cat, small"]


def test_whole_floats_are_classes(tmp_path: Path) -> None:
    pq.write_table(pa.table({"a": [0.0, 1.0, 2.0]}), tmp_path / "p.parquet")
    found = read_answers(tmp_path / "p.parquet").models["a"]
    assert (found.tolist(), found.dtype) == ([0, 1, 2], np.int64)


def test_a_set_is_chosen_by_its_name(tmp_path: Path) -> None:
    path = _long(tmp_path, set=["old", "old", "new", "new"] * 2, index=[0, 1, 0, 1] * 2)
    assert read_answers(path, "new").models["b"].tolist() == B[2:]
    with pytest.raises(UsageError, match="several sets"):
        read_answers(path)
    with pytest.raises(UsageError, match="no set 'newer'") as error:
        read_answers(path, "newer")
    assert "old, new" in error.value.where
    with pytest.raises(UsageError, match="no column set"):
        read_answers(_csv(tmp_path), "old")


def refused(kind: type[Exception], path: Path, words: str) -> None:
    with pytest.raises(kind, match=words) as error:
        read_answers(path)
    assert type(error.value) is kind


def test_probabilities_are_no_answers(tmp_path: Path) -> None:
    pq.write_table(pa.table({"a": [1.0, 0.31, 2.0]}), tmp_path / "p.parquet")
    refused(DataError, tmp_path / "p.parquet", r"a, row 1: 0.31 is no class")


def test_missing_answers_are_named(tmp_path: Path) -> None:
    pq.write_table(pa.table({"a": pa.array([1, 0, None, 2])}), tmp_path / "p.parquet")
    refused(DataError, tmp_path / "p.parquet", "a, row 2: there is no answer")
    pq.write_table(pa.table({"a": pa.array([1.0, float("nan")])}), tmp_path / "p.parquet")
    refused(DataError, tmp_path / "p.parquet", "a, row 1: nan is no class")
    pq.write_table(pa.table({"a": pa.array(["x", None])}), tmp_path / "p.parquet")
    refused(DataError, tmp_path / "p.parquet", "a, row 1: there is no answer")


def test_a_matrix_of_probabilities_is_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "p.npz", a=np.zeros((4, 3)))
    refused(DataError, tmp_path / "p.npz", r"a has shape \(4, 3\)")
    pq.write_table(pa.table({"a": [[0.1, 0.9]]}), tmp_path / "p.parquet")
    refused(DataError, tmp_path / "p.parquet", "column a holds list")


def test_pickles_are_never_loaded(tmp_path: Path) -> None:
    np.save(tmp_path / "p.npy", np.array([{"a": 1}], object), allow_pickle=True)
    refused(DataError, tmp_path / "p.npy", "no plain arrays")


def test_models_of_different_length_are_named(tmp_path: Path) -> None:
    (tmp_path / "p.json").write_text(json.dumps({"a": A, "b": B[:3]}))
    refused(MismatchError, tmp_path / "p.json", "b has 3 rows, a 4")


def test_a_long_table_must_have_every_answer_once(tmp_path: Path) -> None:
    refused(DataError, _long(tmp_path, index=[0, 1, 2, 3, 0, 1, 1, 3]), "b answered image 1 twice")
    refused(MismatchError, _long(tmp_path, index=[0, 1, 2, 3, 0, 1, 2, 4]), "a answered image 3, b did not")
    refused(MismatchError, _long(tmp_path, model=["a"] * 5 + ["b"] * 3), "a answered 5 images, b 3")
    refused(MismatchError, _long(tmp_path, label=[*TRUTH, 0, 1, 2, 1]), "the labels beside a and b differ")


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("p.json", b'{"a": [1], "a": [2]}', "twice"),
        ("p.json", b'{"a": [1, true]}', "no list of classes"),
        ("p.json", b'{"a": {"x": 1}}', "no list of classes"),
        ("p.json", b"{", "not readable JSON"),
        ("p.json", b"[" * 100_000, "not readable JSON"),
        ("p.json", b"[99999999999999999999]", "no list of classes"),
        ("p.csv", b"a,a\n1,2\n", "a column twice"),
        ("p.csv", b"a,b\n1\n", "not a readable CSV"),
        ("p.csv", b"", "not a readable CSV"),
        ("p.txt", b"\xff\xfe", "not UTF-8"),
        ("p.npz", b"PK\x03\x04", "no plain arrays"),
        ("p.parquet", b"PAR1", "not a readable Parquet"),
    ],
)
def test_damaged_files_end_with_exit_code_3(tmp_path: Path, name: str, content: bytes, words: str) -> None:
    (tmp_path / name).write_bytes(content)
    refused(DataError, tmp_path / name, words)


def test_files_that_are_not_there_or_not_read_end_with_exit_code_2(tmp_path: Path) -> None:
    refused(UsageError, tmp_path / "none.csv", "There is no")
    (tmp_path / "p.pkl").write_bytes(b"x")
    refused(UsageError, tmp_path / "p.pkl", "are read from")
    (tmp_path / "empty").mkdir()
    refused(UsageError, tmp_path / "empty", "no file of predictions")


def labels(path: Path) -> list[Any]:
    found: Answers = read_labels(path)
    assert found.labels is not None
    return found.labels.tolist()


def test_labels_are_a_column_of_that_name_or_the_only_one(tmp_path: Path) -> None:
    assert labels(_csv(tmp_path)) == TRUTH
    (tmp_path / "one.csv").write_text("whatever,index\ncat,0\ndog,1\n")
    assert labels(tmp_path / "one.csv") == ["cat", "dog"]
    np.save(tmp_path / "one.npy", np.array(TRUTH))
    assert labels(tmp_path / "one.npy") == TRUTH
    (tmp_path / "one.txt").write_text("3\n1\n2\n")
    assert labels(tmp_path / "one.txt") == [3, 1, 2]
    (tmp_path / "two.txt").write_text("big cat\ndog\n")
    assert labels(tmp_path / "two.txt") == ["big cat", "dog"]
    (tmp_path / "two.csv").write_text("a,b\n1,2\n")
    with pytest.raises(DataError, match="no column of labels"):
        read_labels(tmp_path / "two.csv")


def test_images_are_told_from_labels(tmp_path: Path) -> None:
    np.savez(tmp_path / "labels.npz", label=np.arange(3))
    np.savez(tmp_path / "images.npz", x=np.zeros((3, 4, 4), np.uint8), y=np.arange(3))
    pq.write_table(
        pa.table({"image": [{"bytes": b"x", "path": "y"}], "label": [0]}), tmp_path / "images.parquet"
    )
    assert not holds_images(tmp_path / "labels.npz")
    assert holds_images(tmp_path / "images.npz")
    assert holds_images(tmp_path / "images.parquet")
    assert not holds_images(_parquet(tmp_path))
