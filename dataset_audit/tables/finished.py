"""A finished table: the file, and the sidecar whose hash says that it is whole."""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path

import pyarrow as pa

from dataset_audit.tables import files, parquet, sidecar


def footer(format_name: str, config: Mapping[str, object]) -> dict[str, str]:
    """Return what every table of ours says in its footer: what it is, and of which configuration."""
    return {
        "audit.format": format_name,
        "audit.version": "1",
        "audit.package": sidecar.versions().get("dataset_audit", "unknown"),
        "audit.config": sha256(sidecar.encode(config)).hexdigest(),
    }


def write(
    path: Path, data: pa.Table, footer: Mapping[str, str], document: Mapping[str, object]
) -> files.Written:
    """Write a table and its sidecar; see `files.publish`.

    Raises:
        EnvironmentProblem: They could not be written; what was there is intact.
    """
    return files.publish(
        path,
        lambda temp: parquet.write(temp, data, footer),
        document,
        beside=sidecar.sidecar_path(path),
    )
