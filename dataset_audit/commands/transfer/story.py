"""The command from beginning to end: choose, plan, read, train, write, report."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from time import monotonic

import numpy as np

from dataset_audit import seeds
from dataset_audit.commands.transfer import said
from dataset_audit.commands.transfer.charts import charts
from dataset_audit.commands.transfer.config import CHEAP, LEAST, Config
from dataset_audit.commands.transfer.findings import Findings
from dataset_audit.commands.transfer.gather import Choice, Gathered, choose, read
from dataset_audit.errors import DataError
from dataset_audit.probes.classify import Vectors
from dataset_audit.probes.registry import PROBES, Classifier, View
from dataset_audit.progress import Progress
from dataset_audit.report import charts as drawing
from dataset_audit.report.document import Output, Report, up_to_date
from dataset_audit.tables import files, outputs, sidecar
from dataset_audit.tables.transfer import TransferTable
from dataset_audit.transfer.experiment import Matrix, Precision, all_classes, one_against_rest, validated
from dataset_audit.transfer.precision import source_only_auc
from dataset_audit.transfer.sampling import SIZES, SLICES, Task, TooFew, balanced, tasks, trainings

BYTES_PER_ROW = 200  # generously, for the check of free space


def run(config: Config, progress: Progress) -> Report:
    """Train on each set, test on each set, write the table of scores; or say what would be done, with ``dry_run``.

    Raises:
        UsageError: Fewer than two sets, the same twice, one without labels, no class in common.
        DataError: Too many unreadable images, or too few of a class.
        EnvironmentProblem: The table could not be written, or the extra for charts is missing.
    """
    files.check_writable(config.out)
    if config.charts is not None:
        drawing.available()
    choice = choose(config)
    progress.plan(_plan(config, choice))
    if config.dry_run:
        return Report(
            "transfer", "plan for " + ", ".join(choice.names), summary={"plan": _asked(config, choice)}
        )
    with files.locked(config.out):
        files.sweep(config.out, sidecar.sidecar_path(config.out))
        began = monotonic()
        gathered = read(config, choice, progress)
        identity = {**_asked(config, choice), "fingerprint": gathered.fingerprint}
        if outputs.standing(config.out, "transfer", identity, force=config.force) == "finished":
            again = "; --force measures again and draws the charts" * (config.charts is not None)
            return up_to_date("transfer", config.out, "the finished table has these sets and options" + again)
        files.check_writable(
            config.out, need_bytes=_trainings(config, choice) * len(choice.names) * BYTES_PER_ROW
        )
        findings = _measure(config, choice, gathered, progress)
        return _write(config, findings, identity, seconds=monotonic() - began)


def _asked(config: Config, choice: Choice) -> dict[str, object]:
    """Return every setting that decides the bytes of the table."""
    return {
        "sources": list(choice.names),
        "classes": list(choice.classes),
        "quota": choice.quota.tolist(),
        "others": choice.others,
        "probe": config.probe,
        "resamplings": config.resamplings,
        "seed": config.seed,
        "split": config.split,
    }


def _trainings(config: Config, choice: Choice) -> int:
    """Return how many classifiers are trained at most."""
    classes, sets, draws = len(choice.classes), len(choice.names), config.resamplings
    together = sets * draws if classes > 1 else 0
    return classes * sets * draws * sum(min(1 << size, SLICES) for size in range(SIZES)) + together


def _plan(config: Config, choice: Choice) -> list[str]:
    sets = " · ".join(f"{name} {count:,}" for name, count in zip(choice.names, choice.labelled, strict=True))
    few, many = int(choice.quota.min()), int(choice.quota.max())
    per_class = f"{few:,}" if few == many else f"{few:,} to {many:,}"
    others = f" and {choice.others:,} of other classes" if choice.others else ""
    return [
        f"{sets} labelled images · {len(choice.classes):,} classes matched by name",
        f"{choice.per_source:,} images of each set: {per_class} of a class{others}",
        f"{config.resamplings} draws · probe {config.probe} · at most {_trainings(config, choice):,} trainings",
        f"writes {config.out}, {sidecar.sidecar_path(config.out)}",
    ]


class _Count:
    """Tells the progress how many trainings are done."""

    def __init__(self, progress: Progress) -> None:
        self._progress, self._done = progress, 0

    def __call__(self) -> None:
        self._done += 1
        self._progress.advance(self._done)


def _measure(config: Config, choice: Choice, gathered: Gathered, progress: Progress) -> Findings:
    pool, classes = gathered.pool, range(len(choice.classes))
    try:
        per_class = [tasks(pool, label, config.resamplings, config.seed) for label in classes]
        together = balanced(pool, config.resamplings, config.seed) if len(classes) > 1 else None
    except TooFew as few:
        raise DataError(
            f"{choice.names[few.source]}, class {choice.classes[few.label]}: no {few.lacking}, "
            "once duplicates stay together.",
            where=choice.sets[few.source].dataset.spec,
            do=f"more images ({LEAST} different ones are the least), or --classes without it",
            id="E-few",
        ) from None
    probe, tried, vectors, learn = _probe(config, gathered, per_class, progress)
    total = sum(trainings(draws[0]) for draws in per_class) + (together is not None)
    progress.start("train", total * pool.sources * config.resamplings, "trainings")
    done = _Count(progress)
    found = [
        one_against_rest(vectors, pool, draws, learn, seeds.integer(config.seed, "transfer"), done)
        for draws in per_class
    ]
    accuracy = all_classes(vectors, pool, together, learn, done) if together else None
    progress.finish()
    negatives = choice.labelled[:, None] - choice.counts
    return Findings(
        names=choice.names,
        classes=choice.classes,
        per_source=choice.per_source,
        resamplings=config.resamplings,
        seed=config.seed,
        precisions=tuple(found),
        accuracy=accuracy,
        source_only=tuple(source_only_auc(choice.counts[:, c], negatives[:, c]) for c in classes),
        probe=probe,
        tried=tried,
        crossing=gathered.crossing,
        skipped=gathered.skipped,
    )


def _probe(
    config: Config, gathered: Gathered, per_class: list[list[Task]], progress: Progress
) -> tuple[str, dict[str, float], Vectors, Classifier]:
    """Return the probe's name, validation AP of those tried, its vectors and classifier.

    Without a choice of the user's: the one with the highest mean AP on the validation rows of the sets' own first
    draw. Test rows and other sets have no say.
    """
    names = CHEAP if config.probe == "auto" else (config.probe,)
    prepared = {name: _prepared(name, gathered) for name in names}
    if len(names) == 1:
        return (names[0], {}, *prepared[names[0]])
    firsts = [draws[0] for draws in per_class]
    progress.start("choose the probe", len(names) * len(firsts) * gathered.pool.sources, "trainings")
    done = _Count(progress)
    tried = {name: validated(vectors, firsts, learn, done) for name, (vectors, learn) in prepared.items()}
    progress.finish()
    best = max(names, key=lambda name: tried[name])
    return (best, tried, *prepared[best])


def _prepared(name: str, gathered: Gathered) -> tuple[Vectors, Classifier]:
    probe = PROBES[name]
    if probe.vectors is None or probe.learn is None:
        raise ValueError(f"{name} has no vectors to learn from")
    nothing = np.empty((len(gathered.pixels), 0), np.float32)
    made = [
        probe.vectors(View(facts=nothing[:0], pixels=gathered.pixels[at : at + 256], traces=nothing[:0]))
        for at in range(
            0, len(gathered.pixels), 256
        )  # histograms of gradients take 200 kB a picture on the way
    ]
    return np.concatenate(made), probe.learn


def _write(config: Config, findings: Findings, identity: dict[str, object], *, seconds: float) -> Report:
    table = TransferTable.of(list(_rows(findings)), identity, findings.names)
    summary = findings.summary()
    document = sidecar.document(
        "transfer",
        config.out,
        rows=len(table),
        config=identity,
        facts={
            "command": list(config.command),
            "dataset": {"sources": list(findings.names), "fingerprint": identity["fingerprint"]},
            "seeds": [config.seed],
            "summary": summary,
            "run": {"seconds": round(seconds, 1)},
        },
    )
    written = table.write(config.out, document=document)
    if config.charts is not None:
        caption = (
            f"{', '.join(findings.names)} · n = {findings.per_source:,} each · "
            f"{findings.resamplings} draw{'s' * (findings.resamplings > 1)} · {findings.probe} · "
            f"seed {findings.seed} · table {written.sha256[:8]}"
        )
        drawing.save(charts(findings), config.charts, prefix="transfer", caption=caption)
    return Report(
        command="transfer",
        title=f"{len(findings.names)} sets x {findings.per_source:,} images · "
        f"{findings.resamplings} draw{'s' * (findings.resamplings > 1)} · {findings.probe}",
        items=said.items(findings),
        summary=summary,
        outputs=(Output(str(config.out), len(table), written.size, written.sha256),),
    )


def _rows(findings: Findings) -> Iterator[dict[str, object]]:
    for name, precision in zip(findings.classes, findings.precisions, strict=True):
        yield from _of_class(findings, name, precision)
    if findings.accuracy is not None:
        blank = {"class_name": None, "metric": "accuracy", "negatives": None}
        yield from _of_matrix(findings, findings.accuracy, blank)


def _of_class(findings: Findings, name: str, precision: Precision) -> Iterator[dict[str, object]]:
    matrix, nan = precision.matrix, float("nan")
    told = {"class_name": name, "metric": "ap", "negatives": "own"}
    yield from _of_matrix(findings, matrix, told)
    for place, size in enumerate(precision.sizes[:-1].tolist()):
        part = Matrix(
            value=precision.curve[place],
            low=np.full_like(matrix.low, nan),
            high=np.full_like(matrix.high, nan),
            chance=matrix.chance,
            n_train=size,
            n_test=matrix.n_test,
        )
        yield from _of_matrix(findings, part, told)
    for row in _of_matrix(findings, matrix, told):
        if row["train_source"] == row["test_source"]:
            draw, place = int(str(row["resampling"])) - 1, findings.names.index(str(row["train_source"]))
            pooled = float(precision.pooled[draw, place])
            yield {**row, "negatives": "all", "value": pooled, "low": nan, "high": nan}


def _of_matrix(findings: Findings, matrix: Matrix, told: Mapping[str, object]) -> Iterator[dict[str, object]]:
    names = findings.names
    for draw, trained, tested in np.ndindex(*matrix.value.shape):
        yield {
            **told,
            "train_source": names[trained],
            "test_source": names[tested],
            "n_train": matrix.n_train,
            "n_test": matrix.n_test,
            "resampling": draw + 1,
            "seed": findings.seed,
            "chance": matrix.chance,
            "value": float(matrix.value[draw, trained, tested]),
            "low": float(matrix.low[draw, trained, tested]),
            "high": float(matrix.high[draw, trained, tested]),
        }
