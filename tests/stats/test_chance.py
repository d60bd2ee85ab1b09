"""Null bands, test sizes and p-values equal golden tables and slow counting."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats as scipy_stats

from dataset_audit.stats.chance import (
    above_chance,
    blind_below,
    c2st_power,
    critical,
    drift,
    holm,
    least_test,
    nadeau_bengio,
    normalised,
    null_band,
    permutation_p,
    twice_median_p,
)

SIZES = (60, 200, 300, 600, 900, 2700)
# low and high of the 95 % band and the one-sided 5 % critical value, accuracy %
BANDS = {
    2: "36.7-63.3 (61.7) 43.0-57.0 (56.5) 44.3-55.7 (55.0) 46.0-54.0 (53.5) 46.8-53.2 (52.9) 48.1-51.9 (51.6)",
    3: "21.7-45.0 (45.0) 27.0-40.0 (39.5) 28.0-38.7 (38.3) 29.7-37.2 (36.7) 30.2-36.4 (36.0) 31.6-35.1 (34.9)",
    9: "3.3-20.0 (20.0) 7.0-15.5 (15.5) 7.7-14.7 (14.3) 8.7-13.7 (13.5) 9.1-13.2 (13.0) 9.9-12.3 (12.1)",
    12: "1.7-16.7 (16.7) 4.5-12.5 (12.0) 5.3-11.7 (11.3) 6.2-10.7 (10.3) 6.6-10.2 (10.0) 7.3-9.4 (9.3)",
}
BIASES = (0.02, 0.05, 0.10, 0.20, 0.30, 0.50)
LEAST = {
    2: (21557, 3493, 891, 224, 102, 35),
    3: (10946, 1800, 471, 124, 57, 22),
    5: (5607, 961, 260, 75, 38, 13),
    9: (2955, 528, 154, 47, 26, 10),
    12: (2220, 412, 125, 42, 21, 8),
}


@pytest.mark.parametrize("sources", BANDS)
def test_null_bands_equal_the_golden_table(sources: int) -> None:
    printed = " ".join(
        "{:.1f}-{:.1f} ({:.1f})".format(
            *(100 * value for value in (*null_band(n, 1 / sources), critical(n, 1 / sources)))
        )
        for n in SIZES
    )
    assert printed == BANDS[sources]


@pytest.mark.parametrize("sources", LEAST)
def test_least_test_sizes_equal_the_golden_table(sources: int) -> None:
    assert tuple(least_test(sources, bias) for bias in BIASES) == LEAST[sources]


def _power(n: int, sources: int, bias: float, alpha: float = 0.05) -> float:
    """The same by SciPy's tables of the whole distribution."""
    p0 = 1 / sources
    k = next(k for k in range(n + 2) if scipy_stats.binom.sf(k - 1, n, p0) <= alpha)
    return float(scipy_stats.binom.sf(k - 1, n, p0 + bias * (1 - p0)))


@given(st.integers(2, 15), st.floats(0.3, 1.0))
@settings(max_examples=15)
def test_least_test_is_where_power_stops_falling_short(sources: int, bias: float) -> None:
    n = least_test(sources, bias)
    assert n == 1 or _power(n - 1, sources, bias) < 0.9
    assert all(_power(m, sources, bias) >= 0.9 for m in range(n, n + 40))


@given(st.integers(10, 300), st.integers(2, 12))
def test_just_the_bias_that_a_test_is_not_blind_to_is_seen_with_the_promised_power(
    n: int, sources: int
) -> None:
    bias = blind_below(n, sources)
    assert _power(n, sources, bias) == pytest.approx(0.9)


