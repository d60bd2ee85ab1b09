"""How long a test set can go on being used for selection, from what the models at hand are like."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import isnan, nan, sqrt
from typing import Final

import numpy as np
from numpy.typing import NDArray

from dataset_audit.stats.selection import (
    Overstated,
    agreement_of,
    best_of_bias,
    life,
    subsampled,
)

TOP: Final = 12  # the models that a selection is about: the best ones
ENOUGH: Final = 5  # models for the empirical figure
DIFFERENCES: Final = (0.002, 0.005, 0.01)  # shares that one may want to believe
CURVE: Final = (1000, 2000, 5000, 10_000, 20_000, 50_000, 100_000)  # test images, for the chart

Bools = NDArray[np.bool_]


@dataclass(frozen=True, kw_only=True)
class Life:
    """Selections until the best overstates itself by ``difference``; infinite where it never does."""

    difference: float
    selections: float


@dataclass(frozen=True, kw_only=True)
class Choosing:
    """What choosing on part of the images did, and what the formula says of it."""

    measured: Overstated
    formula: float


@dataclass(frozen=True, kw_only=True)
class Wear:
    """One test set as a place to choose models on.

    Attributes:
        n: Images.
        models: Models the figures are taken from, the best ``TOP``.
        accuracy: Their mean accuracy.
        rho: Mean correlation of their correctness; 0 is taken where it is not known.
        known: Whether it is.
        error: Standard error of one accuracy on this set.
        neighbours: Median difference between neighbours in rank among them that are not equal; NaN if none.
        selections: k, how often was chosen.
        bias: By how much the best of k overstates itself.
        lives: At the differences asked about; the first is ``neighbours`` where that is known.
        choosing: By number of images; empty with fewer than five models.
    """

    n: int
    models: int
    accuracy: float
    rho: float
    known: bool
    error: float
    neighbours: float
    selections: int
    bias: float
    lives: tuple[Life, ...]
    choosing: tuple[Choosing, ...]

    def bias_at(self, n: int, k: int) -> float:
        """Return the bias on a set of another size."""
        return best_of_bias(k, p=self.accuracy, n=n, rho=self.rho)


def wear(
    correct: Bools, *, selections: int | None, difference: float | None, seed: int, draws: int = 1000
) -> Wear:
    """Return what a test set is worth for selection.

    Args:
        correct: bool[N, M].
        selections: How often was chosen; None takes the number of models.
        difference: A further difference one wants to believe, a share.
        seed: Of the draws of the empirical figure.
        draws: Of images, for it.
    """
    n, count = correct.shape
    shares = correct.mean(0)
    best = np.argsort(-shares, kind="stable")[:TOP]
    accuracy, rho = float(shares[best].mean()), agreement_of(correct[:, best])
    known = not isnan(rho)
    rho = max(rho, 0.0) if known else 0.0
    steps = -np.diff(shares[best])
    neighbours = round(float(np.median(steps[steps > 0])), 9) if (steps > 0).any() else nan
    asked = [
        *([] if isnan(neighbours) else [neighbours]),
        *([] if difference is None else [difference]),
        *DIFFERENCES,
    ]
    k = count if selections is None else selections
    return Wear(
        n=n,
        models=len(best),
        accuracy=accuracy,
        rho=rho,
        known=known,
        error=sqrt(accuracy * (1 - accuracy) / n),
        neighbours=neighbours,
        selections=k,
        bias=best_of_bias(k, p=accuracy, n=n, rho=rho),
        lives=tuple(
            Life(difference=each, selections=life(each, p=accuracy, n=n, rho=rho))
            for each in dict.fromkeys(round(each, 9) for each in asked)
        ),
        choosing=tuple(_choosing(correct[:, best], accuracy, rho, seed=seed, draws=draws))
        if count >= ENOUGH and n > 1
        else (),
    )


def _choosing(correct: Bools, accuracy: float, rho: float, *, seed: int, draws: int) -> Sequence[Choosing]:
    n, count = correct.shape
    found = []
    for size in (1000, n // 2) if n >= 4000 else (max(n // 2, 1),):
        measured = subsampled(correct, size, seed=seed, draws=draws)
        # the other images are as new to the chosen model as any, so the formula is that of the part alone
        found.append(Choosing(measured=measured, formula=best_of_bias(count, p=accuracy, n=size, rho=rho)))
    return found
