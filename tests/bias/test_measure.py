"""Figures of an outcome against hand computation and slow references; labels dealt out anew."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import pairwise as neighbours

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from dataset_audit.bias.folds import folds
from dataset_audit.bias.measure import (
    Outcome,
    Trial,
    confusion,
    figures,
    outcome,
    pairwise,
    permutation_null,
    permuted_labels,
    try_probe,
    typicality,
    without_easiest,
)
from dataset_audit.probes.classify import Fold
from dataset_audit.probes.registry import View
from dataset_audit.stats.chance import permutation_p

Whole = NDArray[np.int64]


def said(
    probability: NDArray[np.float64], labels: Whole, fold: Whole | None = None, clusters: Whole | None = None
) -> Outcome:
    rows = np.arange(len(labels))
    return Outcome(
        trial="raw", probe="thumbnail", rows=rows, labels=labels, clusters=rows if clusters is None else clusters,
        fold=np.zeros(len(labels), np.int64) if fold is None else fold, trained=20.0, probability=probability,
        validation=0.5, seconds=1.5,
    )  # fmt: skip


def naming(labels: list[int], named: list[int], sources: int, **more: Whole) -> Outcome:
    """What a probe said that is sure of one source each time."""
    probability = np.full((len(labels), sources), 0.1 / (sources - 1))
    probability[np.arange(len(named)), named] = 0.9
    return said(probability, np.array(labels), **more)


@st.composite
def outcomes(draw: st.DrawFn, least: int = 2) -> Outcome:
    """K sources, 20 to 60 pictures, one to three folds; shares in 16ths: some tie exactly, some are zero."""
    sources, count = draw(st.integers(least, 4)), draw(st.integers(20, 60))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    parts = rng.integers(0, 4, (count, sources)).astype(np.float64)
    parts[parts.sum(1) == 0, 0] = 1
    labels = rng.integers(0, sources, count)
    labels[:sources] = np.arange(sources)
    fold = rng.integers(0, draw(st.integers(1, 3)), count)
    return said(parts / 16, labels, fold=fold)  # not summing to one, which nothing here needs


def test_two_folds_by_hand() -> None:
    found = naming(
        labels=[0, 0, 1, 1, 0, 0, 1, 1], named=[0, 1, 1, 1, 0, 0, 1, 1], sources=2,
        fold=np.repeat([0, 1], 4),
    )  # fmt: skip
    told = figures(found)
    assert told.folds == (0.75, 1.0)
    assert told.accuracy == 0.875
    assert told.chance == 0.5
    assert told.bias == 0.75
    assert told.balanced == pytest.approx((3 / 4 + 1) / 2)
    assert told.p == pytest.approx(2 * (5 / 16 + 1 / 16) / 2)  # of 3 or 4, and of 4 heads of 4 coins
    assert told.tested == 4
    assert (told.low, told.high) == pytest.approx((0.025**0.25, 1))  # 3.5 of 4 is 4 of 4
    assert told.error == pytest.approx(math.sqrt((1 / 2 + 4 / 20) * 0.125**2 * 2))
    assert (told.trained, told.validation, told.seconds) == (20.0, 0.5, 1.5)


def test_one_fold_by_hand_has_its_own_p_and_no_error_over_folds() -> None:
    told = figures(naming([0, 0, 0, 1, 1, 1, 2, 2, 2], [0, 0, 1, 1, 1, 1, 2, 0, 1], 3))
    assert told.accuracy == pytest.approx(6 / 9)
    assert told.balanced == pytest.approx((2 / 3 + 1 + 1 / 3) / 3)
    assert told.bias == pytest.approx(0.5)
    tail = sum(math.comb(9, k) * 2 ** (9 - k) for k in range(6, 10)) / 3**9
    assert told.p == pytest.approx(tail)
    below = sum(math.comb(9, k) * told.low**k * (1 - told.low) ** (9 - k) for k in range(6, 10))
    above = sum(math.comb(9, k) * told.high**k * (1 - told.high) ** (9 - k) for k in range(7))
    assert (below, above) == pytest.approx((0.025, 0.025))  # what Clopper & Pearson's ends are
    assert math.isnan(told.error)


def test_three_folds_take_twice_the_median_p() -> None:
    labels, named = [0] * 12, [0] * 4 + [0, 0, 1, 1] + [1] * 4
    told = figures(naming(labels, named, 2, fold=np.repeat([0, 1, 2], 4)))
    assert told.p == 1  # of 1/16, 11/16 and 1
    named[4:8] = [0, 0, 0, 1]
    told = figures(naming(labels, named, 2, fold=np.repeat([0, 1, 2], 4)))
    assert told.p == pytest.approx(2 * 5 / 16)


def test_the_unit_of_a_test_is_the_cluster() -> None:
    labels, named = [0, 1] * 10, [0, 1] * 10
    alone = figures(naming(labels, named, 2))
    copied = figures(naming(labels, named, 2, clusters=np.arange(20) // 4))
    assert copied.accuracy == alone.accuracy == 1
    assert (alone.tested, copied.tested) == (20, 5)
    assert copied.p == pytest.approx(1 / 2**5)
    assert alone.p == pytest.approx(1 / 2**20)
    assert copied.low < alone.low


@given(outcomes())
def test_rows_of_the_confusion_are_shares_of_each_source(found: Outcome) -> None:
    shares = confusion(found)
    named = found.probability.argmax(1)
    assert shares.sum(1) == pytest.approx(np.ones(found.classes))
    for i in range(found.classes):
        for j in range(found.classes):
            mine = [named[row] == j for row in range(len(named)) if found.labels[row] == i]
            assert shares[i, j] == pytest.approx(sum(mine) / len(mine))
    assert figures(found).balanced == pytest.approx(np.diag(shares).mean())


def slow_drift(found: Outcome, first: int, second: int) -> float:
    each = []
    for fold in sorted(set(found.fold.tolist())):
        shares: dict[int, list[float]] = {first: [], second: []}
        for row in range(len(found.labels)):
            label = int(found.labels[row])
            if found.fold[row] == fold and label in shares:
                a, b = found.probability[row, first], found.probability[row, second]
                shares[label].append(a / (a + b) if a + b > 0 else 0.5)
        pairs = [(x > y) + 0.5 * (x == y) for x in shares[first] for y in shares[second]]
        if pairs:
            each.append(2 * sum(pairs) / len(pairs) - 1)
    return sum(each) / len(each) if each else math.nan


@given(outcomes())
def test_pairwise_is_twice_the_auc_less_one_of_each_pair(found: Outcome) -> None:
    drifts = pairwise(found)
    assert np.array_equal(drifts, drifts.T, equal_nan=True)
    assert (np.diag(drifts) == 0).all()
    for i in range(found.classes):
        for j in range(i + 1, found.classes):
            assert drifts[i, j] == pytest.approx(slow_drift(found, i, j), nan_ok=True)


@given(outcomes())
def test_another_order_of_sources_permutes_the_pairs_and_changes_nothing_else(found: Outcome) -> None:
    turned = replace(found, labels=found.classes - 1 - found.labels, probability=found.probability[:, ::-1])
    assert pairwise(turned)[::-1, ::-1] == pytest.approx(pairwise(found), nan_ok=True)


def test_pairs_that_are_told_apart_or_confused_backwards() -> None:
    assert pairwise(naming([0, 0, 1, 1], [0, 0, 1, 1], 2))[0, 1] == 1
    assert pairwise(naming([0, 0, 1, 1], [1, 1, 0, 0], 2))[0, 1] == -1  # not clipped
    assert pairwise(naming([0, 0, 1, 1], [0, 1, 0, 1], 2))[0, 1] == 0


def test_folds_whose_scores_differ_in_level_are_not_mixed() -> None:
    probability = np.array([[0.9, 0.1], [0.8, 0.2], [0.3, 0.7], [0.2, 0.8]])
    found = said(probability, np.array([0, 1, 0, 1]), fold=np.array([0, 0, 1, 1]))
    assert pairwise(found)[0, 1] == 1


@given(outcomes(least=3))
def test_without_the_easiest_source_the_others_are_named_among_themselves(found: Outcome) -> None:
    easiest, bias = without_easiest(found)
    recalls = np.diag(confusion(found))
    assert recalls[easiest] == recalls.max()
    left = [source for source in range(found.classes) if source != easiest]
    right = total = 0
    for row in range(len(found.labels)):
        if found.labels[row] == easiest:
            continue
        best = max(left, key=lambda source: (found.probability[row, source], -source))
        right, total = right + int(best == found.labels[row]), total + 1
    chance = 1 / len(left)
    assert bias == pytest.approx((right / total - chance) / (1 - chance))


def test_of_two_sources_none_can_be_left_out() -> None:
    easiest, bias = without_easiest(naming([0, 0, 1, 1], [0, 1, 1, 1], 2))
    assert easiest == 1
    assert math.isnan(bias)


def test_one_exotic_source_can_carry_the_whole_figure() -> None:
    found = naming([0, 1, 0, 1, 2, 2], [0, 1, 1, 0, 2, 2], 3)
    assert figures(found).bias == pytest.approx(0.5)
    easiest, bias = without_easiest(found)
    assert easiest == 2
    assert bias == pytest.approx(0)


def test_typicality_is_log_odds_of_the_own_source_and_finite_at_zero_and_one() -> None:
    probability = np.array([[0.8, 0.2], [0.8, 0.2], [1.0, 0.0], [1.0, 0.0], [0.5, 0.5]])
    odds = typicality(said(probability, np.array([0, 1, 0, 1, 1])))
    assert odds[:2] == pytest.approx([math.log(4), -math.log(4)])
    assert odds[2] == pytest.approx(math.log(999_999))
    assert odds[3] == pytest.approx(-math.log(999_999))
    assert odds[4] == 0


@given(st.lists(st.floats(0, 1), min_size=2, max_size=20, unique=True))
def test_typicality_rises_with_the_probability_of_the_own_source(shares: list[float]) -> None:
    ordered = np.array(sorted(shares))
    odds = typicality(said(np.stack([ordered, 1 - ordered], 1), np.zeros(len(ordered), np.int64)))
    assert np.isfinite(odds).all()
    assert all(a <= b for a, b in neighbours(odds))


def trial(labels: Whole, vectors: NDArray[np.float32], **more: object) -> Trial:
    rows = np.arange(len(labels))
    pixels = np.zeros((len(labels), 64, 64, 3), np.uint8)
    given_: dict[str, object] = {
        "name": "raw", "view": View(facts=vectors, pixels=pixels, traces=vectors), "labels": labels,
        "clusters": rows, "rows": rows + 100, "folds": folds(labels, rows, 3, 1), "probes": ("header",),
    }  # fmt: skip
    return Trial(**given_ | more)  # type: ignore[arg-type]


def test_an_outcome_lines_up_rows_labels_and_folds_of_what_was_tested() -> None:
    labels = np.repeat(np.arange(3), 20)
    one = trial(labels, np.zeros((60, 2), np.float32), clusters=np.arange(60) // 2)
    probabilities = [np.full((len(fold.test), 3), number / 10) for number, fold in enumerate(one.folds)]
    found = outcome(one, "hog", [(probabilities[0], 0.5), (probabilities[1], 0.7)], 2.0)  # two of three folds
    tested = np.concatenate([one.folds[0].test, one.folds[1].test])
    assert found.rows.tolist() == (tested + 100).tolist()
    assert found.labels.tolist() == labels[tested].tolist()
    assert found.clusters.tolist() == (tested // 2).tolist()
    assert found.fold.tolist() == [0] * len(one.folds[0].test) + [1] * len(one.folds[1].test)
    assert (found.probability[:, 0] * 10).tolist() == found.fold.tolist()
    assert found.validation == pytest.approx(0.6)
    assert found.trained == np.mean([len(fold.train) for fold in one.folds[:2]])
    assert (found.trial, found.probe, found.classes, found.seconds) == ("raw", "hog", 3, 2.0)


def test_a_probe_tries_every_fold_and_names_what_is_separable() -> None:
    labels = np.repeat(np.arange(2), 60)
    vectors = np.random.default_rng(0).normal(0, 1, (120, 3)).astype(np.float32)
    vectors[:, 1] += 20 * labels
    found = try_probe(trial(labels, vectors), "header", seed=1)
    assert sorted(found.rows.tolist()) == list(range(100, 220))
    assert found.probability.shape == (120, 2)
    assert found.correct.mean() > 0.97
    assert figures(found).bias > 0.94
    assert found.validation > 0.9


def test_the_network_does_not_work_on_vectors() -> None:
    with pytest.raises(ValueError, match="network does not work on vectors"):
        try_probe(trial(np.repeat([0, 1], 30), np.zeros((60, 1), np.float32)), "network", seed=1)


@st.composite
def clustered(draw: st.DrawFn) -> tuple[Whole, Whole]:
    count = draw(st.integers(10, 80))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    return rng.integers(0, 3, count), rng.integers(0, draw(st.integers(1, 60)), count) * 5


@given(clustered(), st.integers(0, 2**31))
def test_dealing_labels_anew_keeps_their_number_and_what_a_cluster_holds(
    stock: tuple[Whole, Whole], seed: int
) -> None:
    labels, clusters = stock
    dealt = permuted_labels(labels, clusters, np.random.default_rng(seed))
    assert np.bincount(dealt, minlength=3).tolist() == np.bincount(labels, minlength=3).tolist()

    def hands(held: Whole) -> list[tuple[int, ...]]:
        return sorted(tuple(held[clusters == name].tolist()) for name in np.unique(clusters))

    assert hands(dealt) == hands(labels)  # whole hands move, each to a cluster of the same size


def test_duplicates_of_one_source_have_one_label_after_dealing_too() -> None:
    clusters = np.repeat(np.arange(40), 3)
    labels = np.repeat(np.arange(40) % 2, 3)
    dealt = permuted_labels(labels, clusters, np.random.default_rng(0))
    assert (dealt.reshape(40, 3) == dealt.reshape(40, 3)[:, :1]).all()
    assert 0.25 < (dealt == labels).mean() < 0.75


def test_dealing_is_uniform_over_clusters_of_a_size() -> None:
    labels, clusters = np.array([1, 0, 0, 0]), np.arange(4)
    rng = np.random.default_rng(0)
    holders = [int(permuted_labels(labels, clusters, rng).argmax()) for _ in range(2000)]
    assert np.abs(np.bincount(holders, minlength=4) - 500).max() < 5 * math.sqrt(2000 * 3 / 16)


def slow_ridge(vectors: NDArray[np.float64], labels: Whole, fold: Fold, sources: int) -> float:
    """Primal ridge regression on one-hot labels, written from its definition."""
    learn = vectors[fold.train]
    scale = learn.std(0)
    scaled = np.clip((vectors - learn.mean(0)) / scale, -20, 20)
    x, z = scaled[fold.train], scaled[fold.test]
    onehot = np.eye(sources)[labels[fold.train]]
    penalty = 0.1 * np.trace(x @ x.T) / len(x)
    weights = np.linalg.inv(x.T @ x + penalty * np.eye(x.shape[1])) @ x.T @ (onehot - onehot.mean(0))
    return float(((z @ weights).argmax(1) == labels[fold.test]).mean())


def test_the_permutation_null_refits_ridge_regression() -> None:
    rng = np.random.default_rng(3)
    labels = np.repeat(np.arange(3), 40)
    vectors = rng.normal(0, 1, (120, 5))
    vectors[:, 0] += labels
    one = trial(labels, vectors.astype(np.float32))
    observed, permuted = permutation_null(vectors.astype(np.float32), one, 5, np.random.default_rng(9))
    exact = vectors.astype(np.float32).astype(np.float64)
    assert observed == pytest.approx(slow_ridge(exact, labels, one.folds[0], 3))
    again = np.random.default_rng(9)
    wanted = [
        slow_ridge(exact, permuted_labels(labels, one.clusters, again), one.folds[0], 3) for _ in range(5)
    ]
    assert permuted.tolist() == pytest.approx(wanted)


def test_the_permutation_p_is_small_on_separable_pictures() -> None:
    labels = np.repeat(np.arange(2), 40)
    vectors = np.random.default_rng(0).normal(0, 1, (80, 6)).astype(np.float32)
    vectors[:, 2] += 6 * labels
    observed, permuted = permutation_null(vectors, trial(labels, vectors), 99, np.random.default_rng(1))
    assert observed == 1
    assert permutation_p(observed, permuted) == 0.01
    assert abs(permuted.mean() - 0.5) < 0.05


def test_the_permutation_p_is_spread_evenly_on_noise() -> None:
    labels = np.repeat(np.arange(2), 60)
    ps = []
    for number in range(60):
        rng = np.random.default_rng(number)
        vectors = rng.normal(0, 1, (120, 4)).astype(np.float32)
        ps.append(permutation_p(*permutation_null(vectors, trial(labels, vectors), 19, rng)))
    # a p of a statistic with ties lies a little above uniform
    assert abs(np.mean(ps) - 0.55) < 0.15
    assert np.mean(np.array(ps) <= 0.1) < 0.25
    assert np.mean(np.array(ps) >= 0.9) > 0.02


def test_columns_without_numbers_or_variety_do_no_harm() -> None:
    labels = np.repeat(np.arange(2), 40)
    vectors = np.full((80, 3), np.nan, np.float32)
    vectors[:, 1] = 7
    observed, permuted = permutation_null(vectors, trial(labels, vectors), 5, np.random.default_rng(0))
    assert 0.3 <= observed <= 0.7
    assert np.isfinite(permuted).all()
    vectors[labels == 1, 2] = 1  # known of one source alone: that a fact is missing is a fact
    assert permutation_null(vectors, trial(labels, vectors), 5, np.random.default_rng(0))[0] == 1
