"""What each row group of a table that is not in memory is at first sight: who can be ranked, and by which words.

`surveyed` looks at every row of a part once; the extents and class sizes of all parts add up.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from dataset_audit.select import histogram as bits
from dataset_audit.select.histogram import Words
from dataset_audit.select.order import Hard
from dataset_audit.tables.shards import Part

CODES: Final = ("", "unreadable", "unscored", "noisy", "beta", "quota", "policy")  # why a row is where it is
SCORED, UNREADABLE, UNSCORED, NOISY, BETA, QUOTA, DROPPED = range(7)
Nan = Literal["refuse", "hardest", "drop"]


@dataclass(frozen=True, kw_only=True)
class Key:
    """A score column whose values are ranked.

    Attributes:
        name: The column.
        hard: Which end of it is hard.
        null: Where null is by definition: beyond that end; None where null is not known.
        nan: What becomes of other values that are no number.
    """

    name: str
    hard: Hard
    null: Hard | None = None
    nan: Nan = "refuse"


@dataclass(frozen=True)
class Codes:
    """Words beyond those of all numbers."""

    low: int  # that of -infinity
    high: int  # that of infinity
    gone: int  # of what is not known and not ranked

    def null(self, end: Hard) -> int:
        """Return the word of null."""
        return self.high if end == "high" else self.low

    def unknown(self, end: Hard) -> int:
        """Return the word of what is not known and yet ranked."""
        return self.high + 1 if end == "high" else self.low - 1


BEYOND: Final = {  # by width of the word
    32: Codes(0x007FFFFF, 0xFF800000, 0xFFFFFFFF),
    64: Codes(0x000FFFFFFFFFFFFF, 0xFFF0000000000000, 0xFFFFFFFFFFFFFFFF),
}


class Kept(Protocol):
    """A place where arrays wait from one pass for the next."""

    def get(self, name: tuple[object, ...], make: Callable[[], Words]) -> Words:
        """Return what is kept under a name; made now, and kept if there is room, where there is nothing."""


class Nothing:
    """Keeps nothing."""

    def get(self, name: tuple[object, ...], make: Callable[[], Words]) -> Words:  # noqa: ARG002 - as Kept has it
        """Return what is made."""
        return make()


def words_of(part: Part, key: Key, kept: Kept) -> Words:
    """Return the words of a column, small ones low; what is no number has a code beyond them."""
    return kept.get((part.name, key.name), lambda: _encoded(part.numbers(key.name), key))


def _encoded(values: NDArray[np.float32] | NDArray[np.float64], key: Key) -> Words:
    words = bits.ascending(values)
    codes = BEYOND[8 * values.dtype.itemsize]
    if len(words) and codes.low < int(words.min()) and int(words.max()) < codes.high:
        return words
    null = np.isnan(values)
    unknown = ~np.isfinite(values)
    if key.null is not None:
        unknown &= ~null
        words[null] = codes.null(key.null)
    words[unknown] = codes.unknown(key.hard) if key.nan == "hardest" else codes.gone
    return words


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What every pass has to know of the request and of the table.

    Attributes:
        keys: What ranks, most important first.
        aum: The column by which noisy rows and the hardest share are cut, where one is.
        noisy_below: Rows below that AUM are left out; None leaves none out.
        seed: Of the tie keys.
        status: Whether the table has that column.
        presentations: Whether the table has that column.
        labels: Whether the table has that column.
        classes: int64[C], labels in ascending order, where each class has a quota; None where there is one for all.
    """

    keys: tuple[Key, ...]
    aum: Key | None
    noisy_below: float | None
    seed: int
    status: bool
    presentations: bool
    labels: bool
    classes: NDArray[np.int64] | None = None

    @property
    def columns(self) -> tuple[Key, ...]:
        """All keys, each once."""
        return tuple({key.name: key for key in (*self.keys, *filter(None, (self.aum,)))}.values())


def excluded(part: Part, plan: Plan) -> NDArray[np.uint8] | None:
    """Return SCORED, UNREADABLE or UNSCORED per row for what was read and presented; None where all rows were.

    What the footer states is believed of tables with provenance: there its hash is verified.
    """
    codes: NDArray[np.uint8] | None = None
    ours = part.provenance is not None
    if plan.status and not (ours and part.always("status", least="ok", most="ok")):
        table = part.table(["status"])
        codes = np.where(table.equals("status", "ok"), SCORED, UNREADABLE).astype(np.uint8)
        if codes.any():
            codes[table.equals("status", "unlabelled") | table.equals("status", "excluded")] = UNSCORED
    if plan.presentations and not (ours and part.always("presentations", least=1, most=2**62)):
        never = part.table(["presentations"]).integers("presentations", 0) == 0
        codes = np.zeros(len(part), np.uint8) if codes is None else codes
        codes[never & (codes == SCORED)] = UNSCORED
    return codes if codes is not None and codes.any() else None


def states(part: Part, plan: Plan, kept: Kept) -> NDArray[np.int64]:  # noqa: ARG001 - all are called alike
    """Return how many rows are SCORED, UNREADABLE and UNSCORED, int64[3]."""
    codes = excluded(part, plan)
    return np.array([len(part), 0, 0]) if codes is None else np.bincount(codes, minlength=3)


