"""Files that are not what they say: each is a row with a cause, quickly, and never an exception of another kind."""

from __future__ import annotations

import contextlib
import gzip
import io
import os
import random
import struct
import subprocess
import sys
import time
import zipfile
import zlib
from typing import Any

import numpy as np
import pytest
from PIL import Image

from dataset_audit.images.decode import BadImage, Limits, decode, peak_bytes

LIMITS = Limits()
NOISE = np.random.default_rng(5).integers(0, 256, (40, 50, 3), dtype=np.uint8)


def encode(picture: Image.Image, kind: str, **options: Any) -> bytes:
    file = io.BytesIO()
    picture.save(file, kind, **options)
    return file.getvalue()


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width: int, height: int, body: bytes, *, before: bytes = b"") -> bytes:
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + before
        + chunk(b"IDAT", zlib.compress(body))
        + chunk(b"IEND", b"")
    )


def reason(data: bytes, limits: Limits = LIMITS) -> str:
    """Return status and reason, after making sure that it is quick."""
    start = time.perf_counter()
    with pytest.raises(BadImage) as bad:
        decode(data, limits)
    assert time.perf_counter() - start < 1
    return f"{bad.value.status} {bad.value.reason}"


def test_no_bytes_at_all_i1() -> None:
    assert reason(b"") == "unreadable empty: 0 bytes"


WHOLE = {
    "JPEG": encode(Image.fromarray(NOISE), "JPEG"),
    "progressive": encode(Image.fromarray(NOISE), "JPEG", progressive=True),
    "PNG": encode(Image.fromarray(NOISE), "PNG"),
    "WEBP": encode(Image.fromarray(NOISE), "WEBP"),
    "lossless": encode(Image.fromarray(NOISE), "WEBP", lossless=True),
    "GIF": encode(Image.fromarray(NOISE).quantize(64), "GIF"),
    "BMP": encode(Image.fromarray(NOISE), "BMP"),
    "TIFF": encode(Image.fromarray(NOISE), "TIFF"),
    "LZW": encode(Image.fromarray(NOISE), "TIFF", compression="tiff_lzw"),
    "PPM": encode(Image.fromarray(NOISE), "PPM"),
    "AVIF": encode(Image.fromarray(NOISE), "AVIF"),
}


@pytest.mark.parametrize("kind", WHOLE)
@pytest.mark.parametrize("share", [0.25, 0.5, 0.9, 0.99])
def test_a_file_cut_in_its_pixels_is_truncated_i2(kind: str, share: float) -> None:
    data = WHOLE[kind]
    decode(data, LIMITS)
    assert reason(data[: int(len(data) * share)]).startswith("unreadable truncated: ")


@pytest.mark.parametrize("kind", WHOLE)
@pytest.mark.parametrize("missing", [1, 2, 10])
def test_a_file_cut_at_its_end_decodes_whole_or_is_truncated_i2(kind: str, missing: int) -> None:
    data, reason = WHOLE[kind], "truncated: "
    out = decode(data, LIMITS)
    try:
        out = decode(data[:-missing], LIMITS)
    except BadImage as bad:
        reason = bad.reason
    assert reason.startswith("truncated: ")
    assert np.array_equal(out, decode(data, LIMITS)), "only a trailer may be missing"


