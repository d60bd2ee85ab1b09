"""Measures of how alike maps are: against slow versions from their definitions, and cases made by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from dataset_audit.bias.likeness import (
    Compared,
    Maps,
    Spread,
    above_chance,
    centre,
    edges,
    likeness,
    rank_correlation,
    top_count,
)

TIED = arrays(np.float32, (5, 6), elements=st.sampled_from([0.0, 0.0, 1.0, 2.0, 5.0]))


def noise(count: int, side: int = 16, seed: int = 0) -> Maps:
    return np.random.default_rng(seed).random((count, side, side), np.float32)


def slow_ranks(values: list[float]) -> list[float]:
    return [sum(o < v for o in values) + (sum(o == v for o in values) + 1) / 2 for v in values]


def slow_spearman(a: Maps, b: Maps) -> float:
    x, y = slow_ranks(a.ravel().tolist()), slow_ranks(b.ravel().tolist())
    n = len(x)
    mean = (n + 1) / 2
    covariance = sum((p - mean) * (q - mean) for p, q in zip(x, y, strict=True))
    return covariance / math.sqrt(sum((p - mean) ** 2 for p in x) * sum((q - mean) ** 2 for q in y))


def slow_top(values: Maps, k: int) -> set[int]:
    left = list(enumerate(values.ravel().tolist()))
    chosen = set()
    for _ in range(k):
        best = left[0]
        for each in left:
            if each[1] > best[1]:  # an equal one later does not win
                best = each
        chosen.add(best[0])
        left.remove(best)
    return chosen


def slow_centre(one: Maps) -> tuple[float, float]:
    total = down = across = 0.0
    for (y, x), mass in np.ndenumerate(one):
        weight = float(mass)
        total, down, across = total + weight, down + weight * y, across + weight * x
    return down / total, across / total


@given(TIED, TIED)
def test_measures_are_their_definitions_ties_included(a: Maps, b: Maps) -> None:
    if a.max() == a.min() or b.max() == b.min():
        return
    found = likeness(a, b[None], 4)
    assert found.spearman[0] == pytest.approx(slow_spearman(a, b))
    assert rank_correlation(a, b) == pytest.approx(slow_spearman(a, b))
    assert found.overlap[0] == pytest.approx(len(slow_top(a, 4) & slow_top(b, 4)) / 4)
    (p, q), (r, s) = slow_centre(a), slow_centre(b)
    assert found.shift[0] == pytest.approx(math.hypot(p - r, q - s) / math.hypot(5, 6))


def test_a_map_is_like_itself_whatever_its_scale() -> None:
    original = noise(1)[0]
    found = likeness(original, np.stack([original, 8 * original]), 5)
    assert found.spearman == pytest.approx([1, 1])
    assert found.overlap.tolist() == [1, 1]
    assert found.shift == pytest.approx([0, 0], abs=1e-7)


def test_the_opposite_order_is_minus_one_and_shares_no_top() -> None:
    original = noise(1)[0]
    found = likeness(original, 1 - original[None], 5)
    assert found.spearman[0] == pytest.approx(-1)
    assert found.overlap[0] == 0


def test_an_original_that_does_not_vary_has_no_measures() -> None:
    found = likeness(np.zeros((8, 8), np.float32), noise(3, 8), 6)
    for values in (found.spearman, found.overlap, found.shift):
        assert np.isnan(values).all()
        assert len(values) == 3
    assert math.isnan(rank_correlation(np.ones((8, 8)), noise(1, 8)[0]))


@pytest.mark.parametrize("level", [0.0, 3.0])
def test_another_that_does_not_vary_is_like_chance(level: float) -> None:
    original = np.zeros((8, 8), np.float32)
    original[0, 0] = 1
    found = likeness(original, np.full((1, 8, 8), level, np.float32), 6)
    assert found.spearman[0] == 0
    assert above_chance(found.overlap, 6, 64)[0] == pytest.approx(0)
    assert found.shift[0] == pytest.approx(3.5 / 8)  # from the corner to the middle
    assert rank_correlation(original, np.full((8, 8), level)) == 0


def test_ties_for_the_top_go_to_the_lower_index() -> None:
    a, b = np.zeros((4, 4), np.float32), np.zeros((4, 4), np.float32)
    a[3, 3], b[3, 2] = 1, 1  # the second place is a tie of zeros, which cell 0 wins in both
    assert likeness(a, b[None], 2).overlap[0] == 0.5


def test_centres_keep_their_fractions() -> None:
    one = np.zeros((4, 4), np.float32)
    one[1, 2], one[2, 2] = 3, 1
    assert centre(one) == (1.25, 2.0)
    moved = np.zeros((4, 4), np.float32)
    moved[1, 2], moved[2, 2] = 1, 1
    assert likeness(one, moved[None], 1).shift[0] == pytest.approx(0.25 / math.hypot(4, 4))


def test_the_top_is_two_percent_or_ten_of_a_coarse_grid() -> None:
    sides = (1, 2, 4, 7, 8, 16, 17, 32, 64, 227)
    assert [top_count(side**2) for side in sides] == [1, 1, 2, 5, 6, 26, 6, 20, 82, 1031]


def test_unrelated_maps_share_nothing_beyond_chance() -> None:
    original = noise(1, 32)[0]
    k = top_count(1024)
    found = above_chance(likeness(original, noise(400, 32, seed=1), k).overlap, k, 1024)
    assert abs(found.mean()) < 4 * found.std() / 20
    assert above_chance(np.array([1.0, k / 1024]), k, 1024) == pytest.approx([1, 0])


def test_edges_are_sobels_of_each_picture_alone() -> None:
    levels = np.random.default_rng(0).integers(0, 256, (2, 7, 7), dtype=np.int32)
    found = edges(levels)
    for picture, lengths in zip(levels, found, strict=True):
        wide = np.pad(picture.astype(int), 1, mode="edge")
        for y in range(7):
            for x in range(7):
                dx = sum((1, 2, 1)[i] * (wide[y + i, x + 2] - wide[y + i, x]) for i in range(3))
                dy = sum((1, 2, 1)[i] * (wide[y + 2, x + i] - wide[y, x + i]) for i in range(3))
                assert lengths[y, x] == pytest.approx(math.hypot(dx, dy))


def test_spreads_leave_out_what_was_not_measured() -> None:
    spread = Spread.of(np.array([np.nan, 4.0, 1.0, 2.0, 3.0, 5.0]))
    assert (spread.lower, spread.median, spread.upper) == (2, 3, 4)
    assert math.isnan(Spread.of(np.array([np.nan])).median)


def kept_of(*rows: str) -> NDArray[np.bool_]:
    return np.array([[cell == "x" for cell in row] for row in rows])


def test_only_draws_that_kept_the_prediction_are_compared_each_with_its_own_picture() -> None:
    a, b, blank, c = noise(1)[0], noise(1, seed=1)[0], np.zeros((16, 16), np.float32), noise(1, seed=2)[0]
    compared = Compared.start(5, 3)
    compared.add(0, kept_of("x.x", "..."), np.stack([a, b]), np.stack([a, b]))
    compared.add(2, kept_of("xxx", ".x."), np.stack([blank, c]), np.stack([a, b, c, c]))
    assert compared.spearman[0, [0, 2]] == pytest.approx([1, rank_correlation(a, b)])
    assert compared.spearman[3, 1] == pytest.approx(1)
    assert np.isnan(compared.spearman).sum() == 15 - 3
    stable = compared.stability(256)
    assert stable.kept == pytest.approx(6 / 15)
    assert stable.pictures == 2
    assert stable.spearman.median == pytest.approx(((1 + rank_correlation(a, b)) / 2 + 1) / 2)
    assert stable.overlap.upper <= 1
    assert stable.beyond_chance.median < stable.overlap.median
