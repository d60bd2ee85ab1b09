"""The command line: options, streams, exit codes. The only room that prints."""

from __future__ import annotations

import sys
from typing import NoReturn


class _NotHere:
    """Lets no import find pandas.

    pyarrow imports pandas, a quarter of a second, at the first array it converts wherever it is installed; nothing
    here has any use for it, and the process is ours.
    """

    @staticmethod
    def find_spec(name: str, path: object = None, target: object = None) -> None:  # noqa: ARG004 - the protocol's
        if name == "pandas":
            raise ModuleNotFoundError("audit keeps pandas out of its process", name=name)


def main() -> NoReturn:
    """Run ``audit`` with the arguments of the process and end the process."""
    from dataset_audit.cli import app, console  # noqa: PLC0415 - the room's door imports nothing

    sys.meta_path.insert(0, _NotHere)
    if app.completing():
        sys.exit(0)
    console.leave(console.run(sys.argv[1:]))
