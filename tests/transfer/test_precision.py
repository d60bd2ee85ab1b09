"""Average precision against scikit-learn's, and what the source alone scores."""

from __future__ import annotations

import math
import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, roc_auc_score

from dataset_audit.transfer.precision import average_precision, source_only_auc


@given(st.integers(1, 40), st.integers(1, 6), st.integers(0, 10**6))
def test_average_precision_equals_scikit_learns_with_ties(n: int, levels: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    scores, truth = rng.integers(0, levels, n).astype(float), rng.random(n) < 0.4
    if truth.any():
        assert average_precision(scores, truth) == pytest.approx(average_precision_score(truth, scores))
    else:
        assert math.isnan(average_precision(scores, truth))


def test_a_perfect_order_scores_one_and_a_constant_score_the_share_of_positives() -> None:
    truth = np.arange(10) < 3
    assert average_precision(-np.arange(10), truth) == 1
    assert average_precision(np.zeros(10), truth) == pytest.approx(0.3)
    assert math.isnan(average_precision([], []))


def test_the_source_only_auc_equals_that_of_scoring_each_image_by_its_sources_prevalence() -> None:
    positives, negatives = [90, 10, 30], [10, 190, 30]
    truth = np.concatenate([np.repeat([1, 0], [p, n]) for p, n in zip(positives, negatives, strict=True)])
    scores = np.concatenate([np.full(p + n, p / (p + n)) for p, n in zip(positives, negatives, strict=True)])
    assert source_only_auc(positives, negatives) == pytest.approx(roc_auc_score(truth, scores))


def test_the_source_alone_knows_nothing_where_prevalence_is_the_same_and_everything_where_sources_differ() -> (
    None
):
    assert source_only_auc([10, 20], [30, 60]) == 0.5
    assert source_only_auc([10, 0], [0, 60]) == 1
    assert source_only_auc([10, 0], [30, 0]) == 0.5  # an empty source weighs nothing
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert math.isnan(source_only_auc([0, 0], [30, 60]))
        assert math.isnan(source_only_auc([3, 1], [0, 0]))
