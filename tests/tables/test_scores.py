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
from dataset_audit.tables.provenance import Provenance
from dataset_audit.tables.scores import COLUMNS, TYPES, ScoreTable

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
    "T7 uint64": ({"index": pa.array([0, 2**63], pa.uint64())}, "cannot be read as int64"),
    "T7 bool": ({"index": [False, True]}, "not an integer"),
    "T7 list": ({"index": [[0], [1]]}, "not an integer"),
    "T9 text": ({"index": [0, 1], "label": ["0", "1"]}, "label is text"),
    "T9 below": ({"index": [0, 1], "label": [0, -2]}, "label is -2 in row 1"),
    "T9 above": ({"index": [0, 1], "label": [0, 2**40]}, "label is 1,099,511,627,776 in row 1"),
    "T9 fraction": ({"index": [0, 1], "label": [0.0, 0.5]}, "Column label is double"),
    "T10 timestamp label": ({"index": [0], "label": pa.array([1], pa.timestamp("us"))}, "label is timestamp"),
    "T10 struct label": ({"index": [0], "label": [{"a": 1}]}, "label is struct"),
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
    "T10 dictionary of integers": pa.array([1, 2, 3]).dictionary_encode(),
    "T10 chunks": pa.chunked_array([[1.0], [2.0, 3.0]]),
}


@pytest.mark.parametrize("values", ACCEPTED.values(), ids=ACCEPTED)
def test_scalar_numbers_of_any_type_are_read(tmp_path: Path, values: Any) -> None:
    table = ScoreTable.read(foreign(tmp_path, index=[0, 1, 2], mine=values))
    assert table.floats("mine").tolist() == [1, 2, 3]
    assert table.provenance is None


NO_NUMBERS: dict[str, tuple[Any, type[AuditError], str]] = {
    "T10 list": ([[1.0], [2.0]], DataError, "Column mine is list"),
    "T10 struct": ([{"a": 1.0}, {"a": 2.0}], DataError, "Column mine is struct"),
    "T10 timestamp": (pa.array([1, 2], pa.timestamp("us")), DataError, "Column mine is timestamp"),
    "T10 date": (pa.array([1, 2], pa.date32()), DataError, "Column mine is date32"),
    "T10 duration": (pa.array([1, 2], pa.duration("s")), DataError, "Column mine is duration"),
    "T10 binary": ([b"1", b"2"], DataError, "Column mine is binary"),
    "T10 large integer": ([2**60 + 1, 1], DataError, "cannot be read as double"),
    "T8 text": (["1.0", "2.0"], UsageError, "Column mine is text"),
    "T8 large text": (pa.array(["1.0", "2.0"], pa.large_string()), UsageError, "Column mine is text"),
    "T8 text view": (pa.array(["1.0", "2.0"], pa.string_view()), UsageError, "Column mine is text"),
    "T8 category": (pa.array(["1.0", "2.0"]).dictionary_encode(), UsageError, "Column mine is text"),
}


@pytest.mark.parametrize(("values", "kind", "says"), NO_NUMBERS.values(), ids=NO_NUMBERS)
def test_what_is_no_number_is_refused_by_name_and_type(
    tmp_path: Path, values: Any, kind: type[AuditError], says: str
) -> None:
    table = ScoreTable.read(foreign(tmp_path, index=[0, 1], mine=values))
    with pytest.raises(kind, match=says):
        table.floats("mine")


TEXTS: dict[str, pa.Array] = {
    "T10 large_string": pa.array(["cat", None, "dog"], pa.large_string()),
    "T10 string_view": pa.array(["cat", None, "dog"], pa.string_view()),
    "T10 category of polars": pa.array(["cat", None, "dog"]).cast(
        pa.dictionary(pa.uint32(), pa.large_string())
    ),
    "T10 category of pandas": pa.array(["cat", None, "dog"]).cast(pa.dictionary(pa.int8(), pa.string())),
}


