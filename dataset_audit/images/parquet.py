"""Other people's Parquet files: a struct<bytes, path> per image, as Hugging Face writes them.

Row groups are read when first needed and kept up to a bound. Only the needed columns are read, the schema is
judged by our own rules, extension types are not revived, and nothing is mapped: a file truncated meanwhile is
an error, not SIGBUS.
"""

from __future__ import annotations

import json
import os
import threading
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from pathlib import Path
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from dataset_audit.errors import AuditError, DataError, EnvironmentProblem
from dataset_audit.images.decode import BadImage, Limits
from dataset_audit.images.folders import read_file
from dataset_audit.images.names import encode_names
from dataset_audit.images.opened import ImageDataset, Request
from dataset_audit.images.paths import resolve_under
from dataset_audit.images.shards import choose_shards

_IMAGE_NAMES: Final = ("image", "img")
_LABEL_NAMES: Final = ("label", "labels", "fine_label")
_BAD: Final = (pa.ArrowException, OSError, UnicodeDecodeError, OverflowError)
KEPT_BYTES: Final = 2**30
"""Encoded bytes kept in memory; data sets above it are read again, row group by row group."""


@dataclass(frozen=True)
class _Group:
    """One row group of one file."""

    file: int
    group: int
    rows: int
    size: int


@dataclass(eq=False)
class ParquetSource:
    """Encoded bytes out of row groups, each read once while the bound holds; safe for several threads."""

    files: Sequence[Path]
    groups: Sequence[_Group]
    column: str
    limits: Limits
    kept_bytes: int = KEPT_BYTES
    _starts: list[int] = field(init=False)
    _cache: OrderedDict[int, tuple[pa.Array, pa.Array | None]] = field(
        init=False, default_factory=OrderedDict
    )
    _held: int = field(init=False, default=0)
    _lock: threading.Lock = field(init=False, default_factory=threading.Lock)
    _reading: dict[int, threading.Lock] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        self._starts = list(accumulate((group.rows for group in self.groups), initial=0))

    def encoded(self, index: int) -> bytes:
        """Return one row's bytes, or where they are null those of the file ``path`` names beside the table.

        Raises:
            BadImage: The row has neither.
            DataError: The path leaves the table's folder, or the file cannot be read as Parquet any more.
        """
        number = bisect_right(self._starts, index) - 1
        row = index - self._starts[number]
        contents, paths = self._group(number)
        cell = contents[row]
        if cell.is_valid:
            return cell.as_buffer().to_pybytes()  # type: ignore[no-any-return]
        name = paths[row].as_py() if paths is not None else None
        if not name:
            raise BadImage("no_bytes", "no bytes: the row has neither bytes nor a path")
        root = self.files[self.groups[number].file].parent
        return read_file(resolve_under(root, name), self.limits.max_file_bytes)

    def _group(self, number: int) -> tuple[pa.Array, pa.Array | None]:
        with self._lock:
            if number in self._cache:
                self._cache.move_to_end(number)
                return self._cache[number]
            reading = self._reading.setdefault(number, threading.Lock())
        with reading:  # several threads want the same group: one reads it
            with self._lock:
                if number in self._cache:
                    return self._cache[number]
            loaded = self._read(number)
            self._keep(number, loaded)
        return loaded

    def _keep(self, number: int, loaded: tuple[pa.Array, pa.Array | None]) -> None:
        with self._lock:
            if number not in self._cache:  # two may have read it, if it was dropped in between
                self._cache[number] = loaded
                self._held += self.groups[number].size
            self._reading.pop(number, None)
            while self._held > self.kept_bytes and len(self._cache) > 1:
                old, _ = self._cache.popitem(last=False)
                self._held -= self.groups[old].size

    def _read(self, number: int) -> tuple[pa.Array, pa.Array | None]:
        group = self.groups[number]
        path = self.files[group.file]
        try:
            with open_parquet(path) as file:
                table = file.read_row_group(group.group, columns=[self.column], use_threads=False)
            column = table.column(0).combine_chunks()
            column.validate(full=True)  # offsets and text may lie; used only after this
            if len(column) != group.rows:
                raise pa.ArrowInvalid(f"{len(column)} rows where there were {group.rows}")
            contents = pc.struct_field(column, "bytes")  # null where the struct is, whatever its child holds
            paths = pc.struct_field(column, "path") if "path" in column.type.names else None
        except _BAD as error:
            raise _unreadable(path, error) from None
        return contents, paths


