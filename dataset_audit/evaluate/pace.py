"""Quality against time: what the same seconds buy when all examples are trained on for less time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf, nan
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from dataset_audit.stats.paired import Difference, paired

if TYPE_CHECKING:
    from scipy.interpolate import PchipInterpolator

Place = Literal["above", "below", "on", "before", "beyond", "not measured"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Baseline:
    """Full data trained at several shares of the epochs, each with its own full decay.

    Attributes:
        seconds: float64[P], training time of each, rising.
        accuracy: float64[P, S], of each with each seed.
    """

    seconds: NDArray[np.float64]
    accuracy: NDArray[np.float64]

    def __post_init__(self) -> None:
        if len(self.seconds) < 2 or np.any(np.diff(self.seconds) <= 0):
            raise ValueError("a curve needs two training times or more, rising")

    def at(self, seconds: float) -> NDArray[np.float64]:
        """Return the accuracy that this training time buys, float64[S]; NaN outside what was measured.

        Each seed's points are made to rise (isotonic regression: more time is never taken to hurt), then
        interpolated over log time without overshoot (PCHIP).
        """
        if not self.seconds[0] <= seconds <= self.seconds[-1]:
            return np.full(self.accuracy.shape[1], nan)
        found: NDArray[np.float64] = self._curve()(np.log(seconds))
        return found

    def time_for(self, accuracy: float) -> float:
        """Return the seconds after which the mean over seeds of ``at`` reaches an accuracy.

        Returns:
            0 if the shortest training has it already, infinity if the longest does not.
        """
        mean = self._rising(self.accuracy).mean(1)
        if accuracy <= mean[0]:
            return 0.0
        if accuracy > mean[-1]:
            return inf
        curve = self._curve()
        low, high = float(np.log(self.seconds[0])), float(np.log(self.seconds[-1]))
        for _ in range(60):  # the curve rises, so halving finds the first time
            middle = (low + high) / 2
            low, high = (low, middle) if curve(middle).mean() >= accuracy else (middle, high)
        return float(np.exp(high))

    def _curve(self) -> PchipInterpolator:
        from scipy.interpolate import PchipInterpolator  # noqa: PLC0415 - commands without curves do not wait

        return PchipInterpolator(np.log(self.seconds), self._rising(self.accuracy), axis=0)

    @staticmethod
    def _rising(accuracy: NDArray[np.float64]) -> NDArray[np.float64]:
        from scipy.optimize import isotonic_regression  # noqa: PLC0415

        return np.stack([isotonic_regression(column).x for column in accuracy.T], axis=1)


@dataclass(frozen=True, kw_only=True)
class Standing:
    """An arm on the axes of the baseline.

    Attributes:
        seconds: Its training time, mean over seeds.
        scoring: Seconds that choosing its examples took; NaN if not known.
        total: Training plus scoring over the number of trainings that share it; NaN if not known.
        place: ``above`` or ``below`` the curve at its total time if the 95 % interval over seeds excludes it, else
            ``on``; ``before`` and ``beyond`` mean outside the times measured, where nothing is said.
        gained: Accuracy minus the curve's at equal total time, over seeds.
        saved: Seconds saved per training at equal quality, scoring left out; negative if it takes longer, None
            where its quality lies outside the curve.
        pays_after: Trainings after which scoring has paid for itself; infinite if no time is saved, None if the
            scoring time or the saving is not known.
    """

    seconds: float
    scoring: float
    total: float
    place: Place
    gained: Difference | None
    saved: float | None
    pays_after: float | None


def standing(
    baseline: Baseline, accuracy: Sequence[float], seconds: float, *, scoring: float, trainings: int = 1
) -> Standing:
    """Return where an arm lies.

    Args:
        baseline: The curve; its seeds are those of ``accuracy``, in the same order.
        accuracy: float[S].
        seconds: Training time of one run; NaN if not known.
        scoring: Seconds of scoring, 0 where nothing was scored, NaN if not known.
        trainings: k, how many trainings share one scoring.
    """
    total = seconds + scoring / trainings
    gained = None
    if np.isnan(total):
        place: Place = "not measured"
    elif total < baseline.seconds[0]:
        place = "before"
    elif total > baseline.seconds[-1]:
        place = "beyond"
    else:
        gained = paired(np.asarray(accuracy, np.float64), baseline.at(total))
        place = "above" if gained.low > 0 else "below" if gained.high < 0 else "on"
    needed = baseline.time_for(float(np.mean(accuracy)))
    saved = needed - seconds if 0 < needed < inf and not np.isnan(seconds) else None
    pays = None
    if saved is not None and not np.isnan(scoring):
        pays = 0.0 if scoring == 0 else scoring / saved if saved > 0 else inf
    return Standing(
        seconds=seconds,
        scoring=scoring,
        total=total,
        place=place,
        gained=gained,
        saved=saved,
        pays_after=pays,
    )


@dataclass(frozen=True, kw_only=True, eq=False)
class Clock:
    """Seconds of each kind of training, and whether the machine was idle enough to believe them.

    Attributes:
        pace: Seconds per presentation, median over plain trainings.
        spread: The slowest plain training's pace divided by the fastest's.
    """

    pace: float
    spread: float

    @property
    def uneven(self) -> bool:
        """Whether paces differ by more than a quarter, as on a machine that did something else as well."""
        return self.spread > 1.25

    @staticmethod
    def of(seconds: NDArray[np.float64], presentations: NDArray[np.int64]) -> Clock:
        """Return the clock of plain trainings (none that only looks at some examples), float64[J] and int64[J]."""
        paces = seconds / np.maximum(1, presentations)
        return Clock(pace=float(np.median(paces)), spread=float(paces.max() / max(paces.min(), 1e-12)))
