"""Every error a user can meet, each with its exit code.

AuditError                what was found, where, and what to do
├── GateFailed          1  a measured gate (``--fail-above``) was exceeded
├── UsageError          2  something wrong or contradictory was asked for
│   └── MismatchError   2  two things that should belong together do not
├── DataError           3  the bytes are bad
└── EnvironmentProblem  4  the machine does not provide: disk, memory, device, extra
    └── PeerFailed         another process of a shared run failed; its code

Anything else that escapes is a bug of ours and exits 70; signals exit 128 + their number.
"""

from __future__ import annotations

from typing import ClassVar, Final


class AuditError(Exception):
    """An error that is explained in one message: what was found, where, and what to do.

    Args:
        what: One sentence with the fact, ending in a full stop.
        where: The file, row or option it is about; may be empty.
        do: The command or flag that helps; may be empty.
        id: Stable identifier printed as ``error[id]`` and given in ``--json``.
    """

    exit_code: ClassVar[int] = 70
    default_id: ClassVar[str] = "E-bug"

    def __init__(self, what: str, *, where: str = "", do: str = "", id: str = "") -> None:  # noqa: A002 - the word users see
        super().__init__(what)
        self.what = what
        self.where = where
        self.do = do
        self.id = id or self.default_id

    def __str__(self) -> str:
        lines = [self.what]
        if self.where:
            lines.append(f"  at: {self.where}")
        if self.do:
            lines.append(f"  do: {self.do}")
        return "\n".join(lines)


class GateFailed(AuditError):
    """A gate was measured and failed; nothing else ever exits 1."""

    exit_code = 1
    default_id = "E-gate"


class UsageError(AuditError):
    """Something wrong or contradictory was asked for."""

    exit_code = 2
    default_id = "E-usage"


class MismatchError(UsageError):
    """Two inputs that should belong together do not, or an output holds another run."""

    default_id = "E-mismatch"


class DataError(AuditError):
    """The bytes of an input are bad."""

    exit_code = 3
    default_id = "E-data"


class EnvironmentProblem(AuditError):
    """The machine does not provide what is needed."""

    exit_code = 4
    default_id = "E-environment"


class PeerFailed(EnvironmentProblem):
    """Another of the processes that share the work failed, and this one ends with it.

    Args:
        what: What the other said.
        where: Which process, and where it was.
        do: As the other said.
        id: As the other said.
        code: Exit code of all.
    """

    def __init__(self, what: str, *, where: str, do: str, id: str, code: int) -> None:  # noqa: A002 - as above
        super().__init__(what, where=where, do=do, id=id)
        self.code = code


class Terminated(BaseException):
    """The process was told to end (SIGTERM, SIGHUP); no Exception, so that only what must tidy up meets it.

    Args:
        signum: The signal.
    """

    def __init__(self, signum: int) -> None:
        super().__init__(signum)
        self.signum = signum

    @property
    def exit_code(self) -> int:
        """128 + the signal, as a shell shows it."""
        return 128 + self.signum


EXIT_CODES: Final[dict[int, str]] = {
    0: "done, or nothing to do",
    GateFailed.exit_code: "a gate (`--fail-above`) was measured and failed; nothing else ever",
    UsageError.exit_code: "something wrong or contradictory was asked for, or two things that should match do not",
    DataError.exit_code: "the bytes of an input are bad",
    EnvironmentProblem.exit_code: "the machine does not provide: disk, memory, device, permission, extra, a lock",
    AuditError.exit_code: "a bug of ours; the message says where the traceback was written",
    129: "stopped by SIGHUP (the terminal was closed)",
    130: "stopped by SIGINT (Ctrl-C)",
    141: "whoever read stdout stopped reading; files are complete",
    143: "stopped by SIGTERM",
}
