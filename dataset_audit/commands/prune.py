"""``audit prune``: from scores to a manifest of exactly as many examples as asked for."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from dataset_audit.errors import DataError, MismatchError, UsageError
from dataset_audit.progress import Progress
from dataset_audit.report.document import Line, Note, Output, Report, Table, Warning
from dataset_audit.select.budget import Keep
from dataset_audit.select.order import Hard, tie_keys
from dataset_audit.select.policies import BETAS, POLICIES, Candidates, Chosen, Options, auto, balanced
from dataset_audit.tables import files, outputs, sidecar
from dataset_audit.tables.manifest import COPIED, ManifestTable, Selection
from dataset_audit.tables.scores import COLUMNS, Provenance, ScoreTable

RANKS_UP_TO: Final = 5_000_000  # rows; beyond, the column keep_rank is written only when asked for
NOTABLE: Final = 2.0  # points a class share may move without a warning
NULL_ABOVE: Final = {"first_learned": True, "last_wrong": False}  # null is beyond that end, by definition


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


@dataclass(frozen=True)
class _Ranked:
    """The rankable rows, and why every other row is not."""

    rows: NDArray[np.int64]
    candidates: Candidates
    by: tuple[str, ...]
    why: str
    excluded: NDArray[np.str_]  # reason per row of the table, "" for rankable ones


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
    excluded = _unscored(config, table)
    scored = int((excluded == "").sum())
    policy = auto(config.keep.count(scored) / scored) if config.policy == "auto" else config.policy
    ranked = _rank(config, table, policy, excluded, progress)
    count = config.keep.count(len(ranked.rows))
    options = _options(config, table, 1 - count / len(ranked.rows))
    chosen = _choose(config, ranked, policy, count, options)
    selection = _selection(config, table, ranked, chosen)
    _check_classes(config, table, ranked, chosen)
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


def _unscored(config: Config, table: ScoreTable) -> NDArray[np.str_]:
    """Return per row why it cannot be ranked, "" where it can.

    Raises:
        DataError: No row can.
    """
    why = np.full(len(table), "", dtype="<U12")
    if table.has("status"):
        why[~table.equals("status", "ok")] = "unreadable"
        why[table.equals("status", "unlabelled") | table.equals("status", "excluded")] = "unscored"
    if table.has("presentations"):
        why[(why == "") & (table.integers("presentations", 0) == 0)] = "unscored"
    if (why != "").all():
        raise DataError(f"{config.scores} has no row that can be ranked.", where=", ".join(np.unique(why)))
    return why


def _default_by(config: Config, table: ScoreTable, policy_name: str) -> tuple[tuple[str, ...], str]:
    """Return the columns to rank by and, in a phrase, why."""
    if config.by:
        return tuple(
            COLUMNS[name].rank_by or name if name in COLUMNS else name for name in config.by
        ), "as asked"
    policy = POLICIES[policy_name]
    if policy.by and table.has(policy.by):
        return (policy.by,), f"what {policy_name} is defined on"
    recommended = table.provenance.recommended if table.provenance else {}
    by = recommended.get("by")
    if by and by != "forgetting" and table.has(str(by)):
        agreement = recommended.get("agreement")
        known = f", agreement {agreement:.2f}" if isinstance(agreement, int | float) else ""
        return (str(by),), f"recommended by its recipe{known}; --by forgetting is the published ranking"
    found = tuple(name for name in ("forgetting", "aum") if table.has(name))
    if found:
        return found, "never learned hardest, then margin"
    usable = [name for name in table.names if name in COLUMNS and COLUMNS[name].hard]
    raise UsageError(
        f"{config.scores} has no column that ranks by default.",
        where="columns: " + ", ".join(table.names[:50]),
        do=f"--by {usable[0]}" if usable else "--by COLUMN --hard high|low",
    )


def _hardness(config: Config, table: ScoreTable, name: str) -> Hard:
    if not table.has(name):
        from difflib import get_close_matches  # noqa: PLC0415

        near = get_close_matches(name, table.names, n=1)
        raise UsageError(
            f"No column {name!r}" + (f"; nearest: {near[0]}." if near else "."),
            where="columns: " + ", ".join(table.names[:50]),
        )
    known = table.hard(name)
    if name in COLUMNS and COLUMNS[name].hard is None:
        raise UsageError(f"The column {name} does not rank.", do="--by another column")
    if known and config.hard and known != config.hard and name in COLUMNS:
        raise UsageError(f"{name} is hard at its {known} end; --hard {config.hard} contradicts that.")
    hard = config.hard or known
    if hard is None:
        raise UsageError(
            f"Which end of {name!r} is hard is not known.", do=f"--by {name} --hard high, or --hard low"
        )
    return hard


def _rank(
    config: Config, table: ScoreTable, policy: str, excluded: NDArray[np.str_], progress: Progress
) -> _Ranked:
    by, why = _default_by(config, table, policy)
    if config.by and by != config.by:
        progress.note(
            f"ranking by {', '.join(by)}: it puts never learned hardest, {', '.join(config.by)} does not"
        )
    hard = tuple(_hardness(config, table, name) for name in by)
    n = len(table)
    excluded = excluded.copy()
    keys = [_known(config, table, name, end, excluded) for name, end in zip(by, hard, strict=True)]
    needed = {*POLICIES[policy].needs, *(["aum"] if config.drop_noisy else [])}
    columns = {
        name: _known(config, table, name, COLUMNS[name].hard or "low", excluded)
        for name in sorted(needed)
        if table.has(name)
    }
    rows = np.flatnonzero(excluded == "")
    if not len(rows):
        raise DataError(
            f"{config.scores} has no row that can be ranked.", where=", ".join(np.unique(excluded))
        )
    candidates = Candidates(
        keys=tuple(key[rows] for key in keys),
        hard=hard,
        tie=tie_keys(config.seed, table.uid_words(), table.integers("index"))[rows],
        labels=(table.integers("label") if table.has("label") else np.full(n, -1))[rows],
        columns={name: values[rows] for name, values in columns.items()},
        embeddings=_embeddings(config, n, rows),
    )
    if len(rows) > 1 and candidates.keys[0].min() == candidates.keys[0].max():
        progress.warn("W-ties", f"every row has the same {by[0]}: what follows it decides the ranking")
    return _Ranked(rows, candidates, by, why, excluded)


def _known(
    config: Config, table: ScoreTable, name: str, end: Hard, excluded: NDArray[np.str_]
) -> NDArray[np.float64]:
    """Return a column, float64[N], finite in every row that is not excluded; with ``--nan drop`` excludes more."""
    values = table.floats(name)
    if name in NULL_ABOVE:
        values = _beyond(values, np.isnan(values), "high" if NULL_ABOVE[name] else "low")
    unknown = ~np.isfinite(values) & (excluded == "")
    if not unknown.any():
        return values
    if config.nan == "refuse":
        first = ", ".join(map(str, np.flatnonzero(unknown)[:5]))
        raise DataError(
            f"{name} is null, NaN or infinite in {unknown.sum():,} rows that could be ranked.",
            where=f"{config.scores}, rows {first}",
            do="--nan hardest, or --nan drop",
        )
    if config.nan == "drop":
        excluded[unknown] = "unscored"
        return values
    return _beyond(values, unknown, end)


def _beyond(values: NDArray[np.float64], where: NDArray[np.bool_], end: Hard) -> NDArray[np.float64]:
    """Return ``values`` with the next number past one end of the finite ones put at ``where``.

    Not infinity: strata of equal width need a finite range.
    """
    finite = values[np.isfinite(values)]
    if not len(finite):
        return np.where(where, 0.0, values)
    edge = np.nextafter(finite.max(), np.inf) if end == "high" else np.nextafter(finite.min(), -np.inf)
    return np.where(where, edge, values)


def _embeddings(config: Config, n: int, rows: NDArray[np.int64]) -> NDArray[np.float64] | None:
    if config.embeddings is None:
        return None
    from dataset_audit.tables.vectors import read_vectors  # noqa: PLC0415

    vectors = read_vectors(config.embeddings)
    if len(vectors) != n:
        raise MismatchError(
            f"{config.embeddings} has {len(vectors):,} rows, {config.scores} has {n:,}.",
            do="one vector per example",
        )
    return vectors[rows]


def _choose(config: Config, ranked: _Ranked, policy_name: str, count: int, options: Options) -> Chosen:
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


def _options(config: Config, table: ScoreTable, pruned: float) -> Options:
    """Return what the policy is told; ccs's published cutoffs go by the data set's name, CIFAR-10's otherwise."""
    spec = config.dataset or (table.provenance.spec if table.provenance else "")
    name = Path(spec).name.replace("-", "").lower()
    return Options(
        skip=config.skip,
        beta=config.beta,
        strata=config.strata,
        table=name if name in BETAS else "cifar10",
        pruned=pruned,
    )


