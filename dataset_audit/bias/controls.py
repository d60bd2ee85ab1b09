"""CONTROLS: what each takes away or holds fixed, and the trials it is made of."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from dataset_audit import seeds
from dataset_audit.bias.folds import folds, parts, unlearnable
from dataset_audit.bias.measure import Trial, permuted_labels
from dataset_audit.bias.stock import LEAST, Stock
from dataset_audit.bias.views import VIEWS, Seen
from dataset_audit.errors import DataError
from dataset_audit.probes.registry import PROBES

Role = Literal["null", "floor", "removes", "shows", "surviving"]
UNEQUAL: Final = 1.1  # largest over smallest part of a source beyond which guessing the largest beats 1/K


@dataclass(frozen=True, kw_only=True, eq=False)
class Bench:
    """Everything the trials are made from.

    Attributes:
        stock: The M pictures that are compared, all usable.
        seen: Their views.
        clusters: int64[M], duplicates share a number.
        resamplings: Folds of each trial.
        seed: Of every draw.
        probes: Names of PROBES that may be tried.
        everywhere: Whether the network is tried under every control and not only where the headline needs it.
    """

    stock: Stock
    seen: Seen
    clusters: NDArray[np.int64]
    resamplings: int
    seed: int
    probes: tuple[str, ...]
    everywhere: bool = False


@dataclass(frozen=True, kw_only=True)
class Control:
    """One control.

    Attributes:
        about: What is done.
        role: ``null`` must be at chance; ``floor`` is what artefacts alone give; ``removes`` takes one artefact away;
            ``shows`` shows where the answer lies; ``surviving`` takes everything away together.
        trials: Makes its trials; none where it cannot be made.
        takes: What it takes away, as a report names it.
        network: Whether the network is tried by default.
    """

    about: str
    role: Role
    trials: Callable[[Bench], list[Trial]]
    takes: str = ""
    network: bool = False


def raw(bench: Bench) -> Trial:
    """Return the trial of the pictures as they are, with every probe.

    Raises:
        DataError: A source is the same few pictures over and over, so that what learns may see none of it.
    """
    trial = _of_view(bench, "raw", probes=bench.probes)
    for number in unlearnable(trial.folds, trial.labels):
        mine = trial.labels == number
        different = len(np.unique(trial.clusters[mine]))
        raise DataError(
            f"{bench.stock.names[number]} has {mine.sum():,} images, of which {different:,} "
            f"{'is' if different == 1 else 'are'} different: too few to learn from some and judge others.",
            where=bench.stock.sources[number].dataset.spec,
            do="leave it out, or join it with another",
            id="E-few",
        )
    return trial


def _of_view(bench: Bench, name: str, *, probes: tuple[str, ...]) -> Trial:
    labels = bench.stock.source
    return Trial(
        name=name,
        view=bench.seen.views[name],
        labels=labels,
        clusters=bench.clusters,
        rows=np.arange(len(labels)),
        folds=folds(labels, bench.clusters, bench.resamplings, bench.seed),
        probes=probes,
    )


def _pixel_probes(bench: Bench, *, traces: bool = True, network: bool = False) -> tuple[str, ...]:
    return tuple(
        name
        for name in bench.probes
        if PROBES[name].sees != "facts"
        and (traces or PROBES[name].sees != "traces")
        and (network or bench.everywhere or PROBES[name].learn is not None)
    )


def _view(name: str, *, network: bool = False, network_folds: int = 0) -> Callable[[Bench], list[Trial]]:
    def made(bench: Bench) -> list[Trial]:
        probes = _pixel_probes(bench, traces=VIEWS[name].traces, network=network)
        return [replace(_of_view(bench, name, probes=probes), network_folds=network_folds)]

    return made


def _part(bench: Bench, name: str, rows: NDArray[np.int64], labels: NDArray[np.int64]) -> Trial:
    """Return a trial on some of the pictures as they are, with the probes that need no network."""
    clusters = bench.clusters[rows]
    return Trial(
        name=name,
        view=bench.seen.views["raw"].only(rows),
        labels=labels,
        clusters=clusters,
        rows=rows,
        folds=folds(labels, clusters, bench.resamplings, bench.seed),
        probes=tuple(probe for probe in bench.probes if bench.everywhere or PROBES[probe].learn is not None),
    )


def _self_split(bench: Bench) -> list[Trial]:
    """Cut each source into K parts by cluster; names are ``self-split SOURCE``."""
    count = len(bench.stock.sources)
    made = []
    for number, name in enumerate(bench.stock.names):
        rows = np.flatnonzero(bench.stock.source == number)
        rng = seeds.rng(bench.seed, "self-split", name)
        part = parts(np.zeros_like(rows), bench.clusters[rows], np.full(count, 1 / count), rng)
        sizes = np.bincount(part, minlength=count)
        if sizes.min() * 3 < LEAST or sizes.max() > UNEQUAL * sizes.min():
            continue
        made.append(_part(bench, f"self-split {name}", rows, part))
    return _learnable(made)


def _permuted(bench: Bench) -> list[Trial]:
    rng = seeds.rng(bench.seed, "permuted")
    labels = permuted_labels(bench.stock.source, bench.clusters, rng)
    trial = _of_view(bench, "raw", probes=bench.probes)
    made = folds(labels, bench.clusters, bench.resamplings, bench.seed)[:1]
    return _learnable([replace(trial, name="permuted", labels=labels, folds=made)])


def matched_rows(bench: Bench) -> NDArray[np.int64]:
    """Return rows such that every source has as many in each cell of (long side, aspect, bytes per pixel).

    Cells are powers of 1.25 of the long side and of bytes per pixel and of 1.1 of the aspect: exact facts of the
    header, nothing estimated. Which of a cell are taken is drawn.
    """
    facts = bench.seen.views["raw"].facts
    long, aspect, density = facts[:, 2], facts[:, 3], facts[:, 4]
    cells = np.stack(
        [
            np.floor(np.log(long) / np.log(1.25)),
            np.floor(np.log(aspect) / np.log(1.1)),
            np.floor(np.log(np.maximum(density, 1e-6)) / np.log(1.25)),
        ],
        axis=1,
    )
    _, cell = np.unique(cells, axis=0, return_inverse=True)
    rng = seeds.rng(bench.seed, "matched")
    return _balanced(cell.ravel(), bench.stock.source, len(bench.stock.sources), rng)


def _balanced(
    cell: NDArray[np.int64], source: NDArray[np.int64], sources: int, rng: np.random.Generator
) -> NDArray[np.int64]:
    """Return rows, ascending, of which each cell holds equally many of every source; -1 is no cell."""
    chosen: list[NDArray[np.int64]] = []
    for number in np.unique(cell[cell >= 0]):
        members = [np.flatnonzero((cell == number) & (source == one)) for one in range(sources)]
        least = min(map(len, members))
        chosen += [rng.permutation(mine)[:least] for mine in members]
    return np.sort(np.concatenate([np.empty(0, np.int64), *chosen]).astype(np.int64))


def _matched(bench: Bench) -> list[Trial]:
    return _subset(bench, "matched", matched_rows(bench))


def _subset(bench: Bench, name: str, rows: NDArray[np.int64]) -> list[Trial]:
    if len(rows) < LEAST * len(bench.stock.sources):
        return []
    return _learnable([_part(bench, name, rows, bench.stock.source[rows])])


def _learnable(made: list[Trial]) -> list[Trial]:
    """Return the trials that have something to learn of every label in every fold."""
    return [trial for trial in made if not unlearnable(trial.folds, trial.labels)]


def shared_classes(stock: Stock) -> list[str]:
    """Return the names of classes that every source has among its pictures, sorted."""
    names = stock.class_names()
    each = [
        {name for name, one in zip(names, stock.source, strict=True) if one == number and name is not None}
        for number in range(len(stock.sources))
    ]
    return sorted(set.intersection(*each))


def _classes(bench: Bench) -> list[Trial]:
    shared = {name: number for number, name in enumerate(shared_classes(bench.stock))}
    cell = np.array([shared.get(name or "", -1) if name else -1 for name in bench.stock.class_names()])
    rng = seeds.rng(bench.seed, "classes")
    return _subset(bench, "classes", _balanced(cell, bench.stock.source, len(bench.stock.sources), rng))


CONTROLS: Final[dict[str, Control]] = {
    "self-split": Control(
        about="each source cut into as many parts as there are sources", role="null", trials=_self_split
    ),
    "permuted": Control(
        about="source names dealt out anew among clusters", role="null", trials=_permuted, network=True
    ),
    "noise": Control(
        about="noise without content, with each picture's size and encoder", role="floor",
        trials=_view("noise", network=True, network_folds=1), network=True,
    ),
    "recode": Control(
        about="all reduced to one size, then JPEG 75", role="removes", trials=_view("recode"),
        takes="the encoder or resizer",
    ),
    "photometric": Control(
        about="one mean and contrast for every picture", role="removes", trials=_view("photometric"),
        takes="brightness or contrast",
    ),
    "centre": Control(
        about="the central half of the area", role="removes", trials=_view("centre"), takes="the border",
    ),
    "border": Control(
        about="the other half, the centre filled", role="shows", trials=_view("border"),
    ),
    "matched": Control(
        about="equal numbers per cell of size, aspect and bytes per pixel", role="removes", trials=_matched,
        takes="size, shape or bytes per pixel",
    ),
    "classes": Control(
        about="equal numbers per class that all sources share", role="shows", trials=_classes,
    ),
    "together": Control(
        about="centre, one mean and contrast, reduced further, JPEG 75", role="surviving",
        trials=_view("together", network=True), network=True,
    ),
}  # fmt: skip
"""In the order of a report; ``classes`` only where labels are to be matched."""
