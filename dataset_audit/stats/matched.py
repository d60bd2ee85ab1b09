"""Two answers to the same questions: paired counts, their exact test, the interval of their difference."""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt

import numpy as np
from numpy.typing import NDArray

from dataset_audit.stats.intervals import wilson


@dataclass(frozen=True, kw_only=True)
class Pairs:
    """How often each of two answers to one question was right.

    Attributes:
        both: Both were right.
        first: Only the first was.
        second: Only the second was.
        neither: None was.
    """

    both: int
    first: int
    second: int
    neither: int

    @property
    def n(self) -> int:
        """Questions."""
        return self.both + self.first + self.second + self.neither

    @property
    def difference(self) -> float:
        """Share right of the first minus that of the second, in [-1, 1]."""
        return (self.first - self.second) / self.n


def pairs(first: NDArray[np.bool_], second: NDArray[np.bool_]) -> Pairs:
    """Count bool[N] and bool[N], the same question in the same place.

    Raises:
        ValueError: They differ in length, or are empty.
    """
    if first.shape != second.shape or not len(first):
        raise ValueError(f"pairs of {first.shape} and {second.shape}")
    both, one = int((first & second).sum()), int((first & ~second).sum())
    other = int((~first & second).sum())
    return Pairs(both=both, first=one, second=other, neither=len(first) - both - one - other)


def mcnemar(first: int, second: int) -> float:
    """Return the exact two-sided p of "either is as often alone right": binomial(first + second, 1/2).

    What both got right or both got wrong says nothing about which is better, so only discordant pairs count.

    Args:
        first: Pairs that only the first got right.
        second: Pairs that only the second got right.

    Returns:
        In (0, 1]; 1 without discordant pairs.

    Raises:
        ValueError: A count is negative.

    Source: McNemar 1947; exact as in Fagerland, Lydersen & Laake 2013.
    """
    from scipy.special import bdtr  # noqa: PLC0415 - commands without tests do not wait for it

    if first < 0 or second < 0:
        raise ValueError(f"{first} and {second} are no counts")
    if first == second:
        return 1.0
    return min(1.0, 2 * float(bdtr(min(first, second), first + second, 0.5)))


def paired_interval(counts: Pairs, confidence: float = 0.95) -> tuple[float, float]:
    """Return the hybrid score interval of the difference of two paired proportions.

    d − √(l₁² − 2φ l₁u₂ + u₂²) to d + √(u₁² − 2φ u₁l₂ + l₂²), where lᵢ and uᵢ are the distances from share i to the
    ends of its Wilson interval and φ is the correlation of the pair, corrected for continuity. Independent answers
    have φ = 0, which is Newcombe's interval for two samples; answers that agree have a φ near 1 and a far
    shorter one.

    Args:
        counts: At least one pair.
        confidence: In (0, 1).

    Returns:
        Low and high end of ``counts.difference``, in [-1, 1].

    Source: Newcombe 1998 (Statistics in Medicine 17, 2635-2650), method 10.
    """
    e, f, g, n = counts.both, counts.first, counts.second, counts.n
    (low1, high1), (low2, high2) = wilson(e + f, n, confidence), wilson(e + g, n, confidence)
    p1, p2 = (e + f) / n, (e + g) / n
    phi = _correlation(counts)
    below1, above1, below2, above2 = p1 - low1, high1 - p1, p2 - low2, high2 - p2
    down = sqrt(max(0.0, below1**2 - 2 * phi * below1 * above2 + above2**2))
    up = sqrt(max(0.0, above1**2 - 2 * phi * above1 * below2 + below2**2))
    return max(-1.0, counts.difference - down), min(1.0, counts.difference + up)


def _correlation(counts: Pairs) -> float:
    """Return φ, pulled towards zero by n/2 where it is positive; 0 where one side never varies."""
    e, f, g, h = counts.both, counts.first, counts.second, counts.neither
    scale = (e + f) * (g + h) * (e + g) * (f + h)
    product: float = e * h - f * g
    if product > 0:
        product = max(product - counts.n / 2, 0.0)
    return product / sqrt(scale) if scale else 0.0
