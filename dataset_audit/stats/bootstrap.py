"""Intervals by drawing again, whole clusters at a time."""

from __future__ import annotations

from collections.abc import Callable
from math import nan

import numpy as np
from numpy.typing import NDArray

from dataset_audit import seeds


def cluster_bootstrap(
    clusters: NDArray[np.int64],
    statistic: Callable[[NDArray[np.int64]], float],
    *,
    draws: int = 2000,
    seed: int,
    confidence: float = 0.95,
) -> tuple[float, float]:
    """Return the percentile interval of a statistic, redrawing clusters with replacement.

    Near-duplicates err together, so images are no independent draws but their clusters are. Paired
    quantities stay paired: the statistic is given rows and may look up in them what it likes.

    Args:
        clusters: int64[N], the cluster of each row; any integers.
        statistic: Takes int64[M], row numbers with repeats, all rows of each drawn cluster; M varies.
        draws: How often to redraw.
        seed: The interval depends on (clusters, statistic, draws, seed) alone.
        confidence: In (0, 1).

    Returns:
        Low and high end. Draws on which the statistic is NaN (no positives among them) are left out; NaN if
        that are all, or without rows.

    Source: Efron 1979; Davison & Hinkley 1997, section 3.8.
    """
    if not len(clusters):
        return nan, nan
    rows = np.argsort(clusters, kind="stable")
    _, starts, sizes = np.unique(clusters[rows], return_index=True, return_counts=True)
    rng = seeds.rng(seed, "cluster-bootstrap")
    values = np.empty(draws)
    for draw in range(draws):
        chosen = rng.integers(0, len(sizes), len(sizes))
        counts = sizes[chosen]
        ends = np.cumsum(counts)
        within = np.arange(ends[-1]) - np.repeat(ends - counts, counts)
        values[draw] = statistic(rows[np.repeat(starts[chosen], counts) + within])
    if np.isnan(values).all():
        return nan, nan
    low, high = np.nanquantile(values, [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(low), float(high)
