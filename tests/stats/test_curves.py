"""Learning curves and exchange rates find what was planted, and say when there is nothing to find."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.optimize import curve_fit

from dataset_audit.stats.curves import Curve, basket, learning_curve, market_value

SIZES = np.array([50, 100, 200, 400, 800])


@given(st.floats(0.5, 1.0), st.floats(0.2, 0.45), st.floats(0.15, 1.5))
def test_a_curve_without_noise_is_found(a: float, start: float, c: float) -> None:
    truth = a - start * (SIZES / 50.0) ** -c
    curve = learning_curve(SIZES, truth, 1000)
    assert curve is not None
    assert curve.predict(SIZES) == pytest.approx(truth, abs=1e-4)
    assert curve.predict(1600) == pytest.approx(a - start * 32**-c, abs=2e-3)


def test_a_noisy_curve_equals_scipys_weighted_fit(seed: int) -> None:
    n, n_test = np.repeat(SIZES, 5), 2000
    truth = 0.8 - 2.0 * n**-0.5
    accuracy = np.random.default_rng(seed).binomial(n_test, truth) / n_test
    curve = learning_curve(n, accuracy, n_test)
    assert curve is not None
    share = (accuracy * n_test + 1) / (n_test + 2)
    found, _ = curve_fit(
        lambda x, a, b, c: a - b * x**-c,
        n.astype(float),
        accuracy,
        p0=(0.8, 2.0, 0.5),
        sigma=np.sqrt(share * (1 - share) / n_test),
        bounds=([-1, 0, 0.1], [1, 50, 2]),
    )
    assert curve.predict(SIZES) == pytest.approx(found[0] - found[1] * SIZES ** -found[2], abs=1e-4)


@given(st.lists(st.floats(0, 1), min_size=5, max_size=5))
def test_any_figures_give_a_curve_within_its_bounds(accuracy: list[float]) -> None:
    curve = learning_curve(SIZES, accuracy, 100)
    assert curve is not None
    assert curve.a <= 1
    assert curve.b >= 0
    assert 0.1 <= curve.c <= 2
    assert np.all(np.diff(curve.predict(SIZES)) >= -1e-12)


@pytest.mark.parametrize("sizes", [[50, 100, 400], [50, 100, 200, 390], [50, 50, 50, 400]])
def test_too_few_or_too_near_sizes_give_no_curve(sizes: list[int]) -> None:
    assert learning_curve(sizes, [0.4] * len(sizes), 100) is None


def test_no_curve_is_followed_beyond_twice_its_largest_size() -> None:
    curve = learning_curve(SIZES, 0.9 - SIZES**-0.5, 1000)
    assert curve is not None
    assert np.isnan(curve.predict([1600, 1601])).tolist() == [False, True]


@pytest.mark.parametrize(
    ("last", "n_test", "rising"), [(0.60, 300, False), (0.60, 3000, True), (0.5, 300, False)]
)
def test_a_last_doubling_counts_as_gain_beyond_two_standard_errors(
    last: float, n_test: int, rising: bool
) -> None:
    curve = learning_curve(SIZES, [0.3, 0.4, 0.5, 0.53, last], n_test)
    assert curve is not None
    assert curve.still_rising == rising


def _curve(a: float, b: float, noise: float = 0.0, seed: int = 0, sizes: NDArray[np.int64] = SIZES) -> Curve:
    line = a + b * np.log(sizes)
    return Curve(
        sizes=sizes.astype(float),
        values=line[:, None] + noise * np.random.default_rng(seed).normal(size=(len(sizes), 5)),
    )


@given(st.floats(0.15, 6.0), st.floats(0.01, 0.1))
def test_a_planted_exchange_rate_is_found(alpha: float, slope: float) -> None:
    found = market_value(_curve(0.1 + slope * math.log(alpha), slope), _curve(0.1, slope), floor=0.0, seed=0)
    assert found.alpha == pytest.approx(alpha, rel=1e-6)
    assert not found.local
    assert found.bound == ""


def test_a_published_rate_needs_as_many_foreign_images_as_published() -> None:
    found = market_value(_curve(0.1 + 0.05 * math.log(0.26), 0.05), _curve(0.1, 0.05), floor=0.0, seed=0)
    assert found.alpha == pytest.approx(0.26)
    assert round(found.foreign_for(1250 * 10)) == 48077


def test_the_interval_holds_the_rate_and_narrows_without_noise(seed: int) -> None:
    found = market_value(
        _curve(0.1 + 0.05 * math.log(0.5), 0.05, 0.01, seed),
        _curve(0.1, 0.05, 0.01, seed + 1),
        floor=0.0,
        seed=0,
    )
    assert found.alpha is not None
    assert found.low < found.alpha < found.high
    assert found.high / found.low < 3
    exact = market_value(_curve(0.1 + 0.05 * math.log(0.5), 0.05), _curve(0.1, 0.05), floor=0.0, seed=0)
    assert exact.high - exact.low < 1e-9


def test_unequal_slopes_give_a_rate_at_the_size_asked_for() -> None:
    foreign, own = _curve(0.1, 0.03), _curve(0.0, 0.06)
    for n in (200, 800):
        found = market_value(foreign, own, floor=0.0, seed=0, at=n)
        assert found.local
        assert found.at == n
        assert found.alpha is not None
        assert 0.06 * math.log(found.alpha * n) == pytest.approx(0.1 + 0.03 * math.log(n))


def test_a_rate_beyond_what_was_measured_is_a_bound() -> None:
    poor = market_value(_curve(0.05, 0.05), _curve(0.5, 0.05), floor=0.0, seed=0)
    assert (poor.alpha, poor.bound) == (50 / 800, "≤")
    rich = market_value(_curve(0.5, 0.05), _curve(0.05, 0.05), floor=0.0, seed=0)
    assert (rich.alpha, rich.bound) == (800 / 50, "≥")


def test_what_never_leaves_the_floor_is_worth_nothing() -> None:
    found = market_value(_curve(0.2, 0.0, 0.01), _curve(0.1, 0.05), floor=0.2, seed=0)
    assert found.alpha == 0.0
    assert found.foreign_for(100) == math.inf


def test_no_rate_is_read_off_few_sizes_few_draws_or_crooked_curves() -> None:
    good = _curve(0.1, 0.05)
    few = _curve(0.1, 0.05, sizes=np.array([50, 100, 400]))
    near = _curve(0.1, 0.05, sizes=np.array([50, 100, 200, 300]))
    single = Curve(sizes=good.sizes, values=good.values[:, :2])
    crooked = Curve(sizes=good.sizes, values=np.repeat([[0.3], [0.5], [0.2], [0.6], [0.3]], 3, axis=1))
    falling = _curve(0.9, -0.05)
    for bad in (few, near, single, crooked, falling):
        for pair in ((bad, good), (good, bad)):
            found = market_value(*pair, floor=0.0, seed=0)
            assert found.alpha is None
            assert found.reason
            assert math.isnan(found.foreign_for(10))


def test_baskets_equal_the_printed_ones() -> None:
    table = np.array(
        [
            [1, 0.91, 0.72, 0.41, 0],
            [0.41, 1, 0.26, 0.31, 0],
            [0.29, 0.50, 1, 0.88, 0],
            [0.17, 0.24, 0.40, 1, 0],
            [0.18, 0.23, 0, 0.28, 1],
        ]
    )
    printed = [0.41, 0.58, 0.48, 0.58, 0.20]
    assert [basket(column) for column in table.T.tolist()] == pytest.approx(printed, abs=5.1e-3)
    assert basket([1.0, None]) is None
    assert basket([]) is None


def test_a_curve_must_stand_over_rising_sizes() -> None:
    with pytest.raises(ValueError, match="rising sizes"):
        Curve(sizes=np.array([2.0, 1.0]), values=np.zeros((2, 3)))


def test_a_line_is_drawn_through_points_that_are_one_and_through_no_others() -> None:
    rising = 0.2 + 0.1 * np.log(SIZES)
    fitted = Curve(sizes=SIZES, values=np.repeat(rising[:, None], 3, 1)).fitted()
    assert fitted == pytest.approx(rising)
    for values in (rising[::-1], np.array([0.1, 0.9, 0.1, 0.9, 0.2])):
        assert Curve(sizes=SIZES, values=np.repeat(values[:, None], 3, 1)).fitted() is None
    assert Curve(sizes=SIZES, values=rising[:, None]).fitted() is None  # one draw
