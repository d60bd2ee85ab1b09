"""Charts of evaluations: drawn alike every time, their numbers beside them, foreign words made harmless."""

from __future__ import annotations

import csv
import xml.etree.ElementTree as ET
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dataset_audit.report.charts import Chart, save
from dataset_audit.report.drawing import COLOURS
from dataset_audit.report.trends import Effect, Trend, effects, trends

WORDS = ("What is left", "kept (%)", "accuracy (%)")
HOSTILE = (
    "\x1b[31mred",
    "a\nb",
    "$\\frac{1}{0}$",
    "$unclosed",
    "_hidden_from_legends",
    "=HYPERLINK(1)",
    "<script>&amp;",
    "猫" * 30,
    "",
)


def trend(label: str = "random", *, points: int = 4, bands: bool = True, **options: object) -> Trend:
    x = np.linspace(10, 90, points)
    y = 80 + x / 10
    ends = {"low": y - 1, "high": y + 2} if bands else {}
    return Trend(label=label, x=x, y=y, **ends, **options)  # type: ignore[arg-type]


def effect(label: str = "keep 0.5", value: float = 1.0, group: str = "ccs", **options: float | str) -> Effect:
    plain = {"low": value - 1, "high": value + 1, "said": "better"}
    return Effect(label=label, value=value, group=group, **{**plain, **options})  # type: ignore[arg-type]


def same_again(draw: Callable[[], Chart], folder: Path) -> tuple[Chart, str, list[list[str]]]:
    """Draw and save twice; return the chart, its SVG and its CSV, after seeing that all bytes are the same."""
    chart, again = draw(), draw()
    svg, rows = made(chart, folder / "first")
    made(again, folder / "second")
    for path in (folder / "first").iterdir():
        assert path.read_bytes() == (folder / "second" / path.name).read_bytes(), path.name
    return chart, svg, rows


def made(chart: Chart, folder: Path) -> tuple[str, list[list[str]]]:
    """Return the text of the SVG and the rows of the CSV."""
    written = save([chart], folder, prefix="evaluate", caption="digits · n = 300")
    assert [path.name for path in written] == [
        f"evaluate_{chart.name}.{end}" for end in ("svg", "png", "csv")
    ]
    assert written[1].read_bytes().startswith(b"\x89PNG")
    with written[2].open(newline="") as file:
        return written[0].read_text(), list(csv.reader(file))


def words(svg: str) -> list[str]:
    """Return what is written in an SVG, element by element; raises where it is no XML."""
    return ["".join(each.itertext()) for each in ET.fromstring(svg).iter("{http://www.w3.org/2000/svg}text")]


def test_lines_with_bands_are_drawn_and_their_numbers_written(tmp_path: Path) -> None:
    given_trends = [trend("random"), trend("ccs", bands=False, joined=False)]
    level = ("all examples 91.00", 91.0)
    chart, svg, rows = same_again(lambda: trends("removal", given_trends, words=WORDS, level=level), tmp_path)
    assert rows[0] == ["series", "kept (%)", "value", "low", "high"]
    assert [row[0] for row in rows[1:]] == ["random"] * 4 + ["ccs"] * 4 + ["all examples 91.00"]
    assert [float(cell) for cell in rows[1][1:]] == [10, 81, 80, 83]
    assert rows[5][3:] == ["nan", "nan"]
    assert rows[-1] == ["all examples 91.00", "", "91.0", "", ""]
    said = words(svg)
    for text in ("random", "ccs", *WORDS, "all examples 91.00", "digits · n = 300"):
        assert text in said
    (axes,) = chart.figure.axes
    lines = {line.get_label(): line for line in axes.lines}
    assert lines["random"].get_xdata().tolist() == given_trends[0].x.tolist()
    assert lines["random"].get_linestyle() == "-"
    assert lines["ccs"].get_linestyle() == "None"
    (band,) = axes.collections
    vertices = band.get_paths()[0].vertices
    assert (vertices[:, 1].min(), vertices[:, 1].max()) == (80, 91)


def test_points_that_are_not_joined_have_bars_from_end_to_end() -> None:
    lame = trend("kept", joined=False, notes=("0.9", "0.7"))
    chart = trends("time", [lame], words=WORDS, log=True)
    (axes,) = chart.figure.axes
    assert axes.get_xscale() == "log"
    assert axes.get_xlabel() == "kept (%) (log scale)"
    assert {"0.9", "0.7"} <= {text.get_text() for text in axes.texts}
    (bars,) = axes.collections
    for segment, low, high in zip(bars.get_segments(), lame.low, lame.high, strict=True):
        assert segment[:, 1].tolist() == pytest.approx([low, high])
    assert not chart.figure.legends, "one series needs no legend"


def test_ends_that_are_not_known_draw_no_bar_and_no_band() -> None:
    nothing = np.full(4, np.nan)
    for joined in (True, False):
        x = np.arange(1.0, 5)
        one = Trend(label="one seed", x=x, y=x, low=nothing, high=nothing, joined=joined)
        chart = trends("removal", [one], words=WORDS)
        (axes,) = chart.figure.axes
        low, high = axes.get_ylim()
        assert 0 < low < 1
        assert 4 < high < 5


