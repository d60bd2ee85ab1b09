from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional

from dataset_audit.train import deep
from dataset_audit.train.deep import Conv3, as_product
from dataset_audit.train.networks import ResNet18


@given(
    st.integers(1, 3),
    st.integers(1, 4),
    st.integers(1, 4),
    st.integers(1, 7),
    st.integers(1, 7),
    st.integers(1, 3),
)
def test_the_product_is_the_convolution_and_so_are_its_gradients(
    batch: int, channels: int, outputs: int, height: int, width: int, stride: int
) -> None:
    torch.manual_seed(1)
    x = torch.randn(batch, channels, height, width, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(outputs, channels, 3, 3, dtype=torch.float64, requires_grad=True)
    slow = functional.conv2d(x, weight, None, stride, 1)
    fast = as_product(x, weight, stride)
    torch.testing.assert_close(fast, slow)
    upstream = torch.randn_like(slow)
    for mine, theirs in zip(
        torch.autograd.grad(fast, (x, weight), upstream),
        torch.autograd.grad(slow, (x, weight), upstream),
        strict=True,
    ):
        torch.testing.assert_close(mine, theirs)


def test_only_small_deep_maps_are_multiplied(monkeypatch: pytest.MonkeyPatch) -> None:
    taken: list[int] = []
    monkeypatch.setattr(deep, "as_product", lambda x, w, s: taken.append(x.shape[2]) or as_product(x, w, s))
    Conv3(512, 512)(torch.zeros(1, 512, 4, 4))
    Conv3(4, 512, 2)(torch.zeros(1, 4, 8, 8))
    Conv3(4, 512)(torch.zeros(1, 4, 5, 4))
    Conv3(4, 256)(torch.zeros(1, 4, 4, 4))
    assert taken == [4, 8]


def test_a_network_learns_the_same_either_way(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(1)
    network = ResNet18(10, 3)
    images, labels = torch.randn(4, 3, 32, 32), torch.arange(4)

    def gradients() -> list[torch.Tensor]:
        network.zero_grad()
        functional.cross_entropy(network(images), labels).backward()
        return [p.grad.clone() for p in network.parameters() if p.grad is not None]

    product = gradients()
    monkeypatch.setattr(deep, "POSITIONS", 0)
    for mine, theirs in zip(product, gradients(), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-3, atol=1e-4)


def test_autocast_computes_in_its_type() -> None:
    layer, x = Conv3(8, 512), torch.randn(2, 8, 4, 4)
    exact = layer(x)
    with torch.autocast("cpu", torch.bfloat16):
        short = layer(x)
    assert short.dtype == torch.bfloat16
    torch.testing.assert_close(short.float(), exact, rtol=0.05, atol=0.05)
