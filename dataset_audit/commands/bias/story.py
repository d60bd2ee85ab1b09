"""The command from beginning to end: draw, read, plan, look, split, fit, find, write, report."""

from __future__ import annotations

import os
import resource
from collections.abc import Mapping
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from dataset_audit import seeds
from dataset_audit.bias.controls import CONTROLS, Bench
from dataset_audit.bias.folds import folds
from dataset_audit.bias.measure import Trial
from dataset_audit.bias.stock import Stock, check_identical, draw, read_headers, usable
from dataset_audit.bias.views import VIEWS, Seen, Setting, look, setting
from dataset_audit.commands.bias import said
from dataset_audit.commands.bias.charts import charts
from dataset_audit.commands.bias.choices import open_sources
from dataset_audit.commands.bias.config import Config
from dataset_audit.commands.bias.experiment import Lab, Store, curve_trials, trials
from dataset_audit.commands.bias.findings import Findings, Phases, gather
from dataset_audit.commands.bias.rows import table_of
from dataset_audit.errors import GateFailed
from dataset_audit.images.duplicates import clusters
from dataset_audit.probes.registry import PROBES
from dataset_audit.progress import Progress
from dataset_audit.report import charts as drawing
from dataset_audit.report.document import Output, Report, up_to_date
from dataset_audit.tables import files, outputs, sidecar, unfinished
from dataset_audit.train.distributed import World, world
from dataset_audit.train.ranks import on_this_machine

if TYPE_CHECKING:
    from dataset_audit.bias.explain import Explanations
    from dataset_audit.probes.network import Training

BYTES_PER_ROW = 2000  # of the table and of the finished fits, generously, for the check of free space
EXPLAINED = 54  # pictures, evenly of all sources
MEMORY = 2**30  # bytes that decoding may take at one time, if nothing else is said


def run(config: Config, progress: Progress) -> Report:
    """Measure whether the source of an image can be named, and write one row per image drawn; or only plan.

    Resumes an interrupted call of the same configuration after its last finished fit, and does nothing when the
    finished table is there.

    Raises:
        UsageError: Fewer than two sources, the same twice, or a request that contradicts itself.
        DataError: Too few or too many unreadable images.
        EnvironmentProblem: Device, disk, memory or an extra that is missing.
    """
    files.check_writable(config.out)
    if config.charts is not None:
        drawing.available()
    if config.explain:
        from dataset_audit.bias.explain import available  # noqa: PLC0415 - torch

        available()
    sources = open_sources(config, progress)
    stock = draw(sources, config.per_source, config.seed)
    prepared = _prepare(config)
    progress.plan(_plan(config, stock, prepared))
    if config.dry_run:
        return Report(
            "bias", "plan for " + ", ".join(stock.names), summary={"plan": _asked(config, prepared)}
        )
    job = _Job(config=config, prepared=prepared, phases=Phases(), progress=progress)
    if not world().first:
        return _audit(job, stock)
    with files.locked(config.out):
        files.sweep(config.out, sidecar.sidecar_path(config.out))
        return _audit(job, stock)


@dataclass(frozen=True, kw_only=True)
class _Prepared:
    training: Training | None
    device: str
    workers: int


@dataclass(frozen=True, kw_only=True)
class _Job:
    config: Config
    prepared: _Prepared
    phases: Phases
    progress: Progress


def _prepare(config: Config) -> _Prepared:
    from dataset_audit.probes.network import LEAST_STEPS, Training  # noqa: PLC0415 - torch
    from dataset_audit.train import device as machine  # noqa: PLC0415
    from dataset_audit.train.models import build, check_known  # noqa: PLC0415
    from dataset_audit.train.recipes import recipe  # noqa: PLC0415

    device = machine.choose_device(config.device)
    check_known(config.model)
    if "network" in config.probes:
        machine.prepare(device, allocator=config.allocator)
    if config.pretrained:  # weights that are missing are told before an hour of work
        build(
            config.model,
            classes=2,
            channels=3,
            image_size=config.image_size,
            pretrained=True,
            download=config.download,
        )
    training = Training(
        model=config.model,
        recipe=recipe(config.recipe, config.overrides),
        device=device,
        precision=machine.choose_precision(config.precision, device),
        pretrained=config.pretrained,
        least_steps=0 if "epochs" in config.overrides else LEAST_STEPS,
    )
    return _Prepared(
        training=training if "network" in config.probes else None,
        device=machine.describe(device),
        workers=config.workers or machine.cores(),
    )


