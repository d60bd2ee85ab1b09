"""Paired answers: exact test and interval against published values, SciPy and brute force."""

from __future__ import annotations

from math import comb

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats as scipy_stats

from dataset_audit.stats.intervals import newcombe
from dataset_audit.stats.matched import Pairs, mcnemar, paired_interval, pairs

_counts = st.integers(0, 60)


def test_the_best_two_published_models_on_cifar10_are_not_told_apart() -> None:
    assert mcnemar(148, 124) == pytest.approx(
        0.163, abs=5e-4
    )  # shake_shake_26_2x64d_SSI_cutout16, shake_drop


@given(_counts, _counts)
def test_the_exact_test_is_the_sum_of_the_binomial_tail(first: int, second: int) -> None:
    n, least = first + second, min(first, second)
    tail = sum(comb(n, k) for k in range(least + 1)) / 2**n
    assert mcnemar(first, second) == pytest.approx(min(1.0, 2 * tail))
    if n:
        assert mcnemar(first, second) == pytest.approx(scipy_stats.binomtest(first, n, 0.5).pvalue)
    assert mcnemar(first, second) == mcnemar(second, first)


def test_without_discordant_pairs_nothing_is_shown() -> None:
    assert mcnemar(0, 0) == 1.0


def test_the_test_errs_at_most_as_often_as_it_says() -> None:
    n = 40
    chances = scipy_stats.binom.pmf(np.arange(n + 1), n, 0.5)
    wrong = [mcnemar(k, n - k) <= 0.05 for k in range(n + 1)]
    assert float(chances[wrong].sum()) <= 0.05


# Newcombe 1998, table 2, method 10
@pytest.mark.parametrize(
    ("both", "first", "second", "neither", "low", "high"),
    [(36, 12, 2, 0, 0.0569, 0.3404)],
)
def test_the_paired_interval_equals_published_ones(
    both: int, first: int, second: int, neither: int, low: float, high: float
) -> None:
    found = paired_interval(Pairs(both=both, first=first, second=second, neither=neither))
    assert found == pytest.approx((low, high), abs=5e-5)


@given(_counts, _counts, _counts, _counts)
def test_the_paired_interval_holds_the_difference_and_turns_with_the_sides(
    both: int, first: int, second: int, neither: int
) -> None:
    counts = Pairs(both=both, first=first, second=second, neither=neither)
    if not counts.n:
        return
    low, high = paired_interval(counts)
    assert -1 <= low <= counts.difference + 1e-12
    assert counts.difference - 1e-12 <= high <= 1
    turned = paired_interval(Pairs(both=both, first=second, second=first, neither=neither))
    assert turned == pytest.approx((-high, -low), abs=1e-12)


def test_independent_answers_have_the_interval_of_two_samples_and_alike_ones_a_shorter_one() -> None:
    flat = Pairs(both=25, first=25, second=25, neither=25)
    assert paired_interval(flat) == pytest.approx(newcombe(50, 100, 50, 100))
    alike = Pairs(both=900, first=30, second=10, neither=60)
    wide = newcombe(930, 1000, 910, 1000)
    low, high = paired_interval(alike)
    assert high - low < 0.8 * (wide[1] - wide[0])


def test_the_paired_interval_covers_about_as_often_as_it_promises() -> None:
    rng = np.random.default_rng(3)
    shares = np.array([0.80, 0.08, 0.04, 0.08])  # true difference 0.04
    drawn = rng.multinomial(200, shares, size=2000)
    covered = 0
    for e, f, g, h in drawn.tolist():
        low, high = paired_interval(Pairs(both=e, first=f, second=g, neither=h))
        covered += low <= 0.04 <= high
    assert covered / 2000 == pytest.approx(0.95, abs=0.015)


def test_pairs_are_counted() -> None:
    first = np.array([1, 1, 1, 0, 0, 0], bool)
    second = np.array([1, 0, 0, 1, 0, 0], bool)
    assert pairs(first, second) == Pairs(both=1, first=2, second=1, neither=2)
    with pytest.raises(ValueError, match="pairs of"):
        pairs(first, second[:5])
