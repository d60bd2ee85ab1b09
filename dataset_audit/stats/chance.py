"""What chance alone would do: null bands, p-values, and the smallest effect a test of a given size can see.

Accuracies are shares in [0, 1] on a test set on which guessing reaches ``chance``, 1/K for K sources of equal
size. Only the test half has a null: a bad classifier costs power, never validity (Lopez-Paz & Oquab 2017).
"""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil, inf, nan, sqrt

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dataset_audit.stats.agreement import auroc


def normalised(accuracy: float, sources: int) -> float:
    """Return (accuracy − 1/K)/(1 − 1/K): 0 at chance, 1 when every image is named; below chance is negative.

    Args:
        accuracy: Share of a balanced test set named correctly.
        sources: K, at least 2.
    """
    if sources < 2:
        raise ValueError(f"naming one of {sources} takes no skill")
    return (accuracy - 1 / sources) / (1 - 1 / sources)


def _tail(least: NDArray[np.int64], n: NDArray[np.int64], p: float) -> NDArray[np.float64]:
    """Return P(X ≥ least) of X ~ binomial(n, p), float64[N]; 0 where least > n."""
    from scipy.special import betainc  # noqa: PLC0415 - commands without tests do not wait for it

    inside = np.clip(least, 1, n)
    tail = np.asarray(betainc(inside, n - inside + 1, p), dtype=np.float64)
    return np.where(least <= 0, 1.0, np.where(least > n, 0.0, tail))


def _critical_counts(n: NDArray[np.int64], chance: float, alpha: float) -> NDArray[np.int64]:
    """Return the smallest counts k with P(X ≥ k) ≤ alpha under chance, int64[N]; n + 1 where there is none."""
    low, high = np.zeros_like(n), n + 1  # P(X ≥ low) > alpha ≥ P(X ≥ high)
    while np.any(high - low > 1):
        middle = (low + high) // 2
        rejects = _tail(middle, n, chance) <= alpha
        low, high = np.where(rejects, low, middle), np.where(rejects, middle, high)
    return high


def above_chance(successes: int, n: int, chance: float) -> float:
    """Return the one-sided exact binomial p-value: how often guessing names at least so many of n.

    Args:
        successes: Images named correctly, in [0, n].
        n: Test images, at least 1; independent ones, so one per duplicate cluster.
        chance: What guessing reaches, in (0, 1); the largest source's share if they are unequal.
    """
    if n < 1 or not 0 <= successes <= n:
        raise ValueError(f"{successes} of {n} is no proportion")
    return float(_tail(np.array([successes]), np.array([n]), chance)[0])


def null_band(n: int, chance: float, confidence: float = 0.95) -> tuple[float, float]:
    """Return the accuracies between which guessing on n images stays with this confidence, both ends included.

    One band in twenty misses at 95 %: for many looks take more confidence, or `holm`.

    Args:
        n: Test images, at least 1.
        chance: What guessing reaches, in (0, 1).
        confidence: In (0, 1); at most half of the rest lies outside at either side.
    """
    tail, size = (1 - confidence) / 2, np.array([n])
    # P(X ≤ k) = P(n − X ≥ n − k): the lower end is the upper one of failing
    most = int(_critical_counts(size, chance, tail)[0]) - 1
    fewest = n - int(_critical_counts(size, 1 - chance, tail)[0]) + 1
    return fewest / n, most / n


def critical(n: int, chance: float, alpha: float = 0.05) -> float:
    """Return the smallest accuracy on n images that rejects guessing one-sidedly; above 1 if none can."""
    return int(_critical_counts(np.array([n]), chance, alpha)[0]) / n


def least_test(sources: int, bias: float, alpha: float = 0.05, power: float = 0.9) -> int:
    """Return how many test images in all it takes to see a true normalised bias, by exact binomial tests.

    Power is a saw in n, since counts are whole: the number returned is the first after which it never again
    falls below ``power``.

    Args:
        sources: K, at least 2.
        bias: True normalised bias, in (0, 1].
        alpha: One-sided level of the test.
        power: How often the test must then reject.
    """
    from scipy.special import ndtri  # noqa: PLC0415 - as above

    if not 0 < bias <= 1:
        raise ValueError(f"a normalised bias to be seen lies in (0, 1], not at {bias}")
    p0 = 1 / sources
    p1 = p0 + bias * (1 - p0)
    spread = float(ndtri(1 - alpha)) * sqrt(p0 * (1 - p0)) + float(ndtri(power)) * sqrt(p1 * (1 - p1))
    start = ceil((spread / (p1 - p0)) ** 2)
    width = ceil(6 / (p1 - p0)) + 30  # one count more moves the answer by 1/(p1 − p0)
    while True:
        n = np.arange(max(start - width, 1), start + width + 1, dtype=np.int64)
        enough = _tail(_critical_counts(n, p0, alpha), n, p1) >= power
        failing = np.flatnonzero(~enough)
        if len(failing) and failing[-1] + 1 < len(n) - len(n) // 8:
            return int(n[failing[-1] + 1])
        if not len(failing) and n[0] == 1:
            return 1
        width *= 2


