"""What was found, and every figure derived from it, once: lines, JSON, tables and charts are views of these."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from math import isfinite, nan
from typing import Literal

import numpy as np

from dataset_audit import seeds
from dataset_audit.stats.chance import holm
from dataset_audit.stats.fits import Fit
from dataset_audit.stats.matched import Pairs, mcnemar, pairs
from dataset_audit.stats.selection import Rung, ladder, whole
from dataset_audit.testset import across, compare
from dataset_audit.testset.across import Lines, Order
from dataset_audit.testset.compare import ClassGap, Exam, Gap, ModelGap
from dataset_audit.testset.near import Seen
from dataset_audit.testset.wear import Wear, wear

LINE = 3  # models that a line needs
RELIABLE = 0.5  # share of the models' spread on the original that must be no luck
Shrinking = Literal["better models lose less", "gains shrink", "gains carry over", "not measured"]


@dataclass(frozen=True, kw_only=True)
class Duplicates:
    """Images of one set that are nearly in the training set.

    Attributes:
        exact: With equal pixels there.
        near: Nearly there, these included.
        dropped: With the clusters they belong to; what the figures without duplicates leave out.
        by_chance: Share of images upside down that are nearly there.
        accuracy: Mean accuracy on all images, and on those that stay; NaN if none stays.
    """

    exact: int
    near: int
    dropped: int
    by_chance: float
    accuracy: tuple[float, float]


@dataclass(frozen=True, kw_only=True, eq=False)
class Findings:
    """Everything that was found.

    Attributes:
        names: Of the original and the new set.
        exams: Labels and answers.
        models: Their names.
        classes: Their names.
        paired: Both sets are the same images.
        seen: What images said, where they were at hand.
        searched: Whether there was a training set.
        shared: Images of the new set nearly in the original; None if unknown.
        selections: How often was chosen, if stated.
        delta: A difference to believe, a share, if stated.
        ladder: Whether models stand in the order of submission.
        seed: Of redrawn models and images.
    """

    names: tuple[str, str]
    exams: tuple[Exam, Exam]
    models: tuple[str, ...]
    classes: tuple[str, ...]
    paired: bool
    seen: tuple[Seen | None, Seen | None]
    searched: bool
    shared: int | None
    selections: int | None
    delta: float | None
    ladder: bool
    seed: int

    @property
    def sizes(self) -> tuple[int, int]:
        """Images counted."""
        return len(self.exams[0]), len(self.exams[1])

    @cached_property
    def interval(self) -> compare.Interval:
        """Which interval the gaps of single models have."""
        return compare.kind(self.exams, paired=self.paired)

    @cached_property
    def by_model(self) -> list[ModelGap]:
        """In the order given."""
        return compare.model_gaps(self.models, self.exams, paired=self.paired)

    @cached_property
    def ranked(self) -> list[ModelGap]:
        """Best on the original first."""
        return sorted(self.by_model, key=lambda each: (each.rank, each.model))

    @cached_property
    def gap(self) -> Gap:
        """Mean over models."""
        return compare.mean_gap(self.exams, paired=self.paired)

    @cached_property
    def without(self) -> Gap:
        """Mean over models, on images that are not nearly in the training set."""
        return compare.without_duplicates(self.exams, paired=self.paired)

    @cached_property
    def by_class(self) -> list[ClassGap]:
        """In the order of classes."""
        return compare.class_gaps(self.exams, len(self.classes), paired=self.paired)

    @cached_property
    def balanced(self) -> Gap:
        """Mean over models and classes."""
        return compare.balanced_gap(self.by_class)

    @cached_property
    def order(self) -> Order | None:
        """Of the models; None with one."""
        return across.order(self.exams) if len(self.models) > 1 else None

    @cached_property
    def lines(self) -> Lines | None:
        """New over original; None with fewer than three models."""
        if len(self.models) < LINE:
            return None
        seed = seeds.integer(self.seed, "testset", "lines")
        return across.lines(self.exams, paired=self.paired, seed=seed)

    @property
    def shrinking(self) -> Shrinking:
        """What the slope says of gains on the original: a test set that is worn out makes them shrink on a new one.

        Said only where both intervals of the slope, over models and over images, lie on one side of 1, after the
        slope is corrected for luck on the original; not at all where most of the spread there is luck, or where the
        interval holds both no gain at all and the whole of it.
        """
        line = self.lines
        if line is None or not all(map(isfinite, (*line.slope, *line.over_images))):
            return "not measured"
        if line.reliability < RELIABLE:
            return "not measured"
        low = min(line.slope[0], line.over_images[0]) / line.reliability
        high = max(line.slope[1], line.over_images[1]) / line.reliability
        if low > 1:
            return "better models lose less"
        if high < 1:
            return "gains shrink"
        return "gains carry over" if low > 0 else "not measured"

    @cached_property
    def wear(self) -> tuple[Wear, Wear]:
        """Each set as a place to choose models on."""
        first, second = (
            wear(
                exam.correct,
                selections=self.selections,
                difference=self.delta,
                seed=seeds.integer(self.seed, "testset", "wear"),
            )
            for exam in self.exams
        )
        return first, second

    @cached_property
    def leaders(self) -> tuple[str, str, Pairs, float] | None:
        """The two best on the original: names, how often each alone was right, McNemar's p. None with one model."""
        if len(self.models) < 2:
            return None
        one, two = (self.models.index(each.model) for each in self.ranked[:2])
        counts = pairs(self.exams[0].correct[:, one], self.exams[0].correct[:, two])
        return self.models[one], self.models[two], counts, mcnemar(counts.first, counts.second)

    @cached_property
    def rungs(self) -> list[Rung] | None:
        """Which results count, in the order of models; None unless asked for."""
        return ladder(self.exams[0].correct) if self.ladder else None

    @cached_property
    def duplicates(self) -> tuple[Duplicates | None, Duplicates | None]:
        """Of each set in the training set."""
        first, second = (
            None if seen is None or not self.searched else _duplicates(exam, seen)
            for exam, seen in zip(self.exams, self.seen, strict=True)
        )
        return first, second

    @property
    def error_ratio(self) -> float:
        """Mean over models that err on the original."""
        known = [each.error_ratio for each in self.by_model if isfinite(each.error_ratio)]
        return float(np.mean(known)) if known else nan

    @property
    def excluding(self) -> int:
        """Models whose own interval excludes no gap."""
        return sum(each.gap.low > 0 or each.gap.high < 0 for each in self.by_model)

    @cached_property
    def surviving(self) -> int:
        """Models with a gap at 5 % after Holm's correction for their number."""
        return sum(p <= 0.05 for p in holm([each.p for each in self.by_model]))

    def summary(self) -> dict[str, object]:
        """Return plain values; shares, not percent."""
        return {
            "original": {"name": self.names[0], "n": self.sizes[0]},
            "new": {"name": self.names[1], "n": self.sizes[1]},
            "models": len(self.models),
            "paired": self.paired,
            "interval": self.interval,
            "gap": {**_gap(self.gap), "verdict": self.gap.verdict},
            "gap_without_duplicates": _gap(self.without),
            "gap_balanced": _gap(self.balanced),
            "gaps_excluding_zero": self.excluding,
            "gaps_after_holm": self.surviving,
            "gap_smallest": plain(min(each.gap.value for each in self.by_model)),
            "gap_largest": plain(max(each.gap.value for each in self.by_model)),
            "error_ratio": plain(self.error_ratio),
            "by_model": {each.model: _model(each) for each in self.ranked},
            "line": None if self.lines is None else _lines(self.lines),
            "gains": self.shrinking,
            "order": None if self.order is None else _order(self.order),
            "leaders": self._leaders(),
            "selection": {"original": _wear(self.wear[0]), "new": _wear(self.wear[1])},
            "duplicates": {
                "original": _told(self.duplicates[0]),
                "new": _told(self.duplicates[1]),
                "shared": self.shared,
            },
            "ladder": None if self.rungs is None else self._ladder(self.rungs),
        }

    def _leaders(self) -> dict[str, object] | None:
        if self.leaders is None:
            return None
        first, second, counts, p = self.leaders
        return {
            "first": first,
            "second": second,
            "only_first": counts.first,
            "only_second": counts.second,
            "p": p,
        }

    def _ladder(self, rungs: list[Rung]) -> dict[str, object]:
        return {
            name: {"counted": rung.counted, "shown": rung.shown, "margin": plain(rung.margin)}
            for name, rung in zip(self.models, rungs, strict=True)
        }

    def model_rows(self) -> Iterator[dict[str, object]]:
        """Yield rows of ``testset.parquet``, best on the original first."""
        place = {name: number for number, name in enumerate(self.models)}
        for each in self.ranked:
            rung = None if self.rungs is None else self.rungs[place[each.model]]
            accuracy = each.accuracy
            row: dict[str, object] = {"model": each.model}
            for number, side in enumerate(("original", "new")):
                row[f"n_{side}"], row[f"correct_{side}"] = each.n[number], each.correct[number]
                row[f"accuracy_{side}"] = accuracy[number]
                row[f"accuracy_{side}_low"], row[f"accuracy_{side}_high"] = each.interval[number]
                row[f"rank_{side}"] = each.rank[number]
            yield {
                **row,
                "gap": each.gap.value,
                "gap_low": each.gap.low,
                "gap_high": each.gap.high,
                "interval": self.interval,
                "p": each.p,
                "error_ratio": each.error_ratio,
                "gap_without_duplicates": each.without.value,
                "gap_without_duplicates_low": each.without.low,
                "gap_without_duplicates_high": each.without.high,
                "ladder_counted": None if rung is None else rung.counted,
                "ladder_shown": None if rung is None else rung.shown,
            }

    def class_rows(self) -> Iterator[dict[str, object]]:
        """Yield rows of ``testset_classes.parquet``: the mean over models, then each model."""
        for each in self.by_class:
            yield self._class_row(each, None, each.gap)
        for model in self.ranked:
            column = self.models.index(model.model)
            for each in self.by_class:
                yield self._class_row(each, column, each.by_model[column])

    def _class_row(self, each: ClassGap, column: int | None, gap: Gap) -> dict[str, object]:
        right: list[int | None] = [None, None]
        shares = [nan, nan]
        for side in (0, 1):
            found = each.correct[side]
            if column is not None:
                right[side] = int(found[column])
            if each.n[side]:
                shares[side] = float(found.mean() if column is None else found[column]) / each.n[side]
        return {
            "model": None if column is None else self.models[column],
            "class_name": self.classes[each.label],
            "n_original": each.n[0],
            "n_new": each.n[1],
            "correct_original": right[0],
            "correct_new": right[1],
            "accuracy_original": shares[0],
            "accuracy_new": shares[1],
            "gap": gap.value,
            "gap_low": gap.low,
            "gap_high": gap.high,
        }


