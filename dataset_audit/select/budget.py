"""How many are kept: the grammar of ``--keep``, and how a count is shared among classes."""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction
from typing import Final

import numpy as np
from numpy.typing import NDArray

from dataset_audit.errors import UsageError

GRAMMAR: Final = "a count (35000), a share with a point (0.7, 1.0 is everything), or a percentage (70%)"
_COUNT: Final = re.compile(r"[0-9]+", re.ASCII)
_SHARE: Final = re.compile(r"[0-9]*\.[0-9]+([eE][-+]?[0-9]{1,4})?", re.ASCII)
_PERCENT: Final = re.compile(r"[0-9]+(\.[0-9]+)?%", re.ASCII)


@dataclass(frozen=True)
class Keep:
    """What ``--keep`` asked for, exactly as written.

    Attributes:
        text: As given.
        share: Of the rankable examples, in (0, 1]; None when a count was given.
        number: Count; None when a share was given.
    """

    text: str
    share: Fraction | None
    number: int | None

    @staticmethod
    def parse(text: str) -> Keep:
        """Read ``0.7``, ``70%`` or ``35000``; ``1`` is one example, ``1.0`` everything.

        Raises:
            UsageError: Anything else; states the grammar.
        """
        if _COUNT.fullmatch(text):
            number = int(text) if len(text) < 20 else 0
            if number > 0:
                return Keep(text, None, number)
        elif _SHARE.fullmatch(text) or _PERCENT.fullmatch(text):
            share = Fraction(text.rstrip("%")) / (100 if text.endswith("%") else 1)
            if 0 < share <= 1:
                return Keep(text, share, None)
            if share > 1:
                raise UsageError(f"--keep {text} is more than everything.", do=f"--keep takes {GRAMMAR}")
        raise UsageError(f"--keep {text!r} is not understood.", do=f"--keep takes {GRAMMAR}")

    def count(self, n: int) -> int:
        """Return how many of ``n`` examples that is: floor(share * n + 1/2), in exact arithmetic, at least one.

        Raises:
            UsageError: A count above ``n``.
        """
        if self.number is not None:
            if self.number > n:
                raise UsageError(
                    f"--keep {self.text} asks for more than the {n:,} examples there are to rank."
                )
            return self.number
        share = self.share or Fraction(0)
        return max(1, int(share * n + Fraction(1, 2)))


def quotas(sizes: NDArray[np.int64], count: int, *, floor: int = 0) -> NDArray[np.int64]:
    """Return how many each class keeps: ``count`` shared in proportion, by largest remainder.

    Equal remainders go to the lower class number. With ``floor`` 1 no class that has examples is left empty: what it
    needs is taken from the largest quota.

    Args:
        sizes: int64[C], examples per class.
        count: At most their sum.
        floor: 0 or 1.

    Raises:
        UsageError: More classes than examples to keep, with a floor of one.
    """
    total = int(sizes.sum())
    exact = [Fraction(int(size) * count, total) for size in sizes]
    shares = np.array([int(value) for value in exact], dtype=np.int64)
    by_remainder = sorted(range(len(sizes)), key=lambda c: (int(shares[c]) - exact[c], c))
    shares[by_remainder[: count - int(shares.sum())]] += 1
    if not floor:
        return shares
    needy = [c for c in range(len(sizes)) if sizes[c] > 0 and shares[c] == 0]
    if int((sizes > 0).sum()) > count:
        raise UsageError(
            f"{count:,} examples cannot cover {int((sizes > 0).sum()):,} classes.",
            do="a larger --keep, or --allow-empty-class",
        )
    for c in needy:
        shares[int(np.argmax(shares))] -= 1
        shares[c] = 1
    return shares


def spread(sizes: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    """Return how many each stratum gives: the smallest whole, the rest shared evenly (Zheng et al. 2023, alg. 1).

    Strata are visited from the smallest (lower number first among equals); each gives min(its size, what is left
    over the strata left). The sum is exactly ``count``.

    Raises:
        UsageError: ``count`` is more than there are.
    """
    if count > int(sizes.sum()):
        raise UsageError(f"{count:,} examples were asked of strata that hold {int(sizes.sum()):,}.")
    budgets = np.zeros(len(sizes), dtype=np.int64)
    left = count
    for place, stratum in enumerate(np.argsort(sizes, kind="stable")):
        budgets[stratum] = min(int(sizes[stratum]), left // (len(sizes) - place))
        left -= int(budgets[stratum])
    return budgets
