"""Which recipe and network are used when none is named."""

from __future__ import annotations

SMALL = 96  # pixels; the CIFAR protocol is meant for images up to about this size


def default_choice(size: tuple[int, int], channels: int, *, gpu: bool) -> tuple[str, str]:
    """Return the (recipe, model) used when none is named.

    MNIST-like images get Toneva's MNIST protocol, other grey ones a short run without augmentation. Colour images
    get the full CIFAR protocol on a GPU and the short one with the small network on a CPU, where the full one
    would take days.
    """
    if channels == 1:
        return ("toneva-mnist", "mnist-net") if size == (28, 28) else ("fast-plain", "small")
    if not gpu:
        return "fast", "small"
    return ("toneva-cifar", "resnet18") if max(size) <= SMALL else ("fast", "timm/resnet18")


def model_for(recipe_name: str, otherwise: str) -> str:
    """Return the network that goes with a recipe; ``otherwise`` for one that goes with none."""
    return {
        "toneva-cifar": "resnet18",
        "toneva-mnist": "mnist-net",
        "fast": "small",
        "fast-plain": "small",
    }.get(recipe_name, otherwise)