def _selection(config: Config, table: ScoreTable, ranked: _Ranked, chosen: Chosen) -> Selection:
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


def _check_classes(config: Config, table: ScoreTable, ranked: _Ranked, chosen: Chosen) -> None:
    labels = ranked.candidates.labels
    emptied = sorted(
        set(np.unique(labels[labels >= 0]).tolist()) - set(np.unique(labels[chosen.kept]).tolist())
    )
    if emptied and not config.allow_empty_class:
        names = ", ".join(_class_name(table, label) for label in emptied[:5]) + (
            " ..." if len(emptied) > 5 else ""
        )
        raise UsageError(
            f"keep {len(chosen.kept):,} of {len(labels):,} would empty {len(emptied)} "
            f"class{'es' * (len(emptied) > 1)}: {names}.",
            do="a larger --keep, --balance, or --allow-empty-class",
            id="E-class-empty",
        )


def _class_name(table: ScoreTable, label: int) -> str:
    names = table.provenance.class_names if table.provenance else ()
    return names[label] if 0 <= label < len(names) else str(label)


def _identity(
    config: Config, ranked: _Ranked, policy: str, count: int, options: Options
) -> dict[str, object]:
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
    ranked: _Ranked,
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


def _boundary(ranked: _Ranked, keep: NDArray[np.bool_]) -> tuple[Line, ...]:
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


def _classes(table: ScoreTable, ranked: _Ranked, keep: NDArray[np.bool_]) -> tuple[Table | None, float]:
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
            _class_name(table, label), f"{before:.1f} %", f"{after:.1f} %", f"{after - before:+.1f}", f"{part:.1f} %",
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
