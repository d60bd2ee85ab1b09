"""From a table of scores to candidates a policy can choose among: what ranks, which rows can be ranked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from dataset_audit.errors import DataError, UsageError
from dataset_audit.progress import Progress
from dataset_audit.select.order import Hard, tie_keys
from dataset_audit.select.policies import BETAS, POLICIES, Candidates
from dataset_audit.tables.scores import COLUMNS, ScoreTable

NULL_ABOVE: Final = {"first_learned": True, "last_wrong": False}  # null is beyond that end, by definition


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """How to rank.

    Attributes:
        scores: The table, for messages.
        by: Columns, most important first; empty for the default of the policy or the recipe.
        hard: Which end is hard, for columns that do not say.
        also: Columns to hold beside those that rank and those the policy needs.
        nan: What becomes of rows whose score is undefined though they were presented.
        seed: Of the tie keys.
        run: Rank by the scores of one run (0-based) of a table with per-run columns; None by their mean.
    """

    scores: Path
    by: tuple[str, ...] = ()
    hard: Hard | None = None
    also: tuple[str, ...] = ()
    nan: Literal["refuse", "hardest", "drop"] = "refuse"
    seed: int = 1
    run: int | None = None


@dataclass(frozen=True)
class Ranked:
    """The rankable rows, and why every other row is not.

    Attributes:
        rows: int64[K], rows of the table.
        candidates: Those rows as a policy takes them, in the same order.
        by: The columns that rank.
        why: In a phrase, why those.
        excluded: Reason per row of the table, "" for rankable ones.
    """

    rows: NDArray[np.int64]
    candidates: Candidates
    by: tuple[str, ...]
    why: str
    excluded: NDArray[np.str_]


def unscored(table: ScoreTable, path: Path) -> NDArray[np.str_]:
    """Return per row why it cannot be ranked, "" where it can.

    Raises:
        DataError: No row can.
    """
    why = np.full(len(table), "", dtype="<U12")
    if table.has("status"):
        why[~table.equals("status", "ok")] = "unreadable"
        why[table.equals("status", "unlabelled") | table.equals("status", "excluded")] = "unscored"
    if table.has("presentations"):
        why[(why == "") & (table.integers("presentations", 0) == 0)] = "unscored"
    if (why != "").all():
        raise DataError(f"{path} has no row that can be ranked.", where=", ".join(np.unique(why)))
    return why


def rank(wanted: Wanted, table: ScoreTable, policy: str, progress: Progress) -> Ranked:
    """Return the rows that can be ranked, with what the policy of that name needs of them.

    Raises:
        UsageError: A column is missing, does not rank, or which end is hard is not known.
        DataError: A score is undefined and ``nan`` refuses that, or no row can be ranked.
    """
    excluded = unscored(table, wanted.scores)
    by, hard, why = ranking(wanted, table, policy, progress)
    n = len(table)
    keys = [_known(wanted, table, name, end, excluded) for name, end in zip(by, hard, strict=True)]
    needed = {*POLICIES[policy].needs, *wanted.also}
    columns = {
        name: _known(wanted, table, name, COLUMNS[name].hard or "low", excluded)
        for name in sorted(needed)
        if table.has(name)
    }
    rows = np.flatnonzero(excluded == "")
    if not len(rows):
        raise DataError(
            f"{wanted.scores} has no row that can be ranked.", where=", ".join(np.unique(excluded))
        )
    candidates = Candidates(
        keys=tuple(key[rows] for key in keys),
        hard=hard,
        tie=tie_keys(wanted.seed, table.uid_words(), table.integers("index"))[rows],
        labels=(table.integers("label") if table.has("label") else np.full(n, -1))[rows],
        columns={name: values[rows] for name, values in columns.items()},
    )
    if len(rows) > 1 and candidates.keys[0].min() == candidates.keys[0].max():
        progress.warn("W-ties", f"every row has the same {by[0]}: what follows it decides the ranking")
    return Ranked(rows, candidates, by, why, excluded)


def ranking(
    wanted: Wanted, table: ScoreTable, policy: str, progress: Progress
) -> tuple[tuple[str, ...], tuple[Hard, ...], str]:
    """Return the columns to rank by, which end of each is hard, and in a phrase why those; no row is looked at.

    Raises:
        UsageError: A column is missing, does not rank, or which end is hard is not known.
    """
    by, why = _default_by(wanted, table, policy)
    if wanted.by and by != wanted.by:
        progress.note(
            f"ranking by {', '.join(by)}: it puts never learned hardest, {', '.join(wanted.by)} does not"
        )
    return by, tuple(_hardness(wanted, table, name) for name in by), why


def _default_by(wanted: Wanted, table: ScoreTable, policy_name: str) -> tuple[tuple[str, ...], str]:
    """Return the columns to rank by and, in a phrase, why."""
    if wanted.by:
        return tuple(
            COLUMNS[name].rank_by or name if name in COLUMNS else name for name in wanted.by
        ), "as asked"
    policy = POLICIES[policy_name]
    if policy.by and table.has(policy.by):
        return (policy.by,), f"what {policy_name} is defined on"
    recommended = table.provenance.recommended if table.provenance else {}
    by = recommended.get("by")
    if by and by != "forgetting" and table.has(str(by)):
        agreement = recommended.get("agreement")
        known = f", agreement {agreement:.2f}" if isinstance(agreement, int | float) else ""
        return (str(by),), f"recommended by its recipe{known}; --by forgetting is the published ranking"
    found = tuple(name for name in ("forgetting", "aum") if table.has(name))
    if found:
        return found, "never learned hardest, then margin"
    usable = [name for name in table.names if name in COLUMNS and COLUMNS[name].hard]
    raise UsageError(
        f"{wanted.scores} has no column that ranks by default.",
        where="columns: " + ", ".join(table.names[:50]),
        do=f"--by {usable[0]}" if usable else "--by COLUMN --hard high|low",
    )


def _hardness(wanted: Wanted, table: ScoreTable, name: str) -> Hard:
    if not table.has(name):
        near = get_close_matches(name, table.names, n=1)
        raise UsageError(
            f"No column {name!r}" + (f"; nearest: {near[0]}." if near else "."),
            where="columns: " + ", ".join(table.names[:50]),
        )
    known = table.hard(name)
    if name in COLUMNS and COLUMNS[name].hard is None:
        raise UsageError(f"The column {name} does not rank.", do="--by another column")
    if known and wanted.hard and known != wanted.hard and name in COLUMNS:
        raise UsageError(f"{name} is hard at its {known} end; --hard {wanted.hard} contradicts that.")
    hard = wanted.hard or known
    if hard is None:
        raise UsageError(
            f"Which end of {name!r} is hard is not known.", do=f"--by {name} --hard high, or --hard low"
        )
    return hard


def _known(
    wanted: Wanted, table: ScoreTable, name: str, end: Hard, excluded: NDArray[np.str_]
) -> NDArray[np.float64]:
    """Return a column, float64[N], finite in every row that is not excluded; with ``--nan drop`` excludes more."""
    values = _values(wanted, table, name)
    if name in NULL_ABOVE:
        values = _beyond(values, np.isnan(values), "high" if NULL_ABOVE[name] else "low")
    unknown = ~np.isfinite(values) & (excluded == "")
    if not unknown.any():
        return values
    if wanted.nan == "refuse":
        raise undefined(name, int(unknown.sum()), np.flatnonzero(unknown)[:5].tolist(), wanted.scores)
    if wanted.nan == "drop":
        excluded[unknown] = "unscored"
        return values
    return _beyond(values, unknown, end)


def undefined(name: str, number: int, rows: Sequence[int], scores: Path) -> DataError:
    """Return the refusal of scores that are no numbers; the first few rows are named."""
    return DataError(
        f"{name} is null, NaN or infinite in {number:,} rows that could be ranked.",
        where=f"{scores}, rows {', '.join(map(str, rows))}",
        do="--nan hardest, or --nan drop",
    )


def _beyond(values: NDArray[np.float64], where: NDArray[np.bool_], end: Hard) -> NDArray[np.float64]:
    """Return ``values`` with the next number past one end of the finite ones put at ``where``.

    Not infinity: strata of equal width need a finite range.
    """
    finite = values[np.isfinite(values)]
    if not len(finite):
        return np.where(where, 0.0, values)
    edge = np.nextafter(finite.max(), np.inf) if end == "high" else np.nextafter(finite.min(), -np.inf)
    return np.where(where, edge, values)


def _values(wanted: Wanted, table: ScoreTable, name: str) -> NDArray[np.float64]:
    return table.floats(name) if wanted.run is None else table.per_run(name)[:, wanted.run]


def betas_for(table: ScoreTable, dataset: str | None = None) -> str:
    """Return the row of BETAS for a table: that of its data set's name where there is one, CIFAR-10's otherwise."""
    spec = dataset or (table.provenance.spec if table.provenance else "")
    name = Path(spec).name.replace("-", "").lower()
    return name if name in BETAS else "cifar10"


def check_classes(table: ScoreTable, labels: NDArray[np.int64], kept: NDArray[np.int64], do: str) -> None:
    """Refuse a choice that leaves a class without an example.

    Args:
        table: For the names of classes.
        labels: int64[K] of the candidates, -1 where unlabelled.
        kept: Positions among them.
        do: What helps.

    Raises:
        UsageError: It empties a class; names them.
    """
    emptied = sorted(set(np.unique(labels[labels >= 0]).tolist()) - set(np.unique(labels[kept]).tolist()))
    refuse_empty(table, emptied, kept=len(kept), rankable=len(labels), do=do)


def refuse_empty(table: ScoreTable, emptied: Sequence[int], *, kept: int, rankable: int, do: str) -> None:
    """Refuse a choice that leaves these classes without an example, if there are any.

    Raises:
        UsageError: There are; names them.
    """
    if not emptied:
        return
    names = ", ".join(class_name(table, label) for label in emptied[:5]) + " ..." * (len(emptied) > 5)
    raise UsageError(
        f"keep {kept:,} of {rankable:,} would empty {len(emptied)} "
        f"class{'es' * (len(emptied) > 1)}: {names}.",
        do=do,
        id="E-class-empty",
    )


def class_name(table: ScoreTable, label: int) -> str:
    """Return the name of a class, or its number where the table does not name it."""
    names = table.provenance.class_names if table.provenance else ()
    return names[label] if 0 <= label < len(names) else str(label)
