"""``audit prune``: from scores to a manifest of exactly as many examples as asked for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Final

import numpy as np

from dataset_audit.commands.prune import said, whole
from dataset_audit.commands.prune.config import Config
from dataset_audit.commands.prune.identity import Settled, choice, document, identity, origin_of
from dataset_audit.errors import UsageError
from dataset_audit.progress import Progress
from dataset_audit.report.document import Output, Report
from dataset_audit.tables import files, outputs, parquet, sidecar
from dataset_audit.tables.manifest import ManifestTable, of_all
from dataset_audit.tables.scores import ScoreTable
from dataset_audit.tables.shards import Shards, digest, find

if TYPE_CHECKING:
    from dataset_audit.select.stream import Engine

STREAMED_ABOVE: Final = whole.RANKS_UP_TO  # rows; beyond, a table is read a row group at a time


def run(config: Config, progress: Progress, engine: Engine | None = None) -> Report:
    """Choose, write the manifest, and report what changed; or only report, with ``dry_run``.

    A table of more than STREAMED_ABOVE rows is not read into memory if the request allows; the manifest is the same.

    Args:
        config: The request.
        progress: Where to say how it goes.
        engine: What works on a table of any size, row group by row group; None takes this machine for large ones.

    Raises:
        UsageError: Contradictory request, scores of another data set, an output of another configuration.
        DataError: Bad bytes, or scores that cannot be ranked.
        EnvironmentProblem: The manifest could not be written.
    """
    _check_output(config)
    _spare_inputs(config)
    if config.engine == "ray" and engine is None:
        from dataset_audit.cluster.on_ray import ray_engine  # noqa: PLC0415 - only then

        with ray_engine(progress) as tasks:
            return run(config, progress, tasks)
    one = config.scores.is_file()
    if one and engine is None and not config.in_shards and parquet.rows(config.scores) <= STREAMED_ABOVE:
        return _at_once(config, ScoreTable.read(config.scores, strict=config.strict), progress)
    from dataset_audit.commands.prune import streamed  # noqa: PLC0415 - small tables need not wait for it

    table = Shards.open(config.scores)
    large = engine is not None or config.in_shards or len(table) > STREAMED_ABOVE
    reason = streamed.hindrance(config, table) if large else ""
    if large and not reason:
        _refuse_untrained(config, progress)
        _refuse_without_index(config, table.head)
        return streamed.run(config, table, progress, engine)
    if config.in_shards:
        raise UsageError(f"{config.scores} needs one manifest: {reason}.", do="--out with a .parquet file")
    if reason:
        progress.note(f"{config.scores} is read into memory: {reason}")
    return _at_once(config, table.whole(strict=config.strict), progress)


def _at_once(config: Config, table: ScoreTable, progress: Progress) -> Report:
    _refuse_untrained(config, progress)
    _refuse_without_index(config, table)
    if config.dataset is not None:
        _compare(config, table)
    chosen = whole.choose(config, table, progress)
    ranked = chosen.ranked
    told = identity(
        config,
        Settled(
            scores_sha256=digest([files.sha256_file(path) for path in find(config.scores)]),
            count=chosen.count,
            policy=chosen.policy,
            by=ranked.by,
            hard=ranked.candidates.hard,
            options=chosen.options,
        ),
    )
    report = said.report(config, table, chosen.figures(), told)
    if config.dry_run:
        return report
    with files.locked(config.out):
        files.sweep(config.out, sidecar.sidecar_path(config.out))
        if outputs.standing(config.out, "manifest", told, force=config.force) == "finished":
            return said.up_to_date(config, chosen.count)
        return _write(config, table, chosen, report, told)


def _check_output(config: Config) -> None:
    if not config.in_shards:
        files.check_writable(config.out)
        return
    if config.ranks:
        raise UsageError(
            "--ranks orders all that is kept: it belongs to one manifest.", do="--out with a .parquet file"
        )
    files.check_writable(config.out.with_name(f"{config.out.name}.parquet"))


def _spare_inputs(config: Config) -> None:
    if config.scores.is_dir() and config.out.parent.resolve() == config.scores.resolve():
        raise UsageError(
            f"{config.out} would lie among the shards it is made from.", do="--out in another folder"
        )
    tables = find(config.scores) if config.scores.exists() else []
    inputs = [*tables, *map(sidecar.sidecar_path, tables), *filter(None, (config.embeddings,))]
    made = [config.out, sidecar.sidecar_path(config.out)]
    if config.in_shards:
        made = [sidecar.sidecar_path(of_all(config.out)), *(config.out / path.name for path in tables)]
    for output in made:
        for path in inputs:
            if output.exists() and path.exists() and output.samefile(path):
                raise UsageError(
                    f"{output} is an input; an input is never overwritten.", do="--out with another name"
                )


def _refuse_untrained(config: Config, progress: Progress) -> None:
    for path in find(config.scores):
        try:
            document = sidecar.read(path)
        except FileNotFoundError:
            progress.warn("W-foreign", f"{path} has no sidecar: not made by audit, or unfinished")
            continue
        if document.get("trained") is False and not config.force:
            raise UsageError(
                f"{path} comes from a run that learned nothing: its scores are noise.",
                do="score again with a lower --lr, or --force",
            )


def _refuse_without_index(config: Config, table: ScoreTable) -> None:
    if not table.has("index"):
        raise UsageError(
            f"{config.scores} has no index: which rows of the data set these are is not known.",
            where="columns: " + ", ".join(table.names[:50]),
            do="add the column index, 0 for the first example of the data set",
        )


def _compare(config: Config, table: ScoreTable) -> None:
    """Refuse scores that were made for other data than ``--dataset`` holds now; every row is looked at."""
    from dataset_audit.images import compare  # noqa: PLC0415 - decoders
    from dataset_audit.images.dataset import open_dataset, opening  # noqa: PLC0415

    origin = table.provenance
    dataset = open_dataset(
        config.dataset or "", data_root=config.data_root, **opening(origin.opened if origin else {})
    )
    label = "clean_label" if table.has("clean_label") else "label"
    rows = compare.Rows(
        made_by=str(config.scores),
        n=table.provenance.n if table.provenance else 0,
        index=table.integers("index"),
        uids=table.strings("uid") if table.has("uid") else None,
        labels=table.integers(label) if table.has(label) else None,
        file_names=table.strings("file_name") if table.has("file_name") else None,
    )
    if config.match == "uid":
        compare.match_by_uid(rows, dataset)
        return
    compare.check_length(rows, dataset)
    compare.check_rows(rows, dataset, np.arange(len(table)))


def _write(
    config: Config, table: ScoreTable, chosen: whole.Choice, report: Report, told: Mapping[str, object]
) -> Report:
    origin = origin_of(table.provenance, len(table))
    manifest = ManifestTable.of(
        table, chosen.selection, origin, choice(config, told, nested=said.nested(config, chosen.policy))
    )
    written = manifest.write(
        config.out,
        document=document(
            config, config.out, rows=len(manifest), origin=origin, report=report, identity=told
        ),
    )
    output = Output(str(config.out), len(manifest), written.size, written.sha256)
    return replace(report, outputs=(output,))
