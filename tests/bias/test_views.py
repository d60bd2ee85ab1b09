"""Views of pictures: each takes one thing away, and nothing else decides what it shows."""

from __future__ import annotations

from collections.abc import Sequence
from io import BytesIO
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from dataset_audit.bias import views
from dataset_audit.bias.stock import Source, Stock, draw, read_headers
from dataset_audit.bias.views import (
    QUALITY,
    SIDE,
    VIEWS,
    Picture,
    Setting,
    levelled,
    look,
    reductions,
    setting,
)
from dataset_audit.images.decode import Limits, decode
from dataset_audit.images.encode import encode_jpeg
from dataset_audit.images.facts import Facts, facts_of_array, read_facts
from dataset_audit.images.identity import uid
from dataset_audit.images.opened import ArraySource, ImageDataset
from dataset_audit.progress import Silent
from dataset_audit.stats.agreement import pearson

Pixels = NDArray[np.uint8]
COMMON = Setting(recode=40, together=20, seed=1)


def smooth(height: int, width: int, seed: int = 0) -> Pixels:
    """A picture of soft shapes, levels 60 to 190, each channel its own."""
    rng = np.random.default_rng(seed)
    small = Image.fromarray(rng.integers(60, 190, (6, 6, 3), dtype=np.uint8))
    return np.asarray(small.resize((width, height), Image.Resampling.BICUBIC)).clip(50, 200).astype(np.uint8)


def encoded(pixels: Pixels, kind: str = "PNG", **how: Any) -> bytes:
    stream = BytesIO()
    grey = how.pop("grey", False)
    Image.fromarray(pixels[..., 0] if grey else pixels).save(stream, kind, **how)
    return stream.getvalue()


def shown(pixels: Pixels, facts: Facts | None = None, name: str = "0" * 32, seed: int = 1) -> Picture:
    common = Setting(recode=COMMON.recode, together=COMMON.together, seed=seed)
    return Picture(pixels=pixels, facts=facts or facts_of_array(pixels), uid=name, setting=common)


@st.composite
def pictures(draw_: st.DrawFn) -> Pixels:
    rng = np.random.default_rng(draw_(st.integers(0, 2**32 - 1)))
    shape = (draw_(st.integers(1, 40)), draw_(st.integers(1, 40)), 3)
    low = draw_(st.integers(0, 200))
    return rng.integers(low, draw_(st.integers(low + 1, 256)), shape).astype(np.uint8)


@given(pictures(), st.integers(1, 20))
def test_a_shift_of_all_pixels_is_gone_after_levelling(pixels: Pixels, shift: int) -> None:
    held = pixels.clip(20, 235)
    assert np.array_equal(levelled(held), levelled(held + np.uint8(shift)))
    assert np.array_equal(levelled(held), levelled(held - np.uint8(shift)))


def test_plus_three_is_gone_wherever_nothing_was_clipped() -> None:
    rng = np.random.default_rng(0)
    pixels = rng.normal(225, 12, (60, 80, 3)).clip(0, 255).astype(np.uint8)
    brighter = np.minimum(pixels.astype(int) + 3, 255).astype(np.uint8)
    assert (
        0.001 < (pixels > 252).mean() < 0.02
    )  # what the camera cannot hold is lost and moves the mean a little
    apart = np.abs(levelled(pixels).astype(int) - levelled(brighter))[pixels <= 252]
    assert apart.max() <= 1


@given(pictures())
def test_levelling_moves_mean_and_contrast_and_keeps_the_order_of_levels(pixels: Pixels) -> None:
    made = levelled(pixels)
    assert made.shape == pixels.shape
    level, place = np.unique(pixels, return_index=True)
    table = dict(zip(level.tolist(), made.ravel()[place].tolist(), strict=True))
    assert all(table[v] == m for v, m in zip(pixels.ravel().tolist(), made.ravel().tolist(), strict=True))
    assert [table[v] for v in sorted(table)] == sorted(table.values())  # one rising map for all channels
    if made.min() > 0 and made.max() < 255:
        assert abs(float(made.mean()) - 128) <= 0.6
        if pixels.std() >= 1:
            assert abs(float(made.std()) - 50) <= 1


def test_a_flat_picture_becomes_mid_grey() -> None:
    for level in (0, 77, 255):
        assert (levelled(np.full((5, 7, 3), level, np.uint8)) == 128).all()


def test_levelling_a_large_picture_looks_at_a_part_and_maps_all() -> None:
    pixels = smooth(700, 900)
    made = levelled(pixels)
    assert abs(made.mean() - 128) < 2
    assert abs(made.std() - 50) < 2
    assert np.array_equal(made, levelled(pixels + np.uint8(3)))


