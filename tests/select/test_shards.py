"""Bins by arithmetic and by leading bits, against the search that defines them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dataset_audit.select.histogram import ascending
from dataset_audit.select.policies import strata
from dataset_audit.select.shards import by_leading_bits, equal_width

FINITE = st.floats(allow_nan=False, allow_infinity=False, width=32)


@given(st.lists(FINITE, min_size=2, max_size=60), st.sampled_from([1, 2, 7, 50, 1000]))
def test_bins_by_arithmetic_are_those_of_the_search(values: list[float], number: int) -> None:
    score = np.array(values)
    low, high = score.min(), score.max()
    if low == high:
        return
    edges = np.linspace(low, high, number + 1)
    inside = np.concatenate([score, edges.clip(low, high), np.nextafter(edges, -np.inf).clip(low, high)])
    assert np.array_equal(equal_width(inside, edges), strata(inside, number))


def test_all_equal_is_the_first_bin() -> None:
    assert equal_width(np.full(5, 3.0), np.full(51, np.nan)).tolist() == [0] * 5


@pytest.mark.parametrize(("low", "high"), [(-5.0, 5.0), (1.0, 1.5), (-1e-30, 1e30), (0.0, 1.0)])
def test_leading_bits_name_the_bin_or_leave_it_open(low: float, high: float) -> None:
    values = np.random.default_rng(0).uniform(low, high, 5000).astype(np.float32)
    edges = np.linspace(float(values.min()), float(values.max()), 51)
    found = by_leading_bits(edges)[ascending(values) >> np.uint32(16)]
    wanted = equal_width(values.astype(np.float64), edges)
    assert np.array_equal(found[found >= 0], wanted[found >= 0])
    if (low, high) == (-5.0, 5.0):
        assert (found >= 0).mean() > 0.8
