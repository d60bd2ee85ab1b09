"""What is said about a bias: the lines, the tables, the warnings, the charts."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from dataset_audit.bias.ablations import ABLATIONS
from dataset_audit.bias.controls import CONTROLS, Bench
from dataset_audit.bias.findings import NEGLIGIBLE, READINGS, Effect, Headline
from dataset_audit.bias.measure import Figures, typicality
from dataset_audit.commands.bias.findings import PERMUTATIONS, Findings, artefacts
from dataset_audit.probes.registry import PROBES
from dataset_audit.report.charts import Chart
from dataset_audit.report.document import Line, Note, Table, Warning
from dataset_audit.report.marks import Line as Series
from dataset_audit.report.marks import Mark, curve, heatmap, intervals
from dataset_audit.report.pictures import Explained, Tile, maps, panels
from dataset_audit.stats.chance import least_test, null_band

SHOWN = 10  # pictures of a row of the contact sheet
MAPPED = 6  # pictures of the sheet of maps
_SHORT = {"raw": "as is", "photometric": "photom.", "together": "all"}


def percent(share: float) -> str:
    """Return a share as it is printed everywhere: ``31.3 %``."""
    return f"{100 * share:.1f} %"


def _effect(effect: Effect) -> str:
    return f"{effect.value:+.3f} ({effect.low:+.3f} to {effect.high:+.3f})"


def _p(p: float) -> str:
    return f"p {p:.2g}" if p >= 1e-16 else "p < 1e-16"


def _accuracy(figures: Figures) -> str:
    return f"{percent(figures.accuracy)} ({percent(figures.low)} to {percent(figures.high)})"


def items(findings: Findings, seconds: Mapping[str, float], peak: int) -> tuple[Line | Note | Table, ...]:
    """Return the whole report, most important first."""
    told: list[Line | Note | Table] = [*_headline(findings), *_artefacts(findings), *_sets(findings)]
    told += [_matrix(findings)]
    if findings.headline is not None:
        told.append(_controls(findings))
    told += [_confusion(findings), _pairwise(findings)]
    if any(trial.startswith("ablate ") for trial, _ in findings.figures):
        told.append(_ablations(findings))
    if findings.explanations is not None:
        told.append(_explanations(findings))
    spent = " · ".join(f"{name} {value:.0f} s" for name, value in seconds.items())
    told.append(Line("time", (f"{sum(seconds.values()):.0f} s", spent, f"peak {peak / 1e9:.1f} GB")))
    return tuple(told)


def _headline(findings: Findings) -> list[Line | Note | Table]:
    head, best = findings.headline, findings.figures["raw", findings.best.probe]
    told: list[Line | Note | Table] = []
    if head is not None:
        told.append(Line("reading", (f"{head.reading}: {READINGS[head.reading]}",)))
    told.append(
        Line(
            "named by pixels",
            (
                f"{_accuracy(best)} by {findings.best.probe}",
                f"bias {best.bias:.3f}",
                _p(best.p),
                f"balanced {percent(best.balanced)}",
            ),
        )
    )
    if head is not None:
        told += _against(head)
        if head.enough is not None:
            told.append(
                Line("would settle it", (f"{head.enough:,} test images; one fold has {best.tested:,}",))
            )
    told.append(
        Line(
            "resamplings",
            (
                ", ".join(percent(one) for one in best.folds),
                f"standard error {100 * best.error:.1f} points",
                f"blind below a bias of {findings.blind:.3f}",
            ),
        )
    )
    return told


def _against(head: Headline) -> list[Line]:
    return [
        Line(
            "worst control", (f"{_accuracy(head.floor)} by {head.worst} alone", f"bias {head.floor.bias:.3f}")
        ),
        Line("excess", (f"{_effect(head.excess)} of bias over the worst control",)),
        Line(
            "surviving",
            (f"{_effect(head.surviving)} of bias with everything taken away, by {head.surviving_probe}",),
        ),
    ]


def _artefacts(findings: Findings) -> list[Line | Note | Table]:
    told: list[Line | Note | Table] = []
    if findings.headline is None:
        return told
    named = artefacts(findings)
    told.append(Line("artefacts", (", ".join(dict.fromkeys(named)) if named else "none named",)))
    if findings.taken:
        gone = (f"{CONTROLS[name].takes}: {percent(share)} of the bias" for name, share in findings.taken)
        told.append(Line("gone with", tuple(gone)))
    if findings.facts:
        told.append(
            Line(
                "by one header fact",
                tuple(f"{fact.name} {percent(fact.alone)}" for fact in findings.facts[:5]),
            )
        )
    if findings.traces:
        told.append(
            Line(
                "by one kind of trace",
                tuple(f"{name} {percent(value)}" for name, value in findings.traces[:3]),
            )
        )
    return told


def _sets(findings: Findings) -> list[Line | Note | Table]:
    twice, leak = findings.duplicates, findings.leak
    told: list[Line | Note | Table] = [
        Line(
            "duplicates",
            (
                f"{twice.within:,} within a source",
                f"{twice.across:,} across ({twice.across_exact:,} with equal pixels)",
                f"ceiling {percent(twice.ceiling)}",
            ),
        ),
        Line(
            "leak check",
            (
                f"{100 * leak.points:+.1f} points if split picture by picture",
                f"{percent(leak.straddling)} of test images then have a copy in training",
            ),
        ),
    ]
    if findings.headline is not None:
        total, tried = findings.each * len(findings.names), findings.strongest("matched") is not None
        told.append(
            Line(
                "matched",
                (
                    f"{findings.matched:,} of {total:,} images have a like in size and bytes per pixel in every source",
                    *(() if tried else ("too few to compare",)),
                ),
            )
        )
    if findings.nulls:
        bad = [null for null in findings.nulls if null.adjusted < 0.05]
        told.append(
            Line(
                "nulls",
                tuple(f"{null.trial} above chance ({percent(null.figures.accuracy)})" for null in bad)
                or (f"all {len(findings.nulls)} at chance", f"smallest adjusted p {_smallest(findings):.2f}"),
            )
        )
    if findings.widths:
        width = findings.widths.get(findings.best.probe) or next(iter(findings.widths.values()))
        told.append(
            Line(
                "permutations",
                (
                    f"{PERMUTATIONS} of labels over clusters: 95 % below {percent(width.high)}",
                    f"true labels {percent(width.observed)}",
                    f"p {width.p:.3f}",
                ),
            )
        )
    if findings.curve is not None and findings.curve.fit is not None:
        fit = findings.curve.fit
        told.append(
            Line(
                "learning curve",
                (
                    f"{'still rising' if fit.still_rising else 'flat'} at {fit.largest:,.0f} training images",
                    f"by {findings.curve.probe}",
                ),
            )
        )
    if np.isfinite(findings.easiest[1]):
        name = findings.names[findings.easiest[0]]
        told.append(
            Line("without the easiest", (f"bias {findings.easiest[1]:.3f} among the others than {name}",))
        )
    if findings.label_aucs:
        name, auc = findings.label_aucs[0]
        told.append(
            Line("labels from source", (f"{name}: AUC {auc:.3f} from its share in each source alone",))
        )
    return told


def _smallest(findings: Findings) -> float:
    return min(null.adjusted for null in findings.nulls)


def _matrix(findings: Findings) -> Table:
    """Return accuracies in percent, one row per probe, one column per control."""
    shown = [
        name
        for name in ("raw", *CONTROLS)
        if any(trial == name for trial, _ in findings.figures) and name != "permuted"
    ]
    rows = []
    for probe in PROBES:
        cells = [
            f"{100 * findings.figures[trial, probe].accuracy:.1f}"
            if (trial, probe) in findings.figures
            else "·"
            for trial in shown
        ]
        if any(cell != "·" for cell in cells):
            rows.append((probe, *cells))
    return Table(
        columns=("accuracy, %", *(_SHORT.get(name, name) for name in shown)),
        rows=tuple(rows),
        left=("accuracy, %",),
        shown=20,
    )


def _controls(findings: Findings) -> Table:
    """Return one row per control with its strongest probe."""
    rows = []
    for trial in ("raw", *CONTROLS):
        strongest = findings.strongest(trial)
        if strongest is not None:
            rows.append(_row("as they are" if trial == "raw" else trial, *strongest))
    rows += [
        _row(null.trial, null.probe, null.figures) for null in findings.nulls if null.trial not in CONTROLS
    ]
    return Table(
        columns=("control", "strongest", "accuracy", "95 %", "bias", "trained on"),
        rows=tuple(rows),
        left=("control", "strongest"),
        shown=20,
    )


def _row(control: str, probe: str, one: Figures) -> tuple[str, ...]:
    return (
        control,
        probe,
        percent(one.accuracy),
        f"{100 * one.low:.1f} to {100 * one.high:.1f}",
        f"{one.bias:+.3f}",
        f"{one.trained:,.0f}",
    )


def _confusion(findings: Findings) -> Table:
    """Return the share of each source named as each other, in percent."""
    numbered = [f"{place} {name}" for place, name in enumerate(findings.names, 1)]
    rows = [
        (name, *(f"{100 * share:.0f}" for share in shares))
        for name, shares in zip(numbered, findings.confusion, strict=True)
    ]
    columns = ("source, named as %", *(str(place) for place in range(1, len(numbered) + 1)))
    return Table(columns=columns, rows=tuple(rows), left=(columns[0],), shown=20)


def _pairwise(findings: Findings) -> Table:
    """Return 2 AUC - 1 of each pair of sources."""
    numbered = [f"{place} {name}" for place, name in enumerate(findings.names, 1)]
    rows = [
        (
            name,
            *(
                "" if row == column else f"{findings.pairwise[row, column]:.2f}"
                for column in range(len(numbered))
            ),
        )
        for row, name in enumerate(numbered)
    ]
    columns = ("source, 2 AUC - 1", *(str(place) for place in range(1, len(numbered) + 1)))
    return Table(columns=columns, rows=tuple(rows), left=(columns[0],), shown=20)


def _ablations(findings: Findings) -> Table:
    rows = []
    for name, ablation in ABLATIONS.items():
        one = findings.figures.get((f"ablate {name}", "network"))
        if one is not None:
            rows.append(
                (name, percent(one.accuracy), f"{100 * one.low:.1f} to {100 * one.high:.1f}", ablation.keeps)
            )
    rows.sort(key=lambda row: -float(row[1].split(" ")[0]))
    return Table(
        columns=("ablation", "accuracy", "95 %", "what is left"),
        rows=tuple(rows),
        left=("ablation", "what is left"),
        shown=30,
    )


def _explanations(findings: Findings) -> Table:
    rows = []
    if findings.explanations is not None:
        for name, one in findings.explanations.methods.items():
            verdict = one.verdict
            rows.append(
                (
                    name,
                    "yes" if verdict.trusted else "no",
                    f"{verdict.spearman:.2f}",
                    f"{verdict.overlap:.2f}",
                    f"{verdict.redrawn:.2f}",
                    verdict.why,
                )
            )
        rows += [(name, "none", "", "", "", why) for name, why in findings.explanations.skipped.items()]
    return Table(
        columns=("explanation", "trusted", "Spearman at 2/255", "overlap", "random head", "why"),
        rows=tuple(rows),
        left=("explanation", "trusted", "why"),
        shown=10,
    )


def warnings(findings: Findings) -> tuple[Warning, ...]:
    """Return what a reader must know before believing the figures."""
    said = []
    best = findings.figures["raw", findings.best.probe]
    sources = len(findings.names)
    if findings.blind > NEGLIGIBLE:
        enough = least_test(sources, NEGLIGIBLE)
        said.append(
            Warning(
                "W-small",
                f"{best.tested:,} test images a fold cannot show a bias below {findings.blind:.3f}; "
                f"{enough:,} would show {NEGLIGIBLE}",
            )
        )
    above = [null.trial for null in findings.nulls if null.adjusted < 0.05]
    if above:
        said.append(
            Warning(
                "W-null",
                f"{', '.join(above)} is above chance: a leak or a fault; do not trust the other figures",
            )
        )
    if findings.duplicates.ceiling < 1:
        said.append(
            Warning(
                "W-copies",
                f"{findings.duplicates.across_exact:,} images have equal pixels in another source; "
                f"no probe of pixels can name more than {percent(findings.duplicates.ceiling)}",
            )
        )
    least = min(findings.reduced)
    if findings.headline is not None and least < 0.9:
        said.append(
            Warning(
                "W-reduction",
                f"{percent(1 - least)} of the images are too small to be reduced as far as hiding their history takes",
            )
        )
    return tuple(said)


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
        [Series(label=label, n=sizes, value=value, low=low, high=high, fit=line)],
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
