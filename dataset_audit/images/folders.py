"""Folders of image files: with a class per folder directly under the root, or without labels.

The order of classes and of files is that of torchvision's ImageFolder on trees that hold nothing hidden and
no links: classes by name, then directories by path, then files by name, each compared as bytes.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from dataset_audit.errors import DataError, EnvironmentProblem, UsageError
from dataset_audit.images.bad_image import UNREADABLE_FILE
from dataset_audit.images.decode import BadImage, Limits
from dataset_audit.images.listing import Seen, about_classes, choose_split, is_hidden, kind_of_file, told
from dataset_audit.images.names import encode_name, encode_names
from dataset_audit.images.opened import ImageDataset, Request


@dataclass(frozen=True, eq=False)
class FileSource:
    """Files below a root, read once each, whole, and never written."""

    root: bytes
    names: Sequence[bytes]
    limits: Limits

    def encoded(self, index: int) -> bytes:
        """Return the file's bytes.

        Raises:
            BadImage: It vanished, is not a regular file any more, is too large, or the system refuses it.
        """
        return read_file(os.path.join(self.root, self.names[index]), self.limits.max_file_bytes)


def read_file(path: bytes | Path, most: int) -> bytes:
    """Return the bytes of a regular file, at most ``most``; never waits on a FIFO or device.

    Raises:
        BadImage: As for `FileSource.encoded`.
    """
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError):
        raise BadImage("unreadable", "vanished: it was there when the folder was listed") from None
    except OSError as error:
        raise BadImage("unreadable", f"{UNREADABLE_FILE}: {error.strerror}") from None
    try:
        status = os.fstat(handle)
        if not stat.S_ISREG(status.st_mode):
            raise BadImage("unreadable", "not a file: a device, pipe or folder")
        if status.st_size > most:
            raise BadImage("too_large", f"too large: {status.st_size} bytes exceed --max-file-bytes {most}")
        return _all(handle, status.st_size, most)
    except OSError as error:
        raise BadImage("unreadable", f"{UNREADABLE_FILE}: {error.strerror}") from None
    finally:
        os.close(handle)


def _all(handle: int, size: int, most: int) -> bytes:
    """Return what a file holds, at most one byte more than ``most``: one call where it has the size it states."""
    data = os.read(handle, size + 1)
    if len(data) == size:
        return data
    parts = [data]  # it grew or shrank meanwhile, or lies where reads are short
    while data and sum(map(len, parts)) <= most:
        data = os.read(handle, 1 << 20)
        parts.append(data)
    return b"".join(parts)[: most + 1]


def open_folders(request: Request) -> ImageDataset:
    """Open a folder of class folders, a folder of images without labels, or one split of either.

    Raises:
        UsageError: Images lie beside folders, or the split asked for is not there.
        DataError: There is no image.
        EnvironmentProblem: A folder may not be read: a silently smaller data set is the worst outcome.
    """
    place = _place(request)
    seen = Seen(place.root, place.below)
    folders, files = _list(place.root, place.below, seen)
    if folders and files:
        raise UsageError(
            f"{len(files)} images lie beside {len(folders)} folders: are the folders classes?",
            where=os.fsdecode(os.path.join(place.root, files[0])),
            do=f"move them into a class folder, or 'files:{request.spec}' for all images without labels",
        )
    if not folders:
        return _dataset(request, place, files, notes=told(seen))
    names, labels = [], []
    for label, folder in enumerate(folders):
        found = list(_walk(place.root, folder, seen))
        names += found
        labels += [label] * len(found)
    classes = [os.path.basename(folder) for folder in folders]
    notes = about_classes(classes, labels) + told(seen)
    dataset = _dataset(request, place, names, notes=notes)
    return replace(
        dataset,
        labels=np.asarray(labels, np.int32),
        class_names=tuple(encode_name(folder)[0] for folder in classes),
    )


def open_files(request: Request) -> ImageDataset:
    """Open every image below a folder, at any depth, without labels, ordered by path.

    Raises:
        DataError, EnvironmentProblem: As for `open_folders`.
    """
    place = _Place(os.fsencode(request.path)) if request.split is None else _place(request)
    seen = Seen(place.root, place.below)
    names = list(_walk(place.root, place.below, seen))
    return _dataset(request, place, names, notes=told(seen))


def _dataset(
    request: Request, place: _Place, names: list[bytes], *, notes: list[tuple[str, str]]
) -> ImageDataset:
    """Return the data set of these files, without labels."""
    if not names:
        raise DataError(
            "There is no image here.",
            where=os.fsdecode(os.path.join(place.root, place.below)),
            do="folders directly under the one named are the classes; images end in .jpg, .png, .webp ...",
            id="E-no-images",
        )
    file_names, escaped = encode_names(names)
    return ImageDataset(
        spec=request.spec,
        name=request.spec,
        labels=np.full(len(names), -1, np.int32),
        class_names=(),
        source=FileSource(place.root, names, request.limits),
        limits=request.limits,
        file_names=file_names,
        escaped=escaped,
        split=[place.split] * len(names) if place.split else None,
        warnings=place.notes + notes,
    )


@dataclass(frozen=True)
class _Place:
    """What to list: a folder below the root that was named, which file names are relative to."""

    root: bytes
    below: bytes = b""
    split: str | None = None
    notes: list[tuple[str, str]] = field(default_factory=list)


def _place(request: Request) -> _Place:
    """Return the root itself, or one of its splits when it holds nothing but splits or one is asked for."""
    root = os.fsencode(request.path)
    folders, files = _list(root, b"", Seen(root))
    split, notes = choose_split(request, folders, files_beside=bool(files))
    return _Place(root) if split is None else _Place(root, os.fsencode(split), split, notes)


# -- listing -------------------------------------------------------------------------------------------------


def _walk(root: bytes, below: bytes, seen: Seen) -> Iterator[bytes]:
    """Yield names of image files under a folder, directories ordered by their path, files by name."""
    directories, found = [below], []
    while directories:
        directory = directories.pop()
        folders, files = _list(root, directory, seen)
        directories += folders
        found.append((directory, files))
    for _, files in sorted(found):
        yield from files


def _list(root: bytes, directory: bytes, seen: Seen) -> tuple[list[bytes], list[bytes]]:
    """Return (folders, image files) of one directory, relative to the root, each sorted by bytes."""
    folders, files = [], []
    try:
        with os.scandir(os.path.join(root, directory)) as entries:
            for entry in entries:
                name = os.path.join(directory, entry.name)
                kind = _kind(entry, name, seen)
                if kind == "folder":
                    folders.append(name)
                elif kind == "image":
                    files.append(name)
    except OSError as error:
        raise EnvironmentProblem(
            f"A folder of the data set cannot be listed: {error.strerror}.",
            where=os.fsdecode(os.path.join(root, directory)),
            do="make it readable, or move it out of the data set",
        ) from None
    return sorted(folders), sorted(files)


def _kind(entry: os.DirEntry[bytes], name: bytes, seen: Seen) -> str:
    hidden = is_hidden(entry.name)
    if entry.is_symlink():
        return _kind_of_link(entry, name, seen) if not hidden else "hidden"
    if entry.is_dir(follow_symlinks=False):
        if hidden:
            seen.hidden_folders.append(name)
            return "hidden"
        return "folder"
    if hidden:
        seen.hidden += 1
        return "hidden"
    if not entry.is_file(follow_symlinks=False):
        seen.special += 1
        return "special"
    return kind_of_file(entry.name, seen)


def _kind_of_link(entry: os.DirEntry[bytes], name: bytes, seen: Seen) -> str:
    target, base = os.path.realpath(entry.path), os.path.realpath(seen.root)
    if os.path.isdir(target):
        seen.linked_folders.append(name)
        return "link"
    if not target.startswith(base + b"/") or not os.path.isfile(target):
        seen.links_out += 1
        return "link"
    return kind_of_file(entry.name, seen)
