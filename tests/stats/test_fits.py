"""Lines through models: the golden table of thirty published ones, SciPy, and points whose line is known."""

from __future__ import annotations

import csv
from math import erf, isnan
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import stats as scipy_stats

from dataset_audit.stats.agreement import pearson, spearman
from dataset_audit.stats.fits import Fit, kendall, least_squares, line_interval, probit_line
from dataset_audit.stats.intervals import clopper_pearson, newcombe

Counts = dict[str, NDArray[np.int64]]
SIZES = {"original": 10_000, "v4": 2021, "v6": 2000}


@pytest.fixture(scope="module")
def golden() -> Counts:
    text = (Path(__file__).parents[1] / "reference" / "cifar10_1.csv").read_text().splitlines()[1:]
    rows = list(csv.DictReader(text))
    return {name: np.array([int(row[name]) for row in rows]) for name in SIZES}


def test_the_golden_table_is_the_published_one(golden: Counts) -> None:
    assert [int(golden[name].sum()) for name in SIZES] == [279_252, 51_519, 51_181]
    assert len(golden["v4"]) == 30


@pytest.mark.parametrize(
    ("new", "slope", "slope_error", "intercept", "intercept_error", "r2"),
    [("v4", 1.6166, 0.0327, -65.509, 3.043, 0.9887), ("v6", 1.5952, 0.0307, -63.184, 2.859, 0.9897)],
)
def test_the_line_through_thirty_published_models(
    golden: Counts, new: str, slope: float, slope_error: float, intercept: float, intercept_error: float, r2: float
) -> None:  # fmt: skip
    x, y = 100 * golden["original"] / 10_000, 100 * golden[new] / SIZES[new]
    fit = least_squares(x, y)
    assert (fit.slope, fit.slope_error) == pytest.approx((slope, slope_error), abs=5e-5)
    assert (fit.intercept, fit.intercept_error) == pytest.approx((intercept, intercept_error), abs=5e-4)
    assert fit.r2 == pytest.approx(r2, abs=5e-5)


@pytest.mark.parametrize(
    ("new", "slope", "intercept"),
    [("v4", (1.530, 1.702), (-73.5, -57.3)), ("v6", (1.518, 1.668), (-70.0, -56.0))],
)
def test_the_line_over_redrawn_published_models(
    golden: Counts, new: str, slope: tuple[float, float], intercept: tuple[float, float]
) -> None:
    found = line_interval(100 * golden["original"] / 10_000, 100 * golden[new] / SIZES[new], seed=1)
    assert found[0] == pytest.approx(slope, abs=0.004)
    assert found[1] == pytest.approx(intercept, abs=0.3)


@pytest.mark.parametrize(("new", "slope", "intercept"), [("v4", 0.9515, -0.3986), ("v6", 0.9496, -0.3811)])
def test_on_the_scale_of_normal_quantiles_the_slope_of_published_models_is_one(
    golden: Counts, new: str, slope: float, intercept: float
) -> None:
    fit = probit_line(golden["original"] / 10_000, golden[new] / SIZES[new])
    assert (fit.slope, fit.intercept, fit.n) == pytest.approx((slope, intercept, 30), abs=5e-5)


@pytest.mark.parametrize(
    ("new", "rank", "tau", "r"), [("v4", 0.97786, 0.88838, 0.99434), ("v6", 0.97096, 0.86076, 0.99486)]
)
def test_the_order_of_published_models(golden: Counts, new: str, rank: float, tau: float, r: float) -> None:
    x, y = golden["original"], golden[new]
    assert (spearman(x, y), kendall(x, y), pearson(x, y)) == pytest.approx((rank, tau, r), abs=5e-6)


@pytest.mark.parametrize(
    ("new", "mean", "least", "most", "ratio"), [("v4", 8.111, 4.14, 15.37, 2.367), ("v6", 7.782, 4.01, 14.61, 2.312)]
)  # fmt: skip
def test_the_gaps_of_published_models(
    golden: Counts, new: str, mean: float, least: float, most: float, ratio: float
) -> None:
    before, after = golden["original"] / 10_000, golden[new] / SIZES[new]
    gap = 100 * (before - after)
    assert (gap.mean(), gap.min(), gap.max()) == pytest.approx((mean, least, most), abs=0.006)
    assert ((1 - after) / (1 - before)).mean() == pytest.approx(ratio, abs=5e-4)
    for first, second in zip(golden["original"].tolist(), golden[new].tolist(), strict=True):
        assert newcombe(first, 10_000, second, SIZES[new])[0] > 0  # all thirty exclude no gap


