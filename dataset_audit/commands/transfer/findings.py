"""What was found, and every figure derived from it, once: lines and JSON are views of these."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from math import isnan

import numpy as np
from numpy.typing import NDArray

from dataset_audit import seeds
from dataset_audit.stats.chance import nadeau_bengio
from dataset_audit.transfer.experiment import Matrix, Precision
from dataset_audit.transfer.market import Market, market
from dataset_audit.transfer.measures import Measures, drop, measures


@dataclass(frozen=True, kw_only=True, eq=False)
class Told:
    """The margins of a matrix over J draws: of its mean, with the spread between draws.

    Attributes:
        mean: float64[K, K], mean over draws.
        spread: float64[K, K], standard deviation over draws; NaN for one.
        margins: Of ``mean``.
        drop_spread: float64[K], of each row's drop over draws.
        grand_drops: The grand drop of each draw.
        chance: What guessing scores.
        n_train: Training images.
        n_test: Test images.
    """

    mean: NDArray[np.float64]
    spread: NDArray[np.float64]
    margins: Measures
    drop_spread: NDArray[np.float64]
    grand_drops: tuple[float, ...]
    chance: float
    n_train: int
    n_test: int

    @staticmethod
    def of(values: NDArray[np.float64], *, chance: float, n_train: int, n_test: int) -> Told:
        """Return the margins of float64[J, K, K]."""
        each = [measures(matrix) for matrix in values]
        return Told(
            mean=values.mean(0),
            spread=deviation(values),
            margins=measures(values.mean(0)),
            drop_spread=deviation(np.stack([one.row_drop for one in each])),
            grand_drops=tuple(one.grand_drop for one in each),
            chance=chance,
            n_train=n_train,
            n_test=n_test,
        )

    @property
    def grand_spread(self) -> float:
        """Standard deviation of the grand drop over draws; NaN for one."""
        return float(deviation(np.array(self.grand_drops)))

    def summary(self) -> dict[str, object]:
        """Return plain values."""
        margins = self.margins
        return {
            "matrix": plain(self.mean),
            "spread": plain(self.spread),
            "self": plain(margins.own),
            "mean_others": plain(margins.row_others),
            "column_mean_others": plain(margins.column_others),
            "drop": plain(margins.row_drop),
            "drop_spread": plain(self.drop_spread),
            "column_drop": plain(margins.column_drop),
            "grand_drop": plain(margins.grand_drop),
            "grand_drop_spread": plain(self.grand_spread),
            "grand_drop_standard_error": plain(
                nadeau_bengio(self.grand_drops, n_test=self.n_test, n_train=self.n_train)
            ),
            "cd": plain(margins.cd),
            "chance": self.chance,
            "n_train": self.n_train,
            "n_test": self.n_test,
        }


@dataclass(frozen=True, kw_only=True, eq=False)
class Negatives:
    """A set's own test with negatives of its own and with as many of all sets.

    Attributes:
        own: float64[K], mean over draws and classes.
        pooled: float64[K].
        drops: float64[K], of the means.
        spread: float64[K], of the drop over draws.
        grand_drop: Of the means over sets.
    """

    own: NDArray[np.float64]
    pooled: NDArray[np.float64]
    drops: NDArray[np.float64]
    spread: NDArray[np.float64]
    grand_drop: float


@dataclass(frozen=True, kw_only=True, eq=False)
class Curves:
    """Average precision over the number of training images, mean of some classes.

    Attributes:
        sizes: float64[S], rising.
        value: float64[S, J, K, K], by size, draw, training set, test set.
        chance: What guessing scores.
    """

    sizes: NDArray[np.float64]
    value: NDArray[np.float64]
    chance: float


@dataclass(frozen=True, kw_only=True)
class Findings:
    """Everything that was measured; sets, classes and draws in order."""

    names: tuple[str, ...]
    classes: tuple[str, ...]
    per_source: int
    resamplings: int
    seed: int
    precisions: tuple[Precision, ...]
    accuracy: Matrix | None
    source_only: tuple[float, ...]
    probe: str
    tried: Mapping[str, float]
    crossing: int
    skipped: int

    @cached_property
    def by_class(self) -> tuple[Told, ...]:
        """The margins of average precision, one per class."""
        return tuple(_told(precision.matrix) for precision in self.precisions)

    @cached_property
    def overall(self) -> Told:
        """The margins of average precision, mean over classes."""
        matrices = [precision.matrix for precision in self.precisions]
        return Told.of(
            np.mean([matrix.value for matrix in matrices], axis=0),
            chance=float(np.mean([matrix.chance for matrix in matrices])),
            n_train=round(float(np.mean([matrix.n_train for matrix in matrices]))),
            n_test=round(float(np.mean([matrix.n_test for matrix in matrices]))),
        )

    @cached_property
    def named(self) -> Told | None:
        """The margins of accuracy among all transferred classes."""
        return _told(self.accuracy) if self.accuracy is not None else None

    @cached_property
    def negatives(self) -> Negatives:
        """What foreign negatives cost."""
        own = np.mean([np.diagonal(p.matrix.value, axis1=1, axis2=2) for p in self.precisions], axis=0)
        pooled = np.mean([p.pooled for p in self.precisions], axis=0)
        return Negatives(
            own=own.mean(0),
            pooled=pooled.mean(0),
            drops=drop(own.mean(0), pooled.mean(0)),
            spread=deviation(drop(own, pooled)),
            grand_drop=float(drop(own.mean(), pooled.mean())),
        )

    @property
    def curved(self) -> tuple[Precision, ...]:
        """The classes that were large enough to be trained on at several sizes."""
        return tuple(precision for precision in self.precisions if len(precision.sizes) > 1)

    @cached_property
    def curves(self) -> Curves | None:
        """The mean of the classes with a curve, over the sizes that all of them have; None without such a class."""
        if not self.curved:
            return None
        last = min(len(precision.sizes) for precision in self.curved)
        return Curves(
            sizes=np.mean([precision.sizes[-last:] for precision in self.curved], axis=0),
            value=np.mean([precision.curve[-last:] for precision in self.curved], axis=0),
            chance=float(np.mean([precision.matrix.chance for precision in self.curved])),
        )

    @cached_property
    def markets(self) -> dict[str, Market]:
        """Exchange rates by class; first, under an empty name, those of the mean over classes with a curve."""
        made = {}
        if self.curves is not None and len(self.curved) > 1:
            made[""] = market(
                self.curves.sizes,
                self.curves.value,
                chance=self.curves.chance,
                seed=seeds.integer(self.seed, "transfer", "market"),
            )
        for name, precision in zip(self.classes, self.precisions, strict=True):
            made[name] = market(
                precision.sizes.astype(np.float64),
                precision.curve,
                chance=precision.matrix.chance,
                seed=seeds.integer(self.seed, "transfer", "market", name),
            )
        return made

    def summary(self) -> dict[str, object]:
        """Return every figure as plain JSON values; what is undefined is null."""
        negatives = self.negatives
        return {
            "sources": list(self.names),
            "classes": list(self.classes),
            "per_source": self.per_source,
            "resamplings": self.resamplings,
            "probe": self.probe,
            "validation_ap": dict(self.tried),
            "duplicates_across_sets": self.crossing,
            "skipped": self.skipped,
            "ap": self.overall.summary(),
            "ap_by_class": {
                name: told.summary() for name, told in zip(self.classes, self.by_class, strict=True)
            },
            "accuracy": self.named.summary() if self.named else None,
            "negative_set": {
                "own": plain(negatives.own),
                "all": plain(negatives.pooled),
                "drop": plain(negatives.drops),
                "drop_spread": plain(negatives.spread),
                "grand_drop": plain(negatives.grand_drop),
            },
            "source_only_auc": dict(zip(self.classes, map(plain, self.source_only), strict=True)),
            "market_value": _market_mean(self.markets),
            "market_value_by_class": {name: _rates(made) for name, made in self.markets.items() if name},
        }


def _market_mean(markets: Mapping[str, Market]) -> object:
    return _rates(markets[""]) if "" in markets else None


def _rates(made: Market) -> dict[str, object]:
    return {
        "rates": [
            [
                {
                    "alpha": rate.alpha,
                    "bound": rate.bound,
                    "low": plain(rate.low),
                    "high": plain(rate.high),
                    "at": plain(rate.at),
                    "local": rate.local,
                    "reason": rate.reason,
                }
                for rate in row
            ]
            for row in made.rates
        ],
        "basket": list(made.basket),
    }


def _told(matrix: Matrix) -> Told:
    return Told.of(matrix.value, chance=matrix.chance, n_train=matrix.n_train, n_test=matrix.n_test)


def deviation(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the sample standard deviation over the first axis; NaN for one draw."""
    if len(values) < 2:
        return np.full(values.shape[1:], np.nan)
    return np.asarray(values.std(0, ddof=1), np.float64)


def plain(value: object) -> object:
    """Return numbers as JSON has them: lists for arrays, null for NaN and infinities."""
    if isinstance(value, np.ndarray):
        return [plain(entry) for entry in value]
    number = float(value)  # type: ignore[arg-type]  # a number of Python or NumPy
    return None if isnan(number) or np.isinf(number) else number
