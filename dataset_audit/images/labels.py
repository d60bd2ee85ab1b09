"""Wrong labels put in on purpose, so that one can see what a score does with them."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from dataset_audit.errors import UsageError
from dataset_audit.seeds import rng


def flip_labels(
    labels: NDArray[np.int32], fraction: float, num_classes: int, seed: int
) -> tuple[NDArray[np.int32], NDArray[np.bool_]]:
    """Return labels of which a fraction is wrong, int32[N], and which were flipped, bool[N].

    Exactly floor(fraction * n + 0.5) of the n labelled examples get another class, each of the others with
    equal chance. The examples flipped at a smaller fraction are among those flipped at a larger one, to the
    same classes.

    Args:
        labels: int32[N]; -1 marks no label, which stays.
        fraction: Share of the labelled examples, 0 to 1.
        num_classes: Number of classes C; labels lie in [0, C).
        seed: Decides which and to what.

    Raises:
        UsageError: The fraction is outside [0, 1], or there is only one class to choose from.
    """
    if not 0 <= fraction <= 1:
        raise UsageError(
            f"The share of labels to flip is {fraction}, outside 0 to 1.", do="--label-noise 0.2"
        )
    labelled = np.flatnonzero(labels >= 0)
    count = math.floor(fraction * len(labelled) + 0.5)
    noisy, flipped = labels.astype(np.int32, copy=True), np.zeros(len(labels), dtype=np.bool_)
    if not count:
        return noisy, flipped
    if num_classes < 2:
        raise UsageError("With one class there is no other label to flip to.", do="--label-noise 0")
    random = rng(seed, "label-noise")
    chosen = random.permutation(labelled)[:count]
    # drawn for all, used for some: what one example becomes does not depend on how many are flipped
    step = random.integers(1, num_classes, size=len(labels))
    noisy[chosen] = (labels[chosen] + step[chosen]) % num_classes
    flipped[chosen] = True
    return noisy, flipped
