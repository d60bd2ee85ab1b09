"""Verdicts: a planted case for each, rules fixed beforehand, and how often a score that is pure noise gets one."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import cast

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from sklearn.datasets import load_digits

from dataset_audit.evaluate.arms import random_subset, shared_luck
from dataset_audit.evaluate.verdicts import (
    ALPHA,
    Comparison,
    Series,
    compare,
    compare_to_full,
    verdict,
    verdict_to_full,
)
from dataset_audit.progress import Silent
from dataset_audit.select.policies import POLICIES, Options
from dataset_audit.select.ranking import Wanted, rank
from dataset_audit.stats.paired import Difference, against_draws, paired, seeds_to_settle
from dataset_audit.tables.provenance import Provenance
from dataset_audit.tables.scores import ScoreTable

M = 1000
DELTA = 0.002
LUCK = (0.003, -0.004, 0.001)  # of seeds, shared by the arms of one seed


def series(
    counts: tuple[int, ...], *, arm: str = "ccs", keep: float = 0.5, fixed: bool = False, shared: float = 0.0
) -> Series:
    """An arm that gets the first ``counts`` of M test examples right with each seed."""
    right = np.arange(M) < np.array(counts)[:, None]
    return Series(arm=arm, keep=keep, accuracy=right.mean(1), right=right, fixed=fixed, shared=shared)


RANDOM = series((900, 893, 898), arm="random")
FULL = series((950, 943, 948), arm="full", keep=1.0)


def one(arm: Series, baseline: Series = RANDOM) -> Comparison:
    (found,) = compare([arm], {baseline.keep: baseline}, DELTA)
    return found


def test_better() -> None:
    found = one(series((920, 914, 918)))
    assert found.verdict == "better"
    assert found.difference.low > 0
    assert found.settle is None, "it is told already"
    assert (found.arm, found.keep, found.against) == ("ccs", 0.5, "random")


def test_worse() -> None:
    found = one(series((880, 872, 878)))
    assert found.verdict == "worse"
    assert found.difference.high < 0


def test_equivalent_is_the_whole_interval_within_the_margin() -> None:
    arm = series((901, 892, 899))
    assert one(arm).verdict == "no difference shown", "two thousandths are too narrow for it"
    (found,) = compare([arm], {0.5: RANDOM}, 0.01)
    assert found.verdict == "equivalent"
    assert -0.01 < found.difference.low < 0 < found.difference.high < 0.01


def test_no_difference_shown_says_how_many_seeds_would_settle_it() -> None:
    found = one(series((912, 894, 899)))
    assert found.verdict == "no difference shown"
    assert found.settle == seeds_to_settle(found.difference)
    assert found.settle is not None
    assert found.settle > 3
    assert one(RANDOM).settle is None, "no number of seeds tells nothing from nothing"


def test_one_seed_is_not_measured() -> None:
    arm, baseline = series((990,)), series((900,), arm="random")
    found = one(arm, baseline)
    assert found.verdict == "not measured"
    assert math.isnan(found.adjusted)
    assert found.settle is None
    assert found.difference.mean == pytest.approx(0.09)
    assert compare_to_full([arm], series((950,), arm="full", keep=1.0), DELTA)[0].verdict == "not measured"


def test_no_worse_than_all_examples_is_a_lower_bound_above_the_margin() -> None:
    (found,) = compare_to_full([series((951, 943, 949))], FULL, DELTA)
    assert found.verdict == "no worse"
    assert found.difference.floor > -DELTA
    assert found.against == "full"
    (level,) = compare_to_full([series((950, 943, 948))], FULL, DELTA)
    assert level.verdict == "no worse", "within a rounding of one count in a thousand"


def test_less_than_the_margin_below_everything_is_no_worse_though_it_is_less() -> None:
    (found,) = compare_to_full([series((940, 933, 938))], FULL, 0.02)
    assert found.difference.high < 0
    assert found.verdict == "no worse"
    assert compare_to_full([series((940, 933, 938))], FULL, DELTA)[0].verdict == "worse"


def test_three_seeds_cannot_show_no_worse_where_they_scatter() -> None:
    (found,) = compare_to_full([series((955, 940, 948))], FULL, DELTA)
    assert found.verdict == "no difference shown"
    assert found.difference.floor < -DELTA


def test_a_fixed_subset_is_one_more_draw_against_random_and_itself_against_everything() -> None:
    """The spread of random subsets, not of its own seeds, says how lucky a subset can be."""
    scattered = series((910, 880, 895), arm="random")
    free, fixed = series((915, 914, 916)), series((915, 914, 916), fixed=True)
    assert one(fixed, scattered).difference == against_draws(fixed.accuracy, scattered.accuracy, step=1 / M)
    assert one(free, scattered).difference == paired(free.accuracy, scattered.accuracy, step=1 / M)
    assert compare_to_full([fixed], FULL, DELTA)[0].difference == paired(
        fixed.accuracy, FULL.accuracy, step=1 / M
    )
    tight = series((901, 899, 900), arm="random")
    assert one(fixed, tight).verdict == "better"
    assert one(fixed, scattered).verdict == "no difference shown"
    assert one(fixed, scattered).settle is None, "its own luck stays, whatever the number of seeds"


def test_luck_that_kept_sets_share_widens_the_interval_up_to_that_of_one_subset() -> None:
    scattered = series((905, 890, 895), arm="random")
    halves = [
        (found.difference.high - found.difference.low) / 2
        for found in (
            one(series((915, 903, 906), shared=shared), scattered) for shared in (0.0, 0.4, 0.8, 1.0)
        )
    ]
    assert halves == sorted(halves)
    s, d = scattered.accuracy.std(ddof=1), (series((915, 903, 906)).accuracy - scattered.accuracy).std(ddof=1)
    for half, shared in zip(halves, (0.0, 0.4, 0.8, 1.0), strict=True):
        assert half == pytest.approx(stats.t.ppf(0.975, 2) * math.sqrt(d**2 / 3 + shared * s**2))
    found = one(series((915, 903, 906), shared=0.8), scattered)
    assert found.verdict == "no difference shown"
    assert one(series((915, 903, 906)), scattered).verdict == "better"
    assert compare_to_full([series((915, 903, 906), shared=0.8)], FULL, DELTA)[0].difference.stays == 0


def test_seeds_that_agree_to_the_last_count_are_not_certain() -> None:
    """Three differences of one count each have no spread; the rounding of two counts has."""
    arm = series((901, 894, 899))
    assert paired(arm.accuracy, RANDOM.accuracy).p == pytest.approx(0, abs=1e-9), "the trap"
    found = one(arm)
    assert found.difference.spread == pytest.approx(1 / M / math.sqrt(6))
    assert found.verdict == "no difference shown"
    assert one(series((910, 903, 908))).verdict == "better", (
        "ten counts with every seed are more than rounding"
    )


@pytest.mark.parametrize(("seeds", "sd"), [(2, 0.5), (2, 1), (2, 2), (3, 0.5), (3, 1)])
def test_counts_that_scatter_by_about_one_do_not_raise_the_rate_of_false_verdicts(
    seeds: int, sd: float
) -> None:
    rng = np.random.default_rng(seeds)
    believed, rounded = 0, 0
    for _ in range(1000):
        counts = np.round(rng.random() + rng.normal(900, sd, (3, seeds)))
        a, b, c = counts[0] / M, counts[1] / M, np.repeat(counts[2, :1], seeds) / M
        believed += (paired(a, b).p < ALPHA) + (against_draws(c, b).p < ALPHA)
        rounded += (paired(a, b, step=1 / M).p < ALPHA) + (against_draws(c, b, step=1 / M).p < ALPHA)
    assert rounded / 2000 < 0.03
    assert believed / 2000 > 0.06 or (seeds, sd) == (3, 1)


def slow_holm(p: list[float]) -> list[float]:
    """Multiply the smallest by all, the next by one less, never below one before, at most 1."""
    found, least = [0.0] * len(p), 0.0
    for place, number in enumerate(sorted(range(len(p)), key=lambda number: p[number])):
        least = max(least, min(1.0, (len(p) - place) * p[number]))
        found[number] = least
    return found


@given(st.lists(st.lists(st.integers(880, 920), min_size=3, max_size=3), min_size=1, max_size=5))
def test_holm_is_over_the_sizes_of_an_arm(drawn: list[list[int]]) -> None:
    keeps = [0.1 * (number + 1) for number in range(len(drawn))]
    arms = [series(tuple(counts), keep=keep) for counts, keep in zip(drawn, keeps, strict=True)]
    found = compare(arms, {keep: series((900, 893, 898), arm="random", keep=keep) for keep in keeps}, DELTA)
    p = [one.difference.p for one in found]
    assert [one.adjusted for one in found] == pytest.approx(slow_holm(p))
    assert [one.keep for one in found] == keeps
    for each in found:
        assert each.verdict == verdict(each.difference, each.adjusted, DELTA)
        assert (each.verdict in {"better", "worse"}) == (each.adjusted < ALPHA)


def test_a_size_that_alone_would_be_better_may_not_be_among_several() -> None:
    arm = series((908, 906, 905))
    keeps = (0.9, 0.7, 0.5)
    baseline = {keep: series((900, 893, 898), arm="random", keep=keep) for keep in keeps}
    alone = compare([arm], baseline, DELTA)
    assert alone[0].verdict == "better"
    several = compare(
        [series((900, 894, 897), keep=0.9), series((899, 894, 898), keep=0.7), arm], baseline, DELTA
    )
    assert several[2].verdict == "no difference shown"
    assert several[2].difference == alone[0].difference
    assert several[2].adjusted == pytest.approx(3 * alone[0].adjusted)


def test_against_everything_p_is_each_sizes_own() -> None:
    arms = [series((930, 920, 929), keep=keep) for keep in (0.9, 0.5)]
    assert all(found.adjusted == found.difference.p for found in compare_to_full(arms, FULL, DELTA))


def given_difference(low: float, high: float, floor: float) -> Difference:
    return Difference(mean=(low + high) / 2, low=low, high=high, floor=floor, p=0.5, spread=0.01, seeds=3)


@pytest.mark.parametrize(
    ("low", "high", "adjusted", "wanted"),
    [
        (0.001, 0.003, 0.049, "better"),
        (-0.003, -0.001, 0.049, "worse"),
        (0.0001, 0.0019, 0.051, "equivalent"),
        (-0.0019, 0.0019, 1.0, "equivalent"),
        (-0.0021, 0.0019, 1.0, "no difference shown"),
        (-0.0019, 0.0021, 1.0, "no difference shown"),
        (0.001, 0.003, 0.051, "no difference shown"),
        (math.nan, math.nan, math.nan, "not measured"),
    ],
)
def test_the_order_of_the_rules(low: float, high: float, adjusted: float, wanted: str) -> None:
    assert verdict(given_difference(low, high, low), adjusted, DELTA) == wanted


@pytest.mark.parametrize(
    ("floor", "high", "wanted"),
    [
        (-0.0019, 0.01, "no worse"),
        (-0.0019, -0.0001, "no worse"),
        (-0.0021, 0.0001, "no difference shown"),
        (-0.0021, -0.0001, "worse"),
        (math.nan, math.nan, "not measured"),
    ],
)
def test_the_order_of_the_rules_against_everything(floor: float, high: float, wanted: str) -> None:
    low = math.nan if math.isnan(floor) else floor - 0.001
    assert verdict_to_full(given_difference(low, high, floor), DELTA) == wanted


def test_the_interval_over_test_examples_is_of_the_share_of_seeds_that_were_right() -> None:
    rng = np.random.default_rng(0)
    first, second = rng.random((3, 400)) < 0.8, rng.random((3, 400)) < 0.7
    arm = Series(arm="ccs", keep=0.5, accuracy=first.mean(1), right=first, fixed=False)
    baseline = Series(arm="random", keep=0.5, accuracy=second.mean(1), right=second, fixed=False)
    values = [float(np.mean(a)) - float(np.mean(b)) for a, b in zip(first.T, second.T, strict=True)]
    half = 1.959964 * float(np.std(values, ddof=1)) / math.sqrt(400)
    mean = float(np.mean(values))
    assert one(arm, baseline).population == pytest.approx((mean - half, mean + half), abs=1e-6)


# --- a score that is pure noise, through the real policies, on a real learner ---------------------------------

EVALUATIONS, SEEDS, TRAIN, TEST, SIZES = 200, 3, 300, 400, (0.5, 0.2)
WIDTH = 32  # of the random layer
MOST = int(stats.binom.ppf(0.999, EVALUATIONS, ALPHA))  # 20: what 5 % of 200 exceed one time in a thousand
Learn = Callable[[np.ndarray, np.ndarray, int], np.ndarray]
Draw = Callable[[int], np.ndarray]


@dataclass(frozen=True, eq=False)
class Digits:
    """The digits of scikit-learn: 300 to train on, 400 to test on."""

    x: np.ndarray
    y: np.ndarray

    def centroids(self, rows: np.ndarray, _: int) -> np.ndarray:
        """Nearest class mean: seeds change nothing, so all of an arm's spread is the luck of its examples."""
        own = np.eye(10)[self.y[rows]]
        with np.errstate(invalid="ignore", divide="ignore"):
            centre = (own.T @ self.x[rows]) / own.sum(0)[:, None]
        far = np.where(np.isnan(centre), 1e3, centre)
        score = self.x[TRAIN:] @ far.T - 0.5 * (far**2).sum(1)
        return cast("np.ndarray", score.argmax(1) == self.y[TRAIN:])

    def ridge(self, rows: np.ndarray, seed: int) -> np.ndarray:
        """Ridge regression on a random layer that the seed draws, as it draws a network's weights."""
        f = self.layer(seed)
        fitted = np.linalg.solve(
            f[rows].T @ f[rows] + 0.01 * np.eye(WIDTH), f[rows].T @ np.eye(10)[self.y[rows]]
        )
        return cast("np.ndarray", (f[TRAIN:] @ fitted).argmax(1) == self.y[TRAIN:])

    @lru_cache(maxsize=SEEDS)  # noqa: B019 - one object, a few seeds
    def layer(self, seed: int) -> np.ndarray:
        return np.maximum(self.x @ np.random.default_rng(seed).normal(size=(64, WIDTH)) / 8, 0)