def _asked(config: Config, prepared: _Prepared) -> dict[str, object]:
    """Return every setting that decides the bytes of the table, the images apart."""
    training = prepared.training
    network: dict[str, object] = {}
    if training is not None:
        network = {
            "model": training.model,
            "recipe": training.recipe.stated(),
            "device": training.device.type,
            "precision": training.precision,
            "pretrained": training.pretrained,
            "least_steps": training.least_steps,
        }
    return {
        "per_source": config.per_source,
        "resamplings": config.resamplings,
        "probes": [name for name in PROBES if name in config.probes],
        "controls": config.controls,
        "match_classes": config.match_classes,
        "image_size": config.image_size,
        "ablate": config.ablate,
        "seed": config.seed,
        "split": config.split,
        "background": list(config.background),
        **network,
    }


def _plan(config: Config, stock: Stock, prepared: _Prepared) -> list[str]:
    each = len(stock) // len(stock.sources)
    listed = " · ".join(f"{source.name} {len(source.rows):,}" for source in stock.sources)
    controls = [name for name in CONTROLS if name != "classes" or config.match_classes]
    training = prepared.training
    network = (
        "no network"
        if training is None
        else f"{training.model}, {training.recipe.epochs} epochs, {training.precision}, {prepared.device}"
    )
    shared = f" · shared among {world().size} processes" if world().size > 1 else ""
    return [
        f"{listed} · {each:,} of each drawn by chance, seed {config.seed}",
        f"{len(config.probes)} probes · {config.resamplings} folds, duplicates kept together · {network}{shared}",
        "controls: " + (", ".join(controls) if config.controls else "none"),
        f"writes {config.out}, {sidecar.sidecar_path(config.out)} · unfinished work in {_folder(config)}",
    ]


def _folder(config: Config) -> Path:
    return unfinished.folder_of(config.out, config.checkpoint_dir)


def _audit(job: _Job, stock: Stock) -> Report:
    config, progress, peers = job.config, job.progress, world()
    workers = job.prepared.workers * on_this_machine(os.environ)[1]  # the others wait
    with job.phases.timed("read headers"):
        peers.once(lambda: read_headers(stock, workers=workers, progress=progress))
        stock = _as_first(stock, peers)
        if not config.allow_identical:
            check_identical(stock)
    identity = {**_asked(config, job.prepared), "fingerprint": _fingerprint(stock)}
    peers.agree(outputs.digest(identity))
    files.check_writable(config.out, need_bytes=len(stock) * BYTES_PER_ROW)
    standing = peers.once(lambda: outputs.standing(config.out, "bias", identity, force=config.force))
    if standing == "finished":
        peers.once(lambda: unfinished.release(_folder(config), identity))
        return up_to_date("bias", config.out, "the finished table has these sources and options")
    peers.once(lambda: unfinished.bind(_folder(config), identity, force=config.force))
    with job.phases.timed("decode and look"):
        common = replace(setting(stock, config.seed), network=config.image_size)
        seen = peers.once(
            lambda: look(
                stock,
                tuple(VIEWS) if config.controls else ("raw",),
                common,
                workers=workers,
                memory=config.memory or MEMORY,
                progress=progress,
            )
        )
        stock = _as_first(stock, peers)
        rows = usable(stock, config.max_skipped)
        bench = _bench(config, stock.only(rows), seen.only(rows))
    store = Store(folder=_folder(config), digest=outputs.digest(identity))
    told = _experiment(job, bench, store, common)
    if told is None:
        return Report("bias", "done by the first process")
    report = _write(job, stock, rows, bench, told, identity)
    unfinished.release(_folder(config), identity)
    return report


def _as_first(stock: Stock, peers: World) -> Stock:
    """Return the stock with what the first process found of its pictures."""
    if peers.size == 1:
        return stock
    uid, facts, status, error = peers.once(lambda: (stock.uid, stock.facts, stock.status, stock.error))
    return replace(stock, uid=uid, facts=facts, status=status, error=error)


def _fingerprint(stock: Stock) -> str:
    known = sha256()
    for name, source in zip(stock.names, range(len(stock.sources)), strict=True):
        known.update(f"{name}\n".encode("utf-8", "surrogateescape"))
        for row in np.flatnonzero(stock.source == source).tolist():
            known.update(f"{stock.index[row]} {stock.uid[row]}\n".encode())
    return known.hexdigest()


def _bench(config: Config, stock: Stock, seen: Seen) -> Bench:
    return Bench(
        stock=stock,
        seen=seen,
        clusters=world().once(lambda: clusters(seen.grey, seen.hashes)),
        resamplings=config.resamplings,
        seed=config.seed,
        probes=tuple(name for name in PROBES if name in config.probes),
    )


