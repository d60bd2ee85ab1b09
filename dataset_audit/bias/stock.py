"""What is compared: the same number of pictures of each source, drawn by chance, with the facts of their files."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from hashlib import sha256
from typing import Final

import numpy as np
from numpy.typing import NDArray

from dataset_audit import seeds
from dataset_audit.errors import DataError, MismatchError
from dataset_audit.images.bad_image import BadImage
from dataset_audit.images.facts import Facts, facts_of_array, read_facts
from dataset_audit.images.identity import uid, uid_array
from dataset_audit.images.opened import ImageDataset
from dataset_audit.images.parallel import for_each
from dataset_audit.progress import Progress

LEAST: Final = 30  # pictures of a source; below, no classifier and no interval says anything


@dataclass(frozen=True, kw_only=True, eq=False)
class Source:
    """One of the sets that are told apart.

    Attributes:
        name: Short, unlike all others.
        dataset: Where its pictures are.
        rows: int64[.], ascending: rows of ``dataset`` that may be drawn; a manifest's kept ones, or all.
        opened: How it was opened beside its spec, as a table's footer tells it.
    """

    name: str
    dataset: ImageDataset
    rows: NDArray[np.int64]
    opened: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, eq=False)
class Stock:
    """The pictures drawn, by source in the order of names and by row within; N in all.

    Attributes:
        sources: K of them, in the order of their names, so that the order of arguments changes nothing.
        source: int64[N], place in ``sources``.
        index: int64[N], row of the source's data set.
        place: int64[N], the how-manieth of its source was drawn.
        uid: Identity of each; None where the bytes could not be had.
        facts: Header facts; None where there is no header that can be read.
        status: ``ok`` or why it cannot be used, as in a scan.
        error: One line; None where the status is ``ok``.
    """

    sources: tuple[Source, ...]
    source: NDArray[np.int64]
    index: NDArray[np.int64]
    place: NDArray[np.int64]
    uid: list[str | None]
    facts: list[Facts | None]
    status: list[str]
    error: list[str | None]

    def __len__(self) -> int:
        return len(self.source)

    @property
    def names(self) -> tuple[str, ...]:
        """Of the sources, in order."""
        return tuple(source.name for source in self.sources)

    def labels(self) -> NDArray[np.int64]:
        """Return int64[N], the label of each picture in its own data set, -1 where there is none."""
        found = np.full(len(self), -1, np.int64)
        for number, source in enumerate(self.sources):
            mine = self.source == number
            found[mine] = source.dataset.labels[self.index[mine]]
        return found

    def class_names(self) -> list[str | None]:
        """Return the name of each picture's class, None where there is none."""
        return [
            None if label < 0 else self.sources[source].dataset.class_names[label]
            for source, label in zip(self.source, self.labels(), strict=True)
        ]

    def file_names(self) -> list[str | None]:
        """Return names relative to each source's root, None for pictures that are an array."""
        found: list[str | None] = []
        for source, index in zip(self.source, self.index, strict=True):
            names = self.sources[source].dataset.file_names
            found.append(None if names is None else names[int(index)])
        return found

    def only(self, rows: NDArray[np.int64]) -> Stock:
        """Return some of the pictures."""
        chosen = rows.tolist()
        return replace(
            self,
            source=self.source[rows],
            index=self.index[rows],
            place=self.place[rows],
            uid=[self.uid[row] for row in chosen],
            facts=[self.facts[row] for row in chosen],
            status=[self.status[row] for row in chosen],
            error=[self.error[row] for row in chosen],
        )


def draw(sources: Sequence[Source], per_source: int, seed: int) -> Stock:
    """Return the same number of pictures of each source, drawn by chance and not looked at yet.

    What is drawn depends on the seed and on what a source lists (names, labels, number), not on where it lies, what
    it is called or what it is compared with, except that all give as many as the smallest has.

    Args:
        sources: At least two, in any order.
        per_source: The most of each.
        seed: Of the draw.

    Raises:
        DataError: A source has fewer than 30 pictures.
    """
    ordered = tuple(sorted(sources, key=lambda source: source.name))
    for source in ordered:
        if len(source.rows) < LEAST:
            count = len(source.rows)
            raise DataError(
                f"{source.name} has {count:,} image{'s' * (count != 1)}; {LEAST} of each source are the least.",
                where=source.dataset.spec,
                do="leave it out, or join it with another",
                id="E-few",
            )
    count = min(per_source, *(len(source.rows) for source in ordered))
    index, place = [], []
    for source in ordered:
        order = seeds.rng(seed, "sample", _listing(source)).permutation(len(source.rows))[:count]
        sort = np.argsort(order)
        index.append(source.rows[order[sort]])
        place.append(sort)
    total = count * len(ordered)
    return Stock(
        sources=ordered,
        source=np.repeat(np.arange(len(ordered)), count),
        index=np.concatenate(index),
        place=np.concatenate(place).astype(np.int64),
        uid=[None] * total,
        facts=[None] * total,
        status=["ok"] * total,
        error=[None] * total,
    )


