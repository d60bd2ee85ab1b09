"""Files as most encoders write them, decoded in fewer steps: the same pixels as by the general way, or None.

Two kinds of file make up nearly every data set, and for both most of the time goes elsewhere than into pixels:

- A small PNG of 8-bit grey or RGB that holds nothing but pixels. Parsing its three chunks here and handing the
  compressed rows to Pillow's own decompressor costs a fraction of opening the file as a picture.
- A JPEG in the usual three components. Where the extra ``fast`` is installed, ``simplejpeg`` decodes it straight
  into an array, with the accurate transform and the smooth upsampling: bit for bit what Pillow gives, since both
  are libjpeg-turbo. Its faster modes differ by up to 28 levels and are never used.

Whatever is not plain, or fails, is left to the general way, which alone decides what is a bad image and why.
"""

from __future__ import annotations

from functools import cache
from importlib import metadata
from types import ModuleType
from typing import TYPE_CHECKING, Any, Final
from zlib import crc32

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from PIL.ImageFile import ImageFile

    from dataset_audit.images.headers import Header
    from dataset_audit.images.pixels import Mode

_KINDS: Final = {b"\x08\x02\x00\x00\x00": "RGB", b"\x08\x00\x00\x00\x00": "L"}
"""Depth, colour type, compression, filter and interlacing of a PNG -> Pillow's mode."""

_SILENT: Final = {b"gAMA": 4, b"sRGB": 1, b"cHRM": 32, b"pHYs": 9}
"""PNG chunks between header and rows that change no pixel, and their length."""


def plain_png(data: bytes, header: Header, mode: Mode) -> NDArray[np.uint8] | None:
    """Return uint8[H, W, C] of a PNG of nothing but 8-bit grey or RGB; None where it is another or not whole.

    Args:
        data: The file.
        header: Of the same file.
        mode: What is wanted.
    """
    from PIL import Image

    kind = _KINDS.get(data[24:29])
    rows = _rows(data) if kind is not None else None
    if kind is None or rows is None:
        return None
    try:
        picture = Image.frombytes(kind, (header.width, header.height), rows, "zip", kind)
    except (ValueError, OSError):
        return None
    if kind != mode:
        picture = picture.convert(mode)
    raw = picture.tobytes()
    channels = 3 if mode == "RGB" else 1
    if raw.endswith(bytes(header.width * channels)):
        return (
            None  # rows that are missing arrive as zeros: whether this is one is for the general way to say
        )
    return np.frombuffer(bytearray(raw), np.uint8).reshape(header.height, header.width, channels)


def _rows(data: bytes) -> bytes | None:
    """Return the compressed rows of a PNG whose chunks are all known, whole and end the file; else None."""
    if data[8:16] != b"\0\0\0\x0dIHDR" or crc32(data[12:29]) != int.from_bytes(data[29:33], "big"):
        return None
    found, view, position, end = [], memoryview(data), 33, len(data)
    while position + 12 <= end:
        after = position + 12 + int.from_bytes(data[position : position + 4], "big")
        kind = data[position + 4 : position + 8]
        if after > end or crc32(view[position + 4 : after - 4]) != int.from_bytes(
            data[after - 4 : after], "big"
        ):
            return None
        if kind == b"IDAT":
            found.append(data[position + 8 : after - 4])
        elif kind == b"IEND":
            return b"".join(found) if after == end == position + 12 and found else None
        elif found or _SILENT.get(kind) != after - position - 12:
            return None
        position = after
    return None


def plain_jpeg(data: bytes, image: ImageFile, fraction: int) -> NDArray[np.uint8] | None:
    """Return uint8[H, W, 3] of a JPEG of the usual three components, as stored, not turned.

    Args:
        data: The file.
        image: The same, opened by Pillow and not loaded, so that both ways refuse the same headers.
        fraction: 1, 2, 4 or 8: it is decoded at this part of its size.

    Returns:
        None where it is of another kind, ``simplejpeg`` is not there, or it finds anything to complain of.
    """
    decoder = _simplejpeg()
    if decoder is None or image.mode != "RGB" or "adobe" in image.info:
        return None
    width, height = (-(-side // fraction) for side in image.size)
    least: dict[str, Any] = {"min_height": height, "min_width": width} if fraction > 1 else {}
    try:
        pixels: NDArray[np.uint8] = decoder.decode_jpeg(data, "RGB", **least)
    except (ValueError, MemoryError):
        return None
    return pixels if pixels.shape == (height, width, 3) else None


@cache
def _simplejpeg() -> ModuleType | None:
    try:
        import simplejpeg
    except ImportError:
        return None
    found: ModuleType = simplejpeg
    return found


def decoders() -> dict[str, str]:
    """Return the names and versions of what turns bytes into pixels here."""
    from PIL import __version__, features

    found = {"pillow": __version__, "libjpeg-turbo": str(features.version("libjpeg_turbo"))}
    if _simplejpeg() is not None:
        found["simplejpeg"] = metadata.version("simplejpeg")
    return found
