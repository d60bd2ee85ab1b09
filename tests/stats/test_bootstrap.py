"""Redrawing clusters: whole ones, repeatable, as wide as theory says."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from dataset_audit.stats.bootstrap import cluster_bootstrap


@given(st.lists(st.integers(-3, 5), min_size=1, max_size=30), st.integers(0, 1000))
def test_clusters_are_drawn_whole_and_as_many_as_there_are(names: list[int], seed: int) -> None:
    clusters = np.array(names)
    sizes = {name: names.count(name) for name in names}

    def statistic(rows: NDArray[np.int64]) -> float:
        times = np.bincount(rows, minlength=len(clusters))
        for name in sizes:
            assert len(set(times[clusters == name])) == 1  # its rows came equally often
        assert sum(times[names.index(name)] for name in sizes) == len(sizes)
        return 0.0

    assert cluster_bootstrap(clusters, statistic, draws=5, seed=seed) == (0.0, 0.0)


def test_a_constant_statistic_has_no_width_and_seeds_repeat(seed: int) -> None:
    values = np.random.default_rng(seed).normal(size=50)

    def mean(rows: NDArray[np.int64]) -> float:
        return float(values[rows].mean())

    first = cluster_bootstrap(np.arange(50), mean, draws=200, seed=seed)
    assert first == cluster_bootstrap(np.arange(50), mean, draws=200, seed=seed)
    assert first != cluster_bootstrap(np.arange(50), mean, draws=200, seed=seed + 1)
    assert first[0] < values.mean() < first[1]


def test_single_rows_give_the_width_of_the_mean_and_doubled_rows_no_less(seed: int) -> None:
    values = np.random.default_rng(seed).normal(size=400)
    low, high = cluster_bootstrap(np.arange(400), lambda rows: float(values[rows].mean()), seed=seed)
    assert high - low == pytest.approx(2 * 1.96 * values.std() / 20, rel=0.08)
    twice = np.tile(values, 2)  # copies add rows but no knowledge
    wide = cluster_bootstrap(np.tile(np.arange(400), 2), lambda rows: float(twice[rows].mean()), seed=seed)
    assert wide[1] - wide[0] == pytest.approx(high - low, rel=0.08)


def test_draws_without_an_answer_are_left_out() -> None:
    def picky(rows: NDArray[np.int64]) -> float:
        return 1.0 if 0 in rows else math.nan

    assert cluster_bootstrap(np.arange(3), picky, draws=50, seed=0) == (1.0, 1.0)
    assert all(
        math.isnan(end) for end in cluster_bootstrap(np.arange(3), lambda rows: math.nan, draws=9, seed=0)
    )
    assert all(math.isnan(end) for end in cluster_bootstrap(np.arange(0), lambda rows: 1.0, seed=0))
