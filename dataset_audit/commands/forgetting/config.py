"""Everything ``audit forgetting`` can be told."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from dataset_audit.errors import UsageError
from dataset_audit.train.models import MODELS, check_name
from dataset_audit.train.recipes import recipe


@dataclass(frozen=True, kw_only=True)
class Config:
    """Everything ``audit forgetting`` can be told; names are those of the flags."""

    spec: str
    out: Path = Path("scores.parquet")
    recipe: str | None = None
    model: str | None = None
    overrides: Mapping[str, str] = field(default_factory=dict)
    seed: int = 1
    seeds: int = 1
    label_noise: float = 0.0
    el2n_epochs: tuple[int, ...] | None = None  # None: after the last three
    tdds: tuple[int, int] | None = None
    per_run: bool = False
    precision: Literal["auto", "bf16", "fp32"] = "auto"
    compile: bool = False
    augment: bool = True
    allocator: bool = True
    image_size: int | None = None
    checkpoint_dir: Path | None = None
    checkpoint_every: int = 1
    resident: Literal["auto", "yes", "no"] = "auto"
    cache: Path | Literal["auto", "no"] = "auto"
    split: str | None = None
    device: str = "auto"
    workers: int | None = None
    memory: int | None = None
    data_root: Path | None = None
    download: bool = False
    max_pixels: int = 89_478_485
    max_file_bytes: int = 256 * 2**20
    max_skipped: float = 0.01
    background: tuple[int, int, int] = (255, 255, 255)
    exclude: tuple[str, ...] = ()
    charts: Path | None = None
    dry_run: bool = False
    force: bool = False
    command: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        laws = {
            f"--seeds {self.seeds}: at least 1 run, at most 1,000": 1 <= self.seeds <= 1000,
            f"--seed {self.seed}: 0 to 2^63 - 1": 0 <= self.seed < 2**63,
            f"--label-noise {self.label_noise}: a share in [0, 1)": 0 <= self.label_noise < 1,
            f"--checkpoint-every {self.checkpoint_every}: at least 1": self.checkpoint_every >= 1,
            f"--workers {self.workers}: 1 to 1,024": self.workers is None or 1 <= self.workers <= 1024,
            f"--image-size {self.image_size}: 4 to 1,024 pixels": self.image_size is None
            or 4 <= self.image_size <= 1024,
            f"--max-skipped {self.max_skipped}: a share in [0, 1]": 0 <= self.max_skipped <= 1,
            f"--max-pixels {self.max_pixels}: at least 1": self.max_pixels >= 1,
            "--el2n-epochs: epochs are counted from 1": all(epoch >= 1 for epoch in self.el2n_epochs or ()),
            "--tdds T,J: J at least 3 and T at least J": self.tdds is None
            or 3 <= self.tdds[1] <= self.tdds[0],
        }
        for law, holds in laws.items():
            if not holds:
                raise UsageError(f"{law}.", do="audit forgetting --help")
        recipe(
            self.recipe or "fast", self.overrides
        )  # a bad name or field is found before anything is opened
        if self.model is not None and self.model not in MODELS:
            check_name(self.model)
