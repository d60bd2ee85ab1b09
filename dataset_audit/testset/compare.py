"""What models answered on two test sets, compared: gaps of models and classes; from here on there are no images."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from math import nan, sqrt
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from dataset_audit.stats.intervals import clopper_pearson, newcombe
from dataset_audit.stats.matched import mcnemar, paired_interval, pairs

Z = 1.959963984540054  # 97.5 % of a normal distribution lie below
CLUSTERED = 0.01  # share of images with a near-duplicate in their own set above which clusters are the units
Interval = Literal["newcombe", "paired", "clusters"]
Bools = NDArray[np.bool_]
Ints = NDArray[np.int64]


@dataclass(frozen=True, kw_only=True, eq=False)
class Exam:
    """One test set and what every model answered on it.

    Attributes:
        name: Short.
        label: int64[N], the right class.
        predicted: int64[N, M], by image and model.
        cluster: int64[N], near-duplicates share a number; all different where images were not compared.
        dropped: bool[N], it, or an image of its cluster, is nearly in the training set; None where none was searched.
    """

    name: str
    label: Ints
    predicted: Ints
    cluster: Ints
    dropped: Bools | None = None

    @cached_property
    def correct(self) -> Bools:
        """bool[N, M]."""
        right: Bools = self.predicted == self.label[:, None]
        return right

    def __len__(self) -> int:
        return len(self.label)

    @cached_property
    def clustered(self) -> float:
        """Share of images that have a near-duplicate in the same set."""
        _, inverse, counts = np.unique(self.cluster, return_inverse=True, return_counts=True)
        return float((counts[inverse] > 1).mean()) if len(self) else 0.0

    def only(self, rows: NDArray[np.integer] | Bools) -> Exam:
        """Return the exam on some of its images."""
        return Exam(
            name=self.name,
            label=self.label[rows],
            predicted=self.predicted[rows],
            cluster=self.cluster[rows],
            dropped=None if self.dropped is None else self.dropped[rows],
        )


@dataclass(frozen=True, kw_only=True)
class Gap:
    """A share on the original minus that on the new set, with its 95 % interval; NaN where it cannot be known."""

    value: float
    low: float
    high: float

    @property
    def verdict(self) -> Literal["harder", "easier", "no gap shown", "not measured"]:
        """What the interval says of the new set."""
        if not self.low <= self.high:
            return "not measured"
        if self.low > 0:
            return "harder"
        return "easier" if self.high < 0 else "no gap shown"


NO_GAP = Gap(value=nan, low=nan, high=nan)


@dataclass(frozen=True, kw_only=True)
class ModelGap:
    """One model on both sets.

    Attributes:
        model: Its name.
        n: Images of the original and the new set.
        correct: Right answers.
        interval: Exact (Clopper-Pearson) interval of each accuracy.
        gap: With the interval that ``kind`` names.
        p: Of "no gap": McNemar's exact test for pairs, the score test for two samples, a normal one over clusters.
        rank: 1 is the best; equally good models share the better rank.
        error_ratio: Errors on the new set per error on the original; NaN without errors there.
        without: The gap on images that are not nearly in the training set; NaN values where that is not known.
    """

    model: str
    n: tuple[int, int]
    correct: tuple[int, int]
    interval: tuple[tuple[float, float], tuple[float, float]]
    gap: Gap
    p: float
    rank: tuple[int, int]
    error_ratio: float
    without: Gap

    @property
    def accuracy(self) -> tuple[float, float]:
        """Shares right."""
        return self.correct[0] / self.n[0], self.correct[1] / self.n[1]


@dataclass(frozen=True, kw_only=True)
class ClassGap:
    """One class on both sets.

    Attributes:
        label: The class.
        n: Images of it.
        correct: Right answers of each model, int64[M] each.
        gap: Of the mean over models.
        by_model: Of each model.
    """

    label: int
    n: tuple[int, int]
    correct: tuple[Ints, Ints]
    gap: Gap
    by_model: tuple[Gap, ...]


def kind(exams: tuple[Exam, Exam], *, paired: bool) -> Interval:
    """Return which interval of a gap is right for these sets."""
    if max(exam.clustered for exam in exams) > CLUSTERED:
        return "clusters"
    return "paired" if paired else "newcombe"


def mean_gap(exams: tuple[Exam, Exam], *, paired: bool) -> Gap:
    """Return the gap of the mean over models, its interval over images.

    Models err on the same images, so M of them are far from M times the evidence: images, or clusters of them, are
    the units. The variance of a mean over clusters is C/(C − 1) Σ (Σ residuals of a cluster)²/N².
    """
    first, second = (exam.correct.mean(1) for exam in exams)
    return _gap(first, second, exams, paired=paired)


def _gap(
    first: NDArray[np.float64], second: NDArray[np.float64], exams: tuple[Exam, Exam], *, paired: bool
) -> Gap:
    """Return the gap of two columns of numbers per image, units clusters."""
    if not len(first) or not len(second):
        return NO_GAP
    value = float(first.mean() - second.mean())
    if paired:
        error = sqrt(_variance(first - second, exams[0].cluster))
    else:
        error = sqrt(_variance(first, exams[0].cluster) + _variance(second, exams[1].cluster))
    return Gap(value=value, low=value - Z * error, high=value + Z * error)


def _variance(values: NDArray[np.float64], cluster: Ints) -> float:
    """Return the variance of a mean over clusters, NaN with fewer than two."""
    _, inverse = np.unique(cluster, return_inverse=True)
    sums = np.bincount(inverse, weights=values - values.mean())
    count = len(sums)
    if count < 2:
        return nan
    return float((sums**2).sum()) * count / (count - 1) / len(values) ** 2


def model_gaps(names: tuple[str, ...], exams: tuple[Exam, Exam], *, paired: bool) -> list[ModelGap]:
    """Return each model on both sets, in the order given."""
    first, second = exams
    how = kind(exams, paired=paired)
    kept = _kept(exams, paired=paired)
    ranks = [_ranks(exam.correct.sum(0)) for exam in exams]
    found = []
    for column, name in enumerate(names):
        right = int(first.correct[:, column].sum()), int(second.correct[:, column].sum())
        sizes = len(first), len(second)
        wrong = [n - k for n, k in zip(sizes, right, strict=True)]
        gap = _model_gap(exams, column, how, paired=paired)
        found.append(
            ModelGap(
                model=name,
                n=sizes,
                correct=right,
                interval=(clopper_pearson(right[0], sizes[0]), clopper_pearson(right[1], sizes[1])),
                gap=gap,
                p=_p(exams, column, how, gap),
                rank=(int(ranks[0][column]), int(ranks[1][column])),
                error_ratio=wrong[1] / sizes[1] / (wrong[0] / sizes[0]) if wrong[0] else nan,
                without=NO_GAP if kept is None else _model_gap(kept, column, how, paired=paired),
            )
        )
    return found


def _p(exams: tuple[Exam, Exam], column: int, how: Interval, gap: Gap) -> float:
    """Return the two-sided p of "no gap" for one model; 1 where nothing varies."""
    from scipy.special import ndtr  # noqa: PLC0415 - as in stats

    first, second = (exam.correct[:, column] for exam in exams)
    if how == "paired":
        counts = pairs(first, second)
        return mcnemar(counts.first, counts.second)
    if how == "clusters":
        error = (gap.high - gap.low) / (2 * Z)
    else:
        n, m = len(first), len(second)
        pooled = (int(first.sum()) + int(second.sum())) / (n + m)
        error = sqrt(pooled * (1 - pooled) * (1 / n + 1 / m))
    return float(2 * ndtr(-abs(gap.value) / error)) if error > 0 else 1.0


def _kept(exams: tuple[Exam, Exam], *, paired: bool) -> tuple[Exam, Exam] | None:
    """Return the exams without images that are nearly in the training set; None if unknown, or if one is empty then."""
    first, second = exams
    if first.dropped is None or second.dropped is None:
        return None
    either = first.dropped | second.dropped if paired else None
    kept = (
        first.only(~(first.dropped if either is None else either)),
        second.only(~(second.dropped if either is None else either)),
    )
    return kept if len(kept[0]) and len(kept[1]) else None


def without_duplicates(exams: tuple[Exam, Exam], *, paired: bool) -> Gap:
    """Return the mean gap on images that are not nearly in the training set."""
    kept = _kept(exams, paired=paired)
    return NO_GAP if kept is None else mean_gap(kept, paired=paired)


def _model_gap(exams: tuple[Exam, Exam], column: int, how: Interval, *, paired: bool) -> Gap:
    first, second = (exam.correct[:, column] for exam in exams)
    if how == "clusters":
        return _gap(first.astype(np.float64), second.astype(np.float64), exams, paired=paired)
    return _counted(first, second, paired=paired)


def _counted(first: Bools, second: Bools, *, paired: bool) -> Gap:
    """Return the gap of one model on whole images, Newcombe's interval for pairs or for two samples."""
    if not len(first) or not len(second):
        return NO_GAP
    k, m = int(first.sum()), int(second.sum())
    low, high = paired_interval(pairs(first, second)) if paired else newcombe(k, len(first), m, len(second))
    return Gap(value=k / len(first) - m / len(second), low=low, high=high)


