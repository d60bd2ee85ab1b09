"""Plain files: fewer steps, the same pixels and the same verdict as the general way, whatever the bytes."""

from __future__ import annotations

import io
import struct
import sys
import zlib
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from dataset_audit.images import decode as decoding
from dataset_audit.images import plain
from dataset_audit.images.bad_image import BadImage
from dataset_audit.images.decode import Limits, decode
from dataset_audit.images.headers import read_header

LIMITS = Limits(background=(10, 20, 30))
within = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])


def noise(seed: int, height: int, width: int, channels: int = 3) -> np.ndarray:
    """Noise over a slope, so that it is neither flat nor incompressible."""
    rng = np.random.default_rng(seed)
    slope = np.linspace(20, 200, width)[None, :, None] + np.linspace(0, 30, height)[:, None, None]
    return (slope + rng.integers(0, 25, (height, width, channels))).astype(np.uint8)


def encode(image: Image.Image, kind: str, **options: Any) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def verdict(data: bytes, mode: Any = "RGB", at_least: int | None = None) -> tuple[str, bytes | None, Any]:
    """What becomes of a file: status or reason, pixels, shape."""
    try:
        pixels = decode(data, LIMITS, mode, at_least=at_least)
    except BadImage as bad:
        return bad.reason, None, None
    assert pixels.flags.c_contiguous
    assert pixels.flags.writeable
    return "ok", pixels.tobytes(), pixels.shape


@pytest.fixture
def both(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., tuple[Any, Any]]]:
    """Gives the verdict of the quick way and of the general way alone."""

    def compare(data: bytes, mode: Any = "RGB", at_least: int | None = None) -> tuple[Any, Any]:
        quick = verdict(data, mode, at_least)
        with monkeypatch.context() as patched:
            patched.setattr(decoding, "plain_png", lambda *_: None)
            patched.setattr(decoding, "plain_jpeg", lambda *_: None)
            return quick, verdict(data, mode, at_least)

    return compare


# -- PNG -------------------------------------------------------------------------------------------------------


@within
@given(
    st.sampled_from(["RGB", "L", "RGBA", "LA", "P", "1", "I;16"]),
    st.integers(1, 70),
    st.integers(1, 70),
    st.integers(0, 9),
    st.sampled_from(["RGB", "L"]),
)
def test_a_small_png_has_the_pixels_of_the_general_way(
    both: Any, stored: str, height: int, width: int, level: int, mode: str
) -> None:
    picture = Image.fromarray(noise(level, height, width))
    picture = (
        picture.convert("L").convert("I").convert("I;16") if stored == "I;16" else picture.convert(stored)
    )
    quick, general = both(encode(picture, "PNG", compress_level=level), mode)
    assert quick == general
    assert quick[2] == (height, width, 3 if mode == "RGB" else 1)


def test_a_png_of_nothing_but_pixels_goes_the_quick_way_and_only_that() -> None:
    rgb = Image.fromarray(noise(0, 9, 7))
    text = encode(rgb, "PNG", exif=Image.Exif(), dpi=(72, 72))
    for data, quick in (
        (encode(rgb, "PNG"), True),
        (encode(rgb.convert("L"), "PNG"), True),
        (text, True),  # the size of a pixel in print
        (with_chunk(encode(rgb, "PNG"), b"gAMA", struct.pack(">I", 45455)), True),
        (with_chunk(encode(rgb, "PNG"), b"gAMA", b"\0"), False),
        (with_chunk(encode(rgb, "PNG"), b"tEXt", b"Comment\0hello"), False),  # may hold an orientation
        (with_chunk(encode(rgb, "PNG"), b"tRNS", struct.pack(">HHH", 1, 2, 3)), False),
        (encode(rgb.convert("RGBA"), "PNG"), False),
        (encode(rgb.convert("P"), "PNG"), False),
        (encode(rgb, "PNG") + b"\0", False),
        (encode(Image.new("RGB", (5, 5)), "PNG"), False),  # a last row of zeros may be a row that is missing
    ):
        assert (plain.plain_png(data, read_header(data), "RGB") is not None) is quick


def with_chunk(data: bytes, kind: bytes, body: bytes) -> bytes:
    chunk = struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
    return data[:33] + chunk + data[33:]


