"""Across models: whether both test sets order them alike, and on which line their accuracies lie."""

from __future__ import annotations

from dataclasses import dataclass
from math import nan

import numpy as np
from numpy.typing import NDArray

from dataset_audit import seeds
from dataset_audit.stats.agreement import pearson, spearman
from dataset_audit.stats.fits import Fit, kendall, least_squares, line_interval, probit_line
from dataset_audit.testset.compare import Bools, Exam, Ints

DRAWS = 500  # of images, for the slope


@dataclass(frozen=True, kw_only=True)
class Order:
    """How far both sets order the models alike.

    Attributes:
        spearman: Of the accuracies; NaN below two models or where all are equal.
        kendall: τ-b.
        pearson: Of the accuracies themselves.
        swapped: Pairs of models that the new set orders the other way round.
        told_apart: Pairs that the original set tells apart at 5 % (McNemar, paired, no correction).
        reversed: Of those, pairs that the new set tells apart the other way round.
        pairs: All pairs.
    """

    spearman: float
    kendall: float
    pearson: float
    swapped: int
    told_apart: int
    reversed: int
    pairs: int


@dataclass(frozen=True, kw_only=True)
class Lines:
    """Accuracy on the new set as a line of that on the original, in shares and on normal quantiles.

    Attributes:
        plain: In shares.
        slope: 95 % interval of its slope over redrawn models.
        intercept: Likewise.
        over_images: 95 % interval of the slope over redrawn images, or clusters of them, the models as they are.
        reliability: Share of the variance between the models' accuracies on the original that is no luck of its
            images, in [0, 1]. Luck there is not repeated elsewhere and makes the slope smaller by this factor; that of
            the same images is, so for pairs it is 1.
        probit: On normal quantiles.
        probit_slope: 95 % interval of that slope over redrawn models.
    """

    plain: Fit
    slope: tuple[float, float]
    intercept: tuple[float, float]
    over_images: tuple[float, float]
    reliability: float
    probit: Fit
    probit_slope: tuple[float, float]


def order(exams: tuple[Exam, Exam]) -> Order:
    """Return how far both sets order the models alike."""
    first, second = (exam.correct.sum(0) for exam in exams)
    margins = [_margins(exam.correct) for exam in exams]
    upper = np.triu_indices(len(first), 1)
    one, other = (margin[0][upper] for margin in margins)
    sure = [margin[1][upper] for margin in margins]
    turned = one * other < 0
    return Order(
        spearman=spearman(first, second) if len(first) > 1 else nan,
        kendall=kendall(first, second) if len(first) > 1 else nan,
        pearson=pearson(first, second) if len(first) > 1 else nan,
        swapped=int(turned.sum()),
        told_apart=int(sure[0].sum()),
        reversed=int((turned & sure[0] & sure[1]).sum()),
        pairs=len(one),
    )


def _margins(correct: Bools) -> tuple[Ints, Bools]:
    """Return int64[M, M], by how many right answers one model leads, and bool[M, M], whether that is no chance."""
    from scipy.special import bdtr  # noqa: PLC0415 - as in stats

    counts = correct.astype(np.float32)  # sums of less than 2^24 ones are exact
    alone = (counts.T @ (1 - counts)).astype(np.int64)
    # McNemar's exact test of all pairs at once
    p = np.minimum(1, 2 * bdtr(np.minimum(alone, alone.T).astype(np.float64), alone + alone.T, 0.5))
    return alone - alone.T, p <= 0.05


def lines(exams: tuple[Exam, Exam], *, paired: bool, seed: int) -> Lines:
    """Return the lines of accuracy on the new set over that on the original.

    Few models that lie on a line by the luck of their images have a short interval over models, so the one over
    images is needed beside it.
    """
    from scipy.special import ndtri  # noqa: PLC0415 - as in stats

    x, y = (exam.correct.mean(0) for exam in exams)
    slope, intercept = line_interval(x, y, seed=seed)
    inside = (x > 0) & (x < 1) & (y > 0) & (y < 1)
    probit_slope, _ = line_interval(ndtri(x[inside]), ndtri(y[inside]), seed=seed)
    return Lines(
        plain=least_squares(x, y),
        slope=slope,
        intercept=intercept,
        over_images=_over_images(exams, paired=paired, seed=seed),
        reliability=1.0 if paired else reliability(exams[0]),
        probit=probit_line(x, y),
        probit_slope=probit_slope,
    )


def reliability(exam: Exam) -> float:
    """Return the share of the variance between accuracies that is not the luck of the images; 0 where there is none.

    Luck alone makes Σ(x − x̄)² = tr(C) − ΣC/M on average, with C the covariance of the M accuracies, that of correctness
    over the number of images: what models get right together does not part them.

    Source: errors in variables, Fuller 1987, section 1.1.
    """
    x = exam.correct.mean(0)
    total = float(((x - x.mean()) ** 2).sum())
    if len(exam) < 2 or total == 0:
        return 0.0
    together = exam.correct - x
    covariance = together.T @ together / (len(exam) - 1) / len(exam)
    luck = float(np.trace(covariance) - covariance.sum() / len(x))
    return min(1.0, max(0.0, 1 - luck / total))


def _over_images(exams: tuple[Exam, Exam], *, paired: bool, seed: int) -> tuple[float, float]:
    """Return the percentile interval of the slope over redrawn clusters; the same ones of both sets where paired."""
    drawn = []
    for side, exam in enumerate(exams):
        path = "over-images", 0 if paired else side
        drawn.append(_redrawn(exam, seeds.rng(seed, *path)))
    x, y = drawn
    centred = x - x.mean(1, keepdims=True)
    spread = (centred**2).sum(1)
    varies = spread > 0
    if not varies.any():
        return nan, nan
    slopes = (centred * y).sum(1)[varies] / spread[varies]
    low, high = np.quantile(slopes, [0.025, 0.975])
    return float(low), float(high)


def _redrawn(exam: Exam, rng: np.random.Generator) -> NDArray[np.float64]:
    """Return float64[DRAWS, M], accuracies on redrawn clusters."""
    _, inverse = np.unique(exam.cluster, return_inverse=True)
    count = int(inverse.max()) + 1
    sizes = np.bincount(inverse).astype(np.float64)
    right = np.stack([np.bincount(inverse, weights=column) for column in exam.correct.T])
    found = np.empty((DRAWS, len(right)))
    for draw in range(DRAWS):
        times = np.bincount(rng.integers(0, count, count), minlength=count)
        found[draw] = right @ times / (sizes @ times)
    return found