@pytest.fixture(scope="module")
def digits() -> Digits:
    x, y = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(x))[: TRAIN + TEST]
    return Digits(x[order] / 16, y[order])


def kept(table: ScoreTable, policy: str, run: int | None, seed: int) -> list[np.ndarray]:
    """What a policy keeps of each size by the column ``noise``, of one run or of all."""
    wanted = Wanted(scores=Path("noise"), by=("noise",), hard="high", seed=seed, run=run)
    ranked = rank(wanted, table, policy, Silent())
    choose = POLICIES[policy].choose
    return [
        np.sort(ranked.rows[choose(ranked.candidates, round(keep * TRAIN), Options(pruned=1 - keep)).kept])
        for keep in SIZES
    ]


def scored(noise: np.ndarray) -> ScoreTable:
    """A table of scores with one column of noise and that of each run, float[S, N]."""
    origin = Provenance(spec="digits", fingerprint="", n=TRAIN, class_names=tuple("0123456789"))
    columns = {"index": np.arange(TRAIN), "noise": noise.mean(0), "noise_runs": noise.T}
    return ScoreTable.of(columns, origin)


Sets = dict[str, list[list[np.ndarray]]]  # by arm: for each seed, for each size


def kept_sets(number: int) -> Sets:
    """The subsets of one evaluation: random ones, and those that noise chooses, once for all seeds or for each."""
    rng = np.random.default_rng(number)
    own = rng.normal(size=(SEEDS, TRAIN))
    stable = (
        np.sqrt(0.97) * rng.normal(size=TRAIN) + np.sqrt(0.03) * own
    )  # as a score that agrees from run to run
    seeds = [10 * number + seed for seed in range(SEEDS)]
    once, fresh, much = scored(own[:1]), scored(own), scored(stable)
    sets = {
        "random": [[random_subset(np.arange(TRAIN), round(k * TRAIN), seed) for k in SIZES] for seed in seeds]
    }
    for policy in ("hardest", "ccs"):
        sets[f"{policy} fixed"] = [kept(once, policy, None, seeds[0])] * SEEDS
        sets[f"{policy} fresh"] = [kept(fresh, policy, run, seed) for run, seed in enumerate(seeds)]
    sets["hardest stable"] = [kept(much, "hardest", run, seed) for run, seed in enumerate(seeds)]
    return sets


