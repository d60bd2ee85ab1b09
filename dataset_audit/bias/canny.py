"""Canny's edges, for many pictures at once."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

LOW: Final = 85
HIGH: Final = 255
_TAN_22: Final = 13573  # tan(22.5 degrees) * 2^15, as OpenCV rounds it

Whole = NDArray[np.int32]


def canny(levels: Whole) -> NDArray[np.bool_]:
    """Return the edges of grey pictures int[B, S, S], bool[B, S, S] (Canny 1986), as OpenCV finds them by default.

    3x3 binomial smoothing, 3x3 Sobel derivatives, |dx| + |dy| as the length of a gradient, non-maximum suppression
    along one of four directions, hysteresis over eight neighbours with thresholds LOW and HIGH.
    """
    from scipy import ndimage  # noqa: PLC0415 - a command without ablations does not wait for it

    smooth = levels.astype(np.int32)
    for axis in (1, 2):
        smooth = ndimage.correlate1d(smooth, [1, 2, 1], axis, mode="mirror")
    smooth = (smooth + 8) >> 4
    right, down = (
        ndimage.correlate1d(
            ndimage.correlate1d(smooth, [-1, 0, 1], axis, mode="nearest"), [1, 2, 1], 3 - axis, mode="nearest"
        )
        for axis in (2, 1)
    )
    length = np.abs(right) + np.abs(down)
    thin = (length > LOW) & _is_ridge(length, right, down)
    inside_one_picture = np.zeros((3, 3, 3), bool)
    inside_one_picture[1] = True
    pieces, count = ndimage.label(thin, inside_one_picture)
    strong = np.zeros(count + 1, bool)
    strong[pieces[thin & (length > HIGH)]] = True
    edges: NDArray[np.bool_] = strong[pieces]
    return edges


def _is_ridge(length: Whole, right: Whole, down: Whole) -> NDArray[np.bool_]:
    """Return where a gradient is longest among its two neighbours along its direction; beyond the rim there are none.

    Of two equals in a row or column the second loses, on a diagonal both do.
    """
    around = np.pad(length, ((0, 0), (1, 1), (1, 1)))
    side = length.shape[1]

    def neighbour(y: int, x: int) -> Whole:
        shifted: Whole = around[:, 1 + y : 1 + y + side, 1 + x : 1 + x + side]
        return shifted

    across = (length > neighbour(0, -1)) & (length >= neighbour(0, 1))
    along = (length > neighbour(-1, 0)) & (length >= neighbour(1, 0))
    falling = (length > neighbour(-1, -1)) & (length > neighbour(1, 1))
    rising = (length > neighbour(-1, 1)) & (length > neighbour(1, -1))
    width, height = np.abs(right).astype(np.int64), np.abs(down).astype(np.int64) << 15
    flat = height < width * _TAN_22
    steep = height > width * _TAN_22 + (width << 16)  # tan(67.5 degrees) = tan(22.5 degrees) + 2
    diagonal = np.where((right ^ down) < 0, rising, falling)
    ridge: NDArray[np.bool_] = np.where(flat, across, np.where(steep, along, diagonal))
    return ridge
