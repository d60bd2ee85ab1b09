"""Tables larger than memory: the choice is found in a few passes over row groups, and written as it is decided.

Rows and columns are those of `whole`, which is what the tests hold this against. The hash of the scores is computed
beside the passes and compared with the sidecar before anything is written.
"""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dataset_audit.commands.prune import said
from dataset_audit.commands.prune.config import Config
from dataset_audit.commands.prune.identity import Settled, choice, document, identity, origin_of
from dataset_audit.commands.prune.said import Boundary, Figures
from dataset_audit.commands.prune.whole import EMPTY_DO, copied_scores, no_aum, no_labels, too_noisy, wanted
from dataset_audit.errors import DataError, MismatchError
from dataset_audit.progress import Progress
from dataset_audit.report.document import Output, Report
from dataset_audit.select import histogram, stream
from dataset_audit.select.order import Hard
from dataset_audit.select.policies import Options, auto
from dataset_audit.select.ranking import NULL_ABOVE, betas_for, ranking, refuse_empty, undefined
from dataset_audit.select.shards import Decided, Tally, apply
from dataset_audit.select.stream import Engine, Found, Wish
from dataset_audit.select.survey import CODES, DROPPED, SCORED, Kept, Key, Plan, Survey, states
from dataset_audit.select.threads import Threads
from dataset_audit.tables import files, outputs, parquet, sidecar
from dataset_audit.tables.manifest import Layout, Rows, of_all
from dataset_audit.tables.provenance import Provenance
from dataset_audit.tables.shards import Part, Shard, Shards, digest


def hindrance(config: Config, table: Shards) -> str:
    """Return in a phrase why a table must be in memory for a request, "" if it need not."""
    several = table.provenance is not None and bool(table.provenance.sources)
    stratified = config.policy in {"ccs", "auto"}
    classes = table.most("label") + 1 if config.balance and stratified else 1
    hindrances = {
        f"the policy {config.policy} looks at all rows at once": config.policy
        not in (*stream.STREAMED, "auto"),
        "--ranks orders all that is kept": config.ranks is True,
        "--dataset compares every row": config.dataset is not None,
        "its rows come from several data sets": several,
        "its index does not ascend from row group to row group": table.head.has("index")
        and not table.ascending(),
        "its classes have too many strata": stratified
        and not 0 <= classes * config.strata <= stream.MOST_GROUPS,
    }
    return next((reason for reason, holds in hindrances.items() if holds), "")


@dataclass(frozen=True, eq=False)
class _Chosen:
    """A choice that was found, and the words in which it is told."""

    found: Found
    policy: str
    by: tuple[str, ...]
    hard: tuple[Hard, ...]
    why: str
    options: Options


def run(config: Config, table: Shards, progress: Progress, engine: Engine | None) -> Report:
    """Choose among the rows of a table, write the manifest, and report; see `story.run`."""
    with ExitStack() as open_:
        as_found = {path: files.state(path) for path in table.files}
        if engine is None:
            beside = None if config.dry_run or config.out.is_char_device() else config.out.parent
            engine = open_.enter_context(Threads(progress=progress, folder=beside))
        engine.forget()
        hashing = open_.enter_context(ThreadPoolExecutor(1)).submit(table.verify, strict=config.strict)
        try:
            chosen = _choose(config, table, progress, engine)
        except DataError:
            hashing.result()  # that the file is not what it was explains more
            raise
        told = identity(
            config,
            Settled(
                scores_sha256=digest(hashing.result()),
                count=chosen.found.count,
                policy=chosen.policy,
                by=chosen.by,
                hard=chosen.hard,
                options=chosen.options,
            ),
        )
        work = _Work(config, table, progress, engine, chosen, told, as_found)
        if config.dry_run:
            return work.report(work.count())
        if config.in_shards:
            return work.write_shards()
        return work.write_one()


def _choose(config: Config, table: Shards, progress: Progress, engine: Engine) -> _Chosen:
    head = table.head
    plan = Plan(
        keys=(),
        aum=None,
        noisy_below=config.noisy_below if config.drop_noisy else None,
        seed=config.seed,
        status=head.has("status"),
        presentations=head.has("presentations"),
        labels=head.has("label"),
    )
    policy = config.policy
    known = engine.gather(table, partial(states, plan=plan), np.add)
    _refuse_nothing(config, known)
    if policy == "auto":
        rankable = int(known[SCORED])
        policy = auto(config.keep.count(rankable) / rankable)
    by, hard, why = ranking(wanted(config), head, policy, progress)
    keys = tuple(_key(config, name, end) for name, end in zip(by, hard, strict=True))
    aum = _key(config, "aum", "low") if (policy == "ccs" or config.drop_noisy) and head.has("aum") else None
    plan = replace(plan, keys=keys, aum=aum)
    options = Options(skip=config.skip, beta=config.beta, strata=config.strata, table=betas_for(head))
    wish = Wish(
        policy=policy,
        balance=config.balance and plan.labels,
        count=config.keep.count,
        floor=0 if config.allow_empty_class else 1,
        beta=lambda pruned: replace(options, pruned=pruned).beta_or_default(),
        strata=config.strata,
    )
    survey = stream.look(table, plan, wish, engine)
    _refuse(config, plan, survey)
    found = stream.search(table, plan, survey, wish, engine)
    return _Chosen(found, policy, by, hard, why, replace(options, pruned=1 - found.count / survey.rankable))


