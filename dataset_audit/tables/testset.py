"""``testset.parquet``, one row per model, and ``testset_classes.parquet``, one row per model and class."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pyarrow as pa

from dataset_audit.tables import files, finished, parquet

_KINDS = Mapping[str, tuple[pa.DataType, str]]

TESTSET: Final[dict[str, tuple[pa.DataType, str]]] = {
    "model": (pa.string(), "its name"),
    "n_original": (pa.int64(), "images of the original set that were counted"),
    "n_new": (pa.int64(), "images of the new set"),
    "correct_original": (pa.int64(), "right answers"),
    "correct_new": (pa.int64(), "right answers"),
    "accuracy_original": (pa.float64(), "share right"),
    "accuracy_original_low": (pa.float64(), "low end of its exact 95 % interval (Clopper-Pearson)"),
    "accuracy_original_high": (pa.float64(), "high end"),
    "accuracy_new": (pa.float64(), "share right"),
    "accuracy_new_low": (pa.float64(), "low end of its exact 95 % interval (Clopper-Pearson)"),
    "accuracy_new_high": (pa.float64(), "high end"),
    "gap": (pa.float64(), "accuracy_original - accuracy_new, a share"),
    "gap_low": (pa.float64(), "low end of its 95 % interval"),
    "gap_high": (pa.float64(), "high end"),
    "interval": (pa.string(), "newcombe (two samples), paired (the same images), clusters (near-duplicates together)"),
    "p": (pa.float64(), "of no gap, uncorrected: exact McNemar (paired), score test (newcombe), normal (clusters)"),
    "error_ratio": (pa.float64(), "errors on the new set per error on the original; null without errors there"),
    "rank_original": (pa.int64(), "1 is the best; equally good models share the better rank"),
    "rank_new": (pa.int64(), "likewise"),
    "gap_without_duplicates": (pa.float64(), "on images that are not nearly in the training set; null if not searched"),
    "gap_without_duplicates_low": (pa.float64(), "low end of its 95 % interval"),
    "gap_without_duplicates_high": (pa.float64(), "high end"),
    "ladder_counted": (pa.bool_(), "with --ladder: whether the result counts as a new best; else null"),
    "ladder_shown": (pa.float64(), "with --ladder: the accuracy that may be published then"),
}  # fmt: skip

CLASSES: Final[dict[str, tuple[pa.DataType, str]]] = {
    "model": (pa.string(), "its name; null = mean over models"),
    "class_name": (pa.string(), "the class"),
    "n_original": (pa.int64(), "images of it in the original set"),
    "n_new": (pa.int64(), "images of it in the new set"),
    "correct_original": (pa.int64(), "right answers; null for the mean over models"),
    "correct_new": (pa.int64(), "likewise"),
    "accuracy_original": (pa.float64(), "share right; null where the set lacks the class"),
    "accuracy_new": (pa.float64(), "likewise"),
    "gap": (pa.float64(), "accuracy_original - accuracy_new; null where one set lacks the class"),
    "gap_low": (pa.float64(), "low end of its 95 % interval"),
    "gap_high": (pa.float64(), "high end"),
}

Rows = Sequence[Mapping[str, object]]


def classes_path(table: Path) -> Path:
    """Return where the classes of a table lie: ``testset.parquet`` has ``testset_classes.parquet``."""
    return table.with_name(f"{table.name.removesuffix('.parquet')}_classes.parquet")


@dataclass(frozen=True, eq=False)
class TestsetTable:
    """Models and their classes, and the settings that decide them."""

    __test__ = False  # its name begins as those of test classes do

    models: pa.Table
    classes: pa.Table
    config: Mapping[str, object]

    @staticmethod
    def of(models: Rows, classes: Rows, config: Mapping[str, object]) -> TestsetTable:
        """Return the tables of these rows, with the fields of TESTSET and CLASSES; NaN becomes null."""
        return TestsetTable(parquet.of_rows(models, TESTSET), parquet.of_rows(classes, CLASSES), dict(config))

    def __len__(self) -> int:
        return int(self.models.num_rows)

    def write(self, path: Path, *, document: Mapping[str, object]) -> files.Written:
        """Write the classes, then the models with their sidecar, which states the hash of both.

        Raises:
            EnvironmentProblem: They could not be written; what was there is intact, or has no matching sidecar.
        """
        footer = finished.footer("testset", self.config)
        classes = classes_path(path)
        beside = {} if path.is_char_device() else self._write_classes(classes, footer)
        return finished.write(path, self.models, footer, {**document, **beside})

    def _write_classes(self, path: Path, footer: Mapping[str, str]) -> dict[str, object]:
        own = {**footer, "audit.format": "testset_classes"}
        written = files.publish(
            path,
            lambda temp: parquet.write(temp, self.classes, own),
            None,
            beside=path,  # no sidecar of its own: that of the models states its hash
        )
        return {"classes": {"table": path.name, "sha256": written.sha256, "rows": self.classes.num_rows}}


def standing_classes(table: Path, *, stated: str | None) -> bool:
    """Return whether the table of classes is the one a sidecar states by its hash."""
    path = classes_path(table)
    return stated is not None and path.is_file() and files.sha256_file(path) == stated


def foreign_classes(table: Path) -> bool:
    """Return whether something lies where the classes go that is no such table."""
    path = classes_path(table)
    if not path.exists():
        return False
    return not path.is_file() or parquet.metadata(path).get("audit.format") != "testset_classes"
