"""Decoding JPEG files to a device: the first decoder that can, named beside what it gave."""

from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from PIL import Image

from dataset_audit.images.bad_image import BadImage
from dataset_audit.images.decode import Limits, decode
from dataset_audit.train import jpegs

CPU = torch.device("cpu")


def photo(seed: int, size: tuple[int, int] = (40, 30)) -> bytes:
    rough = np.random.default_rng(seed).integers(0, 255, (5, 4, 3), dtype=np.uint8)
    out = io.BytesIO()
    Image.fromarray(rough).resize(size).save(out, "jpeg", quality=90)
    return out.getvalue()


def test_each_decoder_gives_upright_rgb_of_the_same_picture() -> None:
    data = [photo(1), photo(2, (16, 24))]
    pillow, name = jpegs.decode_jpegs(data, CPU)
    assert name.startswith("pillow ")
    assert [tuple(image.shape) for image in pillow] == [(30, 40, 3), (24, 16, 3)]
    assert all(
        np.array_equal(a.numpy(), decode(b, Limits(), "RGB")) for a, b in zip(pillow, data, strict=True)
    )
    vision, other = jpegs.decode_jpegs(data, CPU, decoders=["torchvision"])
    assert other.startswith("torchvision ")
    for a, b in zip(pillow, vision, strict=True):
        assert (a.int() - b.int()).abs().max() <= 2


def test_a_decoder_that_is_absent_or_fails_gives_way_to_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(data: object, device: object) -> list[torch.Tensor]:
        raise RuntimeError("nvjpeg: status 5")

    def absent(data: object, device: object) -> list[torch.Tensor]:
        raise ModuleNotFoundError("torchcodec")

    monkeypatch.setitem(jpegs.DECODERS, "torchvision", fails)
    monkeypatch.setitem(jpegs.DECODERS, "torchcodec", absent)
    _, name = jpegs.decode_jpegs([photo(1)], CPU, decoders=list(jpegs.DECODERS))
    assert name.startswith("pillow ")
    with pytest.raises(RuntimeError, match="status 5"):
        jpegs.decode_jpegs([photo(1)], CPU, decoders=["torchvision"])


def test_a_bad_file_is_named_by_the_last_decoder() -> None:
    with pytest.raises(BadImage):
        jpegs.decode_jpegs([photo(1), photo(2)[:100]], CPU, decoders=["torchvision", "pillow"])
