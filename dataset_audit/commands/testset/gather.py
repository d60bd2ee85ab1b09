"""From what was named to two test sets in one list of classes, and what each model answered on them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dataset_audit.commands.testset.config import Config
from dataset_audit.errors import DataError, MismatchError, UsageError
from dataset_audit.images.compare import Rows, match_by_uid
from dataset_audit.images.dataset import ImageDataset, open_dataset
from dataset_audit.images.readers import READERS
from dataset_audit.images.several import short_names
from dataset_audit.tables.columns import FORMATS, holds_images
from dataset_audit.tables.files import sha256_file
from dataset_audit.tables.predictions import Answers, read_answers, read_labels

LISTED = 10  # names in a message
OUTSIDE = -2  # an answer that is none of the classes
Ints = NDArray[np.int64]


@dataclass(frozen=True, kw_only=True, eq=False)
class Side:
    """One test set.

    Attributes:
        name: Short, unlike the other's.
        spec: As given.
        label: int64[N], place among the common classes; -1 where there is none.
        dataset: Its images, if they are at hand.
        uids: Identity of each row, where a file of labels states it.
        fingerprint: Of labels and names, or of the file.
    """

    name: str
    spec: str
    label: Ints
    dataset: ImageDataset | None
    uids: Sequence[str] | None
    fingerprint: str


@dataclass(frozen=True, kw_only=True, eq=False)
class Material:
    """Both sets, the training set if any, and the answers if they are known already.

    Attributes:
        sides: Original and new.
        train: The training set.
        train_label: int64[N], place among the classes.
        classes: Names, in the order of the training set, else of the original.
        models: Names of those whose answers are known; none where they are to be trained.
        predicted: int64[N, M] for each set; None where models are to be trained.
        inputs: Files of predictions with their hashes.
    """

    sides: tuple[Side, Side]
    train: ImageDataset | None
    train_label: Ints | None
    classes: tuple[str, ...]
    models: tuple[str, ...]
    predicted: tuple[Ints, Ints] | None
    inputs: Mapping[str, str]


@dataclass(frozen=True, eq=False)
class _Named:
    """A set before its classes are matched: labels as numbers or names, and the names there are."""

    spec: str
    where: str
    values: NDArray[Any]
    names: tuple[str, ...] | None
    dataset: ImageDataset | None = None
    uids: Sequence[str] | None = None

    def held(self) -> list[str]:
        """Return the classes that occur, as text."""
        known = self.values[self.values >= 0] if self.values.dtype.kind != "O" else self.values
        found = list(dict.fromkeys(known.tolist()))
        if self.names is not None:
            return [self.names[label] for label in sorted(found)]
        return [str(label) for label in sorted(found)]


def gather(config: Config) -> Material:
    """Open both sets, match their classes by name, and read the predictions if they are files.

    Raises:
        UsageError: A set is absent or has no labels; a file is absent.
        MismatchError: Labels that the other set or the training set does not know, answers to other images, or a
            model on one set only.
        DataError: Bad bytes or values.
    """
    if config.original == config.new and config.predictions is None:
        raise UsageError(
            f"{config.original} twice: two test sets are compared.", do="audit testset ORIGINAL NEW"
        )
    answers = _answers(config)
    named = _open(config, answers)
    for each in named:
        if not len(each.held()):
            raise UsageError(
                f"{each.spec} has no labels: no answer there can be right.",
                where=each.where,
                do="folders directly under a data set are its classes; or a file of labels",
                id="E-unlabelled",
            )
    train = None
    if config.train is not None:
        train = open_dataset(
            config.train, data_root=config.data_root, download=config.download, seed=config.seed
        )
    classes = _classes(named, train)
    first, second = named
    short = short_names([first.spec, second.spec])
    sides = (_side(first, short[0], classes), _side(second, short[1], classes))
    models: tuple[str, ...] = ()
    predicted = None
    if answers is not None:
        models = _both(answers)
        strict = train is not None or any(each.names is not None for each in named)
        columns = [
            _aligned(each, side, classes, models, strict=strict)
            for each, side in zip(answers, sides, strict=True)
        ]
        predicted = columns[0], columns[1]
    given = (config.predictions, config.predictions_original, config.predictions_new)
    return Material(
        sides=sides,
        train=train,
        train_label=None if train is None else _places(_of_dataset(train, config.train or ""), classes),
        classes=classes,
        models=models,
        predicted=predicted,
        inputs={str(path): _hash(path) for path in given if path is not None},
    )


def _hash(path: Path) -> str:
    if path.is_dir():
        known = sha256()
        for file in sorted(
            each for each in path.iterdir() if each.suffix.lower() in FORMATS and each.is_file()
        ):
            known.update(f"{file.name} {sha256_file(file)}\n".encode())
        return known.hexdigest()
    return sha256_file(path)


def _answers(config: Config) -> tuple[Answers, Answers] | None:
    if config.predictions is not None:
        if config.original == config.new:
            raise UsageError(f"{config.original} twice: two sets are compared.", do="two names of sets")
        return tuple(read_answers(config.predictions, part) for part in (config.original, config.new))  # type: ignore[return-value]
    if config.predictions_original is None or config.predictions_new is None:
        return None
    return read_answers(config.predictions_original), read_answers(config.predictions_new)


def _open(config: Config, answers: tuple[Answers, Answers] | None) -> tuple[_Named, _Named]:
    specs = config.original, config.new
    if config.predictions is None or answers is None:
        return _open_one(specs[0], config), _open_one(specs[1], config)
    found = []
    for spec, each in zip(specs, answers, strict=True):
        if each.labels is None:
            raise DataError(
                f"{each.where} has no column label: what is right is not known.",
                where=f"set {spec}",
                do="a column label, or --predictions-original and --predictions-new with data sets or files of labels",
                id="E-label",
            )
        found.append(_Named(spec, each.where, each.labels, None))
    return found[0], found[1]


def _open_one(spec: str, config: Config) -> _Named:
    path = Path(spec)
    if spec not in READERS and path.suffix.lower() in FORMATS and path.is_file() and not holds_images(path):
        if config.models:
            raise UsageError(
                f"{spec} holds labels and no images; models need images.", do="a data set, or --predictions"
            )
        found = read_labels(path)
        if found.labels is None:
            raise DataError(f"{spec} has no labels.", where=spec, id="E-label")
        if found.index is not None:
            order = _permutation(found.index, len(found.labels), spec, spec)
            uids = None if found.uids is None else [found.uids[row] for row in order.tolist()]
            return _Named(spec, spec, found.labels[order], None, None, uids)
        return _Named(spec, spec, found.labels, None, None, found.uids)
    dataset = open_dataset(
        spec,
        data_root=config.data_root,
        download=config.download,
        split=_split(spec, config),
        seed=config.seed,
    )
    return _of_dataset(dataset, spec)


def _split(spec: str, config: Config) -> str | None:
    """Return the split asked for, else the test split of a named set that has one."""
    if config.split is not None or spec not in READERS:
        return config.split
    return next((name for name in ("test", "val") if name in READERS[spec].splits), None)


def _of_dataset(dataset: ImageDataset, spec: str) -> _Named:
    return _Named(spec, dataset.spec, dataset.labels.astype(np.int64), dataset.class_names, dataset)


def _classes(named: tuple[_Named, _Named], train: ImageDataset | None) -> tuple[str, ...]:
    """Return the common classes, after checking that no set has others.

    Those of the training set, else of the original, are known; matched letter by letter. Whole numbers in a file of
    labels are places in that list where its names are no numbers.
    """
    first, second = named
    checked: tuple[_Named, ...] = (second,)
    if train is not None:
        known, by, checked = tuple(dict.fromkeys(train.class_names)), train.spec, (first, second)
    elif first.names is None and second.names is not None and _whole(first):
        known, by, checked = tuple(dict.fromkeys(second.names)), second.spec, (first,)
    else:
        known = tuple(dict.fromkeys(first.names)) if first.names is not None else tuple(first.held())
        by = first.spec
    for each in checked:
        unknown = [name for name in _as_text(each, known) if name not in known]
        if unknown:
            counts = Counter(_texts(each, known))
            listed = ", ".join(f"{name} ({counts[name]:,})" for name in unknown[:LISTED])
            more = f" and {len(unknown) - LISTED:,} more" if len(unknown) > LISTED else ""
            raise MismatchError(
                f"{each.spec} has labels that {by} does not know: {listed}{more}.",
                where=f"classes of {by}: {_listed(known)}",
                do="rename or leave out those images; classes are matched by name, letter by letter",
                id="E-unknown-label",
            )
    return known


def _whole(named: _Named) -> bool:
    return named.values.dtype.kind != "O"


def _texts(named: _Named, known: Sequence[str]) -> list[str]:
    """Return the label of each row as text, those without left out."""
    if named.names is not None:
        return [named.names[label] for label in named.values[named.values >= 0].tolist()]
    if not _whole(named):
        return [str(text) for text in named.values.tolist()]
    numbers = named.values.tolist()
    if any(name.lstrip("-").isdecimal() for name in known):
        return [str(number) for number in numbers]
    return [known[number] if 0 <= number < len(known) else str(number) for number in numbers]


def _as_text(named: _Named, known: Sequence[str]) -> list[str]:
    return list(dict.fromkeys(_texts(named, known)))


def _places(named: _Named, classes: Sequence[str]) -> Ints:
    """Return int64[N], place among the classes, -1 without a label."""
    place = {name: number for number, name in enumerate(classes)}
    if named.names is not None:
        of_label = np.array([*(place.get(name, -1) for name in named.names), -1], np.int64)
        return of_label[np.where(named.values < 0, len(named.names), named.values)]
    return np.array([place.get(text, -1) for text in _texts(named, classes)], np.int64)


def _side(named: _Named, name: str, classes: Sequence[str]) -> Side:
    label = _places(named, classes)
    known = sha256("\n".join(classes).encode("utf-8", "surrogateescape"))
    known.update(label.tobytes())
    return Side(
        name=name,
        spec=named.spec,
        label=label,
        dataset=named.dataset,
        uids=named.uids,
        fingerprint=known.hexdigest(),
    )


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:LISTED]) + (f" and {len(names) - LISTED:,} more" if len(names) > LISTED else "")


def _both(answers: tuple[Answers, Answers]) -> tuple[str, ...]:
    """Return the models, in the order of the original.

    Raises:
        MismatchError: Some answered one set only.
    """
    first, second = answers
    for one, other in ((first, second), (second, first)):
        alone = [name for name in one.models if name not in other.models]
        if alone:
            raise MismatchError(
                f"{_listed(alone)}: predictions in {one.where}, none in {other.where}.",
                do="the same models on both sets, under the same names",
                id="E-model",
            )
    return tuple(first.models)


def _aligned(
    answers: Answers, side: Side, classes: Sequence[str], models: Sequence[str], *, strict: bool
) -> Ints:
    """Return int64[N, M] in the order of the set.

    Where classes are only known from the labels that occur, another answer is a wrong one, -2; where there is a list
    of names it is no answer at all.
    """
    rows, images = len(answers), len(side.label)
    if rows != images:
        raise MismatchError(
            f"{answers.where} has answers to {rows:,} images, {side.name} has {images:,}.",
            do="predictions of exactly this set; a column index or uid says which row is which image",
            id="E-predictions",
        )
    order = _order(answers, side)
    place = {name: number for number, name in enumerate(classes)}
    numeric = any(name.lstrip("-").isdecimal() for name in classes)
    found = []
    for name in models:
        numbers = _numbers(answers.models[name], place, numeric=numeric)
        bad = np.flatnonzero(numbers < 0)
        if len(bad) and strict:
            value = answers.models[name][bad[0]]
            raise DataError(
                f"{answers.where}: {name}, row {int(bad[0])}: {value} is none of the {len(place)} classes.",
                where=f"classes: {_listed([*place])}",
                do="names of classes, or whole numbers that are places in that list",
                id="E-predictions",
            )
        found.append(numbers[order])
    return np.stack(found, 1)


def _order(answers: Answers, side: Side) -> Ints:
    """Return int64[N], the row of the file that answers each image."""
    images = len(side.label)
    if answers.index is not None:
        return _permutation(answers.index, images, answers.where, side.name)
    if answers.uids is None:
        return np.arange(images)
    if side.uids is not None:
        row = {uid: number for number, uid in enumerate(answers.uids)}
        lost = [uid for uid in side.uids if uid not in row]
        if lost:
            raise MismatchError(
                f"{len(lost):,} images of {side.name} have no answer in {answers.where}.",
                where=f"uid {lost[0]}",
            )
        return np.array([row[uid] for uid in side.uids], np.int64)
    if side.dataset is None:
        raise MismatchError(
            f"{answers.where} says by uid which image it is about; {side.name} has none.",
            do="a column index, or the data set itself instead of a file of labels",
            id="E-predictions",
        )
    named = Rows(
        made_by=answers.where,
        n=images,
        index=np.arange(images),
        uids=answers.uids,
        labels=None,
        file_names=None,
    )
    return np.argsort(match_by_uid(named, side.dataset), kind="stable")


def _permutation(index: Ints, images: int, where: str, name: str) -> Ints:
    """Return the row of each image, from the image of each row.

    Raises:
        MismatchError: They are not 0 to N - 1, each once.
    """
    outside = np.flatnonzero((index < 0) | (index >= images))
    counts = np.bincount(index[(index >= 0) & (index < images)], minlength=images)
    if len(outside) or (counts != 1).any():
        odd = (
            f"index {index[outside[0]]} is none of {name}, which has {images:,} images"
            if len(outside)
            else f"image {int(np.flatnonzero(counts != 1)[0])} has {counts[counts != 1][0]} rows"
        )
        raise MismatchError(
            f"{where}: {odd}.", do="a column index from 0, each image once", id="E-predictions"
        )
    return np.argsort(index, kind="stable")


def _numbers(column: NDArray[Any], place: Mapping[str, int], *, numeric: bool) -> Ints:
    """Return answers as places among the classes, -2 for what is none."""
    if column.dtype.kind != "O" and not numeric:
        inside = (column >= 0) & (column < len(place))
        return np.where(inside, column, OUTSIDE).astype(np.int64)
    return np.array([place.get(str(value), OUTSIDE) for value in column.tolist()], np.int64)
