"""The network as a probe: learns, repeats itself, keeps test rows out, and is trained long enough on few."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from dataset_audit.errors import UsageError
from dataset_audit.probes.classify import Fold
from dataset_audit.probes.network import LEAST_STEPS, Trained, Training, train
from dataset_audit.progress import Silent
from dataset_audit.train.batches import batch_lengths
from dataset_audit.train.recipes import RECIPES

torch.set_num_threads(1)
Pixels = NDArray[np.uint8]


def training(**changes: object) -> Training:
    recipe = replace(RECIPES["probe"], epochs=2, batch_size=16)
    made = Training(model="probe-net", recipe=recipe, device=torch.device("cpu"), least_steps=40)
    return replace(made, **changes)


def drawn(classes: int = 3, *, apart: int = 60, rows: int = 120) -> tuple[Pixels, NDArray[np.int64], Fold]:
    """Noise with, for each class, stripes of another width; rows in no order, and eight in no part."""
    random = np.random.default_rng(0)
    labels = np.resize(np.arange(classes), rows)
    pixels = random.integers(0, 190, (rows, 16, 16, 3))
    stripes = np.stack([np.arange(16) // (1 << label) % 2 for label in range(classes)])
    pixels += apart * stripes[labels][:, None, :, None]
    parts = np.split(random.permutation(rows)[: rows - 8], [rows // 2, rows * 3 // 4])
    return pixels.astype(np.uint8), labels, Fold(train=parts[0], validation=parts[1], test=parts[2])


def accuracy(trained: Trained, labels: NDArray[np.int64], fold: Fold) -> float:
    return float((trained.learned.probability.argmax(1) == labels[fold.test]).mean())


@given(st.integers(1, 5000), st.integers(2, 256), st.integers(1, 20))
def test_few_rows_get_more_epochs_until_there_are_enough_steps(rows: int, batch: int, epochs: int) -> None:
    recipe = replace(RECIPES["probe"], epochs=epochs, batch_size=batch)
    asked = training(recipe=recipe)
    found = asked.recipe_for(rows)
    steps = len(batch_lengths(rows, batch))
    assert found.epochs >= epochs
    assert found.epochs * steps >= 40
    assert found.epochs == epochs or (found.epochs - 1) * steps < 40
    assert replace(found, epochs=epochs) == recipe
    assert asked.presentations(rows) == found.epochs * rows


def test_enough_steps_are_200() -> None:
    assert LEAST_STEPS == 200
    recipe = RECIPES["probe"]
    assert Training(model="probe-net", recipe=recipe, device=torch.device("cpu")).recipe_for(64).epochs == 200
    asked = Training(model="probe-net", recipe=recipe, device=torch.device("cpu"), least_steps=0)
    assert asked.recipe_for(64).epochs == recipe.epochs


@pytest.mark.parametrize("classes", [2, 3])
def test_a_planted_texture_is_learned_and_noise_is_not(classes: int) -> None:
    pixels, labels, fold = drawn(classes)
    trained = train(pixels, labels, fold, training(), seed=1)
    assert accuracy(trained, labels, fold) > 0.85
    assert trained.learned.validation > 0.85
    pixels, labels, fold = drawn(classes, apart=0, rows=200)
    trained = train(pixels, labels, fold, training(), seed=1)
    assert accuracy(trained, labels, fold) < 1 / classes + 0.25


def test_rows_are_probabilities_in_the_order_of_the_test_rows() -> None:
    pixels, labels, fold = drawn()
    trained = train(pixels, labels, fold, training(), seed=1)
    told = trained.learned.probability
    assert told.shape == (len(fold.test), 3)
    assert told.dtype == np.float64
    assert np.allclose(told.sum(1), 1, atol=1e-12)
    turned = Fold(train=fold.train, validation=fold.validation, test=fold.test[::-1].copy())
    again = train(pixels, labels, turned, training(), seed=1)
    assert np.allclose(again.learned.probability[::-1], told, atol=1e-6)
    assert trained.learned.predict is None


def test_the_seed_decides_and_nothing_else_does() -> None:
    pixels, labels, fold = drawn(apart=20)
    one = train(pixels, labels, fold, training(), seed=1)
    torch.manual_seed(12345)
    torch.rand(7)
    reordered = Fold(train=fold.train[::-1].copy(), validation=fold.validation, test=fold.test)
    same = train(pixels, labels, reordered, training(), seed=1)
    other = train(pixels, labels, fold, training(), seed=2)
    assert np.array_equal(one.learned.probability, same.learned.probability)
    assert one.learned.validation == same.learned.validation
    assert not np.allclose(one.learned.probability, other.learned.probability, atol=1e-3)


def test_only_training_rows_are_learned_from() -> None:
    pixels, labels, fold = drawn(apart=20)
    expected = train(pixels, labels, fold, training(), seed=1).learned.probability
    kept = np.concatenate([fold.train, fold.test[:1]])
    changed, relabelled = pixels.copy(), labels.copy()
    rest = np.setdiff1d(np.arange(len(labels)), kept)
    changed[rest] = 255 - changed[rest]
    relabelled[np.setdiff1d(np.arange(len(labels)), fold.train)] = 0
    found = train(changed, relabelled, fold, training(), seed=1).learned.probability
    assert np.allclose(found[0], expected[0], atol=1e-6)
    assert not np.allclose(found[1:], expected[1:], atol=1e-3)


def test_progress_is_told_every_image_presented() -> None:
    class Told(Silent):
        done = 0

        def advance(self, done: int, **figures: float | str) -> None:
            assert done > self.done
            self.done = done

    pixels, labels, fold = drawn()
    told = Told()
    trained = train(pixels, labels, fold, training(), seed=1, progress=told)
    assert told.done == training().presentations(len(fold.train))
    assert len(trained.state.history.loss) == training().recipe_for(len(fold.train)).epochs


def test_pictures_that_are_all_black_say_nothing() -> None:
    _, labels, fold = drawn()
    told = train(np.zeros((120, 16, 16, 3), np.uint8), labels, fold, training(), seed=1).learned.probability
    assert np.isfinite(told).all()
    assert np.ptp(told, axis=0).max() < 1e-6


def test_a_model_that_is_not_known_and_weights_that_are_not_there_are_told() -> None:
    pixels, labels, fold = drawn()
    with pytest.raises(UsageError, match="near: probe-net"):
        train(pixels, labels, fold, training(model="probenet"), seed=1)
    with pytest.raises(UsageError, match="no published weights"):
        train(pixels, labels, fold, training(pretrained=True), seed=1)


@pytest.mark.parametrize("size", [4, 8, 64])
def test_the_probe_network_takes_pictures_of_one_patch_and_more(size: int) -> None:
    from dataset_audit.train.models import build

    probe = build("probe-net", classes=5, channels=3, image_size=size).eval()
    assert probe(torch.zeros(2, 3, size, size)).shape == (2, 5)
    assert probe.features(torch.zeros(2, 3, size, size)).shape == (2, 96)
    assert sum(p.numel() for p in probe.parameters()) == pytest.approx(0.2e6, rel=0.25)
