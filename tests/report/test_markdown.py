from __future__ import annotations

import re

from dataset_audit.report.document import Note, Report, Table
from dataset_audit.report.markdown import render


def test_foreign_text_opens_no_cell_tag_or_link() -> None:
    names = (
        "a|b",
        "<script>alert(1)</script>",
        "[x](javascript:1)",
        "`c`",
        "*d*",
        "http://e.org",
        "f\ng",
        "&amp;",
    )
    table = Table(("class",), tuple((name,) for name in names), left=("class",))
    rows = [line for line in render(Report("c", "t", items=(table,))).splitlines() if line.startswith("|")]
    assert len(rows) == 2 + len(names)
    for row in rows[2:]:
        assert len(re.findall(r"(?<!\\)\|", row)) == 2
        assert not re.search(r"(?<!\\)[<\[`*&]", row)
        assert not re.search(r"(?<!\\)://", row)


def test_every_item_appears(report: Report) -> None:
    text = render(report)
    assert text.startswith("### forgetting · photos ")
    assert "| cat | 5,000 | 123,456,789 | 2.31 |" in text
    assert "- **unforgettable** in all 5 runs · 15,640 · 31.3%" in text
    assert "sha256 9f3c51aa" in text


def test_a_sentence_is_one_item_of_a_list() -> None:
    assert render(Report("c", "t", items=(Note("all is well"),))).splitlines()[-1] == "- all is well"
