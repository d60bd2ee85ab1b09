"""MODELS: the networks that can be named; any other name is a timm model. Naming one does not import torch."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dataset_audit.errors import EnvironmentProblem, UsageError

if TYPE_CHECKING:
    from torch import nn

    from dataset_audit.train.networks import Network


@dataclass(frozen=True)
class Model:
    """How a network is made: the class in ``train.networks`` and what it is."""

    network: str
    about: str


MODELS: dict[str, Model] = {
    "resnet18": Model("ResNet18", "ResNet-18, 3x3 stem (Toneva et al. 2019), 11.2 M parameters"),
    "wrn28-10": Model("WideResNet", "WRN-28-10, dropout 0.3 (Zagoruyko & Komodakis 2016), 36.5 M"),
    "mnist-net": Model("MnistNet", "Toneva's MNIST network, 28x28 images, 22 k"),
    "small": Model("SmallNet", "residual, 32 to 128 channels, for a CPU, 0.3 M"),
    "probe-net": Model("ProbeNet", "4x4 patches, 24 to 96 channels, to tell data sets apart on a CPU, 0.2 M"),
    "fixup-resnet18": Model("FixupResNet18", "ResNet-18 without normalisation (Zhang et al. 2019), 11.2 M"),
}

REMOTE = ("hf-hub:", "hf_hub:", "local-dir:", "http:", "https:")


def check_name(name: str) -> None:
    """Refuse names that would reach the network or the file system instead of a list of models.

    Raises:
        UsageError: The name has a source prefix of timm's or path characters.
    """
    plain = name.removeprefix("timm/")
    if name.startswith(REMOTE) or not plain or not all(part.isalnum() or part in "-_." for part in plain):
        raise UsageError(
            f"--model {name}: models are named, not fetched or read from a path.", do="audit --list models"
        )


def build(name: str, *, classes: int, channels: int, image_size: int, pretrained: bool = False) -> Network:
    """Return the network ``name`` for ``classes`` outputs, with freshly drawn weights from torch's generator.

    ``timm/NAME`` forces timm where a house network has the same name (timm's resnet18 has a 7x7 stem).

    Args:
        name: Of MODELS or of timm.
        classes: Outputs.
        channels: Of the pictures.
        image_size: Pixels of a side.
        pretrained: Start from timm's published weights, the last layer excepted; only from the local cache, unless
            HF_HUB_OFFLINE is set to 0.

    Raises:
        UsageError: Unknown name; near names are given. No published weights, or none at hand.
        EnvironmentProblem: timm cannot be imported.
    """
    check_known(name)
    networks = importlib.import_module("dataset_audit.train.networks")
    if name in MODELS:
        if pretrained:
            raise UsageError(
                f"--pretrained: {name} has no published weights.", do="name a timm model, or leave it out"
            )
        make: Callable[[int, int], Network] = getattr(networks, MODELS[name].network)
        return make(classes, channels)
    plain = name.removeprefix("timm/")
    if not pretrained:
        return _split(
            _timm(plain, classes, channels, image_size, pretrained=False),
            channels=channels,
            image_size=image_size,
        )
    try:
        model = _timm(plain, classes, channels, image_size, pretrained=True)
    except (OSError, RuntimeError, ValueError) as error:  # the hub's own errors derive from these
        reason = " ".join(str(error).split())[:200]
        raise UsageError(
            f"--pretrained: no weights of {plain} at hand ({reason}).",
            do="--download to fetch them, or leave --pretrained out",
        ) from error
    return _split(model, channels=channels, image_size=image_size)


def check_known(name: str) -> None:
    """Find out before any work whether there is such a model.

    Raises:
        UsageError: Unknown name; near names are given.
        EnvironmentProblem: timm cannot be imported.
    """
    check_name(name)
    if name in MODELS:
        return
    try:
        import timm  # noqa: PLC0415 - costs a second, only models of its own pay it
    except (ImportError, RuntimeError) as error:  # RuntimeError: torch and torchvision of different builds
        raise EnvironmentProblem(
            f"timm cannot be imported: {error}.", do="reinstall torch and torchvision together from one index"
        ) from error
    plain = name.removeprefix("timm/")
    if not timm.is_model(plain):
        from difflib import get_close_matches  # noqa: PLC0415

        near = get_close_matches(plain, [*MODELS, *timm.list_models()], n=3)
        raise UsageError(
            f"No model called {name!r}" + (f"; near: {', '.join(near)}." if near else "."),
            do="audit --list models, or any name of timm.list_models()",
        )


def _timm(name: str, classes: int, channels: int, image_size: int, *, pretrained: bool) -> nn.Module:
    import timm  # noqa: PLC0415 - as above

    try:
        model: nn.Module = timm.create_model(
            name, pretrained=pretrained, num_classes=classes, in_chans=channels, img_size=image_size
        )
    except TypeError:  # convolutional models take any size and no such argument
        model = timm.create_model(name, pretrained=pretrained, num_classes=classes, in_chans=channels)
    return model


def _split(model: nn.Module, *, channels: int, image_size: int) -> Network:
    """Part a timm model before its last linear layer, if putting it together again gives the same logits."""
    import torch  # noqa: PLC0415
    from torch import nn  # noqa: PLC0415

    from dataset_audit.train.networks import TimmNet  # noqa: PLC0415

    whole = TimmNet(model, nn.Identity())
    classifier = getattr(model, "get_classifier", None)
    head = classifier() if callable(classifier) else None
    if not isinstance(head, nn.Linear):
        return whole
    parted = TimmNet(model, head)
    model.eval()
    with torch.no_grad():
        # deterministic and not constant, without touching the generator that draws the weights
        probe = torch.linspace(-1, 1, 2 * channels * image_size**2).reshape(
            2, channels, image_size, image_size
        )
        try:
            same = torch.allclose(parted(probe), model(probe), atol=1e-4)
        except (TypeError, RuntimeError, AttributeError):
            same = False
    model.train()
    return parted if same else whole
