"""Selection over tables that are not in memory: what is computed of each row group, and how such results merge.

`survey`, `histogram`, `boundary` and `apply` take one part of the table and a small request; what they return merges in
any order. Whoever calls them (`select.stream`) may run them in threads, in other processes or on other machines.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from dataset_audit.select import histogram as bits
from dataset_audit.select.histogram import Positions, Rows, Step, Thresholds, Words
from dataset_audit.select.order import Hard, tie_keys
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


def survey(part: Part, plan: Plan, *, by_class: bool, kept: Kept) -> Survey:
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
    noisy = _noisy(part, plan, kept)
    if noisy is not None:
        fine = ~noisy if fine is None else fine & ~noisy
    if by_class:
        labels = labels_of(part, kept)
        sizes = _sizes(labels if fine is None else labels[fine])
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


def labels_of(part: Part, kept: Kept) -> NDArray[np.int64]:
    """Return the labels, -1 where there is none.

    Raises:
        DataError: A label that names no class.
    """

    def read() -> Words:
        return (part.table(["label"]).checked(part.source.path).integers("label") + 1).astype(np.uint32)

    name = (part.name, "label", "class")  # a score may have either name
    return kept.get(name, read).astype(np.int64) - 1


def _sizes(values: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the values there are, ascending, and how often."""
    if not len(values) or int(values.max()) >= 2**20:
        return np.unique(values, return_counts=True)
    least = min(0, int(values.min()))  # labels begin at -1
    counts = np.bincount(values - least if least else values)
    there = np.flatnonzero(counts)
    return there + least, counts[there]


def _noisy(part: Part, plan: Plan, kept: Kept) -> NDArray[np.bool_] | None:
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


@dataclass(frozen=True, kw_only=True)
class Strata:
    """Equal-width bins of the first key in each class.

    Attributes:
        edges: float64[C, S + 1], NaN where all values of a class are equal: those are in bin 0.
        beyond: Values for the codes of null and of what is not known.
    """

    edges: NDArray[np.float64]
    beyond: dict[int, float]

    @property
    def number(self) -> int:
        """S."""
        return int(self.edges.shape[1]) - 1


@dataclass(frozen=True, kw_only=True)
class Request:
    """Which rows compete in which group, and in which order.

    Attributes:
        plan: Of the whole selection.
        order: Keys and the end of each that comes first; then the tie key, then the row.
        cut: Rows up to these thresholds, hardest first by ``cut_order``, are left out.
        cut_order: What they are ordered by.
        strata: Where each class is parted further.
        barred: bool[C], classes whose quota is nothing; None where none is.
    """

    plan: Plan
    order: tuple[tuple[Key, Hard], ...]
    cut: Thresholds | None = None
    cut_order: tuple[tuple[Key, Hard], ...] = ()
    strata: Strata | None = None
    barred: NDArray[np.bool_] | None = None

    def ranked(self, order: tuple[tuple[Key, Hard], ...]) -> Request:
        """Return the request for the same rows by class alone, in another order."""
        return Request(plan=self.plan, order=order)


