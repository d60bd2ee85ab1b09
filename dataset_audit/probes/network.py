"""The strongest probe: a network, trained on the pictures through the one training loop."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dataset_audit.probes.classify import Fold, Labels, Learned
from dataset_audit.progress import Progress
from dataset_audit.train.batches import Resident
from dataset_audit.train.fit import fit, predict, start
from dataset_audit.train.hold import statistics
from dataset_audit.train.models import build
from dataset_audit.train.task import State, Task

if TYPE_CHECKING:
    from dataset_audit.train.recipes import Recipe

LEAST_STEPS = 200  # a run shorter than this learns nothing: small sets get more epochs


@dataclass(frozen=True, kw_only=True)
class Training:
    """How the network is trained.

    Attributes:
        model: A name of MODELS or of timm.
        recipe: Its protocol.
        device: Where.
        precision: Of everything before the last layer.
        pretrained: Start from weights that are at hand; never fetched.
        least_steps: With few rows the epochs are raised until there are so many steps.
    """

    model: str
    recipe: Recipe
    device: torch.device
    precision: Literal["bf16", "fp32"] = "fp32"
    pretrained: bool = False
    least_steps: int = LEAST_STEPS

    def recipe_for(self, rows: int) -> Recipe:
        """Return the protocol for so many training rows: with few, the epochs are raised to the least steps."""
        steps = -(-rows // self.recipe.batch_size)
        return replace(self.recipe, epochs=max(self.recipe.epochs, -(-self.least_steps // steps)))

    def presentations(self, rows: int) -> int:
        """Return how many images one training of so many rows presents."""
        return self.recipe_for(rows).epochs * rows


@dataclass(frozen=True, kw_only=True, eq=False)
class Trained:
    """A trained network and what it says; ``task`` and ``state`` are what an explanation needs."""

    learned: Learned
    task: Task
    state: State


def train(
    pixels: NDArray[np.uint8],
    labels: Labels,
    fold: Fold,
    training: Training,
    *,
    seed: int,
    progress: Progress | None = None,
) -> Trained:
    """Train on ``fold.train`` to its last epoch; no epoch is chosen by what it scores.

    Args:
        pixels: uint8[N, S, S, 3].
        labels: int64[N].
        fold: Rows.
        training: Network and protocol.
        seed: Of weights, order and augmentation.
        progress: Told the images presented.

    Raises:
        DataError: The loss is no longer finite.
        UsageError: There is no such model.
    """
    images = Resident(torch.from_numpy(pixels).to(training.device))
    rows = np.sort(fold.train)
    mean, std = statistics(images, rows)
    classes = int(labels.max()) + 1
    recipe = training.recipe_for(len(rows))
    task = Task(
        images=images,
        labels=torch.from_numpy(labels).to(training.device),
        rows=rows,
        classes=classes,
        seed=seed,
        device=training.device,
        precision=training.precision,
        mean=mean.to(training.device),
        std=std.to(training.device),
    )
    state = start(
        task,
        recipe,
        lambda: build(
            training.model,
            classes=classes,
            channels=3,
            image_size=pixels.shape[1],
            pretrained=training.pretrained,
        ),
    )
    fit(task, recipe, state, progress=progress)
    validation = _probabilities(task, state, fold.validation)
    return Trained(
        learned=Learned(
            probability=_probabilities(task, state, fold.test),
            validation=float((validation.argmax(1) == labels[fold.validation]).mean()),
        ),
        task=task,
        state=state,
    )


def _probabilities(task: Task, state: State, rows: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return float64[len(rows), K] in the order of ``rows``."""
    logits: list[Tensor] = [batch for _, batch in predict(task, state, rows)]
    found: NDArray[np.float64] = torch.cat(logits).double().softmax(1).cpu().numpy()
    return found
