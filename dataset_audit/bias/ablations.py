"""ABLATIONS: pictures made poorer in one known way, so that a network retrained on them tells which cue it used.

Everything here is stated for pictures of 224 pixels, as in Zeng, Yin & Liu 2024, and scales with the side S of the
pictures at hand; ``sizes`` says what is used. A fixed shuffle uses one permutation for all pictures, which depends on
the seed and S alone; what is drawn per picture depends on the seed, the ablation and the picture's index alone.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Final

import numpy as np
from numpy.typing import NDArray

from dataset_audit import seeds
from dataset_audit.bias.canny import canny
from dataset_audit.errors import UsageError

STATED_SIDE: Final = 224
_CHUNK: Final = 256  # pictures at a time: float64 planes of a whole working set would be gigabytes
_FLAT: Final = 1e-6  # grey levels; a filtered picture that varies less holds rounding errors only

Pixels = NDArray[np.uint8]
Planes = NDArray[np.float64]
Whole = NDArray[np.int32]


@dataclass(frozen=True)
class Draws:
    """Where an ablation's randomness comes from.

    Attributes:
        seed: Of the command.
        name: Of the ablation.
        start: Index of the first picture of the batch.
    """

    seed: int
    name: str
    start: int

    def each(self, count: int) -> list[np.random.Generator]:
        """Return one generator per picture, which depends on seed, ablation and index alone."""
        return [seeds.rng(self.seed, "ablation", self.name, self.start + i) for i in range(count)]


@dataclass(frozen=True)
class Ablation:
    """One way to make pictures poorer.

    Attributes:
        apply: (pixels uint8[B, S, S, 3], size at this S, draws) -> uint8[B, S, S, 3].
        about: What is done; sizes are those for 224 pixels.
        keeps: What a classifier can still use.
        unit: What the size is, with its unit; empty without a size.
        size: The size in use for pictures of side S.
    """

    apply: Callable[[Pixels, float, Draws], Pixels]
    about: str
    keeps: str
    unit: str = ""
    size: Callable[[int], float] = float


def apply_ablation(name: str, pixels: Pixels, seed: int, start_index: int = 0) -> Pixels:
    """Return the pictures under one ablation, uint8[B, S, S, 3].

    Args:
        name: A key of ABLATIONS.
        pixels: uint8[B, S, S, 3].
        seed: Of every draw.
        start_index: Index of the first picture: batches with running indices give what one call gives.

    Raises:
        UsageError: There is no such ablation.
        ValueError: The pixels have another shape or type.
    """
    if (
        pixels.dtype != np.uint8
        or pixels.ndim != 4
        or pixels.shape[1] != pixels.shape[2]
        or pixels.shape[3] != 3
    ):
        raise ValueError(f"pixels are {pixels.dtype}{list(pixels.shape)}, not uint8[B, S, S, 3]")
    ablation, size = _named(name), sizes(name, pixels.shape[1])
    made = np.empty_like(pixels, order="C")
    for first in range(0, len(pixels), _CHUNK):
        draws = Draws(seed, name, start_index + first)
        part = slice(first, first + _CHUNK)
        made[part] = ablation.apply(pixels[part], next(iter(size.values()), 0.0), draws)
    return made


def sizes(name: str, side: int) -> dict[str, float]:
    """Return the size an ablation uses on pictures of this side under the name of its unit; empty if it has none.

    Raises:
        UsageError: There is no such ablation.
    """
    ablation = _named(name)
    return {ablation.unit: ablation.size(side)} if ablation.unit else {}


def same_as(name: str, side: int) -> str:
    """Return the ablation that gives the very same pictures at this side, or the name itself.

    Patches of one pixel make a patch shuffle a pixel shuffle; retraining under both would be the same twice. Per
    picture the draws differ and only their distribution is the same.
    """
    if sizes(name, side) != {"patch_px": 1}:
        return name
    return "pixel-shuffle-each" if name.endswith("-each") else "pixel-shuffle"


def _named(name: str) -> Ablation:
    if name not in ABLATIONS:
        raise UsageError(f"There is no ablation {name!r}.", do=f"one of {', '.join(ABLATIONS)}")
    return ABLATIONS[name]


def grey(pixels: Pixels) -> Whole:
    """Return the luma of ITU-R 601 in whole levels, int32[...], of uint8[..., 3].

    In 16-bit fixed point as Pillow does it: with the decimal weights one colour in a thousand lies halfway between
    two levels, and floats would round it by the order of their sum.
    """
    wide = pixels.astype(np.int32)
    luma: Whole = (wide[..., 0] * 19595 + wide[..., 1] * 38470 + wide[..., 2] * 7471 + 0x8000) >> 16
    return luma


def low_frequencies(levels: Whole, radius: float) -> Planes:
    """Return what an ideal low-pass leaves of grey pictures int[B, S, S], float64[B, S, S], not rescaled.

    Frequencies up to ``radius`` cycles per picture pass, measured from the centre of the shifted spectrum. What an
    ideal high-pass leaves is ``levels`` less this.
    """
    from scipy import fft  # noqa: PLC0415 - a command without ablations does not wait for it

    side = levels.shape[1]
    distance = np.hypot(fft.fftfreq(side, 1 / side)[:, None], fft.rfftfreq(side, 1 / side)[None, :])
    spectrum = fft.rfft2(levels.astype(np.float64), axes=(1, 2))
    passed: Planes = fft.irfft2(spectrum * (distance <= radius), s=(side, side), axes=(1, 2))
    return passed


def _three(levels: NDArray[np.generic]) -> Pixels:
    """Return uint8[B, S, S, 3], three equal channels, of whole levels [B, S, S] in 0 to 255."""
    return np.repeat(levels.astype(np.uint8)[..., None], 3, axis=3)


def _grayscale(pixels: Pixels, _: float, __: Draws) -> Pixels:
    return _three(grey(pixels))


def _mean_rgb(pixels: Pixels, _: float, __: Draws) -> Pixels:
    area = pixels.shape[1] * pixels.shape[2]
    sums = pixels.sum((1, 2), dtype=np.int64, keepdims=True)
    return np.broadcast_to(((2 * sums + area) // (2 * area)).astype(np.uint8), pixels.shape)


def _tiles(pixels: Pixels, patch: int) -> Pixels:
    """Return uint8[B, patches, patch * patch * 3], patches row by row."""
    batch, side = pixels.shape[:2]
    across = side // patch
    parted = pixels.reshape(batch, across, patch, across, patch, 3).swapaxes(2, 3)
    return parted.reshape(batch, across * across, patch * patch * 3)


def _untiled(tiles: Pixels, side: int, patch: int) -> Pixels:
    across = side // patch
    parted = tiles.reshape(len(tiles), across, across, patch, patch, 3).swapaxes(2, 3)
    return parted.reshape(len(tiles), side, side, 3)


def _shuffle_alike(pixels: Pixels, size: float, draws: Draws) -> Pixels:
    side, patch = pixels.shape[1], int(size)
    tiles = _tiles(pixels, patch)
    order = seeds.rng(draws.seed, "ablation", "shuffle", side, patch).permutation(tiles.shape[1])
    return _untiled(tiles[:, order], side, patch)


def _shuffle_each(pixels: Pixels, size: float, draws: Draws) -> Pixels:
    side, patch = pixels.shape[1], int(size)
    tiles = _tiles(pixels, patch)
    orders = np.stack([rng.permutation(tiles.shape[1]) for rng in draws.each(len(pixels))])
    return _untiled(tiles[np.arange(len(tiles))[:, None], orders], side, patch)


def _rescaled(planes: Planes) -> Pixels:
    """Return planes stretched to 0 to 255 each by its own extremes; one that does not vary is black."""
    low, high = planes.min((1, 2), keepdims=True), planes.max((1, 2), keepdims=True)
    span = high - low
    flat = span <= _FLAT
    return _three(np.where(flat, 0, np.rint((planes - low) * (255 / np.where(flat, 1, span)))))


def _low_pass(pixels: Pixels, size: float, _: Draws) -> Pixels:
    return _rescaled(low_frequencies(grey(pixels), size))


def _high_pass(pixels: Pixels, size: float, _: Draws) -> Pixels:
    levels = grey(pixels)
    return _rescaled(levels - low_frequencies(levels, size))


def _edges(pixels: Pixels, _: float, __: Draws) -> Pixels:
    return _three(canny(grey(pixels)) * np.uint8(255))


def _along_both(matrix: Planes, pixels: Pixels) -> Pixels:
    """Return matrix @ channel @ matrix.T of every channel, uint8[B, R, R, 3], for float64[R, S], uint8[B, S, S, 3]."""
    channels = np.ascontiguousarray(pixels.transpose(0, 3, 1, 2), np.float64)
    levels = np.rint(matrix @ channels @ matrix.T).clip(0, 255).astype(np.uint8)
    return levels.transpose(0, 2, 3, 1)


def _blur(pixels: Pixels, size: float, _: Draws) -> Pixels:
    from scipy import ndimage  # noqa: PLC0415 - a command without ablations does not wait for it

    matrix = ndimage.gaussian_filter1d(np.eye(pixels.shape[1]), size, axis=0, mode="reflect")
    return _along_both(matrix, pixels)


def _noise(pixels: Pixels, size: float, draws: Draws) -> Pixels:
    shape = pixels.shape[1:]
    noise = np.stack([rng.standard_normal(shape, np.float32) for rng in draws.each(len(pixels))])
    return np.rint(pixels + noise * np.float32(255 * size)).clip(0, 255).astype(np.uint8)


def _low_resolution(pixels: Pixels, size: float, _: Draws) -> Pixels:
    side, few = pixels.shape[1], int(size)
    return _along_both(_linear(few, side), _along_both(_area(side, few), pixels))


def _area(side: int, few: int) -> Planes:
    """Return float64[few, side]: each of ``few`` intervals is the mean of what it covers, parts of pixels included."""
    ends = np.arange(few + 1) * (side / few)
    pixel = np.arange(side)
    covered = np.minimum(ends[1:, None], pixel + 1) - np.maximum(ends[:-1, None], pixel)
    share: Planes = np.maximum(covered, 0) * (few / side)
    return share


def _linear(few: int, side: int) -> Planes:
    """Return float64[side, few]: linear interpolation between centres of pixels, constant beyond the outermost."""
    place = ((np.arange(side) + 0.5) * (few / side) - 0.5).clip(0, few - 1)
    weight: Planes = np.maximum(1 - np.abs(place[:, None] - np.arange(few)), 0)
    return weight


def _constant(value: float, _: int) -> float:
    return value


def _scaled(at_224: float, side: int) -> float:
    return at_224 * side / STATED_SIDE


def _pixels(at_224: int, side: int) -> float:
    return max(1, round(at_224 * side / STATED_SIDE))


def _divisor(at_224: int, side: int) -> float:
    """Return the divisor of the side nearest to the scaled size, so that patches tile the picture."""
    aim = at_224 * side / STATED_SIDE
    return min((d for d in range(1, side + 1) if side % d == 0), key=lambda d: abs(d - aim))


def _patches(at_224: int) -> Ablation:
    return Ablation(
        _shuffle_alike,
        f"patches of {at_224} px in another order, the same for all",
        "texture inside a patch, colours, where a patch stood",
        "patch_px",
        partial(_divisor, at_224),
    )


def _patches_each(at_224: int) -> Ablation:
    return Ablation(
        _shuffle_each,
        f"patches of {at_224} px in another order for each picture",
        "texture inside a patch, colours",
        "patch_px",
        partial(_divisor, at_224),
    )


def _blurred(at_224: int) -> Ablation:
    return Ablation(
        _blur,
        f"Gaussian blur of {at_224} px",
        "colours, shape, layout",
        "sigma_px",
        partial(_scaled, at_224),
    )


def _noisy(percent: int) -> Ablation:
    return Ablation(
        _noise,
        f"Gaussian noise of {percent} % of the range, clipped",
        "colours, shape, coarse texture",
        "std",
        partial(_constant, percent / 100),
    )


def _coarse(at_224: int) -> Ablation:
    return Ablation(
        _low_resolution,
        f"means over areas to {at_224} px a side, back by linear interpolation",
        "colours, layout",
        "side_px",
        partial(_pixels, at_224),
    )


ABLATIONS: Final[dict[str, Ablation]] = {
    "grayscale": Ablation(_grayscale, "luma, three equal channels", "brightness, texture, shape, layout"),
    "mean-rgb": Ablation(_mean_rgb, "the mean colour everywhere", "three numbers"),
    "pixel-shuffle": Ablation(
        _shuffle_alike,
        "pixels in another order, the same for all",
        "colours, and where each stood",
        "patch_px",
        partial(_constant, 1),
    ),
    "pixel-shuffle-each": Ablation(
        _shuffle_each,
        "pixels in another order for each picture",
        "the histogram of colours",
        "patch_px",
        partial(_constant, 1),
    ),
    "patch-shuffle-16": _patches(16),
    "patch-shuffle-8": _patches(8),
    "patch-shuffle-4": _patches(4),
    "patch-shuffle-16-each": _patches_each(16),
    "patch-shuffle-8-each": _patches_each(8),
    "patch-shuffle-4-each": _patches_each(4),
    "low-pass": Ablation(
        _low_pass,
        "grey, frequencies up to 40 cycles a picture, stretched to the full range",
        "coarse structure: shape, layout",
        "radius",
        partial(_scaled, 40),
    ),
    "high-pass": Ablation(
        _high_pass,
        "grey, frequencies above 40 cycles a picture, stretched to the full range",
        "texture, edges, traces of an encoder",
        "radius",
        partial(_scaled, 40),
    ),
    "edges": Ablation(_edges, "Canny edges, thresholds 85 and 255", "outlines: shape"),
    "blur-1": _blurred(1),
    "blur-2": _blurred(2),
    "blur-4": _blurred(4),
    "noise-10": _noisy(10),
    "noise-20": _noisy(20),
    "noise-30": _noisy(30),
    "low-resolution-64": _coarse(64),
    "low-resolution-32": _coarse(32),
    "low-resolution-16": _coarse(16),
}
