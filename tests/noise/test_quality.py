"""Label quality against the formulas written out slowly, and by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from dataset_audit.noise.quality import QUALITY, confidence_weighted_entropy, suggested

HAND = np.array([[0.7, 0.2, 0.1], [0.1, 0.8, 0.1], [1 / 3, 1 / 3, 1 / 3], [0.0, 0.0, 1.0]])
LABELS = np.array([0, 0, 1, 2])


def slow(name: str, row: np.ndarray, label: int) -> float:
    if name == "self_confidence":
        return float(row[label])
    if name == "normalised_margin":
        return (row[label] - max(p for k, p in enumerate(row) if k != label) + 1) / 2
    entropy = -sum(p * math.log(p) for p in row if p > 0) / math.log(len(row))
    x = entropy / max(row[label], 1e-6)
    return math.log1p(x) / x if x > 1e-12 else 1.0


def test_values_worked_by_hand() -> None:
    made = {name: quality.compute(HAND, LABELS) for name, quality in QUALITY.items()}
    assert made["self_confidence"] == pytest.approx([0.7, 0.1, 1 / 3, 1.0])
    assert made["normalised_margin"] == pytest.approx([0.75, 0.15, 0.5, 1.0])
    # H(0.7, 0.2, 0.1) / log 3 = 0.72985, / 0.7 = 1.04264; H(0.1, 0.8, 0.1) / log 3 = 0.58167, / 0.1 = 5.8167
    assert made["confidence_weighted_entropy"][:3] == pytest.approx(
        [math.log(2.04264) / 1.04264, math.log(6.8167) / 5.8167, math.log(4) / 3], abs=1e-4
    )


def test_the_surest_right_label_has_the_highest_quality_where_cleanlab_gives_it_the_lowest() -> None:
    """With 1e-9 of doubt cleanlab's clipped divisor yields 0.00002."""
    sure = np.array([[1 - 1e-9, 1e-9], [1.0, 0.0], [0.9, 0.1]])
    quality = confidence_weighted_entropy(sure, np.zeros(3, np.int64))
    assert quality[0] == pytest.approx(1, abs=1e-6)
    assert quality[1] == 1
    assert quality[2] < quality[0]


@given(
    hnp.arrays(np.float64, st.tuples(st.integers(1, 8), st.integers(2, 5)), elements=st.floats(0, 1)),
    st.integers(0, 2**31),
)
def test_whole_arrays_equal_the_formulas_row_by_row(raw: np.ndarray, seed: int) -> None:
    raw = raw + 1e-9 * (raw.sum(1, keepdims=True) == 0)
    probabilities = raw / raw.sum(1, keepdims=True)
    labels = np.random.default_rng(seed).integers(0, raw.shape[1], len(raw))
    for name, quality in QUALITY.items():
        made = quality.compute(probabilities, labels)
        expected = [slow(name, row, label) for row, label in zip(probabilities, labels, strict=True)]
        assert made == pytest.approx(expected, abs=1e-9), name
        assert (made >= 0).all()
        assert (made <= 1 + 1e-12).all()


def test_a_suggestion_is_another_class_that_is_likelier_than_the_label() -> None:
    assert suggested(HAND, LABELS).tolist() == [-1, 1, -1, -1]
    assert suggested(HAND, np.array([1, 1, 2, 0])).tolist() == [0, -1, -1, 2]
