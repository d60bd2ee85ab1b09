"""ARMS: what is trained beside the policies, and which rows each arm trains on with which seed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from dataset_audit import seeds
from dataset_audit.select.budget import quotas

Rows = NDArray[np.int64]


@dataclass(frozen=True)
class Arm:
    """A kind of arm: what it is, and whether it has a size of its own."""

    about: str
    sized: bool = True


ARMS: Final[dict[str, Arm]] = {
    "full": Arm("all examples, the recipe as it is", sized=False),
    "curve": Arm("all examples for a part of the epochs, with a schedule of that length", sized=False),
    "kept": Arm("the examples of the manifest", sized=False),
    "random": Arm("a random subset of the same size, drawn anew for every seed"),
    "stratified": Arm("the same within every class, in proportion"),
    "easiest": Arm("the easiest, as an anti-arm"),
    "rs2": Arm(
        "a random subset of the same size redrawn each epoch, without replacement (Okanovic et al. 2024)"
    ),
    "selective": Arm(
        "all examples, those of low last loss only run forward (Jiang et al. 2019)", sized=False
    ),
}
"""Every name of `select.policies.POLICIES` is an arm too."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Job:
    """One training: an arm at one size with one seed.

    Attributes:
        arm: A key of ARMS or of POLICIES.
        seed: Of weights, order, augmentation, and of the subset where it is drawn.
        rows: int64[n], indices of the data set, ascending; what is trained on, for ``rs2`` in the first epoch.
        keep: Share of the training examples, in (0, 1].
        share: Share of the full training's steps, for ``curve``; 1 elsewhere.
        redrawn: The rows of an epoch, from its number, where they are not the same in each.
        skip: Share of every batch that is only run forward.
        fixed: Whether all seeds train on the same subset, so that its luck is theirs.
        knobs: Fields of the recipe that were tuned for this arm, with their values.
        trial: Whether only the knobs are tried: if they diverge they are bad ones, and nothing else is.
    """

    arm: str
    seed: int
    rows: Rows
    keep: float = 1.0
    share: float = 1.0
    redrawn: Callable[[int], Rows] | None = None
    skip: float = 0.0
    fixed: bool = False
    knobs: Mapping[str, Any] = field(default_factory=dict)  # numbers, by field of the recipe
    trial: bool = False

    @property
    def name(self) -> str:
        """Tells the training from all others of an evaluation, in words a file name can hold."""
        parts = [self.arm, f"{len(self.rows)}"]
        if self.share < 1:
            parts.append(f"share-{self.share:g}")
        if self.skip:
            parts.append(f"skip-{self.skip:g}")
        return "-".join([*parts, f"seed-{self.seed}"])


def random_subset(rows: Rows, count: int, seed: int) -> Rows:
    """Return ``count`` of ``rows``, ascending, drawn by the seed alone; nested in count.

    Args:
        rows: int64[N].
        count: At most N.
        seed: Of this training: another seed has another subset.
    """
    return np.sort(seeds.rng(seed, "random subset").permutation(rows)[:count])


def stratified_subset(rows: Rows, labels: NDArray[np.int64], count: int, seed: int) -> Rows:
    """Return ``count`` of ``rows``, ascending, drawn within every class in proportion to its size.

    Args:
        rows: int64[N].
        labels: int64[N], of those rows.
        count: At most N.
        seed: Of this training.
    """
    classes, number = np.unique(labels, return_inverse=True)
    shuffled = seeds.rng(seed, "stratified subset").permutation(len(rows))
    parts = quotas(np.bincount(number, minlength=len(classes)), count, floor=0)
    chosen = [shuffled[number[shuffled] == each][:part] for each, part in enumerate(parts)]
    return np.sort(rows[np.concatenate(chosen)])


def redrawn(rows: Rows, count: int, seed: int) -> Callable[[int], Rows]:
    """Return a function from an epoch to ``count`` of ``rows``, ascending, without replacement across epochs.

    Every epoch takes the examples that were presented least often so far, ties drawn by (seed, epoch): after any
    number of epochs no example was presented more than once more often than another.

    Args:
        rows: int64[N].
        count: At most N.
        seed: Of this training.

    Source: RS2 without replacement, Okanovic et al. 2024, algorithm 1.
    """
    counts, drawn = np.zeros(len(rows), dtype=np.int64), [0]

    def of_epoch(epoch: int) -> Rows:
        if epoch < drawn[0]:  # a training begun again
            counts[:], drawn[0] = 0, 0
        while True:
            tie = seeds.rng(seed, "rs2", drawn[0]).permutation(len(rows))
            chosen = np.lexsort([tie, counts])[:count]
            if drawn[0] == epoch:
                return np.sort(rows[chosen])
            counts[chosen] += 1
            drawn[0] += 1

    return of_epoch


def overlap(kept: list[Rows]) -> float | None:
    """Return the mean over pairs of seeds of the share of kept examples that both kept; None for one seed."""
    pairs = [
        len(np.intersect1d(a, b, assume_unique=True)) / max(1, len(a))
        for number, a in enumerate(kept)
        for b in kept[number + 1 :]
    ]
    return float(np.mean(pairs)) if pairs else None


def shared_luck(kept: list[Rows], examples: int) -> float:
    """Return the correlation between seeds of how good their kept sets happen to be, in [0, 1]; 0 for one seed.

    (o − n/N)/(1 − n/N) with o the overlap: 0 where sets of n of N examples share what chance would make them share,
    1 where they are the same. A score that agrees with itself from run to run chooses much the same examples for
    every seed, good or bad; `stats.paired.paired` takes that into account.

    Args:
        kept: One set per seed, of equal size.
        examples: N, what they were chosen from.

    Source: covariance of means of overlapping samples, Cochran 1977, chapter 2.
    """
    found = overlap(kept)
    by_chance = len(kept[0]) / examples
    if found is None or by_chance >= 1:
        return 0.0
    return min(1.0, max(0.0, (found - by_chance) / (1 - by_chance)))
