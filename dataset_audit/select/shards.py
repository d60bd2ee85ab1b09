"""Selection over tables that are not in memory: what is asked of each row group, and how the answers merge.

`histogram`, `boundary` and `apply` take one part of the table and a small request; what they return merges in any
order, as that of `select.survey` does. Whoever calls them (`select.stream`) may run them in threads, in other processes
or on other machines.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from dataset_audit.select import histogram as bits
from dataset_audit.select.histogram import Positions, Rows, Step, Thresholds, Words
from dataset_audit.select.order import Hard, tie_keys
from dataset_audit.select.survey import (
    BETA,
    BEYOND,
    CODES,
    DROPPED,
    NOISY,
    QUOTA,
    SCORED,
    UNREADABLE,
    UNSCORED,
    Kept,
    Key,
    Plan,
    counted,
    excluded,
    labels_of,
    noisy,
    words_of,
)
from dataset_audit.tables.shards import Part


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
        below = noisy(self._part, self._plan, self._kept)
        if below is not None:
            codes = np.zeros(len(self), np.uint8) if codes is None else codes
            codes[below & (codes == SCORED)] = NOISY
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
        codes = np.multiply(~keep, DROPPED, dtype=np.uint8)  # SCORED is 0
    else:
        codes = view.codes
        codes[(codes == SCORED) & ~keep] = DROPPED
    if request.barred is not None and view.classes is not None:
        codes[(codes == DROPPED) & (view.classes >= 0) & request.barred[view.classes]] = QUOTA
    tally = Tally(int(keep.sum()), np.bincount(codes, minlength=len(CODES)))
    rankable = None if view.codes is None else (codes != UNREADABLE) & (codes != UNSCORED)
    if request.plan.labels:
        by_class = request.plan.classes is not None
        tally.classes = _of_classes(labels_of(part, kept if by_class else None), rankable, keep)
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
    for cell, rows in zip(*(each.tolist() for each in counted(2 * labels + keep)), strict=True):
        label, inside = divmod(cell, 2)
        size, left = found.get(label, (0, 0))
        found[label] = size + rows, left + inside * rows
    return found
