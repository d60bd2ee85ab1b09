"""Everything ``audit transfer`` can be told."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from dataset_audit.errors import UsageError
from dataset_audit.probes.registry import PROBES

CHEAP: Final = ("hog", "thumbnail")  # what auto chooses from: seconds, and the baselines of 2011
LEAST: Final = 10  # images of a class in a set; half are trained on, three tested


def usable() -> list[str]:
    """Return the probes that look at a small copy of the picture and learn in seconds."""
    return [
        name for name, probe in PROBES.items() if probe.sees == "pixels" and probe.vectors and probe.learn
    ]


@dataclass(frozen=True, kw_only=True)
class Config:
    """Everything ``audit transfer`` can be told; names are those of the flags."""

    sources: tuple[str, ...]
    out: Path = Path("transfer.parquet")
    classes: tuple[str, ...] = ()
    probe: str = "auto"
    per_source: int | None = None
    resamplings: int = 3
    seed: int = 1
    split: str | None = None
    charts: Path | None = None
    data_root: Path | None = None
    download: bool = False
    max_skipped: float = 0.01
    workers: int | None = None
    dry_run: bool = False
    force: bool = False
    command: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        laws = {
            f"--resamplings {self.resamplings}: 1 to 1,000": 1 <= self.resamplings <= 1000,
            f"--per-source {self.per_source}: at least {LEAST}": self.per_source is None
            or self.per_source >= LEAST,
            f"--seed {self.seed}: 0 to 2^63 - 1": 0 <= self.seed < 2**63,
            f"--max-skipped {self.max_skipped}: a share in [0, 1]": 0 <= self.max_skipped <= 1,
            f"--workers {self.workers}: 1 to 1,024": self.workers is None or 1 <= self.workers <= 1024,
        }
        for law, holds in laws.items():
            if not holds:
                raise UsageError(f"{law}.", do="audit transfer --help")
        if self.probe != "auto" and self.probe not in usable():
            raise UsageError(
                f"No probe called {self.probe!r} here.", do="--probe auto, " + ", ".join(usable())
            )
        if len(self.sources) < 2:
            raise UsageError("One set: transfer compares two or more.", do="audit transfer A B [C ...]")
