"""The only source of randomness: a stream is named by a seed and a path, never by a sum of numbers."""

from __future__ import annotations

from hashlib import sha256

import numpy as np


def _digest(seed: int, path: tuple[str | int, ...]) -> bytes:
    for part in path:
        # an np.int64 prints differently, which would silently be another stream
        if type(part) not in (str, int):
            raise TypeError(f"path parts are str or int, not {type(part).__name__}: {part!r}")
    return sha256(repr((int(seed), *path)).encode()).digest()


def integer(seed: int, *path: str | int) -> int:
    """Return a 63-bit integer that depends on (seed, path) alone; for libraries that want a number as seed."""
    return int.from_bytes(_digest(seed, path)[16:24], "little") >> 1


def rng(seed: int, *path: str | int) -> np.random.Generator:
    """Return a generator whose stream depends on (seed, path) alone.

    Streams of different paths are independent, so a resumed epoch needs no saved state, and seed 0 at
    epoch 1 shares nothing with seed 1 at epoch 0 (as it would with ``seed + epoch``).
    """
    return np.random.Generator(np.random.Philox(key=int.from_bytes(_digest(seed, path)[:16], "little")))
