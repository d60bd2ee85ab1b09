"""The images that arms are trained and tested on, and whether they are those the table was made for."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from dataset_audit import seeds
from dataset_audit.commands.evaluate.config import EXCLUDED, Config
from dataset_audit.commands.evaluate.tables import Tables
from dataset_audit.errors import DataError, MismatchError, UsageError
from dataset_audit.evaluate.arms import stratified_subset
from dataset_audit.images import compare
from dataset_audit.images.dataset import open_dataset, opening
from dataset_audit.images.labels import flip_labels
from dataset_audit.images.readers import READERS
from dataset_audit.progress import Progress

if TYPE_CHECKING:
    import torch

    from dataset_audit.images.opened import ImageDataset
    from dataset_audit.images.scan import Scan
    from dataset_audit.train.batches import Images

SHARE: Final = re.compile(r"[0-9]*\.[0-9]+|[0-9]+(\.[0-9]+)?%", re.ASCII)
TEST_SPLITS: Final = ("test", "val")


@dataclass(frozen=True, kw_only=True, eq=False)
class Data:
    """What arms are trained and tested on.

    Attributes:
        images: Of the data set, all of one size.
        labels: int64[N], as trained on; -1 where there is none.
        clean: int64[N], before labels were flipped; equal to ``labels`` where none were.
        known_wrong: Whether ``clean`` is known, so that a share of wrong labels can be told.
        rows: int64[n], what may be trained on, ascending.
        test: Images tested on.
        test_rows: int64[M], which of them.
        test_labels: int64[M], in the training set's numbers.
        test_name: For people.
        class_names: In label order.
        fingerprint: Of the data set.
        test_fingerprint: Of the test set, its rows included.
        skipped: Images of the data set that cannot be read.
    """

    images: Images
    labels: NDArray[np.int64]
    clean: NDArray[np.int64]
    known_wrong: bool
    rows: NDArray[np.int64]
    test: Images
    test_rows: NDArray[np.int64]
    test_labels: NDArray[np.int64]
    test_name: str
    class_names: tuple[str, ...]
    fingerprint: str
    test_fingerprint: str
    skipped: int


def open_training(config: Config, tables: Tables) -> ImageDataset:
    """Open the data set the table is about, before anything heavy is imported.

    Raises:
        UsageError: It names none, or is not there.
        MismatchError: It has another number of examples.
    """
    spec: str | Path = config.dataset or tables.provenance.spec
    if not spec:
        raise UsageError(f"{config.source} does not say which data set it is about.", do="--dataset SPEC")
    dataset = open_dataset(spec, data_root=config.data_root, **opening(tables.provenance.opened))
    compare.check_length(tables.named, dataset)
    return dataset


def open_test(config: Config, dataset: ImageDataset, tables: Tables) -> ImageDataset | None:
    """Open the test set; None where test rows are held out of the data set itself.

    Raises:
        UsageError: None is known, or its classes are not those of the data set.
    """
    if config.test is None:
        reader = READERS.get(dataset.spec)
        splits = reader.splits if reader is not None and reader.named else ()
        split = next((name for name in TEST_SPLITS if name in splits), None)
        if split is None:
            raise UsageError(
                f"No test set is known for {dataset.spec}.",
                do="--test SPEC, --test 20% of the data set itself, or --test excluded for what scoring left out",
            )
        how = opening({**tables.provenance.opened, "split": split})
        test = open_dataset(dataset.spec, data_root=config.data_root, **how)
    elif config.test == EXCLUDED or SHARE.fullmatch(config.test):
        return None
    else:
        test = open_dataset(config.test, data_root=config.data_root)
    if test.channels != dataset.channels:
        raise UsageError(f"{test.spec} is {_colour(test)}, {dataset.spec} is {_colour(dataset)}.")
    mapped(test, dataset.class_names)
    return test


def _colour(dataset: ImageDataset) -> str:
    return "grey" if dataset.channels == 1 else "in colour"


def mapped(test: ImageDataset, class_names: tuple[str, ...]) -> NDArray[np.int64]:
    """Return the labels of a test set in the numbers of the training set, int64[M], matched by class name.

    Raises:
        UsageError: It has classes that the training set has not, or no labels; names them.
    """
    place = {name: number for number, name in enumerate(class_names)}
    number = np.array([place.get(name, -1) for name in test.class_names], np.int64)
    labels = np.asarray(test.labels, np.int64)
    present = np.unique(labels[labels >= 0])
    unknown = [test.class_names[label] for label in present if number[label] < 0]
    if unknown:
        names = ", ".join(unknown[:5]) + " ..." * (len(unknown) > 5)
        raise UsageError(
            f"{test.spec} has {len(unknown)} classes that the training set does not have: {names}.",
            where="training classes: " + ", ".join(class_names[:20]),
            do="a test set with the same class names",
        )
    if not len(present):
        raise UsageError(f"{test.spec} has no labels to test against.", do="--test with another set")
    return np.where(labels >= 0, number[np.maximum(labels, 0)], -1) if len(number) else labels


def read(
    config: Config,
    tables: Tables,
    opened: tuple[ImageDataset, ImageDataset | None],
    device: torch.device,
    progress: Progress,
) -> Data:
    """Read and decode every image once, compare every row with the table, and settle what is trained and tested on.

    Raises:
        MismatchError: An image is not the one that was scored.
        UsageError: Nothing is left to train or test on, or an option does not fit the data set.
        DataError: Too many unreadable images.
    """
    dataset, test = opened
    size = config.image_size or tables.image_size
    images, scan = _hold(config, dataset, (size, size) if isinstance(size, int) else size, device, progress)
    _compare(tables, scan, dataset)
    labels = _labels(tables, dataset)
    left_out = _left_out(config, tables, dataset)
    usable = scan.ok & (labels >= 0)
    rows = np.flatnonzero(usable & ~left_out & tables.trainable(len(labels)))
    clean, known = tables.clean(labels)
    held, name = rows[:0], ""
    if test is None:
        held, rows, name = _held_out(config, rows, labels, usable & left_out)
    if config.label_noise:
        labels, known = _flipped(config, labels, rows, len(dataset.class_names), known=known), True
    if not len(rows):
        raise UsageError("Nothing is left to train on.", where=dataset.spec, do="fewer --exclude")
    if test is None:
        tested = _Test(images, held, clean[held], name, scan)
    else:
        tested = _test(config, test, dataset, images.size, device, progress)
        _warn_of_copies(scan, rows, tested, progress)
    _warn_of_absent(tested.labels, dataset.class_names, labels[rows], progress)
    return Data(
        images=images,
        labels=labels,
        clean=clean,
        known_wrong=known,
        rows=rows,
        test=tested.images,
        test_rows=tested.rows,
        test_labels=tested.labels,
        test_name=tested.name,
        class_names=tuple(dataset.class_names),
        fingerprint=scan.fingerprint,
        test_fingerprint=tested.scan.fingerprint,
        skipped=int((~scan.ok).sum()),
    )


def _compare(tables: Tables, scan: Scan, dataset: ImageDataset) -> None:
    """Compare the uid of every row with the image's; both are at hand, so nothing is left to a sample."""
    if tables.named.uids is None:
        return
    different = [
        int(index)
        for index, stated in zip(tables.named.index.tolist(), tables.named.uids, strict=True)
        if stated is not None and scan.uid[index] is not None and stated != scan.uid[index]
    ]
    if different:
        names = dataset.file_names
        shown = "; ".join(
            (names[index] if names is not None and names[index] else f"index {index}")
            for index in different[:3]
        )
        raise MismatchError(
            f"{len(different):,} of {len(tables.named.index):,} images of {dataset.spec} are not those that "
            f"{tables.named.made_by} is about.",
            where=shown,
            do=f"audit forgetting {dataset.spec}, or --dataset with the data set it was made for",
        )


