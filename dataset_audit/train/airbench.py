"""airbench94's network: eight layers that begin as identities behind a whitening of the images' own patches."""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from dataset_audit.errors import UsageError
from dataset_audit.train.networks import Group, Network, conv3


class Airbench(Network):
    """airbench94's network (Jordan 2024, arXiv 2404.00498): 8 layers, 2.0 M parameters, 118 M multiply-adds at 32 px.

    2x2 patches are whitened by filters fixed from training images (each also negated), then three groups of two
    convolutions, widths 64, 256, 256, the first of each halving the image; batch norm without weight; logits times
    1/9; convolutions begin as identities. Differs: the largest value over what remains of the image replaces a 3x3
    window, the same at 32 pixels; the bias of the whitening learns throughout, there for three epochs; the last layer
    is float32. It has no bias: last-layer GraNd counts one that is not there, which moves no rank by much.
    """

    looks_at = 5000
    EPSILON: ClassVar[float] = 5e-4  # added to the variances that whitening divides by
    SCALE: ClassVar[float] = 1 / 9  # of the logits
    NORM_LR: ClassVar[float] = 64.0  # biases of batch norm learn so much faster, with no more decay

    def __init__(self, classes: int, channels: int) -> None:
        super().__init__()
        width = 2 * 4 * channels
        self.whiten = nn.Conv2d(channels, width, 2)
        self.whiten.weight.requires_grad_(False)  # noqa: FBT003 - torch's way
        nn.init.zeros_(_known(self.whiten.bias))
        groups: list[nn.Module] = []
        for outputs in (64, 256, 256):
            groups.append(_AirbenchGroup(width, outputs))
            width = outputs
        self.stages = nn.Sequential(*groups)
        self.head = _ScaledLinear(width, classes, self.SCALE)

    def look(self, batches: Iterable[Tensor]) -> None:
        """Make the first layer's filters the whitened patches of these images."""
        self.whiten.weight.data.copy_(whitening(batches, epsilon=self.EPSILON))

    def groups(self) -> list[Group]:
        """Return everything that learns, the biases of batch norm apart."""
        biases = [_known(module.bias) for module in self.modules() if isinstance(module, nn.BatchNorm2d)]
        return self._parted(biases, Group(biases, rate=self.NORM_LR, decay=1 / self.NORM_LR))

    def features(self, x: Tensor) -> Tensor:
        """Return float[B, 256].

        Raises:
            UsageError: Images are smaller than 9x9.
        """
        if min(x.shape[-2:]) < 9:
            raise UsageError(
                f"airbench takes images of 9 pixels or more, these are {x.shape[-2]}x{x.shape[-1]}.",
                do="--image-size 32, or --model small",
            )
        return self.stages(functional.gelu(self.whiten(x))).amax((2, 3))  # type: ignore[no-any-return]


class _AirbenchGroup(nn.Module):
    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv1, self.norm1 = conv3(inputs, outputs), _norm_without_weight(outputs)
        self.conv2, self.norm2 = conv3(outputs, outputs), _norm_without_weight(outputs)
        for conv in (self.conv1, self.conv2):
            nn.init.dirac_(conv.weight.data[: conv.in_channels])

    def forward(self, x: Tensor) -> Tensor:
        x = functional.gelu(self.norm1(functional.max_pool2d(self.conv1(x), 2)))
        return functional.gelu(self.norm2(self.conv2(x)))


class _ScaledLinear(nn.Linear):
    def __init__(self, inputs: int, outputs: int, scale: float) -> None:
        super().__init__(inputs, outputs, bias=False)
        self.scale = scale

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) * self.scale


def _norm_without_weight(width: int) -> nn.BatchNorm2d:
    norm = nn.BatchNorm2d(width, eps=1e-12, momentum=0.4)
    norm.weight.requires_grad_(False)  # noqa: FBT003 - torch's way
    return norm


def _known(parameter: Tensor | None) -> nn.Parameter:
    if not isinstance(parameter, nn.Parameter):
        raise TypeError("a layer made with a bias has one")
    return parameter


def whitening(batches: Iterable[Tensor], *, epsilon: float) -> Tensor:
    """Return float32[8C, C, 2, 2]: filters that make the 2x2 patches of images uncorrelated, and their negatives.

    The eigenvectors of the patches' second moments, largest first, each over the root of its eigenvalue + epsilon.

    Args:
        batches: float32[B, C, H, W], normalised.
        epsilon: Keeps directions in which patches hardly vary from being blown up.

    Source: Page 2018; Jordan 2024, sec. 3.1.
    """
    moments, count, channels = torch.zeros(()), 0, 1
    for batch in batches:
        patches = functional.unfold(batch, 2)  # [B, 4C, places]
        moments = moments + torch.einsum("bip,bjp->ij", patches, patches).double().cpu()
        count, channels = count + patches.shape[0] * patches.shape[2], batch.shape[1]
    values, vectors = torch.linalg.eigh(moments / count)
    scaled = (vectors / (values.clamp_min(0) + epsilon).sqrt()).T.flip(0).reshape(-1, channels, 2, 2)
    return torch.cat([scaled, -scaled]).float()
