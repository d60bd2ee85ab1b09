"""Train on each set, test on each set: vectors and rows in, scores by (training set, test set) out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dataset_audit import seeds
from dataset_audit.probes.classify import Fold, Labels, Learned, Vectors
from dataset_audit.stats.bootstrap import cluster_bootstrap
from dataset_audit.stats.intervals import clopper_pearson
from dataset_audit.transfer.precision import average_precision
from dataset_audit.transfer.sampling import SLICES, Part, Pool, Rows, Task, halvings

Learn = Callable[[Vectors, Labels, Fold, int, int], Learned]
Floats = NDArray[np.float64]
REDRAWS = 500  # of the test clusters, for an interval


@dataclass(frozen=True, kw_only=True, eq=False)
class Matrix:
    """Scores of J draws, row = trained on, column = tested on.

    Attributes:
        value: float64[J, K, K], shares.
        low: Low end of each one's 95 % interval over test images.
        high: High end.
        chance: What guessing scores.
        n_train: Training images of each set.
        n_test: Test images of each set.
    """

    value: Floats
    low: Floats
    high: Floats
    chance: float
    n_train: int
    n_test: int


@dataclass(frozen=True, kw_only=True, eq=False)
class Precision:
    """Average precision of one class in every draw.

    Attributes:
        matrix: At the largest training size.
        sizes: int64[S], training images, rising.
        curve: float64[S, J, K, K], the score at each size, for smaller ones the mean over disjoint parts of the
            draw; the last is that of ``matrix``.
        pooled: float64[J, K], trained and tested on the same set with negatives from all sets, in equal parts and
            the same number as before.
    """

    matrix: Matrix
    sizes: Rows
    curve: Floats
    pooled: Floats


def one_against_rest(
    vectors: Vectors, pool: Pool, draws: Sequence[Task], learn: Learn, seed: int, done: Callable[[], None]
) -> Precision:
    """Train a class against all others on each set and test it on each set, in every draw and at every size.

    Args:
        vectors: float32[N, D] of the pool's images.
        pool: The images.
        draws: One task per draw, of equal sizes.
        learn: A classifier that tunes itself on the validation rows of its training set.
        seed: Of the intervals.
        done: Called after each training.
    """
    first = draws[0]
    steps = halvings(first.train.positive.shape[1], first.train.negative.shape[1])
    shape = len(draws), pool.sources, pool.sources
    curve, low, high = np.empty((len(steps), *shape)), np.empty(shape), np.empty(shape)
    pooled = np.empty(shape[:2])
    for j, task in enumerate(draws):
        for trained in range(pool.sources):
            for s, step in enumerate(steps):
                precisions = []
                for part in task.train.slices(*step, SLICES):
                    scores = _scores(vectors, task, part, trained, learn)
                    precisions.append([average_precision(each, task.test.truth) for each in scores])
                    done()
                curve[s, j, trained] = np.mean(precisions, axis=0)
            pooled[j, trained] = _pooled(scores, task.test, trained)
            for tested in range(pool.sources):
                path = "transfer", task.label, j, trained, tested
                low[j, trained, tested], high[j, trained, tested] = _interval(
                    pool.cluster[task.test.rows(tested)],
                    scores[tested],
                    task.test.truth == 1,
                    seeds.integer(seed, *path),
                )
    truth = first.test.truth
    matrix = Matrix(
        value=curve[-1],
        low=low,
        high=high,
        chance=float(truth.mean()),
        n_train=sum(steps[-1]),
        n_test=len(truth),
    )
    return Precision(
        matrix=matrix, sizes=np.array([p + q for p, q in steps], np.int64), curve=curve, pooled=pooled
    )


def _scores(vectors: Vectors, task: Task, train: Part, trained: int, learn: Learn) -> Floats:
    """Return float64[K, P + Q], log-odds of the class for the test images of every set."""
    test = np.concatenate([task.test.rows(source) for source in range(len(task.test.positive))])
    learned = _learned(
        vectors,
        [(train.rows(trained), train.truth), (task.validation.rows(trained), task.validation.truth)],
        test,
        learn,
        2,
    )
    probability = np.maximum(learned.probability, np.finfo(np.float64).tiny)
    # not the probability itself: it rounds to one where the log-odds still differ
    odds: Floats = np.log(probability[:, 1]) - np.log(probability[:, 0])
    return odds.reshape(len(task.test.positive), -1)


def _learned(
    vectors: Vectors, parts: Sequence[tuple[Rows, Labels]], test: Rows, learn: Learn, classes: int
) -> Learned:
    """Fit on the first part and tune on the second, each (rows, labels); vectors of other rows are not touched."""
    (train, first), (validation, second) = parts
    ends = np.cumsum([len(train), len(validation), len(test)])
    fold = Fold(
        train=np.arange(ends[0]),
        validation=np.arange(ends[0], ends[1]),
        test=np.arange(ends[1], ends[2]),
    )
    labels = np.concatenate([first, second, np.zeros(len(test), np.int64)])  # those of test rows are not read
    return learn(vectors[np.concatenate([train, validation, test])], labels, fold, classes, 0)


def _pooled(scores: Floats, test: Part, own: int) -> float:
    """Return the AP of one set's positives among as many negatives, taken from all sets in turn."""
    positives, negatives = test.positive.shape[1], test.negative.shape[1]
    number = np.arange(negatives)
    mixed = scores[(own + number) % len(scores), positives + number // len(scores)]
    return average_precision(np.concatenate([scores[own, :positives], mixed]), test.truth)


def _interval(clusters: Rows, scores: Floats, positive: NDArray[np.bool_], seed: int) -> tuple[float, float]:
    return cluster_bootstrap(
        clusters, lambda rows: average_precision(scores[rows], positive[rows]), draws=REDRAWS, seed=seed
    )


def all_classes(
    vectors: Vectors,
    pool: Pool,
    draws: Sequence[Sequence[Sequence[Rows]]],
    learn: Learn,
    done: Callable[[], None],
) -> Matrix:
    """Train to name the class among the transferred ones on each set and test on each set, in every draw.

    Args:
        vectors: float32[N, D] of the pool's images.
        pool: The images; at least two classes.
        draws: Rows by [draw][fold][set], as `sampling.balanced` gives them.
        learn: A classifier that tunes itself on the validation rows of its training set.
        done: Called after each training.
    """
    shape = len(draws), pool.sources, pool.sources
    value, low, high = np.empty(shape), np.empty(shape), np.empty(shape)
    for j, (train, validation, test) in enumerate(draws):
        for trained in range(pool.sources):
            parts = [(rows, pool.label[rows]) for rows in (train[trained], validation[trained])]
            learned = _learned(vectors, parts, np.concatenate(list(test)), learn, pool.classes)
            done()
            named = np.split(learned.probability.argmax(1), np.cumsum([len(rows) for rows in test])[:-1])
            for tested, (rows, said) in enumerate(zip(test, named, strict=True)):
                right = int((said == pool.label[rows]).sum())
                value[j, trained, tested] = right / len(rows)
                low[j, trained, tested], high[j, trained, tested] = clopper_pearson(right, len(rows))
    rows = draws[0][2][0]
    share = np.bincount(pool.label[rows]).max() / len(rows)
    return Matrix(
        value=value, low=low, high=high, chance=float(share), n_train=len(draws[0][0][0]), n_test=len(rows)
    )


def validated(vectors: Vectors, tasks: Sequence[Task], learn: Learn, done: Callable[[], None]) -> float:
    """Return the mean AP of tasks on the validation rows of their own training set; no test row is looked at."""
    found = []
    for task in tasks:
        own = Task(label=task.label, train=task.train, validation=task.validation, test=task.validation)
        for source in range(len(task.train.positive)):
            scores = _scores(vectors, own, task.train, source, learn)
            found.append(average_precision(scores[source], task.validation.truth))
            done()
    return float(np.mean(found))
