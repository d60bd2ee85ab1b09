"""The dictionary of probes: every entry runs on a view, sees only what it says, and learns what is planted."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from dataset_audit.images.facts import FACTS
from dataset_audit.probes.classify import Fold
from dataset_audit.probes.features import TRACES
from dataset_audit.probes.registry import PROBES, View

WITHOUT_NETWORK = [name for name, probe in PROBES.items() if probe.vectors is not None]
LENGTHS = {
    "header": len(FACTS), "mean-rgb": 3, "histogram": 48, "thumbnail": 3072, "hog": 1764,
    "traces": sum(TRACES.values()),
}  # fmt: skip
FIELDS = ("facts", "pixels", "traces")


def view(labels: NDArray[np.int64]) -> View:
    """Every part of the view gives the class away: a fact, colour and stripes, a trace."""
    random = np.random.default_rng(0)
    count = len(labels)
    pixels = random.integers(0, 100, (count, 64, 64, 3))
    pixels += (labels[:, None, None, None] * 60) * (np.arange(64) % 8 < 4)[None, None, :, None]
    facts = random.normal(size=(count, len(FACTS))).astype(np.float32)
    traces = random.normal(size=(count, sum(TRACES.values()))).astype(np.float32)
    facts[:, 2] += 5 * labels
    traces[:, 20:60] += labels[:, None]
    return View(facts=facts, pixels=pixels.astype(np.uint8), traces=traces)


def vectors(name: str, shown: View) -> NDArray[np.float32]:
    make = PROBES[name].vectors
    assert make is not None
    return make(shown)


def test_the_cheapest_probe_stands_first_and_the_network_last() -> None:
    assert [*PROBES] == [*LENGTHS, "network"]
    assert [name for name, probe in PROBES.items() if probe.learn is None] == ["network"]
    assert all(probe.about for probe in PROBES.values())


@pytest.mark.parametrize("name", WITHOUT_NETWORK)
@pytest.mark.parametrize("count", [0, 1, 300])
def test_a_probe_makes_one_finite_vector_of_each_picture_alone(name: str, count: int) -> None:
    shown = view(np.arange(count) % 2)
    found = vectors(name, shown)
    assert found.shape == (count, LENGTHS[name])
    assert found.dtype == np.float32
    assert np.isfinite(found).all()
    if count > 1:
        rows = np.array([299, 7, 256])
        assert np.allclose(vectors(name, shown.only(rows)), found[rows], atol=1e-6)


@pytest.mark.parametrize("name", WITHOUT_NETWORK)
def test_a_probe_sees_what_it_says_and_nothing_else(name: str) -> None:
    shown = view(np.arange(6) % 2)
    before = vectors(name, shown).copy()
    for field in FIELDS:
        other = replace(shown, **{field: getattr(shown, field)[::-1] + np.uint8(3)})
        assert np.array_equal(vectors(name, other), before) == (field != PROBES[name].sees), field


@pytest.mark.parametrize("name", WITHOUT_NETWORK)
def test_a_probe_learns_what_is_planted_where_it_looks(name: str) -> None:
    labels = np.arange(160) % 2
    rows = np.random.default_rng(1).permutation(160)
    fold = Fold(train=rows[:80], validation=rows[80:120], test=rows[120:])
    learn = PROBES[name].learn
    assert learn is not None
    told = learn(vectors(name, view(labels)), labels, fold, 2, 1).probability
    assert (told.argmax(1) == labels[fold.test]).mean() > 0.9


def test_some_of_a_view_are_those_rows_of_every_part() -> None:
    shown, rows = view(np.arange(5) % 2), np.array([4, 0])
    for field in FIELDS:
        assert np.array_equal(getattr(shown.only(rows), field), getattr(shown, field)[rows])
