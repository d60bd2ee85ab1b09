"""QUALITY: how well a label fits out-of-fold probabilities; the peers that scores of training are compared with.

The formulas are those of confident learning's reference implementation, ``cleanlab`` (Northcutt et al. 2021), computed
anew and in whole arrays. Low is suspicious for every one of them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

Probabilities = NDArray[np.float64]
Labels = NDArray[np.int64]

LEAST: Final = 1e-6  # a probability below it counts as this: one example must not decide by being impossible


def self_confidence(probabilities: Probabilities, labels: Labels) -> NDArray[np.float64]:
    """Return the probability of the given label, P[y], float64[N] in [0, 1]; low is suspicious.

    Args:
        probabilities: float64[N, C], rows sum to one; of a network that was not trained on the row.
        labels: int64[N] in [0, C).

    Source: Northcutt et al. 2021.
    """
    return np.asarray(probabilities[np.arange(len(labels)), labels], np.float64)


def normalised_margin(probabilities: Probabilities, labels: Labels) -> NDArray[np.float64]:
    """Return (P[y] - max over k != y of P[k] + 1) / 2, float64[N] in [0, 1]; low is suspicious.

    Args:
        probabilities: float64[N, C], C at least two.
        labels: int64[N] in [0, C).

    Source: Northcutt et al. 2021; below 1/2 another class is likelier than the label.
    """
    others = probabilities.copy()
    others[np.arange(len(labels)), labels] = -np.inf
    likeliest: NDArray[np.float64] = others.max(axis=1)
    return (self_confidence(probabilities, labels) - likeliest + 1) / 2


def confidence_weighted_entropy(probabilities: Probabilities, labels: Labels) -> NDArray[np.float64]:
    """Return log(1 + x) / x with x = H(P) / (log C · P[y]), float64[N] in (0, 1]; low is suspicious.

    H is the entropy in nats, so H / log C lies in [0, 1].

    Args:
        probabilities: float64[N, C], C at least two.
        labels: int64[N] in [0, C).

    Source: cleanlab. Differs: at x = 0 the value is its limit, 1. There, x below 1e-6 is divided by 1e-6, which gives
    the surest examples the lowest quality of all.
    """
    safe = np.where(probabilities > 0, probabilities, 1.0)  # 0 log 0 = 0
    entropy = -(probabilities * np.log(safe)).sum(axis=1) / np.log(probabilities.shape[1])
    x = np.maximum(entropy, 0.0) / np.maximum(self_confidence(probabilities, labels), LEAST)
    tiny = x < LEAST**2
    return np.where(tiny, 1.0, np.log1p(x) / np.where(tiny, 1.0, x))


@dataclass(frozen=True)
class Quality:
    """One measure of label quality: how it is computed, and in a phrase."""

    compute: Callable[[Probabilities, Labels], NDArray[np.float64]]
    formula: str


QUALITY: Final[dict[str, Quality]] = {
    "self_confidence": Quality(self_confidence, "P[y]"),
    "normalised_margin": Quality(normalised_margin, "(P[y] - max over k != y of P[k] + 1) / 2"),
    "confidence_weighted_entropy": Quality(
        confidence_weighted_entropy, "log(1 + x) / x, x = entropy / (log C P[y])"
    ),
}


def suggested(probabilities: Probabilities, labels: Labels) -> NDArray[np.int64]:
    """Return the likeliest class where it is another than the label, else -1, int64[N].

    A label that ties for the largest probability stays.

    Args:
        probabilities: float64[N, C].
        labels: int64[N] in [0, C).
    """
    best = probabilities.argmax(axis=1)
    keeps = self_confidence(probabilities, labels) >= probabilities.max(axis=1)
    return np.where(keeps, -1, best)