def _labels(tables: Tables, dataset: ImageDataset) -> NDArray[np.int64]:
    """Return the labels of the data set, int64[N], with those of the table in their place.

    Raises:
        UsageError: A manifest names the labels of what it keeps alone; where scoring had flipped some, the rest are
            lost.
    """
    labels, stated, index = np.asarray(dataset.labels, np.int64).copy(), tables.labels, tables.named.index
    differ = int(((stated >= 0) & (stated != labels[index])).sum())
    if tables.scores is None and differ:
        raise UsageError(
            f"{tables.named.made_by}: {differ:,} labels are not those of the data set; scoring flipped them.",
            do="--scores with the table it was pruned from",
        )
    labels[index] = np.where(stated >= 0, stated, labels[index])
    return labels


def _left_out(config: Config, tables: Tables, dataset: ImageDataset) -> NDArray[np.bool_]:
    found = tables.excluded(len(dataset))
    return found | dataset.matching(config.exclude) if config.exclude else found


def _held_out(
    config: Config, rows: NDArray[np.int64], labels: NDArray[np.int64], excluded: NDArray[np.bool_]
) -> tuple[NDArray[np.int64], NDArray[np.int64], str]:
    """Return the rows held out for the test, those left to train on, and how the test is called."""
    text = config.test or ""
    if text == EXCLUDED:
        held = np.flatnonzero(excluded)
        if not len(held):
            raise UsageError(
                "--test excluded: scoring left nothing out.", do="audit forgetting --exclude, or --test SPEC"
            )
        return held, rows, f"{len(held):,} images that scoring left out"
    share = float(text.rstrip("%")) / (100 if text.endswith("%") else 1)
    if not 0 < share < 1:
        raise UsageError(f"--test {text}: a share between 0 and 1.", do="--test 20%")
    held = stratified_subset(
        rows, labels[rows], max(1, round(share * len(rows))), seeds.integer(config.seed, "test")
    )
    return held, np.setdiff1d(rows, held), f"{share:.0%} of the data set, held out"


