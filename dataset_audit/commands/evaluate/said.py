"""What is said about the findings: verdicts first, then classes, then time."""

from __future__ import annotations

from collections.abc import Iterator
from math import ceil, isfinite, isnan

import numpy as np

from dataset_audit.commands.evaluate.findings import ALONE, Findings, Group
from dataset_audit.evaluate.pace import Standing
from dataset_audit.evaluate.verdicts import Comparison
from dataset_audit.report.document import Line, Note, Table

Items = tuple[Line | Table | Note, ...]
PLACES = {
    "above": "above",
    "below": "below",
    "on": "unclear",
    "before": "before the curve",
    "beyond": "past the curve",
    "not measured": "not known",
}


def items(found: Findings) -> Items:
    """Return the report."""
    told: list[Line | Table | Note] = [*_removal(found)]
    told += _against_full(found)
    told += _classes(found)
    told += _time(found)
    return tuple(told)


def _removal(found: Findings) -> Iterator[Line | Table | Note]:
    rows = []
    for (arm, keep, share), group in found.groups.items():
        if arm == "curve":
            continue
        one = found.comparisons.get((arm, keep))
        rows.append(
            (
                f"{keep:.4g}",
                _called(arm, share, group),
                _accuracy(group),
                _interval(one) if one else "-",
                _verdict(one) if one else "-",
            )
        )
    of = f"to {found.baseline_name}" if found.baseline_name else "to random"
    columns = ("keep", "arm", "accuracy %", f"{of}, 95 %", "verdict")
    yield Table(columns, tuple(rows), left=("arm", "verdict"), shown=60)
    if found.seeds == 1:
        yield Note("one seed: no spread, no interval, no verdict; --seeds 3 is the least")
    elif found.comparisons:
        luck = any(one.difference.stays > 0 for one in found.comparisons.values())
        yield Note(
            f"± standard deviation of {found.seeds} seeds; differences in points with 95 % t intervals over "
            "seeds, verdicts after Holm over the sizes of an arm"
            + "; the luck that the kept sets of all seeds share is counted as spread"
            * luck
        )
    yield from _settle(found)


def _called(arm: str, share: float, group: Group) -> str:
    if arm == "selective":
        return f"selective {group.job.skip:g}"
    return arm if share == 1 else f"{arm} {share:g}"


def _accuracy(group: Group) -> str:
    spread = "" if isnan(group.spread) else f" ± {100 * group.spread:.2f}"
    return f"{100 * group.mean:.2f}{spread}"


def _points(share: float) -> str:
    return f"{100 * share:+.2f}"


def _interval(one: Comparison) -> str:
    difference = one.difference
    if isnan(difference.low):
        return _points(difference.mean)
    return f"{_points(difference.mean)} [{_points(difference.low)}, {_points(difference.high)}]"


def _verdict(one: Comparison) -> str:
    """Return the verdict; where the interval alone would have said more, what took it back."""
    if one.verdict == "no difference shown" and not one.difference.low <= 0 <= one.difference.high:
        return "no difference (Holm)"
    return one.verdict


def _settle(found: Findings) -> Iterator[Line]:
    """Say how many seeds would tell the differences that were not shown; one line an arm."""
    arms: dict[str, list[Comparison]] = {}
    for one in found.comparisons.values():
        if one.verdict == "no difference shown" and one.arm not in {"stratified", "easiest"}:
            arms.setdefault(one.arm, []).append(one)
    for arm, each in arms.items():
        yield Line("would settle", (arm, *(f"{one.keep:.3g}: {_seeds(one)}" for one in each)))


def _seeds(one: Comparison) -> str:
    if one.settle is not None:
        return f"{one.settle:,} seeds"
    return "more subsets" if one.difference.stays > 0 else "no number of seeds"


def _against_full(found: Findings) -> Iterator[Line]:
    margin = f"{100 * found.delta:g}"
    for name, groups in found.arms().items():
        told = [
            (group.job.keep, found.to_full[name, group.job.keep])
            for group in groups
            if (name, group.job.keep) in found.to_full
        ]
        no_worse = [keep for keep, one in told if one.verdict == "no worse"]
        worse = [
            f"{keep:.3g} ({_points(one.difference.mean)})" for keep, one in told if one.verdict == "worse"
        ]
        said = []
        if no_worse:
            said.append(f"no worse than full − {margin} at {', '.join(f'{keep:.3g}' for keep in no_worse)}")
        if worse:
            said.append(f"worse at {', '.join(worse)}")
        rest = len(told) - len(no_worse) - len(worse)
        if rest and found.seeds > 1:
            said.append(f"not settled at {rest} size{'s' * (rest > 1)}")
        if said:
            yield Line(f"{name} to full", tuple(said))


