"""Quality against time: a curve that rises and is not drawn past its ends, places on it, what scoring earns back."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dataset_audit.evaluate.pace import Baseline, Clock, Standing, standing

SECONDS = np.array([25.0, 40.0, 50.0, 70.0, 100.0])
MEANS = np.array([0.80, 0.86, 0.88, 0.90, 0.91])
LUCK = np.array([-0.004, 0.001, 0.003])
CURVE = Baseline(seconds=SECONDS, accuracy=MEANS[:, None] + LUCK)
WIDE = 1e-9


def stood(accuracy: float, seconds: float, *, scoring: float = 0.0, trainings: int = 1) -> Standing:
    """An arm with the luck of the curve's own seeds, and a little of its own."""
    own = accuracy + LUCK + np.array([0.0005, -0.0005, 0.0])
    return standing(CURVE, own.tolist(), seconds, scoring=scoring, trainings=trainings)


def slow_rising(values: list[float]) -> list[float]:
    """Isotonic regression by its definition: min over ends of the max over beginnings of the mean between."""
    n = len(values)
    mean = [[float(np.mean(values[a : b + 1])) if a <= b else math.nan for b in range(n)] for a in range(n)]
    return [min(max(mean[a][b] for a in range(at + 1)) for b in range(at, n)) for at in range(n)]


points = st.integers(2, 6).flatmap(
    lambda p: st.tuples(
        st.lists(st.floats(1, 1e5), min_size=p, max_size=p, unique=True).map(sorted),
        st.lists(st.lists(st.floats(0, 1), min_size=p, max_size=p), min_size=1, max_size=3),
    )
)


def made(given_points: tuple[list[float], list[list[float]]]) -> Baseline:
    return Baseline(seconds=np.array(given_points[0]), accuracy=np.array(given_points[1]).T)


@given(points)
def test_the_curve_passes_through_its_points_made_to_rise(
    drawn: tuple[list[float], list[list[float]]],
) -> None:
    curve = made(drawn)
    rising = np.array([slow_rising(values) for values in drawn[1]])
    found = np.array([curve.at(seconds) for seconds in drawn[0]])
    np.testing.assert_allclose(found, rising.T, atol=1e-9)


@given(points, st.lists(st.floats(0, 1), min_size=2, max_size=6))
def test_more_time_never_buys_less_and_nothing_is_overshot(
    drawn: tuple[list[float], list[list[float]]], places: list[float]
) -> None:
    curve = made(drawn)
    low, high = math.log(drawn[0][0]), math.log(drawn[0][-1])
    times = np.clip(np.exp(low + np.sort(places) * (high - low)), drawn[0][0], drawn[0][-1])
    found = np.array([curve.at(float(seconds)) for seconds in times])
    assert np.all(np.diff(found, axis=0) >= -WIDE)
    ends = np.array([slow_rising(values) for values in drawn[1]])
    assert np.all(found >= ends.min(1) - WIDE)
    assert np.all(found <= ends.max(1) + WIDE)


@given(points, st.floats(0, 1))
def test_the_time_for_an_accuracy_is_the_first_that_buys_it(
    drawn: tuple[list[float], list[list[float]]], share: float
) -> None:
    curve = made(drawn)
    first, last = (float(curve.at(end).mean()) for end in (drawn[0][0], drawn[0][-1]))
    wanted = first + share * (last - first)
    needed = curve.time_for(wanted)
    if wanted <= first + WIDE or wanted > last - WIDE:
        return
    assert drawn[0][0] <= needed <= drawn[0][-1] * (1 + 1e-12)
    assert float(curve.at(min(needed, drawn[0][-1])).mean()) == pytest.approx(wanted, abs=1e-6)
    earlier = drawn[0][0] + 0.999 * (needed - drawn[0][0])
    assert float(curve.at(earlier).mean()) <= wanted + WIDE


def test_outside_what_was_measured_nothing_is_said() -> None:
    for seconds in (24.999, 100.001, 0.0, 1e9):
        assert np.isnan(CURVE.at(seconds)).all()
        assert CURVE.at(seconds).shape == (3,)
    assert not np.isnan(CURVE.at(25.0)).any()
    assert not np.isnan(CURVE.at(100.0)).any()
    assert CURVE.time_for(0.5) == 0.0
    assert CURVE.time_for(0.9101) == math.inf


def test_a_straight_line_over_log_time_is_interpolated_over_log_time() -> None:
    curve = Baseline(seconds=np.array([10.0, 1000.0]), accuracy=np.array([[0.2], [0.4]]))
    assert curve.at(100.0) == pytest.approx([0.3])
    assert curve.time_for(0.35) == pytest.approx(10**2.5)


def test_a_longer_training_that_came_out_worse_is_pooled_with_the_shorter_one() -> None:
    curve = Baseline(seconds=np.array([1.0, 2.0, 4.0]), accuracy=np.array([[0.5], [0.8], [0.7]]))
    assert curve.at(2.0) == pytest.approx([0.75])
    assert curve.at(4.0) == pytest.approx([0.75])
    assert curve.at(3.0) == pytest.approx([0.75])
    assert curve.time_for(0.76) == math.inf
    assert curve.time_for(0.75) <= 2.0 * (1 + 1e-9)


