"""Figures of one network against slow obvious ones: recall, exact interval, calibration in bins."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from dataset_audit.evaluate.measure import BINS, calibration_error, measured


def slow_ece(confidence: list[float], right: list[bool], bins: int) -> float:
    """Bin by bin: (k/bins, (k + 1)/bins], the first one closed below as well."""
    total = 0.0
    for k in range(bins):
        inside = [
            number
            for number, value in enumerate(confidence)
            if (k == 0 and value <= 1 / bins) or (k > 0 and k < bins * value <= k + 1)
        ]
        if inside:
            accuracy = sum(right[number] for number in inside) / len(inside)
            mean = sum(confidence[number] for number in inside) / len(inside)
            total += len(inside) / len(confidence) * abs(accuracy - mean)
    return total


@given(
    st.lists(st.tuples(st.floats(0, 1, width=32), st.booleans()), min_size=1, max_size=60), st.integers(1, 20)
)
def test_calibration_is_that_of_the_slow_loop(pairs: list[tuple[float, bool]], bins: int) -> None:
    confidence, right = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
    found = calibration_error(np.array(confidence, np.float32), np.array(right), bins)
    assert found == pytest.approx(slow_ece(confidence, right, bins), abs=1e-7)


def test_calibration_of_who_knows_and_of_who_is_sure_and_wrong() -> None:
    assert calibration_error(np.ones(4, np.float32), np.array([True] * 4)) == 0
    assert calibration_error(np.ones(4, np.float32), np.array([False] * 4)) == 1
    half = np.full(4, 0.5, np.float32)
    assert calibration_error(half, np.array([True, False, True, False])) == pytest.approx(0)
    assert calibration_error(half, np.array([True, True, True, False])) == pytest.approx(0.25)


def test_bins_are_closed_above_and_errors_of_one_bin_cancel() -> None:
    """0.5 of two bins belongs to the first: with 0.4 right there the bin is off by 0.05, apart it would be by more."""
    confidence = np.array([0.5, 0.4], np.float32)
    assert calibration_error(confidence, np.array([True, False]), bins=2) == pytest.approx(0.05)
    assert calibration_error(
        np.array([0.5, 0.6], np.float32), np.array([True, False]), bins=2
    ) == pytest.approx((0.5 + 0.6) / 2)
    assert BINS == 15


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 4)), min_size=1, max_size=40))
def test_recall_is_counted_class_by_class(pairs: list[tuple[int, int]]) -> None:
    labels, predicted = np.array([pair[0] for pair in pairs]), np.array([pair[1] for pair in pairs])
    zeros = np.zeros(len(pairs), np.float32)
    found = measured(predicted, zeros, zeros, labels, 5)
    worst = (2.0, -1)
    for label in range(5):
        own = [p == label for wanted, p in pairs if wanted == label]
        if not own:
            assert math.isnan(found.recall[label])
            continue
        assert found.recall[label] == pytest.approx(sum(own) / len(own))
        worst = min(worst, (sum(own) / len(own), label))
    assert found.worst == worst[1], "the lower class of equally bad ones"
    assert found.accuracy == pytest.approx(sum(a == b for a, b in pairs) / len(pairs))


@pytest.mark.parametrize(("right", "n"), [(0, 7), (7, 7), (5, 7), (950, 1000)])
def test_the_interval_over_test_examples_is_exact(right: int, n: int) -> None:
    predicted = np.zeros(n, np.int64)
    predicted[right:] = 1
    zeros = np.zeros(n, np.float32)
    found = measured(predicted, zeros, zeros, np.zeros(n, np.int64), 2)
    reference = stats.binomtest(right, n).proportion_ci(method="exact")
    assert (found.low, found.high) == pytest.approx((reference.low, reference.high))
    assert found.accuracy == right / n


def test_the_loss_is_summed_in_double() -> None:
    loss = np.full(200_000, 0.1, np.float32)
    loss[0] = 1e6
    found = measured(np.zeros(200_000, np.int64), loss * 0, loss, np.zeros(200_000, np.int64), 1)
    assert found.loss == pytest.approx(math.fsum(loss.tolist()) / 200_000, rel=1e-12)
