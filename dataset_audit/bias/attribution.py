"""A network's margin attributed to the cells of pictures: saliency, integrated gradients, Grad-CAM, by way of captum.

Pictures here are float32[B, 3, S, S] in shares of 255; the network's own normalisation is part of what is explained,
so a gradient is the change of the margin per unit of pixel value, the same unit for all channels. Everything is
computed in float32, whatever the precision of training.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from dataset_audit import seeds
from dataset_audit.errors import EnvironmentProblem
from dataset_audit.train.networks import Network

LEAST_GRID: Final = 7  # cells a side below which a Grad-CAM map has too few ranks to compare
STEPS: Final = 16  # of a path when maps are compared: ranks agree to 0.998 with those of 512 steps
MOST_STEPS: Final = 256
COMPLETE: Final = 0.05  # of the margin's difference: what the sum over a map may lack
_PIXELS: Final = 2**21  # of pictures in one call: 512 of 64 x 64


@dataclass(frozen=True, kw_only=True, eq=False)
class Attribution:
    """Maps of B pictures, float32[B, h, w] each, on the method's own grid, high is important.

    Attributes:
        magnitude: 0 or more: absolute values summed over channels; for Grad-CAM the positive part.
        signed: Above 0 speaks for the class, below 0 against it.
    """

    magnitude: NDArray[np.float32]
    signed: NDArray[np.float32]


@dataclass(frozen=True, kw_only=True, eq=False)
class Subject:
    """What is explained.

    Attributes:
        network: In eval mode.
        mean: float32[C] of its normalisation, as a share of 255; also the baseline of integrated gradients.
        std: float32[C], likewise.
        layer: Where Grad-CAM looks, a name for ``network.get_submodule``; empty where there is no such layer.
    """

    network: Network
    mean: Tensor
    std: Tensor
    layer: str = ""

    def logits(self, x: Tensor) -> Tensor:
        """Return float32[B, K] of pictures float32[B, C, S, S] in shares of 255."""
        found: Tensor = self.network((x - self.mean[:, None, None]) / self.std[:, None, None])
        return found.float()

    def margin(self, x: Tensor, target: Tensor) -> Tensor:
        """Return the logit of ``target`` int64[B] less the largest other, float32[B]."""
        logits = self.logits(x)
        target = target[:, None]
        return logits.gather(1, target)[:, 0] - logits.scatter(1, target, -torch.inf).amax(1)

    def baseline(self, side: int) -> Tensor:
        """Return the picture integrated gradients start from: the mean colour, float32[1, C, side, side]."""
        return self.mean[None, :, None, None].expand(1, -1, side, side)


def available() -> None:
    """Find out before work begins whether maps can be computed.

    Raises:
        EnvironmentProblem: captum is not installed.
    """
    try:
        import captum.attr  # noqa: F401, PLC0415 - an extra, and seconds to import
    except ImportError as error:
        raise EnvironmentProblem(
            "Explanations need captum, which is not installed.", do="pip install 'dataset-audit[explain]'"
        ) from error


def predicted(subject: Subject, x: Tensor) -> Tensor:
    """Return the class with the largest logit, int64[B]."""
    with torch.no_grad():
        return torch.cat([subject.logits(part).argmax(1) for part in torch.split(x, _per_call(x))])


def margins(subject: Subject, x: Tensor, target: Tensor) -> Tensor:
    """Return the margin of ``target``, float32[B], without a graph."""
    with torch.no_grad():
        size = _per_call(x)
        return torch.cat(
            [
                subject.margin(*part)
                for part in zip(torch.split(x, size), torch.split(target, size), strict=True)
            ]
        )


def saliency(subject: Subject, x: Tensor, target: Tensor) -> Attribution:
    """Return the gradient of the margin (Simonyan, Vedaldi & Zisserman 2014).

    Args:
        subject: The network.
        x: float32[B, C, S, S] in shares of 255.
        target: int64[B], the class whose margin is attributed.
    """
    from captum.attr import Saliency  # noqa: PLC0415 - see available

    method = Saliency(subject.margin)

    def attribute(part: Tensor, classes: Tensor) -> Tensor:
        # captum wants the leaf itself to ask for gradients, and by default would hide the sign
        found: Tensor = method.attribute(
            part.clone().requires_grad_(), abs=False, additional_forward_args=(classes,)
        )
        return found

    return _over_channels(_in_parts(attribute, x, target, _per_call(x)))


def integrated_gradients(subject: Subject, x: Tensor, target: Tensor, *, steps: int = STEPS) -> Attribution:
    """Return the gradient averaged from the mean colour to the picture, times their difference.

    Sundararajan, Taly & Yan 2017; Gauss-Legendre nodes. With enough steps the signed map sums to the margin less the
    margin of the mean colour: ``complete`` takes as many as that needs.

    Args:
        subject: The network.
        x: float32[B, C, S, S] in shares of 255.
        target: int64[B], the class whose margin is attributed.
        steps: Points on the path.
    """
    return _over_channels(_integrated(subject, x, target, steps))


@dataclass(frozen=True, kw_only=True, eq=False)
class Completeness:
    """Whether integrated gradients sum to what they explain.

    Attributes:
        maps: With as many steps as each picture needed.
        steps: int64[B], doubled from STEPS until complete, at most MOST_STEPS.
        lacks: float64[B], |sum - difference| / |difference| of the margin, at those steps.
    """

    maps: Attribution
    steps: NDArray[np.int64]
    lacks: NDArray[np.float64]

    @property
    def share(self) -> float:
        """Share of the pictures whose sum is within 5 % of the difference."""
        return float((self.lacks <= COMPLETE).mean())


def complete(subject: Subject, x: Tensor, target: Tensor) -> Completeness:
    """Integrate each picture with twice the steps until its map sums to the margin's difference within 5 %.

    Args:
        subject: The network.
        x: float32[B, C, S, S] in shares of 255.
        target: int64[B].
    """
    there = margins(subject, x, target)
    start = margins(subject, subject.baseline(x.shape[-1]).expand_as(x), target)
    difference = (there - start).double()
    found = torch.zeros_like(x)
    lacks = torch.full_like(difference, torch.inf)
    steps = torch.zeros(len(x), dtype=torch.int64, device=x.device)
    count, left = STEPS, torch.arange(len(x), device=x.device)
    while len(left) and count <= MOST_STEPS:
        found[left] = _integrated(subject, x[left], target[left], count)
        short = (found[left].double().sum((1, 2, 3)) - difference[left]).abs()
        # a picture whose margin is the baseline's has nothing to sum to: a zero map is complete, no other is
        lacks[left] = torch.where(short == 0, 0.0, short / difference[left].abs())
        steps[left] = count
        left, count = left[lacks[left] > COMPLETE], 2 * count
    return Completeness(maps=_over_channels(found), steps=steps.cpu().numpy(), lacks=lacks.cpu().numpy())


def grad_cam(subject: Subject, x: Tensor, target: Tensor) -> Attribution:
    """Return activations weighted by their mean gradient, on the grid of ``subject.layer`` (Selvaraju et al. 2017).

    Args:
        subject: The network; its layer gives (B, C, h, w).
        x: float32[B, C, S, S] in shares of 255.
        target: int64[B], the class whose margin is attributed.
    """
    from captum.attr import LayerGradCam  # noqa: PLC0415 - see available

    method = LayerGradCam(subject.margin, subject.network.get_submodule(subject.layer))

    def attribute(part: Tensor, classes: Tensor) -> Tensor:
        found: Tensor = method.attribute(part, additional_forward_args=(classes,))
        return found

    cam = _in_parts(attribute, x, target, _per_call(x))[:, 0]
    return Attribution(magnitude=cam.clamp_min(0).cpu().numpy(), signed=cam.cpu().numpy())


def cam_layer(subject: Subject, x: Tensor) -> tuple[str, str]:
    """Return (name of the layer for Grad-CAM, why there is none): one of the two is empty.

    The last module to finish whose output is a grid (B, C, h, w) of at least 7 x 7 cells, else the largest grid there
    is; and through which everything passes: a convolution beside a shortcut sees half of the story. Transformers are
    refused: their tokens (B, T, C) would be summed as if they were channels.

    Args:
        subject: The network.
        x: float32[B, C, S, S], a picture or two.
    """
    ran = _outputs(subject, x)
    if ran and not _is_grid(ran[-1][1]):
        return (
            "",
            f"the network ends on features of shape {ran[-1][1]}, not on a grid (channels, height, width)",
        )
    names = [name for name, _ in ran]
    grids = [
        (name, shape[2])
        for name, shape in reversed(ran)
        if _is_grid(shape) and shape[2] > 1 and names.count(name) == 1
    ]
    fine = [name for name, side in grids if side >= LEAST_GRID]
    coarse = sorted((grid for grid in grids if grid[1] < LEAST_GRID), key=lambda grid: -grid[1])
    for name in [*fine, *(name for name, _ in coarse)]:
        if _all_passes(subject, name, x):
            return name, ""
    return "", "the network has no layer on a grid through which everything passes"


def redrawn(subject: Subject, x: Tensor, seed: int, draw: int) -> Subject:
    """Return a copy of the subject whose last layer is drawn anew.

    Each of its tensors is normal with the mean and the standard deviation it had: its own scale, nothing it learned.

    Args:
        subject: The network.
        x: float32[B, C, S, S], a picture or two; to see which layer is last when the head has no weights.
        seed: Of the command.
        draw: Which of several.
    """
    network = copy.deepcopy(subject.network)
    head = network.head
    if not any(True for _ in head.parameters()):
        head = _last_with_weights(replace(subject, network=network), x)
    rng = seeds.rng(seed, "explain", "head", draw)
    with torch.no_grad():
        for parameter in head.parameters():
            spread = float(parameter.std(correction=0))
            drawn = np.asarray(rng.standard_normal(tuple(parameter.shape)), np.float32)
            parameter.copy_(float(parameter.mean()) + spread * torch.from_numpy(drawn))
    return replace(subject, network=network)


def _per_call(x: Tensor) -> int:
    return max(1, _PIXELS // x.shape[-1] ** 2)


def _in_parts(attribute: Callable[[Tensor, Tensor], Tensor], x: Tensor, target: Tensor, size: int) -> Tensor:
    parts = zip(torch.split(x, size), torch.split(target, size), strict=True)
    return torch.cat([attribute(part, classes).detach() for part, classes in parts])


def _integrated(subject: Subject, x: Tensor, target: Tensor, steps: int) -> Tensor:
    from captum.attr import IntegratedGradients  # noqa: PLC0415 - see available

    method, size = IntegratedGradients(subject.margin), _per_call(x)

    def attribute(part: Tensor, classes: Tensor) -> Tensor:
        found: Tensor = method.attribute(
            part,
            subject.baseline(x.shape[-1]),
            additional_forward_args=(classes,),
            n_steps=steps,
            internal_batch_size=max(size, len(part)),
        )
        return found

    return _in_parts(attribute, x, target, max(1, size // steps))


def _over_channels(found: Tensor) -> Attribution:
    return Attribution(magnitude=found.abs().sum(1).cpu().numpy(), signed=found.sum(1).cpu().numpy())


def _is_grid(shape: tuple[int, ...]) -> bool:
    """Return whether a shape is (B, C, h, w) of square pictures; (B, h, w, C) is not."""
    return len(shape) == 4 and shape[2] == shape[3]


def _outputs(subject: Subject, x: Tensor) -> list[tuple[str, tuple[int, ...]]]:
    """Return (name, shape) of every module's output of three or more dimensions, in the order they finished."""
    ran: list[tuple[str, tuple[int, ...]]] = []

    def hook(name: str) -> Callable[[nn.Module, object, object], None]:
        def look(_: nn.Module, __: object, output: object) -> None:
            if isinstance(output, Tensor) and output.ndim >= 3:
                ran.append((name, tuple(output.shape)))

        return look

    handles = [
        module.register_forward_hook(hook(name)) for name, module in subject.network.named_modules() if name
    ]
    try:
        predicted(subject, x)
    finally:
        for handle in handles:
            handle.remove()
    return ran


def _all_passes(subject: Subject, name: str, x: Tensor) -> bool:
    """Return whether nothing of the picture reaches the margin but through the module ``name``."""

    def cut(_: nn.Module, __: object, output: Tensor) -> Tensor:
        return output.detach()

    x = x.clone().requires_grad_()
    handle = subject.network.get_submodule(name).register_forward_hook(cut)
    try:
        logits = subject.logits(x).sum()
    finally:
        handle.remove()
    return not logits.requires_grad or torch.autograd.grad(logits, x, allow_unused=True)[0] is None


def _last_with_weights(subject: Subject, x: Tensor) -> nn.Module:
    ran: list[nn.Module] = []

    def look(module: nn.Module, _: object, __: object) -> None:
        ran.append(module)

    own = [module for module in subject.network.modules() if list(module.parameters(recurse=False))]
    handles = [module.register_forward_hook(look) for module in own]
    try:
        predicted(subject, x)
    finally:
        for handle in handles:
            handle.remove()
    return ran[-1]
