from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from dataset_audit.noise.thresholds import flags, threshold, threshold_sets


def test_sets_are_disjoint_seeded_and_as_large_as_an_average_class() -> None:
    rows = np.arange(100, 1200)
    first, second = threshold_sets(rows, 10, 3)
    assert len(first) == len(second) == 100
    assert not set(first) & set(second)
    assert set(first) | set(second) <= set(rows)
    assert threshold_sets(rows, 10, 3)[0].tolist() == first.tolist()
    assert threshold_sets(rows, 10, 4)[0].tolist() != first.tolist()


def test_two_classes_leave_a_third_of_the_rows_in_neither_set() -> None:
    assert [len(one) for one in threshold_sets(np.arange(30), 2, 1)] == [10, 10]


@pytest.mark.parametrize(("n", "classes", "sets"), [(5, 10, 2), (100, 1, 2), (100, 2, 4)])
def test_sets_that_cannot_be_drawn_are_refused(n: int, classes: int, sets: int) -> None:
    with pytest.raises(ValueError, match="threshold samples"):
        threshold_sets(np.arange(n), classes, 1, sets=sets)


def test_the_bound_of_a_hundred_samples_is_the_second_largest() -> None:
    samples = np.arange(100.0)
    assert threshold(samples, 99) == 98  # two of a hundred, more than 1 %, lie above 97.5
    assert threshold(samples, 90) == 89
    assert threshold(np.array([4.0]), 99) == 4


@given(
    hnp.arrays(np.float64, st.integers(1, 60), elements=st.integers(-5, 5).map(float)),
    st.sampled_from([50.0, 90.0, 95.0, 99.0]),
    st.integers(-6, 6).map(float),
)
def test_below_the_bound_means_that_more_than_the_share_lies_above(
    samples: np.ndarray, percentile: float, aum: float
) -> None:
    said = aum < threshold(samples, percentile)
    assert said == ((samples > aum).sum() * 100 > (100 - percentile) * len(samples))


def test_runs_must_agree_and_a_set_is_judged_by_the_other_run() -> None:
    members = [np.array([True, True, False, False, False]), np.array([False, False, True, True, False])]
    margins = [np.array([-1.0, 0, -5, 5, -5]), np.array([-9.0, 9, -1, 0, 9])]
    flagged, share, bounds = flags(margins, members, 99)
    assert bounds == [0, 0]
    # 0: wrong in the run that judges it; 1: right; 2 and 3 likewise; 4: the runs disagree
    assert flagged.tolist() == [True, False, True, False, False]
    assert share.tolist() == [1, 0, 1, 0, 0.5]


def test_what_was_never_presented_is_neither_flagged_nor_judged() -> None:
    flagged, share, _ = flags([np.array([np.nan, 1.0, 2.0])], [np.array([False, True, False])], 99)
    assert flagged.tolist() == [False, False, False]
    assert np.isnan(share[0])


@given(st.integers(0, 10_000))
def test_percentiles_nest(seed: int) -> None:
    rng = np.random.default_rng(seed)
    margins = [rng.normal(size=60), rng.normal(size=60)]
    members = [np.arange(60) < 20, (np.arange(60) >= 20) & (np.arange(60) < 40)]
    strict, lax = (flags(margins, members, percentile)[0] for percentile in (90, 99))
    assert not (strict & ~lax).any()
