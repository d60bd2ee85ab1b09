"""Selection by histograms against the sort it replaces: the same rows, whatever the ties, groups and shards."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from dataset_audit.select import histogram
from dataset_audit.select.histogram import Rows, Search, Thresholds, apply, ascending, number, numbers
from dataset_audit.select.order import order

ODD = [
    0.0,
    -0.0,
    1.0,
    -1.0,
    5e-324,
    -5e-324,
    1e-45,
    1.7e308,
    -1.7e308,
    3.4e38,
    float("inf"),
    -float("inf"),
    0.1,
]


@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_words_order_as_the_values_do_and_give_them_back(kind: type) -> None:
    rng = np.random.default_rng(0)
    with np.errstate(over="ignore"):
        values = np.concatenate(
            [np.array(ODD, kind), rng.normal(size=2000).astype(kind), rng.normal(size=50)]
        ).astype(kind)
    words = ascending(values)
    assert words.dtype.itemsize == values.dtype.itemsize
    by_word = np.argsort(words, kind="stable")
    assert np.array_equal(values[by_word], np.sort(values))
    assert words[0] == words[1], "-0.0 is 0.0"
    assert (np.unique(words, return_inverse=True)[1] == np.unique(values, return_inverse=True)[1]).all()
    width = 8 * values.dtype.itemsize
    assert [number(int(word), width) for word in words] == values.astype(float).tolist()
    assert np.array_equal(numbers(words), values.astype(float))


class Shard:
    """Some rows: their words, and how many were read of which."""

    def __init__(self, words: Sequence[NDArray[np.unsignedinteger]], group: NDArray[np.int64] | None) -> None:
        self.words, self.group, self.read = words, group, [0] * len(words)

    def __len__(self) -> int:
        return len(self.words[0])

    def give(self, place: int, rows: NDArray[np.int64] | None) -> NDArray[np.unsignedinteger]:
        found = self.words[place] if rows is None else self.words[place][rows]
        self.read[place] += len(found)
        return found


def search(
    shards: Sequence[Shard], widths: Sequence[int], groups: int,
    quotas: Callable[[NDArray[np.int64]], NDArray[np.int64]], **limits: int,
) -> tuple[Thresholds, int]:  # fmt: skip
    found, passes = Search(widths, groups, quotas, **{"cheap": len(widths) - 2, **limits}), 0  # type: ignore[arg-type]
    while (step := found.step()) is not None:
        if step.collect:
            found.collect(Rows.together([histogram.boundary(step, s.group, s.give) for s in shards]))
        else:
            found.count(
                sum((histogram.histogram(step, s.group, s.give) for s in shards), np.zeros(1, np.int64))
            )
        passes += 1
        assert passes < 200
    return found.thresholds(), passes


def cut(
    words: Sequence[NDArray[np.unsignedinteger]], group: NDArray[np.int64], wanted: NDArray[np.int64]
) -> NDArray[np.bool_]:
    """Return the slow obvious answer: sort, count in each group, cut."""
    keep = np.zeros(len(group), bool)
    ranked = np.lexsort([*reversed(words)])
    for each in range(len(wanted)):
        mine = ranked[group[ranked] == each]
        keep[mine[: wanted[each]]] = True
    return keep


@given(
    seed=st.integers(0, 10**6), n=st.integers(1, 120), groups=st.integers(1, 4),
    distinct=st.sampled_from([1, 2, 5, 1000]),
    share=st.floats(0, 1), cap=st.sampled_from([0, 3, 1000]), widest=st.sampled_from([1, 3, 16]),
    pieces=st.integers(1, 4), out=st.booleans(), same_ties=st.booleans(),
)  # fmt: skip
def test_the_rows_are_those_of_a_sort_whatever_the_ties_groups_and_shards(
    seed: int, n: int, groups: int, distinct: int, share: float, cap: int, widest: int, pieces: int, out: bool,
    same_ties: bool,
) -> None:  # fmt: skip
    rng = np.random.default_rng(seed)
    score = ascending(rng.choice(rng.normal(size=distinct), n).astype(np.float32))
    second = ascending(rng.choice(rng.normal(size=distinct), n))
    tie = np.full(n, 7, np.uint64) if same_ties else rng.integers(0, 2**64, n, dtype=np.uint64)
    words = (score, second, tie, np.arange(n, dtype=np.uint64))
    group = rng.integers(-1 if out else 0, groups, n)

    def quotas(sizes: NDArray[np.int64]) -> NDArray[np.int64]:
        return np.floor(sizes * share + rng.random(len(sizes))).astype(np.int64).clip(0, sizes)

    edges = sorted(rng.integers(0, n + 1, pieces - 1).tolist())
    spans = list(zip([0, *edges], [*edges, n], strict=True))
    whole = groups == 1 and not out
    shards = [Shard([word[a:b] for word in words], None if whole else group[a:b]) for a, b in spans]
    rng = np.random.default_rng(seed + 1)
    thresholds, _ = search(shards, (32, 64, 64, n.bit_length()), groups, quotas, cap=cap, widest=widest)
    kept = np.concatenate([apply(thresholds, s.group, len(s), s.give) for s in shards])
    rng = np.random.default_rng(seed + 1)
    wanted = quotas(np.bincount(group[group >= 0], minlength=groups))
    assert np.array_equal(kept, cut(words, group, wanted))


def test_it_is_the_order_that_everything_else_ranks_by() -> None:
    rng = np.random.default_rng(5)
    values, tie = rng.integers(0, 9, 500).astype(np.float64), rng.integers(0, 2**64, 500, dtype=np.uint64)
    shard = Shard((histogram.turned(ascending(values), "high"), tie, np.arange(500, dtype=np.uint64)), None)
    thresholds, _ = search([shard], (64, 64, 9), 1, lambda sizes: sizes * 0 + 77)
    assert set(np.flatnonzero(apply(thresholds, None, 500, shard.give))) == set(
        order([values], ["high"], tie)[:77]
    )


def test_ties_are_read_only_where_the_scores_leave_one() -> None:
    """The tie key of a table comes from 32 characters a row; most rows never need theirs."""
    n = 5000
    score = ascending(np.random.default_rng(0).permutation(n).astype(np.float32))
    shard = Shard((score, np.zeros(n, np.uint64), np.arange(n, dtype=np.uint64)), None)
    thresholds, passes = search([shard], (32, 64, 13), 1, lambda sizes: sizes // 2)
    assert apply(thresholds, None, n, shard.give).sum() == n // 2
    assert shard.read[1:] == [0, 0]
    assert passes == 2
    tied = Shard((score // np.uint32(2**20), np.zeros(n, np.uint64), np.arange(n, dtype=np.uint64)), None)
    search([tied], (32, 64, 13), 1, lambda sizes: sizes // 2)
    assert 0 < tied.read[1] < n / 2


def test_rows_in_memory_are_bounded_however_many_tie() -> None:
    n = 4000
    words = (
        np.zeros(n, np.uint32),
        np.random.default_rng(0).integers(0, 2**64, n, dtype=np.uint64),
        np.arange(n, dtype=np.uint64),
    )
    found, most = Search((32, 64, 12), 1, lambda sizes: sizes // 2, cheap=1, cap=50, widest=3), 0
    shard = Shard(words, None)
    while (step := found.step()) is not None:
        if step.collect:
            rows = histogram.boundary(step, None, shard.give)
            most = max(most, len(rows.group))
            found.collect(rows)
        else:
            found.count(histogram.histogram(step, None, shard.give))
    assert 0 < most <= 50
    assert apply(found.thresholds(), None, n, shard.give).sum() == n // 2


def test_a_histogram_stays_small_with_many_groups() -> None:
    for groups in (1, 100, 10_000, 2**20):
        step = Search((32, 64, 10), groups, lambda sizes: sizes, cheap=1).step()
        assert step is not None
        assert groups << step.bits <= 2**21
        assert step.bits >= 1
