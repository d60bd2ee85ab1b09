"""Every row at once, in the order of its rank: tables that fit in memory. What `streamed` does must equal this."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from dataset_audit.commands.prune.config import Config
from dataset_audit.commands.prune.said import Boundary, Figures
from dataset_audit.errors import MismatchError, UsageError
from dataset_audit.progress import Progress
from dataset_audit.select.policies import POLICIES, Chosen, Options, auto, balanced
from dataset_audit.select.ranking import Ranked, Wanted, betas_for, check_classes, rank, unscored
from dataset_audit.tables.manifest import COPIED, Selection
from dataset_audit.tables.scores import ScoreTable

RANKS_UP_TO: Final = 5_000_000  # rows; beyond, the column keep_rank is written only when asked for


@dataclass(frozen=True, eq=False)
class Choice:
    """A choice among the rows of a table.

    Attributes:
        ranked: Its candidates.
        policy: The policy that chose.
        options: What the policy was told.
        selection: What was decided of every row.
    """

    ranked: Ranked
    policy: str
    options: Options
    selection: Selection

    @property
    def count(self) -> int:
        """How many are kept."""
        return int(self.selection.keep.sum())

    def figures(self) -> Figures:
        """Return what the choice came to."""
        keep, ranked = self.selection.keep, self.ranked
        reasons, numbers = np.unique(self.selection.reason[~keep], return_counts=True)
        labels, kept = ranked.candidates.labels, keep[ranked.rows]
        found, number = np.unique(labels, return_inverse=True)
        sizes, left = np.bincount(number), np.bincount(number[kept], minlength=len(found))
        return Figures(
            rows=len(keep),
            rankable=len(ranked.rows),
            kept=int(keep.sum()),
            dropped={str(reason): int(count) for reason, count in zip(reasons, numbers, strict=True)},
            classes=dict(zip(found.tolist(), zip(sizes.tolist(), left.tolist(), strict=True), strict=True)),
            boundary=_boundary(ranked, kept),
            by=ranked.by,
            why=ranked.why,
            policy=self.policy,
        )


def choose(config: Config, table: ScoreTable, progress: Progress) -> Choice:
    """Return the choice among the rows of a table.

    Raises:
        UsageError: A contradictory request.
        DataError: Scores that cannot be ranked.
    """
    excluded = unscored(table, config.scores)
    scored = int((excluded == "").sum())
    policy = auto(config.keep.count(scored) / scored) if config.policy == "auto" else config.policy
    ranked = rank(wanted(config), table, policy, progress)
    if config.embeddings is not None:
        ranked = _embedded(config.embeddings, ranked, len(table), config.scores)
    count = config.keep.count(len(ranked.rows))
    options = Options(
        skip=config.skip,
        beta=config.beta,
        strata=config.strata,
        table=betas_for(table, config.dataset),
        pruned=1 - count / len(ranked.rows),
    )
    pool = _not_noisy(config, table, ranked, count) if config.drop_noisy else np.arange(len(ranked.rows))
    chosen = _choose(config, ranked, pool, policy, count, options)
    if not config.allow_empty_class:
        check_classes(table, ranked.candidates.labels, chosen.kept, EMPTY_DO)
    return Choice(ranked, policy, options, _selection(config, table, ranked, chosen))


EMPTY_DO: Final = "a larger --keep, --balance, or --allow-empty-class"


def wanted(config: Config) -> Wanted:
    """Return how to rank."""
    return Wanted(
        scores=config.scores,
        by=config.by,
        hard=config.hard,
        also=("aum",) if config.drop_noisy else (),
        nan=config.nan,
        seed=config.seed,
    )


def _embedded(file: Path, ranked: Ranked, n: int, scores: Path) -> Ranked:
    from dataset_audit.tables.vectors import read_vectors  # noqa: PLC0415

    vectors = read_vectors(file)
    if len(vectors) != n:
        raise MismatchError(
            f"{file} has {len(vectors):,} rows, {scores} has {n:,}.", do="one vector per example"
        )
    return replace(ranked, candidates=replace(ranked.candidates, embeddings=vectors[ranked.rows]))


def _not_noisy(config: Config, table: ScoreTable, ranked: Ranked, count: int) -> NDArray[np.int64]:
    """Return which candidates --drop-noisy leaves; one whose AUM is not known is as noisy as can be."""
    if "aum" not in ranked.candidates.columns:
        raise no_aum()
    aum = table.floats("aum")[ranked.rows]
    left = np.flatnonzero(np.isfinite(aum) & (aum >= config.noisy_below))
    if len(left) < count:
        raise too_noisy(len(left), len(aum), count)
    return left


def _choose(
    config: Config,
    ranked: Ranked,
    left: NDArray[np.int64],
    policy_name: str,
    count: int,
    options: Options,
) -> Chosen:
    """Return the choice among the candidates that are left."""
    policy, candidates = POLICIES[policy_name], ranked.candidates
    pool = candidates if len(left) == len(candidates) else candidates.only(left)
    if config.balance:
        if (pool.labels < 0).all():
            raise no_labels(config)
        chosen = balanced(policy, pool, count, options, floor=0 if config.allow_empty_class else 1)
    else:
        chosen = policy.choose(pool, count, options)
    reason = np.full(len(candidates), "noisy", dtype="<U12")
    reason[left] = chosen.reason
    stratum = None
    if chosen.stratum is not None:
        stratum = np.full(len(candidates), -1, dtype=np.int64)
        stratum[left] = chosen.stratum
    return Chosen(left[chosen.kept], reason, stratum)


def no_aum() -> UsageError:
    """Return the refusal of --drop-noisy without what it goes by."""
    return UsageError("--drop-noisy needs the column aum.", do="audit forgetting writes it")


def no_labels(config: Config) -> UsageError:
    """Return the refusal of --balance without labels."""
    return UsageError("--balance needs labels.", where=str(config.scores))


def too_noisy(left: int, rankable: int, count: int) -> UsageError:
    """Return the refusal of --drop-noisy where it leaves fewer than are to be kept."""
    return UsageError(
        f"--drop-noisy leaves {left:,} of {rankable:,} examples; {count:,} are to be kept.",
        do="a smaller --keep, or a lower --noisy-below",
    )


def _selection(config: Config, table: ScoreTable, ranked: Ranked, chosen: Chosen) -> Selection:
    n = len(table)
    keep = np.zeros(n, dtype=bool)
    kept_rows = ranked.rows[chosen.kept]
    keep[kept_rows] = True
    rank: NDArray[np.int64] | None = None
    if config.ranks or (config.ranks is None and n <= RANKS_UP_TO):
        rank = np.full(n, -1, dtype=np.int64)
        rank[kept_rows] = np.arange(len(kept_rows))
    stratum = np.full(n, -1, dtype=np.int64)
    if chosen.stratum is not None:
        stratum[ranked.rows] = chosen.stratum
    reason = ranked.excluded.copy()
    reason[ranked.rows] = chosen.reason
    reason[keep] = "policy"
    return Selection(
        keep=keep,
        rank=rank,
        stratum=stratum,
        reason=reason,
        scores=copied_scores(ranked.by),
        all_rows=config.all_rows,
    )


def copied_scores(by: tuple[str, ...]) -> tuple[str, ...]:
    """Return the columns of scores that a manifest takes over."""
    return tuple(dict.fromkeys(name for name in by if name not in COPIED))


def _boundary(ranked: Ranked, kept: NDArray[np.bool_]) -> Boundary | None:
    """Return how many examples tie on the first key where the cut falls, if any do."""
    key = ranked.candidates.keys[0]
    if kept.all():
        return None
    inside, outside = key[kept], key[~kept]
    edges = {inside.min(): outside.max(), inside.max(): outside.min()}
    both = [value for value, other in edges.items() if value == other]
    if len(both) != 1:
        return None
    tied = key == both[0]
    return Boundary(float(both[0]) + 0.0, int(tied.sum()), int((tied & kept).sum()))