@pytest.mark.parametrize(("sources", "bias"), [(2, 0.02), (3, 0.1), (9, 0.05)])
def test_blindness_inverts_the_least_test(sources: int, bias: float) -> None:
    n = least_test(sources, bias)
    assert blind_below(n, sources) <= bias < blind_below(n * 9 // 10, sources)


def test_a_test_that_cannot_reject_is_blind_to_everything() -> None:
    assert blind_below(1, 2) == math.inf
    assert critical(1, 0.5) > 1
    assert blind_below(5, 2) < 1


def test_a_published_bias_is_above_chance() -> None:
    assert above_chance(117, 300, 1 / 12) == pytest.approx(4.9e-48, rel=5e-3)


@given(st.integers(1, 60), st.floats(0, 1), st.sampled_from([(1, 2), (1, 3), (1, 9), (2, 5)]))
def test_p_above_chance_equals_exact_counting(n: int, share: float, chance: tuple[int, int]) -> None:
    p, k = Fraction(*chance), round(share * n)
    exact = sum(math.comb(n, i) * p**i * (1 - p) ** (n - i) for i in range(k, n + 1))
    assert above_chance(k, n, float(p)) == pytest.approx(float(exact), rel=1e-9)


@given(st.integers(1, 200), st.sampled_from([0.5, 1 / 3, 0.1, 0.8]), st.sampled_from([0.9, 0.95, 0.999]))
def test_null_bands_leave_at_most_half_of_the_rest_at_either_side(
    n: int, chance: float, confidence: float
) -> None:
    low, high = (round(n * end) for end in null_band(n, chance, confidence))
    tail = (1 - confidence) / 2
    assert scipy_stats.binom.cdf(low - 1, n, chance) <= tail < scipy_stats.binom.cdf(low, n, chance)
    assert scipy_stats.binom.sf(high, n, chance) <= tail < scipy_stats.binom.sf(high - 1, n, chance)


def test_normalised_biases_of_published_accuracies() -> None:
    published = {(0.39, 12): 0.335, (0.847, 3): 0.771, (0.82, 3): 0.730, (0.61, 5): 0.51, (0.81, 9): 0.786}
    for (accuracy, sources), bias in published.items():
        assert normalised(accuracy, sources) == pytest.approx(bias, abs=3e-3)


def test_a_bias_below_chance_is_negative_and_not_clipped() -> None:
    assert normalised(0.4, 2) == pytest.approx(-0.2)
    assert normalised(0.0, 3) == pytest.approx(-0.5)
    with pytest.raises(ValueError, match="naming one of 1"):
        normalised(1.0, 1)


@pytest.mark.parametrize(
    ("epsilon", "n", "power"), [(0.05, 300, 0.535), (0.05, 1000, 0.936), (0.02, 1000, 0.352)]
)
def test_power_of_two_sample_tests_equals_the_golden_values(epsilon: float, n: int, power: float) -> None:
    assert c2st_power(epsilon, n) == pytest.approx(power, abs=5e-4)


def test_a_two_sample_test_without_effect_rejects_at_its_level_and_with_all_of_it_always() -> None:
    assert c2st_power(0.0, 500) == pytest.approx(0.05)
    assert c2st_power(0.5, 10) == 1.0


def test_a_permutation_p_counts_the_true_labels_among_the_permuted() -> None:
    assert permutation_p(1.0, [0.1] * 199) == 1 / 200
    assert permutation_p(0.5, [0.5, 0.4, 0.6]) == 3 / 4
    assert permutation_p(0.0, []) == 1.0
    assert math.isnan(permutation_p(math.nan, [0.0]))
    assert math.isnan(permutation_p(0.0, [math.nan]))


def test_the_same_p_three_times_counts_double() -> None:
    assert twice_median_p([0.01, 0.01, 0.01]) == 0.02
    assert twice_median_p([0.9, 0.8, 0.7]) == 1.0
    assert twice_median_p([0.001, 0.5, 0.02]) == pytest.approx(0.04)
    with pytest.raises(ValueError, match="no p-values"):
        twice_median_p([])


def _holm(ps: list[float]) -> list[float]:
    """The definition: the smallest level at which the stepwise test rejects each."""
    order, m = sorted(range(len(ps)), key=lambda i: ps[i]), len(ps)
    return [
        min(1.0, max(ps[j] * (m - order.index(j)) for j in order[: order.index(i) + 1])) for i in range(m)
    ]


@given(st.lists(st.floats(0, 1), max_size=12))
def test_adjusted_ps_equal_holms_definition_in_input_order(ps: list[float]) -> None:
    assert holm(ps) == pytest.approx(_holm(ps))


def test_holm_of_a_textbook_example() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])


def test_the_error_of_resamplings_is_larger_than_their_spread() -> None:
    values = [0.5, 0.6, 0.7]
    assert nadeau_bengio(values, 300, 700) == pytest.approx(math.sqrt((1 / 3 + 3 / 7) * 0.01))
    assert nadeau_bengio(values, 0, 700) == pytest.approx(np.std(values, ddof=1) / math.sqrt(3))
    assert math.isnan(nadeau_bengio([0.5], 300, 700))


@given(
    st.lists(st.integers(0, 6), min_size=1, max_size=12), st.lists(st.integers(0, 6), min_size=1, max_size=12)
)
def test_drift_is_the_share_of_pairs_in_order_minus_that_out_of_order(
    above: list[int], below: list[int]
) -> None:
    pairs = [(a > b) - (a < b) for a in above for b in below]
    assert drift(above, below) == pytest.approx(np.mean(pairs))
    assert drift(below, above) == pytest.approx(-np.mean(pairs))


def test_drift_of_nothing_is_unknown() -> None:
    assert math.isnan(drift([], [1.0]))