def _listing(source: Source) -> str:
    """Return the identity of what is listed, so that a copy of a set gives the same draw."""
    known = sha256(f"{len(source.dataset)}\n".encode())
    known.update(np.ascontiguousarray(source.rows, np.int64).tobytes())
    known.update(np.ascontiguousarray(source.dataset.labels, np.int32).tobytes())
    for name in source.dataset.file_names or ():
        known.update(name.encode("utf-8", "surrogateescape") + b"\n")
    return known.hexdigest()


def read_headers(stock: Stock, *, workers: int, progress: Progress) -> None:
    """Read the bytes of each picture once and fill in uid and header facts; what cannot be read gets its status."""

    def one(row: int) -> None:
        source, index = stock.sources[stock.source[row]], int(stock.index[row])
        try:
            if source.dataset.array is not None:
                pixels = source.dataset.array[index]
                stock.uid[row], stock.facts[row] = uid_array(pixels), facts_of_array(pixels)
                return
            data = source.dataset.encoded(index)
            stock.uid[row] = uid(data)
            stock.facts[row] = read_facts(data)
        except BadImage as bad:
            stock.status[row], stock.error[row] = bad.status, bad.reason

    progress.start("read headers", len(stock), "images")
    for_each(len(stock), one, workers=workers, progress=progress)
    progress.finish()


def usable(stock: Stock, max_skipped: float) -> NDArray[np.int64]:
    """Return the rows to compare, ascending: of each source as many as the one with the fewest good pictures has.

    Args:
        stock: After its pictures were decoded.
        max_skipped: Share of a source's pictures that may be unusable.

    Raises:
        DataError: More of a source cannot be used, or fewer than 30 are left; names the source and the causes.
    """
    good = np.array([status == "ok" for status in stock.status])
    for number, source in enumerate(stock.sources):
        mine = stock.source == number
        _check(stock, source, np.flatnonzero(mine & ~good), int(mine.sum()), max_skipped)
    count = min(int((good & (stock.source == number)).sum()) for number in range(len(stock.sources)))
    chosen = []
    for number in range(len(stock.sources)):
        rows = np.flatnonzero(good & (stock.source == number))
        chosen.append(rows[np.argsort(stock.place[rows])][:count])
    return np.sort(np.concatenate(chosen))


def _check(stock: Stock, source: Source, bad: NDArray[np.int64], total: int, max_skipped: float) -> None:
    left = total - len(bad)
    if len(bad) <= max_skipped * total and left >= LEAST:
        return
    causes = Counter((stock.error[row] or "").split(":")[0] for row in bad.tolist())
    listed = ", ".join(f"{count:,} {cause}" for cause, count in causes.most_common())
    names = stock.file_names()
    first = "; ".join(f"{names[row] or stock.index[row]}: {stock.error[row]}" for row in bad[:3].tolist())
    raise DataError(
        f"{len(bad):,} of {total:,} images of {source.name} cannot be used ({listed}); {left:,} are left.",
        where=f"{source.dataset.spec}: {first}",
        do="repair them or leave the source out" if left < LEAST else "--max-skipped, or repair them",
        id="E-skipped",
    )


def check_identical(stock: Stock) -> None:
    """Stop if two sources gave the same pictures.

    Raises:
        MismatchError: Their uids are equal.
    """
    seen: dict[frozenset[str | None], str] = {}
    for number, source in enumerate(stock.sources):
        uids = frozenset(stock.uid[row] for row in np.flatnonzero(stock.source == number).tolist())
        if uids in seen and uids != {None}:
            raise MismatchError(
                f"{seen[uids]} and {source.name} are the same images.",
                where=source.dataset.spec,
                do="leave one out, or --allow-identical to see what an audit of one set against itself says",
                id="E-identical",
            )
        seen[uids] = source.name
