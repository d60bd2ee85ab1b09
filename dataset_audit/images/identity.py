"""What an image is called: by its bytes, not by its name, place or decoder."""

from __future__ import annotations

import json
from collections.abc import Sequence
from hashlib import sha256
from typing import Final

import numpy as np
from numpy.typing import NDArray

_UNREAD: Final = "-"


def uid(data: bytes) -> str:
    """Return the identity of encoded bytes: the first 128 bits of their SHA-256, 32 lower-case hex digits."""
    return sha256(data).hexdigest()[:32]


def array_bytes(pixels: NDArray[np.uint8]) -> bytes:
    """Return the bytes that stand for one image of an array: type, shape, then the raw pixels in C order."""
    shape = ",".join(str(side) for side in pixels.shape)
    return f"{pixels.dtype.str}({shape})\n".encode() + pixels.tobytes()


def uid_array(pixels: NDArray[np.uint8]) -> str:
    """Return the identity of one image of an array source, ``uid(array_bytes(pixels))``."""
    return uid(array_bytes(pixels))


def fingerprint(
    uids: Sequence[str | None], labels: NDArray[np.int32] | Sequence[int], class_names: Sequence[str]
) -> str:
    """Return the identity of a data set: SHA-256 over (uid, label) in index order and the class names.

    Names of files and where they lie do not enter; an image whose bytes could not be read counts as one
    unread.
    """
    digest = sha256(json.dumps([len(uids), list(class_names)], ensure_ascii=True).encode())
    step = 65_536  # joined in pieces, so that ten million rows need no gigabyte of text
    for start in range(0, len(uids), step):
        rows = zip(uids[start : start + step], labels[start : start + step], strict=True)
        digest.update("".join(f"{key or _UNREAD} {label}\n" for key, label in rows).encode())
    return digest.hexdigest()
