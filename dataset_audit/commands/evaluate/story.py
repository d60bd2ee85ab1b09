"""The command from beginning to end: read, compare, plan, train every arm, test, compare, write, report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING

from dataset_audit.commands.evaluate.choices import Resolved, Subsets, identity, jobs, resolve
from dataset_audit.commands.evaluate.config import EXCLUDED, Config
from dataset_audit.commands.evaluate.data import SHARE, Data, open_test, open_training, read
from dataset_audit.commands.evaluate.findings import Done, Findings
from dataset_audit.commands.evaluate.rows import read_back, rows_of
from dataset_audit.commands.evaluate.said import items as said
from dataset_audit.commands.evaluate.tables import Tables, read_tables
from dataset_audit.errors import GateFailed
from dataset_audit.evaluate.arms import Job
from dataset_audit.progress import Progress
from dataset_audit.report import charts as drawing
from dataset_audit.report.document import Line, Note, Output, Report
from dataset_audit.tables import files, outputs, sidecar, unfinished
from dataset_audit.tables.evaluation import EvaluationTable
from dataset_audit.tables.provenance import Provenance

if TYPE_CHECKING:
    from dataset_audit.evaluate.experiment import Bench

# Of what it came to and two checkpoints of a small network, for the check of free space.
BYTES_PER_TRAINING = 5_000_000


def run(config: Config, progress: Progress) -> Report:
    """Train every arm with every seed, compare them, write the table; or say what would be done, with ``dry_run``.

    Resumes an interrupted call of the same configuration at the epoch of the training it was in, and does nothing
    when the finished table is there.

    Raises:
        UsageError: The request contradicts itself, its inputs, or an existing output.
        MismatchError: The data set is not the one the table was made for.
        DataError: A table is damaged, an arm diverged, too many images are unreadable.
        EnvironmentProblem: Device, disk or memory.
    """
    files.check_writable(config.out)
    if config.charts is not None:
        drawing.available()
    tables = read_tables(config)
    dataset = open_training(config, tables)
    opened = dataset, open_test(config, dataset, tables)
    from dataset_audit.train import device as machine  # noqa: PLC0415 - torch
    from dataset_audit.train.distributed import world  # noqa: PLC0415

    device = machine.choose_device(config.device)
    machine.prepare(device, allocator=config.allocator)
    writes = world().first and not config.dry_run
    with files.locked(config.out) if writes else nullcontext():
        if writes:
            files.sweep(config.out, sidecar.sidecar_path(config.out))
        data = read(config, tables, opened, device, progress)
        precision = machine.choose_precision(config.precision, device)
        resolved = resolve(config, tables, data, (device, precision))
        height, width = data.images.size
        machine.suit_threads(resolved.recipe.batch_size * height * width)
        return _evaluate(_Case(config=config, tables=tables, data=data, resolved=resolved), progress)


@dataclass(frozen=True, kw_only=True, eq=False)
class _Case:
    """What was asked for, and what is there to do it with."""

    config: Config
    tables: Tables
    data: Data
    resolved: Resolved

    @property
    def spec(self) -> str:
        """The data set as it was named, here or where it was scored."""
        return self.config.dataset or self.tables.provenance.spec


def _evaluate(case: _Case, progress: Progress) -> Report:
    from dataset_audit.commands.evaluate.experiment import Work, prepared  # noqa: PLC0415 - torch
    from dataset_audit.runs import Settings  # noqa: PLC0415
    from dataset_audit.train.distributed import world  # noqa: PLC0415

    config, data, peers = case.config, case.data, world()
    subsets = Subsets(config, case.tables, data, case.resolved, progress)
    planned = jobs(config, data, case.resolved, subsets)
    asked = identity(config, data, case.resolved, planned)
    digest = outputs.digest(asked)
    folder = unfinished.folder_of(config.out, config.checkpoint_dir)
    peers.agree(digest)
    standing = peers.once(lambda: outputs.standing(config.out, "evaluation", asked, force=config.force))
    bench = prepared(config, data, case.resolved)
    progress.plan(_plan(case, bench, planned, folder))
    if config.dry_run:
        return Report("evaluate", f"plan for {case.spec}", summary={"plan": asked})
    if standing == "finished":
        peers.once(lambda: unfinished.release(folder, asked))
        if not peers.first:
            return Report("evaluate", "done by the first process")
        return _again(case, planned)
    files.check_writable(config.out, need_bytes=len(planned) * BYTES_PER_TRAINING)
    peers.once(lambda: unfinished.bind(folder, asked, force=config.force))
    began = monotonic()
    settings = Settings(folder=folder, digest=digest, checkpoint_every=config.checkpoint_every)
    work = Work(config=config, data=data, bench=bench, settings=settings, progress=progress)
    done = work.all(planned)
    if not peers.first:
        return Report("evaluate", "done by the first process")
    found = _findings(case, done)
    table = EvaluationTable.of(rows_of(found, config, case.resolved, subsets.by), _origin(case, asked))
    report = _write(case, found, table, seconds=monotonic() - began)
    unfinished.release(folder, asked)
    return replace(report, recomputed={"epochs_trained": work.trained_epochs})


def _again(case: _Case, planned: Sequence[Job]) -> Report:
    """Return the report of the finished table, with this call's margin and costs; nothing is trained or written."""
    table, tuned = EvaluationTable.read(case.config.out), case.config.tune > 0
    found = _findings(case, read_back(table, planned, case.data.class_names, tuned=tuned))
    _draw(case, found, files.sha256_file(case.config.out))
    return _report(
        case,
        found,
        items=(Note("nothing to do: the finished table has these inputs and trainings"),),
        summary={**found.summary(), "nothing_to_do": True},
    )


