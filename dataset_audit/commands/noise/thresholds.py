"""Two scoring runs in which some examples carry a label that is surely wrong; the recipe is that of the scores."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal, cast

import numpy as np
from numpy.typing import NDArray

from dataset_audit.commands.noise.config import Config
from dataset_audit.commands.noise.findings import Tested
from dataset_audit.commands.noise.gather import Gathered
from dataset_audit.errors import DataError, MismatchError, UsageError
from dataset_audit.noise.thresholds import SETS, threshold_sets
from dataset_audit.progress import Progress
from dataset_audit.tables import outputs
from dataset_audit.tables.provenance import Provenance

if TYPE_CHECKING:
    import torch

    from dataset_audit.images.opened import ImageDataset
    from dataset_audit.train.batches import Images
    from dataset_audit.train.recipes import Recipe
    from dataset_audit.train.task import Task

ENOUGH: Final = 100  # threshold samples a run needs for its 99th percentile to be more than their largest


@dataclass(frozen=True, kw_only=True)
class Course:
    """What the two runs do.

    Attributes:
        recipe: As the scores were made.
        model: Likewise.
        device: Where.
        precision: As the scores were made.
        compile: Likewise.
        image_size: Height and width, likewise.
        seeds: One per run.
        rows: int64[M], indices of the examples to train on, ascending.
        sets: Per run its threshold samples, int64, indices.
        fingerprint: Of the data set, as the scores state it.
    """

    recipe: Recipe
    model: str
    device: torch.device
    precision: Literal["bf16", "fp32"]
    compile: bool
    image_size: tuple[int, int]
    seeds: tuple[int, ...]
    rows: NDArray[np.int64]
    sets: Sequence[NDArray[np.int64]]
    fingerprint: str

    def identity(self, percentile: float) -> dict[str, object]:
        """Return what decides the flags beside the scores."""
        return {
            "percentile": percentile,
            "seeds": list(self.seeds),
            "samples": [len(one) for one in self.sets],
            "device": self.device.type,
            "precision": self.precision,
        }


def plan(config: Config, gathered: Gathered, progress: Progress) -> Course:
    """Return the course of the two runs, from what the sidecar of the scores says of its own.

    Raises:
        UsageError: The scores do not say how they were made, or are of too few classes or examples.
        EnvironmentProblem: No such device.
    """
    origin, made = _made_by(config, gathered)
    rows = np.sort(gathered.table.integers("index")[gathered.ranked.rows])
    classes = len(gathered.classes)
    try:
        sets = threshold_sets(rows, classes, config.seed)
    except ValueError:
        raise UsageError(
            f"{len(rows):,} examples of {classes} classes are too few for {SETS} sets of threshold samples.",
            do="without --threshold-samples",
        ) from None
    if len(sets[0]) < ENOUGH:
        progress.warn(
            "W-few-samples",
            f"a run has {len(sets[0]):,} threshold samples; below {ENOUGH} the threshold is the largest of them",
        )
    from dataset_audit.train import device as machine  # noqa: PLC0415 - torch
    from dataset_audit.train.models import check_known  # noqa: PLC0415
    from dataset_audit.train.recipes import Recipe  # noqa: PLC0415

    device = machine.choose_device(config.device)
    stated = cast("Mapping[str, object]", made["recipe"])  # checked to be one
    recipe = Recipe.of(stated)
    model, size = str(made["model"]), cast("Sequence[int]", made["image_size"])
    check_known(model)
    return Course(
        recipe=recipe,
        model=model,
        device=device,
        precision="bf16" if made.get("precision") == "bf16" else "fp32",
        compile=made.get("compile") is True,
        image_size=(int(size[0]), int(size[1])),
        seeds=tuple(config.seed + run for run in range(SETS)),
        rows=rows,
        sets=sets,
        fingerprint=origin.fingerprint,
    )


def _made_by(config: Config, gathered: Gathered) -> tuple[Provenance, Mapping[str, object]]:
    made = gathered.document.get("config")
    origin = gathered.table.provenance
    if (
        origin is None
        or gathered.document.get("format") != "scores"
        or not isinstance(made, Mapping)
        or not isinstance(made.get("recipe"), Mapping)
        or not isinstance(made.get("model"), str)
        or not isinstance(made.get("image_size"), list)
    ):
        raise UsageError(
            f"{config.scores} does not say which network and recipe made it; threshold samples need the same.",
            do="scores of audit forgetting, or without --threshold-samples",
        )
    if (gathered.labels < 0).any():
        raise UsageError(f"{config.scores} ranks examples without a label.", do="without --threshold-samples")
    return origin, made


def open_images(config: Config, gathered: Gathered) -> ImageDataset:
    """Open the data set that was scored, as it was opened then.

    Raises:
        UsageError: It is not there, or the scores name none.
        MismatchError: It has another number of examples.
    """
    from dataset_audit.images.dataset import open_dataset, opening  # noqa: PLC0415 - decoders

    origin = gathered.table.provenance
    spec = config.dataset or (origin.spec if origin else "")
    if not spec:
        raise UsageError(f"{config.scores} does not name its data set.", do="--dataset SPEC")
    dataset = open_dataset(spec, data_root=config.data_root, **opening(origin.opened if origin else {}))
    if origin is not None and len(dataset) != origin.n:
        raise MismatchError(
            f"{config.scores} was made for {origin.n:,} examples, {spec} has {len(dataset):,}.",
            do="--dataset with the data set that was scored",
        )
    return dataset


def describe(course: Course) -> list[str]:
    """Return the plan of the two runs in words."""
    recipe, runs, samples = course.recipe, len(course.sets), len(course.sets[0])
    seeds = ", ".join(map(str, course.seeds))
    trains = f"trains {runs} times for threshold samples, each time as long as one scoring run"
    how = (
        f"{course.model} · {recipe.name} · {recipe.epochs} epochs · batch {recipe.batch_size} · seeds {seeds}"
    )
    extra = f"{samples:,} of {len(course.rows):,} examples get an extra class in each"
    return [trains, f"{how} · {course.device.type} · {course.precision}", extra]


def measure(
    config: Config, gathered: Gathered, course: Course, folder: Path, identity: Mapping[str, object],
    progress: Progress,
) -> Tested:  # fmt: skip
    """Train twice, or go on where an interrupted call was, and return the margins of every ranked example.

    Raises:
        MismatchError: The images are not those that were scored.
        DataError: A run diverged.
        EnvironmentProblem: Device, disk or memory.
    """
    from dataset_audit.runs import Settings, run  # noqa: PLC0415 - torch
    from dataset_audit.train.models import build  # noqa: PLC0415

    images, labels = _held(config, gathered, course, progress)
    classes = len(gathered.classes) + 1
    settings = Settings(
        folder=folder, digest=outputs.digest(identity), checkpoint_every=config.checkpoint_every
    )
    network = partial(
        build, course.model, classes=classes, channels=images.channels, image_size=max(images.size)
    )
    total, runs = course.recipe.epochs * len(course.rows), []
    for number, task in enumerate(_tasks(course, images, labels, classes), 1):
        progress.start(f"threshold run {number}/{len(course.sets)}", total, "images")
        runs.append(run(task, course.recipe, network, settings, progress=progress))
        progress.finish()
        if not runs[-1].history.trained(classes):
            raise DataError(
                f"The run with threshold samples, seed {task.seed}, learned nothing: its margins say nothing.",
                do="score again with a lower --lr",
                id="E-untrained",
            )
    index = gathered.table.integers("index")[gathered.ranked.rows]
    return Tested(
        margins=tuple(done.columns["aum"].astype(np.float64)[index] for done in runs),
        members=tuple(np.isin(index, chosen) for chosen in course.sets),
        percentile=config.percentile,
        accuracy=tuple(done.history.accuracy[-1] for done in runs),
        epochs=course.recipe.epochs,
        trained=sum(done.epochs_trained for done in runs),
    )


def _tasks(course: Course, images: Images, labels: NDArray[np.int64], classes: int) -> Iterator[Task]:
    """Yield the task of each run: its threshold samples are of the last class, which means nothing."""
    import torch  # noqa: PLC0415

    from dataset_audit.train.hold import normalisation  # noqa: PLC0415
    from dataset_audit.train.task import Task  # noqa: PLC0415

    mean, std = normalisation(course.recipe, images, course.rows, course.device)
    for seed, chosen in zip(course.seeds, course.sets, strict=True):
        changed = labels.copy()
        changed[chosen] = classes - 1
        yield Task(
            images=images,
            labels=torch.from_numpy(changed).to(course.device),
            rows=course.rows,
            classes=classes,
            seed=seed,
            device=course.device,
            precision=course.precision,
            mean=mean,
            std=std,
            compile=course.compile,
        )


def _held(
    config: Config, gathered: Gathered, course: Course, progress: Progress
) -> tuple[Images, NDArray[np.int64]]:
    """Return the images as they were scored, and the label of every example, int64[N]; 0 where it is not trained on."""
    from dataset_audit.train import device as machine  # noqa: PLC0415 - torch
    from dataset_audit.train.hold import Holding, hold  # noqa: PLC0415

    dataset = open_images(config, gathered)
    machine.prepare(course.device, allocator=config.allocator)
    table = gathered.table
    index = table.integers("index")
    left_out = np.zeros(len(dataset), dtype=bool)
    if table.has("status"):
        left_out[index[table.equals("status", "excluded")]] = True
    holding = Holding(
        size=course.image_size,
        work=config.checkpoint_dir or config.out.parent,
        memory=config.memory,
        workers=config.workers,
        exclude=left_out if left_out.any() else None,
    )
    images, scan = hold(dataset, holding, device=course.device, progress=progress)
    if scan.fingerprint != course.fingerprint:
        raise MismatchError(
            f"{config.scores} was made for other data than {dataset.spec} holds now: "
            f"fingerprint {course.fingerprint[:8]}, now {scan.fingerprint[:8]}.",
            do=f"audit forgetting {dataset.spec}, or --dataset with what was scored",
        )
    machine.suit_threads(course.recipe.batch_size * images.size[0] * images.size[1])
    labels = np.zeros(len(dataset), np.int64)
    labels[index[gathered.ranked.rows]] = gathered.labels
    return images, labels
