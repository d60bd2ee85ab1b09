"""The fits of ``audit bias``: what is tried on what, each finished one kept so that an interrupted call goes on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, replace
from functools import partial
from hashlib import sha256
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from dataset_audit import seeds
from dataset_audit.bias.ablations import ABLATIONS, apply_ablation
from dataset_audit.bias.controls import CONTROLS, Bench, raw
from dataset_audit.bias.folds import thinned
from dataset_audit.bias.measure import Outcome, Trial, outcome, try_probe
from dataset_audit.probes.classify import Fold, boosted
from dataset_audit.probes.registry import PROBES
from dataset_audit.progress import Progress
from dataset_audit.tables import unfinished
from dataset_audit.train.distributed import ALONE, World, awaited

if TYPE_CHECKING:
    from dataset_audit.probes.network import Training

Key = tuple[str, str]  # trial and probe
CURVE = (1 / 16, 1 / 8, 1 / 4, 1 / 2, 1.0)  # shares of the training pictures on the learning curve


@dataclass(frozen=True, eq=False)
class Said:
    """What the network of one fold said.

    Attributes:
        probability: float64[T, K], of its test rows.
        validation: Accuracy on its validation rows.
        seconds: Of training and telling.
    """

    probability: NDArray[np.float64]
    validation: float
    seconds: float


@dataclass(frozen=True, kw_only=True)
class Store:
    """Where finished fits are kept until the table is written.

    Attributes:
        folder: Bound to one configuration.
        digest: Of that configuration.
    """

    folder: Path
    digest: str

    def _path(self, key: tuple[str, ...]) -> Path:
        return self.folder / f"{sha256('|'.join(key).encode()).hexdigest()[:16]}.parquet"

    def has(self, key: Key) -> bool:
        """Return whether a fit is finished."""
        return self.load(*key) is not None

    def load(self, trial: str, probe: str) -> Outcome | None:
        """Return a finished fit of the trial of that name, None if there is none."""
        kept = unfinished.kept(self._path((trial, probe)), digest=self.digest)
        if kept is None:
            return None
        columns, told = kept
        return Outcome(
            trial=trial,
            probe=probe,
            rows=columns["rows"].astype(np.int64),
            labels=columns["labels"].astype(np.int64),
            clusters=columns["clusters"].astype(np.int64),
            fold=columns["fold"].astype(np.int64),
            trained=told["trained"],
            probability=_joined(columns, told["classes"]),
            validation=told["validation"],
            seconds=told["seconds"],
        )

    def save(self, found: Outcome) -> None:
        """Keep a finished fit."""
        columns: dict[str, NDArray[np.generic]] = {
            "rows": found.rows,
            "labels": found.labels,
            "clusters": found.clusters,
            "fold": found.fold,
        }
        told = {
            "trained": found.trained,
            "classes": found.classes,
            "validation": found.validation,
            "seconds": found.seconds,
        }
        path = self._path((found.trial, found.probe))
        unfinished.keep(path, columns | _apart(found.probability), told, digest=self.digest)

    def said(self, trial: Trial, number: int) -> Said | None:
        """Return what the network of one fold said, None if it is not trained."""
        kept = unfinished.kept(self._path((trial.name, "network", str(number))), digest=self.digest)
        if kept is None:
            return None
        columns, told = kept
        return Said(_joined(columns, told["classes"]), told["validation"], told["seconds"])

    def keep(self, trial: Trial, number: int, said: Said) -> None:
        """Keep what the network of one fold said."""
        told = {
            "classes": said.probability.shape[1],
            "validation": said.validation,
            "seconds": said.seconds,
        }
        path = self._path((trial.name, "network", str(number)))
        unfinished.keep(path, _apart(said.probability), told, digest=self.digest)


def _apart(probability: NDArray[np.float64]) -> dict[str, NDArray[np.generic]]:
    """Return float64[T, K] as K columns."""
    return {f"p{k}": np.ascontiguousarray(column) for k, column in enumerate(probability.T)}


def _joined(columns: Mapping[str, NDArray[np.generic]], classes: int) -> NDArray[np.float64]:
    """Return float64[T, K] of its K columns."""
    return np.stack([columns[f"p{k}"] for k in range(classes)], 1).astype(np.float64)


def trials(bench: Bench, *, controls: bool, match_classes: bool) -> list[Trial]:
    """Return everything that is tried, the pictures as they are first."""
    made = [raw(bench)]
    for name, control in CONTROLS.items():
        if (name == "classes" and match_classes) or (name != "classes" and controls):
            made += control.trials(bench)
    return made


def curve_trials(trial: Trial, probe: str, seed: int) -> list[Trial]:
    """Return the trial with ever larger shares of its training pictures, for the learning curve of one probe."""
    return [
        replace(
            trial,
            name=f"curve {share:.4f}",
            folds=[thinned(fold, trial.labels, trial.clusters, share, seed) for fold in trial.folds],
            probes=(probe,),
        )
        for share in CURVE[:-1]
        if share * min(len(fold.train) for fold in trial.folds) >= 8 * trial.classes  # of each source
    ]


def ablation_trials(trial: Trial, seed: int, names: Sequence[str] = tuple(ABLATIONS)) -> Iterator[Trial]:
    """Yield the first fold of a trial under each ablation, one at a time, for a network trained anew."""
    for name in names:
        view = replace(trial.view, large=apply_ablation(name, trial.view.network, seed))
        yield replace(trial, name=f"ablate {name}", view=view, folds=trial.folds[:1], probes=("network",))


@dataclass(frozen=True, kw_only=True)
class Lab:
    """What fits are made with.

    Several processes share them out: fits on vectors in equal numbers, networks one training each. No fit depends on
    who makes it, and all processes know all of them in the end.
    """

    store: Store
    training: Training | None
    seed: int
    workers: int
    progress: Progress
    world: World = ALONE

    def run(self, wanted: Sequence[Trial]) -> dict[Key, Outcome]:
        """Fit every probe of every trial, those that work on vectors side by side, networks one after another."""
        pairs = [(trial, probe) for trial in wanted for probe in trial.probes]
        taken = self.world.once(lambda: [self.store.has((trial.name, probe)) for trial, probe in pairs])
        found = {
            (trial.name, probe): self._stored(trial.name, probe)
            for (trial, probe), known in zip(pairs, taken, strict=True)
            if known
        }
        if found:
            self.progress.note(f"{len(found)} finished fits taken over")
        todo = [pair for pair, known in zip(pairs, taken, strict=True) if not known]
        vectors = [(trial, probe) for trial, probe in todo if PROBES[probe].learn is not None]
        mine = self._side_by_side(vectors[self.world.rank :: self.world.size])
        networks = [trial for trial, probe in todo if PROBES[probe].learn is None]
        trainings = [(trial, number) for trial in networks for number in range(len(_used(trial)))]
        for turn in self.world.dealt(
            f"networks of {'|'.join(trial.name for trial in wanted)}", len(trainings)
        ):
            self._network(*trainings[turn])
        self.world.meet(f"fits of {'|'.join(trial.name for trial in wanted)}")
        for trial, probe in vectors:
            key = (trial.name, probe)
            found[key] = mine[key] if key in mine else self._stored(*key)
        for trial in networks:
            found[trial.name, "network"] = self._whole(trial)
        return found

    def ablated(self, trial: Trial, seed: int) -> dict[Key, Outcome]:
        """Train a network under each ablation of a trial; each process makes the pictures it trains on."""
        names, alone = list(ABLATIONS), replace(self, world=ALONE)
        for turn in self.world.dealt("ablations", len(names)):
            if self.store.has((f"ablate {names[turn]}", "network")):
                continue
            for ablation in ablation_trials(trial, seed, [names[turn]]):
                alone.run([ablation])
        self.world.meet("ablations")
        return {(f"ablate {name}", "network"): self._stored(f"ablate {name}", "network") for name in names}

    def _stored(self, trial: str, probe: str) -> Outcome:
        return awaited(partial(self.store.load, trial, probe), self.store.folder)

    def _side_by_side(self, todo: Sequence[tuple[Trial, str]]) -> dict[Key, Outcome]:
        from dataset_audit.train.device import one_thread_each  # noqa: PLC0415 - torch

        found: dict[Key, Outcome] = {}
        if not todo:
            return found
        self.progress.start("fit probes", len(todo), "fits")
        # Sums would depend on the number of threads. Trees are grown one after another beside the rest: scikit-learn
        # changes the process's warning filters while it grows them.
        with (
            one_thread_each(),
            ThreadPoolExecutor(1, thread_name_prefix="fit-trees") as trees,
            ThreadPoolExecutor(max(1, self.workers - 1), thread_name_prefix="fit") as others,
        ):
            waiting = {
                (trees if PROBES[probe].learn is boosted else others).submit(
                    try_probe, trial, probe, self.seed
                ): (trial.name, probe)
                for trial, probe in todo
            }
            try:
                for done, future in enumerate(as_completed(waiting), 1):
                    found[waiting[future]] = future.result()
                    self.store.save(found[waiting[future]])
                    self.progress.advance(done)
            except BaseException:
                for pool in (trees, others):
                    pool.shutdown(wait=False, cancel_futures=True)
                raise
        self.progress.finish()
        return {key: found[key] for key in waiting.values()}

    def _network(self, trial: Trial, number: int) -> None:
        """Train on one fold of a trial and keep what the network says, unless an earlier call did."""
        from dataset_audit.probes.network import train  # noqa: PLC0415 - torch

        if self.training is None:
            raise ValueError("no network was prepared")
        if self.store.said(trial, number) is not None:
            return
        began, fold = perf_counter(), trial.folds[number]
        total = self.training.presentations(len(fold.train))
        self.progress.start(f"network, {trial.name} {number + 1}/{len(_used(trial))}", total, "images")
        learned = train(
            trial.view.network,
            trial.labels,
            fold,
            self.training,
            seed=seeds.integer(self.seed, "network", trial.name, number),
            progress=self.progress,
        ).learned
        self.progress.finish()
        said = Said(learned.probability, learned.validation, perf_counter() - began)
        self.store.keep(trial, number, said)

    def _whole(self, trial: Trial) -> Outcome:
        """Return what the networks of all folds of a trial said, and keep it as one."""
        said = [
            awaited(partial(self.store.said, trial, number), self.store.folder)
            for number in range(len(_used(trial)))
        ]
        told = [(one.probability, one.validation) for one in said]
        found = outcome(trial, "network", told, sum(one.seconds for one in said))
        if self.world.first:
            self.store.save(found)
        return found


def _used(trial: Trial) -> Sequence[Fold]:
    """Return the folds of a trial on which a network is trained."""
    return trial.folds[: trial.network_folds or None]
