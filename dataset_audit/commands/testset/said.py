"""What is said about the findings: lines, most important first, then tables."""

from __future__ import annotations

from collections.abc import Iterator
from math import isfinite, isinf

from dataset_audit.commands.testset.findings import Duplicates, Findings
from dataset_audit.report.document import Line, Note, Table
from dataset_audit.testset.compare import Gap
from dataset_audit.testset.wear import Life, Wear

Items = tuple[Line | Table | Note, ...]
KEPT = 0.9  # rank correlation from which the order is called kept
RELIABLE = 0.9  # share of the models' spread that is no luck, below which the slope is said to be too small
FEW = 10  # models below which a line over redrawn models is too sure of itself

GAPS = "gaps in percentage points, original minus new; errors on the new set for one on the original; "
INTERVALS = {
    "newcombe": f"{GAPS}Newcombe's intervals for two samples, 95 %, and the score test's p",
    "paired": f"{GAPS}the same images: Newcombe's intervals for pairs, 95 %, and McNemar's exact p",
    "clusters": f"{GAPS}near-duplicates within a set count as one: intervals and p over clusters, 95 %",
}


def items(found: Findings) -> Items:
    """Return the report."""
    told: list[Line | Table | Note] = list(_lines(found))
    told += [Note("accuracy in %, with Clopper-Pearson intervals, 95 %"), _models(found)]
    told += [Note(INTERVALS[found.interval]), _gaps(found)]
    told += [Note(f"by class, mean of {_count(len(found.models), 'model')}"), _classes(found)]
    told += [Note(_life_note(found)), _life(found)]
    if found.rungs is not None:
        told += [Note("ladder: models in the order of submission"), _ladder(found)]
    return tuple(told)


def _count(n: int, what: str) -> str:
    return f"{n:,} {what}{'s' * (n != 1)}"


def points(share: float) -> str:
    """Return a difference of shares in percentage points, without a minus before a zero."""
    return f"{round(100 * share, 2) + 0.0:.2f}" if isfinite(share) else "–"


def _ends(low: float, high: float) -> str:
    return f"[{points(low)}, {points(high)}]" if isfinite(low) else ""


def percent(share: float) -> str:
    """Return a share in percent."""
    return f"{100 * share:.2f}" if isfinite(share) else "–"


def _lines(found: Findings) -> Iterator[Line]:
    yield Line(
        "gap", (f"{points(found.gap.value)} points {_ends(found.gap.low, found.gap.high)}", _verdict(found))
    )
    smallest = min(found.by_model, key=lambda each: each.gap.value)
    largest = max(found.by_model, key=lambda each: each.gap.value)
    if len(found.models) > 1:
        yield Line(
            "per model",
            (
                f"{found.excluding:,} of {len(found.models):,} gaps exclude 0, {found.surviving:,} after Holm",
                f"{points(smallest.gap.value)} ({smallest.model}) to {points(largest.gap.value)} ({largest.model})",
            ),
        )
    if isfinite(found.error_ratio):
        yield Line(
            "errors", (f"{found.error_ratio:.2f} on the new set for 1 on the original", "mean of models")
        )
    yield from _line(found)
    yield from _order(found)
    yield Line(
        "class mix",
        (
            f"{points(found.balanced.value)} points {_ends(found.balanced.low, found.balanced.high)}",
            "if every class were equally frequent in both sets",
        ),
    )
    yield from _duplicates(found)
    yield from _selection(found)


def _verdict(found: Findings) -> str:
    gap, which = found.gap, "models" if len(found.models) > 1 else "model"
    if gap.verdict == "harder":
        return (
            f"the new set is harder for these {which}" if len(found.models) > 1 else "the new set is harder"
        )
    if gap.verdict == "easier":
        return "the new set is easier"
    if gap.verdict == "no gap shown":
        return f"no gap shown; more than {points(max(abs(gap.low), abs(gap.high)))} either way is excluded"
    return "not measured"


