"""What the matrix of scores says, row = trained on, column = tested on.

Scores are shares in [0, 1] everywhere, never percent: a measure that is bounded in percent looks right and says
nothing when it is fed shares, so anything above 1 is refused.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

Scores = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, eq=False)
class Measures:
    """The margins of a matrix of scores over K sources.

    Attributes:
        own: float64[K], trained and tested on the same source: the diagonal.
        row_others: float64[K], mean of a source's classifier on all others.
        column_others: float64[K], mean of all other classifiers on this source.
        row_drop: float64[K], share of its own score that a classifier loses elsewhere. Negative if its own test
            set is the harder one; never clipped. NaN where ``own`` is 0.
        column_drop: float64[K], share of the own score that strangers lack on this source.
        grand_drop: One figure for all rows, 1 − mean(row_others)/mean(own); not the mean of the drops, which a
            single source with a low own score decides.
        cd: float64[K], Tommasi's bounded score of each row.
    """

    own: Scores
    row_others: Scores
    column_others: Scores
    row_drop: Scores
    column_drop: Scores
    grand_drop: float
    cd: Scores


def _shares(scores: ArrayLike) -> Scores:
    """Return float64 scores.

    Raises:
        ValueError: They are percent, or no scores.
    """
    shares = np.asarray(scores, dtype=np.float64)
    if not np.all((shares >= 0) & (shares <= 1)):
        raise ValueError("scores are shares in [0, 1], not percent")
    return shares


def drop(own: ArrayLike, others: ArrayLike) -> Scores:
    """Return (own − others)/own as shares, NaN where ``own`` is 0; negative if the others are better."""
    first, second = _shares(own), _shares(others)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(first > 0, (first - second) / first, np.nan)


def cd(own: ArrayLike, others: ArrayLike) -> Scores:
    """Return 1/(1 + exp(−(own − others))): 0.5 without a difference, at most 0.731, below 0.5 if others are better.

    Bounded where the percent drop explodes for a small ``own``. Defined on percent divided by 100, which is a
    share; to feed percent is refused.

    Source: Tommasi, Patricia, Caputo & Tuytelaars 2015.
    """
    scores: Scores = 1 / (1 + np.exp(-(_shares(own) - _shares(others))))
    return scores


def measures(matrix: ArrayLike) -> Measures:
    """Return the margins of a matrix of scores.

    Args:
        matrix: float[K, K], shares in [0, 1]; row = trained on, column = tested on; K at least 2.

    Raises:
        ValueError: It is not square, K is 1, or the scores are no shares.

    Source: Torralba & Efros 2011, table 1.
    """
    scores = _shares(matrix)
    if scores.ndim != 2 or scores.shape[0] != scores.shape[1] or len(scores) < 2:
        raise ValueError(f"a matrix of K x K scores with K of at least 2 is wanted, not {scores.shape}")
    own, rest = np.diagonal(scores).copy(), len(scores) - 1
    # summed without the diagonal, not subtracted from the whole: ten equal scores then have their own mean
    others = np.where(np.eye(len(scores), dtype=bool), 0.0, scores)
    rows, columns = others.sum(1) / rest, others.sum(0) / rest
    return Measures(
        own=own,
        row_others=rows,
        column_others=columns,
        row_drop=drop(own, rows),
        column_drop=drop(own, columns),
        grand_drop=float(drop(own.mean(), rows.mean())),
        cd=cd(own, rows),
    )
