"""Which rows an arm trains on: exact sizes, drawn by the seed alone, in proportion, without replacement."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from fractions import Fraction
from itertools import combinations, pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dataset_audit.evaluate.arms import (
    ARMS,
    Job,
    overlap,
    random_subset,
    redrawn,
    shared_luck,
    stratified_subset,
)
from dataset_audit.select.policies import POLICIES

ROWS = np.arange(100, 160) * 3  # rows of a data set of which others are held out


def job(**options: object) -> Job:
    return Job(**{"arm": "full", "seed": 1, "rows": ROWS, **options})  # type: ignore[arg-type]


def test_a_name_tells_every_training_of_an_evaluation_from_all_others() -> None:
    every = [
        job(arm=arm, seed=seed, rows=ROWS[:count])
        for arm in {"stratified", *POLICIES}
        for seed in (1, 11)
        for count in (1, 11, 60)
    ]
    every += [job(arm="curve", share=share, seed=seed) for share in (0.25, 0.4, 0.5) for seed in (1, 2)]
    every += [job(arm="selective", skip=skip) for skip in (0.25, 0.5)]
    names = [one.name for one in every]
    assert len(set(names)) == len(names)
    assert all(name.isprintable() and not set(name) & set("/\\ :") for name in names)
    assert job(arm="curve", share=0.25).name == "curve-60-share-0.25-seed-1"


def test_knobs_do_not_rename_a_training() -> None:
    assert replace(job(), knobs={"lr": 0.1}).name == job().name


def test_no_policy_is_called_like_another_kind_of_arm() -> None:
    """A policy is an arm under its own name, so two names would be one file; random and easiest are both."""
    assert set(ARMS) & set(POLICIES) == {"random", "easiest"}
    assert all(arm.about for arm in ARMS.values())


@given(st.integers(1, 60), st.integers(0, 5))
def test_a_random_subset_has_the_size_asked_for_and_depends_on_its_seed_alone(count: int, seed: int) -> None:
    found = random_subset(ROWS, count, seed)
    assert len(found) == len(set(found.tolist())) == count
    assert set(found.tolist()) <= set(ROWS.tolist())
    assert found.tolist() == sorted(found.tolist())
    assert found.tolist() == random_subset(ROWS, count, seed).tolist()
    if 3 < count < 57:
        assert found.tolist() != random_subset(ROWS, count, seed + 1).tolist()


def test_a_smaller_random_subset_lies_within_a_larger_one() -> None:
    sizes = [set(random_subset(ROWS, count, 1).tolist()) for count in range(1, 61)]
    assert all(small < large for small, large in pairwise(sizes))


def test_every_row_is_drawn_equally_often() -> None:
    times = Counter(row for seed in range(600) for row in random_subset(ROWS, 20, seed).tolist())
    expected, spread = 600 / 3, (600 * (1 / 3) * (2 / 3)) ** 0.5
    assert set(times) == set(ROWS.tolist())
    assert max(abs(count - expected) for count in times.values()) < 4 * spread


def slow_quotas(sizes: list[int], count: int) -> list[int]:
    """Largest remainder by hand: whole parts first, then one each by falling remainder, lower class first."""
    total = sum(sizes)
    exact = [Fraction(size * count, total) for size in sizes]
    found = [int(value) for value in exact]
    while sum(found) < count:
        left = [
            (value - given, -number) for number, (value, given) in enumerate(zip(exact, found, strict=True))
        ]
        found[-max(left)[1]] += 1
    return found


@given(st.lists(st.integers(1, 12), min_size=1, max_size=6), st.data())
def test_a_stratified_subset_has_each_class_in_proportion(sizes: list[int], data: st.DataObject) -> None:
    n = sum(sizes)
    count = data.draw(st.integers(1, n))
    labels = np.random.default_rng(n).permutation(
        np.repeat(np.arange(len(sizes)) * 2, sizes)
    )  # odd ones absent
    rows = np.arange(n) * 7
    found = stratified_subset(rows, labels, count, seed=3)
    assert len(found) == count
    assert found.tolist() == sorted(set(found.tolist()))
    by_class = [int((labels[found // 7] == 2 * number).sum()) for number in range(len(sizes))]
    assert by_class == slow_quotas(sizes, count)


def test_a_stratified_subset_is_another_with_another_seed() -> None:
    labels = np.arange(60) % 3
    subsets = [stratified_subset(ROWS, labels, 30, seed).tolist() for seed in range(5)]
    assert all(a != b for a, b in combinations(subsets, 2))
    assert subsets[0] == stratified_subset(ROWS, labels, 30, 0).tolist()


def slow_redrawn(n: int, drawn: list[list[int]]) -> bool:
    """Whether every epoch took examples of those that were seen least often until then, none twice."""
    times = [0] * n
    for epoch in drawn:
        if len(set(epoch)) < len(epoch):
            return False
        left = sorted(times)
        if sorted(times[row] for row in epoch) != left[: len(epoch)]:
            return False
        for row in epoch:
            times[row] += 1
    return True


@given(st.integers(1, 25), st.data())
def test_redrawn_subsets_present_all_before_any_again(n: int, data: st.DataObject) -> None:
    count = data.draw(st.integers(1, n))
    each = redrawn(np.arange(n) * 2, count, seed=4)
    drawn = [(each(epoch) // 2).tolist() for epoch in range(8)]
    assert all(epoch == sorted(epoch) and len(epoch) == count for epoch in drawn)
    assert slow_redrawn(n, drawn)
    for epochs in range(1, 9):
        times = np.bincount(np.concatenate(drawn[:epochs]), minlength=n)
        assert times.max() - times.min() <= 1
        assert (times.min() >= 1) == (epochs * count >= n), "seen by all as soon as there were enough"


def test_redrawn_subsets_of_an_epoch_do_not_depend_on_which_were_asked_for_before() -> None:
    each = redrawn(ROWS, 25, seed=1)
    forward = [each(epoch).tolist() for epoch in range(6)]
    assert each(5).tolist() == forward[5]
    for epoch in (2, 5, 0, 4, 4, 1):
        assert each(epoch).tolist() == forward[epoch]
    assert redrawn(ROWS, 25, seed=1)(3).tolist() == forward[3]
    assert redrawn(ROWS, 25, seed=2)(0).tolist() != forward[0]
    assert forward[0] != forward[3]


def test_the_overlap_of_kept_sets_is_the_mean_over_pairs_of_seeds() -> None:
    kept = [np.array([0, 1, 2, 3]), np.array([2, 3, 4, 5]), np.array([3, 6, 7, 8])]
    assert overlap(kept) == pytest.approx((2 + 1 + 1) / 4 / 3)
    assert overlap(kept[:1]) is None
    assert overlap([kept[0], kept[0]]) == 1.0


def test_sets_that_share_what_chance_would_share_no_luck_and_equal_ones_share_all() -> None:
    rows = np.arange(400)
    drawn = [random_subset(rows, 100, seed) for seed in range(20)]
    assert overlap(drawn) == pytest.approx(0.25, abs=0.02)
    assert shared_luck(drawn, 400) < 0.03
    assert shared_luck([drawn[0]] * 3, 400) == 1.0
    assert shared_luck(drawn[:1], 400) == 0.0
    assert shared_luck([rows, rows], 400) == 0.0, "everything is no choice"
    assert shared_luck([rows[:200], rows[200:]], 400) == 0.0, "sets that avoid each other"


def test_shared_luck_is_the_correlation_of_what_additive_examples_bring() -> None:
    """Two subsets that share half of their examples, over many draws of them."""
    rng = np.random.default_rng(0)
    value, means = rng.normal(size=200), []
    for _ in range(3000):
        order = rng.permutation(200)
        means.append((value[order[:40]].mean(), value[order[20:60]].mean()))
    wanted = shared_luck([np.arange(40), np.arange(20, 60)], 200)
    assert np.corrcoef(np.array(means).T)[0, 1] == pytest.approx(wanted, abs=0.05)
    assert wanted == pytest.approx((0.5 - 0.2) / 0.8)
