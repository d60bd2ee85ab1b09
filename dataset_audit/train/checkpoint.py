"""The only torch.save and torch.load: two checkpoints are kept, each with the SHA-256 of its payload."""

from __future__ import annotations

import io
import re
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path

import torch

from dataset_audit.errors import DataError, EnvironmentProblem
from dataset_audit.progress import Progress
from dataset_audit.tables import files

MAGIC = b"audit checkpoint 1\n"
KEPT = 2


def save(folder: Path, name: str, epoch: int, state: Mapping[str, object]) -> None:
    """Write ``state`` after ``epoch`` finished epochs and drop all but the newest two of this name.

    Raises:
        EnvironmentProblem: The disk is full or not writable; older checkpoints stay.
    """
    buffer = io.BytesIO()  # through a buffer: torch.save writes the file's name into the file
    try:
        torch.save(dict(state), buffer)
    except RuntimeError as error:
        raise EnvironmentProblem(
            f"The checkpoint could not be packed: {error}.", where=str(folder)
        ) from error
    payload = buffer.getvalue()
    files.write_bytes(folder / f"{name}.epoch-{epoch}.ckpt", MAGIC + sha256(payload).digest() + payload)
    for _, old in _found(folder, name)[KEPT:]:
        old.unlink(missing_ok=True)


def load(folder: Path, name: str, progress: Progress) -> tuple[int, dict[str, object]] | None:
    """Return (epochs done, state) of the newest sound checkpoint, or None when there is none at all.

    Raises:
        DataError: There are checkpoints and every one of them is damaged.
    """
    found = _found(folder, name)
    for epoch, path in found:
        state = _read(path)
        if state is not None:
            return epoch, state
        progress.warn("W-checkpoint", f"{path.name} is damaged; using the one before it")
    if found:
        raise DataError(
            "Every checkpoint is damaged.", where=str(folder), do=f"delete {folder} and run again"
        )
    return None


def discard(folder: Path, name: str) -> None:
    """Remove the checkpoints of a finished run."""
    for _, path in _found(folder, name):
        path.unlink(missing_ok=True)


def _found(folder: Path, name: str) -> list[tuple[int, Path]]:
    """Return (epoch, path), newest first."""
    pattern = re.compile(re.escape(name) + r"\.epoch-([0-9]+)\.ckpt")
    matches = [(pattern.fullmatch(path.name), path) for path in folder.iterdir()] if folder.is_dir() else []
    return sorted(((int(match[1]), path) for match, path in matches if match), reverse=True)


def _read(path: Path) -> dict[str, object] | None:
    data = path.read_bytes()
    digest, payload = data[len(MAGIC) : len(MAGIC) + 32], data[len(MAGIC) + 32 :]
    if not data.startswith(MAGIC) or sha256(payload).digest() != digest:
        return None
    state: dict[str, object] = torch.load(io.BytesIO(payload), map_location="cpu", weights_only=True)  # noqa: TID251 - here alone
    return state
