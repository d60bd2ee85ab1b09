"""Charts as SVG and PNG with their data as CSV beside them; knows arrays and words, no experiment."""

from __future__ import annotations

import csv
import io
import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from dataset_audit.report.drawing import BLUE, GREY, ORANGE, Chart, new_figure, text
from dataset_audit.report.marks import Line, Mark, curve, heatmap, intervals
from dataset_audit.report.pictures import Explained, Tile, maps, panels, sheet
from dataset_audit.report.trends import Effect, Trend, effects, trends
from dataset_audit.tables import files

__all__ = [
    "Chart", "Effect", "Explained", "Line", "Mark", "Tile", "Trend",
    "available", "bars", "curve", "effects", "heatmap", "intervals", "maps", "panels", "save", "sheet", "trends",
]  # fmt: skip

DPI = 160


def available() -> None:
    """Find out before work begins whether charts can be drawn.

    Raises:
        EnvironmentProblem: matplotlib is not installed.
    """
    new_figure(1, 1)


def bars(
    name: str, counts: Sequence[tuple[str, int]], *, apart: tuple[str, int], words: tuple[str, str, str]
) -> Chart:
    """Return bars of counts on a logarithmic axis, with one group of examples apart on the right.

    Args:
        name: For the file names.
        counts: (tick label, examples) in order.
        apart: Tick label and count of the examples that have no place on the axis.
        words: Title, horizontal axis, vertical axis.
    """
    figure = new_figure(7.2, 4.0)
    axes = figure.subplots()
    places = np.arange(len(counts))
    axes.bar(places, [count for _, count in counts], color=BLUE, width=0.85)
    axes.bar(len(counts) + 1, apart[1], color=ORANGE, hatch="//", width=0.85)
    every = max(1, len(counts) // 12)
    axes.set_xticks([*places[::every], len(counts) + 1], [*(label for label, _ in counts[::every]), apart[0]])
    axes.set_yscale("symlog", linthresh=1)
    axes.set_ylim(bottom=0)
    title, horizontal, vertical = words
    axes.set_title(title, loc="left")
    axes.set_xlabel(horizontal)
    axes.set_ylabel(f"{vertical} (log scale)")
    axes.spines[["top", "right"]].set_visible(False)
    return Chart(name, figure, (horizontal, vertical), (*counts, apart))


def save(charts: Sequence[Chart], folder: Path, *, prefix: str, caption: str) -> list[Path]:
    """Write each chart as ``<prefix>_<name>.svg``, ``.png`` and ``.csv`` and return the paths.

    Args:
        charts: What to write.
        folder: Made if it is not there.
        prefix: The command.
        caption: Data set, n, model, recipe, epochs, seeds; under every chart and in the SVG's description.

    Raises:
        EnvironmentProblem: The folder cannot be written.
    """
    files.make_folder(folder)
    written = []
    for chart in charts:
        chart.figure.supxlabel(text(caption, 200), fontsize=6, color=GREY)
        for ending, extra in (
            ("svg", {"metadata": {"Date": None, "Description": caption}}),
            ("png", {"dpi": DPI}),
        ):
            drawn = io.BytesIO()
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", message="Glyph", category=UserWarning)  # drawn as a box
                chart.figure.savefig(drawn, format=ending, **extra)
            written.append(folder / f"{prefix}_{chart.name}.{ending}")
            files.write_bytes(written[-1], drawn.getvalue())
        table = io.StringIO()
        writer = csv.writer(table, lineterminator="\n")
        writer.writerow(chart.header)
        writer.writerows([_cell(cell) for cell in row] for row in chart.rows)
        written.append(folder / f"{prefix}_{chart.name}.csv")
        files.write_bytes(written[-1], table.getvalue().encode())
    return written


def _cell(value: object) -> object:
    """Return the value, or its text with a quote before what a spreadsheet would take for a formula."""
    if isinstance(value, str) and value[:1] in {"=", "+", "-", "@", "\t", "\r"}:
        return "'" + value
    return value
