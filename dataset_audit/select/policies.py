"""POLICIES: from a ranking to exactly ``count`` examples; pure NumPy, seeded by tie keys, independent of row order."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from dataset_audit.errors import UsageError
from dataset_audit.select.budget import quotas, spread
from dataset_audit.select.order import Hard, order

Positions = NDArray[np.int64]
Floats = NDArray[np.float64]

# Share of the hardest that ccs throws away first, by share pruned; tuned on test accuracy by its authors
# (Zheng et al. 2023), an advantage that a random subset did not get.
BETAS: Final[dict[str, tuple[tuple[float, float], ...]]] = {
    "cifar10": ((0.0, 0.0), (0.3, 0.0), (0.5, 0.0), (0.7, 0.1), (0.8, 0.1), (0.9, 0.3), (1.0, 0.3)),
    "cifar100": ((0.0, 0.0), (0.3, 0.1), (0.5, 0.2), (0.7, 0.2), (0.8, 0.4), (0.9, 0.5), (1.0, 0.5)),
    "imagenet": ((0.0, 0.0), (0.3, 0.0), (0.5, 0.1), (0.7, 0.2), (0.8, 0.2), (0.9, 0.3), (1.0, 0.3)),
}


@dataclass(frozen=True, kw_only=True)
class Candidates:
    """The rankable examples; every array has one entry per candidate, in the same order.

    Attributes:
        keys: What to rank by, most important first; float64, no NaN.
        hard: Which end of each key is hard.
        tie: uint64, from ``tie_keys``.
        labels: int64 class numbers, -1 where unlabelled.
        columns: Further score columns a policy may need (``aum``, ``dual``, ``dual_confidence``).
        embeddings: float[K, D], or None.
    """

    keys: tuple[Floats, ...]
    hard: tuple[Hard, ...]
    tie: NDArray[np.uint64]
    labels: NDArray[np.int64]
    columns: Mapping[str, Floats] = field(default_factory=dict)
    embeddings: NDArray[np.float64] | None = None

    def __len__(self) -> int:
        return len(self.tie)

    def hardest_first(self) -> Positions:
        """Return all positions, hardest first."""
        return order(self.keys, self.hard, self.tie)

    def only(self, positions: Positions) -> Candidates:
        """Return the candidates at ``positions``."""
        return Candidates(
            keys=tuple(key[positions] for key in self.keys),
            hard=self.hard,
            tie=self.tie[positions],
            labels=self.labels[positions],
            columns={name: values[positions] for name, values in self.columns.items()},
            embeddings=None if self.embeddings is None else self.embeddings[positions],
        )


@dataclass(frozen=True, kw_only=True)
class Options:
    """What a policy can be told.

    Attributes:
        skip: Share of the hardest that ``window`` leaves out.
        beta: Share of the hardest that ``ccs`` throws away; None takes the published value for the share pruned.
        strata: Number of equal-width bins of ``ccs``.
        exponent: c of ``dual``; None takes the published value for the number of classes.
        table: Row of BETAS.
        pruned: Share pruned of everything there was; what tables and ``dual`` go by.
    """

    skip: float = 0.0
    beta: float | None = None
    strata: int = 50
    exponent: float | None = None
    table: str = "cifar10"
    pruned: float = 0.0

    def beta_or_default(self) -> float:
        """Return beta, interpolated in the share pruned and at most what may be pruned."""
        if self.beta is not None:
            return self.beta
        shares, betas = zip(*BETAS[self.table], strict=True)
        return min(float(np.interp(self.pruned, shares, betas)), self.pruned)


@dataclass(frozen=True)
class Chosen:
    """What a policy decided.

    Attributes:
        kept: Positions kept, in the order the policy wants them.
        reason: Why each candidate that is not kept was dropped; unspecified for kept ones.
        stratum: int64 per candidate, -1 for none; None if the policy has no strata.
    """

    kept: Positions
    reason: NDArray[np.str_]
    stratum: NDArray[np.int64] | None = None


def _reasons(n: int, word: str) -> NDArray[np.str_]:
    return np.full(n, word, dtype="<U12")


def hardest(candidates: Candidates, count: int, options: Options) -> Chosen:  # noqa: ARG001 - all are called alike
    """Keep the first ``count`` of the hardest-first order. Nested in count."""
    return Chosen(candidates.hardest_first()[:count], _reasons(len(candidates), "easy"))


def easiest(candidates: Candidates, count: int, options: Options) -> Chosen:  # noqa: ARG001 - all are called alike
    """Keep the easiest: the scores reversed, the tie key not. Nested in count."""
    ranked = order(candidates.keys, candidates.hard, candidates.tie, easiest=True)
    return Chosen(ranked[:count], _reasons(len(candidates), "hard"))


def random(candidates: Candidates, count: int, options: Options) -> Chosen:  # noqa: ARG001 - all are called alike
    """Keep the ``count`` smallest tie keys. Nested in count."""
    return Chosen(np.argsort(candidates.tie, kind="stable")[:count], _reasons(len(candidates), "random"))


def window(candidates: Candidates, count: int, options: Options) -> Chosen:
    """Drop the floor(skip K + 1/2) hardest, keep the next ``count``. Nested with skip fixed.

    Raises:
        UsageError: Skip and count together are more than there are.
    """
    n = len(candidates)
    skipped = int(options.skip * n + 0.5)
    if skipped + count > n:
        raise UsageError(
            f"--skip {options.skip:g} leaves out {skipped:,} of {n:,}; {count:,} to keep are "
            f"{skipped + count - n:,} too many.",
            do="a smaller --skip or --keep",
        )
    ranked = candidates.hardest_first()
    reason = _reasons(n, "easy")
    reason[ranked[:skipped]] = "hard"
    return Chosen(ranked[skipped : skipped + count], reason)


def moderate(candidates: Candidates, count: int, options: Options) -> Chosen:  # noqa: ARG001 - all are called alike
    """Keep the middle ranks by distance to the class's coordinate-wise median embedding (Xia et al. 2023).

    Exactly ``count`` ranks from floor((K - count) / 2) on. Nested in count up to one rank at an end.

    Raises:
        UsageError: No embeddings.
    """
    if candidates.embeddings is None:
        raise UsageError(
            "moderate needs embeddings.", do="--embeddings FILE, float[N, D] in .npy, .npz or Parquet"
        )
    distance = np.zeros(len(candidates))
    for label in np.unique(candidates.labels):
        mine = candidates.labels == label
        vectors = candidates.embeddings[mine]
        distance[mine] = np.linalg.norm(vectors - np.median(vectors, axis=0), axis=1)
    return middle(distance, candidates.tie, count)


def middle(distance: Floats, tie: NDArray[np.uint64], count: int) -> Chosen:
    """Return the ``count`` middle ranks of a distance, nearest first."""
    n = len(distance)
    ranked = np.lexsort([tie, distance])
    first = (n - count) // 2
    reason = _reasons(n, "hard")
    reason[ranked[:first]] = "easy"
    return Chosen(ranked[first : first + count], reason)


def ccs(candidates: Candidates, count: int, options: Options) -> Chosen:
    """Cut the hardest share beta by AUM, then draw evenly over strata of the score (Zheng et al. 2023, CCS).

    Equal-width bins over [min, max] of the first key of what is left, the last bin closed; the smallest bins are
    taken whole and the rest share what is left; in each bin the smallest tie keys. Exactly ``count``. Not nested.

    Raises:
        UsageError: beta and count together are more than there are; says both.
    """
    n = len(candidates)
    cut = int(options.beta_or_default() * n)
    if cut + count > n:
        raise over_budget(options.beta_or_default(), cut, n, count)
    ranked = by_aum = candidates.hardest_first()
    if "aum" in candidates.columns:
        by_aum = replace(candidates, keys=(candidates.columns["aum"],), hard=("low",)).hardest_first()
    gone = np.zeros(n, dtype=bool)
    gone[by_aum[:cut]] = True
    left = np.flatnonzero(~gone)
    score = candidates.keys[0][left]
    bins = strata(score, options.strata)
    budgets = spread(np.bincount(bins, minlength=options.strata), count)
    within = np.lexsort([candidates.tie[left], bins])
    starts = np.searchsorted(bins[within], np.arange(options.strata))
    place = np.arange(len(left)) - starts[bins[within]]
    kept = left[within[place < budgets[bins[within]]]]
    stratum = np.full(n, -1, dtype=np.int64)
    stratum[left] = bins
    reason = _reasons(n, "random")
    reason[gone] = "beta"
    chosen = np.zeros(n, dtype=bool)
    chosen[kept] = True
    return Chosen(ranked[chosen[ranked]], reason, stratum)


def over_budget(beta: float, cut: int, n: int, count: int) -> UsageError:
    """Return the refusal of a cut that leaves fewer than are to be kept."""
    return UsageError(
        f"--beta {beta:g} cuts {cut:,} of {n:,}; {count:,} to keep are {cut + count - n:,} too many.",
        do=f"--beta {max(0, n - count) / n:.3g} or less, or --policy auto",
    )


def strata(score: Floats, number: int) -> NDArray[np.int64]:
    """Return the equal-width bin of each value, 0..number-1 over [min, max], last bin closed; all equal is bin 0."""
    low, high = float(score.min()), float(score.max())
    if high <= low:
        return np.zeros(len(score), dtype=np.int64)
    edges = np.linspace(low, high, number + 1)
    return np.clip(np.searchsorted(edges, score, side="right") - 1, 0, number - 1).astype(np.int64)


def dual(candidates: Candidates, count: int, options: Options) -> Chosen:
    """Draw without replacement, weighted by DUAL times a beta density of the mean probability (Cho et al. 2025).

    With p the mean p_y of the first 30 presentations, mu the mean of p over the ten highest DUAL scores and r the
    share pruned: b = 15 (1 - mu) (1 - r^c), a = 16 - b, w = Beta(a, b).pdf(p) * DUAL. The draw is exact and seeded:
    keep the smallest -log(u) / w with u from the tie key (Efraimidis & Spirakis 2006). Not nested.

    Raises:
        UsageError: The columns ``dual`` and ``dual_confidence`` are missing or undefined.
    """
    missing = [name for name in ("dual", "dual_confidence") if name not in candidates.columns]
    if missing:
        raise UsageError(
            f"The policy dual needs the column{'s' * (len(missing) > 1)} {' and '.join(missing)}.",
            do="score with 10 epochs or more",
        )
    score, p = candidates.columns["dual"], candidates.columns["dual_confidence"]
    undefined = int((np.isnan(score) | np.isnan(p)).sum())
    if undefined:
        raise UsageError(f"dual is undefined for {undefined:,} examples: fewer than 10 presentations.")
    exponent = options.exponent
    if exponent is None:
        classes = len(np.unique(candidates.labels))
        exponent = 5.5 if classes <= 10 else 4.0 if classes <= 100 else 11.0
    top = np.lexsort([candidates.tie, -score])[:10]
    b = 15 * (1 - float(p[top].mean())) * (1 - options.pruned**exponent)
    a = 16 - b
    inside = np.clip(p, 1e-6, 1 - 1e-6)
    with np.errstate(divide="ignore"):
        log_weight = (a - 1) * np.log(inside) + (b - 1) * np.log1p(-inside) + np.log(score)
    u = (candidates.tie.astype(np.float64) + 0.5) / 2.0**64
    u = np.clip(u, 2.0**-64, 1 - 2.0**-53)
    # log of -log(u) / w: no overflow for tiny weights; a weight of zero sorts last, there by its tie key
    key = np.log(-np.log(u)) - log_weight
    return Chosen(np.lexsort([candidates.tie, key])[:count], _reasons(len(candidates), "random"))


@dataclass(frozen=True)
class Policy:
    """A selection rule.

    Attributes:
        choose: (candidates, count, options) -> Chosen, exactly ``count``.
        about: One line.
        nested: Whether a smaller keep is a subset of a larger one.
        by: What it ranks by when nobody says; "" means the default ranking.
        needs: Columns beside the ranking.
    """

    choose: Callable[[Candidates, int, Options], Chosen]
    about: str
    nested: bool
    by: str = ""
    needs: tuple[str, ...] = ()


POLICIES: Final[dict[str, Policy]] = {
    "hardest": Policy(hardest, "the hardest (Toneva et al. 2019)", nested=True),
    "easiest": Policy(easiest, "the easiest, as an anti-arm", nested=True),
    "random": Policy(random, "a seeded random subset", nested=True),
    "window": Policy(window, "skip the very hardest, keep the next", nested=True),
    "ccs": Policy(
        ccs, "coverage over score strata after a hard cutoff (Zheng et al. 2023)", nested=False, by="aum",
        needs=("aum",),
    ),
    "dual": Policy(
        dual, "difficulty times uncertainty, beta-sampled (Cho et al. 2025)", nested=False, by="dual",
        needs=("dual", "dual_confidence"),
    ),
    "moderate": Policy(moderate, "middle distances to the class median (Xia et al. 2023)", nested=False),
}  # fmt: skip


def auto(keep_share: float) -> str:
    """Return the policy for a share kept: hardest from one half on, ccs below, where hardest collapses.

    From published removal curves: at 50 % kept the hardest still match the full set, at 30 % kept they fall below
    random and at 10 % by some forty points, where coverage over strata holds.
    """
    return "hardest" if keep_share >= 0.5 else "ccs"


def balanced(policy: Policy, candidates: Candidates, count: int, options: Options, *, floor: int) -> Chosen:
    """Apply a policy inside every class with a quota in proportion to its size; exactly ``count`` in all.

    Kept positions are interleaved by their rank within the class relative to its quota.
    """
    classes, inverse = np.unique(candidates.labels, return_inverse=True)
    shares = quotas(np.bincount(inverse), count, floor=floor)
    reason = _reasons(len(candidates), "quota")
    kept, places = [], []
    for number in range(len(classes)):
        mine = np.flatnonzero(inverse == number)
        if not shares[number]:
            continue
        chosen = policy.choose(candidates.only(mine), int(shares[number]), options)
        kept.append(mine[chosen.kept])
        places.append((np.arange(len(chosen.kept)) + 0.5) / len(chosen.kept))
        reason[mine] = chosen.reason
    together = np.concatenate(kept)
    interleaved = np.lexsort([candidates.tie[together], np.concatenate(places)])
    return Chosen(together[interleaved], reason, inverse.astype(np.int64))
