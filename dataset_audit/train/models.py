"""MODELS: the networks that can be named; any other name is a timm model. Naming one does not import torch."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlparse

from dataset_audit.errors import DataError, EnvironmentProblem, UsageError

if TYPE_CHECKING:
    from timm.models import PretrainedCfg
    from torch import nn

    from dataset_audit.train.networks import Network


@dataclass(frozen=True)
class Model:
    """How a network is made: the class, what it is, and its module in ``train``."""

    network: str
    about: str
    module: str = "networks"


MODELS: dict[str, Model] = {
    "resnet18": Model("ResNet18", "ResNet-18, 3x3 stem (Toneva et al. 2019), 11.2 M parameters"),
    "wrn28-10": Model("WideResNet", "WRN-28-10, dropout 0.3 (Zagoruyko & Komodakis 2016), 36.5 M"),
    "mnist-net": Model("MnistNet", "Toneva's MNIST network, 28x28 images, 22 k"),
    "airbench": Model(
        "Airbench", "whitened patches, 64 to 256 channels, for a GPU (Jordan 2024), 2.0 M", "airbench"
    ),
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


def build(
    name: str,
    *,
    classes: int,
    channels: int,
    image_size: int,
    pretrained: bool = False,
    download: bool = False,
) -> Network:
    """Return the network ``name`` for ``classes`` outputs, with freshly drawn weights from torch's generator.

    ``timm/NAME`` forces timm where a house network has the same name (timm's resnet18 has a 7x7 stem).

    Args:
        name: Of MODELS or of timm.
        classes: Outputs.
        channels: Of the pictures.
        image_size: Pixels of a side.
        pretrained: Start from timm's published weights, the last layer excepted.
        download: Whether weights that are not in the caches of the Hugging Face hub or of torch may be fetched.

    Raises:
        UsageError: Unknown name; near names are given. No published weights, or none at hand.
        EnvironmentProblem: timm cannot be imported, or the weights cannot be fetched.
        DataError: The weights at hand cannot be read.
    """
    check_known(name)
    if name in MODELS:
        module = importlib.import_module(f"dataset_audit.train.{MODELS[name].module}")
        if pretrained:
            raise UsageError(
                f"--pretrained: {name} has no published weights.", do="name a timm model, or leave it out"
            )
        make: Callable[[int, int], Network] = getattr(module, MODELS[name].network)
        return make(classes, channels)
    shape = _Shape(name.removeprefix("timm/"), classes, channels, image_size)
    model = _pretrained(shape, download=download) if pretrained else _timm(shape)
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


@dataclass(frozen=True)
class _Shape:
    name: str
    classes: int
    channels: int
    image_size: int


def _timm(shape: _Shape, weights: Mapping[str, object] | None = None) -> nn.Module:
    import timm  # noqa: PLC0415 - as above

    make = partial(
        timm.create_model,
        shape.name,
        pretrained=weights is not None,
        pretrained_cfg_overlay=dict(weights or {}),
        num_classes=shape.classes,
        in_chans=shape.channels,
    )
    try:
        model: nn.Module = make(img_size=shape.image_size)
    except TypeError:  # convolutional models take any size and no such argument
        model = make()
    return model


def _pretrained(shape: _Shape, *, download: bool) -> nn.Module:
    """Return the model with its published weights; without ``download`` no connection is ever opened."""
    import timm  # noqa: PLC0415 - as above

    name = shape.name
    known = timm.get_pretrained_cfg(name)
    if known is None or not known.has_weights:
        raise UsageError(
            f"--pretrained: {name} has no published weights.", do="name another model, or leave it out"
        )
    weights = _at_hand(known)
    if not weights and not download:
        raise UsageError(
            f"--pretrained: no weights of {name} are at hand, and nothing is downloaded unasked.",
            do="--download to fetch them, or leave --pretrained out",
        )
    try:
        return _timm(shape, weights)
    except Exception as error:  # a reader of foreign files, and a connection, raise anything
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        if not weights:
            raise EnvironmentProblem(
                f"The weights of {name} cannot be fetched: {reason}.",
                do="try again, or leave --pretrained out",
            ) from error
        raise DataError(
            f"The weights of {name} at hand cannot be read: {reason}.",
            where=str(weights["file"]),
            do="delete the file and --download, or leave --pretrained out",
        ) from error


def _at_hand(known: PretrainedCfg) -> dict[str, object]:
    """Return where a model's weights are in the cache of the hub or of torch, {} if they are in neither."""
    import torch  # noqa: PLC0415
    from huggingface_hub import try_to_load_from_cache  # noqa: PLC0415 - as timm

    if known.hf_hub_id:
        repository, _, revision = known.hf_hub_id.partition("@")
        names = (
            [known.hf_hub_filename] if known.hf_hub_filename else ["model.safetensors", "pytorch_model.bin"]
        )
        for name in names:
            found = try_to_load_from_cache(repository, name, revision=revision or None)
            if isinstance(found, str):  # else None, or a mark that the hub has no such file
                return {
                    "file": found,
                    "custom_load": False,
                }  # other layouts are those of the makers' own files
    if isinstance(known.url, str) and known.url:
        path = Path(torch.hub.get_dir()) / "checkpoints" / Path(urlparse(known.url).path).name
        return {"file": str(path)} if path.is_file() else {}
    return {}


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