def test_series_are_told_apart_by_colour_marker_or_line() -> None:
    chart = trends("many", [trend(f"arm {number}", bands=False) for number in range(21)], words=WORDS)
    (axes,) = chart.figure.axes
    looks = [(line.get_color(), line.get_marker(), line.get_linestyle()) for line in axes.lines]
    assert len(set(looks)) == 21
    assert len({look[0] for look in looks[:7]}) == 7
    assert {look[0] for look in looks} == set(COLOURS)
    points = trends("points", [trend(f"arm {n}", bands=False, joined=False) for n in range(21)], words=WORDS)
    assert len({(line.get_color(), line.get_marker()) for line in points.figure.axes[0].lines}) == 21


def test_hostile_labels_are_shown_and_harm_neither_picture_nor_table(tmp_path: Path) -> None:
    series = [trend(name) for name in HOSTILE[1:]]
    series.append(trend(HOSTILE[0], points=len(HOSTILE), notes=HOSTILE))
    for chart in (
        trends("t", series, words=WORDS, level=(HOSTILE[2], 85)),
        effects("e", [effect(name, group=name) for name in HOSTILE], words=WORDS[:2], margin=0.2),
    ):
        svg, rows = made(chart, tmp_path)
        assert "<script>" not in svg
        assert "\x1b" not in svg
        assert all("\n" not in each for each in words(svg))
        for shown in ("$", "unclosed", "=HYPERLINK(1)", "hidden_from_legends"):
            assert any(shown in each for each in words(svg)), shown
        cells = [cell for row in rows[1:] for cell in row]
        assert not any(cell.startswith(("=", "+", "@")) for cell in cells)
        assert all((name in cells) or (f"'{name}" in cells) for name in HOSTILE)


def test_a_label_that_begins_with_an_underscore_is_in_the_legend() -> None:
    """Such labels are matplotlib's own way to say: not in the legend."""
    chart = trends("t", [trend("_mine"), trend("random")], words=WORDS)
    (legend,) = chart.figure.legends
    assert len(legend.get_texts()) == 2


def test_differences_stand_under_their_arm_with_interval_and_verdict(tmp_path: Path) -> None:
    rows = [
        effect("keep 0.9", 0.5, group="ccs", said="no difference shown", low=-0.5, high=1.5),
        effect("keep 0.5", 2.0, group="ccs", said="better", low=1.0, high=3.0),
        effect("keep 0.5", -30.0, group="hardest", said="worse", low=-31.0, high=-29.0),
        effect("keep 0.5", 0.1, group="kept", said="not measured", low=np.nan, high=np.nan),
    ]
    said_in = ("Difference to random", "points, 95 %")
    chart, svg, table = same_again(lambda: effects("differences", rows, words=said_in, margin=0.2), tmp_path)
    assert table[0] == ["group", "label", "value", "low", "high", "verdict"]
    assert table[2] == ["ccs", "keep 0.5", "2.0", "1.0", "3.0", "better"]
    assert table[3][2] == "-30.0", "a number is no formula"
    assert table[4][3:] == ["nan", "nan", "not measured"]
    (axes,) = chart.figure.axes
    ticks = [tick.get_text() for tick in axes.get_yticklabels()]
    assert ticks == ["ccs", "keep 0.9", "keep 0.5", "hardest", "keep 0.5", "kept", "keep 0.5"]
    assert [tick.get_fontweight() for tick in axes.get_yticklabels()][:2] == ["bold", "normal"]
    said = words(svg)
    for text in ("+0.50  no difference shown", "+2.00  better", "-30.00  worse", "+0.10  not measured"):
        assert text in said
    places = {
        tuple(line.get_xdata()): line.get_ydata()[0] for line in axes.lines if len(line.get_xdata()) == 2
    }
    assert places[-0.5, 1.5] == 1
    assert places[1.0, 3.0] == 2
    assert places[-31.0, -29.0] == 4
    assert axes.get_ylim()[0] > axes.get_ylim()[1], "top to bottom"
    (margin,) = axes.patches
    assert (margin.get_x(), margin.get_width()) == (-0.2, pytest.approx(0.4))


values = st.floats(-100, 100)


@settings(max_examples=25)
@given(st.lists(st.tuples(values, st.one_of(st.none(), st.floats(0, 500))), max_size=4), st.floats(0.01, 5))
def test_the_window_shows_zero_the_margin_and_every_value(
    drawn: list[tuple[float, float | None]], margin: float
) -> None:
    rows = [
        effect(
            value=value,
            low=np.nan if half is None else value - half,
            high=np.nan if half is None else value + half,
        )
        for value, half in drawn
    ]
    chart = effects("w", rows, words=WORDS[:2], margin=margin)
    low, high = chart.figure.axes[0].get_xlim()
    assert low <= -margin
    assert margin <= high
    assert all(low <= value <= high for value, _ in drawn)
    reach = max([margin * 2, *(abs(value) for value, _ in drawn)])
    assert max(-low, high) <= 1.6 * reach, "an interval of one arm does not shrink all others to nothing"


def test_a_chart_of_nothing_or_of_one_point_is_drawn_and_not_an_error() -> None:
    empty = effects("none", [], words=WORDS[:2], margin=0.2), trends("none", [], words=WORDS)
    point = trends("one", [trend(points=1, joined=False)], words=WORDS)
    for chart in (*empty, point):
        chart.figure.draw_without_rendering()
    assert [len(chart.rows) for chart in (*empty, point)] == [0, 0, 1]