class View:
    """One part as a request sees it; a column is read when a row asks for it."""

    def __init__(self, part: Part, request: Request, kept: Kept) -> None:
        self._part, self._request, self._plan, self._kept = part, request, request.plan, kept
        self.codes = self._codes()
        self.classes = self._classes()

    def __len__(self) -> int:
        return len(self._part)

    def _codes(self) -> NDArray[np.uint8] | None:
        """Return why rows take no part, SCORED for those that do; None where all do."""
        codes = excluded(self._part, self._plan)
        for key in self._plan.columns:
            if key.nan != "drop":
                continue
            words = words_of(self._part, key, self._kept)
            gone = words == words.dtype.type(BEYOND[8 * words.dtype.itemsize].gone)
            if gone.any():
                codes = np.zeros(len(self), np.uint8) if codes is None else codes
                codes[gone & (codes == SCORED)] = UNSCORED
        noisy = _noisy(self._part, self._plan, self._kept)
        if noisy is not None:
            codes = np.zeros(len(self), np.uint8) if codes is None else codes
            codes[noisy & (codes == SCORED)] = NOISY
        return codes

    def _classes(self) -> bits.Groups:
        """Return the class of each row that takes part, by its place among those with a quota."""
        if self._plan.classes is None:
            if self.codes is None:
                return None
            return np.where(self.codes == SCORED, 0, -1)
        labels, known = labels_of(self._part, self._kept), self._plan.classes
        if not len(known):
            place = np.zeros(len(self), np.int64)
        elif known[-1] - known[0] == len(known) - 1:
            place = labels - known[0]
        else:
            place = np.searchsorted(known, labels)
        return place if self.codes is None else np.where(self.codes == SCORED, place, -1)

    def groups(self) -> bits.Groups:
        """Return the group of each row, -1 for those that take no part."""
        request = self._request
        if request.cut is None and request.strata is None:
            return self.classes
        name = (self._part.name, "group", request.cut is None, request.strata is None)
        group = self._kept.get(name, self._competing).astype(np.int64) - 1
        if request.cut is not None:
            if self.codes is None:
                self.codes = np.zeros(len(self), np.uint8)
            self.codes[(self.codes == SCORED) & (group < 0)] = BETA
        return group

    def _competing(self) -> NDArray[np.uint32]:
        """Return the group of each row plus one, after the cut and by stratum."""
        request, group = self._request, self.classes
        if request.cut is not None:
            gone = bits.apply(request.cut, group, len(self), self.reader(request.cut_order))
            group = np.where(gone, -1, 0 if group is None else group)
        if request.strata is not None:
            bins = self.bins(request.strata, group)
            group = bins if group is None else np.where(group >= 0, group * request.strata.number + bins, -1)
        every = np.zeros(len(self), np.int64) if group is None else group
        return (every + 1).astype(np.uint32)

    def values(self, beyond: dict[int, float], rows: Positions | None = None) -> NDArray[np.float64]:
        """Return the first key as numbers, what is beyond them with its value."""
        words = words_of(self._part, self._plan.keys[0], self._kept)
        if rows is not None:
            words = words[rows]
        values = bits.numbers(words)
        for code, value in beyond.items():
            values[words == words.dtype.type(code)] = value
        return values

    def bins(self, strata: Strata, group: bits.Groups) -> NDArray[np.int64]:
        """Return the stratum of each row; any where the row takes no part."""
        words = words_of(self._part, self._plan.keys[0], self._kept)
        if len(strata.edges) == 1 and words.dtype == np.uint32:
            bins: NDArray[np.int64] = by_leading_bits(strata.edges[0])[words >> np.uint32(16)]
            rows = np.flatnonzero(bins < 0)  # those whose leading bits leave two strata open
            bins[rows] = equal_width(self.values(strata.beyond, rows), strata.edges[0])
            return bins
        values = self.values(strata.beyond)
        if len(strata.edges) == 1:
            return equal_width(values, strata.edges[0])
        found = np.zeros(len(self), np.int64)
        if group is not None:
            ranked = np.argsort(group, kind="stable")
            starts = np.searchsorted(group[ranked], np.arange(len(strata.edges) + 1))
            for place, edges in enumerate(strata.edges):
                mine = ranked[starts[place] : starts[place + 1]]
                found[mine] = equal_width(values[mine], edges)
        return found

    def reader(self, order: tuple[tuple[Key, Hard], ...]) -> bits.Read:
        """Return what gives the words of rows in an order."""

        def read(place: int, rows: Positions | None) -> Words:
            if place < len(order):
                key, first = order[place]
                words = words_of(self._part, key, self._kept)
                return bits.turned(words if rows is None else words[rows], first)
            if place == len(order):
                return self._ties(rows)
            numbers = np.arange(len(self)) if rows is None else rows
            return (numbers + self._part.first).astype(np.uint64)

        return read

    def _ties(self, rows: Positions | None) -> Words:
        name = (self._part.name, "tie", self._plan.seed)
        if rows is None or len(rows) > len(self) // 4:
            ties = self._kept.get(name, lambda: self._tied(None))
            return ties if rows is None else ties[rows]
        return self._tied(rows)

    def _tied(self, rows: Positions | None) -> NDArray[np.uint64]:
        part = self._part
        table = part.table(["index", "uid"] if part.has("uid") else ["index"])
        if rows is not None:
            table = table.rows(rows)
        return tie_keys(self._plan.seed, table.uid_words(), table.integers("index"))


