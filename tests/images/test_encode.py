"""Pixels encoded as another file was: the same tables, the same subsampling, and decodable."""

from __future__ import annotations

import io
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from dataset_audit.images.decode import Limits, decode
from dataset_audit.images.encode import encode_jpeg, encode_like
from dataset_audit.images.facts import SUBSAMPLINGS, Facts, facts_of_array, read_facts

Pixels = NDArray[np.uint8]


def noise(seed: int, height: int = 40, width: int = 56) -> Pixels:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def smooth(height: int = 40, width: int = 56) -> Pixels:
    y, x = np.mgrid[:height, :width]
    return np.stack([x * 4, y * 5, 255 - x * 2 - y * 2], axis=2).astype(np.uint8)


def encode(pixels: Pixels, kind: str, mode: str = "RGB", **options: Any) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).convert(mode).save(file, kind, **options)
    return file.getvalue()


@given(
    st.integers(1, 100),
    st.sampled_from(SUBSAMPLINGS),
    st.booleans(),
    st.integers(1, 40),
    st.integers(1, 40),
)
def test_a_jpeg_gets_the_tables_and_the_subsampling_exactly(
    quality: int, subsampling: str, progressive: bool, height: int, width: int
) -> None:
    model = read_facts(
        encode(noise(1), "JPEG", quality=quality, subsampling=subsampling, progressive=progressive)
    )
    data = encode_like(noise(2, height, width), model)
    found = read_facts(data)
    assert (found.format, found.mode) == ("JPEG", "RGB")
    assert found.tables == model.tables
    assert found.subsampling == model.subsampling
    assert decode(data, Limits()).shape == (height, width, 3)


@pytest.mark.parametrize("tables", [1, 2, 3])
def test_uncommon_tables_are_kept_too(tables: int) -> None:
    drawn = np.random.default_rng(tables).integers(1, 256, (tables, 64)).tolist()
    model = read_facts(encode(noise(1), "JPEG", qtables=drawn))
    assert model.tables == tuple(map(tuple, drawn))
    assert read_facts(encode_like(noise(2), model)).tables == model.tables


@given(st.integers(1, 100))
def test_a_grey_jpeg_gets_its_table_and_one_channel(quality: int) -> None:
    model = read_facts(encode(noise(1), "JPEG", "L", quality=quality))
    found = read_facts(encode_like(noise(2), model))
    assert (found.mode, found.tables, found.subsampling) == ("L", model.tables, "")


def test_a_cmyk_jpeg_gives_a_colour_jpeg_of_its_table() -> None:
    model = read_facts(encode(noise(1), "JPEG", "CMYK", quality=30))
    found = read_facts(encode_like(noise(2), model))
    assert (found.mode, found.tables) == ("RGB", model.tables)


@pytest.mark.parametrize("quality", [10, 50, 95])
@pytest.mark.parametrize("subsampling", [0, 1, 2])
def test_encoding_like_the_first_encoding_gives_its_bytes_again(quality: int, subsampling: int) -> None:
    first = encode(noise(3), "JPEG", quality=quality, subsampling=subsampling)
    assert encode_like(noise(3), read_facts(first)) == first


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF", "PPM"])
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_formats_without_loss_stay_without_loss(kind: str, mode: str) -> None:
    model = read_facts(encode(noise(1), kind, mode))
    out = decode(encode_like(noise(2), model), Limits())
    expected = np.asarray(Image.fromarray(noise(2)).convert(mode).convert("RGB"))
    assert np.array_equal(out, expected)


def test_an_array_stays_without_loss() -> None:
    model = facts_of_array(noise(1))
    assert np.array_equal(decode(encode_like(noise(2), model), Limits()), noise(2))


@pytest.mark.parametrize("kind", ["WEBP", "AVIF", "GIF"])
@pytest.mark.parametrize("size", [(1, 1), (1, 30), (40, 56)])
def test_formats_with_loss_lose_what_theirs_loses(kind: str, size: tuple[int, int]) -> None:
    model = read_facts(encode(smooth(), kind))
    pixels = smooth(*size)
    data = encode_like(pixels, model)
    assert read_facts(data).format == kind
    out = decode(data, Limits())
    assert out.shape == pixels.shape
    assert np.abs(out.astype(int) - pixels).mean() < 6
    assert size != (40, 56) or not np.array_equal(out, pixels)


def test_a_gif_has_no_more_than_256_colours() -> None:
    model = read_facts(encode(smooth(), "GIF"))
    out = decode(encode_like(noise(5, 64, 64), model), Limits())
    assert 100 < len(np.unique(out.reshape(-1, 3), axis=0)) <= 256


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF", "TIFF"])
def test_grey_pixels_of_one_channel_are_taken(kind: str) -> None:
    model = read_facts(encode(smooth(), kind))
    grey = smooth()[:, :, :1]
    out = decode(encode_like(grey, model), Limits())
    assert np.abs(out.astype(int) - grey).mean() < 4
    assert (np.ptp(out, axis=2) <= 2).all()


def test_a_subsampling_without_a_name_keeps_all_chroma() -> None:
    model = read_facts(encode(noise(1), "JPEG", quality=90, subsampling=2))
    odd = replace(model, subsampling="")
    assert read_facts(encode_like(noise(2), odd)).subsampling == "4:4:4"


def test_a_jpeg_without_known_tables_gets_the_usual_ones() -> None:
    bare = Facts(format="JPEG", mode="L", width=8, height=8, size=100)
    assert decode(encode_like(noise(1), bare), Limits()).shape == (40, 56, 3)
    assert decode(encode_like(noise(1), replace(bare, mode="RGB")), Limits()).shape == (40, 56, 3)


@given(st.integers(1, 95))
def test_the_common_encoding_is_pillows_with_halved_chroma(quality: int) -> None:
    assert encode_jpeg(noise(1), quality) == encode(noise(1), "JPEG", quality=quality, subsampling=2)
    facts = read_facts(encode_jpeg(noise(1), quality))
    assert (facts.subsampling, facts.progressive) == ("4:2:0", False)


def test_pixels_that_are_a_view_are_encoded_as_they_look() -> None:
    model = read_facts(encode(noise(1), "PNG"))
    turned = noise(2)[::-1, ::2].swapaxes(0, 1)
    assert np.array_equal(decode(encode_like(turned, model), Limits()), turned)
