"""Recipes: the schedules, the overrides, and that bad values are refused with the field's name."""

from __future__ import annotations

import json

import pytest

from dataset_audit.errors import UsageError
from dataset_audit.train.recipes import RECIPES, Recipe, recipe


def test_toneva_cifar_drops_by_a_fifth_at_epochs_60_120_and_160_of_200() -> None:
    chosen = recipe("toneva-cifar")
    steps = 200 * 391
    rates = [chosen.learning_rate(epoch * 391, steps) for epoch in (0, 59, 60, 119, 120, 159, 160, 199)]
    assert rates == pytest.approx([0.1, 0.1, 0.02, 0.02, 0.004, 0.004, 0.0008, 0.0008])


def test_milestones_keep_their_share_of_a_shorter_run() -> None:
    chosen = recipe("toneva-cifar", {"epochs": "20"})
    assert chosen.learning_rate(5 * 391, 20 * 391) == pytest.approx(0.1)
    assert chosen.learning_rate(6 * 391, 20 * 391) == pytest.approx(0.02)


@pytest.mark.parametrize("steps", [1, 2, 3, 7, 100])
def test_linear_schedule_peaks_once_and_every_step_learns(steps: int) -> None:
    chosen = recipe("fast")
    rates = [chosen.learning_rate(step, steps) for step in range(steps)]
    assert all(0 < rate <= chosen.lr + 1e-12 for rate in rates)
    peak = rates.index(max(rates))
    assert rates[: peak + 1] == sorted(rates[: peak + 1])
    assert rates[peak:] == sorted(rates[peak:], reverse=True)
    assert max(rates) == pytest.approx(chosen.lr, rel=0.3 if steps < 10 else 0.01)


def test_linear_schedule_without_warmup_starts_at_its_peak() -> None:
    chosen = recipe("fast", {"warmup": "0"})
    assert chosen.learning_rate(0, 10) == chosen.lr
    assert chosen.learning_rate(9, 10) == pytest.approx(chosen.lr / 10)


def test_every_field_can_be_overridden_by_its_text() -> None:
    chosen = recipe(
        "toneva-cifar",
        {
            "epochs": "30", "batch_size": "64", "lr": "0.05", "nesterov": "false", "flip": "no",
            "milestones": "0.5,0.75", "schedule": "steps", "mean": "0.5,0.5,0.5", "std": "0.2,0.2,0.2",
        },
    )  # fmt: skip
    assert (chosen.epochs, chosen.batch_size, chosen.lr, chosen.nesterov, chosen.flip) == (
        30,
        64,
        0.05,
        False,
        False,
    )
    assert chosen.milestones == (0.5, 0.75)


@pytest.mark.parametrize(
    ("overrides", "says"),
    [
        ({"epocs": "3"}, "did you mean epochs"),
        ({"epochs": "0"}, "epochs must be at least 1"),
        ({"epochs": "three"}, "epochs=three is not a whole number"),
        ({"batch_size": "1"}, "batch_size must be at least 2"),
        ({"lr": "nan"}, "lr must be a positive number"),
        ({"lr": "0"}, "lr must be a positive number"),
        ({"momentum": "1"}, "momentum"),
        ({"schedule": "cosine"}, "schedule must be one of constant, steps, linear"),
        ({"flip": "maybe"}, "true or false"),
        ({"std": "0,1,1", "mean": "0,0,0"}, "std must be above 0"),
        ({"name": "mine"}, "No field 'name'"),
    ],
)
def test_a_bad_override_names_the_field(overrides: dict[str, str], says: str) -> None:
    with pytest.raises(UsageError, match=says):
        recipe("fast", overrides)


def test_an_unknown_recipe_names_the_nearest() -> None:
    with pytest.raises(UsageError, match="did you mean toneva-mnist"):
        recipe("toneva-minst")


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_carries_its_own_name_and_source(name: str) -> None:
    assert RECIPES[name].name == name
    assert RECIPES[name].source


@pytest.mark.parametrize("name", RECIPES)
def test_what_a_configuration_states_of_a_recipe_is_that_recipe(name: str) -> None:
    stated = json.loads(json.dumps(RECIPES[name].stated()))
    assert Recipe.of(stated) == RECIPES[name]
    assert Recipe.of(stated | {"cutout": 16}) == RECIPES[name], "a field of another version"
