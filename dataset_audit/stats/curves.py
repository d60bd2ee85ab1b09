"""Curves over the number of training images: where accuracy is heading, and what a foreign image is worth."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import log, nan, sqrt
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dataset_audit import seeds

LEAST_SIZES = 4  # fewer points bend any way a curve likes
LEAST_FACTOR = 8
FARTHEST = 2.0  # extrapolating more than one doubling is guessing
LEAST_FIT = 0.9  # R² below which a line in log n is no line
LEAST_DRAWS = 3


def _wide(sizes: NDArray[np.float64]) -> bool:
    """Say whether there are enough sizes, far enough apart."""
    distinct = np.unique(sizes)
    return len(distinct) >= LEAST_SIZES and bool(distinct[-1] >= LEAST_FACTOR * distinct[0])


@dataclass(frozen=True, kw_only=True)
class LearningCurve:
    """Accuracy over training images, a − b·n^(−c).

    Attributes:
        a: Where the curve ends, at most 1.
        b: How far below that it starts at n = 1, at least 0.
        c: How fast, in [0.1, 2].
        largest: The largest n measured.
        still_rising: Whether the last doubling gained more than two standard errors: then the accuracy at
            the largest n is a lower bound.
    """

    a: float
    b: float
    c: float
    largest: float
    still_rising: bool

    def predict(self, n: ArrayLike) -> NDArray[np.float64]:
        """Return the accuracy at n, float64 of n's shape; NaN beyond twice the largest n measured."""
        sizes = np.asarray(n, dtype=np.float64)
        return np.where(sizes <= FARTHEST * self.largest, self.a - self.b * sizes**-self.c, nan)


def _fit(
    n: NDArray[np.float64], accuracy: NDArray[np.float64], weight: NDArray[np.float64], c: float
) -> tuple[float, float, float]:
    """Return the weighted squared error, a and b of the best curve of exponent c with a ≤ 1 and b ≥ 0."""
    x = -(n**-c)
    mean_x, mean_y = np.average(x, weights=weight), np.average(accuracy, weights=weight)
    spread = float(np.sum(weight * (x - mean_x) ** 2))
    b = float(np.sum(weight * (x - mean_x) * (accuracy - mean_y))) / spread
    b = max(b, 0.0)
    a = float(mean_y - b * mean_x)
    if a > 1:  # the error is convex, so the best on the border is the best inside
        a, b = 1.0, max(float(np.sum(weight * x * (accuracy - 1)) / np.sum(weight * x * x)), 0.0)
    return float(np.sum(weight * (accuracy - a - b * x) ** 2)), a, b


def learning_curve(n: ArrayLike, accuracy: ArrayLike, n_test: int) -> LearningCurve | None:
    """Return the curve a − b·n^(−c) nearest to measured accuracies, weighted by their binomial variance.

    Args:
        n: float[M], training images; sizes may repeat (resamplings).
        accuracy: float[M], shares in [0, 1].
        n_test: Test images behind each accuracy, at least 1.

    Returns:
        None unless there are four sizes or more, the largest at least eight times the smallest.
    """
    sizes, found = np.asarray(n, dtype=np.float64), np.asarray(accuracy, dtype=np.float64)
    if not _wide(sizes):
        return None
    share = (found * n_test + 1) / (n_test + 2)  # an accuracy of 1 is not certain
    variance = share * (1 - share) / n_test

    def loss(c: float) -> float:
        return _fit(sizes, found, 1 / variance, c)[0]

    grid = np.geomspace(0.1, 2, 60)
    best = int(np.argmin([loss(float(c)) for c in grid]))
    low, high = float(grid[max(best - 1, 0)]), float(grid[min(best + 1, len(grid) - 1)])
    while high - low > 1e-9:  # one valley between two grid points
        left, right = low + (high - low) / 3, high - (high - low) / 3
        low, high = (low, right) if loss(left) <= loss(right) else (left, high)
    c = min([low, high, float(grid[best])], key=loss)
    _, a, b = _fit(sizes, found, 1 / variance, c)

    distinct = np.unique(sizes)
    means = np.array([found[sizes == size].mean() for size in distinct])
    errors = np.array([variance[sizes == size].mean() for size in distinct])
    before, before_error = (
        float(np.interp(log(distinct[-1] / 2), np.log(distinct), y)) for y in (means, errors)
    )
    rising = float(means[-1]) - before > 2 * sqrt(float(errors[-1]) + before_error)
    return LearningCurve(a=a, b=b, c=c, largest=float(distinct[-1]), still_rising=rising)


