"""Facts that stand in a file's first bytes: its format and size, before any decoder allocates for it.

Decoders are not asked, because some allocate when they are made: 34 bytes of WebP may declare 9,000 x 9,900
pixels.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final, Literal

from dataset_audit.images.bad_image import BadImage

Format = Literal["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "AVIF"]

MAX_SCANS: Final = 256
"""Progressive scans of a JPEG: each costs a pass over all pixels, and a scan may be empty."""

MAX_PIECES: Final = 65_536
"""Strips or tiles of a TIFF: a million of them take seconds to index, whatever the picture's size."""


@dataclass(frozen=True, kw_only=True)
class Header:
    """Format and size as the file declares them.

    ``factor`` is the measured peak of decoding, in bytes per pixel, the RGB array included.
    """

    format: Format
    width: int
    height: int
    factor: int = 8

    @property
    def pixels(self) -> int:
        """Width times height."""
        return self.width * self.height


def read_header(data: bytes) -> Header:
    """Return the header of an encoded image of an accepted format.

    Raises:
        BadImage: The bytes are empty, no image, an image of another format, or a header that is cut off,
            contradicts itself or declares more scans or pieces than any honest encoder writes.
    """
    if not data:
        raise BadImage("unreadable", "empty: 0 bytes")
    for accepts, read in _READERS:
        if accepts(data):
            try:
                header = read(data)
            except (struct.error, IndexError, ValueError):
                raise BadImage("unreadable", "truncated: the file ends inside its header") from None
            if header.width <= 0 or header.height <= 0:
                raise BadImage(
                    "unreadable", f"broken: {header.format} of {header.width}x{header.height} pixels"
                )
            return header
    raise BadImage("unreadable", _foreign(data))


# -- what it is when it is none of ours ----------------------------------------------------------------------

_OTHER_IMAGES: Final[tuple[tuple[int, bytes, str], ...]] = (
    (0, b"%!PS", "EPS"),
    (0, b"\xc5\xd0\xd3\xc6", "EPS"),
    (0, b"8BPS", "PSD"),
    (0, b"SIMPLE  =", "FITS"),
    (0, b"\x00\x00\x01\x00", "ICO"),
    (0, b"\x00\x00\x00\x0cjP  ", "JPEG 2000"),
    (0, b"\xff\x4f\xff\x51", "JPEG 2000"),
    (0, b"\x00\x00\x00\x0cJXL ", "JPEG XL"),
    (0, b"\xff\x0a", "JPEG XL"),
    (0, b"DDS ", "DDS"),
    (0, b"icns", "ICNS"),
    (0, b"\x76\x2f\x31\x01", "OpenEXR"),
    (0, b"#?RADIANCE", "HDR"),
    (0, b"P7\n", "PAM"),
    (0, b"qoif", "QOI"),
    (4, b"ftypheic", "HEIF"),
    (4, b"ftypheix", "HEIF"),
    (4, b"ftyphevc", "HEIF"),
    (4, b"ftypmif1", "HEIF"),
    (4, b"ftypmsf1", "HEIF"),
)

_NO_IMAGES: Final[tuple[tuple[int, bytes, str], ...]] = (
    (0, b"%PDF", "PDF"),
    (0, b"PK\x03\x04", "ZIP"),
    (0, b"\x1f\x8b", "gzip"),
    (0, b"PAR1", "Parquet"),
    (0, b"\x93NUMPY", "NumPy"),
    (0, b"version https://git-lfs", "a Git LFS pointer"),
    (4, b"ftyp", "MP4"),
    (0, b"{", "JSON"),
    (0, b"[", "JSON"),
)


def _foreign(data: bytes) -> str:
    for offset, magic, name in _OTHER_IMAGES:
        if data.startswith(magic, offset):
            return f"format not accepted: {name}"
    if data.rstrip(b"\0").endswith(b"TRUEVISION-XFILE."):
        return "format not accepted: TGA"
    start = data[:512].lstrip(b"\xef\xbb\xbf \t\r\n")
    if re.match(rb"(?i)<(!doctype html|html|head|body)", start):
        return "not an image (looks like HTML)"
    if re.match(rb"(?i)(<\?xml[^>]*>\s*|<!--.*?-->\s*)*<svg", start, re.DOTALL):
        return "format not accepted: SVG"
    for offset, magic, name in _NO_IMAGES:
        if (data if offset else start).startswith(magic, offset):
            return f"not an image (looks like {name})"
    return "not an image"


