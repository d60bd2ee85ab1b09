"""What is said about a bias: the lines, the tables, the warnings."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from dataset_audit.bias.ablations import ABLATIONS
from dataset_audit.bias.controls import CONTROLS
from dataset_audit.bias.findings import NEGLIGIBLE, READINGS, Effect, Headline
from dataset_audit.bias.measure import Figures
from dataset_audit.commands.bias.findings import PERMUTATIONS, Findings, artefacts
from dataset_audit.probes.registry import PROBES
from dataset_audit.report.document import Line, Note, Table, Warning
from dataset_audit.stats.chance import least_test

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


def _sets(findings: Findings) -> list[Line]:
    """Return what may have made the figures what they are: copies, chance, too few images."""
    return [
        *_copies(findings),
        *_matched(findings),
        *_chance(findings),
        *_learning(findings),
        *_without(findings),
    ]


def _copies(findings: Findings) -> list[Line]:
    twice, leak = findings.duplicates, findings.leak
    return [
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


def _matched(findings: Findings) -> list[Line]:
    if findings.headline is None:
        return []
    total = findings.each * len(findings.names)
    like = f"{findings.matched:,} of {total:,} images have a like in size and bytes per pixel in every source"
    tried = findings.strongest("matched") is not None
    return [Line("matched", (like,) if tried else (like, "too few to compare"))]


def _chance(findings: Findings) -> list[Line]:
    told = []
    if findings.nulls:
        bad = [null for null in findings.nulls if null.adjusted < 0.05]
        smallest = min(null.adjusted for null in findings.nulls)
        told.append(
            Line(
                "nulls",
                tuple(f"{null.trial} above chance ({percent(null.figures.accuracy)})" for null in bad)
                or (f"all {len(findings.nulls)} at chance", f"smallest adjusted p {smallest:.2f}"),
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
    return told


def _learning(findings: Findings) -> list[Line]:
    if findings.curve is None or findings.curve.fit is None:
        return []
    fit = findings.curve.fit
    rising = "still rising" if fit.still_rising else "flat"
    return [
        Line(
            "learning curve",
            (f"{rising} at {fit.largest:,.0f} training images", f"by {findings.curve.probe}"),
        )
    ]


def _without(findings: Findings) -> list[Line]:
    told = []
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
