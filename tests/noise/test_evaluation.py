"""Figures against slow definitions, redrawn examples against redrawing them, controls."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dataset_audit import seeds
from dataset_audit.noise.evaluation import (
    FIGURES,
    Figures,
    Order,
    best,
    by_class,
    confusions,
    figures,
    permuted,
    precision_at,
    redraw,
)
from dataset_audit.stats.agreement import auroc, average_precision

VALUES = st.lists(st.tuples(st.integers(0, 4), st.booleans()), min_size=1, max_size=14)


def slow_precision(values: np.ndarray, truth: np.ndarray, k: int) -> float:
    """The mean over random orders of ties, by linearity: whole blocks, then a share of the divided one."""
    hits, left = 0.0, k
    for value in sorted(set(values), reverse=True):
        block = truth[values == value]
        take = min(left, len(block))
        hits += block.sum() * take / len(block)
        left -= take
    return hits / k


@given(VALUES)
def test_figures_equal_their_definitions_with_ties(pairs: list[tuple[int, bool]]) -> None:
    values, truth = np.array([v for v, _ in pairs], float), np.array([t for _, t in pairs])
    found = figures(Order.of(values, truth))
    assert found.auroc == pytest.approx(auroc(values, truth), nan_ok=True)
    assert found.average_precision == pytest.approx(average_precision(values, truth), nan_ok=True)
    if truth.any():
        assert found.precision_at_k == pytest.approx(slow_precision(values, truth, int(truth.sum())))
        counts = np.arange(1, len(values) + 1)
        expected = [slow_precision(values, truth, k) for k in counts]
        assert precision_at(Order.of(values, truth), counts) == pytest.approx(expected)


@given(VALUES, st.integers(0, 999))
def test_a_weight_is_the_example_repeated(pairs: list[tuple[int, bool]], seed: int) -> None:
    values, truth = np.array([v for v, _ in pairs], float), np.array([t for _, t in pairs])
    weights = np.random.default_rng(seed).integers(0, 3, len(values))
    rows = np.repeat(np.arange(len(values)), weights)
    found = figures(Order.of(values, truth), weights.astype(float))
    if not truth[rows].any():
        assert np.isnan(found.auroc)
        return
    again = figures(Order.of(values[rows], truth[rows]))
    for name in FIGURES:
        assert getattr(found, name) == pytest.approx(getattr(again, name), nan_ok=True)


def test_a_perfect_ranking_and_a_constant_one() -> None:
    truth = np.array([True, True, False, False, False])
    assert figures(Order.of(np.array([9.0, 8, 3, 2, 1]), truth)) == Figures(1, 1, 1)
    constant = figures(Order.of(np.zeros(5), truth))
    assert (constant.auroc, constant.average_precision, constant.precision_at_k) == (0.5, 0.4, 0.4)


def drawn(n: int, seed: int) -> dict[str, Order]:
    rng = seeds.rng(seed, "test")
    truth = rng.random(n) < 0.2
    good, poor = truth * 2.0 + rng.normal(size=n), truth * 0.5 + rng.normal(size=n)
    return {"good": Order.of(good, truth), "poor": Order.of(poor, truth)}


def test_intervals_hold_the_figure_and_differences_are_paired() -> None:
    orders = drawn(800, 1)
    made = redraw(orders, 1)
    for name, order in orders.items():
        for figure in FIGURES:
            low, high = made.interval(name, figure)
            assert low < getattr(figures(order), figure) < high
    low, high = made.interval("good", "auroc", minus="poor")
    assert low > 0
    alone = [made.interval(name, "auroc") for name in ("good", "poor")]
    assert high - low < sum(b - a for a, b in alone)
    assert made.interval("good", "auroc", minus="good") == (0, 0)
    assert redraw(orders, 1).interval("good", "auroc") == made.interval("good", "auroc")


def test_the_interval_covers_as_often_as_it_promises() -> None:
    """60 data sets, AUROC of two normal distributions two apart: 0.9214; nominal 95 %."""
    held = 0
    for seed in range(60):
        orders = drawn(300, seed + 10)
        low, high = redraw({"good": orders["good"]}, seed, draws=120).interval("good", "auroc")
        held += low <= 0.92135 <= high
    assert 51 <= held <= 60


def test_a_permuted_truth_stands_at_one_half() -> None:
    truth = np.arange(2000) % 5 == 0
    found = permuted(truth + np.linspace(0, 1.5, 2000), truth, 1)
    assert np.mean(found) == pytest.approx(0.5, abs=0.02)


def test_without_wrong_or_without_right_labels_there_is_nothing_to_measure() -> None:
    order = Order.of(np.arange(4.0), np.zeros(4, bool))
    assert np.isnan(figures(order).average_precision)
    everything = figures(Order.of(np.arange(4.0), np.ones(4, bool)))
    assert np.isnan(everything.auroc)
    assert everything.precision_at_k == 1
    assert np.isnan(redraw({"a": order}, 1, draws=3).interval("a", "auroc")).all()


def test_classes_are_measured_within_themselves() -> None:
    values = np.array([1.0, 2, 10, 20])
    truth = np.array([False, True, True, False])
    first, second = by_class(values, truth, np.array([0, 0, 1, 1]))
    assert (first.n, first.wrong, first.figures.auroc) == (2, 1, 1)
    assert (second.label, second.figures.auroc) == (1, 0)


def test_confusions_count_known_pairs_of_the_chosen_rows() -> None:
    labels, others = np.array([0, 0, 1, 1, -1]), np.array([1, 1, 0, -1, 0])
    assert confusions(labels, others, np.arange(5), 2).tolist() == [[0, 2], [1, 0]]
    assert confusions(labels, others, np.array([0]), 2).tolist() == [[0, 1], [0, 0]]


def test_the_best_is_the_highest_known() -> None:
    named = {"a": Figures(float("nan"), 0, 0), "b": Figures(0.7, 0, 0), "c": Figures(0.8, 0, 0)}
    assert best(named, ["a", "b", "c"]) == "c"
    assert best(named, ["a"]) == ""
