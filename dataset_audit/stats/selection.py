"""What choosing the best does to its figure: how far the best of k overstates, and how long a test set lasts.

The best of several models on one test set looks better than it is, because luck is chosen together with merit. How
much better depends on how many were compared, how alike they are, and the size of the test set.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import inf, isinf, nan, sqrt

import numpy as np
from numpy.typing import NDArray

from dataset_audit import seeds

LARGEST = 10**15  # selections; beyond, a test set is as good as never worn out
DRAWS = 1000  # of the test images, for the empirical figure


def expected_maximum(k: int) -> float:
    """Return the mean of the largest of k independent standard normal numbers, eₖ = ∫ x k φ(x) Φ(x)^(k−1) dx.

    √(2 ln k), often put in its place, is 15 % too large at 1,000.

    Args:
        k: 1 to 10^15.

    Returns:
        0 at 1, 0.564 at 2, 3.241 at 1,000; correct to about 1e-9.

    Raises:
        ValueError: k is outside that range.
    """
    from scipy.special import log_ndtr  # noqa: PLC0415 - commands without it do not wait for scipy

    if not 1 <= k <= LARGEST:
        raise ValueError(f"{k} is not between 1 and {LARGEST}")
    if k == 1:
        return 0.0
    x = np.linspace(-12, 15, 2701)
    # a smooth function that vanishes at both ends: equal steps are as good as any rule
    density = np.exp(np.log(k) - x**2 / 2 + (k - 1) * log_ndtr(x)) / sqrt(2 * np.pi)
    return float((x * density).sum() * (x[1] - x[0]))


def best_of_bias(k: int, *, p: float, n: int, rho: float) -> float:
    """Return by how much the best of k equally good models overstates itself, SE·√(1 − ρ)·eₖ, a share.

    An upper bound in practice: models that differ in merit compete less. It holds for selections that do not look at
    the test set in between; where each new model is built upon what the last one scored, the worst case grows like
    √(k/n) (Feldman, Frostig & Hardt 2019).

    Args:
        k: Models compared, at least 1.
        p: True accuracy of each, in [0, 1].
        n: Test images.
        rho: Correlation of correctness between two models; below 0 counts as 0.

    Source: maximum of equicorrelated normal variables (Owen & Steck 1962).
    """
    return _scale(p=p, n=n, rho=rho) * expected_maximum(k)


def life(delta: float, *, p: float, n: int, rho: float) -> float:
    """Return the largest number of equally good models whose best overstates itself by less than ``delta``.

    Args:
        delta: The difference one wants to believe, a share.
        p: True accuracy.
        n: Test images.
        rho: Correlation of correctness between two models.

    Returns:
        At least 1, a whole number: 1 if even the better of two overstates itself by as much. Infinite beyond 10^15.
    """
    scale = _scale(p=p, n=n, rho=rho)
    if scale * expected_maximum(LARGEST) < delta:
        return inf
    low, high = 1, LARGEST  # low is below delta, high is not
    while high - low > 1:
        middle = (low + high) // 2
        if scale * expected_maximum(middle) < delta:
            low = middle
        else:
            high = middle
    return float(low)


def _scale(*, p: float, n: int, rho: float) -> float:
    if not 0 <= p <= 1 or n < 1 or rho > 1:
        raise ValueError(f"accuracy {p}, {n} images, correlation {rho}")
    return sqrt(p * (1 - p) / n * (1 - max(rho, 0.0)))


def agreement_of(correct: NDArray[np.bool_]) -> float:
    """Return the mean correlation of correctness over all pairs of models.

    Args:
        correct: bool[N, M], was model m right on image n?

    Returns:
        In [-1, 1]; models that are always or never right have no correlation and are left out. NaN with fewer than
        two others.
    """
    varies = correct.any(0) & ~correct.all(0)
    count = int(varies.sum())
    if count < 2:
        return nan
    values = correct[:, varies].astype(np.float64)
    values -= values.mean(0)
    values /= np.sqrt((values**2).sum(0))
    total = values.sum(1)  # the sum over all pairs of columns is the square of their sum
    return (float(total @ total) - count) / (count * (count - 1))


@dataclass(frozen=True, kw_only=True)
class Overstated:
    """What choosing on part of the images did, measured.

    Attributes:
        bias: Mean of accuracy there minus accuracy on the other images, of the model chosen there; a share.
        error: Standard error of that mean over the draws.
        size: Images chosen on.
        models: Models chosen among.
    """

    bias: float
    error: float
    size: int
    models: int


def subsampled(correct: NDArray[np.bool_], size: int, *, seed: int, draws: int = DRAWS) -> Overstated:
    """Choose the best model on a random part of the images and see how much worse it is on all others, many times.

    Needs no assumption about the models. Both parts come from the same draw of images, so the figure is about
    choosing, not about a shift between two sets.

    Args:
        correct: bool[N, M], was model m right on image n?
        size: Images to choose on, 1 to N − 1.
        seed: Of the draws.
        draws: How many.

    Raises:
        ValueError: There is no rest to check on, or no model.
    """
    n, models = correct.shape
    if not 1 <= size < n or models < 1:
        raise ValueError(f"{size} of {n} images, {models} models")
    rng = seeds.rng(seed, "subsampled")
    weight = np.ascontiguousarray(correct.T, np.float32)  # sums of less than 2^24 ones are exact
    total = correct.sum(0)
    found = np.empty(draws)
    for start in range(0, draws, 64):
        chosen = np.zeros((n, min(64, draws - start)), np.float32)
        for column in range(chosen.shape[1]):
            chosen[rng.permutation(n)[:size], column] = 1
        inside = (weight @ chosen).T  # right answers, by draw and model
        best = inside == inside.max(1, keepdims=True)  # of several equally good ones the mean
        outside = ((total - inside) * best).sum(1) / best.sum(1)
        found[start : start + len(inside)] = inside.max(1) / size - outside / (n - size)
    return Overstated(
        bias=float(found.mean()), error=float(found.std() / sqrt(draws)), size=size, models=models
    )


@dataclass(frozen=True, kw_only=True)
class Rung:
    """What the ladder says of one result.

    Attributes:
        counted: It beats the best counted before by more than one standard error of the paired difference.
        shown: Accuracy that may be published: the last counted one.
        margin: What it had to exceed, a share; 0 for the first.
    """

    counted: bool
    shown: float
    margin: float


def ladder(correct: NDArray[np.bool_]) -> list[Rung]:
    """Say, in the order in which models were submitted, which results may be counted.

    A new best counts only if it beats the last counted one by more than s/√n, with s the standard deviation of the
    difference image by image: who submits often learns little about the test set.

    Args:
        correct: bool[N, M], columns in the order of submission.

    Source: Blum & Hardt 2015, the parameter-free ladder (figure 2). Differs: the published figure is not rounded
    to 1/n, which it is already.
    """
    rungs: list[Rung] = []
    best: NDArray[np.bool_] | None = None
    for column in correct.T:
        if best is None:
            rungs.append(Rung(counted=True, shown=float(column.mean()), margin=0.0))
            best = column
            continue
        gain = column.astype(np.int8) - best
        margin = float(gain.std(ddof=1)) / sqrt(len(gain)) if len(gain) > 1 else inf
        counted = float(gain.mean()) > margin
        best = column if counted else best
        rungs.append(Rung(counted=counted, shown=float(best.mean()), margin=margin))
    return rungs


def whole(count: float) -> int | None:
    """Return a number of selections as JSON can hold it: None where it is infinite."""
    return None if isinf(count) else int(count)
