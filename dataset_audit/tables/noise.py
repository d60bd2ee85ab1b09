"""``noise.parquet``: how suspicious the label of each example is; what each column means."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from dataset_audit.tables import files, finished
from dataset_audit.tables.manifest import COPIED
from dataset_audit.tables.provenance import Provenance
from dataset_audit.tables.scores import ScoreTable

Low = Literal["high", "low"]


@dataclass(frozen=True)
class Column:
    """A column: its type, which end is suspicious where it ranks, what it says."""

    kind: pa.DataType
    hard: Low | None
    about: str


NOISE: Final[dict[str, Column]] = {
    "suspicion": Column(
        pa.float32(), "high", "share of the ranked examples that are less suspicious: a rank, no probability"
    ),
    "rank": Column(pa.int64(), None, "0 is the most suspicious; null where not ranked"),
    "flagged": Column(
        pa.bool_(), None, "below the threshold in every run that judged it; null without --threshold-samples"
    ),
    "threshold_share": Column(
        pa.float32(), "high", "share of threshold samples with a higher AUM, mean over runs; only with them"
    ),
    "self_confidence": Column(pa.float32(), "low", "P[label] out of fold; only with --predictions"),
    "normalised_margin": Column(pa.float32(), "low", "(P[label] - next best + 1) / 2; likewise"),
    "confidence_weighted_entropy": Column(
        pa.float32(), "low", "log(1 + x) / x, x = entropy / (log C P[label]); likewise"
    ),
    "suggested_label": Column(
        pa.int32(), None, "likeliest class where it is not the label; only with --predictions"
    ),
    "known_wrong": Column(
        pa.bool_(), None, "the known label differs; null where none is known; only where any is"
    ),
}  # fmt: skip


@dataclass(frozen=True, eq=False)
class NoiseTable:
    """One row per row of the score table, by index, and where the scores came from."""

    data: pa.Table
    provenance: Provenance

    @staticmethod
    def of(
        table: ScoreTable,
        columns: Mapping[str, NDArray[np.generic]],
        used: tuple[str, ...],
        provenance: Provenance,
    ) -> NoiseTable:
        """Return the table of some findings.

        Args:
            table: The scores; what names an example is copied.
            columns: By name of NOISE, N entries each; NaN and masked entries are null.
            used: Columns of the scores that ranked; copied under their own names.
            provenance: Of the scores, with the configuration of this table.
        """
        copied = [name for name in (*COPIED, "status") if table.has(name)]
        arrays = {name: table.typed(name) for name in copied}
        told: dict[str, Mapping[bytes, bytes] | None] = {}
        for name, column in NOISE.items():
            if name in columns:
                arrays[name] = _array(columns[name], column.kind)
                told[name] = {b"hard": column.hard.encode()} if column.hard else None
            if name == "threshold_share":  # the scores stand after what was made of them
                arrays |= {one: table.data[one] for one in used if one not in arrays}
                told |= {one: table.data.schema.field(one).metadata for one in used if one not in COPIED}
        made = pa.table(arrays).take(pa.array(np.argsort(table.integers("index"), kind="stable")))
        fixed = [f.with_nullable(f.name != "index").with_metadata(told.get(f.name)) for f in made.schema]
        return NoiseTable(made.combine_chunks().cast(pa.schema(fixed)), provenance)

    def __len__(self) -> int:
        return int(self.data.num_rows)

    def write(self, path: Path, *, document: Mapping[str, object], by: tuple[str, ...]) -> files.Written:
        """Write table and sidecar; see `finished.write`."""
        footer = self.provenance.footer("noise") | {
            "audit.by": json.dumps(list(by)),
            "audit.recommended": json.dumps({"by": "suspicion"}),
        }
        return finished.write(path, self.data, footer, document)


def _array(values: NDArray[np.generic], kind: pa.DataType) -> pa.Array:
    mask = np.ma.getmaskarray(values).copy()
    data = np.ma.getdata(values)
    if data.dtype.kind == "f":
        mask |= ~np.isfinite(data)
    return pa.array(data, mask=mask).cast(kind)
