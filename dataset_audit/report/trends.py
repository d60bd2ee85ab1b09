"""Charts of a quality over a size or a time: lines with bands, points with bars, differences around zero."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from dataset_audit.report.drawing import COLOURS, GREY, LINES, MARKERS, Chart, new_figure, text

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.lines import Line2D

_LABEL = 40
_NOTHING: NDArray[np.float64] = np.empty(0)


@dataclass(frozen=True, kw_only=True, eq=False)
class Trend:
    """Measured values over something, float64[M] each; ``low`` and ``high`` are the ends of a band, or NaN.

    Attributes:
        label: In the legend.
        x: Where.
        y: What was measured.
        low: Low end of each band.
        high: High end.
        joined: Whether a line goes through the points.
        notes: One per point, written beside it; empty for none.
    """

    label: str
    x: NDArray[np.float64]
    y: NDArray[np.float64]
    low: NDArray[np.float64] = field(default_factory=lambda: _NOTHING)
    high: NDArray[np.float64] = field(default_factory=lambda: _NOTHING)
    joined: bool = True
    notes: tuple[str, ...] = ()


def trends(
    name: str,
    series: Sequence[Trend],
    *,
    words: tuple[str, str, str],
    log: bool = False,
    level: tuple[str, float] | None = None,
) -> Chart:
    """Return lines with bands, or points with bars, on axes that show the range measured.

    Args:
        name: For the file names.
        series: Each with a colour, a marker and a line of its own; more than seven share colours, never all three.
        words: Title, horizontal axis, vertical axis with what the bands are.
        log: Whether the horizontal axis is logarithmic.
        level: Label and height of a horizontal line.
    """
    figure = new_figure(7.6, 4.4)
    axes = figure.subplots()
    rows: list[tuple[object, ...]] = []
    lines = [_draw(axes, one, number) for number, one in enumerate(series)]
    for one in series:
        ends = [values if len(values) else np.full(len(one.x), np.nan) for values in (one.low, one.high)]
        rows += [(one.label, *point) for point in np.stack([one.x, one.y, *ends], 1).tolist()]
    if level is not None:
        axes.axhline(level[1], color="black", linewidth=1, linestyle=":", zorder=1)
        axes.annotate(
            text(level[0], _LABEL), (1, level[1]), (-2, 3), xycoords=("axes fraction", "data"),
            textcoords="offset points", fontsize=7, color=GREY, ha="right",
        )  # fmt: skip
        rows.append((level[0], "", level[1], "", ""))
    if log:
        _logarithmic(axes)
    title, horizontal, vertical = words
    axes.set_title(title, loc="left", fontsize=11)
    axes.set_xlabel(f"{horizontal} (log scale)" if log else horizontal, fontsize=9)
    axes.set_ylabel(vertical, fontsize=9)
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=8)
    if len(series) > 1:
        # by hand: matplotlib's own list leaves out labels that begin with _
        labels = [text(one.label, _LABEL) for one in series]
        figure.legend(lines, labels, loc="outside right upper", fontsize=8, frameon=False)
    return Chart(name, figure, ("series", horizontal, "value", "low", "high"), tuple(rows))


def _logarithmic(axes: Axes) -> None:
    """Make the horizontal axis logarithmic with plain numbers at 1, 2 and 5 of each decade."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter  # noqa: PLC0415 - an extra

    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.10g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())