@dataclass(frozen=True, kw_only=True)
class Curve:
    """A score over training images, measured on several draws.

    Attributes:
        sizes: float64[S], training images, rising.
        values: float64[S, D], the score on one fixed test set of each draw of training images.
    """

    sizes: NDArray[np.float64]
    values: NDArray[np.float64]

    def __post_init__(self) -> None:
        if self.values.ndim != 2 or len(self.values) != len(self.sizes) or np.any(np.diff(self.sizes) <= 0):
            raise ValueError(f"{self.values.shape} values do not stand over {len(self.sizes)} rising sizes")

    def obstacle(self, whose: str) -> str:
        """Return why no exchange rate can be read off, or an empty string."""
        if not _wide(self.sizes):
            return f"{whose} curve has fewer than {LEAST_SIZES} sizes over a factor of {LEAST_FACTOR}"
        if self.values.shape[1] < LEAST_DRAWS:
            return f"{whose} curve has fewer than {LEAST_DRAWS} draws"
        return ""

    def fitted(self) -> NDArray[np.float64] | None:
        """Return the line in log n through the means over draws, float64[S]; None where they are no rising line."""
        means = self.values.mean(1)
        line = _line(self.sizes, means)
        if self.obstacle("this") or not line.rising:
            return None
        logs = np.log(self.sizes)
        return np.asarray(means.mean() + line.b * (logs - logs.mean()), np.float64)


@dataclass(frozen=True, kw_only=True)
class MarketValue:
    """What one foreign image is worth in own images.

    Attributes:
        alpha: The exchange rate; None without one. A bound if ``bound`` says so.
        bound: "≤" or "≥" where the curves do not overlap and ``alpha`` is the farthest ratio measured.
        low: Low end of the 95 % interval over draws; NaN without a rate or for a bound.
        high: High end.
        at: Foreign images at which the rate holds.
        local: Whether the slopes differ, so that the rate holds at ``at`` only.
        reason: Why there is no rate; else empty.
    """

    alpha: float | None
    bound: Literal["", "≤", "≥"] = ""
    low: float = nan
    high: float = nan
    at: float = nan
    local: bool = False
    reason: str = ""

    def foreign_for(self, own: float) -> float:
        """Return how many foreign images do what ``own`` own images would; infinite if they are worth nothing."""
        if self.alpha is None:
            return nan
        return own / self.alpha if self.alpha > 0 else float("inf")


@dataclass(frozen=True)
class _Line:
    """The slope b of a line in log n, its R², and the squared standard error of b."""

    b: float
    fit: float
    error: float

    @property
    def rising(self) -> bool:
        """Whether it is one, and goes up."""
        return self.fit >= LEAST_FIT and self.b > 0


def _line(sizes: NDArray[np.float64], means: NDArray[np.float64]) -> _Line:
    x = np.log(sizes)
    spread = float(np.sum((x - x.mean()) ** 2))
    b = float(np.sum((x - x.mean()) * (means - means.mean()))) / spread
    left = float(np.sum((means - means.mean() - b * (x - x.mean())) ** 2))
    total = float(np.sum((means - means.mean()) ** 2))
    return _Line(b, 1 - left / total if total > 0 else 0.0, left / max(len(x) - 2, 1) / spread)


def _rates(
    foreign: Curve,
    own: Curve,
    means: tuple[NDArray[np.float64], NDArray[np.float64]],
    at: float,
    *,
    local: bool,
) -> NDArray[np.float64]:
    """Return α of each pair of rows of ``means`` (float64[R, S] over either's sizes), NaN where none rises."""
    x, centred, level, rise = [], [], [], []
    for curve, values in zip((foreign, own), means, strict=True):
        logs = np.log(curve.sizes)
        x.append(float(logs.mean()))
        centred.append(logs - logs.mean())
        level.append(values.mean(1))
        rise.append(values @ centred[-1])
    spreads = [float(np.sum(each * each)) for each in centred]
    if local:
        slopes = [each / spread for each, spread in zip(rise, spreads, strict=True)]
    else:
        slopes = [(rise[0] + rise[1]) / (spreads[0] + spreads[1])] * 2
    starts = [y - slope * mean for y, slope, mean in zip(level, slopes, x, strict=True)]
    slope = np.where(slopes[1] > 0, slopes[1], nan)
    logs = (starts[0] + slopes[0] * log(at) - starts[1]) / slope - log(at)
    rates: NDArray[np.float64] = np.exp(np.minimum(logs, 700.0))  # a redraw may be nearly flat
    return rates