@pytest.fixture(scope="module")
def evaluations() -> list[Sets]:
    return [kept_sets(number) for number in range(EVALUATIONS)]


def learned(learn: Learn, sets: Sets, number: int, size: int, arm: str, *, shared: bool = False) -> Series:
    rows = [each[size] for each in sets[arm]]
    right = np.stack([learn(own, 10 * number + seed) for seed, own in enumerate(rows)])
    return Series(
        arm=arm, keep=SIZES[size], accuracy=right.mean(1), right=right, fixed="fixed" in arm,
        shared=shared_luck(rows, TRAIN) if shared else 0.0,
    )  # fmt: skip


@dataclass(frozen=True)
class Rates:
    """Of 200 evaluations of pure noise, by arm: how many got a verdict of better or worse at any size."""

    told: dict[str, int]
    pairs: dict[str, int]  # the same, had every arm been compared by pairs of seeds


def simulate(learn: Learn, evaluations: list[Sets], arms: tuple[str, ...], *, shared: bool = False) -> Rates:
    told, pairs = dict.fromkeys(arms, 0), dict.fromkeys(arms, 0)
    for number, sets in enumerate(evaluations):
        baseline = {keep: learned(learn, sets, number, size, "random") for size, keep in enumerate(SIZES)}
        for arm in arms:
            own = [learned(learn, sets, number, size, arm, shared=shared) for size in range(len(SIZES))]
            found = compare(own, baseline, DELTA)
            told[arm] += any(each.verdict in {"better", "worse"} for each in found)
            p = [paired(each.accuracy, baseline[each.keep].accuracy, step=1 / TEST).p for each in own]
            pairs[arm] += min(slow_holm(p)) < ALPHA
    return Rates(told, pairs)


