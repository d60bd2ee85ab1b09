"""Embeddings from a file: float[N, D] in ``.npy``, ``.npz`` or a Parquet list column; nothing is unpickled."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from dataset_audit.errors import DataError, UsageError
from dataset_audit.tables import parquet


def read_vectors(path: Path) -> NDArray[np.float64]:
    """Return the one array of vectors in ``path``, float64[N, D].

    Raises:
        UsageError: No such file, or not one of the formats.
        DataError: Not one array of finite numbers with two axes.
    """
    if not path.is_file():
        raise UsageError(f"There is no {path}.", do="--embeddings FILE")
    if path.suffix == ".parquet":
        vectors = _from_parquet(path)
    elif path.suffix in {".npy", ".npz"}:
        vectors = _from_numpy(path)
    else:
        raise UsageError(f"{path}: embeddings are read from .npy, .npz or .parquet.", do="--embeddings FILE")
    if vectors.ndim != 2 or vectors.dtype.kind not in "iuf":
        raise DataError(
            f"{path} holds {vectors.dtype} with {vectors.ndim} axes, not float[N, D].", where=str(path)
        )
    if not np.isfinite(vectors).all():
        raise DataError(f"{path} holds values that are not finite.", where=str(path))
    return vectors.astype(np.float64)


def _from_numpy(path: Path) -> NDArray[np.generic]:
    try:
        with path.open("rb") as stream:
            found = np.load(stream, allow_pickle=False)
            if isinstance(found, np.ndarray):
                return found
            if len(found.files) != 1:
                raise DataError(
                    f"{path} holds {len(found.files)} arrays, not one.", where=", ".join(found.files[:5])
                )
            return found[found.files[0]]  # type: ignore[no-any-return]
    except (ValueError, OSError, EOFError, MemoryError, zipfile.BadZipFile, NotImplementedError) as error:
        raise DataError(f"{path} is not a readable array: {error}.", where=str(path)) from error


def _from_parquet(path: Path) -> NDArray[np.generic]:
    schema = parquet.schema(path)
    lists = [f.name for f in schema if pa.types.is_list(f.type) or pa.types.is_fixed_size_list(f.type)]
    if len(lists) != 1:
        raise DataError(f"{path} has {len(lists)} list columns, not one.", where=", ".join(schema.names[:10]))
    column = parquet.read(path, lists)[lists[0]].combine_chunks()
    rows = len(column)
    flat = column.flatten().to_numpy(zero_copy_only=False)
    if column.null_count or not rows or len(flat) % rows:
        raise DataError(
            f"{path}: the vectors of {lists[0]} are missing or of different length.", where=str(path)
        )
    return flat.reshape(rows, -1)  # type: ignore[no-any-return]