def _line(found: Findings) -> Iterator[Line]:
    lines = found.lines
    if lines is None:
        yield Line("line", ("not fitted: three models are the least",))
        return
    fit = lines.plain
    if not isfinite(fit.slope):
        yield Line("line", ("not fitted: the models do not differ on the original",))
        return
    sign = "+" if fit.intercept >= 0 else "-"
    few = f" ({len(found.models)}: few)" if len(found.models) < FEW else ""
    over = f"slope {_range(lines.slope)} over models{few}, {_range(lines.over_images)} over images"
    yield Line(
        "line",
        (
            f"new = {fit.slope:.3f} original {sign} {abs(100 * fit.intercept):.1f} %",
            over + (f", R² {fit.r2:.3f}" if isfinite(fit.r2) else ""),
        ),
    )
    if lines.reliability < RELIABLE:
        yield Line(
            "luck",
            (
                f"{100 * (1 - lines.reliability):.0f} % of the models' spread on the original is luck",
                "the slope is smaller by that",
            ),
        )
    probit = lines.probit
    if isfinite(probit.slope):
        yield Line(
            "on quantiles",
            (
                f"slope {probit.slope:.3f} {_range(lines.probit_slope)}",
                "where equal steps are equally hard at every accuracy",
            ),
        )
    said = {
        "better models lose less": "better models lose less on the new set: not what a worn-out test set does",
        "gains carry over": "gains on the original carry over to the new set, as far as these models show",
        "gains shrink": "gains on the original shrink on the new set: wear, or a shift that costs better models more",
    }
    if found.shrinking in said:
        yield Line("wear", (said[found.shrinking],))


def _range(ends: tuple[float, float]) -> str:
    return f"[{ends[0]:.2f}, {ends[1]:.2f}]" if all(map(isfinite, ends)) else "unknown"


def _order(found: Findings) -> Iterator[Line]:
    order = found.order
    if order is None:
        return
    if isfinite(order.spearman):
        kept = "kept" if order.spearman >= KEPT else "changed" if order.reversed else "not settled"
        yield Line(
            "order",
            (
                f"{kept}: Spearman {order.spearman:.3f}, Kendall {order.kendall:.3f}",
                f"{order.swapped:,} of {_count(order.pairs, 'pair')} swapped, {order.reversed:,} beyond chance",
            ),
        )
    else:
        yield Line("order", ("none: on one set all models are equally good",))
    if found.leaders is not None:
        first, second, counts, p = found.leaders
        yield Line(
            "two best",
            (
                f"{first}, {second}: {counts.first:,} and {counts.second:,} alone right on the original",
                f"McNemar p = {p:.2g}" + ("" if p <= 0.05 else ", not told apart"),
            ),
        )


def _duplicates(found: Findings) -> Iterator[Line]:
    if not found.searched:
        yield Line("duplicates", ("not looked up: --train names the training set",))
    for name, told in zip(found.names, found.duplicates, strict=True):
        if told is not None:
            yield Line("duplicates", _told(name, told))
    if found.searched:
        yield Line(
            "without them",
            (
                f"gap {points(found.without.value)} points {_ends(found.without.low, found.without.high)}",
                "images nearly in the training set left out, with their clusters",
            ),
        )
    if found.shared:
        yield Line(
            "shared",
            (
                f"{found.shared:,} of {found.sizes[1]:,} new images are nearly in the original",
                "two samples are not independent then: the interval of the gap is too wide",
            ),
        )


def _told(name: str, told: Duplicates) -> tuple[str, ...]:
    return (
        f"{name}: {told.near:,} nearly in the training set, {told.exact:,} with equal pixels",
        f"upside down {100 * told.by_chance:.2f} %",
        f"accuracy {percent(told.accuracy[0])} %, {percent(told.accuracy[1])} % without {told.dropped:,}",
    )


def _selection(found: Findings) -> Iterator[Line]:
    for name, wear in zip(found.names, found.wear, strict=True):
        one = wear.selections == 1
        said = "one model: nothing was chosen" if one else f"best of {wear.selections:,} equally good ones"
        yield Line(
            "selection",
            (f"{name}: {said}" + ("" if one else f" overstates by {points(wear.bias)} points"), _rho(wear)),
        )
        for each in wear.choosing:
            measured = each.measured
            yield Line(
                "measured",
                (
                    f"best of {measured.models} on {measured.size:,} images of {name}",
                    f"{points(measured.bias)} ± {points(measured.error)}",
                    f"formula {points(each.formula)}",
                ),
            )
        if found.paired:
            return


