"""Charts as SVG and PNG with their data as CSV beside them; knows arrays and words, no experiment."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from dataset_audit.errors import EnvironmentProblem
from dataset_audit.report.escape import show
from dataset_audit.tables import files

if TYPE_CHECKING:
    from matplotlib.figure import Figure

BLUE, ORANGE = "#0072B2", "#D55E00"  # Okabe & Ito: told apart by everyone, also in grey
TILES = 10  # per row of a contact sheet
DPI = 160


@dataclass(frozen=True)
class Tile:
    """One picture of a contact sheet: uint8[H, W, C] and a line of text under it."""

    pixels: NDArray[np.uint8]
    text: str


@dataclass(frozen=True)
class Chart:
    """A drawn figure, its name in file names, and the numbers it shows as rows under a header."""

    name: str
    figure: Figure
    header: tuple[str, ...]
    rows: tuple[tuple[object, ...], ...]


def _figure(width: float, height: float) -> Figure:
    try:
        import matplotlib as mpl  # noqa: PLC0415 - an extra
        from matplotlib.figure import Figure  # noqa: PLC0415
    except ImportError as error:
        raise EnvironmentProblem(
            "Charts need matplotlib, which is not installed.", do="pip install 'dataset-audit[charts]'"
        ) from error
    mpl.rcParams["svg.hashsalt"] = "audit"  # the same bytes every time
    mpl.rcParams["svg.fonttype"] = "none"
    return Figure(figsize=(width, height), layout="constrained")


def available() -> None:
    """Find out before work begins whether charts can be drawn.

    Raises:
        EnvironmentProblem: matplotlib is not installed.
    """
    _figure(1, 1)


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
    figure = _figure(7.2, 4.0)
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


def sheet(name: str, title: str, tiles: Sequence[Tile]) -> Chart:
    """Return a contact sheet of at most 50 pictures, enlarged without smoothing when they are small."""
    shown = list(tiles)[: 5 * TILES]
    rows = max(1, -(-len(shown) // TILES))
    figure = _figure(1.05 * TILES, 1.3 * rows + 0.8)
    axes = figure.subplots(rows, TILES, squeeze=False).ravel()
    for place in axes:
        place.set_axis_off()
    for place, tile in zip(axes, shown, strict=False):
        pixels = tile.pixels.repeat(3, axis=2) if tile.pixels.shape[2] == 1 else tile.pixels
        smooth = "nearest" if max(pixels.shape[:2]) < 64 else "antialiased"
        place.imshow(pixels, interpolation=smooth)
        place.set_title(show(tile.text, 40).replace("$", r"\$"), fontsize=6, y=-0.28)
    figure.suptitle(title, x=0.01, ha="left", fontsize=10)
    return Chart(name, figure, ("caption",), tuple((tile.text,) for tile in shown))


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
        chart.figure.supxlabel(show(caption, 200).replace("$", r"\$"), fontsize=6, color="#555555")
        for ending, extra in (
            ("svg", {"metadata": {"Date": None, "Description": caption}}),
            ("png", {"dpi": DPI}),
        ):
            drawn = io.BytesIO()
            chart.figure.savefig(drawn, format=ending, **extra)
            written.append(folder / f"{prefix}_{chart.name}.{ending}")
            files.write_bytes(written[-1], drawn.getvalue())
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(chart.header)
        writer.writerows([_cell(cell) for cell in row] for row in chart.rows)
        written.append(folder / f"{prefix}_{chart.name}.csv")
        files.write_bytes(written[-1], text.getvalue().encode())
    return written


def _cell(value: object) -> object:
    """Return the value, or its text with a quote before what a spreadsheet would take for a formula."""
    if isinstance(value, str) and value[:1] in {"=", "+", "-", "@", "\t", "\r"}:
        return "'" + value
    return value
