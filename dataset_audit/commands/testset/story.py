"""The command from beginning to end: gather, plan, look, train or not, compare, write, report."""

from __future__ import annotations

from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from dataset_audit.commands.testset import said
from dataset_audit.commands.testset.charts import charts
from dataset_audit.commands.testset.config import Config, Trained
from dataset_audit.commands.testset.findings import Findings
from dataset_audit.commands.testset.gather import OUTSIDE, Material, gather
from dataset_audit.commands.testset.pictures import NONE, Looked, Pictures, look, may_be_paired, needed, read
from dataset_audit.errors import DataError, GateFailed, MismatchError, UsageError
from dataset_audit.progress import Progress
from dataset_audit.report import charts as drawing
from dataset_audit.report.document import Output, Report, up_to_date
from dataset_audit.tables import files, outputs, sidecar, testset, unfinished
from dataset_audit.tables.testset import TestsetTable, classes_path
from dataset_audit.testset.compare import Exam
from dataset_audit.testset.near import Seen
from dataset_audit.train.models import check_known

if TYPE_CHECKING:
    from dataset_audit.commands.testset.learned import Course

BYTES_PER_ROW = 1000  # generously, for the check of free space
Ints = NDArray[np.int64]


def run(config: Config, progress: Progress) -> Report:
    """Compare two test sets by what models answer; or say what would be done, with ``dry_run``.

    Resumes interrupted trainings of the same configuration, and does nothing when the finished table is there.

    Raises:
        UsageError: The request contradicts itself or an existing output.
        MismatchError: Labels, images or models of the two sets do not belong together.
        DataError: Unreadable images, answers that are no classes, a diverged training.
        EnvironmentProblem: Disk, memory, device, or the extra for charts is missing.
    """
    files.check_writable(config.out)
    _check_classes(config.out)
    if config.charts is not None:
        drawing.available()
    material = gather(config)
    _check_overlap(config, material)
    progress.plan(_plan(config, material))
    if config.dry_run:
        names = " and ".join(side.name for side in material.sides)
        return Report("testset", f"plan for {names}", summary={"plan": _asked(config, material)})
    with files.locked(config.out):
        for table in (config.out, classes_path(config.out)):
            files.sweep(table, sidecar.sidecar_path(table))
        return _run(config, material, progress)


def _run(config: Config, material: Material, progress: Progress) -> Report:
    began = monotonic()
    pictures, chosen = _pictures(config, material, progress)
    identity = {**_asked(config, material), "images": pictures.fingerprint()}
    if chosen is not None:
        identity |= chosen.identity()
    folder = unfinished.folder_of(config.out, config.checkpoint_dir)
    if _finished(config, identity):
        unfinished.release(folder, identity)  # killed after its table was written
        again = "; --force compares again and draws the charts" * (config.charts is not None)
        return up_to_date(
            "testset", config.out, "the finished table has these sets, answers and options" + again
        )
    columns = len(config.models or material.models)
    files.check_writable(config.out, need_bytes=columns * (1 + len(material.classes)) * BYTES_PER_ROW)
    looked = look(config, material, pictures, progress) if pictures.sides != (None, None) else _blind(config)
    _warn(config, material, looked, progress)
    trained = 0
    if chosen is None:
        predicted, models = material.predicted, material.models
    else:
        from dataset_audit.commands.testset.learned import answers  # noqa: PLC0415 - torch

        unfinished.bind(folder, identity, force=config.force)
        models = tuple(config.models)
        predicted, trained = answers(config, material, pictures, chosen, (folder, identity), progress)
    if predicted is None:
        raise UsageError("There are no answers.", do="--models or --predictions")
    findings = Findings(
        names=(material.sides[0].name, material.sides[1].name),
        exams=_exams(material, pictures, looked, predicted, progress),
        models=models,
        classes=material.classes,
        paired=looked.paired,
        seen=_kept_seen(material, pictures, looked),
        searched=looked.searched,
        shared=looked.shared,
        selections=config.selections,
        delta=None if config.delta is None else config.delta / 100,
        ladder=config.ladder,
        seed=config.seed,
    )
    report = _write(config, material, findings, identity, (trained, monotonic() - began))
    if chosen is not None:
        unfinished.release(folder, identity)
    return report


