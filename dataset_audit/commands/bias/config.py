"""Everything ``audit bias`` can be told."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from dataset_audit.bias.stock import LEAST
from dataset_audit.errors import UsageError
from dataset_audit.probes.registry import PROBES, SIDE
from dataset_audit.train.models import MODELS, check_name
from dataset_audit.train.recipes import recipe


@dataclass(frozen=True, kw_only=True)
class Config:
    """Everything ``audit bias`` can be told; names are those of the flags."""

    sources: tuple[str, ...]
    out: Path = Path("bias.parquet")
    per_source: int = 1000
    resamplings: int = 3
    probes: tuple[str, ...] = tuple(PROBES)
    controls: bool = True
    match_classes: bool = False
    ablate: bool = False
    explain: bool = False
    allow_identical: bool = False
    fail_above: float | None = None
    fail_leak: float | None = None
    charts: Path | None = None
    model: str = "probe-net"
    pretrained: bool = False
    image_size: int = SIDE
    recipe: str = "probe"
    overrides: Mapping[str, str] = field(default_factory=dict)
    precision: Literal["auto", "bf16", "fp32"] = "auto"
    seed: int = 1
    split: str | None = None
    device: str = "auto"
    workers: int | None = None
    memory: int | None = None
    allocator: bool = True
    checkpoint_dir: Path | None = None
    data_root: Path | None = None
    download: bool = False
    max_pixels: int = 89_478_485
    max_file_bytes: int = 256 * 2**20
    max_skipped: float = 0.01
    background: tuple[int, int, int] = (255, 255, 255)
    dry_run: bool = False
    force: bool = False
    command: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        laws: dict[str, object] = {
            f"--per-source {self.per_source}: at least {LEAST} images": self.per_source >= LEAST,
            f"--resamplings {self.resamplings}: 3 to 100": 3 <= self.resamplings <= 100,
            f"--seed {self.seed}: 0 to 2^63 - 1": 0 <= self.seed < 2**63,
            f"--workers {self.workers}: 1 to 1,024": self.workers is None or 1 <= self.workers <= 1024,
            f"--max-skipped {self.max_skipped}: a share in [0, 1]": 0 <= self.max_skipped <= 1,
            f"--fail-above {self.fail_above}: a normalised bias in [-1, 1]": self.fail_above is None
            or -1 <= self.fail_above <= 1,
            f"--fail-leak {self.fail_leak}: a share in [0, 1]": self.fail_leak is None
            or 0 <= self.fail_leak <= 1,
            "--fail-above is about what is left after the controls; --no-controls leaves it out": self.controls
            or self.fail_above is None,
            f"--image-size {self.image_size}: 32 to 512 pixels": 32 <= self.image_size <= 512,
            "--ablate and --explain look at the network, which --probes leaves out": "network" in self.probes
            or not (self.ablate or self.explain),
        }
        for law, holds in laws.items():
            if not holds:
                raise UsageError(f"{law}.", do="audit bias --help")
        unknown = [name for name in self.probes if name not in PROBES]
        if unknown or not set(self.probes) - {"header"}:
            said = (
                f"No probe called {unknown[0]!r}" if unknown else "The header alone is no probe of pictures"
            )
            raise UsageError(f"{said}.", do="--probes " + ",".join(PROBES))
        recipe(self.recipe, self.overrides)  # a bad name or field is found before anything is opened
        if self.model not in MODELS:
            check_name(self.model)
