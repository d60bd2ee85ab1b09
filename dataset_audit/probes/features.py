"""Pictures to vectors: plain functions over arrays, cheapest first.

``thumbnail``, ``hog``, ``histogram`` and ``mean_rgb`` look at a small copy of the picture and see what it shows;
``traces`` looks at the pixels as they were stored and sees how it was made.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Final

import numpy as np
from numpy.typing import NDArray

THUMBNAIL: Final = 32
HOG_SIDE: Final = 64
BINS: Final = 16  # per channel of the colour histogram
WINDOW: Final = 192  # pixels of a side that ``traces`` looks at
_LEAST: Final = 16
_ORIENTATIONS: Final = 9
_CELL: Final = 8
_EPSILON: Final = 1e-5
_LUMA: Final = np.array([0.299, 0.587, 0.114], np.float32)
_PLANES: Final = np.stack(
    [_LUMA, np.eye(3, dtype=np.float32)[2] - _LUMA, np.eye(3, dtype=np.float32)[0] - _LUMA]
)

_ROWS: Final = (
    np.cos(np.pi * (2 * np.arange(8)[None, :] + 1) * np.arange(8)[:, None] / 16) / 2
    * np.where(np.arange(8)[:, None] == 0, 0.5**0.5, 1.0)
)  # fmt: skip
_DCT: Final = np.kron(_ROWS, _ROWS).T.astype(
    np.float32
)  # [64, 64]: an 8x8 block, flat, to its orthonormal DCT-II

Pixels = NDArray[np.uint8]
Vectors = NDArray[np.float32]


def luma(pixels: Pixels) -> Vectors:
    """Return the luma of ITU-R 601, float32[..., H, W] in 0 to 255, of uint8[..., H, W, 3]."""
    # whole thousandths are exact in float32: colours of one luma get one number, in whatever order a library adds
    thousandths = pixels.astype(np.float32) @ np.array([299, 587, 114], np.float32)
    return np.asarray(thousandths / np.float32(1000), np.float32)


def area(pixels: Pixels, side: int) -> Pixels:
    """Return uint8[B, side, side, 3]: the mean over squares of uint8[B, S, S, 3], where ``side`` divides S."""
    batch, size, _, channels = pixels.shape
    step = size // side
    if step * side != size:
        raise ValueError(f"{side} does not divide {size}")
    squares = pixels.reshape(batch, side, step, side, step, channels)
    return np.asarray(np.rint(squares.mean((2, 4), dtype=np.float32)), np.uint8)


def mean_rgb(pixels: Pixels) -> Vectors:
    """Return the mean colour, float32[B, 3] in 0 to 1, of uint8[B, S, S, 3]."""
    return np.asarray(pixels.mean((1, 2), dtype=np.float32) / 255, np.float32)


def histogram(pixels: Pixels) -> Vectors:
    """Return shares of pixels per level, float32[B, 3 * 16], one histogram per channel of uint8[B, S, S, 3]."""
    batch, size, _, channels = pixels.shape
    level = (pixels // (256 // BINS)).astype(np.int64).reshape(batch, size**2, channels)
    place = np.arange(batch)[:, None, None] * channels * BINS + np.arange(channels) * BINS + level
    counts = np.bincount(place.ravel(), minlength=batch * channels * BINS)
    return np.asarray(counts.reshape(batch, channels * BINS) / size**2, np.float32)


def thumbnail(pixels: Pixels) -> Vectors:
    """Return the tiny image of Torralba & Efros 2011: float32[B, 32 * 32 * 3] in 0 to 1, of uint8[B, S, S, 3]."""
    small = pixels if pixels.shape[1] == THUMBNAIL else area(pixels, THUMBNAIL)
    return np.asarray(small.reshape(len(small), 3 * THUMBNAIL**2) / np.float32(255), np.float32)


def hog(pixels: Pixels) -> Vectors:
    """Return histograms of oriented gradients (Dalal & Triggs 2005) of uint8[B, 64, 64, 3], float32[B, 1764].

    Nine unsigned orientations, cells of 8x8 pixels, blocks of 2x2 cells with a stride of one, L2-Hys with a clip at
    0.2; each pixel votes for one orientation with its gradient's length, as in scikit-image.
    """
    grey = luma(pixels) / 255
    down, right = np.zeros_like(grey), np.zeros_like(grey)
    down[:, 1:-1] = grey[:, 2:] - grey[:, :-2]
    right[:, :, 1:-1] = grey[:, :, 2:] - grey[:, :, :-2]
    length = np.hypot(right, down)
    angle = np.rad2deg(np.arctan2(down, right)) % 180
    which = np.minimum((angle * (_ORIENTATIONS / 180)).astype(np.int64), _ORIENTATIONS - 1)
    batch, side = grey.shape[0], grey.shape[1] // _CELL
    rows = np.arange(side * _CELL) // _CELL
    cell = rows[:, None] * side + rows[None, :]
    place = (np.arange(batch)[:, None, None] * side * side + cell) * _ORIENTATIONS + which
    votes = np.bincount(place.ravel(), weights=length.ravel(), minlength=batch * side * side * _ORIENTATIONS)
    cells = (votes / _CELL**2).astype(np.float32).reshape(batch, side, side, _ORIENTATIONS)
    blocks = np.concatenate(
        [cells[:, :-1, :-1], cells[:, :-1, 1:], cells[:, 1:, :-1], cells[:, 1:, 1:]], axis=3
    )
    blocks = np.minimum(_unit(blocks), 0.2)
    return _unit(blocks).reshape(batch, (side - 1) ** 2 * 4 * _ORIENTATIONS)


def _unit(vectors: Vectors) -> Vectors:
    scaled: Vectors = vectors / np.sqrt((vectors**2).sum(-1, keepdims=True) + _EPSILON**2)
    return scaled


def traces(picture: Pixels) -> Vectors:
    """Return statistics of how one picture uint8[H, W, 3] was made, float32[D], from its pixels as they were stored.

    What cameras, encoders and resizers leave behind and a small copy no longer shows: how often each frequency of an
    8x8 block is quantised to zero and its mean size (64 + 64), how second differences go with the position inside a
    block (16) and correlate with their neighbours (8), the spectrum in eight bands, the share of pixels at the ends of
    the histogram (16), chroma against luma (6), and how the outermost lines differ from the next (8).
    Block statistics use a window of at most 192 x 192 aligned to the 8x8 grid of the upper left corner.
    """
    if min(picture.shape[:2]) < _LEAST:
        grow = [(0, max(0, _LEAST - side)) for side in picture.shape[:2]]
        picture = np.pad(picture, [*grow, (0, 0)], mode="edge")
    window = _window(picture)
    grey, blue, red = (_PLANES @ np.ascontiguousarray(window.reshape(-1, 3).T)).reshape(3, *window.shape[:2])
    return np.concatenate(
        [
            _blocks(grey),
            _phases(grey),
            _neighbours(grey),
            _spectrum(grey),
            _ends(window),
            _chroma(grey, blue, red),
            _rim(picture),
        ]
    ).astype(np.float32)


TRACES: Final[dict[str, int]] = {
    "block frequencies quantised to zero": 64,
    "size of block frequencies": 64,
    "block grid": 16,
    "residual noise": 8,
    "spectrum": 8,
    "ends of the histogram": 16,
    "chroma detail": 6,
    "outermost lines": 8,
}
"""The groups of ``traces`` in order, and how many numbers each is; 190 in all."""


def _window(picture: Pixels) -> Pixels:
    height, width = picture.shape[:2]
    tall, wide = (min(WINDOW, side // 8 * 8) for side in (height, width))
    top, left = (height - tall) // 16 * 8, (width - wide) // 16 * 8
    return np.ascontiguousarray(picture[top : top + tall, left : left + wide])


def _blocks(grey: Vectors) -> Vectors:
    height, width = grey.shape
    blocks = grey.reshape(height // 8, 8, width // 8, 8).swapaxes(1, 2).reshape(-1, 64)
    sizes = np.abs(blocks @ _DCT)
    return np.concatenate([(sizes < 0.5).mean(0), np.log(sizes.mean(0) + 0.1)])


def _phases(grey: Vectors) -> Vectors:
    """Return mean second differences by column and by row modulo 8, relative to their mean."""
    found = []
    for lines in (grey, grey.T):
        bend = np.abs(2 * lines[:, 1:-1] - lines[:, :-2] - lines[:, 2:]).mean(0)
        phase = np.arange(1, lines.shape[1] - 1) % 8
        means = np.bincount(phase, bend, minlength=8) / np.bincount(phase, minlength=8)
        found.append(means / (means.mean() + 0.1))
    return np.concatenate(found)


def _neighbours(grey: Vectors) -> Vectors:
    """Return the log size of the Laplacian residual, its kurtosis, and its correlation at six lags."""
    residual = 4 * grey[1:-1, 1:-1] - grey[:-2, 1:-1] - grey[2:, 1:-1] - grey[1:-1, :-2] - grey[1:-1, 2:]
    residual = residual - residual.mean()
    square = residual * residual
    power = float(square.mean()) + 0.01
    height, width = residual.shape
    lags = [(0, 1), (1, 0), (1, 1), (0, 2), (2, 0), (2, 2)]
    found = [float((residual[: height - y, : width - x] * residual[y:, x:]).mean()) / power for y, x in lags]
    return np.array([np.log(power), np.log(float((square * square).mean()) / power**2 + 0.01), *found])


@lru_cache(maxsize=64)
def _rings(height: int, width: int) -> tuple[Vectors, NDArray[np.int64]]:
    """Return a taper for a window and the ring of each of its frequencies."""
    taper = np.outer(np.hanning(height), np.hanning(width)).astype(np.float32)
    radius = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None, :])
    return taper, np.minimum((radius * 16).astype(np.int64), 7).ravel()


def _spectrum(grey: Vectors) -> Vectors:
    """Return the log share of spectral power in eight rings of equal width up to the Nyquist frequency."""
    from scipy.fft import rfft2  # noqa: PLC0415 - float32, and only probes pay for scipy

    taper, ring = _rings(*grey.shape)
    found = rfft2((grey - grey.mean()) * taper)
    power = found.real**2 + found.imag**2
    sums = np.bincount(ring, power.ravel(), minlength=8)
    return np.asarray(np.log(sums / (sums.sum() + 1) + 1e-9), np.float32)


def _ends(window: Pixels) -> Vectors:
    """Return the share of values at each of the eight lowest and the eight highest levels."""
    counts = [np.count_nonzero(window == level) for level in (*range(8), *range(248, 256))]
    return np.asarray(np.array(counts) / window.size, np.float32)


def _chroma(grey: Vectors, blue: Vectors, red: Vectors) -> Vectors:
    """Return, for each colour difference, its detail against that of luma, and at even against odd columns and rows."""
    detail = float(np.abs(np.diff(grey, axis=1)).mean()) + 0.1
    found = []
    for plane in (blue, red):
        across, along = np.abs(np.diff(plane, axis=1)).mean(0), np.abs(np.diff(plane, axis=0)).mean(1)
        found += [
            float(across.mean()) / detail,
            float(across[::2].mean() / (across[1::2].mean() + 0.1)),
            float(along[::2].mean() / (along[1::2].mean() + 0.1)),
        ]
    return np.array(found)


def _rim(picture: Pixels) -> Vectors:
    """Return how far each outermost line is from the next, and how much it varies, for the four sides."""
    found = []
    for lines in (
        picture[:3],
        picture[:-4:-1],
        picture[:, :3].swapaxes(0, 1),
        picture[:, :-4:-1].swapaxes(0, 1),
    ):
        first, second, third = lines.astype(np.float32)
        step, usual = np.abs(first - second).mean(), np.abs(second - third).mean()
        found += [np.log((step + 1) / (usual + 1)), np.log(first.std() + 1)]
    return np.array(found)
