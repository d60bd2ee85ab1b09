"""Models trained on one set and asked about two others, each resumable, their answers kept as they come."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from dataset_audit.commands.testset.config import Config, Trained
from dataset_audit.commands.testset.gather import Material
from dataset_audit.commands.testset.pictures import Held, Pictures
from dataset_audit.errors import DataError, UsageError
from dataset_audit.progress import Progress
from dataset_audit.tables import outputs, unfinished
from dataset_audit.train.defaults import default_choice
from dataset_audit.train.recipes import Recipe, recipe

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from dataset_audit.runs import Settings
    from dataset_audit.train.task import State, Task

Ints = NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class Course:
    """How the models are trained.

    Attributes:
        models: In the order given.
        recipe: Of all, but for the epochs that a model states.
        precision: Before the last layer.
        device: Where.
        size: Height and width of the images.
    """

    models: tuple[Trained, ...]
    recipe: Recipe
    precision: Literal["bf16", "fp32"]
    device: torch.device
    size: tuple[int, int]

    def identity(self) -> dict[str, object]:
        """Return every setting that decides the answers."""
        return {
            "models": [each.name for each in self.models],
            "recipe": self.recipe.stated(),
            "precision": self.precision,
            "device": self.device.type,
            "image_size": list(self.size),
        }


def course(config: Config, material: Material, pictures: Pictures, device: torch.device) -> Course:
    """Settle how the models are trained.

    Raises:
        UsageError: The recipe contradicts itself.
        DataError: The training set has fewer than two classes.
    """
    from dataset_audit.train.device import choose_precision  # noqa: PLC0415 - torch

    held, labels = pictures.train, material.train_label
    if held is None or labels is None:
        raise UsageError("There is nothing to train on.", do="--train SPEC")
    rows = np.flatnonzero(held.ok & (labels >= 0))
    if len(np.unique(labels[rows])) < 2:
        raise DataError(
            f"{config.train} has {len(np.unique(labels[rows]))} classes with readable images; two are the least.",
            do="folders directly under the data set are its classes",
        )
    models = tuple(Trained.parse(text) for text in config.models)
    name, _ = default_choice(held.images.size, held.images.channels, gpu=device.type == "cuda")
    return Course(
        models=models,
        recipe=recipe(config.recipe or name, config.overrides),
        precision=choose_precision(config.precision, device),
        device=device,
        size=held.images.size,
    )


def answers(
    config: Config,
    material: Material,
    pictures: Pictures,
    chosen: Course,
    work: tuple[Path, dict[str, object]],
    progress: Progress,
) -> tuple[tuple[Ints, Ints], int]:
    """Train each model and ask it about both sets.

    A model whose answers are in the folder is not trained again; one that was interrupted goes on from its last epoch.

    Args:
        config: What was asked for.
        material: Labels.
        pictures: Images.
        chosen: How to train.
        work: Folder for unfinished work, and the identity it is bound to.
        progress: Told of each epoch.

    Returns:
        int64[N, M] for the original and the new set, and the number of epochs trained just now.

    Raises:
        DataError: The loss diverged.
        EnvironmentProblem: Something could not be written.
    """
    from dataset_audit.runs import Settings  # noqa: PLC0415 - torch

    folder, identity = work
    settings = Settings(folder=folder, digest=outputs.digest(identity))
    task = _task(config, material, pictures, chosen)
    said: list[list[Ints]] = []
    trained = 0
    for number in range(len(chosen.models)):
        known = [unfinished.kept(path, digest=settings.digest) for path in _paths(settings, number)]
        if all(one is not None for one in known):
            said.append([one[0]["answer"].astype(np.int64) for one in known if one is not None])
            continue
        answered, epochs = _learn(task, pictures, chosen, number, settings, progress)
        said.append(answered)
        trained += epochs
    original, new = (np.stack(side, 1) for side in zip(*said, strict=True))
    return (original, new), trained


def _paths(settings: Settings, number: int) -> tuple[Path, Path]:
    """Return where the answers of a model to both sets are kept."""
    return (
        settings.folder / f"model-{number}-original.parquet",
        settings.folder / f"model-{number}-new.parquet",
    )


def _learn(
    task: Task, pictures: Pictures, chosen: Course, number: int, settings: Settings, progress: Progress
) -> tuple[list[Ints], int]:
    """Train one model and keep its answers to both sets; return them and the number of epochs trained just now."""
    from dataset_audit.runs import forget, learn  # noqa: PLC0415 - torch
    from dataset_audit.train.models import build  # noqa: PLC0415

    one = chosen.models[number]
    each = chosen.recipe if one.epochs is None else replace(chosen.recipe, epochs=one.epochs)
    progress.start(f"{one.name} ({number + 1}/{len(chosen.models)})", each.epochs * len(task.rows), "images")
    network = partial(
        build,
        one.model,
        classes=task.classes,
        channels=task.images.channels,
        image_size=max(chosen.size),
    )
    learned = learn(task, each, network, settings=settings, name=f"model-{number}", progress=progress)
    progress.finish()
    if not learned.state.history.trained(task.classes):
        progress.warn("W-untrained", f"{one.name} learned nothing; try a lower --lr")
    answers = [_asked(task, learned.state, held) for held in pictures.sides]
    for path, answer in zip(_paths(settings, number), answers, strict=True):
        unfinished.keep(path, {"answer": answer}, {"model": one.name}, digest=settings.digest)
    forget(settings, f"model-{number}")
    return answers, learned.epochs_trained


def _task(config: Config, material: Material, pictures: Pictures, chosen: Course) -> Task:
    from dataset_audit.train.hold import normalisation  # noqa: PLC0415
    from dataset_audit.train.task import Task  # noqa: PLC0415

    held, labels = pictures.train, material.train_label
    if held is None or labels is None:
        raise UsageError("There is nothing to train on.", do="--train SPEC")
    rows = np.flatnonzero(held.ok & (labels >= 0))
    mean, std = normalisation(chosen.recipe, held.images, rows, chosen.device)
    return Task(
        images=held.images,
        labels=_tensor(labels, chosen.device),
        rows=rows,
        classes=len(material.classes),
        seed=config.seed,
        device=chosen.device,
        precision=chosen.precision,
        mean=mean,
        std=std,
    )


def _tensor(labels: Ints, device: torch.device) -> Tensor:
    import torch  # noqa: PLC0415

    return torch.from_numpy(np.maximum(labels, 0)).to(device)


def _asked(task: Task, state: State, held: Held | None) -> Ints:
    """Return int64[N], the network's answer for every image; -1 where it cannot be read."""
    from dataset_audit.train.fit import predict  # noqa: PLC0415

    if held is None:
        raise UsageError("A set has no images to ask about.", do="a data set")
    rows = np.flatnonzero(held.ok)
    answer = np.full(len(held.ok), -1, np.int64)
    there = replace(task, images=held.images, labels=_tensor(answer, task.device), rows=rows)
    for indices, logits in predict(there, state, rows):
        answer[indices.cpu().numpy()] = logits.argmax(1).cpu().numpy()
    return answer
