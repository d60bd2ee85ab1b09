"""The findings in words: what is said first is what matters first."""

from __future__ import annotations

from collections.abc import Iterator
from math import isfinite

from dataset_audit.commands.noise.findings import Findings, Tested, Truth
from dataset_audit.noise.evaluation import Figures
from dataset_audit.report.document import Line, Note, Table

MARKS = {"ranking": "ranks here", "score": "", "keep": "for keeping", "peer": "out of fold"}


def items(found: Findings) -> tuple[Line | Table | Note, ...]:
    """Return lines, tables and notes, most important first."""
    return (*_head(found), *_known(found), *_suspects(found))


def _head(found: Findings) -> Iterator[Line | Note]:
    by = found.gathered.ranked.by
    how = f"mean of the ranks by {', '.join(by)}" if len(by) > 1 else by[0]
    yield Line("ranked", (f"{found.n:,} of {len(found.gathered.table):,} examples", f"by {how}"))
    for reason, count in found.unranked.items():
        yield Line("not ranked", (f"{count:,}", reason))
    if found.tested is not None:
        yield from _flags(found, found.tested)
    else:
        yield Line("flagged", ("nothing: no threshold", "--threshold-samples measures one by training twice"))
    predicted = found.gathered.suggested
    if predicted is not None:
        other = int((predicted >= 0).sum())
        yield Line(
            "predictions",
            (
                f"{other:,} examples have a likelier class than their label",
                "taken to be out of fold, as stated",
            ),
        )
    yield Note("a rank says which labels to look at first, not how many are wrong")


def _flags(found: Findings, tested: Tested) -> Iterator[Line | Note]:
    flagged = int(tested.flagged.sum())
    yield Line(
        "flagged",
        (
            f"{flagged:,} of {found.n:,} ({percent(flagged / found.n)})",
            f"AUM below the {tested.percentile:g}th percentile of {tested.samples:,} threshold samples",
        ),
    )
    bounds = ", ".join(f"{bound:.2f}" for bound in tested.bounds)
    fitted = ", ".join(percent(one) for one in tested.accuracy)
    yield Line(
        "threshold",
        (
            f"AUM {bounds}",
            f"{len(tested.bounds)} runs of {tested.epochs} epochs, which must agree",
            f"{fitted} of all labels fitted at the end",
        ),
    )
    against = found.flags_measured()
    if against is not None:
        cells = [f"{name} {_share(against, name)}" for name in ("precision", "recall")]
        yield Line("of the flagged", (f"{against['hits']:,} are wrong", *cells))
    yield Note(
        "flagged is as implausible as a label without meaning: the percentile is a knob, not a rate of errors"
    )


def _share(measured: dict[str, object], name: str) -> str:
    value, low, high = (measured[name + end] for end in ("", "_low", "_high"))
    if not isinstance(value, float) or not isinstance(low, float) or not isinstance(high, float):
        return "undefined"
    return f"{percent(value)} ({100 * low:.1f} to {100 * high:.1f})"


def _known(found: Findings) -> Iterator[Line | Table | Note]:
    truth = found.truth
    if truth is None:
        if found.gathered.clean is not None:
            yield Line("known labels", ("none for a ranked row", found.gathered.clean_from))
        return
    yield Line(
        "known labels",
        (
            f"{int(truth.wrong.sum()):,} of {len(truth.rows):,} wrong ({percent(truth.base_rate)})",
            truth.source,
        ),
    )
    if not truth.wrong.any() or truth.wrong.all():
        yield Note("by the known labels all are alike: there is nothing to tell apart")
        return
    yield _rankings(truth)
    yield Note(
        f"95 % intervals over examples, not over trainings; guessing has AUROC 0.500 and AP {truth.base_rate:.3f}; "
        f"P at k is the share wrong among the first {int(truth.wrong.sum()):,}"
    )
    yield from _never_learned(truth)
    yield from _against_peer(truth)
    low, high = min(truth.permuted), max(truth.permuted)
    mean = sum(truth.permuted) / len(truth.permuted)
    yield Line(
        "permuted truth",
        (
            f"AUROC {mean:.3f}",
            f"{low:.3f} to {high:.3f} in {len(truth.permuted)} permutations; 0.500 if nothing leaks",
        ),
    )
    yield _classes(found, truth)


