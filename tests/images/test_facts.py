"""What a header says: read without decoding, the same whatever the pixels, and defined for every format."""

from __future__ import annotations

import io
import math
import struct
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, PngImagePlugin

from dataset_audit.images.bad_image import BadImage
from dataset_audit.images.facts import FACTS, FORMATS, MODES, SUBSAMPLINGS, Facts, facts_of_array, read_facts

HEIGHT, WIDTH = 37, 53
NAMES = [*FACTS]


def picture(seed: int = 0) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8))


def encode(image: Image.Image, kind: str, **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def exif() -> bytes:
    told = Image.Exif()
    told[0x0112] = 6  # lying on its side
    told.get_ifd(0x8769)[0x9003] = "2020:01:01 00:00:00"
    return told.tobytes()


def fact(facts: Facts, name: str) -> float:
    return float(facts.vector()[NAMES.index(name)])


@pytest.mark.parametrize("kind", [name for name in FORMATS if name != "array"])
def test_format_and_size_are_those_of_the_file(kind: str) -> None:
    data = encode(picture(), kind)
    facts = read_facts(data)
    assert (facts.format, facts.width, facts.height, facts.size) == (kind, WIDTH, HEIGHT, len(data))
    assert facts.mode == ("P" if kind == "GIF" else "RGB")
    assert bool(facts.tables) == bool(facts.subsampling) == (kind == "JPEG")
    assert not facts.exif
    assert not facts.icc


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "AVIF", "TIFF"])
def test_exif_and_profile_are_seen_each_for_itself(kind: str) -> None:
    only_exif = read_facts(encode(picture(), kind, exif=exif()))
    assert (only_exif.exif, only_exif.icc) == (True, False)
    assert (only_exif.width, only_exif.height) == (WIDTH, HEIGHT)  # as stored, not turned
    only_icc = read_facts(encode(picture(), kind, icc_profile=b"profile" * 20_000))
    assert (only_icc.exif, only_icc.icc) == (False, True)


def test_exif_in_a_text_of_a_png_counts() -> None:
    told = PngImagePlugin.PngInfo()
    told.add_text("Raw profile type exif", "\nexif\n      4\n45786966\n", zip=True)
    assert read_facts(encode(picture(), "PNG", pnginfo=told)).exif


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "I;16"])
def test_the_mode_of_a_png_is_the_stored_one(mode: str) -> None:
    image = (
        Image.fromarray(np.zeros((4, 4), np.uint16))
        if mode == "I;16"
        else Image.new("RGB", (4, 4)).convert(mode)
    )
    facts = read_facts(encode(image, "PNG"))
    assert facts.mode == mode
    assert fact(facts, "mode") == MODES.index(mode)


@pytest.mark.parametrize(("mode", "tables"), [("L", 1), ("CMYK", 1), ("RGB", 2)])
def test_grey_and_cmyk_jpegs_have_no_subsampling_of_their_own(mode: str, tables: int) -> None:
    facts = read_facts(encode(picture().convert(mode), "JPEG"))
    assert (facts.mode, len(facts.tables)) == (mode, tables)
    assert facts.subsampling == ("4:2:0" if mode == "RGB" else "")
    assert math.isnan(fact(facts, "chroma quantiser")) == (tables == 1)
    assert fact(facts, "luma quantiser") == pytest.approx(np.mean(facts.tables[0]))


@pytest.mark.parametrize("subsampling", SUBSAMPLINGS)
@pytest.mark.parametrize("progressive", [False, True])
def test_subsampling_and_scans_of_a_jpeg_are_told(subsampling: str, progressive: bool) -> None:
    facts = read_facts(encode(picture(), "JPEG", subsampling=subsampling, progressive=progressive))
    assert (facts.subsampling, facts.progressive) == (subsampling, progressive)
    assert fact(facts, "subsampling") == SUBSAMPLINGS.index(subsampling)
    assert fact(facts, "progressive") == progressive


@given(st.integers(1, 100), st.integers(1, 100))
def test_a_lower_quality_has_a_larger_quantiser(one: int, other: int) -> None:
    first, second = (read_facts(encode(picture(), "JPEG", quality=quality)) for quality in (one, other))
    for name in ("luma quantiser", "chroma quantiser"):
        assert fact(first, name) >= fact(second, name) or one > other
    assert (first.tables == second.tables) == (one == other)


def test_tables_are_in_the_order_of_rows_not_of_the_zigzag() -> None:
    table = list(range(1, 65))
    facts = read_facts(encode(picture(), "JPEG", qtables=[table, table[::-1]]))
    assert facts.tables == (tuple(table), tuple(table[::-1]))


def test_the_vector_is_the_facts_in_their_order() -> None:
    facts = Facts(
        format="JPEG", mode="RGB", width=40, height=10, size=800, tables=((2,) * 64, (4,) * 64, (9,) * 64),
        subsampling="4:2:2", progressive=True, exif=False, icc=True,
    )  # fmt: skip
    vector = facts.vector()
    assert vector.dtype == np.float32
    assert vector.tolist() == [40, 10, 40, 4, 2, 0, 0, 2, 4, 1, 1, 0, 1]
    assert len(vector) == len(FACTS)


def test_what_a_format_cannot_have_is_not_a_number_and_the_unknown_has_a_place_of_its_own() -> None:
    vector = read_facts(encode(picture(), "PNG")).vector()
    missing = [name for name, value in zip(FACTS, vector, strict=True) if math.isnan(value)]
    assert missing == ["luma quantiser", "chroma quantiser", "subsampling"]
    odd = Facts(format="JPEG", mode="HSV", width=1, height=1, size=1, tables=((1,) * 64,), subsampling="")
    assert fact(odd, "mode") == len(MODES)
    assert fact(odd, "subsampling") == len(SUBSAMPLINGS)


def test_facts_of_an_array_are_its_size_and_raw_bytes() -> None:
    colour, grey = (facts_of_array(np.zeros((5, 7, channels), np.uint8)) for channels in (3, 1))
    assert (colour.format, colour.mode, colour.width, colour.height, colour.size) == (
        "array",
        "RGB",
        7,
        5,
        105,
    )
    assert (grey.mode, grey.size) == ("L", 35)
    assert fact(colour, "bytes per pixel") == 3


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "AVIF"])
def test_every_cut_of_a_file_gives_the_same_size_or_a_bad_image(kind: str) -> None:
    data = encode(picture(), kind)
    good = 0
    for length in [*range(0, min(700, len(data)), 3), *range(700, len(data), 97)]:
        try:
            facts = read_facts(data[:length])
        except BadImage:
            continue
        assert (facts.format, facts.width, facts.height, facts.size) == (kind, WIDTH, HEIGHT, length)
        good += 1
    with pytest.raises(BadImage):
        read_facts(data[:7])
    assert good or kind in {"WEBP", "AVIF"}  # their readers want the whole file


def test_pixels_are_not_decoded() -> None:
    data = encode(Image.new("RGB", (4000, 4000)), "PNG")
    broken = bytearray(data)
    start = data.index(b"IDAT") + 4
    length = struct.unpack(">I", data[start - 8 : start - 4])[0]
    broken[start : start + length] = bytes(length)
    assert read_facts(bytes(broken)).vector()[:5].tolist() == read_facts(data).vector()[:5].tolist()


@pytest.mark.parametrize("data", [b"", b"not an image", b"\xff\xd8\xff\xe0", b"%PDF-1.4"])
def test_what_is_no_image_is_a_bad_one(data: bytes) -> None:
    with pytest.raises(BadImage):
        read_facts(data)