# -- one reader per accepted format --------------------------------------------------------------------------


def _read_png(data: bytes) -> Header:
    if data[12:16] != b"IHDR":
        raise BadImage("unreadable", "broken: PNG without its header chunk")
    width, height = struct.unpack_from(">II", data, 16)
    return Header(format="PNG", width=width, height=height)


def _read_jpeg(data: bytes) -> Header:
    size, progressive, components = (0, 0), False, 3
    for marker, position in jpeg_segments(data):
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            height, width = struct.unpack_from(">HH", data, position + 5)
            size, progressive, components = (width, height), marker in _PROGRESSIVE, data[position + 9]
        if marker == 0xDA:
            break
    else:
        raise BadImage("unreadable", "truncated: JPEG without image data")
    if size == (0, 0):
        raise BadImage("unreadable", "broken: JPEG without a frame header")
    scans = data.count(b"\xff\xda")  # quick, and counts too many: only a high count is worth the exact walk
    if scans > MAX_SCANS and _many_scans(data):
        raise BadImage("unreadable", f"too many scans: a JPEG of more than {MAX_SCANS}")
    return Header(
        format="JPEG",
        width=size[0],
        height=size[1],
        factor=_jpeg_factor(components, several=progressive or scans > 1),
    )


def _jpeg_factor(components: int, *, several: bool) -> int:
    # several scans make the decoder hold all coefficients, two bytes each, beside the picture
    return max(8, 4 + 2 * min(components, 4)) if several else 8


_PROGRESSIVE: Final = frozenset((0xC2, 0xC6, 0xCA, 0xCE))
_MARKER: Final = re.compile(rb"\xff+([^\x00\xff])")
_ALONE: Final = frozenset((0x01, *range(0xD0, 0xD9)))  # markers without a length


def jpeg_segments(data: bytes) -> Iterator[tuple[int, int]]:
    """Yield (marker, position of its 0xFF) through all scans to the end marker, skipping junk between."""
    position = 2
    while found := _MARKER.search(data, position):
        marker, position = found[1][0], found.end() - 2
        yield marker, position
        if marker == 0xD9:
            return
        position += 2
        if marker not in _ALONE:
            if position + 2 > len(data):
                return
            position += max(2, int.from_bytes(data[position : position + 2], "big"))


def _many_scans(data: bytes) -> bool:
    scans = 0
    for marker, _ in jpeg_segments(data):
        scans += marker == 0xDA
        if scans > MAX_SCANS:
            return True
    return False


