"""From what was asked for to what is done: the data set after its one pass, and every choice resolved."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from dataset_audit.commands.forgetting.config import Config
from dataset_audit.errors import DataError, UsageError
from dataset_audit.progress import Progress
from dataset_audit.train.defaults import suited
from dataset_audit.train.models import check_known
from dataset_audit.train.recipes import Recipe, agreement, recipe

if TYPE_CHECKING:
    import torch

    from dataset_audit.images.dataset import ImageDataset
    from dataset_audit.images.scan import Scan
    from dataset_audit.train.batches import Images
    from dataset_audit.train.distributed import World

ENOUGH_EPOCHS = 30  # a shorter run has too few forgetting events to rank by


@dataclass(frozen=True)
class Opened:
    """The data set after its one pass: what was found, the pixels, the labels to train on."""

    dataset: ImageDataset
    scan: Scan
    images: Images
    status: list[str]
    labels: NDArray[np.int32]
    flipped: NDArray[np.bool_]
    rows: NDArray[np.int64]


@dataclass(frozen=True)
class Resolved:
    """Every choice made: what decides the bytes of the table, and how it is said.

    Attributes:
        recipe: Of all runs.
        model: Name of the network.
        precision: Before the last layer.
        device: Of this process.
        seeds: One per run.
        identity: What decides the bytes.
        el2n_epochs: After which epochs EL2N is taken.
        recommended: What to rank by.
        sharing: The processes that share the examples of each run.
        dealing: The processes that share out the runs.
        division: What is shared among how many processes, for people; empty for one alone.
    """

    recipe: Recipe
    model: str
    precision: Literal["bf16", "fp32"]
    device: torch.device
    seeds: tuple[int, ...]
    identity: dict[str, object]
    el2n_epochs: tuple[int, ...]
    recommended: dict[str, object]
    sharing: World
    dealing: World
    division: str


def open_spec(config: Config) -> ImageDataset:
    """Open the data set that is named; before torch is imported, so that a wrong name is told at once.

    Raises:
        UsageError: There is no such data set, or an option does not fit it.
        DataError: It is no data set of pictures.
    """
    from dataset_audit.images.dataset import open_dataset  # noqa: PLC0415
    from dataset_audit.images.decode import Limits  # noqa: PLC0415

    limits = Limits(
        max_pixels=config.max_pixels, max_file_bytes=config.max_file_bytes, background=config.background
    )
    return open_dataset(
        config.spec,
        data_root=config.data_root,
        download=config.download,
        split=config.split,
        seed=config.seed,
        limits=limits,
    )


def read_images(config: Config, dataset: ImageDataset, device: torch.device, progress: Progress) -> Opened:
    """Read and decode every image once, and settle which rows are trained on with which labels.

    Raises:
        UsageError: An option does not fit the data set.
        DataError: Too many unreadable images, or fewer than two classes.
        EnvironmentProblem: Images cannot be read or held.
    """
    from dataset_audit.images.labels import flip_labels  # noqa: PLC0415
    from dataset_audit.images.scan import check_skipped  # noqa: PLC0415
    from dataset_audit.train.hold import Holding, hold  # noqa: PLC0415

    for id_, text in dataset.warnings:
        progress.warn(id_, text)
    holding = Holding(
        size=(config.image_size, config.image_size) if config.image_size else None,
        resident=config.resident,
        cache=config.cache,
        work=config.checkpoint_dir or config.out.parent,
        memory=config.memory,
        workers=config.workers,
        exclude=dataset.matching(config.exclude) if config.exclude else None,
    )
    images, scan = hold(dataset, holding, device=device, progress=progress)
    check_skipped(scan, config.max_skipped)
    labels = np.asarray(dataset.labels, dtype=np.int32)
    status = [
        "unlabelled" if s == "ok" and label < 0 else s for s, label in zip(scan.status, labels, strict=True)
    ]
    rows = np.flatnonzero(np.array([s == "ok" for s in status]))
    if len(np.unique(labels[rows])) < 2:
        raise DataError(
            f"{config.spec} has {len(np.unique(labels[rows]))} classes with readable images; two are the least.",
            do="folders directly under the data set are its classes",
        )
    flipped = np.zeros(len(labels), dtype=bool)
    if config.label_noise:
        noisy, flips = flip_labels(labels[rows], config.label_noise, len(dataset.class_names), config.seed)
        labels = labels.copy()
        labels[rows], flipped[rows] = noisy, flips
    return Opened(dataset, scan, images, status, labels, flipped, rows)


def late(epochs: int) -> tuple[int, ...]:
    """Return the last epochs of a run, 1-based: up to three, all in its second half.

    EL2N there finds wrong labels that averages over the run, which carry its beginning, miss.
    """
    return tuple(epoch for epoch in range(max(1, epochs - 2), epochs + 1) if 2 * epoch > epochs)


def _measured(config: Config, epochs: int) -> tuple[int, ...]:
    """Return after which epochs EL2N is taken."""
    if config.el2n_epochs is None:
        return late(epochs)
    beyond = [epoch for epoch in config.el2n_epochs if epoch > epochs]
    if beyond:
        raise UsageError(f"--el2n-epochs {beyond[0]} is past the last epoch, {epochs}.")
    return config.el2n_epochs


def resolve(
    config: Config, opened: Opened, device: torch.device, precision: Literal["bf16", "fp32"], *, world: World
) -> Resolved:
    """Choose recipe and model by data and device where none was named, and collect what decides the table's bytes.

    With as many runs as processes or more, each process has runs of its own, which are what one process alone would
    have trained; with fewer, all share the examples of every run.

    Raises:
        UsageError: An option contradicts the recipe.
    """
    from dataset_audit.train.distributed import ALONE  # noqa: PLC0415 - torch

    name, model = suited(
        config.recipe,
        config.model,
        opened.images.size,
        opened.images.channels,
        gpu=device.type == "cuda",
    )
    chosen = recipe(name, config.overrides)
    if not config.augment:
        chosen = recipe(name, {**config.overrides, "crop_padding": "0", "flip": "false"})
    check_known(model)
    measured = _measured(config, chosen.epochs)
    run_seeds = tuple(config.seed + run for run in range(config.seeds))
    identity: dict[str, object] = {
        "recipe": chosen.stated(),
        "model": model,
        "seeds": list(run_seeds),
        "label_noise": config.label_noise,
        "el2n_epochs": list(measured),
        "tdds": list(config.tdds) if config.tdds else None,
        "per_run": config.per_run,
        "precision": precision,
        "device": device.type,
        "compile": config.compile,
        "image_size": list(opened.images.size),
        "background": list(config.background),
        "exclude": list(config.exclude),
        "fingerprint": opened.scan.fingerprint,
    }
    sharing, dealing = (world, ALONE) if len(run_seeds) < world.size else (ALONE, world)
    if sharing.size > 1:
        identity |= _across(model, opened, sharing.size)
    division = f"{'runs' if dealing.size > 1 else 'examples'} shared among {world.size} processes"
    by = "forgetting" if chosen.epochs >= ENOUGH_EPOCHS else "aum"
    return Resolved(
        chosen,
        model,
        precision,
        device,
        run_seeds,
        identity,
        measured,
        {"by": by, **agreement(chosen.name, model, chosen.epochs)},
        sharing,
        dealing,
        division if world.size > 1 else "",
    )


def _across(model: str, opened: Opened, processes: int) -> dict[str, object]:
    """Return what decides the bytes where processes share the examples: of batch norm, how many there are."""
    from dataset_audit.train.gradients import has_batch_statistics  # noqa: PLC0415 - torch
    from dataset_audit.train.models import build  # noqa: PLC0415

    classes, images = len(opened.dataset.class_names), opened.images
    network = build(model, classes=classes, channels=images.channels, image_size=max(images.size))
    return {"batch_norm": "per-rank", "processes": processes} if has_batch_statistics(network) else {}
