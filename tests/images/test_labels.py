"""Laws of injected label noise."""

from __future__ import annotations

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given
from numpy.typing import NDArray

from dataset_audit.errors import UsageError
from dataset_audit.images.labels import flip_labels


@st.composite
def labelled(draw: st.DrawFn) -> tuple[NDArray[np.int32], int]:
    classes = draw(st.integers(2, 7))
    return np.array(draw(st.lists(st.integers(-1, classes - 1), max_size=60)), np.int32), classes


@given(labelled(), st.floats(0, 1), st.integers(0, 5))
def test_exactly_the_share_of_the_labelled_gets_another_class(
    given_labels: tuple[NDArray[np.int32], int], fraction: float, start: int
) -> None:
    labels, classes = given_labels
    noisy, flipped = flip_labels(labels, fraction, classes, start)
    assert flipped.sum() == int(np.floor(fraction * (labels >= 0).sum() + 0.5))
    assert (noisy[flipped] != labels[flipped]).all()
    assert (noisy[~flipped] == labels[~flipped]).all()
    assert ((noisy >= 0) == (labels >= 0)).all()
    assert noisy.max(initial=-1) < classes
    assert not flipped[labels < 0].any()


@given(labelled(), st.floats(0, 1), st.floats(0, 1), st.integers(0, 5))
def test_smaller_shares_nest_in_larger_ones(
    given_labels: tuple[NDArray[np.int32], int], one: float, other: float, start: int
) -> None:
    labels, classes = given_labels
    few, few_flipped = flip_labels(labels, min(one, other), classes, start)
    many, many_flipped = flip_labels(labels, max(one, other), classes, start)
    assert not (few_flipped & ~many_flipped).any()
    assert (few[few_flipped] == many[few_flipped]).all()


def test_the_input_is_not_changed_and_the_seed_decides() -> None:
    labels = np.arange(1000, dtype=np.int32) % 10
    before = labels.copy()
    first, _ = flip_labels(labels, 0.2, 10, 1)
    assert (labels == before).all()
    assert (first == flip_labels(labels, 0.2, 10, 1)[0]).all()
    assert (first != flip_labels(labels, 0.2, 10, 2)[0]).any()


def test_every_other_class_is_equally_likely() -> None:
    noisy, _ = flip_labels(np.zeros(40_000, np.int32), 1.0, 5, 3)
    counts = np.bincount(noisy, minlength=5)
    assert counts[0] == 0
    assert np.abs(counts[1:] - 10_000).max() < 5 * np.sqrt(10_000 * 0.75)


def test_shares_outside_0_to_1_and_single_classes_are_refused() -> None:
    labels = np.zeros(10, np.int32)
    for fraction in (-0.1, 1.1, float("nan")):
        with pytest.raises(UsageError, match="outside"):
            flip_labels(labels, fraction, 2, 1)
    with pytest.raises(UsageError, match="one class"):
        flip_labels(labels, 0.5, 1, 1)
    assert not flip_labels(labels, 0.0, 1, 1)[1].any()
