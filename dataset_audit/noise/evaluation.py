"""How well a ranking finds labels that are known to be wrong, with intervals, and against rankings beside it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import nan
from typing import Final

import numpy as np
from numpy.typing import NDArray

from dataset_audit import seeds

DRAWS: Final = 300
PERMUTATIONS: Final = 20
FIGURES: Final = ("auroc", "average_precision", "precision_at_k")

Floats = NDArray[np.float64]
Truth = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Order:
    """A ranking laid out once beside the truth, so that redrawn examples need no sorting.

    Rows stand from the most suspicious down, in B blocks of equal values; B = N without ties. Only the blocks that hold
    a wrong label matter to the figures, and there are fewer of them.

    Attributes:
        rows: int64[N], by falling value.
        starts: int64[B], positions in ``rows`` at which the blocks begin.
        wrong: int64[M], the rows whose label is wrong, in the same order.
        firsts: int64[W], positions in ``wrong`` at which the blocks begin that hold any.
        held: int64[W], those blocks.
    """

    rows: NDArray[np.int64]
    starts: NDArray[np.int64]
    wrong: NDArray[np.int64]
    firsts: NDArray[np.int64]
    held: NDArray[np.int64]

    @staticmethod
    def of(values: Floats, truth: Truth) -> Order:
        """Return the order of some examples.

        Args:
            values: float64[N], high is suspicious, without NaN; N at least one.
            truth: bool[N], where the label is wrong.
        """
        rows = np.argsort(-values, kind="stable")
        ordered, wrong = values[rows], np.flatnonzero(truth[rows])
        begins = np.concatenate([[True], ordered[1:] != ordered[:-1]])
        block = (np.cumsum(begins) - 1)[wrong]
        held, firsts = np.unique(block, return_index=True)
        return Order(rows, np.flatnonzero(begins), rows[wrong], firsts, held)

    def __len__(self) -> int:
        return len(self.rows)

    def every(self, weights: Floats) -> Floats:
        """Return the weight of each block, float64[B]."""
        return _summed(weights[self.rows], self.starts)

    def found(self, weights: Floats) -> Floats:
        """Return the weight of the wrong labels in each block that holds any, float64[W]."""
        return _summed(weights[self.wrong], self.firsts)


def _summed(values: Floats, starts: NDArray[np.int64]) -> Floats:
    if len(starts) == len(values):
        return values
    return np.asarray(np.add.reduceat(values, starts), np.float64)


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


def figures(order: Order, weights: Floats | None = None) -> Figures:
    """Return the three figures of a ranking.

    Args:
        order: The ranking and the truth.
        weights: float64[N], how often each example counts; once if not given.
    """
    counted = np.ones(len(order)) if weights is None else weights
    every, wrong = order.every(counted), order.found(counted)
    reached, hits = np.cumsum(every), np.cumsum(wrong)
    total = float(hits[-1]) if len(hits) else 0.0
    if total == 0:
        return Figures(nan, nan, nan)
    taken, right = reached[order.held], float(reached[-1]) - total
    precision = hits / np.maximum(taken, 1e-300)  # a block that was not drawn has weight 0 in the sum
    beside = every[order.held] - wrong
    below = right - (taken - hits) + beside / 2
    auroc = float(wrong @ below) / (total * right) if right else nan
    at_k = float(_hits(order, reached, hits, np.array([total]))[0]) / total
    return Figures(auroc, float(wrong @ precision) / total, at_k)


def precision_at(order: Order, counts: NDArray[np.int64]) -> Floats:
    """Return the share of wrong labels among the first k, float64[K]; of a divided block of ties the expected part.

    Args:
        order: The ranking and the truth.
        counts: int64[K], each in [1, N].
    """
    ones = np.ones(len(order))
    found = _hits(
        order, np.cumsum(order.every(ones)), np.cumsum(order.found(ones)), counts.astype(np.float64)
    )
    return found / counts


def _hits(order: Order, reached: Floats, hits: Floats, counts: Floats) -> Floats:
    """Return how many wrong labels stand among the first k, float64[K]: linear within a block, the expectation."""
    block = np.searchsorted(reached, counts)  # the block that the k-th example stands in
    before = np.concatenate([[0.0], hits])
    held = np.searchsorted(order.held, block)
    inside = np.append(order.held, -1)[held] == block
    start = np.where(block > 0, reached[block - 1], 0.0)
    part = (counts - start) / np.maximum(reached[block] - start, 1e-300)
    return before[held] + np.where(inside, np.append(np.diff(before), 0.0)[held] * part, 0.0)


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


def redraw(orders: Mapping[str, Order], seed: int, *, draws: int = DRAWS) -> Redrawn:
    """Return the figures of every ranking on examples redrawn with replacement.

    A redrawn example counts as often as it was drawn, so no ranking is sorted again. The interval is for "other
    examples like these"; it says nothing of another training.

    Args:
        orders: By name, of the same N examples.
        seed: Of the draws.
        draws: How many.

    Source: Efron 1979.
    """
    rng, n = seeds.rng(seed, "noise-bootstrap"), len(next(iter(orders.values())))
    values = np.empty((draws, len(orders), len(FIGURES)))
    for draw in range(draws):
        weights = np.bincount(rng.integers(0, n, n), minlength=n).astype(np.float64)
        for place, order in enumerate(orders.values()):
            one = figures(order, weights)
            values[draw, place] = one.auroc, one.average_precision, one.precision_at_k
    return Redrawn(tuple(orders), values)


def permuted(values: Floats, truth: Truth, seed: int, *, permutations: int = PERMUTATIONS) -> list[float]:
    """Return the AUROC of float64[N] against permuted truths: a control that must stand at one half."""
    rng = seeds.rng(seed, "permuted-truth")
    return [figures(Order.of(values, rng.permutation(truth))).auroc for _ in range(permutations)]


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
                label, int(mine.sum()), int(truth[mine].sum()), figures(Order.of(values[mine], truth[mine]))
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
