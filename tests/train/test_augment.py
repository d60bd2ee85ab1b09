"""Augmentation: the one gather equals the obvious crop and flip, and depends on (seed, epoch, index) alone."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from dataset_audit.train import augment

CPU = torch.device("cpu")


@given(
    st.integers(0, 2**31), st.integers(1, 9), st.integers(1, 9), st.sampled_from([1, 3]), st.integers(0, 4),
    st.booleans(),
)  # fmt: skip
def test_one_gather_equals_padding_cropping_and_flipping_one_by_one(
    seed: int, height: int, width: int, channels: int, padding: int, flip: bool
) -> None:
    rng = np.random.default_rng(seed)
    images = torch.from_numpy(rng.integers(0, 256, (5, height, width, channels), dtype=np.uint8))
    indices = torch.tensor([7, 0, 3, 9, 2])
    draws = augment.draw(seed, 3, 10, padding=padding, device=CPU)
    fast = augment.crop_and_flip(images, indices, draws, padding=padding, flip=flip)
    for row, index in enumerate(indices.tolist()):
        padded = np.pad(images[row].numpy(), ((padding, padding), (padding, padding), (0, 0)))
        top, left = int(draws.top[index]), int(draws.left[index])
        slow = padded[top : top + height, left : left + width]
        if flip and draws.flip[index]:
            slow = slow[:, ::-1]
        assert np.array_equal(fast[row].numpy(), slow)


def test_draws_differ_between_epochs_and_seeds_but_not_between_calls() -> None:
    tops = [
        augment.draw(seed, epoch, 500, padding=4, device=CPU).top
        for seed, epoch in ((0, 0), (0, 0), (0, 1), (1, 0))
    ]
    assert torch.equal(tops[0], tops[1])
    assert all(float((tops[0] == other).float().mean()) < 0.3 for other in tops[2:])
    assert not torch.equal(tops[2], tops[3])  # seed 0 at epoch 1 is not seed 1 at epoch 0


def test_offsets_cover_the_whole_padding_and_half_are_flipped() -> None:
    draws = augment.draw(5, 0, 20_000, padding=4, device=CPU)
    counts = torch.bincount(draws.top, minlength=9)
    assert len(counts) == 9
    assert counts.min() > 2_000
    assert 0.48 < float(draws.flip.float().mean()) < 0.52


@pytest.mark.parametrize("channels", [1, 3])
def test_normalise_is_the_textbook_formula_in_channels_last_memory(channels: int) -> None:
    images = torch.arange(2 * 4 * 5 * channels, dtype=torch.uint8).reshape(2, 4, 5, channels)
    mean, std = torch.linspace(0.2, 0.6, channels), torch.linspace(0.1, 0.3, channels)
    got = augment.normalise(images, mean, std)
    wanted = (images.double() / 255 - mean.double()) / std.double()
    assert torch.allclose(got.double(), wanted.permute(0, 3, 1, 2), atol=1e-5)
    assert got.permute(0, 2, 3, 1).is_contiguous()
