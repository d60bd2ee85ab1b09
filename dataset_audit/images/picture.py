"""Pixels as the PIL image that other people's transforms expect."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image


def picture(pixels: NDArray[np.uint8]) -> Image.Image:
    """Return uint8[H, W, 1 or 3] as an image of mode L or RGB."""
    return Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels)
