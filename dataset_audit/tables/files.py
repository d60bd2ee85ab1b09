"""Files that appear whole or not at all: temp beside the target, fsync, rename; locks; checks before work begins."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import secrets
import socket
import stat
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Final

from dataset_audit.errors import DataError, EnvironmentProblem, UsageError

_BLOCK: Final = 1 << 20


@dataclass(frozen=True)
class Written:
    """What was put on disk."""

    sha256: str
    size: int


def sha256_file(path: Path) -> str:
    """Return the SHA-256 of a file, in hex.

    Raises:
        EnvironmentProblem: It cannot be read.
    """
    digest = sha256()
    try:
        with path.open("rb") as stream:
            while block := stream.read(_BLOCK):
                digest.update(block)
    except OSError as error:
        raise problem(error, path, "read") from error
    return digest.hexdigest()


def problem(error: OSError, path: Path, doing: str) -> EnvironmentProblem:
    """Return the explained form of an operating system error."""
    hints = {
        errno.ENOSPC: "free some space",
        errno.EDQUOT: "free some space",
        errno.EFBIG: "raise the file size limit",
    }
    reason = error.strerror or str(error)
    return EnvironmentProblem(
        f"{path} could not be {'written' if doing == 'write' else doing}: {reason}.",
        where=str(path),
        do=hints.get(error.errno or 0, "another place, or other permissions") + "; nothing was lost",
        id="E-disk",
    )


def write_bytes(path: Path, data: bytes) -> None:
    """Replace ``path`` by ``data`` in one step; a reader sees the old file or the new one.

    Raises:
        EnvironmentProblem: It could not be written; the old file is intact.
    """
    _publish([(path, lambda temp: _write_all(temp, data))])


def make_folder(path: Path) -> None:
    """Make a folder and its parents if they are not there.

    Raises:
        EnvironmentProblem: It cannot be made.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise problem(error, path, "write") from error


def publish(
    table: Path,
    write: Callable[[Path], None],
    document: Mapping[str, object] | Callable[[], Mapping[str, object]] | None,
    *,
    beside: Path,
) -> Written:
    """Write a table and then the sidecar that states its hash; the pair of them marks a finished result.

    Both temporary files are complete and on disk before the first rename, so that the only state in between is
    "new table, old sidecar", which readers recognise by the hash and the next run completes (`sweep`).

    Args:
        table: Where the table goes; through a link, its target. ``/dev/null`` is allowed and gets no sidecar.
        write: Writes the table to the temporary path it is given.
        document: The sidecar, or what gives it once the table is written; gets ``sha256`` added. None writes the
            table alone.
        beside: Where the sidecar goes.

    Raises:
        EnvironmentProblem: Disk full, no permission, read-only ...; old files are intact, no temporary file is left.
    """
    if _is_device(table):
        return Written(sha256=sha256(b"").hexdigest(), size=0)
    facts: dict[str, Written] = {}

    def first(temp: Path) -> None:
        write(temp)
        facts["table"] = Written(sha256=sha256_file(temp), size=temp.stat().st_size)

    def second(temp: Path) -> None:
        told = document() if callable(document) else document
        text = json.dumps(
            {**(told or {}), "sha256": facts["table"].sha256}, sort_keys=True, indent=2, allow_nan=False,
            ensure_ascii=False,
        )  # fmt: skip
        _write_all(temp, text.encode("utf-8", "backslashreplace") + b"\n")  # \udcff is JSON for itself

    _publish([(table, first)] if document is None else [(table, first), (beside, second)])
    return facts["table"]


def _publish(targets: list[tuple[Path, Callable[[Path], None]]]) -> None:
    temps: list[tuple[Path, Path]] = []
    current = targets[0][0]
    try:
        for current, write in targets:
            final = _followed(current)
            temp = final.with_name(f".{final.name}.{secrets.token_hex(6)}.tmp")
            temps.append((temp, final))
            os.close(os.open(temp, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600))
            write(temp)
            _sync(temp)
            temp.chmod(_mode(final))
        for temp, final in temps:
            temp.replace(final)
        for folder in {final.parent for _, final in temps}:
            _sync_folder(folder)
    except OSError as error:
        raise problem(error, current, "write") from error
    finally:
        for temp, _ in temps:
            with suppress(OSError):  # the next run sweeps it; the error that led here says more
                temp.unlink(missing_ok=True)


def _write_all(path: Path, data: bytes) -> None:
    with path.open("wb") as stream:
        stream.write(data)


def _sync(path: Path) -> None:
    with path.open("rb+") as stream:
        os.fsync(stream.fileno())


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno != errno.EINVAL:  # some network file systems cannot; the rename itself is done
            raise
    finally:
        os.close(handle)


def _mode(target: Path) -> int:
    try:
        return stat.S_IMODE(target.stat().st_mode)
    except FileNotFoundError:
        mask = os.umask(0)
        os.umask(mask)
        return 0o666 & ~mask


def _followed(target: Path) -> Path:
    """Return what a link points to, so that the link stays; refuse another user's link in a shared folder."""
    if not target.is_symlink():
        return target
    folder, link = target.parent.stat(), target.lstat()
    if folder.st_mode & stat.S_ISVTX and folder.st_mode & stat.S_IWOTH and link.st_uid != os.getuid():
        raise PermissionError(errno.EPERM, "a link of another user in a world-writable folder", str(target))
    return resolved(target)


def resolved(path: Path) -> Path:
    """Return the file that a path leads to through links, whether it exists or not.

    Raises:
        EnvironmentProblem: The links lead in a circle.
    """
    try:
        return path.resolve()
    except (OSError, RuntimeError) as error:  # Python before 3.13 raises RuntimeError for a circle
        raise EnvironmentProblem(
            f"{path} leads nowhere: its links go in a circle.", do="another name"
        ) from error


