"""How work shows on stderr: a bar where somebody watches, a line now and then where only a log does."""

from __future__ import annotations

import faulthandler
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from time import monotonic
from typing import TYPE_CHECKING

from rich.cells import cell_len
from rich.text import Text

from dataset_audit.cli.streams import Look, encodable
from dataset_audit.report.document import Warning
from dataset_audit.report.escape import shorten, show
from dataset_audit.report.terminal import hang

if TYPE_CHECKING:
    from rich.live import Live

REDRAW = 0.25  # seconds between two drawings of the bar
FIRST_BEAT, LAST_BEAT = 30.0, 300.0  # seconds between two lines in a log, doubling
STUCK = 60  # seconds without progress after which all stacks are written
BAR = 12  # cells


@dataclass
class Phase:
    """One piece of work of known length: where it began, where it is, and what was said about it last."""

    task: str
    total: int
    unit: str
    began: float
    first: int | None = None  # a resumed run does not begin at 0, and only what was done now has a speed
    done: int = 0
    figures: dict[str, float | str] = field(default_factory=dict)

    def speed(self, now: float) -> float:
        """Units per second since the first advance of this process, 0 when not yet known."""
        elapsed = now - self.began
        return (self.done - (self.first or 0)) / elapsed if elapsed > 0 else 0.0

    def left(self, now: float) -> float | None:
        """Seconds left at this speed, None when not yet known."""
        speed = self.speed(now)
        return (self.total - self.done) / speed if speed > 0 else None


