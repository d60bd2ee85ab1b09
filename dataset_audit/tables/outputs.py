"""What may be overwritten: one rule for every command that writes a table."""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from typing import Literal

from dataset_audit.errors import DataError, MismatchError, UsageError
from dataset_audit.tables import files, parquet, sidecar

Standing = Literal["absent", "finished", "replaceable"]


def standing(table: Path, format_name: str, identity: Mapping[str, object], *, force: bool) -> Standing:
    """Say what lies at ``table`` compared with what is about to be made.

    Args:
        table: The output.
        format_name: Footer value of ``audit.format`` that marks a table of the same command.
        identity: Every setting that decides the bytes of the table, as the sidecar's ``config`` holds it.
        force: Whether a table of another configuration may be replaced, and a finished one made again.

    Returns:
        ``finished`` if the same configuration already gave this table, ``replaceable`` if it may be written over,
        ``absent`` if there is none.

    Raises:
        UsageError: The file or what lies where its sidecar goes is not ours; never overwritten, whatever ``force``
            says.
        NewerError: A newer version made it.
        MismatchError: It holds another configuration and ``force`` was not given; names each differing field.
    """
    if table.is_char_device():  # /dev/null holds nothing
        return "absent"
    document = _beside(table, format_name)
    if not table.exists():
        return "absent"
    if not _ours(table, format_name):
        raise UsageError(
            f"{table} exists and is no {format_name} table of audit; it is never overwritten.",
            do="--out with another name",
        )
    if force or document is None or not _states(document, table):
        return "replaceable"  # without its own sidecar it is an interrupted write: nothing to protect
    different = differences(document.get("config"), identity)
    if different:
        raise MismatchError(
            f"{table} holds another run: {'; '.join(different)}.",
            do="--out with another name, or --force to replace it",
        )
    return "finished"


def _ours(table: Path, format_name: str) -> bool:
    try:
        return table.is_file() and parquet.metadata(table).get("audit.format") == format_name
    except DataError:
        return False


def _beside(table: Path, format_name: str) -> dict[str, object] | None:
    """Return the sidecar that is there, None where there is none that can be read.

    Raises:
        UsageError: What lies there is another table's, or no sidecar at all though there is no table.
        NewerError: A newer version wrote it.
    """
    path = sidecar.sidecar_path(table)
    try:
        document = sidecar.read(table)
    except FileNotFoundError:
        return None
    except sidecar.NewerError:
        raise
    except DataError as error:
        if table.exists() and path.is_file():  # damaged, and made again together with its table
            return None
        raise _foreign(path) from error
    renamed = document.get("table") != table.name
    if document.get("format") != format_name or (renamed and not _states(document, table)):
        raise _foreign(path)
    return document


def _states(document: Mapping[str, object], table: Path) -> bool:
    return table.is_file() and document.get("sha256") == files.sha256_file(table)


def _foreign(path: Path) -> UsageError:
    return UsageError(
        f"{path} exists and belongs to something else; it is never overwritten.", do="--out with another name"
    )


def differences(stored: object, wanted: Mapping[str, object]) -> list[str]:
    """Return one phrase ``field: old -> new`` for each setting in which the two differ, nested fields dotted."""
    old, new = _flat(stored if isinstance(stored, Mapping) else {}), _flat(wanted)
    names = [name for name in {**new, **old} if name != "digest" and old.get(name) != new.get(name)]
    return [f"{name}: {_shown(old.get(name))} -> {_shown(new.get(name))}" for name in names]


def _flat(nested: Mapping[str, object], prefix: str = "") -> dict[str, object]:
    flat: dict[str, object] = {}
    for key, value in nested.items():
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = list(value) if isinstance(value, tuple) else value
    return flat


def _shown(value: object) -> str:
    text = "none" if value is None else str(value)
    return text if len(text) <= 40 else text[:12] + "…"


def digest(identity: Mapping[str, object]) -> str:
    """Return the SHA-256, in hex, of the canonical JSON of a configuration."""
    return sha256(sidecar.encode(dict(identity))).hexdigest()
