"""The command line: options, streams, exit codes. The only room that prints."""

from __future__ import annotations

import sys
from typing import NoReturn


def main() -> NoReturn:
    """Run ``audit`` with the arguments of the process and end the process."""
    from dataset_audit.cli import app, console  # noqa: PLC0415 - the room's door imports nothing

    if app.completing():
        sys.exit(0)
    console.leave(console.run(sys.argv[1:]))
