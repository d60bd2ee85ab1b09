"""The networks of this house. Each has ``features(x)`` (the embedding before the last layer) and ``head``.

The split lets the loop compute the last layer in float32 whatever the precision before it, and hands the
embedding to scores that need it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from dataset_audit.errors import UsageError
from dataset_audit.train.deep import Conv3

SCALAR_LR = 0.1  # Fixup: biases and multipliers learn at a tenth of the rate (Zhang et al. 2019)


@dataclass(frozen=True)
class Group:
    """Parameters that learn at one pace: their shares of the recipe's learning rate and of its weight decay."""

    parameters: list[nn.Parameter]
    rate: float = 1.0
    decay: float = 1.0


class Network(nn.Module):
    """A classifier in two parts: ``head(features(x))`` are the logits.

    ``looks_at`` is how many training images it wants to see before its first step; see ``look``.
    """

    head: nn.Module
    looks_at: ClassVar[int] = 0

    def look(self, batches: Iterable[Tensor]) -> None:
        """Set what is fixed from the data before training, from normalised images float32[B, C, H, W]."""

    def groups(self) -> list[Group]:
        """Return what learns, by pace; every parameter that needs a gradient is in one group."""
        scalars = [p for module in self.modules() if isinstance(module, Scalar) for p in module.parameters()]
        return self._parted(scalars, Group(scalars, rate=SCALAR_LR))

    def _parted(self, apart: list[nn.Parameter], group: Group) -> list[Group]:
        known = {id(parameter) for parameter in apart}
        rest = [p for p in self.parameters() if p.requires_grad and id(p) not in known]
        return [Group(rest), group] if apart else [Group(rest)]

    def features(self, x: Tensor) -> Tensor:
        """Return the embedding, float[B, D], of images float[B, C, H, W]; every network has its own."""
        raise TypeError(f"{type(self).__name__} defines no features for {tuple(x.shape)}")

    def forward(self, x: Tensor) -> Tensor:
        """Return logits float[B, classes]."""
        logits: Tensor = self.head(self.features(x))
        return logits


def conv3(inputs: int, outputs: int, stride: int = 1) -> nn.Conv2d:
    """Return a 3x3 convolution without bias that keeps the size of the image, but for its stride."""
    return Conv3(inputs, outputs, stride)