@pytest.mark.parametrize("interlaced", [False, True], ids=["plain", "interlaced"])
def test_a_png_whose_pixels_end_early_but_cleanly_is_truncated_i3(interlaced: bool) -> None:
    rows = (b"\0" + NOISE[0, :10].tobytes()) * 4 if not interlaced else b"\0" * 200
    whole, short = png(10, 4, rows), png(10, 4, rows[: len(rows) // 4])
    if interlaced:
        whole, short = (
            b"".join((data[:28], b"\1", struct.pack(">I", zlib.crc32(data[12:28] + b"\1")), data[33:]))
            for data in (whole, short)
        )
    assert decode(whole, LIMITS).shape == (4, 10, 3)
    assert reason(short).startswith("unreadable truncated: ")


def test_a_png_with_black_last_rows_is_not_taken_for_short_i3() -> None:
    for mode in ("RGB", "L", "1", "P", "RGBA", "LA", "I;16"):
        assert decode(encode(Image.new(mode, (13, 7)), "PNG"), LIMITS).shape == (7, 13, 3)


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        pytest.param(b"<!DOCTYPE html><title>404</title>", "not an image (looks like HTML)", id="I4-html"),
        pytest.param(b"\n  <html lang=en>", "not an image (looks like HTML)", id="I4-html-late"),
        pytest.param(b'{"error": 403}', "not an image (looks like JSON)", id="I4-json"),
        pytest.param(b"%PDF-1.7\n", "not an image (looks like PDF)", id="I4-pdf"),
        pytest.param(b"PK\x03\x04" + b"\0" * 30, "not an image (looks like ZIP)", id="I4-zip"),
        pytest.param(b"\0\0\0\x18ftypisom\0\0\2\0", "not an image (looks like MP4)", id="I4-mp4"),
        pytest.param(gzip.compress(b"x"), "not an image (looks like gzip)", id="I4-gzip"),
        pytest.param(b"hello", "not an image", id="I4-text"),
        pytest.param(b"\0" * 5000, "not an image", id="I4-zeros"),
        pytest.param(b"%!PS-Adobe-3.0 EPSF-3.0\n", "format not accepted: EPS", id="I6-eps"),
        pytest.param(b"8BPS\0\1" + b"\0" * 20, "format not accepted: PSD", id="I6-psd"),
        pytest.param(b"SIMPLE  =                    T", "format not accepted: FITS", id="I6-fits"),
        pytest.param(encode(Image.new("RGB", (16, 16)), "ICO"), "format not accepted: ICO", id="I6-ico"),
        pytest.param(
            encode(Image.new("RGB", (16, 16)), "JPEG2000"), "format not accepted: JPEG 2000", id="I6-jp2"
        ),
        pytest.param(encode(Image.new("RGB", (16, 16)), "DDS"), "format not accepted: DDS", id="I6-dds"),
        pytest.param(
            encode(Image.new("RGB", (16, 16)), "TGA") + b"\0" * 8 + b"TRUEVISION-XFILE.\0",
            "format not accepted: TGA",
            id="I6-tga",
        ),
        pytest.param(b"<svg xmlns=''/>", "format not accepted: SVG", id="I6-svg"),
        pytest.param(b"\xff\x0a" + b"\0" * 20, "format not accepted: JPEG XL", id="I24-jxl"),
        pytest.param(b"\0\0\0\x18ftypheic\0\0\0\0", "format not accepted: HEIF", id="I24-heic"),
    ],
)
def test_what_is_no_accepted_picture_is_named(data: bytes, expected: str) -> None:
    assert reason(data) == f"unreadable {expected}"


