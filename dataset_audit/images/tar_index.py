"""What is where in a tar archive: every header read once, nothing believed that the file does not bear out.

The standard library parses the headers, through a file that bounds what those of one member may cost: some
of its versions spend hours on one (CVE-2024-6232) or go in circles (CVE-2025-8194). Where it stops without a
word, as it does at a damaged header, we look why.
"""

from __future__ import annotations

import io
import os
import re
import stat
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, NamedTuple

from dataset_audit.errors import DataError, EnvironmentProblem, UsageError
from dataset_audit.images.names import encode_name

_BLOCK: Final = tarfile.BLOCKSIZE
_MOST: Final = 2**18  # bytes of headers of one member, and of global ones: names, attributes, sparse maps
_TAIL: Final = 2**16
_LONGEST: Final = 4096  # bytes of a name, as on a disk
_ENDLESS: Final = re.compile(rb"\d{1000}")
_BAD: Final = (tarfile.TarError, ValueError, OverflowError, LookupError, RecursionError)
_COMPRESSED: Final = {
    b"\x1f\x8b": "gunzip",
    b"BZh": "bunzip2",
    b"\xfd7zXZ": "unxz",
    b"\x28\xb5\x2f\xfd": "unzstd",
}


class Member(NamedTuple):
    """One member: its name in bytes without ``./`` and leading ``/``, and where its bytes lie.

    ``kind`` is ``file``, ``folder``, ``link`` or ``special``; ``sparse`` marks a file stored with holes.
    """

    name: bytes
    kind: str
    offset: int = 0
    size: int = 0
    sparse: bool = False


class Stamp(NamedTuple):
    """What an archive was when it was listed."""

    inode: int
    size: int
    changed: int


@dataclass
class Index:
    """The members in archive order; whether the root itself was packed (``./a``); what to say."""

    members: list[Member] = field(default_factory=list)
    from_root: bool = False
    outside: int = 0
    notes: list[tuple[str, str]] = field(default_factory=list)


@contextmanager
def opened(path: Path) -> Iterator[tuple[int, Stamp]]:
    """Hold an archive open for reading; gives the handle and what the file is now.

    Raises:
        DataError: It is gone, or no regular file any more.
        EnvironmentProblem: The system refuses it.
    """
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        raise DataError("The archive vanished.", where=str(path), id="E-tar") from None
    except OSError as error:
        raise EnvironmentProblem(f"It may not be read: {error.strerror}.", where=str(path)) from None
    try:
        status = os.fstat(handle)
        if not stat.S_ISREG(status.st_mode):
            raise DataError("The archive is no regular file any more.", where=str(path), id="E-tar")
        yield handle, Stamp(status.st_ino, status.st_size, status.st_mtime_ns)
    finally:
        os.close(handle)


def read_at(handle: int, offset: int, size: int) -> bytes:
    """Return the bytes at a place, fewer only where the file ends; the handle's own position is not used."""
    data = os.pread(handle, size, offset)
    while len(data) < size and (more := os.pread(handle, size - len(data), offset + len(data))):
        data += more
    return data


class _Headers(io.RawIOBase):
    """The archive as the parser of headers sees it: so many bytes for one member and no more."""

    def __init__(self, handle: int) -> None:
        self.handle, self.place, self.left = handle, 0, _MOST

    def seek(self, place: int, _whence: int = 0) -> int:
        self.place = place
        return place

    def tell(self) -> int:
        return self.place

    def read(self, count: int = -1) -> bytes:
        if not 0 <= count <= self.left:
            raise tarfile.ReadError(f"a header of more than {_MOST >> 10} KiB")
        data = read_at(self.handle, self.place, count)
        if count > _BLOCK and _ENDLESS.search(data):
            raise tarfile.ReadError("a header with a number of a thousand digits")
        self.place += len(data)
        self.left -= count
        return data


def read_index(handle: int, size: int, path: Path) -> Index:
    """Return what an archive of ``size`` bytes holds, after reading all its headers.

    Raises:
        UsageError: It is compressed.
        DataError: It is no tar archive, or it is cut off or damaged: a silently smaller data set is the worst.
        EnvironmentProblem: The system refuses its bytes.
    """
    _check_start(read_at(handle, 0, _BLOCK), path)
    found, headers, end = Index(), _Headers(handle), 0
    try:
        with tarfile.open(fileobj=headers, mode="r:", encoding="utf-8", errors="surrogateescape") as tar:
            while member := tar.next():
                tar.members.clear()  # type: ignore[attr-defined]  # kept by the parser, needed by nobody
                if tar.offset <= end or member.size < 0 or len(tar.pax_headers) > _BLOCK:
                    raise tarfile.ReadError("a header that leads back")
                end = tar.offset
                _add(found, member)
                if not member.issparse() and member.isreg() and member.offset_data + member.size > size:
                    raise tarfile.ReadError("unexpected end of data")
                headers.left = _MOST
            end = tar.offset
    except _BAD as error:
        raise _damaged(found, path, str(error)) from None
    except OSError as error:
        raise EnvironmentProblem(f"It may not be read: {error.strerror}.", where=str(path)) from None
    tail = read_at(handle, end, _TAIL)
    if tail[:_BLOCK] != bytes(_BLOCK):
        raise _damaged(found, path, "bad header" if len(tail) >= _BLOCK else "no end mark")
    if any(tail):
        text = (
            "the archive goes on behind its end mark; what follows is not read (archives joined end to end?)"
        )
        found.notes.append(("W-tar", text))
    if found.outside:
        text = (
            f"{found.outside} members have absolute names or '..' in them: taken as names, nothing is opened"
        )
        found.notes.append(("W-tar", text))
    return found


def _check_start(start: bytes, path: Path) -> None:
    if not start:
        raise DataError("The file is empty.", where=str(path))
    for magic, command in _COMPRESSED.items():
        if start.startswith(magic):
            raise UsageError(
                "A compressed archive cannot be read in place: to reach one image, all before it is unpacked.",
                where=str(path),
                do=f"{command} it and name the .tar; images are compressed already, so it grows little",
                id="E-tar",
            )


def _add(found: Index, member: tarfile.TarInfo) -> None:
    raw = member.name.encode("utf-8", "surrogateescape")
    parts = [part for part in raw.split(b"/") if part not in (b"", b".")]
    found.from_root = found.from_root or raw == b"." or raw.startswith(b"./")
    found.outside += raw.startswith(b"/") or b".." in parts
    if member.isreg():
        kind = "file"
    elif member.isdir():
        kind = "folder"
    else:
        kind = "link" if member.issym() or member.islnk() else "special"
    if len(raw) > _LONGEST:
        raise tarfile.ReadError(f"a name of {len(raw)} bytes")
    if parts:
        found.members.append(
            Member(b"/".join(parts), kind, member.offset_data, member.size, member.issparse())
        )


def _damaged(found: Index, path: Path, why: str) -> DataError:
    if not found.members:
        return DataError("Not a readable tar archive.", where=f"{path}: {why}", id="E-tar")
    last = encode_name(found.members[-1].name)[0]
    return DataError(
        f"The archive is cut off or damaged after member {len(found.members):,}: {why}.",
        where=f"{path}: {last}",
        do="fetch or write it again; or unpack what there is and name the folder",
        id="E-tar",
    )