class BasicBlock(nn.Module):
    """Two 3x3 convolutions with batch norm and a shortcut (He et al. 2016); 1x1 projection where the shape changes."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1, self.norm1 = conv3(inputs, outputs, stride), nn.BatchNorm2d(outputs)
        self.conv2, self.norm2 = conv3(outputs, outputs), nn.BatchNorm2d(outputs)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or inputs != outputs:
            self.shortcut = nn.Sequential(
                nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs)
            )

    def forward(self, x: Tensor) -> Tensor:
        """Return float[B, outputs, H/stride, W/stride]."""
        out = functional.relu(self.norm1(self.conv1(x)))
        return functional.relu(self.norm2(self.conv2(out)) + self.shortcut(x))


class ResNet18(Network):
    """ResNet-18 with a 3x3 stem and no max-pool, widths 64 to 512; 11.17 M parameters at 10 classes.

    As in Toneva et al. 2019, who took it from DeVries & Taylor 2017; global average pooling instead of a fixed
    4x4 window, which is the same at 32 pixels.
    """

    def __init__(self, classes: int, channels: int) -> None:
        super().__init__()
        self.stem, self.norm = conv3(channels, 64), nn.BatchNorm2d(64)
        blocks: list[nn.Module] = []
        width = 64
        for outputs, stride in ((64, 1), (128, 2), (256, 2), (512, 2)):
            blocks += [BasicBlock(width, outputs, stride), BasicBlock(outputs, outputs, 1)]
            width = outputs
        self.blocks = nn.Sequential(*blocks)
        self.head = nn.Linear(512, classes)

    def features(self, x: Tensor) -> Tensor:
        """Return float[B, 512]."""
        return self.blocks(functional.relu(self.norm(self.stem(x)))).mean((2, 3))  # type: ignore[no-any-return]


class WideBlock(nn.Module):
    """Pre-activation block with dropout between the convolutions (Zagoruyko & Komodakis 2016)."""

    def __init__(self, inputs: int, outputs: int, stride: int, dropout: float) -> None:
        super().__init__()
        self.norm1, self.conv1 = nn.BatchNorm2d(inputs), conv3(inputs, outputs, stride)
        self.norm2, self.conv2 = nn.BatchNorm2d(outputs), conv3(outputs, outputs)
        self.dropout = nn.Dropout(dropout)
        self.project = nn.Conv2d(inputs, outputs, 1, stride, bias=False) if inputs != outputs else None

    def forward(self, x: Tensor) -> Tensor:
        """Return float[B, outputs, H/stride, W/stride]."""
        active = functional.relu(self.norm1(x))
        shortcut = x if self.project is None else self.project(active)
        out = self.conv2(self.dropout(functional.relu(self.norm2(self.conv1(active)))))
        return out + shortcut  # type: ignore[no-any-return]


class WideResNet(Network):
    """WRN-28-10 with dropout 0.3 (Zagoruyko & Komodakis 2016): 3 groups of 4 blocks, widths 160, 320, 640."""

    def __init__(self, classes: int, channels: int, *, widen: int = 10, dropout: float = 0.3) -> None:
        super().__init__()
        self.stem = conv3(channels, 16)
        blocks: list[nn.Module] = []
        width = 16
        for base, stride in ((16, 1), (32, 2), (64, 2)):
            for position in range(4):
                blocks.append(WideBlock(width, base * widen, stride if position == 0 else 1, dropout))
                width = base * widen
        self.blocks = nn.Sequential(*blocks)
        self.norm = nn.BatchNorm2d(width)
        self.head = nn.Linear(width, classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                fan_out = module.kernel_size[0] * module.kernel_size[1] * module.out_channels
                nn.init.normal_(module.weight, 0.0, math.sqrt(2 / fan_out))
        nn.init.zeros_(self.head.bias)

    def features(self, x: Tensor) -> Tensor:
        """Return float[B, 64 * widen]."""
        return functional.relu(self.norm(self.blocks(self.stem(x)))).mean((2, 3))


class MnistNet(Network):
    """Toneva's MNIST network: two 5x5 convolutions (10, 20), max-pools, linear 320-50-10; no dropout while scoring."""

    def __init__(self, classes: int, channels: int) -> None:
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(channels, 10, 5), nn.Conv2d(10, 20, 5)
        self.hidden = nn.Linear(320, 50)
        self.head = nn.Linear(50, classes)

    def features(self, x: Tensor) -> Tensor:
        """Return float[B, 50].

        Raises:
            UsageError: Images are not 28x28.
        """
        if x.shape[-2:] != (28, 28):
            raise UsageError(
                f"mnist-net takes 28x28 images, these are {x.shape[-2]}x{x.shape[-1]}.",
                do="--image-size 28, or --model small",
            )
        x = functional.relu(functional.max_pool2d(self.conv1(x), 2))
        x = functional.relu(functional.max_pool2d(self.conv2(x), 2))
        return functional.relu(self.hidden(x.flatten(1)))


class SmallNet(Network):
    """A residual network that a CPU can train: widths 32 to 128, 0.29 M parameters, 10 M multiply-adds at 32 pixels.

    The stem halves the image at once, strides replace pooling, ReLU replaces GELU: without a GPU, memory traffic at
    full resolution costs more than the arithmetic.
    """

    def __init__(self, classes: int, channels: int) -> None:
        super().__init__()
        self.stem, self.norm = nn.Conv2d(channels, 32, 5, 2, 2, bias=False), nn.BatchNorm2d(32)
        stages: list[nn.Module] = [_Residual(32)]
        for inputs, outputs in ((32, 64), (64, 128)):
            stages += [conv3(inputs, outputs, 2), nn.BatchNorm2d(outputs), nn.ReLU(), _Residual(outputs)]
        self.stages = nn.Sequential(*stages)
        self.head = nn.Linear(128, classes)

    def features(self, x: Tensor) -> Tensor:
        """Return float[B, 128]."""
        return self.stages(functional.relu(self.norm(self.stem(x)))).mean((2, 3))  # type: ignore[no-any-return]


