"""How work reports that it goes on; the terminal's version lives in ``cli.console``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol


class Progress(Protocol):
    """What commands and loops call; every method returns at once and never touches a device."""

    def plan(self, lines: Sequence[str]) -> None:
        """Show what is about to happen, before it happens."""

    def start(self, task: str, total: int, unit: str) -> None:
        """Begin a phase of ``total`` units, for example ``start("run 2/5", 200, "epochs")``."""

    def advance(self, done: int, **figures: float | str) -> None:
        """Say that ``done`` units (absolute) are finished; figures such as loss=0.41 are shown beside."""

    def finish(self) -> None:
        """End the phase."""

    def note(self, text: str) -> None:
        """Say one line, for example that a run is resumed."""

    def warn(self, id: str, text: str) -> None:  # noqa: A002 - the word users see
        """Say a warning with its stable id; repeated ids are shown once with a count."""


class Silent:
    """Progress that says nothing; the default for library use. Warnings are kept for the report."""

    def __init__(self) -> None:
        self.warnings: list[tuple[str, str]] = []

    def plan(self, lines: Sequence[str]) -> None:
        """Ignore."""

    def start(self, task: str, total: int, unit: str) -> None:
        """Ignore."""

    def advance(self, done: int, **figures: float | str) -> None:
        """Ignore."""

    def finish(self) -> None:
        """Ignore."""

    def note(self, text: str) -> None:
        """Ignore."""

    def warn(self, id: str, text: str) -> None:  # noqa: A002 - as in Progress
        """Keep the warning."""
        self.warnings.append((id, text))
