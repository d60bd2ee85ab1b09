"""Decoded images in one file, mapped into memory: decoded once, read from there in every epoch and by later runs.

The file holds the pixels uint8[N, H, W, C], then for each row what it was decoded from (the first 128 bits of the
SHA-256 of the encoded bytes, zero where there is no picture) and a checksum of its pixels, then a page that says what
this is. It is written under another name, filled, synced and renamed: whoever finds it finds it whole, and it never
changes afterwards. A row is taken over if the image's bytes and the row's pixels are those it was written with; any
other is decoded again. So a changed image, a damaged row and an interrupted pass cost what is missing and no more.

Space is claimed before the file is mapped: a page that the disk has no room for would end the process, not raise.
"""

from __future__ import annotations

import errno
import json
import mmap
import os
import tempfile
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from fcntl import LOCK_EX, LOCK_NB, flock
from hashlib import sha256
from pathlib import Path
from typing import Final
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from dataset_audit.tables import files

PAGE: Final = 4096
UID: Final = 16
FORMAT: Final = 1
MARGIN: Final = 0.1  # of the disk that is left free


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What a file of pixels is of; files of another plan are other files.

    Attributes:
        folder: Where it lies.
        kept: Whether later runs are to find it; else it has no name and is gone when this process ends.
        shape: (N, H, W, C).
        name: Of the data set, for people.
        made: Everything the pixels of one image depend on beside its bytes.
    """

    folder: Path
    kept: bool
    shape: tuple[int, int, int, int]
    name: str
    made: Mapping[str, object]

    @property
    def pixels(self) -> int:
        """Bytes of all pixels."""
        rows, height, width, channels = self.shape
        return rows * height * width * channels

    @property
    def bytes(self) -> int:
        """Size of the file."""
        return _padded(self.pixels) + _padded(self.shape[0] * (UID + 4)) + PAGE

    @property
    def path(self) -> Path:
        """Where it lies, if it is kept."""
        told = json.dumps([FORMAT, self.shape, self.name, dict(self.made)], sort_keys=True)
        plain = "".join(c if c.isalnum() else "-" for c in Path(self.name).name)[:40]
        return self.folder / f"{plain}-{sha256(told.encode()).hexdigest()[:12]}.pixels"

    def found(self) -> bool:
        """Return whether it was kept by an earlier run."""
        return self.kept and self.path.is_file()

    def fits(self) -> bool:
        """Return whether its folder is on a disk with room for it, a tenth left free; memory is no disk."""
        if not os.access(self.folder, os.W_OK):
            return False
        try:
            return self.bytes <= self.room() and not _in_memory(self.folder)
        except OSError:
            return False

    def room(self) -> float:
        """Return the bytes that its folder's disk has to spare, below zero where less than a tenth is free."""
        disk = os.statvfs(self.folder)
        return (disk.f_bavail - MARGIN * disk.f_blocks) * disk.f_frsize


class _File:
    """One mapped file."""

    def __init__(self, handle: int, plan: Plan, access: int = mmap.ACCESS_WRITE) -> None:
        self._plan = plan
        self._map = mmap.mmap(handle, plan.bytes, access=access)
        rows = plan.shape[0]
        at = _padded(plan.pixels)
        self.pixels = np.frombuffer(self._map, np.uint8, plan.pixels).reshape(plan.shape)
        self.uid = np.frombuffer(self._map, np.uint8, rows * UID, at).reshape(rows, UID)
        self.sums = np.frombuffer(self._map, np.uint32, rows, at + rows * UID)

    def page(self) -> bytes:
        """Return the last page as it must be: what this is, and the checksum of the table before it."""
        told = {
            "audit": "pixels",
            "format": FORMAT,
            "shape": list(self._plan.shape),
            "name": self._plan.name,
            "made": dict(self._plan.made),
            "rows": sha256(self.uid.tobytes() + self.sums.tobytes()).hexdigest(),
        }
        return json.dumps(told, sort_keys=True).encode().ljust(PAGE, b" ")

    def sealed(self) -> bool:
        """Return whether the last page is what it must be."""
        return self._map[-PAGE:] == self.page()

    def seal(self) -> None:
        """Write the last page, and everything to disk."""
        self._map[-PAGE:] = self.page()
        self._map.flush()


