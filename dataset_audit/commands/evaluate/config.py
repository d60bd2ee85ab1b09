"""Everything ``audit evaluate`` can be told."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import Final, Literal

from dataset_audit.errors import UsageError
from dataset_audit.evaluate.arms import ARMS
from dataset_audit.select.budget import Keep
from dataset_audit.select.order import Hard
from dataset_audit.select.policies import POLICIES
from dataset_audit.train.models import MODELS, check_name
from dataset_audit.train.recipes import recipe

BESIDE: Final = ("full", "random", "stratified", "easiest", "rs2")  # what --arms takes
EXCLUDED: Final = "excluded"  # as --test: the rows that scoring left out


@dataclass(frozen=True, kw_only=True)
class Config:
    """Everything ``audit evaluate`` can be told; names are those of the flags."""

    manifest: Path | None = None
    scores: Path | None = None
    keep: tuple[Keep, ...] = ()
    policies: tuple[str, ...] = ()
    by: tuple[str, ...] = ()
    hard: Hard | None = None
    arms: tuple[str, ...] = ("full", "random", "stratified", "easiest")
    curve: tuple[float, ...] = (0.25, 0.4, 0.5, 0.7)
    selective: float = 0.0
    budget: Literal["epochs", "steps"] = "epochs"
    tune: int = 0
    delta: float = 0.2
    label_noise: float = 0.0
    trainings: int = 1
    score_seconds: float | None = None
    test: str | None = None
    dataset: str | None = None
    data_root: Path | None = None
    exclude: tuple[str, ...] = ()
    allow_missing_class: bool = False
    out: Path = Path("evaluation.parquet")
    charts: Path | None = None
    recipe: str | None = None
    model: str | None = None
    overrides: Mapping[str, str] = field(default_factory=dict)
    seed: int = 1
    seeds: int = 3
    precision: Literal["auto", "bf16", "fp32"] = "auto"
    compile: bool = False
    allocator: bool = True
    image_size: int | None = None
    device: str = "auto"
    workers: int | None = None
    memory: int | None = None
    resident: Literal["auto", "yes", "no"] = "auto"
    cache: Path | Literal["auto", "no"] = "auto"
    max_skipped: float = 0.01
    checkpoint_dir: Path | None = None
    checkpoint_every: int = 1
    fail_worse: bool = False
    dry_run: bool = False
    force: bool = False
    command: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        laws: dict[str, object] = {
            f"--seeds {self.seeds}: 1 to 1,000": 1 <= self.seeds <= 1000,
            f"--seed {self.seed}: 0 to 2^63 - 1": 0 <= self.seed < 2**63,
            f"--tune {self.tune}: 0 to 1,000 trials of each arm": 0 <= self.tune <= 1000,
            f"--delta {self.delta:g}: percentage points, above 0 and below 100": 0 < self.delta < 100,
            f"--label-noise {self.label_noise}: a share in [0, 1)": 0 <= self.label_noise < 1,
            f"--selective {self.selective}: a share in [0, 1)": 0 <= self.selective < 1,
            f"--trainings {self.trainings}: 1 or more": self.trainings >= 1,
            f"--score-seconds {self.score_seconds}: 0 or more": self.score_seconds is None
            or 0 <= self.score_seconds < 1e12,
            "--curve: shares of the epochs, in (0, 1]": all(0 < share <= 1 for share in self.curve),
            f"--workers {self.workers}: 1 to 1,024": self.workers is None or 1 <= self.workers <= 1024,
            f"--checkpoint-every {self.checkpoint_every}: at least 1": self.checkpoint_every >= 1,
            f"--image-size {self.image_size}: 4 to 1,024 pixels": self.image_size is None
            or 4 <= self.image_size <= 1024,
            f"--max-skipped {self.max_skipped}: a share in [0, 1]": 0 <= self.max_skipped <= 1,
            "--keep and --policies are of --scores; a manifest has its own": self.scores is not None
            or not (self.keep or self.policies or self.by),
        }
        measurable = self.seeds > 1 and bool({"random", "stratified"} & {*self.arms, *self.policies})
        laws["--fail-worse needs the arm random and two seeds or more: a gate is of what is measured"] = (
            measurable or not self.fail_worse
        )
        for law, holds in laws.items():
            if not holds:
                raise UsageError(f"{law}.", do="audit evaluate --help")
        _known(self.arms, BESIDE, "arm", "--arms")
        _known(self.policies, (*POLICIES, "random"), "policy", "--policies")
        if "moderate" in self.policies:
            raise UsageError(
                "The policy moderate needs embeddings.", do="audit prune --policy moderate, then its manifest"
            )
        if len(set(self.keep)) < len(self.keep):
            raise UsageError("--keep names a size twice.", do="each size once")
        recipe(self.recipe or "fast", self.overrides)
        if self.model is not None and self.model not in MODELS:
            check_name(self.model)

    @property
    def source(self) -> Path:
        """The table that names the data set: the scores, or the manifest, which is also the default."""
        return self.scores or self.manifest or Path("manifest.parquet")


def _known(names: tuple[str, ...], known: tuple[str, ...], kind: str, flag: str) -> None:
    for name in names:
        if name not in known:
            near = get_close_matches(name, known, n=1)
            hint = f"; did you mean {near[0]}?" if near else "."
            raise UsageError(
                f"No {kind} called {name!r}{hint}", do=f"{flag} of: {', '.join(dict.fromkeys(known))}"
            )
    if len(set(names)) < len(names):
        raise UsageError(f"{flag} names one twice.", do="each once")


assert set(BESIDE) <= set(ARMS)  # noqa: S101 - what can be asked for is what is defined
