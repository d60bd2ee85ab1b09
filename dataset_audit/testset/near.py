"""Which test images are nearly in the training set, and which test images are nearly each other.

Small grey copies of 16x16 pixels, the mean of each row and of each column taken away, are correlated, as they are and
mirrored. Without rows and columns a sea under a sky is no longer like every other sea under a sky, which plain
correlation of small pictures takes for the same picture. A perceptual hash made for photographs finds few copies of
32 pixels, for they are often recoloured, shifted or rescaled (Barz & Denzler 2020).

How often pictures are alike by chance is measured on the spot: the same search with the test images upside down, where
no true copy is found.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from dataset_audit import seeds
from dataset_audit.images.duplicates import equal, joined

SIDE: Final = 16
ALIKE: Final = 0.85
"""Correlation of copies. On CIFAR-10 10,000 images searched among 40,000 give 2.1 % at 0.85, upside down 0.04 %."""
FLAT: Final = (
    3.0  # grey levels of standard deviation, rows and columns taken away, below which nothing is compared
)
CONTROLS: Final = 2000  # images turned upside down
PAIRED: Final = (
    0.5  # median correlation of the n-th image with the n-th above which two sets are the same images
)
_BLOCK: Final = 500
_WIDTH: Final = 65_536  # of the larger set at one time, so that a block takes 260 MB

Grey = NDArray[np.float32]
Vectors = NDArray[np.float32]
Done = Callable[[int], None]  # told how many images were looked up


def vectors(grey: Grey) -> Vectors:
    """Return unit vectors whose products are correlations, float32[N, 256]; zero for flat pictures.

    Args:
        grey: float32[N, 16, 16].
    """
    left = grey - grey.mean(2, keepdims=True) - grey.mean(1, keepdims=True) + grey.mean((1, 2), keepdims=True)
    rows = left.reshape(len(grey), -1)
    length = np.sqrt((rows**2).sum(1, keepdims=True))
    flat = length < FLAT * SIDE  # a standard deviation over SIDE² pixels
    found: Vectors = np.where(flat, 0, rows / np.where(flat, 1, length)).astype(np.float32)
    return found


def _turned(made: Vectors, *, mirrored: bool, upside_down: bool) -> Vectors:
    pictures = made.reshape(len(made), SIDE, SIDE)
    pictures = pictures[:, :, ::-1] if mirrored else pictures
    pictures = pictures[:, ::-1] if upside_down else pictures
    return np.ascontiguousarray(pictures).reshape(len(made), -1)


def _likeness(first: Vectors, second: Vectors) -> NDArray[np.float32]:
    """Return float32[N, M]: the larger correlation of each with each, as they are or mirrored."""
    mirrored = _turned(first, mirrored=True, upside_down=False)
    found: NDArray[np.float32] = np.maximum(first @ second.T, mirrored @ second.T)
    return found


def _nothing(_: int) -> None:
    pass


def alike(first: Vectors, second: Vectors, done: Done = _nothing) -> NDArray[np.bool_]:
    """Return bool[N]: is each of the first nearly one of the second? ``done`` is told how many were looked up."""
    found = np.zeros(len(first), np.bool_)
    for start in range(0, len(first), _BLOCK):
        these = slice(start, start + _BLOCK)
        for at in range(0, len(second), _WIDTH):
            found[these] |= (_likeness(first[these], second[at : at + _WIDTH]) >= ALIKE).any(1)
        done(len(found[these]))
    return found


def by_chance(first: Vectors, second: Vectors, *, seed: int) -> float:
    """Return the share of some of the first, turned upside down, that are nearly one of the second."""
    rows = seeds.rng(seed, "upside-down").permutation(len(first))[:CONTROLS]
    if not len(rows):
        return 0.0
    return float(alike(_turned(first[rows], mirrored=False, upside_down=True), second).mean())


def clusters(made: Vectors, hashes: Sequence[str], done: Done = _nothing) -> NDArray[np.int64]:
    """Return int64[N]: for each image the smallest row of one it is nearly, directly or by a chain.

    Args:
        made: Of the images.
        hashes: Their pixels' identities, by which flat pictures are compared.
        done: Told how many were looked up.
    """
    n, found = len(made), [equal(hashes)]
    for start in range(0, n, _BLOCK):
        # to be mirrored images of each other goes both ways, so each pair is looked at once
        likeness = _likeness(made[start : start + _BLOCK], made[start:])
        near = np.argwhere(likeness >= ALIKE) + start
        found.append(near[near[:, 0] < near[:, 1]])
        done(len(likeness))
    return joined(found, n)


@dataclass(frozen=True, kw_only=True, eq=False)
class Seen:
    """What of a test set is in the training set.

    Attributes:
        exact: bool[N], equal pixels are there.
        near: bool[N], nearly the same picture is there, or equal pixels.
        dropped: bool[N], it or an image of its cluster is nearly there.
        cluster: int64[N], near-duplicates within the test set share a number.
        by_chance: Share of images upside down that are nearly there: how much of ``near`` means nothing.
    """

    exact: NDArray[np.bool_]
    near: NDArray[np.bool_]
    dropped: NDArray[np.bool_]
    cluster: NDArray[np.int64]
    by_chance: float

    def only(self, rows: NDArray[np.bool_]) -> Seen:
        """Return it for some of the images."""
        return replace(
            self,
            exact=self.exact[rows],
            near=self.near[rows],
            dropped=self.dropped[rows],
            cluster=self.cluster[rows],
        )


def seen(
    test: tuple[Vectors, Sequence[str]],
    train: tuple[Vectors, Sequence[str]] | None,
    *,
    seed: int,
    done: Done = _nothing,
) -> Seen:
    """Look up each test image in the training set.

    Args:
        test: Vectors and pixel identities.
        train: Likewise; None where there is none.
        seed: Of the images turned upside down.
        done: Told how many were looked up; each of them twice where there is a training set.
    """
    made, hashes = test
    cluster = clusters(made, hashes, done)
    if train is None:
        none = np.zeros(len(made), np.bool_)
        return Seen(exact=none, near=none, dropped=none, cluster=cluster, by_chance=0.0)
    others = set(train[1])
    exact = np.array([key in others for key in hashes], np.bool_)
    near = alike(made, train[0], done) | exact
    touched = np.zeros(len(made), np.bool_)
    touched[cluster[near]] = True
    return Seen(
        exact=exact,
        near=near,
        dropped=touched[cluster],
        cluster=cluster,
        by_chance=by_chance(made, train[0], seed=seed),
    )


def same_images(first: Vectors, second: Vectors) -> bool:
    """Return whether the n-th image of one set shows what the n-th of the other shows, re-encoded or not.

    Half of them must correlate at 0.5 at least: coding, blur and noise leave more, other pictures about nothing.
    """
    if len(first) != len(second) or not len(first):
        return False
    known = (first.any(1)) & (second.any(1))
    return bool(known.any()) and float(np.median((first * second).sum(1)[known])) >= PAIRED