def _redrawn(curve: Curve, rng: np.random.Generator, draws: int) -> NDArray[np.float64]:
    """Return the means over draws, redrawn at each size, float64[draws, S]."""
    s, d = curve.values.shape
    chosen = rng.integers(0, d, (draws, s, d))
    means: NDArray[np.float64] = np.take_along_axis(curve.values[None], chosen, axis=2).mean(2)
    return means


def market_value(
    foreign: Curve, own: Curve, *, floor: float, seed: int, at: float | None = None, draws: int = 1000
) -> MarketValue:
    """Return α with AP_foreign(n) = AP_own(α·n): how many own images one foreign image is worth.

    Scores grow about linearly in log n and the curves of different training sets on one test set are about
    parallel, so that a shift along log n is the exchange rate: with lines a + b·log n of one slope,
    α = exp((a_foreign − a_own)/b). Where the slopes differ by more than two standard errors,
    α(n) = exp((AP_foreign(n) − a_own)/b_own)/n, which holds at n only.

    Args:
        foreign: Trained on the foreign set, tested on ours.
        own: Trained on ours, tested on ours, the same test images.
        floor: What guessing scores: the share of positives for AP, 1/C for accuracy.
        seed: Of the interval, which redraws the draws at each size.
        at: Foreign images for which to say it; the largest measured by default.
        draws: Redraws for the interval.

    Returns:
        No rate, with its reason, unless both curves have four sizes or more over a factor of eight, three
        draws or more, and are lines in log n (R² ≥ 0.9). 0 where the foreign curve never leaves the floor. A
        rate beyond the ratios measured is given as a bound. Rates above 1 are possible.

    Source: Torralba & Efros 2011, section 4 and figure 6.
    """
    obstacle = foreign.obstacle("the foreign") or own.obstacle("our own")
    if obstacle:
        return MarketValue(alpha=None, reason=obstacle)
    n = float(foreign.sizes[-1]) if at is None else at
    spread = foreign.values.std(axis=1, ddof=1) / sqrt(foreign.values.shape[1])
    if np.all(foreign.values.mean(1) - 2 * spread <= floor):
        return MarketValue(alpha=0.0, low=0.0, high=0.0, at=n)
    means = foreign.values.mean(1), own.values.mean(1)
    separate = _line(foreign.sizes, means[0]), _line(own.sizes, means[1])
    for line, whose in zip(separate, ("the foreign", "our own"), strict=True):
        if not line.rising:
            return MarketValue(alpha=None, reason=f"{whose} curve is no rising line in log n")
    local = abs(separate[0].b - separate[1].b) > 2 * sqrt(separate[0].error + separate[1].error) + 1e-12
    alpha = float(_rates(foreign, own, (means[0][None], means[1][None]), n, local=local)[0])
    least, most = own.sizes[0] / foreign.sizes[-1], own.sizes[-1] / foreign.sizes[0]
    if alpha < least:
        return MarketValue(alpha=float(least), bound="≤", at=n, local=local)
    if alpha > most:
        return MarketValue(alpha=float(most), bound="≥", at=n, local=local)
    rng = seeds.rng(seed, "market-value")
    redrawn = _redrawn(foreign, rng, draws), _redrawn(own, rng, draws)
    low, high = np.nanquantile(_rates(foreign, own, redrawn, n, local=local), [0.025, 0.975])
    return MarketValue(alpha=alpha, low=float(low), high=float(high), at=n, local=local)


def basket(column: Sequence[float | None]) -> float | None:
    """Return the mean worth of one image of every set on one market, the market's own 1 included.

    Args:
        column: The rates on that market, one per training set.

    Returns:
        None if any rate is missing.

    Source: Torralba & Efros 2011, table 3.
    """
    rates = [rate for rate in column if rate is not None]
    return float(np.mean(rates)) if rates and len(rates) == len(column) else None
