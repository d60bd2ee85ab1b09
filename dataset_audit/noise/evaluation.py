"""How well a ranking finds labels that are known to be wrong, with intervals, and against rankings beside it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import nan
from typing import Final

import numpy as np
from numpy.typing import NDArray

from dataset_audit import seeds

DRAWS: Final = 500
PERMUTATIONS: Final = 20
FIGURES: Final = ("auroc", "average_precision", "precision_at_k")

Floats = NDArray[np.float64]
Truth = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Order:
    """A ranking laid out once: rows from the most suspicious down, and where blocks of equal values begin.

    Attributes:
        rows: int64[N], descending by value.
        starts: int64[B], positions in ``rows`` at which the blocks begin; B = N without ties.
    """

    rows: NDArray[np.int64]
    starts: NDArray[np.int64]

    @staticmethod
    def of(values: Floats) -> Order:
        """Return the order of float64[N], high is suspicious, without NaN."""
        rows = np.argsort(-values, kind="stable")
        ordered = values[rows]
        return Order(rows, np.flatnonzero(np.concatenate([[True], ordered[1:] != ordered[:-1]])))

    def blocks(self, weights: Floats) -> Floats:
        """Return the sum of float64[N] (by row) over each block, float64[B]."""
        ordered = weights[self.rows]
        return ordered if len(self.starts) == len(self.rows) else np.add.reduceat(ordered, self.starts)


@dataclass(frozen=True)
class Figures:
    """What a ranking is worth against the truth.

    Attributes:
        auroc: Probability that a wrong label is ranked above a right one, ties one half; NaN without both kinds.
        average_precision: Mean over wrong labels of the precision at their rank, ties sharing their block's; the base
            rate for a constant ranking. NaN without wrong labels.
        precision_at_k: Share of truly wrong labels among the first k, k the number truly wrong; of a block of ties
            that the cut divides, the expected part. NaN without wrong labels.
    """

    auroc: float
    average_precision: float
    precision_at_k: float


def figures(order: Order, truth: Truth, weights: Floats | None = None) -> Figures:
    """Return the three figures of a ranking.

    Args:
        order: The ranking.
        truth: bool[N], where the label is wrong.
        weights: float64[N], how often each example counts; once if not given.
    """
    counted = np.ones(len(truth)) if weights is None else weights
    wrong, every = order.blocks(counted * truth), order.blocks(counted)
    found, taken = np.cumsum(wrong), np.cumsum(every)
    total, right = float(found[-1]), float(taken[-1] - found[-1])
    if total == 0:
        return Figures(nan, nan, nan)
    precision = np.divide(found, taken, out=np.zeros_like(found), where=taken > 0)
    ap = float(wrong @ precision) / total
    above = found - wrong / 2
    auroc = float((every - wrong) @ above) / (total * right) if right else nan
    return Figures(auroc, ap, float(_hits(found, taken, np.array([total]))[0]) / total)


def precision_at(order: Order, truth: Truth, counts: NDArray[np.int64]) -> Floats:
    """Return the share of wrong labels among the first k, float64[K]; of a divided block of ties the expected part.

    Args:
        order: The ranking.
        truth: bool[N].
        counts: int64[K], each in [1, N].
    """
    ones = np.ones(len(truth))
    found, taken = np.cumsum(order.blocks(ones * truth)), np.cumsum(order.blocks(ones))
    return _hits(found, taken, counts.astype(np.float64)) / counts


def _hits(found: Floats, taken: Floats, counts: Floats) -> Floats:
    """Return how many wrong labels stand among the first k: linear within a block, which is the expectation."""
    return np.interp(counts, np.concatenate([[0.0], taken]), np.concatenate([[0.0], found]))


@dataclass(frozen=True, eq=False)
class Redrawn:
    """Figures on redrawn examples; all rankings see the same draws, so that differences are paired.

    Attributes:
        names: Of the rankings.
        values: float64[D, R, 3], by draw, ranking and figure in the order of FIGURES.
    """

    names: tuple[str, ...]
    values: Floats

    def interval(
        self, name: str, figure: str, *, minus: str = "", confidence: float = 0.95
    ) -> tuple[float, float]:
        """Return the percentile interval of a figure, or of its difference to another ranking's; NaN if undefined."""
        at = FIGURES.index(figure)
        drawn = self.values[:, self.names.index(name), at]
        if minus:
            drawn = drawn - self.values[:, self.names.index(minus), at]
        if np.isnan(drawn).all():
            return nan, nan
        low, high = np.nanquantile(drawn, [(1 - confidence) / 2, (1 + confidence) / 2])
        return float(low), float(high)


def redraw(orders: Mapping[str, Order], truth: Truth, seed: int, *, draws: int = DRAWS) -> Redrawn:
    """Return the figures of every ranking on examples redrawn with replacement.

    A redrawn example counts as often as it was drawn, so no ranking is sorted again. The interval is for "other
    examples like these"; it says nothing of another training.

    Args:
        orders: By name, of the same N examples.
        truth: bool[N].
        seed: Of the draws.
        draws: How many.

    Source: Efron 1979.
    """
    rng, n = seeds.rng(seed, "noise-bootstrap"), len(truth)
    values = np.empty((draws, len(orders), len(FIGURES)))
    for draw in range(draws):
        weights = np.bincount(rng.integers(0, n, n), minlength=n).astype(np.float64)
        for place, order in enumerate(orders.values()):
            one = figures(order, truth, weights)
            values[draw, place] = one.auroc, one.average_precision, one.precision_at_k
    return Redrawn(tuple(orders), values)


def permuted(order: Order, truth: Truth, seed: int, *, permutations: int = PERMUTATIONS) -> list[float]:
    """Return the AUROC against permuted truths: a control that must stand at one half."""
    rng = seeds.rng(seed, "permuted-truth")
    return [figures(order, rng.permutation(truth)).auroc for _ in range(permutations)]


@dataclass(frozen=True)
class OfClass:
    """A ranking within the examples of one label: how many, how many wrong, and its figures."""

    label: int
    n: int
    wrong: int
    figures: Figures


def by_class(values: Floats, truth: Truth, labels: NDArray[np.int64]) -> list[OfClass]:
    """Return the figures within each given label, ascending by label."""
    made = []
    for label in np.unique(labels).tolist():
        mine = labels == label
        made.append(
            OfClass(
                label, int(mine.sum()), int(truth[mine].sum()), figures(Order.of(values[mine]), truth[mine])
            )
        )
    return made


def confusions(
    labels: NDArray[np.int64], others: NDArray[np.int64], rows: NDArray[np.int64], classes: int
) -> NDArray[np.int64]:
    """Return how often each given label stands where each other class is meant, int64[C, C].

    Args:
        labels: int64[N], as given.
        others: int64[N], known or suggested; -1 counts nowhere.
        rows: The rows to count.
        classes: C.
    """
    counted = np.zeros((classes, classes), np.int64)
    known = rows[(others[rows] >= 0) & (labels[rows] >= 0)]
    np.add.at(counted, (labels[known], others[known]), 1)
    return counted


def best(named: Mapping[str, Figures], among: Sequence[str]) -> str:
    """Return the name with the highest AUROC, the first of equals; empty without a name."""
    known = [name for name in among if named[name].auroc == named[name].auroc]
    return max(known, key=lambda name: named[name].auroc, default="")