def _duplicates(exam: Exam, seen: Seen) -> Duplicates:
    share = exam.correct.mean(1)
    kept = share if exam.dropped is None else share[~exam.dropped]
    return Duplicates(
        exact=int(seen.exact.sum()),
        near=int(seen.near.sum()),
        dropped=int(seen.dropped.sum()),
        by_chance=seen.by_chance,
        accuracy=(float(share.mean()), float(kept.mean()) if len(kept) else nan),
    )


def plain(value: float) -> float | None:
    """Return a number as JSON can hold it: None for what is none."""
    return float(value) if isfinite(value) else None


def _gap(gap: Gap) -> dict[str, object]:
    return {"value": plain(gap.value), "low": plain(gap.low), "high": plain(gap.high)}


def _model(each: ModelGap) -> dict[str, object]:
    return {
        "original": {"correct": each.correct[0], "n": each.n[0], "accuracy": each.accuracy[0],
                     "low": each.interval[0][0], "high": each.interval[0][1], "rank": each.rank[0]},
        "new": {"correct": each.correct[1], "n": each.n[1], "accuracy": each.accuracy[1],
                "low": each.interval[1][0], "high": each.interval[1][1], "rank": each.rank[1]},
        "gap": {**_gap(each.gap), "p": plain(each.p)},
        "error_ratio": plain(each.error_ratio),
        "gap_without_duplicates": _gap(each.without),
    }  # fmt: skip


