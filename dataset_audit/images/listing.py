"""What a tree of images leaves out and says about its classes and splits, wherever the tree is stored."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from dataset_audit.errors import UsageError
from dataset_audit.images.names import encode_name
from dataset_audit.images.opened import Request

# fmt: off
EXTENSIONS: Final = frozenset((
    ".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".png", ".apng", ".webp", ".gif", ".bmp", ".tif", ".tiff",
    ".pbm", ".pgm", ".ppm", ".pnm", ".pfm", ".avif",
))
"""Endings of files that become examples; the format is then taken from the content."""

FOREIGN_EXTENSIONS: Final = frozenset((
    ".heic", ".heif", ".jp2", ".j2k", ".jxl", ".psd", ".tga", ".dds", ".ico", ".eps", ".fits", ".exr", ".pcx",
))
"""Endings of pictures that are not decoded: each becomes a row that says so, not a hole."""

SPLITS: Final = frozenset((
    "train", "training", "val", "valid", "validation", "dev", "test", "testing", "eval", "unlabeled", "unlabelled",
))
"""Folders and Parquet files of these names are splits, not classes."""
# fmt: on

_SYSTEM: Final = frozenset((b"__MACOSX", b"@eaDir", b"Thumbs.db", b"desktop.ini", b"$RECYCLE.BIN"))


@dataclass
class Seen:
    """What listing left out, to be said once."""

    root: bytes
    below: bytes = b""
    hidden: int = 0
    hidden_folders: list[bytes] = field(default_factory=list)
    linked_folders: list[bytes] = field(default_factory=list)
    links_out: int = 0
    special: int = 0
    others: Counter[str] = field(default_factory=Counter)


def is_hidden(name: bytes) -> bool:
    """Return whether a file or folder of that name is no part of a data set."""
    return name.startswith(b".") or name in _SYSTEM


def is_image(name: bytes) -> bool:
    """Return whether a file of that name becomes an example."""
    ending = _ending(name)
    return ending in EXTENSIONS or ending in FOREIGN_EXTENSIONS


def kind_of_file(name: bytes, seen: Seen) -> str:
    """Return ``image`` or ``other``, and count the other."""
    if is_image(name):
        return "image"
    seen.others[_ending(name) or "no ending"] += 1
    return "other"


def _ending(name: bytes) -> str:
    return os.path.splitext(os.fsdecode(name).lower())[1]


def choose_split(
    request: Request, folders: Sequence[bytes], *, files_beside: bool
) -> tuple[str | None, list[tuple[str, str]]]:
    """Return the split to take, if the folders of the root are splits or one was asked for, and what to say.

    Raises:
        UsageError: The split asked for is not there, or several are and none is ``train``.
    """
    names = [os.fsdecode(folder) for folder in folders]
    listed = ", ".join(names[:10]) or "none"
    if request.split is not None:
        if request.split not in names:
            raise UsageError(
                f"There is no split {request.split!r} in this folder.",
                where=str(request.path),
                do=f"folders there: {listed}",
            )
        return request.split, []
    if not names or files_beside or any(name.lower() not in SPLITS for name in names):
        return None, []
    if len(names) > 1 and "train" not in names:
        text = f"The folder holds splits, not classes: {listed}."
        raise UsageError(text, where=str(request.path), do="--split NAME")
    chosen = names[0] if len(names) == 1 else "train"
    return chosen, [
        ("W-split", f"{request.spec} holds the splits {listed}: {chosen} is taken; --split chooses")
    ]


# -- what is said about it -----------------------------------------------------------------------------------


def _shown(names: Sequence[bytes]) -> str:
    return ", ".join(encode_name(name)[0] for name in names[:3]) + (" ..." if len(names) > 3 else "")


def told(seen: Seen) -> list[tuple[str, str]]:
    """Return a warning for each kind of thing that was left out."""
    notes = []
    shifted = "; ImageFolder counts such a folder as a class, so its class numbers differ from these"
    for marker, folders, kind in (
        ("W-hidden", seen.hidden_folders, "hidden"),
        ("W-links", seen.linked_folders, "linked"),
    ):
        if folders:
            top = any(os.path.dirname(folder) == seen.below for folder in folders)
            text = f"{len(folders)} {kind} folders skipped: {_shown(folders)}" + (shifted if top else "")
            notes.append((marker, text))
    if seen.links_out:
        notes.append(("W-links", f"{seen.links_out} links to files skipped: they dangle or leave the folder"))
    if seen.special:
        notes.append(
            ("W-files", f"{seen.special} entries skipped that are no files: pipes, sockets, devices")
        )
    if seen.others or seen.hidden:
        kinds = ", ".join(f"{count} {ending}" for ending, count in seen.others.most_common(5))
        hidden = f"{seen.hidden} hidden" if seen.hidden else ""
        total = seen.hidden + sum(seen.others.values())
        notes.append(
            (
                "W-files",
                f"{total} files skipped that are no images: {', '.join(filter(None, (kinds, hidden)))}",
            )
        )
    return notes


def about_classes(folders: Sequence[bytes], labels: Sequence[int]) -> list[tuple[str, str]]:
    """Return a warning for each thing about class folders that misleads: empty, alike, numbered as text."""
    notes = []
    counts = Counter(labels)
    empty = [folder for label, folder in enumerate(folders) if not counts[label]]
    if empty:
        notes.append(
            ("W-empty-class", f"{len(empty)} classes without an image keep their number: {_shown(empty)}")
        )
    texts = [os.fsdecode(folder) for folder in folders]
    if len({text.casefold() for text in texts}) < len(texts):
        notes.append(("W-case", "class names differ only by case"))
    if all(text.isascii() and text.isdigit() for text in texts) and sorted(texts, key=int) != texts:
        notes.append(
            (
                "W-numeric",
                f"classes are numbered in text order: class {texts[1]!r} is 1, not the number it names",
            )
        )
    return notes
