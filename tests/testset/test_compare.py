"""Two exams compared: planted gaps, orders and mixes are found, none where there is none, by known intervals."""

from __future__ import annotations

from math import isnan

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from dataset_audit.stats.bootstrap import cluster_bootstrap
from dataset_audit.stats.fits import least_squares
from dataset_audit.stats.intervals import newcombe
from dataset_audit.stats.matched import mcnemar
from dataset_audit.testset.across import lines, order, reliability
from dataset_audit.testset.compare import (
    Exam,
    Gap,
    balanced_gap,
    class_gaps,
    kind,
    mean_gap,
    model_gaps,
    without_duplicates,
)

Bools = NDArray[np.bool_]


def exam(correct: Bools, *, label: object = None, cluster: object = None, dropped: object = None) -> Exam:
    """An exam in which class 0 is right unless labels are given; a wrong answer is one class further."""
    n = len(correct)
    labels = np.zeros(n, np.int64) if label is None else np.asarray(label, np.int64)
    return Exam(
        name="x",
        label=labels,
        predicted=labels[:, None] + ~correct,
        cluster=np.arange(n) if cluster is None else np.asarray(cluster),
        dropped=None if dropped is None else np.asarray(dropped, bool),
    )


def alike(rng: np.random.Generator, n: int, merits: list[float]) -> Bools:
    """Models that agree: an image has a difficulty that all of them feel."""
    hard = rng.normal(size=(n, 1))
    own = rng.normal(size=(n, len(merits)))
    score = np.sqrt(0.5) * hard + np.sqrt(0.5) * own
    from scipy.special import ndtri

    return score < ndtri(np.array(merits))


MERITS = [0.9, 0.85, 0.8, 0.7, 0.6]


def test_without_a_gap_one_is_claimed_in_about_five_of_a_hundred_cases() -> None:
    """Two hundred pairs of sets from one distribution; the band is 95 % of a binomial."""
    rng = np.random.default_rng(1)
    found = [
        mean_gap((exam(alike(rng, 800, MERITS)), exam(alike(rng, 400, MERITS))), paired=False)
        for _ in range(200)
    ]
    claimed = sum(gap.verdict != "no gap shown" for gap in found)
    assert 4 <= claimed <= 17
    assert np.mean([gap.value for gap in found]) == pytest.approx(0, abs=0.004)


def test_a_planted_gap_is_found_and_named() -> None:
    rng = np.random.default_rng(2)
    before, after = exam(alike(rng, 2000, MERITS)), exam(alike(rng, 2000, [m - 0.05 for m in MERITS]))
    gap = mean_gap((before, after), paired=False)
    assert gap.verdict == "harder"
    assert gap.low < 0.05 < gap.high
    assert mean_gap((after, before), paired=False).verdict == "easier"


def test_models_that_err_together_are_not_so_many_times_the_evidence() -> None:
    rng = np.random.default_rng(3)
    one = alike(rng, 500, [0.8])
    single = exam(one), exam(alike(rng, 500, [0.8]))
    repeated = tuple(exam(np.repeat(each.correct, 20, 1)) for each in single)
    a, b = mean_gap(single, paired=False), mean_gap((repeated[0], repeated[1]), paired=False)
    assert (a.low, a.high) == pytest.approx((b.low, b.high))


def test_the_same_images_need_far_fewer_of_them() -> None:
    rng = np.random.default_rng(4)
    before = alike(rng, 2000, MERITS)
    after = before & (rng.random(before.shape) > 0.01)
    pair = exam(before), exam(after)
    assert mean_gap(pair, paired=True).verdict == "harder"
    assert mean_gap(pair, paired=False).verdict == "no gap shown"
    found = model_gaps(("a", "b", "c", "d", "e"), pair, paired=True)
    lost = int((before & ~after)[:, 0].sum())
    assert found[0].p == pytest.approx(mcnemar(lost, 0))
    assert all(each.gap.low > 0 for each in found)


def test_the_variance_over_clusters_is_that_of_redrawn_clusters() -> None:
    rng = np.random.default_rng(5)
    groups = rng.integers(0, 150, 600)
    correct = (rng.random(150)[groups] < 0.7)[:, None] ^ (rng.random((600, 1)) < 0.05)
    new = exam(alike(rng, 600, [0.7]))
    old = exam(correct, cluster=groups)
    assert kind((old, new), paired=False) == "clusters"
    gap = mean_gap((old, new), paired=False)
    low, high = cluster_bootstrap(groups, lambda rows: float(correct[rows].mean()), seed=1)
    other = new.correct.std() / np.sqrt(600)
    expected = 2 * np.sqrt(((high - low) / 2) ** 2 + (1.96 * other) ** 2)
    assert gap.high - gap.low == pytest.approx(expected, rel=0.06)
    alone = mean_gap((exam(correct), new), paired=False)
    assert gap.high - gap.low > 1.2 * (alone.high - alone.low)  # copies are no new evidence
    row = model_gaps(("a",), (old, new), paired=False)[0]
    assert (row.gap.low, row.gap.high) == pytest.approx((gap.low, gap.high))


