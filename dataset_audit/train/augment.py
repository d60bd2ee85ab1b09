"""Random crop, flip and normalisation of a batch on its device; what is drawn depends on (seed, epoch, index) alone."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dataset_audit import seeds


@dataclass(frozen=True)
class Draws:
    """What augmentation does to each example of the full data set in one epoch."""

    top: Tensor  # int64[N], in [0, 2 * padding]
    left: Tensor  # int64[N]
    flip: Tensor  # bool[N]


def draw(seed: int, epoch: int, n: int, *, padding: int, device: torch.device) -> Draws:
    """Draw crops and flips for all ``n`` examples of one epoch: one transfer, and the same for any subset or order."""
    rng = seeds.rng(seed, "augment", epoch)
    offsets: NDArray[np.int64] = rng.integers(0, 2 * padding + 1, size=(2, n), dtype=np.int64)
    flips = rng.integers(0, 2, size=n, dtype=np.uint8).astype(bool)
    top, left = torch.from_numpy(offsets).to(device)
    return Draws(top=top, left=left, flip=torch.from_numpy(flips).to(device))


def crop_and_flip(images: Tensor, indices: Tensor, draws: Draws, *, padding: int, flip: bool) -> Tensor:
    """Return ``images`` zero-padded by ``padding``, cropped back to size at random, and flipped at random.

    Args:
        images: uint8[B, H, W, C].
        indices: int64[B], rows of ``draws``.
        draws: What was drawn for this epoch.
        padding: Pixels of zero padding on each side.
        flip: Whether to flip left to right where drawn.

    Returns:
        uint8[B, H, W, C]; one gather of whole pixels, no loop over examples.
    """
    batch, height, width, channels = images.shape
    rows = torch.arange(height, device=images.device) + draws.top[indices, None] - padding  # [B, H]
    columns = torch.arange(width, device=images.device).expand(batch, width)
    if flip:
        columns = torch.where(draws.flip[indices, None], width - 1 - columns, columns)
    columns = columns + draws.left[indices, None] - padding  # [B, W]
    outside_rows = (rows < 0) | (rows >= height)
    outside_columns = (columns < 0) | (columns >= width)
    flat = rows.clamp(0, height - 1)[:, :, None] * width + columns.clamp(0, width - 1)[:, None, :]
    flat = flat + (torch.arange(batch, device=images.device) * (height * width))[:, None, None]
    pixels = images.reshape(-1, channels).index_select(0, flat.reshape(-1)).reshape(images.shape)
    return pixels.masked_fill((outside_rows[:, :, None] | outside_columns[:, None, :])[..., None], 0)


def normalise(images: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    """Return (images / 255 - mean) / std as float32[B, C, H, W] in channels-last memory.

    Args:
        images: uint8[B, H, W, C].
        mean: float32[C], as a share of 255.
        std: float32[C], likewise.
    """
    batch, height, width, channels = images.shape
    # constants repeated over a row: broadcasting three values over the innermost axis defeats vectorisation
    scale = (1 / (255 * std)).repeat(width)
    shift = (-mean / std).repeat(width)
    rows = torch.addcmul(shift, images.reshape(batch, height, width * channels).float(), scale)
    return rows.reshape(batch, height, width, channels).permute(0, 3, 1, 2)
