"""Files of named data sets: read once, compared with a published MD5, and only then believed."""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import tarfile
import tempfile
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import urlparse

from dataset_audit.errors import DataError, EnvironmentProblem

_MOST: Final = 4 * 2**30  # bytes of one download; the largest named set has 2.6 GB
_STEP: Final = 1 << 20


@dataclass(frozen=True)
class Remote:
    """A published file: where from (in order of trial), under what name, with what MD5."""

    urls: tuple[str, ...]
    name: str
    md5: str


def md5_of(data: bytes) -> str:
    """Return the MD5 in hex digits; a checksum against damage and mix-ups, as its publishers give it."""
    return hashlib.md5(data, usedforsecurity=False).hexdigest()


def verified(path: Path, md5: str) -> bytes:
    """Return a file's bytes after comparing their MD5; the bytes returned are the bytes compared.

    Raises:
        DataError: The file is damaged or another one.
        OSError: It cannot be read.
    """
    data = path.read_bytes()
    if md5_of(data) != md5:
        raise DataError(
            f"The file is damaged or another one: its MD5 is {md5_of(data)}, published is {md5}.",
            where=str(path),
            do="delete it and fetch it again",
            id="E-md5",
        )
    return data


def first_existing(folders: Sequence[Path], name: str) -> Path | None:
    """Return the first of the folders' files of that name that is there."""
    return next((folder / name for folder in folders if (folder / name).is_file()), None)


def members(archive: bytes, wanted: Sequence[str]) -> dict[str, bytes]:
    """Return regular files of a tar archive by name, read in place; nothing is ever unpacked to disk.

    Raises:
        DataError: One is not in it.
    """
    found: dict[str, bytes] = {}
    with tarfile.open(fileobj=io.BytesIO(archive), mode="r:*") as tar:
        for member in tar:
            file = tar.extractfile(member) if member.isreg() and member.name in wanted else None
            if file is not None:
                found[member.name] = file.read()
                if len(found) == len(wanted):
                    return found
    missing = sorted(set(wanted) - set(found))
    raise DataError(f"The archive lacks {missing[0]}.", where=missing[0], id="E-md5")


def unzipped(data: bytes) -> bytes:
    """Return the content of gzip bytes whose MD5 is known to be right."""
    return gzip.decompress(data)


def download(remote: Remote, folder: Path) -> Path:
    """Fetch one published file into a folder, whole and verified or not at all.

    Raises:
        DataError: What came is not what was published.
        EnvironmentProblem: It cannot be fetched or written.
    """
    target = folder / remote.name
    trouble = ""
    for url in remote.urls:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            handle, temporary = tempfile.mkstemp(prefix=f".{remote.name}.", suffix=".tmp", dir=folder)
            try:
                with open(handle, "wb") as file:
                    digest = _stream(url, file)
                    file.flush()
                    os.fsync(file.fileno())
                if digest == remote.md5:
                    umask = os.umask(0)
                    os.umask(umask)
                    os.chmod(temporary, 0o666 & ~umask)
                    os.replace(temporary, target)
                    return target
                trouble = f"{url}: MD5 {digest}, published {remote.md5}"
            finally:
                Path(temporary).unlink(missing_ok=True)
        except OSError as error:  # URLError is one
            trouble = f"{url}: {error}"
    if "published" in trouble:
        raise DataError("What was downloaded is not what was published.", where=trouble, id="E-md5")
    raise EnvironmentProblem(
        "The download failed.", where=trouble, do=f"fetch it yourself to {target}", id="E-download"
    )


class _SameScheme(urllib.request.HTTPRedirectHandler):
    """Follows redirects, but never from https to anything weaker, nor to another kind of address."""

    def redirect_request(self, req, fp, code, msg, headers, newurl):  # type: ignore[no-untyped-def]
        """Refuse a weaker scheme."""
        was, will = urlparse(req.full_url).scheme, urlparse(newurl).scheme
        if will not in ("https", was):
            raise OSError(f"redirected from {was} to {will}")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _stream(url: str, file: io.BufferedWriter) -> str:
    """Write what an address gives and return its MD5."""
    if urlparse(url).scheme not in ("https", "http"):
        raise OSError(f"not a web address: {url}")
    digest, total = hashlib.md5(usedforsecurity=False), 0
    opener = urllib.request.build_opener(_SameScheme)
    request = urllib.request.Request(url, headers={"User-Agent": "dataset-audit"})  # noqa: S310 - scheme checked above
    with opener.open(request, timeout=60) as answer:
        while piece := answer.read(_STEP):
            total += len(piece)
            if total > _MOST:
                raise OSError("the answer is larger than any published file")
            digest.update(piece)
            file.write(piece)
    return digest.hexdigest()
