"""``transfer.parquet``: one row per score of a classifier trained on one set and tested on another."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pyarrow as pa

from dataset_audit.tables import files, finished, parquet

TRANSFER: Final[dict[str, tuple[pa.DataType, str]]] = {
    "train_source": (pa.string(), "set that was trained on"),
    "test_source": (pa.string(), "set that was tested on"),
    "class_name": (pa.string(), "class against all others; null = the class is to be named among all"),
    "n_train": (pa.int64(), "training images; the largest of a class is the matrix, smaller ones its curve"),
    "n_test": (pa.int64(), "test images"),
    "resampling": (pa.int64(), "draw, from 1"),
    "seed": (pa.int64(), "of all draws"),
    "metric": (pa.string(), "ap or accuracy"),
    "negatives": (pa.string(), "own = of the test set, all = as many, in equal parts of all sets; null for accuracy"),
    "chance": (pa.float64(), "what guessing scores: the share of positives, or of the largest class"),
    "value": (pa.float64(), "the score, a share; on the curve the mean over disjoint parts of the draw"),
    "low": (pa.float64(), "low end of its 95 % interval over test images; null off the matrix"),
    "high": (pa.float64(), "high end"),
}  # fmt: skip


@dataclass(frozen=True, eq=False)
class TransferTable:
    """The scores, and the settings that decide them."""

    data: pa.Table
    config: Mapping[str, object]
    sources: tuple[str, ...]

    @staticmethod
    def of(
        rows: Sequence[Mapping[str, object]], config: Mapping[str, object], sources: Sequence[str]
    ) -> TransferTable:
        """Return a table of these rows, each with the fields of TRANSFER; NaN becomes null."""
        return TransferTable(parquet.of_rows(rows, TRANSFER), dict(config), tuple(sources))

    def __len__(self) -> int:
        return int(self.data.num_rows)

    def write(self, path: Path, *, document: Mapping[str, object]) -> files.Written:
        """Write table and sidecar; see `finished.write`."""
        footer = {
            **finished.footer("transfer", self.config),
            "audit.sources": json.dumps(list(self.sources), ensure_ascii=False),
        }
        return finished.write(path, self.data, footer, document)
