"""From what was named to one pool of images: open, match classes by name, draw as many of each set, read once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from typing import Final

import numpy as np
from numpy.typing import NDArray

from dataset_audit import seeds
from dataset_audit.commands.transfer.config import LEAST, Config
from dataset_audit.errors import DataError, UsageError
from dataset_audit.images.dataset import ImageDataset, open_dataset
from dataset_audit.images.duplicates import clusters, pixel_hash
from dataset_audit.images.opened import ArraySource
from dataset_audit.images.opened import Source as Bytes
from dataset_audit.images.scan import check_skipped, scan
from dataset_audit.images.several import refuse_twice, short_names
from dataset_audit.probes import features
from dataset_audit.progress import Progress
from dataset_audit.transfer.sampling import OTHER, Pool, quotas

SIDE: Final = 64  # pixels of the small copies
PER_SOURCE: Final = 1000
PER_CLASS: Final = 50  # images, by which the default grows with many classes
MEMORY: Final = 2**30  # bytes that decoding may take at one time


@dataclass(frozen=True, eq=False)
class Set:
    """One of the sets.

    Attributes:
        name: Short, unlike all others.
        dataset: Its examples.
        label: int64[N], place among the transferred classes, OTHER for further ones, -2 without label.
    """

    name: str
    dataset: ImageDataset
    label: NDArray[np.int64]


@dataclass(frozen=True, kw_only=True, eq=False)
class Choice:
    """The sets, the classes they share, and how many images of each.

    Attributes:
        sets: In the order given.
        classes: Names.
        quota: int64[C], images of each class to take from every set.
        others: Images of other classes to take from every set.
        counts: int64[K, C], labels there are.
        labelled: int64[K], images with any label.
    """

    sets: tuple[Set, ...]
    classes: tuple[str, ...]
    quota: NDArray[np.int64]
    others: int
    counts: NDArray[np.int64]
    labelled: NDArray[np.int64]

    @property
    def names(self) -> tuple[str, ...]:
        """Of the sets."""
        return tuple(each.name for each in self.sets)

    @property
    def per_source(self) -> int:
        """Images to take from every set."""
        return int(self.quota.sum()) + self.others


@dataclass(frozen=True, kw_only=True, eq=False)
class Gathered:
    """What was read.

    Attributes:
        pool: Set, class and cluster of each image.
        pixels: uint8[N, 64, 64, 3], small copies.
        fingerprint: Identity of all that was drawn.
        skipped: Drawn images that could not be read.
    """

    pool: Pool
    pixels: NDArray[np.uint8]
    fingerprint: str
    skipped: int

    @property
    def crossing(self) -> int:
        """Images that have a duplicate in another set."""
        cluster, source = self.pool.cluster, self.pool.source
        first = np.full(len(cluster), self.pool.sources, np.int64)
        last = np.full(len(cluster), -1, np.int64)
        np.minimum.at(first, cluster, source)
        np.maximum.at(last, cluster, source)
        return int((first[cluster] < last[cluster]).sum())


def choose(config: Config) -> Choice:
    """Open the sets, match their classes, and decide how many images of each to take.

    Raises:
        UsageError: A set named twice, without labels, or no class in common.
        DataError: A set has too few images of a class, or of others.
    """
    refuse_twice(config.sources)
    datasets = [
        open_dataset(
            spec, data_root=config.data_root, download=config.download, split=config.split, seed=config.seed
        )
        for spec in config.sources
    ]
    names = short_names(config.sources)
    for name, dataset in zip(names, datasets, strict=True):
        if not (dataset.labels >= 0).any():
            raise UsageError(
                f"{name} has no labels: nothing can be learned there or tested.",
                where=dataset.spec,
                do="folders directly under a data set are its classes",
                id="E-unlabelled",
            )
    classes = _classes(config, names, datasets)
    sets = tuple(
        Set(name, dataset, _labels(dataset, classes)) for name, dataset in zip(names, datasets, strict=True)
    )
    counts = np.stack([np.bincount(each.label[each.label >= 0], minlength=len(classes)) for each in sets])
    others = np.array([(each.label == OTHER).sum() for each in sets])
    total = config.per_source or max(PER_SOURCE, PER_CLASS * len(classes))
    quota, rest = quotas(counts, others, total)
    _refuse_few(counts, names, classes, "has")
    if quota.min() < LEAST:
        raise UsageError(
            f"--per-source {total}: {quota.min()} images of {classes[int(quota.argmin())]}; {LEAST} are the least.",
            do=f"--per-source {max(PER_SOURCE, PER_CLASS * len(classes))}, or fewer --classes",
        )
    if len(classes) == 1 and rest < LEAST:
        poorest = int(others.argmin())
        raise DataError(
            f"{names[poorest]} has {others[poorest]:,} images that are no {classes[0]}; {LEAST} are the least.",
            where=datasets[poorest].spec,
            do="sets with other classes beside it",
            id="E-few",
        )
    return Choice(
        sets=sets,
        classes=classes,
        quota=quota,
        others=rest,
        counts=counts,
        labelled=counts.sum(1) + others,
    )


def _classes(config: Config, names: Sequence[str], datasets: Sequence[ImageDataset]) -> tuple[str, ...]:
    """Return the classes asked for, or all that have an example in every set, in the order of the first set."""
    held = [_held(dataset) for dataset in datasets]
    asked = () if config.classes == ("shared",) else config.classes
    for name in asked:
        for which, dataset in zip(names, datasets, strict=True):
            if name not in dataset.class_names:
                raise UsageError(
                    f"{which} has no class {name!r}.",
                    where=f"its classes: {_listed(dataset.class_names)}",
                    do="--classes with names that all sets have; they are matched letter by letter",
                    id="E-no-class",
                )
    shared = asked or tuple(name for name in datasets[0].class_names if all(name in each for each in held))
    if not shared:
        raise UsageError(
            "The sets share no class; classes are matched by name, letter by letter.",
            where="; ".join(
                f"{name}: {_listed(each.class_names)}" for name, each in zip(names, datasets, strict=True)
            ),
            do="rename class folders so that the same things have the same names",
            id="E-no-class",
        )
    return tuple(dict.fromkeys(shared))


def _held(dataset: ImageDataset) -> set[str]:
    return {dataset.class_names[label] for label in np.unique(dataset.labels[dataset.labels >= 0])}


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:10]) + (f" and {len(names) - 10:,} more" if len(names) > 10 else "")


def _labels(dataset: ImageDataset, classes: tuple[str, ...]) -> NDArray[np.int64]:
    place = {name: number for number, name in enumerate(classes)}
    of_label = np.array([*(place.get(name, OTHER) for name in dataset.class_names), OTHER - 1], np.int64)
    return of_label[np.where(dataset.labels < 0, len(dataset.class_names), dataset.labels)]


def _refuse_few(counts: NDArray[np.int64], names: Sequence[str], classes: Sequence[str], has: str) -> None:
    if counts.min() >= LEAST:
        return
    source, label = divmod(int(counts.argmin()), len(classes))
    few = int((counts.min(0) < LEAST).sum())
    raise DataError(
        f"{names[source]} {has} {counts.min():,} images of {classes[label]}; {LEAST} of each class are the least.",
        where=f"{few:,} of {len(classes):,} classes are too few",
        do="--classes with those that have more" if len(classes) > few else "larger sets",
        id="E-few",
    )


def read(config: Config, choice: Choice, progress: Progress) -> Gathered:
    """Draw the images by chance, read each once, and find duplicates within and across sets.

    Raises:
        DataError: Too many cannot be read, or too few of a class can.
        EnvironmentProblem: They may not be read.
    """
    drawn = [_drawn(each, choice, config.seed) for each in choice.sets]
    small, hashes, source, label, prints = [], [], [], [], []
    skipped = 0
    for number, (each, rows) in enumerate(zip(choice.sets, drawn, strict=True)):
        for id_, text in each.dataset.warnings:
            progress.warn(id_, f"{each.name}: {text}")
        copies, found, ok, fingerprint = _read_one(config, each, rows, progress)
        small.append(copies[ok])
        hashes += [found[row] for row in np.flatnonzero(ok)]
        source.append(np.full(int(ok.sum()), number))
        label.append(each.label[rows[ok]])
        prints.append(fingerprint)
        skipped += int((~ok).sum())
    labels, sources = np.concatenate(label), np.concatenate(source)
    counts = np.zeros((len(choice.sets), len(choice.classes)), np.int64)
    np.add.at(counts, (sources[labels >= 0], labels[labels >= 0]), 1)
    _refuse_few(counts, choice.names, choice.classes, "gave")
    pixels = np.concatenate(small)
    grey = features.luma(features.area(pixels, 32))
    return Gathered(
        pool=Pool(
            source=sources,
            label=labels,
            cluster=clusters(grey, hashes),
            sources=len(choice.sets),
            classes=len(choice.classes),
        ),
        pixels=pixels,
        fingerprint=sha256("".join(prints).encode()).hexdigest(),
        skipped=skipped,
    )


def _drawn(each: Set, choice: Choice, seed: int) -> NDArray[np.int64]:
    """Return ascending rows of one set: its quota of each class and of others, drawn by chance."""
    chosen = []
    for label, count in [*enumerate(choice.quota.tolist()), (OTHER, choice.others)]:
        # by the name of the class, not of the set: a copy of a set gives the same draw
        name = choice.classes[label] if label >= 0 else ""
        order = seeds.rng(seed, "transfer", "draw", name).permutation(np.flatnonzero(each.label == label))
        chosen.append(order[:count])
    return np.sort(np.concatenate(chosen))


@dataclass(frozen=True, eq=False)
class _Some:
    """Encoded bytes of some rows of a data set."""

    source: Bytes
    rows: NDArray[np.int64]

    def encoded(self, index: int) -> bytes:
        return self.source.encoded(int(self.rows[index]))


def _read_one(
    config: Config, each: Set, rows: NDArray[np.int64], progress: Progress
) -> tuple[NDArray[np.uint8], list[str], NDArray[np.bool_], str]:
    """Return small copies uint8[n, 64, 64, 3], pixel hashes, which rows are good, and their fingerprint."""
    from dataset_audit.train.batches import fit_to  # noqa: PLC0415 - torch
    from dataset_audit.train.device import cores  # noqa: PLC0415

    whole = each.dataset
    array = None if whole.array is None else whole.array[rows]
    some = replace(
        whole,
        labels=whole.labels[rows],
        source=_Some(whole.source, rows) if array is None else ArraySource(array),
        array=array,
        file_names=None
        if whole.file_names is None
        else [whole.file_names[int(row)] for row in rows.tolist()],
        escaped=None,
        split=None,
    )
    copies = np.zeros((len(rows), SIDE, SIDE, 3), np.uint8)
    hashes = [""] * len(rows)

    def keep(index: int, pixels: NDArray[np.uint8]) -> None:
        hashes[index] = pixel_hash(pixels)
        copies[index] = fit_to(pixels, (SIDE, SIDE))  # one grey channel becomes three

    found = scan(some, workers=config.workers or cores(), memory=MEMORY, progress=progress, keep=keep)
    check_skipped(found, config.max_skipped)
    bad = Counter((error or "").split(":")[0] for error in found.error if error)
    if bad:
        listed = ", ".join(f"{count:,} {cause}" for cause, count in bad.most_common())
        progress.warn(
            "W-skipped", f"{each.name}: {bad.total():,} image{'s' * (bad.total() > 1)} skipped: {listed}"
        )
    return copies, hashes, found.ok, found.fingerprint
