"""stdout and stderr as they are on this machine: open or closed, wide or narrow, coloured or plain."""

from __future__ import annotations

import io
import os
import shutil
import sys
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Literal, TextIO

from rich.console import Console
from rich.text import Text

from dataset_audit.errors import EnvironmentProblem
from dataset_audit.report.terminal import to_ascii

DEFAULT_WIDTH = 100  # where there is no terminal to ask
LEAST_WIDTH = 20

ColorChoice = Literal["auto", "always", "never"]


@dataclass(frozen=True, kw_only=True)
class Look:
    """How a command talks: nothing here changes a file or an exit code.

    Attributes:
        format: Of the result on stdout.
        quiet: 1 drops plan, progress and warnings; 2 the result for people too.
        verbose: 1 adds all table rows and seconds per phase; 2 warnings of libraries.
        debug: Whether an error prints its traceback.
        color: When to colour, before the environment is asked.
    """

    format: Literal["table", "markdown", "json"] = "table"
    quiet: int = 0
    verbose: int = 0
    debug: bool = False
    color: ColorChoice = "auto"


class StdoutClosed(Exception):
    """Whoever read stdout stopped reading."""


def colored(stream: TextIO | None, choice: ColorChoice, environment: Mapping[str, str]) -> bool:
    """Decide whether a stream is coloured: by --color, NO_COLOR, FORCE_COLOR, TERM=dumb, else whether it is a TTY.

    NO_COLOR counts with any text but the empty one, FORCE_COLOR also not with ``0`` (no-color.org, force-color.org).
    """
    if choice != "auto":
        return choice == "always"
    if environment.get("NO_COLOR"):
        return False
    if environment.get("FORCE_COLOR", "0") not in {"", "0"}:
        return True
    return environment.get("TERM") != "dumb" and is_terminal(stream)


def is_terminal(stream: TextIO | None) -> bool:
    """Return whether somebody watches the stream."""
    try:
        return stream is not None and stream.isatty()
    except (OSError, ValueError):  # closed
        return False


def width(environment: Mapping[str, str]) -> int:
    """Return the columns to fill: COLUMNS if it is a number, else the terminal's, else 100."""
    given = environment.get("COLUMNS", "")
    if given.isascii() and given.isdigit() and int(given) > 0:
        return max(LEAST_WIDTH, int(given))
    if not (is_terminal(sys.__stdout__) or is_terminal(sys.__stderr__)):
        return DEFAULT_WIDTH
    return max(LEAST_WIDTH, shutil.get_terminal_size((DEFAULT_WIDTH, 24)).columns)


def encodable(text: str, stream: TextIO) -> str:
    """Return the text with our own signs in ASCII when the stream cannot encode them."""
    try:
        "·–×±…".encode(stream.encoding or "ascii")
    except (UnicodeEncodeError, LookupError):
        return to_ascii(text)
    return text


def prepare() -> bool:
    """Make the standard streams safe to use and return whether stdout was open.

    A closed descriptor 0, 1 or 2 would be given to the next file opened, which then receives somebody's output: such
    descriptors are tied to the null device first. What a stream cannot encode is written as an escape.
    """
    had_stdout = sys.stdout is not None
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest free number, which is this one
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    return had_stdout


def to_stdout(text: str) -> None:
    """Write the result and make sure that it left the process.

    Raises:
        StdoutClosed: Nobody reads it any more.
        EnvironmentProblem: It cannot be written, for example because the disk behind it is full.
    """
    stream = sys.stdout
    if stream is None:
        raise StdoutClosed
    try:
        stream.write(encodable(text, stream))
        stream.flush()
    except BrokenPipeError:
        raise StdoutClosed from None
    except OSError as error:
        raise EnvironmentProblem(
            f"The result cannot be written to stdout: {error.strerror}.",
            do="files named in the plan are complete",
        ) from error


def to_stderr(text: str) -> None:
    """Write a message for people; a closed or full stderr never stops the work."""
    stream = sys.stderr
    if stream is None:
        return
    with suppress(OSError, ValueError):
        stream.write(encodable(text, stream))
        stream.flush()


def styled(lines: Iterable[Text], *, color: bool) -> str:
    """Return the lines as text for a terminal: with colour codes or without, laid out as they are."""
    if not color:
        return "".join(f"{line.plain}\n" for line in lines)
    buffer = io.StringIO()
    console = Console(
        file=buffer, force_terminal=True, color_system="standard", no_color=False, highlight=False
    )
    for line in lines:
        console.print(line, soft_wrap=True, markup=False, emoji=False)
    return buffer.getvalue()
