"""One run of ``audit``: what it says on which stream, how it ends, and with which exit code."""

from __future__ import annotations

import _thread
import io
import os
import signal
import sys
import threading
import traceback
import warnings
from collections.abc import Sequence
from contextlib import redirect_stdout, suppress
from dataclasses import replace
from itertools import pairwise
from types import FrameType
from typing import NoReturn

import typer
from rich.text import Text

from dataset_audit.cli import app, failures, streams
from dataset_audit.cli.peers import Peers
from dataset_audit.cli.progress import Talk, warning_line
from dataset_audit.cli.streams import Look, StdoutClosed
from dataset_audit.errors import AuditError, EnvironmentProblem, PeerFailed, Terminated
from dataset_audit.report import machine, markdown, terminal
from dataset_audit.report.document import Report

CLOSED_PIPE = 141  # as if by SIGPIPE
INTERRUPTED = 128 + signal.SIGINT


def run(arguments: Sequence[str]) -> int:
    """Run one command line and return its exit code; nothing escapes, nothing but the result goes to stdout."""
    had_stdout = streams.prepare()
    session = _Session(arguments)
    _listen(session)
    try:
        code = session.perform()
    except StdoutClosed:
        return session.peers.ended(CLOSED_PIPE)
    except BaseException as failure:  # noqa: BLE001 - the one place where everything ends as a message and a code
        return session.fail(session.elsewhere or failure)
    if session.elsewhere is not None:
        return session.fail(session.elsewhere)
    return session.peers.ended(code if had_stdout else CLOSED_PIPE)


def leave(code: int) -> NoReturn:
    """End the process with ``code``, at once.

    Interpreter shutdown is skipped: with some versions of pyarrow it aborts (exit 134) after everything was done. A
    Ctrl-C ends by the signal itself, so that a shell loop around the command stops too.
    """
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            with suppress(OSError, ValueError):
                stream.flush()
    if "coverage" in sys.modules:  # it writes its data at shutdown
        sys.exit(code)
    if code == INTERRUPTED and os.name == "posix":
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGINT)
    os._exit(code)