@pytest.mark.parametrize("values", TEXTS.values(), ids=TEXTS)
def test_texts_of_any_type_are_read_and_made_ours(tmp_path: Path, values: pa.Array) -> None:
    table = ScoreTable.read(foreign(tmp_path, index=[0, 1, 2], class_name=values, uid=values))
    assert table.strings("class_name") == ["cat", None, "dog"]
    assert table.equals("class_name", "dog").tolist() == [False, False, True]
    assert table.typed("class_name").type == pa.dictionary(pa.int32(), pa.string())
    assert table.typed("uid").type == pa.string()
    assert table.uid_words().tolist() == [[0, 0]] * 3  # type: ignore[union-attr]  # no uid of ours


def test_t10_a_dictionary_of_more_values_than_its_index_holds_gives_no_wrong_label(tmp_path: Path) -> None:
    names = pa.array([f"class {i}" for i in range(200)])
    short = pa.DictionaryArray.from_arrays(pa.array(range(200), pa.uint8()), names)
    table = ScoreTable.read(foreign(tmp_path, index=range(200), class_name=short))
    assert table.strings("class_name") == names.to_pylist()


INDICES: dict[str, tuple[Any, list[int]]] = {
    "T7 gaps": ([5, 2, 90], [5, 2, 90]),
    "T7 int8": (pa.array([0, 1, 2], pa.int8()), [0, 1, 2]),
    "T7 uint64": (pa.array([0, 1, 2**62], pa.uint64()), [0, 1, 2**62]),
}


@pytest.mark.parametrize(("values", "wanted"), INDICES.values(), ids=INDICES)
def test_integers_of_any_width_are_an_index(tmp_path: Path, values: Any, wanted: list[int]) -> None:
    assert ScoreTable.read(foreign(tmp_path, index=values)).integers("index").tolist() == wanted


def test_t9_labels_of_ours_are_classes_or_none(tmp_path: Path) -> None:
    data = columns() | {"label": np.array([0, 1, 2, -1])}
    with pytest.raises(DataError, match="label is 2 in row 2, of 2 classes"):
        ScoreTable.read(written(tmp_path / "s.parquet", data))


def test_t9_labels_that_pandas_made_floats_are_read(tmp_path: Path) -> None:
    table = ScoreTable.read(foreign(tmp_path, index=[0, 1, 2], label=[0.0, None, 3.0]))
    assert table.integers("label").tolist() == [0, -1, 3]


def test_t11_what_pandas_adds_and_names_that_differ_by_case_do_not_matter(tmp_path: Path) -> None:
    path = tmp_path / "f.parquet"
    data = pa.table({"mine": [1.0], "MINE": [2.0], "__index_level_0__": [7], "index": [0]})
    pq.write_table(data.replace_schema_metadata({"pandas": '{"index_columns": ["__index_level_0__"]}'}), path)
    table = ScoreTable.read(path)
    assert table.floats("mine").tolist() == [1.0]
    assert table.floats("MINE").tolist() == [2.0]


FOOTERS: dict[str, dict[str, str]] = {
    "S2 no class names": {"audit.class_names": ""},
    "S2 class names are a number": {"audit.class_names": "5"},
    "S2 class names are a text": {"audit.class_names": '"cat"'},
    "S2 class names are numbers": {"audit.class_names": "[1, 2]"},
    "S2 class names are deep": {"audit.class_names": "[" * 100_000},
    "S2 rows are no number": {"audit.n": "many"},
    "S2 seeds are texts": {"audit.seeds": '["a"]'},
    "S2 recommendation is a list": {"audit.recommended": "[]"},
    "S2 opened is null": {"audit.opened": "null"},
    "T17 newer footer": {"audit.version": "2"},
}


