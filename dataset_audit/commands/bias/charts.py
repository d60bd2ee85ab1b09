"""The charts of a bias: accuracies, matrices, learning curve, ablations, pictures, maps."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from dataset_audit.bias.ablations import ABLATIONS
from dataset_audit.bias.controls import CONTROLS, Bench
from dataset_audit.bias.measure import typicality
from dataset_audit.commands.bias.findings import Findings
from dataset_audit.report.charts import Chart
from dataset_audit.report.marks import Line, Mark, curve, heatmap, intervals
from dataset_audit.report.pictures import Explained, Tile, maps, panels
from dataset_audit.stats.chance import null_band

SHOWN = 10  # pictures of a row of the contact sheet
MAPPED = 6  # pictures of the sheet of maps


def charts(findings: Findings, bench: Bench) -> list[Chart]:
    """Return accuracies with their null band, matrices, learning curve, ablations, pictures and maps."""
    names = findings.names
    best = findings.figures["raw", findings.best.probe]
    chance, band = best.chance, null_band(best.tested, best.chance)
    drawn = [
        intervals(
            "accuracy",
            _marks(findings),
            chance=chance,
            band=band,
            words=("Can the source of an image be named?", "accuracy", "95 % of guesses"),
        ),
        heatmap(
            "confusion",
            findings.confusion,
            names,
            names,
            words=(f"Who is taken for whom, by {findings.best.probe}", "named", "source"),
        ),
        heatmap(
            "pairwise",
            findings.pairwise,
            names,
            names,
            words=("How far apart two sources are, 2 AUC - 1", "source", "source"),
            percent=False,
        ),
    ]
    if findings.curve is not None:
        drawn.append(_curve(findings, chance))
    ablated = _ablation_marks(findings)
    if ablated:
        words = ("A network trained anew on poorer pictures", "accuracy", "95 % of guesses")
        drawn.append(intervals("ablations", ablated, chance=chance, band=band, words=words))
    drawn += _pictures(findings, bench)
    if findings.explanations is not None:
        drawn.append(_maps(findings, bench))
    return drawn


def _marks(findings: Findings) -> list[Mark]:
    marks = [
        Mark(probe, one.accuracy, one.low, one.high, "as they are")
        for (trial, probe), one in findings.figures.items()
        if trial == "raw"
    ]
    for trial in CONTROLS:
        strongest = findings.strongest(trial)
        if strongest is not None:
            probe, one = strongest
            marks.append(Mark(f"{trial}, {probe}", one.accuracy, one.low, one.high, "under a control"))
    for null in findings.nulls:
        if null.trial not in CONTROLS:
            one = null.figures
            marks.append(
                Mark(f"{null.trial}, {null.probe}", one.accuracy, one.low, one.high, "under a control")
            )
    return marks


def _ablation_marks(findings: Findings) -> list[Mark]:
    marks = []
    for name in ABLATIONS:
        one = findings.figures.get((f"ablate {name}", "network"))
        if one is not None:
            marks.append(Mark(name, one.accuracy, one.low, one.high))
    marks.sort(key=lambda mark: -mark.value)
    raw = findings.figures.get(("raw", "network"))
    first = [Mark("as they are", raw.accuracy, raw.low, raw.high)] if raw is not None else []
    return first + marks if marks else []


def _curve(findings: Findings, chance: float) -> Chart:
    points = findings.curve.points if findings.curve is not None else ()
    sizes = sorted({n for n, _ in points})
    value = [float(np.mean([accuracy for n, accuracy in points if n == size])) for size in sizes]
    low = [min(accuracy for n, accuracy in points if n == size) for size in sizes]
    high = [max(accuracy for n, accuracy in points if n == size) for size in sizes]
    fit = findings.curve.fit if findings.curve is not None else None
    line: tuple[NDArray[np.float64], NDArray[np.float64]] | None = None
    if fit is not None:
        grid = np.geomspace(sizes[0], 2 * sizes[-1], 50)
        line = (grid, np.array([fit.predict(float(n)) for n in grid]))
    label = findings.curve.probe if findings.curve is not None else ""
    words = ("Accuracy over training images (range of folds)", "training images", "accuracy")
    return curve(
        "learning",
        [Line(label=label, n=sizes, value=value, low=low, high=high, fit=line)],
        words=words,
        chance=chance,
    )


def _pictures(findings: Findings, bench: Bench) -> list[Chart]:
    best, pixels = findings.best, bench.seen.views["raw"].pixels
    odds = typicality(best)
    typical, confusable = [], []
    for number, name in enumerate(findings.names):
        mine = np.flatnonzero(best.labels == number)
        order = mine[np.argsort(-odds[mine], kind="stable")]
        typical.append((name, [_tile(findings, pixels, odds, int(row)) for row in order[:SHOWN]]))
        confusable.append((name, [_tile(findings, pixels, odds, int(row)) for row in order[::-1][:SHOWN]]))
    return [
        panels("typical", "Most typical of each source (log-odds of its own)", typical),
        panels("confusable", "Taken for another source (log-odds of its own, named)", confusable),
    ]


def _tile(findings: Findings, pixels: NDArray[np.uint8], odds: NDArray[np.float64], row: int) -> Tile:
    best = findings.best
    named = findings.names[int(best.probability[row].argmax())]
    text = f"{odds[row]:+.1f}" if best.correct[row] else f"{odds[row]:+.1f} {named}"
    return Tile(pixels[best.rows[row]], text)


def _maps(findings: Findings, bench: Bench) -> Chart:
    found = findings.explanations
    if found is None:
        raise ValueError("nothing was explained")
    columns = [
        (name, "trusted" if one.verdict.trusted else "not to be trusted", one.verdict.trusted)
        for name, one in found.methods.items()
    ]
    step = max(1, len(found.rows) // MAPPED)
    rows = []
    for place in range(0, len(found.rows), step)[:MAPPED]:
        row = int(found.rows[place])
        source, named = int(bench.stock.source[row]), int(found.predicted[place])
        text = findings.names[source] + ("" if source == named else f" as {findings.names[named]}")
        shown = [one.maps[place] for one in found.methods.values()]
        rows.append(Explained(bench.seen.views["raw"].network[row], text, shown))
    return maps("maps", "What gives the source away, and whether the map can be trusted", columns, rows)
