"""Parts for learning, tuning and judging: every picture judged once, clusters whole, sources in equal shares."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from dataset_audit.bias.folds import VALIDATION, folds, thinned, unlearnable
from dataset_audit.probes.classify import Fold

Whole = NDArray[np.int64]


@st.composite
def stocks(draw: st.DrawFn) -> tuple[Whole, Whole]:
    """Labels and clusters of 2 to 4 sources of 30 to 60 pictures, duplicates in and across sources."""
    sources, each = draw(st.integers(2, 4)), draw(st.integers(30, 60))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    labels = np.repeat(np.arange(sources), each)
    alone = draw(st.floats(0.3, 1))  # below it a picture is a copy of another drawn one
    clusters = np.arange(len(labels)) * 7 + 3
    copied = rng.random(len(labels)) > alone
    clusters[copied] = clusters[rng.integers(0, len(labels), int(copied.sum()))]
    return labels, clusters


def parts(fold: Fold) -> tuple[Whole, Whole, Whole]:
    return fold.train, fold.validation, fold.test


@given(stocks(), st.integers(2, 5), st.integers(0, 2**31))
def test_every_picture_is_judged_once_and_no_cluster_is_in_two_parts(
    stock: tuple[Whole, Whole], resamplings: int, seed: int
) -> None:
    labels, clusters = stock
    made = folds(labels, clusters, resamplings, seed)
    assert len(made) == resamplings
    judged = np.concatenate([fold.test for fold in made])
    assert sorted(judged.tolist()) == list(range(len(labels)))
    for fold in made:
        assert sorted(np.concatenate(parts(fold)).tolist()) == list(range(len(labels)))
        sets = [set(clusters[part].tolist()) for part in parts(fold)]
        assert sum(map(len, sets)) == len(set.union(*sets))


@given(stocks(), st.integers(2, 5), st.integers(0, 2**31))
def test_parts_have_their_share_of_every_source_within_a_cluster_or_two(
    stock: tuple[Whole, Whole], resamplings: int, seed: int
) -> None:
    labels, clusters = stock
    sources = int(labels.max()) + 1
    largest = int(np.unique(clusters, return_counts=True)[1].max())
    for fold in folds(labels, clusters, resamplings, seed):
        wanted = np.bincount(labels) / resamplings
        tested = np.bincount(labels[fold.test], minlength=sources)
        assert (np.abs(tested - wanted) <= 2 * largest).all()
        rest = np.bincount(labels[np.concatenate([fold.train, fold.validation])], minlength=sources)
        tuned = np.bincount(labels[fold.validation], minlength=sources)
        assert (np.abs(tuned - VALIDATION * rest) <= 2 * largest).all()


@pytest.mark.parametrize("resamplings", [2, 3, 5])
def test_without_duplicates_the_shares_are_exact(resamplings: int) -> None:
    labels = np.repeat(np.arange(3), 60)
    for fold in folds(labels, np.arange(180), resamplings, 1):
        assert np.bincount(labels[fold.test]).tolist() == [60 // resamplings] * 3
        left = 60 - 60 // resamplings
        assert np.abs(np.bincount(labels[fold.validation]) - VALIDATION * left).max() <= 1


def test_parts_are_drawn_not_the_first_and_depend_on_the_seed_alone() -> None:
    labels, clusters = np.repeat(np.arange(2), 50), np.arange(100)
    one, again, other = (folds(labels, clusters, 3, seed) for seed in (1, 1, 2))
    for fold, same in zip(one, again, strict=True):
        assert all(np.array_equal(a, b) for a, b in zip(parts(fold), parts(same), strict=True))
    assert not np.array_equal(one[0].test, other[0].test)
    first = one[0].test[one[0].test < 50]
    assert first.tolist() != list(range(len(first)))
    assert 10 < np.mean(first) < 40  # from all over the listing


def test_the_names_of_clusters_do_not_matter() -> None:
    rng = np.random.default_rng(0)
    labels, clusters = np.repeat(np.arange(2), 40), rng.integers(0, 50, 80)
    renamed = clusters * 1000 - 7  # in the same order
    for fold, same in zip(folds(labels, clusters, 3, 5), folds(labels, renamed, 3, 5), strict=True):
        assert all(np.array_equal(a, b) for a, b in zip(parts(fold), parts(same), strict=True))


def test_a_cluster_larger_than_a_part_stays_whole() -> None:
    labels = np.repeat(np.arange(2), 40)
    clusters = np.arange(80)
    clusters[:30] = 0
    made = folds(labels, clusters, 3, 1)
    holding = [fold for fold in made if 0 in clusters[fold.test]]
    assert len(holding) == 1
    assert set(range(30)) <= set(holding[0].test.tolist())


@given(stocks(), st.sampled_from([1 / 16, 1 / 8, 1 / 4, 1 / 2]), st.integers(0, 2**31))
def test_thinning_drops_whole_training_clusters_and_nothing_else(
    stock: tuple[Whole, Whole], share: float, seed: int
) -> None:
    labels, clusters = stock
    fold = folds(labels, clusters, 3, seed)[0]
    thin = thinned(fold, labels, clusters, share, seed)
    assert np.array_equal(thin.validation, fold.validation)
    assert np.array_equal(thin.test, fold.test)
    assert set(thin.train.tolist()) <= set(fold.train.tolist())
    gone = set(fold.train.tolist()) - set(thin.train.tolist())
    assert not set(clusters[thin.train].tolist()) & set(clusters[list(gone)].tolist())
    largest = int(np.unique(clusters, return_counts=True)[1].max())
    kept, full = (np.bincount(labels[one.train], minlength=labels.max() + 1) for one in (thin, fold))
    assert (np.abs(kept - share * full) <= 2 * largest).all()


def test_thinning_keeps_equal_shares_of_the_sources_exactly_without_duplicates() -> None:
    labels = np.repeat(np.arange(2), 60)
    fold = folds(labels, np.arange(120), 3, 1)[0]
    thin = thinned(fold, labels, np.arange(120), 0.5, 1)
    assert np.bincount(labels[thin.train]).tolist() == [17, 17]


def test_labels_that_a_fold_cannot_learn_are_told() -> None:
    labels = np.repeat(np.arange(3), 20)
    alone = np.arange(60)
    assert unlearnable(folds(labels, alone, 3, 1), labels) == []
    few = alone.copy()
    few[20:40] = 20  # all of the second are one picture
    assert unlearnable(folds(labels, few, 3, 1), labels) == [1]
    assert unlearnable(folds(labels, np.zeros(60, np.int64), 3, 1), labels) == [0, 1, 2]
