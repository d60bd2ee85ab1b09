"""One total order: hardest first, ties by a seeded key of the example's identity, never by the row it stands in."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from dataset_audit import seeds

Hard = Literal["high", "low"]


def tie_keys(seed: int, uids: NDArray[np.uint64] | None, index: NDArray[np.int64]) -> NDArray[np.uint64]:
    """Return one uniform 64-bit key per example that depends on (seed, uid) alone.

    Independent of row order, of N and of the machine. The uid is a hash already, so two rounds of a 64-bit mixer over
    its two halves are enough to make seeds independent.

    Args:
        seed: Another seed gives an independent order of ties.
        uids: uint64[N, 2], the two halves of each uid, as ``ScoreTable.uid_words`` gives them; (0, 0) or None where
            there is none, and the index is taken instead.
        index: int64[N].
    """
    key = np.uint64(seeds.integer(seed, "tie"))
    by_index = _mix(index.astype(np.uint64) ^ key)
    if uids is None:
        return by_index
    by_uid = _mix(_mix(uids[:, 0] ^ key) ^ uids[:, 1])
    return np.where(uids.any(axis=1), by_uid, by_index)


def _mix(x: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Return the splitmix64 finaliser of each value."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def order(
    keys: Sequence[NDArray[np.float64]],
    hard: Sequence[Hard],
    tie: NDArray[np.uint64],
    *,
    easiest: bool = False,
) -> NDArray[np.int64]:
    """Return the positions of all rows, hardest first: by the first key, then the next, then the tie key, then row.

    Args:
        keys: float[N] each, without NaN.
        hard: Which end of each key is hard.
        tie: uint64[N]; smaller first among equals.
        easiest: Reverse the keys, but not the ties: the easiest first.

    Returns:
        int64[N]: a permutation.
    """
    columns: list[NDArray[np.generic]] = [tie]
    for values, end in zip(reversed(keys), reversed(hard), strict=True):
        high_first = (end == "high") != easiest
        columns.append(-values if high_first else values)
    return np.lexsort(columns)  # last key is the primary one; stable, so the row decides what is equal in all


def hard_first(values: NDArray[np.float64], hard: Hard) -> NDArray[np.float64]:
    """Return the values turned so that high is hard."""
    return values if hard == "high" else -values