def _fit(fit: Fit) -> dict[str, object]:
    return {
        "slope": plain(fit.slope), "intercept": plain(fit.intercept), "slope_error": plain(fit.slope_error),
        "intercept_error": plain(fit.intercept_error), "r2": plain(fit.r2), "n": fit.n,
    }  # fmt: skip


def _ends(ends: tuple[float, float]) -> list[float | None]:
    return [plain(ends[0]), plain(ends[1])]


def _lines(found: Lines) -> dict[str, object]:
    return {
        **_fit(found.plain),
        "slope_interval": _ends(found.slope),
        "slope_interval_images": _ends(found.over_images),
        "reliability": plain(found.reliability),
        "intercept_interval": _ends(found.intercept),
        "probit": {**_fit(found.probit), "slope_interval": _ends(found.probit_slope)},
    }


def _order(found: Order) -> dict[str, object]:
    return {
        "spearman": plain(found.spearman),
        "kendall": plain(found.kendall),
        "pearson": plain(found.pearson),
        "pairs": found.pairs,
        "swapped": found.swapped,
        "told_apart": found.told_apart,
        "reversed": found.reversed,
    }


def _wear(found: Wear) -> dict[str, object]:
    return {
        "n": found.n,
        "models": found.models,
        "accuracy": found.accuracy,
        "correlation": found.rho if found.known else None,
        "standard_error": found.error,
        "neighbours": plain(found.neighbours),
        "selections": found.selections,
        "bias": found.bias,
        "lives": [
            {"difference": each.difference, "selections": whole(each.selections)} for each in found.lives
        ],
        "choosing": [
            {
                "images": each.measured.size,
                "models": each.measured.models,
                "bias": each.measured.bias,
                "error": each.measured.error,
                "formula": each.formula,
            }
            for each in found.choosing
        ],
    }


def _told(found: Duplicates | None) -> dict[str, object] | None:
    if found is None:
        return None
    return {
        "exact": found.exact,
        "near": found.near,
        "dropped": found.dropped,
        "by_chance": found.by_chance,
        "accuracy": found.accuracy[0],
        "accuracy_without": plain(found.accuracy[1]),
    }
