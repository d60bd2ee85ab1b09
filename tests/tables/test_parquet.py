"""Parquet: our settings, equal bytes, damage found and named, other people's files."""

from __future__ import annotations

import errno
import os
import struct
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dataset_audit.errors import AuditError, DataError, EnvironmentProblem, UsageError
from dataset_audit.tables import parquet

ROOT = Path(__file__).parents[2]


def table(rows: int = 3000) -> pa.Table:
    rng = np.random.default_rng(0)
    return pa.table(
        {
            "index": np.arange(rows),
            "uid": [f"{i:032x}" for i in range(rows)],
            "class_name": pa.array([("cat", "dog")[i % 2] for i in range(rows)]).dictionary_encode(),
            "aum": rng.normal(size=rows).astype(np.float32),
            "status": pa.array(["ok"] * rows).dictionary_encode(),
        }
    )


@pytest.fixture
def path(tmp_path: Path) -> Path:
    parquet.write(tmp_path / "t.parquet", table(), {"b": "2", "a": "1"})
    return tmp_path / "t.parquet"


def test_the_settings_are_those_of_the_format(path: Path) -> None:
    facts = pq.ParquetFile(pa.OSFile(str(path), "rb")).metadata
    assert facts.format_version == "2.6"
    assert facts.num_row_groups == 1
    columns = {facts.row_group(0).column(i).path_in_schema: facts.row_group(0).column(i) for i in range(5)}
    assert {column.compression for column in columns.values()} == {"ZSTD"}
    assert all(column.statistics is not None for column in columns.values())
    dictionaries = {name for name, column in columns.items() if column.has_dictionary_page}
    assert dictionaries == {"class_name", "status"}


def test_row_groups_hold_a_million_rows(tmp_path: Path) -> None:
    rows = 2**20 + 1
    parquet.write(tmp_path / "t.parquet", pa.table({"index": np.zeros(rows, np.int8)}), {})
    facts = pq.ParquetFile(pa.OSFile(str(tmp_path / "t.parquet"), "rb")).metadata
    assert [facts.row_group(i).num_rows for i in range(2)] == [2**20, 1]


def test_p3_two_writes_give_equal_bytes_whatever_the_order_of_keys_name_and_process(
    path: Path, tmp_path: Path
) -> None:
    parquet.write(tmp_path / "other name.parquet", table(), {"a": "1", "b": "2"})
    assert path.read_bytes() == (tmp_path / "other name.parquet").read_bytes()
    chunks = pa.concat_tables([table().slice(0, 7), table().slice(7)]).combine_chunks()
    parquet.write(tmp_path / "c.parquet", chunks, {"a": "1", "b": "2"})
    assert path.read_bytes() == (tmp_path / "c.parquet").read_bytes()


def test_what_was_written_comes_back(path: Path) -> None:
    assert parquet.read(path).equals(table())
    assert parquet.read(path, ["aum"]).column_names == ["aum"]
    assert {"a": "1", "b": "2"}.items() <= parquet.metadata(path).items()
    assert parquet.schema(path).names == table().column_names


def test_names_and_footers_that_are_not_utf_8_are_written(tmp_path: Path) -> None:
    name = os.fsdecode(b"caf\xe9")
    path = tmp_path / f"{name}.parquet"
    parquet.write(path, table(2), {"audit.spec": name})
    assert parquet.read(path).num_rows == 2
    assert parquet.metadata(path)["audit.spec"] == "caf\\udce9"


def flip(path: Path, place: int, bit: int = 1) -> None:
    data = bytearray(path.read_bytes())
    data[place] ^= bit
    path.write_bytes(data)


@pytest.mark.parametrize("number", range(5), ids=[f"T2-{name}" for name in table(1).column_names])
def test_a_flipped_bit_in_a_page_is_found_and_its_column_named(path: Path, number: int) -> None:
    """In the page's header, which has no checksum, a flip may also change nothing that is read."""
    chunk = pq.ParquetFile(pa.OSFile(str(path), "rb")).metadata.row_group(0).column(number)
    first = chunk.dictionary_page_offset if chunk.has_dictionary_page else chunk.data_page_offset
    good, said = path.read_bytes(), []
    for place in np.linspace(0, chunk.total_compressed_size - 1, 12, dtype=int):
        path.write_bytes(good)
        flip(path, first + int(place), 16)
        try:
            assert parquet.read(path).equals(table())
        except DataError as error:
            said.append(str(error))
    assert len(said) >= 3
    for text in said:
        assert f"(checksum or values) in column {table(1).column_names[number]}:" in text
        assert str(path) in text


def test_t4_what_a_strangers_file_without_checksums_gives_is_an_error_or_a_table(path: Path) -> None:
    """A flip may pass there; it must not crash nor end in anything but an error of ours."""
    pq.write_table(table(300), path, compression="none")
    good = path.read_bytes()
    outcomes = set()
    for place in np.linspace(0, len(good) - 1, 150, dtype=int):
        path.write_bytes(good)
        flip(path, int(place), 1 << (int(place) % 8))
        try:
            parquet.read(path)
            outcomes.add("read")
        except DataError:
            outcomes.add("refused")
    assert outcomes == {"read", "refused"}


