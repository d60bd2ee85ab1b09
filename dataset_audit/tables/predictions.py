"""What models answered, from a file: one class per model and image, as a column, a list or one row each.

Wide: a column per model (Parquet, CSV), an array per model (``.npz``), or a key per model (JSON). Long: columns
``model`` and ``prediction``, perhaps ``set`` and ``index``, a row for every answer. A folder holds a file per model.
Columns called ``index``, ``uid``, ``label``, ``labels``, ``set`` and ``file_name`` are no models. Answers are whole
numbers or names of classes; probabilities are refused, and nothing is unpickled.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from dataset_audit.errors import DataError, MismatchError, UsageError
from dataset_audit.tables.columns import BESIDE, FORMATS, LABELS, Column, read_columns

_ANSWER: Final = ("prediction", "predicted", "predicted_label")


@dataclass(frozen=True, kw_only=True, eq=False)
class Answers:
    """A class per model and image, and what the file says about the images.

    Attributes:
        where: The file, for messages.
        models: By name, int64[N] or object[N] of text, in the order of the file.
        index: int64[N], the image each row is about; None: the n-th row is about the n-th image.
        uids: Identity of each row's image; None where there is none.
        labels: The right answers, if they are there.
    """

    where: str
    models: Mapping[str, Column]
    index: NDArray[np.int64] | None
    uids: list[str] | None
    labels: Column | None

    def __len__(self) -> int:
        for column in (*self.models.values(), self.labels):
            if column is not None:
                return len(column)
        return 0


def read_answers(path: Path, part: str | None = None) -> Answers:
    """Return what models answered.

    Args:
        path: A file, or a folder with a file per model.
        part: The value of column ``set`` to take; None takes all rows, and refuses a file with several sets.

    Raises:
        UsageError: No such file, no such set, or a format that is not read.
        MismatchError: Models answered other images.
        DataError: A value is no class; names model and row.
    """
    columns = _folder(path) if path.is_dir() else read_columns(path)
    columns = _of_set(columns, path, part)
    answer = next((name for name in _ANSWER if name in columns), None)
    if "model" in columns and answer is not None:
        return _long(columns, answer, path)
    models = {name: _classes(column, name, path) for name, column in columns.items() if name not in BESIDE}
    if not models:
        raise DataError(
            f"{path} has no column of a model.",
            where=f"columns: {', '.join(columns) or 'none'}",
            do="one column per model, or columns model and prediction",
            id="E-predictions",
        )
    return _answers(models, columns, path)


def read_labels(path: Path) -> Answers:
    """Return the right answers of a test set, without models: a column of labels, or the only column there is.

    Raises:
        UsageError: No such file, or a format that is not read.
        DataError: There is no such column, or a value is no class.
    """
    columns = read_columns(path)
    name = next((name for name in LABELS if name in columns), None)
    if name is None:
        others = [name for name in columns if name not in BESIDE]
        if len(others) != 1:
            raise DataError(
                f"{path} has no column of labels.",
                where=f"columns: {', '.join(columns) or 'none'}",
                do=f"call it {LABELS[0]}, or leave only that column",
                id="E-label",
            )
        name = others[0]
    return _answers({}, {**columns, "label": columns[name]}, path)


def _answers(models: Mapping[str, Column], columns: Mapping[str, Column], path: Path) -> Answers:
    index, uids = columns.get("index"), columns.get("uid")
    label = next((name for name in LABELS if name in columns), None)
    if index is not None and index.dtype.kind not in "iu":
        raise DataError(f"{path}: index is no column of whole numbers.", where=str(path), id="E-predictions")
    lengths = {
        name: len(column)
        for name, column in {**columns, **models}.items()
        if name in models or name in BESIDE
    }
    if len(set(lengths.values())) > 1:
        (a, one), (b, other) = sorted(lengths.items(), key=lambda pair: pair[1])[:: len(lengths) - 1]
        raise MismatchError(
            f"{path}: {a} has {one:,} rows, {b} {other:,}.", do="one answer per image of every model"
        )
    return Answers(
        where=str(path),
        models=dict(models),
        index=None if index is None else index.astype(np.int64),
        uids=None if uids is None else [str(text) for text in uids.tolist()],
        labels=None if label is None else _classes(columns[label], label, path),
    )


def _of_set(columns: dict[str, Column], path: Path, part: str | None) -> dict[str, Column]:
    """Return the rows of one set."""
    if "set" not in columns:
        if part is None:
            return columns
        raise UsageError(
            f"{path} has no column set.", do="--predictions-original FILE and --predictions-new FILE"
        )
    held = np.array([str(text) for text in columns["set"].tolist()], object)
    names = list(dict.fromkeys(held.tolist()))
    if part is None and len(names) == 1:
        part = names[0]
    if part not in names:
        raise UsageError(
            f"{path} holds several sets: which?" if part is None else f"{path} has no set {part!r}.",
            where="sets there: " + ", ".join(names[:20]),
            do="--predictions FILE, with ORIGINAL and NEW as names of sets in it",
            id="E-predictions",
        )
    rows = held == part
    return {name: column[rows] for name, column in columns.items() if name != "set"}


def _long(columns: Mapping[str, Column], answer: str, path: Path) -> Answers:
    """Return a table with a row per answer as one with a column per model."""
    owner = np.array([str(text) for text in columns["model"].tolist()], object)
    names = list(dict.fromkeys(owner.tolist()))
    where = [np.flatnonzero(owner == name) for name in names]
    if not names:
        raise DataError(f"{path} has no rows.", where=str(path), id="E-predictions")
    keys = columns.get("index", columns.get("uid"))
    first = where[0]
    for name, rows in zip(names[1:], where[1:], strict=True):
        if len(rows) != len(first):
            raise MismatchError(
                f"{path}: {names[0]} answered {len(first):,} images, {name} {len(rows):,}.",
                do="one answer per image of every model",
                id="E-predictions",
            )
    if keys is not None:
        where = [rows[np.argsort(keys[rows], kind="stable")] for rows in where]
        first = where[0]
        for name, rows in zip(names, where, strict=True):
            twice = np.flatnonzero(keys[rows][1:] == keys[rows][:-1])
            if len(twice):
                raise DataError(
                    f"{path}: {name} answered image {keys[rows][twice[0]]} twice.",
                    where=str(path),
                    id="E-predictions",
                )
            other = np.flatnonzero(keys[rows] != keys[first])
            if len(other):
                raise MismatchError(
                    f"{path}: {names[0]} answered image {keys[first][other[0]]}, {name} did not.",
                    do="the same images for every model",
                    id="E-predictions",
                )
    said = columns[answer]
    models = {
        name: _classes(said[rows], name, path, keys=None if keys is None else keys[rows])
        for name, rows in zip(names, where, strict=True)
    }
    _same_labels(columns, names, where, path)
    rest = {name: column[first] for name, column in columns.items() if name in BESIDE}
    return _answers(models, rest, path)


def _same_labels(
    columns: Mapping[str, Column], names: Sequence[str], where: Sequence[NDArray[np.int64]], path: Path
) -> None:
    label = next((name for name in LABELS if name in columns), None)
    if label is None:
        return
    for name, rows in zip(names, where, strict=True):
        if (columns[label][rows] != columns[label][where[0]]).any():
            raise MismatchError(
                f"{path}: the labels beside {names[0]} and {name} differ: they answered different images.",
                do="a column index that says which",
                id="E-predictions",
            )


def _classes(column: Column, name: str, path: Path, *, keys: Column | None = None) -> Column:
    """Return answers as int64 or text; floats only if they are whole numbers."""
    if column.dtype.kind in "iu":
        return column.astype(np.int64)
    if column.dtype.kind == "f":
        bad = np.flatnonzero(~np.isfinite(column) | (column != np.rint(column)))
        if not len(bad):
            return column.astype(np.int64)
        row = int(bad[0]) if keys is None else keys[bad[0]]
        raise DataError(
            f"{path}: {name}, row {row}: {column[bad[0]]:g} is no class.",
            where=str(path),
            do="whole numbers or names of classes; the class with the largest probability, not the probability",
            id="E-predictions",
        )
    if column.dtype.kind == "O":
        bad = np.flatnonzero(np.array([text is None for text in column.tolist()], np.bool_))
        if len(bad):
            raise DataError(
                f"{path}: {name}, row {int(bad[0])}: there is no answer.", where=str(path), id="E-predictions"
            )
        return column
    raise DataError(f"{path}: {name} holds {column.dtype}, no classes.", where=str(path), id="E-predictions")


def _folder(path: Path) -> dict[str, Column]:
    """Return one column per file of a folder, named after it."""
    found: dict[str, Column] = {}
    for file in sorted(each for each in path.iterdir() if each.suffix.lower() in FORMATS and each.is_file()):
        columns = read_columns(file)
        if len(columns) != 1:
            raise DataError(
                f"{file} has {len(columns)} columns; in a folder a file is one model.", where=str(file)
            )
        name = file.stem.removesuffix("_predictions")
        if name in found:
            raise DataError(f"{path} has two files of model {name}.", where=str(file), id="E-predictions")
        found[name] = next(iter(columns.values()))
    if not found:
        raise UsageError(f"{path} holds no file of predictions.", do="files: " + ", ".join(FORMATS))
    return found