def _check_classes(out: Path) -> None:
    if testset.foreign_classes(out):
        raise UsageError(
            f"{classes_path(out)} exists and is no table of classes of audit; it is never overwritten.",
            do="--out with another name",
        )


def _finished(config: Config, identity: dict[str, object]) -> bool:
    """Return whether table, sidecar and table of classes are there and of this configuration."""
    if outputs.standing(config.out, "testset", identity, force=config.force) != "finished":
        return False
    stated = sidecar.read(config.out).get("classes")
    digest = stated.get("sha256") if isinstance(stated, dict) else None
    return testset.standing_classes(config.out, stated=digest if isinstance(digest, str) else None)


def _pictures(config: Config, material: Material, progress: Progress) -> tuple[Pictures, Course | None]:
    """Read the images that are needed, and settle how models are trained, if any are."""
    if not needed(config, material):
        return NONE, None
    from dataset_audit.train import device as machine  # noqa: PLC0415 - torch

    for text in config.models:  # before any image is read
        check_known(Trained.parse(text).model)
    device = machine.choose_device(config.device if config.models else "cpu")
    machine.prepare(device, allocator=config.allocator)
    pictures = read(config, material, device, progress)
    if not config.models:
        return pictures, None
    from dataset_audit.commands.testset.learned import course  # noqa: PLC0415

    chosen = course(config, material, pictures, device)
    height, width = chosen.size
    machine.suit_threads(chosen.recipe.batch_size * height * width)
    return pictures, chosen


def _blind(config: Config) -> Looked:
    return Looked(paired=bool(config.paired), seen=(None, None), shared=None, searched=False)


def _check_overlap(config: Config, material: Material) -> None:
    """Refuse pairs that cannot be pairs.

    Raises:
        MismatchError: ``--paired`` was said of sets whose labels differ.
    """
    if not config.paired or may_be_paired(material):
        return
    first, second = (side.label for side in material.sides)
    if len(first) != len(second):
        what = f"{len(first):,} and {len(second):,} images"
    else:
        row = int(np.flatnonzero(first != second)[0])
        names = [
            material.classes[int(label)] if label >= 0 else "none" for label in (first[row], second[row])
        ]
        what = f"image {row} is {names[0]} in one and {names[1]} in the other"
    raise MismatchError(
        f"--paired: the sets are not the same images: {what}.",
        do="the same images in the same order, or without --paired",
        id="E-paired",
    )


def _warn(config: Config, material: Material, looked: Looked, progress: Progress) -> None:
    if config.paired is None and looked.seen == (None, None) and may_be_paired(material):
        progress.warn(
            "W-paired",
            "both sets have the same labels in the same order: if they are the same images, say --paired",
        )
    for side in material.sides:
        held = np.unique(side.label[side.label >= 0])
        absent = [name for place, name in enumerate(material.classes) if place not in held]
        if absent:
            named = ", ".join(absent[:5]) + (f" and {len(absent) - 5:,} more" if len(absent) > 5 else "")
            progress.warn("W-class-missing", f"{side.name} has no image of {named}: no gap there")


