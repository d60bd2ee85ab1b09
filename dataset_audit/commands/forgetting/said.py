"""What is said about a table of scores: the lines, the table of classes, the charts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from dataset_audit.commands.forgetting.choices import Opened, Resolved
from dataset_audit.report.charts import Chart, Tile, bars, sheet
from dataset_audit.report.document import Line, Note, Table
from dataset_audit.select.order import order, tie_keys
from dataset_audit.tables.scores import ScoreTable

CAPTION = "(label · forgetting · index)"


def percent(share: float) -> str:
    """Return a share as it is printed everywhere: ``31.3 %``."""
    return f"{100 * share:.1f} %"


def lines(figures: Mapping[str, object], resolved: Resolved) -> tuple[Line | Note, ...]:
    """Return the figures of the summary in words, most important first."""
    runs = len(resolved.seeds)
    every = "in the run" if runs == 1 else f"in all {runs} runs"
    told: list[Line | Note] = []
    for label, key in (("unforgettable", "unforgettable"), ("never learned", "never_learned")):
        count, share = int(figures[f"{key}_count"]), float(figures[f"{key}_all_runs"])  # type: ignore[call-overload,arg-type]
        cells = [every, f"{count:,}", percent(share)]
        if runs > 1:
            each = figures[f"{key}_per_run"]
            cells += ["per run", f"{percent(min(each))} to {percent(max(each))}"]  # type: ignore[call-overload]
        told.append(Line(label, tuple(cells)))
    told.append(
        Line(
            "forgetting events",
            (
                f"{percent(float(figures['tie_share_zero']))} tie at zero",  # type: ignore[arg-type]
                f"mean {figures['events_mean']:.2f}",
                f"highest {figures['events_max']:g}",
            ),
        )
    )
    if runs > 1:
        agreements = [
            f"{name} Pearson {_known(figures[f'pearson_{name}'])} Spearman {_known(figures[f'spearman_{name}'])}"
            for name in ("forgetting", "aum")
        ]
        told.append(Line("between seeds", tuple(agreements)))
    else:
        told.append(Line("between seeds", ("not known from one run; --seeds 3 measures it",)))
    by, measured = resolved.recommended["by"], resolved.recommended.get("agreement")
    why = "30 epochs or more" if by == "forgetting" else "fewer than 30 epochs give too few events to rank by"
    if measured is not None:
        why += f"; its Spearman agreement with {resolved.recommended['with']} is {measured:.2f}"
    told.append(Line("rank by", (str(by), why)))
    return tuple(told)


def _known(figure: object) -> str:
    """Return a correlation with two digits; it is undefined where every example has the same value."""
    return f"{figure:.2f}" if isinstance(figure, float) else "undefined"


def class_table(table: ScoreTable, class_names: Sequence[str]) -> Table:
    """Return one row per class, the class with the fewest unforgettable examples first."""
    labels = table.integers("label")
    presented = table.integers("presentations") > 0
    unforgettable, never = table.flags("unforgettable"), table.flags("never_learned")
    events, aum = table.floats("forgetting_events"), table.floats("aum")
    rows = []
    for label, name in enumerate(class_names):
        mine = presented & (labels == label)
        if mine.any():
            rows.append(
                (
                    float(unforgettable[mine].mean()),
                    (
                        name,
                        f"{mine.sum():,}",
                        percent(unforgettable[mine].mean()),
                        percent(never[mine].mean()),
                        f"{events[mine].mean():.2f}",
                        f"{aum[mine].mean():.2f}",
                    ),
                )
            )
    rows.sort(key=lambda row: row[0])
    return Table(
        columns=("class", "examples", "unforgettable", "never learned", "events", "aum"),
        rows=tuple(cells for _, cells in rows),
        left=("class",),
    )


def charts(table: ScoreTable, opened: Opened) -> list[Chart]:
    """Return the histogram of forgetting and contact sheets of the hardest, never learned and unforgettable examples.

    The histogram shows examples that were learned in every run by their mean number of events, and those that some
    run never learned as a bar apart. Sheets hold at most 50 examples, hardest first; unforgettable ones easiest first.
    """
    presented = table.integers("presentations") > 0
    rows = np.flatnonzero(presented)
    keys = [table.floats("forgetting")[rows], table.floats("aum")[rows]]
    tie = tie_keys(1, table.uid_words(), table.integers("index"))[rows]
    hardest = rows[order(keys, ["high", "low"], tie)]
    easiest = rows[order(keys, ["high", "low"], tie, easiest=True)]
    lost = table.integers("never_learned_runs", 0) > 0
    drawn = [
        _histogram(table.floats("forgetting_events")[presented & ~lost], int((presented & lost).sum())),
        sheet("hardest", f"Hardest examples {CAPTION}", _tiles(table, opened, hardest[:50])),
    ]
    never = hardest[table.flags("never_learned")[hardest]]
    if len(never):
        drawn.append(
            sheet("never_learned", f"Never learned in any run {CAPTION}", _tiles(table, opened, never[:50]))
        )
    calm = easiest[table.flags("unforgettable")[easiest]]
    if len(calm):
        drawn.append(
            sheet(
                "unforgettable",
                f"Unforgettable in all runs, easiest first {CAPTION}",
                _tiles(table, opened, calm[:50]),
            )
        )
    return drawn


def _histogram(events: NDArray[np.float64], lost: int) -> Chart:
    counts = np.bincount(np.round(events).astype(np.int64)) if len(events) else np.zeros(1, np.int64)
    return bars(
        "histogram",
        [(str(number), int(count)) for number, count in enumerate(counts)],
        apart=("never\nlearned", lost),
        words=(
            "How often examples are forgotten",
            "forgetting events per run, mean over runs, rounded",
            "examples",
        ),
    )


def _tiles(table: ScoreTable, opened: Opened, rows: NDArray[np.int64]) -> list[Tile]:
    names, events, index = table.strings("class_name"), table.floats("forgetting"), table.integers("index")
    return [
        Tile(opened.dataset.pixels(int(index[row])), f"{names[row]} · {events[row]:g} · {index[row]}")
        for row in rows
    ]
