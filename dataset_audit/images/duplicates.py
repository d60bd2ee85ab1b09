"""The same picture twice: equal pixels, or copies that were rescaled, re-encoded or recoloured.

Two pictures are near-duplicates when their perceptual hashes differ in at most 8 of 63 bits and their 32x32 grey
copies correlate at 0.97 or more, as they are or mirrored. Pictures with almost no contrast have no structure
to compare; they are duplicates only where their pixels are equal.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256
from typing import Final
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

HASH_BITS: Final = 8  # of 63 that may differ
ALIKE: Final = 0.97  # correlation of the grey copies
FLAT: Final = 3.0  # grey levels of standard deviation below which a picture has no structure
_BLOCK: Final = 1024


def pixel_hash(pixels: NDArray[np.uint8]) -> str:
    """Return the identity of decoded pixels uint8[H, W, C], whatever file they came in.

    A checksum over all of them and a digest of some 4,096: no defence against a forger, but an eighth of the time.
    """
    step = max(1, min(pixels.shape[:2]) // 64)
    some = pixels[::step, ::step]
    shape = "x".join(map(str, pixels.shape))
    return f"{shape}-{crc32(pixels.tobytes()):08x}-{sha256(some.tobytes()).hexdigest()[:24]}"


def perceptual_hash(grey: NDArray[np.float32]) -> NDArray[np.uint64]:
    """Return uint64[N], one bit per low frequency: is its DCT coefficient above their median?

    Args:
        grey: float32[N, 32, 32].
    """
    from scipy.fft import dctn  # noqa: PLC0415 - only commands that look for duplicates pay for scipy

    low = dctn(grey, axes=(1, 2), norm="ortho")[:, :8, :8].reshape(len(grey), 64)[:, 1:]
    bits = low > np.median(low, axis=1, keepdims=True)
    weights = np.uint64(1) << np.arange(63, dtype=np.uint64)
    hashes: NDArray[np.uint64] = (bits * weights).sum(1, dtype=np.uint64)
    return hashes


def clusters(grey: NDArray[np.float32], hashes: Sequence[str]) -> NDArray[np.int64]:
    """Return int64[N]: for each picture the smallest index of a picture it is a duplicate of, directly or by a chain.

    Every pair is compared, in blocks: 10,000 pictures take a few seconds.

    Args:
        grey: float32[N, 32, 32], small grey copies.
        hashes: ``pixel_hash`` of each.
    """
    return joined([equal(hashes), _near(grey)], len(grey))


def equal(hashes: Sequence[str]) -> NDArray[np.int64]:
    """Return int64[P, 2]: each picture whose pixels an earlier one has, behind the first of those."""
    first: dict[str, int] = {}
    known = [(first.setdefault(key, index), index) for index, key in enumerate(hashes)]
    return np.array([pair for pair in known if pair[0] != pair[1]], np.int64).reshape(-1, 2)


def joined(pairs: Sequence[NDArray[np.int64]], n: int) -> NDArray[np.int64]:
    """Return int64[N]: for each of N the smallest that pairs, each int64[P, 2], lead to, directly or by a chain."""
    from scipy.sparse import coo_array  # noqa: PLC0415 - only commands that look for duplicates pay for scipy
    from scipy.sparse.csgraph import connected_components  # noqa: PLC0415

    one, other = np.concatenate(pairs).T
    graph = coo_array((np.ones(len(one), np.int8), (one, other)), shape=(n, n))
    count, component = connected_components(graph, directed=False)
    least = np.full(count, n, np.int64)
    np.minimum.at(least, component, np.arange(n))
    named: NDArray[np.int64] = least[component]
    return named


def _near(grey: NDArray[np.float32]) -> NDArray[np.int64]:
    """Return int64[P, 2], pairs of near-duplicates; some twice."""
    usable = np.flatnonzero(grey.std((1, 2)) >= FLAT)
    if len(usable) < 2:
        return np.empty((0, 2), np.int64)
    shown = grey[usable]
    bits, mirrored = perceptual_hash(shown), perceptual_hash(np.ascontiguousarray(shown[:, :, ::-1]))
    found = []
    for start in range(0, len(usable), _BLOCK):
        # the median moves when a picture is mirrored: which of two is mirrored counts, so both ways are tried
        for others, turned, first in ((bits, False, start), (mirrored, True, 0)):
            distance = np.bitwise_count(bits[start : start + _BLOCK, None] ^ others[None, first:])
            near = np.argwhere(distance <= HASH_BITS) + np.array([start, first])
            near = near[near[:, 0] != near[:, 1]] if turned else near[near[:, 0] < near[:, 1]]
            if len(near):
                found.append(usable[near[_alike(shown, near, turned=turned)]])
    return np.concatenate(found) if found else np.empty((0, 2), np.int64)


def _alike(grey: NDArray[np.float32], pairs: NDArray[np.int64], *, turned: bool) -> NDArray[np.bool_]:
    """Return bool[P]: do the grey copies of each pair correlate, the second mirrored if ``turned``?"""
    alike = np.zeros(len(pairs), np.bool_)
    for start in range(0, len(pairs), _BLOCK):
        part = pairs[start : start + _BLOCK]
        first, second = grey[part[:, 0]], grey[part[:, 1]]
        second = second[:, :, ::-1] if turned else second
        first = first - first.mean((1, 2), keepdims=True)
        second = second - second.mean((1, 2), keepdims=True)
        scale = np.sqrt((first**2).sum((1, 2)) * (second**2).sum((1, 2)))
        alike[start : start + _BLOCK] = (first * second).sum((1, 2)) >= ALIKE * scale
    return alike
