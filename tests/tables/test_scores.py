"""Score tables: the stated schema, equal bytes, damage that is found, and other people's tables."""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dataset_audit.errors import AuditError, DataError, MismatchError, UsageError
from dataset_audit.tables import parquet, sidecar
from dataset_audit.tables.scores import COLUMNS, Provenance, ScoreTable, read_shard, write_shard

ORIGIN = Provenance(
    spec="drawn", fingerprint="f" * 64, n=4, class_names=("cat", "dog"), config={"a": 1}, seeds=(1, 2),
    recommended={"by": "aum"}, epochs={"el2n": [20]}, opened={"split": "train"},
)  # fmt: skip


def columns() -> dict[str, Any]:
    return {
        "index": np.arange(4),
        "uid": ["a" * 32, "b" * 32, None, "c" * 32],
        "label": np.ma.masked_array([0, 1, 0, 0], mask=[False, False, False, True]),
        "class_name": ["cat", "dog", "cat", None],
        "presentations": np.array([3, 3, 0, 3]),
        "aum": np.array([1.5, np.nan, np.inf, -2.0], np.float32),
        "el2n": np.zeros(4, np.float32),
        "never_learned": np.array([False, True, False, False]),
        "aum_runs": np.arange(8, dtype=np.float32).reshape(4, 2),
        "zebra": np.arange(4),
    }


def written(path: Path, data: dict[str, Any] | None = None) -> Path:
    document = sidecar.document("scores", path, rows=4, config=ORIGIN.config, facts={"trained": True})
    ScoreTable.of(data or columns(), ORIGIN).write(path, document=document)
    return path


def test_types_order_and_orientation_are_those_of_the_format(tmp_path: Path) -> None:
    schema = parquet.schema(written(tmp_path / "s.parquet"))
    assert schema.names[-2:] == ["aum_runs", "zebra"]
    kinds = {name: str(schema.field(name).type) for name in schema.names}
    assert kinds["index"] == "int64"
    assert kinds["uid"] == "string"
    assert kinds["label"] == "int32"
    assert kinds["class_name"].startswith("dictionary<values=string, indices=int32")
    assert kinds["aum"] == "float"
    assert kinds["aum_runs"] == "fixed_size_list<item: float>[2]" or kinds["aum_runs"].startswith(
        "fixed_size_list"
    )
    assert schema.field("aum").metadata[b"hard"] == b"low"
    assert json.loads(schema.field("el2n").metadata[b"epochs"]) == [20]
    assert not schema.field("index").nullable


def test_reading_gives_back_what_was_written_and_null_for_what_is_no_number(tmp_path: Path) -> None:
    table = ScoreTable.read(written(tmp_path / "s.parquet"), strict=True)
    assert table.provenance is not None
    assert table.provenance.seeds == (1, 2)
    assert table.provenance.recommended == {"by": "aum"}
    assert table.provenance.opened == {"split": "train"}
    assert table.floats("aum")[[0, 3]].tolist() == [1.5, -2.0]
    assert np.isnan(table.floats("aum")[[1, 2]]).all()
    assert table.data["aum"].null_count == 2  # null in the file, never NaN
    assert table.integers("label").tolist() == [0, 1, 0, -1]
    assert table.flags("never_learned").tolist() == [False, True, False, False]
    assert table.strings("class_name") == ["cat", "dog", "cat", None]
    assert table.equals("class_name", "cat").tolist() == [True, False, True, False]


def test_two_writes_give_equal_bytes(tmp_path: Path) -> None:
    assert written(tmp_path / "a.parquet").read_bytes() == written(tmp_path / "b.parquet").read_bytes()


def test_every_flipped_bit_is_found(tmp_path: Path) -> None:
    path = written(tmp_path / "s.parquet")
    good = path.read_bytes()
    for place in np.linspace(0, len(good) - 1, 60, dtype=int):
        bad = bytearray(good)
        bad[place] ^= 1 << (place % 8)
        path.write_bytes(bad)
        with pytest.raises(DataError):
            ScoreTable.read(path)


