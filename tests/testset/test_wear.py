"""A test set as a place to choose on: figures follow the models at hand, and the formula where they are known."""

from __future__ import annotations

from math import isinf, isnan

import numpy as np
import pytest
from numpy.typing import NDArray

from dataset_audit.stats.selection import best_of_bias, life
from dataset_audit.testset.wear import DIFFERENCES, TOP, wear


def models(n: int, merits: list[float], seed: int = 0) -> NDArray[np.bool_]:
    return np.random.default_rng(seed).random((n, len(merits))) < np.array(merits)


def test_figures_are_those_of_the_formula_for_the_best_models() -> None:
    correct = models(4000, list(np.linspace(0.5, 0.9, 20)))
    found = wear(correct, selections=50, difference=0.03, seed=1, draws=50)
    best = np.sort(correct.mean(0))[::-1][:TOP]
    assert found.models == TOP
    assert found.accuracy == pytest.approx(best.mean())
    assert found.rho == pytest.approx(0, abs=0.02)
    assert found.bias == best_of_bias(50, p=found.accuracy, n=4000, rho=found.rho)
    assert found.neighbours == pytest.approx(np.median(-np.diff(best)))
    assert [each.difference for each in found.lives] == [found.neighbours, 0.03, *DIFFERENCES]
    for each in found.lives:
        assert each.selections == life(each.difference, p=found.accuracy, n=4000, rho=found.rho)
    assert found.bias_at(1000, 50) == pytest.approx(2 * found.bias)


def test_selections_are_the_models_unless_said() -> None:
    correct = models(100, [0.5, 0.6, 0.7])
    assert wear(correct, selections=None, difference=None, seed=1).selections == 3
    assert (
        wear(correct, selections=None, difference=None, seed=1).choosing == ()
    )  # too few for a measured figure


def test_one_model_says_nothing_about_likeness_and_the_worst_case_is_taken() -> None:
    found = wear(models(200, [0.8]), selections=None, difference=None, seed=1)
    assert not found.known
    assert found.rho == 0
    assert isnan(found.neighbours)
    assert found.bias == 0
    assert [each.difference for each in found.lives] == list(DIFFERENCES)


def test_equal_copies_of_one_model_never_wear_a_set_out() -> None:
    found = wear(np.repeat(models(200, [0.8]), 6, 1), selections=1000, difference=None, seed=1, draws=20)
    assert found.rho == pytest.approx(1)
    assert found.bias == pytest.approx(0, abs=1e-6)
    assert all(isinf(each.selections) for each in found.lives)
    assert isnan(found.neighbours)


def test_what_is_measured_agrees_with_the_formula_for_equally_good_models() -> None:
    found = [
        wear(models(4000, [0.8] * 10, seed=seed), selections=None, difference=None, seed=1, draws=40).choosing
        for seed in range(10)
    ]
    for place, size in enumerate((1000, 2000)):
        assert {each[place].measured.size for each in found} == {size}
        measured = np.mean([each[place].measured.bias for each in found])
        assert measured == pytest.approx(found[0][place].formula, rel=0.2)


def test_the_formula_is_an_upper_bound_where_merits_differ() -> None:
    found = wear(models(6000, [0.9, 0.8, 0.7, 0.6, 0.5]), selections=None, difference=None, seed=1, draws=200)
    assert all(each.measured.bias < each.formula for each in found.choosing)


def test_tiny_sets_have_defined_figures() -> None:
    for n in (1, 2, 3):
        found = wear(np.ones((n, 6), bool), selections=None, difference=0.1, seed=1, draws=5)
        assert found.error == 0
        assert len(found.choosing) == (n > 1)
