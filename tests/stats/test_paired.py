"""Differences over seeds: intervals that hold, and the luck of one subset that is not taken for merit."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from dataset_audit.stats.paired import against_draws, over_examples, paired, seeds_to_settle


def test_the_paired_interval_is_students() -> None:
    a, b = np.array([95.2, 95.5, 94.9, 95.1]), np.array([94.0, 94.9, 93.9, 94.5])
    found = paired(a, b)
    reference = stats.ttest_rel(a, b)
    low, high = reference.confidence_interval()
    assert (found.low, found.high, found.p) == pytest.approx((low, high, reference.pvalue))
    assert found.floor == pytest.approx(
        stats.ttest_rel(a, b, alternative="greater").confidence_interval().low
    )
    assert found.mean == pytest.approx(0.85)


@pytest.mark.parametrize(("seeds", "half"), [(3, 0.62), (5, 0.31), (8, 0.21), (10, 0.18)])
def test_the_printed_half_widths_for_a_quarter_point(seeds: int, half: float) -> None:
    noise = np.linspace(-1, 1, seeds)
    values = 0.25 * noise / noise.std(ddof=1)
    found = paired(values, np.zeros(seeds))
    assert found.high - found.mean == pytest.approx(half, abs=0.005)


def test_one_seed_gives_a_mean_and_no_interval() -> None:
    for compare in (paired, against_draws):
        found = compare([0.95], [0.94])
        assert found.mean == pytest.approx(0.01)
        assert math.isnan(found.low)
        assert math.isnan(found.p)
        assert seeds_to_settle(found) is None


def test_equal_values_are_no_difference_and_a_constant_one_is_certain() -> None:
    assert paired([1.0, 1.0], [1.0, 1.0]).p == 1.0
    assert paired([2.0, 2.0], [1.0, 1.0]).p == 0.0


def test_lengths_that_differ_are_refused() -> None:
    with pytest.raises(ValueError, match="no pairs"):
        paired([1.0, 2.0], [1.0])
    with pytest.raises(ValueError, match="no pairs"):
        against_draws([], [])


def null_rejections(compare, *, seeds: int, subset: float, fixed: bool, repeats: int = 4000) -> float:
    """Share of evaluations in which a subset that is one more random one is called different."""
    rng = np.random.default_rng(seeds)
    rejected = 0
    for _ in range(repeats):
        draws = rng.normal(0, subset, seeds) + rng.normal(0, 1, seeds)
        own = rng.normal(0, subset, 1 if fixed else seeds) + rng.normal(0, 1, seeds)
        rejected += compare(own, draws).p < 0.05
    return rejected / repeats


@pytest.mark.parametrize("seeds", [3, 5])
def test_kept_sets_chosen_anew_for_every_seed_are_called_different_one_time_in_twenty(seeds: int) -> None:
    assert null_rejections(paired, seeds=seeds, subset=2, fixed=False) == pytest.approx(0.05, abs=0.015)


@pytest.mark.parametrize("seeds", [3, 5])
def test_one_kept_set_for_all_seeds_needs_the_interval_of_a_draw(seeds: int) -> None:
    assert null_rejections(paired, seeds=seeds, subset=2, fixed=True) > 0.1, "the trap"
    for subset in (0, 0.5, 2, 10):
        assert null_rejections(against_draws, seeds=seeds, subset=subset, fixed=True) <= 0.06


def test_the_seeds_that_would_settle_it() -> None:
    noise = np.array([-1.0, 0.0, 1.0])
    found = paired(0.5 + 0.5 * noise, np.zeros(3))  # sd 0.5, mean 0.5
    needed = seeds_to_settle(found)
    assert needed is not None
    at = lambda n: stats.t.ppf(0.975, n - 1) * 0.5 / math.sqrt(n)  # noqa: E731
    assert at(needed) < 0.5 <= at(needed - 1)
    assert seeds_to_settle(against_draws(0.5 + noise, 0.5 * noise)) is None, "its own luck stays"
    assert seeds_to_settle(against_draws(5 + noise, 0.5 * noise)) is not None


def test_the_interval_over_test_examples_covers_as_promised() -> None:
    rng = np.random.default_rng(0)
    covered = 0
    for _ in range(400):
        common = rng.random(500) < 0.7
        a, b = common | (rng.random(500) < 0.4), common | (rng.random(500) < 0.3)
        low, high = over_examples(a, b)
        covered += low <= 0.03 <= high
    assert covered / 400 == pytest.approx(0.95, abs=0.03)
