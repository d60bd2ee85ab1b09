"""Differences between two ways of training, measured over a few seeds: Student's t, never a bootstrap over three."""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass
from math import inf, nan, sqrt
from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

MOST_SEEDS: Final = 1000  # beyond, "how many seeds would settle it" is not a plan


def _quantile(df: float, share: float) -> float:
    from scipy.special import stdtrit  # noqa: PLC0415 - commands without tests do not wait for it

    return float(stdtrit(df, share))


@dataclass(frozen=True, kw_only=True)
class Difference:
    """A mean difference, its interval and its two-sided p-value.

    Attributes:
        mean: First minus second, in the unit of the values.
        low: Low end of the interval; NaN for fewer than two seeds.
        high: High end.
        floor: One-sided lower bound of the same confidence: the mean is above it.
        p: Two-sided p-value of no difference; NaN likewise.
        spread: Standard deviation of one seed's difference, as the interval takes it; more seeds average it out.
        stays: Variance of the mean that no number of seeds averages out: the luck of subsets that seeds share.
        seeds: S.
        fixed: Whether the first is one subset for all seeds (``against_draws``), so that more seeds of it cannot
            narrow the interval beyond the spread between subsets.
    """

    mean: float
    low: float
    high: float
    floor: float
    p: float
    spread: float
    seeds: int
    stays: float = 0.0
    fixed: bool = False


def paired(
    first: ArrayLike,
    second: ArrayLike,
    confidence: float = 0.95,
    *,
    step: float = 0.0,
    shared: float = 0.0,
) -> Difference:
    """Return the paired t interval of first − second over seeds.

    Seed by seed the two share initial weights, order and augmentation. The interval holds whether or not that makes
    them alike; if it does not, it is wider than Welch's by its fewer degrees of freedom, and choosing between the two
    after a look at the data would make neither hold. A percentile bootstrap over three seeds rejects a true null one
    time in four and is not offered.

    Accuracies are counts over M test examples: values that agree to the last count may still differ by rounding, so
    a spread below that of rounding (step²/6 for a difference) is not believed. Without it three seeds that happen to
    agree would make any difference certain.

    Where the first's subsets overlap between seeds by more than chance, their luck is partly one luck, which pairing
    cannot see. To first order a subset is as good as the sum of what its examples bring, so that two of n examples of
    N that share m have correlation (m/n − n/N)/(1 − n/N); with that as ``shared`` the variance of the mean has the
    share of a draw's variance that stays: s_d²/S + shared·s². Zero is plain pairing, one a single subset.

    Args:
        first: float[S], one value per seed, S ≥ 1.
        second: float[S], in the same order; trainings on a fresh subset each where ``shared`` is above zero.
        confidence: In (0, 1).
        step: Least difference between two values, 1/M for accuracies over M examples; 0 for none.
        shared: Correlation of the luck of the first's subsets between seeds, in [0, 1].

    Raises:
        ValueError: The lengths differ, or there is none.

    Source: Student 1908; covariance of means of overlapping samples, Cochran 1977, chapter 2.
    """
    a, b = _both(first, second)
    values = a - b
    n = len(values)
    spread = max(float(values.std(ddof=1)), step / sqrt(6)) if n > 1 else nan
    stays = shared * max(float(b.var(ddof=1)), step**2 / 12) if n > 1 and shared else 0.0
    return _difference(float(values.mean()), (spread, stays), n, confidence, fixed=False)


