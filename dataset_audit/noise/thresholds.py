"""Threshold samples: examples with a label that is surely wrong, to see what the margin of a wrong label looks like."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from dataset_audit import seeds

SETS: Final = 2  # disjoint ones: the members of each are judged in the run of the other


def threshold_sets(
    rows: NDArray[np.int64], classes: int, seed: int, *, sets: int = SETS
) -> list[NDArray[np.int64]]:
    """Return disjoint random sets of N/(C + 1) rows each, int64[M] ascending, to be given the extra class C.

    As many as make the extra class as large as the average class (Pleiss et al. 2020, section 4; their code takes
    N/C). The sets are slices of one permutation, so they depend on (rows, classes, seed) alone.

    Args:
        rows: int64[N], the examples that are trained on.
        classes: C, at least two.
        seed: Of the permutation.
        sets: How many; at most C + 1.

    Raises:
        ValueError: Fewer than two classes, more sets than fit, or sets without a member.
    """
    size = len(rows) // (classes + 1)
    if classes < 2 or sets > classes + 1 or size < 1:
        raise ValueError(
            f"{sets} sets of {size} threshold samples from {len(rows)} rows of {classes} classes"
        )
    drawn = seeds.rng(seed, "threshold-samples").permutation(rows)
    return [np.sort(drawn[at * size : (at + 1) * size]) for at in range(sets)]


def threshold(margins: NDArray[np.float64], percentile: float) -> float:
    """Return the largest margin that still lies below enough threshold samples to be flagged.

    An example is flagged when more than 1 - percentile/100 of the threshold samples have a higher AUM. The bound is the
    order statistic this amounts to, so that ``aum < threshold`` says the same, without interpolation.

    Args:
        margins: float64[M], AUM of the threshold samples, M at least 1.
        percentile: In (0, 100); 99 as published.

    Source: Pleiss et al. 2020, section 4.
    """
    ordered = np.sort(margins)
    least_above = (
        int(np.floor(round((1 - percentile / 100) * len(ordered), 9))) + 1
    )  # strictly more than the share
    return float(ordered[len(ordered) - min(least_above, len(ordered))])


def flags(
    margins: Sequence[NDArray[np.float64]], members: Sequence[NDArray[np.bool_]], percentile: float
) -> tuple[NDArray[np.bool_], NDArray[np.float64], list[float]]:
    """Return what runs with threshold samples say of each example.

    An example is flagged when every run in which it had its own label flags it: the runs must agree, as in the
    published code.

    Args:
        margins: Per run float64[N], AUM; NaN where not presented.
        members: Per run bool[N], the threshold samples of that run.
        percentile: As in `threshold`.

    Returns:
        Flags, bool[N]; the share of threshold samples with a higher AUM, float64[N], mean over the runs in which the
        example had its own label, NaN without one; and the threshold of each run.

    Source: Pleiss et al. 2020, section 4.
    """
    n = len(margins[0])
    flagged, judged = np.ones(n, bool), np.zeros(n, np.int64)
    above, bounds = np.zeros(n), []
    for aum, member in zip(margins, members, strict=True):
        samples = np.sort(aum[member & np.isfinite(aum)])
        own = ~member & np.isfinite(aum)
        bounds.append(threshold(samples, percentile))
        flagged &= ~own | (aum < bounds[-1])
        above[own] += 1 - np.searchsorted(samples, aum[own], side="right") / len(samples)
        judged += own
    share = np.where(judged > 0, above / np.maximum(judged, 1), np.nan)
    return flagged & (judged > 0), share, bounds
