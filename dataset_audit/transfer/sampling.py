"""Which images learn, tune and judge: as many of each set, and no duplicate on both sides.

Everything is a seeded draw; nothing depends on the order in which a folder is listed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from dataset_audit import seeds

FOLDS: Final = ("train", "validation", "test")
SHARES: Final = (0.5, 0.2, 0.3)  # of the clusters of each class of each set
NEGATIVES: Final = 4.0  # per positive, where there are so many
SIZES: Final = 5  # training sizes, each half of the next, as far as the smallest keeps
LEAST_POSITIVES: Final = 2
SLICES: Final = 4  # disjoint parts of a draw that a smaller size is the mean of: small ones scatter most
OTHER: Final = -1  # label of an image of a class that is not transferred

Rows = NDArray[np.int64]


class TooFew(Exception):
    """A class of a set has nothing left to learn from or to be judged by.

    Args:
        source: Its place.
        label: The class's place.
        lacking: What there is none of.
    """

    def __init__(self, source: int, label: int, lacking: str) -> None:
        super().__init__(lacking)
        self.source, self.label, self.lacking = source, label, lacking


@dataclass(frozen=True, kw_only=True, eq=False)
class Pool:
    """All images drawn from K sets, N in all.

    Attributes:
        source: int64[N], 0 to K - 1.
        label: int64[N], 0 to C - 1, or OTHER.
        cluster: int64[N], duplicates share the smallest row among them.
        sources: K.
        classes: C.
    """

    source: Rows
    label: Rows
    cluster: Rows
    sources: int
    classes: int


@dataclass(frozen=True, kw_only=True, eq=False)
class Part:
    """Images of one class and of others, as many of every set; a prefix of a row is a smaller draw.

    Attributes:
        positive: int64[K, P], rows of the pool.
        negative: int64[K, Q].
    """

    positive: Rows
    negative: Rows

    def rows(self, source: int) -> Rows:
        """Return int64[P + Q] of one set, positives first."""
        return np.concatenate([self.positive[source], self.negative[source]])

    @property
    def truth(self) -> NDArray[np.int64]:
        """int64[P + Q], 1 for positives, in the order of ``rows``."""
        return np.repeat([1, 0], [self.positive.shape[1], self.negative.shape[1]])

    def first(self, positives: int, negatives: int) -> Part:
        """Return the part cut to so many of each set."""
        return self.slices(positives, negatives, 1)[0]

    def slices(self, positives: int, negatives: int, most: int) -> list[Part]:
        """Return parts of so many of each set that have no image in common, at most so many parts."""
        fit = min(self.positive.shape[1] // positives, self.negative.shape[1] // negatives, most)
        return [
            Part(
                positive=self.positive[:, at * positives : (at + 1) * positives],
                negative=self.negative[:, at * negatives : (at + 1) * negatives],
            )
            for at in range(fit)
        ]


@dataclass(frozen=True, kw_only=True, eq=False)
class Task:
    """One class against all others in one draw."""

    label: int
    train: Part
    validation: Part
    test: Part


def quotas(counts: NDArray[np.int64], others: NDArray[np.int64], total: int) -> tuple[Rows, int]:
    """Return how many images of each class, int64[C], and how many of other classes to take from every set.

    Classes share the total evenly as far as every set has so many; at least a fifth, and with fewer than five
    classes what is missing to five shares, goes to images of other classes where every set has some.

    Args:
        counts: int64[K, C], images of each class in each set.
        others: int64[K], images of classes that are not transferred.
        total: Images to take from a set, at most.
    """
    classes = counts.shape[1]
    rest = min(int(others.min()), int(total * max(1 / 5, 1 - classes / 5)))
    return np.minimum(counts.min(0), (total - rest) // classes), rest


def folds(pool: Pool, seed: int, draw: int) -> NDArray[np.int64]:
    """Return int64[N], the place in FOLDS of each image; a cluster goes whole where its first image goes."""
    heads = pool.cluster == np.arange(len(pool.cluster))
    chosen = np.zeros(len(pool.cluster), np.int64)
    for source in range(pool.sources):
        for label in range(OTHER, pool.classes):
            mine = np.flatnonzero(heads & (pool.source == source) & (pool.label == label))
            order = seeds.rng(seed, "transfer", "folds", draw, source, label).permutation(mine)
            n = len(order)
            tested, tuned = (max(round(n * share), min(1, n)) for share in (SHARES[2], SHARES[1]))
            chosen[order[:tested]] = 2
            chosen[order[tested : tested + tuned]] = 1
    return chosen[pool.cluster]


def tasks(pool: Pool, label: int, draws: int, seed: int) -> list[Task]:
    """Return one task per draw for one class; all have the same sizes, in every set and every draw.

    There are four negatives per positive, or as many as the poorest set has; the share of positives is the same for
    training, tuning and testing.

    Raises:
        TooFew: A set has no image of the class, or of others, for one of the folds.
    """
    made = [_parts(pool, label, draw, seed) for draw in range(draws)]
    positives = [min(parts[fold].positive.shape[1] for parts in made) for fold in range(3)]
    negatives = [min(parts[fold].negative.shape[1] for parts in made) for fold in range(3)]
    ratio = min(NEGATIVES, *(q / p for p, q in zip(positives, negatives, strict=True)))
    wanted = [max(1, round(p * ratio)) for p in positives]
    cut = [[part.first(p, q) for part, p, q in zip(parts, positives, wanted, strict=True)] for parts in made]
    return [
        Task(label=label, train=train, validation=validation, test=test) for train, validation, test in cut
    ]


def _parts(pool: Pool, label: int, draw: int, seed: int) -> list[Part]:
    """Return the largest equal parts of each fold."""
    fold, made = folds(pool, seed, draw), []
    for number, name in enumerate(FOLDS):
        drawn: dict[Literal["yes", "no"], list[Rows]] = {"yes": [], "no": []}
        for source in range(pool.sources):
            mine = (fold == number) & (pool.source == source)
            for kind, rows in (("yes", mine & (pool.label == label)), ("no", mine & (pool.label != label))):
                rng = seeds.rng(seed, "transfer", name, draw, label, source, kind)
                order = rng.permutation(np.flatnonzero(rows))
                if not len(order):
                    what = "images" if kind == "yes" else "images of other classes"
                    raise TooFew(source, label, f"{what} for {name}")
                drawn["yes" if kind == "yes" else "no"].append(order)
        made.append(Part(positive=_equal(drawn["yes"]), negative=_equal(drawn["no"])))
    return made


def _equal(rows: list[Rows]) -> Rows:
    """Return int64[K, n] with the smallest n of all."""
    n = min(map(len, rows))
    return np.stack([each[:n] for each in rows])


def halvings(positives: int, negatives: int) -> list[tuple[int, int]]:
    """Return rising training sizes (positives, negatives), each about half of the next, the last as given.

    Five, or four, or the last alone if the smallest of four would have fewer than two positives: fewer sizes over a
    smaller range show no slope.
    """
    for count in (SIZES, SIZES - 1):
        if positives >> (count - 1) >= LEAST_POSITIVES:
            steps = [2**step for step in range(count - 1, -1, -1)]
            return [(positives // step, max(1, negatives // step)) for step in steps]
    return [(positives, negatives)]


def trainings(task: Task) -> int:
    """Return how often each set is trained on for one task, all sizes together."""
    steps = halvings(task.train.positive.shape[1], task.train.negative.shape[1])
    return sum(len(task.train.slices(*step, SLICES)) for step in steps)


def balanced(pool: Pool, draws: int, seed: int) -> list[list[list[Rows]]]:
    """Return rows of the transferred classes alone by [draw][fold][set], as many of each class in every set and draw.

    Raises:
        TooFew: A set has no image of a class for one of the folds.
    """
    found = [
        [
            [_of_class(pool, fold, number, label, (draw, seed)) for label in range(pool.classes)]
            for number in range(3)
        ]
        for draw, fold in enumerate(folds(pool, seed, draw) for draw in range(draws))
    ]
    made = []
    for parts in found:
        cut = [
            [
                rows[:, : min(each[number][label].shape[1] for each in found)]
                for label, rows in enumerate(part)
            ]
            for number, part in enumerate(parts)
        ]
        made.append([list(np.concatenate(part, axis=1)) for part in cut])
    return made


def _of_class(pool: Pool, fold: Rows, number: int, label: int, path: tuple[int, int]) -> Rows:
    """Return int64[K, n], images of one class in one fold, in a drawn order."""
    (draw, seed), drawn = path, []
    for source in range(pool.sources):
        mine = (fold == number) & (pool.source == source) & (pool.label == label)
        if not mine.any():
            raise TooFew(source, label, f"images for {FOLDS[number]}")
        rng = seeds.rng(seed, "transfer", "all", FOLDS[number], draw, label, source)
        drawn.append(rng.permutation(np.flatnonzero(mine)))
    return _equal(drawn)
