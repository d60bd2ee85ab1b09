"""The one place with Parquet settings: deterministic bytes, page checksums written and verified."""

from __future__ import annotations

import os
import stat
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from dataset_audit.errors import DataError, EnvironmentProblem, UsageError
from dataset_audit.tables import files

_DICTIONARY = ("class_name", "split", "status", "error", "source", "reason")
ROW_GROUP: Final = 2**20  # rows
_SETTINGS: Final[Mapping[str, Any]] = {
    "version": "2.6",
    "data_page_version": "2.0",
    "compression": "zstd",
    "write_page_checksum": True,
    "store_schema": True,
}


def write(path: Path, table: pa.Table, metadata: Mapping[str, str]) -> None:
    """Write ``table`` with footer ``metadata``; equal tables give equal bytes. Only ever to a temporary path."""
    kept = table.replace_schema_metadata(_footer(metadata))
    with pa.OSFile(os.fsencode(path), "wb") as sink:  # as bytes: a name need not be UTF-8
        pq.write_table(
            kept,
            sink,
            **_SETTINGS,
            compression_level=3,
            row_group_size=ROW_GROUP,
            use_dictionary=[name for name in kept.column_names if name in _DICTIONARY],
        )


def _footer(metadata: Mapping[str, str]) -> dict[str, bytes]:
    return {key: metadata[key].encode("utf-8", "backslashreplace") for key in sorted(metadata)}


class Appender:
    """Writes a table that never is in memory as a whole; row groups are those of `write`, whatever comes in."""

    def __init__(self, writer: pq.ParquetWriter) -> None:
        self._writer = writer
        self._waiting: list[pa.Table] = []
        self._rows = 0

    def append(self, table: pa.Table) -> None:
        """Write these rows behind what was written; the last row group waits for `appending` to end."""
        self._waiting.append(table)
        self._rows += table.num_rows
        while self._rows >= ROW_GROUP:
            self._flush(ROW_GROUP)

    def _flush(self, rows: int) -> None:
        together = pa.concat_tables(self._waiting)
        self._writer.write_table(together.slice(0, rows).combine_chunks(), row_group_size=ROW_GROUP)
        self._waiting, self._rows = [together.slice(rows)], self._rows - rows

    def close(self) -> None:
        """Write what waits."""
        if self._rows:
            self._flush(self._rows)


@contextmanager
def appending(path: Path, schema: pa.Schema, metadata: Mapping[str, str]) -> Iterator[Appender]:
    """Write a large table piece by piece; as `write`, but in half of the seconds at ten million rows.

    Whole numbers that ascend are stored as differences, flags as bits, labels and strata have a dictionary;
    compression is the fastest, and only what is searched by range has its range in the footer.
    """
    named = schema.with_metadata(_footer(metadata))
    words = [name for name in schema.names if name in {*_DICTIONARY, "label", "stratum"}]
    flags = [field.name for field in schema if pa.types.is_boolean(field.type)]
    encoding = dict.fromkeys(flags, "PLAIN") | (
        {"index": "DELTA_BINARY_PACKED"} if "index" in schema.names else {}
    )
    with (
        pa.OSFile(os.fsencode(path), "wb") as sink,
        pq.ParquetWriter(
            sink,
            named,
            **_SETTINGS,
            compression_level=1,
            use_dictionary=words,
            column_encoding=encoding,
            write_statistics=[name for name in schema.names if name not in {*_DICTIONARY, *flags, "weight"}],
        ) as writer,
    ):
        appender = Appender(writer)
        yield appender
        appender.close()


@dataclass(frozen=True)
class Stated:
    """What a footer states of a column in a row group; values as Python has them."""

    least: Any
    most: Any
    nulls: int


class Groups:
    """A Parquet file read one row group at a time, by any thread; the footer is parsed once.

    Attributes:
        path: The file.
        schema: Of all its columns.
        sizes: Rows of each row group.
    """

    def __init__(self, path: Path) -> None:
        opened = _opened(path)
        self.path = path
        self.schema: pa.Schema = opened.schema_arrow
        self._footer = opened.metadata
        _refuse_doubles(path, self.schema.names)
        self.sizes = tuple(self._footer.row_group(n).num_rows for n in range(self._footer.num_row_groups))
        paths = [self._footer.schema.column(n).path for n in range(len(self._footer.schema))]
        self._leaf = {name: number for number, name in enumerate(paths)}

    def read(self, group: int, columns: Sequence[str]) -> pa.Table:
        """Return columns of one row group, every page checksum verified and every value validated; see `read`."""
        opened = _opened(self.path, self._footer)
        try:
            table = opened.read_row_group(group, columns=list(columns), use_threads=False)
            table.validate(full=True)
        except MemoryError as error:
            raise _too_large(self.path) from error
        except (pa.ArrowException, OSError, ValueError) as error:
            _raise_of_machine(error, self.path)
            raise _damaged(self.path, columns[0] if len(columns) == 1 else "", error) from error
        return table

    def stated(self, group: int, column: str) -> Stated | None:
        """Return what the footer says of a column, None where it does not say all of it."""
        if column not in self._leaf:
            return None
        facts = self._footer.row_group(group).column(self._leaf[column]).statistics
        if facts is None or not facts.has_min_max or not facts.has_null_count:
            return None
        return Stated(facts.min, facts.max, facts.null_count)


