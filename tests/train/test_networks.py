"""Networks: shapes, published sizes, initialisation, and which of them mix examples of a batch."""

from __future__ import annotations

import pytest
import torch

from dataset_audit.errors import UsageError
from dataset_audit.train.models import MODELS, build

SIZES = {"mnist-net": (1, 28)}


def made(name: str, classes: int = 10) -> tuple[torch.nn.Module, torch.Tensor]:
    torch.manual_seed(0)
    channels, size = SIZES.get(name, (3, 32))
    network = build(name, classes=classes, channels=channels, image_size=size)
    return network, torch.randn(4, channels, size, size)


@pytest.mark.parametrize("name", [name for name in MODELS if name != "wrn28-10"])
def test_logits_are_the_head_of_the_features(name: str) -> None:
    network, x = made(name)
    network.eval()
    logits = network(x)
    assert logits.shape == (4, 10)
    assert torch.allclose(logits, network.head(network.features(x)))


@pytest.mark.parametrize(
    ("name", "millions"),
    [
        ("resnet18", 11.174),
        ("wrn28-10", 36.479),
        ("mnist-net", 0.0218),
        ("fixup-resnet18", 11.164),
        ("airbench", 1.9705 + 0.0012),  # and the weights of batch norm, which do not learn
    ],
)
def test_published_networks_have_their_published_size(name: str, millions: float) -> None:
    network, _ = made(name)
    assert sum(p.numel() for p in network.parameters()) / 1e6 == pytest.approx(millions, rel=2e-3)


def test_fixup_starts_at_zero_logits_and_ignores_batch_mates_in_train_mode() -> None:
    network, x = made("fixup-resnet18")
    network.train()
    assert torch.equal(network(x), torch.zeros(4, 10))
    torch.nn.init.normal_(network.head.weight)
    for block in network.blocks:
        torch.nn.init.normal_(block.conv2.weight, 0, 0.01)
    together, alone = network(x), torch.cat([network(x[i : i + 1]) for i in range(4)])
    assert torch.allclose(together, alone, atol=1e-4)


def test_batch_norm_makes_a_prediction_depend_on_batch_mates() -> None:
    network, x = made("small")
    network.train()
    assert not torch.allclose(network(x)[:2], network(x[:2]), atol=1e-3)


def test_small_takes_tiny_images() -> None:
    network = build("small", classes=10, channels=1, image_size=8)
    assert network(torch.randn(2, 1, 8, 8)).shape == (2, 10)


def test_mnist_net_says_which_size_it_wants() -> None:
    network = build("mnist-net", classes=10, channels=1, image_size=8)
    with pytest.raises(UsageError, match="28x28"):
        network(torch.randn(2, 1, 8, 8))


@pytest.mark.parametrize("name", ["timm/resnet10t", "test_vit", "test_convnext"])
def test_a_timm_model_is_parted_before_its_last_layer(name: str) -> None:
    size = 160 if "test_" in name else 32
    network = build(name, classes=7, channels=3, image_size=size).eval()
    x = torch.randn(2, 3, size, size)
    assert isinstance(network.head, torch.nn.Linear)
    assert torch.allclose(network(x), network.model(x), atol=1e-4)


@pytest.mark.parametrize("name", ["hf-hub:x/y", "../x", "local-dir:/x", "", "timm/", "a/b"])
def test_names_that_reach_network_or_files_are_refused(name: str) -> None:
    with pytest.raises(UsageError, match="named, not fetched"):
        build(name, classes=2, channels=3, image_size=32)


def test_an_unknown_name_gives_near_ones() -> None:
    with pytest.raises(UsageError, match="resnet18"):
        build("resnet18x", classes=2, channels=3, image_size=32)
