"""The manifest's file: its schema, what of a foreign table it takes over, what is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dataset_audit.errors import AuditError, DataError, MismatchError
from dataset_audit.tables import parquet, sidecar
from dataset_audit.tables.manifest import ManifestTable, Selection
from dataset_audit.tables.provenance import Provenance
from dataset_audit.tables.scores import ScoreTable

ORIGIN = Provenance(spec="drawn", fingerprint="f" * 64, n=4, class_names=("cat", "dog"), seeds=(1,))
CHOICE = {
    "audit.keep": '{"count": 2, "text": "0.5"}', "audit.policy": '{"policy": "hardest"}', "audit.by": '["aum"]',
    "audit.seed": "1", "audit.scores_sha256": "0" * 64, "audit.nested": "true",
}  # fmt: skip


def scores(**more: Any) -> ScoreTable:
    data: dict[str, Any] = {
        "index": np.array([3, 0, 2, 1]),
        "uid": ["a" * 32, None, "b" * 32, "c" * 32],
        "file_name": ["d.png", "a.png", "c.png", "b.png"],
        "label": np.array([1, 0, 1, 0]),
        "class_name": ["dog", "cat", "dog", "cat"],
        "split": ["train"] * 4,
        "aum": np.array([0.3, 0.0, 0.2, 0.1], np.float32),
    }
    return ScoreTable.of(data | more, ORIGIN)


def selection(**more: Any) -> Selection:
    given: dict[str, Any] = {
        "keep": np.array([True, False, True, False]),
        "rank": np.array([1, -1, 0, -1]),
        "stratum": np.array([4, -1, 0, -1]),
        "reason": np.array(["policy", "easy", "policy", "beta"]),
        "scores": ("aum",),
        "all_rows": True,
    }
    return Selection(**given | more)


def write(path: Path, made: ManifestTable | None = None) -> Path:
    if made is None:
        made = ManifestTable.of(scores(), selection(), ORIGIN, CHOICE)
    made.write(path, document=sidecar.document("manifest", path, rows=len(made), config={}, facts={}))
    return path


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return write(tmp_path / "m.parquet")


def test_the_schema_is_that_of_the_format(path: Path) -> None:
    schema = parquet.schema(path)
    text = pa.dictionary(pa.int32(), pa.string())
    assert {field.name: field.type for field in schema} == {
        "index": pa.int64(), "uid": pa.string(), "file_name": pa.string(), "label": pa.int32(), "class_name": text,
        "split": text, "keep": pa.bool_(), "keep_rank": pa.int64(), "weight": pa.float32(), "stratum": pa.int32(),
        "reason": text, "aum": pa.float32(),
    }  # fmt: skip
    assert [field.name for field in schema if not field.nullable] == ["index", "keep", "weight"]


def test_rows_are_ordered_by_index_and_nulls_stand_where_nothing_is_known(path: Path) -> None:
    assert ManifestTable.read(path).data.to_pydict() == {
        "index": [0, 1, 2, 3], "uid": [None, "c" * 32, "b" * 32, "a" * 32],
        "file_name": ["a.png", "b.png", "c.png", "d.png"], "label": [0, 0, 1, 1],
        "class_name": ["cat", "cat", "dog", "dog"], "split": ["train"] * 4,
        "keep": [False, False, True, True], "keep_rank": [None, None, 0, 1], "weight": [0, 0, 1, 1],
        "stratum": [None, None, 0, 4], "reason": ["easy", "beta", "policy", "policy"],
        "aum": pytest.approx([0, 0.1, 0.2, 0.3]),
    }  # fmt: skip


def test_dropped_rows_are_left_out_unless_asked_for(tmp_path: Path) -> None:
    made = ManifestTable.of(scores(), selection(all_rows=False, rank=None), ORIGIN, CHOICE)
    back = ManifestTable.read(write(tmp_path / "m.parquet", made))
    assert back.data["index"].to_pylist() == [2, 3]
    assert back.data["keep"].to_pylist() == [True, True]
    assert "keep_rank" not in back.data.column_names


def test_the_footer_tells_origin_and_choice(path: Path) -> None:
    footer = parquet.metadata(path)
    assert footer["audit.format"] == "manifest"
    assert CHOICE.items() <= footer.items()
    back = ManifestTable.read(path)
    assert (back.provenance.spec, back.provenance.n, back.provenance.class_names) == (
        "drawn",
        4,
        ("cat", "dog"),
    )
    assert back.policy() == {"policy": "hardest"}
    assert CHOICE.items() <= back.choice.items()


def test_p3_two_writes_give_equal_bytes_whatever_the_row_order_was(tmp_path: Path, path: Path) -> None:
    assert write(tmp_path / "again.parquet").read_bytes() == path.read_bytes()


def test_the_orientation_of_the_score_stays(path: Path) -> None:
    assert parquet.schema(path).field("aum").metadata[b"hard"] == b"low"


@pytest.mark.parametrize("name", ["weight", "keep", "reason", "stratum", "keep_rank", "label"])
def test_a_score_that_has_the_name_of_a_decision_does_not_take_its_place(tmp_path: Path, name: str) -> None:
    table = scores(**{name: np.array([1, 0, 1, 0])})
    made = ManifestTable.of(table, selection(scores=(name,)), ORIGIN, CHOICE)
    data = ManifestTable.read(write(tmp_path / "m.parquet", made)).data
    assert data["keep"].to_pylist() == [False, False, True, True]
    assert data["weight"].to_pylist() == [0, 0, 1, 1]
    assert data["reason"].to_pylist() == ["easy", "beta", "policy", "policy"]
    assert data["label"].to_pylist() == [0, 0, 1, 1]


def test_t10_columns_of_a_foreign_table_get_the_types_of_the_format(tmp_path: Path) -> None:
    foreign = tmp_path / "f.parquet"
    names = pa.array(["dog", "cat", None, "cat"], pa.large_string())
    columns = {
        "index": pa.array([3, 0, 2, 1], pa.int16()), "uid": names, "label": pa.array([1.0, 0.0, None, 0.0]),
        "class_name": names.cast(pa.dictionary(pa.int8(), pa.large_string())), "split": names,
        "mine": [1.0, 2.0, 3.0, 4.0],
    }  # fmt: skip
    pq.write_table(pa.table(columns), foreign)
    made = ManifestTable.of(ScoreTable.read(foreign), selection(scores=("mine",)), ORIGIN, CHOICE)
    back = ManifestTable.read(write(tmp_path / "m.parquet", made)).data
    wanted = parquet.schema(write(tmp_path / "w.parquet"))
    for name in ("index", "uid", "label", "class_name", "split"):
        assert back.schema.field(name).type == wanted.field(name).type, name
    assert back["label"].to_pylist() == [0, 0, None, 1]
    assert back["class_name"].to_pylist() == ["cat", "cat", None, "dog"]


def test_t10_a_label_that_int32_cannot_hold_is_refused(tmp_path: Path) -> None:
    table = ScoreTable(pa.table({"index": [0, 1, 2, 3], "label": [0, 0, 0, 2**31]}), None)
    with pytest.raises(DataError, match="Column label"):
        ManifestTable.of(table, selection(scores=()), ORIGIN, CHOICE)


def flipped(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def without_footer(path: Path) -> None:
    parquet.write(path, parquet.read(path), {})
    sidecar.sidecar_path(path).unlink()


def without_column(name: str) -> Callable[[Path], None]:
    def drop(path: Path) -> None:
        footer = {key: value for key, value in parquet.metadata(path).items() if key.startswith("audit.")}
        parquet.write(path, parquet.read(path).drop_columns([name]), footer)
        sidecar.sidecar_path(path).unlink()

    return drop


def of_scores(path: Path) -> None:
    scores().write(path, document=sidecar.document("scores", path, rows=4, config={}, facts={}))


def scores_without_sidecar(path: Path) -> None:
    of_scores(path)
    sidecar.sidecar_path(path).unlink()


def other_command(path: Path) -> None:
    beside = sidecar.sidecar_path(path)
    beside.write_text(json.dumps(json.loads(beside.read_text()) | {"format": "scores"}))


BAD: dict[str, tuple[Callable[[Path], object], type[AuditError], str]] = {
    "T3-flipped": (flipped, DataError, "unfinished or changed"),
    "T1-empty": (lambda path: path.write_bytes(b""), DataError, "m.parquet"),
    "T17-old-sidecar": (
        lambda path: sidecar.sidecar_path(path).write_text('{"audit": 1}'),
        DataError,
        "unfinished",
    ),
    "T17-other-command": (other_command, MismatchError, "belongs to a scores table"),
    "T17-newer": (lambda path: sidecar.sidecar_path(path).write_text('{"audit": 2}'), DataError, "newer"),
    "T16-scores": (of_scores, MismatchError, "belongs to a scores table"),
    "T16-scores-alone": (scores_without_sidecar, MismatchError, "is a scores table, not a manifest"),
    "T6-foreign": (without_footer, DataError, "no manifest of audit"),
    **{
        f"T6-no-{name}": (without_column(name), DataError, f"lacks {name}")
        for name in ("index", "keep", "weight")
    },
}


@pytest.mark.parametrize(("spoil", "kind", "says"), BAD.values(), ids=BAD)
def test_what_is_no_manifest_or_a_damaged_one_is_refused(
    path: Path, spoil: Callable[[Path], object], kind: type[AuditError], says: str
) -> None:
    spoil(path)
    with pytest.raises(kind, match=says) as raised:
        ManifestTable.read(path)
    assert str(path.stem) in str(raised.value)


def column(name: str, values: pa.Array) -> Callable[[Path], None]:
    def put(path: Path) -> None:
        footer = {key: value for key, value in parquet.metadata(path).items() if key.startswith("audit.")}
        data = parquet.read(path)
        parquet.write(path, data.set_column(data.column_names.index(name), name, values), footer)
        sidecar.sidecar_path(path).unlink()

    return put


FORGED: dict[str, Callable[[Path], None]] = {
    "T7-duplicates": column("index", pa.array([0, 1, 1, 2])),
    "T7-negative": column("index", pa.array([0, 1, -1, 2])),
    "T7-null": column("index", pa.array([0, 1, None, 2])),
    "T7-float": column("index", pa.array([0.0, 1.0, 2.0, 3.0])),
    "T7-text": column("index", pa.array(["0", "1", "2", "3"])),
    "T10-keep-text": column("keep", pa.array(["yes", "no", "yes", "no"])),
    "T10-keep-null": column("keep", pa.array([True, None, True, False])),
    "T8-weight-null": column("weight", pa.array([1.0, None, 1.0, 0.0])),
    "T8-weight-nan": column("weight", pa.array([1.0, float("nan"), 1.0, 0.0])),
    "T8-weight-infinite": column("weight", pa.array([1.0, float("inf"), 1.0, 0.0])),
    "T8-weight-negative": column("weight", pa.array([1.0, -1.0, 1.0, 0.0])),
    "T9-label-text": column("label", pa.array(["0", "1", "0", "1"])),
    "T9-label-too-large": column("label", pa.array([0, 1, 2, 0])),
}


@pytest.mark.parametrize("forge", FORGED.values(), ids=FORGED)
def test_a_manifest_whose_values_make_no_sense_is_bad_data(path: Path, forge: Callable[[Path], None]) -> None:
    """Without its sidecar, so that only the values can tell."""
    forge(path)
    with pytest.raises(DataError) as raised:
        ManifestTable.read(path)
    assert raised.value.exit_code == 3


def test_t5_an_empty_manifest_is_refused(tmp_path: Path) -> None:
    made = ManifestTable.of(scores(), selection(keep=np.zeros(4, bool), all_rows=False), ORIGIN, CHOICE)
    with pytest.raises(DataError, match="no rows"):
        ManifestTable.read(write(tmp_path / "m.parquet", made))
