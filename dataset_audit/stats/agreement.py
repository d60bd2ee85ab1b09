"""How much two rankings, or a ranking and the truth, agree; plain NumPy."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray


def ranks(values: ArrayLike) -> NDArray[np.float64]:
    """Return ranks from 1, float64[N]; tied values share the average of their ranks."""
    array = np.asarray(values, dtype=np.float64)
    _, inverse, counts = np.unique(array, return_inverse=True, return_counts=True)
    ends = np.cumsum(counts)
    return (ends - (counts - 1) / 2)[inverse]


def pearson(a: ArrayLike, b: ArrayLike) -> float:
    """Return Pearson's correlation of two float[N]; NaN if either does not vary."""
    x, y = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    x, y = x - x.mean(), y - y.mean()
    scale = float(np.sqrt((x**2).sum() * (y**2).sum()))
    return float((x * y).sum() / scale) if scale > 0 else float("nan")


def spearman(a: ArrayLike, b: ArrayLike) -> float:
    """Return Spearman's correlation of two float[N], ties by average ranks; NaN if either does not vary."""
    return pearson(ranks(a), ranks(b))


def auroc(scores: ArrayLike, positive: ArrayLike) -> float:
    """Return the probability that a positive scores above a negative, ties counting one half.

    Args:
        scores: float[N], high means positive.
        positive: bool[N].

    Returns:
        In [0, 1]; NaN without both kinds.
    """
    truth = np.asarray(positive, dtype=bool)
    n_positive, n_negative = int(truth.sum()), int((~truth).sum())
    if not n_positive or not n_negative:
        return float("nan")
    total = float(ranks(scores)[truth].sum())
    return (total - n_positive * (n_positive + 1) / 2) / (n_positive * n_negative)


def average_precision(scores: ArrayLike, positive: ArrayLike) -> float:
    """Return the mean over positives of the precision at their rank; tied scores share their block's precision.

    Args:
        scores: float[N], high means positive.
        positive: bool[N].

    Returns:
        In [0, 1], the base rate for a constant score; NaN without positives.
    """
    truth = np.asarray(positive, dtype=bool)
    if not truth.any():
        return float("nan")
    values, inverse = np.unique(-np.asarray(scores, dtype=np.float64), return_inverse=True)
    hits = np.bincount(inverse, weights=truth, minlength=len(values))
    found, taken = np.cumsum(hits), np.cumsum(np.bincount(inverse, minlength=len(values)))
    return float((hits * found / taken).sum() / truth.sum())


def overlap(a: ArrayLike, b: ArrayLike) -> float:
    """Return the share of two equally large sets of indices that they have in common."""
    first, second = set(np.asarray(a).tolist()), set(np.asarray(b).tolist())
    return len(first & second) / max(len(first), len(second), 1)
