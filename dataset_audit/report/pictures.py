"""Charts of pictures: contact sheets, sheets with a row per source, and explanations beside what they explain."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from dataset_audit.report.drawing import GREY, ORANGE, Chart, new_figure, text

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

TILES = 10  # per row of a contact sheet
_CELL, _LEFT, _TOP, _BOTTOM = 1.05, 1.5, 0.45, 0.3  # inches


@dataclass(frozen=True)
class Tile:
    """One picture of a contact sheet: uint8[H, W, C] and a line of text under it."""

    pixels: NDArray[np.uint8]
    text: str


@dataclass(frozen=True)
class Explained:
    """One picture, uint8[H, W, C], a line about it, and a map per method, float32[S, S] of its whole area.

    A map's values are taken by their size, whatever their sign; None, or a map without any size, is none.
    """

    pixels: NDArray[np.uint8]
    text: str
    maps: Sequence[NDArray[np.float32] | None]


def sheet(name: str, title: str, tiles: Sequence[Tile]) -> Chart:
    """Return a contact sheet of at most 50 pictures, enlarged without smoothing when they are small."""
    shown = list(tiles)[: 5 * TILES]
    rows = max(1, -(-len(shown) // TILES))
    figure = new_figure(1.05 * TILES, 1.3 * rows + 0.8)
    axes = figure.subplots(rows, TILES, squeeze=False).ravel()
    for place in axes:
        place.set_axis_off()
    for place, tile in zip(axes, shown, strict=False):
        _draw(place, tile.pixels)
        place.set_title(text(tile.text, 40), fontsize=6, y=-0.28)
    figure.suptitle(title, x=0.01, ha="left", fontsize=10)
    return Chart(name, figure, ("caption",), tuple((tile.text,) for tile in shown))


def panels(name: str, title: str, rows: Sequence[tuple[str, Sequence[Tile]]]) -> Chart:
    """Return a contact sheet with a named row of at most ten pictures for each entry.

    Args:
        name: For the file names.
        title: Of the whole sheet.
        rows: (label, pictures): what the row shows, and the pictures from left to right.
    """
    across = min(TILES, max([1, *(len(tiles) for _, tiles in rows)]))
    figure, places = _grid(title, [label for label, _ in rows], across)
    for (_, tiles), row in zip(rows, places, strict=True):
        if not tiles:
            row[0].text(0, 0.5, "none", va="center", fontsize=8, color=GREY, transform=row[0].transAxes)
        for place, tile in zip(row, list(tiles)[:across], strict=False):
            _draw(place, tile.pixels)
            place.set_title(text(tile.text, 24), fontsize=6, y=-0.2)
    table = tuple((label, tile.text) for label, tiles in rows for tile in list(tiles)[:across])
    return Chart(name, figure, ("row", "caption"), table)


def maps(name: str, title: str, columns: Sequence[tuple[str, str, bool]], rows: Sequence[Explained]) -> Chart:
    """Return each picture beside what several methods say it was judged by, bright where it counted most.

    Args:
        name: For the file names.
        title: Of the whole sheet.
        columns: (method, verdict, whether it is to be trusted) for each of a row's maps; the verdict stands over
            the column, and a column not to be trusted is framed.
        rows: The pictures with their maps.
    """
    figure, places = _grid(title, [row.text for row in rows], 1 + len(columns), cell=1.7, head=0.45)
    for row, (first, *others) in zip(rows, places, strict=True):
        _draw(first, row.pixels)
        for place, heat, (_, _, trusted) in zip(others, row.maps, columns, strict=True):
            _draw_map(place, row.pixels, heat)
            if not trusted:
                _frame(place)
    for place, (method, verdict, trusted) in zip(places[0][1:] if rows else (), columns, strict=True):
        place.set_title(
            f"{text(method, 24)}\n{text(verdict, 34)}",
            fontsize=7,
            pad=5,
            color="black" if trusted else ORANGE,
        )
    table = tuple((row.text, method, verdict) for row in rows for method, verdict, _ in columns)
    return Chart(name, figure, ("picture", "method", "verdict"), table)


def _grid(
    title: str, labels: Sequence[str], across: int, *, cell: float = _CELL, head: float = 0.0
) -> tuple[Figure, list[list[Axes]]]:
    """Return a figure and its empty places, row by row, with a label left of each row.

    Places are put by hand: the automatic layout takes seconds for two hundred of them.
    """
    step = cell + 0.2
    width, height = _LEFT + across * (cell + 0.08) + 0.1, _TOP + head + max(1, len(labels)) * step + _BOTTOM
    figure = new_figure(max(width, 4.0), height, layout="none")
    width, height = figure.get_size_inches()
    figure.text(0.1 / width, 1 - 0.12 / height, title, va="top", fontsize=10)
    places = []
    for row, label in enumerate(labels):
        bottom = height - _TOP - head - row * step - cell
        middle = (bottom + cell / 2) / height
        figure.text(0.1 / width, middle, _wrapped(label), va="center", fontsize=8, linespacing=1.3)
        lefts = [_LEFT + column * (cell + 0.08) for column in range(across)]
        places.append(
            [figure.add_axes((left / width, bottom / height, cell / width, cell / height)) for left in lefts]
        )
        for place in places[-1]:
            place.set_axis_off()
    return figure, places


def _wrapped(label: str) -> str:
    """Return a label on at most three lines, broken anywhere: names of files hold no spaces."""
    shown, wide = text(label, 57), 19
    return "\n".join(shown[start : start + wide] for start in range(0, len(shown), wide))


def _draw(place: Axes, pixels: NDArray[np.uint8]) -> None:
    shown = pixels.repeat(3, axis=2) if pixels.shape[2] == 1 else pixels
    place.imshow(shown, interpolation="nearest" if max(shown.shape[:2]) < 64 else "antialiased")


def _draw_map(place: Axes, pixels: NDArray[np.uint8], heat: NDArray[np.float32] | None) -> None:
    """Draw a grey picture under a map, scaled to its own 99th percentile."""
    height, width = pixels.shape[:2]
    size = np.abs(np.nan_to_num(np.asarray(heat, np.float64))) if heat is not None else np.zeros((1, 1))
    most = float(np.quantile(size, 0.99)) or float(size.max())
    grey = pixels.astype(np.float64).mean(2)
    place.imshow(grey, cmap="gray", vmin=0, vmax=255, interpolation="antialiased")
    if not most:
        place.text(0.5, 0.5, "no map", ha="center", va="center", transform=place.transAxes, fontsize=8,
                   bbox={"facecolor": "white", "edgecolor": "none"})  # fmt: skip
        return
    area = (-0.5, width - 0.5, height - 0.5, -0.5)
    smooth = "nearest" if size.shape == (height, width) else "bilinear"
    place.imshow(size / most, cmap="viridis", vmin=0, vmax=1, alpha=0.65, extent=area, interpolation=smooth)


def _frame(place: Axes) -> None:
    from matplotlib.patches import Rectangle  # noqa: PLC0415 - an extra

    place.add_patch(
        Rectangle(
            (0, 0), 1, 1, transform=place.transAxes, fill=False, edgecolor=ORANGE, linewidth=2, linestyle="--",
            clip_on=False,
        )
    )  # fmt: skip