def _draw(axes: Axes, one: Trend, number: int) -> Line2D:
    colour, marker = COLOURS[number % len(COLOURS)], MARKERS[(number + number // len(COLOURS)) % len(MARKERS)]
    style = LINES[(number + number // len(COLOURS)) % len(LINES)] if one.joined else "none"
    (line,) = axes.plot(
        one.x, one.y, linestyle=style, marker=marker, color=colour, markersize=5, linewidth=1.4,
        label=text(one.label, _LABEL), zorder=3,
    )  # fmt: skip
    if len(one.low) and one.joined:
        axes.fill_between(one.x, one.low, one.high, color=colour, alpha=0.15, linewidth=0, zorder=2)
    elif len(one.low):
        spread = np.nan_to_num(np.clip([one.y - one.low, one.high - one.y], 0, None))
        axes.errorbar(one.x, one.y, spread, fmt="none", ecolor=colour, elinewidth=1, zorder=2)
    for x, y, note in zip(one.x, one.y, one.notes, strict=False):
        axes.annotate(text(note, 12), (x, y), (4, -8), textcoords="offset points", fontsize=6, color=GREY)
    return line


@dataclass(frozen=True)
class Effect:
    """One difference with its interval, in points; NaN ends: no interval. ``group`` is the heading it stands under."""

    label: str
    value: float
    low: float
    high: float
    said: str
    group: str = ""


def effects(name: str, rows: Sequence[Effect], *, words: tuple[str, str], margin: float) -> Chart:
    """Return a dot and an interval per difference, top to bottom, around zero, with what is said of each.

    Args:
        name: For the file names.
        rows: In order; those of a group follow each other.
        words: Title, horizontal axis with the kind of interval.
        margin: Half-width of the shaded band in which a difference does not matter.
    """
    slots: list[Effect | str] = []
    for row in rows:
        if row.group and row.group not in slots:
            slots.append(row.group)
        slots.append(row)
    figure = new_figure(7.6, 1.3 + 0.24 * max(len(slots), 3))
    axes = figure.subplots()
    axes.axvspan(-margin, margin, color="#d9d9d9", zorder=0, linewidth=0)
    axes.axvline(0, color="black", linewidth=1, linestyle="--", zorder=1)
    groups = list(dict.fromkeys(row.group for row in rows))
    for place, slot in enumerate(slots):
        if isinstance(slot, Effect):
            _draw_effect(axes, slot, place, groups.index(slot.group))
    labels = [text(slot if isinstance(slot, str) else slot.label, _LABEL) for slot in slots]
    axes.set_yticks(range(len(slots)), labels, fontsize=8)
    for tick, slot in zip(axes.get_yticklabels(), slots, strict=True):
        tick.set_fontweight("bold" if isinstance(slot, str) else "normal")
    axes.set_ylim(len(slots) - 0.4, -0.6)
    low, high = _window(rows, margin)
    axes.set_xlim(low, high)
    title, horizontal = words
    axes.set_title(title, loc="left", fontsize=11)
    axes.set_xlabel(horizontal, fontsize=9)
    axes.tick_params(axis="y", length=0)
    axes.spines[["top", "right", "left"]].set_visible(False)
    table = tuple((row.group, row.label, row.value, row.low, row.high, row.said) for row in rows)
    return Chart(name, figure, ("group", "label", "value", "low", "high", "verdict"), table)


def _draw_effect(axes: Axes, row: Effect, place: int, group: int) -> None:
    colour = COLOURS[group % len(COLOURS)]
    if math.isfinite(row.low):
        axes.plot([row.low, row.high], [place, place], color=colour, linewidth=1.5, zorder=2)
    axes.plot(row.value, place, MARKERS[group % len(MARKERS)], color=colour, markersize=5, zorder=3)
    axes.annotate(
        f"{row.value:+.2f}  {row.said}", (1, place), (6, 0), xycoords=("axes fraction", "data"),
        textcoords="offset points", va="center", fontsize=7,
    )  # fmt: skip


def _window(rows: Sequence[Effect], margin: float) -> tuple[float, float]:
    """Return the range shown: all values, and of the intervals what leaves the values readable."""
    values = [row.value for row in rows] or [0.0]
    reach = 1.5 * max(margin * 2, *(abs(value) for value in values))
    ends = [end for row in rows for end in (row.low, row.high) if math.isfinite(end)] or [0.0]
    return max(min(*ends, *values, -margin * 2), -reach) * 1.05, min(
        max(*ends, *values, margin * 2), reach
    ) * 1.05