class _Residual(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv, self.norm = conv3(width, width), nn.BatchNorm2d(width)

    def forward(self, x: Tensor) -> Tensor:
        return functional.relu(x + self.norm(self.conv(x)))


class ProbeNet(Network):
    """Patches of 4x4 pixels, then three widths of one residual convolution each; 0.2 M parameters.

    For telling data sets apart from pictures of 64 pixels on a CPU: a tenth of SmallNet's work a picture.
    """

    def __init__(self, classes: int, channels: int) -> None:
        super().__init__()
        stages: list[nn.Module] = []
        width = channels
        for outputs, kernel, stride in ((24, 4, 4), (48, 3, 2), (96, 3, 2)):
            stages += [
                nn.Conv2d(width, outputs, kernel, stride, 0 if kernel == stride else 1, bias=False),
                nn.BatchNorm2d(outputs),
                nn.ReLU(),
                _Residual(outputs),
            ]
            width = outputs
        self.stages = nn.Sequential(*stages)
        self.head = nn.Linear(width, classes)

    def features(self, x: Tensor) -> Tensor:
        """Return float[B, 96]."""
        return self.stages(x).mean((2, 3))  # type: ignore[no-any-return]


class Scalar(nn.Module):
    """One learned number, added or multiplied; Fixup's substitute for normalisation."""

    def __init__(self, start: float) -> None:
        super().__init__()
        self.value = nn.Parameter(torch.tensor(start))


class FixupBlock(nn.Module):
    """Basic block without normalisation: a scalar bias before every convolution and ReLU, one multiplier at the end."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.bias1, self.bias2, self.bias3, self.bias4 = (Scalar(0.0) for _ in range(4))
        self.multiplier = Scalar(1.0)
        self.conv1, self.conv2 = conv3(inputs, outputs, stride), conv3(outputs, outputs)
        self.project = (
            nn.Conv2d(inputs, outputs, 1, stride, bias=False) if stride != 1 or inputs != outputs else None
        )

    def forward(self, x: Tensor) -> Tensor:
        """Return float[B, outputs, H/stride, W/stride]."""
        biased = x + self.bias1.value
        shortcut = x if self.project is None else self.project(biased)
        out = functional.relu(self.conv1(biased) + self.bias2.value)
        out = self.conv2(out + self.bias3.value) * self.multiplier.value + self.bias4.value
        return functional.relu(out + shortcut)


class FixupResNet18(Network):
    """ResNet-18 (3x3 stem) without normalisation, initialised as in Zhang, Dauphin & Ma 2019 (Fixup).

    The prediction for an example never depends on its batch-mates. First convolution of each block He-normal
    times L^(-1/2) with L = 8 blocks, last convolution and classifier zero, projections He-normal.
    """

    def __init__(self, classes: int, channels: int) -> None:
        super().__init__()
        self.stem, self.bias1, self.bias2 = conv3(channels, 64), Scalar(0.0), Scalar(0.0)
        blocks: list[FixupBlock] = []
        width = 64
        for outputs, stride in ((64, 1), (128, 2), (256, 2), (512, 2)):
            blocks += [FixupBlock(width, outputs, stride), FixupBlock(outputs, outputs, 1)]
            width = outputs
        self.blocks = nn.Sequential(*blocks)
        self.head = nn.Linear(512, classes)
        nn.init.kaiming_normal_(self.stem.weight, mode="fan_out", nonlinearity="relu")
        for block in blocks:
            nn.init.kaiming_normal_(block.conv1.weight, mode="fan_out", nonlinearity="relu")
            with torch.no_grad():
                block.conv1.weight.mul_(len(blocks) ** -0.5)
            nn.init.zeros_(block.conv2.weight)
            if block.project is not None:
                nn.init.kaiming_normal_(block.project.weight, mode="fan_out", nonlinearity="relu")
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def features(self, x: Tensor) -> Tensor:
        """Return float[B, 512]."""
        x = functional.relu(self.stem(x) + self.bias1.value)
        return self.blocks(x).mean((2, 3)) + self.bias2.value  # type: ignore[no-any-return]


class TimmNet(Network):
    """A timm model in two parts; where its last layer is no plain linear layer, ``head`` is the identity."""

    def __init__(self, model: nn.Module, head: nn.Module) -> None:
        super().__init__()
        self.model = model
        self.head = head

    def features(self, x: Tensor) -> Tensor:
        """Return float[B, D]; with an identity head these are the logits."""
        if isinstance(self.head, nn.Identity):
            return self.model(x)  # type: ignore[no-any-return]
        forward_features, forward_head = self.model.forward_features, self.model.forward_head
        return forward_head(forward_features(x), pre_logits=True)  # type: ignore[no-any-return,operator]
