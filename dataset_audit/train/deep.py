"""3x3 convolutions over small, deep maps as one matrix product: on a CPU the usual kernels are slow there.

With 512 channels on 4x4 maps the weight gradient of the usual kernels reaches a fraction of the processor's matrix
rate. Written as nine shifted copies beside each other, times the weights as one matrix, forward and backward are three
matrix products; at 256 channels on 8x8 maps the copies cost more than they save. The rule is one of shapes, not of a
timing: a resumed run must add in the same order.
"""

from __future__ import annotations

from typing import Any, Final

import torch
from torch import Tensor, nn
from torch.nn import functional

CHANNELS: Final = 512  # outputs from which it pays
POSITIONS: Final = 16  # of an output map up to which it pays


class Conv3(nn.Conv2d):
    """A 3x3 convolution with padding 1, without bias, square stride; the state of ``nn.Conv2d``."""

    def __init__(self, inputs: int, outputs: int, stride: int = 1) -> None:
        super().__init__(inputs, outputs, 3, stride, 1, bias=False)

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - the name in nn.Conv2d
        """Return float[B, outputs, ceil(H / stride), ceil(W / stride)] of float[B, inputs, H, W]."""
        stride = self.stride[0]
        positions = -(-input.shape[2] // stride) * -(-input.shape[3] // stride)
        if input.device.type != "cpu" or self.out_channels < CHANNELS or positions > POSITIONS:
            return super().forward(input)
        x, weight = input, self.weight
        if torch.is_autocast_enabled("cpu"):
            kind = torch.get_autocast_dtype("cpu")
            x, weight = x.to(kind), weight.to(kind)
        return as_product(x, weight, stride)


def as_product(x: Tensor, weight: Tensor, stride: int) -> Tensor:
    """Return the 3x3 convolution with padding 1 of float[B, C, H, W] by float[O, C, 3, 3], in channels-last memory."""
    made: Tensor = _Product.apply(x, weight, stride)
    return made


class _Product(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, stride: int) -> Tensor:
        batch, channels, height, width = x.shape
        outputs = weight.shape[0]
        high, wide = -(-height // stride), -(-width // stride)
        padded = functional.pad(x.permute(0, 2, 3, 1), (0, 0, 1, 1, 1, 1))
        columns = torch.cat([padded[:, rows, across] for rows, across in _shifts(high, wide, stride)], dim=3)
        columns = columns.reshape(batch * high * wide, 9 * channels)
        matrix = weight.permute(2, 3, 1, 0).reshape(9 * channels, outputs)
        ctx.save_for_backward(columns, matrix)
        ctx.shapes = (x.shape, high, wide, stride)
        return (columns @ matrix).reshape(batch, high, wide, outputs).permute(0, 3, 1, 2)

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, Tensor, None]:
        columns, matrix = ctx.saved_tensors
        (batch, channels, height, width), high, wide, stride = ctx.shapes
        flat = upstream.permute(0, 2, 3, 1).reshape(batch * high * wide, -1)
        weight = (columns.t() @ flat).reshape(3, 3, channels, -1).permute(3, 2, 0, 1)
        if not ctx.needs_input_grad[0]:
            return None, weight, None
        parts = (flat @ matrix.t()).reshape(batch, high, wide, 9, channels)
        padded = parts.new_zeros(batch, height + 2, width + 2, channels)
        for number, (rows, across) in enumerate(_shifts(high, wide, stride)):
            padded[:, rows, across] += parts[:, :, :, number]
        return padded[:, 1:-1, 1:-1].permute(0, 3, 1, 2), weight, None


def _shifts(high: int, wide: int, stride: int) -> list[tuple[slice, slice]]:
    """Return rows and columns of the padded map that each of the nine weights meets."""
    return [
        (slice(i, i + stride * (high - 1) + 1, stride), slice(j, j + stride * (wide - 1) + 1, stride))
        for i in range(3)
        for j in range(3)
    ]