def against_draws(
    first: ArrayLike, draws: ArrayLike, confidence: float = 0.95, *, step: float = 0.0
) -> Difference:
    """Return the interval of one fixed subset's mean against the mean of subsets drawn anew for every seed.

    All seeds of the fixed subset share its luck: their spread says how much the weights and the order matter, not how
    much the choice of examples does. The paired interval would take that luck for merit, and call a score that is
    pure noise better or worse than random too often. Under "one more random subset" the mean of the fixed one has at
    most the variance of one draw, so the interval is that of a prediction: variance s²(1 + 1/S) with s² between
    draws, plus what the first varies beyond that.

    Args:
        first: float[S], trainings on the one subset.
        draws: float[S], trainings on a fresh subset each.
        confidence: In (0, 1).
        step: Least difference between two values, as for ``paired``; a variance below step²/12 is not believed.

    Raises:
        ValueError: The lengths differ, or there is none.

    Source: prediction interval of a further observation, e.g. Hahn & Meeker 1991, section 4.
    """
    a, b = _both(first, draws)
    n = len(a)
    if n < 2:
        return _difference(float((a - b).mean()), (nan, nan), n, confidence, fixed=True)
    own, between = float(a.var(ddof=1)), max(float(b.var(ddof=1)), step**2 / 12)
    spread = sqrt(max(own, between))  # between·(1 + 1/S) + max(0, own − between)/S is between + spread²/S
    return _difference(float(a.mean() - b.mean()), (spread, between), n, confidence, fixed=True)


def _both(first: ArrayLike, second: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    a, b = np.asarray(first, np.float64), np.asarray(second, np.float64)
    if a.shape != b.shape or a.ndim != 1 or not len(a):
        raise ValueError(f"values of {a.shape} and {b.shape} are no pairs")
    return a, b


def _difference(
    mean: float, spreads: tuple[float, float], n: int, confidence: float, *, fixed: bool
) -> Difference:
    from scipy.special import stdtr  # noqa: PLC0415 - as above

    if n < 2:
        return Difference(mean=mean, low=nan, high=nan, floor=nan, p=nan, spread=nan, seeds=n, fixed=fixed)
    spread, stays = spreads
    error = sqrt(stays + spread**2 / n)
    half = _quantile(n - 1, (1 + confidence) / 2) * error
    certain = 1.0 if mean == 0 else 0.0  # every seed says the same, to the last digit
    p = float(2 * stdtr(n - 1, -abs(mean) / error)) if error > 0 else certain
    return Difference(
        mean=mean,
        low=mean - half,
        high=mean + half,
        floor=mean - _quantile(n - 1, confidence) * error,
        p=p,
        spread=spread,
        stays=stays,
        seeds=n,
        fixed=fixed,
    )


def seeds_to_settle(difference: Difference, confidence: float = 0.95) -> int | None:
    """Return how many seeds would tell this difference from zero, were it and its spread the true ones.

    Returns:
        The smallest S whose interval excludes zero; None where none up to 1,000 does, or nothing is known of the
        spread. The luck of subsets that seeds share stays whatever their number.
    """
    size, spread = abs(difference.mean), difference.spread
    if not (np.isfinite(spread) and size > 0):
        return None

    def settles(n: int) -> bool:
        error = sqrt(difference.stays + spread**2 / n)
        return _quantile(n - 1, (1 + confidence) / 2) * error < size

    needed = 2 + bisect_left(range(2, MOST_SEEDS + 1), True, key=settles)  # noqa: FBT003 - the first that does
    return needed if needed <= MOST_SEEDS else None


def over_examples(first: ArrayLike, second: ArrayLike, confidence: float = 0.95) -> tuple[float, float]:
    """Return the interval of a difference in accuracy over test examples: what another test set would have said.

    Seeds say how sure a difference is on this test set; this says what the draw of its examples adds. Paired by
    example, normal, mean ± z·s/√n.

    Args:
        first: float[n], share of seeds in which each test example was right.
        second: float[n], the same examples.
        confidence: In (0, 1).
    """
    from scipy.special import ndtri  # noqa: PLC0415

    a, b = _both(first, second)
    values = a - b
    if len(values) < 2:
        return -inf, inf
    half = float(ndtri((1 + confidence) / 2)) * float(values.std(ddof=1)) / sqrt(len(values))
    return float(values.mean()) - half, float(values.mean()) + half
