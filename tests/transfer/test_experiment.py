"""Points in a plane stand for pictures: what transfers, and what does not, is known beforehand."""

from __future__ import annotations

import numpy as np
import pytest

from dataset_audit.probes.classify import Learned, linear
from dataset_audit.transfer.experiment import all_classes, one_against_rest, validated
from dataset_audit.transfer.market import market
from dataset_audit.transfer.measures import measures
from dataset_audit.transfer.sampling import OTHER, Pool, balanced, tasks, trainings

N = 720
CLASSES = 2


def plane(sources: int = 2, *, turned: int = -1) -> tuple[np.ndarray, Pool]:
    """Sets whose class is the sign of the first coordinate; in the set ``turned`` it is the opposite."""
    rng = np.random.default_rng(0)
    source, label = np.arange(N) % sources, np.arange(N) // sources % CLASSES
    vectors = rng.normal(size=(N, 4)).astype(np.float32)
    sign = np.where(source == turned, -1.0, 1.0) * np.where(label == 1, 1.0, -1.0)
    vectors[:, 0] = sign * rng.uniform(0.2, 2, N)
    pool = Pool(source=source, label=label, cluster=np.arange(N), sources=sources, classes=CLASSES)
    return vectors, pool


def nothing() -> None:
    """Count no training."""


def test_sets_made_alike_transfer_without_a_drop_and_a_contrary_one_with_all_of_it() -> None:
    vectors, pool = plane(3, turned=2)
    found = one_against_rest(vectors, pool, tasks(pool, 1, 2, 1), linear, 1, nothing)
    matrix = found.matrix.value.mean(0)
    assert found.matrix.chance == pytest.approx(0.5)
    assert matrix[:2, :2] == pytest.approx(np.ones((2, 2)), abs=0.03)
    assert matrix[2, 2] > 0.97
    assert (matrix[:2, 2] < 0.4).all()
    assert (matrix[2, :2] < 0.4).all()
    assert measures(matrix).row_drop[2] > 0.6


def test_rows_are_trained_on_and_columns_tested_on() -> None:
    """One set has its label nowhere in the picture: nobody is good on it, and its classifier is good nowhere."""
    vectors, pool = plane(2)
    vectors[pool.source == 1, 0] = np.random.default_rng(1).normal(size=N // 2)
    vectors[(pool.source == 1), 1] = np.where(pool.label[pool.source == 1] == 1, 1, -1)
    found = all_classes(vectors, pool, balanced(pool, 2, 1), linear, nothing)
    assert found.value[:, 0, 0].min() > 0.95
    assert found.value[:, 1, 1].min() > 0.95
    seen: list[np.ndarray] = []

    def spy(v: np.ndarray, labels: np.ndarray, fold: object, classes: int, seed: int) -> Learned:
        seen.append(v)
        learned = linear(v, labels, fold, classes, seed)  # type: ignore[arg-type]
        return Learned(
            probability=np.eye(2)[(learned.probability[:, 1] > 0.5).astype(int)],
            validation=learned.validation,
        )

    again = all_classes(vectors, pool, balanced(pool, 2, 1), spy, nothing)
    assert np.array_equal(again.value, found.value)
    assert len(seen) == 4


def test_easy_negatives_of_a_set_are_shown_by_negatives_of_all_sets() -> None:
    """Set 0 has negatives far away; the others' negatives lie where its positives are."""
    rng = np.random.default_rng(0)
    source, label = np.arange(N) % 2, np.where(np.arange(N) // 2 % 3 == 0, 0, OTHER)
    vectors = rng.normal(size=(N, 3)).astype(np.float32)
    vectors[:, 0] += np.where(label == 0, 4, np.where(source == 0, -4, 4))
    vectors[:, 1] += np.where((label == 0) & (source == 1), 8, 0)
    pool = Pool(source=source, label=label, cluster=np.arange(N), sources=2, classes=1)
    found = one_against_rest(vectors, pool, tasks(pool, 0, 2, 1), linear, 1, nothing)
    own = np.diagonal(found.matrix.value, axis1=1, axis2=2)
    assert own.min() > 0.99
    assert found.pooled[:, 0].max() < 0.8
    assert found.pooled[:, 1].min() > 0.99


def test_every_training_is_counted_and_intervals_hold_the_score() -> None:
    vectors, pool = plane(2)
    vectors[:, 0] += np.random.default_rng(2).normal(size=N) * 2
    count = []
    draws = tasks(pool, 1, 2, 1)
    found = one_against_rest(vectors, pool, draws, linear, 1, lambda: count.append(1))
    assert len(count) == 2 * 2 * trainings(draws[0]) == 2 * 2 * (4 + 4 + 4 + 2 + 1)
    assert found.curve.shape == (len(found.sizes), 2, 2, 2)
    assert np.array_equal(found.curve[-1], found.matrix.value)
    assert (found.matrix.low < found.matrix.value).all()
    assert (found.matrix.value < found.matrix.high).all()
    assert found.matrix.n_train == found.sizes[-1]
    assert found.sizes[-1] >= 8 * found.sizes[0]
    assert validated(vectors, draws[:1], linear, nothing) > 0.6


def test_test_rows_never_reach_the_classifier_with_their_labels() -> None:
    vectors, pool = plane(2)

    def checked(v: np.ndarray, labels: np.ndarray, fold, classes: int, seed: int) -> Learned:
        assert not labels[fold.test].any()
        return linear(v, labels, fold, classes, seed)

    one_against_rest(vectors, pool, tasks(pool, 1, 1, 1), checked, 1, nothing)
    all_classes(vectors, pool, balanced(pool, 1, 1), checked, nothing)


def test_the_market_says_what_a_foreign_image_is_worth_in_own_ones() -> None:
    """On the market of set 0 an image of set 1 does what a quarter of an own one does; the other way round, four."""
    sizes = np.array([50.0, 100, 200, 400, 800])
    worth = np.array([[1, 4], [0.25, 1]])  # row = trained on, column = market
    noise = np.random.default_rng(0).normal(0, 0.002, (5, 3, 2, 2))
    curve = 0.1 + 0.1 * np.log(sizes[:, None, None, None] * worth[None, None]) + noise
    found = market(sizes, curve / 2, chance=0.05, seed=1)
    assert found.rates[1][0].alpha == pytest.approx(0.25, rel=0.1)
    assert found.rates[0][1].alpha == pytest.approx(4, rel=0.1)
    assert found.rates[1][0].low < 0.25 < found.rates[1][0].high
    assert found.rates[0][0].alpha == 1
    assert found.basket == pytest.approx([(1 + 0.25) / 2, (1 + 4) / 2], rel=0.1)


def test_a_market_without_a_rising_line_has_no_rate_and_no_basket() -> None:
    sizes = np.array([50.0, 100, 200, 400, 800])
    found = market(sizes, np.full((5, 3, 2, 2), 0.9), chance=0.2, seed=1)
    assert found.rates[0][1].alpha is None
    assert "rising" in found.rates[0][1].reason
    assert found.basket == (None, None)
    short = market(sizes[-1:], np.full((1, 3, 2, 2), 0.9), chance=0.2, seed=1)
    assert "4 sizes" in short.rates[0][1].reason