@given(st.integers(1, 80), st.integers(1, 80), st.integers(0, 99))
def test_centre_and_border_part_the_picture_in_two(height: int, width: int, seed: int) -> None:
    pixels = np.random.default_rng(seed).integers(
        129, 256, (height, width, 3), dtype=np.uint8
    )  # nothing is grey 128
    centre, border = (VIEWS[name].make(shown(pixels)) for name in ("centre", "border"))
    assert border.shape == pixels.shape
    hidden = (border == 128).all(2)
    assert int(hidden.sum()) == centre.shape[0] * centre.shape[1]
    assert np.array_equal(pixels[hidden].reshape(centre.shape), centre)  # one rectangle, the same
    assert np.array_equal(border[~hidden], pixels[~hidden])
    rows, columns = np.flatnonzero(hidden.any(1)), np.flatnonzero(hidden.any(0))
    for kept, side in ((rows, height), (columns, width)):
        assert abs(kept[0] - (side - 1 - kept[-1])) <= 1  # in the middle
        assert abs(len(kept) - max(1, side / 2**0.5)) <= 0.5  # half of the area


def test_the_centre_of_a_large_picture_is_half_of_its_area() -> None:
    centre = VIEWS["centre"].make(shown(np.zeros((400, 600, 3), np.uint8)))
    assert centre.shape[0] * centre.shape[1] / 240_000 == pytest.approx(0.5, abs=0.003)


def test_raw_is_the_picture_itself() -> None:
    pixels = smooth(9, 7)
    assert np.array_equal(VIEWS["raw"].make(shown(pixels)), pixels)


FILES: dict[str, dict[str, Any]] = {
    "JPEG 50, 4:2:0": {"kind": "JPEG", "quality": 50, "subsampling": 2},
    "JPEG 95, 4:4:4": {"kind": "JPEG", "quality": 95, "subsampling": 0},
    "JPEG 80, 4:2:2": {"kind": "JPEG", "quality": 80, "subsampling": 1},
    "grey JPEG": {"kind": "JPEG", "quality": 70, "grey": True},
    "own tables": {"kind": "JPEG", "qtables": [list(range(1, 65)), [9] * 64], "subsampling": 0},
    "PNG": {"kind": "PNG"},
    "WebP": {"kind": "WEBP", "quality": 60},
    "GIF": {"kind": "GIF", "grey": True},
}