@dataclass
class Extent:
    """The least and the largest word of a column among its numbers, as values; and what was no number."""

    width: int
    low: float = np.inf
    high: float = -np.inf
    nulls: bool = False
    beyond: bool = False  # whether any value is no number and yet ranked
    unknown: int = 0
    where: list[int] = field(default_factory=list)  # the first five rows that are not known

    def add(self, other: Extent) -> None:
        """Take in what another part has."""
        self.low, self.high = min(self.low, other.low), max(self.high, other.high)
        self.nulls |= other.nulls
        self.beyond |= other.beyond
        self.unknown += other.unknown
        self.where = sorted(self.where + other.where)[:5]


@dataclass
class Survey:
    """What is known once every row was looked at.

    Attributes:
        states: int64[3], rows that are SCORED, UNREADABLE and UNSCORED.
        rankable: Those of them with all scores known.
        pool: Rankable ones that are not noisy, by label; the label is 0 for all where no class has a quota.
        extents: By column.
    """

    states: NDArray[np.int64] = field(default_factory=lambda: np.zeros(3, np.int64))
    rankable: int = 0
    pool: dict[int, int] = field(default_factory=dict)
    extents: dict[str, Extent] = field(default_factory=dict)

    def add(self, other: Survey) -> None:
        """Take in what another part has."""
        self.states = self.states + other.states
        self.rankable += other.rankable
        for label, size in other.pool.items():
            self.pool[label] = self.pool.get(label, 0) + size
        for name, extent in other.extents.items():
            if name in self.extents:
                self.extents[name].add(extent)
            else:
                self.extents[name] = extent


def surveyed(part: Part, plan: Plan, *, by_class: bool, kept: Kept) -> Survey:
    """Look at every row once."""
    codes = excluded(part, plan)
    fine = None if codes is None else codes == SCORED
    found = Survey(np.array([len(part), 0, 0]) if codes is None else np.bincount(codes, minlength=3))
    for key in plan.columns:
        words = words_of(part, key, kept)
        found.extents[key.name], unknown = _extent(words, key, fine, part.first)
        if unknown is not None:
            fine = ~unknown if fine is None else fine & ~unknown
    found.rankable = len(part) if fine is None else int(fine.sum())
    found.states[[SCORED, UNSCORED]] += [
        found.rankable - found.states[SCORED],
        found.states[SCORED] - found.rankable,
    ]
    below = noisy(part, plan, kept)
    if below is not None:
        fine = ~below if fine is None else fine & ~below
    if by_class:
        labels = labels_of(part, kept)
        sizes = counted(labels if fine is None else labels[fine])
        found.pool = dict(zip(*(each.tolist() for each in sizes), strict=True))
    else:
        found.pool = {0: len(part) if fine is None else int(fine.sum())}
    return found


def _extent(
    words: Words, key: Key, fine: NDArray[np.bool_] | None, first: int
) -> tuple[Extent, NDArray[np.bool_] | None]:
    """Return the extent of a column in a part, and where rows that are else fine are not known."""
    width = 8 * words.dtype.itemsize
    codes = BEYOND[width]
    low, high = int(words.min()), int(words.max())
    if codes.low < low and high < codes.high:
        return Extent(width, bits.number(low, width), bits.number(high, width)), None
    plain = words[(words > codes.low) & (words < codes.high)]
    found = Extent(width)
    if len(plain):
        found.low, found.high = bits.number(int(plain.min()), width), bits.number(int(plain.max()), width)
    found.nulls = key.null is not None and bool((words == codes.null(key.null)).any())
    found.beyond = bool((words == codes.unknown(key.hard)).any())
    gone = words == codes.gone
    if fine is not None:
        gone &= fine
    rows = np.flatnonzero(gone)
    found.unknown, found.where = len(rows), (rows[:5] + first).tolist()
    return found, gone


def labels_of(part: Part, kept: Kept | None = None) -> NDArray[np.int64]:
    """Return the labels, -1 where there is none; where later passes need them again, they are kept.

    Raises:
        DataError: A label that names no class.
    """

    def read() -> NDArray[np.int64]:
        return part.table(["label"]).checked(part.source.path).integers("label")

    if kept is None:
        return read()
    name = (part.name, "label", "class")  # a score may have either name
    return kept.get(name, lambda: (read() + 1).astype(np.uint32)).astype(np.int64) - 1


def counted(values: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the values there are, ascending, and how often."""
    if not len(values) or int(values.max()) >= 2**20:
        return np.unique(values, return_counts=True)
    least = min(0, int(values.min()))  # labels begin at -1
    counts = np.bincount(values - least if least else values)
    there = np.flatnonzero(counts)
    return there + least, counts[there]


def noisy(part: Part, plan: Plan, kept: Kept) -> NDArray[np.bool_] | None:
    """Return which rows lie below the AUM that marks a wrong label."""
    if plan.noisy_below is None or plan.aum is None:
        return None
    words = words_of(part, plan.aum, kept)
    if words.dtype == np.uint64:
        return np.less(words, bits.ascending(np.array([plan.noisy_below])))
    narrow = np.float32(plan.noisy_below)  # the least float32 that is not below takes its place
    if float(narrow) < plan.noisy_below:
        narrow = np.nextafter(narrow, np.float32(np.inf))
    return np.less(words, bits.ascending(np.array([narrow])))
