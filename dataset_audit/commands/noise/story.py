"""The command from beginning to end: read, plan, perhaps train with threshold samples, measure, write, report."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from time import monotonic

import numpy as np
from numpy.typing import NDArray

from dataset_audit.commands.noise import said, thresholds
from dataset_audit.commands.noise.charts import charts
from dataset_audit.commands.noise.config import Config
from dataset_audit.commands.noise.findings import Findings
from dataset_audit.commands.noise.gather import Gathered, gather
from dataset_audit.errors import AuditError, GateFailed, UsageError
from dataset_audit.progress import Progress
from dataset_audit.report import charts as drawing
from dataset_audit.report.document import Output, Report, up_to_date
from dataset_audit.tables import files, outputs, sidecar, unfinished
from dataset_audit.tables.noise import NoiseTable
from dataset_audit.tables.provenance import Provenance

BYTES_PER_ROW = 200  # generously, for the check of free space


def run(config: Config, progress: Progress) -> Report:
    """Rank every scored example by how suspicious its label is and write the table; with ``dry_run`` only plan.

    From the scores alone this reads no image and trains nothing. Threshold samples train twice; that work resumes.

    Raises:
        UsageError: A contradictory request, or a score that finds no wrong labels.
        MismatchError: Files of another data set.
        DataError: Bad bytes.
        EnvironmentProblem: The table could not be written, or the extra for charts is missing.
    """
    files.check_writable(config.out)
    if config.charts is not None:
        drawing.available()
    _spare_inputs(config)
    gathered = gather(config, progress)
    course = thresholds.plan(config, gathered, progress) if config.threshold_samples else None
    identity = _identity(config, gathered)
    if course is not None:
        identity["threshold_samples"] = course.identity(config.percentile)
    folder = unfinished.folder_of(config.out, config.checkpoint_dir)
    progress.plan(_plan(config, gathered, course, folder))
    if config.dry_run:
        return Report("noise", f"plan for {config.scores}", summary={"plan": identity})
    with files.locked(config.out):
        files.sweep(config.out, sidecar.sidecar_path(config.out))
        if outputs.standing(config.out, "noise", identity, force=config.force) == "finished":
            unfinished.release(folder, identity)  # killed after its table was written
            return _nothing_to_do(config)
        files.check_writable(config.out, need_bytes=len(gathered.table) * BYTES_PER_ROW)
        began = monotonic()
        tested = None
        if course is not None:
            unfinished.bind(folder, identity, force=config.force)
            tested = thresholds.measure(config, gathered, course, folder, identity, progress)
        findings = Findings.of(gathered, tested, top=config.top, seed=config.seed)
        report = _write(config, findings, identity, progress=progress, began=began)
        unfinished.release(folder, identity)
        return report


def _spare_inputs(config: Config) -> None:
    given = (config.scores, sidecar.sidecar_path(config.scores), config.clean_labels, config.predictions)
    for output in (config.out, sidecar.sidecar_path(config.out)):
        for path in filter(None, given):
            if output.exists() and path.exists() and output.samefile(path):
                raise UsageError(
                    f"{output} is an input; an input is never overwritten.", do="--out with another name"
                )


def _identity(config: Config, gathered: Gathered) -> dict[str, object]:
    """Return every setting that decides the bytes of the table."""

    def digest(path: Path | None) -> str | None:
        return None if path is None else files.sha256_file(path)

    return {
        "scores_sha256": digest(config.scores),
        "by": list(gathered.ranked.by),
        "hard": list(gathered.ranked.candidates.hard),
        "clean_labels_sha256": digest(config.clean_labels),
        "clean_column": config.clean_column,
        "predictions_sha256": digest(config.predictions),
        "seed": config.seed,
    }


def _plan(config: Config, gathered: Gathered, course: thresholds.Course | None, folder: Path) -> list[str]:
    lines = [
        f"{config.scores} · {gathered.spec or 'foreign table'} · {len(gathered.ranked.rows):,} examples to rank by "
        + ", ".join(gathered.ranked.by)
    ]
    given = [str(path) for path in (config.clean_labels, config.predictions) if path is not None]
    if given:
        lines.append("beside it " + ", ".join(given))
    writes = f"writes {config.out}, {sidecar.sidecar_path(config.out)}"
    if course is not None:
        lines += thresholds.describe(course)
        writes += f" · unfinished work in {folder}"
    return [*lines, writes]


def _nothing_to_do(config: Config) -> Report:
    """Return the report of a table that is there; a gate is measured on what its sidecar states."""
    extra = "; --force measures again and draws the charts" * (config.charts is not None)
    threshold = None
    summary = sidecar.read(config.out).get("summary")
    if isinstance(summary, Mapping):
        threshold = summary.get("threshold")
    share = threshold.get("flagged_share") if isinstance(threshold, Mapping) else None
    return replace(
        up_to_date("noise", config.out, "the finished table has these scores and options" + extra),
        summary={"nothing_to_do": True, "threshold": threshold},
        gate=_gate(config, share if isinstance(share, float) else None),
    )


def _gate(config: Config, share: float | None) -> GateFailed | None:
    if config.fail_above is None or share is None or share <= config.fail_above:
        return None
    return GateFailed(
        f"{said.percent(share)} of the labels are flagged, {said.percent(config.fail_above)} are allowed.",
        where=str(config.out),
        do="look at the flagged examples, or a higher --fail-above",
    )


def _columns(findings: Findings) -> dict[str, NDArray[np.generic]]:
    """Return the columns of the table, one entry per row of the scores; masked where a row is not ranked."""
    gathered, n = findings.gathered, len(findings.gathered.table)
    rows = gathered.ranked.rows

    def spread(values: NDArray[np.generic]) -> NDArray[np.generic]:
        made: NDArray[np.generic] = np.ma.masked_array(np.zeros(n, dtype=values.dtype), mask=True)
        made[rows] = values
        return made

    made: dict[str, NDArray[np.generic]] = {
        "suspicion": gathered.suspicion.value.astype(np.float32),
        "rank": gathered.suspicion.rank,
    }
    if findings.tested is not None:
        made |= {"flagged": findings.tested.flagged, "threshold_share": findings.tested.share}
    else:
        made["flagged"] = np.ma.masked_array(np.zeros(len(rows), dtype=bool), mask=True)
    made |= gathered.quality
    if gathered.suggested is not None:
        made["suggested_label"] = np.ma.masked_less(gathered.suggested, 0)
    if findings.wrong is not None:
        made["known_wrong"] = findings.wrong
    return {name: spread(values) for name, values in made.items()}


def _draw(config: Config, findings: Findings, sha256: str, progress: Progress) -> None:
    """Draw what is known; the contact sheet needs the images, everything else does not."""
    if config.charts is None:
        return
    dataset = None
    try:
        dataset = thresholds.open_images(config, findings.gathered)
    except AuditError as error:
        progress.warn("W-no-images", f"no contact sheet: {error.what} --dataset says where the images are")
    origin = findings.gathered.table.provenance
    seeds = ", ".join(map(str, origin.seeds)) if origin is not None and origin.seeds else "unknown"
    caption = (
        f"{findings.gathered.spec or 'foreign table'} · n = {findings.n:,} · "
        f"by {', '.join(findings.gathered.ranked.by)} · scored with seeds {seeds} · seed {config.seed} · "
        f"table {sha256[:8]}"
    )
    drawing.save(charts(findings, dataset), config.charts, prefix="noise", caption=caption)


def _write(
    config: Config, findings: Findings, identity: Mapping[str, object], *, progress: Progress, began: float
) -> Report:
    gathered = findings.gathered
    origin = gathered.table.provenance or Provenance(
        spec="", fingerprint="", n=len(gathered.table), class_names=gathered.classes
    )
    table = NoiseTable.of(
        gathered.table, _columns(findings), gathered.ranked.by, replace(origin, config=identity)
    )
    summary = findings.summary()
    inputs = [path for path in (config.scores, config.clean_labels, config.predictions) if path is not None]
    document = sidecar.document(
        "noise",
        config.out,
        rows=len(table),
        config=identity,
        facts={
            "command": list(config.command),
            "dataset": {"spec": origin.spec, "fingerprint": origin.fingerprint, "n": origin.n},
            "seeds": [config.seed],
            "summary": summary,
            "inputs": [{"path": path.name, "sha256": files.sha256_file(path)} for path in inputs],
            "run": {"seconds": round(monotonic() - began, 1)},
        },
    )
    written = table.write(config.out, document=document, by=gathered.ranked.by)
    _draw(config, findings, written.sha256, progress)
    share = None if findings.tested is None else float(findings.tested.flagged.mean())
    return Report(
        command="noise",
        title=f"{config.scores} ({origin.spec or 'foreign table'}, {len(gathered.table):,} examples)",
        items=said.items(findings),
        summary=summary,
        outputs=(Output(str(config.out), len(table), written.size, written.sha256),),
        recomputed={} if findings.tested is None else {"epochs_trained": findings.tested.trained},
        next=f"audit prune {config.out} --by suspicion --policy easiest --keep 0.95",
        gate=_gate(config, share),
    )
