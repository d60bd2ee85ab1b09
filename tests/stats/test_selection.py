"""Choosing the best of k: published constants, simulation, and models whose merit is known."""

from __future__ import annotations

from math import inf, isnan

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from dataset_audit.stats.selection import (
    agreement_of,
    best_of_bias,
    expected_maximum,
    ladder,
    life,
    subsampled,
    whole,
)

MAXIMA = {
    1: 0, 2: 0.564, 3: 0.846, 5: 1.163, 10: 1.539, 20: 1.867, 50: 2.249, 100: 2.508, 200: 2.746,
    500: 3.037, 1000: 3.241, 10_000: 3.852,
}  # fmt: skip


@pytest.mark.parametrize(("k", "expected"), MAXIMA.items())
def test_the_largest_of_k_normal_numbers(k: int, expected: float) -> None:
    assert expected_maximum(k) == pytest.approx(expected, abs=5e-4)


def test_closed_forms_of_two_and_three() -> None:
    assert expected_maximum(2) == pytest.approx(np.pi**-0.5, abs=1e-10)
    assert expected_maximum(3) == pytest.approx(1.5 * np.pi**-0.5, abs=1e-10)


def test_it_stays_below_what_is_often_put_in_its_place() -> None:
    for k in (2, 10, 10**3, 10**6, 10**9, 10**15):
        assert expected_maximum(k) < (2 * np.log(k)) ** 0.5
    with pytest.raises(ValueError, match="not between"):
        expected_maximum(0)


@given(st.integers(1, 10**6), st.integers(1, 10**6))
def test_more_selections_never_bias_less(a: int, b: int) -> None:
    low, high = sorted((a, b))
    assert expected_maximum(low) <= expected_maximum(high) + 1e-9


# percentage points for k of 10, 100, 1,000
BIASES = [
    (0.95, 10_000, 0.0, (0.34, 0.55, 0.71)), (0.95, 10_000, 0.8, (0.15, 0.24, 0.32)),
    (0.95, 10_000, 0.95, (0.07, 0.12, 0.16)), (0.90, 10_000, 0.0, (0.46, 0.75, 0.97)),
    (0.95, 2000, 0.8, (0.34, 0.55, 0.71)), (0.90, 2000, 0.0, (1.03, 1.68, 2.17)),
    (0.90, 2000, 0.95, (0.23, 0.38, 0.49)),
]  # fmt: skip


@pytest.mark.parametrize(("p", "n", "rho", "biases"), BIASES)
def test_the_bias_of_equally_good_models(p: float, n: int, rho: float, biases: tuple[float, ...]) -> None:
    found = [100 * best_of_bias(k, p=p, n=n, rho=rho) for k in (10, 100, 1000)]
    assert found == pytest.approx(biases, abs=0.0051)


# selections until the bias reaches the difference, at correlations 0, 0.55, 0.8
LIVES = [
    (0.95, 10_000, 0.005, (56, 1890, 4.0e6)), (0.95, 10_000, 0.002, (3, 7, 31)),
    (0.93, 2000, 0.01, (15, 135, 13_200)), (0.90, 1000, 0.01, (4, 11, 66)),
]  # fmt: skip


@pytest.mark.parametrize(("p", "n", "delta", "lives"), LIVES)
def test_how_long_a_test_set_lasts(p: float, n: int, delta: float, lives: tuple[float, ...]) -> None:
    found = [life(delta, p=p, n=n, rho=rho) for rho in (0, 0.55, 0.8)]
    assert found == pytest.approx(lives, rel=0.006, abs=1)


@given(st.floats(0.001, 0.05), st.floats(0.5, 0.99), st.integers(50, 20_000), st.floats(-0.2, 0.99))
def test_a_life_is_the_last_number_whose_bias_is_smaller(delta: float, p: float, n: int, rho: float) -> None:
    k = life(delta, p=p, n=n, rho=rho)
    if k == inf:
        assert best_of_bias(10**15, p=p, n=n, rho=rho) < delta
        return
    assert k == 1 or best_of_bias(int(k), p=p, n=n, rho=rho) < delta
    assert best_of_bias(min(int(k) + 1, 10**15), p=p, n=n, rho=rho) >= delta


def test_models_that_never_differ_wear_nothing_out() -> None:
    assert life(0.001, p=0.9, n=100, rho=1) == inf
    assert whole(inf) is None
    assert whole(56.0) == 56


