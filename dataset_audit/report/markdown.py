"""A report as Markdown, for an issue, a README or a laboratory book."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from dataset_audit.report.document import Line, Note, Report, Table
from dataset_audit.report.escape import show
from dataset_audit.report.terminal import size

# what opens emphasis, code, a cell, a link, a tag, an entity or a formula; "://", "www." and "@" are linked unasked
_SPECIAL = re.compile(r"[\\`*_{}\[\]<>#|~&$@]|:(?=//)|(?<=www)\.")


def render(report: Report) -> str:
    """Return the report as one Markdown text; foreign text cannot open a tag, a link or a cell in it."""
    return "\n".join(_lines(report)) + "\n"


def _lines(report: Report) -> Iterator[str]:
    yield f"### {_escaped(report.command)} · {_escaped(report.title)}"
    for item in report.items:
        if isinstance(item, Table):
            yield from ["", *_table(item), ""]
        elif isinstance(item, Line):
            yield f"- **{_escaped(item.label)}** {' · '.join(map(_escaped, item.cells))}"
        elif isinstance(item, Note):
            yield f"- {_escaped(item.text)}"
    for output in report.outputs:
        yield f"- **written** {_escaped(output.path)} · {output.rows:,} rows · {size(output.size)}" + (
            f" · sha256 {output.sha256[:8]}" if output.sha256 else ""
        )


def _table(table: Table) -> Iterator[str]:
    yield _row(table.columns)
    yield "|" + "|".join(" :--- " if name in table.left else " ---: " for name in table.columns) + "|"
    for row in table.rows:
        yield _row(row)


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(map(_escaped, cells)) + " |"


def _escaped(text: str) -> str:
    """Return ``text`` so that Markdown shows it as it is: hidden characters spelt out, punctuation escaped."""
    return _SPECIAL.sub(lambda match: "\\" + match[0], show(text))
