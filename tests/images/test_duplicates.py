"""The same picture twice: copies are found, other pictures are not, and clusters are those of a slow search."""

from __future__ import annotations

import io
import math
from collections.abc import Callable
from functools import cache
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from dataset_audit.images.duplicates import clusters, perceptual_hash, pixel_hash
from dataset_audit.probes.features import area, luma
from dataset_audit.train.batches import fit_to

Pixels = NDArray[np.uint8]
Grey = NDArray[np.float32]
SEEDS = st.integers(0, 2**32 - 1)
HEIGHT, WIDTH = 120, 160
BASIS = np.array([[math.cos(math.pi * (2 * x + 1) * u / 64) for x in range(32)] for u in range(8)])


def texture(seed: int) -> Pixels:
    """A coloured picture whose spectrum falls as 1/f, as of photographs, uint8[HEIGHT, WIDTH, 3]."""
    random = np.random.default_rng(seed)
    radius = np.hypot(np.fft.fftfreq(HEIGHT)[:, None], np.fft.rfftfreq(WIDTH)[None, :])
    radius[0, 0] = np.inf
    waves = np.fft.irfft2(np.fft.rfft2(random.normal(size=(4, HEIGHT, WIDTH))) / radius, s=(HEIGHT, WIDTH))
    picture = np.stack([waves[0] + 0.4 * own for own in waves[1:]], axis=2)
    scaled = random.uniform(90, 160) + random.uniform(20, 45) * picture / picture.std()
    return np.clip(np.rint(scaled), 0, 255).astype(np.uint8)


def small(picture: Pixels) -> Grey:
    """The grey copy that is compared: the middle square at 64 pixels, then the mean of each 2x2."""
    return np.asarray(luma(area(fit_to(picture, (64, 64))[None], 32))[0], np.float32)


def halved(picture: Pixels) -> Pixels:
    size = (picture.shape[1] // 2, picture.shape[0] // 2)
    return np.asarray(Image.fromarray(picture).resize(size, Image.Resampling.LANCZOS))


def encoded(picture: Pixels) -> Pixels:
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "JPEG", quality=50)
    return np.asarray(Image.open(file))


def mirrored(picture: Pixels) -> Pixels:
    return np.ascontiguousarray(picture[:, ::-1])


def brighter(picture: Pixels) -> Pixels:
    return np.clip(picture.astype(int) + 10, 0, 255).astype(np.uint8)


def joined(pictures: list[Pixels]) -> list[int]:
    found = clusters(np.stack([small(each) for each in pictures]), [pixel_hash(each) for each in pictures])
    assert found.dtype == np.int64
    return found.tolist()


def varied(seed: int, count: int = 18) -> Grey:
    """Small grey pictures of which many are nearly, barely or not quite copies of another, some mirrored or flat."""
    random = np.random.default_rng(seed)
    pictures: list[NDArray[np.float64]] = []
    for _ in range(count):
        fresh = ndimage.gaussian_filter(random.normal(size=(32, 32)), random.uniform(1, 6), mode="wrap")
        fresh *= random.choice([0.5, 4, 40]) / fresh.std()
        if pictures and random.random() < 0.6:
            noise = ndimage.gaussian_filter(random.normal(size=(32, 32)), 1.5)
            base = pictures[random.integers(len(pictures))]
            base = base[:, ::-1] if random.random() < 0.5 else base
            fresh = base + noise / noise.std() * base.std() * random.uniform(0, 0.3)
        pictures.append(fresh)
    return np.stack(pictures).astype(np.float32) + np.float32(128)


# -- the slow versions -------------------------------------------------------------------------------------


@cache  # every picture is asked for once per pair
def slow_bits(pixels: bytes) -> list[bool]:
    grey = np.frombuffer(pixels).reshape(32, 32)
    low = [float((np.outer(BASIS[v], BASIS[u]) * grey).sum()) for v in range(8) for u in range(8)]
    low = [value * 2 ** -((number < 8) / 2 + (number % 8 == 0) / 2) for number, value in enumerate(low)][1:]
    middle = sorted(low)[31]
    return [value > middle for value in low]


