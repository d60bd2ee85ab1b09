"""A report as lines of text for a screen of any width: numbers are never cut, names lose their middle, lines fold."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

from rich.cells import cell_len
from rich.text import Text

from dataset_audit.report.document import Line, Note, Output, Report, Table
from dataset_audit.report.escape import shorten, show

INDENT = "  "
GAP = "   "
NARROW = 60  # columns; below, a table becomes name: value lines
ALIGNED = 3  # cells from which on neighbouring facts are set like a table
LEAST_NAME = 8  # columns a name keeps when it has to lose its middle

_ASCII = str.maketrans(
    {"·": "-", "–": "-", "−": "-", "—": "-", "…": "...", "×": "x", "±": "+-", "→": "->", "█": "#", "░": "."}
)


@dataclass(frozen=True, kw_only=True)
class Screen:
    """Where a report is shown: its width in cells, whether every table row is wanted, and what may follow it."""

    width: int = 100
    verbose: bool = False
    hint: bool = False


def render(report: Report, screen: Screen) -> list[Text]:
    """Return the report as styled lines; nothing in it is interpreted as markup."""
    lines = [*_folded(show(f"{report.command} · {report.title}", None), screen.width, style="bold")]
    items = (*report.items, *map(_written, report.outputs))
    labels = [cell_len(show(item.label)) for item in items if isinstance(item, Line)]
    for kind, group in groupby(items, key=type):
        if kind is Line:
            lines += _facts([item for item in group if isinstance(item, Line)], screen.width, max(labels))
            continue
        for item in group:
            lines += _table(item, screen) if isinstance(item, Table) else _note(item, screen.width)
    if report.next and screen.hint:
        lines += _folded(f"{INDENT}next: {show(report.next, None)}", screen.width, style="dim")
    return lines


def to_ascii(text: str) -> str:
    """Return ``text`` with our own signs replaced, for streams that cannot encode them."""
    return text.translate(_ASCII)


def _note(item: Line | Table | Note, width: int) -> Iterator[Text]:
    if isinstance(item, Note):
        yield from _folded(INDENT + show(item.text, None), width)


def _facts(lines: Sequence[Line], width: int, label_width: int) -> Iterator[Text]:
    """Put labels in one column and, in neighbouring rows of as many cells, the cells below each other."""
    shown = [[show(cell, None) for cell in line.cells] for line in lines]
    if width < NARROW:
        for line, cells in zip(lines, shown, strict=True):
            yield from _folded(f"{INDENT}{show(line.label)}: {', '.join(cells)}", width)
        return
    for alike, group in groupby(zip(lines, shown, strict=True), key=lambda pair: _kinds(pair[1])):
        rows, count = list(group), len(alike)
        widths = [max(map(cell_len, column)) for column in zip(*(cells for _, cells in rows), strict=True)]
        fits = len(INDENT) + label_width + sum(widths) + len(GAP) * count <= width
        for line, cells in rows:
            label = _left(shorten(show(line.label), label_width), label_width)
            if fits and count >= ALIGNED:
                cells = [_aligned(cell, column) for cell, column in zip(cells, widths, strict=True)]  # noqa: PLW2901
            yield from _row(label, cells, width)


def _row(label: str, cells: Sequence[str], width: int) -> Iterator[Text]:
    """Lay cells side by side after a label; what does not fit goes to further lines under the first cell."""
    start = INDENT + label + GAP
    room = max(LEAST_NAME, width - cell_len(start))
    rows, current = [], ""
    for cell in cells:
        joined = f"{current}{GAP}{cell}" if current else cell
        if current and cell_len(joined.rstrip()) > room:
            rows.append(current)
            current = cell.strip()
        else:
            current = joined
    for number, row in enumerate([*rows, current]):
        folded = list(_folds(row, room)) if cell_len(row.rstrip()) > room else [row.rstrip()]
        for part, piece in enumerate(folded):
            text = Text(start if number == part == 0 else " " * cell_len(start), style="dim")
            yield _stripped(text.append(piece, style="not dim"))


def _table(table: Table, screen: Screen) -> Iterator[Text]:
    rows = table.rows if screen.verbose else table.rows[: table.shown]
    cells = [[show(cell) for cell in row] for row in rows]
    header = [show(name) for name in table.columns]
    text = [name in table.left for name in table.columns]
    widths = [max(map(cell_len, column)) for column in zip(header, *cells, strict=True)]
    spare = screen.width - len(INDENT) - len(GAP) * (len(widths) - 1) - sum(widths)
    if spare < 0 and any(text):
        widest = max((width, column) for column, width in enumerate(widths) if text[column])[1]
        reduced = max(LEAST_NAME, cell_len(header[widest]), widths[widest] + spare)
        spare += widths[widest] - reduced
        widths[widest] = min(widths[widest], reduced)
    if screen.width < NARROW or spare < 0:
        yield from _pairs(header, cells, screen.width)
    else:
        yield _stripped(Text(INDENT + GAP.join(_columns(header, widths, text)), style="dim"))
        for row in cells:
            yield _stripped(Text(INDENT + GAP.join(_columns(row, widths, text))))
    hidden = len(table.rows) - len(rows)
    if hidden:
        yield from _folded(f"{INDENT}… {hidden:,} more, --verbose shows all", screen.width, style="dim")


def _columns(cells: Sequence[str], widths: Sequence[int], text: Sequence[bool]) -> Iterator[str]:
    for cell, width, is_text in zip(cells, widths, text, strict=True):
        yield _left(shorten(cell, width), width) if is_text else _right(cell, width)


def _pairs(header: Sequence[str], cells: Sequence[Sequence[str]], width: int) -> Iterator[Text]:
    for row in cells:
        for number, (name, value) in enumerate(zip(header, row, strict=True)):
            if value:
                indent = INDENT if number == 0 else INDENT * 2
                yield from _folded(f"{indent}{name}: {value}", width)


def _written(output: Output) -> Line:
    rows = f"{output.rows:,} row{'' if output.rows == 1 else 's'}"
    return Line("written", (output.path, rows, size(output.size), f"sha256 {output.sha256[:8]}"))


def size(count: int) -> str:
    """Return a number of bytes as people read it: 512 B, 4.1 MB."""
    value = float(count)
    for unit in ("B", "kB", "MB", "GB"):
        if value < 1000:
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1000
    return f"{value:.1f} TB"


def _folded(text: str, width: int, style: str = "") -> Iterator[Text]:
    """Fold a sentence at spaces; its further lines keep its indent."""
    indent = text[: len(text) - len(text.lstrip())]
    for line in _folds(text.strip(), max(LEAST_NAME, width - len(indent))):
        yield Text(indent + line, style=style)


def hang(head: str, text: str, width: int) -> Iterator[Text]:
    """Fold a sentence at spaces under a bold head; its further lines start where the sentence did."""
    margin = " " * cell_len(head)
    for number, line in enumerate(_folds(text, max(LEAST_NAME, width - len(margin)))):
        yield Text(margin + line) if number else Text.assemble((head, "bold"), line)


def _folds(text: str, width: int) -> Iterator[str]:
    line = ""
    for word in (shorten(word, width) for word in text.split()):
        if line and cell_len(line) + 1 + cell_len(word) > width:
            yield line
            line = word
        else:
            line = f"{line} {word}" if line else word
    if line:
        yield line


def _kinds(cells: Sequence[str]) -> tuple[bool, ...]:
    """Return which cells are numbers; only rows of one kind are set below each other."""
    return tuple(cell[:1].isdigit() for cell in cells)


def _aligned(cell: str, width: int) -> str:
    return _right(cell, width) if cell[:1].isdigit() else _left(cell, width)


def _left(text: str, width: int) -> str:
    return text + " " * (width - cell_len(text))


def _right(text: str, width: int) -> str:
    return " " * (width - cell_len(text)) + text


def _stripped(text: Text) -> Text:
    text.rstrip()
    return text


def plain(lines: Iterable[Text]) -> str:
    """Return the lines without styles, one per row."""
    return "".join(line.plain + "\n" for line in lines)
