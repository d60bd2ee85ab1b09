"""What a file says about a picture before a pixel is decoded, as facts for people and as numbers for a probe."""

from __future__ import annotations

from collections.abc import Container
from dataclasses import dataclass
from math import nan
from typing import TYPE_CHECKING, Final

import numpy as np

from dataset_audit.images.bad_image import BadImage
from dataset_audit.images.decode import open_lazily
from dataset_audit.images.headers import read_header
from dataset_audit.images.quiet import silence_decoders

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from PIL.ImageFile import ImageFile

FORMATS: Final = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "AVIF", "array")
MODES: Final = ("RGB", "L", "P", "RGBA", "LA", "CMYK", "1", "I;16", "I", "F", "YCbCr")
SUBSAMPLINGS: Final = ("4:4:4", "4:2:2", "4:2:0")

_EXIF_POINTER: Final = 34665

FACTS: Final[dict[str, str]] = {
    "width": "pixels",
    "height": "pixels",
    "long side": "pixels",
    "aspect": "width over height",
    "bytes per pixel": "of the encoded file",
    "format": ", ".join(FORMATS),
    "mode": "as stored",
    "luma quantiser": "mean of the JPEG table; low is high quality",
    "chroma quantiser": "mean of the JPEG table",
    "subsampling": "of JPEG chroma",
    "progressive": "JPEG",
    "EXIF": "present",
    "ICC": "profile present",
}


@dataclass(frozen=True, kw_only=True)
class Facts:
    """One file's header.

    Attributes:
        format: One of FORMATS.
        mode: Pillow's name of the stored mode.
        width: Pixels, as stored (not turned upright).
        height: Pixels.
        size: Bytes of the file.
        tables: JPEG quantisation tables, each 64 numbers; empty for other formats.
        subsampling: One of SUBSAMPLINGS, or "" where there is none or another.
        progressive: A progressive JPEG.
        exif: EXIF metadata is there.
        icc: A colour profile is there.
    """

    format: str
    mode: str
    width: int
    height: int
    size: int
    tables: tuple[tuple[int, ...], ...] = ()
    subsampling: str = ""
    progressive: bool = False
    exif: bool = False
    icc: bool = False

    def vector(self) -> NDArray[np.float32]:
        """Return float32[13] in the order of FACTS; NaN where a format has no such fact."""
        quantisers = [float(np.mean(table)) for table in self.tables[:2]] + [nan, nan]
        return np.array(
            [
                self.width,
                self.height,
                max(self.width, self.height),
                self.width / self.height,
                self.size / (self.width * self.height),
                _place(self.format, FORMATS),
                _place(self.mode, MODES),
                quantisers[0],
                quantisers[1],
                _place(self.subsampling, SUBSAMPLINGS) if self.tables else nan,
                self.progressive,
                self.exif,
                self.icc,
            ],
            np.float32,
        )


def _place(name: str, names: tuple[str, ...]) -> int:
    return names.index(name) if name in names else len(names)


def read_facts(data: bytes) -> Facts:
    """Return the header facts of one encoded image; nothing is decoded.

    Raises:
        BadImage: There is no header that can be read.
    """
    header = read_header(data)
    silence_decoders()
    try:
        image = open_lazily(data, header.format)
        return Facts(
            format=header.format,
            mode=image.mode,
            width=header.width,
            height=header.height,
            size=len(data),
            tables=_tables(image) if header.format == "JPEG" else (),
            subsampling=_subsampling(image) if header.format == "JPEG" else "",
            progressive=bool(image.info.get("progressive")),
            exif=_exif(image),
            icc="icc_profile" in image.info,
        )
    except Exception as error:  # noqa: BLE001 - decoders raise anything
        raise BadImage("unreadable", f"broken: {error or type(error).__name__}") from None


def facts_of_array(pixels: NDArray[np.uint8]) -> Facts:
    """Return the facts of a picture uint8[H, W, C] that was never a file: its size, and raw bytes."""
    height, width, channels = pixels.shape
    return Facts(
        format="array", mode="L" if channels == 1 else "RGB", width=width, height=height, size=pixels.size
    )


def _tables(image: ImageFile) -> tuple[tuple[int, ...], ...]:
    quantization: dict[int, list[int]] = getattr(image, "quantization", {})
    return tuple(tuple(quantization[key]) for key in sorted(quantization))


def _exif(image: ImageFile) -> bool:
    """Is EXIF there: a segment or chunk, a PNG text of ImageMagick's, the pointer to its directory in a TIFF?"""
    tags: Container[int] = getattr(image, "tag_v2", ())
    return "exif" in image.info or "Raw profile type exif" in image.info or _EXIF_POINTER in tags


def _subsampling(image: ImageFile) -> str:
    from PIL import JpegImagePlugin  # noqa: PLC0415 - the decoder, only where a JPEG was met

    found = JpegImagePlugin.get_sampling(image)
    return SUBSAMPLINGS[found] if 0 <= found < len(SUBSAMPLINGS) else ""
