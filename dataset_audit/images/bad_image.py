"""The one exception here that is no error of the command: an image that becomes a row without pixels."""

from __future__ import annotations

from typing import Final, Literal

BadStatus = Literal["unreadable", "too_large", "no_bytes"]

UNREADABLE_FILE: Final = "unreadable"
"""First word of the reason when the operating system refused the bytes (permission, I/O error)."""

_LONGEST_REASON: Final = 200


class BadImage(Exception):
    """One image cannot be decoded; the example stays in the table with this status and reason.

    Args:
        status: Goes into the column ``status``.
        reason: One line for the column ``error``; the part before the first colon is its cause, by which
            the summary counts: ``truncated``, ``empty``, ``not an image``, ``format not accepted`` ...
    """

    def __init__(self, status: BadStatus, reason: str) -> None:
        self.status: BadStatus = status
        self.reason = _one_line(reason)
        super().__init__(self.reason)


def _one_line(text: str) -> str:
    """Return the text with unprintable characters as four hex digits behind a backslash, at most 200 long."""
    shown = "".join(c if c.isprintable() else f"\\u{ord(c):04x}" for c in text)
    return shown if len(shown) <= _LONGEST_REASON else shown[: _LONGEST_REASON - 1] + "…"