def test_without_the_sidecar_a_flipped_page_is_still_found_by_its_checksum(tmp_path: Path) -> None:
    path = tmp_path / "s.parquet"
    numbers = np.random.default_rng(0).normal(size=5000)
    parquet.write(path, pa.table({"index": np.arange(5000), "mine": numbers}), {})
    chunk = pq.read_metadata(path).row_group(0).column(1)
    good = path.read_bytes()
    for share in (0.2, 0.5, 0.8):
        bad = bytearray(good)
        bad[chunk.data_page_offset + int(chunk.total_compressed_size * share)] ^= 4
        path.write_bytes(bad)
        with pytest.raises(DataError, match="damaged"):
            ScoreTable.read(path)


BROKEN = {
    "T1 empty": b"",
    "T1 eight bytes": b"PAR1PAR1",
    "T1 html": b"<!doctype html><html></html>" * 10,
    "T1 long footer": b"PAR1" + b"\0" * 20 + (2**31 - 1).to_bytes(4, "little") + b"PAR1",
}


@pytest.mark.parametrize("content", BROKEN.values(), ids=BROKEN)
def test_what_is_no_parquet_is_bad_data(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "s.parquet"
    path.write_bytes(content)
    with pytest.raises(DataError, match="not a readable Parquet file") as raised:
        ScoreTable.read(path)
    assert raised.value.exit_code == 3


def test_half_a_file_is_bad_data(tmp_path: Path) -> None:
    path = written(tmp_path / "s.parquet")
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(DataError):
        ScoreTable.read(path)


def foreign(tmp_path: Path, **data: Any) -> Path:
    path = tmp_path / "f.parquet"
    pq.write_table(pa.table(data), path)
    return path


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "T5 no rows": ({"index": pa.array([], pa.int64())}, "no rows"),
    "T6 no identity": ({"mine": [1.0]}, "neither index nor uid"),
    "T7 duplicates": ({"index": [0, 1, 1, 2]}, "1 duplicates"),
    "T7 negative": ({"index": [0, -1]}, "negative"),
    "T7 null": ({"index": [0, None]}, "1 nulls"),
    "T7 float": ({"index": [0.0, 1.0]}, "not an integer"),
    "T7 text": ({"index": ["0", "1"]}, "not an integer"),
}


@pytest.mark.parametrize(("data", "says"), REFUSED.values(), ids=REFUSED)
def test_rows_that_name_no_example_are_refused(tmp_path: Path, data: dict[str, Any], says: str) -> None:
    with pytest.raises(DataError, match=says):
        ScoreTable.read(foreign(tmp_path, **data))


ACCEPTED: dict[str, Any] = {
    "T10 float16": np.array([1, 2, 3], np.float16),
    "T10 float64": [1.0, 2.0, 3.0],
    "T10 int8": pa.array([1, 2, 3], pa.int8()),
    "T10 uint64": pa.array([1, 2, 3], pa.uint64()),
    "T10 decimal": [Decimal("1.0"), Decimal("2.0"), Decimal("3.0")],
    "T10 dictionary": pa.array([1.0, 2.0, 3.0]).dictionary_encode(),
}


@pytest.mark.parametrize("values", ACCEPTED.values(), ids=ACCEPTED)
def test_scalar_numbers_of_any_type_are_read(tmp_path: Path, values: Any) -> None:
    table = ScoreTable.read(foreign(tmp_path, index=[0, 1, 2], mine=values))
    assert table.floats("mine").tolist() == [1, 2, 3]
    assert table.provenance is None


def test_a_nested_column_is_refused_by_name_and_type(tmp_path: Path) -> None:
    table = ScoreTable.read(foreign(tmp_path, index=[0, 1], mine=[[1.0], [2.0]]))
    with pytest.raises(DataError, match="Column mine is list"):
        table.floats("mine")


def test_a_column_twice_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "f.parquet"
    pq.write_table(pa.Table.from_arrays([pa.array([0]), pa.array([1])], names=["index", "index"]), path)
    with pytest.raises(DataError, match="twice"):
        ScoreTable.read(path)


