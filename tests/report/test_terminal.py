from __future__ import annotations

from dataclasses import replace

import pytest
from rich.cells import cell_len

from dataset_audit.report.document import Line, Report, Table
from dataset_audit.report.terminal import Screen, hang, plain, render, size, to_ascii

NUMBERS = ("15,640", "31.3%", "41.6%", "123,456,789", "2.31", "50,000", "1,234,567")


@pytest.mark.parametrize("width", [20, 40, 60, 80, 100, 120, 200])
def test_no_line_is_too_wide_and_no_number_is_cut(report: Report, width: int) -> None:
    text = plain(render(report, Screen(width=width)))
    assert [line for line in text.splitlines() if cell_len(line) > width] == []
    for number in NUMBERS:
        assert number in [word.strip(",") for word in text.split()]


@pytest.mark.parametrize("width", [20, 80, 200])
def test_hostile_names_never_reach_the_screen_as_they_are(report: Report, width: int) -> None:
    text = plain(render(report, Screen(width=width)))
    assert not [c for c in text if c != "\n" and not c.isprintable()]
    assert "[/red]" in text
    assert ":car:" in text


def test_numbers_in_a_table_stand_right_and_names_left() -> None:
    table = Table(("class", "kept"), (("cat", "5"), ("automobile", "12,345")), left=("class",))
    lines = plain(render(Report("c", "t", items=(table,)), Screen(width=80))).splitlines()
    assert lines[1:] == ["  class          kept", "  cat               5", "  automobile   12,345"]


def test_facts_of_one_kind_are_set_below_each_other() -> None:
    items = (Line("a", ("x", "1,000", "5%")), Line("longer", ("x", "7", "12%")), Line("b", ("free text",)))
    lines = plain(render(Report("c", "t", items=items), Screen(width=80))).splitlines()
    assert lines[1:] == ["  a        x   1,000    5%", "  longer   x       7   12%", "  b        free text"]


def test_a_narrow_screen_gets_name_value_lines() -> None:
    table = Table(("class", "kept"), (("cat", "5"),), left=("class",))
    assert plain(render(Report("c", "t", items=(table,)), Screen(width=59))).splitlines()[1:] == [
        "  class: cat",
        "    kept: 5",
    ]


def test_hidden_rows_are_counted_and_verbose_shows_them() -> None:
    rows = tuple((f"class {n}", str(n)) for n in range(12))
    short = Report("c", "t", items=(Table(("class", "n"), rows, left=("class",), shown=10),))
    assert "  … 2 more, --verbose shows all" in plain(render(short, Screen(width=80))).splitlines()
    assert "class 11" in plain(render(short, Screen(width=80, verbose=True)))


def test_the_next_step_is_for_people_only(report: Report) -> None:
    assert "next: audit prune" not in plain(render(report, Screen(width=80)))
    assert (
        plain(render(report, Screen(width=80, hint=True))).splitlines()[-1]
        == "  next: audit prune --keep 0.7"
    )


def test_the_last_line_says_what_was_written(report: Report) -> None:
    last = plain(render(replace(report, next=""), Screen(width=80))).splitlines()[-1]
    assert last.split() == ["written", "scores.parquet", "50,000", "rows", "4.1", "MB", "sha256", "9f3c51aa"]


def test_an_empty_report_is_its_title() -> None:
    assert plain(render(Report("prune", "nothing"), Screen(width=80))) == "prune · nothing\n"


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0 B"), (999, "999 B"), (1000, "1.0 kB"), (4_100_000, "4.1 MB"), (7 * 10**12, "7.0 TB")],
)
def test_sizes_read_as_people_say_them(count: int, text: str) -> None:
    assert size(count) == text


def test_our_own_signs_have_ascii_twins() -> None:
    assert to_ascii("a · b – c × d ± e … →").isascii()


def test_a_folded_plan_hangs_under_its_first_word() -> None:
    assert plain(hang("plan   ", "one two three four", 17)) == "plan   one two\n       three four\n"