# intervals as published beside the table, first and last model, in percent
@pytest.mark.parametrize(
    ("row", "accuracy", "gap_v4", "gap_v6"),
    [
        (0, (96.8, 97.4), (3.04, 5.37), (2.92, 5.25)),
        (18, (92.9, 93.9), (5.38, 8.52), (4.98, 8.10)),
        (29, (81.2, 82.7), (10.98, 15.29), (10.65, 14.97)),
    ],
)
def test_the_intervals_of_published_models(
    golden: Counts,
    row: int,
    accuracy: tuple[float, float],
    gap_v4: tuple[float, float],
    gap_v6: tuple[float, float],
) -> None:
    k = int(golden["original"][row])
    assert tuple(round(100 * end, 1) for end in clopper_pearson(k, 10_000)) == accuracy
    for new, gap in (("v4", gap_v4), ("v6", gap_v6)):
        found = newcombe(k, 10_000, int(golden[new][row]), SIZES[new])
        assert tuple(round(100 * end, 2) for end in found) == gap


_points = st.lists(st.tuples(st.integers(-50, 50), st.integers(-50, 50)), min_size=2, max_size=12)


@settings(max_examples=20)  # SciPy's line takes long
@given(_points)
def test_a_line_equals_scipys(points: list[tuple[int, int]]) -> None:
    x, y = np.array(points, float).T
    fit = least_squares(x, y)
    if np.ptp(x) == 0:
        assert isnan(fit.slope)
        return
    known = scipy_stats.linregress(x, y)
    assert (fit.slope, fit.intercept) == pytest.approx((known.slope, known.intercept), abs=1e-9)
    if len(x) > 2 and np.ptp(y) > 0:  # SciPy has no errors for a level line; here they are 0
        errors = known.stderr, known.intercept_stderr
        assert (fit.slope_error, fit.intercept_error) == pytest.approx(errors, rel=1e-6, abs=1e-6)


def test_two_points_have_a_line_but_no_error() -> None:
    fit = least_squares([0, 1], [1, 3])
    assert (fit.slope, fit.intercept, fit.r2, fit.n) == (2, 1, 1, 2)
    assert isnan(fit.slope_error)
    assert all(isnan(end) for pair in line_interval([0, 1], [1, 3], seed=1) for end in pair)


def test_points_below_each_other_have_no_line() -> None:
    fit: Fit = least_squares([1, 1, 1], [1, 2, 3])
    assert isnan(fit.slope)
    assert all(isnan(end) for pair in line_interval([1, 1, 1], [1, 2, 3], seed=1) for end in pair)


def test_a_slope_of_the_scale_alone_vanishes_on_normal_quantiles() -> None:
    score = np.linspace(0.5, 2.0, 15)
    before, after = (0.5 * (1 + np.vectorize(erf)((score - d) / 2**0.5)) for d in (0, 0.4))
    assert least_squares(before, after).slope > 1.2
    line = probit_line(before, after)
    assert (line.slope, line.intercept) == pytest.approx((1, -0.4))


def test_a_perfect_model_has_no_place_on_the_scale_of_quantiles() -> None:
    assert probit_line([0.5, 0.6, 0.7, 1.0], [0.4, 0.5, 0.6, 0.9]).n == 3


def test_redrawing_shows_a_line_as_sure_as_theory_says() -> None:
    rng = np.random.default_rng(5)
    x = np.linspace(0, 1, 60)
    y = 2 * x + rng.normal(0, 0.1, 60)
    (low, high), _ = line_interval(x, y, seed=2)
    fit = least_squares(x, y)
    assert high - low == pytest.approx(2 * 1.96 * fit.slope_error, rel=0.25)
    assert line_interval(x, y, seed=2) == ((low, high), _)


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), min_size=2, max_size=15))
def test_kendall_equals_scipys_with_ties(points: list[tuple[int, int]]) -> None:
    x, y = np.array(points).T
    found = kendall(x, y)
    if np.ptp(x) == 0 or np.ptp(y) == 0:
        assert isnan(found)
    else:
        assert found == pytest.approx(scipy_stats.kendalltau(x, y).statistic, abs=1e-12)
