"""How alike two maps over a picture are: rank correlation, cells in common at the top, and how far the centre moved.

The three measures of Ghorbani, Abid & Zou 2019 (Interpretation of neural networks is fragile), with what their code
leaves open decided: tied cells share the average of their ranks, ties for a place at the top go to the cell with the
lower index (row by row), and centres stay fractions. A map that does not vary says nothing: as an original it has no
measures (NaN); as the other map it ranks nothing (0), shares what chance shares, and its centre is the picture's.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from dataset_audit.stats.agreement import pearson, ranks

TOP: Final = 0.02  # share of the cells that count as the top; Ghorbani et al. take 1,000 of 227 x 227
TOP_COARSE: Final = 0.1  # of a grid so coarse that 2 % would be a cell or two
COARSE: Final = 256  # cells

Floats = NDArray[np.float64]
Maps = NDArray[np.float32]


@dataclass(frozen=True, kw_only=True)
class Spread:
    """Median and quartiles over pictures, linear between order statistics; NaN without a picture."""

    lower: float
    median: float
    upper: float

    @classmethod
    def of(cls, values: Floats) -> Spread:
        """Return the spread of float64[N], NaN left out."""
        there = values[~np.isnan(values)]
        if not len(there):
            return cls(lower=math.nan, median=math.nan, upper=math.nan)
        lower, median, upper = (float(value) for value in np.quantile(there, (0.25, 0.5, 0.75)))
        return cls(lower=lower, median=median, upper=upper)


@dataclass(frozen=True, kw_only=True, eq=False)
class Likeness:
    """How alike an original map and each of n others are, float64[n] each.

    Attributes:
        spearman: Of all cells, in [-1, 1]; 1 is the same order.
        overlap: Share of the original's top k cells that are in the other's top k, in [0, 1].
        shift: Distance of the centres of mass as a share of the picture's diagonal, 0 is none.
    """

    spearman: Floats
    overlap: Floats
    shift: Floats


def top_count(cells: int) -> int:
    """Return how many cells are the top of a map: 2 %, of a grid of up to 256 cells 10 %, and at least one."""
    return max(1, round((TOP_COARSE if cells <= COARSE else TOP) * cells))


def above_chance(overlap: Floats, k: int, cells: int) -> Floats:
    """Return (o - k/N) / (1 - k/N): 0 is what two unrelated maps share, 1 is the same top.

    Args:
        overlap: Share in common, any shape.
        k: Cells in the top.
        cells: N; more than ``k``.
    """
    chance = k / cells
    return (overlap - chance) / (1 - chance)


def likeness(original: Maps, others: Maps, k: int) -> Likeness:
    """Compare one map of magnitudes with others of the same picture.

    Args:
        original: float32[H, W], 0 or more; high is important. Its scale does not matter.
        others: float32[n, H, W], likewise.
        k: Cells in the top.
    """
    flat = original.reshape(-1).astype(np.float64)
    if not varies(flat):
        nothing = np.full(len(others), np.nan)
        return Likeness(spearman=nothing, overlap=nothing, shift=nothing)
    order, top, at = ranks(flat), set(_top(flat, k).tolist()), centre(original)
    spearman, overlap, shift = (np.zeros(len(others)) for _ in range(3))
    for i, other in enumerate(others):
        cells = other.reshape(-1).astype(np.float64)
        if varies(cells):
            spearman[i] = pearson(order, ranks(cells))
            overlap[i] = len(top.intersection(_top(cells, k).tolist())) / k
        else:
            overlap[i] = k / len(cells)
        shift[i] = math.dist(at, centre(other)) / math.hypot(*original.shape)
    return Likeness(spearman=spearman, overlap=overlap, shift=shift)


@dataclass(frozen=True, kw_only=True)
class Stability:
    """What a perturbation of one size left of the maps; medians of a picture's draws, spread over pictures.

    Attributes:
        kept: Share of all draws that kept the prediction; the others are not compared.
        pictures: How many have a map and at least one kept draw.
        spearman: Rank correlation of the cells, in [-1, 1].
        overlap: Share of the top cells that stay on top.
        beyond_chance: The same, 0 what chance shares, 1 all.
        shift: Of the centre of mass, as a share of the picture's diagonal.
    """

    kept: float
    pictures: int
    spearman: Spread
    overlap: Spread
    beyond_chance: Spread
    shift: Spread


@dataclass(frozen=True, kw_only=True, eq=False)
class Compared:
    """The likeness of M pictures' maps with those under n draws of one perturbation, filled block by block.

    Attributes:
        kept: bool[M, n], whether a draw kept the prediction; the others are not compared.
        spearman: float64[M, n]; NaN where not kept, and where the picture's own map does not vary.
        overlap: Likewise.
        shift: Likewise.
    """

    kept: NDArray[np.bool_]
    spearman: Floats
    overlap: Floats
    shift: Floats

    @classmethod
    def start(cls, pictures: int, draws: int) -> Compared:
        """Return one in which nothing is kept yet."""
        shape = (pictures, draws)
        spearman, overlap, shift = (np.full(shape, np.nan) for _ in range(3))
        return cls(kept=np.zeros(shape, bool), spearman=spearman, overlap=overlap, shift=shift)

    def add(self, first: int, kept: NDArray[np.bool_], originals: Maps, others: Maps) -> None:
        """Compare the draws of b pictures with their originals.

        Args:
            first: Place of the first of them among the M.
            kept: bool[b, n].
            originals: float32[b, H, W].
            others: float32[kept.sum(), H, W], the kept draws of one picture after those of the other.
        """
        ends = np.cumsum(kept.sum(1))
        for place, (stays, original) in enumerate(zip(kept, originals, strict=True), first):
            end = ends[place - first]
            alike = likeness(original, others[end - stays.sum() : end], top_count(original.size))
            self.kept[place] = stays
            self.spearman[place, stays] = alike.spearman
            self.overlap[place, stays] = alike.overlap
            self.shift[place, stays] = alike.shift

    def stability(self, cells: int) -> Stability:
        """Return medians of each picture's draws, spread over pictures; for maps of ``cells`` cells."""
        spearman, overlap = medians(self.spearman), medians(self.overlap)
        return Stability(
            kept=float(self.kept.mean()),
            pictures=int((~np.isnan(spearman)).sum()),
            spearman=Spread.of(spearman),
            overlap=Spread.of(overlap),
            beyond_chance=Spread.of(above_chance(overlap, top_count(cells), cells)),
            shift=Spread.of(medians(self.shift)),
        )


