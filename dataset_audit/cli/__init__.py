"""The command line: options, streams, exit codes. The only room that prints."""

from __future__ import annotations

import sys
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import NoReturn


class _NotHere:
    """Finder and loader of a pandas that cannot be imported.

    pyarrow imports pandas, a quarter of a second, at the first array it converts wherever it is installed; nothing
    here has any use for it, and the process is ours. It is still found, because others look without importing.
    """

    @classmethod
    def find_spec(cls, name: str, path: object = None, target: object = None) -> ModuleSpec | None:  # noqa: ARG003
        return ModuleSpec(name, cls) if name == "pandas" else None  # type: ignore[arg-type]  # has what a loader needs

    @staticmethod
    def create_module(spec: ModuleSpec) -> None:
        raise ModuleNotFoundError("audit keeps pandas out of its process", name=spec.name)

    @staticmethod
    def exec_module(module: ModuleType) -> None:
        """Never come to."""


def without_pandas() -> None:
    """Keep pandas out of this process from now on."""
    sys.meta_path.insert(0, _NotHere)


def main() -> NoReturn:
    """Run ``audit`` with the arguments of the process and end the process."""
    from dataset_audit.cli import app, console  # noqa: PLC0415 - the room's door imports nothing

    without_pandas()
    if app.completing():
        sys.exit(0)
    console.leave(console.run(sys.argv[1:]))
