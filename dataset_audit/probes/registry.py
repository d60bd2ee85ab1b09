"""PROBES: what can be asked to name the source, from cheapest to strongest."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from dataset_audit.probes import features
from dataset_audit.probes.classify import Fold, Labels, Learned, Vectors, boosted, linear

SIDE: Final = 64  # pixels of the small copies
_BATCH: Final = 256
Sees = Literal["facts", "pixels", "traces"]
Classifier = Callable[[Vectors, Labels, Fold, int, int], Learned]


@dataclass(frozen=True, kw_only=True, eq=False)
class View:
    """One control's pictures of all rows, as the probes see them.

    Attributes:
        facts: float32[N, 13], header facts of the files, the same under every control that keeps the files.
        pixels: uint8[N, 64, 64, 3], the small copies.
        traces: float32[N, D], `features.traces` of the pictures at the size they have under this control.
        large: uint8[N, S, S, 3] for a network that wants another size; None where it takes the small copies.
    """

    facts: Vectors
    pixels: NDArray[np.uint8]
    traces: Vectors
    large: NDArray[np.uint8] | None = None

    @property
    def network(self) -> NDArray[np.uint8]:
        """uint8[N, S, S, 3], what a network sees."""
        return self.pixels if self.large is None else self.large

    def only(self, rows: NDArray[np.int64]) -> View:
        """Return some of the pictures."""
        return View(
            facts=self.facts[rows],
            pixels=self.pixels[rows],
            traces=self.traces[rows],
            large=None if self.large is None else self.large[rows],
        )


@dataclass(frozen=True, kw_only=True)
class Probe:
    """A way to name the source.

    Attributes:
        about: What it looks at and what learns from it.
        sees: What of a view it needs; ``facts`` never look at a pixel.
        vectors: From a view to float32[N, D]; None for the network, which takes the pixels.
        learn: The classifier; None for the network.
    """

    about: str
    sees: Sees
    vectors: Callable[[View], Vectors] | None
    learn: Classifier | None


def _in_batches(vectors: Callable[[NDArray[np.uint8]], Vectors], pixels: NDArray[np.uint8]) -> Vectors:
    """Return the vectors of all pictures, 256 at a time: gradients of one picture take 200 kB on the way."""
    parts = [vectors(pixels[at : at + _BATCH]) for at in range(0, len(pixels), _BATCH)]
    return np.concatenate(parts) if parts else vectors(pixels)


PROBES: Final[dict[str, Probe]] = {
    "header": Probe(
        about="header facts only, gradient boosting",
        sees="facts",
        vectors=lambda view: view.facts,
        learn=boosted,
    ),
    "mean-rgb": Probe(
        about="mean colour, gradient boosting",
        sees="pixels",
        vectors=lambda view: _in_batches(features.mean_rgb, view.pixels),
        learn=boosted,
    ),
    "histogram": Probe(
        about="colour histogram, 16 levels a channel, gradient boosting",
        sees="pixels",
        vectors=lambda view: _in_batches(features.histogram, view.pixels),
        learn=boosted,
    ),
    "thumbnail": Probe(
        about="32x32 colour image, linear SVM (Torralba & Efros 2011)",
        sees="pixels",
        vectors=lambda view: _in_batches(features.thumbnail, view.pixels),
        learn=linear,
    ),
    "hog": Probe(
        about="histograms of oriented gradients at 64 pixels, linear SVM (Torralba & Efros 2011)",
        sees="pixels",
        vectors=lambda view: _in_batches(features.hog, view.pixels),
        learn=linear,
    ),
    "traces": Probe(
        about="statistics of encoder, resizer and rim at full size, gradient boosting",
        sees="traces",
        vectors=lambda view: view.traces,
        learn=boosted,
    ),
    "network": Probe(
        about="a small network trained from scratch, or --model", sees="pixels", vectors=None, learn=None
    ),
}
