"""The margins of published matrices, and what holds for any matrix."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dataset_audit.transfer.measures import cd, drop, measures

# Torralba & Efros 2011, table 1: average precision in percent, row = trained on, column = tested on, in the order
# SUN09, LabelMe, PASCAL, ImageNet, Caltech101, MSRC; then self, mean others and percent drop as printed
PRINTED = {
    "car, classification": """
        28.2 29.5 16.3 14.6 16.9 21.9   28.2 19.8  30
        14.7 34.0 16.7 22.9 43.6 24.5   34.0 24.5  28
        10.1 25.5 35.2 43.9 44.2 39.4   35.2 32.6   7
        11.4 29.6 36.0 57.4 52.3 42.7   57.4 34.4  40
         7.5 31.1 19.5 33.1 96.9 42.1   96.9 26.7  73
         9.3 27.0 24.9 32.6 40.3 68.4   68.4 26.8  61
        10.6 28.5 22.7 29.4 39.4 34.1   53.4 27.5  48""",
    "car, detection": """
        69.8 50.7 42.2 42.6 54.7 69.4   69.8 51.9  26
        61.8 67.6 40.8 38.5 53.4 67.0   67.6 52.3  23
        55.8 55.2 62.1 56.8 54.2 74.8   62.1 59.4   4
        43.9 31.8 46.9 60.7 59.3 67.8   60.7 49.9  18
        20.2 18.8 11.0 31.4 100  29.3   100  22.2  78
        28.6 17.1 32.3 21.5 67.7 74.3   74.3 33.4  55
        42.0 34.7 34.6 38.2 57.9 61.7   72.4 44.8  38""",
    "person, classification": """
        16.1 11.8 14.0  7.9  6.8 23.5   16.1 12.8  20
        11.0 26.6  7.5  6.3  8.4 24.3   26.6 11.5  57
        11.9 11.1 20.7 13.6 48.3 50.5   20.7 27.1 -31
         8.9 11.1 11.8 20.7 76.7 61.0   20.7 33.9 -63
         7.6 11.8 17.3 22.5 99.6 65.8   99.6 25.0  75
         9.4 15.5 15.3 15.3 93.4 78.4   78.4 29.8  62
         9.8 12.3 13.2 13.1 46.7 45.0   43.7 23.4  47""",
    "person, detection": """
        69.6 56.8 37.9 45.7 52.1 72.7   69.6 53.0  24
        58.9 66.6 38.4 43.1 57.9 68.9   66.6 53.4  20
        56.0 55.6 56.3 55.6 56.8 74.8   56.3 59.8  -6
        48.8 39.0 40.1 59.6 53.2 70.7   59.6 50.4  15
        24.6 18.1 12.4 26.6 100  31.6   100  22.7  77
        33.8 18.2 30.9 20.8 69.5 74.7   74.7 34.6  54
        44.4 37.5 31.9 38.4 57.9 63.7   71.1 45.6  36""",
}
TABLES = {
    name: np.array([line.split() for line in text.split("\n")[1:]], float) for name, text in PRINTED.items()
}


@pytest.mark.parametrize("name", TABLES)
def test_margins_equal_the_printed_ones(name: str) -> None:
    """Cells were printed rounded: means hold to 0.1, drops to one point."""
    table = TABLES[name]
    found = measures(table[:6, :6] / 100)
    assert 100 * found.own == pytest.approx(table[:6, 6])
    assert 100 * found.row_others == pytest.approx(table[:6, 7], abs=0.1)
    assert 100 * found.column_others == pytest.approx(table[6, :6], abs=0.1)
    assert 100 * found.own.mean() == pytest.approx(table[6, 6], abs=0.1)
    assert 100 * found.row_others.mean() == pytest.approx(table[6, 7], abs=0.1)
    assert 100 * found.row_drop == pytest.approx(table[:6, 8], abs=1)
    assert 100 * found.grand_drop == pytest.approx(table[6, 8], abs=1)


@pytest.mark.parametrize(
    ("name", "grand", "mean_of_drops"),
    [("car, classification", 48.5, 39.7), ("person, classification", 46.6, 19.9)],
)
def test_the_grand_drop_is_that_of_the_means_and_not_the_mean_of_the_drops(
    name: str, grand: float, mean_of_drops: float
) -> None:
    found = measures(TABLES[name][:6, :6] / 100)
    assert 100 * found.grand_drop == pytest.approx(grand, abs=0.05)
    assert 100 * found.row_drop.mean() == pytest.approx(mean_of_drops, abs=0.05)


def test_drops_by_column_equal_the_computed_ones() -> None:
    found = measures(TABLES["car, classification"][:6, :6] / 100)
    assert 100 * found.column_drop == pytest.approx([62.4, 16.1, 35.6, 48.7, 59.3, 50.1], abs=0.06)


@pytest.mark.parametrize(
    ("name", "scores"),
    [
        ("car, classification", [0.521, 0.524, 0.506, 0.557, 0.669, 0.602]),
        ("person, classification", [0.508, 0.538, 0.484, 0.467, 0.678, 0.619]),
    ],
)
def test_bounded_scores_of_the_published_matrices(name: str, scores: list[float]) -> None:
    assert measures(TABLES[name][:6, :6] / 100).cd == pytest.approx(scores, abs=6e-4)


# Torralba & Efros 2011, table 2: detection with the set's own negatives and with those of all sets
NEGATIVES = {
    "car": (
        [67.6, 62.4, 56.3, 60.5, 97.7, 74.5],
        [53.8, 51.3, 47.1, 65.2, 97.7, 70.0],
        [20, 18, 16, -8, 0, 6],
        8,
    ),
    "person": (
        [67.4, 68.6, 53.8, 60.4, 100, 76.7],
        [52.2, 58.0, 42.6, 63.4, 100, 71.1],
        [22, 15, 21, -5, 0, 7],
        9,
    ),
}


@pytest.mark.parametrize("name", NEGATIVES)
def test_drops_by_foreign_negatives_equal_the_printed_ones(name: str) -> None:
    own, pooled, printed, mean = NEGATIVES[name]
    shares = np.array(own) / 100, np.array(pooled) / 100
    assert 100 * drop(*shares) == pytest.approx(printed, abs=1)
    assert 100 * drop(shares[0].mean(), shares[1].mean()) == pytest.approx(mean, abs=1)


def test_a_harder_own_test_set_gives_a_negative_drop() -> None:
    found = measures([[0.2, 0.5], [0.4, 0.6]])
    assert found.row_drop[0] == pytest.approx(-1.5)
    assert found.cd[0] < 0.5


def test_a_classifier_that_fails_at_home_has_no_drop() -> None:
    assert math.isnan(measures([[0.0, 0.5], [0.4, 0.6]]).row_drop[0])
    assert math.isnan(measures([[0.0, 0.5], [0.4, 0.0]]).grand_drop)


def test_percent_is_refused_where_shares_are_wanted() -> None:
    for call in (
        lambda: measures([[90.0, 50.0], [50.0, 90.0]]),
        lambda: cd(90.0, 50.0),
        lambda: drop(90.0, 50.0),
    ):
        with pytest.raises(ValueError, match="not percent"):
            call()
    with pytest.raises(ValueError, match="shares"):
        measures([[0.5, math.nan], [0.5, 0.5]])


@pytest.mark.parametrize("matrix", [[[0.5]], [[0.5, 0.5]], [0.5, 0.5]])
def test_a_matrix_of_one_source_or_of_no_square_shape_is_refused(matrix: list[float]) -> None:
    with pytest.raises(ValueError, match="K x K"):
        measures(matrix)


shares = st.floats(0, 1, allow_subnormal=False)


@given(st.integers(2, 6), st.integers(0, 10**6))
def test_margins_equal_plain_loops_and_follow_the_order_of_sources(k: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    matrix, order = rng.random((k, k)), rng.permutation(k)
    found, turned = measures(matrix), measures(matrix[np.ix_(order, order)])
    for i in range(k):
        assert found.row_others[i] == pytest.approx(np.mean([matrix[i, j] for j in range(k) if j != i]))
        assert found.column_others[i] == pytest.approx(np.mean([matrix[j, i] for j in range(k) if j != i]))
    assert turned.row_drop == pytest.approx(found.row_drop[order])
    assert turned.column_drop == pytest.approx(found.column_drop[order])
    assert turned.grand_drop == pytest.approx(found.grand_drop)
    assert measures(matrix.T).row_others == pytest.approx(found.column_others)


@given(shares, shares)
def test_the_bounded_score_stays_within_its_bounds(own: float, others: float) -> None:
    score = float(cd(own, others))
    assert 0.2689 < score < 0.7311
    assert (score > 0.5) == (own - others > 1e-16)
    assert float(cd(others, own)) == pytest.approx(1 - score)


@given(st.integers(2, 5), shares)
def test_sets_without_differences_drop_nothing(k: int, score: float) -> None:
    found = measures(np.full((k, k), score))
    if score > 0:
        assert found.row_drop == pytest.approx(np.zeros(k), abs=1e-12)
        assert found.grand_drop == pytest.approx(0, abs=1e-12)
    assert found.cd == pytest.approx(np.full(k, 0.5))
