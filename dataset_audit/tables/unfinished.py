"""Unfinished work: a folder bound to one configuration, and in it what each finished fit or training came to."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from dataset_audit.errors import EnvironmentProblem, MismatchError
from dataset_audit.tables import files, parquet, sidecar
from dataset_audit.tables.outputs import differences

NOTE = "config.json"  # whose the folder is


def folder_of(out: Path, within: Path | None = None) -> Path:
    """Return where the unfinished work of a table lies: beside it, or in a folder that was asked for."""
    return (within or out.parent) / f".{out.name}.runs"


def bind(folder: Path, identity: Mapping[str, object], *, force: bool) -> None:
    """Make ``folder`` the place for unfinished work of this configuration; keep what it already holds of the same.

    Raises:
        MismatchError: It holds unfinished work of another configuration and ``force`` was not given.
    """
    note = folder / NOTE
    if note.exists():
        different = differences(_bound(folder), identity)
        if different and not force:
            raise MismatchError(
                f"{folder} holds an unfinished run of another configuration: {'; '.join(different)}.",
                do="--out with another name, or --force to drop it",
            )
        if not different and not force:
            return
        shutil.rmtree(folder)
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise EnvironmentProblem(
            f"{folder} cannot be made: {error.strerror}.", do="--checkpoint-dir elsewhere"
        ) from error
    files.write_bytes(note, sidecar.encode(dict(identity)))


def release(folder: Path, identity: Mapping[str, object]) -> None:
    """Remove ``folder`` once its table is finished; what is bound to another configuration stays."""
    stored = _bound(folder)
    if stored is not None and not differences(stored, identity):
        shutil.rmtree(folder, ignore_errors=True)


def _bound(folder: Path) -> object:
    """Return the configuration a folder is bound to, None where it is bound to none."""
    try:
        return json.loads((folder / NOTE).read_bytes())
    except (OSError, ValueError):
        return None


def keep(
    path: Path, columns: Mapping[str, NDArray[np.generic]], told: Mapping[str, object], *, digest: str
) -> None:
    """Keep what one fit or training came to until the table is written.

    Args:
        path: A file of the folder.
        columns: Plain arrays of equal length under their names; NaN stays NaN.
        told: What else there is to say, as plain JSON.
        digest: Of the whole configuration.

    Raises:
        EnvironmentProblem: It could not be written.
    """
    table = pa.table({name: pa.array(values) for name, values in columns.items()})
    facts = {"audit.config": digest, "audit.told": json.dumps(told)}
    files.publish(path, lambda temp: parquet.write(temp, table, facts), None, beside=path)


def kept(path: Path, *, digest: str) -> tuple[dict[str, NDArray[np.generic]], dict[str, Any]] | None:
    """Return the columns and facts that `keep` was given; None where there are none of this configuration.

    Raises:
        DataError: Its bytes are damaged.
    """
    if not path.exists():
        return None
    table, facts = parquet.read(path), parquet.metadata(path)
    if facts.get("audit.config") != digest or "audit.told" not in facts:
        return None
    arrays = {
        name: table[name].combine_chunks().to_numpy(zero_copy_only=False) for name in table.column_names
    }
    return arrays, json.loads(facts["audit.told"])
