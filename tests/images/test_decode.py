"""What comes out of ``decode`` for every kind of picture; what does not is in test_bad_files.py."""

from __future__ import annotations

import csv
import io
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageOps

from dataset_audit.images import pixels
from dataset_audit.images.decode import BadImage, Limits, decode, peak_bytes

LIMITS = Limits()
RAMP = (np.indices((6, 8)).sum(0)[:, :, None] * np.array([9, 5, 3])).astype(np.uint8)


def encode(picture: Image.Image, kind: str, **options: Any) -> bytes:
    file = io.BytesIO()
    picture.save(file, kind, **options)
    return file.getvalue()


def png(values: np.ndarray, *, colour: int, depth: int, extra: bytes = b"") -> bytes:
    """Write a PNG by hand, for depths that Pillow does not write: rows of packed bytes, uint8[H, row]."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    high, row = values.shape
    wide = row * 8 // depth // {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[colour]
    header = struct.pack(">IIBBBBB", wide, high, depth, colour, 0, 0, 0)
    rows = b"".join(b"\0" + line.tobytes() for line in values)
    body = chunk(b"IHDR", header) + extra + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


def test_result_is_contiguous_uint8_with_a_channel_axis() -> None:
    for mode, channels in (("RGB", 3), ("L", 1)):
        out = decode(encode(Image.fromarray(RAMP), "PNG"), LIMITS, mode)
        assert out.dtype == np.uint8
        assert out.shape == (6, 8, channels)
        assert out.flags.c_contiguous


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "BMP", "TIFF", "PPM", "GIF"])
def test_lossless_formats_give_the_pixels_back(kind: str) -> None:
    options = {"lossless": True} if kind == "WEBP" else {}
    source = Image.fromarray(RAMP) if kind != "GIF" else Image.fromarray(RAMP).quantize(64)
    out = decode(encode(source, kind, **options), LIMITS)
    assert np.array_equal(out, np.asarray(source.convert("RGB")))


def test_jpeg_equals_pillow() -> None:
    data = encode(Image.fromarray(RAMP), "JPEG", quality=90)
    assert np.array_equal(decode(data, LIMITS), np.asarray(Image.open(io.BytesIO(data))))


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_content_decides_the_format_not_a_name_i5(kind: str) -> None:
    assert decode(encode(Image.fromarray(RAMP), kind), LIMITS).shape == (6, 8, 3)


@pytest.mark.parametrize("size", [(1, 1), (1, 5000), (5000, 1)], ids=["I7-point", "I7-column", "I7-row"])
def test_extreme_shapes_decode(size: tuple[int, int]) -> None:
    assert decode(encode(Image.new("RGB", size), "PNG"), LIMITS).shape == (size[1], size[0], 3)


def test_jpeg_at_its_longest_side_decodes_i7() -> None:
    assert decode(encode(Image.new("L", (65_500, 1)), "JPEG"), LIMITS, "L").shape == (1, 65_500, 1)


def test_grey_is_the_luma_of_the_colours() -> None:
    out = decode(encode(Image.new("RGB", (2, 2), (200, 100, 50)), "PNG"), LIMITS, "L")
    assert out[0, 0, 0] == round(0.299 * 200 + 0.587 * 100 + 0.114 * 50)


def test_several_frames_give_the_first_i15() -> None:
    frames = [Image.new("RGB", (4, 4), (shade, 0, 0)) for shade in (10, 90, 200)]
    for kind in ("GIF", "PNG", "WEBP", "TIFF"):
        options = {"lossless": True} if kind == "WEBP" else {}
        data = encode(frames[0], kind, save_all=True, append_images=frames[1:], **options)
        assert (decode(data, LIMITS) == [10, 0, 0]).all(), kind


def test_a_gif_of_very_many_frames_is_not_walked_i15() -> None:
    first = encode(Image.new("P", (2, 2)), "GIF")
    data = first[:-1] + first[first.index(b",") : -1] * 100_000 + b";"
    assert decode(data, LIMITS).shape == (2, 2, 3)


def test_a_phone_picture_with_a_second_frame_gives_the_first_i6() -> None:
    frames = [Image.fromarray(RAMP), Image.new("RGB", (3, 3))]
    data = encode(frames[0], "MPO", save_all=True, append_images=frames[1:])
    assert decode(data, LIMITS).shape == (6, 8, 3)


# -- depth -------------------------------------------------------------------------------------------------


def test_16_bit_grey_is_scaled_not_clipped_i18() -> None:
    values = np.linspace(0, 65_520, 4096).astype(np.uint16).reshape(64, 64)
    for kind in ("PNG", "TIFF"):
        out = decode(encode(Image.fromarray(values), kind), LIMITS, "L")
        assert abs(out.mean() - 127.5) < 0.6, kind
        assert np.abs(out[:, :, 0].astype(float) - values / 257).max() <= 0.5, kind


def test_a_pgm_of_16_bits_follows_the_same_rule_i20() -> None:
    values = np.array([[0, 257, 25_700, 65_535]], ">u2")
    data = b"P5 4 1 65535\n" + values.tobytes()
    assert decode(data, LIMITS, "L").ravel().tolist() == [0, 1, 100, 255]


def test_16_bit_colour_is_within_one_level_i19() -> None:
    row = np.array([[1000, 30_000, 65_000]], ">u2").view(np.uint8)
    out = decode(png(row, colour=2, depth=16), LIMITS)
    assert np.abs(out.ravel().astype(float) - np.array([1000, 30_000, 65_000]) / 257).max() <= 1


@pytest.mark.parametrize("depth", [1, 2, 4, 8])
def test_shallow_grey_fills_the_range_i20(depth: int) -> None:
    top = (1 << depth) - 1
    values = np.array([[0] * (8 // depth - 1) + [top]], np.uint8)
    packed = np.zeros((1, 1), np.uint8)
    for value in values[0]:
        packed[0, 0] = packed[0, 0] << depth | value if depth < 8 else value
    out = decode(png(packed, colour=0, depth=depth), LIMITS, "L")
    assert out.ravel()[-1] == 255


def test_integer_tiff_is_scaled_by_its_32_bits_i20() -> None:
    values = np.array([[0, 2**31 - 1, 2**30]], np.int32)
    out = decode(encode(Image.fromarray(values, "I"), "TIFF"), LIMITS, "L")
    assert out.ravel().tolist() == [0, 255, 128]  # signed: the top is 2**31 - 1


@pytest.mark.parametrize(("top", "expected"), [(1.0, 255), (200.0, 200)])
def test_float_grey_is_taken_as_0_to_1_or_0_to_255_i20(top: float, expected: int) -> None:
    values = np.array([[0, top / 2, top]], np.float32)
    assert decode(encode(Image.fromarray(values), "TIFF"), LIMITS, "L").max() == expected


def test_white_is_zero_is_turned_in_16_bits() -> None:
    data = bytearray(encode(Image.fromarray(np.array([[0, 65_535]], np.uint16)), "TIFF"))
    entry = data.index(struct.pack("<HHI", 262, 3, 1)) + 8
    assert data[entry] == 1
    data[entry] = 0
    assert decode(bytes(data), LIMITS, "L").ravel().tolist() == [255, 0]


# -- transparency ------------------------------------------------------------------------------------------


def grounds(data: bytes) -> list[list[int]]:
    """Return the first pixel on white, on black and on green."""
    return [
        decode(data, Limits(background=ground))[0, 0].tolist()
        for ground in ((255, 255, 255), (0, 0, 0), (0, 200, 0))
    ]


CLEAR = [[255, 255, 255], [0, 0, 0], [0, 200, 0]]


def clear_rgba() -> Image.Image:
    return Image.new("RGBA", (4, 4), (10, 20, 30, 0))


def clear_palette(kind: str, transparency: int | bytes) -> bytes:
    picture = Image.fromarray(np.arange(16, dtype=np.uint8).reshape(4, 4))
    picture.putpalette([90, 91, 92] * 16)
    return encode(picture, kind, transparency=transparency)


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(encode(clear_rgba(), "PNG"), id="I20-rgba-png"),
        pytest.param(encode(clear_rgba(), "WEBP", lossless=True), id="I20-rgba-webp"),
        pytest.param(encode(clear_rgba(), "TIFF"), id="I20-rgba-tiff"),
        pytest.param(encode(clear_rgba().convert("LA"), "PNG"), id="I20-la"),
        pytest.param(clear_palette("PNG", bytes([0, 128] + [255] * 14)), id="I20-palette-bytes"),
        pytest.param(clear_palette("PNG", 0), id="I20-palette-index"),
        pytest.param(clear_palette("GIF", 0), id="I20-gif"),
        pytest.param(encode(Image.new("L", (4, 4), 7), "PNG", transparency=7), id="I20-grey-colour"),
        pytest.param(
            encode(Image.new("RGB", (4, 4), (1, 2, 3)), "PNG", transparency=(1, 2, 3)), id="I20-rgb-colour"
        ),
        pytest.param(
            encode(Image.fromarray(np.full((4, 4), 999, np.uint16)), "PNG", transparency=999), id="I20-16-bit"
        ),
        pytest.param(encode(Image.new("1", (4, 4), 1), "PNG", transparency=1), id="I20-1-bit"),
    ],
)
def test_clear_pixels_show_the_background(data: bytes) -> None:
    assert grounds(data) == CLEAR


def test_a_transparent_grey_counts_in_the_depth_of_the_file() -> None:
    chunk = b"tRNS" + struct.pack(">H", 2)
    extra = struct.pack(">I", 2) + chunk + struct.pack(">I", zlib.crc32(chunk))
    data = png(np.array([[0b10_01_10_11]], np.uint8), colour=0, depth=2, extra=extra)
    out = decode(data, Limits(background=(0, 0, 9)))
    assert out[0].tolist() == [[0, 0, 9], [85, 85, 85], [0, 0, 9], [255, 255, 255]]


def test_half_clear_is_half_background() -> None:
    data = encode(Image.new("RGBA", (4, 4), (200, 0, 100, 128)), "PNG")
    white, black, _ = grounds(data)
    assert black == [100, 0, 50]
    assert white == [227, 127, 177]


def test_opaque_pixels_ignore_the_background() -> None:
    data = encode(Image.fromarray(RAMP).convert("RGBA"), "PNG")
    assert np.array_equal(decode(data, Limits(background=(9, 9, 9))), RAMP)


# -- colour spaces -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["JPEG", "TIFF"], ids=["I17-jpeg", "I17-tiff"])
def test_cmyk_becomes_the_colours_it_was_made_of(kind: str) -> None:
    picture = Image.new("RGB", (16, 16), (200, 100, 50)).convert("CMYK")
    assert np.abs(decode(encode(picture, kind), LIMITS).astype(int) - [200, 100, 50]).max() <= 3


def test_cmyk_jpeg_is_inverted_with_or_without_its_marker_i17() -> None:
    picture = Image.new("RGB", (16, 16), (200, 100, 50)).convert("CMYK")
    data = encode(picture, "JPEG")
    start = data.index(b"\xff\xee")
    plain = data[:start] + data[start + 2 + int.from_bytes(data[start + 2 : start + 4], "big") :]
    assert plain != data
    assert np.array_equal(decode(plain, LIMITS), decode(data, LIMITS))


# -- orientation -------------------------------------------------------------------------------------------


def turned(kind: str, value: Any) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = value
    options = {"lossless": True} if kind == "WEBP" else {}
    return encode(Image.fromarray(RAMP), kind, exif=exif, **options)


@pytest.mark.parametrize("value", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_every_orientation_is_turned_upright_i21(kind: str, value: int) -> None:
    data = turned(kind, value)
    expected = ImageOps.exif_transpose(Image.open(io.BytesIO(data)))
    assert np.array_equal(decode(data, LIMITS), np.asarray(expected))


@pytest.mark.parametrize("value", [0, 9, 255])
def test_an_orientation_that_is_none_is_ignored_i21(value: int) -> None:
    assert decode(turned("JPEG", value), LIMITS).shape == (6, 8, 3)


@pytest.mark.parametrize("damage", ["count", "loop", "garbage", "cut"])
def test_malformed_exif_leaves_the_picture_as_it_is_i21(damage: str) -> None:
    tiff = struct.pack("<2sHIHHHII", b"II", 42, 8, 1, 0x0112, 3, 2**32 - 1, 6) + struct.pack("<I", 8)
    block = {"count": tiff, "loop": tiff, "garbage": b"\xde\xad" * 20, "cut": tiff[:9]}[damage]
    data = encode(Image.fromarray(RAMP), "JPEG", exif=b"Exif\0\0" + block)
    assert decode(data, LIMITS).shape == (6, 8, 3)


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "LA", "P", "1", "I;16", "F", "I", "CMYK"])
@pytest.mark.parametrize("value", [1, 3, 6, 7])
def test_strips_give_the_same_as_the_whole(monkeypatch: pytest.MonkeyPatch, mode: str, value: int) -> None:
    rng = np.random.default_rng(3)
    if mode in ("I;16", "I", "F"):
        dtype = {"I;16": np.uint16, "I": np.int32, "F": np.float32}[mode]
        picture = Image.fromarray(rng.integers(0, 200, (23, 9)).astype(dtype))
    else:
        picture = Image.fromarray(rng.integers(0, 256, (23, 9, 4), dtype=np.uint8)).convert(mode)
    exif = Image.Exif()
    exif[0x0112] = value
    data = encode(picture, "TIFF" if mode in ("I", "F", "CMYK") else "PNG", exif=exif)
    whole = decode(data, LIMITS)
    monkeypatch.setattr(pixels, "STRIP_PIXELS", 30)
    assert np.array_equal(decode(data, LIMITS), whole)
    assert whole.shape == ((9, 23, 3) if value >= 5 else (23, 9, 3))


# -- tolerance ---------------------------------------------------------------------------------------------


def test_jpeg_with_junk_between_markers_and_behind_the_end_decodes_i23() -> None:
    data = encode(Image.fromarray(RAMP), "JPEG")
    second = 4 + int.from_bytes(data[4:6], "big")
    for odd in (
        data[:second] + b"\x00\x11\x22" + data[second:],
        data + b"\0" * 10_000_000,
        data[:-2] + b"\xff\xd9\xff\xd9",
        data[:second] + b"\xff\xff" + data[second:],
    ):
        assert np.array_equal(decode(odd, LIMITS), decode(data, LIMITS))


def test_a_flipped_bit_may_decode_which_is_why_uid_exists_i22() -> None:
    noise = np.random.default_rng(1).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    data = bytearray(encode(Image.fromarray(noise), "JPEG"))
    data[len(data) // 2] ^= 1
    assert decode(bytes(data), LIMITS).shape == (64, 64, 3)


def test_nothing_reaches_the_terminal_i21(capfd: pytest.CaptureFixture[str]) -> None:
    group4 = bytearray(encode(Image.new("1", (64, 64)), "TIFF", compression="group4"))
    offset = group4.index(struct.pack("<HHI", 273, 4, 1)) + 8
    start = struct.unpack_from("<I", group4, offset)[0]
    group4[start : start + 8] = b"\xff\x13\x57\x9b\xdf\x24\x68\xac"
    for data in (bytes(group4), turned("JPEG", 6)[:-300], encode(clear_rgba(), "TIFF")[:-8]):
        try:
            decode(data, LIMITS)
        except BadImage:
            continue
    told = capfd.readouterr()
    assert told.out == told.err == ""


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "AVIF"])
def test_peak_is_known_before_decoding(kind: str) -> None:
    data = encode(Image.fromarray(RAMP), kind)
    assert peak_bytes(data) >= 8 * 6 * 8 + len(data)


# -- the forty real files ----------------------------------------------------------------------------------

BAD = {
    "broken.png": "broken",
    "broken_data_stream.png": "broken",
    "crash-2020-10-test.tif": "too large",
    "decompression_bomb.gif": "too large",
    "hopper.heif": "format not accepted: HEIF",
    "png_decompression_dos.png": "metadata too large",
    "reallybig.bmp": "too large",
    "truncated_end_chunk.png": "truncated",
    "truncated_image.png": "truncated",
    "truncated_jpeg.jpg": "truncated",
    "unknown_compression_method.png": "broken",
    "zero_width.gif": "broken",
}
MEANS = {
    "pil_sample_cmyk.jpg": (30.2, 5.4, 7.4),
    "tiff_strip_cmyk_jpeg.tif": (30.2, 5.4, 7.4),
    "hopper_orientation_6.jpg": (89.7, 80.1, 95.3),
    "16bit.cropped.tif": (1.4, 1.4, 1.4),
}


# -- a fraction of the size -----------------------------------------------------------------------------------


def blobs(height: int, width: int) -> np.ndarray:
    """A smooth picture: any way of making it smaller gives nearly the same."""
    y, x = np.mgrid[:height, :width]
    waves = [np.sin(x / 40 + c) + np.cos(y / 30 - c) for c in range(3)]
    return np.rint(np.stack(waves, axis=2) * 50 + 128).astype(np.uint8)


@given(st.integers(1, 400), st.integers(1, 400), st.integers(1, 200))
def test_a_jpeg_shrinks_by_the_largest_fraction_that_leaves_enough(
    height: int, width: int, enough: int
) -> None:
    data = encode(Image.new("L", (width, height)), "JPEG")
    fraction = max([1, *(each for each in (2, 4, 8) if min(height, width) // each >= enough)])
    expected = (-(-height // fraction), -(-width // fraction), 1)
    out = decode(data, LIMITS, "L", at_least=enough)
    assert out.shape == expected
    assert min(expected[:2]) >= min(enough, height, width)


@pytest.mark.parametrize(("enough", "fraction"), [(200, 1), (160, 2), (80, 4), (40, 8), (1, 8)])
@pytest.mark.parametrize("progressive", [False, True])
def test_a_jpeg_decoded_small_shows_the_mean_of_the_whole(
    enough: int, fraction: int, progressive: bool
) -> None:
    data = encode(Image.fromarray(blobs(320, 480)), "JPEG", quality=95, progressive=progressive)
    whole = decode(data, LIMITS).astype(float)
    small = decode(data, LIMITS, at_least=enough)
    squares = whole.reshape(320 // fraction, fraction, 480 // fraction, fraction, 3)
    assert small.shape == (320 // fraction, 480 // fraction, 3)
    assert np.abs(small - squares.mean((1, 3))).mean() < 1.5


def test_a_jpeg_decoded_small_is_upright() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    data = encode(Image.fromarray(blobs(320, 480)), "JPEG", quality=95, exif=exif.tobytes())
    small, whole = decode(data, LIMITS, at_least=80), decode(data, LIMITS)
    assert small.shape == (120, 80, 3)
    assert np.abs(small.astype(float) - whole[::4, ::4]).mean() < 6


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "GIF", "TIFF"])
def test_no_other_format_is_decoded_small(kind: str) -> None:
    data = encode(Image.fromarray(blobs(64, 64)), kind)
    assert np.array_equal(decode(data, LIMITS, at_least=8), decode(data, LIMITS))


def test_a_cut_jpeg_is_bad_at_any_size() -> None:
    data = encode(Image.fromarray(blobs(320, 480)), "JPEG", quality=95)
    for enough in (None, 160, 40):
        with pytest.raises(BadImage, match="truncated"):
            decode(data[: len(data) * 2 // 3], LIMITS, at_least=enough)


@pytest.mark.real_data
def test_the_forty_odd_files_do_what_a_sane_reader_does(real_data: Path) -> None:
    root = real_data / "odd-images"
    with (root / "expected.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 40
    upright = np.asarray(Image.open(root / "hopper.jpg")).astype(float)
    for row in rows:
        name, data = row["file"], (root / row["file"]).read_bytes()
        if name in BAD:
            with pytest.raises(BadImage) as bad:
                decode(data, LIMITS)
            assert bad.value.reason.startswith(BAD[name]), name
            continue
        out = decode(data, LIMITS)
        size = (int(row["height"]), int(row["width"]))
        assert out.shape[:2] == (
            size if row["orientation"] not in "5678" or not row["orientation"] else size[::-1]
        )
        if name in MEANS:
            assert np.abs(out.mean((0, 1)) - MEANS[name]).max() < 0.1, name
        if name.startswith("hopper_orientation"):
            assert np.abs(out - upright).mean() < 5, name


@pytest.mark.real_data
def test_orientation_in_xmp_alone_is_turned(real_data: Path) -> None:
    data = (real_data / "odd-images" / "xmp_tags_orientation_exiftool.png").read_bytes()
    plain = data.replace(b"tiff:Orientation>3", b"tiff:Orientation>1")
    chunk = plain.index(b"iTXt")
    length = struct.unpack_from(">I", plain, chunk - 4)[0]
    body = plain[chunk : chunk + 4 + length]
    plain = plain[: chunk + 4 + length] + struct.pack(">I", zlib.crc32(body)) + plain[chunk + 8 + length :]
    assert plain != data
    assert np.array_equal(decode(data, LIMITS), decode(plain, LIMITS)[::-1, ::-1])
