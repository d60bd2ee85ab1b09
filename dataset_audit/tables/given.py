"""What a user has beside a table of scores: known labels and predicted probabilities, brought to the table's rows."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from dataset_audit.errors import DataError, MismatchError, UsageError
from dataset_audit.tables import files, parquet
from dataset_audit.tables.scores import ScoreTable

KEYS: Final = ("index", "uid")
TRUTH: Final = ("clean_label", "clean", "label")  # what a column of known labels is called, first found
LARGEST: Final = 4 * 2**30  # bytes of a text file
SUM: Final = 1e-3  # by which the probabilities of a row may miss one

Column = NDArray[np.generic] | list[str | None]


@dataclass(frozen=True, kw_only=True)
class Rows:
    """The rows of a table that given files are brought to.

    Attributes:
        scores: The table, for messages.
        index: int64[N].
        uids: One per row, or None.
        n: Examples of the full data set.
        classes: Names in label order; numbers as text where the table names none.
    """

    scores: Path
    index: NDArray[np.int64]
    uids: Sequence[str | None] | None
    n: int
    classes: tuple[str, ...]

    @staticmethod
    def of(table: ScoreTable, scores: Path) -> Rows:
        """Return the rows of a table that has an index."""
        index = table.integers("index")
        return Rows(
            scores=scores,
            index=index,
            uids=table.strings("uid") if table.has("uid") else None,
            n=max(table.provenance.n if table.provenance else 0, int(index.max()) + 1),
            classes=_classes(table),
        )


def _classes(table: ScoreTable) -> tuple[str, ...]:
    if table.provenance and table.provenance.class_names:
        return table.provenance.class_names
    if not table.has("label"):
        return ()
    labels = table.integers("label")
    names = {label: str(label) for label in range(int(labels.max(initial=-1)) + 1)}
    if table.has("class_name"):
        names |= {
            label: name
            for label, name in zip(labels.tolist(), table.strings("class_name"), strict=True)
            if label >= 0 and name
        }
    return tuple(names.values())


def read_labels(path: Path, rows: Rows, column: str | None = None) -> NDArray[np.int64]:
    """Return the label that a file states for each row, int64[N], -1 where it states none.

    Rows are matched by the file's ``index`` or ``uid`` if it has one, else by position in the full data set. Labels are
    class numbers, or class names matched letter by letter.

    Args:
        path: Parquet, CSV, ``.npy``, ``.npz``, or ``.txt`` with one label a line.
        rows: Of the table.
        column: Which column holds them; else the first of TRUTH, else the only one.

    Raises:
        UsageError: No such file, not one of the formats, or which column is meant is not clear.
        MismatchError: It is of another data set: other length, other rows, other classes.
        DataError: The bytes are bad, or a key stands for two labels.
    """
    columns = _columns(path)
    name = _wanted(path, columns, column)
    places = _places(path, columns, rows)
    labels = _as_labels(path, name, columns[name], rows.classes)
    return np.where(places >= 0, labels[places], -1)


def _wanted(path: Path, columns: Mapping[str, Column], column: str | None) -> str:
    values = [name for name in columns if name not in {*KEYS, "file_name"}]
    if column is not None:
        if column not in columns:
            raise UsageError(f"{path} has no column {column!r}.", where="columns: " + ", ".join(values[:20]))
        return column
    known = [name for name in TRUTH if name in columns] or values
    if known and (len(values) == 1 or known is not values):
        return known[0]
    raise UsageError(
        f"Which column of {path} holds the known labels?",
        where="columns: " + ", ".join(values[:20]),
        do=f"--clean-column {values[0]}" if values else "a column clean_label",
    )


def _as_labels(path: Path, name: str, column: Column, classes: tuple[str, ...]) -> NDArray[np.int64]:
    if isinstance(column, list):
        known = {one: number for number, one in enumerate(classes)}
        strange = sorted({text for text in column if text is not None and text not in known})
        if strange:
            raise MismatchError(
                f"{path}: {len(strange):,} names in {name} are no classes of the scores: {', '.join(strange[:5])}.",
                where="classes: " + ", ".join(classes[:20]),
                do="the names of the scores, or class numbers",
            )
        return np.array([-1 if text is None else known[text] for text in column], np.int64)
    if column.ndim != 1 or column.dtype.kind not in "iufb":
        raise DataError(f"{path}: {name} holds {column.dtype} with {column.ndim} axes, not one label a row.")
    values = column.astype(np.float64)
    missing = np.isnan(values)
    odd = np.flatnonzero(~missing & ((values != np.floor(values)) | (values < -1) | (values >= len(classes))))
    if len(odd):
        raise MismatchError(
            f"{path}: {name} is {column[odd[0]]} in row {odd[0]:,}, of {len(classes)} classes from 0.",
            where=f"{len(odd):,} rows: " + ", ".join(map(str, odd[:5])),
        )
    return np.where(missing, -1, values).astype(np.int64)


def read_probabilities(path: Path, rows: Rows) -> NDArray[np.float64]:
    """Return the probabilities that a file states for each row, float64[N, C]; NaN in rows it has none for.

    Rows are matched as in `read_labels`; columns are classes in label order, or number columns called by the class's
    name, or ``p_`` and the name.

    Args:
        path: ``.npy`` or ``.npz`` with one float[M, C], or Parquet with a list column or C number columns.
        rows: Of the table.

    Raises:
        UsageError: No such file, or not one of the formats.
        MismatchError: It is of another data set: other length, other rows, another number of classes.
        DataError: The bytes are bad, or values are no probabilities; names the first row.
    """
    columns = _columns(path)
    matrix = _matrix(path, columns, rows.classes)
    places = _places(path, columns, rows)
    if matrix.shape[1] != len(rows.classes):
        raise MismatchError(
            f"{path} has probabilities of {matrix.shape[1]} classes, {rows.scores} has {len(rows.classes)}.",
            where="classes: " + ", ".join(rows.classes[:20]),
            do="a column for every class, in the order of the labels",
        )
    _check_probabilities(path, matrix)
    return np.where(places[:, None] >= 0, matrix[places], np.nan)


def _matrix(path: Path, columns: Mapping[str, Column], classes: tuple[str, ...]) -> NDArray[np.float64]:
    numbers = {name: values for name, values in columns.items() if not isinstance(values, list)}
    wide = [name for name, values in numbers.items() if values.ndim == 2]
    if len(wide) == 1:
        return numbers[wide[0]].astype(np.float64)
    for prefix in ("", "p_"):
        if not wide and classes and all(prefix + name in numbers for name in classes):
            return np.stack([numbers[prefix + name].astype(np.float64) for name in classes], axis=1)
    raise DataError(
        f"{path} has {len(wide)} matrices of probabilities, not one.",
        where="columns: " + ", ".join(list(columns)[:20]),
        do="one float[N, C], or a number column called by each class",
    )


def _check_probabilities(path: Path, matrix: NDArray[np.float64]) -> None:
    rows = np.flatnonzero(~np.isfinite(matrix).all(axis=1))
    if len(rows):
        raise DataError(f"{path}: {len(rows):,} rows hold no finite numbers.", where=f"first row {rows[0]:,}")
    sums = matrix.sum(axis=1)
    odd = np.flatnonzero((matrix < 0).any(axis=1) | (matrix > 1 + SUM).any(axis=1) | (np.abs(sums - 1) > SUM))
    if len(odd):
        row = matrix[odd[0]]
        raise DataError(
            f"{path}: {len(odd):,} rows are no probabilities.",
            where=f"first row {odd[0]:,}: from {row.min():.3g} to {row.max():.3g}, sum {row.sum():.4g}",
            do="the softmax of logits; rows sum to one",
        )


def _places(path: Path, columns: Mapping[str, Column], rows: Rows) -> NDArray[np.int64]:
    """Return for each row of the table the row of the file, int64[N], -1 where it has none."""
    length = len(next(iter(columns.values())))
    key = next((name for name in KEYS if name in columns), None)
    if key is None:
        if length != rows.n:
            raise MismatchError(
                f"{path} has {length:,} rows, {rows.scores} was made for {rows.n:,} examples.",
                do="one row for each example of the data set, or a column index",
            )
        return rows.index
    stated, wanted = columns[key], list(rows.index.tolist() if key == "index" else rows.uids or [])
    if not wanted:
        raise MismatchError(f"{path} names rows by uid, {rows.scores} has none.", do="a column index")
    names = stated if isinstance(stated, list) else stated.tolist()
    place = {name: number for number, name in enumerate(names)}
    if len(place) < len(names):
        raise DataError(f"{path}: {key} has {len(names) - len(place):,} duplicates.", where=str(path))
    found = np.array([place.get(name, -1) for name in wanted], np.int64)
    if (found < 0).all():
        raise MismatchError(f"No {key} of {path} is one of {rows.scores}.", do="a file of the same data set")
    return found


def _columns(path: Path) -> dict[str, Column]:
    """Return every column of a file of any of the formats, all of one length, at least one row."""
    if not path.is_file():
        raise UsageError(f"There is no {path}.", do="name the file")
    readers = {
        ".parquet": _of_parquet,
        ".csv": _of_csv,
        ".npy": _of_numpy,
        ".npz": _of_numpy,
        ".txt": _of_text,
    }
    if path.suffix not in readers:
        raise UsageError(f"{path}: read are {', '.join(readers)}.", do="one of these formats")
    columns = readers[path.suffix](path)
    lengths = {name: len(values) for name, values in columns.items()}
    if not columns or 0 in lengths.values():
        raise DataError(f"{path} has no rows.", where=str(path))
    if len(set(lengths.values())) > 1:
        raise DataError(
            f"{path}: arrays have different lengths: "
            + ", ".join(f"{k} {v}" for k, v in lengths.items())
            + "."
        )
    return columns


def _of_parquet(path: Path) -> dict[str, Column]:
    return _of_arrow(path, parquet.read(path))


def _of_csv(path: Path) -> dict[str, Column]:
    from pyarrow import csv  # noqa: PLC0415 - one format of several

    try:
        return _of_arrow(path, csv.read_csv(pa.OSFile(os.fsencode(path), "rb")))
    except (pa.ArrowException, ValueError) as error:
        raise DataError(f"{path} is not a readable CSV file: {error}.", where=str(path)) from error


def _of_arrow(path: Path, table: pa.Table) -> dict[str, Column]:
    made: dict[str, Column] = {}
    for name in table.column_names:
        column, kind = table[name].combine_chunks(), table.schema.field(name).type
        if pa.types.is_dictionary(kind):
            column, kind = column.cast(kind.value_type), kind.value_type
        if pa.types.is_list(kind) or pa.types.is_fixed_size_list(kind):
            made[name] = _wide(path, name, column)
        elif pa.types.is_string(kind) or pa.types.is_large_string(kind):
            made[name] = column.to_pylist()
        elif pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind):
            made[name] = column.to_numpy(zero_copy_only=False)
    return made


def _wide(path: Path, name: str, column: pa.Array) -> NDArray[np.generic]:
    flat = column.flatten()
    lengths = np.unique(column.value_lengths().to_numpy(zero_copy_only=False)) if len(column) else np.zeros(1)
    if column.null_count or flat.null_count or len(lengths) != 1:
        raise DataError(f"{path}: the lists of {name} are missing or of different length.", where=str(path))
    return np.asarray(flat.to_numpy(zero_copy_only=False)).reshape(len(column), -1)


def _of_numpy(path: Path) -> dict[str, Column]:
    try:
        with path.open("rb") as stream:
            found = np.load(stream, allow_pickle=False)
            plain = isinstance(found, np.ndarray)
            arrays = {"label": found} if plain else {name: found[name] for name in found.files}
    except (ValueError, OSError, EOFError, MemoryError, zipfile.BadZipFile, NotImplementedError) as error:
        raise DataError(f"{path} is not a readable array: {error}.", where=str(path)) from error
    return {
        name: values.tolist() if values.dtype.kind == "U" else values
        for name, values in arrays.items()
        if values.ndim
    }


def _of_text(path: Path) -> dict[str, Column]:
    if path.stat().st_size > LARGEST:
        raise DataError(f"{path} is larger than {LARGEST / 2**30:.0f} GiB.", where=str(path))
    try:
        lines = [line.strip() for line in path.read_text(encoding="utf-8").splitlines()]
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not UTF-8.", where=str(path)) from error
    except OSError as error:
        raise files.problem(error, path, "read") from error
    try:
        return {"label": np.array([int(line) for line in lines], np.int64)}
    except (ValueError, OverflowError):
        return {"label": [line or None for line in lines]}