def test_a_flipped_bit_anywhere_ends_in_a_table_or_an_error_of_ours(path: Path) -> None:
    parquet.write(path, table(100), {"audit.format": "scores"})
    good = path.read_bytes()
    rng = np.random.default_rng(1)
    for _ in range(300):
        path.write_bytes(good)
        for place in rng.integers(0, len(good), rng.integers(1, 4)):
            flip(path, int(place), 1 << int(rng.integers(8)))
        for act in (parquet.read, parquet.metadata, parquet.schema):
            try:
                act(path)
            except DataError:
                continue


def encrypted_footer(good: bytes) -> bytes:
    return b"PARE" + good[4:-4] + b"PARE"


SPOILT: dict[str, Callable[[bytes], bytes]] = {
    "T1-empty": lambda good: b"",
    "T1-8-bytes": lambda good: good[:8],
    "T1-half": lambda good: good[: len(good) // 2],
    "T1-html": lambda good: b"<!doctype html><html></html>" * 20,
    "T1-wrong-magic": lambda good: b"RAP1" + good[4:-4] + b"RAP1",
    "T1-magic-only": lambda good: b"PAR1PAR1",
    "T1-footer-length": lambda good: good[:-8] + struct.pack("<I", 2**31 - 1) + b"PAR1",
    "T1-footer-length-zero": lambda good: good[:-8] + struct.pack("<I", 0) + b"PAR1",
    "T1-encrypted-footer": encrypted_footer,
    "T1-zeros": lambda good: bytes(len(good)),
    "T1-cut-tail": lambda good: good[:-1],
}


@pytest.mark.parametrize("spoil", SPOILT.values(), ids=SPOILT)
def test_what_is_no_parquet_is_bad_data(path: Path, spoil: Callable[[bytes], bytes]) -> None:
    path.write_bytes(spoil(path.read_bytes()))
    for act in (parquet.read, parquet.metadata, parquet.schema):
        with pytest.raises(DataError, match="not a readable Parquet file") as raised:
            act(path)
        assert raised.value.exit_code == 3
        assert str(path) in str(raised.value)


def folder(path: Path) -> None:
    path.mkdir()


KINDS: dict[str, Callable[[Path], object]] = {
    "T23-folder": folder,
    "T23-pipe": os.mkfifo,
    "T23-device": lambda path: path.symlink_to("/dev/zero"),
    "T23-absent": lambda path: None,
    "T23-dangling-link": lambda path: path.symlink_to("nowhere"),
}


@pytest.mark.parametrize("make", KINDS.values(), ids=KINDS)
def test_what_is_no_file_is_a_usage_error(tmp_path: Path, make: Callable[[Path], object]) -> None:
    make(tmp_path / "x.parquet")
    with pytest.raises(UsageError):
        parquet.read(tmp_path / "x.parquet")


@pytest.mark.parametrize("name", ["s3://bucket/x.parquet", "file:///etc/x.parquet", "https://h/x.parquet"])
def test_t23_an_address_is_no_path(tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError, match="There is no"):
        parquet.read(Path(name))


def test_t23_five_gigabytes_of_zeros_are_refused_at_once(tmp_path: Path) -> None:
    path = tmp_path / "zeros.parquet"
    path.touch()
    os.truncate(path, 5 * 2**30)
    with pytest.raises(DataError, match="not a readable Parquet file"):
        parquet.read(path)


def empty_groups(path: Path) -> None:
    with pq.ParquetWriter(path, table(1).schema) as writer:
        for rows in (0, 2, 0, 3, 0):
            writer.write_table(table(3).slice(0, rows), row_group_size=max(rows, 1))


def no_groups(path: Path) -> None:
    with pq.ParquetWriter(path, table(1).schema):
        pass


GROUPS: dict[str, tuple[Callable[[Path], None], int]] = {
    "T5-empty-row-groups": (empty_groups, 5),
    "T5-no-row-groups": (no_groups, 0),
    "T5-no-rows": (lambda path: pq.write_table(table(0), path), 0),
    "T5-no-columns": (lambda path: pq.write_table(pa.table({}), path), 0),
}


@pytest.mark.parametrize(("make", "rows"), GROUPS.values(), ids=GROUPS)
def test_empty_parts_are_read(tmp_path: Path, make: Callable[[Path], None], rows: int) -> None:
    make(tmp_path / "x.parquet")
    assert parquet.read(tmp_path / "x.parquet").num_rows == rows


def test_t11_a_name_twice_is_refused_and_names_that_differ_by_case_are_not(tmp_path: Path) -> None:
    path = tmp_path / "x.parquet"
    one = pa.array([1])
    pq.write_table(pa.Table.from_arrays([one, one, one], names=["a", "b", "a"]), path)
    with pytest.raises(DataError, match="column twice") as raised:
        parquet.read(path)
    assert raised.value.where == "a"
    pq.write_table(pa.Table.from_arrays([one, one], names=["a", "A"]), path)
    assert parquet.read(path).column_names == ["a", "A"]


def test_t11_of_ten_thousand_columns_only_those_asked_for_are_read(tmp_path: Path) -> None:
    path = tmp_path / "x.parquet"
    columns = {f"c{i}": [i] for i in range(10_000)} | {"dotted.name": [7]}
    pq.write_table(pa.table(columns), path)
    assert parquet.read(path, ["c9999", "dotted.name"]).to_pydict() == {"c9999": [9999], "dotted.name": [7]}


def test_t10_invalid_text_in_a_strangers_file_is_found(tmp_path: Path) -> None:
    path = tmp_path / "x.parquet"
    bad = pa.Array.from_buffers(
        pa.string(), 1, [None, pa.py_buffer(struct.pack("<ii", 0, 2)), pa.py_buffer(b"\xff\xfe")]
    )
    pq.write_table(pa.table({"index": [0], "uid": bad}), path)
    with pytest.raises(DataError, match="column uid"):
        parquet.read(path)


def test_s2_an_extension_type_is_read_as_what_it_stores(tmp_path: Path) -> None:
    path = tmp_path / "x.parquet"
    stored = pa.field("mine", pa.float32(), metadata={b"ARROW:extension:name": b"evil", b"hard": b"high"})
    pq.write_table(pa.table([pa.array([1.0], pa.float32())], schema=pa.schema([stored])), path)
    assert parquet.schema(path).field("mine").type == pa.float32()


@pytest.mark.parametrize("code", ["EIO", "EMFILE", "EACCES"])
def test_a_failure_to_read_is_the_machines_and_no_damage(
    path: Path, monkeypatch: pytest.MonkeyPatch, code: str
) -> None:
    number = getattr(errno, code)

    def broken(*arguments: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(pa, "OSFile", broken)
    with pytest.raises(EnvironmentProblem) as raised:
        parquet.read(path)
    assert os.strerror(number) in str(raised.value)


def test_p7_a_file_size_limit_reaches_the_caller(tmp_path: Path) -> None:
    code = """
        import errno, resource, sys
        from pathlib import Path
        import numpy as np
        import pyarrow as pa
        from dataset_audit.tables import parquet
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
        try:
            parquet.write(Path(sys.argv[1]), pa.table({"a": np.random.default_rng(0).random(9999)}), {})
        except OSError as error:
            print(error.errno == errno.EFBIG)
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code), str(tmp_path / "t.parquet")],
        capture_output=True, text=True, cwd=ROOT, timeout=60, check=False,
    )  # fmt: skip
    assert done.stdout == "True\n", done.stderr


def test_memory_that_does_not_suffice_is_the_machines(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def greedy(*arguments: object, **named: object) -> None:
        raise pa.ArrowMemoryError("malloc of size 1 failed")

    monkeypatch.setattr(parquet, "_pages", greedy)
    with pytest.raises(AuditError) as raised:
        parquet.read(path)
    assert raised.value.exit_code == 4


@pytest.mark.parametrize("sizes", [[3000], [1, 2999], [700, 0, 2300], [1000] * 3])
def test_a_table_written_in_pieces_is_the_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sizes: list[int]
) -> None:
    monkeypatch.setattr(parquet, "ROW_GROUP", 800)
    whole, path, first = table(), tmp_path / "pieces.parquet", 0
    with parquet.appending(path, whole.schema, {"b": "2", "a": "1"}) as appender:
        for rows in sizes:
            appender.append(whole.slice(first, rows))
            first += rows
    assert parquet.read(path).equals(whole)
    assert parquet.metadata(path)["a"] == "1"
    assert parquet.rows(path) == 3000
    groups = parquet.Groups(path)
    assert groups.sizes == (800, 800, 800, 600)
    assert groups.read(3, ["aum", "uid"]).equals(whole.select(["aum", "uid"]).slice(2400))
    stated = groups.stated(1, "index")
    assert stated is not None
    assert (stated.least, stated.most, stated.nulls) == (800, 1599, 0)
    assert groups.stated(0, "nothing") is None


def test_a_damaged_page_of_one_row_group_is_found_when_that_is_read(tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    pq.write_table(table(), path, row_group_size=1000, write_page_checksum=True, use_dictionary=False)
    chunk = pq.ParquetFile(pa.OSFile(str(path), "rb")).metadata.row_group(1).column(3)
    flip(path, chunk.data_page_offset + chunk.total_compressed_size // 2)
    groups = parquet.Groups(path)
    assert groups.read(0, ["aum"]).num_rows == 1000
    with pytest.raises(DataError, match="in column aum"):
        groups.read(1, ["aum"])
