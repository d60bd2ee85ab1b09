"""Tar archives read in place: each image by its offset, nothing unpacked, names of members only names.

Classes, splits and order are those of a folder that holds the same files (`folders`). In the form of
WebDataset, ``key.jpg`` beside ``key.cls``, the label is the text of the latter.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np

from dataset_audit.errors import DataError, UsageError
from dataset_audit.images.bad_image import UNREADABLE_FILE
from dataset_audit.images.decode import BadImage, Limits
from dataset_audit.images.listing import (
    SPLITS,
    Seen,
    about_classes,
    choose_split,
    is_hidden,
    is_image,
    kind_of_file,
    told,
)
from dataset_audit.images.names import encode_name, encode_names
from dataset_audit.images.opened import ImageDataset, Request
from dataset_audit.images.tar_index import Member, Stamp, opened, read_at, read_index

_ENDINGS: Final = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz", ".tar.zst", ".tzst")
_LABEL: Final = b".cls"
_LONGEST_LABEL: Final = 1024
_DEEPEST: Final = 8  # folders below this are looked into but neither classes, splits nor roots
_NUMBER: Final = re.compile(r"[0-9]{1,6}")


@dataclass(frozen=True, eq=False)
class TarSource:
    """Members of an archive, each read by its offset; safe for several threads.

    The archive is opened for every read, as a file of a folder would be: no handle is held, and an archive
    that was written to since it was listed is noticed.
    """

    path: Path
    stamp: Stamp
    members: Sequence[Member]
    limits: Limits

    def encoded(self, index: int) -> bytes:
        """Return the member's bytes.

        Raises:
            BadImage: It is too large or stored with holes, or the system refuses the bytes.
            DataError: The archive is not the one that was listed.
            EnvironmentProblem: The archive may not be read any more.
        """
        member, most = self.members[index], self.limits.max_file_bytes
        if member.size > most:
            raise BadImage("too_large", f"too large: {member.size} bytes exceed --max-file-bytes {most}")
        if member.sparse:
            raise BadImage("unreadable", "sparse: stored with holes, which are not filled in")
        with opened(self.path) as (handle, stamp):
            if stamp != self.stamp:
                raise DataError("The archive changed after it was listed.", where=str(self.path), id="E-tar")
            try:
                return read_at(handle, member.offset, member.size)
            except OSError as error:
                raise BadImage("unreadable", f"{UNREADABLE_FILE}: {error.strerror}") from None


def is_tar(path: Path) -> bool:
    """Return whether a file is named as a tar archive; a compressed one is, and is refused with advice."""
    return path.name.lower().endswith(_ENDINGS)


def open_tar(request: Request) -> ImageDataset:
    """Open an archive of class folders, of images without labels, or of images beside ``.cls`` members.

    One folder around everything, as ``tar cf x.tar folder`` leaves it, is looked through. ``files:x.tar`` is
    every image in it, without labels.

    Raises:
        UsageError: It is compressed, images lie beside folders, or the split asked for is not there.
        DataError: It holds no image, is no tar archive, is cut off or damaged, or names an image twice.
        EnvironmentProblem: It may not be read.
    """
    with opened(request.path) as (handle, stamp):
        listed = read_index(handle, stamp.size, request.path)
        tree, notes = _rooted(listed.members, from_root=listed.from_root)
        split, more = _split(request, tree)
        below = os.fsencode(split or "")
        files = sorted((file for file in tree.files if _is_below(file.name, below)), key=_place)
        images = [file for file in files if is_image(file.name)]
        texts: dict[bytes, Member] = {} if _unlabelled(request) else _texts(images, files)
        _check(request, below, files)
        labels = {name: _label(handle, text, request.path) for name, text in texts.items()}
    if labels:
        found = _by_text(images, labels)
    elif _unlabelled(request):
        found = _Labelled(images, [-1] * len(images))
    else:
        found = _by_folder(request, images, below, tree.inside(below))
    used = {text.name for text in texts.values()}
    file_names, escaped = encode_names([image.name for image in found.images])
    return ImageDataset(
        spec=request.spec,
        name=request.spec,
        labels=np.asarray(found.labels, np.int32),
        class_names=found.classes,
        source=TarSource(request.path, stamp, found.images, request.limits),
        limits=request.limits,
        file_names=file_names,
        escaped=escaped,
        split=[split] * len(file_names) if split else None,
        warnings=notes + more + [*found.notes] + tree.told(below, used) + listed.notes,
    )


def _unlabelled(request: Request) -> bool:
    return request.spec.startswith("files:")


def _split(request: Request, tree: _Tree) -> tuple[str | None, list[tuple[str, str]]]:
    if _unlabelled(request) and request.split is None:
        return None, []
    return choose_split(request, tree.inside(b""), files_beside=tree.pictures[b""] > 0)


def _check(request: Request, below: bytes, files: Sequence[Member]) -> None:
    """Refuse an archive without images, or one that names an image or a label twice."""
    if not any(is_image(file.name) for file in files):
        raise DataError(
            "There is no image here.",
            where=os.path.join(str(request.path), encode_name(below)[0]),
            do="folders in the archive are the classes; images end in .jpg, .png, .webp ...",
            id="E-no-images",
        )
    for first, second in pairwise(files):  # sorted by name
        if first.name == second.name and (is_image(first.name) or first.name.endswith(_LABEL)):
            raise DataError(
                "Two members have the same name: which one is meant?",
                where=f"{request.path}: {encode_name(first.name)[0]}",
                do="unpack it, which keeps the last of them, and name the folder",
                id="E-tar",
            )


# -- the tree that the names make ----------------------------------------------------------------------------


@dataclass
class _Tree:
    """Members by what they are; folder -> folders directly in it, and how many images are."""

    files: list[Member] = field(default_factory=list)
    folders: dict[bytes, set[bytes]] = field(default_factory=dict)
    pictures: Counter[bytes] = field(default_factory=Counter)
    hidden: list[bytes] = field(default_factory=list)
    hidden_folders: set[bytes] = field(default_factory=set)
    links: list[bytes] = field(default_factory=list)
    special: list[bytes] = field(default_factory=list)

    def inside(self, folder: bytes) -> list[bytes]:
        """Return the names of the folders directly in one, in the order of classes."""
        return sorted(self.folders.get(folder, ()))

    def told(self, below: bytes, used: set[bytes]) -> list[tuple[str, str]]:
        """Return what is said about members below a folder that are neither examples nor used otherwise."""
        seen = Seen(b"", below)
        seen.hidden = sum(_is_below(name, below) for name in self.hidden)
        seen.special = sum(_is_below(name, below) for name in self.special)
        seen.hidden_folders = sorted(name for name in self.hidden_folders if _is_below(name, below))
        for file in self.files:
            if _is_below(file.name, below) and file.name not in used:
                kind_of_file(os.path.basename(file.name), seen)
        links = sum(_is_below(name, below) for name in self.links)
        notes = [("W-links", f"{links} links skipped: those in an archive are not followed")] if links else []
        return notes + told(seen)


def _tree(members: Sequence[Member]) -> _Tree:
    tree = _Tree()
    for member in members:
        *above, base = member.name.split(b"/")
        if member.kind == "folder":
            above.append(base)
        hidden = next((depth for depth, part in enumerate(above) if _hides(part)), None)
        for depth in range(min(len(above) if hidden is None else hidden, _DEEPEST)):
            tree.folders.setdefault(b"/".join(above[:depth]), set()).add(above[depth])
        if hidden is not None:
            tree.hidden_folders.add(b"/".join(above[: hidden + 1]))
        elif member.kind == "folder":
            continue
        elif _hides(base):
            tree.hidden.append(member.name)
        elif member.kind == "file":
            tree.files.append(member)
            tree.pictures[b"/".join(above)] += is_image(base)
        else:
            (tree.links if member.kind == "link" else tree.special).append(member.name)
    return tree


def _hides(part: bytes) -> bool:
    return is_hidden(part) and part != b".."


def _rooted(members: Sequence[Member], *, from_root: bool) -> tuple[_Tree, list[tuple[str, str]]]:
    """Return the tree below the folders around everything, and what to say about them.

    ``tar cf x.tar a/photos`` puts ``a/photos/`` before each name, ``tar cf x.tar -C photos .`` only ``./``. A
    folder that is alone is looked through, but for a split, and below the first one a folder of images.
    """
    tree, root = _tree(members), b""
    while not from_root and len(tree.folders.get(root, ())) == 1 and not tree.pictures[root]:
        only = os.path.join(root, *tree.folders[root])
        if os.fsdecode(os.path.basename(only)).lower() in SPLITS or (root and tree.pictures[only]):
            break
        root = only
    if not root:
        return tree, []
    cut = len(root) + 1
    tree = _tree(
        [member._replace(name=member.name[cut:]) for member in members if _is_below(member.name, root)]
    )
    if tree.folders and b"/" not in root:
        return tree, []
    text = f"{encode_name(root)[0]}/ is around everything and is taken for the folder that was packed"
    return tree, [("W-tar", text)]


def _is_below(name: bytes, folder: bytes) -> bool:
    return not folder or name.startswith(folder + b"/")


def _place(member: Member) -> tuple[bytes, bytes]:
    return os.path.split(member.name)


# -- labels --------------------------------------------------------------------------------------------------


class _Labelled(NamedTuple):
    """Images in their order, a label for each, the names of the labels, and what to say."""

    images: Sequence[Member]
    labels: Sequence[int]
    classes: tuple[str, ...] = ()
    notes: tuple[tuple[str, str], ...] = ()


def _by_folder(
    request: Request, images: Sequence[Member], below: bytes, folders: Sequence[bytes]
) -> _Labelled:
    """Return the images with a class for each folder directly below, or without labels if there is none."""
    beside = [image for image in images if os.path.dirname(image.name) == below]
    if beside and folders:
        raise UsageError(
            f"{len(beside)} images lie beside {len(folders)} folders: are the folders classes?",
            where=f"{request.path}: {encode_name(beside[0].name)[0]}",
            do=f"move them into a class folder, or 'files:{request.spec}' for all images without labels",
        )
    if not folders:
        return _Labelled(images, [-1] * len(images))
    number = {folder: label for label, folder in enumerate(folders)}
    depth = below.count(b"/") + 1 if below else 0
    pairs = [(number[image.name.split(b"/")[depth]], _place(image), image) for image in images]
    pairs.sort(key=lambda pair: pair[:2])
    labels = [label for label, _, _ in pairs]
    classes = tuple(encode_name(folder)[0] for folder in folders)
    return _Labelled([image for *_, image in pairs], labels, classes, tuple(about_classes(folders, labels)))


def _texts(images: Sequence[Member], files: Sequence[Member]) -> dict[bytes, Member]:
    """Return image -> the ``.cls`` beside it; the key may end at the last dot or, in WebDataset's way, the first."""
    texts = {file.name: file for file in files if file.name.endswith(_LABEL)}
    found = {}
    for image in images if texts else ():
        folder, base = os.path.split(image.name)
        for key in (os.path.splitext(base)[0], base.split(b".")[0]):
            if text := texts.get(os.path.join(folder, key) + _LABEL):
                found[image.name] = text
                break
    return found


def _label(handle: int, text: Member, path: Path) -> str:
    if text.size > _LONGEST_LABEL or text.sparse:
        raise DataError(
            "A label of more than a kilobyte.", where=f"{path}: {encode_name(text.name)[0]}", id="E-label"
        )
    return encode_name(read_at(handle, text.offset, text.size).strip())[0]


def _by_text(images: Sequence[Member], texts: Mapping[bytes, str]) -> _Labelled:
    """Return the images with labels as written: numbers as they are, other texts as classes in text order."""
    known = {text for text in texts.values() if text}
    if all(_NUMBER.fullmatch(text) for text in known):
        number = {text: int(text) for text in known}
        classes = tuple(str(label) for label in range(max(number.values(), default=-1) + 1))
    else:
        classes = tuple(sorted(known, key=os.fsencode))
        number = {text: label for label, text in enumerate(classes)}
    labels = [number.get(texts.get(image.name, ""), -1) for image in images]
    missing = labels.count(-1)
    note = (
        "W-label",
        f"{missing} of {len(labels)} images have no label: no .cls beside them, or an empty one",
    )
    return _Labelled(images, labels, classes, (note,) if missing else ())
