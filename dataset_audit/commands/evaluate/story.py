"""The command from beginning to end: read, compare, plan, train every arm, test, compare, write, report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from hashlib import sha256
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from dataset_audit.commands.evaluate.choices import Resolved, Subsets, identity, jobs, resolve
from dataset_audit.commands.evaluate.config import EXCLUDED, Config
from dataset_audit.commands.evaluate.data import SHARE, Data, open_test, open_training, read
from dataset_audit.commands.evaluate.findings import Done, Findings
from dataset_audit.commands.evaluate.said import items as said
from dataset_audit.commands.evaluate.stored import stored
from dataset_audit.commands.evaluate.tables import Tables, read_tables
from dataset_audit.errors import GateFailed
from dataset_audit.evaluate.arms import Job
from dataset_audit.progress import Progress
from dataset_audit.report import charts as drawing
from dataset_audit.report.document import Line, Note, Output, Report
from dataset_audit.tables import files, outputs, sidecar, unfinished
from dataset_audit.tables.evaluation import EvaluationTable
from dataset_audit.tables.scores import Provenance

if TYPE_CHECKING:
    from dataset_audit.evaluate.experiment import Bench, Outcome
    from dataset_audit.runs import Settings

BYTES_PER_TRAINING = (
    5_000_000  # of its shard and two checkpoints of a small network, for the check of free space
)


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
    from dataset_audit.train.distributed import world as processes  # noqa: PLC0415

    world = processes()
    device = machine.choose_device(config.device)
    machine.prepare(device, allocator=config.allocator)
    writes = world.first and not config.dry_run
    with files.locked(config.out) if writes else nullcontext():
        if writes:
            files.sweep(config.out, sidecar.sidecar_path(config.out))
        data = read(config, tables, opened, device, progress)
        resolved = resolve(config, tables, data, (device, machine.choose_precision(config.precision, device)))
        height, width = data.images.size
        machine.suit_threads(resolved.recipe.batch_size * height * width)
        subsets = Subsets(config, tables, data, resolved, progress)
        planned = jobs(config, data, resolved, subsets)
        asked = identity(config, data, resolved, planned)
        folder = unfinished.folder_of(config.out, config.checkpoint_dir)
        world.agree(outputs.digest(asked))
        standing = world.once(lambda: outputs.standing(config.out, "evaluation", asked, force=config.force))
        bench = _bench(config, data, resolved)
        progress.plan(_plan(config, data, resolved, (bench, planned), folder))
        if config.dry_run:
            return Report("evaluate", f"plan for {dataset.spec}", summary={"plan": asked})
        if standing == "finished":
            world.once(lambda: unfinished.release(folder, asked))
            if not world.first:
                return Report("evaluate", "done by the first process")
            return _again(config, (tables, data, resolved), planned)
        files.check_writable(config.out, need_bytes=len(planned) * BYTES_PER_TRAINING)
        world.once(lambda: unfinished.bind(folder, asked, force=config.force))
        began = monotonic()
        work = _Work(config, data, bench, _settings(config, asked, folder), progress)
        done = work.all(planned)
        if not world.first:
            return Report("evaluate", "done by the first process")
        report = _write(
            config,
            (tables, data, resolved),
            _findings(config, tables, data, resolved, done),
            asked,
            (subsets.by, work.trained_epochs, monotonic() - began),
        )
        unfinished.release(folder, asked)
    return report


def _again(config: Config, context: tuple[Tables, Data, Resolved], planned: Sequence[Job]) -> Report:
    """Return the report of the finished table, with this call's margin and costs; nothing is trained or written."""
    tables, data, resolved = context
    done = stored(EvaluationTable.read(config.out), planned, data.class_names, tuned=config.tune > 0)
    found = _findings(config, tables, data, resolved, done)
    if config.charts is not None:
        _draw(config, context, found, files.sha256_file(config.out))
    return _report(
        config,
        context,
        found,
        items=(Note("nothing to do: the finished table has these inputs and trainings"),),
        summary={**found.summary(), "nothing_to_do": True},
    )


