"""What is said about the findings: lines, most important first, then tables."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from math import isnan

from dataset_audit.commands.transfer.findings import Findings, Told
from dataset_audit.report.document import Line, Note, Table
from dataset_audit.stats.curves import MarketValue

LISTED = 6  # classes named in a line

Items = tuple[Line | Table | Note, ...]


def items(found: Findings) -> Items:
    """Return the report."""
    many = len(found.classes) > 1
    told = list(_lines(found))
    told.append(
        Note(
            f"average precision in %{f', mean of {len(found.classes):,} classes' * many}; "
            f"row: trained on, column: tested on; guessing scores {_cell(found.overall.chance)}"
        )
    )
    told.append(_matrix(found, found.overall))
    if many:
        told += [Note("the same by class"), _by_class(found)]
    if found.named is not None:
        told.append(
            Note(
                f"accuracy in %, to name one of {len(found.classes):,} classes; guessing scores "
                f"{_cell(found.named.chance)}"
            )
        )
        told.append(_matrix(found, found.named))
    told += [
        Note("own test, with negatives of the set itself and with as many from all sets"),
        _negatives(found),
    ]
    told += [Note("market value: what one image of a set is worth on the test of another"), *_market(found)]
    return tuple(told)


def _lines(found: Findings) -> Iterator[Line | Table | Note]:
    overall, margins = found.overall, found.overall.margins
    yield Line(
        "grand drop",
        (
            _drop(margins.grand_drop, overall.grand_spread),
            f"AP {_cell(margins.own.mean())} at home, {_cell(margins.row_others.mean())} elsewhere",
        ),
    )
    if found.named is not None:
        named = found.named.margins
        yield Line(
            "in accuracy",
            (
                _drop(named.grand_drop, found.named.grand_spread),
                f"{_cell(named.own.mean())} at home, {_cell(named.row_others.mean())} elsewhere",
            ),
        )
    own, pooled = found.negatives.own.mean(), found.negatives.pooled.mean()
    yield Line(
        "by negatives",
        (
            _drop(found.negatives.grand_drop, float("nan")),
            f"AP {_cell(own)} with a set's own, {_cell(pooled)} with those of all sets",
        ),
    )
    aucs = [pair for pair in zip(found.source_only, found.classes, strict=True) if not isnan(pair[0])]
    if len(aucs) > LISTED:
        aucs.sort(key=lambda pair: -pair[0])
    alone = [f"{name} {auc:.2f}" for auc, name in aucs]
    yield Line("source alone", (f"AUC {_few(alone)}", "0.50 if a class is as frequent in every set"))
    yield Line("classes", (_few(found.classes), "matched by name"))
    yield Line(
        "images",
        (
            f"{overall.n_train:,} to train on, {overall.n_test:,} to test on",
            f"of each set; {100 * overall.chance:.0f} % positive"
            + ", mean of classes" * (len(found.classes) > 1),
        ),
    )
    if found.tried:
        best = ", ".join(f"{name} {_cell(score)}" for name, score in found.tried.items())
        yield Line("probe", (found.probe, f"AP on the sets' own validation images: {best}"))
    if found.crossing:
        yield Line(
            "duplicates", (f"{found.crossing:,} images have one in another set; kept on the same side",)
        )
    if found.resamplings > 1:
        largest = found.overall.spread.max()
        yield Line(
            "spread",
            (
                f"± is the standard deviation over {found.resamplings} draws",
                f"of a cell at most {100 * largest:.1f}",
            ),
        )
    else:
        yield Line("spread", ("not known from one draw; --resamplings 3 measures it",))


def _few(names: Sequence[str]) -> str:
    more = len(names) - LISTED
    return ", ".join(names[:LISTED]) + (f" and {more:,} more" if more > 0 else "")


def _cell(score: float) -> str:
    return f"{100 * score:.1f}"


def _drop(share: float, spread: float) -> str:
    """Return a drop in percent; it is undefined where the own score is zero."""
    if isnan(share):
        return "undefined"
    points = round(100 * share, 1) + 0.0  # no minus before a zero
    return f"{points:.1f} %" if isnan(spread) else f"{points:.1f} % ± {100 * spread:.1f}"


def _numbered(found: Findings) -> list[str]:
    return [f"{number} {name}" for number, name in enumerate(found.names, 1)]


def _matrix(found: Findings, told: Told) -> Table:
    numbers = [str(number) for number, _ in enumerate(found.names, 1)]
    margins = told.margins
    rows = [
        (
            name,
            *map(_cell, told.mean[row]),
            _cell(margins.own[row]),
            _cell(margins.row_others[row]),
            _drop(margins.row_drop[row], told.drop_spread[row]),
            f"{margins.cd[row]:.3f}",
        )
        for row, name in enumerate(_numbered(found))
    ]
    rows.append(
        (
            "mean others",
            *map(_cell, margins.column_others),
            _cell(margins.own.mean()),
            _cell(margins.row_others.mean()),
            _drop(margins.grand_drop, told.grand_spread),
            "",
        )
    )
    rows.append(("drop", *(_drop(share, float("nan")) for share in margins.column_drop), "", "", "", ""))
    return Table(
        columns=("train on", *numbers, "self", "others", "drop", "CD"),
        rows=tuple(rows),
        left=("train on",),
        shown=len(rows),
    )


def _by_class(found: Findings) -> Table:
    numbers = [str(number) for number, _ in enumerate(found.names, 1)]
    order = sorted(
        range(len(found.classes)), key=lambda c: (-_known(found.by_class[c].margins.grand_drop), c)
    )
    rows = []
    for place in order:
        told = found.by_class[place]
        for row, name in enumerate(_numbered(found)):
            rows.append(
                (
                    found.classes[place],
                    name,
                    *map(_cell, told.mean[row]),
                    _cell(told.margins.row_others[row]),
                    _drop(told.margins.row_drop[row], told.drop_spread[row]),
                )
            )
    return Table(
        columns=("class", "train on", *numbers, "others", "drop"),
        rows=tuple(rows),
        left=("class", "train on"),
        shown=max(6, 2 * len(found.names)),
    )


def _known(share: float) -> float:
    return -1e9 if isnan(share) else share


def _negatives(found: Findings) -> Table:
    seen = found.negatives
    return Table(
        columns=("set", "own", "all sets", "drop"),
        rows=tuple(
            (name, _cell(seen.own[row]), _cell(seen.pooled[row]), _drop(seen.drops[row], seen.spread[row]))
            for row, name in enumerate(_numbered(found))
        ),
        left=("set",),
        shown=len(found.names),
    )


def _market(found: Findings) -> Iterator[Line | Table | Note]:
    names, rows, reasons = found.names, [], Counter[str]()
    for class_name, made in found.markets.items():
        for market, of in enumerate(names):
            for foreign, name in enumerate(names):
                rate = made.rates[foreign][market]
                if foreign == market:
                    continue
                if rate.alpha is None:
                    reasons[rate.reason] += 1
                else:
                    rows.append(
                        (class_name or f"(mean of {len(found.curved)})", f"1 {name}", of, *_rate(rate))
                    )
    if rows:
        yield Table(
            columns=("class", "one image of", "in images of", "worth", "95 %", "note"),
            rows=tuple(rows),
            left=("class", "one image of", "in images of", "note"),
            shown=max(len(names) * (len(names) - 1), 6),
        )
        marks = {
            "≤ and ≥ lie beyond the sizes measured": any(row[3][0] in "≤≥" for row in rows),
            "at n: the slopes differ, so it holds at n images only": any(row[5][:2] == "at" for row in rows),
        }
        if any(marks.values()):
            yield Note("; ".join(text for text, needed in marks.items() if needed))
    total = len(rows) + reasons.total()
    for reason, count in reasons.most_common():
        yield Line("no exchange rate", (f"{count:,} of {total:,}", reason))
    if rows:
        yield Line("basket", (_basket(found), "mean worth of one image of every set"))


def _basket(found: Findings) -> str:
    """Return the basket of the first market: that of the mean over classes, or of the one class."""
    values = next(iter(found.markets.values())).basket
    return ", ".join(
        f"{name} unknown" if value is None else f"{name} {value:.2f}"
        for name, value in zip(found.names, values, strict=True)
    )


def _rate(rate: MarketValue) -> tuple[str, str, str]:
    if rate.bound:
        return f"{rate.bound} {rate.alpha:.2f}", "", ""
    if rate.alpha == 0:
        return "0", "", "guesses"
    return f"{rate.alpha:.2f}", f"{rate.low:.2f} to {rate.high:.2f}", f"at {rate.at:,.0f}" * rate.local