def equal_width(values: NDArray[np.float64], edges: NDArray[np.float64]) -> NDArray[np.int64]:
    """Return the bin of each value as ``policies.strata`` does, by arithmetic, corrected where rounding was off."""
    number = len(edges) - 1
    if np.isnan(edges[0]):
        return np.zeros(len(values), np.int64)
    with np.errstate(over="ignore", invalid="ignore"):
        guess = (values - edges[0]) * (number / (edges[-1] - edges[0]))
        bins: NDArray[np.int64] = np.clip(np.nan_to_num(guess, copy=False), 0, number - 1).astype(np.int64)
        wrong = ~(values >= edges[bins]) | ((values >= edges[bins + 1]) & (bins < number - 1))
    rows = np.flatnonzero(wrong)
    if len(rows):
        right = np.searchsorted(edges, values[rows], side="right") - 1
        bins[rows] = np.clip(right, 0, number - 1)
    return bins


def by_leading_bits(edges: NDArray[np.float64]) -> NDArray[np.int64]:
    """Return the bin of all float32 whose words begin with the same 16 bits, int64[2^16]; -1 where they differ."""
    first = np.arange(2**16, dtype=np.uint32) << np.uint32(16)
    low, high = bits.numbers(first), bits.numbers(first | np.uint32(0xFFFF))
    bins = equal_width(low, edges)
    known = np.isfinite(low) & np.isfinite(high) & (bins == equal_width(high, edges))
    return np.where(known, bins, -1)


def histogram(part: Part, request: Request, step: Step, kept: Kept) -> NDArray[np.int64]:
    """Return the counts of a part; see `select.histogram`. Those of all parts add."""
    view = View(part, request, kept)
    return bits.histogram(step, view.groups(), view.reader(request.order))


def boundary(part: Part, request: Request, step: Step, kept: Kept) -> Rows:
    """Return the rows of a part at the boundary; see `select.histogram`. Those of all parts are concatenated."""
    view = View(part, request, kept)
    return bits.boundary(step, view.groups(), view.reader(request.order))


def extremes(part: Part, request: Request, beyond: dict[int, float], kept: Kept) -> NDArray[np.float64]:
    """Return the least and the largest value of the first key of each class, float64[C, 2], of rows not cut."""
    view = View(part, request, kept)
    group, values = view.groups(), view.values(beyond)
    number = 1 if request.plan.classes is None else len(request.plan.classes)
    found = np.tile([np.inf, -np.inf], (number, 1))
    if group is None:
        return np.array([[values.min(), values.max()]])
    taking = group >= 0
    np.minimum.at(found[:, 0], group[taking], values[taking])
    np.maximum.at(found[:, 1], group[taking], values[taking])
    return found


@dataclass(frozen=True)
class Edge:
    """An extreme word of the first key and how many rows have it."""

    word: int
    rows: int