def _read_webp(data: bytes) -> Header:
    kind = data[12:16]
    if kind == b"VP8X":
        width = int.from_bytes(_exactly(data, 24, 3), "little") + 1
        height = int.from_bytes(_exactly(data, 27, 3), "little") + 1
    elif kind == b"VP8L":
        bits = struct.unpack_from("<I", data, 21)[0]
        width, height = (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    elif kind == b"VP8 ":
        width, height = (side & 0x3FFF for side in struct.unpack_from("<HH", data, 26))
    else:
        raise BadImage("unreadable", "broken: WebP without an image chunk")
    return Header(format="WEBP", width=width, height=height, factor=16)


def _read_gif(data: bytes) -> Header:
    width, height, flags = struct.unpack_from("<HHB", data, 6)
    position = 13 + (3 << (flags & 7) + 1 if flags & 0x80 else 0)
    while data[position] == 0x21:  # extensions before the first picture
        position += 2
        while data[position]:
            position += data[position] + 1
        position += 1
    if data[position] == 0x2C:  # the first picture may be larger than the canvas; the canvas then grows
        left, top, wide, high = struct.unpack_from("<HHHH", data, position + 1)
        if width and height:
            width, height = max(width, left + wide), max(height, top + high)
    return Header(format="GIF", width=width, height=height)


def _read_bmp(data: bytes) -> Header:
    if struct.unpack_from("<I", data, 14)[0] == 12:
        width, height = struct.unpack_from("<HH", data, 18)
    else:
        width, height = struct.unpack_from("<ii", data, 18)
    return Header(format="BMP", width=width, height=abs(height))


_PPM: Final = re.compile(rb"P[1-6f](?:\s|#[^\r\n]*[\r\n])+(\d{1,10})(?:\s|#[^\r\n]*[\r\n])+(\d{1,10})\s")


def _read_ppm(data: bytes) -> Header:
    found = _PPM.match(data[:4096])
    if not found:
        raise ValueError
    return Header(format="PPM", width=int(found[1]), height=int(found[2]))


def _read_avif(data: bytes) -> Header:
    # every item states its size in an `ispe` box; a grid's whole is the largest of them
    sizes = [
        struct.unpack_from(">II", data, found.end() + 4) for found in re.finditer(b"ispe", data[:65_536])
    ]
    width, height = max(sizes, key=lambda size: size[0] * size[1])
    return Header(format="AVIF", width=width, height=height, factor=12)


def _read_tiff(data: bytes) -> Header:
    tags = tiff_tags(data)
    for tag in (273, 324):  # offsets of strips, of tiles
        if tag in tags and tags[tag].count > MAX_PIECES:
            raise BadImage(
                "unreadable", f"too many strips: {tags[tag].count} in a TIFF, at most {MAX_PIECES}"
            )
    if 256 not in tags or 257 not in tags:
        raise BadImage("unreadable", "broken: TIFF without a size")
    width, height = tags[256].value, tags[257].value
    tile = tags[322].value * tags[323].value if 322 in tags and 323 in tags else 0
    if tile > 4 * max(width * height, 1 << 20):
        raise BadImage("too_large", f"broken: TIFF tiles of {tile} pixels for {width}x{height}")
    return Header(format="TIFF", width=width, height=height)


@dataclass(frozen=True)
class TiffTag:
    """One directory entry: how many values, the first one if it stands in the entry, else where they stand."""

    count: int
    value: int
    outside: int
    """Bytes of the values that stand elsewhere, at ``value``; 0 if they are in the entry."""


_TIFF_SIZES: Final = {
    1: 1,
    2: 1,
    3: 2,
    4: 4,
    5: 8,
    6: 1,
    7: 1,
    8: 2,
    9: 4,
    10: 8,
    11: 4,
    12: 8,
    16: 8,
    17: 8,
    18: 8,
}


def tiff_tags(data: bytes) -> dict[int, TiffTag]:
    """Return the entries of a TIFF's first directory by tag.

    Raises:
        struct.error, ValueError: The directory lies outside the bytes.
        BadImage: It has more entries than any honest encoder writes.
    """
    order = "<" if data.startswith(b"II") else ">"
    big = struct.unpack_from(order + "H", data, 2)[0] == 43
    word, room, entry = ("Q", 8, 20) if big else ("I", 4, 12)
    start = struct.unpack_from(order + word, data, room)[0]
    if start >= len(data):
        raise ValueError
    head = "Q" if big else "H"
    count = struct.unpack_from(order + head, data, start)[0]
    first = start + struct.calcsize(order + head)
    if count > 4096:
        raise BadImage("unreadable", f"broken: TIFF directory of {count} entries")
    tags = {}
    for position in range(first, first + count * entry, entry):
        tag, kind, items = struct.unpack_from(order + "HH" + word, data, position)
        size = _TIFF_SIZES.get(kind, 1) * items
        form = "H" if kind == 3 and size <= room else word
        value = struct.unpack_from(order + form, data, position + entry - room)[0]
        tags[tag] = TiffTag(items, value, size if size > room else 0)
    return tags


def _exactly(data: bytes, start: int, count: int) -> bytes:
    if len(data) < start + count:
        raise ValueError
    return data[start : start + count]


_Reader = tuple[Callable[[bytes], bool], Callable[[bytes], Header]]

_READERS: Final[tuple[_Reader, ...]] = (
    (lambda data: data.startswith(b"\xff\xd8\xff"), _read_jpeg),
    (lambda data: data.startswith(b"\x89PNG\r\n\x1a\n"), _read_png),
    (lambda data: data.startswith(b"RIFF") and data.startswith(b"WEBP", 8), _read_webp),
    (lambda data: data.startswith((b"GIF87a", b"GIF89a")), _read_gif),
    (lambda data: data.startswith(b"BM"), _read_bmp),
    (lambda data: data.startswith((b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")), _read_tiff),
    (lambda data: re.match(rb"P[1-6f][\s#]", data) is not None, _read_ppm),
    (lambda data: data.startswith((b"ftypavif", b"ftypavis"), 4), _read_avif),
)
