"""RECIPES: named training protocols, each a frozen dataclass; any field can be overridden by name."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from difflib import get_close_matches
from typing import Literal, get_args

from dataset_audit.errors import UsageError

ScheduleName = Literal["constant", "steps", "linear"]


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """One training protocol: optimiser, schedule, augmentation, length.

    Attributes:
        name: The key in RECIPES it came from.
        source: Paper or measurement it follows.
        epochs: Passes over the data; every example is presented exactly once in each.
        batch_size: Examples per step. A tail below an eighth of it is shared with the batch before, never dropped.
        lr: Peak learning rate of SGD.
        momentum: SGD momentum.
        nesterov: Nesterov momentum.
        weight_decay: L2 penalty on every parameter.
        schedule: ``constant``; ``steps`` (times ``factor`` at each milestone); ``linear`` (up from zero over
            ``warmup`` of the steps, then down to zero at the last one).
        milestones: Shares of the run at which ``steps`` drops, so that a shorter run keeps the shape.
        factor: What a milestone multiplies the learning rate by.
        warmup: Share of the steps spent rising in ``linear``.
        crop_padding: Zero pixels added on each side before a random crop back to size; 0 means no crop.
        flip: Random horizontal flip, probability one half.
        label_smoothing: Mass spread over all classes in the loss; it changes every probability score.
        mean: Per-channel mean that is subtracted, as a share of 255; empty means measured on the data.
        std: Per-channel standard deviation that divides; empty means measured on the data.
    """

    name: str
    source: str
    epochs: int
    batch_size: int
    lr: float
    momentum: float = 0.9
    nesterov: bool = True
    weight_decay: float = 5e-4
    schedule: ScheduleName = "linear"
    milestones: tuple[float, ...] = ()
    factor: float = 1.0
    warmup: float = 0.0
    crop_padding: int = 0
    flip: bool = False
    label_smoothing: float = 0.0
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        laws: dict[str, bool] = {
            "epochs must be at least 1": self.epochs >= 1,
            "epochs must be at most 65,535": self.epochs <= 65_535,
            "batch_size must be at least 2": self.batch_size >= 2,
            "batch_size must be at most 1,000,000": self.batch_size <= 1_000_000,
            "lr must be a positive number": math.isfinite(self.lr) and self.lr > 0,
            "momentum must be in [0, 1)": 0 <= self.momentum < 1,
            "nesterov needs momentum above 0": self.momentum > 0 or not self.nesterov,
            "weight_decay must be a number, 0 or more": math.isfinite(self.weight_decay)
            and self.weight_decay >= 0,
            f"schedule must be one of {', '.join(get_args(ScheduleName))}": self.schedule
            in get_args(ScheduleName),
            "milestones must rise within (0, 1)": list(self.milestones) == sorted(set(self.milestones))
            and all(0 < share < 1 for share in self.milestones),
            "factor must be in (0, 1]": 0 < self.factor <= 1,
            "warmup must be in [0, 1)": 0 <= self.warmup < 1,
            "crop_padding must be 0 to 64": 0 <= self.crop_padding <= 64,
            "label_smoothing must be in [0, 1)": 0 <= self.label_smoothing < 1,
            "mean and std need the same number of channels": len(self.mean) == len(self.std),
            "std must be above 0": all(math.isfinite(value) and value > 0 for value in self.std),
            "mean must be finite": all(map(math.isfinite, self.mean)),
        }
        for law, holds in laws.items():
            if not holds:
                raise UsageError(f"Recipe {self.name}: {law}.", do="audit --list recipes")

    def stated(self) -> dict[str, object]:
        """Return every field as plain JSON, as configurations state a recipe."""
        return {
            name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()
        }

    @staticmethod
    def of(stated: Mapping[str, object]) -> Recipe:
        """Return the recipe that a configuration states; fields that are not known any more are left out."""
        known = {field.name for field in fields(Recipe)}
        values = {name: tuple(v) if isinstance(v, list) else v for name, v in stated.items() if name in known}
        return Recipe(**values)  # type: ignore[arg-type]  # as `stated` gave them

    def learning_rate(self, step: int, steps: int) -> float:
        """Return the learning rate of ``step`` (0-based) of ``steps`` in all.

        ``linear`` peaks at the end of the warm-up and would reach zero one step after the last, so that every
        step learns. ``steps`` drops at the first step at or past a milestone.
        """
        if self.schedule == "constant":
            return self.lr
        if self.schedule == "steps":
            passed = sum(step >= round(share * steps) for share in self.milestones)
            return self.lr * self.factor**passed
        rising = self.warmup * steps
        if step + 1 < rising:
            return self.lr * (step + 1) / rising
        return self.lr * (steps - step) / max(1.0, steps - max(0.0, rising - 1))


RECIPES: dict[str, Recipe] = {
    "toneva-cifar": Recipe(
        name="toneva-cifar",
        source="Toneva et al. 2019, CIFAR protocol; no cutout while scoring",
        epochs=200,
        batch_size=128,
        lr=0.1,
        schedule="steps",
        milestones=(0.3, 0.6, 0.8),
        factor=0.2,
        crop_padding=4,
        flip=True,
        mean=(125.3 / 255, 123.0 / 255, 113.9 / 255),
        std=(63.0 / 255, 62.1 / 255, 66.7 / 255),
    ),
    "toneva-mnist": Recipe(
        name="toneva-mnist",
        source="Toneva et al. 2019, MNIST protocol",
        epochs=200,
        batch_size=64,
        lr=0.01,
        momentum=0.5,
        nesterov=False,
        weight_decay=0.0,
        schedule="constant",
        mean=(0.1307,),
        std=(0.3081,),
    ),
    "fast": Recipe(
        name="fast",
        source="one-cycle SGD with linear decay to zero (Li et al. 2020: best or tied at every budget)",
        epochs=16,
        batch_size=128,
        lr=0.2,
        warmup=0.2,
        crop_padding=4,
        flip=True,
    ),
    "fast-gpu": Recipe(
        name="fast-gpu",
        source="airbench94's steps (Jordan 2024) made fit for scoring: no label smoothing, no example left out",
        epochs=28,
        batch_size=1024,
        # airbench states 11.5 and 0.0153 per 1,024 examples of a summed loss, free of momentum; the same for a mean:
        lr=1.5,
        momentum=0.85,
        weight_decay=0.00133,
        warmup=0.23,
        crop_padding=2,
        flip=True,
    ),
    "fast-plain": Recipe(
        name="fast-plain",
        source="fast, without augmentation: for digits, letters and small grey images",
        epochs=30,
        batch_size=128,
        lr=0.1,
        warmup=0.2,
    ),
    "probe": Recipe(
        name="probe",
        source="fast, for a thousand pictures a source; lr and length chosen on a validation part",
        epochs=10,
        batch_size=64,
        lr=0.1,
        warmup=0.2,
        crop_padding=4,
        flip=True,
    ),
}


def recipe(name: str, overrides: Mapping[str, str] | None = None) -> Recipe:
    """Return the recipe ``name`` with fields replaced by the texts in ``overrides``.

    Raises:
        UsageError: Unknown recipe or field, or a text that is no value of the field; the nearest name is given.
    """
    if name not in RECIPES:
        raise UsageError(f"No recipe called {name!r}{_nearest(name, RECIPES)}.", do="audit --list recipes")
    chosen = RECIPES[name]
    known = {field.name: type(getattr(chosen, field.name)) for field in fields(chosen)}
    changes: dict[str, object] = {}
    for key, text in (overrides or {}).items():
        if key not in known or key in {"name", "source"}:
            raise UsageError(
                f"No field {key!r} in a recipe{_nearest(key, known)}.",
                do="fields: " + ", ".join(field for field in known if field not in {"name", "source"}),
            )
        changes[key] = _parsed(key, text, known[key])
    return replace(chosen, **changes)  # type: ignore[arg-type]  # each value was parsed to its field's type


def _parsed(key: str, text: str, kind: type) -> object:
    try:
        if kind is bool:
            return {"true": True, "false": False, "yes": True, "no": False, "1": True, "0": False}[
                text.lower()
            ]
        if kind is tuple:
            return tuple(float(part) for part in text.split(",") if part)
        return kind(text)
    except (ValueError, KeyError):
        wanted = {bool: "true or false", tuple: "numbers separated by commas", int: "a whole number"}
        raise UsageError(f"{key}={text} is not {wanted.get(kind, 'a number')}.") from None


def _nearest(name: str, names: Mapping[str, object]) -> str:
    close = get_close_matches(name, names, n=1)
    return f"; did you mean {close[0]}" if close else ""


# Spearman agreement of the mean AUM of a short run with that of a long one; measured, see docs/results.md.
_AGREEMENT: dict[tuple[str, str, int], tuple[float, str]] = {
    ("fast", "small", 16): (0.97, "24 epochs of toneva-cifar, same network, CIFAR-10, two seeds against one"),
}


def agreement(recipe_name: str, model: str, epochs: int) -> dict[str, object]:
    """Return the measured agreement of this recipe's recommended column with a long run, or {} if never measured."""
    found = _AGREEMENT.get((recipe_name, model, epochs))
    return {"agreement": found[0], "with": found[1]} if found else {}