def test_an_eps_starts_no_other_program_i6(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    canary = tmp_path / "gs"
    canary.write_text(f"#!/bin/sh\ntouch {tmp_path}/ran\n")
    canary.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    reason(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EOF\n")
    assert not (tmp_path / "ran").exists()


# -- bombs -------------------------------------------------------------------------------------------------


def webp_lossless_header(width: int, height: int) -> bytes:
    body = (
        b"VP8L"
        + struct.pack("<I", 14)
        + b"\x2f"
        + struct.pack("<I", width - 1 | height - 1 << 14)
        + b"\0" * 9
    )
    return b"RIFF" + struct.pack("<I", 4 + len(body)) + b"WEBP" + body


def tiff(entries: list[tuple[int, int, int, int]], tail: bytes = b"") -> bytes:
    body = b"".join(struct.pack("<HHII", *entry) for entry in sorted(entries))
    return b"II*\0" + struct.pack("<I", 8) + struct.pack("<H", len(entries)) + body + b"\0" * 4 + tail


BASE = [(256, 4, 1, 10), (257, 4, 1, 10), (258, 3, 1, 8), (259, 3, 1, 1), (262, 3, 1, 1), (277, 3, 1, 1)]


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        pytest.param(png(50_000, 50_000, b""), "too_large too large: 50000x50000 exceeds", id="I8-png"),
        pytest.param(png(13_000, 13_000, b""), "too_large too large: 13000x13000 exceeds", id="I9-png"),
        pytest.param(png(1, 2**31 - 1, b""), "too_large too large: 1x2147483647", id="I10-column"),
        pytest.param(png(0, 5, b""), "unreadable broken: PNG of 0x5", id="I10-empty"),
        pytest.param(webp_lossless_header(16_383, 16_383), "too_large too large: 16383x16383", id="I12-webp"),
        pytest.param(
            b"BM" + struct.pack("<IIIIiiHHIIIIII", 54, 0, 54, 40, 60_000, -60_000, 1, 24, 0, 0, 0, 0, 0, 0),
            "too_large too large: 60000x60000",
            id="I12-bmp",
        ),
        pytest.param(
            b"BM" + struct.pack("<IIIIiiHHIIIIII", 54, 0, 54, 40, 600, 600, 1, 24, 0, 0, 0, 0, 0, 0),
            "unreadable truncated: ",
            id="I12-bmp-without-pixels",
        ),
        pytest.param(
            tiff([*BASE, (273, 4, 1_000_000, 200), (278, 3, 1, 1), (279, 4, 1_000_000, 200)], b"\0" * 400),
            "unreadable too many strips: 1000000",
            id="I12-tiff-strips",
        ),
        pytest.param(
            tiff([*BASE, (273, 4, 1, 200), (278, 3, 1, 10), (279, 4, 1, 2**32 - 1)], b"\0" * 400),
            "",
            id="I12-tiff-strip-length",
        ),
        pytest.param(
            tiff(
                [*BASE, (322, 4, 1, 2**31), (323, 4, 1, 16), (324, 4, 1, 200), (325, 4, 1, 100)], b"\0" * 400
            ),
            "too_large broken: TIFF tiles",
            id="I12-tiff-tile",
        ),
        pytest.param(b"P6 10000000 10000000 255\n", "too_large too large: 10000000x10000000", id="I12-ppm"),
        pytest.param(b"P6 100 100 255\n", "unreadable ", id="I12-ppm-without-pixels"),
        pytest.param(
            b"GIF89a\2\0\2\0\0\0\0,\0\0\0\0" + struct.pack("<HH", 30_000, 30_000) + b"\0\2\0;",
            "too_large too large: 30000x30000",
            id="I12-gif-frame",
        ),
    ],
)
def test_a_size_that_lies_is_refused_before_anything_is_allocated(data: bytes, expected: str) -> None:
    try:
        assert reason(data).startswith(expected)
    except pytest.fail.Exception:
        assert not expected  # it may also decode: what it holds is small


def test_a_directory_that_loops_is_read_once_i12() -> None:
    data = bytearray(tiff([*BASE, (273, 4, 1, 200), (278, 3, 1, 10), (279, 4, 1, 100)], b"\0" * 400))
    data[10 + 12 * 9 : 14 + 12 * 9] = struct.pack("<I", 8)  # the next directory is this one
    assert decode(bytes(data), LIMITS).shape == (10, 10, 3)


def test_a_strip_that_inflates_to_very_much_is_not_inflated_i12() -> None:
    strip = zlib.compress(b"\0" * 50_000_000)
    entries = [entry for entry in BASE if entry[0] != 259]
    entries += [(259, 3, 1, 8), (273, 4, 1, 122), (278, 3, 1, 10), (279, 4, 1, len(strip))]
    start = time.perf_counter()
    assert decode(tiff(entries, strip), LIMITS).shape == (10, 10, 3)
    assert time.perf_counter() - start < 1


def text(kind: bytes, size: int) -> bytes:
    if kind == b"iTXt":
        return chunk(b"iTXt", b"k\0\1\0\0\0" + zlib.compress(b"x" * size))
    return chunk(kind, b"k\0\0" + zlib.compress(b"x" * size))