def _is_device(path: Path) -> bool:
    try:
        return stat.S_ISCHR(path.stat().st_mode)
    except OSError:
        return False


def check_writable(path: Path, *, need_bytes: int = 0) -> None:
    """Find out before work begins whether an output can be written.

    Args:
        path: The output.
        need_bytes: An estimate of its size, compared with the free space.

    Raises:
        UsageError: The parent is missing, or the path is a folder, a pipe or ``-``, or ends in a format we do not
            write.
        EnvironmentProblem: No permission, read-only, or too little space.
    """
    if str(path) == "-":
        raise UsageError("A table is not written to standard output.", do="--out with a file name")
    if _is_device(path):
        if path.resolve() != Path("/dev/null"):
            raise EnvironmentProblem(
                f"{path} is a device and cannot hold a table.", do="--out with a file name"
            )
        return
    _check_kind(path)
    parents = {path.parent: path.name, resolved(path).parent: resolved(path).name}  # sidecar and table
    for parent in parents:
        if not parent.is_dir():
            raise UsageError(f"The folder {parent} does not exist.", do=f"mkdir -p {parent}")
    try:
        for parent, name in parents.items():
            probe = parent / f".{name}.{secrets.token_hex(6)}.tmp"
            os.close(os.open(probe, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600))
            probe.unlink(missing_ok=True)  # whoever holds the lock may have swept it
        parent = resolved(path).parent
        free = os.statvfs(parent)
    except OSError as error:
        raise problem(error, path, "write") from error
    if need_bytes > free.f_bavail * free.f_frsize:
        raise EnvironmentProblem(
            f"{parent} has {free.f_bavail * free.f_frsize / 1e6:,.0f} MB free, {need_bytes / 1e6:,.0f} MB are needed.",
            do="free some space, or --out elsewhere",
            id="E-disk",
        )


def _check_kind(path: Path) -> None:
    try:
        exists, is_dir, is_file = path.exists(), path.is_dir(), path.is_file()
    except OSError as error:  # a name too long, a folder that may not be entered
        raise problem(error, path, "write") from error
    if is_dir:
        raise UsageError(f"{path} is a folder.", do="--out with a file name")
    if path.suffix != ".parquet":
        raise UsageError(
            f"{path}: tables are written as Parquet.", do=f"--out {path.with_suffix('.parquet')}"
        )
    if exists and not is_file:
        raise UsageError(f"{path} is no file and cannot hold a table.", do="--out with another name")


@contextmanager
def steady(path: Path) -> Iterator[None]:
    """Read ``path`` in several steps as if in one.

    Raises:
        DataError: It was replaced or changed meanwhile.
    """
    before = state(path)
    yield
    refuse_changed(path, before)


def state(path: Path) -> tuple[int, ...] | None:
    """Return what differs once a file was changed or replaced, on any machine that sees it; None if nothing is seen."""
    try:
        facts = path.stat()
    except OSError:
        return None
    return facts.st_ino, facts.st_size, facts.st_mtime_ns


def refuse_changed(path: Path, before: tuple[int, ...] | None) -> None:
    """Raise if a file is no longer what `state` said of it.

    Raises:
        DataError: It was replaced or changed meanwhile.
    """
    if before is not None and state(path) != before:
        raise DataError(f"{path} was changed while it was read.", do="the same command again")


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the right to write ``path``; the kernel frees it however the process ends, so the file is never deleted.

    Raises:
        EnvironmentProblem: Another process holds it; says which.
    """
    if _is_device(path):
        yield
        return
    final = resolved(path)  # two links to one file are one output
    lock = final.with_name(f".{final.name}.lock")
    try:
        handle = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)
    except OSError as error:
        raise problem(error, lock, "write") from error
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(handle, 200, 0).decode("utf-8", "replace").strip() or "another process"
            raise EnvironmentProblem(
                f"{path} is in use by {holder}.", do="wait for it, or --out with another name", id="E-in-use"
            ) from None
        except OSError as error:
            if error.errno not in {errno.ENOLCK, errno.EOPNOTSUPP, errno.EINVAL}:
                raise problem(error, lock, "locked") from error
        with suppress(OSError):  # who holds it is a courtesy; a full disk must not matter here
            since = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
            os.ftruncate(handle, 0)
            os.pwrite(handle, f"pid {os.getpid()} on {socket.gethostname()} since {since}".encode(), 0)
        yield
    finally:
        os.close(handle)


def sweep(table: Path, sidecar: Path) -> None:
    """Tidy up after a killed run; call with the lock held.

    A sidecar's temporary file that states the hash of the table as it is was complete but for its rename: it is
    rolled forward. Every other temporary file of the two outputs is removed.

    Raises:
        EnvironmentProblem: The folder cannot be written.
    """
    if _is_device(table):
        return
    table, sidecar = resolved(table), resolved(sidecar)
    try:
        for temp in _temps(sidecar):
            try:
                states = json.loads(temp.read_bytes()).get("sha256")
            except (ValueError, AttributeError, RecursionError):
                states = None
            if states is not None and table.is_file() and states == sha256_file(table):
                temp.replace(sidecar)
                _sync_folder(sidecar.parent)
        for temp in (*_temps(table), *_temps(sidecar)):
            temp.unlink(missing_ok=True)
    except OSError as error:
        raise problem(error, table, "write") from error


def _temps(target: Path) -> list[Path]:
    return list(target.parent.glob(f".{_escaped(target.name)}.????????????.tmp"))


def _escaped(name: str) -> str:
    return "".join(f"[{c}]" if c in "[*?" else c for c in name)