def _key(config: Config, name: str, hard: Hard) -> Key:
    above = NULL_ABOVE.get(name)
    null: Hard | None = None if above is None else "high" if above else "low"
    return Key(name=name, hard=hard, null=null, nan=config.nan)


def _refuse_nothing(config: Config, found: NDArray[np.int64]) -> None:
    if not found[SCORED]:
        words = [CODES[code] for code in range(1, len(found)) if found[code]]
        raise DataError(f"{config.scores} has no row that can be ranked.", where=", ".join(words))


def _refuse(config: Config, plan: Plan, survey: Survey) -> None:
    """Raise what the rows themselves forbid."""
    for key in plan.columns:
        extent = survey.extents[key.name]
        if extent.unknown and key.nan == "refuse":
            raise undefined(key.name, extent.unknown, extent.where, config.scores)
    _refuse_nothing(config, survey.states)
    count = config.keep.count(survey.rankable)
    if config.drop_noisy:
        if plan.aum is None:
            raise no_aum()
        left = sum(survey.pool.values())
        if left < count:
            raise too_noisy(left, survey.rankable, count)
    if config.balance and not (plan.labels and any(label >= 0 for label in survey.pool)):
        raise no_labels(config)


@dataclass(frozen=True, eq=False)
class _Work:
    """What is done once the choice is found."""

    config: Config
    table: Shards
    progress: Progress
    engine: Engine
    chosen: _Chosen
    told: Mapping[str, object]
    as_found: Mapping[Path, tuple[int, ...] | None]

    @property
    def layout(self) -> Layout:
        """How rows of the manifest are made."""
        words = list(CODES)
        words[SCORED], words[DROPPED] = "policy", stream.WORD[self.chosen.policy]
        return Layout.of(
            self.table.head, copied_scores(self.chosen.by), tuple(words), all_rows=self.config.all_rows
        )

    @property
    def origin(self) -> Provenance:
        """Of the manifest."""
        return origin_of(self.table.provenance, len(self.table))

    def count(self) -> Tally:
        """Return what the choice comes to; nothing is written."""
        tally = Tally()
        for each in stream.decide(self.table, self.chosen.found, _tallied, self.engine):
            tally.add(each)
        self._refuse_changed()
        return tally

    def _refuse_changed(self) -> None:
        """Raise if the scores are no longer those that were hashed, before anything made of them has its name."""
        for path, before in self.as_found.items():
            files.refuse_changed(path, before)

    def report(self, tally: Tally) -> Report:
        """Return the report, or refuse a choice that empties a class."""
        head, rankable = self.table.head, self.chosen.found.survey.rankable
        if not self.config.allow_empty_class:
            emptied = [label for label, (_, kept) in sorted(tally.classes.items()) if label >= 0 and not kept]
            refuse_empty(head, emptied, kept=tally.kept, rankable=rankable, do=EMPTY_DO)
        figures = self._figures(tally)
        return said.report(self.config, head, figures, self.told)

    def _figures(self, tally: Tally) -> Figures:
        words = self.layout.words
        dropped = {words[code]: int(rows) for code, rows in enumerate(tally.codes) if rows and code != SCORED}
        survey = self.chosen.found.survey
        edges = {edge.word for edge in tally.edges.values()}
        if len(edges) == 1 and survey.rankable > 1:
            self.progress.warn(
                "W-ties",
                f"every row has the same {self.chosen.by[0]}: what follows it decides the ranking",
            )
        return Figures(
            rows=len(self.table),
            rankable=survey.rankable,
            kept=tally.kept,
            dropped=dict(sorted(dropped.items())),
            classes=tally.classes,
            boundary=_boundary(tally, self.chosen.found) if tally.kept < survey.rankable else None,
            by=self.chosen.by,
            why=self.chosen.why,
            policy=self.chosen.policy,
        )

    def write_one(self) -> Report:
        """Write one manifest while the rows are decided."""
        out = self.config.out
        with files.locked(out):
            files.sweep(out, sidecar.sidecar_path(out))
            if outputs.standing(out, "manifest", self.told, force=self.config.force) == "finished":
                return self._up_to_date()
            tally, rows, layout = Tally(), 0, self.layout
            reports: list[Report] = []

            def write(temp: Path) -> None:
                nonlocal rows
                work = partial(_made, layout=layout)
                with parquet.appending(temp, layout.schema, self._footer()) as appender:
                    for each, made in stream.decide(self.table, self.chosen.found, work, self.engine):
                        tally.add(each)
                        appender.append(made)
                        rows += made.num_rows
                self._refuse_changed()
                reports.append(self.report(tally))

            def beside() -> Mapping[str, object]:
                return document(
                    self.config, out, rows=rows, origin=self.origin, report=reports[0], identity=self.told
                )

            written = files.publish(out, write, beside, beside=sidecar.sidecar_path(out))
            if not reports:  # into /dev/null nothing is written
                reports.append(self.report(self.count()))
            output = Output(str(out), rows, written.size, written.sha256)
            return replace(reports[0], outputs=(output,))

    def _footer(self) -> dict[str, str]:
        nested = said.nested(self.config, self.chosen.policy)
        return self.origin.footer("manifest") | choice(self.config, self.told, nested=nested)

    def _up_to_date(self) -> Report:
        return said.up_to_date(self.config, self.chosen.found.count)

    def write_shards(self) -> Report:
        """Write a manifest for each file of scores, then the sidecar of the folder, which says that all are there."""
        out = self.config.out
        with files.locked(out):
            beside = sidecar.sidecar_path(of_all(out))
            files.make_folder(out)
            report = self.report(self.count())
            if _finished(out, self.told, force=self.config.force):
                return self._up_to_date()
            writer = _ShardWriter(
                self.config, self.chosen.found, self.layout, self._footer(), report, self.told, self.as_found
            )
            made = self.engine.shards(self.table, writer)
            rows = sum(each.rows for each in made)
            whole = document(
                self.config, out, rows=rows, origin=self.origin, report=report, identity=self.told
            )
            names = {Path(each.path).name: each.sha256 for each in made}
            whole |= {"shards": names, "sha256": digest(list(names.values()))}
            self._refuse_changed()
            files.write_bytes(beside, sidecar.encode(whole))
            return replace(report, outputs=tuple(made))


