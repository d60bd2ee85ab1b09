"""The passes over a table that is not in memory, one after the other: look, count, collect, decide."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Final, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from dataset_audit.select import shards
from dataset_audit.select.budget import quotas, spread
from dataset_audit.select.histogram import CAP, Rows, Search, Step, Thresholds
from dataset_audit.select.order import Hard
from dataset_audit.select.policies import over_budget
from dataset_audit.select.shards import Decided, Request, Strata
from dataset_audit.select.survey import BEYOND, Kept, Key, Plan, Survey, surveyed
from dataset_audit.tables.shards import Part, Shards

T = TypeVar("T")
STREAMED: Final = ("hardest", "easiest", "random", "ccs")
MOST_GROUPS: Final = 2**18  # classes times strata; more are not parted by histograms
WORD: Final = {
    "hardest": "easy",
    "easiest": "hard",
    "random": "random",
    "ccs": "random",
}  # of what is not kept


class Engine(Protocol):
    """What calls a function for every part of a table: threads here, or tasks on other machines."""

    def forget(self) -> None:
        """Drop what was kept for the passes of another selection."""

    def gather(self, table: Shards, work: Callable[..., T], merge: Callable[[T, T], T]) -> T:
        """Return what ``work(part, kept=...)`` gives for all parts, merged."""

    def each(self, table: Shards, work: Callable[..., T]) -> Iterator[T]:
        """Give what ``work`` gives for each part, in their order."""

    def shards(self, table: Shards, work: Callable[..., T]) -> list[T]:
        """Return what ``work(shard, kept=...)`` gives for each file, in their order."""


@dataclass(frozen=True, kw_only=True)
class Wish:
    """What is to be kept.

    Attributes:
        policy: One of STREAMED.
        balance: Whether each class has a quota.
        count: From the number of rankable rows, how many are kept.
        floor: 1 if no class may lose its last example to rounding.
        beta: From the share pruned, the share of the hardest that ccs cuts.
        strata: Bins of ccs.
    """

    policy: str
    balance: bool
    count: Callable[[int], int]
    floor: int
    beta: Callable[[float], float]
    strata: int


@dataclass(frozen=True)
class Found:
    """A choice as a rule: what `decide` needs to say of every row whether it is kept."""

    request: Request
    thresholds: Thresholds
    survey: Survey
    count: int
    beyond: dict[int, float]


def look(table: Shards, plan: Plan, wish: Wish, engine: Engine) -> Survey:
    """Look at every row once: what can be ranked, in which classes, and between which numbers."""
    return engine.gather(table, partial(surveyed, plan=plan, by_class=wish.balance), _added)


def _added(one: Survey, other: Survey) -> Survey:
    one.add(other)
    return one


def search(table: Shards, plan: Plan, survey: Survey, wish: Wish, engine: Engine) -> Found:
    """Return the rule that keeps exactly as many rows as wished, found in a few passes.

    Raises:
        UsageError: More are to be cut and kept than there are, or fewer than classes.
    """
    count = wish.count(survey.rankable)
    labels = np.array(sorted(survey.pool), np.int64)
    sizes = np.array([survey.pool[label] for label in labels.tolist()], np.int64)
    plan = replace(plan, classes=labels if wish.balance else None)
    shares = quotas(sizes, count, floor=wish.floor) if wish.balance else np.array([count])
    beyond = _beyond(plan.keys[0], survey)
    ends = tuple((key, _other(key.hard) if wish.policy == "easiest" else key.hard) for key in plan.keys)
    order: tuple[tuple[Key, Hard], ...] = () if wish.policy in {"random", "ccs"} else ends
    barred = shares == 0
    request = Request(plan=plan, order=order, barred=barred if wish.balance and barred.any() else None)
    passes = _Passes(table, survey, engine)
    if wish.policy == "ccs":
        share = wish.beta(1 - count / survey.rankable)
        request = _cut(passes, request, sizes, shares, share)
        request, budgets = _stratified(passes, request, shares, wish.strata, beyond)
        thresholds = passes.thresholds(request, len(sizes) * wish.strata, budgets)
    else:
        thresholds = passes.thresholds(request, len(sizes), lambda _: shares)
    return Found(request, thresholds, survey, count, beyond)


def decide(table: Shards, found: Found, work: Callable[..., T], engine: Engine) -> Iterator[T]:
    """Give what ``work(part, decided)`` makes of the decisions on each part, in the order of the table."""
    yield from engine.each(table, partial(_decided, found=found, work=work))


def _decided(part: Part, found: Found, work: Callable[[Part, Decided], T], kept: Kept) -> T:
    return work(part, shards.apply(part, found.request, found.thresholds, kept))


def _other(end: Hard) -> Hard:
    return "low" if end == "high" else "high"


def _beyond(key: Key, survey: Survey) -> dict[int, float]:
    """Return what stands for null and for what is not known: the next number past the end, as `ranking` has it."""
    extent = survey.extents[key.name]
    codes = BEYOND[extent.width]
    low, high = (extent.low, extent.high) if extent.low <= extent.high else (0.0, 0.0)
    empty = extent.low > extent.high
    beyond = {}
    if key.null is not None:
        value = 0.0 if empty else _next(low, high, key.null)
        beyond[codes.null(key.null)] = value
        if extent.nulls:
            low, high, empty = min(low, value), max(high, value), False
    beyond[codes.unknown(key.hard)] = 0.0 if empty else _next(low, high, key.hard)
    return beyond


def _next(low: float, high: float, end: Hard) -> float:
    return float(np.nextafter(high, np.inf) if end == "high" else np.nextafter(low, -np.inf))


class _Passes:
    """Runs searches over the rows of one table."""

    def __init__(self, table: Shards, survey: Survey, engine: Engine) -> None:
        self.table, self.engine, self._survey = table, engine, survey

    def thresholds(
        self, request: Request, groups: int, wanted: Callable[[NDArray[np.int64]], NDArray[np.int64]]
    ) -> Thresholds:
        """Return the thresholds under which each group has as many rows as wanted."""
        widths = [self._survey.extents[key.name].width for key, _ in request.order]
        found = Search(
            (*widths, 64, max(1, len(self.table).bit_length())),
            groups,
            wanted,
            cheap=len(widths),
            cap=CAP,
        )
        while (step := found.step()) is not None:
            if step.collect:
                work = partial(_rows, request=request, step=step)
                rows: list[Rows] = self.engine.gather(self.table, work, _joined)
                found.collect(Rows.together(rows))
            else:
                count = partial(shards.histogram, request=request, step=step)
                found.count(self.engine.gather(self.table, count, np.add))
        return found.thresholds()

    def ends(self, request: Request, beyond: dict[int, float]) -> NDArray[np.float64]:
        """Return the least and the largest number of the first key in each class, float64[C, 2]."""
        extent, pool = self._survey.extents[request.plan.keys[0].name], self._survey.pool
        every = sum(pool.values()) == len(self.table) and not extent.nulls and not extent.beyond
        if every and len(pool) == 1 and request.cut is None:
            return np.array([[extent.low, extent.high]])  # of all rows, as they were looked at
        work = partial(shards.extremes, request=request, beyond=beyond)
        return self.engine.gather(self.table, work, _wider)


def _rows(part: Part, request: Request, step: Step, kept: Kept) -> list[Rows]:
    return [shards.boundary(part, request, step, kept)]


def _joined(one: list[Rows], other: list[Rows]) -> list[Rows]:
    return one + other


def _wider(one: NDArray[np.float64], other: NDArray[np.float64]) -> NDArray[np.float64]:
    low, high = np.minimum(one[:, 0], other[:, 0]), np.maximum(one[:, 1], other[:, 1])
    return np.stack([low, high], axis=1)


def _cut(
    passes: _Passes, request: Request, sizes: NDArray[np.int64], shares: NDArray[np.int64], share: float
) -> Request:
    """Return the request without the hardest share of each class, by AUM where there is one."""
    plan = request.plan
    order = tuple((key, key.hard) for key in ((plan.aum,) if plan.aum else plan.keys))
    cuts = np.array([int(share * size) for size in sizes.tolist()], np.int64) * (shares > 0)
    for size, gone, kept in zip(sizes.tolist(), cuts.tolist(), shares.tolist(), strict=True):
        if gone + kept > size:
            raise over_budget(share, gone, size, kept)
    if not cuts.any():
        return request
    thresholds = passes.thresholds(request.ranked(order), len(sizes), lambda _: cuts)
    return replace(request, cut=thresholds, cut_order=order)


def _stratified(
    passes: _Passes,
    request: Request,
    shares: NDArray[np.int64],
    number: int,
    beyond: dict[int, float],
) -> tuple[Request, Callable[[NDArray[np.int64]], NDArray[np.int64]]]:
    """Return the request of ccs by strata, and how many each of them gives."""
    ends = passes.ends(request, beyond)
    edges = np.full((len(shares), number + 1), np.nan)
    for place, (low, high) in enumerate(ends.tolist()):
        if low < high:
            edges[place] = np.linspace(low, high, number + 1)

    def budgets(sizes: NDArray[np.int64]) -> NDArray[np.int64]:
        by_class = sizes.reshape(len(shares), number)
        found = [spread(mine, int(kept)) for mine, kept in zip(by_class, shares, strict=True)]
        return np.concatenate(found)

    return replace(request, strata=Strata(edges=edges, beyond=beyond)), budgets