class Talk:
    """Progress for people, on stderr; keeps the warnings for the report.

    Args:
        command: Name of the command, for log lines.
        look: What is wanted.
        watched: Whether stderr is a terminal on which a line can be redrawn.
        width: Columns of stderr.
        say: Writes lines to stderr.
    """

    def __init__(
        self, command: str, look: Look, *, watched: bool, width: int, say: Callable[[Sequence[Text]], None]
    ) -> None:
        self._command, self._look, self._watched, self._width = command, look, watched, width
        self._write = say
        self._phase: Phase | None = None
        self._live: Live | None = None
        self._drawn = self._beat = self._armed = 0.0
        self._pause = FIRST_BEAT
        self.environment: tuple[str, ...] = ()
        self.counts: dict[str, int] = {}
        self.warnings: list[Warning] = []

    def plan(self, lines: Sequence[str]) -> None:
        """Show what is about to happen."""
        if self._look.quiet:
            return
        said = [*lines, *(f"{text} from the environment" for text in self.environment)]
        heads = ["plan   ", *["       "] * len(said)]
        for head, line in zip(heads, said, strict=False):
            self._say([*hang(head, show(line, None), self._width)])

    def start(self, task: str, total: int, unit: str) -> None:
        """Begin a phase."""
        self.finish()
        self._phase = Phase(task, total, unit, began=monotonic())
        self._pause = FIRST_BEAT
        self._arm(monotonic())
        if self._look.quiet:
            return
        if self._watched:
            self._open()
        else:
            self._log()

    def advance(self, done: int, **figures: float | str) -> None:
        """Show where the phase is, at most four times a second on a terminal."""
        phase, now = self._phase, monotonic()
        if phase is None:
            return
        if phase.first is None:
            phase.first = done if done < phase.total else 0
            phase.began = now if phase.first else phase.began
        phase.done = done
        phase.figures.update(figures)
        if now - self._armed > STUCK / 6:
            self._arm(now)
        if self._look.quiet:
            return
        if self._live is not None and now - self._drawn >= REDRAW:
            self._drawn = now
            self._live.update(Text(encodable(self._bar(phase, now), sys.stderr)), refresh=True)
        elif not self._watched and now - self._beat >= self._pause:
            self._pause = min(2 * self._pause, LAST_BEAT)
            self._log()

    def finish(self) -> None:
        """End the phase."""
        phase, self._phase = self._phase, None
        self._disarm()
        self.close()
        if phase is None or self._look.quiet:
            return
        if not self._watched:
            self._log(phase)
        elif self._look.verbose:
            self.note(f"{phase.task}: {phase.done:,} {phase.unit} in {monotonic() - phase.began:.1f} s")

    def close(self) -> None:
        """Take the bar off the screen."""
        live, self._live = self._live, None
        if live is not None:
            with suppress(OSError, ValueError):  # the terminal may be gone
                live.stop()

    def note(self, text: str) -> None:
        """Say one line."""
        if not self._look.quiet:
            self._say([Text(show(text, None), style="dim")])

    def warn(self, id: str, text: str) -> None:  # noqa: A002 - as in Progress
        """Say a warning; further ones of the same id are only counted."""
        self.counts[id] = self.counts.get(id, 0) + 1
        if self.counts[id] > 1:
            return
        self.warnings.append(Warning(id, show(text, None)))
        if not self._look.quiet:
            self._say([warning_line(self.warnings[-1])])

    def repeats(self) -> None:
        """Say how often each repeated warning came."""
        if self._look.quiet:
            return
        again = [(id_, count) for id_, count in self.counts.items() if count > 1]
        self._say(
            [warning_line(Warning(id_, f"{count - 1:,} more like the one above")) for id_, count in again]
        )

    def _say(self, lines: Sequence[Text]) -> None:
        if self._live is None:
            self._write(lines)
        else:
            for line in lines:
                self._live.console.print(line, soft_wrap=True, markup=False, emoji=False, highlight=False)

    def _open(self) -> None:
        from rich.console import Console  # noqa: PLC0415 - only where a bar is drawn
        from rich.live import Live  # noqa: PLC0415

        console = Console(file=sys.stderr, force_terminal=True, highlight=False, width=self._width)
        self._live = Live(
            console=console, auto_refresh=False, transient=True, redirect_stdout=False, redirect_stderr=False
        )
        self._live.start()

    def _bar(self, phase: Phase, now: float) -> str:
        """Return the one line of the bar; what does not fit is left out from the least important on."""
        share = min(1.0, phase.done / phase.total) if phase.total else 1.0
        filled = round(share * BAR)
        left = phase.left(now)
        parts = [
            phase.task,
            *(f"{name} {_figure(name, value)}" for name, value in phase.figures.items()),
            "█" * filled + "░" * (BAR - filled) + f" {share:4.0%}",
            f"{_clock(left)} left" if left is not None else "",
            f"{phase.speed(now):,.0f} {phase.unit}/s" if left is not None else "",
            f"{_resident_bytes() / 1e9:.1f} GB",
        ]
        line = ""
        for part in filter(None, parts):
            if line and cell_len(line) + 2 + cell_len(part) > self._width - 1:
                continue
            line = f"{line}  {part}" if line else part
        return shorten(show(line, None), self._width - 1)

    def _log(self, finished: Phase | None = None) -> None:
        """Write one line of key=value pairs: no carriage return, one record per line, easy to search."""
        phase = finished or self._phase
        if phase is None:
            return
        self._beat = now = monotonic()
        name, _, number = phase.task.rpartition(" ")
        pairs: dict[str, object] = {name: number} if name and number[:1].isdigit() else {"phase": phase.task}
        pairs |= {"done": f"{phase.done}/{phase.total}", "unit": phase.unit}
        pairs |= {
            key: f"{value:.4g}" if isinstance(value, float) else value for key, value in phase.figures.items()
        }
        if phase.done:
            pairs["per_s"] = f"{phase.speed(now):.4g}"
        left = phase.left(now)
        if finished is not None:
            pairs["seconds"] = f"{now - phase.began:.1f}"
        elif left is not None:
            pairs["eta_s"] = f"{left:.0f}"
        pairs["rss_mb"] = _resident_bytes() // 10**6
        stamp = datetime.now(tz=UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        fields = " ".join(f"{key}={_quoted(value)}" for key, value in pairs.items())
        self._say([Text(f"{stamp} {self._command} {fields}")])

    def _arm(self, now: float) -> None:
        self._armed = now
        with suppress(RuntimeError, ValueError, OSError, AttributeError):  # stderr without a descriptor
            faulthandler.dump_traceback_later(STUCK, file=sys.__stderr__)  # type: ignore[arg-type]  # None is caught

    def _disarm(self) -> None:
        faulthandler.cancel_dump_traceback_later()


def warning_line(warning: Warning) -> Text:
    """Return ``warning[W-id]: text`` as one styled line."""
    return Text.assemble((f"warning[{warning.id}]", "yellow"), f": {show(warning.text, None)}")


def _figure(name: str, value: float | str) -> str:
    if isinstance(value, str):
        return value
    return f"{value:.1%}" if name == "accuracy" else f"{value:.3f}"


def _quoted(value: object) -> str:
    text = show(str(value))
    return f'"{text}"' if " " in text or not text else text


def _clock(seconds: float) -> str:
    minutes, rest = divmod(int(max(0.0, seconds)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def _resident_bytes() -> int:
    """Return the memory the process holds now, 0 where the system does not say."""
    try:
        with open("/proc/self/statm", "rb") as file:  # noqa: PTH123 - four times a second
            return int(file.read().split()[1]) * 4096
    except (OSError, ValueError, IndexError):
        return 0
