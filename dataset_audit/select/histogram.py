"""Exact selection without a sort: histograms of leading bits that add, the rows at the boundary, one threshold.

A row is a tuple of unsigned words (scores turned so that small comes first, then the tie key, then its number), which
no two rows share. The k smallest tuples of a group are those up to one threshold, and that is found digit by digit:
each pass over the rows counts one digit of those that share all leading digits with the k-th. Counts of shards add,
so that the passes can run anywhere. Once few enough rows are left, they themselves are asked for. The slow obvious way
is `select.order` and a cut; both give the same rows.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from dataset_audit.select.order import Hard

Words = NDArray[np.unsignedinteger]  # uint32 or uint64
Positions = NDArray[np.int64]
Groups = (
    NDArray[np.int64] | None
)  # group of each row, -1 for rows that take no part; None where all are of group 0
Read = Callable[
    [int, Positions | None], Words
]  # (number of the word, positions or None for all) -> their words

CELLS: Final = 2**20  # of a histogram: 8 MB
WIDEST: Final = 16  # bits of a digit
CAP: Final = 2**21  # rows collected at the boundary: about 100 MB with what sorting them takes


def ascending(values: NDArray[np.floating]) -> Words:
    """Return words that order as the values do, uint32 for float32 and uint64 for float64; -0.0 is 0.0; no NaN."""
    signed, kind, width = (
        (np.int32, np.uint32, 32) if values.dtype == np.float32 else (np.int64, np.uint64, 64)
    )
    bits: NDArray[np.signedinteger] = (values + values.dtype.type(0)).view(signed)
    sign = bits >> (width - 1)
    sign |= signed(-(2 ** (width - 1)))
    sign ^= bits
    words: Words = sign.view(kind)
    return words


def number(word: int, width: int) -> float:
    """Return the value whose word in `ascending` this is."""
    kind = np.uint32 if width == 32 else np.uint64
    top = 1 << (width - 1)
    bits = word ^ top if word & top else word ^ ((1 << width) - 1)
    return float(kind(bits).view(np.float32 if width == 32 else np.float64))


def numbers(words: Words) -> NDArray[np.float64]:
    """Return the values whose words in `ascending` these are."""
    signed, width = (np.int32, 32) if words.dtype == np.uint32 else (np.int64, 64)
    top = words.dtype.type(1 << (width - 1))
    bits = np.where(words & top, words ^ top, ~words).view(signed)
    with np.errstate(invalid="ignore"):  # words beyond those of numbers are signalling NaN
        return bits.view(np.float32 if width == 32 else np.float64).astype(np.float64)


def turned(words: Words, hard: Hard) -> Words:
    """Return words of which the small ones are hard."""
    return ~words if hard == "high" else words


@dataclass(frozen=True, kw_only=True)
class Step:
    """What one pass is to find out of the rows at the boundary: those with ``fixed`` and ``prefix`` of their group.

    Attributes:
        groups: How many there are.
        fixed: uint64[G] for each word before ``word``.
        word: The word looked at.
        prefix: uint64[G], its leading bits; None at its first digit.
        shift: Bits of the word behind the digit.
        bits: Of the digit.
        wanted: bool[G], groups that are still searched; None for the first pass, which all are.
        collect: How many words, from ``word`` on, are wanted of each row itself; 0 asks for the histogram.
    """

    groups: int
    fixed: tuple[NDArray[np.uint64], ...] = ()
    word: int = 0
    prefix: NDArray[np.uint64] | None = None
    shift: int
    bits: int
    wanted: NDArray[np.bool_] | None = None
    collect: int = 0


@dataclass(frozen=True)
class Rows:
    """Rows at the boundary: group, int64[K], and words, uint64[K] each."""

    group: NDArray[np.int64]
    words: tuple[NDArray[np.uint64], ...]

    @staticmethod
    def together(parts: Sequence[Rows]) -> Rows:
        """Return the rows of all shards."""
        return Rows(
            np.concatenate([part.group for part in parts]),
            tuple(np.concatenate(words) for words in zip(*(part.words for part in parts), strict=True)),
        )


def _at_boundary(step: Step, group: Groups, read: Read) -> Positions | None:
    """Return the positions of the rows a step asks about, None for all; a word is read only of rows in question."""
    rows: Positions | None = None
    if group is not None:
        taking = group >= 0
        if step.wanted is not None:
            taking &= step.wanted[group]
        if not taking.all():
            rows = np.flatnonzero(taking)
    elif step.wanted is not None and not step.wanted[0]:
        return np.zeros(0, np.int64)
    for place, fixed in enumerate((*step.fixed, step.prefix)):
        if fixed is None or (rows is not None and not len(rows)):
            continue
        words = read(place, rows)
        if place == step.word:
            words = words >> words.dtype.type(step.shift + step.bits)
        same = words == _of_group(fixed, group, rows, words.dtype)
        rows = np.flatnonzero(same) if rows is None else rows[same]
    return rows


def _of_group(
    values: NDArray[np.uint64], group: Groups, rows: Positions | None, kind: np.dtype[np.unsignedinteger]
) -> Words:
    """Return what belongs to the group of each row, in the type of the words it is compared with."""
    narrow: Words = values.astype(kind)
    if group is None:
        return narrow[:1]  # is compared with all
    each: Words = narrow[group if rows is None else group[rows]]
    return each


def histogram(step: Step, group: Groups, read: Read) -> NDArray[np.int64]:
    """Return how many rows at the boundary have which next digit, int64[G, 2^bits]; those of shards add."""
    rows = _at_boundary(step, group, read)
    words = read(step.word, rows)
    digit = words >> words.dtype.type(step.shift)
    if step.prefix is not None:
        digit = digit & words.dtype.type(2**step.bits - 1)
    cell = digit.astype(np.int64)
    if group is not None:
        cell += (group if rows is None else group[rows]) << step.bits
    return np.bincount(cell, minlength=step.groups << step.bits).reshape(step.groups, -1)


def boundary(step: Step, group: Groups, read: Read) -> Rows:
    """Return the rows at the boundary with the words a step wants of them."""
    rows = _at_boundary(step, group, read)
    words = tuple(read(place, rows).astype(np.uint64) for place in range(step.word, step.word + step.collect))
    if group is None:
        return Rows(np.zeros(len(words[0]), np.int64), words)
    return Rows(group if rows is None else group[rows], words)


@dataclass(frozen=True)
class Thresholds:
    """What is kept of each group: rows whose tuple of words is at most that of the group.

    Attributes:
        words: uint64[G] each.
        depth: int64[G], how many words say it all: of rows equal in those, all are kept; -1 where none is kept.
    """

    words: tuple[NDArray[np.uint64], ...]
    depth: NDArray[np.int64]


def apply(thresholds: Thresholds, group: Groups, n: int, read: Read) -> NDArray[np.bool_]:
    """Return which of ``n`` rows are kept; a word is read only of rows that the words before it leave open."""
    depth = thresholds.depth
    if group is None:
        keep = np.full(n, depth[0] >= 0)
        rows = None if depth[0] > 0 else np.zeros(0, np.int64)
    else:
        keep = (group >= 0) & (depth[group] >= 0)
        rows = None if (depth > 0).all() and keep.all() else np.flatnonzero(keep & (depth[group] > 0))
    for place, threshold in enumerate(thresholds.words):
        if rows is not None and not len(rows):
            break
        words = read(place, rows)
        limit = _of_group(threshold, group, rows, words.dtype)
        if rows is None:
            keep = words <= limit
            rows = np.flatnonzero(words == limit)
        else:
            keep[rows] = words <= limit
            rows = rows[words == limit]
        if group is not None:
            rows = rows[depth[group[rows]] > place + 1]
        elif depth[0] <= place + 1:
            break
    return keep


class Search:
    """Finds the thresholds, digit by digit; asks for passes with `step` until that gives None."""

    def __init__(
        self,
        widths: Sequence[int],
        groups: int,
        quotas: Callable[[NDArray[np.int64]], NDArray[np.int64]],
        *,
        cheap: int,
        cap: int = CAP,
        widest: int = WIDEST,
    ) -> None:
        """Begin.

        Args:
            widths: Bits of each word; no two rows agree in all of them.
            groups: How many there are.
            quotas: From int64[G], rows in each group, to int64[G], how many of them are kept.
            cheap: So many words, from the first, are read at little cost; the others only where those leave a tie.
            cap: Rows that may be collected.
            widest: Bits of a digit, at most.
        """
        self._widths, self._groups, self._quotas = tuple(widths), groups, quotas
        self._cheap, self._cap = cheap, cap
        room = max(1, (CELLS // groups).bit_length() - 1)
        self._digit = min(widest, room)
        self._word = 0
        self._left = self._widths[0]  # bits of the word that are not looked at yet
        self._prefix = np.zeros(groups, np.uint64)
        self._fixed: tuple[NDArray[np.uint64], ...] = ()
        self._open: NDArray[np.bool_] | None = None
        self._wanted = np.zeros(groups, np.int64)  # of the rows at the boundary
        self._there = np.zeros(groups, np.int64)  # rows at the boundary
        self._found = [np.zeros(groups, np.uint64) for _ in self._widths]
        self._depth = np.full(groups, -1, np.int64)

    @property
    def first(self) -> bool:
        """Whether no pass was made yet."""
        return self._open is None

    def step(self) -> Step | None:
        """Return what the next pass is to do, None when the thresholds are found."""
        if self._open is not None and not self._open.any():
            return None
        ahead = self._cheap - self._word if self._word < self._cheap else len(self._widths) - self._word
        few = self._open is not None and int(self._there[self._open].sum()) <= self._cap
        bits = min(self._digit, self._left)
        return Step(
            groups=self._groups,
            fixed=self._fixed,
            word=self._word,
            prefix=None if self._left == self._widths[self._word] else self._prefix,
            shift=self._left if few else self._left - bits,
            bits=0 if few else bits,
            wanted=self._open,
            collect=ahead if few else 0,
        )

    def count(self, counts: NDArray[np.int64]) -> None:
        """Take the sum of all histograms."""
        if self._open is None:
            self._there = counts.sum(axis=1)
            self._wanted = self._quotas(self._there)
            self._open = np.ones(self._groups, bool)
            self._settle(np.flatnonzero(self._wanted <= 0), depth=-1)
            self._settle(np.flatnonzero(self._wanted >= self._there), depth=0)
        bits = counts.shape[1].bit_length() - 1
        self._left -= bits
        for group in np.flatnonzero(
            self._open
        ):  # group by group: the sums of all at once would be as large again
            upto = np.cumsum(counts[group])
            digit = int(np.searchsorted(upto, self._wanted[group]))
            self._there[group] = counts[group, digit]
            self._wanted[group] -= upto[digit] - counts[group, digit]
            self._prefix[group] = (int(self._prefix[group]) << bits) | digit
        done = np.flatnonzero(self._open & (self._wanted == self._there))
        ones = np.uint64(2**self._left - 1)
        self._settle(done, depth=self._word + 1, last=(self._prefix[done] << np.uint64(self._left)) | ones)
        if self._left == 0:
            self._fix(self._prefix)

    def _fix(self, *words: NDArray[np.uint64]) -> None:
        self._fixed += tuple(word.copy() for word in words)
        self._word += len(words)
        self._prefix = np.zeros(self._groups, np.uint64)
        self._left = self._widths[self._word] if self._word < len(self._widths) else 0

    def _settle(self, groups: Positions, *, depth: int, last: NDArray[np.uint64] | None = None) -> None:
        for place, fixed in enumerate(self._fixed):
            self._found[place][groups] = fixed[groups]
        if last is not None:
            self._found[depth - 1][groups] = last
        self._depth[groups] = depth
        if self._open is not None:
            self._open[groups] = False

    def collect(self, rows: Rows) -> None:
        """Take the rows at the boundary."""
        order = np.lexsort((*reversed(rows.words), rows.group))
        group, words = rows.group[order], [word[order] for word in rows.words]
        fixed = [np.zeros(self._groups, np.uint64) for _ in words]
        starts = np.searchsorted(group, np.arange(self._groups + 1))
        for each in np.flatnonzero(self._open if self._open is not None else []):
            mine = slice(starts[each], starts[each + 1])
            wanted = int(self._wanted[each])
            last = starts[each] + wanted - 1
            equal = np.ones(mine.stop - mine.start, bool)
            for word, kept in zip(words, fixed, strict=True):
                kept[each] = word[last]
                equal &= word[mine] == word[last]
            first = int(np.argmax(equal))
            self._wanted[each], self._there[each] = wanted - first, int(equal.sum())
        self._fix(*fixed)
        done = np.flatnonzero(
            (self._open if self._open is not None else False) & (self._wanted == self._there)
        )
        self._settle(done, depth=self._word)

    def thresholds(self) -> Thresholds:
        """Return what was found."""
        return Thresholds(tuple(self._found), self._depth)