def open_parquet(path: Path) -> pq.ParquetFile:
    """Return a reader on a local regular file: checksums verified, nothing mapped, no extension types.

    Raises:
        OSError, pa.ArrowException: It is none.
    """
    # a handle of Arrow's own: given a string it resolves URLs, given a Python file it may abort at exit
    return pq.ParquetFile(
        pa.OSFile(os.fspath(path)),
        page_checksum_verification=True,
        arrow_extensions_enabled=False,
    )


def open_tables(request: Request) -> ImageDataset:
    """Open a Parquet file, a pattern, or a folder of shards with an image and perhaps a label column.

    Raises:
        UsageError: The split is not there, or the pattern matches nothing.
        DataError: A file is no Parquet, shards are missing or differ, or the columns are of other types.
    """
    files, split, notes = choose_shards(request)
    schema, features = _schema(files)
    image = _image_column(schema, features, files[0])
    label = _label_column(schema, features)
    groups: list[_Group] = []
    labels: list[NDArray[np.int32] | list[str | None]] = []
    names: list[str | None] = []
    has_path = "path" in [field.name for field in schema.field(image).type]
    for number, path in enumerate(files):
        try:
            with open_parquet(path) as file:
                groups += _groups(file, number)
                if label is not None:
                    labels.append(_labels(file, label, path))
                if has_path:
                    names += _strings(file, f"{image}.path")
        except _BAD as error:
            raise _unreadable(path, error) from None
    rows = sum(group.rows for group in groups)
    if not rows:
        raise DataError("There are no rows.", where=str(files[0]), id="E-no-images")
    numbers, classes = _classes(labels, features.get(label or "", ()), rows, files[0])
    # a name is either all there or no way back to a row
    raw = [os.fsencode(name) for name in names if name] if has_path else []
    file_names, escaped = encode_names(raw) if len(raw) == rows else (None, None)
    return ImageDataset(
        spec=request.spec,
        name=request.spec,
        labels=numbers,
        class_names=classes,
        source=ParquetSource(files, groups, image, request.limits),
        limits=request.limits,
        file_names=file_names,
        escaped=escaped,
        split=None if split is None else [split] * rows,
        warnings=notes,
    )


def _unreadable(path: Path, error: Exception) -> AuditError:
    if isinstance(error, OSError) and error.errno is not None:  # the system's refusal, not Arrow's
        return EnvironmentProblem(f"It may not be read: {error.strerror or error}.", where=str(path))
    return DataError("Not a readable Parquet file.", where=f"{path}: {str(error)[:300]}", id="E-parquet")


# -- which columns -------------------------------------------------------------------------------------------


def _schema(files: Sequence[Path]) -> tuple[pa.Schema, dict[str, tuple[str, ...] | None]]:
    """Return the schema all files share and, from the footer, column -> class names (None marks an image)."""
    first: tuple[pa.Schema, dict[str, tuple[str, ...] | None]] | None = None
    for path in files:
        try:
            with open_parquet(path) as file:
                schema = file.schema_arrow
                names = schema.names
        except _BAD as error:
            raise _unreadable(path, error) from None
        if len(set(names)) < len(names):
            raise DataError("Two columns have one name.", where=str(path), id="E-schema")
        features = _features(schema.metadata or {})
        first = first or (schema, features)
        if not schema.equals(first[0]) or features != first[1]:
            raise DataError(
                "Two shards differ in their columns or class names.",
                where=f"{files[0]} and {path}",
                id="E-schema",
            )
    if first is None:
        raise DataError("There is no Parquet file here.", where="", id="E-no-images")
    return first


def _features(metadata: dict[bytes, bytes]) -> dict[str, tuple[str, ...] | None]:
    found: dict[str, tuple[str, ...] | None] = {}
    try:
        features = json.loads(metadata.get(b"huggingface", b"{}"))["info"]["features"]
        for column, feature in features.items():
            if feature.get("_type") == "Image":
                found[str(column)] = None
            elif feature.get("_type") == "ClassLabel" and feature.get("names"):
                found[str(column)] = tuple(str(name) for name in feature["names"])
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return {}  # a footer of another kind says nothing
    return found