class _Session:
    """What is known while one command line runs."""

    def __init__(self, arguments: Sequence[str]) -> None:
        self._arguments = list(arguments)
        self._look = _guess(arguments)
        self._command: str | None = None
        self._repeat = "audit"
        self._talk: Talk | None = None
        self.peers = Peers(os.environ)
        self.elsewhere: BaseException | None = None

    def perform(self) -> int:
        """Understand the line, run the command, deliver its result; return the exit code."""
        captured = io.StringIO()
        with redirect_stdout(captured):
            try:
                asked = app.understood(self._arguments)
            except typer.Exit:
                asked = captured.getvalue()
        if isinstance(asked, app.Call):
            return self._deliver(self._run(asked))
        if isinstance(asked, Report):
            self._deliver(asked)
        else:
            text = str(asked).rstrip("\n")
            document = machine.success(None, {"text": text}) if self._look.format == "json" else text + "\n"
            self._out(document)
        return 0

    def _run(self, call: app.Call) -> Report:
        self._look, self._command = call.look, call.command
        if self.peers.silent:
            self._look = replace(call.look, quiet=2, verbose=0, format="table")
        if self.peers.idle(call.command):
            return Report(call.command, "done by the first process")
        self._repeat = " ".join(call.settings.command)
        told = {**call.settings.values, "command": call.settings.command}
        self.peers.start(call.command, self._arguments, told)
        self.peers.join(call.command, interrupt=self._interrupted, stuck=self._stuck)
        _quieten(self._look)
        talk = Talk(
            call.command,
            self._look,
            watched=streams.is_terminal(sys.stderr)
            and os.environ.get("TERM") != "dumb"
            and not os.environ.get("CI"),
            width=streams.width(os.environ),
            say=self._say,
        )
        talk.environment = call.settings.environment
        self._talk = talk
        if self._look.verbose:
            talk.note(self._repeat)
        for variable, known in app.misspelt(call.command, os.environ):
            talk.warn("W-environment", f"{variable} is not heeded; did you mean {known}?")
        stray = io.StringIO()  # of libraries that print; stdout carries the result alone
        try:
            with redirect_stdout(stray):
                report = app.COMMANDS[call.command].run(told, talk)
        except BrokenPipeError as error:  # a helper's pipe; ours is written to later
            raise EnvironmentProblem("A helper process went away.", id="E-worker") from error
        talk.finish()
        if stray.getvalue() and self._look.verbose > 1:
            self._say([Text(stray.getvalue().rstrip("\n"))])
        return report

    def _deliver(self, report: Report) -> int:
        look = self._look
        said = list(self._talk.warnings) if self._talk else []
        new = [warning for warning in report.warnings if warning not in said]
        if look.format == "json":
            name, result = self._command or report.command, machine.result(report, [*said, *new])
            self._out(
                machine.gated(name, report.gate, result) if report.gate else machine.success(name, result)
            )
        elif look.quiet < 2 and look.format == "markdown":
            self._out(markdown.render(report))
        elif look.quiet < 2:
            self._show(report)
        if not look.quiet:
            self._say([warning_line(warning) for warning in new])
            if self._talk:
                self._talk.repeats()
        if report.gate is None:
            return 0
        self._say(failures.lines(report.gate))
        return report.gate.exit_code

    def _show(self, report: Report) -> None:
        screen = terminal.Screen(
            width=streams.width(os.environ),
            verbose=self._look.verbose > 0,
            hint=streams.is_terminal(sys.stdout),
        )
        color = streams.colored(sys.stdout, self._look.color, os.environ)
        self._out(streams.styled(terminal.render(report, screen), color=color))

    def fail(self, failure: BaseException) -> int:
        """Show what went wrong and return the exit code."""
        if self._talk is not None:
            self._talk.close()
        error, code = failures.explained(failure, repeat=self._repeat)
        self.peers.tell(error, code)
        if self._look.debug:
            streams.to_stderr("".join(traceback.format_exception(failure)))
        self._say(failures.lines(error))
        if self._look.format == "json":
            with suppress(StdoutClosed, AuditError):
                self._out(machine.failure(self._command, code, error))
        return self.peers.ended(code)

    def _interrupted(self, error: PeerFailed) -> None:
        """End the main thread, from another one, because another process failed."""
        self.elsewhere = error
        _thread.interrupt_main()

    def _stuck(self, error: PeerFailed) -> None:
        """End the process from another thread: the main one waits where no signal reaches it."""
        self._say(failures.lines(error))
        os._exit(error.code)

    def _out(self, text: str) -> None:
        if not self.peers.silent:
            streams.to_stdout(text)

    def _say(self, lines: Sequence[Text]) -> None:
        if self.peers.silent:
            return
        color = streams.colored(sys.stderr, self._look.color, os.environ)
        streams.to_stderr(streams.styled(lines, color=color))


def _guess(arguments: Sequence[str]) -> Look:
    """Return how to talk about a line that may not be understood: only --json and --debug matter then."""
    words = list(arguments)
    if "--" in words:
        words = words[: words.index("--")]
    pairs = {f"{a}={b}" for a, b in pairwise(words)} | set(words)
    return Look(format="json" if {"--json", "--format=json"} & pairs else "table", debug="--debug" in words)


def _listen(session: _Session) -> None:
    """Let signals and threads end the run in an orderly way; a second signal ends it at once."""
    ending = {getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)}
    listened = {
        number for number in ending if signal.getsignal(number) is not signal.SIG_IGN
    }  # nohup stays nohup

    def first(number: int, _frame: FrameType | None) -> None:
        for again in listened:
            signal.signal(again, _second)
        if session.peers.ending:  # the code is settled; a second signal does not wait
            return
        raise KeyboardInterrupt if number == signal.SIGINT else Terminated(number)

    def thread_failed(arguments: threading.ExceptHookArgs) -> None:
        if session.elsewhere is None and arguments.exc_value is not None:
            session.elsewhere = arguments.exc_value
            _thread.interrupt_main()

    if threading.current_thread() is threading.main_thread():
        for number in listened:
            signal.signal(number, first)
    threading.excepthook = thread_failed


def _second(number: int, _frame: FrameType | None) -> None:
    leave(128 + number)


def _quieten(look: Look) -> None:
    if look.verbose < 2:
        warnings.simplefilter("ignore")
        return

    def shown(message: Warning | str, category: type[Warning], *_: object) -> None:
        streams.to_stderr(f"{category.__name__}: {message}\n")

    warnings.showwarning = shown  # type: ignore[assignment]  # takes what the original takes