POLICED = tuple(f"{policy} {how}" for policy in ("hardest", "ccs") for how in ("fixed", "fresh"))


def test_noise_is_called_different_from_random_no_more_often_than_stated(
    digits: Digits, evaluations: list[Sets]
) -> None:
    """Each seed has weights of its own, so subsets' luck and seeds' luck mix as they do in networks."""
    rates = simulate(digits.ridge, evaluations, POLICED)
    assert max(rates.told.values()) <= MOST, rates
    assert min(rates.told[arm] for arm in POLICED if "fresh" in arm) >= 2, (
        "a test that never rejects shows nothing"
    )


def test_by_pairs_the_luck_of_one_subset_would_be_taken_for_merit(
    digits: Digits, evaluations: list[Sets]
) -> None:
    """Where examples are all the luck there is, the paired test of one kept set is wrong far too often."""
    rates = simulate(digits.centroids, evaluations, POLICED)
    assert max(rates.told.values()) <= MOST, rates
    for policy in ("hardest", "ccs"):
        assert rates.pairs[f"{policy} fixed"] > MOST, rates
        assert rates.pairs[f"{policy} fixed"] > 2 * rates.told[f"{policy} fixed"], rates


def test_kept_sets_that_hardly_change_from_run_to_run_need_their_shared_luck(
    digits: Digits, evaluations: list[Sets]
) -> None:
    """Noise that every scoring run repeats: a subset per seed in name, much the same one in fact."""
    plain = simulate(digits.centroids, evaluations, ("hardest stable",))
    counted = simulate(digits.centroids, evaluations, ("hardest stable",), shared=True)
    assert plain.told["hardest stable"] > MOST, plain
    assert counted.told["hardest stable"] <= MOST, counted
