"""Charts of measured numbers: dots with intervals, matrices, curves over n."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from dataset_audit.report.drawing import COLOURS, GREY, LINES, MARKERS, Chart, new_figure, text

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis

_LABEL = 40
_PALE = "#d9d9d9"


@dataclass(frozen=True)
class Mark:
    """One measured share with its interval, all from 0 to 1 (below 0 for normalised ones); NaN: not measured.

    ``group`` is the heading it stands under; marks of a group follow each other.
    """

    label: str
    value: float
    low: float
    high: float
    group: str = ""


@dataclass(frozen=True, kw_only=True)
class Line:
    """Shares measured at sample sizes, float[M] each, and perhaps a fitted curve (n, value)."""

    label: str
    n: Sequence[float] | NDArray[np.float64]
    value: Sequence[float] | NDArray[np.float64]
    low: Sequence[float] | NDArray[np.float64]
    high: Sequence[float] | NDArray[np.float64]
    fit: tuple[Sequence[float] | NDArray[np.float64], Sequence[float] | NDArray[np.float64]] | None = None


def intervals(
    name: str,
    rows: Sequence[Mark],
    *,
    chance: float,
    band: tuple[float, float] | None,
    words: tuple[str, str, str],
) -> Chart:
    """Return a dot and an interval per row, top to bottom, over a line at chance and the band of the null.

    Args:
        name: For the file names.
        rows: In order; groups have a heading, a colour and a marker of their own.
        chance: Where the vertical line stands.
        band: Ends of the shaded band; None for none.
        words: Title, horizontal axis with the kind of interval, what the band is.
    """
    slots = _slots(rows)
    title, horizontal, shaded = words
    figure = new_figure(7.6, 1.3 + 0.25 * max(len(slots), 3))
    axes = figure.subplots()
    groups = list(dict.fromkeys(row.group for row in rows))
    if band is not None:
        axes.axvspan(*band, color=_PALE, zorder=0, linewidth=0)
    axes.axvline(chance, color="black", linewidth=1, linestyle="--", zorder=1)
    for place, row in enumerate(slots):
        if isinstance(row, Mark):
            _draw_mark(axes, row, place, groups.index(row.group))
    axes.set_yticks(
        range(len(slots)),
        [text(row.label, _LABEL) if isinstance(row, Mark) else text(row, _LABEL) for row in slots],
        fontsize=8,
    )
    for tick, row in zip(axes.get_yticklabels(), slots, strict=True):
        tick.set_fontweight("normal" if isinstance(row, Mark) else "bold")
    axes.set_ylim(len(slots) - 0.4, -0.6)
    ends = [0.0, 1.0, *(end for row in rows for end in (row.low, row.high) if math.isfinite(end))]
    axes.set_xlim(min(ends) - 0.01, max(ends) + 0.01)
    _in_percent(axes.xaxis)
    right = chance > sum(axes.get_xlim()) / 2
    axes.annotate(
        f"chance {_percent(chance)}" + (f"; grey: {shaded}" if band is not None else ""),
        (chance, 1), (-3 if right else 3, 3), xycoords=("data", "axes fraction"),
        textcoords="offset points", fontsize=7, color=GREY, ha="right" if right else "left",
    )  # fmt: skip
    axes.set_title(title, loc="left", pad=18, fontsize=11)
    axes.set_xlabel(horizontal, fontsize=9)
    axes.tick_params(axis="y", length=0)
    axes.spines[["top", "right", "left"]].set_visible(False)
    null: tuple[float | str, float | str] = band or ("", "")
    table = [(row.group, row.label, row.value, row.low, row.high) for row in rows]
    return Chart(
        name, figure, ("group", "label", "value", "low", "high"), (*table, ("", "chance", chance, *null))
    )


def _slots(rows: Sequence[Mark]) -> list[Mark | str]:
    """Return the rows with the heading of each group before its first."""
    slots: list[Mark | str] = []
    before = ""
    for row in rows:
        if row.group != before:
            slots.append(row.group)
        before = row.group
        slots.append(row)
    return slots


def _draw_mark(axes: Axes, row: Mark, place: int, group: int) -> None:
    if math.isfinite(row.value):
        colour, marker = COLOURS[group % len(COLOURS)], MARKERS[group % len(MARKERS)]
        axes.plot([row.low, row.high], [place, place], color=colour, linewidth=1.6, zorder=2)
        axes.plot(row.value, place, marker, color=colour, markersize=5, zorder=3, clip_on=False)
        said = f"{_percent(row.value)} ({100 * row.low:.0f} to {100 * row.high:.0f})"
    else:
        said = "not measured"
    axes.annotate(
        said, (1, place), (6, 0), xycoords=("axes fraction", "data"), textcoords="offset points",
        va="center", fontsize=7, color="black" if math.isfinite(row.value) else GREY,
    )  # fmt: skip


def heatmap(
    name: str,
    matrix: NDArray[np.float64],
    row_labels: Sequence[str],
    column_labels: Sequence[str],
    *,
    words: tuple[str, str, str],
    percent: bool = True,
) -> Chart:
    """Return a matrix as colours with the numbers in the cells.

    Args:
        name: For the file names.
        matrix: float[R, C]; NaN cells are left grey. Shares from 0 to 1 when ``percent``; otherwise values of
            any size, on a scale centred on zero if one is negative.
        row_labels: R names, top to bottom.
        column_labels: C names.
        words: Title, what the columns are, what the rows are.
        percent: Whether cells are shares, shown as whole percent.
    """
    values = np.asarray(matrix, np.float64)
    count, across = values.shape
    side = 0.62 if max(count, across) <= 8 else 0.46
    figure = new_figure(max(4.6, side * across + 3.2), max(3.4, side * count + 2.2))
    axes = figure.subplots()
    low, high, colours = _scale(values, percent=percent)
    shown = axes.imshow(np.ma.masked_invalid(values), cmap=colours, vmin=low, vmax=high)
    axes.set_facecolor(_PALE)
    counts = bool((values[np.isfinite(values)] % 1 == 0).all())
    inks = shown.cmap(np.asarray(shown.norm(np.nan_to_num(values))))
    size = 9 if max(count, across) <= 8 else 7
    for (row, column), value in np.ndenumerate(values):
        ink = _ink(inks[row, column]) if math.isfinite(value) else GREY
        axes.text(
            column,
            row,
            _cell(value, percent=percent, counts=counts),
            ha="center",
            va="center",
            color=ink,
            fontsize=size,
        )
    axes.set_yticks(range(count), [text(label, 24) for label in row_labels], fontsize=8)
    axes.set_xticks(
        range(across),
        [text(label, 24) for label in column_labels],
        fontsize=8, rotation=40, ha="right", rotation_mode="anchor",
    )  # fmt: skip
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    title, horizontal, vertical = words
    figure.suptitle(title, x=0.01, ha="left", fontsize=11)
    axes.set_xlabel(horizontal, fontsize=9)
    axes.set_ylabel(vertical, fontsize=9)
    bar = figure.colorbar(shown, ax=axes, shrink=0.8, aspect=25)
    if percent:
        _in_percent(bar.ax.yaxis)
    bar.ax.tick_params(labelsize=7)
    bar.outline.set_visible(False)
    rows = tuple((label, *map(float, line)) for label, line in zip(row_labels, values, strict=True))
    return Chart(name, figure, (vertical, *column_labels), rows)


def _scale(values: NDArray[np.float64], *, percent: bool) -> tuple[float, float, str]:
    known = values[np.isfinite(values)]
    low, high = (float(known.min()), float(known.max())) if known.size else (0.0, 0.0)
    if low < 0:
        most = max(-low, high, 1.0 if percent else 0.0)
        return -most, most, "PuOr"
    return (0.0, 1.0, "cividis") if percent else (0.0, high or 1.0, "cividis")


def _cell(value: float, *, percent: bool, counts: bool = False) -> str:
    if not math.isfinite(value):
        return "–"
    if percent:
        return f"{100 * value:.0f}".replace("-0", "0")
    return f"{value:.2f}" if abs(value) < 10 and not counts else f"{value:,.0f}"


def _ink(colour: NDArray[np.float64]) -> str:
    """Return black or white, whichever is read more easily on a colour (ITU-R BT.601 luma)."""
    red, green, blue = colour[:3]
    return "black" if 0.299 * red + 0.587 * green + 0.114 * blue > 0.5 else "white"


def curve(name: str, series: Sequence[Line], *, words: tuple[str, str, str], chance: float) -> Chart:
    """Return shares over the number of examples, n on a logarithmic axis, with intervals and fitted lines.

    Args:
        name: For the file names.
        series: Each with a colour, a marker and a line of its own.
        words: Title, horizontal axis, vertical axis with the kind of interval.
        chance: Where the horizontal line stands.
    """
    figure = new_figure(7.2, 4.2)
    axes = figure.subplots()
    axes.axhline(chance, color="black", linewidth=1, linestyle=":")
    rows: list[tuple[object, ...]] = []
    for number, line in enumerate(series):
        colour, marker = COLOURS[number % len(COLOURS)], MARKERS[number % len(MARKERS)]
        style = LINES[number % len(LINES)]
        n, value, low, high = (
            np.asarray(part, np.float64) for part in (line.n, line.value, line.low, line.high)
        )
        spread = np.clip([value - low, high - value], 0, None)
        own = style if line.fit is None else ""  # measured points are joined only where nothing is fitted
        label = text(line.label, _LABEL)
        axes.errorbar(
            n, value, spread, fmt=marker, linestyle=own, color=colour, markersize=5, capsize=3, label=label
        )
        rows += [(line.label, "measured", *point) for point in np.stack([n, value, low, high], 1).tolist()]
        if line.fit is not None:
            at, fitted = (np.asarray(part, np.float64) for part in line.fit)
            axes.plot(at, fitted, linestyle=style, color=colour, linewidth=1.3)
            rows += [
                (line.label, "fitted", x, y, "", "")
                for x, y in zip(at.tolist(), fitted.tolist(), strict=True)
            ]
    axes.set_xscale("log")
    _ticks_of_counts(axes, sorted({float(n) for line in series for n in line.n}))
    axes.set_ylim(-0.02, 1.02)
    _in_percent(axes.yaxis)
    axes.annotate(
        f"chance {_percent(chance)}", (1, chance), (-2, 3), xycoords=("axes fraction", "data"),
        textcoords="offset points", fontsize=7, color=GREY, ha="right",
    )  # fmt: skip
    title, horizontal, vertical = words
    axes.set_title(title, loc="left", fontsize=11)
    axes.set_xlabel(f"{horizontal} (log scale)", fontsize=9)
    axes.set_ylabel(vertical, fontsize=9)
    axes.spines[["top", "right"]].set_visible(False)
    if len(series) > 1:
        figure.legend(loc="outside right upper", fontsize=8, frameon=False)
    return Chart(name, figure, ("series", "kind", "n", "value", "low", "high"), tuple(rows))


def _ticks_of_counts(axes: Axes, counts: Sequence[float]) -> None:
    """Put ticks at the sizes that were measured, leaving out those too close to read."""
    ticks: list[float] = []
    least = (counts[-1] / counts[0]) ** (1 / 9) if counts else 1.0
    for count in counts:
        if not ticks or count >= ticks[-1] * max(least, 1.001):
            ticks.append(count)
    axes.set_xticks(ticks, [f"{tick:,.0f}" for tick in ticks])
    axes.set_xticks([], minor=True)


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def _in_percent(axis: Axis) -> None:
    from matplotlib.ticker import FuncFormatter  # noqa: PLC0415 - an extra

    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:.0f} %"))