def _plan(case: _Case, bench: Bench, planned: Sequence[Job], folder: Path) -> list[str]:
    from dataset_audit.evaluate.experiment import presentations  # noqa: PLC0415
    from dataset_audit.train.device import describe  # noqa: PLC0415
    from dataset_audit.train.distributed import world  # noqa: PLC0415

    config, data, resolved = case.config, case.data, case.resolved
    shared = f", shared among {world().size} processes" if world().size > 1 else ""
    chosen = resolved.recipe
    changed = "".join(f" {key}*={value}" for key, value in config.overrides.items())
    total = sum(presentations(bench, job) for job in planned)
    sizes = ", ".join(f"{count:,} ({share:.3g})" for count, share in resolved.sizes)
    arms = ", ".join(dict.fromkeys(job.arm for job in planned))
    tuned = f" · {config.tune} trials of each arm on a tenth of the training data" if config.tune else ""
    trained = f"{resolved.model} · {chosen.name}{changed} · {chosen.epochs} epochs"
    return [
        f"{len(data.rows):,} images to train on · {len(data.class_names)} classes · keep {sizes or 'all'}",
        f"test {data.test_name}: {len(data.test_rows):,} images · last epoch, never the best",
        f"{trained} · batch {chosen.batch_size} · budget {config.budget}{tuned}",
        f"{arms} · {len(resolved.seeds)} seeds",
        f"{len(planned)} trainings, {total / len(data.rows):,.0f} passes over the data in all{shared}",
        f"{describe(resolved.device)} · {resolved.precision}",
        f"writes {config.out}, {sidecar.sidecar_path(config.out)} · unfinished work in {folder}",
    ]


def _findings(case: _Case, done: Sequence[Done]) -> Findings:
    config, tables, data, resolved = case.config, case.tables, case.data, case.resolved
    scoring = tables.seconds / tables.runs if resolved.replicated else tables.seconds
    if config.score_seconds is not None:
        scoring = config.score_seconds
    return Findings(
        done=done,
        test_labels=data.test_labels,
        class_names=data.class_names,
        examples=len(data.rows),
        delta=config.delta / 100,
        scoring=scoring,
        trainings=config.trainings,
        seeds=len(resolved.seeds),
    )