def _flipped(
    config: Config, labels: NDArray[np.int64], rows: NDArray[np.int64], classes: int, *, known: bool
) -> NDArray[np.int64]:
    if known:
        raise UsageError(
            "--label-noise on labels that were flipped before scoring already.", do="leave --label-noise out"
        )
    noisy, _ = flip_labels(labels[rows].astype(np.int32), config.label_noise, classes, config.seed)
    found = labels.copy()
    found[rows] = noisy
    return found


@dataclass(frozen=True, eq=False)
class _Test:
    """Images tested on, which rows of them, their labels, what they are called, and what reading them found."""

    images: Images
    rows: NDArray[np.int64]
    labels: NDArray[np.int64]
    name: str
    scan: Scan


def _test(
    config: Config,
    test: ImageDataset,
    dataset: ImageDataset,
    size: tuple[int, int],
    device: torch.device,
    progress: Progress,
) -> _Test:
    """Read a test set that is another data set, at the size of the training images."""
    images, scan = _hold(config, test, size, device, progress)
    labels = mapped(test, dataset.class_names)
    rows = np.flatnonzero(scan.ok & (labels >= 0))
    if not len(rows):
        raise DataError("The test set has no image that can be tested on.", where=str(config.test))
    name = f"{test.spec} ({test.split[0]})" if test.split else test.spec
    return _Test(images, rows, labels[rows], name, scan)


def _hold(
    config: Config,
    dataset: ImageDataset,
    size: tuple[int, int] | None,
    device: torch.device,
    progress: Progress,
) -> tuple[Images, Scan]:
    from dataset_audit.images.scan import check_skipped  # noqa: PLC0415 - decoders
    from dataset_audit.train.hold import Holding, hold  # noqa: PLC0415 - torch

    holding = Holding(
        size=size,
        resident=config.resident,
        cache=config.cache,
        work=config.checkpoint_dir or config.out.parent,
        memory=config.memory,
        workers=config.workers,
    )
    held, scan = hold(dataset, holding, device=device, progress=progress)
    check_skipped(scan, config.max_skipped)
    return held, scan


def _warn_of_copies(scan: Scan, rows: NDArray[np.int64], test: _Test, progress: Progress) -> None:
    known = {scan.uid[row] for row in rows.tolist()}
    copies = sum(test.scan.uid[row] in known for row in test.rows.tolist())
    if copies:
        progress.warn(
            "W-leak",
            f"{copies:,} of {len(test.rows):,} test images are byte for byte among the training images",
        )


def _warn_of_absent(
    test_labels: NDArray[np.int64],
    class_names: tuple[str, ...],
    labels: NDArray[np.int64],
    progress: Progress,
) -> None:
    absent = np.setdiff1d(np.unique(labels), np.unique(test_labels))
    if len(absent):
        names = ", ".join(class_names[label] for label in absent[:5])
        progress.warn("W-test-class", f"the test set has no example of {len(absent)} classes: {names}")
