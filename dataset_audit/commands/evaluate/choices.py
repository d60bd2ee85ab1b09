"""From what was asked for to the list of trainings: recipe, subsets of every arm, size and seed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, replace
from hashlib import sha256
from typing import TYPE_CHECKING, Literal

import numpy as np

from dataset_audit.commands.evaluate.config import Config
from dataset_audit.commands.evaluate.data import Data
from dataset_audit.commands.evaluate.tables import Tables
from dataset_audit.errors import UsageError
from dataset_audit.evaluate.arms import Job, Rows, random_subset, redrawn, stratified_subset
from dataset_audit.progress import Progress
from dataset_audit.select.budget import Keep
from dataset_audit.select.policies import POLICIES, Options
from dataset_audit.select.ranking import Ranked, Wanted, betas_for, check_classes, rank
from dataset_audit.tables.scores import COLUMNS, ScoreTable
from dataset_audit.train.defaults import model_for, suited
from dataset_audit.train.models import check_known
from dataset_audit.train.recipes import RECIPES, Recipe, recipe

if TYPE_CHECKING:
    import torch

SIZES = ("0.9", "0.7", "0.5", "0.3")


@dataclass(frozen=True, kw_only=True, eq=False)
class Resolved:
    """Every choice made.

    Attributes:
        recipe: Of all arms, before tuning.
        model: Network of all arms.
        precision: Before the last layer.
        device: Where they are trained.
        seeds: One per training of an arm.
        sizes: Examples kept, with their share of what may be trained on and how that was written, largest first.
        policies: Arms that the scores choose.
        replicated: Whether every seed has a scoring run of its own, so that subsets differ between seeds.
    """

    recipe: Recipe
    model: str
    precision: Literal["bf16", "fp32"]
    device: torch.device
    seeds: tuple[int, ...]
    sizes: tuple[tuple[int, float], ...]
    policies: tuple[str, ...]
    replicated: bool


def choose_recipe(
    config: Config, tables: Tables, size: tuple[int, int], channels: int, *, gpu: bool
) -> tuple[Recipe, str]:
    """Return recipe and network: as asked for, else those that scored, else those of such images on such a device.

    Raises:
        UsageError: There is no such recipe, field or network.
    """
    stored = tables.config.get("recipe")
    scored = _stored_recipe(stored) if isinstance(stored, Mapping) else None
    name, its_model = suited(config.recipe, config.model, size, channels, gpu=gpu)
    if config.recipe is None and scored is not None:
        changes = recipe(scored.name, config.overrides)
        changed = {key.replace("-", "_"): getattr(changes, key.replace("-", "_")) for key in config.overrides}
        chosen = replace(scored, **changed)
    else:
        chosen = recipe(name, config.overrides)
    model = config.model
    if model is None:
        model = tables.model if config.recipe is None else ""
        model = model or (its_model if chosen.name == name else model_for(chosen.name, its_model))
    check_known(model)
    return chosen, model


def _stored_recipe(stored: Mapping[str, object]) -> Recipe | None:
    """Return the recipe a sidecar states; None where this version cannot read it."""
    known = {field.name for field in fields(Recipe)}
    if set(stored) != known or stored["name"] not in RECIPES:
        return None
    values = {key: tuple(value) if isinstance(value, list) else value for key, value in stored.items()}
    try:
        return Recipe(**values)  # type: ignore[arg-type]  # its laws are checked, and a wrong type breaks them
    except (TypeError, UsageError):
        return None


def resolve(
    config: Config,
    tables: Tables,
    data: Data,
    machine: tuple[torch.device, Literal["bf16", "fp32"]],
) -> Resolved:
    """Choose recipe, network, sizes and policies.

    Raises:
        UsageError: Something asked for does not fit.
    """
    device, precision = machine
    chosen, model = choose_recipe(
        config, tables, data.images.size, data.images.channels, gpu=device.type == "cuda"
    )
    policies = _policies(config, tables)
    return Resolved(
        recipe=chosen,
        model=model,
        precision=precision,
        device=device,
        seeds=tuple(config.seed + number for number in range(config.seeds)),
        sizes=_sizes(config, tables, data.rows),
        policies=policies,
        replicated=_replicated(config, tables, policies),
    )


def _policies(config: Config, tables: Tables) -> tuple[str, ...]:
    table = tables.scores
    if table is None:
        if "easiest" in config.arms and config.arms != Config.arms:
            raise UsageError("The arm easiest needs scores.", do="--scores with the table of the manifest")
        return ()
    if config.policies:
        wanted = config.policies
    elif tables.manifest is not None:
        wanted = ()
    else:
        usable = all(table.has(name) for name in POLICIES["dual"].needs)
        wanted = ("hardest", "ccs", *(["dual"] if usable else []))
    anti = ("easiest",) if "easiest" in config.arms else ()
    return tuple(dict.fromkeys([*(name for name in wanted if name != "random"), *anti]))


def _sizes(config: Config, tables: Tables, rows: Rows) -> tuple[tuple[int, float], ...]:
    n = len(rows)
    found: list[tuple[int, float]] = []
    if tables.manifest is not None:
        kept = len(np.intersect1d(tables.manifest.indices(), rows))
        if not kept:
            raise UsageError(
                f"{tables.manifest.path} keeps no example that may be trained on.", do="audit prune"
            )
        found.append((kept, kept / n))
    if tables.scores is not None and (config.keep or tables.manifest is None):
        for keep in config.keep or tuple(Keep.parse(text) for text in SIZES):
            count = keep.count(n)
            found.append((count, float(keep.share) if keep.share is not None else count / n))
    return tuple(sorted(dict(found).items(), reverse=True))


def _replicated(config: Config, tables: Tables, policies: tuple[str, ...]) -> bool:
    """Return whether all that the policies rank by and need is there for a scoring run of every seed."""
    table = tables.scores
    if table is None or tables.runs < config.seeds:
        return False
    ranking = [COLUMNS[name].rank_by or name if name in COLUMNS else name for name in config.by]
    wanted = {*(ranking or [name for name in ("forgetting", "aum") if table.has(name)])}
    for policy in policies:
        wanted |= {*POLICIES[policy].needs, *([POLICIES[policy].by] if POLICIES[policy].by else [])}
    return bool(wanted) and all(table.has(f"{name}_runs") for name in wanted)


class Subsets:
    """Which rows each arm trains on; every choice is made once and remembered.

    Args:
        config: What was asked for.
        tables: Scores or manifest.
        data: What may be trained on.
        resolved: Sizes and seeds.
        progress: Told how things are ranked.
    """

    def __init__(
        self, config: Config, tables: Tables, data: Data, resolved: Resolved, progress: Progress
    ) -> None:
        self._config, self._tables, self._data = config, tables, data
        self._resolved, self._progress = resolved, progress
        self._ranked: dict[tuple[str, int | None], Ranked] = {}
        self.by: dict[str, tuple[str, ...]] = {}

    def kept(self) -> Rows:
        """Return the rows of the manifest that may be trained on, ascending."""
        manifest = self._tables.manifest
        if manifest is None:
            return np.empty(0, np.int64)
        return np.intersect1d(manifest.indices(), self._data.rows)

    def of_policy(self, policy: str, count: int, number: int) -> Rows:
        """Return the rows a policy keeps, ascending.

        Args:
            policy: A key of POLICIES.
            count: How many.
            number: Of the seed; its scoring run is that of the same number where there is one for every seed.
        """
        table = self._tables.scores
        if table is None:
            raise ValueError("policies choose by scores")
        run = number if self._resolved.replicated else None
        ranked = self._of(table, policy, run)
        candidates, options = ranked.candidates, self._options(table, count)
        chosen = POLICIES[policy].choose(candidates, count, options)
        if not self._config.allow_missing_class:
            check_classes(
                table,
                candidates.labels,
                chosen.kept,
                f"a larger --keep for {policy}, another policy, or --allow-missing-class",
            )
        return np.sort(table.integers("index")[ranked.rows[chosen.kept]])

    def _options(self, table: ScoreTable, count: int) -> Options:
        spec = self._config.dataset or ""
        return Options(table=betas_for(table, spec), pruned=1 - count / len(self._data.rows))

    def _of(self, table: ScoreTable, policy: str, run: int | None) -> Ranked:
        if (policy, run) not in self._ranked:
            own = POLICIES[policy].by and not self._config.by
            wanted = Wanted(
                scores=self._config.source,
                by=() if own else self._config.by,
                hard=self._config.hard,
                seed=self._resolved.seeds[run] if run is not None else self._config.seed,
                run=run,
            )
            ranked = rank(wanted, table, policy, self._progress)
            index = table.integers("index")[ranked.rows]
            left = np.flatnonzero(np.isin(index, self._data.rows))  # rows held out are no candidates
            self._ranked[policy, run] = replace(
                ranked, rows=ranked.rows[left], candidates=ranked.candidates.only(left)
            )
            self.by[policy] = ranked.by
        return self._ranked[policy, run]


def jobs(config: Config, data: Data, resolved: Resolved, subsets: Subsets) -> list[Job]:
    """Return every training, seed by seed, so that what changes on the machine meanwhile meets all arms alike.

    Raises:
        UsageError: A choice leaves a class without an example.
    """
    found: list[Job] = []
    for number, seed in enumerate(resolved.seeds):
        if "full" in config.arms:
            found.append(Job(arm="full", seed=seed, rows=data.rows))
        found += [
            Job(arm="curve", seed=seed, rows=data.rows, share=share)
            for share in sorted(set(config.curve))
            if share < 1
        ]
        if config.selective:
            found.append(Job(arm="selective", seed=seed, rows=data.rows, skip=config.selective))
        for count, keep in resolved.sizes:
            found += _sized(config, data, resolved, subsets, (number, seed, count, keep))
    for job in found:
        _check(config, data, job)
    return found


def _sized(
    config: Config, data: Data, resolved: Resolved, subsets: Subsets, at: tuple[int, int, int, float]
) -> Iterator[Job]:
    number, seed, count, keep = at
    kept = subsets.kept()
    if len(kept) == count:
        yield Job(arm="kept", seed=seed, rows=kept, keep=keep, fixed=True)
    for policy in resolved.policies:
        rows = subsets.of_policy(policy, count, number)
        yield Job(arm=policy, seed=seed, rows=rows, keep=keep, fixed=not resolved.replicated)
    if "random" in config.arms or "random" in config.policies:
        yield Job(arm="random", seed=seed, rows=random_subset(data.rows, count, seed), keep=keep)
    if "stratified" in config.arms:
        rows = stratified_subset(data.rows, data.labels[data.rows], count, seed)
        yield Job(arm="stratified", seed=seed, rows=rows, keep=keep)
    if "rs2" in config.arms:
        each = redrawn(data.rows, count, seed)
        yield Job(arm="rs2", seed=seed, rows=each(0), keep=keep, redrawn=each)


def _check(config: Config, data: Data, job: Job) -> None:
    """Refuse a training that would never see one of the classes."""
    if job.redrawn is not None or config.allow_missing_class:
        return
    absent = np.setdiff1d(np.unique(data.labels[data.rows]), np.unique(data.labels[job.rows]))
    if len(absent):
        names = ", ".join(data.class_names[label] for label in absent[:5]) + " ..." * (len(absent) > 5)
        raise UsageError(
            f"{job.arm}, {len(job.rows):,} examples: {len(absent)} class{'es' * (len(absent) > 1)} missing: {names}.",
            do="prune again with --balance, a larger --keep, or --allow-missing-class",
            id="E-class-empty",
        )


def identity(config: Config, data: Data, resolved: Resolved, found: list[Job]) -> dict[str, object]:
    """Return every setting that decides what is trained: what a later call is compared with."""
    rows = sha256()
    for job in found:
        rows.update(job.name.encode() + job.rows.tobytes())
    labels = data.labels[data.rows]
    return {
        "recipe": resolved.recipe.stated(),
        "model": resolved.model,
        "seeds": list(resolved.seeds),
        "budget": config.budget,
        "tune": config.tune,
        "sizes": [count for count, _ in resolved.sizes],
        "arms": sorted({job.arm for job in found}),
        "curve": sorted(set(config.curve)),
        "selective": config.selective,
        "precision": resolved.precision,
        "device": resolved.device.type,
        "compile": config.compile,
        "image_size": list(data.images.size),
        "trainings": len(found),
        "rows_sha256": rows.hexdigest(),
        "labels_sha256": sha256(labels.tobytes()).hexdigest(),
        "fingerprint": data.fingerprint,
        "test": data.test_name,
        "test_fingerprint": data.test_fingerprint,
        "test_rows_sha256": sha256(data.test_rows.tobytes()).hexdigest(),
    }
