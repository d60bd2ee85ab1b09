"""The market of sets: what one image of each is worth on the test of each."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dataset_audit import seeds
from dataset_audit.stats.curves import Curve, MarketValue, basket, market_value


@dataclass(frozen=True, kw_only=True)
class Market:
    """Exchange rates of one class.

    Attributes:
        rates: By [training set][market], the own ones 1 by definition.
        basket: By market, the mean worth of one image of every set, its own included; None where a rate is missing
            or only a bound.
    """

    rates: tuple[tuple[MarketValue, ...], ...]
    basket: tuple[float | None, ...]


def market(sizes: NDArray[np.float64], curve: NDArray[np.float64], *, chance: float, seed: int) -> Market:
    """Return the rates of all pairs of sets.

    Args:
        sizes: int64[S], training images, rising.
        curve: float64[S, J, K, K], score by size, draw, training set, test set.
        chance: What guessing scores.
        seed: Of the intervals.

    Source: Torralba & Efros 2011, section 4 and table 3.
    """
    places = range(curve.shape[2])
    own = MarketValue(alpha=1.0, low=1.0, high=1.0, at=float(sizes[-1]))
    curves = [[Curve(sizes=sizes, values=curve[:, :, a, b]) for b in places] for a in places]
    rates = tuple(
        tuple(
            own
            if a == b
            else market_value(
                curves[a][b], curves[b][b], floor=chance, seed=seeds.integer(seed, "market", a, b)
            )
            for b in places
        )
        for a in places
    )
    baskets = tuple(
        basket([None if rates[a][b].bound else rates[a][b].alpha for a in places]) for b in places
    )
    return Market(rates=rates, basket=baskets)