@dataclass
class Tally:
    """What is known of the decisions once all rows have one.

    Attributes:
        kept: Rows.
        codes: int64[7], rows by code; SCORED are kept, DROPPED those the policy itself did not keep.
        classes: label -> (rankable rows, kept ones).
        edges: (kept?, lowest or highest) -> word and rows, of the first key among rankable rows.
    """

    kept: int = 0
    codes: NDArray[np.int64] = field(default_factory=lambda: np.zeros(len(CODES), np.int64))
    classes: dict[int, tuple[int, int]] = field(default_factory=dict)
    edges: dict[tuple[bool, Hard], Edge] = field(default_factory=dict)

    def add(self, other: Tally) -> None:
        """Take in what another part has."""
        self.kept += other.kept
        self.codes = self.codes + other.codes
        for label, (size, kept) in other.classes.items():
            before = self.classes.get(label, (0, 0))
            self.classes[label] = before[0] + size, before[1] + kept
        for place, edge in other.edges.items():
            mine = self.edges.get(place)
            if mine is None or (edge.word < mine.word if place[1] == "low" else edge.word > mine.word):
                self.edges[place] = edge
            elif edge.word == mine.word:
                self.edges[place] = Edge(edge.word, edge.rows + mine.rows)


@dataclass(frozen=True, eq=False)
class Decided:
    """The decisions on the rows of one part.

    Attributes:
        keep: bool[n].
        codes: uint8[n], why a row is not kept.
        stratum: int64[n], -1 for none; None where the policy has none.
        tally: Their sums.
    """

    keep: NDArray[np.bool_]
    codes: NDArray[np.uint8]
    stratum: NDArray[np.int64] | None
    tally: Tally


def apply(part: Part, request: Request, thresholds: Thresholds, kept: Kept) -> Decided:
    """Decide on every row of a part."""
    view = View(part, request, kept)
    group = view.groups()
    keep = bits.apply(thresholds, group, len(part), view.reader(request.order))
    if view.codes is None:
        codes = np.where(keep, np.uint8(SCORED), np.uint8(DROPPED))
    else:
        codes = view.codes
        codes[(codes == SCORED) & ~keep] = DROPPED
    if request.barred is not None and view.classes is not None:
        codes[(codes == DROPPED) & (view.classes >= 0) & request.barred[view.classes]] = QUOTA
    tally = Tally(int(keep.sum()), np.bincount(codes, minlength=len(CODES)))
    rankable = None if view.codes is None else (codes != UNREADABLE) & (codes != UNSCORED)
    if request.plan.labels:
        # kept for later passes where these need them
        held = kept if request.plan.classes is not None else Nothing()
        tally.classes = _of_classes(labels_of(part, held), rankable, keep)
    words = words_of(part, request.plan.keys[0], kept)
    for inside, rows in ((True, keep), (False, ~keep if rankable is None else rankable & ~keep)):
        if rows.any():
            tally.edges |= {(inside, end): edge for end, edge in _edges(words, rows).items()}
    return Decided(keep, codes, _stratum(request, group, view), tally)


def _edges(words: Words, rows: NDArray[np.bool_]) -> dict[Hard, Edge]:
    """Return the extreme words among some rows; other rows are blotted out, which is quicker than leaving them out."""
    lowest = int(np.where(rows, words, np.iinfo(words.dtype).max).min())
    highest = int(np.where(rows, words, words.dtype.type(0)).max())
    return {
        "low": Edge(lowest, int(np.count_nonzero((words == lowest) & rows))),
        "high": Edge(highest, int(np.count_nonzero((words == highest) & rows))),
    }


def _stratum(request: Request, group: bits.Groups, view: View) -> NDArray[np.int64] | None:
    if request.plan.classes is not None:
        # a row that was cut keeps the number of its class
        return view.classes
    return group if request.strata is not None else None


def _of_classes(
    labels: NDArray[np.int64], rankable: NDArray[np.bool_] | None, keep: NDArray[np.bool_]
) -> dict[int, tuple[int, int]]:
    """Return by label how many rows can be ranked and how many are kept, which all can be ranked."""
    if rankable is not None:
        labels, keep = labels[rankable], keep[rankable]
    found: dict[int, tuple[int, int]] = {}
    for cell, rows in zip(*(each.tolist() for each in _sizes(2 * labels + keep)), strict=True):
        label, inside = divmod(cell, 2)
        size, left = found.get(label, (0, 0))
        found[label] = size + rows, left + inside * rows
    return found
