"""Where a table came from: the data set or sets, the configuration, the seeds; as its footer tells."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TypeVar

from dataset_audit.errors import DataError
from dataset_audit.tables import finished


@dataclass(frozen=True, kw_only=True)
class Origin:
    """One of several data sets that the rows of a table come from.

    Attributes:
        name: As in the column ``source``.
        spec: The data set as it was named.
        n: Its examples.
        opened: How ``open_dataset`` was asked for it beside the spec.
        class_names: Its own, in the order of its own labels; the table's labels count those of all sources.
    """

    name: str
    spec: str
    n: int
    opened: Mapping[str, object] = field(default_factory=dict)
    class_names: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Provenance:
    """Where a table came from, as its footer tells: no time, host or absolute path.

    Attributes:
        spec: The data set as it was named.
        fingerprint: Its identity.
        n: Rows of the full data set.
        class_names: In label order.
        config: Every setting that decides the bytes.
        seeds: One per run.
        recommended: Column to rank by and its measured agreement; {} where nothing is recommended.
        epochs: Columns that were measured at stated epochs.
        opened: How ``open_dataset`` was asked for it beside the spec: ``split``, ``seed``, ``background``.
        sources: Where rows come from several data sets, those; an index is then a row of its source.
    """

    spec: str
    fingerprint: str
    n: int
    class_names: tuple[str, ...]
    config: Mapping[str, object] = field(default_factory=dict)
    seeds: tuple[int, ...] = ()
    recommended: Mapping[str, object] = field(default_factory=dict)
    epochs: Mapping[str, Sequence[int]] = field(default_factory=dict)
    opened: Mapping[str, object] = field(default_factory=dict)
    sources: tuple[Origin, ...] = ()

    def footer(self, format_name: str) -> dict[str, str]:
        """Return the key-value metadata of a file of this origin."""
        several = [asdict(origin) for origin in self.sources]
        return {
            **({"audit.sources": json.dumps(several, sort_keys=True)} if several else {}),
            **finished.footer(format_name, self.config),
            "audit.spec": self.spec,
            "audit.fingerprint": self.fingerprint,
            "audit.n": str(self.n),
            "audit.class_names": json.dumps(list(self.class_names), ensure_ascii=False),
            "audit.seeds": json.dumps(list(self.seeds)),
            "audit.recommended": json.dumps(dict(self.recommended), sort_keys=True),
            "audit.opened": json.dumps(dict(self.opened), sort_keys=True),
        }

    @staticmethod
    def of_footer(footer: Mapping[str, str], path: Path) -> Provenance | None:
        """Return the provenance a footer tells, or None for a file that is not ours.

        Raises:
            DataError: It is ours and damaged, or of a newer version.
        """
        if "audit.format" not in footer:
            return None
        if footer.get("audit.version", "1") != "1":
            raise DataError(f"{path} was written by a newer audit.", do="pip install --upgrade dataset-audit")
        try:
            return Provenance(
                spec=footer["audit.spec"],
                fingerprint=footer["audit.fingerprint"],
                n=int(footer["audit.n"]),
                class_names=tuple(_list(footer["audit.class_names"], str)),
                seeds=tuple(_list(footer.get("audit.seeds", "[]"), int)),
                recommended=_object(footer.get("audit.recommended", "{}")),
                opened=_object(footer.get("audit.opened", "{}")),
                sources=_origins(footer.get("audit.sources", "[]")),
            )
        except (KeyError, ValueError, TypeError, RecursionError) as error:
            raise DataError(f"{path} has a damaged footer: {error}.", where=str(path)) from error


Entry = TypeVar("Entry", str, int)


def _list(text: str, kind: type[Entry]) -> list[Entry]:
    found = json.loads(text)
    if not isinstance(found, list) or not all(isinstance(entry, kind) for entry in found):
        raise TypeError(f"{text[:40]} is no list of {kind.__name__}")
    return found


def _strings(found: object) -> list[str]:
    if not isinstance(found, list) or not all(isinstance(entry, str) for entry in found):
        raise TypeError("class names are no list of texts")
    return found


def _origins(text: str) -> tuple[Origin, ...]:
    found = json.loads(text)
    if not isinstance(found, list):
        raise TypeError(f"{text[:40]} is no list of sources")
    origins = []
    for one in found:
        if not isinstance(one, dict) or not isinstance(one.get("opened"), dict):
            raise TypeError("a source without how it was opened")
        if type(one["n"]) is not int or one["n"] < 0:
            raise ValueError(f"a source of {one['n']} examples")
        origins.append(
            Origin(
                name=str(one["name"]),
                spec=str(one["spec"]),
                n=one["n"],
                opened=one["opened"],
                class_names=tuple(_strings(one.get("class_names", []))),
            )
        )
    if len({origin.name for origin in origins}) < len(origins):
        raise ValueError("two sources of one name")
    return tuple(origins)


def _object(text: str) -> dict[str, object]:
    found = json.loads(text)
    if not isinstance(found, dict):
        raise TypeError(f"{text[:40]} is no object")
    return found
