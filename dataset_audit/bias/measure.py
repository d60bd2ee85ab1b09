"""What one probe achieves under one control: who was named right, out of fold, and the figures that follow."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from time import perf_counter

import numpy as np
from numpy.typing import NDArray

from dataset_audit.probes.classify import Fold, Labels, Vectors
from dataset_audit.probes.registry import PROBES, View
from dataset_audit.stats.chance import above_chance, drift, nadeau_bengio, normalised, twice_median_p
from dataset_audit.stats.intervals import clopper_pearson


@dataclass(frozen=True, kw_only=True, eq=False)
class Trial:
    """Pictures, labels and folds that one or more probes are tried on.

    Attributes:
        name: Of the control, and of its part where it has several.
        view: M pictures as shown.
        labels: int64[M], 0 to K - 1: what is to be named.
        clusters: int64[M], duplicates share a number.
        rows: int64[M], which pictures of the stock these are.
        folds: Rows within the M.
        probes: Names of PROBES to try, cheapest first.
        network_folds: On how many of the folds the network is tried; 0 is all.
    """

    name: str
    view: View
    labels: Labels
    clusters: NDArray[np.int64]
    rows: NDArray[np.int64]
    folds: Sequence[Fold]
    probes: tuple[str, ...]
    network_folds: int = 0

    @property
    def classes(self) -> int:
        """K."""
        return int(self.labels.max()) + 1


@dataclass(frozen=True, kw_only=True, eq=False)
class Outcome:
    """What a probe said of the pictures it was tested on, each tested in one fold.

    Attributes:
        trial: Name of the trial.
        probe: Name of the probe.
        rows: int64[T], pictures of the stock.
        labels: int64[T].
        clusters: int64[T].
        fold: int64[T], the fold in which it was tested.
        trained: Mean number of training rows of a fold.
        probability: float64[T, K].
        validation: Accuracy on validation rows, mean over folds: the one figure that may choose a probe.
        seconds: Of fitting.
    """

    trial: str
    probe: str
    rows: NDArray[np.int64]
    labels: Labels
    clusters: NDArray[np.int64]
    fold: NDArray[np.int64]
    trained: float
    probability: NDArray[np.float64]
    validation: float
    seconds: float

    @property
    def correct(self) -> NDArray[np.bool_]:
        """bool[T]."""
        right: NDArray[np.bool_] = self.probability.argmax(1) == self.labels
        return right

    @property
    def classes(self) -> int:
        """K."""
        return int(self.probability.shape[1])


def outcome(
    trial: Trial, probe: str, said: Sequence[tuple[NDArray[np.float64], float]], seconds: float
) -> Outcome:
    """Return the outcome of (probabilities of the test rows, validation accuracy) of the first folds of a trial."""
    used = trial.folds[: len(said)]
    tested = np.concatenate([fold.test for fold in used])
    return Outcome(
        trial=trial.name,
        probe=probe,
        rows=trial.rows[tested],
        labels=trial.labels[tested],
        clusters=trial.clusters[tested],
        fold=np.repeat(np.arange(len(used)), [len(fold.test) for fold in used]),
        trained=float(np.mean([len(fold.train) for fold in used])),
        probability=np.concatenate([probability for probability, _ in said]),
        validation=float(np.mean([validation for _, validation in said])),
        seconds=seconds,
    )


def try_probe(trial: Trial, probe: str, seed: int) -> Outcome:
    """Fit one probe that works on vectors, on every fold of a trial."""
    known = PROBES[probe]
    if known.vectors is None or known.learn is None:
        raise ValueError(f"{probe} does not work on vectors")
    began = perf_counter()
    vectors = known.vectors(trial.view)
    said = []
    for fold in trial.folds:
        learned = known.learn(vectors, trial.labels, fold, trial.classes, seed)
        said.append((learned.probability, learned.validation))
    return outcome(trial, probe, said, perf_counter() - began)


@dataclass(frozen=True, kw_only=True)
class Figures:
    """One outcome in numbers, as shares.

    Attributes:
        accuracy: Mean over folds.
        low: Of the exact 95 % interval at that accuracy with the clusters of one fold; folds share training pictures,
            so their tests are never added up.
        high: Likewise.
        chance: 1/K.
        p: One-sided exact binomial against chance, twice the median of the folds'.
        bias: Normalised, (accuracy - 1/K)/(1 - 1/K).
        balanced: Mean recall.
        folds: Accuracy of each.
        error: Standard error of the mean over folds (Nadeau & Bengio 2003); NaN for one fold.
        tested: Clusters of the smallest fold.
        trained: Training rows of a fold, mean.
        validation: Accuracy on validation rows.
        seconds: Of fitting.
    """

    accuracy: float
    low: float
    high: float
    chance: float
    p: float
    bias: float
    balanced: float
    folds: tuple[float, ...]
    error: float
    tested: int
    trained: float
    validation: float
    seconds: float


def figures(found: Outcome) -> Figures:
    """Return the figures of an outcome; the unit of every test is the cluster."""
    chance = 1 / found.classes
    accuracies, ps, tested = [], [], []
    for fold in np.unique(found.fold):
        mine = found.fold == fold
        accuracy, clusters = float(found.correct[mine].mean()), len(np.unique(found.clusters[mine]))
        accuracies.append(accuracy)
        tested.append(clusters)
        ps.append(above_chance(int(accuracy * clusters + 1e-9), clusters, chance))
    mean, fewest = float(np.mean(accuracies)), min(tested)
    low, high = clopper_pearson(round(mean * fewest), fewest)
    recalls = [
        float(found.correct[found.labels == label].mean())
        for label in range(found.classes)
        if (found.labels == label).any()
    ]
    return Figures(
        accuracy=mean,
        low=low,
        high=high,
        chance=chance,
        p=twice_median_p(ps) if len(ps) > 1 else ps[0],
        bias=normalised(mean, found.classes),
        balanced=float(np.mean(recalls)),
        folds=tuple(accuracies),
        error=nadeau_bengio(accuracies, fewest, int(found.trained)),
        tested=fewest,
        trained=found.trained,
        validation=found.validation,
        seconds=found.seconds,
    )


def confusion(found: Outcome) -> NDArray[np.float64]:
    """Return float64[K, K]: of the pictures of source i, the share named j; rows sum to one."""
    counts = np.zeros((found.classes, found.classes))
    np.add.at(counts, (found.labels, found.probability.argmax(1)), 1)
    shares: NDArray[np.float64] = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    return shares


def pairwise(found: Outcome) -> NDArray[np.float64]:
    """Return float64[K, K], symmetric: 2 AUC - 1 between two sources, zero on the diagonal.

    From the probabilities of all K, restricted to the two and made to sum to one; the domain classifiers of drift
    detectors report the same number. Not clipped at zero. Mean over folds, whose scores are not comparable.
    """
    drifts = np.zeros((found.classes, found.classes))
    for first in range(found.classes):
        for second in range(first + 1, found.classes):
            both = found.probability[:, first] + found.probability[:, second]
            undecided = np.full(len(both), 0.5)  # as where a third source took all, to the last digit
            share = np.divide(found.probability[:, first], both, out=undecided, where=both > 0)
            each = []
            for fold in np.unique(found.fold):
                mine = found.fold == fold
                here, there = mine & (found.labels == first), mine & (found.labels == second)
                if here.any() and there.any():
                    each.append(drift(share[here], share[there]))
            drifts[first, second] = drifts[second, first] = float(np.mean(each)) if each else np.nan
    return drifts


def without_easiest(found: Outcome) -> tuple[int, float]:
    """Return the source with the highest recall and the normalised bias among the others, NaN for two sources.

    One exotic set can carry the whole figure; the others are named from the same probabilities without it.
    """
    shares = np.diag(confusion(found))
    easiest = int(shares.argmax())
    if found.classes < 3:
        return easiest, float("nan")
    left = found.labels != easiest
    others = np.delete(found.probability[left], easiest, axis=1)
    truth = found.labels[left] - (found.labels[left] > easiest)
    return easiest, normalised(float((others.argmax(1) == truth).mean()), found.classes - 1)


def typicality(found: Outcome) -> NDArray[np.float64]:
    """Return float64[T], log-odds of each picture's own source, out of fold; high gives its set away.

    Probabilities are kept a millionth away from zero and one.
    """
    own = np.clip(found.probability[np.arange(len(found.labels)), found.labels], 1e-6, 1 - 1e-6)
    odds: NDArray[np.float64] = np.log(own / (1 - own))
    return odds


def permuted_labels(labels: Labels, clusters: NDArray[np.int64], rng: np.random.Generator) -> Labels:
    """Return int64[N], the labels dealt out anew among clusters of the same size, so that duplicates stay together."""
    order = np.argsort(clusters, kind="stable")
    _, starts, sizes = np.unique(clusters[order], return_index=True, return_counts=True)
    dealt = labels.copy()
    for size in np.unique(sizes):
        which = starts[sizes == size]
        places = order[which[:, None] + np.arange(size)[None, :]]
        dealt[places] = labels[places[rng.permutation(len(places))]]
    return dealt


def permutation_null(
    vectors: Vectors, trial: Trial, draws: int, rng: np.random.Generator
) -> tuple[float, NDArray[np.float64]]:
    """Return (accuracy on the true labels, float64[draws] accuracies on permuted ones) of a least-squares classifier.

    Refitted for every permutation of the labels over clusters, on the first fold. Ridge regression on one-hot labels
    with a penalty of one tenth of the mean eigenvalue: one decomposition serves all draws.
    """
    fold = trial.folds[0]
    shown = np.nan_to_num(vectors.astype(np.float64), nan=-1.0)
    seen = shown[fold.train]
    std = seen.std(0)
    varies = std > 1e-6
    scaled = np.clip((shown[:, varies] - seen.mean(0)[varies]) / std[varies], -20, 20)
    learn, judge = scaled[fold.train], scaled[fold.test]
    kernel = learn @ learn.T
    penalty = 0.1 * max(float(np.trace(kernel)) / max(1, len(kernel)), 1e-9)
    weights = np.linalg.solve(kernel + penalty * np.eye(len(kernel)), learn @ judge.T).T

    def accuracy(labels: Labels) -> float:
        onehot = np.eye(trial.classes)[labels[fold.train]]
        scores = weights @ (onehot - onehot.mean(0))
        return float((scores.argmax(1) == labels[fold.test]).mean())

    observed = accuracy(trial.labels)
    return observed, np.array(
        [accuracy(permuted_labels(trial.labels, trial.clusters, rng)) for _ in range(draws)]
    )
