"""The findings drawn: one matrix for all, and how each test set is learned from each training set."""

from __future__ import annotations

from collections.abc import Iterator

from dataset_audit.commands.transfer.findings import Curves, Findings, Told
from dataset_audit.report.charts import Chart
from dataset_audit.report.drawing import text
from dataset_audit.report.marks import Line, curve, heatmap
from dataset_audit.stats.curves import Curve


def charts(found: Findings) -> list[Chart]:
    """Return the matrices of average precision and of accuracy, and a chart of curves for each test set."""
    many = len(found.classes)
    of = f"mean of {many:,} classes" if many > 1 else text(found.classes[0], 40)
    drawn = [_matrix(found, "matrix", f"Average precision, {of}", found.overall)]
    if found.named is not None:
        drawn.append(_matrix(found, "accuracy", f"Accuracy, to name one of {many:,} classes", found.named))
    if found.curves is not None:
        drawn += _curves(found, found.curves)
    return drawn


def _matrix(found: Findings, name: str, title: str, told: Told) -> Chart:
    guess = f"tested on (guessing scores {100 * told.chance:.0f} %)"
    return heatmap(name, told.mean, found.names, found.names, words=(title, guess, "trained on"))


def _curves(found: Findings, curves: Curves) -> Iterator[Chart]:
    draws = "range of draws" if found.resamplings > 1 else "one draw"
    for tested, of in enumerate(found.names):
        series = []
        for trained, name in enumerate(found.names):
            values = curves.value[:, :, trained, tested]
            fitted = Curve(sizes=curves.sizes, values=values).fitted()
            series.append(
                Line(
                    label=f"{name} (its own)" if trained == tested else name,
                    n=curves.sizes,
                    value=values.mean(1),
                    low=values.min(1),
                    high=values.max(1),
                    fit=None if fitted is None else (curves.sizes, fitted),
                )
            )
        words = (f"Tested on {text(of, 40)}, trained on", "training images", f"average precision ({draws})")
        # by number: names of sets may hold slashes
        yield curve(f"tested_on_{tested + 1}", series, words=words, chance=curves.chance)
