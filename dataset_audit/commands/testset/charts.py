"""The findings drawn: accuracy on the new set against the original, ranks, gaps by class, bias of the best by size."""

from __future__ import annotations

from math import isfinite

from dataset_audit.commands.testset.findings import Findings
from dataset_audit.report.charts import Chart
from dataset_audit.report.drawing import text
from dataset_audit.report.scatter import Pair, forest, ranks, scatter, sizes
from dataset_audit.testset.wear import CURVE

MOST = 40  # rows of a chart that can be read
CHOSEN = (10, 100, 1000)  # selections drawn


def charts(found: Findings) -> list[Chart]:
    """Return the charts."""
    drawn = [_scatter(found), _classes(found), _sizes(found)]
    if 1 < len(found.models) <= MOST:
        drawn.insert(1, _ranks(found))
    return drawn


def _scatter(found: Findings) -> Chart:
    pairs = [
        Pair(
            each.model,
            (each.accuracy[0], *each.interval[0]),
            (each.accuracy[1], *each.interval[1]),
        )
        for each in found.ranked
    ]
    line = None
    if found.lines is not None and isfinite(found.lines.plain.slope):
        line = found.lines.plain.slope, found.lines.plain.intercept
    words = (
        "Accuracy on the new set against the original",
        f"{text(found.names[0], 30)} (95 % Clopper-Pearson)",
        f"{text(found.names[1], 30)} (95 % Clopper-Pearson)",
    )
    return scatter("accuracy", pairs, line=line, words=words)


def _ranks(found: Findings) -> Chart:
    rows = [(each.model, *each.rank) for each in found.ranked]
    return ranks("ranks", rows, words=("Ranks of the models", *found.names))


def _classes(found: Findings) -> Chart:
    rows = [
        (found.classes[each.label], each.gap.value, each.gap.low, each.gap.high) for each in found.by_class
    ]
    rows.sort(key=lambda row: (not isfinite(row[1]), -row[1] if isfinite(row[1]) else 0.0))
    left = f", the {MOST} largest" if len(rows) > MOST else ""
    words = (
        f"Gap by class, mean of {len(found.models):,} models{left}",
        "original minus new, percentage points (95 % over images)",
        "no gap",
    )
    return forest("classes", rows[:MOST], words=words)


def _sizes(found: Findings) -> Chart:
    first = found.wear[0]
    series = [
        (f"best of {k:,}", CURVE, [first.bias_at(n, k) for n in CURVE])
        for k in sorted({*CHOSEN, max(found.wear[0].selections, 2)})
    ]
    words = (
        "How much the best of k equally good models overstates itself",
        f"test images, at accuracy {100 * first.accuracy:.1f} % and correlation {first.rho:.2f}",
        "percentage points",
    )
    marks = list(dict(zip(found.names, found.sizes, strict=True)).items())
    return sizes("selection", series, marks=marks, words=words)