def _settings(config: Config, asked: dict[str, object], folder: Path) -> Settings:
    from dataset_audit.runs import Settings  # noqa: PLC0415

    return Settings(folder=folder, digest=outputs.digest(asked), checkpoint_every=config.checkpoint_every)


def _bench(config: Config, data: Data, resolved: Resolved) -> Bench:
    import torch  # noqa: PLC0415

    from dataset_audit.evaluate.experiment import Bench  # noqa: PLC0415
    from dataset_audit.train.fit import Task  # noqa: PLC0415
    from dataset_audit.train.hold import statistics  # noqa: PLC0415
    from dataset_audit.train.models import build  # noqa: PLC0415

    images, chosen, device = data.images, resolved.recipe, resolved.device
    if len(chosen.mean) == images.channels:
        mean, std = torch.tensor(chosen.mean), torch.tensor(chosen.std)
    else:
        mean, std = statistics(images, data.rows)
    classes = len(data.class_names)
    task = Task(
        images=images,
        labels=torch.from_numpy(data.labels).to(device),
        rows=data.rows,
        classes=classes,
        seed=resolved.seeds[0],
        device=device,
        precision=resolved.precision,
        mean=mean.to(device),
        std=std.to(device),
        compile=config.compile,
    )
    return Bench(
        task=task,
        test=data.test,
        test_rows=data.test_rows,
        test_labels=data.test_labels,
        recipe=chosen,
        budget=config.budget,
        build=lambda: build(
            resolved.model, classes=classes, channels=images.channels, image_size=max(images.size)
        ),
    )


def _plan(
    config: Config, data: Data, resolved: Resolved, work: tuple[Bench, Sequence[Job]], folder: Path
) -> list[str]:
    from dataset_audit.evaluate.experiment import presentations  # noqa: PLC0415
    from dataset_audit.train.device import describe  # noqa: PLC0415
    from dataset_audit.train.distributed import world  # noqa: PLC0415

    bench, planned = work
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


