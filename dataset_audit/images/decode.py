"""Encoded bytes to upright 8-bit pixels: the only place that calls a decoder.

What comes out, whatever went in:

- The first frame only, of GIF, APNG, WebP, multi-page TIFF and MPO; frames are never counted.
- Upright: EXIF orientation is applied in every format, also where only XMP states it.
- 16-bit and 12-bit grey is scaled by its depth, v * 255 / (2**bits - 1), never clipped. Three times 16 bits arrive from
  Pillow reduced to their upper 8 bits, at most one level lower.
- Float grey with all values in [0, 1] is scaled by 255, else values in [0, 255] are rounded; anything else is a bad image.
- Palettes, CMYK and YCbCr become RGB by Pillow's rules; ICC profiles and gamma chunks are ignored.
- Transparency (alpha channel, palette alpha, a transparent colour) is laid over the stated background.
- Grey is the luma of ITU-R 601, taken last.

A decoder's exception, whatever its class, is a bad image. Each image gets one attempt: a second ``load()`` of a broken
PNG succeeds with black rows. A complete decode says that pixels came out, not that the bytes are those once written;
that is what ``uid`` is for (one flipped bit in a JPEG decodes in 596 of 600 trials).
"""

from __future__ import annotations

import re
import warnings
from dataclasses import dataclass
from io import BytesIO
from typing import TYPE_CHECKING, Final, Literal

import numpy as np

from dataset_audit.images.bad_image import BadImage
from dataset_audit.images.headers import Format, Header, read_header
from dataset_audit.images.truncation import ends_early, lacks_rows

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from PIL.Image import Image
    from PIL.ImageFile import ImageFile

__all__ = ["BadImage", "Limits", "Mode", "allowed_peak", "decode", "peak_bytes"]

Mode = Literal["RGB", "L"]


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
    return header.pixels * header.factor + len(data)


def decode(data: bytes, limits: Limits, mode: Mode = "RGB") -> NDArray[np.uint8]:
    """Return the pixels of one encoded image, uint8[H, W, 3] for RGB or uint8[H, W, 1] for L, C-contiguous.

    Raises:
        BadImage: The bytes are no complete image of an accepted format, or declare more pixels than allowed.
    """
    header = _allowed(data, limits)
    _silence_pillow()
    try:
        return _decode(data, header, limits, mode)
    except BadImage:
        raise
    except Exception as error:  # noqa: BLE001 - decoders raise OSError, ValueError, SyntaxError, TypeError, struct.error ...
        raise BadImage("unreadable", _reason(data, header, error)) from None


def _allowed(data: bytes, limits: Limits) -> Header:
    if len(data) > limits.max_file_bytes:
        raise BadImage("too_large", f"too large: {len(data)} bytes exceed --max-file-bytes {limits.max_file_bytes}")
    header = read_header(data)
    if header.pixels > limits.max_pixels:
        size = f"{header.width}x{header.height}"
        raise BadImage("too_large", f"too large: {size} exceeds --max-pixels {limits.max_pixels}")
    return header


def _decode(data: bytes, header: Header, limits: Limits, mode: Mode) -> NDArray[np.uint8]:
    image = _open(data, header.format)
    if image.width * image.height > header.pixels:
        raise BadImage("unreadable", f"broken: {header.width}x{header.height} grows to {image.width}x{image.height}")
    image.load()
    if header.format == "PNG" and lacks_rows(data, image):
        raise BadImage("unreadable", "truncated: the compressed pixels end before the last row")
    orientation = _orientation(image)
    pixels = _deep(image, data, header) if image.mode in _DEEP_MODES else None
    return _upright(_flatten(image, pixels, data, limits, mode), orientation)


def _open(data: bytes, kind: Format) -> ImageFile:
    # The plugin is called directly: no guessing among all formats Pillow knows, no global pixel limit of its own.
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

    plugins: dict[Format, type[ImageFile]] = {
        "JPEG": JpegImagePlugin.JpegImageFile,
        "PNG": PngImagePlugin.PngImageFile,
        "WEBP": WebPImagePlugin.WebPImageFile,
        "GIF": GifImagePlugin.GifImageFile,
        "BMP": BmpImagePlugin.BmpImageFile,
        "TIFF": TiffImagePlugin.TiffImageFile,
        "PPM": PpmImagePlugin.PpmImageFile,
        "AVIF": AvifImagePlugin.AvifImageFile,
    }
    return plugins[kind](BytesIO(data))


# -- one defined rule per kind of pixel ------------------------------------------------------------------------------

_DEEP_MODES: Final = frozenset(("I", "F", "I;16", "I;16B", "I;16L", "I;16N"))


