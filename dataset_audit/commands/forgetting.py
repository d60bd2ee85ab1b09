"""``audit forgetting``: train with a recorder watching, and write one row of scores per example."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field
from fnmatch import fnmatch
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dataset_audit.errors import DataError, UsageError
from dataset_audit.progress import Progress
from dataset_audit.report.document import Line, Note, Output, Report, Table
from dataset_audit.tables import files, outputs, sidecar
from dataset_audit.tables.scores import Provenance, ScoreTable
from dataset_audit.train.models import MODELS, check_name
from dataset_audit.train.recipes import Recipe, agreement, recipe

if TYPE_CHECKING:
    import torch

    from dataset_audit.images.dataset import ImageDataset
    from dataset_audit.images.scan import Scan
    from dataset_audit.runs import Run
    from dataset_audit.train.batches import Images

ENOUGH_EPOCHS = 30  # a shorter run has too few forgetting events to rank by
SMALL = 96  # pixels; the CIFAR protocol is meant for images up to about this size
BYTES_PER_ROW = 400  # a row of scores.parquet and of two checkpoints, generously, for the check of free space


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
    el2n_epochs: tuple[int, ...] = ()
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
            "--el2n-epochs: epochs are counted from 1": all(epoch >= 1 for epoch in self.el2n_epochs),
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


@dataclass(frozen=True)
class _Opened:
    """The data set after its one pass: what was found, the pixels, the labels to train on."""

    dataset: ImageDataset
    scan: Scan
    images: Images
    status: list[str]
    labels: NDArray[np.int32]
    flipped: NDArray[np.bool_]
    rows: NDArray[np.int64]


@dataclass(frozen=True)
class _Resolved:
    """Every choice made: what decides the bytes of the table, and how it is said."""

    recipe: Recipe
    model: str
    precision: Literal["bf16", "fp32"]
    device: torch.device
    seeds: tuple[int, ...]
    identity: dict[str, object]
    recommended: dict[str, object]


def run(config: Config, progress: Progress) -> Report:
    """Score every example of ``config.spec`` and write the table; or say what would be done, with ``dry_run``.

    Resumes an interrupted call of the same configuration, and does nothing when the finished table is there.

    Raises:
        UsageError: The request contradicts itself or an existing output.
        DataError: Too many unreadable images, fewer than two classes, a diverged run.
        EnvironmentProblem: Device, disk or memory.
    """
    files.check_writable(config.out)
    from dataset_audit.train.device import choose_device, choose_precision, prepare  # noqa: PLC0415 - torch

    device = choose_device(config.device)
    prepare(device, allocator=config.allocator)
    with nullcontext() if config.dry_run else files.locked(config.out):
        if not config.dry_run:
            files.sweep(config.out, sidecar.sidecar_path(config.out))
        opened = _open(config, device, progress)
        resolved = _resolve(config, opened, device, choose_precision(config.precision, device))
        folder = (config.checkpoint_dir or config.out.parent) / f".{config.out.name}.runs"
        standing = outputs.standing(config.out, "scores", resolved.identity, force=config.force)
        files.check_writable(config.out, need_bytes=len(opened.dataset) * BYTES_PER_ROW)
        progress.plan(_plan(config, opened, resolved, folder))
        if config.dry_run:
            return Report("forgetting", f"plan for {config.spec}", summary={"plan": resolved.identity})
        if standing == "finished":
            outputs.release(folder, resolved.identity)  # killed after its table was written
            return Report(
                "forgetting",
                f"{config.out} is up to date",
                items=(Note("nothing to do: the finished table has this configuration and data set"),),
                summary={"nothing_to_do": True},
            )
        outputs.bind(folder, resolved.identity, force=config.force)
        began = monotonic()
        runs = _train(config, opened, resolved, folder, progress)
        report = _write(config, opened, resolved, runs, seconds=monotonic() - began)
        outputs.release(folder, resolved.identity)
    return report


def _open(config: Config, device: torch.device, progress: Progress) -> _Opened:
    from dataset_audit.images.dataset import open_dataset  # noqa: PLC0415
    from dataset_audit.images.decode import Limits  # noqa: PLC0415
    from dataset_audit.images.labels import flip_labels  # noqa: PLC0415
    from dataset_audit.images.scan import check_skipped  # noqa: PLC0415
    from dataset_audit.train.hold import Holding, hold  # noqa: PLC0415

    limits = Limits(
        max_pixels=config.max_pixels, max_file_bytes=config.max_file_bytes, background=config.background
    )
    dataset = open_dataset(
        config.spec,
        data_root=config.data_root,
        download=config.download,
        split=config.split,
        seed=config.seed,
        limits=limits,
    )
    for id_, text in dataset.warnings:
        progress.warn(id_, text)
    holding = Holding(
        size=(config.image_size, config.image_size) if config.image_size else None,
        resident=config.resident,
        memory=config.memory,
        workers=config.workers,
        exclude=_excluded(dataset, config.exclude),
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
    return _Opened(dataset, scan, images, status, labels, flipped, rows)


def _excluded(dataset: ImageDataset, patterns: tuple[str, ...]) -> NDArray[np.bool_] | None:
    """Return which rows a pattern names; None where nothing is excluded."""
    if not patterns:
        return None
    if dataset.file_names is None:
        raise UsageError("--exclude names files; this data set is an array.", do="leave --exclude out")
    found = np.array([any(fnmatch(name, pattern) for pattern in patterns) for name in dataset.file_names])
    if not found.any():
        raise UsageError(
            f"--exclude {', '.join(patterns)} matches no file.", do="patterns are relative to the data set"
        )
    return found


def default_choice(size: tuple[int, int], channels: int, *, gpu: bool) -> tuple[str, str]:
    """Return the (recipe, model) used when none is named.

    MNIST-like images get Toneva's MNIST protocol, other grey ones a short run without augmentation. Colour images
    get the full CIFAR protocol on a GPU and the short one with the small network on a CPU, where the full one
    would take days.
    """
    if channels == 1:
        return ("toneva-mnist", "mnist-net") if size == (28, 28) else ("fast-plain", "small")
    if not gpu:
        return "fast", "small"
    return ("toneva-cifar", "resnet18") if max(size) <= SMALL else ("fast", "timm/resnet18")


def _resolve(
    config: Config, opened: _Opened, device: torch.device, precision: Literal["bf16", "fp32"]
) -> _Resolved:
    names = default_choice(opened.images.size, opened.images.channels, gpu=device.type == "cuda")
    chosen = recipe(config.recipe or names[0], config.overrides)
    if not config.augment:
        chosen = recipe(chosen.name, {**config.overrides, "crop_padding": "0", "flip": "false"})
    model = config.model or (
        names[1] if config.recipe in {None, names[0]} else _model_for(chosen.name, names[1])
    )
    beyond = [epoch for epoch in config.el2n_epochs if epoch > chosen.epochs]
    if beyond:
        raise UsageError(f"--el2n-epochs {beyond[0]} is past the last epoch, {chosen.epochs}.")
    run_seeds = tuple(config.seed + run for run in range(config.seeds))
    identity: dict[str, object] = {
        "recipe": {
            key: list(value) if isinstance(value, tuple) else value for key, value in asdict(chosen).items()
        },
        "model": model,
        "seeds": list(run_seeds),
        "label_noise": config.label_noise,
        "el2n_epochs": list(config.el2n_epochs),
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
    by = "forgetting" if chosen.epochs >= ENOUGH_EPOCHS else "aum"
    return _Resolved(
        chosen,
        model,
        precision,
        device,
        run_seeds,
        identity,
        {"by": by, **agreement(chosen.name, model, chosen.epochs)},
    )


def _model_for(recipe_name: str, otherwise: str) -> str:
    return {
        "toneva-cifar": "resnet18",
        "toneva-mnist": "mnist-net",
        "fast": "small",
        "fast-plain": "small",
    }.get(recipe_name, otherwise)


def _plan(config: Config, opened: _Opened, resolved: _Resolved, folder: Path) -> list[str]:
    from dataset_audit.train.batches import Resident  # noqa: PLC0415
    from dataset_audit.train.device import describe  # noqa: PLC0415

    dataset, chosen = opened.dataset, resolved.recipe
    height, width = opened.images.size
    changed = "".join(f" {key}*={value}" for key, value in config.overrides.items())
    size = len(dataset) * height * width * opened.images.channels
    held = f"resident {size / 1e6:,.0f} MB" if isinstance(opened.images, Resident) else "streamed from files"
    first, last = resolved.seeds[0], resolved.seeds[-1]
    runs = f"1 run, seed {first}" if first == last else f"{len(resolved.seeds)} runs, seeds {first}-{last}"
    skipped = sum(status != "ok" for status in opened.status)
    found = f"{config.spec} · {len(opened.rows):,} images to train on, {skipped:,} skipped"
    return [
        f"{found} · {len(dataset.class_names)} classes · fingerprint {opened.scan.fingerprint[:8]}",
        f"{resolved.model} · {chosen.name}{changed} · {chosen.epochs} epochs · batch {chosen.batch_size} · {runs}",
        f"{describe(resolved.device)} · {resolved.precision} · {height}x{width} · {held}",
        f"writes {config.out}, {sidecar.sidecar_path(config.out)} · unfinished work in {folder}",
    ]


class _Timed:
    """Passes progress on and says, once, how long all runs will take, from the pace after the first steps."""

    WARM, MEASURED = 3.0, 8.0  # seconds: the first steps also pay for set-up

    def __init__(self, progress: Progress, total: int) -> None:
        self._progress, self._total = progress, total
        self._began = self._since = 0.0
        self._at = -1
        self._said = False

    def advance(self, done: int, **figures: float | str) -> None:
        self._progress.advance(done, **figures)
        if self._said:
            return
        now = monotonic()
        if not self._began or done < self._at:  # the first call, or the next run has begun
            self._began, self._at = now, -1
        elif self._at < 0 and now - self._began > self.WARM:
            self._since, self._at = now, done
        elif self._at >= 0 and now - self._since > self.MEASURED:
            self._said = True
            seconds = (now - self._since) / max(1, done - self._at) * self._total
            if seconds > 60:
                self._progress.note(
                    f"about {seconds / 60:,.0f} min for all runs, at the pace of the first steps"
                )

    def __getattr__(self, name: str) -> object:
        return getattr(self._progress, name)


def _train(
    config: Config, opened: _Opened, resolved: _Resolved, folder: Path, progress: Progress
) -> list[Run]:
    import torch  # noqa: PLC0415

    from dataset_audit.runs import Settings, run  # noqa: PLC0415
    from dataset_audit.train.fit import Task  # noqa: PLC0415
    from dataset_audit.train.hold import statistics  # noqa: PLC0415
    from dataset_audit.train.models import build  # noqa: PLC0415

    device, chosen, images = resolved.device, resolved.recipe, opened.images
    if len(chosen.mean) == images.channels:
        mean, std = torch.tensor(chosen.mean), torch.tensor(chosen.std)
    else:
        mean, std = statistics(images, opened.rows)
    labels = torch.from_numpy(opened.labels.astype(np.int64)).to(device)
    classes = len(opened.dataset.class_names)
    settings = Settings(
        folder=folder,
        digest=outputs.digest(resolved.identity),
        checkpoint_every=config.checkpoint_every,
        el2n_epochs=config.el2n_epochs,
        tdds=config.tdds,
    )
    presentations = chosen.epochs * len(opened.rows)
    timed = _Timed(progress, presentations * len(resolved.seeds))
    finished = []
    for number, seed in enumerate(resolved.seeds):
        task = Task(
            images=images,
            labels=labels,
            rows=opened.rows,
            classes=classes,
            seed=seed,
            device=device,
            precision=resolved.precision,
            mean=mean.to(device),
            std=std.to(device),
            compile=config.compile,
        )
        progress.start(f"run {number + 1}/{len(resolved.seeds)}", presentations, "images")
        network = lambda: build(  # noqa: E731 - built inside, after the seed of its weights is set
            resolved.model, classes=classes, channels=images.channels, image_size=max(images.size)
        )
        finished.append(run(task, chosen, network, settings, progress=timed))  # type: ignore[arg-type]  # delegates the rest
        progress.finish()
        if not finished[-1].history.trained(classes):
            progress.warn(
                "W-untrained", f"seed {seed} learned nothing: its scores are noise; try a lower --lr"
            )
    return finished


def _columns(
    opened: _Opened, config: Config, merged: Mapping[str, NDArray[np.generic]]
) -> dict[str, ArrayLike | Sequence[str | None]]:
    dataset, scan = opened.dataset, opened.scan
    n = len(dataset)
    unlabelled = opened.labels < 0
    columns: dict[str, ArrayLike | Sequence[str | None]] = {
        "index": np.arange(n, dtype=np.int64),
        "uid": scan.uid,
        "file_name": list(dataset.file_names) if dataset.file_names is not None else [None] * n,
        "label": np.ma.masked_array(opened.labels, mask=unlabelled),
        "class_name": [None if label < 0 else dataset.class_names[label] for label in opened.labels],
        "split": list(dataset.split) if dataset.split is not None else [None] * n,
        "status": opened.status,
        "error": scan.error,
    }
    if dataset.escaped is not None and dataset.escaped.any():
        columns["file_name_escaped"] = dataset.escaped
    if config.label_noise:
        columns["clean_label"] = np.ma.masked_array(
            np.asarray(dataset.labels, dtype=np.int32), mask=unlabelled
        )
    return columns | dict(merged)


def _write(
    config: Config, opened: _Opened, resolved: _Resolved, runs: list[Run], *, seconds: float
) -> Report:
    from dataset_audit.scores.merge import merge, summary  # noqa: PLC0415
    from dataset_audit.train.device import describe  # noqa: PLC0415

    dataset = opened.dataset
    per_run = [run.columns for run in runs]
    merged = merge(per_run, per_run=config.per_run)
    figures = summary(merged, per_run)
    classes = len(dataset.class_names)
    trained = all(run.history.trained(classes) for run in runs)
    figures |= {
        "examples": len(dataset),
        "presented": len(opened.rows),
        "skipped": len(dataset) - len(opened.rows),
        "epochs": resolved.recipe.epochs,
        "runs": len(runs),
        "flipped_labels": int(opened.flipped.sum()),
        "train_accuracy": [run.history.accuracy[-1] for run in runs],
        "train_loss": [run.history.loss[-1] for run in runs],
    }
    provenance = Provenance(
        spec=config.spec,
        fingerprint=opened.scan.fingerprint,
        n=len(dataset),
        class_names=tuple(dataset.class_names),
        config=resolved.identity,
        seeds=resolved.seeds,
        recommended=resolved.recommended,
        epochs={"el2n": list(config.el2n_epochs)} if config.el2n_epochs else {},
        opened={"split": config.split, "seed": config.seed, "background": list(config.background)},
    )
    table = ScoreTable.of(_columns(opened, config, merged), provenance)
    document = sidecar.document(
        "scores",
        config.out,
        rows=len(table),
        config=resolved.identity,
        facts={
            "command": list(config.command),
            "dataset": {
                "spec": config.spec,
                "fingerprint": opened.scan.fingerprint,
                "n": len(dataset),
                "classes": list(dataset.class_names),
                "skipped": figures["skipped"],
            },
            "seeds": list(resolved.seeds),
            "summary": figures,
            "trained": trained,
            "recommended": resolved.recommended,
            "run": {"seconds": round(seconds, 1), "device": describe(resolved.device)},
        },
    )
    written = table.write(config.out, document=document)
    return Report(
        command="forgetting",
        title=f"{config.spec} · {len(dataset):,} examples · {len(runs)} runs of {resolved.recipe.epochs} epochs",
        items=(*_lines(figures, resolved), _classes(table, dataset)),
        summary=figures,
        outputs=(Output(str(config.out), len(table), written.size, written.sha256),),
        recomputed={"epochs_trained": sum(run.epochs_trained for run in runs)},
        next="audit prune --keep 0.7",
    )


def _lines(figures: Mapping[str, object], resolved: _Resolved) -> tuple[Line | Note, ...]:
    runs = len(resolved.seeds)
    every = "in the run" if runs == 1 else f"in all {runs} runs"
    lines: list[Line | Note] = []
    for label, key in (("unforgettable", "unforgettable"), ("never learned", "never_learned")):
        count, share = int(figures[f"{key}_count"]), float(figures[f"{key}_all_runs"])  # type: ignore[call-overload,arg-type]
        cells = [every, f"{count:,}", f"{share:.1%}"]
        if runs > 1:
            each = figures[f"{key}_per_run"]
            cells += ["per run", f"{min(each):.1%} to {max(each):.1%}"]  # type: ignore[call-overload]
        lines.append(Line(label, tuple(cells)))
    lines.append(
        Line(
            "forgetting events",
            (
                f"{figures['tie_share_zero']:.1%} tie at zero",
                f"mean {figures['events_mean']:.2f}",
                f"highest {figures['events_max']:g}",
            ),
        )
    )
    if runs > 1:
        agreements = [
            f"{name} Pearson {_known(figures[f'pearson_{name}'])} Spearman {_known(figures[f'spearman_{name}'])}"
            for name in ("forgetting", "aum")
        ]
        lines.append(Line("between seeds", tuple(agreements)))
    else:
        lines.append(Line("between seeds", ("not known from one run; --seeds 3 measures it",)))
    by, measured = resolved.recommended["by"], resolved.recommended.get("agreement")
    why = "30 epochs or more" if by == "forgetting" else "fewer than 30 epochs give too few events to rank by"
    if measured is not None:
        why += f"; its Spearman agreement with {resolved.recommended['with']} is {measured:.2f}"
    lines.append(Line("rank by", (str(by), why)))
    return tuple(lines)


def _known(figure: object) -> str:
    """Return a correlation with two digits; it is undefined where every example has the same value."""
    return f"{figure:.2f}" if isinstance(figure, float) else "undefined"


def _classes(table: ScoreTable, dataset: ImageDataset) -> Table:
    """Return one row per class, the class with the fewest unforgettable examples first."""
    labels = table.integers("label")
    presented = table.integers("presentations") > 0
    unforgettable, never = table.flags("unforgettable"), table.flags("never_learned")
    events, aum = table.floats("forgetting_events"), table.floats("aum")
    rows = []
    for label, name in enumerate(dataset.class_names):
        mine = presented & (labels == label)
        if mine.any():
            rows.append(
                (
                    float(unforgettable[mine].mean()),
                    (
                        name,
                        f"{mine.sum():,}",
                        f"{unforgettable[mine].mean():.1%}",
                        f"{never[mine].mean():.1%}",
                        f"{events[mine].mean():.2f}",
                        f"{aum[mine].mean():.2f}",
                    ),
                )
            )
    rows.sort(key=lambda row: row[0])
    return Table(
        columns=("class", "examples", "unforgettable", "never learned", "events", "aum"),
        rows=tuple(cells for _, cells in rows),
        left=("class",),
    )
