"""Small data sets drawn on the spot."""

from __future__ import annotations

import io
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image


@pytest.fixture
def draw() -> Callable[..., bytes]:
    """Return a function that draws a small coloured picture and encodes it."""

    def encode(shade: int = 0, *, kind: str = "PNG", size: tuple[int, int] = (8, 6)) -> bytes:
        width, height = size
        picture = np.indices((height, width)).sum(0)[:, :, None] * np.array([9, 5, 3]) + shade
        file = io.BytesIO()
        Image.fromarray(picture.astype(np.uint8)).save(file, kind)
        return file.getvalue()

    return encode


@pytest.fixture
def tree(tmp_path: Path, draw: Callable[..., bytes]) -> Callable[..., Path]:
    """Return a function that makes files below a folder: names ending in .png are drawn, others get their name."""

    def make(*names: str | bytes) -> Path:
        root = tmp_path / "photos"
        root.mkdir(exist_ok=True)
        for number, name in enumerate(names):
            text = os.fsdecode(name)
            path = root / text
            (path if text.endswith("/") else path.parent).mkdir(parents=True, exist_ok=True)
            if not text.endswith("/"):
                path.write_bytes(draw(number) if path.suffix == ".png" else os.fsencode(path.name))
        return root

    return make