@pytest.mark.parametrize(
    "before",
    [
        pytest.param(text(b"zTXt", 2_000_000), id="I13-one-large"),
        pytest.param(text(b"zTXt", 900_000) * 100, id="I13-many"),
        pytest.param(text(b"iTXt", 2_000_000), id="I13-international"),
        pytest.param(chunk(b"iCCP", b"p\0\0" + zlib.compress(b"x" * 50_000_000)), id="I13-profile"),
    ],
)
def test_metadata_bombs_are_named(before: bytes) -> None:
    row = b"\0" + b"abc" * 4
    assert decode(png(4, 4, row * 4), LIMITS).shape == (4, 4, 3)
    assert (
        reason(png(4, 4, row * 4, before=before)) == "unreadable metadata too large: text or profile chunks"
    )


def test_metadata_bombs_behind_the_pixels_are_named_i13() -> None:
    data = png(4, 4, (b"\0" + b"abc" * 4) * 4)
    end = chunk(b"IEND", b"")
    bomb = data.removesuffix(end) + text(b"zTXt", 2_000_000) + end
    assert reason(bomb).startswith("unreadable metadata too large")


def scans(count: int) -> bytes:
    data = encode(Image.fromarray(NOISE), "JPEG", progressive=True)
    first = data.index(b"\xff\xda")
    scan = b"\xff\xda\0\x08\1\1\0\x3f\x3f\0\xff\x00" if first else b""
    return data[:-2] + scan * count + b"\xff\xd9"


def test_a_jpeg_of_very_many_scans_is_refused_at_once_i14() -> None:
    decode(scans(0), LIMITS)
    bomb = scans(20_000)
    start = time.perf_counter()
    with pytest.raises(BadImage, match="too many scans"):
        decode(bomb, LIMITS)
    assert time.perf_counter() - start < 0.2


def test_bytes_that_look_like_scans_in_metadata_are_not_counted_i14() -> None:
    data = encode(Image.fromarray(NOISE), "JPEG", comment=b"\xff\xda" * 1000)
    assert decode(data, LIMITS).shape == (40, 50, 3)
    assert decode(data + b"\xff\xda" * 1000, LIMITS).shape == (40, 50, 3)


def test_apng_with_its_frames_out_of_order_is_a_bad_row_or_its_first_frame_i16() -> None:
    frames = [Image.new("RGB", (4, 4), (shade, 0, 0)) for shade in (10, 90)]
    data = bytearray(encode(frames[0], "PNG", save_all=True, append_images=frames[1:]))
    place = data.index(b"fcTL")
    data[place + 4 : place + 8] = struct.pack(">I", 7)
    size = struct.unpack_from(">I", data, place - 4)[0]
    data[place + 4 + size : place + 8 + size] = struct.pack(">I", zlib.crc32(data[place : place + 4 + size]))
    assert reason(bytes(data)).startswith("unreadable broken: ")


def test_float_pixels_that_are_no_numbers_are_a_bad_row_i20() -> None:
    for value in (np.nan, np.inf):
        data = encode(Image.fromarray(np.array([[0, value]], np.float32)), "TIFF")
        assert reason(data) == "unreadable values: float pixels that are not finite"


def test_values_without_a_defined_grey_are_a_bad_row_i20() -> None:
    assert "-1" in reason(encode(Image.fromarray(np.array([[0, -1]], np.int32), "I"), "TIFF"))
    assert "1e+06" in reason(encode(Image.fromarray(np.array([[0, 1e6]], np.float32)), "TIFF"))


def test_a_file_larger_than_allowed_is_not_decoded() -> None:
    assert reason(WHOLE["BMP"], Limits(max_file_bytes=100)).startswith("too_large too large: ")


def test_the_pixel_limit_is_ours_and_may_be_raised_or_lowered_i9() -> None:
    data = WHOLE["PNG"]
    assert reason(data, Limits(max_pixels=40 * 50 - 1)).startswith(
        "too_large too large: 50x40 exceeds --max-pixels"
    )
    assert decode(data, Limits(max_pixels=40 * 50)).shape == (40, 50, 3)


