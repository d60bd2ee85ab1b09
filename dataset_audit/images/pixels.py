"""A decoded picture of any mode to upright 8-bit RGB or grey: one defined rule per kind of pixel.

Worked through in strips of rows written straight into the result, so that beside the decoder's picture and
the result no third copy of the whole exists.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal

import numpy as np

from dataset_audit.images.bad_image import BadImage

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray
    from PIL.Image import Image
    from PIL.ImageFile import ImageFile

Mode = Literal["RGB", "L"]

STRIP_PIXELS: Final = 1 << 18
STRIP_FACTOR: Final = 24
"""Bytes per pixel that working through one strip may take."""

_DEEP_MODES: Final = frozenset(("I", "F", "I;16", "I;16B", "I;16L", "I;16N"))


@dataclass(frozen=True, kw_only=True)
class _Rule:
    """How one picture's values become 8 bits.

    Args:
        bits: Depth of its grey, where that is more than 8.
        signed: Whether half of that range is below zero.
        inverted: Whether white is zero.
        scale: Factor for float values.
        colour: The one transparent colour in units of the decoded values, or None.
    """

    bits: int = 8
    signed: bool = False
    inverted: bool = False
    scale: float = 1.0
    colour: NDArray[np.int64] | None = None


def to_pixels(
    image: ImageFile, *, depth: int, background: tuple[int, int, int], mode: Mode
) -> NDArray[np.uint8]:
    """Return a completely loaded picture as C-contiguous uint8[H, W, 3] (RGB) or uint8[H, W, 1] (L), upright.

    Args:
        image: The picture, loaded; asking a PNG for its orientation before that is a first, silent, load.
        depth: Bits per value in the file, for PNG.
        background: What transparent pixels are laid on.
        mode: What is wanted.

    Raises:
        BadImage: Its values have no defined grey: negative, or float outside 0-1 and 0-255, or not finite.
    """
    rule, turn = _rule(image, depth), orientation(image)
    wide, high = image.size if turn < 5 else image.size[::-1]
    result = np.empty((high, wide, 3 if mode == "RGB" else 1), np.uint8)
    lying = _as_stored(result, turn)
    for top, strip in _strips(image):
        lying[top : top + strip.height] = _flatten(strip, rule, background, mode)
    return result


def _strips(image: Image) -> Iterator[tuple[int, Image]]:
    rows = max(1, STRIP_PIXELS // image.width)
    if rows >= image.height:
        yield 0, image
        return
    for top in range(0, image.height, rows):
        yield top, image.crop((0, top, image.width, min(top + rows, image.height)))


# -- rules ---------------------------------------------------------------------------------------------------


def _rule(image: ImageFile, depth: int) -> _Rule:
    colour = _colour(image, depth)
    if image.mode == "F":
        return _Rule(bits=32, scale=_float_scale(image), colour=colour)
    if image.mode not in _DEEP_MODES:
        return _Rule(colour=colour)
    tags: Any = getattr(image, "tag_v2", {})
    return _Rule(
        bits=int(tags.get(258, (16,))[0]),
        signed=int(tags.get(339, (1,))[0]) == 2,
        inverted=tags.get(262) == 0,  # Pillow turns only shallow pictures
        colour=colour,
    )


def _float_scale(image: Image) -> float:
    low, high = np.inf, -np.inf
    for _, strip in _strips(image):
        values = np.asarray(strip)
        if not np.isfinite(values).all():
            raise BadImage("unreadable", "values: float pixels that are not finite")
        low, high = min(low, float(values.min())), max(high, float(values.max()))
    if low < 0 or high > 255:
        raise BadImage(
            "unreadable", f"values: float pixels from {low:g} to {high:g}, neither in 0-1 nor in 0-255"
        )
    return 255.0 if high <= 1 else 1.0


def _colour(image: ImageFile, depth: int) -> NDArray[np.int64] | None:
    """Return the one colour a PNG declares transparent, in units of the decoded values."""
    colour = image.info.get("transparency")
    if colour is None or image.format != "PNG" or image.mode not in ("1", "L", "I;16", "RGB"):
        return None
    values = np.atleast_1d(np.asarray(colour, np.int64))
    if image.mode == "RGB":
        return values >> 8 if depth == 16 else values  # the pixels arrive as their upper 8 bits
    if image.mode == "L":
        return values * (255 // ((1 << depth) - 1))
    return values.astype(np.bool_).astype(np.int64) if image.mode == "1" else values


# -- one strip -----------------------------------------------------------------------------------------------


def _flatten(strip: Image, rule: _Rule, background: tuple[int, int, int], mode: Mode) -> NDArray[np.uint8]:
    """Return uint8[h, W, C]: depth, palette and colour space resolved, transparency over the background."""
    from PIL import Image as Pillow

    picture, alpha = strip, None
    if rule.colour is not None:
        alpha = Pillow.fromarray(_opaque(strip, rule.colour))
    if strip.mode in _DEEP_MODES:
        picture = Pillow.fromarray(_shallow(np.asarray(strip), rule))
    elif alpha is None and strip.has_transparency_data:
        picture = strip.convert("RGBA")
        alpha = picture.getchannel("A")
    if alpha is not None:
        ground = Pillow.new("RGB", strip.size, background)
        ground.paste(picture.convert("RGB"), mask=alpha)
        picture = ground
    if picture.mode != mode:
        picture = picture.convert(mode)
    pixels = np.asarray(picture)
    return pixels if pixels.ndim == 3 else pixels[:, :, None]


def _opaque(strip: Image, colour: NDArray[np.int64]) -> NDArray[np.uint8]:
    """Return uint8[h, W]: 0 where a pixel has the transparent colour, 255 elsewhere."""
    values = np.asarray(strip)
    hit = (values == colour).all(axis=2) if values.ndim == 3 else values == colour[0]
    return np.where(hit, np.uint8(0), np.uint8(255))


def _shallow(values: NDArray[Any], rule: _Rule) -> NDArray[np.uint8]:
    """Return uint8[h, W] of grey with more than 8 bits: v * 255 / (2**bits - 1), never clipped."""
    if values.dtype.kind == "f":
        return np.rint(values * rule.scale).astype(np.uint8)
    if rule.bits == 32 and not rule.signed:
        values = values.view(np.uint32)
    top = (1 << (rule.bits - rule.signed)) - 1
    if int(values.min()) < 0 or int(values.max()) > top:
        raise BadImage(
            "unreadable",
            f"values: grey from {values.min()} to {values.max()} with a depth of {rule.bits} bits",
        )
    wide = values.astype(np.uint64)
    if rule.inverted:
        wide = top - wide
    return ((wide * 255 + top // 2) // top).astype(np.uint8)


# -- orientation ---------------------------------------------------------------------------------------------

_MAY_TELL: Final = ("exif", "Raw profile type exif", "xmp", "XML:com.adobe.xmp")


def orientation(image: ImageFile) -> int:
    """Return the orientation of a loaded picture, 1 to 8, from EXIF or XMP; 1 for anything malformed."""
    if image.format != "TIFF" and not any(key in image.info for key in _MAY_TELL):
        return 1
    try:
        value = image.getexif().get(0x0112)
    except Exception:  # noqa: BLE001 - malformed metadata of a readable picture; the parser raises whatever it likes
        return 1
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


def upright(pixels: NDArray[np.uint8], turn: int) -> NDArray[np.uint8]:
    """Return a picture as stored, uint8[H, W, C], turned upright; C-contiguous.

    Args:
        pixels: As stored.
        turn: What `orientation` says.
    """
    if turn == 1:
        return pixels
    high, wide = pixels.shape[:2] if turn < 5 else pixels.shape[1::-1]
    result = np.empty((high, wide, pixels.shape[2]), np.uint8)
    _as_stored(result, turn)[:] = pixels
    return result


def _as_stored(upright: NDArray[np.uint8], turn: int) -> NDArray[np.uint8]:
    """Return the view of an upright picture through which rows are written in the file's order."""
    if turn in (2, 3, 6, 7):
        upright = upright[:, ::-1]
    if turn in (3, 4, 7, 8):
        upright = upright[::-1]
    return upright.transpose(1, 0, 2) if turn in (5, 6, 7, 8) else upright
