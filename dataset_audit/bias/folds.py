"""Which pictures learn, tune and judge: parts of equal size that never share a duplicate."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from dataset_audit import seeds
from dataset_audit.probes.classify import Fold, Labels

VALIDATION = 0.15  # of what is not tested


def folds(labels: Labels, clusters: NDArray[np.int64], resamplings: int, seed: int) -> list[Fold]:
    """Return one fold per resampling; each picture is tested in exactly one of them.

    Whole clusters move together, and each part gets its share of every label.

    Args:
        labels: int64[N], what the parts are balanced by.
        clusters: int64[N], duplicates share a number; ``arange(N)`` splits by picture.
        resamplings: J, at least 2; the test part is 1/J.
        seed: Of the draw.
    """
    part = parts(labels, clusters, np.full(resamplings, 1 / resamplings), seeds.rng(seed, "folds"))
    made = []
    for number in range(resamplings):
        rest = np.flatnonzero(part != number)
        tuned = parts(
            labels[rest],
            clusters[rest],
            np.array([1 - VALIDATION, VALIDATION]),
            seeds.rng(seed, "validation", number),
        )
        made.append(
            Fold(train=rest[tuned == 0], validation=rest[tuned == 1], test=np.flatnonzero(part == number))
        )
    return made


def parts(
    labels: Labels, clusters: NDArray[np.int64], shares: NDArray[np.float64], rng: np.random.Generator
) -> NDArray[np.int64]:
    """Return int64[N], the part of each picture.

    Clusters come in a drawn order, largest first, and go each to the part that most lacks its labels.

    Args:
        labels: int64[N], what the parts are balanced by.
        clusters: int64[N], whole ones are dealt.
        shares: float64[P], of each part, above 0.
        rng: Of the order.
    """
    names, which = np.unique(clusters, return_inverse=True)
    counts = np.zeros((len(names), int(labels.max(initial=0)) + 1), np.int64)
    np.add.at(counts, (which, labels), 1)
    order = rng.permutation(len(names))
    order = order[np.argsort(-counts[order].sum(1), kind="stable")]
    wanted = shares[:, None] * counts.sum(0)[None, :]
    lacking = wanted.copy()
    part = np.empty(len(names), np.int64)
    for name in order.tolist():
        need = (lacking * counts[name]).sum(1) / counts[name].sum() / shares
        part[name] = int(need.argmax())
        lacking[part[name]] -= counts[name]
    return part[which]


def unlearnable(made: Sequence[Fold], labels: Labels) -> list[int]:
    """Return the labels of which some fold has no training picture, because too few clusters hold them all."""
    known = set(np.unique(labels).tolist())
    return sorted(set().union(*(known - set(labels[fold.train].tolist()) for fold in made)))


def thinned(fold: Fold, labels: Labels, clusters: NDArray[np.int64], share: float, seed: int) -> Fold:
    """Return ``fold`` with a drawn share of its training clusters; what tunes and judges stays."""
    keep = parts(
        labels[fold.train], clusters[fold.train], np.array([share, 1 - share]), seeds.rng(seed, "thinned")
    )
    return Fold(train=fold.train[keep == 0], validation=fold.validation, test=fold.test)
