"""From whatever escaped a command to one error of ours, which knows its exit code and what to do."""

from __future__ import annotations

import errno
import os
import sys
import tempfile
import traceback
from importlib.metadata import PackageNotFoundError, version

import typer
from rich.text import Text

from dataset_audit.cli.values import nearest
from dataset_audit.errors import AuditError, EnvironmentProblem, PeerFailed, Terminated, UsageError
from dataset_audit.report.escape import show

# What a disk, a quota, a mount, a permission or a limit of the machine says; other codes are mistakes of ours.
_MACHINE = {
    errno.EACCES, errno.EAGAIN, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EMFILE, errno.ENFILE, errno.ENODEV,
    errno.ENOLCK, errno.ENOMEM, errno.ENOSPC, errno.ENXIO, errno.EPERM, errno.EPIPE, errno.EROFS, errno.ESTALE,
    errno.ETIMEDOUT, errno.ENOTCONN,
}  # fmt: skip
MEMORY_HELP = (
    "lower --workers or --memory, or --resident no; a lower --batch-size helps too but changes the result"
)


class Interrupted(AuditError):
    """The user or the system ended the command; as an error only so that it can be shown like one."""

    default_id = "E-interrupted"


def explained(failure: BaseException, *, repeat: str) -> tuple[AuditError, int]:
    """Return the error to show for what escaped a command, and the exit code.

    Args:
        failure: Anything but SystemExit.
        repeat: The command line, said after an interruption because the same call goes on.
    """
    if isinstance(failure, PeerFailed):
        return failure, failure.code
    if isinstance(failure, AuditError):
        return failure, failure.exit_code
    if isinstance(failure, KeyboardInterrupt | Terminated):
        return _interrupted(failure, repeat)
    error: AuditError = _of_typer(failure) or _of_machine(failure) or _bug(failure)
    return error, error.exit_code


def _interrupted(failure: KeyboardInterrupt | Terminated, repeat: str) -> tuple[AuditError, int]:
    code = failure.exit_code if isinstance(failure, Terminated) else 130
    by = {129: "SIGHUP", 130: "Ctrl-C", 143: "SIGTERM"}[code]
    what = f"Stopped by {by}; finished work is kept."
    return Interrupted(what, do=f"{repeat}   (the same command goes on where it was)"), code


def _of_typer(failure: BaseException) -> UsageError | None:
    if isinstance(failure, typer.Abort):
        return UsageError("An answer was needed and nobody is there to give it.")
    if not isinstance(failure, typer.TyperException):
        return None
    context = getattr(failure, "ctx", None)
    command = getattr(context, "command_path", None) or "audit"
    option = getattr(failure, "option_name", None)
    possible = getattr(failure, "possibilities", None)
    what = failure.format_message().strip().rstrip(".")
    if option and what.startswith("No such option"):
        known = (
            [flag for param in context.command.params for flag in param.opts] if context else possible or []
        )
        what = f"{command} has no option {show(option)}{nearest(option, known)}"
    elif what.startswith("Got unexpected extra argument"):
        what = f"{command} takes fewer arguments; not expected: {what.rpartition('(')[2].rstrip(')')}"
    elif what.startswith("No such command"):
        what = what.replace("No such command", "There is no command", 1).replace(". Did", "; did")
    return UsageError(what if what.endswith("?") else f"{what}.", do=f"{command} --help")


def _of_machine(failure: BaseException) -> EnvironmentProblem | None:
    if isinstance(failure, MemoryError):
        return EnvironmentProblem(_sentence("Out of memory", failure), do=MEMORY_HELP, id="E-memory")
    pools = sys.modules.get("concurrent.futures.process")
    if pools is not None and isinstance(failure, pools.BrokenProcessPool):
        return EnvironmentProblem(
            "A worker was killed, usually for want of memory.",
            do="lower --workers or --batch-size",
            id="E-worker",
        )
    if isinstance(failure, OSError) and failure.errno in _MACHINE:
        names = [
            os.fsdecode(name)
            for name in (failure.filename, failure.filename2)
            if isinstance(name, str | bytes)
        ]
        what = failure.strerror or os.strerror(failure.errno)
        return EnvironmentProblem(f"{what}.", where=" -> ".join(names), id="E-system")
    return _of_device(failure)


def _of_device(failure: BaseException) -> EnvironmentProblem | None:
    torch = sys.modules.get("torch")  # never imported for the sake of an error
    if torch is None:
        return None
    allocator = isinstance(failure, RuntimeError) and "DefaultCPUAllocator: can't allocate memory" in str(
        failure
    )
    if allocator or isinstance(failure, torch.OutOfMemoryError):
        return EnvironmentProblem(_sentence("Out of memory", failure), do=MEMORY_HELP, id="E-memory")
    broken = getattr(torch, "AcceleratorError", None)
    if broken is not None and isinstance(failure, broken):
        return EnvironmentProblem(
            _sentence("The device failed", failure), do="look at the device (nvidia-smi), then the same command again",
            id="E-device",
        )  # fmt: skip
    return None


def _sentence(fact: str, failure: BaseException) -> str:
    detail = str(failure).strip().partition("\n")[0].rstrip(".")
    return f"{fact}: {detail}." if detail else f"{fact}."


def _bug(failure: BaseException) -> AuditError:
    where = ""
    try:
        handle, where = tempfile.mkstemp(prefix="audit-", suffix=".traceback.txt")
        with open(handle, "w", encoding="utf-8", errors="backslashreplace") as file:  # noqa: PTH123 - a descriptor
            file.write(f"{installed()}\n\n")
            file.writelines(traceback.format_exception(failure))
    except OSError:
        where = ""
    kind = type(failure).__name__
    return AuditError(
        f"This is a bug in audit: {_sentence(kind, failure)}",
        where=f"traceback in {where}" if where else "",
        do=f"report it with the traceback; {installed()}",
    )


def installed() -> str:
    """Return one line with our version and those of what decides results, importing none of them."""

    def of(package: str) -> str:
        try:
            return version(package)
        except PackageNotFoundError:
            return "missing"

    python = ".".join(map(str, sys.version_info[:3]))
    return (
        f"audit {of('dataset-audit')} (python {python}, torch {of('torch')}, torchvision {of('torchvision')})"
    )


def lines(error: AuditError) -> list[Text]:
    """Return ``error[E-id]: what``, ``at: where`` and ``do: what helps``, foreign text escaped."""
    shown = [Text.assemble((f"error[{error.id}]", "bold red"), f": {show(error.what, 1000)}")]
    for label, text in (("at", error.where), ("do", error.do)):
        if text:
            shown.append(Text.assemble((f"  {label}: ", "bold"), show(text, 500)))
    return shown
