"""Intervals of proportions equal published values and SciPy's, and cover as promised."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats as scipy_stats

from dataset_audit.stats.intervals import clopper_pearson, newcombe, wilson


@pytest.mark.parametrize(("k", "n", "low", "high"), [(0, 10, 0.0, 0.3085), (10, 100, 0.0490, 0.1762)])
def test_exact_intervals_equal_published_ones(k: int, n: int, low: float, high: float) -> None:
    assert clopper_pearson(k, n) == pytest.approx((low, high), abs=5e-5)


# percent of k of 10,000 and of 2,021, as published for CIFAR-10 and CIFAR-10.1 (Recht et al. 2018)
@pytest.mark.parametrize(
    ("k", "n", "low", "high"),
    [
        (9711, 10000, 96.8, 97.4),
        (1879, 2021, 91.8, 94.0),
        (8198, 10000, 81.2, 82.7),
        (1392, 2021, 66.8, 70.9),
    ],
)
def test_exact_intervals_equal_those_of_published_accuracies(k: int, n: int, low: float, high: float) -> None:
    assert tuple(round(100 * end, 1) for end in clopper_pearson(k, n)) == (low, high)


@given(st.integers(1, 400), st.floats(0, 1), st.sampled_from([0.5, 0.9, 0.95, 0.999]))
def test_exact_and_score_intervals_equal_scipys(n: int, share: float, confidence: float) -> None:
    k = round(share * n)
    found = scipy_stats.binomtest(k, n)
    exact = found.proportion_ci(confidence, method="exact")
    assert clopper_pearson(k, n, confidence) == pytest.approx((exact.low, exact.high), abs=1e-9)
    score = found.proportion_ci(confidence, method="wilson")
    assert wilson(k, n, confidence) == pytest.approx((score.low, score.high), abs=1e-9)


def test_none_and_all_reach_the_ends_exactly() -> None:
    for interval in (clopper_pearson, wilson):
        assert interval(0, 7)[0] == 0.0
        assert interval(7, 7)[1] == 1.0


@pytest.mark.parametrize("p", [0.02, 1 / 3, 0.5, 0.9])
def test_the_exact_interval_covers_at_least_as_often_as_it_promises(p: float) -> None:
    n = 30
    chances = scipy_stats.binom.pmf(np.arange(n + 1), n, p)
    covered = [low <= p <= high for low, high in (clopper_pearson(k, n) for k in range(n + 1))]
    assert float(chances[covered].sum()) >= 0.95


@pytest.mark.parametrize(
    ("counts", "low", "high"),
    [
        ((56, 70, 48, 80), 0.0524, 0.3339),
        ((9, 10, 3, 10), 0.1705, 0.8090),
        ((5, 56, 0, 29), -0.0381, 0.1926),
    ],
)
def test_differences_equal_newcombes_table(
    counts: tuple[int, int, int, int], low: float, high: float
) -> None:
    assert newcombe(*counts) == pytest.approx((low, high), abs=5e-5)


@pytest.mark.parametrize(
    ("k", "low", "high"), [(1879, 3.04, 5.37), (1567, 9.13, 12.97)], ids=["shake", "cudaconvnet"]
)
def test_differences_equal_those_of_published_accuracies(k: int, low: float, high: float) -> None:
    original = {1879: 9711, 1567: 8854}[k]
    assert newcombe(original, 10000, k, 2021) == pytest.approx((low / 100, high / 100), abs=5e-5)


@given(st.integers(1, 60), st.integers(1, 60), st.floats(0, 1), st.floats(0, 1))
def test_exchanging_the_two_proportions_mirrors_the_interval(n1: int, n2: int, a: float, b: float) -> None:
    s1, s2 = round(a * n1), round(b * n2)
    low, high = newcombe(s1, n1, s2, n2)
    assert newcombe(s2, n2, s1, n1) == pytest.approx((-high, -low))
    assert low - 1e-12 <= s1 / n1 - s2 / n2 <= high + 1e-12


@pytest.mark.parametrize(("k", "n", "confidence"), [(1, 0, 0.95), (-1, 3, 0.95), (4, 3, 0.95), (1, 3, 1.0)])
def test_what_is_no_proportion_is_refused(k: int, n: int, confidence: float) -> None:
    for interval in (clopper_pearson, wilson):
        with pytest.raises(ValueError, match=r"no proportion|confidence"):
            interval(k, n, confidence)
