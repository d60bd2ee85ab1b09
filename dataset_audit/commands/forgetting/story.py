"""The command from beginning to end: open, plan, train, merge, write, report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dataset_audit.commands.forgetting.choices import Opened, Resolved, open_spec, read_images, resolve
from dataset_audit.commands.forgetting.config import Config
from dataset_audit.commands.forgetting.said import charts, class_table, lines
from dataset_audit.progress import Progress
from dataset_audit.report import charts as drawing
from dataset_audit.report.document import Output, Report, up_to_date
from dataset_audit.tables import files, outputs, sidecar, unfinished
from dataset_audit.tables.provenance import Provenance
from dataset_audit.tables.scores import ScoreTable

if TYPE_CHECKING:
    from dataset_audit.runs import Run

BYTES_PER_ROW = 400  # a row of scores.parquet and of two checkpoints, generously, for the check of free space


def run(config: Config, progress: Progress) -> Report:
    """Score every example of ``config.spec`` and write the table; or say what would be done, with ``dry_run``.

    Resumes an interrupted call of the same configuration, and does nothing when the finished table is there.

    Raises:
        UsageError: The request contradicts itself or an existing output.
        DataError: Too many unreadable images, fewer than two classes, a diverged run.
        EnvironmentProblem: Device, disk or memory.
    """
    files.check_writable(config.out)
    if config.charts is not None:
        drawing.available()
    dataset = open_spec(config)
    from dataset_audit.train import device as machine  # noqa: PLC0415 - torch
    from dataset_audit.train import distributed  # noqa: PLC0415

    world = distributed.world()
    device = machine.choose_device(config.device)
    machine.prepare(device, allocator=config.allocator)
    writes = world.first and not config.dry_run
    with files.locked(config.out) if writes else nullcontext():
        if writes:
            files.sweep(config.out, sidecar.sidecar_path(config.out))
        opened = read_images(config, dataset, device, progress)
        resolved = resolve(
            config, opened, device, machine.choose_precision(config.precision, device), world=world
        )
        world.agree(outputs.digest(resolved.identity))
        height, width = opened.images.size
        machine.suit_threads(resolved.recipe.batch_size * height * width)
        folder = unfinished.folder_of(config.out, config.checkpoint_dir)
        standing = world.once(
            lambda: outputs.standing(config.out, "scores", resolved.identity, force=config.force)
        )
        files.check_writable(config.out, need_bytes=len(opened.dataset) * BYTES_PER_ROW)
        progress.plan(_plan(config, opened, resolved, folder))
        if config.dry_run:
            return Report("forgetting", f"plan for {config.spec}", summary={"plan": resolved.identity})
        if standing == "finished":
            world.once(
                lambda: unfinished.release(folder, resolved.identity)
            )  # killed after its table was written
            return up_to_date(
                "forgetting", config.out, "the finished table has this configuration and data set"
            )
        world.once(lambda: unfinished.bind(folder, resolved.identity, force=config.force))
        began = monotonic()
        runs = _train(config, opened, resolved, folder, progress)
        if not world.first:
            return Report("forgetting", "done by the first process")
        report = _write(config, opened, resolved, runs, seconds=monotonic() - began)
        unfinished.release(folder, resolved.identity)
    return report


def _plan(config: Config, opened: Opened, resolved: Resolved, folder: Path) -> list[str]:
    from dataset_audit.train.batches import told  # noqa: PLC0415
    from dataset_audit.train.device import describe  # noqa: PLC0415

    dataset, chosen = opened.dataset, resolved.recipe
    height, width = opened.images.size
    changed = "".join(f" {key}*={value}" for key, value in config.overrides.items())
    first, last = resolved.seeds[0], resolved.seeds[-1]
    runs = f"1 run, seed {first}" if first == last else f"{len(resolved.seeds)} runs, seeds {first}-{last}"
    runs += f" · {resolved.division}" if resolved.division else ""
    skipped = sum(status != "ok" for status in opened.status)
    found = f"{config.spec} · {len(opened.rows):,} images to train on, {skipped:,} skipped"
    return [
        f"{found} · {len(dataset.class_names)} classes · fingerprint {opened.scan.fingerprint[:8]}",
        f"{resolved.model} · {chosen.name}{changed} · {chosen.epochs} epochs · batch {chosen.batch_size} · {runs}",
        f"{describe(resolved.device)} · {resolved.precision} · {height}x{width} · {told(opened.images)}",
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


def _train(config: Config, opened: Opened, resolved: Resolved, folder: Path, progress: Progress) -> list[Run]:
    """Train every seed: all processes share the examples of each, or, with as many seeds as processes, the seeds."""
    import torch  # noqa: PLC0415

    from dataset_audit.runs import Settings, finished, kept_at, run  # noqa: PLC0415
    from dataset_audit.train.distributed import awaited  # noqa: PLC0415
    from dataset_audit.train.hold import normalisation  # noqa: PLC0415
    from dataset_audit.train.models import build  # noqa: PLC0415
    from dataset_audit.train.task import Task  # noqa: PLC0415

    device, chosen, images = resolved.device, resolved.recipe, opened.images
    mean, std = normalisation(chosen, images, opened.rows, device)
    classes = len(opened.dataset.class_names)
    settings = Settings(
        folder=folder,
        digest=outputs.digest(resolved.identity),
        checkpoint_every=config.checkpoint_every,
        el2n_epochs=resolved.el2n_epochs,
        tdds=config.tdds,
    )
    task = Task(
        images=images,
        labels=torch.from_numpy(opened.labels.astype(np.int64)).to(device),
        rows=opened.rows,
        classes=classes,
        seed=config.seed,
        device=device,
        precision=resolved.precision,
        mean=mean,
        std=std,
        compile=config.compile,
        world=resolved.sharing,
    )
    presentations = chosen.epochs * len(opened.rows)
    dealing, many = resolved.dealing, len(resolved.seeds)
    timed = _Timed(progress, presentations * -(-many // dealing.size))
    runs: dict[int, Run] = {}
    for number in dealing.dealt("runs", many):
        progress.start(f"run {number + 1}/{many}", presentations, "images")
        network = lambda: build(  # noqa: E731 - built inside, after the seed of its weights is set
            resolved.model, classes=classes, channels=images.channels, image_size=max(images.size)
        )
        mine = replace(task, seed=resolved.seeds[number])
        runs[number] = run(mine, chosen, network, settings, progress=timed)  # type: ignore[arg-type]  # delegates the rest
        progress.finish()
    trained = dealing.collected({number: one.epochs_trained for number, one in runs.items()})
    for number, epochs in (pair for part in trained or [] for pair in part.items()):
        if number not in runs:
            seed = resolved.seeds[number]
            done = awaited(partial(finished, settings, seed), kept_at(settings, seed))
            runs[number] = replace(done, epochs_trained=epochs)
    for number, one in sorted(runs.items()):
        if not one.history.trained(classes):
            progress.warn(
                "W-untrained",
                f"seed {resolved.seeds[number]} learned nothing: its scores are noise; try a lower --lr",
            )
    return [runs[number] for number in sorted(runs)]


def _columns(
    opened: Opened, config: Config, merged: Mapping[str, NDArray[np.generic]]
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


def _figures(opened: Opened, resolved: Resolved, runs: list[Run]) -> dict[str, object]:
    return {
        "examples": len(opened.dataset),
        "presented": len(opened.rows),
        "skipped": len(opened.dataset) - len(opened.rows),
        "epochs": resolved.recipe.epochs,
        "runs": len(runs),
        "flipped_labels": int(opened.flipped.sum()),
        "train_accuracy": [run.history.accuracy[-1] for run in runs],
        "train_loss": [run.history.loss[-1] for run in runs],
    }


def _origin(config: Config, opened: Opened, resolved: Resolved) -> Provenance:
    return Provenance(
        spec=config.spec,
        fingerprint=opened.scan.fingerprint,
        n=len(opened.dataset),
        class_names=tuple(opened.dataset.class_names),
        config=resolved.identity,
        seeds=resolved.seeds,
        recommended=resolved.recommended,
        epochs={"el2n": list(resolved.el2n_epochs)} if resolved.el2n_epochs else {},
        opened={"split": config.split, "seed": config.seed, "background": list(config.background)},
    )


def _write(config: Config, opened: Opened, resolved: Resolved, runs: list[Run], *, seconds: float) -> Report:
    from dataset_audit.scores.merge import merge, summary  # noqa: PLC0415
    from dataset_audit.train.device import describe  # noqa: PLC0415

    dataset = opened.dataset
    per_run = [run.columns for run in runs]
    merged = merge(per_run, per_run=config.per_run)
    figures = summary(merged, per_run) | _figures(opened, resolved, runs)
    table = ScoreTable.of(_columns(opened, config, merged), _origin(config, opened, resolved))
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
            "trained": all(run.history.trained(len(dataset.class_names)) for run in runs),
            "recommended": resolved.recommended,
            "run": {
                "seconds": round(seconds, 1),
                "device": describe(resolved.device),
                "repeatable": resolved.device.type == "cpu",  # a GPU's kernels are chosen by timing them
            }
            | ({"processes": resolved.division} if resolved.division else {}),
        },
    )
    written = table.write(config.out, document=document)
    _draw(config, opened, resolved, table, written.sha256)
    return Report(
        command="forgetting",
        title=f"{config.spec} · {len(dataset):,} examples · "
        f"{len(runs)} run{'s' * (len(runs) > 1)} of {resolved.recipe.epochs} epochs",
        items=(*lines(figures, resolved), class_table(table, dataset.class_names)),
        summary=figures,
        outputs=(Output(str(config.out), len(table), written.size, written.sha256),),
        recomputed={"epochs_trained": sum(run.epochs_trained for run in runs)},
        next="audit prune --keep 0.7",
    )


def _draw(config: Config, opened: Opened, resolved: Resolved, table: ScoreTable, sha256: str) -> None:
    if config.charts is None:
        return
    caption = (
        f"{config.spec} · n = {len(opened.rows):,} · {resolved.model} · {resolved.recipe.name} · "
        f"{resolved.recipe.epochs} epochs · seeds {', '.join(map(str, resolved.seeds))} · "
        f"table {sha256[:8]}"
    )
    drawing.save(charts(table, opened), config.charts, prefix="forgetting", caption=caption)
