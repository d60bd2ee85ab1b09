"""Everything ``audit testset`` can be told."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal

from dataset_audit.errors import UsageError
from dataset_audit.train.models import MODELS, check_name
from dataset_audit.train.recipes import recipe

MOST: Final = 10**15  # selections


@dataclass(frozen=True)
class Trained:
    """One model to train: ``small`` as the recipe says, ``small@4`` for four epochs."""

    name: str
    model: str
    epochs: int | None

    @staticmethod
    def parse(text: str) -> Trained:
        """Return what ``NAME`` or ``NAME@EPOCHS`` says.

        Raises:
            UsageError: It is neither.
        """
        model, at, epochs = text.partition("@")
        if at and not (epochs.isascii() and epochs.isdecimal() and 1 <= int(epochs[:10]) <= 100_000):
            raise UsageError(
                f"--models {text}: NAME or NAME@EPOCHS is wanted.", do="--models small@2,small@8"
            )
        if model not in MODELS:
            check_name(model)
        return Trained(text, model, int(epochs) if at else None)


@dataclass(frozen=True, kw_only=True)
class Config:
    """Everything ``audit testset`` can be told; names are those of the flags."""

    original: str
    new: str
    out: Path = Path("testset.parquet")
    train: str | None = None
    models: tuple[str, ...] = ()
    predictions: Path | None = None
    predictions_original: Path | None = None
    predictions_new: Path | None = None
    paired: bool | None = None
    selections: int | None = None
    delta: float | None = None
    ladder: bool = False
    fail_gap: float | None = None
    recipe: str | None = None
    overrides: Mapping[str, str] = field(default_factory=dict)
    precision: Literal["auto", "bf16", "fp32"] = "auto"
    image_size: int | None = None
    seed: int = 1
    split: str | None = None
    charts: Path | None = None
    data_root: Path | None = None
    download: bool = False
    max_skipped: float = 0.01
    device: str = "auto"
    workers: int | None = None
    allocator: bool = True
    checkpoint_dir: Path | None = None
    dry_run: bool = False
    force: bool = False
    command: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        laws = {
            f"--selections {self.selections}: 1 to 10^15": self.selections is None
            or 1 <= self.selections <= MOST,
            f"--delta {self.delta}: percentage points, more than 0 and at most 100": self.delta is None
            or 0 < self.delta <= 100,
            f"--fail-gap {self.fail_gap}: percentage points, -100 to 100": self.fail_gap is None
            or -100 <= self.fail_gap <= 100,
            f"--seed {self.seed}: 0 to 2^63 - 1": 0 <= self.seed < 2**63,
            f"--max-skipped {self.max_skipped}: a share in [0, 1]": 0 <= self.max_skipped <= 1,
            f"--workers {self.workers}: 1 to 1,024": self.workers is None or 1 <= self.workers <= 1024,
            f"--image-size {self.image_size}: 4 to 1,024 pixels": self.image_size is None
            or 4 <= self.image_size <= 1024,
        }
        for law, holds in laws.items():
            if not holds:
                raise UsageError(f"{law}.", do="audit testset --help")
        self._check_source()
        recipe(
            self.recipe or "fast", self.overrides
        )  # a bad name or field is found before anything is opened
        for text in self.models:
            Trained.parse(text)

    def _check_source(self) -> None:
        """Refuse anything but one source of answers, whole."""
        apart = self.predictions_original is not None, self.predictions_new is not None
        given = [bool(self.models), self.predictions is not None, any(apart)]
        if sum(given) != 1:
            raise UsageError(
                "Answers come from models to train, or from files of predictions: "
                + ("none is named." if not any(given) else "two are named."),
                do="--train SPEC --models NAME,NAME, or --predictions-original FILE --predictions-new FILE, "
                "or --predictions FILE",
            )
        if any(apart) and not all(apart):
            missing = "--predictions-new" if apart[0] else "--predictions-original"
            raise UsageError(f"{missing} is missing: both sets need predictions.", do=f"{missing} FILE")
        if self.models and self.train is None:
            raise UsageError(
                "--models are trained, and there is nothing to train them on.", do="--train SPEC"
            )
        if self.predictions is not None and self.train is not None:
            raise UsageError(
                "--predictions FILE names sets without images, so none can be looked up in --train.",
                do="data sets as ORIGINAL and NEW, with --predictions-original and --predictions-new",
            )
        trains = self.recipe is not None or self.overrides or self.image_size is not None
        if trains and not self.models:
            raise UsageError("A recipe is for models to train, and none is named.", do="--models NAME,NAME")
