"""airbench94's network: whitened patches, identities at the start, what learns and how fast."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional

from dataset_audit.errors import UsageError
from dataset_audit.train.airbench import Airbench, whitening
from dataset_audit.train.batches import Resident
from dataset_audit.train.fit import start
from dataset_audit.train.models import build
from dataset_audit.train.recipes import recipe
from dataset_audit.train.task import Task


def pictures(count: int = 40, channels: int = 3, size: int = 12) -> torch.Tensor:
    """Smooth random images: neighbouring pixels go together, as in photographs."""
    torch.manual_seed(0)
    return functional.avg_pool2d(torch.randn(count, channels, size + 3, size + 3), 4, 1) * 3 + 0.5


def whitening_by_loops(x: torch.Tensor, epsilon: float) -> torch.Tensor:
    """The slow obvious way: every patch as a row."""
    count, channels, height, width = x.shape
    rows = torch.stack(
        [
            x[i, :, r : r + 2, c : c + 2].flatten()
            for i in range(count)
            for r in range(height - 1)
            for c in range(width - 1)
        ]
    ).double()
    values, vectors = torch.linalg.eigh(rows.T @ rows / len(rows))
    filters = [vectors[:, k] / (values[k] + epsilon) ** 0.5 for k in reversed(range(4 * channels))]
    both = torch.stack(filters + [-f for f in filters])
    return both.reshape(-1, channels, 2, 2).float()


@pytest.mark.parametrize("channels", [1, 3])
def test_whitening_is_that_of_all_patches_however_they_are_batched(channels: int) -> None:
    x = pictures(12, channels, 6)
    ours = whitening(iter(x.split(5)), epsilon=5e-4)
    slow = whitening_by_loops(x, 5e-4)
    assert ours.shape == (8 * channels, channels, 2, 2)
    # an eigenvector's sign is anyone's choice; the negatives are there too
    same = torch.einsum("ocij,ocij->o", ours, slow).sign()[:, None, None, None]
    assert torch.allclose(ours, slow * same, rtol=1e-3, atol=1e-3)


def test_whitened_patches_are_uncorrelated_with_unit_power() -> None:
    x = pictures()
    network = Airbench(10, 3)
    network.look([x])
    with torch.no_grad():
        said = functional.conv2d(x, network.whiten.weight)[:, :12].transpose(0, 1).flatten(1).double()
    assert torch.allclose(said @ said.T / said.shape[1], torch.eye(12, dtype=torch.double), atol=2e-2)


def test_convolutions_pass_their_channels_on_at_the_start() -> None:
    network = Airbench(10, 3)
    x = torch.randn(2, 64, 5, 5)
    conv = network.stages[0].conv2
    with torch.no_grad():
        assert torch.allclose(conv(x), x, atol=1e-6)
        widened = network.stages[1].conv1(x)
    assert torch.allclose(widened[:, :64], x, atol=1e-6)


def test_it_costs_the_published_118_million_multiply_adds() -> None:
    network, x, total = Airbench(10, 3).eval(), torch.zeros(1, 3, 32, 32), 0

    def count(module: torch.nn.Conv2d, _: object, out: torch.Tensor) -> None:
        nonlocal total
        total += module.weight[0].numel() * out.numel()

    for module in network.modules():
        if isinstance(module, torch.nn.Conv2d):
            module.register_forward_hook(count)
    with torch.no_grad():
        network(x)
    assert (total + 2560) / 1e6 == pytest.approx(118.1, rel=1e-3)


def test_every_learning_parameter_is_in_one_group_and_the_whitening_in_none() -> None:
    network = Airbench(10, 3)
    grouped = [p for group in network.groups() for p in group.parameters]
    learning = [p for p in network.parameters() if p.requires_grad]
    assert sorted(map(id, grouped)) == sorted(map(id, learning))
    assert id(network.whiten.weight) not in set(map(id, grouped))
    rest, biases = network.groups()
    assert (rest.rate, rest.decay) == (1.0, 1.0)
    assert biases.rate * biases.decay == 1.0  # faster, and no more decay
    assert sum(p.numel() for p in biases.parameters) == 2 * (64 + 256 + 256)


def test_fixup_learns_its_scalars_apart_and_others_learn_alike() -> None:
    fixup = build("fixup-resnet18", classes=3, channels=3, image_size=32).groups()
    assert [group.rate for group in fixup] == [1.0, 0.1]
    assert [group.rate for group in build("small", classes=3, channels=3, image_size=32).groups()] == [1.0]


@pytest.mark.parametrize("size", [9, 28, 48])
def test_other_sizes_are_taken(size: int) -> None:
    network = build("airbench", classes=4, channels=1, image_size=size)
    assert network(torch.randn(2, 1, size, size)).shape == (2, 4)


def test_images_too_small_for_it_are_named() -> None:
    with pytest.raises(UsageError, match="9 pixels or more"):
        Airbench(4, 3)(torch.randn(2, 3, 8, 8))


def test_a_training_starts_from_filters_of_its_own_rows_alone() -> None:
    rng = np.random.default_rng(0)
    images = rng.integers(0, 255, (60, 12, 12, 3), dtype=np.uint8)
    given = Task(
        images=Resident(torch.from_numpy(images)),
        labels=torch.zeros(60, dtype=torch.int64),
        rows=np.arange(30),
        classes=2,
        seed=1,
        device=torch.device("cpu"),
        precision="fp32",
        mean=torch.full((3,), 0.5),
        std=torch.full((3,), 0.2),
    )
    started = start(given, recipe("fast-gpu"), lambda: Airbench(2, 3)).network
    x = (torch.from_numpy(images[:30]).permute(0, 3, 1, 2) / 255 - 0.5) / 0.2
    wanted = whitening([x], epsilon=Airbench.EPSILON)
    assert isinstance(started, Airbench)
    assert torch.allclose(started.whiten.weight.abs(), wanted.abs(), rtol=1e-3, atol=1e-3)