def _rows(
    material: Material, pictures: Pictures, *, paired: bool
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Return which images of each set count: labelled and, where images were read, readable."""
    found = []
    for side, held in zip(material.sides, pictures.sides, strict=True):
        found.append((side.label >= 0) & (True if held is None else held.ok))
    if paired:
        both = found[0] & found[1]
        return both, both
    return found[0], found[1]


def _exams(
    material: Material, pictures: Pictures, looked: Looked, predicted: tuple[Ints, Ints], progress: Progress
) -> tuple[Exam, Exam]:
    rows = _rows(material, pictures, paired=looked.paired)
    found = []
    for side, keep, answer, seen in zip(material.sides, rows, predicted, looked.seen, strict=True):
        left = int((side.label < 0).sum())
        if left:
            progress.warn("W-unlabelled", f"{side.name}: {left:,} images without label are left out")
        outside = int((answer[keep] == OUTSIDE).sum())
        if outside:
            progress.warn(
                "W-outside",
                f"{side.name}: {outside:,} answers are classes that the labels never name; counted as wrong",
            )
        if not keep.any():
            raise DataError(f"{side.name} has no image left to compare.", where=side.spec, id="E-few")
        found.append(
            Exam(
                name=side.name,
                label=side.label[keep],
                predicted=answer[keep],
                cluster=np.arange(len(side.label))[keep] if seen is None else seen.cluster[keep],
                dropped=seen.dropped[keep] if seen is not None and looked.searched else None,
            )
        )
    return found[0], found[1]


def _kept_seen(material: Material, pictures: Pictures, looked: Looked) -> tuple[Seen | None, Seen | None]:
    """Return what was seen of the images that count."""
    rows = _rows(material, pictures, paired=looked.paired)
    first, second = (
        None if seen is None else seen.only(keep) for seen, keep in zip(looked.seen, rows, strict=True)
    )
    return first, second


def _asked(config: Config, material: Material) -> dict[str, object]:
    """Return every setting that decides the bytes of the table."""
    first, second = material.sides
    return {
        "original": {"name": first.name, "labels": first.fingerprint},
        "new": {"name": second.name, "labels": second.fingerprint},
        "train": config.train,
        "predictions": sorted(material.inputs.values()) if material.predicted is not None else None,
        "models": list(config.models or material.models),
        "paired": config.paired,
        "selections": config.selections,
        "delta": config.delta,
        "ladder": config.ladder,
        "seed": config.seed,
    }


def _plan(config: Config, material: Material) -> list[str]:
    first, second = material.sides
    sets = " · ".join(f"{side.name} {len(side.label):,} images" for side in (first, second))
    train = f" · trained on {config.train}" if config.train and config.models else ""
    lookup = f" · looked up in {config.train}" if config.train and not config.models else ""
    models = config.models or material.models
    listed = ", ".join(models[:6]) + (f" and {len(models) - 6:,} more" if len(models) > 6 else "")
    return [
        f"original {sets.replace(' · ', ' · new ', 1)} · {len(material.classes):,} classes matched by name",
        f"{len(models):,} models: {listed}{train}{lookup}",
        f"writes {config.out}, {classes_path(config.out)}, {sidecar.sidecar_path(config.out)}",
    ]


def _write(
    config: Config,
    material: Material,
    findings: Findings,
    identity: dict[str, object],
    done: tuple[int, float],
) -> Report:
    trained, seconds = done
    table = TestsetTable.of(list(findings.model_rows()), list(findings.class_rows()), identity)
    summary = findings.summary()
    document = sidecar.document(
        "testset",
        config.out,
        rows=len(table),
        config=identity,
        facts={
            "command": list(config.command),
            "dataset": {
                "original": {"spec": config.original, "n": findings.sizes[0]},
                "new": {"spec": config.new, "n": findings.sizes[1]},
                "train": config.train,
                "classes": list(material.classes),
            },
            "seeds": [config.seed],
            "summary": summary,
            "inputs": [{"path": path, "sha256": digest} for path, digest in material.inputs.items()],
            "run": {"seconds": round(seconds, 1)},
        },
    )
    written = table.write(config.out, document=document)
    if config.charts is not None:
        n = " and ".join(f"{size:,}" for size in findings.sizes)
        caption = (
            f"{' and '.join(findings.names)} · n = {n} · {len(findings.models):,} models · seed {config.seed} · "
            f"table {written.sha256[:8]}"
        )
        drawing.save(charts(findings), config.charts, prefix="testset", caption=caption)
    return Report(
        command="testset",
        title=f"{findings.names[1]} ({findings.sizes[1]:,}) against {findings.names[0]} ({findings.sizes[0]:,}) · "
        f"{len(findings.models):,} model{'s' * (len(findings.models) != 1)}"
        + " · the same images"
        * findings.paired,
        items=said.items(findings),
        summary=summary,
        outputs=(Output(str(config.out), len(table), written.size, written.sha256),),
        recomputed={"epochs_trained": trained} if config.models else {},
        gate=_gate(config, findings),
    )


def _gate(config: Config, findings: Findings) -> GateFailed | None:
    """Return the gate if it failed; both sets have an image, so there is always a gap."""
    gap = findings.gap
    if config.fail_gap is None or 100 * gap.value <= config.fail_gap:
        return None
    return GateFailed(
        f"The gap is {said.points(gap.value)} points [{said.points(gap.low)}, {said.points(gap.high)}], "
        f"more than {config.fail_gap:g}.",
        where=f"{findings.names[1]} against {findings.names[0]}, mean of {len(findings.models):,} models",
    )