def _experiment(job: _Job, bench: Bench, store: Store, common: Setting) -> Findings | None:
    """Make every fit, together with the other processes; return what the first one finds, None on the others."""
    config, phases = job.config, job.phases
    lab = Lab(
        store=store,
        training=job.prepared.training,
        seed=config.seed,
        workers=job.prepared.workers,
        progress=job.progress,
        world=world(),
    )
    made = trials(bench, controls=config.controls, match_classes=config.match_classes)
    with phases.timed("probes and controls"):
        outcomes = lab.run(made)
    with phases.timed("learning curve"):
        quick = [
            one
            for (trial, probe), one in outcomes.items()
            if trial == "raw" and probe not in {"network", "header"}
        ]
        if quick:
            best = max(quick, key=lambda one: one.validation).probe
            outcomes |= lab.run(curve_trials(made[0], best, config.seed))
    if config.ablate:
        with phases.timed("ablations"):
            outcomes |= lab.ablated(made[0], config.seed)
    if not lab.world.first:
        return None
    with phases.timed("statistics"):
        by_row = folds(bench.stock.source, np.arange(len(bench.stock)), config.resamplings, config.seed)
        gathered = gather(bench, made, outcomes, by_row, common)
    if not config.explain:
        return gathered
    with phases.timed("explanations"):
        return gathered.with_explanations(_explain(job, bench, made[0]))


def _explain(job: _Job, bench: Bench, whole: Trial) -> Explanations:
    from dataset_audit.bias.explain import explain  # noqa: PLC0415 - torch
    from dataset_audit.probes.network import train  # noqa: PLC0415

    if job.prepared.training is None:
        raise ValueError("the network is among the probes")
    fold = whole.folds[0]
    total = job.prepared.training.presentations(len(fold.train))
    job.progress.start("network to explain", total, "images")
    trained = train(
        whole.view.network,
        whole.labels,
        fold,
        job.prepared.training,
        seed=seeds.integer(job.config.seed, "network", whole.name, 0),
        progress=job.progress,
    )
    job.progress.finish()
    rng = seeds.rng(job.config.seed, "explained")
    sources = len(bench.stock.sources)
    each = -(-EXPLAINED // sources)
    rows = [rng.permutation(fold.test[whole.labels[fold.test] == source])[:each] for source in range(sources)]
    chosen = np.sort(np.concatenate(rows))
    job.progress.start("explain", len(chosen), "images")
    found = explain(
        trained, whole.view.network, whole.labels, chosen, seed=job.config.seed, progress=job.progress
    )
    job.progress.finish()
    return found


def _write(
    job: _Job,
    stock: Stock,
    rows: NDArray[np.int64],
    bench: Bench,
    told: Findings,
    identity: Mapping[str, object],
) -> Report:
    config = job.config
    table = table_of(stock, rows, bench.clusters, told, identity, seed=config.seed)
    summary = told.summary() | {"probe": told.best.probe}
    seconds = {name: round(value, 1) for name, value in job.phases.seconds.items()}
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    document = sidecar.document(
        "bias",
        config.out,
        rows=len(table),
        config=identity,
        facts={
            "command": list(config.command),
            "dataset": {
                "sources": [
                    {"name": source.name, "spec": source.dataset.spec, "n": len(source.dataset)}
                    for source in stock.sources
                ],
                "fingerprint": identity["fingerprint"],
                "skipped": len(stock) - len(rows),
            },
            "seeds": [config.seed],
            "summary": summary,
            "run": {"seconds": seconds, "device": job.prepared.device, "peak_bytes": peak},
        },
    )
    written = table.write(config.out, document=document, format_name="bias")
    if config.charts is not None:
        caption = f"{', '.join(told.names)} · n = {told.each:,} each · seed {config.seed} · table {written.sha256[:8]}"
        drawing.save(charts(told, bench), config.charts, prefix="bias", caption=caption)
    return Report(
        command="bias",
        title=f"{len(told.names)} sources · {told.each:,} images of each · chance {100 / len(told.names):.1f} %",
        items=said.items(told, seconds, peak),
        summary=summary | {"seconds": seconds, "peak_bytes": peak},
        outputs=(Output(str(config.out), len(table), written.size, written.sha256),),
        warnings=said.warnings(told),
        next=f"audit prune {config.out} --by typicality --keep 0.8",
        gate=_gate(config, told),
    )


def _gate(config: Config, told: Findings) -> GateFailed | None:
    """Return what failed of the gates that were set."""
    head = told.headline
    if config.fail_above is not None and head is not None and head.surviving.value > config.fail_above:
        return GateFailed(
            f"The surviving bias is {head.surviving.value:.3f}; at most {config.fail_above:g} was allowed.",
            where=f"95 % interval {head.surviving.low:.3f} to {head.surviving.high:.3f}",
            do="audit prune --by typicality on the table, or look at its charts",
        )
    if config.fail_leak is not None and told.leak.points > config.fail_leak:
        return GateFailed(
            f"Duplicates add {100 * told.leak.points:.1f} points; at most {100 * config.fail_leak:g} were allowed.",
            where=f"{100 * told.leak.straddling:.1f} % of test images have a duplicate in training",
            do="split by the column cluster of the table",
        )
    return None
