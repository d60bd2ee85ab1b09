"""Intervals of proportions: exact, score, and for the difference of two; no scipy.stats, which takes a second."""

from __future__ import annotations

from math import sqrt


def _check(successes: int, n: int, confidence: float) -> None:
    if n < 1 or not 0 <= successes <= n:
        raise ValueError(f"{successes} of {n} is no proportion")
    if not 0 < confidence < 1:
        raise ValueError(f"a confidence lies between 0 and 1, not at {confidence}")


def clopper_pearson(successes: int, n: int, confidence: float = 0.95) -> tuple[float, float]:
    """Return the exact interval of a proportion, which covers it at least as often as promised.

    The ends are B⁻¹(α/2; k, n − k + 1) and B⁻¹(1 − α/2; k + 1, n − k), with α = 1 − confidence.

    Args:
        successes: k, in [0, n].
        n: Number of trials, at least 1.
        confidence: In (0, 1).

    Returns:
        Low and high end, shares in [0, 1]: exactly 0 at k = 0, exactly 1 at k = n.

    Raises:
        ValueError: If these are no counts or no confidence.

    Source: Clopper & Pearson 1934.
    """
    from scipy.special import betaincinv  # noqa: PLC0415 - commands without intervals do not wait for it

    _check(successes, n, confidence)
    tail = (1 - confidence) / 2
    low = float(betaincinv(successes, n - successes + 1, tail)) if successes > 0 else 0.0
    high = float(betaincinv(successes + 1, n - successes, 1 - tail)) if successes < n else 1.0
    return low, high


def wilson(successes: int, n: int, confidence: float = 0.95) -> tuple[float, float]:
    """Return the score interval of a proportion, shorter than the exact one and right on average.

    Centre (p + z²/2n)/(1 + z²/n), half width z√(p(1 − p)/n + z²/4n²)/(1 + z²/n).

    Args:
        successes: In [0, n].
        n: Number of trials, at least 1.
        confidence: In (0, 1).

    Returns:
        Low and high end, shares in [0, 1].

    Raises:
        ValueError: If these are no counts or no confidence.

    Source: Wilson 1927.
    """
    from scipy.special import ndtri  # noqa: PLC0415 - as above

    _check(successes, n, confidence)
    z, p = float(ndtri((1 + confidence) / 2)), successes / n
    scale = 1 + z * z / n
    centre, half = (p + z * z / (2 * n)) / scale, z * sqrt(p * (1 - p) / n + z * z / (4 * n * n)) / scale
    # at the ends the two terms are equal and their difference is rounding
    return (max(centre - half, 0.0) if successes else 0.0), (
        min(centre + half, 1.0) if successes < n else 1.0
    )


def newcombe(s1: int, n1: int, s2: int, n2: int, confidence: float = 0.95) -> tuple[float, float]:
    """Return the hybrid score interval of p1 − p2 of two independent proportions.

    Not for two models on the same images: those are paired, and the discordant counts decide.

    Args:
        s1: Successes of the first.
        n1: Trials of the first.
        s2: Successes of the second.
        n2: Trials of the second.
        confidence: In (0, 1).

    Returns:
        Low and high end, in [−1, 1].

    Raises:
        ValueError: If these are no counts or no confidence.

    Source: Newcombe 1998, method 10.
    """
    (low1, high1), (low2, high2) = wilson(s1, n1, confidence), wilson(s2, n2, confidence)
    p1, p2 = s1 / n1, s2 / n2
    below, above = sqrt((p1 - low1) ** 2 + (high2 - p2) ** 2), sqrt((high1 - p1) ** 2 + (p2 - low2) ** 2)
    return p1 - p2 - below, p1 - p2 + above