@given(st.integers(0, 40), st.integers(0, 40))
def test_one_model_has_newcombes_interval(right: int, also: int) -> None:
    pair = exam((np.arange(40) < right)[:, None]), exam((np.arange(40) < also)[:, None])
    found = model_gaps(("a",), pair, paired=False)[0]
    assert (found.gap.low, found.gap.high) == newcombe(right, 40, also, 40)
    assert found.correct == (right, also)
    assert isnan(found.error_ratio) == (right == 40)
    assert isnan(found.without.value)
    assert (found.p <= 0.05) == (abs(_z(right, also)) >= 1.9599)


def _z(right: int, also: int) -> float:
    pooled = (right + also) / 80
    error = np.sqrt(pooled * (1 - pooled) / 20)
    return float((right - also) / 40 / error) if error else 0.0


@settings(max_examples=25)
@given(st.integers(0, 10**6))
def test_the_order_of_images_and_models_changes_nothing(seed: int) -> None:
    rng = np.random.default_rng(seed)
    one, two = alike(rng, 60, MERITS), alike(rng, 50, MERITS)
    names = ("a", "b", "c", "d", "e")
    rows, more, columns = rng.permutation(60), rng.permutation(50), rng.permutation(5)
    first = model_gaps(names, (exam(one), exam(two)), paired=False)
    second = model_gaps(
        tuple(names[column] for column in columns),
        (exam(one[rows][:, columns]), exam(two[more][:, columns])),
        paired=False,
    )
    assert [each.model for each in second] == [names[column] for column in columns]
    for each in first:
        other = next(row for row in second if row.model == each.model)
        assert (other.gap, other.rank, other.correct) == (each.gap, each.rank, each.correct)
    orders = order((exam(one), exam(two))), order((exam(one[:, columns]), exam(two[:, columns])))
    assert orders[0].kendall == pytest.approx(orders[1].kendall, nan_ok=True)
    assert (orders[0].swapped, orders[0].reversed) == (orders[1].swapped, orders[1].reversed)


def test_equally_good_models_share_the_better_rank() -> None:
    correct = np.zeros((10, 4), bool)
    correct[:8, 0] = correct[:8, 1] = correct[:9, 2] = correct[:3, 3] = True
    found = model_gaps(("a", "b", "c", "d"), (exam(correct), exam(correct)), paired=False)
    assert [each.rank[0] for each in found] == [2, 2, 1, 4]


def test_an_order_turned_round_beyond_chance_is_told_from_one_by_chance() -> None:
    rng = np.random.default_rng(6)
    before, after = alike(rng, 2000, [0.9, 0.8, 0.899]), alike(rng, 2000, [0.8, 0.9, 0.801])
    found = order((exam(before), exam(after)))
    assert found.pairs == 3
    assert found.reversed >= 2 - (found.swapped < 2)
    kept = order((exam(before), exam(alike(rng, 2000, [0.85, 0.75, 0.849]))))
    assert kept.reversed == 0
    assert kept.told_apart == 2


def test_what_is_nearly_in_the_training_set_is_left_out() -> None:
    correct = np.ones((100, 1), bool)
    correct[50:, 0] = np.arange(50) % 2 == 0  # half as good where nothing is known beforehand
    before = exam(correct, dropped=np.arange(100) < 50)
    after = exam(correct[50:], dropped=np.zeros(50, bool))
    assert mean_gap((before, after), paired=False).value == pytest.approx(0.25)
    assert without_duplicates((before, after), paired=False).value == 0
    assert model_gaps(("a",), (before, after), paired=False)[0].without.value == 0
    pair = exam(correct, dropped=np.arange(100) < 50), exam(~correct, dropped=np.arange(100) >= 90)
    kept = without_duplicates(pair, paired=True)
    assert kept.value == pytest.approx(correct[50:90].mean() - (~correct)[50:90].mean())


def test_where_nothing_is_left_nothing_is_said() -> None:
    correct = np.ones((10, 1), bool)
    before = exam(correct, dropped=np.ones(10, bool))
    gap = without_duplicates((before, exam(correct, dropped=np.zeros(10, bool))), paired=False)
    assert isnan(gap.value)
    assert gap.verdict == "not measured"


