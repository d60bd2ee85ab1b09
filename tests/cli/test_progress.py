from __future__ import annotations

import re
from collections.abc import Callable, Sequence

import pytest
from rich.cells import cell_len
from rich.text import Text

from dataset_audit.cli import progress
from dataset_audit.cli.progress import Phase, Talk
from dataset_audit.cli.streams import Look


class Clock:
    """Time that passes when told to."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(progress, "monotonic", clock)
    return clock


@pytest.fixture
def said() -> list[str]:
    return []


@pytest.fixture
def talk(said: list[str], clock: Clock) -> Callable[..., Talk]:
    def make(look: Look | None = None, width: int = 100) -> Talk:
        def write(lines: Sequence[Text]) -> None:
            said.extend(line.plain for line in lines)

        return Talk("forgetting", look or Look(), watched=False, width=width, say=write)

    return make


def test_a_log_gets_a_line_at_the_start_then_ever_more_rarely_and_at_the_end(talk, said, clock) -> None:
    one = talk()
    one.start("run 2/5", 10_000, "images")
    for second in range(1, 1001):
        clock.now = 100.0 + second
        one.advance(second * 10, loss=0.412345, epoch="3/9")
    one.finish()
    assert len(said) == 2 + 5  # after 30, 60, 120, 240 and 300 s more
    assert [int(re.search(r"done=(\d+)/", line)[1]) for line in said] == [
        0,
        300,
        900,
        2100,
        4500,
        7500,
        10_000,
    ]
    assert re.fullmatch(
        r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ forgetting run=2/5 done=300/10000 unit=images loss=0.4123 epoch=3/9 "
        r"per_s=10 eta_s=970 rss_mb=\d+",
        said[1],
    )
    assert "seconds=999.0" in said[-1]


def test_no_line_of_a_log_holds_a_carriage_return_or_a_code(talk, said) -> None:
    one = talk()
    one.start("read \r\x1b[2J", 10, "images")
    one.advance(10, note="a b\n")
    one.finish()
    assert not [c for line in said for c in line if not c.isprintable()]


def test_a_resumed_run_has_the_speed_of_what_was_done_now() -> None:
    phase = Phase("run 1/1", 1000, "images", began=0.0, first=500, done=600)
    assert phase.speed(10.0) == 10.0
    assert phase.left(10.0) == 40.0


def test_a_clock_that_stands_still_gives_no_estimate() -> None:
    assert Phase("run", 10, "images", began=5.0).left(5.0) is None


def test_a_repeated_warning_is_said_once_and_counted(talk, said) -> None:
    one = talk()
    for name in "abc":
        one.warn("W-link", f"skipped {name}")
    one.warn("W-other", "once")
    one.repeats()
    assert said == [
        "warning[W-link]: skipped a", "warning[W-other]: once", "warning[W-link]: 2 more like the one above",
    ]  # fmt: skip
    assert [warning.id for warning in one.warnings] == ["W-link", "W-other"]


def test_quiet_says_nothing_and_keeps_the_warnings(talk, said) -> None:
    one = talk(Look(quiet=1))
    one.plan(["x"])
    one.start("read", 3, "images")
    one.advance(3)
    one.finish()
    one.note("x")
    one.warn("W-a", "x")
    one.repeats()
    assert said == []
    assert len(one.warnings) == 1


def test_the_plan_hangs_together_and_names_the_environment(talk, said) -> None:
    one = talk(width=40)
    one.environment = ("AUDIT_WORKERS=2",)
    one.plan(["digits · 1,797 images · 10 classes · fingerprint db77ea99", "small · fast"])
    assert said[0].startswith("plan   digits")
    assert all(line.startswith("       ") for line in said[1:])
    assert max(map(cell_len, said)) <= 40
    assert said[-2:] == ["       AUDIT_WORKERS=2 from the", "       environment"]


@pytest.mark.parametrize("width", [20, 40, 80, 200])
def test_the_bar_fits_its_line_and_drops_the_least_important(talk, width: int) -> None:
    one = talk(width=width)
    phase = Phase("run 2/5", 1000, "images", began=0.0, first=0, done=370)
    phase.figures = {"epoch": "37/200", "loss": 0.4123, "accuracy": 0.861}
    line = one._bar(phase, 10.0)
    assert cell_len(line) < width
    assert line.startswith("run 2/5")
    if width >= 80:
        assert "loss 0.412  accuracy 86.1%" in line
        assert "37%" in line
    if width == 200:
        assert "37 images/s" in line
        assert "0:17 left" in line


def test_advancing_outside_a_phase_is_harmless(talk, said) -> None:
    talk().advance(3)
    assert said == []