@within
@given(st.data())
def test_a_damaged_png_gets_the_verdict_of_the_general_way(both: Any, data: st.DataObject) -> None:
    whole = bytearray(encode(Image.fromarray(noise(1, 12, 11)), "PNG"))
    for _ in range(data.draw(st.integers(0, 3), label="flips")):
        whole[data.draw(st.integers(8, len(whole) - 1))] ^= data.draw(st.integers(1, 255))
    end = data.draw(st.just(len(whole)) | st.integers(0, len(whole)), label="end")
    extra = data.draw(st.just(b"") | st.binary(max_size=20), label="extra")
    quick, general = both(bytes(whole[:end]) + extra)
    assert quick == general


def test_rows_that_are_missing_are_noticed_however_cleanly_they_end(both: Any) -> None:
    raw = b"".join(b"\0" + bytes([9] * 30) for _ in range(6))
    size = struct.pack(">IIBBBBB", 10, 10, 8, 2, 0, 0, 0)
    data = b"\x89PNG\r\n\x1a\n"
    for kind, body in ((b"IHDR", size), (b"IDAT", zlib.compress(raw)), (b"IEND", b"")):
        data += struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
    quick, general = both(data)
    assert quick == general
    assert quick[0].startswith("truncated")


# -- JPEG ------------------------------------------------------------------------------------------------------

with_simplejpeg = pytest.mark.skipif(
    "simplejpeg" not in plain.decoders(), reason="the extra 'fast' (simplejpeg) is not installed"
)


@with_simplejpeg
@within
@given(
    st.integers(1, 130),
    st.integers(1, 130),
    st.sampled_from([30, 75, 90, 100]),
    st.sampled_from([0, 1, 2]),
    st.booleans(),
    st.sampled_from([None, 1, 8, 20, 40]),
)
def test_simplejpeg_gives_the_pixels_that_pillow_gives_at_every_fraction(
    both: Any,
    height: int,
    width: int,
    quality: int,
    subsampling: int,
    progressive: bool,
    at_least: int | None,
) -> None:
    options = {"quality": quality, "subsampling": subsampling, "progressive": progressive}
    data = encode(Image.fromarray(noise(quality, height, width)), "JPEG", **options)
    quick, general = both(data, "RGB", at_least)
    assert quick == general


@with_simplejpeg
@pytest.mark.parametrize("turn", range(1, 9))
def test_simplejpeg_s_pixels_are_turned_upright(both: Any, turn: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = turn
    data = encode(Image.fromarray(noise(turn, 40, 56)), "JPEG", exif=exif.tobytes())
    for at_least in (None, 10):
        quick, general = both(data, "RGB", at_least)
        assert quick == general
    assert quick[2] == ((10, 14, 3) if turn < 5 else (14, 10, 3))


@with_simplejpeg
def test_only_a_jpeg_of_the_usual_kind_goes_to_simplejpeg(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[bytes] = []
    found = plain._simplejpeg()
    assert found is not None
    monkeypatch.setattr(
        found,
        "decode_jpeg",
        lambda data, *_, original=found.decode_jpeg, **k: asked.append(data) or original(data, "RGB", **k),
    )
    picture = Image.fromarray(noise(0, 30, 40))
    for stored in ("L", "CMYK"):
        decode(encode(picture.convert(stored), "JPEG"), LIMITS)
        decode(encode(picture, "JPEG"), LIMITS, "L")
    assert asked == []
    decode(encode(picture, "JPEG"), LIMITS)
    assert len(asked) == 1


@with_simplejpeg
@within
@given(st.data())
def test_a_damaged_jpeg_gets_the_verdict_of_the_general_way(both: Any, data: st.DataObject) -> None:
    whole = bytearray(encode(Image.fromarray(noise(2, 40, 50)), "JPEG", quality=80))
    for _ in range(data.draw(st.integers(0, 2), label="flips")):
        whole[data.draw(st.integers(2, len(whole) - 1))] ^= data.draw(st.integers(1, 255))
    end = data.draw(st.just(len(whole)) | st.integers(0, len(whole)), label="end")
    quick, general = both(bytes(whole[:end]), "RGB", data.draw(st.sampled_from([None, 10])))
    assert quick == general


def test_without_the_extra_pillow_decodes_everything(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "simplejpeg", None)  # as if it were not installed
    plain._simplejpeg.cache_clear()
    try:
        picture = Image.fromarray(noise(0, 30, 40))
        data = encode(picture, "JPEG")
        assert np.array_equal(decode(data, LIMITS), np.asarray(Image.open(io.BytesIO(data))))
        assert "simplejpeg" not in plain.decoders()
    finally:
        plain._simplejpeg.cache_clear()


def test_decoders_are_named_with_their_versions() -> None:
    found = plain.decoders()
    assert found["pillow"] == Image.__version__
    assert found["libjpeg-turbo"][0].isdigit()
