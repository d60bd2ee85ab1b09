"""Whether a file's own structure says that its end is missing."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from dataset_audit.images.headers import Format, tiff_tags

if TYPE_CHECKING:
    from PIL.Image import Image

_INFLATE_STEP: Final = 1 << 20


def ends_early(data: bytes, kind: Format) -> bool:
    """Return whether the bytes stop before the format's own end; asked once a decoder has failed."""
    try:
        return _CHECKS[kind](data)
    except (struct.error, LookupError, ValueError):
        return True  # the structure itself runs over the end


def lacks_rows(data: bytes, image: Image) -> bool:
    """Return whether a PNG that loaded holds fewer rows than it declares; the missing ones are black.

    Libraries accept a compressed stream that ends early but cleanly. Missing rows are zero, so the exact
    count, which inflates once more, is made only for pictures whose last row is all zero, and for interlaced
    ones.
    """
    interlaced = data[28] == 1
    if not interlaced and any(image.crop((0, image.height - 1, image.width, image.height)).tobytes()):
        return False
    width, height, depth, colour = struct.unpack_from(">IIBB", data, 16)
    bits = depth * {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[colour]
    passes = _ADAM7 if interlaced else ((0, 0, 1, 1),)
    wanted = 0
    for left, top, across, down in passes:
        columns, rows = -(-(width - left) // across), -(-(height - top) // down)
        if columns > 0 and rows > 0:
            wanted += rows * (1 + (columns * bits + 7) // 8)
    return _inflated(_compressed(data), at_most=wanted) < wanted


_ADAM7: Final = (
    (0, 0, 8, 8),
    (4, 0, 8, 8),
    (0, 4, 4, 8),
    (2, 0, 4, 4),
    (0, 2, 2, 4),
    (1, 0, 2, 2),
    (0, 1, 1, 2),
)


def _compressed(data: bytes) -> bytes:
    pieces, position = [], 8
    while position + 8 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, position)
        if kind == b"IDAT":
            pieces.append(data[position + 8 : position + 8 + length])
        elif pieces:
            break
        position += 12 + length
    return b"".join(pieces)


def _inflated(compressed: bytes, *, at_most: int) -> int:
    inflate, total = zlib.decompressobj(), 0
    while compressed and total < at_most and not inflate.eof:
        try:
            total += len(inflate.decompress(compressed, _INFLATE_STEP))
        except zlib.error:
            break
        compressed = inflate.unconsumed_tail
    return total


def _png(data: bytes) -> bool:
    position = 8
    while position + 12 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, position)
        position += 12 + length
        if not kind.isalpha():
            return False  # not a missing end: bytes that are no chunk
        if kind == b"IEND":
            return bool(position > len(data))
    return True


def _webp(data: bytes) -> bool:
    return bool(struct.unpack_from("<I", data, 4)[0] + 8 > len(data))


def _bmp(data: bytes) -> bool:
    return bool(struct.unpack_from("<I", data, 2)[0] > len(data))


def _tiff(data: bytes) -> bool:
    tags, order = tiff_tags(data), "<" if data.startswith(b"II") else ">"
    if any(tag.outside and tag.value + tag.outside > len(data) for tag in tags.values()):
        return True
    offsets, counts = tags.get(273) or tags[324], tags.get(279) or tags[325]
    if offsets.count == counts.count == 1:
        return offsets.value + counts.value > len(data)
    last = offsets.value + 4 * (offsets.count - 1)  # of many pieces the last, with the usual 32-bit offsets
    return bool(struct.unpack_from(order + "I", data, last)[0] >= len(data))


def _avif(data: bytes) -> bool:
    position = 0
    while position + 8 <= len(data):
        length = struct.unpack_from(">I", data, position)[0]
        if length < 8:
            return False
        position += length
    return position != len(data)


_CHECKS: Final[dict[Format, Callable[[bytes], bool]]] = {
    "JPEG": lambda data: b"\xff\xd9" not in data[-4096:],
    "PNG": _png,
    "WEBP": _webp,
    "GIF": lambda data: not data.rstrip(b"\0").endswith(b";"),
    "BMP": _bmp,
    "TIFF": _tiff,
    "PPM": lambda _: False,  # text header, raw rows: the decoder's own message tells
    "AVIF": _avif,
}
