"""A straight line through points, on the scale of shares or of normal quantiles, and what it says about order."""

from __future__ import annotations

from dataclasses import dataclass
from math import nan, sqrt

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dataset_audit import seeds

DRAWS = 20_000  # of the points, for an interval of a line


@dataclass(frozen=True, kw_only=True)
class Fit:
    """The line y = intercept + slope · x.

    Attributes:
        slope: Of the line; NaN where x does not vary or there are fewer than two points.
        intercept: At x = 0.
        slope_error: Standard error, from residuals over n − 2; NaN below three points.
        intercept_error: Likewise.
        r2: Share of the variance of y that the line explains; NaN where y does not vary.
        n: Points used.
    """

    slope: float
    intercept: float
    slope_error: float
    intercept_error: float
    r2: float
    n: int


def least_squares(x: ArrayLike, y: ArrayLike) -> Fit:
    """Return the ordinary least-squares line of y on x, float[N] each.

    The errors in x are not modelled: where x is measured too, noise in it makes the slope smaller.
    """
    a, b = np.asarray(x, np.float64), np.asarray(y, np.float64)
    n = len(a)
    if n < 2 or np.ptp(a) == 0:
        return Fit(slope=nan, intercept=nan, slope_error=nan, intercept_error=nan, r2=nan, n=n)
    centred = a - a.mean()
    spread = float(centred @ centred)
    slope = float(centred @ (b - b.mean())) / spread
    intercept = float(b.mean() - slope * a.mean())
    residual = b - intercept - slope * a
    left = float(residual @ residual)
    total = float(((b - b.mean()) ** 2).sum())
    variance = left / (n - 2) if n > 2 else nan
    return Fit(
        slope=slope,
        intercept=intercept,
        slope_error=sqrt(variance / spread),
        intercept_error=sqrt(variance * (1 / n + float(a.mean()) ** 2 / spread)),
        r2=1 - left / total if total > 0 else nan,
        n=n,
    )


def probit_line(x: ArrayLike, y: ArrayLike) -> Fit:
    """Return the least-squares line of Φ⁻¹(y) on Φ⁻¹(x), shares float[N] each.

    On this scale equal steps are equally hard near 1 and in the middle, so a slope that comes from the scale of
    shares alone disappears. Points with a share of 0 or 1 have no place on it and are left out; ``n`` says how many
    are left.

    Source: Recht, Roelofs, Schmidt & Shankar 2019, section 4; Taori et al. 2020.
    """
    from scipy.special import ndtri  # noqa: PLC0415 - commands without fits do not wait for it

    a, b = np.asarray(x, np.float64), np.asarray(y, np.float64)
    inside = (a > 0) & (a < 1) & (b > 0) & (b < 1)
    return least_squares(ndtri(a[inside]), ndtri(b[inside]))


def line_interval(
    x: ArrayLike, y: ArrayLike, *, seed: int, draws: int = DRAWS, confidence: float = 0.95
) -> tuple[tuple[float, float], tuple[float, float]]:
    """Return percentile intervals of slope and intercept, redrawing points with replacement.

    It says how much the line depends on which points there are; with fewer than about ten of them it is too short.

    Args:
        x: float[N].
        y: float[N].
        seed: Of the draws.
        draws: How many; those in which x does not vary are left out.
        confidence: In (0, 1).

    Returns:
        ((low, high) of the slope, (low, high) of the intercept), NaN below three points or without a usable draw.

    Source: Efron 1979.
    """
    a, b = np.asarray(x, np.float64), np.asarray(y, np.float64)
    if len(a) < 3:
        return (nan, nan), (nan, nan)
    rng = seeds.rng(seed, "line-interval")
    slopes, intercepts = [], []
    for start in range(0, draws, 4096):
        rows = rng.integers(0, len(a), (min(4096, draws - start), len(a)))
        u, v = a[rows], b[rows]
        mean_u, mean_v = u.mean(1), v.mean(1)
        varies = u.max(1) > u.min(1)
        centred = u - mean_u[:, None]
        spread = np.where(varies, (centred**2).sum(1), 1.0)
        slope = (centred * (v - mean_v[:, None])).sum(1) / spread
        slopes.append(slope[varies])
        intercepts.append((mean_v - slope * mean_u)[varies])
    tails = (1 - confidence) / 2, (1 + confidence) / 2
    return _quantiles(np.concatenate(slopes), tails), _quantiles(np.concatenate(intercepts), tails)


def _quantiles(values: NDArray[np.float64], tails: tuple[float, float]) -> tuple[float, float]:
    if not len(values):
        return nan, nan
    low, high = np.quantile(values, tails)
    return float(low), float(high)


def kendall(a: ArrayLike, b: ArrayLike) -> float:
    """Return Kendall's τ-b of two float[N]: pairs in the same order minus pairs in the other, ties taken out.

    (concordant − discordant)/√((P − ties in a)(P − ties in b)) over the P = N(N − 1)/2 pairs; every pair is compared,
    so this is for models, not for images.

    Returns:
        In [-1, 1]; NaN if either does not vary.

    Source: Kendall 1945.
    """
    x, y = np.asarray(a, np.float64), np.asarray(b, np.float64)
    first, second = np.triu_indices(len(x), 1)
    up, over = np.sign(x[first] - x[second]), np.sign(y[first] - y[second])
    scale = sqrt(float((up != 0).sum()) * float((over != 0).sum()))
    return float((up * over).sum()) / scale if scale else nan
