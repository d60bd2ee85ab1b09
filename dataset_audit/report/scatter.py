"""Charts of things measured twice: value against value, rank against rank, differences, and how size helps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from dataset_audit.report.drawing import BLUE, COLOURS, GREY, LINES, MARKERS, ORANGE, Chart, new_figure, text

_NAMED = 6  # things at each end of a chart that are named


@dataclass(frozen=True)
class Pair:
    """One thing measured twice, shares with their intervals."""

    label: str
    x: tuple[float, float, float]
    y: tuple[float, float, float]


def scatter(
    name: str, pairs: Sequence[Pair], *, line: tuple[float, float] | None, words: tuple[str, str, str]
) -> Chart:
    """Return a dot with two intervals per thing, over the diagonal and perhaps a fitted line.

    Args:
        name: For the file names.
        pairs: In order; value, low and high end each.
        line: Slope and intercept in shares.
        words: Title, horizontal axis, vertical axis, each with the kind of interval.
    """
    figure = new_figure(6.4, 5.6)
    axes = figure.subplots()
    ends = [end for pair in pairs for end in (*pair.x, *pair.y)]
    low, high = max(0.0, min(ends) - 0.02), min(1.0, max(ends) + 0.02)
    axes.plot([low, high], [low, high], color="black", linewidth=1, linestyle="--", label="no gap")
    if line is not None:
        across = np.array([min(pair.x[1] for pair in pairs), max(pair.x[2] for pair in pairs)])
        axes.plot(across, line[1] + line[0] * across, color=ORANGE, linewidth=1.4, label="fitted line")
    for pair in pairs:
        axes.plot(pair.x[1:], [pair.y[0]] * 2, color=GREY, linewidth=0.8)
        axes.plot([pair.x[0]] * 2, pair.y[1:], color=GREY, linewidth=0.8)
    axes.plot(
        [pair.x[0] for pair in pairs], [pair.y[0] for pair in pairs], "o", color=BLUE, markersize=4,
        linestyle="none", label=f"{len(pairs):,} models",
    )  # fmt: skip
    if len(pairs) <= 2 * _NAMED:
        for pair in pairs:
            axes.annotate(
                text(pair.label, 30), (pair.x[0], pair.y[0]), (5, -9), textcoords="offset points", fontsize=7
            )
    title, horizontal, vertical = words
    axes.set_title(title, loc="left", fontsize=11)
    axes.set_xlabel(horizontal, fontsize=9)
    axes.set_ylabel(vertical, fontsize=9)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(lambda value, _: f"{100 * value:.0f} %")
    axes.legend(loc="upper left", fontsize=8, frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    return Chart(
        name,
        figure,
        ("label", "x", "x_low", "x_high", "y", "y_low", "y_high"),
        tuple((pair.label, *pair.x, *pair.y) for pair in pairs),
    )


def ranks(name: str, rows: Sequence[tuple[str, int, int]], *, words: tuple[str, str, str]) -> Chart:
    """Return a line per thing from its rank on the left to its rank on the right; those that move are coloured.

    Args:
        name: For the file names.
        rows: Label, rank on the left, rank on the right; 1 is the best and stands on top.
        words: Title, what is left, what is right.
    """
    figure = new_figure(6.4, 1.6 + 0.2 * max(len(rows), 5))
    axes = figure.subplots()
    for label, first, second in rows:
        moved = first != second
        colour, style = (ORANGE, "-") if moved else (BLUE, "--")
        axes.plot([0, 1], [first, second], color=colour, linestyle=style, marker="o", markersize=3)
        axes.annotate(
            text(label, 36),
            (0, first),
            (-6, 0),
            textcoords="offset points",
            ha="right",
            va="center",
            fontsize=7,
        )
        axes.annotate(str(second), (1, second), (6, 0), textcoords="offset points", va="center", fontsize=7)
    title, left, right = words
    axes.set_title(title, loc="left", fontsize=11)
    axes.set_xlim(-0.9, 1.2)
    axes.set_xticks([0, 1], [text(left, 24), text(right, 24)], fontsize=9)
    axes.set_ylim(len(rows) + 0.6, 0.4)
    axes.set_yticks([])
    axes.set_ylabel("rank, best on top; orange: moved", fontsize=9)
    axes.spines[["top", "right", "left"]].set_visible(False)
    return Chart(name, figure, ("label", "rank_left", "rank_right"), tuple(rows))


def forest(
    name: str, rows: Sequence[tuple[str, float, float, float]], *, words: tuple[str, str, str]
) -> Chart:
    """Return a difference and its interval per row, top to bottom, over a line at zero, in percentage points.

    Args:
        name: For the file names.
        rows: Label, value, low and high end, shares; rows whose value is NaN are said to be not measured.
        words: Title, horizontal axis with the kind of interval, what the line at zero means.
    """
    figure = new_figure(7.0, 1.5 + 0.25 * max(len(rows), 3))
    axes = figure.subplots()
    axes.axvline(0, color="black", linewidth=1, linestyle="--")
    for place, (_, value, low, high) in enumerate(rows):
        if np.isfinite(value):
            axes.plot([100 * low, 100 * high], [place, place], color=BLUE, linewidth=1.6)
            axes.plot(100 * value, place, "o", color=BLUE, markersize=5)
        else:
            axes.annotate(
                "not measured", (0, place), (4, 0), textcoords="offset points", fontsize=7, va="center"
            )
    axes.set_yticks(range(len(rows)), [text(label, 40) for label, *_ in rows], fontsize=8)
    axes.set_ylim(len(rows) - 0.4, -0.6)
    title, horizontal, zero = words
    axes.set_title(title, loc="left", pad=16, fontsize=11)
    axes.annotate(
        zero,
        (0, 1),
        (3, 3),
        xycoords=("data", "axes fraction"),
        textcoords="offset points",
        fontsize=7,
        color=GREY,
    )
    axes.set_xlabel(horizontal, fontsize=9)
    axes.tick_params(axis="y", length=0)
    axes.spines[["top", "right", "left"]].set_visible(False)
    return Chart(name, figure, ("label", "value", "low", "high"), tuple(rows))


def sizes(
    name: str,
    series: Sequence[tuple[str, Sequence[int], Sequence[float]]],
    *,
    marks: Sequence[tuple[str, int]],
    words: tuple[str, str, str],
) -> Chart:
    """Return lines of small shares over a number of images, both on logarithmic axes.

    Args:
        name: For the file names.
        series: Label, numbers of images, shares.
        marks: Labels of vertical lines, with the number of images at which each stands.
        words: Title, horizontal axis, vertical axis.
    """
    figure = new_figure(7.2, 4.2)
    axes = figure.subplots()
    for number, (label, images, values) in enumerate(series):
        axes.plot(
            images, [100 * value for value in values], color=COLOURS[number % len(COLOURS)],
            linestyle=LINES[number % len(LINES)], marker=MARKERS[number % len(MARKERS)], markersize=4,
            label=text(label, 40),
        )  # fmt: skip
    for name_of, at in marks:
        axes.axvline(at, color=GREY, linewidth=1, linestyle=":")
        axes.annotate(
            text(name_of, 24), (at, 1), (3, 3), xycoords=("data", "axes fraction"), textcoords="offset points",
            fontsize=7, color=GREY,
        )  # fmt: skip
    axes.set_xscale("log")
    axes.set_yscale("log")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(lambda value, _: f"{value:,g}")
    title, horizontal, vertical = words
    axes.set_title(title, loc="left", pad=16, fontsize=11)
    axes.set_xlabel(f"{horizontal} (log scale)", fontsize=9)
    axes.set_ylabel(f"{vertical} (log scale)", fontsize=9)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(fontsize=8, frameon=False)
    rows = [
        (label, n, value) for label, images, values in series for n, value in zip(images, values, strict=True)
    ]
    return Chart(name, figure, ("series", "images", "value"), tuple(rows))