def _rho(wear: Wear) -> str:
    if wear.known:
        return f"accuracy {percent(wear.accuracy)} %, correlation {wear.rho:.2f} of the {wear.models} best"
    return f"accuracy {percent(wear.accuracy)} %, correlation unknown: 0 is taken, the worst case"


def _models(found: Findings) -> Table:
    rows = []
    for each in found.ranked:
        accuracy, ends = each.accuracy, each.interval
        rows.append(
            (
                str(each.rank[0]), str(each.rank[1]), each.model, percent(accuracy[0]), _shares(*ends[0]),
                percent(accuracy[1]), _shares(*ends[1]),
            )
        )  # fmt: skip
    return Table(
        columns=("rank", "new", "model", "original", "95 %", "new", "95 %"),
        rows=tuple(rows),
        left=("model",),
        shown=30,
    )


def _gaps(found: Findings) -> Table:
    searched = found.searched and isfinite(found.without.value)
    columns = ["model", "gap", "95 %", "errors"]
    columns += ["p"] + ["without duplicates", "95 %"] * searched
    rows = []
    for each in found.ranked:
        ratio = f"{each.error_ratio:.2f}" if isfinite(each.error_ratio) else "–"
        row = [each.model, points(each.gap.value), _ends(each.gap.low, each.gap.high), ratio, f"{each.p:.2g}"]
        if searched:
            row += [points(each.without.value), _ends(each.without.low, each.without.high)]
        rows.append(tuple(row))
    return Table(columns=tuple(columns), rows=tuple(rows), left=("model",), shown=30)


def _shares(low: float, high: float) -> str:
    return f"{100 * low:.1f}-{100 * high:.1f}"


def _classes(found: Findings) -> Table:
    rows = []
    order = sorted(
        found.by_class, key=lambda each: (not isfinite(each.gap.value), -_known(each.gap), each.label)
    )
    for each in order:
        shares = [
            float(right.mean()) / n if n else float("nan")
            for right, n in zip(each.correct, each.n, strict=True)
        ]
        rows.append(
            (
                found.classes[each.label], f"{each.n[0]:,}", percent(shares[0]), f"{each.n[1]:,}",
                percent(shares[1]), points(each.gap.value), _ends(each.gap.low, each.gap.high),
            )
        )  # fmt: skip
    return Table(
        columns=("class", "n original", "original", "n new", "new", "gap", "95 %"),
        rows=tuple(rows),
        left=("class",),
        shown=12,
    )


def _known(gap: Gap) -> float:
    return gap.value if isfinite(gap.value) else 0.0


def _life_note(found: Findings) -> str:
    measured = "the median difference between neighbours in rank" * isfinite(found.wear[0].neighbours)
    return (
        "how often the best of k equally good models may be chosen before it overstates itself by a difference"
        + f"; measured: {measured}" * bool(measured)
    )


def _life(found: Findings) -> Table:
    wears = found.wear[:1] if found.paired else found.wear
    rows = []
    for name, wear in zip(found.names, wears, strict=False):
        for each in wear.lives:
            kind = "measured" if each.difference == wear.neighbours else ""
            rows.append(
                (name, f"{wear.n:,}", points(wear.error), points(each.difference), _often(each), kind)
            )
    return Table(
        columns=("test set", "images", "SE", "difference", "selections", ""),
        rows=tuple(rows),
        left=("test set", ""),
        shown=12,
    )


def _often(life: Life) -> str:
    if isinf(life.selections):
        return "no end"
    count = int(life.selections)
    if count == 1:
        return "none: two already do"
    return f"{count:,}" if count < 10**7 else f"{life.selections:.1e}"


def _ladder(found: Findings) -> Table:
    rows = [
        (name, percent(float(found.exams[0].correct[:, place].mean())), "yes" if rung.counted else "no",
         percent(rung.shown), points(rung.margin))
        for place, (name, rung) in enumerate(zip(found.models, found.rungs or [], strict=True))
    ]  # fmt: skip
    return Table(
        columns=("model", "accuracy", "counts", "may be shown", "had to beat by"),
        rows=tuple(rows),
        left=("model", "counts"),
        shown=30,
    )