def test_the_bias_is_that_of_a_simulation() -> None:
    rng = np.random.default_rng(0)
    k, n, p, rho = 12, 400, 0.9, 0.5
    shared, own = rng.normal(size=(800, n, 1)), rng.normal(size=(800, n, k))
    score = np.sqrt(rho) * shared + np.sqrt(1 - rho) * own
    correct = score < np.quantile(score, p)
    seen = np.mean([agreement_of(draw) for draw in correct[:200]])
    assert correct.mean(1).max(1).mean() - p == pytest.approx(best_of_bias(k, p=p, n=n, rho=seen), rel=0.1)


def _correct(seed: int, n: int, merits: list[float]) -> NDArray[np.bool_]:
    return np.random.default_rng(seed).random((n, len(merits))) < np.array(merits)


@given(st.integers(0, 50), st.integers(2, 6))
def test_agreement_is_the_mean_of_all_pairs(seed: int, models: int) -> None:
    rng = np.random.default_rng(seed)
    correct = (rng.normal(size=(40, models)) + rng.normal(size=(40, 1))) > -0.3
    matrix = np.corrcoef(correct.T.astype(float))
    assert agreement_of(correct) == pytest.approx(matrix[np.triu_indices(models, 1)].mean(), abs=1e-9)


def test_models_that_are_always_right_have_no_agreement() -> None:
    correct = _correct(1, 50, [0.5, 0.5, 1.0, 0.0])
    assert agreement_of(correct) == pytest.approx(agreement_of(correct[:, :2]))
    assert isnan(agreement_of(correct[:, 1:]))


def test_choosing_among_equals_overstates_by_what_theory_says() -> None:
    """On one set luck has made them unequal, so the mean over sets is what the formula is about."""
    found = [subsampled(_correct(seed, 600, [0.8] * 10), 200, seed=1, draws=100) for seed in range(40)]
    theory = best_of_bias(10, p=0.8, n=200, rho=0)
    assert np.mean([each.bias for each in found]) == pytest.approx(theory, rel=0.1)
    assert found[0] == subsampled(_correct(0, 600, [0.8] * 10), 200, seed=1, draws=100)


def test_choosing_where_one_is_far_better_overstates_nothing() -> None:
    found = subsampled(_correct(3, 2000, [0.9, 0.5, 0.4]), 500, seed=1)
    assert abs(found.bias) < 4 * found.error + 1e-4


def test_the_order_of_models_does_not_matter_even_with_ties() -> None:
    correct = _correct(4, 60, [0.7] * 5)
    first, second = subsampled(correct, 10, seed=3), subsampled(correct[:, ::-1], 10, seed=3)
    assert first.bias == pytest.approx(second.bias, abs=1e-12)


def test_subsampling_equals_choosing_by_hand() -> None:
    correct = _correct(5, 30, [0.6, 0.7, 0.65])
    from dataset_audit import seeds  # noqa: PLC0415 - the same draws

    rng = seeds.rng(9, "subsampled")
    differences = []
    for _ in range(70):
        rows = rng.permutation(30)[:12]
        rest = np.setdiff1d(np.arange(30), rows)
        shares = correct[rows].mean(0)
        best = np.flatnonzero(shares == shares.max())
        differences.append(shares.max() - correct[rest][:, best].mean())
    assert subsampled(correct, 12, seed=9, draws=70).bias == pytest.approx(np.mean(differences), abs=1e-6)
    with pytest.raises(ValueError, match="30 of 30"):
        subsampled(correct, 30, seed=1)


def test_the_ladder_counts_the_first_and_real_progress_only() -> None:
    base = _correct(6, 1000, [0.7])[:, 0]
    luck = base.copy()
    luck[np.flatnonzero(~base)[:1]] = True  # one image more: gain 0.001, one standard error is 0.001
    better = base.copy()
    better[np.flatnonzero(~base)[:100]] = True
    rungs = ladder(np.stack([base, luck, base, better, luck], 1))
    assert [rung.counted for rung in rungs] == [True, False, False, True, False]
    assert [rung.shown for rung in rungs] == pytest.approx([base.mean()] * 3 + [better.mean()] * 2)
    assert rungs[1].margin == pytest.approx(0.001, rel=1e-2)


def test_the_ladder_shows_little_of_what_chance_gains() -> None:
    """Five hundred equally good models: the best of them is 3 SE above the truth, the ladder far less."""
    found = []
    for seed in range(5):
        correct = _correct(seed, 500, [0.8] * 500)
        found.append((ladder(correct)[-1].shown - 0.8, correct.mean(0).max() - 0.8))
    shown, best = np.mean(found, axis=0)
    assert shown < best
    climbs = [rung.counted for rung in ladder(_correct(7, 500, [0.8] * 500))]
    assert sum(climbs) <= 6
