"""Pictures to vectors: each against a slow version from its definition, and what each is there to see."""

from __future__ import annotations

import io
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image
from scipy import fft, ndimage

from dataset_audit.probes import features
from dataset_audit.probes.features import TRACES, area, histogram, hog, luma, mean_rgb, thumbnail, traces

Pixels = NDArray[np.uint8]
SEEDS = st.integers(0, 2**32 - 1)


def noise(seed: int, *shape: int, levels: int = 256) -> Pixels:
    drawn = np.random.default_rng(seed).integers(0, levels, (*shape, 3))
    return (drawn * (255 // (levels - 1))).astype(np.uint8)


def scene(seed: int, height: int = 96, width: int = 96) -> Pixels:
    """A coloured picture with structure at every size, as a photograph has; within 20 to 235."""
    random = np.random.default_rng(seed)
    shared, own = random.normal(size=(height, width, 1)), random.normal(size=(height, width, 3))
    picture = sum(
        sigma * ndimage.gaussian_filter(shared + 0.3 * own, (sigma, sigma, 0), mode="wrap")
        for sigma in (1, 2, 4, 8)
    )
    return np.clip(np.rint(128 + 40 * picture / np.std(picture)), 20, 235).astype(np.uint8)


def as_jpeg(picture: Pixels, quality: int, *, subsampling: int = 0) -> Pixels:
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "JPEG", quality=quality, subsampling=subsampling)
    return np.asarray(Image.open(file))


def groups(picture: Pixels) -> dict[str, NDArray[np.float32]]:
    ends = np.cumsum([*TRACES.values()])[:-1]
    return dict(zip(TRACES, np.split(traces(picture), ends), strict=True))


# -- the slow versions -------------------------------------------------------------------------------------


def slow_hog(picture: Pixels) -> list[float]:
    """The loops of scikit-image's ``hog``: orientation bins, L2-Hys blocks; levels as whole thousandths."""
    side = len(picture)
    weights = (299, 587, 114)
    grey = [
        [sum(w * int(v) for w, v in zip(weights, pixel, strict=True)) for pixel in row] for row in picture
    ]
    count = side // 8
    cells = [[[0.0] * 9 for _ in range(count)] for _ in range(count)]
    for y in range(side):
        for x in range(side):
            down = grey[y + 1][x] - grey[y - 1][x] if 0 < y < side - 1 else 0
            right = grey[y][x + 1] - grey[y][x - 1] if 0 < x < side - 1 else 0
            angle = math.degrees(math.atan2(down, right)) % 180
            cells[y // 8][x // 8][min(int(angle // 20), 8)] += math.hypot(down, right) / 255_000 / 64
    found: list[float] = []
    for y in range(count - 1):
        for x in range(count - 1):
            block = [v for i in (0, 1) for j in (0, 1) for v in cells[y + i][x + j]]
            for clip in (0.2, math.inf):
                length = math.sqrt(sum(v * v for v in block) + 1e-10)
                block = [min(v / length, clip) for v in block]
            found += block
    return found


def slow_phases(grey: NDArray[np.float64]) -> list[float]:
    found = []
    for lines in (grey, grey.T):
        bends: list[list[float]] = [[] for _ in range(8)]
        for line in lines:
            for x in range(1, len(line) - 1):
                bends[x % 8].append(abs(2 * line[x] - line[x - 1] - line[x + 1]))
        means = [sum(each) / len(each) for each in bends]
        found += [mean / (sum(means) / 8 + 0.1) for mean in means]
    return found


def slow_spectrum(grey: NDArray[np.float64]) -> list[float]:
    height, width = grey.shape
    taper = np.outer(np.hanning(height), np.hanning(width))
    power = np.abs(np.fft.fft2((grey - grey.mean()) * taper)) ** 2
    rings = [0.0] * 8
    for y in range(height):
        for x in range(width // 2 + 1):  # the other half is its mirror
            radius = math.hypot(min(y, height - y) / height, x / width)
            rings[min(int(radius * 16), 7)] += power[y, x]
    return [math.log(ring / (sum(rings) + 1) + 1e-9) for ring in rings]


# -- small copies ------------------------------------------------------------------------------------------


@given(SEEDS, st.sampled_from([1, 2, 4, 8]), st.sampled_from([1, 2, 3, 8]))
def test_area_is_the_mean_of_each_square(seed: int, side: int, step: int) -> None:
    pixels = noise(seed, 2, side * step, side * step)
    small = area(pixels, side)
    assert small.dtype == np.uint8
    for b, y, x, c in np.ndindex(2, side, side, 3):
        square = pixels[b, y * step : (y + 1) * step, x * step : (x + 1) * step, c]
        assert small[b, y, x, c] == round(square.astype(float).mean())


def test_area_refuses_a_side_that_does_not_divide() -> None:
    with pytest.raises(ValueError, match="5 does not divide 16"):
        area(noise(0, 1, 16, 16), 5)


@given(SEEDS, st.integers(1, 9))
def test_mean_rgb_is_the_mean_of_each_channel(seed: int, side: int) -> None:
    pixels = noise(seed, 2, side, side)
    for b, c in np.ndindex(2, 3):
        expected = sum(int(value) for value in pixels[b, :, :, c].ravel()) / side**2 / 255
        assert mean_rgb(pixels)[b, c] == pytest.approx(expected, abs=1e-6)


@given(SEEDS, st.integers(1, 9), st.sampled_from([2, 6, 256]))
def test_histogram_counts_levels_of_each_channel(seed: int, side: int, levels: int) -> None:
    pixels = noise(seed, 3, side, side, levels=levels)
    expected = np.zeros((3, 3, 16))
    for b, y, x, c in np.ndindex(pixels.shape):
        expected[b, c, int(pixels[b, y, x, c]) // 16] += 1 / side**2
    assert np.allclose(histogram(pixels), expected.reshape(3, 48), atol=1e-6)


@given(SEEDS, st.sampled_from([32, 64, 96]))
def test_thumbnail_is_the_area_mean_at_32_pixels_in_0_to_1(seed: int, side: int) -> None:
    pixels = noise(seed, 2, side, side)
    assert thumbnail(pixels).shape == (2, 3072)
    assert np.array_equal(
        np.rint(thumbnail(pixels) * 255).reshape(2, 32, 32, 3), area(pixels, 32).astype(np.float32)
    )


@given(SEEDS)
def test_luma_is_that_of_pillow(seed: int) -> None:
    picture = noise(seed, 5, 7)
    assert np.abs(luma(picture) - np.asarray(Image.fromarray(picture).convert("L"))).max() <= 0.51


def test_colours_of_one_luma_have_one_luma_to_the_last_bit() -> None:
    drawn = noise(0, 200_000).astype(np.int64)
    exact = drawn @ [299, 587, 114]
    found = luma(drawn.astype(np.uint8))
    order = np.argsort(exact, kind="stable")
    equal = np.diff(exact[order]) == 0
    assert equal.sum() > 10_000
    assert (np.diff(found[order])[equal] == 0).all()


# -- HOG ---------------------------------------------------------------------------------------------------


@given(SEEDS, st.sampled_from([16, 24, 32]), st.sampled_from([2, 4, 256]))
def test_hog_equals_the_loops_of_its_definition(seed: int, side: int, levels: int) -> None:
    picture = noise(seed, side, side, levels=levels)
    assert np.allclose(hog(picture[None])[0], slow_hog(picture), atol=2e-5)


def test_hog_of_a_scene_equals_the_loops_of_its_definition() -> None:
    picture = scene(1, 64, 64)
    vector = hog(picture[None])
    assert vector.shape == (1, 1764)
    assert vector.dtype == np.float32
    assert np.allclose(vector[0], slow_hog(picture), atol=2e-5)


def test_hog_puts_an_edge_into_its_orientation_whichever_way_it_rises() -> None:
    ramp = np.repeat(np.linspace(0, 250, 64).astype(np.uint8)[None, :, None], 64, 0).repeat(3, 2)
    for picture, place in ((ramp, 0), (ramp[:, ::-1], 0), (ramp.swapaxes(0, 1), 4)):
        votes = hog(np.ascontiguousarray(picture)[None]).reshape(-1, 9).sum(0)
        assert votes[place] > 0
        assert votes.sum() == votes[place]


def test_hog_of_a_flat_picture_is_zero() -> None:
    assert not hog(np.full((2, 64, 64, 3), 77, np.uint8)).any()


def test_hog_of_a_picture_does_not_depend_on_its_batch_mates() -> None:
    pictures = np.stack([scene(number, 64, 64) for number in range(3)])
    assert np.array_equal(hog(pictures)[1], hog(pictures[1:2])[0])


# -- traces ------------------------------------------------------------------------------------------------


@given(SEEDS)
def test_the_matrix_of_an_8x8_block_is_the_orthonormal_dct(seed: int) -> None:
    blocks = np.random.default_rng(seed).uniform(0, 255, (3, 8, 8)).astype(np.float32)
    expected = fft.dctn(blocks.astype(np.float64), axes=(1, 2), norm="ortho").reshape(3, 64)
    assert np.allclose(blocks.reshape(3, 64) @ features._DCT, expected, atol=2e-3)


SHAPES = [(1, 1), (1, 300), (300, 1), (16, 16), (15, 17), (24, 16), (200, 64), (231, 517)]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("kind", ["noise", "grey as RGB", "black", "white", "stripes"])
def test_traces_are_190_finite_numbers_of_any_picture(shape: tuple[int, int], kind: str) -> None:
    picture = noise(3, *shape)
    if kind == "grey as RGB":
        picture = picture[:, :, :1].repeat(3, axis=2)
    elif kind in {"black", "white"}:
        picture[:] = 255 if kind == "white" else 0
    elif kind == "stripes":
        picture = np.ascontiguousarray(np.broadcast_to(picture[:1], picture.shape))
    found = traces(picture)
    assert found.shape == (sum(TRACES.values()),) == (190,)
    assert found.dtype == np.float32
    assert np.isfinite(found).all()


def test_block_statistics_are_those_of_each_block() -> None:
    picture = as_jpeg(scene(2, 40, 56), 60)
    found = groups(picture)
    grey = luma(picture).astype(np.float64)
    blocks = [grey[y : y + 8, x : x + 8] for y in range(0, 40, 8) for x in range(0, 56, 8)]
    sizes = np.abs([fft.dctn(block, norm="ortho").ravel() for block in blocks])
    assert np.allclose(
        found["block frequencies quantised to zero"], (sizes < 0.5).mean(0), atol=1.5 / len(blocks)
    )
    assert np.allclose(found["size of block frequencies"], np.log(sizes.mean(0) + 0.1), atol=1e-3)


def test_phases_and_spectrum_equal_the_loops_of_their_definitions() -> None:
    picture = as_jpeg(scene(4, 32, 48), 40)
    found, grey = groups(picture), luma(picture).astype(np.float64)
    assert np.allclose(found["block grid"], slow_phases(grey), rtol=1e-3)
    assert np.allclose(found["spectrum"], slow_spectrum(grey), atol=2e-3)


def test_ends_of_the_histogram_are_shares_of_the_outermost_levels() -> None:
    picture = np.full((16, 16, 3), 100, np.uint8)
    picture[0, 0] = (0, 7, 255)
    picture[1, 1] = (8, 247, 248)
    expected = np.zeros(16)
    expected[[0, 7, 8, 15]] = 1 / picture.size
    assert np.allclose(groups(picture)["ends of the histogram"], expected, atol=1e-7)


def test_the_window_lies_on_the_block_grid_and_in_the_middle() -> None:
    picture = scene(5, 400, 300)
    top, left = 104, 48
    inside = picture[top : top + 192, left : left + 192]
    for name, values in groups(picture).items():
        same = np.allclose(values, groups(inside)[name], atol=1e-4)
        assert same == (name != "outermost lines"), name


def change(before: Pixels, after: Pixels, name: str) -> float:
    return float(np.abs(groups(after)[name] - groups(before)[name]).max())


@pytest.mark.parametrize("seed", range(4))
def test_each_group_sees_what_it_is_there_for(seed: int) -> None:
    picture = scene(seed)
    strong, weak = as_jpeg(picture, 50), as_jpeg(picture, 95)
    zeros = "block frequencies quantised to zero"
    assert groups(strong)[zeros].mean() > groups(weak)[zeros].mean() + 0.2

    smooth = ndimage.gaussian_filter(picture.astype(float), (2, 2, 0)).astype(
        np.uint8
    )  # nothing else on the grid
    grid = groups(as_jpeg(smooth, 10))["block grid"].reshape(2, 8)
    assert (grid[:, [0, 7]].mean(1) > 1.5 * grid[:, 1:7].mean(1)).all()

    doubled = np.asarray(Image.fromarray(picture[:48, :48]).resize((96, 96), Image.Resampling.BICUBIC))
    assert groups(doubled)["spectrum"][-2] < groups(picture)["spectrum"][-2] - 1
    assert groups(doubled)["residual noise"][0] < groups(picture)["residual noise"][0] - 1

    framed = picture.copy()
    framed[0] = framed[-1] = framed[:, 0] = framed[:, -1] = 0
    assert change(picture, framed, "outermost lines") > 1
    assert change(picture, framed, "block frequencies quantised to zero") < 0.2

    halved = as_jpeg(picture, 95, subsampling=2)
    assert groups(halved)["chroma detail"][0] < groups(weak)["chroma detail"][0]

    clipped = np.where(picture < 60, np.uint8(3), picture)
    assert change(picture, clipped, "ends of the histogram") > 0.005