def test_a_rewrite_that_drops_footer_and_field_metadata_keeps_the_orientation_by_name(tmp_path: Path) -> None:
    """As pandas and polars rewrite a file."""
    data = pq.read_table(written(tmp_path / "s.parquet"))
    bare = pa.table({name: data[name] for name in data.column_names})
    pq.write_table(
        bare.cast(pa.schema([field.remove_metadata() for field in bare.schema])), tmp_path / "t.parquet"
    )
    table = ScoreTable.read(tmp_path / "t.parquet")
    assert table.provenance is None
    assert table.hard("aum") == "low"
    assert table.hard("zebra") is None


def test_an_absent_column_names_those_there_are(tmp_path: Path) -> None:
    table = ScoreTable.read(foreign(tmp_path, index=[0, 1], mine=[1.0, 2.0]))
    with pytest.raises(UsageError, match="no column 'yours'") as raised:
        table.floats("yours")
    assert "mine" in raised.value.where


def test_a_path_that_is_no_file_is_a_usage_error(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "absent.parquet"):
        with pytest.raises(UsageError):
            ScoreTable.read(path)


SIDECARS: dict[str, tuple[bytes, type[AuditError], str]] = {
    "T17 no JSON": (b"{", DataError, "not a readable sidecar"),
    "T17 no object": (b"[]", DataError, "no sidecar of audit"),
    "T17 other hash": (b'{"audit": 1, "sha256": "00"}', DataError, "does not have the hash"),
    "T17 newer": (b'{"audit": 99, "sha256": "00"}', DataError, "newer audit"),
    "T17 NaN": (b'{"audit": 1, "x": NaN}', DataError, "NaN is no number"),
    "T17 key twice": (b'{"audit": 1, "audit": 1}', DataError, "stands twice"),
    "T17 deep": (b"[" * 100_000, DataError, "not a readable sidecar"),
}


@pytest.mark.parametrize(("content", "kind", "says"), SIDECARS.values(), ids=SIDECARS)
def test_a_sidecar_that_does_not_fit_is_refused(
    tmp_path: Path, content: bytes, kind: type[AuditError], says: str
) -> None:
    path = written(tmp_path / "s.parquet")
    sidecar.sidecar_path(path).write_bytes(content)
    with pytest.raises(kind, match=says):
        ScoreTable.read(path)


def test_a_missing_sidecar_is_accepted_unless_strict(tmp_path: Path) -> None:
    path = written(tmp_path / "s.parquet")
    sidecar.sidecar_path(path).unlink()
    ScoreTable.read(path)
    with pytest.raises(DataError, match="--strict"):
        ScoreTable.read(path, strict=True)


def test_a_sidecar_of_another_command_is_a_mismatch(tmp_path: Path) -> None:
    path = written(tmp_path / "s.parquet")
    with pytest.raises(MismatchError, match="belongs to a scores table"):
        sidecar.verify(path, "manifest")


def test_a_sidecar_has_sorted_keys_no_environment_and_no_absolute_path(tmp_path: Path) -> None:
    text = sidecar.sidecar_path(written(tmp_path / "s.parquet")).read_text()
    assert text.endswith("}\n")
    assert list(json.loads(text)) == sorted(json.loads(text))
    assert str(tmp_path) not in text


def test_shards_give_back_their_arrays(tmp_path: Path) -> None:
    data = {
        "a": np.array([1, -1], np.int32),
        "b": np.array([1.5, np.nan], np.float32),
        "c": np.array([True, False]),
    }
    write_shard(tmp_path / "r.parquet", data, {"k": "v"})
    back, facts = read_shard(tmp_path / "r.parquet")
    assert facts["k"] == "v"
    for name, values in data.items():
        assert back[name].dtype == values.dtype
        assert np.array_equal(back[name], values, equal_nan=values.dtype.kind == "f")


def test_columns_of_different_length_are_refused() -> None:
    with pytest.raises(UsageError, match="different lengths"):
        ScoreTable.of({"index": np.arange(3), "aum": np.zeros(2)}, ORIGIN)


def test_every_score_has_a_formula_and_every_ranking_one_a_hard_end() -> None:
    for name, column in COLUMNS.items():
        assert column.formula, name
        assert column.unit, name
        assert column.hard in {"high", "low"} or name == "dual_confidence"
