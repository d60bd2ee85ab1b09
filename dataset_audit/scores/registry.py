"""SCORES: how each reported value follows from what was remembered; meaning and orientation stand in COLUMNS."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

NONE: Final = -1  # first_learned and last_wrong of an example that has none

Counts = NDArray[np.int32]
Floats = NDArray[np.float32]


@dataclass(frozen=True, kw_only=True)
class Remembered:
    """The state of one run on the host.

    Attributes:
        counts: int32[N] each: presentations, correct, forgetting, learning, first_learned, last_wrong.
        sums: float32[N] each: sums over presentations, and the Welford pair (mean, m2) of p_y.
        window: J of Dyn-Unc and DUAL.
        dual_epochs: T of DUAL.
        features: Whether embeddings were given.
        checkpoint: float32[N], mean over checkpoints of eval-mode EL2N, or None.
        drift: float32[N], TDDS, or None.
    """

    counts: Mapping[str, Counts]
    sums: Mapping[str, Floats]
    window: int
    dual_epochs: int
    features: bool
    checkpoint: Floats | None
    drift: Floats | None

    @property
    def seen(self) -> Counts:
        """int32[N], presentations."""
        return self.counts["presentations"]

    def mean(self, name: str, count: Counts | None = None) -> Floats:
        """Return a sum over its number of terms, NaN where there was none."""
        terms = self.seen if count is None else count
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.where(terms > 0, self.sums[name] / terms.astype(np.float32), np.nan).astype(np.float32)

    def windows(self, most: int | None = None) -> Counts:
        """Return how many whole windows each example has, of the first ``most`` presentations."""
        seen = self.seen if most is None else np.minimum(self.seen, most)
        return np.maximum(seen - self.window + 1, 0)


@dataclass(frozen=True)
class Score:
    """One column of a run: how it is computed, or None for a column that was not recorded."""

    compute: Callable[[Remembered], NDArray[np.generic] | None]


def correctness(state: Remembered) -> Floats:
    """Return the share of presentations that were correct (Swayamdipta et al. 2020); low is hard."""
    with np.errstate(invalid="ignore", divide="ignore"):
        share = state.counts["correct"] / state.seen
    return np.where(state.seen > 0, share, np.nan).astype(np.float32)


def confidence(state: Remembered) -> Floats:
    """Return the mean of p_y over presentations (Swayamdipta et al. 2020), train mode; low is hard."""
    return np.where(state.seen > 0, state.sums["mean"], np.nan).astype(np.float32)


def variability(state: Remembered) -> Floats:
    """Return the population standard deviation of p_y (Swayamdipta et al. 2020); high is ambiguous.

    By Welford's pair: a float32 sum of squares loses every digit for an easy example.
    """
    with np.errstate(invalid="ignore", divide="ignore"):
        std = np.sqrt(state.sums["m2"] / state.seen.astype(np.float32))
    return np.where(state.seen > 0, std, np.nan).astype(np.float32)


def never_learned(state: Remembered) -> NDArray[np.bool_]:
    """Return whether an example was presented and never correct; it is hardest and not unforgettable."""
    never: NDArray[np.bool_] = (state.seen > 0) & (state.counts["correct"] == 0)
    return never


def grand_last(state: Remembered) -> Floats:
    """Return the mean norm of the last layer's gradient, |p - onehot(y)| sqrt(|h|^2 + 1); high is hard.

    Paul et al. 2021 take all layers, eval mode and several initialisations; this is one linear layer with bias, train
    mode, every presentation. The gradient is per example: it does not depend on the batch size. NaN without h.
    """
    return state.mean("grand") if state.features else np.full(len(state.seen), np.nan, np.float32)


def dyn_unc(state: Remembered) -> Floats:
    """Return the mean over windows of J presentations of the sample std of p_y (He et al. 2024); high is worth keeping.

    The paper scales by ten, leaves out the last window and makes a second, un-augmented forward pass; this takes the
    training pass. NaN below J presentations.
    """
    return state.mean("dyn_unc", state.windows())


def dual(state: Remembered) -> Floats:
    """Return the mean over windows of std times (1 - mean) of p_y in the first T presentations (Cho et al. 2025).

    High is worth keeping. Their code scales by ten. NaN below J presentations.
    """
    return state.mean("dual", state.windows(state.dual_epochs))


SCORES: Final[dict[str, Score]] = {
    "presentations": Score(lambda state: state.seen),
    "forgetting_events": Score(lambda state: state.counts["forgetting"]),
    "learning_events": Score(lambda state: state.counts["learning"]),
    "never_learned": Score(never_learned),
    "first_learned": Score(lambda state: state.counts["first_learned"]),
    "last_wrong": Score(lambda state: state.counts["last_wrong"]),
    "correctness": Score(correctness),
    "confidence": Score(confidence),
    "variability": Score(variability),
    "aum": Score(lambda state: state.mean("margin")),
    "loss_mean": Score(lambda state: state.mean("loss")),
    "el2n": Score(
        lambda state: None if state.checkpoint is None else np.where(state.seen > 0, state.checkpoint, np.nan)
    ),
    "el2n_mean": Score(lambda state: state.mean("el2n")),
    "grand_last": Score(grand_last),
    "dyn_unc": Score(dyn_unc),
    "dual": Score(dual),
    "dual_confidence": Score(
        lambda state: state.mean(
            "dual_confidence", np.minimum(state.seen, state.dual_epochs).astype(np.int32)
        )
    ),
    "tdds": Score(lambda state: state.drift),
}