def slow_near(one: NDArray[np.float64], other: NDArray[np.float64]) -> bool:
    distance = sum(x != y for x, y in zip(slow_bits(one.tobytes()), slow_bits(other.tobytes()), strict=True))
    return distance <= 8 and np.corrcoef(one.ravel(), other.ravel())[0, 1] >= 0.97


def slow_duplicates(one: NDArray[np.float64], other: NDArray[np.float64]) -> bool:
    if min(one.std(), other.std()) < 3:
        return False
    return slow_near(one, other) or slow_near(one[:, ::-1], other) or slow_near(one, other[:, ::-1])


def slow_clusters(grey: Grey, hashes: list[str]) -> list[int]:
    least = list(range(len(grey)))
    wide = grey.astype(np.float64)
    for i, j in combinations(least[:], 2):
        if hashes[i] == hashes[j] or slow_duplicates(wide[i], wide[j]):
            old, new = max(least[i], least[j]), min(least[i], least[j])
            least = [new if name == old else name for name in least]
    return least


def partition(names: NDArray[np.int64]) -> set[frozenset[int]]:
    return {frozenset(np.flatnonzero(names == name).tolist()) for name in names}


# -- hashes ------------------------------------------------------------------------------------------------


@given(SEEDS)
def test_a_perceptual_hash_is_which_low_frequencies_exceed_their_median(seed: int) -> None:
    grey = varied(seed, 2)
    for picture, found in zip(grey, perceptual_hash(grey), strict=True):
        expected = slow_bits(picture.astype(np.float64).tobytes())
        assert [bool(int(found) >> bit & 1) for bit in range(64)] == [*expected, False]
        assert sum(expected) == 31


@given(SEEDS, st.floats(0.3, 3), st.floats(-90, 90))
def test_a_perceptual_hash_knows_no_brightness_and_no_contrast(seed: int, gain: float, offset: float) -> None:
    grey = varied(seed, 2)
    changed = (grey - 128) * np.float32(gain) + np.float32(offset)
    assert np.bitwise_count(perceptual_hash(grey) ^ perceptual_hash(changed)).max() <= 1


@given(SEEDS, st.integers(1, 200), st.integers(1, 200), st.integers(1, 254))
def test_a_pixel_hash_changes_with_any_one_value(seed: int, height: int, width: int, by: int) -> None:
    random = np.random.default_rng(seed)
    pixels = random.integers(0, 256, (height, width, 3), dtype=np.uint8)
    changed = pixels.copy()
    place = tuple(random.integers(pixels.shape))
    changed[place] = (int(changed[place]) + by) % 256
    assert pixel_hash(pixels) == pixel_hash(pixels.copy()) != pixel_hash(changed)


def test_a_pixel_hash_knows_the_shape_and_not_the_layout_in_memory() -> None:
    pixels = np.zeros((6, 4, 3), np.uint8)
    shapes = [(6, 4, 3), (4, 6, 3), (24, 1, 3), (6, 12, 1)]
    assert len({pixel_hash(pixels.reshape(shape)) for shape in shapes}) == 4
    picture = texture(0)
    assert pixel_hash(picture[:, ::-1]) == pixel_hash(mirrored(picture)) != pixel_hash(picture)


# -- clusters ----------------------------------------------------------------------------------------------


@given(SEEDS)
def test_clusters_are_those_of_a_slow_search_over_all_pairs(seed: int) -> None:
    grey = varied(seed, 8)
    hashes = [str(number) for number in np.random.default_rng(seed).integers(0, 25, 8)]
    assert clusters(grey, hashes).tolist() == slow_clusters(grey, hashes)


@given(SEEDS)
def test_the_order_of_pictures_changes_the_names_of_clusters_only(seed: int) -> None:
    random = np.random.default_rng(seed)
    grey, hashes = varied(seed), random.integers(0, 60, 18).astype(str)
    order = random.permutation(18)
    shuffled = clusters(grey[order], hashes[order].tolist())
    back = {frozenset(order[[*group]].tolist()) for group in partition(shuffled)}
    assert back == partition(clusters(grey, hashes.tolist()))
    assert all(name == min(np.flatnonzero(shuffled == name)) for name in shuffled)