def medians(values: Floats) -> Floats:
    """Return the median of each row of float64[M, n], NaN left out; NaN where nothing is left."""
    return np.array([Spread.of(row).median for row in values])


def rank_correlation(original: NDArray[np.floating], other: NDArray[np.floating]) -> float:
    """Return Spearman's correlation of two maps float[H, W].

    NaN if the original does not vary, 0 if the other does not.
    """
    if not varies(original):
        return math.nan
    return pearson(ranks(original.reshape(-1)), ranks(other.reshape(-1))) if varies(other) else 0.0


def centre(one: NDArray[np.floating]) -> tuple[float, float]:
    """Return the centre of mass (row, column) of a map float[H, W] in cells, 0 at the middle of the first.

    A map without mass has its centre at the picture's.
    """
    mass = one.astype(np.float64)
    total = mass.sum()
    if total <= 0:
        return (one.shape[0] - 1) / 2, (one.shape[1] - 1) / 2
    down = (mass.sum(1) * np.arange(one.shape[0])).sum() / total
    across = (mass.sum(0) * np.arange(one.shape[1])).sum() / total
    return float(down), float(across)


def edges(levels: NDArray[np.int32]) -> Floats:
    """Return the length of the Sobel gradient of grey pictures int32[B, S, S], float64[B, S, S]."""
    from scipy import ndimage  # noqa: PLC0415 - a command without explanations does not wait for it

    found: Floats = np.zeros(levels.shape)
    for length, one in zip(found, levels.astype(np.float64), strict=True):
        length[:] = np.hypot(ndimage.sobel(one, 0, mode="nearest"), ndimage.sobel(one, 1, mode="nearest"))
    return found


def varies(one: NDArray[np.floating]) -> bool:
    """Return whether a map says anything: one that is the same everywhere explains nothing."""
    return bool(one.size and one.max() > one.min())


def _top(cells: Floats, k: int) -> NDArray[np.int64]:
    """Return the indices of the k highest of float64[N]; of equals the lower index."""
    return np.argsort(-cells, kind="stable")[:k]
