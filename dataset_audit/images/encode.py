"""Pixels to encoded bytes: as another file was encoded, or at one stated quality."""

from __future__ import annotations

from io import BytesIO
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from dataset_audit.images.facts import SUBSAMPLINGS, Facts

if TYPE_CHECKING:
    from PIL.Image import Image


def encode_like(pixels: NDArray[np.uint8], facts: Facts) -> bytes:
    """Return uint8[H, W, 3] encoded as a file of these facts is.

    A JPEG gets the same quantisation tables and subsampling, a GIF 256 colours, a WebP or AVIF its encoder's default
    quality (neither states the one it was written with), anything else is lossless.
    """
    image = _image(pixels, grey=facts.mode in {"L", "1", "LA", "I;16", "I", "F"})
    stream = BytesIO()
    if facts.format == "JPEG":
        tables = [list(table) for table in facts.tables]
        chroma = SUBSAMPLINGS.index(facts.subsampling) if facts.subsampling in SUBSAMPLINGS else 0
        if image.mode == "L":
            image.save(stream, "JPEG", qtables=tables[:1] or None)
        else:
            image.save(stream, "JPEG", qtables=tables[:3] or None, subsampling=chroma)
    elif facts.format in {"WEBP", "AVIF"}:
        image.save(stream, facts.format)
    elif facts.format == "GIF":
        image.quantize(256).save(stream, "GIF")
    else:
        image.save(stream, "PNG", compress_level=1)
    return stream.getvalue()


def encode_jpeg(pixels: NDArray[np.uint8], quality: int) -> bytes:
    """Return uint8[H, W, 3] as a JPEG of this quality (1 to 95, Pillow's scale) with 4:2:0 chroma."""
    stream = BytesIO()
    _image(pixels, grey=False).save(stream, "JPEG", quality=quality, subsampling=2)
    return stream.getvalue()


def _image(pixels: NDArray[np.uint8], *, grey: bool) -> Image:
    from PIL import Image  # noqa: PLC0415 - the encoder is only needed by controls

    image = Image.fromarray(np.ascontiguousarray(pixels if pixels.shape[2] == 3 else pixels[..., 0]))
    return image.convert("L") if grey and image.mode != "L" else image
