"""Rank statistics equal SciPy's and scikit-learn's, ties included."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats as scipy_stats
from sklearn.metrics import average_precision_score, roc_auc_score

from dataset_audit.stats.agreement import auroc, average_precision, overlap, pearson, ranks, spearman

values = st.lists(st.integers(-3, 3), min_size=3, max_size=40)


@given(values)
def test_ranks_equal_scipys(numbers: list[int]) -> None:
    assert np.array_equal(ranks(numbers), scipy_stats.rankdata(numbers))


@given(st.integers(0, 10**6), st.integers(3, 50))
def test_correlations_equal_scipys(seed: int, n: int) -> None:
    rng = np.random.default_rng(seed)
    a, b = rng.integers(0, 5, n).astype(float), rng.normal(size=n)
    if len(np.unique(a)) > 1:
        assert pearson(a, b) == pytest.approx(scipy_stats.pearsonr(a, b)[0])
        assert spearman(a, b) == pytest.approx(scipy_stats.spearmanr(a, b)[0])


def test_a_constant_agrees_with_nothing() -> None:
    assert np.isnan(spearman([1, 1, 1], [1, 2, 3]))


@given(st.integers(0, 10**6), st.integers(4, 60))
def test_detection_measures_equal_scikit_learns(seed: int, n: int) -> None:
    rng = np.random.default_rng(seed)
    scores, truth = rng.integers(0, 6, n), rng.random(n) < 0.4
    if 0 < truth.sum() < n:
        assert auroc(scores, truth) == pytest.approx(roc_auc_score(truth, scores))
        assert average_precision(scores, truth) == pytest.approx(average_precision_score(truth, scores))


def test_without_both_kinds_there_is_no_auroc() -> None:
    assert np.isnan(auroc([1, 2], [True, True]))
    assert np.isnan(average_precision([1, 2], [False, False]))


def test_overlap_is_the_common_share() -> None:
    assert overlap([1, 2, 3, 4], [3, 4, 5, 6]) == 0.5
