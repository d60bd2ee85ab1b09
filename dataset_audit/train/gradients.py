"""What is computed across a batch that processes share: gradients add up, running statistics are averaged."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import Final

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from dataset_audit.train.distributed import World

BUCKET: Final = (
    2**22
)  # gradients that travel together, so that the first are on their way while others are computed


def has_batch_statistics(network: nn.Module) -> bool:
    """Return whether the network normalises by the statistics of a batch, which each process takes of its own part."""
    kinds = nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d
    return any(isinstance(module, kinds) for module in network.modules())


def average_statistics(network: nn.Module, world: World, share: float) -> None:
    """Replace the running statistics of every process by their mean, weighted by the share it presented.

    Args:
        network: Changed in place.
        world: All processes.
        share: Of the presentations since the last call; they sum to one.
    """
    if world.size == 1:
        return
    for buffer in network.buffers():
        if buffer.is_floating_point():
            buffer.mul_(share)
            world.add(buffer)
        else:
            world.as_first(buffer)


@dataclass
class _Bucket:
    parameters: list[nn.Parameter]
    missing: int = 0
    flat: Tensor | None = None
    wait: Callable[[], None] | None = None


class Gradients:
    """Adds up the gradients of all processes, bucket by bucket, while the backward pass is still under way.

    A process whose part of a batch is empty adds nothing but takes part. Buckets go out in one order everywhere,
    because sums are matched by their order.

    Args:
        parameters: Of the network, in the same order everywhere.
        world: All processes; with one alone nothing is done.
    """

    def __init__(self, parameters: Iterable[nn.Parameter], world: World) -> None:
        self._world = world
        self._buckets: list[_Bucket] = []
        self._hooks: list[RemovableHandle] = []
        self._next = 0
        if world.size == 1:
            return
        room = 0
        for parameter in reversed([p for p in parameters if p.requires_grad]):  # the last are computed first
            if room < parameter.numel() or self._buckets[-1].parameters[0].device != parameter.device:
                self._buckets.append(_Bucket([]))
                room = max(BUCKET, parameter.numel())
            self._buckets[-1].parameters.append(parameter)
            room -= parameter.numel()
        self._hooks = [
            parameter.register_post_accumulate_grad_hook(partial(self._ready, bucket))  # type: ignore[no-untyped-call]
            for bucket in self._buckets
            for parameter in bucket.parameters
        ]
        self._reset()

    def sum(self) -> None:
        """Make every gradient the sum over all processes; call between backward pass and update on all of them."""
        while self._next < len(self._buckets):
            self._send(self._buckets[self._next])
        for bucket in self._buckets:
            if bucket.wait is None or bucket.flat is None:
                raise ValueError("every bucket was sent above")
            bucket.wait()
            parts = torch.split(bucket.flat, [parameter.numel() for parameter in bucket.parameters])
            for parameter, part in zip(bucket.parameters, parts, strict=True):
                if parameter.grad is None:
                    parameter.grad = torch.empty_like(parameter)
                parameter.grad.copy_(part.view(parameter.shape))
        self._reset()

    def close(self) -> None:
        """Take the hooks off the parameters."""
        for hook in self._hooks:
            hook.remove()

    def _reset(self) -> None:
        self._next = 0
        for bucket in self._buckets:
            bucket.missing, bucket.flat, bucket.wait = len(bucket.parameters), None, None

    def _ready(self, bucket: _Bucket, _parameter: Tensor) -> None:
        bucket.missing -= 1
        while self._next < len(self._buckets) and self._buckets[self._next].missing == 0:
            self._send(self._buckets[self._next])

    def _send(self, bucket: _Bucket) -> None:
        self._next += 1
        bucket.flat = torch.cat(
            [
                (torch.zeros_like(p) if p.grad is None else p.grad).detach().reshape(-1).float()
                for p in bucket.parameters
            ]
        )
        bucket.wait = self._world.added_later(bucket.flat)
