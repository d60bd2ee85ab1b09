"""Images that are arrays already: ``.npz`` archives, and the IDX files of MNIST."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any, Final

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from dataset_audit.errors import DataError, EnvironmentProblem, UsageError
from dataset_audit.images.opened import ImageDataset, Request, of_array

_IMAGES: Final = ("x", "X", "images", "data", "arr_0")
_LABELS: Final = ("y", "labels", "label", "targets", "arr_1")
_CLASSES: Final = ("class_names", "classes", "label_names")
_SPLITS: Final = ("train", "val", "valid", "validation", "test")


def read_idx(data: bytes, where: str) -> NDArray[np.uint8]:
    """Return the array in unzipped IDX bytes: unsigned bytes of one to four dimensions.

    Raises:
        DataError: The header and the number of bytes do not agree.
    """
    rank = data[3] if len(data) >= 4 and data[:3] == b"\0\0\x08" else 0
    shape = tuple(int.from_bytes(data[4 + 4 * axis : 8 + 4 * axis], "big") for axis in range(rank))
    start = 4 + 4 * rank
    count = 1
    for side in shape:
        count *= side
    if not 1 <= rank <= 4 or len(data) - start != count:
        raise DataError("Not an IDX file of unsigned bytes.", where=where, id="E-idx")
    return np.frombuffer(data, np.uint8, offset=start).reshape(shape)


def open_npz(request: Request) -> ImageDataset:
    """Open an ``.npz`` with images and perhaps labels and class names; object arrays are never loaded.

    Images: ``x``, ``X``, ``images``, ``data``, or with a split ``x_train``, ``train_images`` ...; [N, H, W],
    [N, H, W, C] or [N, C, H, W] with one or three channels; uint8, bool, uint16 (scaled by 65535), or float
    in 0 to 1.
    Labels: ``y``, ``labels``, ``targets`` ...: whole numbers with -1 for none, or text.

    Raises:
        UsageError: The split is not there.
        DataError: It is no archive of plain arrays of these shapes and types.
        EnvironmentProblem: The arrays do not fit into memory.
    """
    path = request.path
    try:
        with zipfile.ZipFile(path) as archive:
            kept = {name.removesuffix(".npy"): name for name in archive.namelist() if name.endswith(".npy")}
            images, labels, split = _keys(kept, request)
            pixels = _pixels(_read(archive, kept[images], path), f"{path}: {images}")
            given = _read(archive, kept[labels], path) if labels else None
            named = next((name for name in _CLASSES if name in kept), None)
            names = [str(name) for name in _read(archive, kept[named], path)] if named else None
    except PermissionError:
        raise  # the machine's trouble, told where data sets are opened
    except MemoryError:
        raise EnvironmentProblem("The arrays do not fit into memory.", where=str(path)) from None
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError, zlib.error, OSError) as error:
        raise DataError("Not a readable .npz archive.", where=f"{path}: {error}", id="E-npz") from None
    if not len(pixels):
        raise DataError("There is no image here.", where=str(path), id="E-no-images")
    numbers, classes = _labels(given, names, len(pixels), path)
    return of_array(request, pixels, numbers, classes, split)


def _keys(kept: dict[str, str], request: Request) -> tuple[str, str | None, str | None]:
    """Return the names of the image array, the label array and the split they are."""

    def find(words: Sequence[str], split: str | None) -> str | None:
        made = [
            word if split is None else form.format(word, split)
            for word in words
            for form in ("{0}_{1}", "{1}_{0}")
        ]
        return next((name for name in made if name in kept), None)

    for split in [request.split] if request.split else [None, *_SPLITS]:
        images = find(_IMAGES, split)
        if images is not None:
            return images, find(_LABELS, split), split
    held = ", ".join(sorted(kept)[:20]) or "nothing"
    if request.split:
        raise UsageError(
            f"There is no split {request.split!r}.", where=request.spec, do=f"arrays there: {held}"
        )
    raise DataError(
        f"There is no array of images: expected 'x' or 'images', found {held}.",
        where=request.spec,
        id="E-npz",
    )


def _read(archive: zipfile.ZipFile, member: str, path: Path) -> NDArray[Any]:
    """Return one plain array, after comparing what its header asks for with the bytes that are there."""
    with archive.open(member) as file:
        shape, dtype, start = _header(file, f"{path}: {member}")
        count = 1
        for side in shape:
            count *= int(side)
        if start + count * dtype.itemsize != archive.getinfo(member).file_size:
            raise DataError(
                f"The header asks for {count} values of {dtype}, the file holds other.",
                where=f"{path}: {member}",
                id="E-npz",
            )
    with archive.open(member) as file:
        try:
            array: NDArray[Any] = npy.read_array(file, allow_pickle=False)
        except ValueError as error:
            raise DataError("Not a plain array.", where=f"{path}: {member}: {error}", id="E-npz") from None
    return array


def _header(file: IO[bytes], where: str) -> tuple[tuple[int, ...], np.dtype[Any], int]:
    try:
        version = npy.read_magic(file)
        read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
        shape, _, dtype = read(file)
    except ValueError as error:
        raise DataError("Not a NumPy array.", where=f"{where}: {str(error)[:200]}", id="E-npz") from None
    if dtype.hasobject:
        raise DataError(
            "The array holds Python objects, which are never loaded.",
            where=where,
            do="save plain numbers",
            id="E-npz",
        )
    return shape, dtype, file.tell()


def _pixels(values: NDArray[Any], where: str) -> NDArray[np.uint8]:
    """Return uint8[N, H, W, 1 or 3]."""
    shape = values.shape
    if values.ndim == 4 and shape[3] in (1, 3) and shape[1] in (1, 3):
        raise DataError(
            f"Shape {shape} may be channels first or last.", where=where, do="save [N, H, W, C]", id="E-npz"
        )
    if values.ndim == 3:
        values = values[:, :, :, None]
    elif values.ndim == 4 and shape[1] in (1, 3):
        values = values.transpose(0, 2, 3, 1)
    elif values.ndim != 4 or shape[3] not in (1, 3):
        raise DataError(
            f"Shape {shape} is none of [N, H, W], [N, H, W, C], [N, C, H, W] with 1 or 3 channels.",
            where=where,
            id="E-npz",
        )
    if 0 in values.shape[1:]:
        raise DataError(f"Shape {shape} has pictures without pixels.", where=where, id="E-npz")
    return np.ascontiguousarray(_eight_bit(values, where))


def _eight_bit(values: NDArray[Any], where: str) -> NDArray[np.uint8]:
    if values.dtype == np.uint8:
        return values
    if values.dtype == np.bool_:
        return values.astype(np.uint8) * 255
    if values.dtype == np.uint16:
        return ((values.astype(np.uint32) + 128) // 257).astype(np.uint8)
    if values.dtype.kind == "f":
        low, high = (float(values.min()), float(values.max())) if values.size else (0.0, 0.0)
        if not (low >= 0 and high <= 1):
            raise DataError(
                f"Float pixels from {low:g} to {high:g}: expected 0 to 1.", where=where, id="E-npz"
            )
        rounded: NDArray[np.uint8] = np.rint(values * 255).astype(np.uint8)
        return rounded
    if values.dtype.kind in "iu" and (not values.size or (values.min() >= 0 and values.max() <= 255)):
        return values.astype(np.uint8)
    raise DataError(
        f"Pixels of type {values.dtype}: expected uint8, bool, uint16 or float in 0 to 1.",
        where=where,
        id="E-npz",
    )


def _labels(
    given: NDArray[Any] | None, names: list[str] | None, rows: int, path: Path
) -> tuple[NDArray[np.int32], tuple[str, ...]]:
    if given is None:
        return np.full(rows, -1, np.int32), tuple(names or ())
    if given.ndim == 2 and given.shape[1] == 1:
        given = given[:, 0]
    if given.shape != (rows,):
        raise DataError(f"{rows} images, but labels of shape {given.shape}.", where=str(path), id="E-label")
    if given.dtype.kind in "US":
        texts = [text.decode("utf-8", "replace") if isinstance(text, bytes) else str(text) for text in given]
        classes = tuple(sorted(set(texts)))
        number = {name: index for index, name in enumerate(classes)}
        return np.array([number[text] for text in texts], np.int32), classes
    if given.dtype.kind not in "iu":
        raise DataError(
            f"Labels of type {given.dtype}: expected whole numbers or text.", where=str(path), id="E-label"
        )
    classes = (
        tuple(names)
        if names
        else tuple(str(label) for label in range(max(int(given.max()), -1) + 1)[:100_000])
    )
    wrong = np.flatnonzero((given < -1) | (given >= len(classes)))
    if len(wrong):
        raise DataError(
            f"Row {wrong[0]} has label {given[wrong[0]]}, which is none of the {len(classes)} classes.",
            where=str(path),
            id="E-label",
        )
    return given.astype(np.int32), classes