@pytest.mark.parametrize("how", FILES.values(), ids=FILES)
def test_noise_has_the_size_and_the_encoder_of_the_picture(
    how: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    facts = read_facts(encoded(smooth(45, 70), **how))
    written: list[bytes] = []

    def watched(data: bytes, limits: Limits, **more: Any) -> Pixels:
        written.append(data)
        return decode(data, limits, **more)

    monkeypatch.setattr(views, "decode", watched)
    made = VIEWS["noise"].make(shown(smooth(45, 70), facts))
    assert made.shape == (45, 70, 3)
    again = read_facts(written[0])
    assert (again.format, again.width, again.height) == (facts.format, 70, 45)
    assert (again.tables, again.subsampling) == (facts.tables, facts.subsampling)
    assert (again.mode == "L") == (facts.mode == "L") or facts.format == "GIF"
    assert bool(again.tables) == (facts.format == "JPEG")


def test_noise_does_not_depend_on_content_and_is_equal_for_equal_uids() -> None:
    facts = read_facts(encoded(smooth(50, 60), "JPEG", quality=80))
    make = VIEWS["noise"].make
    one = make(shown(smooth(50, 60, seed=1), facts, "a" * 32))
    assert np.array_equal(one, make(shown(np.zeros((50, 60, 3), np.uint8), facts, "a" * 32)))
    other = make(shown(smooth(50, 60, seed=1), facts, "b" * 32))
    assert abs(pearson(one.ravel(), other.ravel())) < 0.6
    assert not np.array_equal(one, make(shown(smooth(50, 60), facts, "a" * 32, seed=2)))


def test_noise_resembles_the_grain_of_photographs_and_shows_nothing() -> None:
    facts = facts_of_array(np.zeros((256, 256, 3), np.uint8))
    made = np.stack(
        [VIEWS["noise"].make(shown(np.zeros((1, 1, 3), np.uint8), facts, f"{n:032x}")) for n in range(8)]
    )
    assert abs(made.mean() - 128) < 12
    assert 25 < made.std() < 60
    power = np.abs(np.fft.rfft2(made.mean(3) - made.mean((1, 2, 3))[:, None, None])).mean(0)
    low, high = power[0, 2:5].mean(), power[0, 40:100].mean()
    assert 6 < low / high < 40  # amplitudes fall as 1/f: 20 times from 3.5 to 70 cycles


def test_noise_larger_than_its_tile_repeats_it() -> None:
    facts = facts_of_array(np.zeros((1, 1, 1), np.uint8))
    large = Facts(format="PNG", mode="RGB", width=2100, height=1100, size=1)
    name = "c" * 32
    made = VIEWS["noise"].make(shown(np.zeros((1, 1, 3), np.uint8), large, name))
    assert made.shape == (1100, 2100, 3)
    assert np.array_equal(made[:76], made[1024:])
    assert np.array_equal(made[:, :52], made[:, 2048:])
    small = Facts(format="PNG", mode="RGB", width=300, height=200, size=1)
    assert np.array_equal(
        VIEWS["noise"].make(shown(np.zeros((1, 1, 3), np.uint8), small, name)), made[:200, :300]
    )
    assert VIEWS["noise"].make(shown(np.zeros((1, 1, 3), np.uint8), facts, name)).shape == (1, 1, 3)


def test_noise_of_a_large_jpeg_is_decoded_at_the_fraction_the_picture_is() -> None:
    data = encoded(smooth(1540, 1600), "JPEG", quality=60)
    dataset = in_memory([data])
    real = dataset.decoded(data, at_least=views.ENOUGH)
    assert real.shape == (770, 800, 3)
    assert VIEWS["noise"].make(shown(real, read_facts(data))).shape == real.shape


@pytest.mark.parametrize(("name", "side"), [("recode", 40), ("together", 20)])
@pytest.mark.parametrize("shape", [(120, 200), (400, 130), (10, 15)])
def test_the_common_encoding_has_the_stated_side_and_quality(
    name: str, side: int, shape: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[bytes] = []

    def watched(pixels: Pixels, quality: int) -> bytes:
        written.append(encode_jpeg(pixels, quality))
        return written[-1]

    monkeypatch.setattr(views, "encode_jpeg", watched)
    assert VIEWS[name].make(shown(smooth(*shape))).shape == (side, side, 3)
    facts = read_facts(written[0])
    stated = read_facts(encoded(smooth(8, 8), "JPEG", quality=QUALITY))
    assert (facts.width, facts.height, facts.subsampling) == (side, side, "4:2:0")
    assert facts.tables == stated.tables
    assert len(written) == 1


def test_together_sees_neither_border_nor_brightness() -> None:
    pixels = smooth(90, 90).clip(60, 200)
    changed = pixels.copy()
    changed[:10], changed[-10:], changed[:, :10], changed[:, -10:] = 0, 255, 0, 255
    changed[10:-10, 10:-10] += np.uint8(3)
    make = VIEWS["together"].make
    assert np.array_equal(make(shown(pixels)), make(shown(changed)))


def in_memory(data: Sequence[bytes], channels: Any = 3) -> ImageDataset:
    class Held:
        def encoded(self, index: int) -> bytes:
            return data[index]

    return ImageDataset(
        spec="drawn", name="drawn", labels=np.zeros(len(data), np.int32), class_names=("a",), source=Held(),
        channels=channels, file_names=[f"{row}.png" for row in range(len(data))],
    )  # fmt: skip


def stock_of(*sets: ImageDataset) -> Stock:
    sources = [Source(name=f"s{n}", dataset=one, rows=np.arange(len(one))) for n, one in enumerate(sets)]
    stock = draw(sources, 10**6, 1)
    read_headers(stock, workers=1, progress=Silent())
    return stock


def sized(sides: Sequence[Sequence[int]]) -> Stock:
    """A stock of which only the sizes are known: for each source the shorter sides; 0 has no header."""
    each = max(map(len, sides))
    blank = encoded(np.zeros((1, 1, 3), np.uint8))
    stock = draw([Source(name=f"s{n}", dataset=in_memory([blank] * each), rows=np.arange(each)) for n in range(len(sides))], each, 1)  # fmt: skip # noqa: E501
    flat = [side for source in sides for side in [*source, *[source[-1]] * (each - len(source))]]
    stock.facts[:] = [
        None if not side else Facts(format="PNG", mode="RGB", width=side + 7, height=side, size=1)
        for side in flat
    ]
    return stock


@given(st.lists(st.integers(1, 3000), min_size=2, max_size=4), st.integers(0, 99))
def test_common_sizes_shrink_the_smallest_source_enough_within_their_bounds(
    sides: list[int], seed: int
) -> None:
    found = setting(sized([[side] * 30 for side in sides]), seed)
    least = min(sides)
    assert 16 <= found.recode <= 2 * SIDE
    assert 16 <= found.together <= SIDE // 2
    assert found.seed == seed
    assert found.recode == min(max(int(least / 3), 16), 128)
    assert found.together == min(max(int(least * 0.5**0.5 / 6), 16), 32)


def test_one_tiny_picture_does_not_decide_the_common_sizes_but_many_do() -> None:
    many = [300] * 39
    assert setting(sized([[5, *many], [600] * 40]), 1).recode == 100
    assert setting(sized([[60] * 4 + [300] * 36, [600] * 40]), 1).recode == 20


def test_common_sizes_leave_out_pictures_without_a_header() -> None:
    assert setting(sized([[0] * 10 + [300] * 30, [600] * 40]), 1).recode == 100
    nothing = setting(sized([[0] * 40, [600] * 40]), 1)
    assert (nothing.recode, nothing.together) == (21, 16)  # as of 64 pixels


def test_reductions_are_of_the_shorter_side() -> None:
    stock = sized([[300] * 30, [0] * 15 + [60] * 15])
    assert reductions(stock, 100)[:30].tolist() == [3.0] * 30
    half = reductions(stock, 20, part=0.5)
    assert half[0] == 7.5
    assert np.isnan(half[30:45]).all()
    assert half[45:].tolist() == [1.5] * 15


def photographs(count: int = 30) -> list[bytes]:
    return [encoded(smooth(40, 50, seed=row), "JPEG", quality=85) for row in range(count)]


def test_looking_makes_every_view_of_every_picture_whatever_the_number_of_workers() -> None:
    arrays = np.random.default_rng(0).integers(0, 256, (30, 20, 24, 1), dtype=np.uint8)
    grey = ImageDataset(
        spec="x", name="x", labels=np.zeros(30, np.int32), class_names=(), source=ArraySource(arrays), channels=1,
        array=arrays,
    )  # fmt: skip
    data = photographs()
    data[3], data[4] = data[2], data[2][: len(data[2]) // 2]
    stock = stock_of(in_memory(data), grey)
    common = setting(stock, 1)
    one, three = (
        look(stock, tuple(VIEWS), common, workers=workers, memory=2**28, progress=Silent())
        for workers in (1, 3)
    )
    assert set(one.views) == set(VIEWS)
    for name, view in one.views.items():
        assert view.pixels.shape == (60, SIDE, SIDE, 3)
        assert np.array_equal(view.pixels, three.views[name].pixels)
        assert np.array_equal(view.traces, three.views[name].traces)
        assert view.traces.any() == VIEWS[name].traces
        assert np.array_equal(view.facts, one.views["raw"].facts, equal_nan=True)
    assert one.hashes == three.hashes
    assert one.hashes[2] == one.hashes[3]
    assert len(set(one.hashes)) == 59
    assert stock.status[4] == "unreadable"
    assert stock.error[4]
    assert one.hashes[4] == ""
    assert stock.status.count("ok") == 59
    assert (one.views["raw"].pixels[30:, :, :, 0] == one.views["raw"].pixels[30:, :, :, 2]).all()  # grey
    assert one.views["raw"].facts[0, :2].tolist() == [50, 40]
    assert one.grey.shape == (60, 32, 32)
    some = one.only(np.array([2, 40]))
    assert some.hashes == [one.hashes[2], one.hashes[40]]
    assert np.array_equal(some.views["noise"].pixels[1], one.views["noise"].pixels[40])
    assert np.array_equal(some.grey[0], one.grey[2])


def test_only_what_is_asked_for_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    def never(_: int) -> Pixels:
        raise AssertionError("noise was made")

    monkeypatch.setattr(views, "_noise_tile", never)
    stock = stock_of(in_memory(photographs()), in_memory(photographs(40)))
    seen = look(stock, ("raw", "centre"), COMMON, workers=1, memory=2**28, progress=Silent())
    assert set(seen.views) == {"raw", "centre"}


def test_a_picture_without_a_header_is_passed_over() -> None:
    data = [*photographs(29), b"no picture"]
    stock = stock_of(in_memory(data), in_memory(photographs()))
    bad = stock.uid.index(uid(b"no picture"))
    before = stock.error[bad]
    seen = look(stock, ("raw",), COMMON, workers=1, memory=2**28, progress=Silent())
    assert (stock.error[bad], seen.hashes[bad]) == (before, "")
    assert not seen.views["raw"].pixels[bad].any()


def test_single_pixels_have_all_views() -> None:
    dots = [encoded(np.full((1, 1, 3), level, np.uint8)) for level in range(30)]
    stock = stock_of(in_memory(dots), in_memory(dots[::-1]))
    seen = look(stock, tuple(VIEWS), setting(stock, 1), workers=1, memory=2**28, progress=Silent())
    assert stock.status == ["ok"] * 60
    assert all(np.isfinite(view.traces).all() for view in seen.views.values())
