"""From what a network said of the test set to figures: accuracy with its interval, classes, calibration."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dataset_audit.stats.intervals import clopper_pearson

BINS = 15


@dataclass(frozen=True, kw_only=True, eq=False)
class Measured:
    """Figures of one trained network on one test set.

    Attributes:
        accuracy: Share right.
        low: Low end of its exact 95 % interval over test examples.
        high: High end.
        recall: float64[C], share right of each class; NaN for a class the test set lacks.
        worst: The class with the lowest recall.
        ece: Expected calibration error, in [0, 1].
        loss: Mean cross-entropy, nats.
    """

    accuracy: float
    low: float
    high: float
    recall: NDArray[np.float64]
    worst: int
    ece: float
    loss: float


def measured(
    predicted: NDArray[np.int64],
    confidence: NDArray[np.float32],
    loss: NDArray[np.float32],
    labels: NDArray[np.int64],
    classes: int,
) -> Measured:
    """Return the figures of one network; arrays have one entry per test example, M ≥ 1."""
    right = predicted == labels
    counts = np.bincount(labels, minlength=classes)
    with np.errstate(invalid="ignore"):
        recall = np.bincount(labels, weights=right, minlength=classes) / counts
    low, high = clopper_pearson(int(right.sum()), len(right))
    return Measured(
        accuracy=float(right.mean()),
        low=low,
        high=high,
        recall=recall,
        worst=int(np.nanargmin(recall)),
        ece=calibration_error(confidence, right),
        loss=float(np.mean(loss, dtype=np.float64)),
    )


def calibration_error(confidence: NDArray[np.float32], right: NDArray[np.bool_], bins: int = BINS) -> float:
    """Return the expected calibration error: the mean over examples of |accuracy − confidence| of their bin.

    Args:
        confidence: float[M], probability of the predicted class, in [0, 1].
        right: bool[M].
        bins: Of equal width over [0, 1], each closed above. The value depends on their number.

    Source: Naeini et al. 2015; 15 bins as in Guo et al. 2017.
    """
    place = np.clip(np.ceil(np.asarray(confidence, np.float64) * bins).astype(np.int64) - 1, 0, bins - 1)
    said = np.bincount(place, weights=confidence, minlength=bins)
    true = np.bincount(place, weights=right, minlength=bins)
    return float(np.abs(said - true).sum() / len(right))