def test_saved_and_gained_are_read_off_one_curve() -> None:
    """With seeds that dip at different points, an arm on the curve at its time needs that time, to the second."""
    rough = Baseline(
        seconds=SECONDS,
        accuracy=MEANS[:, None] + np.array([[0.0, 0], [0.05, -0.03], [0, 0], [0, 0.03], [0, 0]]),
    )
    for seconds in (30.0, 45.0, 60.0, 80.0):
        on_it = rough.at(seconds)
        found = standing(rough, on_it.tolist(), seconds, scoring=0.0)
        assert found.gained is not None
        assert found.gained.mean == pytest.approx(0)
        assert found.saved == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize(
    "seconds", [np.array([10.0]), np.array([10.0, 10.0]), np.array([20.0, 10.0]), np.array([])]
)
def test_a_curve_needs_two_times_that_rise(seconds: np.ndarray) -> None:
    with pytest.raises(ValueError, match="two training times"):
        Baseline(seconds=seconds, accuracy=np.zeros((len(seconds), 2)))


def test_an_arm_above_the_curve_at_its_total_time() -> None:
    found = stood(0.90, 45.0, scoring=5.0)  # the curve has 0.88 at 50 s
    assert found.place == "above"
    assert found.total == 50.0
    assert found.gained is not None
    assert found.gained.mean == pytest.approx(0.02)
    assert found.saved == pytest.approx(70.0 - 45.0, abs=0.01), "equal quality takes 70 s; scoring is apart"
    assert found.pays_after == pytest.approx(5.0 / 25.0, rel=1e-3)


def test_scoring_can_take_an_arm_below_the_curve() -> None:
    found = stood(0.85, 45.0, scoring=25.0)
    assert found.place == "below"
    assert found.gained is not None
    assert found.gained.mean == pytest.approx(-0.05)
    assert found.saved is not None
    assert found.saved < 0
    assert found.pays_after == math.inf, "no time saved: it never pays"


def test_an_arm_within_its_interval_is_on_the_curve() -> None:
    found = stood(0.8802, 50.0)
    assert found.place == "on"
    assert found.gained is not None
    assert found.gained.low < 0 < found.gained.high
    assert found.pays_after == 0.0, "nothing was scored and a little is saved"


@pytest.mark.parametrize(("seconds", "place"), [(20.0, "before"), (101.0, "beyond")])
def test_outside_the_measured_times_an_arm_has_no_place(seconds: float, place: str) -> None:
    found = stood(0.85, seconds)
    assert found.place == place
    assert found.gained is None
    assert found.saved == pytest.approx(CURVE.time_for(0.85) - seconds), "quality is still on the curve"


def test_scoring_alone_can_push_an_arm_beyond_and_sharing_it_brings_it_back() -> None:
    assert stood(0.90, 45.0, scoring=60.0).place == "beyond"
    shared = stood(0.90, 45.0, scoring=60.0, trainings=6)
    assert shared.total == 55.0
    assert shared.place == "above"
    assert shared.pays_after == pytest.approx(60 / 25, rel=1e-3)


def test_an_unknown_scoring_time_is_not_taken_for_none() -> None:
    found = stood(0.90, 45.0, scoring=math.nan)
    assert found.place == "not measured"
    assert found.gained is None
    assert math.isnan(found.total)
    assert found.saved == pytest.approx(25.0, abs=0.01), "what a training saves is known all the same"
    assert found.pays_after is None


def test_an_unknown_training_time_has_no_place_and_saves_nothing_that_could_be_told() -> None:
    found = stood(0.90, math.nan, scoring=5.0)
    assert (found.place, found.gained, found.saved, found.pays_after) == ("not measured", None, None, None)


def test_quality_outside_the_curve_saves_nothing_that_could_be_told() -> None:
    for accuracy in (0.95, 0.60):
        found = stood(accuracy, 50.0, scoring=5.0)
        assert found.saved is None
        assert found.pays_after is None
    assert stood(0.95, 50.0).place == "above"
    assert stood(0.60, 50.0).place == "below"


def test_one_seed_gives_a_gain_and_no_place_above_or_below() -> None:
    curve = Baseline(seconds=SECONDS, accuracy=MEANS[:, None])
    found = standing(curve, [0.95], 50.0, scoring=0.0)
    assert found.place == "on"
    assert found.gained is not None
    assert found.gained.mean == pytest.approx(0.07)
    assert math.isnan(found.gained.low)


def test_the_clock_is_the_median_pace_and_uneven_beyond_a_quarter() -> None:
    clock = Clock.of(np.array([10.0, 22.0, 6.0]), np.array([1000, 2000, 500]))
    assert clock.pace == pytest.approx(0.011)
    assert clock.spread == pytest.approx(1.2)
    assert not clock.uneven
    assert Clock.of(np.array([10.0, 26.0]), np.array([1000, 2000])).uneven
    assert Clock.of(np.array([0.0, 1.0]), np.array([10, 10])).uneven, "no time at all is not believed"
    assert not Clock.of(np.array([3.0]), np.array([0])).uneven
