"""Ablations: each against a slow version written from its definition, and the laws that make them ablations."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from dataset_audit import seeds
from dataset_audit.bias.ablations import (
    ABLATIONS,
    apply_ablation,
    grey,
    low_frequencies,
    same_as,
    sizes,
)
from dataset_audit.bias.canny import canny
from dataset_audit.errors import UsageError

Pixels = NDArray[np.uint8]
DRAWN = [name for name in ABLATIONS if name.endswith("-each") or name.startswith("noise")]
SHUFFLES = [name for name in ABLATIONS if "shuffle" in name]
GREY = ["grayscale", "low-pass", "high-pass", "edges"]


def noise(count: int = 3, side: int = 32, seed: int = 0) -> Pixels:
    return np.random.default_rng(seed).integers(0, 256, (count, side, side, 3), dtype=np.uint8)


def scenes(count: int = 3, side: int = 32, seed: int = 0) -> Pixels:
    """Coloured blobs with the full range: they have outlines, unlike noise."""
    random = np.random.default_rng(seed)
    blurred = ndimage.gaussian_filter(random.normal(size=(count, side, side, 1)), (0, 1.5, 1.5, 0))
    low, high = blurred.min((1, 2, 3), keepdims=True), blurred.max((1, 2, 3), keepdims=True)
    return np.asarray((blurred - low) / (high - low) * random.uniform(180, 255, (count, 1, 1, 3)), np.uint8)


def slow_grayscale(picture: Pixels) -> Pixels:
    return np.asarray(Image.fromarray(picture).convert("L").convert("RGB"))


def slow_mean_rgb(picture: Pixels) -> Pixels:
    side = len(picture)
    out = np.zeros_like(picture)
    for c in range(3):
        total = sum(int(picture[y, x, c]) for y in range(side) for x in range(side))
        out[:, :, c] = math.floor(total / side**2 + 0.5)
    return out


def slow_spectrum(picture: Pixels, radius: float, *, low: bool) -> Pixels:
    levels = slow_grayscale(picture)[..., 0].astype(float)
    side = len(levels)
    spectrum = np.fft.fftshift(np.fft.fft2(levels))
    for y in range(side):
        for x in range(side):
            inside = math.hypot(y - side // 2, x - side // 2) <= radius
            if inside != low:
                spectrum[y, x] = 0
    left = np.fft.ifft2(np.fft.ifftshift(spectrum)).real
    stretched = (left - left.min()) / (left.max() - left.min()) * 255
    return np.repeat(np.rint(stretched).astype(np.uint8)[..., None], 3, axis=2)


def slow_gradients(picture: Pixels) -> tuple[dict[tuple[int, int], int], dict[tuple[int, int], float]]:
    """Lengths, and directions in degrees."""
    levels = slow_grayscale(picture)[..., 0].astype(int)
    side = len(levels)
    mirrored = np.pad(levels, 1, mode="reflect")
    smooth = np.zeros((side, side), int)
    weights = [[1, 2, 1], [2, 4, 2], [1, 2, 1]]
    for y in range(side):
        for x in range(side):
            total = sum(weights[i][j] * mirrored[y + i, x + j] for i in range(3) for j in range(3))
            smooth[y, x] = (total + 8) // 16
    edge = np.pad(smooth, 1, mode="edge")
    length, angle = {}, {}
    for y in range(side):
        for x in range(side):
            dx = sum((1, 2, 1)[i] * (edge[y + i, x + 2] - edge[y + i, x]) for i in range(3))
            dy = sum((1, 2, 1)[i] * (edge[y + 2, x + i] - edge[y, x + i]) for i in range(3))
            length[y, x] = abs(int(dx)) + abs(int(dy))
            angle[y, x] = math.degrees(math.atan2(dy, dx)) % 180
    return length, angle


def slow_edges(picture: Pixels) -> Pixels:
    """Canny pixel by pixel."""
    length, angle = slow_gradients(picture)
    thin = set()
    for (y, x), here in length.items():
        turn = int((angle[y, x] + 22.5) // 45) % 4  # to the right, falling, down, rising
        i, j = ((0, 1), (1, 1), (1, 0), (1, -1))[turn]
        before, after = length.get((y - i, x - j), 0), length.get((y + i, x + j), 0)
        if here > 85 and here > before and (here > after or (here == after and turn in (0, 2))):
            thin.add((y, x))
    found = [place for place in thin if length[place] > 255]
    kept = set(found)
    while found:
        y, x = found.pop()
        for place in ((y + i, x + j) for i in (-1, 0, 1) for j in (-1, 0, 1)):
            if place in thin and place not in kept:
                kept.add(place)
                found.append(place)
    out = np.zeros_like(picture)
    for place in kept:
        out[place] = 255
    return out


def slow_blur(picture: Pixels, sigma: float) -> Pixels:
    return np.rint(ndimage.gaussian_filter(picture.astype(float), (sigma, sigma, 0))).astype(np.uint8)


def slow_low_resolution(picture: Pixels, few: int) -> Pixels:
    """Every pixel is cut into few x few parts, so that areas consist of whole parts."""
    side = len(picture)
    parts = picture.astype(float).repeat(few, 0).repeat(few, 1)
    small = np.rint(parts.reshape(few, side, few, side, 3).mean((1, 3)))
    out = np.zeros_like(picture)
    for y in range(side):
        for x in range(side):
            v, u = (min(max((z + 0.5) * few / side - 0.5, 0), few - 1) for z in (y, x))
            top, left = math.floor(v), math.floor(u)
            low, right = min(top + 1, few - 1), min(left + 1, few - 1)
            v, u = v - top, u - left
            above = small[top, left] * (1 - u) + small[top, right] * u
            below = small[low, left] * (1 - u) + small[low, right] * u
            out[y, x] = np.rint(above * (1 - v) + below * v)
    return out


def slow_shuffle(picture: Pixels, patch: int, order: NDArray[np.int64]) -> Pixels:
    across = len(picture) // patch
    out = np.zeros_like(picture)
    for to, source in enumerate(order.tolist()):
        (y, x), (v, u) = divmod(to, across), divmod(source, across)
        for i in range(patch):
            for j in range(patch):
                out[y * patch + i, x * patch + j] = picture[v * patch + i, u * patch + j]
    return out


def slow(name: str, picture: Pixels, seed: int, index: int) -> Pixels:
    side = len(picture)
    drawn = seeds.rng(seed, "ablation", name, index)
    size = next(iter(sizes(name, side).values()), 0.0)
    if name.startswith("noise"):
        draws = drawn.standard_normal(picture.shape, np.float32)
        return np.clip(np.rint(picture + 255 * size * draws.astype(float)), 0, 255).astype(np.uint8)
    if "shuffle" in name:
        patch = int(size)
        if not name.endswith("-each"):
            drawn = seeds.rng(seed, "ablation", "shuffle", side, patch)
        return slow_shuffle(picture, patch, drawn.permutation((side // patch) ** 2))
    if name.startswith("blur"):
        return slow_blur(picture, size)
    if name.startswith("low-resolution"):
        return slow_low_resolution(picture, int(size))
    if name.endswith("-pass"):
        return slow_spectrum(picture, size, low=name == "low-pass")
    return {"grayscale": slow_grayscale, "mean-rgb": slow_mean_rgb, "edges": slow_edges}[name](picture)


@pytest.mark.parametrize("name", ABLATIONS)
@pytest.mark.parametrize("draw", [noise, scenes])
def test_an_ablation_equals_its_slow_version(name: str, draw: Callable[..., Pixels]) -> None:
    pixels = draw(2, 28)
    made = apply_ablation(name, pixels, seed=3, start_index=5).astype(int)
    expected = np.stack([slow(name, picture, 3, 5 + i) for i, picture in enumerate(pixels)]).astype(int)
    # filters add in another order and may round a half the other way
    assert np.abs(made - expected).max() <= 1
    assert (made != expected).mean() < 0.01
    if "shuffle" in name or name in ("grayscale", "mean-rgb", "edges"):
        assert np.array_equal(made, expected)


def test_the_slow_edges_find_some() -> None:
    drawn = slow_edges(scenes(1, 28)[0])
    assert 0.02 < (drawn > 0).mean() < 0.5


@pytest.mark.parametrize("name", ABLATIONS)
def test_batches_give_what_one_call_gives(name: str) -> None:
    pixels = scenes(7, 16)
    whole = apply_ablation(name, pixels, seed=1, start_index=10)
    parts = [apply_ablation(name, pixels[at : at + 3], seed=1, start_index=10 + at) for at in (0, 3, 6)]
    assert np.array_equal(whole, np.concatenate(parts))
    assert whole.dtype == np.uint8
    assert whole.shape == pixels.shape


@pytest.mark.parametrize("name", ["pixel-shuffle-each", "noise-10", "edges", "low-pass"])
def test_pictures_beyond_the_first_chunk_are_treated_alike(name: str) -> None:
    pixels = noise(300, 8)
    assert np.array_equal(
        apply_ablation(name, pixels, 0)[290:], apply_ablation(name, pixels[290:], 0, start_index=290)
    )


@pytest.mark.parametrize("name", ABLATIONS)
def test_the_pictures_handed_in_stay_as_they_are(name: str) -> None:
    pixels = noise(2, 16)
    before = pixels.copy()
    apply_ablation(name, pixels, 0)
    assert np.array_equal(pixels, before)


@pytest.mark.parametrize("name", ABLATIONS)
@pytest.mark.parametrize("side", [1, 2, 7, 30])
def test_any_side_and_no_pictures_are_defined(name: str, side: int) -> None:
    assert apply_ablation(name, noise(2, side), 0).shape == (2, side, side, 3)
    assert apply_ablation(name, noise(0, side), 0).shape == (0, side, side, 3)


@pytest.mark.parametrize("name", ABLATIONS)
def test_one_colour_stays_one_colour_except_under_noise(name: str) -> None:
    flat = np.full((1, 16, 16, 3), 77, np.uint8)
    made = apply_ablation(name, flat, 0)
    assert (len(np.unique(made)) == 1) == (not name.startswith("noise"))


@pytest.mark.parametrize("name", DRAWN)
def test_two_equal_pictures_are_drawn_apart(name: str) -> None:
    made = apply_ablation(name, np.repeat(noise(1), 2, axis=0), 0)
    assert not np.array_equal(made[0], made[1])


@pytest.mark.parametrize("name", [name for name in ABLATIONS if name not in DRAWN])
def test_two_equal_pictures_stay_equal_where_nothing_is_drawn_per_picture(name: str) -> None:
    made = apply_ablation(name, np.repeat(noise(1), 2, axis=0), 0)
    assert np.array_equal(made[0], made[1])


@pytest.mark.parametrize("name", ABLATIONS)
def test_the_seed_matters_only_where_something_is_drawn(name: str) -> None:
    pixels = noise()
    same = np.array_equal(apply_ablation(name, pixels, 0), apply_ablation(name, pixels, 1))
    assert same == (name not in DRAWN and name not in SHUFFLES)


@pytest.mark.parametrize("name", SHUFFLES)
def test_a_shuffle_keeps_the_multiset_of_pixels_and_moves_most(name: str) -> None:
    pixels = noise()
    made = apply_ablation(name, pixels, 0)
    for before, after in zip(pixels, made, strict=True):
        assert np.array_equal(*(np.sort(p.reshape(-1, 3) @ [1, 256, 65536]) for p in (before, after)))
    assert (made != pixels).any(-1).mean() > 0.8


def test_a_fixed_permutation_depends_on_seed_and_side_alone() -> None:
    pixels = np.arange(16 * 16 * 3, dtype=np.uint8).reshape(1, 16, 16, 3)
    one = apply_ablation("pixel-shuffle", pixels, 4, start_index=0)
    assert np.array_equal(one, apply_ablation("pixel-shuffle", pixels, 4, start_index=999))


def test_patches_of_one_pixel_are_a_pixel_shuffle() -> None:
    pixels = noise(2, 64)
    assert same_as("patch-shuffle-4", 64) == "pixel-shuffle"
    assert same_as("patch-shuffle-4-each", 64) == "pixel-shuffle-each"
    assert same_as("patch-shuffle-8", 64) == "patch-shuffle-8"
    assert same_as("blur-1", 64) == "blur-1"
    made = [apply_ablation(name, pixels, 0) for name in ("patch-shuffle-4", "pixel-shuffle")]
    assert np.array_equal(*made)


@pytest.mark.parametrize("name", GREY)
def test_grey_ablations_have_three_equal_channels(name: str) -> None:
    made = apply_ablation(name, scenes(), 0)
    assert np.array_equal(made[..., 0], made[..., 1])
    assert np.array_equal(made[..., 0], made[..., 2])


def test_mean_rgb_is_constant_over_a_picture_and_differs_between_pictures() -> None:
    made = apply_ablation("mean-rgb", scenes(), 0)
    assert np.array_equal(made.min((1, 2)), made.max((1, 2)))
    assert len(np.unique(made[:, 0, 0], axis=0)) == 3


def test_low_and_high_pass_part_a_picture() -> None:
    levels = grey(scenes())
    low = low_frequencies(levels, 5.7)
    high = levels - low
    assert np.abs(low_frequencies(np.rint(high * 2**20).astype(np.int64), 5.7)).max() < 1  # 2^-20 of a level
    assert np.abs((low * high).mean((1, 2))).max() < 1e-9  # no frequency in both
    assert np.allclose(low.mean((1, 2)), levels.mean((1, 2)))  # the mean is the lowest frequency
    assert np.allclose(high.mean((1, 2)), 0)


@pytest.mark.parametrize("name", ["low-pass", "high-pass"])
def test_filtered_pictures_use_the_full_range(name: str) -> None:
    made = apply_ablation(name, scenes(), 0)
    assert np.array_equal(made.min((1, 2, 3)), [0] * 3)
    assert np.array_equal(made.max((1, 2, 3)), [255] * 3)


def test_edges_are_black_or_white_and_outline_a_square() -> None:
    square = np.zeros((1, 32, 32, 3), np.uint8)
    square[:, 8:24, 8:24] = 255
    made = apply_ablation("edges", square, 0)
    assert set(np.unique(made)) == {0, 255}
    drawn = made[0, :, :, 0] > 0
    assert not drawn[10:22, 10:22].any()
    assert not drawn[:6].any()
    assert ndimage.label(drawn, np.ones((3, 3)))[1] == 1  # one closed line
    assert ndimage.label(~drawn)[1] == 2  # which parts inside from outside


def test_faint_edges_live_only_where_they_meet_strong_ones() -> None:
    step = np.zeros((2, 32, 32), np.int32)
    step[:, :, 16:] = 30  # smoothed, a gradient of 3 * 30 = 90: between the thresholds
    assert not canny(step).any()
    step[0, :, 16:] = np.linspace(110, 30, 32)[:, None]
    found = canny(step)
    assert found[0].any(1).all()
    assert not found[1].any()  # a strong edge in one picture wakes none in the next


def test_noise_has_the_stated_spread_and_is_not_clipped_on_mid_grey() -> None:
    flat = np.full((8, 32, 32, 3), 128, np.uint8)
    for name, std in (("noise-10", 25.5), ("noise-20", 51.0)):
        made = apply_ablation(name, flat, 0).astype(float)
        assert made.std() == pytest.approx(std, rel=0.03)
        assert made.mean() == pytest.approx(128, abs=1)


@pytest.mark.parametrize(
    "family", [("blur-1", "blur-2", "blur-4"), ("low-resolution-64", "low-resolution-16")]
)
def test_stronger_smoothing_leaves_less_detail(family: tuple[str, ...]) -> None:
    detail = [np.abs(np.diff(apply_ablation(n, noise(2, 64), 0).astype(int), axis=1)).mean() for n in family]
    assert detail == sorted(detail, reverse=True)
    assert detail[0] > 2 * detail[-1]


def test_sizes_scale_with_the_side() -> None:
    assert sizes("low-pass", 224) == {"radius": 40}
    assert sizes("high-pass", 112) == {"radius": 20}
    assert [sizes(f"patch-shuffle-{at}", 224)["patch_px"] for at in (16, 8, 4)] == [16, 8, 4]
    assert [sizes(f"patch-shuffle-{at}", 64)["patch_px"] for at in (16, 8, 4)] == [4, 2, 1]
    assert [sizes(f"low-resolution-{at}", 64)["side_px"] for at in (64, 32, 16)] == [18, 9, 5]
    assert sizes("blur-4", 56) == {"sigma_px": 1}
    assert sizes("noise-30", 64) == {"std": 0.3}
    assert sizes("grayscale", 64) == {}


def test_what_is_no_picture_is_refused() -> None:
    for wrong in (np.zeros((2, 8, 8, 3)), np.zeros((2, 8, 9, 3), np.uint8), np.zeros((8, 8, 3), np.uint8)):
        with pytest.raises(ValueError, match="not uint8"):
            apply_ablation("edges", wrong, 0)  # type: ignore[arg-type]  # that is the point
    with pytest.raises(UsageError, match="no ablation"):
        apply_ablation("sepia", noise(), 0)