def test_reasons_are_one_printable_line() -> None:
    bad = BadImage("unreadable", "broken: a\nb\x1b[31m\u202e" + "x" * 500)
    assert bad.reason.isprintable()
    assert len(bad.reason) <= 200


def test_a_stored_zip_of_pictures_is_not_a_picture_i4() -> None:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("a.png", WHOLE["PNG"])
    assert reason(file.getvalue()) == "unreadable not an image (looks like ZIP)"


# -- peak of memory ----------------------------------------------------------------------------------------

MEASURE = """
import sys
from pathlib import Path
from dataset_audit.images.decode import Limits, decode
def status(key):
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith(key)) * 1024
decode(Path(sys.argv[1]).read_bytes(), Limits())
data = Path(sys.argv[2]).read_bytes()
open("/proc/self/clear_refs", "w").write("5")
before = status("VmRSS:")
decode(data, Limits(), sys.argv[3])
print(status("VmHWM:") - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize(
    ("kind", "mode", "options"),
    [
        ("PNG", "RGBA", {"compress_level": 1}),
        ("PNG", "I;16", {"compress_level": 1}),
        ("JPEG", "CMYK", {"progressive": True}),
        ("JPEG", "RGB", {"progressive": True, "subsampling": 0}),
        ("WEBP", "RGBA", {"lossless": True, "method": 0}),
        ("GIF", "P", {}),
    ],
)
def test_the_peak_stays_below_what_the_header_announced_i11(
    tmp_path: Any, kind: str, mode: str, options: dict[str, Any]
) -> None:
    blocks = np.kron(NOISE, np.ones((50, 50, 1), np.uint8))  # 2500 x 2000
    if mode == "I;16":
        picture = Image.fromarray(blocks[:, :, 0].astype(np.uint16) * 257)
    else:
        picture = Image.fromarray(blocks).convert(mode)
    small, large = tmp_path / "small", tmp_path / "large"
    small.write_bytes(encode(picture.resize((8, 8)), kind, **options))
    large.write_bytes(encode(picture, kind, **options))
    answer = subprocess.run(
        [sys.executable, "-c", MEASURE, small, large, "RGB"], capture_output=True, text=True, check=True
    )
    assert int(answer.stdout) <= 1.05 * peak_bytes(large.read_bytes())


# -- fuzz --------------------------------------------------------------------------------------------------


def mutants(seeds: list[bytes], count: int, seed: int) -> Any:
    draw = random.Random(seed)
    for _ in range(count):
        data = bytearray(draw.choice(seeds))
        kind = draw.random()
        if kind < 0.15:
            del data[draw.randrange(len(data)) :]
        elif kind < 0.25:
            start, source = draw.randrange(len(data)), draw.randrange(len(data))
            data[start : start + 8] = data[source : source + draw.randrange(64)]
        else:
            for _ in range(draw.choice((1, 2, 4, 16))):
                place = draw.randrange(min(len(data), draw.choice((32, 128, 1024, 10**6))))
                data[place] = draw.choice((0, 255, 127, 128, 1, draw.randrange(256)))
        yield bytes(data)


def test_two_thousand_mutants_decode_or_are_bad_rows() -> None:
    picture = Image.fromarray(NOISE)
    seeds = [
        *WHOLE.values(),
        encode(picture.convert("CMYK"), "JPEG"),
        encode(picture.convert("LA"), "PNG"),
        encode(picture.quantize(16), "PNG", transparency=3),
        encode(Image.fromarray(NOISE[:, :, 0].astype(np.uint16) * 200), "TIFF"),
        encode(picture.convert("1"), "TIFF", compression="group4"),
        encode(picture, "TIFF", compression="jpeg"),
        encode(picture, "WEBP", save_all=True, append_images=[picture]),
    ]
    decoded = 0
    for data in mutants(seeds, 2000, seed=11):
        start = time.perf_counter()
        with contextlib.suppress(BadImage):
            decoded += decode(data, LIMITS).dtype == np.uint8
        assert time.perf_counter() - start < 2
    assert 200 < decoded < 1800
