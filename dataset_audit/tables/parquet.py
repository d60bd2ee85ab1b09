"""The one place with Parquet settings: deterministic bytes, page checksums written and verified."""

from __future__ import annotations

import os
import stat
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from dataset_audit.errors import DataError, EnvironmentProblem, UsageError
from dataset_audit.tables import files

_DICTIONARY = ("class_name", "split", "status", "error", "source", "reason")


def write(path: Path, table: pa.Table, metadata: Mapping[str, str]) -> None:
    """Write ``table`` with footer ``metadata``; equal tables give equal bytes. Only ever to a temporary path."""
    footer = {key: metadata[key].encode("utf-8", "backslashreplace") for key in sorted(metadata)}
    kept = table.replace_schema_metadata(footer)
    with pa.OSFile(os.fsencode(path), "wb") as sink:  # as bytes: a name need not be UTF-8
        pq.write_table(
            kept,
            sink,
            version="2.6",
            data_page_version="2.0",
            compression="zstd",
            compression_level=3,
            write_page_checksum=True,
            row_group_size=2**20,
            use_dictionary=[name for name in kept.column_names if name in _DICTIONARY],
            store_schema=True,
        )


def _opened(path: Path) -> pq.ParquetFile:
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
    twice = [name for name, times in Counter(names).items() if times > 1]
    if twice:
        raise DataError(f"{path} has a column twice.", where=", ".join(twice[:5]))
    wanted = names if columns is None else list(columns)
    try:
        return _pages(opened, wanted)
    except MemoryError as error:
        raise EnvironmentProblem(f"{path} does not fit in memory.", where=str(path)) from error
    except (pa.ArrowException, OSError, ValueError) as error:
        _raise_of_machine(error, path)
        bad = next((name for name in wanted if not _readable(opened, name)), "")
        raise DataError(
            f"{path} is damaged (checksum or values){' in column ' * bool(bad)}{bad}: {_first_line(error)}.",
            do="make it again, or restore it",
        ) from error


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
