"""Images that are arrays: ``.npz`` archives and IDX files."""

from __future__ import annotations

import io
import pickle
import struct
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.lib import format as npy

from dataset_audit.errors import DataError, EnvironmentProblem, UsageError
from dataset_audit.images import arrays
from dataset_audit.images.arrays import read_idx
from dataset_audit.images.dataset import open_dataset

GREY = np.arange(4 * 5 * 6, dtype=np.uint8).reshape(4, 5, 6)
COLOUR = np.arange(4 * 5 * 6 * 3, dtype=np.uint16).astype(np.uint8).reshape(4, 5, 6, 3)
LABELS = np.array([0, 2, 1, 0])


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "set.npz"


def member(content: bytes, path: Path, name: str = "x.npy", **kept: Any) -> Path:
    """Write an archive with one member given as bytes."""
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(name, content)
        for key, values in kept.items():
            file = io.BytesIO()
            np.save(file, values)
            archive.writestr(f"{key}.npy", file.getvalue())
    return path


def header(shape: tuple[int, ...], descr: str = "|u1") -> bytes:
    file = io.BytesIO()
    npy.write_array_header_1_0(file, {"descr": descr, "fortran_order": False, "shape": shape})
    return file.getvalue()


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        pytest.param(GREY, GREY[..., None], id="T21-grey"),
        pytest.param(GREY[..., None], GREY[..., None], id="T21-grey-last"),
        pytest.param(COLOUR, COLOUR, id="T21-channels-last"),
        pytest.param(COLOUR.transpose(0, 3, 1, 2), COLOUR, id="T21-channels-first"),
        pytest.param(COLOUR.astype(np.int64), COLOUR, id="T21-wide-integers"),
        pytest.param(COLOUR.astype(np.float32) / 255, COLOUR, id="T21-float"),
        pytest.param(COLOUR.astype(np.uint16) * 257, COLOUR, id="T21-16-bit"),
        pytest.param(COLOUR > 99, (COLOUR > 99) * np.uint8(255), id="T21-bool"),
        pytest.param(np.asfortranarray(COLOUR), COLOUR, id="T21-fortran"),
    ],
)
def test_shapes_and_types_come_out_as_bytes_channels_last(path: Path, values: Any, expected: Any) -> None:
    np.savez(path, x=values, y=LABELS)
    dataset = open_dataset(path)
    assert dataset.array is not None
    assert dataset.is_array
    assert np.array_equal(dataset.array, expected)
    assert dataset.array.dtype == np.uint8
    assert dataset.channels == expected.shape[3]
    assert dataset.labels.tolist() == LABELS.tolist()
    assert dataset.class_names == ("0", "1", "2")
    assert dataset.file_names is None


@pytest.mark.parametrize(
    "values",
    [
        pytest.param(COLOUR.astype(np.float32) + 1, id="T21-float-range"),
        pytest.param(np.full((4, 5, 6), np.nan), id="T21-nan"),
        pytest.param(COLOUR.astype(np.int64) - 1, id="T21-negative"),
        pytest.param(COLOUR.astype(np.int64) + 300, id="T21-too-large"),
        pytest.param(np.zeros((4, 5)), id="T21-two-dimensions"),
        pytest.param(np.zeros((4, 5, 6, 4), np.uint8), id="T21-four-channels"),
        pytest.param(np.zeros((4, 3, 6, 3), np.uint8), id="T21-ambiguous"),
        pytest.param(np.zeros((4, 0, 6), np.uint8), id="T21-no-pixels"),
        pytest.param(np.zeros((0, 5, 6), np.uint8), id="T21-no-images"),
        pytest.param(np.zeros((4, 5, 6), np.complex64), id="T21-complex"),
        pytest.param(np.array([["a"]]), id="T21-text"),
    ],
)
def test_values_without_a_rule_are_refused(path: Path, values: Any) -> None:
    np.savez(path, x=values)
    with pytest.raises(DataError):
        open_dataset(path)


def test_object_arrays_and_pickles_are_never_loaded_t21(path: Path, tmp_path: Path) -> None:
    canary = tmp_path / "canary"

    class Bomb:
        def __reduce__(self) -> tuple[Any, ...]:
            return (open, (str(canary), "w"))

    np.savez(path, x=np.array([Bomb()], dtype=object), allow_pickle=True)
    with pytest.raises(DataError, match="Python objects, which are never loaded"):
        open_dataset(path)
    np.savez(path, x=GREY, y=np.array([Bomb()] * 4, dtype=object), allow_pickle=True)
    with pytest.raises(DataError, match="never loaded"):
        open_dataset(path)
    path.write_bytes(pickle.dumps(Bomb()))
    with pytest.raises(DataError, match="Not a readable"):
        open_dataset(path)
    member(pickle.dumps(Bomb()), path)
    with pytest.raises(DataError, match="Not a NumPy array"):
        open_dataset(path)
    assert not canary.exists()