def _rankings(truth: Truth) -> Table:
    rows = []
    for name in sorted(truth.figures, key=lambda one: -truth.figures[one].auroc):
        one = truth.figures[name]
        low, high = truth.interval(name, "auroc")
        ap_low, ap_high = truth.interval(name, "average_precision")
        rows.append(
            (
                name, f"{one.auroc:.3f}", f"{low:.3f} to {high:.3f}", f"{one.average_precision:.3f}",
                f"{ap_low:.3f} to {ap_high:.3f}", f"{one.precision_at_k:.3f}", MARKS[truth.kinds[name]],
            )
        )  # fmt: skip
    return Table(
        columns=("ranking", "AUROC", "95 %", "AP", "95 %", "P at k", ""),
        rows=tuple(rows),
        left=("ranking", ""),
        shown=24,
    )


def _never_learned(truth: Truth) -> Iterator[Note]:
    """Say what it costs to leave never-learned examples at zero, where both columns are there."""
    both = [truth.figures.get(name) for name in ("forgetting_events", "forgetting")]
    if both[0] is not None and both[1] is not None:
        yield Note(
            f"forgetting_events leaves never-learned examples at 0, AUROC {both[0].auroc:.3f}; "
            f"forgetting ranks them hardest, {both[1].auroc:.3f}"
        )


def _against_peer(truth: Truth) -> Iterator[Line]:
    """Compare what ranks here, chosen before the truth was known, with the best of the peers."""
    if not truth.peer:
        return
    cells = []
    for figure, word in (("auroc", "AUROC"), ("average_precision", "AP")):
        difference = _of(truth.figures[truth.ranking], figure) - _of(truth.figures[truth.peer], figure)
        low, high = truth.interval(truth.ranking, figure, minus=truth.peer)
        cells.append(f"{word} {difference:+.3f} ({low:+.3f} to {high:+.3f})")
    yield Line("one pass", (f"{truth.ranking} over {truth.peer}", *cells))


def _of(figures: Figures, name: str) -> float:
    return float(getattr(figures, name))


def _classes(found: Findings, truth: Truth) -> Table:
    flagged = None if found.tested is None else found.tested.flagged[truth.rows]
    rows = []
    for one in sorted(truth.classes, key=lambda one: -one.wrong / one.n):
        mine = truth.labels == one.label
        cells = [
            found.name(one.label), f"{one.n:,}", percent(one.wrong / one.n), _number(one.figures.auroc),
            _number(one.figures.average_precision), _number(one.figures.precision_at_k),
        ]  # fmt: skip
        if flagged is not None:
            cells.append(percent(float(flagged[mine].mean())))
        rows.append(tuple(cells))
    columns = (
        "given label",
        "examples",
        "wrong",
        "AUROC",
        "AP",
        "P at k",
        *(("flagged",) if flagged is not None else ()),
    )
    return Table(columns=columns, rows=tuple(rows), left=("given label",), shown=10)


def _number(value: float) -> str:
    return f"{value:.3f}" if isfinite(value) else "-"


def _suspects(found: Findings) -> Iterator[Line | Table]:
    meant = found.meant
    if found.confused is not None and meant is not None and found.confused.any():
        told = [f"{one['label']} for {one[meant[0]]} {one['count']:,}" for one in found.pairs()[:4]]
        yield Line("confused", (f"among {len(found.suspects):,} suspects", *told))
    if not found.top:
        return
    rows = []
    for one in found.listed():
        scores = one["scores"]
        numbers = [f"{value:.3g}" for value in scores.values()] if isinstance(scores, dict) else []
        place = one["file_name"] or f"index {one['index']}"
        cells = [str(one["rank"]), str(place), str(one["label"] or "-")]
        if meant is not None:
            cells.append(str(one[f"{meant[0]}_label"] or "-"))
        rows.append((*cells, *numbers))
    columns = (
        "rank",
        "example",
        "label",
        *((meant[0],) if meant is not None else ()),
        *found.gathered.ranked.by,
    )
    left = ("example", "label", "known", "suggested")
    yield Table(columns=columns, rows=tuple(rows), left=left, shown=max(1, found.top))


def percent(share: float) -> str:
    """Return a share as it is printed everywhere: ``31.3 %``."""
    return f"{100 * share:.1f} %"