def blind_below(n_test: int, sources: int, alpha: float = 0.05, power: float = 0.9) -> float:
    """Return the smallest true normalised bias that a test on ``n_test`` images sees with this power.

    Infinite if the test set is so small that nothing on it could reject chance.

    Args:
        n_test: Test images in all.
        sources: K, at least 2.
        alpha: One-sided level of the test.
        power: How often the test must reject.
    """
    from scipy.special import betaincinv  # noqa: PLC0415 - as above

    count = int(_critical_counts(np.array([n_test]), 1 / sources, alpha)[0])
    if count > n_test:
        return inf
    return normalised(float(betaincinv(count, n_test - count + 1, power)), sources)


def c2st_power(epsilon: float, n_test: int, alpha: float = 0.05) -> float:
    """Return how often a two-sample test by a classifier of accuracy ½ + ε rejects, normal approximation.

    Φ((ε√n − Φ⁻¹(1 − α)/2)/√(¼ − ε²)).

    Args:
        epsilon: True accuracy minus one half, in [0, ½].
        n_test: Test images.
        alpha: One-sided level.

    Source: Lopez-Paz & Oquab 2017, theorem 1.
    """
    from scipy.special import ndtr, ndtri  # noqa: PLC0415 - as above

    distance, variance = epsilon * sqrt(n_test) - float(ndtri(1 - alpha)) / 2, 0.25 - epsilon**2
    if variance <= 0:
        return 1.0 if distance > 0 else 0.0
    return float(ndtr(distance / sqrt(variance)))


def permutation_p(observed: float, permuted: ArrayLike) -> float:
    """Return (1 + #{permuted ≥ observed})/(1 + B), which is never zero.

    Args:
        observed: The statistic on the true labels, high means more effect; NaN gives NaN.
        permuted: float[B], the same statistic refitted on permuted labels.
    """
    values = np.asarray(permuted, dtype=np.float64)
    if np.isnan(observed) or np.isnan(values).any():
        return nan
    return float(1 + np.count_nonzero(values >= observed)) / (1 + len(values))


def twice_median_p(ps: Sequence[float]) -> float:
    """Return one p-value for several of the same hypothesis, min(1, 2 × median), however they depend.

    Resamplings share images, so their tests may not be multiplied or pooled.

    Source: Rüschendorf 1982; Meinshausen, Meier & Bühlmann 2009.
    """
    if not len(ps):
        raise ValueError("no p-values")
    return min(1.0, 2 * float(np.median(np.asarray(ps, dtype=np.float64))))


def holm(ps: Sequence[float]) -> list[float]:
    """Return adjusted p-values in the order given; rejecting those ≤ α errs anywhere with probability ≤ α.

    Source: Holm 1979.
    """
    values = np.asarray(ps, dtype=np.float64)
    order = np.argsort(values, kind="stable")
    steps = np.maximum.accumulate(values[order] * np.arange(len(values), 0, -1))
    adjusted = np.empty_like(values)
    adjusted[order] = np.minimum(steps, 1.0)
    return [float(value) for value in adjusted]


def nadeau_bengio(values: Sequence[float], n_test: int, n_train: int) -> float:
    """Return the standard error of the mean over J resamplings, √((1/J + n_test/n_train)·s²).

    Their spread alone is too small, because the training sets of resamplings overlap.

    Args:
        values: One figure per resampling; NaN comes out for fewer than two.
        n_test: Test images of each.
        n_train: Training images of each, at least 1.

    Source: Nadeau & Bengio 2003.
    """
    if len(values) < 2:
        return nan
    variance = float(np.var(np.asarray(values, dtype=np.float64), ddof=1))
    return sqrt((1 / len(values) + n_test / n_train) * variance)


def drift(positive_scores: ArrayLike, negative_scores: ArrayLike) -> float:
    """Return 2·AUC − 1 of two samples of scores: 1 all positives above, 0 no order, −1 all below.

    Args:
        positive_scores: float[N], e.g. the probability of source A on A's images.
        negative_scores: float[M], the same probability on B's images.

    Returns:
        In [−1, 1], not clipped at 0; NaN if either is empty.
    """
    positive, negative = np.asarray(positive_scores, np.float64), np.asarray(negative_scores, np.float64)
    truth = np.arange(len(positive) + len(negative)) < len(positive)
    return 2 * auroc(np.concatenate([positive, negative]), truth) - 1
