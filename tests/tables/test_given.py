"""Known labels and probabilities from files: every format, matched by key or place, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dataset_audit.errors import AuditError, DataError, MismatchError, UsageError
from dataset_audit.tables.given import Rows, read_labels, read_probabilities
from dataset_audit.tables.provenance import Provenance
from dataset_audit.tables.scores import ScoreTable

CLASSES = ("cat", "dog", "emu")
INDEX = np.array([0, 1, 2, 3, 5])  # row 4 was never listed
ROWS = Rows(scores=Path("s.parquet"), index=INDEX, uids=[f"{i:032x}" for i in INDEX], n=6, classes=CLASSES)
TRUTH = [2, 0, 1, 1, 9, 0]  # of all six examples; the fifth is no row of the table
WANTED = [2, 0, 1, 1, 0]


def parquet(path: Path, **columns: Any) -> Path:
    pq.write_table(pa.table(columns), path)
    return path


def test_every_format_says_the_same(tmp_path: Path) -> None:
    six = [2, 0, 1, 1, 2, 0]
    names = [CLASSES[label] for label in six]
    np.save(tmp_path / "a.npy", np.array(six, np.uint8))
    np.save(tmp_path / "names.npy", np.array(names))
    np.savez(tmp_path / "b.npz", clean=np.array(six), unrelated=np.zeros(6))
    (tmp_path / "c.txt").write_text("\n".join(map(str, six)) + "\n")
    (tmp_path / "d.txt").write_text("\n".join(names) + "\n")
    (tmp_path / "e.csv").write_text("label\n" + "\n".join(names) + "\n")
    parquet(tmp_path / "f.parquet", clean_label=pa.array(six, pa.int8()), clean=[0] * 6)
    parquet(tmp_path / "g.parquet", what=pa.array(names).dictionary_encode())
    for path in sorted(tmp_path.iterdir()):
        assert read_labels(path, ROWS).tolist() == WANTED, path.name


def test_a_key_beats_the_place_and_missing_rows_are_unknown(tmp_path: Path) -> None:
    by_index = parquet(tmp_path / "a.parquet", index=[5, 3, 77], label=[1, 2, 0])
    assert read_labels(by_index, ROWS).tolist() == [-1, -1, -1, 2, 1]
    by_uid = parquet(tmp_path / "b.parquet", uid=[f"{2:032x}", "f" * 32], label=["emu", "dog"])
    assert read_labels(by_uid, ROWS).tolist() == [-1, -1, 2, -1, -1]
    unknown = parquet(tmp_path / "c.parquet", index=[0, 1, 2], label=pa.array([1, None, -1], pa.int64()))
    assert read_labels(unknown, ROWS).tolist() == [1, -1, -1, -1, -1]


@pytest.mark.parametrize(
    ("columns", "error", "said"),
    [
        ({"label": [0, 1]}, MismatchError, "2 rows, s.parquet was made for 6 examples"),
        ({"label": [0, 1, 2, 3, 0, 0]}, MismatchError, "label is 3 in row 3, of 3 classes"),
        ({"label": [0.5] * 6}, MismatchError, "label is 0.5"),
        ({"label": ["cat"] * 5 + ["cow"]}, MismatchError, "no classes of the scores: cow"),
        ({"index": [0, 0], "label": [1, 1]}, DataError, "1 duplicates"),
        ({"index": [70], "label": [1]}, MismatchError, "No index of"),
        ({"one": [0] * 6, "two": [0] * 6}, UsageError, "Which column"),
        ({"index": [0]}, UsageError, "Which column"),
        ({"label": pa.array([], pa.int32())}, DataError, "no rows"),
        ({"label": [[0, 1]] * 6}, DataError, "2 axes"),
    ],
)
def test_labels_that_do_not_fit_are_refused(
    tmp_path: Path, columns: dict[str, Any], error: type[AuditError], said: str
) -> None:
    with pytest.raises(error, match=said):
        read_labels(parquet(tmp_path / "a.parquet", **columns), ROWS)


def test_a_column_can_be_named(tmp_path: Path) -> None:
    path = parquet(tmp_path / "a.parquet", clean=[0] * 6, mine=[*TRUTH[:4], 1, 0])
    assert read_labels(path, ROWS, "mine").tolist() == WANTED
    with pytest.raises(UsageError, match="no column 'yours'"):
        read_labels(path, ROWS, "yours")


@pytest.mark.parametrize(
    ("name", "content", "error"),
    [
        ("a.npy", b"no array", DataError),
        ("a.npz", b"PK\x03\x04", DataError),
        ("a.parquet", b"PAR1", DataError),
        ("a.csv", b'a,b\n"unclosed', DataError),
        ("a.txt", b"\xff\xfe", DataError),
        ("a.pkl", b"", UsageError),
    ],
)
def test_damaged_files_and_other_formats_are_refused(
    tmp_path: Path, name: str, content: bytes, error: type[AuditError]
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(error):
        read_labels(tmp_path / name, ROWS)
    with pytest.raises(UsageError, match="There is no"):
        read_labels(tmp_path / "absent.npy", ROWS)


def test_nothing_is_unpickled(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(DataError, match="not a readable array"):
        read_labels(tmp_path / "a.npy", ROWS)


def probabilities() -> np.ndarray:
    raw = np.random.default_rng(3).random((6, 3)) + 0.1
    return raw / raw.sum(1, keepdims=True)


def test_probabilities_by_place_by_index_and_by_name(tmp_path: Path) -> None:
    p = probabilities()
    np.save(tmp_path / "a.npy", p.astype(np.float32))
    np.savez(tmp_path / "b.npz", probabilities=p)
    parquet(tmp_path / "c.parquet", p=list(p))
    parquet(tmp_path / "d.parquet", emu=p[:, 2], cat=p[:, 0], dog=p[:, 1])
    parquet(tmp_path / "e.parquet", p_emu=p[:, 2], p_cat=p[:, 0], p_dog=p[:, 1])
    for path in sorted(tmp_path.iterdir()):
        assert read_probabilities(path, ROWS) == pytest.approx(p[INDEX], abs=1e-6), path.name
    np.savez(tmp_path / "f.npz", index=np.array([3, 0]), p=p[:2])
    found = read_probabilities(tmp_path / "f.npz", ROWS)
    assert found[[3, 0]] == pytest.approx(p[:2])
    assert np.isnan(found[[1, 2, 4]]).all()


@pytest.mark.parametrize(
    ("change", "error", "said"),
    [
        (lambda p: p[:, :2] / p[:, :2].sum(1, keepdims=True), MismatchError, "of 2 classes, s.parquet has 3"),
        (np.log, DataError, "6 rows are no probabilities"),
        (lambda p: p * 1.01, DataError, "no probabilities"),
        (lambda p: np.where(p == p[2, 1], np.nan, p), DataError, "1 rows hold no finite"),
        (lambda p: p[:5], MismatchError, "5 rows"),
        (lambda p: p[:, 0], DataError, "0 matrices"),
    ],
)
def test_what_is_no_probability_is_refused(
    tmp_path: Path, change: Any, error: type[AuditError], said: str
) -> None:
    np.save(tmp_path / "a.npy", change(probabilities()))
    with pytest.raises(error, match=said):
        read_probabilities(tmp_path / "a.npy", ROWS)


def test_classes_of_a_foreign_table_are_read_from_its_rows() -> None:
    table = ScoreTable(
        pa.table(
            {
                "index": [0, 1, 7],
                "label": [2, 0, 0],
                "class_name": ["emu", "cat", "cat"],
                "x": [0.1, 0.2, 0.3],
            }
        ),
        None,
    )
    rows = Rows.of(table, Path("s.parquet"))
    assert rows.classes == ("cat", "1", "emu")
    assert rows.n == 8
    stated = ScoreTable.of(
        {"index": np.arange(2)}, Provenance(spec="", fingerprint="", n=9, class_names=CLASSES)
    )
    assert Rows.of(stated, Path("s.parquet")).n == 9
    assert Rows.of(stated, Path("s.parquet")).classes == CLASSES


@pytest.mark.real_data
def test_annotators_labels_are_read_as_they_lie(real_data: Path) -> None:
    """Wei et al. 2022: the first annotation is wrong in 17.2 % of CIFAR-10's training set, the worst in 40.2 %."""
    path = real_data / "cifar10n" / "cifar10n.parquet"
    names = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
    rows = Rows(scores=Path("s.parquet"), index=np.arange(50_000), uids=None, n=50_000, classes=names)
    clean = read_labels(path, rows)
    assert clean[:10].tolist() == [6, 9, 9, 4, 1, 1, 2, 7, 8, 3]
    wrong = {
        name: (read_labels(path, rows, name) != clean).mean() for name in ("random1", "aggregate", "worse")
    }
    assert wrong == pytest.approx({"random1": 0.17234, "aggregate": 0.0901, "worse": 0.40208}, abs=1e-9)
