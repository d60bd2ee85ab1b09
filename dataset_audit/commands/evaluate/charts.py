"""The findings drawn: removal, quality against time, differences, classes, overlap of kept sets."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from dataset_audit.commands.evaluate.findings import Findings, Group
from dataset_audit.report.charts import Chart, Effect, Trend, effects, heatmap, trends


def charts(found: Findings) -> list[Chart]:
    """Return the charts of an evaluation; those that need random subsets or a curve only where there are."""
    drawn = [_removal(found)]
    if found.baseline is not None:
        drawn.append(_time(found))
    if found.comparisons:
        drawn.append(_differences(found))
    drawn += _classes(found)
    drawn += _overlaps(found)
    return drawn


def _points(values: list[float]) -> NDArray[np.float64]:
    return 100 * np.array(values)


def _removal(found: Findings) -> Chart:
    series = []
    full = found.full
    for name, groups in found.arms().items():
        ordered = groups[::-1]
        mean, spread = (
            _points([group.mean for group in ordered]),
            np.nan_to_num(_points([group.spread for group in ordered])),
        )
        series.append(
            Trend(
                label=name,
                x=_points([group.job.keep for group in ordered]),
                y=mean,
                low=mean - spread,
                high=mean + spread,
                joined=len(groups) > 1,
            )
        )
    band = f"band: ± standard deviation of {found.seeds} seeds" if found.seeds > 1 else "one seed"
    chart = trends(
        "removal",
        series,
        words=("What is left when examples are removed", "examples kept (%)", f"test accuracy (%), {band}"),
        level=None if full is None else (f"all examples {100 * full.mean:.2f}", 100 * full.mean),
    )
    _focus(chart, found)
    return chart


def _time(found: Findings) -> Chart:
    baseline = found.baseline
    if baseline is None:
        raise ValueError("no curve")
    series = []
    arms: dict[str, list[tuple[float, Group]]] = {name: [] for name in found.arms()}  # colours as for removal
    for key, one in found.standings.items():
        seconds = one.seconds if np.isnan(one.total) else one.total
        if np.isnan(seconds):
            continue
        arms.setdefault(key[0], []).append((seconds, found.groups[key]))
    for name, points in arms.items():
        if not points:
            continue
        mean = _points([group.mean for _, group in points])
        spread = np.nan_to_num(_points([group.spread for _, group in points]))
        series.append(
            Trend(
                label=name,
                x=np.array([seconds for seconds, _ in points]),
                y=mean,
                low=mean - spread,
                high=mean + spread,
                joined=False,
                notes=tuple(f"{group.job.keep:.2g}" for _, group in points),
            )
        )
    series.append(_curve(found))
    chart = trends(
        "quality_time",
        series,
        words=(
            "Quality against time: above the line, pruning pays",
            "training time, scoring included (s)",
            f"test accuracy (%), ± standard deviation of {found.seeds} seeds",
        ),
        log=True,
    )
    _focus(chart, found)
    return chart


def _focus(chart: Chart, found: Findings) -> None:
    """Show the range of all arms but the easiest, which falls so far that nothing else could be told apart."""
    others = [100 * group.mean for (arm, *_), group in found.groups.items() if arm != "easiest"]
    margin = 0.1 * max(max(others) - min(others), 0.5)
    low, high = min(others) - margin, max(others) + margin
    axes = chart.figure.axes[0]
    hidden = sum(100 * group.mean < low for (arm, *_), group in found.groups.items() if arm == "easiest")
    axes.set_ylim(low, high)
    if hidden:
        axes.annotate(
            f"easiest: {hidden} of its sizes lie below", (0, 0), (4, 4), xycoords="axes fraction",
            textcoords="offset points", fontsize=7,
        )  # fmt: skip


def _curve(found: Findings) -> Trend:
    baseline = found.baseline
    if baseline is None:
        raise ValueError("no curve")
    mean = 100 * baseline.accuracy.mean(1)
    spread = 100 * baseline.accuracy.std(1, ddof=1) if found.seeds > 1 else np.zeros(len(mean))
    return Trend(
        label="all examples, fewer epochs",
        x=baseline.seconds,
        y=mean,
        low=mean - spread,
        high=mean + spread,
    )


def _differences(found: Findings) -> Chart:
    rows = [
        Effect(
            label=f"keep {one.keep:.3g}",
            value=100 * one.difference.mean,
            low=100 * one.difference.low,
            high=100 * one.difference.high,
            said=one.verdict,
            group=one.arm,
        )
        for one in found.comparisons.values()
    ]
    return effects(
        "differences",
        rows,
        words=(
            f"Difference to {found.baseline_name} subsets of the same size",
            f"points of test accuracy, 95 % t interval over {found.seeds} seeds; grey: ± {100 * found.delta:g}",
        ),
        margin=100 * found.delta,
    )


def _classes(found: Findings) -> Iterator[Chart]:
    full = found.full
    if full is None or len(found.class_names) > 40:
        return
    rows = [(key, group) for key, group in found.groups.items() if key[0] not in {"full", "curve"}]
    if rows:
        change = np.stack([100 * (group.recall - full.recall) for _, group in rows])
        labels = [f"{arm} {keep:.3g}" for (arm, keep, _), _ in rows]
        yield heatmap(
            "recall",
            change,
            labels,
            found.class_names,
            words=("Change of each class's recall against all examples (points)", "class", "arm, share kept"),
            percent=False,
        )


def _overlaps(found: Findings) -> Iterator[Chart]:
    """Yield for each size how much the kept sets of two arms share; on the diagonal those of two seeds."""
    for keep in sorted({group.job.keep for groups in found.arms().values() for group in groups}):
        groups = {
            name: group
            for name, each in found.arms().items()
            for group in each
            if group.job.keep == keep and name != "rs2"
        }
        if len(groups) < 2 or len(groups) > 12:
            continue
        names = list(groups)
        shared = np.full((len(names), len(names)), np.nan)
        for row, first in enumerate(names):
            for column, second in enumerate(names):
                if row == column:
                    shared[row, column] = found.overlaps.get((first, keep), np.nan)
                else:
                    shared[row, column] = _shared(groups[first], groups[second])
        yield heatmap(
            f"overlap_{100 * keep:.3g}".replace(".", "_"),
            shared,
            names,
            names,
            words=(
                f"Share of kept examples in common at {keep:.3g} ({100 * keep:.3g} % by chance)",
                "diagonal: between two seeds; grey where all seeds keep the same",
                "arm",
            ),
        )


def _shared(first: Group, second: Group) -> float:
    each = [
        len(np.intersect1d(a.job.rows, b.job.rows, assume_unique=True)) / len(a.job.rows)
        for a, b in zip(first.done, second.done, strict=True)
    ]
    return float(np.mean(each))
