"""What each control holds fixed or takes away, and when it cannot be made."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from dataset_audit.bias.controls import CONTROLS, Bench, matched_rows, raw, shared_classes
from dataset_audit.bias.folds import folds
from dataset_audit.bias.measure import Trial
from dataset_audit.bias.stock import LEAST, Source, Stock
from dataset_audit.bias.views import VIEWS, Seen
from dataset_audit.errors import DataError
from dataset_audit.images.facts import FACTS
from dataset_audit.images.opened import ArraySource, ImageDataset
from dataset_audit.probes.features import TRACES
from dataset_audit.probes.registry import PROBES, View

Whole = NDArray[np.int64]
NAMES = ("ant", "bee", "cow", "dog")


def bench(
    sizes: Sequence[int],
    *,
    clusters: Whole | None = None,
    facts: NDArray[np.float32] | None = None,
    classes: Sequence[Sequence[str | None]] | None = None,
    **more: Any,
) -> Bench:
    """A bench of sources of these numbers of pictures; of a picture only facts, cluster and class matter here."""
    total = sum(sizes)
    sources = []
    for number, size in enumerate(sizes):
        mine = classes[number] if classes is not None else [None] * size
        listed = sorted({name for name in mine if name is not None}, reverse=bool(number % 2))
        labels = [-1 if name is None else listed.index(name) for name in mine]
        dataset = ImageDataset(
            spec=f"sets/{NAMES[number]}", name=NAMES[number], labels=np.array(labels, np.int32),
            class_names=tuple(listed), source=ArraySource(np.zeros((1, 1, 1, 3), np.uint8)),
        )  # fmt: skip
        sources.append(Source(name=NAMES[number], dataset=dataset, rows=np.arange(size)))
    stock = Stock(
        sources=tuple(sources), source=np.repeat(np.arange(len(sizes)), sizes),
        index=np.concatenate([np.arange(size) for size in sizes]), place=np.zeros(total, np.int64),
        uid=[None] * total, facts=[None] * total, status=["ok"] * total, error=[None] * total,
    )  # fmt: skip
    if facts is None:
        facts = np.ones((total, len(FACTS)), np.float32)
    pixels = np.arange(total, dtype=np.uint8)[:, None, None, None] * np.ones((1, 64, 64, 3), np.uint8)
    view = View(facts=facts, pixels=pixels, traces=np.zeros((total, sum(TRACES.values())), np.float32))
    given_: dict[str, Any] = {
        "stock": stock, "resamplings": 3, "seed": 1, "probes": tuple(PROBES),
        "seen": Seen(views=dict.fromkeys(VIEWS, view), hashes=[""] * total, grey=np.zeros((total, 32, 32), np.float32)),
        "clusters": np.arange(total) if clusters is None else clusters,
    }  # fmt: skip
    return Bench(**given_ | more)


def made(name: str, of: Bench) -> list[Trial]:
    return CONTROLS[name].trials(of)


@st.composite
def clusterings(draw: st.DrawFn) -> tuple[list[int], Whole]:
    """Two to four sources of one size, with duplicates in and across them."""
    sizes = [draw(st.integers(60, 120))] * draw(st.integers(2, 4))
    total = sum(sizes)
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    clusters = np.arange(total)
    copied = rng.random(total) < draw(st.floats(0, 0.4))
    clusters[copied] = clusters[rng.integers(0, total, int(copied.sum()))]
    return sizes, clusters


@given(clusterings())
def test_self_split_cuts_whole_clusters_into_equal_parts(drawn: tuple[list[int], Whole]) -> None:
    sizes, clusters = drawn
    one = bench(sizes, clusters=clusters)
    trials = made("self-split", one)
    for trial in trials:
        name = trial.name.removeprefix("self-split ")
        number = one.stock.names.index(name)
        assert trial.rows.tolist() == np.flatnonzero(one.stock.source == number).tolist()
        parts = np.bincount(trial.labels, minlength=len(sizes))
        assert len(parts) == len(sizes)
        largest = max(Counter(trial.clusters.tolist()).values())
        assert parts.max() - parts.min() <= largest
        assert parts.max() <= 1.1 * parts.min()
        holding = {(cluster, label) for cluster, label in zip(trial.clusters, trial.labels, strict=True)}
        assert len(holding) == len(set(trial.clusters.tolist()))  # a cluster is in one part
        assert trial.probes == tuple(probe for probe in PROBES if PROBES[probe].learn is not None)
    assert len({trial.name for trial in trials}) == len(trials)


def test_every_source_is_split_and_into_drawn_parts() -> None:
    trials = made("self-split", bench([90, 90, 90]))
    assert [trial.name for trial in trials] == ["self-split ant", "self-split bee", "self-split cow"]
    for trial in trials:
        assert np.bincount(trial.labels).tolist() == [30, 30, 30]
        assert trial.labels[:30].std() > 0.3  # not the head of the listing
        assert abs(np.flatnonzero(trial.labels == 0).mean() - 44.5) < 20
    assert not np.array_equal(trials[0].labels, trials[1].labels)
    again = made("self-split", bench([90, 90, 90]))
    assert np.array_equal(trials[2].labels, again[2].labels)
    other = made("self-split", bench([90, 90, 90], seed=2))
    assert not np.array_equal(trials[2].labels, other[2].labels)


def test_a_large_cluster_does_not_make_a_part_larger_than_the_others() -> None:
    clusters = np.arange(200)
    clusters[:40] = 0  # 40 of ant's 100 pictures are one
    ant, bee = made("self-split", bench([100, 100], clusters=clusters))
    assert np.bincount(ant.labels).tolist() == [50, 50]
    assert np.bincount(bee.labels).tolist() == [50, 50]


def test_a_source_that_cannot_be_cut_equally_or_is_too_small_is_not_split() -> None:
    clusters = np.arange(200)
    clusters[:70] = 0
    assert [trial.name for trial in made("self-split", bench([100, 100], clusters=clusters))] == [
        "self-split bee"
    ]
    assert made("self-split", bench([19, 19])) == []  # a part of nine
    assert len(made("self-split", bench([20, 20]))) == 2
    assert made("self-split", bench([LEAST] * 4)) == []


@given(clusterings())
def test_permuted_keeps_the_number_of_each_label_and_the_duplicates_together(
    drawn: tuple[list[int], Whole],
) -> None:
    sizes, clusters = drawn
    one = bench(sizes, clusters=clusters)
    (trial,) = made("permuted", one)
    assert np.bincount(trial.labels).tolist() == sizes
    for cluster in np.unique(clusters):
        mine = np.flatnonzero(clusters == cluster)
        if len(mine) == 1:
            continue
        whole = len(set(one.stock.source[mine].tolist())) == 1
        size = [other for other in np.unique(clusters) if (clusters == other).sum() == len(mine)]
        pure = all(len(set(one.stock.source[clusters == other].tolist())) == 1 for other in size)
        if whole and pure:
            assert len(set(trial.labels[mine].tolist())) == 1
    assert len(trial.folds) == 1
    assert trial.probes == tuple(PROBES)
    apart = (trial.labels != one.stock.source).mean()
    assert abs(apart - (1 - 1 / len(sizes))) < 0.3


def slow_cells(facts: NDArray[np.float32]) -> list[tuple[int, int, int]]:
    return [
        (
            int(np.floor(np.log(row[2]) / np.log(1.25))),
            int(np.floor(np.log(row[3]) / np.log(1.1))),
            int(np.floor(np.log(max(row[4], 1e-6)) / np.log(1.25))),
        )
        for row in facts
    ]


@st.composite
def headers(draw: st.DrawFn) -> NDArray[np.float32]:
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    facts = np.full((240, len(FACTS)), np.nan, np.float32)
    facts[:, 2] = rng.choice([100, 150, 220, 400], 240)
    facts[:, 3] = rng.choice([0.75, 1, 1.5], 240)
    facts[:, 4] = rng.choice([0, 0.3, 1.2, 3], 240)
    facts[:80, 2] = np.where(rng.random(80) < draw(st.floats(0, 1)), 100, facts[:80, 2])
    return facts


@given(headers())
def test_matched_has_as_many_of_every_source_in_every_cell_and_no_fewer_than_it_could(
    facts: NDArray[np.float32],
) -> None:
    one = bench([80, 80, 80], facts=facts)
    rows = matched_rows(one)
    assert rows.tolist() == sorted(set(rows.tolist()))
    cells = slow_cells(facts)
    there = Counter((cells[row], int(one.stock.source[row])) for row in range(240))
    kept = Counter((cells[row], int(one.stock.source[row])) for row in rows)
    for cell in set(cells):
        assert {kept[cell, source] for source in range(3)} == {
            min(there[cell, source] for source in range(3))
        }
    trials = made("matched", one)
    if len(rows) < 3 * LEAST:
        assert trials == []
    else:
        assert trials[0].rows.tolist() == rows.tolist()
        assert trials[0].labels.tolist() == one.stock.source[rows].tolist()
        assert len(set(np.bincount(trials[0].labels).tolist())) == 1
        assert np.array_equal(trials[0].view.pixels, one.seen.views["raw"].pixels[rows])


def test_sources_of_other_sizes_share_no_cell() -> None:
    facts = np.ones((120, len(FACTS)), np.float32)
    facts[60:, 2] = 900
    one = bench([60, 60], facts=facts)
    assert len(matched_rows(one)) == 0
    assert made("matched", one) == []


def test_which_pictures_of_a_cell_are_taken_is_drawn() -> None:
    facts = np.ones((160, len(FACTS)), np.float32)
    facts[80:120, 2] = 900  # half of bee has another size
    rows = matched_rows(bench([80, 80], facts=facts))
    ant, bee = rows[rows < 80], rows[rows >= 80]
    assert bee.tolist() == list(range(120, 160))
    assert len(ant) == 40
    assert ant.tolist() != list(range(40))
    assert not np.array_equal(rows, matched_rows(bench([80, 80], facts=facts, seed=2)))


def test_matching_classes_has_as_many_of_every_source_in_every_shared_class() -> None:
    kinds: list[Sequence[str | None]] = [
        ["car"] * 50 + ["cat"] * 30 + ["owl"] * 10,
        ["cat"] * 45 + ["car"] * 35 + [None] * 10,  # numbered the other way round
    ]
    one = bench([90, 90], classes=kinds)
    assert shared_classes(one.stock) == ["car", "cat"]
    (trial,) = made("classes", one)
    names = one.stock.class_names()
    kept = Counter((names[row], int(label)) for row, label in zip(trial.rows, trial.labels, strict=True))
    assert kept == {("car", 0): 35, ("car", 1): 35, ("cat", 0): 30, ("cat", 1): 30}
    assert trial.labels.tolist() == one.stock.source[trial.rows].tolist()


@pytest.mark.parametrize(
    "kinds",
    [
        [["car"] * 60, ["cat"] * 60],
        [["car"] * 60, [None] * 60],
        [["car"] * 20 + ["owl"] * 40, ["car"] * 60],
    ],
    ids=["none shared", "no labels", "too few"],
)
def test_classes_cannot_be_matched_where_too_few_are_shared(kinds: Sequence[Sequence[str | None]]) -> None:
    assert made("classes", bench([60, 60], classes=kinds)) == []


@pytest.mark.parametrize("name", ["noise", "recode", "photometric", "centre", "border", "together"])
def test_a_view_is_shown_on_the_same_pictures_and_folds_as_the_pictures_themselves(name: str) -> None:
    one = bench([40, 40, 40])
    (trial,) = made(name, one)
    whole = raw(one)
    assert trial.name == name
    assert trial.labels.tolist() == whole.labels.tolist()
    assert trial.rows.tolist() == list(range(120))
    for fold, same in zip(trial.folds, whole.folds, strict=True):
        assert fold.test.tolist() == same.test.tolist()
        assert fold.train.tolist() == same.train.tolist()
    assert "header" not in trial.probes
    assert ("network" in trial.probes) == CONTROLS[name].network
    assert ("traces" in trial.probes) == VIEWS[name].traces
    (everywhere,) = made(name, bench([40, 40, 40], everywhere=True))
    assert "network" in everywhere.probes


def test_the_pictures_themselves_meet_every_probe() -> None:
    trial = raw(bench([40, 40]))
    assert (trial.name, trial.probes, trial.classes) == ("raw", tuple(PROBES), 2)
    assert len(trial.folds) == 3


def test_a_source_of_the_same_picture_over_and_over_is_refused_by_name() -> None:
    clusters = np.arange(100)
    clusters[50:] = 50
    one = bench([50, 50], clusters=clusters)
    with pytest.raises(DataError, match="bee has 50 images, of which 1 is different") as caught:
        raw(one)
    assert caught.value.where == "sets/bee"
    assert caught.value.id == "E-few"


@given(clusterings(), st.integers(1, 8))
def test_every_trial_has_something_to_learn_of_every_label(drawn: tuple[list[int], Whole], few: int) -> None:
    sizes, clusters = drawn
    clusters[: sizes[0]] = np.arange(sizes[0]) % few  # the first source is a few pictures over and over
    one = bench(sizes, clusters=clusters)
    for name in CONTROLS:
        if CONTROLS[name].role != "null":
            continue
        for trial in made(name, one):
            for fold in trial.folds:
                assert set(trial.labels[fold.train].tolist()) == set(range(len(sizes)))
    try:
        trial = raw(one)
    except DataError:
        assert few < 5
        return
    assert all(len(set(trial.labels[fold.train].tolist())) == len(sizes) for fold in trial.folds)


def test_controls_have_the_folds_that_the_bench_says() -> None:
    one = bench([60, 60], resamplings=5, seed=9)
    wanted = folds(one.stock.source, one.clusters, 5, 9)
    assert [fold.test.tolist() for fold in raw(one).folds] == [fold.test.tolist() for fold in wanted]
    assert len(made("self-split", one)[0].folds) == 5
