"""From score columns to one order of suspicion."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dataset_audit.select.order import Hard, hard_first
from dataset_audit.select.ranking import NULL_ABOVE
from dataset_audit.stats.agreement import ranks


@dataclass(frozen=True, eq=False)
class Suspicion:
    """The order of suspicion of N examples.

    Attributes:
        value: float64[N] in [0, 1): the share of the examples that are less suspicious. A rank, not a probability.
        rank: int64[N], 0 is the most suspicious; a permutation, ties broken by the tie key.
    """

    value: NDArray[np.float64]
    rank: NDArray[np.int64]


def suspicion(columns: Sequence[NDArray[np.float64]], tie: NDArray[np.uint64]) -> Suspicion:
    """Return how suspicious each example is by some columns together: by the mean of its ranks.

    Ranks, because the scales of scores differ and some are bounded; their mean, because a lexicographic order would
    never look at the second of two continuous columns. A monotone change of a column changes nothing.

    Args:
        columns: float64[N] each, high is suspicious, without NaN; tied values share their average rank.
        tie: uint64[N]; smaller first among examples of the same mean rank.

    Raises:
        ValueError: There is no column.
    """
    if not columns:
        raise ValueError("a ranking needs a column")
    together = np.sum([ranks(column) for column in columns], axis=0)  # multiples of one half: ties stay ties
    found, place, counts = np.unique(together, return_inverse=True, return_counts=True)
    below = np.concatenate([[0], np.cumsum(counts)[:-1]]) if len(found) else np.zeros(0, np.int64)
    order = np.lexsort([tie, -together])
    rank = np.empty(len(order), np.int64)
    rank[order] = np.arange(len(order))
    return Suspicion(below[place] / max(1, len(together)), rank)


def suspect_high(name: str, values: NDArray[np.float64], hard: Hard) -> NDArray[np.float64]:
    """Return a column turned so that high is suspicious, and null where null means an end, float64[N].

    An example that was never learned has no ``first_learned`` and is the most suspicious, one that was never wrong has
    no ``last_wrong`` and is the least. Other nulls stay NaN.

    Args:
        name: Of the column.
        values: float64[N] with NaN for null.
        hard: Which end is hard.
    """
    turned = hard_first(values, hard)
    known = turned[np.isfinite(turned)]
    if name not in NULL_ABOVE or not len(known):
        return turned
    beyond = known.max() + 1 if NULL_ABOVE[name] == (hard == "high") else known.min() - 1
    return np.where(np.isnan(turned), beyond, turned)
