"""What ``audit prune`` says of a choice, whichever way it was made."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from dataset_audit.commands.prune.config import Config
from dataset_audit.report.document import Line, Note, Report, Table, Warning
from dataset_audit.select.policies import POLICIES
from dataset_audit.select.ranking import class_name
from dataset_audit.tables.scores import ScoreTable

NOTABLE: Final = 2.0  # points a class share may move without a warning


@dataclass(frozen=True)
class Boundary:
    """Examples that tie on the first key where the cut falls."""

    value: float
    tied: int
    kept: int


@dataclass(frozen=True, kw_only=True)
class Figures:
    """What a choice came to.

    Attributes:
        rows: Of the table.
        rankable: Rows that could be ranked.
        kept: Rows.
        dropped: Reason -> rows.
        classes: Label -> rankable rows, and how many of them are kept; empty without labels.
        boundary: None where no tie is cut.
        by: The columns that rank.
        why: In a phrase, why those.
        policy: Its name.
    """

    rows: int
    rankable: int
    kept: int
    dropped: Mapping[str, int]
    classes: Mapping[int, tuple[int, int]]
    boundary: Boundary | None
    by: tuple[str, ...]
    why: str
    policy: str


def report(config: Config, table: ScoreTable, figures: Figures, identity: Mapping[str, object]) -> Report:
    """Return the report of a choice that is not written yet.

    Args:
        config: The request.
        table: For names and provenance; its rows are not looked at.
        figures: What the choice came to.
        identity: Every setting that decides the manifest.
    """
    count, total, policy = figures.kept, figures.rankable, figures.policy
    classes, moved = _classes(table, figures)
    told = nested(config, policy)
    origin = table.provenance
    spec = "foreign table" if origin is None else origin.spec or ", ".join(one.name for one in origin.sources)
    reasons = (f"{word} {number:,}" for word, number in figures.dropped.items())
    lines: list[Line | Table | Note] = [
        Line("keep", (f"{count:,} of {total:,} ({config.keep.text})", f"of {figures.rows:,} rows")),
        Line("policy", (f"auto -> {policy}" if config.policy == "auto" else policy, POLICIES[policy].about)),
        Line("by", (", ".join(figures.by) + ", tie key", figures.why)),
        *_boundary(figures),
        Line("dropped", (f"{figures.rows - count:,}", *reasons)),
        Line(
            "nested",
            (
                "yes: a smaller --keep keeps a subset of these"
                if told
                else "no: another --keep may add others",
            ),
        ),
    ]
    if config.policy == "auto" and policy == "ccs" and count / total < 0.2:
        lines.append(Note("below 20 % kept a random subset trained with the same care comes close"))
    if classes is not None:
        lines.append(classes)
    warnings = []
    if moved > NOTABLE and not config.balance:
        warnings.append(
            Warning("W-shares", f"class shares moved by up to {moved:.1f} points; --balance keeps them")
        )
    return Report(
        command="prune",
        title=f"{config.scores} ({spec}, {figures.rows:,} examples) -> {config.out}",
        items=tuple(lines),
        summary={
            **identity,
            "rankable": total,
            "dropped": dict(figures.dropped),
            "nested": told,
            "largest_share_change_points": moved,
        },
        warnings=tuple(warnings),
        next=f"Manifest.read({str(config.out)!r})",
    )


def nested(config: Config, policy: str) -> bool:
    """Return whether a smaller --keep keeps a subset."""
    return POLICIES[policy].nested and not config.balance


def up_to_date(config: Config, count: int) -> Report:
    """Return the report of a request that was answered before."""
    return Report(
        "prune",
        f"{config.out} is up to date",
        items=(Note("nothing to do: the finished manifest has these scores and options"),),
        summary={"nothing_to_do": True, "keep_count": count},
    )


def _boundary(figures: Figures) -> tuple[Line, ...]:
    """Return how many examples tie on the first key where the cut falls, if any do."""
    edge = figures.boundary
    if edge is None:
        return ()
    told = f"{figures.by[0]} {edge.value:g}: {edge.tied:,} examples tie there, {edge.kept:,} of them kept"
    return (Line("boundary", (told,)),)


def _classes(table: ScoreTable, figures: Figures) -> tuple[Table | None, float]:
    """Return class shares before and after, the least kept class first, and the largest move in points."""
    if not any(label >= 0 for label in figures.classes):
        return None, 0.0
    rows, largest = [], 0.0
    for label, (size, stays) in sorted(figures.classes.items()):
        if label < 0:
            continue
        before, after = 100 * size / figures.rankable, 100 * stays / figures.kept
        largest = max(largest, abs(after - before))
        part = 100 * stays / size
        cells = (
            class_name(table, label), f"{before:.1f} %", f"{after:.1f} %", f"{after - before:+.1f}", f"{part:.1f} %",
        )  # fmt: skip
        rows.append((part, cells))
    rows.sort(key=lambda row: row[0])
    columns = ("class", "before", "after", "change", "kept")
    return Table(columns, tuple(cells for _, cells in rows), left=("class",)), float(largest)