class Cache:
    """Pixels of a data set on disk, being filled or full.

    Args:
        plan: What and where.

    Attributes:
        reused: How many rows needed no decoding.
        damaged: How many rows were not as they were once written.

    Raises:
        EnvironmentProblem: The file cannot be made.
    """

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.reused = self.damaged = 0
        self._asked = np.zeros((plan.shape[0], UID), np.uint8)
        self._taken = np.zeros(plan.shape[0], bool)
        self._lock = threading.Lock()
        self._temp: Path | None = None
        self._old = _found(plan) if plan.kept else None
        self._new = self._created() if self._old is None else None

    @property
    def pixels(self) -> NDArray[np.uint8]:
        """uint8[N, H, W, C], mapped; black where there is no picture. Not to be written to."""
        return self._file().pixels if self._old is None or self._new is not None else self._old.pixels

    @property
    def fresh(self) -> bool:
        """Whether there was no finished file: then nothing is asked of it, and rows may be kept by forked processes."""
        return self._old is None

    def has(self, index: int, uid: str) -> bool:
        """Return whether the pixels of an image with these bytes are there and whole; asked before `keep`."""
        self._asked[index] = np.frombuffer(bytes.fromhex(uid), np.uint8)
        old = self._old
        if old is None or not np.array_equal(old.uid[index], self._asked[index]):
            return False
        whole = crc32(old.pixels[index]) == int(old.sums[index])
        self._taken[index] = whole
        with self._lock:
            self.reused += whole
            self.damaged += not whole
        return whole

    def keep(self, index: int, pixels: NDArray[np.uint8]) -> None:
        """Put pixels uint8[H, W, C] to their row; called by any thread.

        Raises:
            EnvironmentProblem: The file cannot be made.
        """
        file = self._file()
        file.pixels[index] = pixels
        if self.plan.kept:
            file.sums[index] = crc32(file.pixels[index])
            file.uid[index] = self._asked[index]

    @contextmanager
    def filling(self) -> Iterator[None]:
        """Give the file its name when the pass is over, also when it is broken off: what is there is there.

        Raises:
            EnvironmentProblem: It cannot be written.
        """
        try:
            yield
        finally:
            if self._new is not None and self._temp is not None:
                self._publish(self._new, self._temp)

    def _file(self) -> _File:
        with self._lock:
            if self._new is None:
                self._new = self._created()
            return self._new

    def _created(self) -> _File:
        plan = self.plan
        try:
            if not plan.kept:
                with tempfile.TemporaryFile(dir=plan.folder) as nameless:
                    _claim(nameless.fileno(), plan)
                    return _File(nameless.fileno(), plan)  # the map keeps the file alive
            _sweep(plan.path)
            handle, name = tempfile.mkstemp(".tmp", f".{plan.path.name}.", plan.folder)
            self._temp = Path(name)
            with os.fdopen(handle, "rb+"):
                flock(
                    handle, LOCK_EX
                )  # the map holds it too: as long as this process lives nobody sweeps the file
                _claim(handle, plan)
                return _File(handle, plan)
        except OSError as error:
            self._drop()
            raise files.problem(error, plan.folder, "write") from error

    def _publish(self, new: _File, temp: Path) -> None:
        if self._old is not None:
            same = self._taken | ~self._asked.any(axis=1)  # not asked for: the pass was broken off before
            for row in np.flatnonzero(same & self._old.uid.any(axis=1)).tolist():
                new.pixels[row], new.uid[row], new.sums[row] = (
                    self._old.pixels[row],
                    self._old.uid[row],
                    self._old.sums[row],
                )
        if not new.uid.any():
            self._drop()  # nothing to find
            return
        try:
            new.seal()
            temp.chmod(0o644)
            temp.replace(self.plan.path)
        except OSError as error:
            self._drop()
            raise files.problem(error, self.plan.path, "write") from error

    def _drop(self) -> None:
        if self._temp is not None:
            with suppress(OSError):
                self._temp.unlink(missing_ok=True)


def _claim(handle: int, plan: Plan) -> None:
    """Take the space of a file, unless other processes took theirs since this one asked whether there is room."""
    os.posix_fallocate(handle, 0, plan.bytes)
    if not plan.found() and plan.room() < 0:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def _found(plan: Plan) -> _File | None:
    """Return the finished file of this plan, None where there is none or it is not one."""
    try:
        with plan.path.open("rb") as stream:
            if os.fstat(stream.fileno()).st_size != plan.bytes:
                return None
            file = _File(stream.fileno(), plan, mmap.ACCESS_COPY)
            return file if file.sealed() else None
    except OSError:
        return None


def _sweep(path: Path) -> None:
    """Remove what killed runs left of this file: temporary files that no process holds."""
    for temp in path.parent.glob(f".{path.name}.*.tmp"):
        with suppress(OSError):
            handle = os.open(temp, os.O_RDWR | os.O_CLOEXEC)
            try:
                flock(handle, LOCK_EX | LOCK_NB)
                temp.unlink(missing_ok=True)
            finally:
                os.close(handle)


def _padded(size: int) -> int:
    return -(-size // PAGE) * PAGE


def _in_memory(folder: Path) -> bool:
    """Return whether a folder's files take memory instead of disk (Linux; elsewhere False)."""
    number = folder.stat().st_dev
    device = f"{os.major(number)}:{os.minor(number)}"
    try:
        mounts = Path("/proc/self/mountinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return False
    kinds = [line.partition(" - ")[2].split()[0] for line in mounts if line.split()[2] == device]
    return bool({"tmpfs", "ramfs"} & set(kinds))
