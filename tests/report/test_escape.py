from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from dataset_audit.report.escape import shorten, show


@given(st.text(st.characters(codec=None, categories=None), max_size=60))
def test_nothing_that_acts_on_a_terminal_survives(text: str) -> None:
    shown = show(text, None)
    allowed = {"\u200c", "\u200d"}
    assert not [
        c for c in shown if unicodedata.category(c) in {"Cc", "Cs", "Cf", "Zl", "Zp"} and c not in allowed
    ]
    shown.encode("utf-8")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("\x1b[31mred", r"\x1b[31mred"),
        ("a\nerror: b", r"a\x0aerror: b"),
        ("a\rb", r"a\x0db"),
        ("\x9b2J", r"\x9b2J"),
        ("\u202egnp.exe", r"\u202egnp.exe"),
        ("a\u2028b", r"a\u2028b"),
        ("\udcff.jpg", r"\udcff.jpg"),
        ("\x07\x08\x7f", r"\x07\x08\x7f"),
        ("[/red] :car: 100 %", "[/red] :car: 100 %"),
        ("猫 é 👩‍🔬", "猫 é 👩‍🔬"),
    ],
)  # fmt: skip
def test_hostile_text_is_spelt_out_and_ordinary_text_is_kept(text: str, expected: str) -> None:
    assert show(text) == expected


@given(st.text(st.characters(categories=("L", "N", "So")), max_size=80), st.integers(0, 40))
def test_shortened_text_fits_and_keeps_both_ends(text: str, limit: int) -> None:
    short = shorten(text, limit)
    assert cell_len(short) <= limit
    if cell_len(text) <= limit:
        assert short == text
    else:
        head, _, tail = short.partition("…")
        assert text.startswith(head)
        assert text.endswith(tail)


def test_a_line_is_never_wider_than_120_cells() -> None:
    assert cell_len(show("猫" * 500)) <= 120
