"""One total order: hardest first, ties by a seeded key of the example's identity, never by the row it stands in."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from dataset_audit import seeds

Hard = Literal["high", "low"]
_HEX: Final = 32  # digits of a uid


def tie_keys(seed: int, uids: Sequence[str | None] | None, index: NDArray[np.int64]) -> NDArray[np.uint64]:
    """Return one uniform 64-bit key per example that depends on (seed, uid) alone.

    Independent of row order, of N and of the machine. An example without uid is keyed by its index. The uid is a
    hash already, so two rounds of a 64-bit mixer over its two halves are enough to make seeds independent.

    Args:
        seed: Another seed gives an independent order of ties.
        uids: 32 hex digits each, or None.
        index: int64[N].
    """
    key = np.uint64(seeds.integer(seed, "tie") & (2**64 - 1))
    mixed = _mix(index.astype(np.uint64) ^ key)
    if uids is None:
        return mixed
    usable = np.fromiter((uid is not None and len(uid) == _HEX for uid in uids), dtype=bool, count=len(uids))
    if usable.any():
        joined = "".join(uid for uid, good in zip(uids, usable, strict=True) if good and uid is not None)
        halves = np.frombuffer(bytes.fromhex(joined), dtype=">u8").astype(np.uint64).reshape(-1, 2)
        mixed[usable] = _mix(_mix(halves[:, 0] ^ key) ^ halves[:, 1])
    return mixed


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