def _image_column(schema: pa.Schema, features: dict[str, tuple[str, ...] | None], path: Path) -> str:
    marked = [name for name, names in features.items() if names is None and name in schema.names]
    usual = [name for name in _IMAGE_NAMES if name in schema.names]
    name = (marked or usual or [""])[0]
    if not name:
        raise DataError(
            f"There is no column 'image' of struct<bytes, path>, only {', '.join(schema.names[:20])}.",
            where=str(path),
            id="E-schema",
        )
    kind = schema.field(name).type
    binary = pa.types.is_struct(kind) and kind.get_field_index("bytes") >= 0
    if binary:
        inner = kind.field(kind.get_field_index("bytes")).type
        binary = any(
            test(inner) for test in (pa.types.is_binary, pa.types.is_large_binary, pa.types.is_binary_view)
        )
    if not binary:
        raise DataError(
            f"Column {name!r} is {kind}: expected struct<bytes: binary, path: string>.",
            where=str(path),
            id="E-schema",
        )
    return name


def _label_column(schema: pa.Schema, features: dict[str, tuple[str, ...] | None]) -> str | None:
    marked = [name for name, names in features.items() if names is not None and name in schema.names]
    if len(marked) == 1:
        return marked[0]
    return next((name for name in _LABEL_NAMES if name in schema.names), None)


def _groups(file: pq.ParquetFile, number: int) -> list[_Group]:
    found = []
    for group in range(file.metadata.num_row_groups):
        facts = file.metadata.row_group(group)
        if facts.num_rows:
            found.append(_Group(number, group, facts.num_rows, facts.total_byte_size))
    return found


def _strings(file: pq.ParquetFile, column: str) -> list[str | None]:
    found: list[str | None] = []
    for batch in file.iter_batches(columns=[column], use_threads=False):
        batch.validate(full=True)
        found += pc.struct_field(batch.column(0), "path").to_pylist()
    return found


def _labels(file: pq.ParquetFile, column: str, path: Path) -> NDArray[np.int32] | list[str | None]:
    """Return one file's labels: int32 with -1 for null, or text."""
    chunks: list[NDArray[np.int32]] = []
    texts: list[str | None] = []
    for batch in file.iter_batches(columns=[column], use_threads=False):
        values = batch.column(0)
        values.validate(full=True)
        if pa.types.is_dictionary(values.type):
            values = values.dictionary_decode()
        if pa.types.is_integer(values.type):
            chunks.append(
                pc.fill_null(values.cast(pa.int64()), -1).to_numpy(zero_copy_only=False).clip(-2, 2**31 - 1)
            )
        elif _is_text(values.type):
            texts += values.to_pylist()
        else:
            raise DataError(
                f"Column {column!r} is {values.type}: labels are whole numbers or text.",
                where=str(path),
                id="E-label",
            )
    return texts or np.concatenate([*chunks, np.empty(0, np.int64)]).astype(np.int32)


def _is_text(kind: pa.DataType) -> bool:
    return any(test(kind) for test in (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view))


def _classes(
    parts: Sequence[NDArray[np.int32] | list[str | None]],
    known: tuple[str, ...] | None,
    rows: int,
    path: Path,
) -> tuple[NDArray[np.int32], tuple[str, ...]]:
    """Return labels int32[N] and class names; text labels become classes in text order."""
    if not parts:
        return np.full(rows, -1, np.int32), ()
    if isinstance(parts[0], list):
        texts = [text for part in parts for text in part]
        names = known or tuple(sorted({text for text in texts if text is not None}, key=os.fsencode))
        number = {name: index for index, name in enumerate(names)}
        labels = np.array([-1 if text is None else number.get(text, -2) for text in texts], np.int32)
    else:
        labels = np.concatenate([np.asarray(part) for part in parts]).astype(np.int32)
        names = known or tuple(str(label) for label in range(int(labels.max(initial=-1)) + 1))
    wrong = np.flatnonzero((labels < -1) | (labels >= len(names)))
    if len(wrong):
        raise DataError(
            f"Row {wrong[0]} has label {labels[wrong[0]]}, which is none of the {len(names)} classes.",
            where=str(path),
            id="E-label",
        )
    return labels, names
