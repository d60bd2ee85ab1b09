"""Columns of whole numbers or text from a file that people have: Parquet, CSV, ``.npz``, ``.npy``, JSON or lines."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
from numpy.lib import format as npy
from numpy.typing import NDArray

from dataset_audit.errors import DataError, UsageError
from dataset_audit.tables import files, parquet

Column = NDArray[Any]  # numbers, or object of text
FORMATS: Final = (".parquet", ".csv", ".npz", ".npy", ".json", ".txt")
LABELS: Final[tuple[str, ...]] = ("label", "labels", "target", "targets", "y", "class_name")
BESIDE: Final[tuple[str, ...]] = (
    "index",
    "uid",
    "set",
    "file_name",
    *LABELS,
)  # columns that are about the images
_LARGEST: Final = 2**30  # bytes of a file of text


def holds_images(path: Path) -> bool:
    """Return whether a Parquet file or an ``.npz`` has pictures in it, not labels alone."""
    if path.suffix.lower() == ".parquet":
        return any(pa.types.is_struct(field.type) for field in parquet.schema(path))
    if path.suffix.lower() != ".npz":
        return False
    try:
        with zipfile.ZipFile(path) as archive:
            return any(_axes(archive, name) >= 3 for name in archive.namelist() if name.endswith(".npy"))
    except (OSError, zipfile.BadZipFile, NotImplementedError, ValueError):
        return True  # whoever opens pictures says what is wrong with it


def _axes(archive: zipfile.ZipFile, name: str) -> int:
    with archive.open(name) as stream:
        read = npy.read_array_header_1_0 if npy.read_magic(stream) == (1, 0) else npy.read_array_header_2_0
        return len(read(stream)[0])


def read_columns(path: Path) -> dict[str, Column]:
    """Return what a file holds, in its order.

    Raises:
        UsageError: No such file, or a format that is not read.
        DataError: It cannot be read as what it is called.
        EnvironmentProblem: The machine does not give it.
    """
    kind = path.suffix.lower()
    if kind not in FORMATS:
        raise UsageError(
            f"{path}: predictions and labels are read from {', '.join(FORMATS)}.",
            do="save one column per model in one of these",
        )
    if not path.is_file():
        raise UsageError(f"There is no {path}.", do="name the file", id="E-no-file")
    try:
        if kind == ".parquet":
            return _of_arrow(parquet.read(path), path)
        if kind in {".npz", ".npy"}:
            return _of_numpy(path)
        if path.stat().st_size > _LARGEST:
            raise DataError(
                f"{path} is larger than 1 GiB.", where=str(path), do="save it as Parquet", id="E-predictions"
            )
        if kind == ".csv":
            return _of_csv(path)
        return _of_json(path) if kind == ".json" else {path.stem: _lines(path)}
    except UnicodeDecodeError:
        raise DataError(f"{path} is not UTF-8.", where=str(path), id="E-predictions") from None
    except OSError as error:
        raise files.problem(error, path, "read") from error


def _of_csv(path: Path) -> dict[str, Column]:
    from pyarrow import csv  # noqa: PLC0415 - only for such files

    plain = csv.ConvertOptions(null_values=[], true_values=[], false_values=[], strings_can_be_null=False)
    try:
        table = csv.read_csv(pa.BufferReader(path.read_bytes()), convert_options=plain)
    except pa.ArrowException as error:
        reason = str(error).splitlines()[0][:200]
        raise DataError(
            f"{path} is not a readable CSV file: {reason}.", where=str(path), id="E-predictions"
        ) from error
    if len(set(table.column_names)) != len(table.column_names):
        twice = next(name for name in table.column_names if table.column_names.count(name) > 1)
        raise DataError(f"{path} has a column twice.", where=twice, id="E-predictions")
    return _of_arrow(table, path)


def _of_arrow(table: pa.Table, path: Path) -> dict[str, Column]:
    found: dict[str, Column] = {}
    for name in table.column_names:
        column = table[name].combine_chunks() if table[name].num_chunks != 1 else table[name].chunk(0)
        if pa.types.is_dictionary(column.type):
            column = column.cast(column.type.value_type)
        if pa.types.is_integer(column.type) or pa.types.is_floating(column.type):
            if column.null_count:
                row = next(n for n, value in enumerate(column) if not value.is_valid)
                raise DataError(
                    f"{path}: {name}, row {row}: there is no answer.", where=str(path), id="E-predictions"
                )
            found[name] = column.to_numpy(zero_copy_only=False)
        elif pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
            found[name] = np.array(column.to_pylist(), object)
        elif name not in BESIDE:
            raise DataError(
                f"{path}: column {name} holds {column.type}, no classes.",
                where=str(path),
                do="whole numbers or names of classes",
                id="E-predictions",
            )
    return found


def _of_numpy(path: Path) -> dict[str, Column]:
    try:
        with path.open("rb") as stream:
            loaded = np.load(stream, allow_pickle=False)
            found = (
                {path.stem: loaded}
                if isinstance(loaded, np.ndarray)
                else {k: loaded[k] for k in loaded.files}
            )
    except (ValueError, EOFError, MemoryError, zipfile.BadZipFile, NotImplementedError) as error:
        reason = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
        raise DataError(
            f"{path} holds no plain arrays: {reason}.",
            where=str(path),
            do="save plain .npy or .npz",
            id="E-predictions",
        ) from error
    for name, values in found.items():
        if values.ndim != 1:
            raise DataError(
                f"{path}: {name} has shape {values.shape}: one class per image is wanted.",
                where=str(path),
                id="E-predictions",
            )
    return {name: _plain(values) for name, values in found.items()}


def _plain(values: NDArray[Any]) -> Column:
    if values.dtype.kind in "US":
        text = [each.decode("utf-8", "replace") if isinstance(each, bytes) else str(each) for each in values]
        return np.array(text, object)
    return values


def _of_json(path: Path) -> dict[str, Column]:
    try:
        document = json.loads(path.read_bytes(), object_pairs_hook=_once)
    except (ValueError, RecursionError) as error:
        raise DataError(
            f"{path} is not readable JSON: {error}.", where=str(path), id="E-predictions"
        ) from None
    named = document if isinstance(document, dict) else {path.stem: document}
    return {name: _listed(values, name, path) for name, values in named.items()}


def _once(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a model stands there twice")
    return found


def _listed(values: object, name: str, path: Path) -> Column:
    kinds = {type(each) for each in values} if isinstance(values, list) else {object}
    if kinds <= {int}:
        try:
            return np.array(values, np.int64)
        except OverflowError:
            pass  # no class has such a number
    elif kinds == {str}:
        return np.array(values, object)
    elif kinds <= {int, float}:
        return np.array(values, np.float64)
    raise DataError(
        f"{path}: {name} is no list of classes.",
        where=str(path),
        do="{model: [class of each image]}, or one list",
        id="E-predictions",
    )


def _lines(path: Path) -> Column:
    texts = path.read_text(encoding="utf-8").split()
    if all(text.lstrip("-").isdecimal() and len(text) < 19 for text in texts):
        return np.array([int(text) for text in texts], np.int64)
    return np.array(path.read_text(encoding="utf-8").splitlines(), object)