class _Shifted:
    """Passes the progress of one training on as that of all."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self.before, self.doing = 0, ""

    def advance(self, done: int, **figures: float | str) -> None:
        self._progress.advance(self.before + done, arm=self.doing, **figures)

    def __getattr__(self, name: str) -> object:
        return getattr(self._progress, name)


class _Work:
    """Runs trainings one after the other; finished ones are read, an interrupted one goes on where it was.

    Several processes take one each, the longest first; no training depends on who runs it.

    Args:
        config: What was asked for.
        data: Images and labels.
        bench: What all arms share.
        settings: Where unfinished work lies.
        progress: Told of all of it.
    """

    def __init__(
        self, config: Config, data: Data, bench: Bench, settings: Settings, progress: Progress
    ) -> None:
        from dataset_audit.train.distributed import world  # noqa: PLC0415 - torch

        self._config, self._data, self._bench, self._settings = config, data, bench, settings
        self._progress, self._world = progress, world()
        self.trained_epochs = 0

    def all(self, planned: Sequence[Job]) -> list[Done]:
        """Tune if asked to, then train every job and return it with its figures."""
        tuned = self._tune(planned) if self._config.tune else {}
        given = [replace(job, knobs=tuned.get(_of(job), ({}, 0.0))[0]) for job in planned]
        outcomes = self._train("arms", given, self._bench)
        return [
            self._figures(job, outcome, tuned.get(_of(job), ({}, 0.0))[1])
            for job, outcome in zip(given, outcomes, strict=True)
        ]

    def _train(self, task: str, planned: Sequence[Job], bench: Bench) -> list[Outcome]:
        """Return the outcome of every job, on every process."""
        from dataset_audit.evaluate.experiment import finished, kept_at, outcome, presentations  # noqa: PLC0415
        from dataset_audit.train.distributed import awaited  # noqa: PLC0415

        world, works = self._world, [presentations(bench, job) for job in planned]
        order = sorted(range(len(planned)), key=lambda number: -works[number] if world.size > 1 else number)
        self._progress.start(task, sum(works) // world.size, "images")
        shifted = _Shifted(self._progress)
        mine: dict[int, Outcome] = {}
        epochs = 0
        for number in (order[turn] for turn in world.dealt(task, len(planned))):
            job = planned[number]
            shifted.doing = f"{number + 1}/{len(planned)} {job.name}"
            mine[number], trained = outcome(bench, job, self._settings, shifted)  # type: ignore[arg-type]  # delegates the rest
            epochs += trained
            shifted.before += works[number]
            self._progress.advance(shifted.before, arm=shifted.doing)
        self._progress.finish()
        self.trained_epochs += sum(world.collected(epochs) or [])  # met: all are trained
        found = []
        for number, job in enumerate(planned):
            one = mine.get(number) or awaited(
                partial(finished, job, self._settings), kept_at(job, self._settings)
            )
            if not one.learned and not job.trial:
                self._progress.warn("W-untrained", f"{job.name} learned nothing; try a lower --lr")
            found.append(one)
        return found

    def _tune(self, planned: Sequence[Job]) -> dict[str, tuple[dict[str, float], float]]:
        """Return by arm and size the best of the trials and the seconds they took."""
        from dataset_audit.evaluate.tune import best, trial, trials, validation  # noqa: PLC0415

        data, bench = self._data, self._bench
        held = validation(data.rows, data.labels[data.rows], self._config.seed)
        judged = replace(bench, test=data.images, test_rows=held, test_labels=data.labels[held])
        settings = trials(bench.recipe, self._config.tune, self._config.seed)
        first = {_of(job): job for job in reversed(planned) if job.arm != "curve"}
        tried = [
            trial(job, knobs, number, held, data.rows)
            for job in first.values()
            for number, knobs in enumerate(settings)
        ]
        outcomes = self._train("trials", tried, judged)
        found = {}
        for number, name in enumerate(first):
            own = outcomes[number * len(settings) : (number + 1) * len(settings)]
            accuracies = [float((one.predicted == judged.test_labels).mean()) for one in own]
            found[name] = settings[best(accuracies)], sum(one.seconds for one in own)
        return found

    def _figures(self, job: Job, outcome: Outcome, seconds_tune: float) -> Done:
        from dataset_audit.evaluate.measure import measured  # noqa: PLC0415

        data, classes = self._data, len(self._data.class_names)
        labels = data.labels[job.rows]
        return Done(
            job=job,
            outcome=outcome,
            measured=measured(outcome.predicted, outcome.confidence, outcome.loss, data.test_labels, classes),
            class_share=np.bincount(labels, minlength=classes) / len(labels),
            wrong_labels=float((labels != data.clean[job.rows]).mean()) if data.known_wrong else float("nan"),
            seconds_tune=seconds_tune,
        )


def _of(job: Job) -> str:
    """Return what a job shares with its other seeds; a shorter training on all has the settings of the full one."""
    return "full" if job.arm in {"full", "curve"} else f"{job.arm} {len(job.rows)}"


def _findings(
    config: Config, tables: Tables, data: Data, resolved: Resolved, done: Sequence[Done]
) -> Findings:
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


def _write(
    config: Config,
    context: tuple[Tables, Data, Resolved],
    found: Findings,
    asked: dict[str, object],
    work: tuple[dict[str, tuple[str, ...]], int, float],
) -> Report:
    from dataset_audit.train.device import describe  # noqa: PLC0415

    tables, data, resolved = context
    by, epochs_trained, seconds = work
    spec = config.dataset or tables.provenance.spec
    origin = Provenance(
        spec=spec,
        fingerprint=data.fingerprint,
        n=len(data.labels),
        class_names=data.class_names,
        config=asked,
        seeds=resolved.seeds,
        opened=tables.provenance.opened,
    )
    table = EvaluationTable.of(list(_rows(config, context, found, by)), origin)
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
        config=asked,
        facts={
            "command": list(config.command),
            "dataset": {
                "spec": spec,
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
    if config.charts is not None:
        _draw(config, context, found, written.sha256)
    report = _report(config, context, found, items=(), summary=summary)
    return replace(
        report,
        outputs=(Output(str(config.out), len(table), written.size, written.sha256),),
        recomputed={"epochs_trained": epochs_trained},
    )


def _draw(config: Config, context: tuple[Tables, Data, Resolved], found: Findings, table_sha256: str) -> None:
    from dataset_audit.commands.evaluate.charts import charts  # noqa: PLC0415 - matplotlib

    tables, data, resolved = context
    caption = (
        f"{config.dataset or tables.provenance.spec} · n = {len(data.rows):,} · test {len(data.test_rows):,} · "
        f"{resolved.model} · {resolved.recipe.name} · {resolved.recipe.epochs} epochs · seeds "
        f"{', '.join(map(str, resolved.seeds))} · table {table_sha256[:8]}"
    )
    if config.charts is not None:
        drawing.save(charts(found), config.charts, prefix="evaluate", caption=caption)


def _report(
    config: Config,
    context: tuple[Tables, Data, Resolved],
    found: Findings,
    *,
    items: tuple[Note, ...],
    summary: Mapping[str, object],
) -> Report:
    tables, data, resolved = context
    worse = found.worse()
    gate = None
    if config.fail_worse and worse:
        gate = GateFailed(
            f"Worse than random subsets of the same size: {', '.join(worse)}.", do="another policy or score"
        )
    return Report(
        command="evaluate",
        title=f"{config.dataset or tables.provenance.spec} · {resolved.model} · {resolved.recipe.epochs} epochs · "
        f"budget {config.budget} · {len(resolved.seeds)} seed{'s' * (len(resolved.seeds) > 1)} · "
        f"test {len(data.test_rows):,} · last epoch",
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


def _rows(
    config: Config,
    context: tuple[Tables, Data, Resolved],
    found: Findings,
    by: dict[str, tuple[str, ...]],
) -> list[dict[str, object]]:
    from dataset_audit.train.batches import batch_lengths  # noqa: PLC0415
    from dataset_audit.train.device import describe  # noqa: PLC0415

    _, data, resolved = context
    rows: list[dict[str, object]] = []
    for one in found.done:
        job, outcome, figures = one.job, one.outcome, one.measured
        used = replace(resolved.recipe, **job.knobs)
        chosen_by = by.get(job.arm)
        rows.append(
            {
                "arm": job.arm,
                "by": ",".join(chosen_by) if chosen_by else None,
                "keep_fraction": job.keep,
                "keep_count": len(job.rows),
                "seed": job.seed,
                "fixed": job.fixed,
                "recipe": used.name,
                "model": resolved.model,
                "budget": config.budget,
                "epochs": outcome.steps / len(batch_lengths(len(job.rows), used.batch_size)),
                "steps": outcome.steps,
                "presentations": outcome.presentations,
                "batch_size": used.batch_size,
                "lr": used.lr,
                "weight_decay": used.weight_decay,
                "skip": job.skip,
                "status": "done" if outcome.learned else "untrained",
                "accuracy": figures.accuracy,
                "accuracy_low": figures.low,
                "accuracy_high": figures.high,
                "worst_class": data.class_names[figures.worst],
                "worst_recall": float(figures.recall[figures.worst]),
                "recall": figures.recall,
                "class_share": one.class_share,
                "wrong_labels": one.wrong_labels,
                "ece": figures.ece,
                "loss": figures.loss,
                "train_accuracy": outcome.train_accuracy,
                "predicted": outcome.predicted,
                "seconds_train": outcome.seconds,
                "seconds_score": found.scoring if chosen_by or job.arm == "kept" else 0.0,
                "seconds_tune": one.seconds_tune,
                "device": describe(resolved.device),
                "rows_sha256": sha256(_stored(job.rows)).hexdigest(),
            }
        )
    return rows


def _stored(rows: NDArray[np.int64]) -> bytes:
    return rows.astype("<i8").tobytes()