def _opened(path: Path, footer: pq.FileMetaData | None = None) -> pq.ParquetFile:
    """Open a regular local file; never by string (that may be a URI) nor as a Python file object (arrow may abort)."""
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        raise UsageError(f"There is no {path}.", do="name the file, or make it first") from None
    except OSError as error:
        raise files.problem(error, path, "read") from error
    if not stat.S_ISREG(mode):
        raise UsageError(f"{path} is not a file.", do="name a Parquet file")
    try:
        return pq.ParquetFile(
            pa.OSFile(os.fsencode(path), "rb"),
            metadata=footer,
            page_checksum_verification=True,
            arrow_extensions_enabled=False,
        )
    except (pa.ArrowException, OSError, ValueError) as error:
        _raise_of_machine(error, path)
        raise DataError(
            f"{path} is not a readable Parquet file: {_first_line(error)}.", where=str(path)
        ) from error


def read(path: Path, columns: Sequence[str] | None = None) -> pa.Table:
    """Return (some columns of) a table, every page checksum verified and every value validated.

    Raises:
        UsageError: There is no such file.
        DataError: It is no Parquet file, or its bytes are damaged; names the file.
        EnvironmentProblem: It may not be read, or does not fit in memory.
    """
    opened = _opened(path)
    names = opened.schema_arrow.names
    _refuse_doubles(path, names)
    wanted = names if columns is None else list(columns)
    try:
        return _pages(opened, wanted)
    except MemoryError as error:
        raise _too_large(path) from error
    except (pa.ArrowException, OSError, ValueError) as error:
        _raise_of_machine(error, path)
        bad = next((name for name in wanted if not _readable(opened, name)), "")
        raise _damaged(path, bad, error) from error


def _refuse_doubles(path: Path, names: Sequence[str]) -> None:
    twice = [name for name, times in Counter(names).items() if times > 1]
    if twice:
        raise DataError(f"{path} has a column twice.", where=", ".join(twice[:5]))


def _too_large(path: Path) -> EnvironmentProblem:
    return EnvironmentProblem(f"{path} does not fit in memory.", where=str(path))


def _damaged(path: Path, column: str, error: Exception) -> DataError:
    return DataError(
        f"{path} is damaged (checksum or values){' in column ' * bool(column)}{column}: {_first_line(error)}.",
        do="make it again, or restore it",
    )


def _pages(opened: pq.ParquetFile, names: Sequence[str]) -> pa.Table:
    table = opened.read(columns=list(names), use_threads=False)
    table.validate(full=True)
    return table


def _readable(opened: pq.ParquetFile, name: str) -> bool:
    try:
        _pages(opened, [name])
    except (pa.ArrowException, OSError, ValueError):
        return False
    return True


def _raise_of_machine(error: Exception, path: Path) -> None:
    """Raise what the system says as the machine's fault; arrow's own errors, damage, carry no number."""
    if isinstance(error, OSError) and error.errno:
        raise files.problem(error, path, "read") from error


def metadata(path: Path) -> dict[str, str]:
    """Return the footer's own key-value metadata."""
    found = _opened(path).schema_arrow.metadata or {}
    return {key.decode("utf-8", "replace"): value.decode("utf-8", "replace") for key, value in found.items()}


def rows(path: Path) -> int:
    """Return the number of rows without reading any page."""
    return int(_opened(path).metadata.num_rows)


def schema(path: Path) -> pa.Schema:
    """Return the schema without reading any page."""
    return _opened(path).schema_arrow


def _first_line(error: BaseException) -> str:
    return str(error).splitlines()[0][:200].rstrip(".") if str(error) else type(error).__name__


def of_rows(rows: Sequence[Mapping[str, object]], kinds: Mapping[str, tuple[pa.DataType, str]]) -> pa.Table:
    """Return a table of these rows, each with the named columns, in their types; NaN becomes null, in lists too.

    Args:
        rows: Plain values, NumPy numbers or arrays, by column.
        kinds: Type and description of each column, in order.
    """
    return pa.table(
        {name: pa.array([_plain(row[name]) for row in rows], kind) for name, (kind, _) in kinds.items()}
    )


def _plain(value: object) -> object:
    if isinstance(value, np.ndarray):
        return [_plain(each) for each in value.tolist()]
    return None if isinstance(value, float | np.floating) and np.isnan(value) else value
