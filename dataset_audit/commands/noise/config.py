"""Everything ``audit noise`` can be told."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from dataset_audit.errors import UsageError
from dataset_audit.select.order import Hard

SHEET: Final = 50  # pictures of the contact sheet


@dataclass(frozen=True, kw_only=True)
class Config:
    """Everything ``audit noise`` can be told; names are those of the flags."""

    scores: Path = Path("scores.parquet")
    out: Path = Path("noise.parquet")
    by: tuple[str, ...] = ()
    hard: Hard | None = None
    threshold_samples: bool = False
    percentile: float = 99.0
    top: int = 10
    clean_labels: Path | None = None
    clean_column: str | None = None
    predictions: Path | None = None
    fail_above: float | None = None
    charts: Path | None = None
    dataset: str | None = None
    data_root: Path | None = None
    strict: bool = False
    seed: int = 1
    device: str = "auto"
    workers: int | None = None
    memory: int | None = None
    allocator: bool = True
    checkpoint_dir: Path | None = None
    checkpoint_every: int = 1
    dry_run: bool = False
    force: bool = False
    command: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        laws = {
            f"--percentile {self.percentile:g}: above 0, below 100": 0 < self.percentile < 100,
            f"--top {self.top}: 0 to 1,000,000": 0 <= self.top <= 1_000_000,
            f"--seed {self.seed}: 0 to 2^63 - 2": 0 <= self.seed < 2**63 - 1,
            f"--workers {self.workers}: 1 to 1,024": self.workers is None or 1 <= self.workers <= 1024,
            f"--checkpoint-every {self.checkpoint_every}: at least 1": self.checkpoint_every >= 1,
            f"--fail-above {self.fail_above}: a share in [0, 1]": self.fail_above is None
            or 0 <= self.fail_above <= 1,
        }
        for law, holds in laws.items():
            if not holds:
                raise UsageError(f"{law}.", do="audit noise --help")
        if self.clean_column is not None and self.clean_labels is None:
            raise UsageError(
                "--clean-column names a column of a file that is not named.", do="--clean-labels FILE"
            )
        if self.fail_above is not None and not self.threshold_samples:
            raise UsageError(
                "--fail-above compares the share that is flagged, and nothing is flagged without a threshold.",
                do="--threshold-samples, which trains twice",
            )
        if self.dataset is not None and not self.threshold_samples and self.charts is None:
            raise UsageError(
                "--dataset says where the images are, and none is looked at.",
                do="--charts DIR, or --threshold-samples",
            )
        if self.percentile != 99 and not self.threshold_samples:
            raise UsageError("--percentile belongs to --threshold-samples.", do="--threshold-samples")
