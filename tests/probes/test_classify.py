"""Vectors and classes to probabilities: what is learned, what may not be, and what never touches the fit."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn import ensemble

from dataset_audit.probes import classify
from dataset_audit.probes.classify import ROUNDS, Fold, Learned, boosted, importance, linear

Classifier = Callable[[NDArray[np.float32], NDArray[np.int64], Fold, int, int], Learned]
BOTH = pytest.mark.parametrize("learn", [linear, boosted])


def drawn(
    seed: int, classes: int, *, rows: int = 300, features: int = 12, apart: float = 1.5
) -> tuple[NDArray[np.float32], NDArray[np.int64], Fold]:
    """Clouds of which the first ``classes`` features tell the class; half to learn, a quarter each to tune and test."""
    random = np.random.default_rng(seed)
    labels = np.resize(np.arange(classes), rows)
    vectors = random.normal(size=(rows, features)).astype(np.float32)
    vectors[np.arange(rows), labels] += apart
    parts = np.split(random.permutation(rows), [rows // 2, rows * 3 // 4])
    return vectors, labels, Fold(train=parts[0], validation=parts[1], test=parts[2])


def accuracy(learned: Learned, labels: NDArray[np.int64], fold: Fold) -> float:
    return float((learned.probability.argmax(1) == labels[fold.test]).mean())


# -- what both promise -------------------------------------------------------------------------------------


@BOTH
@pytest.mark.parametrize("classes", [2, 3, 5])
def test_separable_classes_are_told_apart_and_noise_is_not(learn: Classifier, classes: int) -> None:
    vectors, labels, fold = drawn(0, classes, apart=5)
    learned = learn(vectors, labels, fold, classes, 1)
    assert accuracy(learned, labels, fold) > 0.9
    assert learned.validation > 0.9
    vectors, labels, fold = drawn(1, classes, rows=900, apart=0)
    learned = learn(vectors, labels, fold, classes, 1)
    band = 4 * math.sqrt(1 / classes * (1 - 1 / classes) / len(fold.test))
    assert abs(accuracy(learned, labels, fold) - 1 / classes) < band


@BOTH
@settings(max_examples=10)
@given(seed=st.integers(0, 2**32 - 1), classes=st.integers(2, 4), apart=st.floats(0, 4))
def test_rows_are_probabilities_in_the_order_of_the_test_rows(
    learn: Classifier, seed: int, classes: int, apart: float
) -> None:
    vectors, labels, fold = drawn(seed, classes, rows=80, apart=apart)
    learned = learn(vectors, labels, fold, classes, 0)
    assert learned.probability.shape == (len(fold.test), classes)
    assert learned.probability.dtype == np.float64
    assert (learned.probability >= 0).all()
    assert np.allclose(learned.probability.sum(1), 1, atol=1e-12)
    turned = Fold(train=fold.train, validation=fold.validation, test=fold.test[::-1])
    assert np.allclose(
        learn(vectors, labels, turned, classes, 0).probability, learned.probability[::-1], atol=1e-5
    )


@BOTH
@settings(max_examples=8)
@given(seed=st.integers(0, 2**32 - 1), classes=st.integers(2, 3))
def test_test_rows_never_touch_the_fit(learn: Classifier, seed: int, classes: int) -> None:
    vectors, labels, fold = drawn(seed, classes, rows=90)
    learned = learn(vectors, labels, fold, classes, 0)

    relabelled = labels.copy()
    relabelled[fold.test] = (labels[fold.test] + 1) % classes
    again = learn(vectors, relabelled, fold, classes, 0)
    assert np.array_equal(again.probability, learned.probability)
    assert again.validation == learned.validation

    moved = vectors.copy()
    moved[fold.test[1:]] = 1e6
    again = learn(moved, labels, fold, classes, 0)
    assert np.allclose(again.probability[0], learned.probability[0], atol=1e-6)
    assert not np.allclose(again.probability[1:], learned.probability[1:])
    assert again.validation == learned.validation


@BOTH
def test_rows_outside_the_fold_are_never_looked_at(learn: Classifier) -> None:
    vectors, labels, fold = drawn(3, 3)
    expected = learn(vectors, labels, fold, 3, 0).probability
    wider = np.concatenate([vectors, np.full((5, vectors.shape[1]), np.inf, np.float32)])
    assert np.array_equal(learn(wider, np.append(labels, [7] * 5), fold, 3, 0).probability, expected)


@BOTH
def test_the_same_rows_give_the_same_answer(learn: Classifier) -> None:
    vectors, labels, fold = drawn(4, 3)
    one, other = (learn(vectors, labels, fold, 3, 2**40 + 1) for _ in range(2))
    assert np.array_equal(one.probability, other.probability)


@BOTH
@pytest.mark.parametrize("value", [0.0, 0.1, 255.0, 1e6])
def test_features_that_never_vary_change_nothing(learn: Classifier, value: float) -> None:
    vectors, labels, fold = drawn(5, 3, apart=3)
    padded = np.concatenate([vectors, np.full((len(vectors), 2), value, np.float32)], axis=1)
    assert np.allclose(
        learn(padded, labels, fold, 3, 0).probability,
        learn(vectors, labels, fold, 3, 0).probability,
        atol=1e-5,
    )


@BOTH
@pytest.mark.parametrize("classes", [2, 3])
def test_pictures_that_are_all_alike_say_nothing(learn: Classifier, classes: int) -> None:
    _, labels, fold = drawn(6, classes)
    learned = learn(np.ones((len(labels), 4), np.float32), labels, fold, classes, 0)
    assert np.ptp(learned.probability, axis=0).max() < 1e-9
    assert np.allclose(learned.probability.sum(1), 1)


# -- the linear machine ------------------------------------------------------------------------------------


@pytest.mark.parametrize("classes", [2, 4])
@pytest.mark.parametrize("features", [6, 40, 600])
def test_kernel_and_primal_form_are_as_accurate(
    classes: int, features: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    vectors, labels, fold = drawn(7, classes, rows=600, features=features, apart=2)
    kernel = linear(vectors, labels, fold, classes, 0)
    monkeypatch.setattr(classify, "KERNEL_ROWS", 0)
    primal = linear(vectors, labels, fold, classes, 0)
    assert accuracy(kernel, labels, fold) > 1 / classes + 0.15
    assert accuracy(primal, labels, fold) == pytest.approx(accuracy(kernel, labels, fold), abs=0.06)
    assert primal.validation == pytest.approx(kernel.validation, abs=0.06)


@pytest.mark.parametrize("classes", [2, 3])
def test_the_primal_form_takes_pictures_that_are_all_alike(
    classes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(classify, "KERNEL_ROWS", 0)
    _, labels, fold = drawn(6, classes)
    learned = linear(np.ones((len(labels), 4), np.float32), labels, fold, classes, 0)
    assert np.ptp(learned.probability, axis=0).max() < 1e-9


@given(st.floats(1e-3, 1e3), st.floats(-100, 100))
@settings(max_examples=10)
def test_units_of_a_feature_do_not_matter(gain: float, offset: float) -> None:
    vectors, labels, fold = drawn(8, 3, rows=90, features=4)
    changed = vectors.astype(np.float64)
    changed[:, 1] = changed[:, 1] * gain + offset * gain
    one, other = (linear(each.astype(np.float32), labels, fold, 3, 0) for each in (vectors, changed))
    assert np.allclose(one.probability, other.probability, atol=0.02)


def test_a_value_beyond_20_deviations_counts_as_20() -> None:
    vectors, labels, fold = drawn(9, 2, apart=4)
    far, farther = vectors.copy(), vectors.copy()
    far[fold.test, 5], farther[fold.test, 5] = 100, 1e30
    one, other = (linear(each, labels, fold, 2, 0).probability for each in (far, farther))
    assert np.array_equal(one, other)
    assert not np.array_equal(one, linear(vectors, labels, fold, 2, 0).probability)


def test_the_cost_is_chosen_on_validation_rows_and_the_smallest_of_equals(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    vectors, labels, fold = drawn(10, 2)
    right = np.eye(2)[labels[fold.validation]]
    half = right.copy()
    half[: len(half) // 2] = half[: len(half) // 2, ::-1]
    told = [np.eye(2)[np.full(len(fold.test), each)] for each in (0, 1, 0, 0)]
    planted = [*zip((half, right, right, half), told, strict=True)]
    monkeypatch.setattr(classify, "_kernel_machines", lambda *_: planted)
    learned = linear(vectors, labels, fold, 2, 0)
    assert learned.validation == 1
    assert (learned.probability.argmax(1) == 1).all()  # the second machine, not the third


@given(st.integers(0, 2**32 - 1), st.floats(0.1, 10))
def test_the_temperature_has_the_least_log_loss_of_all_that_are_tried(seed: int, scale: float) -> None:
    random = np.random.default_rng(seed)
    truth = random.integers(0, 3, 40)
    scores = random.normal(size=(40, 3)) * scale
    scores[np.arange(40), truth] += 1

    def loss(temperature: float) -> float:
        total = 0.0
        for row, label in zip(scores / temperature, truth, strict=True):
            total -= row[label] - row.max() - math.log(sum(math.exp(value - row.max()) for value in row))
        return total

    least = min(classify._TEMPERATURES, key=loss)
    assert classify._temperature(scores, truth) == least


def test_probabilities_are_calibrated_on_rows_they_were_not_tuned_on() -> None:
    vectors, labels, fold = drawn(11, 2, rows=2400, features=4, apart=1.2)
    told = linear(vectors, labels, fold, 2, 0).probability
    sure = told.max(1)
    right = told.argmax(1) == labels[fold.test]
    for low, high in ((0.5, 0.7), (0.7, 0.85), (0.85, 1.0)):
        inside = (sure > low) & (sure <= high)
        assert inside.sum() > 60
        assert right[inside].mean() == pytest.approx(sure[inside].mean(), abs=0.1)


# -- boosted trees -----------------------------------------------------------------------------------------


def test_a_missing_value_is_a_value_of_its_own() -> None:
    _, labels, fold = drawn(12, 2)
    vectors = np.random.default_rng(0).normal(size=(len(labels), 3)).astype(np.float32)
    vectors[labels == 1, 1] = np.nan
    assert accuracy(boosted(vectors, labels, fold, 2, 0), labels, fold) == 1


def test_a_column_without_a_number_is_left_out() -> None:
    vectors, labels, fold = drawn(13, 3, apart=4)
    padded = np.insert(vectors, 1, np.nan, axis=1)
    one, other = (boosted(each, labels, fold, 3, 0) for each in (vectors, padded))
    assert np.array_equal(one.probability, other.probability)
    with pytest.raises(ValueError, match="no column"):
        boosted(np.full_like(vectors, np.nan), labels, fold, 3, 0)


def test_what_the_trees_predict_again_is_what_they_said() -> None:
    vectors, labels, fold = drawn(14, 3)
    learned = boosted(vectors, labels, fold, 3, 0)
    assert learned.predict is not None
    assert np.array_equal(learned.predict(vectors[fold.test]), learned.probability)
    told = learned.predict(vectors[fold.validation]).argmax(1)
    assert learned.validation == pytest.approx((told == labels[fold.validation]).mean())


def test_the_number_of_rounds_is_the_best_on_validation_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    made = []

    class Kept(ensemble.HistGradientBoostingClassifier):
        def __init__(self, **options: object) -> None:
            super().__init__(**options)
            made.append(self)

    monkeypatch.setattr(ensemble, "HistGradientBoostingClassifier", Kept)
    chosen = set()
    for seed in range(8):
        vectors, labels, fold = drawn(seed, 3, rows=120, apart=1)
        learned = boosted(vectors, labels, fold, 3, 0)
        said = [list(made[-1].staged_predict_proba(vectors[part])) for part in (fold.validation, fold.test)]
        scores = {
            rounds: (said[0][rounds - 1].argmax(1) == labels[fold.validation]).mean() for rounds in ROUNDS
        }
        best = max(scores, key=lambda rounds: scores[rounds])  # the first of equals
        assert learned.validation == pytest.approx(scores[best])
        assert np.array_equal(learned.probability, said[1][best - 1])
        chosen.add(best)
    assert len(chosen) > 1


# -- importance --------------------------------------------------------------------------------------------


def test_a_planted_feature_is_found_and_the_others_cost_nothing() -> None:
    _, labels, fold = drawn(16, 2, rows=600)
    random = np.random.default_rng(1)
    vectors = random.normal(size=(600, 6)).astype(np.float32)
    vectors[:, 4] += 4 * labels
    vectors[:, 2] = 7
    vectors[:, 3] = np.nan
    before = vectors.copy()
    learned = boosted(vectors, labels, fold, 2, 0)
    lost = importance(learned, vectors, labels, fold.test, np.random.default_rng(0))
    assert np.array_equal(vectors, before, equal_nan=True)
    assert lost.shape == (6,)
    assert 0.35 < lost[4] < 0.6
    assert np.abs(np.delete(lost, 4)).max() < 0.03
    assert lost[2] == lost[3] == 0


def test_importance_is_the_mean_accuracy_lost_over_five_shuffles() -> None:
    labels = np.array([0, 1, 0, 1, 1, 0])
    vectors = np.stack([labels, 1 - labels], axis=1).astype(np.float32)
    by_first = Learned(
        probability=np.empty((0, 2)), validation=0.0, predict=lambda rows: np.eye(2)[rows[:, 0].astype(int)]
    )
    rows = np.array([0, 1, 2, 4])
    lost = importance(by_first, vectors, labels, rows, np.random.default_rng(3))
    random = np.random.default_rng(3)
    shuffles = [random.permutation(vectors[rows, 0]) for _ in range(5)]
    expected = np.mean([1 - (shuffled == labels[rows]).mean() for shuffled in shuffles])
    assert expected > 0
    assert lost[0] == pytest.approx(expected)
    assert lost[1] == 0


def test_importance_wants_a_classifier_of_vectors() -> None:
    vectors, labels, fold = drawn(17, 2)
    with pytest.raises(ValueError, match="does not work on vectors"):
        importance(linear(vectors, labels, fold, 2, 0), vectors, labels, fold.test, np.random.default_rng(0))
