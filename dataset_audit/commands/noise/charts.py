"""The findings drawn: what to look at, how often it is right, what is taken for what, and where the threshold lies."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from dataset_audit.commands.noise.config import SHEET
from dataset_audit.commands.noise.findings import Findings, Tested, Truth
from dataset_audit.images.bad_image import BadImage
from dataset_audit.report.charts import Chart, Line, Tile, curve, heatmap, sheet
from dataset_audit.report.drawing import BLUE, GREY, ORANGE, new_figure

if TYPE_CHECKING:
    from dataset_audit.images.opened import ImageDataset

DRAWN = 12  # classes in the matrix of confusions, and numbers that can be read in it
BINS = 60


def charts(found: Findings, dataset: ImageDataset | None) -> list[Chart]:
    """Return the contact sheet, precision at k, the confusions and the margins, as far as each is known."""
    drawn = [] if dataset is None else [_sheet(found, dataset)]
    if found.truth is not None and found.truth.wrong.any():
        drawn.append(_precision(found.truth))
    drawn += [*_confusions(found), *([] if found.tested is None else [_margins(found.tested)])]
    return drawn


def _sheet(found: Findings, dataset: ImageDataset) -> Chart:
    index = found.gathered.table.integers("index")[found.gathered.ranked.rows]
    meant, labels, tiles = found.meant, found.gathered.labels, []
    for at in found.order[:SHEET].tolist():
        other = "" if meant is None else _short(found.name(int(meant[1][at])))
        said = _short(found.name(int(labels[at]))) + f" > {other}" * bool(other)
        try:
            pixels = dataset.pixels(int(index[at]))
        except BadImage:
            continue  # it could be read when it was scored; the table still lists it
        tiles.append(Tile(pixels, f"{said} · {index[at]}"))
    what = "(label · index)" if meant is None else f"(label > {meant[0]} class · index)"
    return sheet("sheet", f"The {len(tiles)} most suspicious labels {what}", tiles)


def _short(name: str) -> str:
    """Return a name that fits under a small picture beside another."""
    return name if len(name) <= 8 else name[:7] + "."


def _precision(truth: Truth) -> Chart:
    names = list(dict.fromkeys(name for name in (truth.ranking, truth.single, truth.peer) if name))
    lines = []
    for name in names:
        taken, values = truth.curve(name)
        lines.append(Line(label=name, n=taken.astype(np.float64), value=values, low=values, high=values))
    words = ("How many of the first are wrong", "most suspicious examples", "share whose label is wrong")
    return curve("precision", lines, words=words, chance=truth.base_rate)


def _confusions(found: Findings) -> Iterator[Chart]:
    if found.confused is None or found.meant is None or not found.confused.any():
        return
    involved = found.confused.sum(0) + found.confused.sum(1)
    shown = np.sort(np.argsort(-involved, kind="stable")[:DRAWN])
    counts = found.confused[np.ix_(shown, shown)].astype(np.float64)
    names = [found.name(label) for label in shown.tolist()]
    rest = int(found.confused.sum() - counts.sum())
    np.fill_diagonal(counts, np.nan)  # a label that stays is no confusion
    title = f"What {len(found.suspects):,} suspects are taken for" + (
        f" ({rest:,} of other classes)" if rest else ""
    )
    words = (title, f"{found.meant[0]} class", "given label")
    yield heatmap("confusions", counts, names, names, words=words, percent=False)


def _margins(tested: Tested) -> Chart:
    """Return the margins of the threshold samples over those of all others, as densities, run by run."""
    figure = new_figure(7.2, 1.2 + 2.4 * len(tested.margins))
    places = figure.subplots(len(tested.margins), 1, squeeze=False, sharex=True).ravel()
    everything = np.concatenate([aum[np.isfinite(aum)] for aum in tested.margins])
    edges = np.linspace(everything.min(), everything.max() + 1e-9, BINS + 1)
    rows: list[tuple[object, ...]] = []
    for number, axes in enumerate(places):
        aum, member, bound = tested.margins[number], tested.members[number], tested.bounds[number]
        for label, chosen, colour, style in (
            ("all others", ~member, BLUE, "-"), ("threshold samples", member, ORANGE, "--"),
        ):  # fmt: skip
            counts, _ = np.histogram(aum[chosen & np.isfinite(aum)], edges)
            shares = counts / max(1, counts.sum())
            axes.stairs(shares, edges, color=colour, linestyle=style, label=label, linewidth=1.4)
            rows += [
                (number + 1, label, float(low), float(high), int(count))
                for low, high, count in zip(edges[:-1], edges[1:], counts, strict=True)
            ]
        axes.axvline(bound, color="black", linewidth=1, linestyle=":")
        axes.annotate(
            f"{tested.percentile:g}th percentile, {bound:.2f}", (bound, 0.97), (4, 0), va="top", fontsize=7,
            xycoords=("data", "axes fraction"), textcoords="offset points", color=GREY,
        )  # fmt: skip
        axes.set_ylabel(f"share, run {number + 1}", fontsize=9)
        axes.set_ylim(bottom=0)
        axes.spines[["top", "right"]].set_visible(False)
    places[0].legend(fontsize=8, frameon=False)
    places[0].set_title("Margins of labels that are surely wrong, and of all others", loc="left", fontsize=11)
    places[-1].set_xlabel("AUM (logits, mean over presentations)", fontsize=9)
    return Chart("margins", figure, ("run", "examples", "from", "to", "count"), tuple(rows))
