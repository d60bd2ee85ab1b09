"""What is trained when nothing, or half of it, is named."""

from __future__ import annotations

import pytest

from dataset_audit.train.defaults import suited
from dataset_audit.train.models import MODELS
from dataset_audit.train.recipes import RECIPES


@pytest.mark.parametrize(
    ("asked", "on_cpu", "on_gpu"),
    [
        ((None, None), ("fast", "small"), ("toneva-cifar", "resnet18")),
        (("fast", None), ("fast", "small"), ("fast-gpu", "airbench")),
        (("fast-gpu", None), ("fast-gpu", "airbench"), ("fast-gpu", "airbench")),
        (("fast", "resnet18"), ("fast", "resnet18"), ("fast", "resnet18")),
        ((None, "airbench"), ("fast-gpu", "airbench"), ("fast-gpu", "airbench")),
        (("toneva-cifar", "airbench"), ("toneva-cifar", "airbench"), ("toneva-cifar", "airbench")),
        (("toneva-mnist", None), ("toneva-mnist", "mnist-net"), ("toneva-mnist", "mnist-net")),
        ((None, "small"), ("fast", "small"), ("toneva-cifar", "small")),
    ],
)
def test_what_is_asked_for_is_kept_and_the_rest_suits_it(
    asked: tuple[str | None, str | None], on_cpu: tuple[str, str], on_gpu: tuple[str, str]
) -> None:
    assert suited(*asked, (32, 32), 3, gpu=False) == on_cpu
    assert suited(*asked, (32, 32), 3, gpu=True) == on_gpu
    assert {on_cpu[0], on_gpu[0]} <= set(RECIPES)
    assert {on_cpu[1], on_gpu[1]} <= set(MODELS)


def test_large_or_grey_images_keep_the_plain_fast_recipe_on_a_gpu() -> None:
    assert suited("fast", None, (224, 224), 3, gpu=True) == ("fast", "timm/resnet18")
    assert suited("fast", None, (64, 64), 1, gpu=True) == ("fast", "small")