def _origin(case: _Case, asked: dict[str, object]) -> Provenance:
    return Provenance(
        spec=case.spec,
        fingerprint=case.data.fingerprint,
        n=len(case.data.labels),
        class_names=case.data.class_names,
        config=asked,
        seeds=case.resolved.seeds,
        opened=case.tables.provenance.opened,
    )


def _write(case: _Case, found: Findings, table: EvaluationTable, *, seconds: float) -> Report:
    from dataset_audit.train.device import describe  # noqa: PLC0415

    config, tables, data, resolved = case.config, case.tables, case.data, case.resolved
    summary = {
        **found.summary(),
        "model": resolved.model,
        "scored_by": tables.model or None,
        "content_sha256": table.content_sha256(),
    }
    document = sidecar.document(
        "evaluation",
        config.out,
        rows=len(table),
        config=table.provenance.config,
        facts={
            "command": list(config.command),
            "dataset": {
                "spec": case.spec,
                "fingerprint": data.fingerprint,
                "n": len(data.labels),
                "classes": list(data.class_names),
                "skipped": data.skipped,
                "test": data.test_name,
            },
            "seeds": list(resolved.seeds),
            "summary": summary,
            "inputs": [
                {"path": path.name, "sha256": files.sha256_file(path)}
                for path in (config.scores, tables.manifest.path if tables.manifest else None)
                if path is not None
            ],
            "run": {"seconds": round(seconds, 1), "device": describe(resolved.device)},
        },
    )
    written = table.write(config.out, document=document)
    _draw(case, found, written.sha256)
    report = _report(case, found, items=(), summary=summary)
    return replace(report, outputs=(Output(str(config.out), len(table), written.size, written.sha256),))


def _draw(case: _Case, found: Findings, table_sha256: str) -> None:
    if case.config.charts is None:
        return
    from dataset_audit.commands.evaluate.charts import charts  # noqa: PLC0415 - matplotlib

    resolved = case.resolved
    caption = (
        f"{case.spec} · n = {len(case.data.rows):,} · test {len(case.data.test_rows):,} · "
        f"{resolved.model} · {resolved.recipe.name} · {resolved.recipe.epochs} epochs · seeds "
        f"{', '.join(map(str, resolved.seeds))} · table {table_sha256[:8]}"
    )
    drawing.save(charts(found), case.config.charts, prefix="evaluate", caption=caption)


def _report(
    case: _Case, found: Findings, *, items: tuple[Note, ...], summary: Mapping[str, object]
) -> Report:
    config, tables, resolved = case.config, case.tables, case.resolved
    worse = found.worse()
    gate = None
    if config.fail_worse and worse:
        gate = GateFailed(
            f"Worse than random subsets of the same size: {', '.join(worse)}.", do="another policy or score"
        )
    return Report(
        command="evaluate",
        title=f"{case.spec} · {resolved.model} · {resolved.recipe.epochs} epochs · "
        f"budget {config.budget} · {len(resolved.seeds)} seed{'s' * (len(resolved.seeds) > 1)} · "
        f"test {len(case.data.test_rows):,} · last epoch",
        items=(*items, *_scored_with(tables, resolved), *_seen(config, tables), *said(found)),
        summary=summary,
        gate=gate,
    )


def _scored_with(tables: Tables, resolved: Resolved) -> list[Line]:
    if not tables.model or tables.model == resolved.model:
        return []
    return [Line("networks", (f"scored with {tables.model}, trained {resolved.model}",))]


def _seen(config: Config, tables: Tables) -> list[Note]:
    share = config.test is not None and config.test != EXCLUDED and tables.scores is not None
    if share and SHARE.fullmatch(config.test or ""):
        return [
            Note(
                "scoring has seen the test examples, random subsets have not; --test SPEC or excluded is cleaner"
            )
        ]
    return []
