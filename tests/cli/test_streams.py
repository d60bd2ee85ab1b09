from __future__ import annotations

import io
from collections.abc import Mapping
from typing import TextIO

import pytest
from rich.text import Text

from dataset_audit.cli import streams
from dataset_audit.cli.streams import ColorChoice, colored, encodable, styled, width


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("choice", "environment", "stream", "expected"),
    [
        ("auto", {}, _Terminal(), True),
        ("auto", {}, io.StringIO(), False),
        ("auto", {}, None, False),
        ("always", {"NO_COLOR": "1"}, io.StringIO(), True),
        ("never", {"FORCE_COLOR": "1"}, _Terminal(), False),
        ("auto", {"NO_COLOR": "1"}, _Terminal(), False),
        ("auto", {"NO_COLOR": "0"}, _Terminal(), False),
        ("auto", {"NO_COLOR": ""}, _Terminal(), True),
        ("auto", {"NO_COLOR": "1", "FORCE_COLOR": "1"}, _Terminal(), False),
        ("auto", {"FORCE_COLOR": "1"}, io.StringIO(), True),
        ("auto", {"FORCE_COLOR": "0"}, io.StringIO(), False),
        ("auto", {"FORCE_COLOR": ""}, io.StringIO(), False),
        ("auto", {"TERM": "dumb"}, _Terminal(), False),
        ("auto", {"TERM": "dumb", "FORCE_COLOR": "3"}, _Terminal(), True),
    ],
)
def test_colour_is_decided_in_the_stated_order(
    choice: ColorChoice, environment: Mapping[str, str], stream: TextIO | None, expected: bool
) -> None:
    assert colored(stream, choice, environment) is expected


@pytest.mark.parametrize(
    ("columns", "expected"),
    [("80", 80), ("7", 20), ("0", 100), ("", 100), ("wide", 100), ("٤٠", 100), ("400", 400)],
)
def test_width_is_columns_else_a_hundred(
    columns: str, expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streams, "is_terminal", lambda stream: False)
    assert width({"COLUMNS": columns}) == expected


def test_a_closed_stream_is_no_terminal() -> None:
    stream = io.StringIO()
    stream.close()
    assert streams.is_terminal(stream) is False


def test_signs_become_ascii_only_where_the_stream_needs_it() -> None:
    latin = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    unicode = io.TextIOWrapper(io.BytesIO(), encoding="utf-8")
    assert encodable("a · b", latin) == "a - b"
    assert encodable("a · b", unicode) == "a · b"


def test_colour_changes_codes_and_never_the_layout() -> None:
    lines = [Text.assemble(("bold [red]", "bold"), "  x :car: " + "y" * 300), Text("second")]
    assert styled(lines, color=False) == "bold [red]  x :car: " + "y" * 300 + "\nsecond\n"
    colors = styled(lines, color=True)
    assert "\x1b[1m" in colors
    assert colors.replace("\x1b[1m", "").replace("\x1b[0m", "") == styled(lines, color=False)
