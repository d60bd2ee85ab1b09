"""Encoded bytes to upright 8-bit pixels: the only place that calls a decoder.

What comes out, whatever went in:

- The first frame only, of GIF, APNG, WebP, multi-page TIFF and MPO; frames are never counted.
- Upright: EXIF orientation is applied in every format, also where only XMP states it.
- 16-bit and 12-bit grey is scaled by its depth, v * 255 / (2**bits - 1), never clipped. Three times 16 bits
  arrive from Pillow reduced to their upper 8 bits, at most one level lower.
- Float grey with all values in [0, 1] is scaled by 255, else values in [0, 255] are rounded; anything else is
  a bad image.
- Palettes, CMYK and YCbCr become RGB by Pillow's rules, a CMYK JPEG always as Adobe writes it (inverted); ICC
  profiles and gamma chunks are ignored.
- Transparency (alpha channel, palette alpha, a transparent colour) is laid over the stated background.
- Grey is the luma of ITU-R 601, taken last.

What `plain` says about plain files changes none of this, only the time it takes.

A decoder's exception, whatever its class, is a bad image. Each image gets one attempt: a second ``load()`` of
a broken PNG succeeds with black rows. A complete decode says that pixels came out, not that the bytes are
those once written; that is what ``uid`` is for (one flipped bit in a JPEG decodes in 596 of 600 trials).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from io import BytesIO
from typing import TYPE_CHECKING

from dataset_audit.images.bad_image import BadImage
from dataset_audit.images.headers import Format, Header, read_header
from dataset_audit.images.pixels import STRIP_FACTOR, STRIP_PIXELS, Mode, orientation, to_pixels, upright
from dataset_audit.images.plain import plain_jpeg, plain_png
from dataset_audit.images.quiet import silence_decoders
from dataset_audit.images.truncation import ends_early, lacks_rows

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from PIL.ImageFile import ImageFile

__all__ = ["BadImage", "Limits", "Mode", "allowed_peak", "decode", "peak_bytes"]


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What is decoded at all, and on what ground transparent pixels are laid (RGB, 0 to 255)."""

    max_pixels: int = 89_478_485
    max_file_bytes: int = 256 * 2**20
    background: tuple[int, int, int] = (255, 255, 255)


def peak_bytes(data: bytes) -> int:
    """Return how many bytes decoding these encoded bytes may take at its peak, from the header alone.

    Raises:
        BadImage: There is no header to read.
    """
    return _peak(read_header(data), data)


def allowed_peak(data: bytes, limits: Limits) -> int:
    """Return `peak_bytes` of an image that is small enough to be decoded at all.

    Raises:
        BadImage: As for `decode`, as far as the header tells.
    """
    return _peak(_allowed(data, limits), data)


def _peak(header: Header, data: bytes) -> int:
    return header.pixels * header.factor + min(header.pixels, STRIP_PIXELS) * STRIP_FACTOR + len(data)


def decode(
    data: bytes, limits: Limits, mode: Mode = "RGB", *, at_least: int | None = None
) -> NDArray[np.uint8]:
    """Return the pixels of one encoded image, uint8[H, W, 3] for RGB or uint8[H, W, 1] for L, C-contiguous.

    Args:
        data: The encoded bytes.
        limits: What is decoded at all.
        mode: Colour or grey.
        at_least: A JPEG may be decoded at a half, a quarter or an eighth of its size as long as its shorter side
            keeps this many pixels; a fraction of the work, and no other format is touched.

    Raises:
        BadImage: The bytes are no complete image of an accepted format, or declare more pixels than allowed.
    """
    header = _allowed(data, limits)
    silence_decoders()
    try:
        return _decode(data, header, limits, mode, at_least)
    except BadImage:
        raise
    except Exception as error:  # noqa: BLE001 - decoders raise OSError, ValueError, SyntaxError, TypeError, struct.error ...
        raise BadImage("unreadable", _reason(data, header, error)) from None


def _allowed(data: bytes, limits: Limits) -> Header:
    if len(data) > limits.max_file_bytes:
        raise BadImage(
            "too_large", f"too large: {len(data)} bytes exceed --max-file-bytes {limits.max_file_bytes}"
        )
    header = read_header(data)
    if header.pixels > limits.max_pixels:
        size = f"{header.width}x{header.height}"
        raise BadImage("too_large", f"too large: {size} exceeds --max-pixels {limits.max_pixels}")
    return header


def _decode(
    data: bytes, header: Header, limits: Limits, mode: Mode, at_least: int | None
) -> NDArray[np.uint8]:
    if header.format == "PNG" and header.pixels <= STRIP_PIXELS:  # larger ones are worked through in strips
        plain = plain_png(data, header, mode)
        if plain is not None:
            return plain
    image = open_lazily(data, header.format)
    if image.width * image.height > header.pixels:
        raise BadImage(
            "unreadable", f"broken: {header.width}x{header.height} grows to {image.width}x{image.height}"
        )
    if header.format == "JPEG":
        fraction = _fraction(min(image.size), at_least)
        plain = plain_jpeg(data, image, fraction) if mode == "RGB" else None
        if plain is not None:
            return upright(plain, orientation(image))
        if fraction > 1:
            image.draft(None, (image.width // fraction, image.height // fraction))
    image.load()
    if header.format == "PNG" and lacks_rows(data, image):
        raise BadImage("unreadable", "truncated: the compressed pixels end before the last row")
    depth = data[24] if header.format == "PNG" else 8
    return to_pixels(image, depth=depth, background=limits.background, mode=mode)


def _fraction(side: int, at_least: int | None) -> int:
    """Return 8, 4, 2 or 1: the largest part of a side that leaves so many pixels."""
    if at_least is None:
        return 1
    return next((part for part in (8, 4, 2) if side // part >= at_least), 1)


def open_lazily(data: bytes, kind: Format) -> ImageFile:
    """Return Pillow's picture of a stated format, nothing decoded yet; raises whatever its plugin raises.

    The plugin is called directly: no guessing among all formats Pillow knows, no global pixel limit.
    """
    return _plugins()[kind](BytesIO(data))


@cache
def _plugins() -> dict[Format, type[ImageFile]]:
    from PIL import (
        AvifImagePlugin,
        BmpImagePlugin,
        GifImagePlugin,
        JpegImagePlugin,
        PngImagePlugin,
        PpmImagePlugin,
        TiffImagePlugin,
        WebPImagePlugin,
    )

    return {
        "JPEG": JpegImagePlugin.JpegImageFile,
        "PNG": PngImagePlugin.PngImageFile,
        "WEBP": WebPImagePlugin.WebPImageFile,
        "GIF": GifImagePlugin.GifImageFile,
        "BMP": BmpImagePlugin.BmpImageFile,
        "TIFF": TiffImagePlugin.TiffImageFile,
        "PPM": PpmImagePlugin.PpmImageFile,
        "AVIF": AvifImagePlugin.AvifImageFile,
    }


# -- what went wrong, in words -------------------------------------------------------------------------------


def _reason(data: bytes, header: Header, error: Exception) -> str:
    text = str(error) or type(error).__name__
    if isinstance(error, MemoryError):
        return "out of memory: while decoding"
    if "MAX_TEXT" in text or "text memory" in text:
        return "metadata too large: text or profile chunks"
    if ends_early(data, header.format) or "truncated" in text.lower():
        return f"truncated: {text}"
    return f"broken: {text}"