def _finished(out: Path, told: Mapping[str, object], *, force: bool) -> bool:
    """Return whether a folder holds all manifests of this very request.

    Raises:
        MismatchError: It holds those of another one, and ``force`` was not given.
    """
    try:
        stored = sidecar.read(of_all(out))
    except FileNotFoundError:
        return False
    different = outputs.differences(stored.get("config"), told)
    if different and not force:
        raise MismatchError(
            f"{out} holds another run: {'; '.join(different)}.",
            do="--out with another name, or --force to replace it",
        )
    shards = stored.get("shards")
    if different or force or not isinstance(shards, dict):
        return False
    paths = {name: out / name for name in shards}
    return all(path.is_file() and files.sha256_file(path) == shards[name] for name, path in paths.items())


@dataclass(frozen=True, eq=False)
class _ShardWriter:
    """Writes the manifest of one file of scores, wherever it is sent; what is finished already stays."""

    config: Config
    found: Found
    layout: Layout
    footer: Mapping[str, str]
    report: Report
    told: Mapping[str, object]
    as_found: Mapping[Path, tuple[int, ...] | None]

    def __call__(self, shard: Shard, *, kept: Kept) -> Output:
        """Write it."""
        target = self.config.out / shard.path.name
        beside = sidecar.sidecar_path(target)
        told = {**self.told, "shard": shard.path.name}
        rows = 0

        def write(temp: Path) -> None:
            nonlocal rows
            with parquet.appending(temp, self.layout.schema, self.footer) as appender:
                for part in shard.parts():
                    decided = apply(part, self.found.request, self.found.thresholds, kept)
                    _, made = _made(part, decided, self.layout)
                    appender.append(made)
                    rows += made.num_rows
            files.refuse_changed(shard.path, self.as_found[shard.path])

        def stated() -> Mapping[str, object]:
            origin = origin_of(shard.provenance, 0)
            return document(self.config, target, rows=rows, origin=origin, report=self.report, identity=told)

        with files.locked(target):
            files.sweep(target, beside)
            if outputs.standing(target, "manifest", told, force=self.config.force) == "finished":
                digest_ = files.sha256_file(target)
                return Output(str(target), parquet.rows(target), target.stat().st_size, digest_)
            written = files.publish(target, write, stated, beside=beside)
        return Output(str(target), rows, written.size, written.sha256)


def _tallied(part: Part, decided: Decided) -> Tally:  # noqa: ARG001 - as all work on decisions
    return decided.tally


def _made(part: Part, decided: Decided, layout: Layout) -> tuple[Tally, Rows]:
    return decided.tally, layout.rows(part, decided.keep, decided.codes, decided.stratum)


def _boundary(tally: Tally, found: Found) -> Boundary | None:
    """Return how many rows tie on the first key where the cut falls, if any do; see `whole`."""
    if (True, "low") not in tally.edges or (False, "low") not in tally.edges:
        return None
    inside, outside = ({end: tally.edges[kept, end] for end in ("low", "high")} for kept in (True, False))
    pairs = {
        inside["low"].word: (inside["low"], outside["high"]),
        inside["high"].word: (inside["high"], outside["low"]),
    }
    tied = [(mine, other) for mine, other in pairs.values() if mine.word == other.word]
    if len(tied) != 1:
        return None
    mine, other = tied[0]
    key = found.request.plan.keys[0]
    width = found.survey.extents[key.name].width
    value = found.beyond.get(mine.word, histogram.number(mine.word, width))
    return Boundary(value, mine.rows + other.rows, mine.rows)
