"""Everything ``audit prune`` can be told."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from dataset_audit.errors import UsageError
from dataset_audit.select.budget import Keep
from dataset_audit.select.order import Hard
from dataset_audit.select.policies import POLICIES


@dataclass(frozen=True, kw_only=True)
class Config:
    """Everything ``audit prune`` can be told; names are those of the flags."""

    scores: Path = Path("scores.parquet")
    out: Path = Path("manifest.parquet")
    keep: Keep = Keep.parse("0.7")  # noqa: RUF009 - an immutable value
    by: tuple[str, ...] = ()
    hard: Hard | None = None
    policy: str = "auto"
    skip: float = 0.0
    beta: float | None = None
    strata: int = 50
    embeddings: Path | None = None
    balance: bool = False
    drop_noisy: bool = False
    noisy_below: float = 0.0
    nan: Literal["refuse", "hardest", "drop"] = "refuse"
    allow_empty_class: bool = False
    all_rows: bool = False
    ranks: bool | None = None
    dataset: str | None = None
    data_root: Path | None = None
    match: Literal["index", "uid"] = "index"
    strict: bool = False
    seed: int = 1
    engine: Literal["local", "ray"] = "local"
    dry_run: bool = False
    force: bool = False
    command: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        laws: dict[str, object] = {
            f"--skip {self.skip:g}: a share in [0, 1)": 0 <= self.skip < 1,
            f"--beta {self.beta}: a share in [0, 1)": self.beta is None or 0 <= self.beta < 1,
            f"--noisy-below {self.noisy_below}: a finite number": np.isfinite(self.noisy_below),
            f"--strata {self.strata}: 1 to 100,000": 1 <= self.strata <= 100_000,
            f"--seed {self.seed}: 0 to 2^63 - 1": 0 <= self.seed < 2**63,
            "--skip belongs to --policy window": self.skip == 0 or self.policy == "window",
            "--beta belongs to --policy ccs or auto": self.beta is None or self.policy in {"ccs", "auto"},
            "--embeddings belongs to --policy moderate": self.embeddings is None or self.policy == "moderate",
            "--policy dual weights by its own columns, not by --by": self.policy != "dual" or not self.by,
        }
        for law, holds in laws.items():
            if not holds:
                raise UsageError(f"{law}.", do="audit prune --help")
        if self.policy != "auto" and self.policy not in POLICIES:
            from difflib import get_close_matches  # noqa: PLC0415

            near = get_close_matches(self.policy, [*POLICIES, "auto"], n=1)
            raise UsageError(
                f"No policy called {self.policy!r}" + (f"; did you mean {near[0]}?" if near else "."),
                do="policies: auto, " + ", ".join(POLICIES),
            )

    @property
    def in_shards(self) -> bool:
        """Whether a manifest is written for each shard of the scores: the scores are several files, --out a folder."""
        return not self.scores.is_file() and not self.out.suffix and not self.out.is_char_device()
