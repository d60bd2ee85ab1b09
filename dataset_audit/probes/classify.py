"""Vectors and classes to probabilities for pictures never seen; every knob is tuned on validation rows alone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

Vectors = NDArray[np.float32]
Labels = NDArray[np.int64]
KERNEL_ROWS: Final = 8000  # training rows up to which the SVM works on the matrix of inner products
_COSTS: Final = (0.01, 0.1, 1.0, 10.0)
FEW_FEATURES: Final = 20  # up to which every split looks at all
ROUNDS: Final = (10, 20, 40)  # of trees; validation chooses
_TEMPERATURES: Final = tuple(float(value) for value in np.geomspace(0.05, 20, 25))


@dataclass(frozen=True, kw_only=True, eq=False)
class Fold:
    """Which rows to learn from, to tune on, and to be judged by; int64 each, no row in two of them."""

    train: NDArray[np.int64]
    validation: NDArray[np.int64]
    test: NDArray[np.int64]


@dataclass(frozen=True, kw_only=True, eq=False)
class Learned:
    """What a classifier says of the test rows.

    Attributes:
        probability: float64[T, K], rows sum to one, in the order of ``fold.test``.
        validation: Accuracy on the validation rows: the one figure that may choose between probes.
        predict: From vectors to float64[., K]; None where the classifier does not work on vectors.
    """

    probability: NDArray[np.float64]
    validation: float
    predict: Callable[[Vectors], NDArray[np.float64]] | None = None


def linear(vectors: Vectors, labels: Labels, fold: Fold, classes: int, seed: int) -> Learned:
    """Fit a linear support vector machine on standardised features.

    The cost is the best of four on the validation rows (the smallest of equals); scores become probabilities by one
    temperature fitted there too. Up to 8,000 training rows the kernel form is used, a machine for each
    pair of classes, faster where there are more features than rows; beyond, a machine for each class (squared hinge).

    Args:
        vectors: float32[N, D].
        labels: int64[N], 0 to ``classes`` - 1.
        fold: Rows.
        classes: Number of classes; each must be among the training rows.
        seed: Unused: the fit is deterministic.
    """
    del seed
    scaled = _standardised(vectors, fold.train)
    if len(fold.train) <= KERNEL_ROWS:
        machines = _kernel_machines(scaled, labels, fold, classes)
    else:
        machines = _primal_machines(scaled, labels, fold, classes)
    truth = labels[fold.validation]
    best, chosen = -1.0, None
    for scores in machines:
        accuracy = float((scores[0].argmax(1) == truth).mean())
        if accuracy > best:
            best, chosen = accuracy, scores
    if chosen is None:
        raise ValueError("no cost was tried")
    temperature = _temperature(chosen[0], truth)
    return Learned(probability=_softmax(chosen[1] / temperature), validation=best)


def _standardised(vectors: Vectors, train: NDArray[np.int64]) -> Vectors:
    seen = vectors[train]
    mean, std = seen.mean(0, dtype=np.float64), seen.std(0, dtype=np.float64)
    varies = std > 1e-6
    if not varies.any():
        return np.zeros((len(vectors), 1), np.float32)  # the machines take no less than one feature
    scaled = (vectors[:, varies] - mean[varies]) / std[varies]
    return np.asarray(np.clip(scaled, -20, 20), np.float32)


def _kernel_machines(
    scaled: Vectors, labels: Labels, fold: Fold, classes: int
) -> list[tuple[NDArray[np.float64], NDArray[np.float64]]]:
    """Return (validation scores, test scores) of the machine at each cost."""
    from sklearn.svm import SVC  # noqa: PLC0415 - a second to import, only probes pay it

    width = max(1, scaled.shape[1])
    learn = scaled[fold.train]
    inner = (learn @ learn.T).astype(np.float64) / width
    apart = [(scaled[rows] @ learn.T).astype(np.float64) / width for rows in (fold.validation, fold.test)]
    found = []
    for cost in _COSTS:
        machine = SVC(C=cost, kernel="precomputed", decision_function_shape="ovr", cache_size=500, tol=1e-2)
        machine.fit(inner, labels[fold.train])
        found.append(
            (
                _scores(machine.decision_function(apart[0]), classes),
                _scores(machine.decision_function(apart[1]), classes),
            )
        )
    return found


def _primal_machines(
    scaled: Vectors, labels: Labels, fold: Fold, classes: int
) -> list[tuple[NDArray[np.float64], NDArray[np.float64]]]:
    from sklearn.svm import LinearSVC  # noqa: PLC0415

    found = []
    for cost in _COSTS:
        machine = LinearSVC(C=cost / max(1, scaled.shape[1]), dual=False, tol=1e-3, max_iter=200)
        machine.fit(scaled[fold.train], labels[fold.train])
        scores = (
            _scores(machine.decision_function(scaled[fold.validation]), classes),
            _scores(machine.decision_function(scaled[fold.test]), classes),
        )
        found.append(scores)
    return found


def _scores(decision: NDArray[np.float64], classes: int) -> NDArray[np.float64]:
    """Return one score per class; of two classes scikit-learn gives one number for both."""
    return np.stack([-decision, decision], 1) if classes == 2 else decision


def _temperature(scores: NDArray[np.float64], truth: Labels) -> float:
    """Return the temperature of least log-loss on the validation rows."""
    losses = []
    for temperature in _TEMPERATURES:
        probability = _softmax(scores / temperature)[np.arange(len(truth)), truth]
        losses.append(-np.log(np.maximum(probability, 1e-12)).mean())
    return _TEMPERATURES[int(np.argmin(losses))]


def _softmax(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    raised = np.exp(scores - scores.max(1, keepdims=True))
    shares: NDArray[np.float64] = raised / raised.sum(1, keepdims=True)
    return shares


def boosted(vectors: Vectors, labels: Labels, fold: Fold, classes: int, seed: int) -> Learned:
    """Fit gradient-boosted trees (histogram form): 40 rounds, 8 leaves, rate 0.15; NaN is a value of its own.

    Where there are more than 20 features, each split chooses among a drawn fifth of them: as accurate on 190
    features of 3,000 pictures, in a third of the time.

    The number of rounds is the best of 10, 20 and 40 on the validation rows (the smallest of equals).

    Args:
        vectors: float32[N, D].
        labels: int64[N].
        fold: Rows.
        classes: Number of classes; each must be among the training rows.
        seed: Of the binning of large sets and the features drawn.
    """
    del classes
    from sklearn.ensemble import HistGradientBoostingClassifier  # noqa: PLC0415

    trees = HistGradientBoostingClassifier(
        max_iter=ROUNDS[-1], learning_rate=0.15, max_leaf_nodes=8, min_samples_leaf=10, early_stopping=False,
        max_bins=63, max_features=1.0 if vectors.shape[1] <= FEW_FEATURES else 0.2, random_state=seed % 2**32,
    )  # fmt: skip
    known = np.isfinite(vectors[fold.train]).any(0)  # a column without a number has no bins
    if not known.any():
        raise ValueError("no column of the training rows has a number")
    trees.fit(vectors[fold.train][:, known], labels[fold.train])
    truth = labels[fold.validation]
    rounds, best = ROUNDS[-1], -1.0
    for number, probability in enumerate(trees.staged_predict_proba(vectors[fold.validation][:, known]), 1):
        if number in ROUNDS:
            accuracy = float((probability.argmax(1) == truth).mean())
            if accuracy > best:
                rounds, best = number, accuracy

    def predict(rows: Vectors) -> NDArray[np.float64]:
        for number, probability in enumerate(trees.staged_predict_proba(rows[:, known]), 1):
            if number == rounds:
                return np.asarray(probability, np.float64)
        raise ValueError("fewer rounds than were chosen")

    return Learned(probability=predict(vectors[fold.test]), validation=best, predict=predict)


def importance(
    learned: Learned, vectors: Vectors, labels: Labels, rows: NDArray[np.int64], rng: np.random.Generator
) -> NDArray[np.float64]:
    """Return float64[D]: accuracy lost on ``rows`` when one feature is shuffled among them, mean of five shuffles.

    Breiman 2001, section 10. Features that say the same share their importance or hide each other's.
    """
    if learned.predict is None:
        raise ValueError("this classifier does not work on vectors")
    seen, truth = vectors[rows], labels[rows]
    right = float((learned.predict(seen).argmax(1) == truth).mean())
    lost = np.zeros(vectors.shape[1])
    for feature in range(vectors.shape[1]):
        column = seen[:, feature]
        if np.array_equal(column, np.full_like(column, column[0]), equal_nan=True):
            continue
        for _ in range(5):
            shuffled = seen.copy()
            shuffled[:, feature] = rng.permutation(column)
            lost[feature] += (right - float((learned.predict(shuffled).argmax(1) == truth).mean())) / 5
    return lost