def test_which_of_two_mirrored_pictures_stands_first_changes_nothing() -> None:
    random = np.random.default_rng(0)
    found = []
    for seed in range(200):
        one = small(texture(seed))
        noise = ndimage.gaussian_filter(random.normal(size=(32, 32)), 1.5)
        noise *= one.std() / noise.std() * random.uniform(0.1, 0.24)  # some are just found, some are just not
        pair = np.stack([one, (one[:, ::-1] + noise).astype(np.float32)])
        found.append(clusters(pair, ["one", "other"])[1] == 0)
        assert (clusters(pair[::-1], ["other", "one"])[1] == 0) == found[-1], seed
    assert 0.5 < np.mean(found) < 1


def test_clusters_of_many_pictures_are_found_across_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    grey = np.concatenate([varied(seed) for seed in range(8)])
    hashes = [str(number) for number in range(len(grey))]
    whole = clusters(grey, hashes)
    monkeypatch.setattr("dataset_audit.images.duplicates._BLOCK", 7)
    assert np.array_equal(clusters(grey, hashes), whole)
    assert len(set(whole.tolist())) < len(grey) - 20


COPIES: dict[str, Callable[[Pixels], Pixels]] = {
    "exact": np.copy,
    "half size": halved,
    "JPEG 50": encoded,
    "mirrored": mirrored,
    "brighter by 10": brighter,
    "half size, mirrored, brighter, JPEG 50": lambda picture: encoded(brighter(mirrored(halved(picture)))),
}


@pytest.fixture(scope="module")
def textures() -> list[Pixels]:
    return [texture(seed) for seed in range(60)]


@pytest.mark.parametrize("copy", COPIES)
def test_at_least_95_in_100_copies_are_found_whichever_stands_first(
    copy: str, textures: list[Pixels]
) -> None:
    copies = [COPIES[copy](picture) for picture in textures]
    number = len(textures)
    for first, second in ((textures, copies), (copies, textures)):
        found = joined([*first, *second])
        assert np.mean([found[number + i] == i for i in range(number)]) >= 0.95
        assert all(found[i] == i for i in range(number))
        assert all(found[number + i] in {i, number + i} for i in range(number))


def test_an_exact_copy_is_always_found_also_where_nothing_can_be_compared(textures: list[Pixels]) -> None:
    flat = np.full((40, 40, 3), 90, np.uint8)
    assert joined([*textures, flat, *textures, flat]) == [*range(61), *range(61)]


def test_different_pictures_are_not_joined() -> None:
    pictures = [texture(1000 + seed) for seed in range(200)]  # 19,900 pairs, each also mirrored
    assert joined(pictures) == [*range(200)]


def test_different_pictures_of_few_coarse_blobs_are_rarely_joined() -> None:
    random = np.random.default_rng(0)
    blobs = ndimage.gaussian_filter(random.normal(size=(300, 32, 32)), (0, 5, 5), mode="wrap")
    grey = (128 + 40 * blobs / blobs.std((1, 2), keepdims=True)).astype(np.float32)
    found = clusters(grey, [str(number) for number in range(300)])
    assert np.count_nonzero(found != np.arange(300)) <= 1  # of 44,850 pairs, the hardest there are


def test_flat_pictures_are_joined_only_where_their_pixels_are_equal() -> None:
    random = np.random.default_rng(0)
    flat = [np.full((50, 50, 3), level, np.uint8) for level in (0, 1, 128, 255, 128)]
    noisy = [random.integers(100, 104, (50, 50, 3), dtype=np.uint8) for _ in range(3)]
    assert joined([*flat, *noisy]) == [0, 1, 2, 3, 2, 5, 6, 7]
    assert joined([flat[0], texture(0), halved(texture(0))]) == [0, 1, 1]


def test_a_chain_is_one_cluster_named_by_its_smallest_index() -> None:
    grey = np.zeros((5, 32, 32), np.float32)
    assert clusters(grey, ["a", "b", "c", "b", "a"]).tolist() == [0, 1, 2, 1, 0]
    picture = texture(7)
    halves = [small(picture), small(texture(8)), small(encoded(picture))]
    # the first and the third look alike, the third and the second have equal pixels
    assert clusters(np.stack(halves), ["x", "y", "y"]).tolist() == [0, 0, 0]


def test_no_picture_and_one_picture_have_their_own_clusters() -> None:
    assert clusters(np.empty((0, 32, 32), np.float32), []).tolist() == []
    assert joined([texture(0)]) == [0]
