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


def suited(
    recipe: str | None, model: str | None, size: tuple[int, int], channels: int, *, gpu: bool
) -> tuple[str, str]:
    """Return the (recipe, model) to train with: those asked for, None where there was no wish.

    The network airbench comes with the recipe it was made for, ``fast-gpu``; on a GPU that is what ``fast`` means for
    colour images up to 96 pixels, unless another network is named.
    """
    names = default_choice(size, channels, gpu=gpu)
    its_own = gpu and recipe == "fast" and model is None and channels > 1 and max(size) <= SMALL
    if its_own or (model == "airbench" and recipe in {None, "fast"}):
        return "fast-gpu", "airbench"
    if model is None:
        model = names[1] if recipe in {None, names[0]} else model_for(str(recipe), names[1])
    return recipe or names[0], model


def model_for(recipe_name: str, otherwise: str) -> str:
    """Return the network that goes with a recipe; ``otherwise`` for one that goes with none."""
    return {
        "toneva-cifar": "resnet18",
        "toneva-mnist": "mnist-net",
        "fast": "small",
        "fast-gpu": "airbench",
        "fast-plain": "small",
    }.get(recipe_name, otherwise)