def test_a_gap_of_the_class_mix_alone_vanishes_at_equal_shares() -> None:
    rng = np.random.default_rng(7)
    easy, hard = 0.95, 0.6
    sizes = (1600, 400), (400, 1600)
    exams = []
    for many, few in sizes:
        correct = np.concatenate([rng.random((many, 3)) < easy, rng.random((few, 3)) < hard])
        exams.append(exam(correct, label=np.repeat([0, 1], [many, few])))
    pair = exams[0], exams[1]
    assert mean_gap(pair, paired=False).value == pytest.approx(0.21, abs=0.03)
    gaps = class_gaps(pair, 2, paired=False)
    assert [each.label for each in gaps] == [0, 1]
    balanced = balanced_gap(gaps)
    assert balanced.verdict == "no gap shown"
    assert balanced.value == pytest.approx(np.mean([each.gap.value for each in gaps]))


def test_a_class_that_one_set_lacks_has_no_gap_but_is_listed() -> None:
    correct = np.ones((4, 2), bool)
    pair = exam(correct, label=[0, 0, 1, 1]), exam(correct, label=[0, 0, 0, 0])
    gaps = class_gaps(pair, 3, paired=False)
    assert [each.label for each in gaps] == [0, 1]
    assert gaps[1].n == (2, 0)
    assert isnan(gaps[1].gap.value)
    assert balanced_gap(gaps).value == 0
    assert isnan(balanced_gap(gaps[1:]).value)


def test_lines_are_in_shares() -> None:
    rng = np.random.default_rng(8)
    x = np.linspace(0.5, 0.95, 10)
    before, after = rng.random((20_000, 10)) < x, rng.random((20_000, 10)) < 1.5 * x - 0.5
    found = lines((exam(before), exam(after)), paired=False, seed=1)
    assert found.plain.slope == pytest.approx(1.5, abs=0.05)
    assert found.plain.intercept == pytest.approx(-0.5, abs=0.05)
    assert found.slope[0] < found.plain.slope < found.slope[1]
    assert found.over_images[0] < found.plain.slope < found.over_images[1]


def test_the_slope_over_images_covers_what_the_slope_over_few_models_does_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Forty pairs of one distribution: the true slope is 1."""
    monkeypatch.setattr("dataset_audit.testset.across.DRAWS", 200)
    rng = np.random.default_rng(9)
    inside = np.zeros(2, int)
    for draw in range(40):
        pair = exam(alike(rng, 300, MERITS)), exam(alike(rng, 200, MERITS))
        found = lines(pair, paired=False, seed=draw)
        for place, (low, high) in enumerate((found.over_images, found.slope)):
            inside[place] += low <= 1 <= high
    assert inside[0] >= 34
    assert inside[1] < inside[0]


@pytest.mark.parametrize(
    ("gap", "verdict"),
    [
        (Gap(value=0.1, low=0.01, high=0.2), "harder"),
        (Gap(value=-0.1, low=-0.2, high=-0.01), "easier"),
        (Gap(value=0.0, low=-0.1, high=0.1), "no gap shown"),
        (Gap(value=float("nan"), low=float("nan"), high=float("nan")), "not measured"),
    ],
)
def test_every_verdict(gap: Gap, verdict: str) -> None:
    assert gap.verdict == verdict


def test_equally_good_models_differ_by_luck_alone() -> None:
    rng = np.random.default_rng(10)
    alone = [reliability(exam(alike(rng, 400, [0.8] * 10))) for _ in range(40)]
    assert np.mean(alone) < 0.2
    apart = [reliability(exam(alike(rng, 400, [0.5, 0.6, 0.7, 0.8, 0.9]))) for _ in range(10)]
    assert min(apart) > 0.95


def test_the_slope_divided_by_the_reliability_is_the_true_one() -> None:
    """Models a point apart on 600 images: half of what parts them there is not found again elsewhere."""
    rng = np.random.default_rng(11)
    merits = list(np.linspace(0.76, 0.84, 12))
    plain, corrected = [], []
    for _ in range(40):
        before, after = exam(alike(rng, 600, merits)), exam(alike(rng, 3000, merits))
        plain.append(least_squares(before.correct.mean(0), after.correct.mean(0)).slope)
        corrected.append(plain[-1] / reliability(before))
    assert np.mean(plain) < 0.85
    assert np.median(corrected) == pytest.approx(1, abs=0.08)


def test_pairs_told_apart_are_those_of_mcnemars_test() -> None:
    rng = np.random.default_rng(12)
    correct = alike(rng, 300, [0.8, 0.82, 0.7, 0.7, 0.9])
    again = np.concatenate([correct, correct[:, :1]], 1)  # and one that is another's copy
    apart = 0
    for a in range(6):
        for b in range(a):
            one, other = again[:, a], again[:, b]
            apart += mcnemar(int((one & ~other).sum()), int((other & ~one).sum())) <= 0.05
    assert order((exam(again), exam(again))).told_apart == apart