def _classes(found: Findings) -> Iterator[Line | Table | Note]:
    full = found.full
    before = full.class_share if full is not None else None
    known = any(not isnan(one.wrong_labels) for one in found.done)
    rows = []
    for (arm, keep, share), group in found.groups.items():
        if arm == "curve":
            continue
        worst = group.worst
        change = "-"
        if full is not None and group is not full:
            change = _points(group.recall[worst] - full.recall[worst])
        moved = "-"
        if before is not None and arm not in ALONE:
            move = group.class_share - before
            most = int(np.argmax(np.abs(move)))
            moved = f"{found.class_names[most]} {100 * move[most]:+.1f}"
        cells = [
            f"{keep:.4g}",
            _called(arm, share, group),
            found.class_names[worst],
            f"{100 * group.recall[worst]:.1f}",
            change,
            moved,
            f"{group.average('ece'):.3f}",
        ]
        if known:
            cells.append(f"{100 * float(np.mean([one.wrong_labels for one in group.done])):.1f}")
        rows.append(tuple(cells))
    extra = ("wrong %",) if known else ()
    columns = ("keep", "arm", "worst class", "recall %", "to full", "share moved", "ECE", *extra)
    yield Note("the class with the lowest recall, the class share that moved most (points), calibration")
    yield Table(columns, tuple(rows), left=("arm", "worst class", "share moved"), shown=60)
    if found.overlaps:
        smallest = min(keep for _, keep in found.overlaps)
        cells = [f"{arm} {shared:.2f}" for (arm, keep), shared in found.overlaps.items() if keep == smallest]
        yield Line("overlap", (f"of kept sets between seeds at {smallest:.3g}", *cells))


def _time(found: Findings) -> Iterator[Line | Table | Note]:
    baseline = found.baseline
    if baseline is None:
        yield Line("time", ("no curve to compare with: it needs the arm full and --curve",))
        return
    points = ", ".join(
        f"{100 * values.mean():.2f} in {_seconds(seconds)} s"
        for seconds, values in zip(baseline.seconds.tolist(), baseline.accuracy, strict=True)
    )
    yield Line("curve", (f"all examples for less time: {points}",))
    scored = "not known" if isnan(found.scoring) else f"{found.scoring:,.0f} s"
    shared = f", shared by {found.trainings:,} trainings" if found.trainings > 1 else ""
    yield Line("scoring", (f"{scored} a kept set{shared}",))
    rows = [
        _stood(key[0] if key[2] == 1 else f"{key[0]} {key[2]:g}", key[1], one)
        for key, one in found.standings.items()
    ]
    columns = ("keep", "arm", "training s", "total s", "at equal time", "saved s", "pays at")
    yield Table(columns, tuple(rows), left=("arm", "at equal time"), shown=60)
    yield Note(
        "total: with scoring; at equal time: points beyond what all examples give in that time; saved: training "
        "seconds at equal quality; pays at: trainings after which scoring is paid for"
    )
    if found.uneven:
        yield Note(
            f"the machine's pace changed {found.spread:.1f}-fold between trainings, so seconds are the "
            "examples presented at the median pace; of arms that skip backward passes they are not known"
        )
    winners = [f"{arm} {keep:.3g}" for (arm, keep, _), one in found.standings.items() if one.place == "above"]
    if winners:
        yield Line("above", (f"{', '.join(winners)}: better than the same time spent on all examples",))
    else:
        yield Line("above", ("no arm is above what the same time buys on all examples",))


def _seconds(seconds: float) -> str:
    if isnan(seconds):
        return "-"
    return f"{seconds:,.0f}" if seconds >= 100 else f"{seconds:.1f}"


def _stood(arm: str, keep: float, one: Standing) -> tuple[str, ...]:
    place = PLACES[one.place]
    if one.gained is not None:
        place = f"{_points(one.gained.mean)} {place}"
    pays = "-"
    if one.pays_after is not None and one.scoring > 0:
        pays = "never" if not isfinite(one.pays_after) else f"{ceil(one.pays_after):,}"
    saved = "-" if one.saved is None else f"{one.saved:,.1f}"
    return f"{keep:.4g}", arm, _seconds(one.seconds), _seconds(one.total), place, saved, pays
