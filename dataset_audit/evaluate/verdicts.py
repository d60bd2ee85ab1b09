"""What may be said of an arm: better, worse, equivalent, or that no difference was shown; by rules fixed beforehand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isfinite, isnan
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from dataset_audit.stats.chance import holm
from dataset_audit.stats.paired import Difference, against_draws, over_examples, paired, seeds_to_settle

Verdict = Literal["better", "worse", "equivalent", "no worse", "no difference shown", "not measured"]
ALPHA: Final = 0.05


@dataclass(frozen=True, kw_only=True, eq=False)
class Series:
    """One arm at one size: its accuracy with each seed, and which test examples each got right.

    Attributes:
        arm: Its name.
        keep: Share of the training examples.
        accuracy: float64[S].
        right: bool[S, M].
        fixed: Whether all seeds trained on the same subset.
        shared: Where they did not, correlation of the luck of their subsets (`arms.shared_luck`), in [0, 1].
    """

    arm: str
    keep: float
    accuracy: NDArray[np.float64]
    right: NDArray[np.bool_]
    fixed: bool
    shared: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """An arm against another of the same size, or against the full set.

    Attributes:
        arm: Its name.
        keep: Its share.
        against: The other's name.
        difference: First minus second, shares, over seeds: how sure it is on this test set.
        adjusted: p, after Holm over the sizes of this arm where the other is of its size; NaN without an interval.
        verdict: What follows.
        settle: Seeds that would tell the difference from none, after Holm; None where none would, or it is told.
        population: Interval over test examples: what another test set of the size could have said.
    """

    arm: str
    keep: float
    against: str
    difference: Difference
    adjusted: float
    verdict: Verdict
    settle: int | None
    population: tuple[float, float]


def verdict(difference: Difference, adjusted: float, delta: float) -> Verdict:
    """Return what may be said of a difference to an arm of the same size.

    ``better`` and ``worse``: p after Holm is below 5 %. ``equivalent``: the whole 95 % interval lies within ±delta
    (stricter than two one-sided tests at 5 %). Otherwise no difference is shown, which is not that there is none.

    Args:
        difference: Over seeds.
        adjusted: Its p after Holm.
        delta: The margin, stated before the evaluation.
    """
    if isnan(difference.low):
        return "not measured"
    if adjusted < ALPHA:
        return "better" if difference.mean > 0 else "worse"
    if difference.low > -delta and difference.high < delta:
        return "equivalent"
    return "no difference shown"


def verdict_to_full(difference: Difference, delta: float) -> Verdict:
    """Return what may be said of a smaller arm against all examples.

    ``no worse``: the one-sided 95 % lower bound is above −delta. ``worse``: the 95 % interval lies below zero.
    """
    if isnan(difference.low):
        return "not measured"
    if difference.floor > -delta:
        return "no worse"
    return "worse" if difference.high < 0 else "no difference shown"


def compare(series: Sequence[Series], baseline: Mapping[float, Series], delta: float) -> list[Comparison]:
    """Compare one arm at each of its sizes with the baseline of the same size; Holm over the sizes.

    An arm whose subset is the same for all seeds is compared as one more draw of the baseline's subsets
    (`stats.paired.against_draws`), one that is chosen anew for every seed by pairs, with the luck that its subsets
    share between seeds added.

    Args:
        series: The arm, one entry per size.
        baseline: By share kept; its subsets are drawn anew for every seed.
        delta: Margin of ``equivalent``.
    """
    found = [(one, baseline[one.keep], _difference(one, baseline[one.keep], drawn=True)) for one in series]
    known = [difference.p for *_, difference in found if not isnan(difference.p)]
    adjusted = iter(holm(known))
    comparisons = []
    for one, other, difference in found:
        p = next(adjusted) if not isnan(difference.p) else difference.p
        said = verdict(difference, p, delta)
        comparisons.append(_comparison(one, other, difference, (p, said)))
    return comparisons


def compare_to_full(series: Sequence[Series], full: Series, delta: float) -> list[Comparison]:
    """Compare an arm at each of its sizes with training on everything, by pairs of seeds."""
    comparisons = []
    for one in series:
        difference = _difference(one, full, drawn=False)
        said = verdict_to_full(difference, delta)
        comparisons.append(_comparison(one, full, difference, (difference.p, said)))
    return comparisons


def _difference(one: Series, other: Series, *, drawn: bool) -> Difference:
    step = 1 / one.right.shape[1]  # an accuracy is a count of test examples
    if one.fixed and drawn:
        return against_draws(one.accuracy, other.accuracy, step=step)
    return paired(one.accuracy, other.accuracy, step=step, shared=one.shared if drawn else 0.0)


def _comparison(
    one: Series, other: Series, difference: Difference, said: tuple[float, Verdict]
) -> Comparison:
    settle = None
    if said[1] == "no difference shown" and isfinite(difference.spread) and difference.p > 0:
        # what Holm multiplies p by is asked of the interval as well
        settle = seeds_to_settle(difference, 1 - ALPHA * difference.p / said[0])
    return Comparison(
        arm=one.arm,
        keep=one.keep,
        against=other.arm,
        difference=difference,
        adjusted=said[0],
        verdict=said[1],
        settle=settle,
        population=over_examples(one.right.mean(0), other.right.mean(0)),
    )
