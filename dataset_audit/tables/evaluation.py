"""``evaluation.parquet``: one row per training of an evaluation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Final

import pyarrow as pa

from dataset_audit.tables import files, finished, parquet, sidecar
from dataset_audit.tables.provenance import Provenance

_COUNTS: Final = pa.list_(pa.float32())
EVALUATION: Final[dict[str, tuple[pa.DataType, str]]] = {
    "arm": (pa.string(), "full, curve, kept, random, stratified, easiest, rs2, selective, or a policy"),
    "by": (pa.string(), "score columns that chose the examples; null where none did"),
    "keep_fraction": (pa.float64(), "share of the training examples"),
    "keep_count": (pa.int64(), "examples trained on, of rs2 in each epoch"),
    "seed": (pa.int64(), "of weights, order, augmentation and of drawn subsets"),
    "fixed": (pa.bool_(), "whether all seeds trained on the same subset"),
    "recipe": (pa.string(), "training protocol"),
    "model": (pa.string(), "network"),
    "budget": (pa.string(), "epochs: as many as the recipe has; steps: as many as the full set takes"),
    "epochs": (pa.float64(), "passes over its examples"),
    "steps": (pa.int64(), "updates"),
    "presentations": (pa.int64(), "examples presented, one more for each time"),
    "batch_size": (pa.int64(), "examples per update"),
    "lr": (pa.float64(), "peak learning rate"),
    "weight_decay": (pa.float64(), "L2 penalty"),
    "skip": (pa.float64(), "share of each batch that was only run forward"),
    "status": (pa.string(), "done, or untrained: not above chance at the end"),
    "accuracy": (pa.float64(), "share of the test set right, by the network of the last epoch"),
    "accuracy_low": (pa.float64(), "low end of its exact 95 % interval over test examples"),
    "accuracy_high": (pa.float64(), "high end"),
    "worst_class": (pa.string(), "class with the lowest recall"),
    "worst_recall": (pa.float64(), "its recall"),
    "recall": (_COUNTS, "of each class, in the order of audit.class_names"),
    "class_share": (_COUNTS, "share of each class among the examples trained on"),
    "wrong_labels": (pa.float64(), "share of them whose label is known to be wrong; null if nothing is known"),
    "ece": (pa.float64(), "expected calibration error, 15 bins"),
    "loss": (pa.float64(), "mean cross-entropy on the test set, nats"),
    "train_accuracy": (pa.float64(), "in the last epoch, as presented"),
    "predicted": (pa.list_(pa.int16()), "class named for each test example"),
    "seconds_train": (pa.float64(), "of training, measured"),
    "seconds_score": (pa.float64(), "of scoring that chose its examples, as stated by the scores; null if unknown"),
    "seconds_tune": (pa.float64(), "of its trials, measured"),
    "device": (pa.string(), "what it was trained on"),
    "rows_sha256": (pa.string(), "of the indices trained on, int64, little-endian, ascending"),
}  # fmt: skip
TIMES: Final = ("seconds_train", "seconds_score", "seconds_tune")


@dataclass(frozen=True, eq=False)
class EvaluationTable:
    """The trainings of an evaluation, and where its data came from."""

    data: pa.Table
    provenance: Provenance

    @staticmethod
    def of(rows: Sequence[Mapping[str, object]], provenance: Provenance) -> EvaluationTable:
        """Return a table of these rows, each with the fields of EVALUATION; NaN becomes null."""
        return EvaluationTable(parquet.of_rows(rows, EVALUATION), provenance)

    def __len__(self) -> int:
        return int(self.data.num_rows)

    def content_sha256(self) -> str:
        """Return the SHA-256 of every column but the measured seconds: what two equal evaluations share.

        Of the values alone, so that a table and the file it was written to have the same: what lies in memory under a
        null, in how many pieces, with which footer, is not content.
        """
        columns = {
            name: pa.array(self.data[name].to_pylist(), kind)
            for name, (kind, _) in EVALUATION.items()
            if name not in TIMES
        }
        kept = pa.table(columns)
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, kept.schema) as writer:
            writer.write_table(kept)
        return sha256(sink.getvalue()).hexdigest()

    def write(self, path: Path, *, document: Mapping[str, object]) -> files.Written:
        """Write table and sidecar; see `finished.write`."""
        return finished.write(path, self.data, self.provenance.footer("evaluation"), document)

    @staticmethod
    def read(path: Path) -> EvaluationTable:
        """Return a table of ours, its hash compared with the sidecar first.

        Raises:
            UsageError: There is no such file.
            DataError: It is damaged or unfinished.
            MismatchError: It is another kind of table.
        """
        with files.steady(path):
            sidecar.verify(path, "evaluation")
            footer = parquet.metadata(path)
            table = parquet.read(path)
        found = Provenance.of_footer(footer, path)
        return EvaluationTable(table, found or Provenance(spec="", fingerprint="", n=0, class_names=()))