def _deep(image: Image, data: bytes, header: Header) -> NDArray[np.uint8]:
    """Return uint8[H, W] of grey with more than 8 bits, scaled by its depth."""
    values = np.asarray(image)
    if image.mode == "F":
        return _from_float(values)
    bits, signed, inverted = 16, False, False
    if header.format == "TIFF":
        tags = getattr(image, "tag_v2", {})
        bits = int(tags.get(258, (16,))[0])
        signed = int(tags.get(339, (1,))[0]) == 2
        inverted = tags.get(262) == 0  # white is zero; Pillow turns only shallow pictures
    if bits == 32 and not signed:
        values = values.view(np.uint32)
    if int(values.min()) < 0:
        raise BadImage("unreadable", "values: negative pixels have no defined grey")
    top = (1 << bits - signed) - 1
    wide = values.astype(np.uint64)
    if inverted:
        wide = top - wide
    return ((wide * 255 + top // 2) // top).clip(0, 255).astype(np.uint8)


def _from_float(values: NDArray[np.float32]) -> NDArray[np.uint8]:
    if not np.isfinite(values).all():
        raise BadImage("unreadable", "values: float pixels that are not finite")
    low, high = float(values.min()), float(values.max())
    if low < 0 or high > 255:
        raise BadImage("unreadable", f"values: float pixels from {low:g} to {high:g}, neither in 0-1 nor in 0-255")
    return np.rint(values * (255 if high <= 1 else 1)).astype(np.uint8)


def _flatten(
    image: Image, deep: NDArray[np.uint8] | None, data: bytes, limits: Limits, mode: Mode
) -> NDArray[np.uint8]:
    """Return uint8[H, W, C]: palette and colour space resolved, transparency laid over the background."""
    from PIL import Image as pillow

    mask = _transparent_colour(image, data)
    if mask is not None:
        picture = pillow.fromarray(deep) if deep is not None else image
        alpha: Image | None = pillow.fromarray(mask)
    elif deep is not None:
        picture, alpha = pillow.fromarray(deep), None
    elif image.mode in ("P", "PA", "LA", "La", "RGBa", "RGBA") and image.has_transparency_data:
        picture = image.convert("RGBA")
        alpha = picture.getchannel("A")
    else:
        picture, alpha = image, None
    if alpha is not None:
        ground = pillow.new("RGB", image.size, limits.background)
        ground.paste(picture.convert("RGB"), mask=alpha)
        picture = ground
    if picture.mode != mode:
        picture = picture.convert(mode)
    pixels = np.asarray(picture)
    return pixels if pixels.ndim == 3 else pixels[:, :, None]


def _transparent_colour(image: Image, data: bytes) -> NDArray[np.uint8] | None:
    """Return uint8[H, W], 0 where a pixel has the one colour a PNG declares transparent and 255 elsewhere."""
    colour = image.info.get("transparency")
    if colour is None or image.format != "PNG" or image.mode not in ("1", "L", "I;16", "RGB"):
        return None
    depth = data[24]  # the declared colour counts in the file's own depth, the pixels in ours
    values = np.asarray(image)
    if image.mode == "RGB":
        wanted = np.asarray(colour) >> 8 if depth == 16 else np.asarray(colour)
        hit = (values == wanted).all(axis=2)
    elif image.mode == "L":
        hit = values == int(colour) * 255 // ((1 << depth) - 1)
    else:
        hit = values == (bool(colour) if image.mode == "1" else int(colour))
    return np.where(hit, 0, 255).astype(np.uint8)


# -- orientation -----------------------------------------------------------------------------------------------------

_MAY_TELL: Final = ("exif", "Raw profile type exif", "xmp", "XML:com.adobe.xmp")


def _orientation(image: ImageFile) -> int:
    """Return the EXIF orientation, 1 to 8; 1 for anything malformed.

    Only after a complete load: asking a PNG for its EXIF is a first, silent, load.
    """
    if image.format != "TIFF" and not any(key in image.info for key in _MAY_TELL):
        return 1
    try:
        value = image.getexif().get(0x0112)
    except Exception:  # noqa: BLE001 - malformed metadata of a readable picture; its parser raises whatever it likes
        return 1
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


def _upright(pixels: NDArray[np.uint8], orientation: int) -> NDArray[np.uint8]:
    if orientation in (5, 6, 7, 8):
        pixels = pixels.transpose(1, 0, 2)
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    return np.ascontiguousarray(pixels)


# -- what went wrong, in words ---------------------------------------------------------------------------------------


def _reason(data: bytes, header: Header, error: Exception) -> str:
    text = str(error) or type(error).__name__
    if isinstance(error, MemoryError):
        return "out of memory: while decoding"
    if "MAX_TEXT" in text or "text memory" in text:
        return "metadata too large: text or profile chunks"
    if ends_early(data, header.format) or "truncated" in text.lower():
        return f"truncated: {text}"
    return f"broken: {text}"


_QUIET: Final = re.compile(r"PIL\.")


def _silence_pillow() -> None:
    """Ignore warnings that Pillow's own modules raise: a folder of odd files would print thousands.

    Put back whenever it is gone, because ``warnings.catch_warnings`` elsewhere restores older lists; entering that
    context here instead would not be safe with several threads.
    """
    quiet = ("ignore", None, Warning, _QUIET, 0)
    if quiet not in warnings.filters:
        warnings.filterwarnings("ignore", module=_QUIET.pattern)
