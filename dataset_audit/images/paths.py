"""A name from a data set is opened only if it stays under its root."""

from __future__ import annotations

import os
import re
import stat
from pathlib import Path
from typing import Final

from dataset_audit.errors import DataError

_LONGEST: Final = 4096
_DRIVE: Final = re.compile(r"[A-Za-z]:[\\/]|[A-Za-z][A-Za-z0-9+.-]*://")


def resolve_under(root: Path, name: str | bytes) -> Path:
    """Return the real path of a file named by data, below ``root``; it may be missing, which readers report.

    The name is judged as text before anything is opened or asked of the system: absolute paths, drives, URLs,
    ``..`` and NUL are refused. Links inside the root are followed only if they end inside it.

    Raises:
        DataError: The name leaves the root, or names something that is no regular file.
    """
    text = os.fsdecode(name)
    parts = re.split(r"[/\\]" if os.sep == "\\" else "/", text)
    hostile = (
        not text
        or len(os.fsencode(text)) > _LONGEST
        or "\0" in text
        or text.startswith(("/", "\\"))
        or _DRIVE.match(text) is not None
        or ".." in parts
        or ".." in text.split("\\")
    )
    if hostile:
        raise _leaves(text, root)
    base = Path(os.path.realpath(root))
    real = Path(os.path.realpath(base / text))
    if base != real and base not in real.parents:
        raise _leaves(text, root)
    if real.exists() and not stat.S_ISREG(os.lstat(real).st_mode):
        raise DataError(
            "A file name in the data set names no regular file.", where=f"{text[:200]!a} under {root}"
        )
    return real


def _leaves(text: str, root: Path) -> DataError:
    return DataError(
        "A file name in the data set leaves the root, so it is not opened.",
        where=f"{text[:200]!a} under {root}",
        do="write names relative to the data set's own folder, without '..'",
        id="E-outside",
    )
