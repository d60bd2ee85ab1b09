"""The JSON beside a table: what made it, and the SHA-256 that says it is finished."""

from __future__ import annotations

import json
import platform
import stat
import sys
from collections.abc import Mapping, Sequence
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Final, Literal

from dataset_audit.errors import DataError, MismatchError
from dataset_audit.tables import files

VERSION: Final = 1
_LARGEST: Final = 64 * 2**20
_STATED: Final = ("torch", "torchvision", "timm", "numpy", "pyarrow", "pillow", "simplejpeg", "scikit-learn")


class NewerError(DataError):
    """A file that a newer version wrote: nothing is wrong with it, and nothing here may judge or replace it."""


def sidecar_path(table: Path) -> Path:
    """Return where the sidecar of a table lies: ``scores.parquet`` has ``scores.audit.json``."""
    return table.with_name(f"{table.name.removesuffix('.parquet')}.audit.json")


def versions() -> dict[str, str]:
    """Return the versions of what computed, without importing any of it."""
    return dict(_versions())


@cache
def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for name in ("dataset-audit", *_STATED):
        try:
            found[name.replace("-", "_")] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def encode(document: Mapping[str, object]) -> bytes:
    """Return the canonical JSON of a document: sorted keys, two spaces, newline at the end, no NaN."""
    text = json.dumps(document, sort_keys=True, indent=2, allow_nan=False, ensure_ascii=False)
    return text.encode("utf-8", "backslashreplace") + b"\n"


def document(
    format_name: str,
    table: Path,
    *,
    rows: int,
    config: Mapping[str, object],
    facts: Mapping[str, object],
) -> dict[str, object]:
    """Return a sidecar without its hash.

    Args:
        format_name: ``scores``, ``manifest`` ...
        table: The table's path; only its name is stored.
        rows: Its number of rows.
        config: Every setting that decides the table's bytes; what a later call is compared with.
        facts: ``command``, ``dataset``, ``seeds``, ``summary``, ``warnings``, ``inputs``, ``run`` and more. Only what
            stands under ``run`` may differ between two calls that made the same table.
    """
    given: dict[str, object] = {
        "command": list(sys.argv), "dataset": {}, "seeds": [], "summary": {}, "warnings": [], "inputs": [], "run": {},
    }  # fmt: skip
    return {
        **given,
        **facts,
        "audit": VERSION,
        "format": format_name,
        "table": table.name,
        "rows": rows,
        "config": dict(config),
        "versions": versions(),
    }


def read(table: Path) -> dict[str, object]:
    """Return the sidecar of ``table``.

    Raises:
        FileNotFoundError: There is none.
        DataError: It is no file, too large, no JSON, has a key twice or NaN, or was written by a newer version.
        EnvironmentProblem: It cannot be read.
    """
    path = sidecar_path(table)
    try:
        facts = path.stat()
        if not stat.S_ISREG(facts.st_mode):
            raise DataError(f"{path} is no file; that is no sidecar.", where=str(path))
        if facts.st_size > _LARGEST:
            raise DataError(
                f"{path} is larger than {_LARGEST // 2**20} MiB; that is no sidecar.", where=str(path)
            )
        found = json.loads(path.read_bytes(), object_pairs_hook=_once, parse_constant=_no_constant)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise files.problem(error, path, "read") from error
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path} is not a readable sidecar: {error}.", do="make the table again") from error
    if not isinstance(found, dict) or not isinstance(found.get("audit"), int):
        raise DataError(f"{path} is no sidecar of audit.", do="make the table again")
    if found["audit"] > VERSION:
        raise NewerError(f"{path} was written by a newer audit.", do="pip install --upgrade dataset-audit")
    return found


def _once(pairs: Sequence[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key stands twice")
    return found


def _no_constant(name: str) -> object:
    raise ValueError(f"{name} is no number")


def verify(table: Path, format_name: str | None = None) -> Literal["finished", "foreign"]:
    """Compare a table with its sidecar.

    Returns:
        ``finished`` if the sidecar states the table's hash, ``foreign`` if there is no sidecar.

    Raises:
        DataError: The sidecar states another hash: an interrupted or edited result.
        MismatchError: The sidecar is of another kind of table.
    """
    try:
        read(table)
    except FileNotFoundError:
        return "foreign"
    return checked(table, format_name)[1]


def checked(table: Path, format_name: str | None = None) -> tuple[str, Literal["finished", "foreign"]]:
    """Return the SHA-256 of a table, compared with its sidecar as `verify` does, and what that says."""
    try:
        found = read(table)
    except FileNotFoundError:
        return files.sha256_file(table), "foreign"
    digest = files.sha256_file(table)
    if found.get("sha256") != digest:
        raise DataError(
            f"{table} does not have the hash that {sidecar_path(table).name} states: unfinished or changed.",
            do="run the command that makes it again",
            id="E-unfinished",
        )
    if format_name is not None and found.get("format") != format_name:
        raise MismatchError(
            f"{sidecar_path(table)} belongs to a {found.get('format')} table, not to {format_name}."
        )
    return digest, "finished"
