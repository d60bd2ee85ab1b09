"""File names as text that any table can hold, and back to the very bytes."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

_ODD: Final = re.compile(r"[\x00-\x1f\x7f-\x9f%\ud800-\udfff]")
_ESCAPED: Final = re.compile(rb"%([0-9A-F]{2})")


def encode_name(name: bytes) -> tuple[str, bool]:
    """Return a path's bytes as valid UTF-8 text, and whether it had to be escaped.

    Bytes that are not UTF-8, control characters and ``%`` itself become ``%XX``; but a name that needs this
    only for a ``%`` stays literal, so that ordinary names are what they look like.
    """
    text = name.decode("utf-8", "surrogateescape")
    if not _ODD.search(text.replace("%", "")):
        return text, False
    return _ODD.sub(
        lambda odd: "".join(f"%{byte:02X}" for byte in odd[0].encode("utf-8", "surrogateescape")), text
    ), True


def decode_name(text: str, *, escaped: bool) -> bytes:
    """Return the bytes of a path that `encode_name` made into text."""
    data = text.encode("utf-8")
    return _ESCAPED.sub(lambda hexed: bytes([int(hexed[1], 16)]), data) if escaped else data


def encode_names(names: Sequence[bytes]) -> tuple[list[str], NDArray[np.bool_] | None]:
    """Return the text of many names and which of them are escaped, bool[N], or None where none is."""
    texts, flags = [], np.zeros(len(names), dtype=np.bool_)
    for row, name in enumerate(names):
        text, flags[row] = encode_name(name)
        texts.append(text)
    return texts, flags if flags.any() else None
