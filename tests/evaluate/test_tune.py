"""The same trials for every arm, on rows that no trial trains on."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dataset_audit.errors import UsageError
from dataset_audit.evaluate.arms import Job, random_subset, redrawn
from dataset_audit.evaluate.tune import best, trial, trials, validation
from dataset_audit.train.recipes import RECIPES

ROWS = np.arange(200) * 2
LABELS = np.repeat(np.arange(4), 50)


@given(
    st.sampled_from(sorted(RECIPES)), st.integers(1, 12), st.integers(0, 3), st.sampled_from([2, 6, 16, 500])
)
def test_trials_are_the_recipe_first_then_settings_around_it(
    name: str, count: int, seed: int, batch_size: int
) -> None:
    plan = replace(RECIPES[name], batch_size=batch_size)
    found = trials(plan, count, seed)
    assert len(found) == count
    assert found[0] == {}
    assert found == trials(plan, count, seed)
    for knobs in found[1:]:
        tried = replace(plan, **knobs)  # keeps every law of recipes
        assert plan.lr / 4.03 <= tried.lr <= plan.lr * 4.03
        if plan.weight_decay:
            assert plan.weight_decay / 10.1 <= tried.weight_decay <= plan.weight_decay * 10.1
        else:
            assert tried.weight_decay in {0.0, 1e-4, 5e-4}
        assert tried.batch_size in {batch_size, max(min(8, batch_size), batch_size // 2), max(
            min(8, batch_size), batch_size // 4
        )}  # fmt: skip
        assert tried.batch_size <= batch_size


def test_more_trials_begin_with_the_same_ones_and_reach_every_batch_size() -> None:
    plan = RECIPES["fast"]
    many = trials(plan, 40, 1)
    assert many[:7] == trials(plan, 7, 1)
    assert {knobs.get("batch_size", plan.batch_size) for knobs in many} == {128, 64, 32}
    rates = [knobs["lr"] for knobs in many[1:]]
    assert min(rates) < plan.lr / 2 < plan.lr * 2 < max(rates)
    assert len(set(rates)) > 30
    assert many[1:] != trials(plan, 40, 2)[1:]


def test_validation_is_a_tenth_of_every_class_whatever_the_arm() -> None:
    held = validation(ROWS, LABELS, 1)
    assert len(held) == 20
    assert np.bincount(LABELS[np.isin(ROWS, held)]).tolist() == [5, 5, 5, 5]
    assert held.tolist() == validation(ROWS, LABELS, 1).tolist()
    assert held.tolist() != validation(ROWS, LABELS, 2).tolist()
    assert len(validation(ROWS[:4], LABELS[:4], 1)) == 1, "at least one"


def test_a_trial_trains_on_what_the_arm_has_outside_the_validation_rows() -> None:
    held = validation(ROWS, LABELS, 1)
    arm = Job(arm="random", seed=7, rows=random_subset(ROWS, 80, 7), keep=0.4)
    tried = trial(arm, {"lr": 0.3}, 2, held, ROWS)
    assert sorted([*tried.rows, *np.intersect1d(arm.rows, held)]) == arm.rows.tolist()
    assert not np.isin(tried.rows, held).any()
    assert (tried.seed, tried.keep, tried.knobs, tried.trial) == (7, 0.4, {"lr": 0.3}, True)
    assert not arm.trial


def test_subsets_redrawn_each_epoch_are_drawn_outside_the_validation_rows_too() -> None:
    held = validation(ROWS, LABELS, 1)
    each = redrawn(ROWS, 80, 7)
    tried = trial(Job(arm="rs2", seed=7, rows=each(0), redrawn=each), {}, 0, held, ROWS)
    assert tried.redrawn is not None
    epochs = [tried.redrawn(epoch) for epoch in range(3)]
    assert {len(rows) for rows in epochs} == {72}, "0.4 of the rows that are left"
    assert tried.rows.tolist() == epochs[0].tolist()
    assert not np.isin(np.concatenate(epochs), held).any()
    assert len(np.unique(np.concatenate(epochs))) == 180


def test_trials_of_two_sizes_that_leave_equally_many_rows_have_names_of_their_own() -> None:
    held = ROWS[50:60]
    jobs = [Job(arm="hardest", seed=1, rows=ROWS[:count]) for count in (50, 60)]
    tried = [trial(job, {}, 0, held, ROWS) for job in jobs]
    assert tried[0].rows.tolist() == tried[1].rows.tolist()
    assert tried[0].name != tried[1].name
    names = {trial(job, {}, number, held, ROWS).name for job in jobs for number in range(3)}
    assert len(names) == 6


def test_an_arm_that_keeps_only_validation_rows_is_refused_by_name() -> None:
    held = validation(ROWS, LABELS, 1)
    with pytest.raises(UsageError, match="hardest, 2 examples: none is left") as caught:
        trial(Job(arm="hardest", seed=1, rows=held[:2]), {}, 0, held, ROWS)
    assert "--keep" in caught.value.do


def test_the_best_trial_is_the_first_of_equal_ones() -> None:
    assert best([0.5, 0.7, 0.7, 0.6]) == 1
    assert best([0.0, 0.0]) == 0, "if all are bad, the recipe as it is"
