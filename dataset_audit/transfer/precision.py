"""How well a score finds one class, and how well the source alone would."""

from __future__ import annotations

from math import nan

import numpy as np
from numpy.typing import ArrayLike, NDArray


def average_precision(scores: ArrayLike, positive: ArrayLike) -> float:
    """Return the mean, over positives, of the precision at each one's score; images that tie stand together.

    The precision-recall curve is not interpolated. Guessing gives about the share of positives, so figures of two
    test sets compare only where that share is the same.

    Args:
        scores: float[N], higher = more of the class.
        positive: bool[N].

    Returns:
        A share in [0, 1]; NaN without positives.
    """
    values, truth = np.asarray(scores, np.float64), np.asarray(positive, np.bool_)
    order = np.argsort(-values, kind="stable")
    ordered = values[order]
    last = np.flatnonzero(np.append(ordered[1:] != ordered[:-1], True)) if len(ordered) else np.empty(0, int)
    found = np.cumsum(truth[order])[last]
    if not len(found) or not found[-1]:
        return nan
    return float(np.sum(np.diff(found, prepend=0) * found / (last + 1)) / found[-1])


def source_only_auc(positives: ArrayLike, negatives: ArrayLike) -> float:
    """Return the AUC of a classifier that sees no picture: it scores each one by its source's share of positives.

    0.5 where the class is as frequent in every source. Above, a model trained on the sources together can gain by
    telling them apart, and part of its AUC on their mixture is no skill at the task.

    Args:
        positives: float[K], images of the class in each source.
        negatives: float[K], all others.

    Returns:
        A share in [0.5, 1]; NaN where there are no positives or no negatives.

    Source: Zech et al. 2018.
    """
    yes, no = np.asarray(positives, np.float64), np.asarray(negatives, np.float64)
    if not yes.sum() or not no.sum():
        return nan
    total = yes + no
    share = np.divide(yes, total, out=np.zeros_like(yes), where=total > 0)
    above = (share[:, None] > share[None, :]) + 0.5 * (share[:, None] == share[None, :])
    return float(_shares(yes) @ above @ _shares(no))


def _shares(counts: NDArray[np.float64]) -> NDArray[np.float64]:
    shares: NDArray[np.float64] = counts / counts.sum()
    return shares
