"""The one object a command returns; terminal, ``--json``, Markdown and sidecar are views of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from dataset_audit.errors import GateFailed


@dataclass(frozen=True)
class Line:
    """One labelled fact, already formatted: ``Line("keep", "35,000 of 50,000 (0.7)")``; facts on one row are cells."""

    label: str
    cells: tuple[str, ...]


@dataclass(frozen=True)
class Table:
    """A small table of formatted cells; ``left`` names the columns that are text (all others align right).

    ``shown`` rows are printed without ``--verbose``; the rest is counted in one line.
    """

    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    left: tuple[str, ...] = ()
    shown: int = 10


@dataclass(frozen=True)
class Note:
    """A sentence."""

    text: str


@dataclass(frozen=True)
class Warning:  # noqa: A001 - the word of the contract
    """A warning with its stable id (``W-shares``)."""

    id: str
    text: str


@dataclass(frozen=True)
class Output:
    """A file that was written."""

    path: str
    rows: int
    size: int
    sha256: str


@dataclass(frozen=True)
class Report:
    """What a command found: formatted items for people, ``summary`` (plain JSON values) for machines.

    ``gate`` is what was measured and failed; the report is shown all the same, then the process exits with 1.
    """

    command: str
    title: str
    items: tuple[Line | Table | Note, ...] = ()
    summary: Mapping[str, object] = field(default_factory=dict)
    outputs: tuple[Output, ...] = ()
    warnings: tuple[Warning, ...] = ()
    recomputed: Mapping[str, int] = field(default_factory=dict)
    next: str = ""
    gate: GateFailed | None = None


def up_to_date(command: str, out: Path, what: str) -> Report:
    """Return the report of a call whose finished table is there already."""
    return Report(
        command,
        f"{out} is up to date",
        items=(Note(f"nothing to do: {what}"),),
        summary={"nothing_to_do": True},
    )
