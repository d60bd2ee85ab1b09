"""From outcomes to words: every reading, the worst control, what duplicates and labels give away."""

from __future__ import annotations

from functools import partial
from itertools import permutations
from typing import get_args

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from dataset_audit.bias import findings
from dataset_audit.bias.findings import (
    READINGS,
    Headline,
    Reading,
    ceiling,
    corrected,
    headline,
    leak,
    named_facts,
    named_traces,
    source_only_auc,
    strongest,
    taken_away,
)
from dataset_audit.bias.folds import folds
from dataset_audit.bias.measure import Outcome, Trial, figures
from dataset_audit.images.facts import FACTS
from dataset_audit.probes.classify import Fold
from dataset_audit.probes.features import TRACES, thumbnail
from dataset_audit.probes.registry import PROBES, View
from dataset_audit.stats.bootstrap import cluster_bootstrap
from dataset_audit.stats.chance import least_test

Whole = NDArray[np.int64]
Told = dict[tuple[str, str], Outcome]
PICTURES = 1800


@pytest.fixture(autouse=True)
def _fewer_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    """A fifth of the redrawing: the ends of intervals move by less than anything here asks for."""
    monkeypatch.setattr(findings, "cluster_bootstrap", partial(cluster_bootstrap, draws=400))


def said(
    trial: str,
    probe: str,
    accuracy: float,
    *,
    count: int = PICTURES,
    validation: float | None = None,
    turn: int = 0,
) -> Outcome:
    """An outcome on two sources and three folds that names this share of every fold, the same rows first."""
    rows = np.arange(count)
    labels = rows % 2
    fold = np.repeat(np.arange(3), count // 3)
    place = (rows % (count // 3) + turn) % (count // 3)
    right = place < round(accuracy * (count // 3))
    named = np.where(right, labels, 1 - labels)
    probability = np.where(np.arange(2)[None, :] == named[:, None], 0.9, 0.1)
    return Outcome(
        trial=trial, probe=probe, rows=rows, labels=labels, clusters=rows, fold=fold, trained=float(count),
        probability=probability, validation=accuracy if validation is None else validation, seconds=1.0,
    )  # fmt: skip


def told(*outcomes: Outcome) -> Told:
    return {(one.trial, one.probe): one for one in outcomes}


def headed(raw: float, noise: float, header: float, together: float, count: int = PICTURES) -> Headline:
    made = told(
        said("raw", "thumbnail", raw, count=count), said("raw", "header", header, count=count),
        said("noise", "traces", noise, count=count), said("together", "hog", together, count=count),
    )  # fmt: skip
    found = headline(made, np.arange(count), 2, seed=1)
    assert found is not None
    return found


CASES: dict[str, tuple[Reading, tuple[float, float, float, float], int]] = {
    "nothing tells them apart": ("at chance", (0.5, 0.5, 0.5, 0.5), PICTURES),
    "below chance": ("at chance", (0.45, 0.5, 0.5, 0.5), PICTURES),
    "an encoder": ("explained by artefacts", (0.95, 0.9, 0.97, 0.5), PICTURES),
    "metadata alone, pixels at chance": ("explained by artefacts", (0.5, 0.5, 1.0, 0.5), PICTURES),
    "another content": ("content or capture differs", (0.95, 0.6, 0.7, 0.8), PICTURES),
    "another content in other files": ("artefacts name it at least as well", (0.9, 0.6, 0.98, 0.8), PICTURES),
    "noise says as much": ("artefacts name it at least as well", (0.9, 0.9, 0.5, 0.8), PICTURES),
    "too few": ("cannot tell", (0.95, 0.9, 0.97, 0.5), 240),
    "a little is left": ("cannot tell", (0.95, 0.6, 0.7, 0.53), PICTURES),
}


@pytest.mark.parametrize("case", CASES)
def test_every_reading_comes_from_its_figures(case: str) -> None:
    reading, accuracies, count = CASES[case]
    found = headed(*accuracies, count=count)
    assert found.reading == reading
    assert found.enough == (least_test(2, 0.05) if reading == "cannot tell" else None)


def test_every_reading_is_made_here_and_has_its_words() -> None:
    assert {reading for reading, _, _ in CASES.values()} == set(READINGS) == set(get_args(Reading))


def test_excess_is_over_the_worst_control_and_negative_values_stay() -> None:
    found = headed(0.9, 0.6, 0.7, 0.8)
    assert (found.strongest, found.worst) == ("thumbnail", "header")
    assert found.excess.value == pytest.approx(0.8 - 0.4, abs=0.003)
    assert found.floor.bias == pytest.approx(0.4, abs=0.003)
    assert found.excess.low < found.excess.value < found.excess.high
    other = headed(0.8, 0.95, 0.7, 0.8)
    assert other.worst == "noise"
    assert other.excess.value == pytest.approx(0.6 - 0.9, abs=0.003)
    assert other.excess.high < 0
    assert other.surviving.value == pytest.approx(0.6, abs=0.003)
    assert other.surviving_probe == "hog"
    assert other.figures.accuracy == pytest.approx(0.8, abs=0.002)


def test_one_floor_is_enough_and_none_gives_no_headline() -> None:
    raw, together = said("raw", "thumbnail", 0.9), said("together", "hog", 0.7)
    header, noise = said("raw", "header", 0.6), said("noise", "hog", 0.8)
    clusters = np.arange(PICTURES)
    for floor, name in ((header, "header"), (noise, "noise")):
        found = headline(told(raw, together, floor), clusters, 2, 1)
        assert found is not None
        assert found.worst == name
    assert headline(told(raw, together), clusters, 2, 1) is None
    assert headline(told(raw, header, noise), clusters, 2, 1) is None
    assert headline(told(together, header, noise), clusters, 2, 1) is None


def test_the_interval_keeps_pictures_paired_and_draws_whole_clusters() -> None:
    alike = headed(0.8, 0.5, 0.8, 0.5)  # right on the same pictures: the difference is always nothing
    assert (alike.excess.low, alike.excess.value, alike.excess.high) == (0, 0, 0)
    made = told(
        said("raw", "thumbnail", 0.8), said("raw", "header", 0.8, turn=400), said("together", "hog", 0.7)
    )
    apart = headline(made, np.arange(PICTURES), 2, 1)
    copies = headline(made, np.arange(PICTURES) // 40, 2, 1)
    assert apart is not None
    assert copies is not None
    assert apart.excess.value == pytest.approx(0, abs=1e-9)
    assert apart.excess.low < -0.03
    assert copies.excess.high - copies.excess.low > 3 * (apart.excess.high - apart.excess.low)
    # pictures err independently here: 2 * 1.96 * sqrt(0.7 * 0.3 / 1800) each way
    assert apart.surviving.high - 0.4 == pytest.approx(2 * 1.96 * (0.21 / PICTURES) ** 0.5, rel=0.15)


def test_the_strongest_probe_is_chosen_by_validation_alone() -> None:
    lucky = said("raw", "thumbnail", 0.99, validation=0.6)
    solid = said("raw", "hog", 0.7, validation=0.65)
    assert strongest(told(lucky, solid), "raw") is solid
    worse = said("raw", "hog", 0.5, validation=0.65)  # whatever it did on test rows
    assert strongest(told(lucky, worse), "raw") is worse


@pytest.mark.parametrize("order", list(permutations(["mean-rgb", "hog", "network"])))
def test_of_equals_the_cheapest_probe_is_the_strongest(order: tuple[str, ...]) -> None:
    made = told(*(said("raw", name, 0.7, validation=0.8) for name in order))
    found = strongest(made, "raw")
    assert found is not None
    assert found.probe == "mean-rgb"


def test_the_probe_of_files_takes_part_only_where_asked() -> None:
    made = told(said("raw", "header", 0.9), said("raw", "hog", 0.7), said("noise", "hog", 0.95))
    assert strongest(made, "raw") is made["raw", "hog"]
    assert strongest(made, "raw", facts=True) is made["raw", "header"]
    assert strongest(made, "recode") is None
    assert strongest(told(said("raw", "header", 0.9)), "raw") is None


def test_a_control_names_its_artefact_where_half_of_the_bias_goes_with_it() -> None:
    made = told(
        said("raw", "traces", 0.9), said("recode", "hog", 0.52), said("photometric", "hog", 0.88),
        said("centre", "hog", 0.68), said("border", "hog", 0.5), said("together", "hog", 0.5),
    )  # fmt: skip
    named = taken_away(made)
    assert [name for name, _ in named] == ["recode", "centre"]
    assert [gone for _, gone in named] == pytest.approx([0.95, 0.55], abs=0.005)
    made["raw", "traces"] = said("raw", "traces", 0.505)
    assert taken_away(made) == []  # nothing to take away
    assert taken_away({}) == []


def test_holm_over_the_nulls() -> None:
    nulls = [figures(said("permuted", "hog", share, count=30)) for share in (0.8, 0.5, 0.5)]
    ps = [null.p for null in nulls]
    assert corrected(nulls) == pytest.approx([min(1, 3 * ps[0]), min(1, 2 * ps[1]), min(1, 2 * ps[1])])
    assert corrected([]) == []


def test_two_identical_sets_have_a_ceiling_of_one_half() -> None:
    labels = np.repeat([0, 1], 50)
    assert ceiling(np.tile(np.arange(50), 2), labels, 2) == (100, 0.5)


def test_a_tenth_shared_leaves_a_ceiling_of_95_percent() -> None:
    labels = np.repeat([0, 1], 50)
    clusters = np.arange(100)
    clusters[50:55] = clusters[:5]
    assert ceiling(clusters, labels, 2) == (10, 0.95)


def test_without_copies_across_sources_the_ceiling_is_one() -> None:
    labels = np.repeat([0, 1, 2], 40)
    assert ceiling(np.arange(120), labels, 3) == (0, 1.0)
    assert ceiling(np.arange(120) // 4, labels, 3) == (0, 1.0)  # copies within are no obstacle


@given(st.integers(0, 2**32 - 1), st.integers(2, 4), st.integers(1, 30))
def test_no_guess_by_cluster_beats_the_ceiling_and_one_reaches_it(
    seed: int, sources: int, names: int
) -> None:
    rng = np.random.default_rng(seed)
    clusters, labels = rng.integers(0, names, 60) * 3, rng.integers(0, sources, 60)
    across, best = ceiling(clusters, labels, sources)
    right = shared = 0
    for name in set(clusters.tolist()):
        held = labels[clusters == name].tolist()
        right += max(held.count(source) for source in range(sources))
        shared += len(held) if len(set(held)) > 1 else 0
    assert best == pytest.approx(right / 60)
    assert across == shared


def trial(labels: Whole, clusters: Whole, pixels: NDArray[np.uint8]) -> Trial:
    count = len(labels)
    facts = np.ones((count, len(FACTS)), np.float32)
    traces = np.zeros((count, sum(TRACES.values())), np.float32)
    return Trial(
        name="raw", view=View(facts=facts, pixels=pixels, traces=traces), labels=labels, clusters=clusters,
        rows=np.arange(count), folds=folds(labels, clusters, 3, 1), probes=tuple(PROBES),
    )  # fmt: skip


def drawn(count: int, copies: int, seed: int = 0) -> Trial:
    """Pictures of noise in two sources, of which the last ``copies`` of each are others of it, a little brighter."""
    rng = np.random.default_rng(seed)
    pixels = rng.integers(0, 250, (2 * count, 64, 64, 3), dtype=np.uint8)
    clusters = np.arange(2 * count)
    for source in range(2):
        for row in range(copies):
            copy = source * count + count - 1 - row
            pixels[copy] = pixels[source * count + row] + np.uint8(3)
            clusters[copy] = source * count + row
    return trial(np.repeat([0, 1], count), clusters, pixels)


def by_row(one: Trial) -> list[Fold]:
    return folds(one.labels, np.arange(len(one.labels)), 3, 1)


def test_planted_copies_leak_through_a_split_by_picture_alone() -> None:
    one = drawn(90, 36)  # 80 % of the pictures have a copy
    found = leak(one, by_row(one))
    assert found.straddling > 0.4
    assert found.points > 0.15
    assert found.points == pytest.approx(
        found.straddling / 2, abs=0.12
    )  # a copy is right, others half of the time
    assert abs(found.by_cluster - 0.5) < 0.15


def test_without_copies_nothing_leaks() -> None:
    points = []
    for seed in range(3):
        one = drawn(60, 0, seed)
        found = leak(one, by_row(one))
        assert found.straddling == 0
        points.append(found.points)
        assert found.by_row == found.by_cluster  # the same folds, since every cluster is a picture
    assert points == [0, 0, 0]


def test_the_nearest_neighbour_is_the_nearest() -> None:
    rng = np.random.default_rng(1)
    labels = np.repeat([0, 1], 30)
    base = rng.integers(0, 2, 60)  # dark or bright, whatever the source
    pixels = (100 * base[:, None, None, None] + rng.integers(0, 60, (60, 64, 64, 3))).astype(np.uint8)
    one = trial(labels, np.arange(60), pixels)
    small = thumbnail(pixels).astype(np.float64)
    shares = []
    for fold in one.folds:
        nearest = [fold.train[((small[fold.train] - small[row]) ** 2).sum(1).argmin()] for row in fold.test]
        shares.append(np.mean(labels[nearest] == labels[fold.test]))
    assert leak(one, one.folds).by_cluster == pytest.approx(np.mean(shares))


def test_labels_from_sources_by_hand() -> None:
    labels = np.array([0, 0, 0, 1, 0, 1, 1, 1, -1, -1])
    source = np.array([0, 0, 0, 0, 1, 1, 1, 1, 0, 1])
    # of 16 pairs of a 0 and another, 9 have the 0 in the source with more zeros, 6 are in one source
    assert source_only_auc(labels, source) == [(0, 0.75), (1, 0.75)]


def test_labels_that_lie_in_one_source_are_known_by_it_and_even_ones_are_not() -> None:
    labels, source = np.array([0, 0, 2, 1, 1, 2]), np.array([0, 0, 0, 1, 1, 1])
    found = dict(source_only_auc(labels, source))
    assert found == {0: pytest.approx(0.875), 1: pytest.approx(0.875), 2: 0.5}
    order = [auc for _, auc in source_only_auc(labels, source)]
    assert order == sorted(order, reverse=True)
    assert dict(source_only_auc(np.array([0, 0, 1, 1]), np.array([0, 0, 1, 1]))) == {0: 1.0, 1: 1.0}


def test_a_single_class_and_no_labels_say_nothing() -> None:
    assert source_only_auc(np.zeros(6, np.int64), np.array([0, 0, 0, 1, 1, 1])) == []
    assert source_only_auc(np.full(6, -1), np.array([0, 0, 0, 1, 1, 1])) == []


def test_the_fact_and_the_trace_that_differ_are_named() -> None:
    rng = np.random.default_rng(0)
    labels = np.repeat([0, 1], 60)
    one = trial(labels, np.arange(120), np.zeros((120, 64, 64, 3), np.uint8))
    facts, traces = one.view.facts, one.view.traces
    facts[:, 0] = rng.integers(300, 500, 120)
    facts[:, 7] = np.nan
    facts[:, 11] = labels
    traces[:] = rng.normal(0, 1, traces.shape)
    start = 64 + 64 + 16
    traces[:, start] += 9 * labels
    named = named_facts(one, seed=1)
    assert [fact.name for fact in named] == ["EXIF"]
    assert named[0].alone == 1
    groups = named_traces(one, seed=1)
    assert groups[0][0] == "residual noise"
    assert groups[0][1] > 0.95
    assert {name for name, _ in groups} == set(TRACES)
    assert all(accuracy < 0.8 for _, accuracy in groups[1:])