def test_a_header_that_asks_for_more_than_is_there_allocates_nothing_t21(path: Path) -> None:
    for shape in ((10**12,), (10**6, 10**6, 10**6), (2**40, 2**40), (4, 5, 7)):
        member(header(shape) + GREY.tobytes(), path)
        with pytest.raises(DataError, match="The header asks for"):
            open_dataset(path)


@pytest.mark.parametrize("damage", ["cut", "crc", "method", "text"])
def test_damaged_archives_are_bad_data_t21(path: Path, damage: str) -> None:
    np.savez(path, x=GREY)
    data = bytearray(path.read_bytes())
    if damage == "cut":
        data = data[: len(data) // 2]
    elif damage == "crc":
        data[data.index(GREY.tobytes()[:40]) + 5] ^= 1
    elif damage == "method":
        data[data.index(b"PK\1\2") + 10] = data[8] = 99
    else:
        data = bytearray(b"not an archive at all")
    path.write_bytes(data)
    with pytest.raises(DataError, match="Not a readable") as error:
        open_dataset(path)
    assert error.value.exit_code == 3


def test_members_with_paths_are_not_unpacked_t21(path: Path) -> None:
    member(b"x", path, "../../canary", x=GREY)
    assert len(open_dataset(path)) == 4
    assert not (path.parent.parent.parent / "canary").exists()


@pytest.mark.parametrize(
    "labels",
    [
        pytest.param(LABELS[:3], id="T21-length"),
        pytest.param(LABELS.astype(float), id="T21-float-labels"),
        pytest.param(np.zeros((4, 2), int), id="T21-two-columns"),
        pytest.param(np.array([0, 1, -2, 0]), id="T21-negative-label"),
        pytest.param(np.array([0, 1, 2**40, 0]), id="T21-huge-label"),
    ],
)
def test_labels_that_do_not_fit_are_refused(path: Path, labels: Any) -> None:
    np.savez(path, x=GREY, y=labels)
    with pytest.raises(DataError):
        open_dataset(path)


def test_labels_in_a_column_text_labels_and_class_names(path: Path) -> None:
    np.savez(path, images=GREY, labels=LABELS[:, None], class_names=np.array(["x", "y", "z"]))
    assert open_dataset(path).class_names == ("x", "y", "z")
    np.savez(path, images=GREY, labels=np.array(["dog", "cat", "dog", "ant"]))
    dataset = open_dataset(path)
    assert dataset.class_names == ("ant", "cat", "dog")
    assert dataset.labels.tolist() == [2, 1, 2, 0]
    np.savez(path, images=GREY)
    assert open_dataset(path).labels.tolist() == [-1] * 4


def test_splits_in_either_spelling(path: Path) -> None:
    np.savez(path, x_train=GREY, y_train=LABELS, x_test=GREY[:2], y_test=LABELS[:2])
    assert len(open_dataset(path)) == 4
    assert open_dataset(path, split="test").split == ["test", "test"]
    np.savez(path, train_images=GREY, train_labels=LABELS, val_images=GREY[:3], val_labels=LABELS[:3])
    assert open_dataset(path).split == ["train"] * 4
    assert len(open_dataset(path, split="val")) == 3
    with pytest.raises(UsageError, match="no split 'test'"):
        open_dataset(path, split="test")


def test_an_archive_without_images_says_what_it_holds(path: Path) -> None:
    np.savez(path, weights=GREY)
    with pytest.raises(DataError, match="found weights"):
        open_dataset(path)


def test_too_little_memory_is_the_machines_trouble(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise MemoryError

    np.savez(path, x=GREY)
    monkeypatch.setattr(arrays.npy, "read_array", full)
    with pytest.raises(EnvironmentProblem, match="do not fit into memory"):
        open_dataset(path)


def test_idx_files_are_read_by_their_header() -> None:
    data = b"\0\0\x08\x03" + struct.pack(">III", 4, 5, 6) + GREY.tobytes()
    assert np.array_equal(read_idx(data, "x"), GREY)
    for bad in (b"", data[:-1], data + b"x", b"\0\0\x09" + data[3:], b"\0\0\x08\x09" + data[4:], data[:6]):
        with pytest.raises(DataError, match="Not an IDX file"):
            read_idx(bad, "x")
