"""What was found, and every figure derived from it, once: lines, charts and JSON are views of these."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import isfinite, nan
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from dataset_audit.evaluate.arms import Job, overlap, shared_luck
from dataset_audit.evaluate.measure import Measured
from dataset_audit.evaluate.pace import Baseline, Clock, Standing, standing
from dataset_audit.evaluate.verdicts import Comparison, Series, compare, compare_to_full
from dataset_audit.stats.paired import Difference

if TYPE_CHECKING:
    from dataset_audit.evaluate.experiment import Outcome

Key = tuple[str, float, float]  # arm, share kept, share of the steps
ALONE = ("full", "curve", "selective")  # arms with no random subset of their size
UNSCORED = (*ALONE, "random", "stratified", "rs2")  # arms that cost no scoring


@dataclass(frozen=True, kw_only=True, eq=False)
class Done:
    """A finished training with its figures."""

    job: Job
    outcome: Outcome
    measured: Measured
    class_share: NDArray[np.float64]
    wrong_labels: float
    seconds_tune: float

    @property
    def key(self) -> Key:
        """What its seeds have in common."""
        return self.job.arm, self.job.keep, self.job.share


@dataclass(frozen=True, kw_only=True, eq=False)
class Group:
    """The trainings of one arm at one size, in the order of the seeds."""

    done: tuple[Done, ...]

    @property
    def job(self) -> Job:
        """The first one's."""
        return self.done[0].job

    @cached_property
    def accuracy(self) -> NDArray[np.float64]:
        """float64[S]."""
        return np.array([one.measured.accuracy for one in self.done])

    @property
    def mean(self) -> float:
        """Mean accuracy."""
        return float(self.accuracy.mean())

    @property
    def spread(self) -> float:
        """Standard deviation over seeds; NaN for one."""
        return float(self.accuracy.std(ddof=1)) if len(self.accuracy) > 1 else nan

    def average(self, name: str) -> float:
        """Return the mean over seeds of a figure of ``Measured``."""
        return float(np.mean([getattr(one.measured, name) for one in self.done]))

    @cached_property
    def recall(self) -> NDArray[np.float64]:
        """float64[C], mean over seeds."""
        return np.asarray(np.mean([one.measured.recall for one in self.done], axis=0), np.float64)

    @property
    def worst(self) -> int:
        """The class with the lowest mean recall."""
        return int(np.nanargmin(self.recall))

    @cached_property
    def class_share(self) -> NDArray[np.float64]:
        """float64[C], mean over seeds."""
        return np.asarray(np.mean([one.class_share for one in self.done], axis=0), np.float64)

    def series(self, labels: NDArray[np.int64], examples: int) -> Series:
        """Return what is compared; ``examples`` is how many the subsets were chosen from."""
        scored = self.job.arm not in UNSCORED and not self.job.fixed
        return Series(
            arm=self.job.arm,
            keep=self.job.keep,
            accuracy=self.accuracy,
            right=np.stack([one.outcome.predicted == labels for one in self.done]),
            fixed=self.job.fixed,
            shared=shared_luck([one.job.rows for one in self.done], examples) if scored else 0.0,
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class Findings:
    """Everything measured.

    Attributes:
        done: Every training of an arm, in any order; trials left out.
        test_labels: int64[M].
        class_names: In label order.
        examples: Training examples in all.
        delta: Margin of "no worse" and "equivalent", a share.
        scoring: Seconds that choosing one subset by scores took; NaN if not known.
        trainings: How many trainings share one scoring.
        seeds: S.
    """

    done: Sequence[Done]
    test_labels: NDArray[np.int64]
    class_names: tuple[str, ...]
    examples: int
    delta: float
    scoring: float
    trainings: int
    seeds: int

    @cached_property
    def groups(self) -> dict[Key, Group]:
        """Trainings by arm, size and share; the full set first, then by size, the largest first."""
        found: dict[Key, list[Done]] = {}
        for one in sorted(self.done, key=lambda one: one.job.seed):
            found.setdefault(one.key, []).append(one)
        keys = list(found)
        keys.sort(key=lambda key: (-key[1], _place(key[0]), -key[2]))
        return {key: Group(done=tuple(found[key])) for key in keys}

    @property
    def full(self) -> Group | None:
        """Training on everything."""
        return self.groups.get(("full", 1.0, 1.0))

    def arms(self) -> dict[str, list[Group]]:
        """Return the groups of every arm that has sizes, largest first."""
        found: dict[str, list[Group]] = {}
        for (arm, _, share), group in self.groups.items():
            if arm not in ALONE and share == 1:
                found.setdefault(arm, []).append(group)
        return found

    @cached_property
    def baseline_name(self) -> str:
        """The arm that others of their size are compared with, "" without one."""
        return next((name for name in ("random", "stratified") if name in self.arms()), "")

    @cached_property
    def comparisons(self) -> dict[tuple[str, float], Comparison]:
        """Every arm against random subsets of its size."""
        if not self.baseline_name:
            return {}
        baseline = {
            group.job.keep: group.series(self.test_labels, self.examples)
            for group in self.arms()[self.baseline_name]
        }
        return {
            (one.arm, one.keep): one
            for name, groups in self.arms().items()
            if name != self.baseline_name
            for one in compare(
                [group.series(self.test_labels, self.examples) for group in groups], baseline, self.delta
            )
        }

    @cached_property
    def to_full(self) -> dict[tuple[str, float], Comparison]:
        """Every arm against all examples."""
        if self.full is None:
            return {}
        full = self.full.series(self.test_labels, self.examples)
        groups = [*self.arms().values()]
        return {
            (one.arm, one.keep): one
            for each in groups
            for one in compare_to_full(
                [group.series(self.test_labels, self.examples) for group in each], full, self.delta
            )
        }

    @cached_property
    def clocks(self) -> dict[object, Clock]:
        """Pace of the trainings that learn from every example they present, by batch size: each has its own."""
        return {
            size: Clock.of(
                np.array([one.outcome.seconds for one in self.done if _plain_of(one, size)]),
                np.array([one.outcome.presentations for one in self.done if _plain_of(one, size)]),
            )
            for size in {one.job.knobs.get("batch_size") for one in self.done if not one.job.skip}
        }

    @property
    def spread(self) -> float:
        """The slowest pace by the fastest among trainings of one batch size, the largest of all sizes."""
        return max(clock.spread for clock in self.clocks.values())

    @property
    def uneven(self) -> bool:
        """Whether the machine did something else meanwhile."""
        return any(clock.uneven for clock in self.clocks.values())

    def seconds(self, group: Group) -> float:
        """Return the training time of a group, mean over seeds.

        As measured; on a machine whose pace changed by more than a quarter meanwhile, the work done at the median pace,
        so that an arm is not called slow for what something else did. Trainings that only look at some of their
        examples have a pace of their own, which such a machine does not tell: NaN.
        """
        measured = float(np.mean([one.outcome.seconds for one in group.done]))
        if not self.uneven:
            return measured
        if group.job.skip:
            return nan
        pace = self.clocks[group.job.knobs.get("batch_size")].pace
        return pace * float(np.mean([one.outcome.presentations for one in group.done]))

    @cached_property
    def baseline(self) -> Baseline | None:
        """Full data at every share of the epochs; None where there are fewer than two."""
        points = [group for (arm, *_), group in self.groups.items() if arm in {"full", "curve"}]
        if len(points) < 2 or self.full is None:
            return None
        points.sort(key=self.seconds)
        times = np.array([self.seconds(group) for group in points])
        if np.any(np.diff(times) <= 0):
            return None
        return Baseline(seconds=times, accuracy=np.stack([group.accuracy for group in points]))

    @cached_property
    def standings(self) -> dict[Key, Standing]:
        """Every arm but the curve itself on the axes of the curve."""
        baseline = self.baseline
        if baseline is None:
            return {}
        return {
            key: standing(
                baseline,
                group.accuracy.tolist(),
                self.seconds(group),
                scoring=0.0 if key[0] in UNSCORED else self.scoring,
                trainings=self.trainings,
            )
            for key, group in self.groups.items()
            if key[0] not in {"full", "curve"}
        }

    @cached_property
    def overlaps(self) -> dict[tuple[str, float], float]:
        """Share of kept examples that two seeds both kept, by arm and size; of arms whose subsets differ by seed."""
        found = {}
        for (arm, keep, _), group in self.groups.items():
            shared = overlap([one.job.rows for one in group.done])
            if arm not in ALONE and not group.job.fixed and arm != "rs2" and shared is not None:
                found[arm, keep] = shared
        return found

    @property
    def untrained(self) -> list[Done]:
        """Trainings that learned nothing."""
        return [one for one in self.done if not one.outcome.learned]

    def worse(self) -> list[str]:
        """Return arms chosen by scores that are worse than random subsets of their size, for the gate."""
        return [
            f"{arm} at {keep:g}"
            for (arm, keep), one in self.comparisons.items()
            if one.verdict == "worse" and arm not in {"easiest", "rs2", "stratified"}
        ]

    def summary(self) -> dict[str, object]:
        """Return every figure as plain JSON values; what is undefined is null."""
        return {
            "seeds": self.seeds,
            "test_examples": len(self.test_labels),
            "delta": self.delta,
            "baseline": self.baseline_name or None,
            "arms": [self._arm(key, group) for key, group in self.groups.items()],
            "against_random": [_compared(one) for one in self.comparisons.values()],
            "against_full": [_compared(one) for one in self.to_full.values()],
            "quality_time": [
                {"arm": key[0], "keep": key[1], **_stood(one)} for key, one in self.standings.items()
            ],
            "curve": self._curve(),
            "pace_spread": self.spread,
            "seconds_from_work_done": self.uneven,
            "scoring_seconds": plain(self.scoring),
            "trainings_per_scoring": self.trainings,
            "overlap_between_seeds": [
                {"arm": arm, "keep": keep, "overlap": shared, "by_chance": keep}
                for (arm, keep), shared in self.overlaps.items()
            ],
        }

    def _arm(self, key: Key, group: Group) -> dict[str, object]:
        return {
            "arm": key[0],
            "keep": key[1],
            "share_of_steps": key[2],
            "examples": len(group.job.rows),
            "accuracy": group.mean,
            "spread": plain(group.spread),
            "accuracies": group.accuracy.tolist(),
            "worst_class": self.class_names[group.worst],
            "worst_recall": float(group.recall[group.worst]),
            "recall": [plain(value) for value in group.recall],
            "class_share": group.class_share.tolist(),
            "ece": group.average("ece"),
            "loss": group.average("loss"),
            "wrong_labels": plain(float(np.mean([one.wrong_labels for one in group.done]))),
            "seconds": plain(self.seconds(group)),
            "knobs": dict(group.job.knobs),
        }

    def _curve(self) -> list[dict[str, object]]:
        if self.baseline is None:
            return []
        return [
            {"seconds": seconds, "accuracy": float(values.mean())}
            for seconds, values in zip(self.baseline.seconds.tolist(), self.baseline.accuracy, strict=True)
        ]


def _plain_of(one: Done, batch_size: object) -> bool:
    return not one.job.skip and one.job.knobs.get("batch_size") == batch_size


_ORDER = ("full", "curve", "selective", "kept")
_LAST = ("random", "stratified", "rs2", "easiest")


def _place(arm: str) -> tuple[int, str]:
    if arm in _ORDER:
        return _ORDER.index(arm), ""
    if arm in _LAST:
        return 20 + _LAST.index(arm), ""
    return 10, arm


def plain(value: float) -> float | None:
    """Return the number, None where there is none."""
    return float(value) if isfinite(value) else None


def _told(difference: Difference) -> dict[str, object]:
    return {
        "difference": difference.mean,
        "low": plain(difference.low),
        "high": plain(difference.high),
        "lower_bound": plain(difference.floor),
        "p": plain(difference.p),
        "spread": plain(difference.spread),
        "shared_luck": difference.stays,
        "one_subset_for_all_seeds": difference.fixed,
    }


def _compared(one: Comparison) -> dict[str, object]:
    return {
        "arm": one.arm,
        "keep": one.keep,
        "against": one.against,
        **_told(one.difference),
        "p_holm": plain(one.adjusted) if one.against != "full" else None,
        "verdict": one.verdict,
        "seeds_to_settle": one.settle,
        "over_test_examples": [plain(end) for end in one.population],
    }


def _stood(one: Standing) -> Mapping[str, object]:
    pays = one.pays_after
    return {
        "seconds": plain(one.seconds),
        "scoring_seconds": plain(one.scoring),
        "total_seconds": plain(one.total),
        "place": one.place,
        "gained_at_equal_time": None if one.gained is None else _told(one.gained),
        "seconds_saved_at_equal_quality": one.saved,
        "pays_after_trainings": None if pays is None or not isfinite(pays) else pays,
        "never_pays": pays is not None and not isfinite(pays),
    }
