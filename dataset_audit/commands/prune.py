"""``audit prune``: from scores to a manifest of exactly as many examples as asked for."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from dataset_audit.errors import MismatchError, UsageError
from dataset_audit.progress import Progress
from dataset_audit.report.document import Line, Note, Output, Report, Table, Warning
from dataset_audit.select.budget import Keep
from dataset_audit.select.order import Hard
from dataset_audit.select.policies import POLICIES, Chosen, Options, auto, balanced
from dataset_audit.select.ranking import Ranked, Wanted, betas_for, check_classes, class_name, rank, unscored
from dataset_audit.tables import files, outputs, sidecar
from dataset_audit.tables.manifest import COPIED, ManifestTable, Selection
from dataset_audit.tables.scores import Provenance, ScoreTable

RANKS_UP_TO: Final = 5_000_000  # rows; beyond, the column keep_rank is written only when asked for
NOTABLE: Final = 2.0  # points a class share may move without a warning


@dataclass(frozen=True, kw_only=True)
class Config:
    """Everything ``audit prune`` can be told; names are those of the flags."""

    scores: Path = Path("scores.parquet")
    out: Path = Path("manifest.parquet")
    keep: Keep = Keep.parse("0.7")  # noqa: RUF009 - an immutable value
    by: tuple[str, ...] = ()
    hard: Hard | None = None
    policy: str = "auto"
    skip: float = 0.0
    beta: float | None = None
    strata: int = 50
    embeddings: Path | None = None
    balance: bool = False
    drop_noisy: bool = False
    noisy_below: float = 0.0
    nan: Literal["refuse", "hardest", "drop"] = "refuse"
    allow_empty_class: bool = False
    all_rows: bool = False
    ranks: bool | None = None
    dataset: str | None = None
    data_root: Path | None = None
    match: Literal["index", "uid"] = "index"
    strict: bool = False
    seed: int = 1
    dry_run: bool = False
    force: bool = False
    command: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        laws: dict[str, object] = {
            f"--skip {self.skip:g}: a share in [0, 1)": 0 <= self.skip < 1,
            f"--beta {self.beta}: a share in [0, 1)": self.beta is None or 0 <= self.beta < 1,
            f"--noisy-below {self.noisy_below}: a finite number": np.isfinite(self.noisy_below),
            f"--strata {self.strata}: 1 to 100,000": 1 <= self.strata <= 100_000,
            f"--seed {self.seed}: 0 to 2^63 - 1": 0 <= self.seed < 2**63,
            "--skip belongs to --policy window": self.skip == 0 or self.policy == "window",
            "--beta belongs to --policy ccs or auto": self.beta is None or self.policy in {"ccs", "auto"},
            "--embeddings belongs to --policy moderate": self.embeddings is None or self.policy == "moderate",
            "--policy dual weights by its own columns, not by --by": self.policy != "dual" or not self.by,
        }
        for law, holds in laws.items():
            if not holds:
                raise UsageError(f"{law}.", do="audit prune --help")
        if self.policy != "auto" and self.policy not in POLICIES:
            from difflib import get_close_matches  # noqa: PLC0415

            near = get_close_matches(self.policy, [*POLICIES, "auto"], n=1)
            raise UsageError(
                f"No policy called {self.policy!r}" + (f"; did you mean {near[0]}?" if near else "."),
                do="policies: auto, " + ", ".join(POLICIES),
            )


def run(config: Config, progress: Progress) -> Report:
    """Choose, write the manifest, and report what changed; or only report, with ``dry_run``.

    Raises:
        UsageError: Contradictory request, scores of another data set, an output of another configuration.
        DataError: Bad bytes, or scores that cannot be ranked.
        EnvironmentProblem: The manifest could not be written.
    """
    files.check_writable(config.out)
    _spare_inputs(config)
    table = ScoreTable.read(config.scores, strict=config.strict)
    _refuse_untrained(config, progress)
    if not table.has("index"):
        raise UsageError(
            f"{config.scores} has no index: which rows of the data set these are is not known.",
            where="columns: " + ", ".join(table.names[:50]),
            do="add the column index, 0 for the first example of the data set",
        )
    if config.dataset is not None:
        _compare(config, table)
    excluded = unscored(table, config.scores)
    scored = int((excluded == "").sum())
    policy = auto(config.keep.count(scored) / scored) if config.policy == "auto" else config.policy
    ranked = rank(_wanted(config), table, policy, progress)
    if config.embeddings is not None:
        ranked = _embedded(config.embeddings, ranked, len(table), config.scores)
    count = config.keep.count(len(ranked.rows))
    options = Options(
        skip=config.skip,
        beta=config.beta,
        strata=config.strata,
        table=betas_for(table, config.dataset),
        pruned=1 - count / len(ranked.rows),
    )
    chosen = _choose(config, ranked, policy, count, options)
    selection = _selection(config, table, ranked, chosen)
    if not config.allow_empty_class:
        check_classes(
            table,
            ranked.candidates.labels,
            chosen.kept,
            "a larger --keep, --balance, or --allow-empty-class",
        )
    identity = _identity(config, ranked, policy, count, options)
    report = _report(config, table, ranked, selection, policy=policy, identity=identity)
    if config.dry_run:
        return report
    with files.locked(config.out):
        files.sweep(config.out, sidecar.sidecar_path(config.out))
        if outputs.standing(config.out, "manifest", identity, force=config.force) == "finished":
            return Report(
                "prune",
                f"{config.out} is up to date",
                items=(Note("nothing to do: the finished manifest has these scores and options"),),
                summary={"nothing_to_do": True, "keep_count": count},
            )
        return _write(config, table, selection, report, identity)


def _spare_inputs(config: Config) -> None:
    inputs = [config.scores, sidecar.sidecar_path(config.scores), *filter(None, (config.embeddings,))]
    for output in (config.out, sidecar.sidecar_path(config.out)):
        for path in inputs:
            if output.exists() and path.exists() and output.samefile(path):
                raise UsageError(
                    f"{output} is an input; an input is never overwritten.", do="--out with another name"
                )


def _refuse_untrained(config: Config, progress: Progress) -> None:
    try:
        document = sidecar.read(config.scores)
    except FileNotFoundError:
        progress.warn("W-foreign", f"{config.scores} has no sidecar: not made by audit, or unfinished")
        return
    if document.get("trained") is False and not config.force:
        raise UsageError(
            f"{config.scores} comes from a run that learned nothing: its scores are noise.",
            do="score again with a lower --lr, or --force",
        )


def _wanted(config: Config) -> Wanted:
    return Wanted(
        scores=config.scores,
        by=config.by,
        hard=config.hard,
        also=("aum",) if config.drop_noisy else (),
        nan=config.nan,
        seed=config.seed,
    )


def _embedded(file: Path, ranked: Ranked, n: int, scores: Path) -> Ranked:
    from dataset_audit.tables.vectors import read_vectors  # noqa: PLC0415

    vectors = read_vectors(file)
    if len(vectors) != n:
        raise MismatchError(
            f"{file} has {len(vectors):,} rows, {scores} has {n:,}.", do="one vector per example"
        )
    return replace(ranked, candidates=replace(ranked.candidates, embeddings=vectors[ranked.rows]))


def _choose(config: Config, ranked: Ranked, policy_name: str, count: int, options: Options) -> Chosen:
    policy, candidates = POLICIES[policy_name], ranked.candidates
    left = np.arange(len(candidates))
    noisy = np.zeros(len(candidates), dtype=bool)
    if config.drop_noisy:
        if "aum" not in candidates.columns:
            raise UsageError("--drop-noisy needs the column aum.", do="audit forgetting writes it")
        noisy = candidates.columns["aum"] < config.noisy_below
        left = np.flatnonzero(~noisy)
        if len(left) < count:
            raise UsageError(
                f"--drop-noisy leaves {len(left):,} of {len(candidates):,} examples; {count:,} are to be kept.",
                do="a smaller --keep, or a lower --noisy-below",
            )
    pool = candidates.only(left) if config.drop_noisy else candidates
    if config.balance:
        if (pool.labels < 0).all():
            raise UsageError("--balance needs labels.", where=str(config.scores))
        chosen = balanced(policy, pool, count, options, floor=0 if config.allow_empty_class else 1)
    else:
        chosen = policy.choose(pool, count, options)
    reason = np.full(len(candidates), "noisy", dtype="<U12")
    reason[left] = chosen.reason
    stratum = None
    if chosen.stratum is not None:
        stratum = np.full(len(candidates), -1, dtype=np.int64)
        stratum[left] = chosen.stratum
    return Chosen(left[chosen.kept], reason, stratum)


def _selection(config: Config, table: ScoreTable, ranked: Ranked, chosen: Chosen) -> Selection:
    n = len(table)
    keep = np.zeros(n, dtype=bool)
    kept_rows = ranked.rows[chosen.kept]
    keep[kept_rows] = True
    rank: NDArray[np.int64] | None = None
    if config.ranks or (config.ranks is None and n <= RANKS_UP_TO):
        rank = np.full(n, -1, dtype=np.int64)
        rank[kept_rows] = np.arange(len(kept_rows))
    stratum = np.full(n, -1, dtype=np.int64)
    if chosen.stratum is not None:
        stratum[ranked.rows] = chosen.stratum
    reason = ranked.excluded.copy()
    reason[ranked.rows] = chosen.reason
    reason[keep] = "policy"
    return Selection(
        keep=keep,
        rank=rank,
        stratum=stratum,
        reason=reason,
        scores=tuple(dict.fromkeys(name for name in ranked.by if name not in COPIED)),
        all_rows=config.all_rows,
    )


def _identity(config: Config, ranked: Ranked, policy: str, count: int, options: Options) -> dict[str, object]:
    return {
        "scores_sha256": files.sha256_file(config.scores),
        "keep": config.keep.text,
        "keep_count": count,
        "policy": policy,
        "by": list(ranked.by),
        "hard": list(ranked.candidates.hard),
        "skip": config.skip,
        "beta": options.beta_or_default() if policy == "ccs" else None,
        "strata": config.strata,
        "embeddings_sha256": files.sha256_file(config.embeddings) if config.embeddings else None,
        "balance": config.balance,
        "drop_noisy": config.noisy_below if config.drop_noisy else None,
        "nan": config.nan,
        "allow_empty_class": config.allow_empty_class,
        "all_rows": config.all_rows,
        "ranks": config.ranks,
        "seed": config.seed,
    }


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


def _report(
    config: Config,
    table: ScoreTable,
    ranked: Ranked,
    selection: Selection,
    *,
    policy: str,
    identity: Mapping[str, object],
) -> Report:
    keep, total = selection.keep, len(ranked.rows)
    count = int(keep.sum())
    reasons, numbers = np.unique(selection.reason[~keep], return_counts=True)
    dropped = {str(reason): int(number) for reason, number in zip(reasons, numbers, strict=True)}
    classes, moved = _classes(table, ranked, keep)
    nested = POLICIES[policy].nested and not config.balance
    origin = table.provenance
    spec = "foreign table" if origin is None else origin.spec or ", ".join(one.name for one in origin.sources)
    lines: list[Line | Table | Note] = [
        Line("keep", (f"{count:,} of {total:,} ({config.keep.text})", f"of {len(table):,} rows")),
        Line("policy", (f"auto -> {policy}" if config.policy == "auto" else policy, POLICIES[policy].about)),
        Line("by", (", ".join(ranked.by) + ", tie key", ranked.why)),
        *_boundary(ranked, keep),
        Line(
            "dropped",
            (f"{int((~keep).sum()):,}", *(f"{word} {number:,}" for word, number in dropped.items())),
        ),
        Line(
            "nested",
            (
                "yes: a smaller --keep keeps a subset of these"
                if nested
                else "no: another --keep may add others",
            ),
        ),
    ]
    if config.policy == "auto" and policy == "ccs" and count / total < 0.2:
        lines.append(Note("below 20 % kept a random subset trained with the same care comes close"))
    if classes is not None:
        lines.append(classes)
    warnings = []
    if moved > NOTABLE and not config.balance:
        warnings.append(
            Warning("W-shares", f"class shares moved by up to {moved:.1f} points; --balance keeps them")
        )
    return Report(
        command="prune",
        title=f"{config.scores} ({spec}, {len(table):,} examples) -> {config.out}",
        items=tuple(lines),
        summary={
            **identity,
            "rankable": total,
            "dropped": dropped,
            "nested": nested,
            "largest_share_change_points": moved,
        },
        warnings=tuple(warnings),
        next=f"Manifest.read({str(config.out)!r})",
    )


def _boundary(ranked: Ranked, keep: NDArray[np.bool_]) -> tuple[Line, ...]:
    """Return how many examples tie on the first key where the cut falls, if any do."""
    key, kept = ranked.candidates.keys[0], keep[ranked.rows]
    if kept.all():
        return ()
    inside, outside = key[kept], key[~kept]
    edges = {inside.min(): outside.max(), inside.max(): outside.min()}
    both = [value for value, other in edges.items() if value == other]
    if len(both) != 1:
        return ()
    tied = key == both[0]
    return (
        Line(
            "boundary",
            (
                f"{ranked.by[0]} {both[0]:g}: {tied.sum():,} examples tie there, {(tied & kept).sum():,} of them kept",
            ),
        ),
    )


def _classes(table: ScoreTable, ranked: Ranked, keep: NDArray[np.bool_]) -> tuple[Table | None, float]:
    """Return class shares before and after, the least kept class first, and the largest move in points."""
    labels, kept = ranked.candidates.labels, keep[ranked.rows]
    if (labels < 0).all():
        return None, 0.0
    found, number = np.unique(labels, return_inverse=True)
    sizes, left = np.bincount(number), np.bincount(number[kept], minlength=len(found))
    rows, largest = [], 0.0
    for label, size, stays in zip(found.tolist(), sizes.tolist(), left.tolist(), strict=True):
        if label < 0:
            continue
        before, after = 100 * size / len(labels), 100 * stays / kept.sum()
        largest = max(largest, abs(after - before))
        part = 100 * stays / size
        cells = (
            class_name(table, label), f"{before:.1f} %", f"{after:.1f} %", f"{after - before:+.1f}", f"{part:.1f} %",
        )  # fmt: skip
        rows.append((part, cells))
    rows.sort(key=lambda row: row[0])
    columns = ("class", "before", "after", "change", "kept")
    return Table(columns, tuple(cells for _, cells in rows), left=("class",)), float(largest)


def _write(
    config: Config, table: ScoreTable, selection: Selection, report: Report, identity: Mapping[str, object]
) -> Report:
    origin = table.provenance or Provenance(spec="", fingerprint="", n=len(table), class_names=())
    choice = {
        "audit.keep": json.dumps({"count": identity["keep_count"], "text": config.keep.text}),
        "audit.policy": json.dumps(
            {key: identity[key] for key in ("policy", "skip", "beta", "strata", "balance", "drop_noisy")},
            sort_keys=True,
        ),
        "audit.by": json.dumps(identity["by"]),
        "audit.seed": str(config.seed),
        "audit.scores_sha256": str(identity["scores_sha256"]),
        "audit.nested": json.dumps(report.summary["nested"]),
    }
    manifest = ManifestTable.of(table, selection, origin, choice)
    document = sidecar.document(
        "manifest",
        config.out,
        rows=len(manifest),
        config=identity,
        facts={
            "command": list(config.command),
            "dataset": {"spec": origin.spec, "fingerprint": origin.fingerprint, "n": origin.n},
            "seeds": [config.seed],
            "summary": dict(report.summary),
            "warnings": [{"id": warning.id, "text": warning.text} for warning in report.warnings],
            "inputs": [{"path": config.scores.name, "sha256": identity["scores_sha256"]}],
        },
    )
    written = manifest.write(config.out, document=document)
    return Report(
        command=report.command,
        title=report.title,
        items=report.items,
        summary=report.summary,
        outputs=(Output(str(config.out), len(manifest), written.size, written.sha256),),
        warnings=report.warnings,
        next=report.next,
    )