def _ranks(correct: NDArray[np.integer]) -> Ints:
    """Return int64[M], one more than the number of better ones."""
    better: Ints = (correct[None, :] > correct[:, None]).sum(1) + 1
    return better


def class_gaps(exams: tuple[Exam, Exam], classes: int, *, paired: bool) -> list[ClassGap]:
    """Return each class that either set has, in the order of classes; NaN gaps where one set lacks it."""
    found = []
    for label in range(classes):
        parts = exams[0].only(exams[0].label == label), exams[1].only(exams[1].label == label)
        if not len(parts[0]) and not len(parts[1]):
            continue
        columns = range(exams[0].predicted.shape[1])
        found.append(
            ClassGap(
                label=label,
                n=(len(parts[0]), len(parts[1])),
                correct=(parts[0].correct.sum(0), parts[1].correct.sum(0)),
                gap=mean_gap(parts, paired=paired),
                by_model=tuple(
                    _counted(parts[0].correct[:, m], parts[1].correct[:, m], paired=paired) for m in columns
                ),
            )
        )
    return found


def balanced_gap(gaps: list[ClassGap]) -> Gap:
    """Return the gap if every class were equally frequent in both sets: the mean over classes that both have.

    What is left of the gap without a different mix of classes. The interval takes classes as independent.
    """
    known = [each.gap for each in gaps if each.n[0] and each.n[1]]
    if not known:
        return NO_GAP
    value = float(np.mean([gap.value for gap in known]))
    errors = np.array([(gap.high - gap.low) / (2 * Z) for gap in known])
    error = sqrt(float((errors**2).sum())) / len(known)
    return Gap(value=value, low=value - Z * error, high=value + Z * error)