@pytest.mark.parametrize("change", FOOTERS.values(), ids=FOOTERS)
def test_a_forged_or_newer_footer_is_bad_data(tmp_path: Path, change: dict[str, str]) -> None:
    path = tmp_path / "s.parquet"
    made = ScoreTable.of(columns(), ORIGIN)
    parquet.write(path, made.data, ORIGIN.footer("scores") | change)
    with pytest.raises(DataError, match=r"damaged footer|newer audit") as raised:
        ScoreTable.read(path)
    assert str(path) in str(raised.value)


@pytest.mark.parametrize("missing", ["audit.spec", "audit.fingerprint", "audit.n", "audit.class_names"])
def test_a_footer_that_lacks_a_key_is_bad_data(tmp_path: Path, missing: str) -> None:
    path = tmp_path / "s.parquet"
    footer = {key: value for key, value in ORIGIN.footer("scores").items() if key != missing}
    parquet.write(path, ScoreTable.of(columns(), ORIGIN).data, footer)
    with pytest.raises(DataError, match="damaged footer"):
        ScoreTable.read(path)


def test_h8_a_reader_never_sees_half_of_each_of_two_tables(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The pair is replaced after its hash was compared and before its pages are read."""
    path = written(tmp_path / "s.parquet")
    real = parquet.read

    def late(*arguments: Any) -> pa.Table:
        written(path, columns() | {"aum": np.zeros(4, np.float32)})
        return real(*arguments)

    monkeypatch.setattr(parquet, "read", late)
    with pytest.raises(DataError, match="changed while it was read"):
        ScoreTable.read(path)


def test_field_metadata_is_that_of_every_known_score(tmp_path: Path) -> None:
    data = {"index": np.arange(2), "presentations": np.ones(2)} | {name: np.zeros(2) for name in COLUMNS}
    data |= {f"{name}_std": np.zeros(2) for name in ("aum", "forgetting")}
    schema = parquet.schema(written(tmp_path / "s.parquet", data))
    for name, column in COLUMNS.items():
        told = schema.field(name).metadata or {}
        assert told.get(b"hard", b"").decode() == (column.hard or "")
        assert told[b"unit"].decode() == column.unit
        assert told[b"source"].decode() == column.source
    assert b"hard" not in (schema.field("aum_std").metadata or {})
    nullable = [field.name for field in schema if not field.nullable]
    assert nullable == ["index", "presentations"]


def test_the_order_of_columns_is_that_of_the_format_then_foreign_ones_by_name(tmp_path: Path) -> None:
    names = list(TYPES)
    data: dict[str, Any] = {name: np.zeros(2) for name in ("zebra", "ape", *reversed(names))}
    data |= {name: ["a", "b"] for name in names if TYPES[name] == pa.string() or "dict" in str(TYPES[name])}
    data |= {"index": np.arange(2)}
    schema = parquet.schema(written(tmp_path / "s.parquet", data))
    assert schema.names == [*names, "ape", "zebra"]
    for name in names:
        assert schema.field(name).type == TYPES[name], name


def test_the_footer_has_the_keys_of_the_format_and_no_place_or_time(tmp_path: Path) -> None:
    footer = parquet.metadata(written(tmp_path / "s.parquet"))
    keys = {"format", "version", "fingerprint", "spec", "n", "class_names", "config", "seeds", "recommended"}
    assert {f"audit.{key}" for key in keys | {"package"}} <= set(footer)
    assert footer["audit.format"] == "scores"
    assert footer["audit.version"] == "1"
    assert footer["audit.class_names"] == '["cat", "dog"]'
    assert len(footer["audit.config"]) == 64
    assert str(tmp_path) not in "".join(footer.values())


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


def test_columns_of_different_length_are_refused() -> None:
    with pytest.raises(UsageError, match="different lengths"):
        ScoreTable.of({"index": np.arange(3), "aum": np.zeros(2)}, ORIGIN)


def test_every_score_has_a_formula_and_every_ranking_one_a_hard_end() -> None:
    for name, column in COLUMNS.items():
        assert column.formula, name
        assert column.unit, name
        assert column.hard in {"high", "low"} or name == "dual_confidence"
