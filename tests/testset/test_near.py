"""Near-duplicates: copies that were changed are found, other pictures of the same kind are not."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from dataset_audit.testset.near import FLAT, alike, by_chance, clusters, same_images, seen, vectors

Pictures = NDArray[np.float32]


def drawn(n: int, seed: int) -> Pictures:
    """Blots on a ground that grows lighter towards the top, as under a sky."""
    rng = np.random.default_rng(seed)
    coarse = rng.normal(0, 30, (n, 8, 8)).repeat(2, 1).repeat(2, 2)
    sky = np.linspace(200, 80, 16)[None, :, None]
    return np.clip(coarse + sky, 0, 255).astype(np.float32)


def names(pictures: Pictures) -> list[str]:
    return [picture.tobytes().hex() for picture in pictures]


@pytest.mark.parametrize("change", ["none", "mirrored", "lighter", "noise", "contrast"])
def test_a_changed_copy_is_found(change: str) -> None:
    train, others = drawn(200, 1), drawn(100, 2)
    copies = train[:40].copy()
    if change == "mirrored":
        copies = copies[:, :, ::-1]
    if change == "lighter":
        copies = copies + 25
    if change == "noise":
        copies = copies + np.random.default_rng(3).normal(0, 8, copies.shape)
    if change == "contrast":
        copies = 0.6 * copies
    test = np.concatenate([copies, others]).astype(np.float32)
    found = alike(vectors(test), vectors(train))
    assert found[:40].all()
    assert not found[40:].any()


def test_a_common_sky_alone_makes_no_duplicate() -> None:
    pictures = drawn(50, 4)
    flat = pictures.reshape(50, -1)
    plain = np.corrcoef(flat)[np.triu_indices(50, 1)]
    assert plain.mean() > 0.5  # what correlation of whole pictures would say
    made = vectors(pictures)
    assert abs(float((made @ made.T)[np.triu_indices(50, 1)].mean())) < 0.05


def test_likeness_equals_correlation_by_hand() -> None:
    a, b = drawn(2, 5).astype(np.float64)
    a, b = (each - each.mean(0) - each.mean(1, keepdims=True) + each.mean() for each in (a, b))
    made = vectors(drawn(2, 5))
    expected = (a * b).sum() / np.sqrt((a**2).sum() * (b**2).sum())
    assert float(made[0] @ made[1]) == pytest.approx(expected, abs=1e-5)


def test_pictures_without_structure_are_like_nothing() -> None:
    flat = np.full((3, 16, 16), 120, np.float32)
    flat[1] += np.random.default_rng(0).normal(0, FLAT / 3, (16, 16))
    flat[2] += np.linspace(0, 90, 16)[None]  # a slope is rows or columns alone
    assert not vectors(flat).any()
    assert not alike(vectors(flat), vectors(flat)).any()
    assert clusters(vectors(flat), ["a", "b", "a"]).tolist() == [0, 1, 0]  # equal pixels all the same


def test_upside_down_nothing_is_found_but_what_looks_so_both_ways() -> None:
    pictures = vectors(drawn(60, 6))
    assert by_chance(pictures, pictures, seed=1) == 0
    striped = drawn(60, 7)
    both_ways = vectors((striped + striped[:, ::-1]).astype(np.float32))
    assert by_chance(both_ways, both_ways, seed=1) == 1


def test_a_whole_cluster_is_dropped_with_one_that_is_in_train() -> None:
    train, test = drawn(20, 8), drawn(12, 9)
    noise = np.random.default_rng(1).normal(0, 1, (3, 16, 16)).astype(np.float32)
    noise *= 0.5 * 30  # half as strong as the blots
    test[0] = train[5] + noise[0]
    test[1] = train[5] + noise[0] + noise[1]  # nearly the one before, but no longer nearly the one in train
    test[3] = test[2] + noise[2]
    test[6] = train[7]
    found = seen((vectors(test), names(test)), (vectors(train), names(train)), seed=1)
    assert found.exact.nonzero()[0].tolist() == [6]
    assert found.near.nonzero()[0].tolist() == [0, 6]
    assert found.dropped.nonzero()[0].tolist() == [0, 1, 6]
    assert found.cluster.tolist() == [0, 0, 2, 2, *range(4, 12)]


def test_without_a_training_set_only_clusters_are_known() -> None:
    test = drawn(5, 10)
    found = seen((vectors(test), names(test)), None, seed=1)
    assert not found.near.any()
    assert found.cluster.tolist() == [0, 1, 2, 3, 4]


def test_sets_are_the_same_images_only_in_the_same_order() -> None:
    pictures = drawn(80, 11)
    noisy = pictures + np.random.default_rng(2).normal(0, 25, pictures.shape).astype(np.float32)
    assert same_images(vectors(pictures), vectors(noisy))
    assert not same_images(vectors(pictures), vectors(np.roll(noisy, 1, axis=0)))
    assert not same_images(vectors(pictures), vectors(noisy[:79]))
    assert not same_images(vectors(pictures), vectors(drawn(80, 12)))


def test_a_large_set_is_searched_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    train, test = drawn(90, 14), drawn(20, 15)
    test[3], test[11] = train[0], train[89]
    whole = alike(vectors(test), vectors(train))
    monkeypatch.setattr("dataset_audit.testset.near._WIDTH", 7)
    monkeypatch.setattr("dataset_audit.testset.near._BLOCK", 6)
    assert alike(vectors(test), vectors(train)).tolist() == whole.tolist()
    assert np.flatnonzero(whole).tolist() == [3, 11]
    assert not alike(vectors(test), vectors(train)[:0]).any()


def test_pairs_beyond_one_block_are_found_and_every_image_is_counted() -> None:
    pictures = drawn(1100, 13)
    pictures[1050] = pictures[3][:, ::-1]
    pictures[600] = pictures[1050]
    counted: list[int] = []
    named = clusters(vectors(pictures), names(pictures), counted.append)
    assert np.flatnonzero(named != np.arange(1100)).tolist() == [600, 1050]
    assert named[[600, 1050]].tolist() == [3, 3]
    assert sum(counted) == 1100
