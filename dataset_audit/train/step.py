"""A training step that reads and writes the same places every time, so that a GPU can replay it without its host.

A step of ResNet-18 is two to three hundred small kernels; a host that issues them one by one takes longer than the
GPU does to run them. Here everything a step needs lies on the device before an epoch begins: the order of the rows,
their crops and flips, the learning rates, and a counter that each step moves on by itself. So a step is a function
without arguments. After a few real steps have warmed it up it is captured as a CUDA graph, and from then on a step is
one launch. On a CPU the very same function is called, which is how it is tested against the plain loop.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, fields
from typing import Final, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dataset_audit.train import augment

WARM: Final = 3  # steps of a length before it is captured: kernels are chosen and memory is found in them


class Observer(Protocol):
    """Whoever watches a training: called once per batch, before its update, with what the network said.

    One that has a true attribute ``replayable`` does nothing but tensor operations without waiting for the device: a
    replay repeats its operators, not its Python.
    """

    def __call__(
        self, indices: Tensor, logits: Tensor, labels: Tensor, features: Tensor | None = None, /
    ) -> None:
        """Take indices int64[B], logits float32[B, classes], labels int64[B], embeddings float32[B, D]."""


@dataclass(frozen=True)
class Said:
    """What the network said of a batch, and the loss it is to learn from."""

    logits: Tensor
    labels: Tensor
    embedding: Tensor
    loss: Tensor


@dataclass(frozen=True, kw_only=True)
class Work:
    """What a step does, epoch after epoch.

    Attributes:
        images: uint8[N, H, W, C], all of them, on the device.
        say: From indices int64[B] and augmented pixels uint8[B, H, W, C] to what the network says of them.
        observe: Sees what was said before the update it causes.
        optimiser: SGD with the fused kernel; every group has a ``scale`` beside its learning rate.
        padding: Of the random crop.
        flip: Whether flips are drawn.
    """

    images: Tensor
    say: Callable[[Tensor, Tensor], Said]
    observe: Observer | None
    optimiser: torch.optim.Optimizer
    padding: int
    flip: bool


class Lane(Protocol):
    """Where steps run, and what can be made of a step there."""

    def running(self) -> AbstractContextManager[object]:
        """Return a context in which work goes onto this lane."""

    def beside(self, work: Callable[[], None]) -> Callable[[], None]:
        """Begin ``work`` so that what follows need not wait for it; return what waits."""

    def begin(self) -> None:
        """Let the lane wait for everything that was asked of the device so far."""

    def end(self) -> None:
        """Let everything that is asked of the device from now on wait for the lane."""

    def captured(self, step: Callable[[], None]) -> Callable[[], None] | None:
        """Return what does ``step`` again, without doing it now; None where nothing is gained by that."""


class Plain:
    """One thing after the other, as they are called."""

    def running(self) -> AbstractContextManager[object]:
        """Return a context that changes nothing."""
        return nullcontext()

    def beside(self, work: Callable[[], None]) -> Callable[[], None]:
        """Do it now."""
        work()
        return lambda: None

    def begin(self) -> None:
        """Do nothing."""

    def end(self) -> None:
        """Do nothing."""

    def captured(self, step: Callable[[], None]) -> Callable[[], None] | None:  # noqa: ARG002 - the protocol's
        """Return None."""
        return None


class Stream:
    """A CUDA stream of its own; steps become graphs that share their memory, since no two of them run at once.

    Lanes of several trainings may be filled in turns: their steps then run side by side.

    Args:
        device: A CUDA device.
        graphs: Whether to capture; without, each kernel is launched by the host.
    """

    def __init__(self, device: torch.device, *, graphs: bool = True) -> None:
        self._stream, self._aside = (torch.cuda.Stream(device) for _ in range(2))  # type: ignore[no-untyped-call]  # as torch has it
        self._graphs = graphs
        self._captured: list[torch.cuda.CUDAGraph] = []

    def running(self) -> AbstractContextManager[object]:
        """Return a context in which work goes onto this stream."""
        return torch.cuda.stream(self._stream)

    def beside(self, work: Callable[[], None]) -> Callable[[], None]:
        """Do ``work`` on a second stream, which is a second branch of the graph: small kernels fill idle units."""
        self._aside.wait_stream(self._stream)
        with torch.cuda.stream(self._aside):
            work()
        return lambda: self._stream.wait_stream(self._aside)

    def begin(self) -> None:
        """Wait for the stream of the caller."""
        self._stream.wait_stream(torch.cuda.current_stream(self._stream.device))

    def end(self) -> None:
        """Have the stream of the caller wait."""
        torch.cuda.current_stream(self._stream.device).wait_stream(self._stream)

    def captured(self, step: Callable[[], None]) -> Callable[[], None] | None:
        """Return the replay of a graph of ``step``.

        Raises:
            RuntimeError: Something in the step cannot be captured.
        """
        if not self._graphs:
            return None
        graph = torch.cuda.CUDAGraph()
        pool = self._captured[0].pool() if self._captured else None
        with torch.cuda.graph(graph, pool=pool, stream=self._stream, capture_error_mode="thread_local"):
            step()
        self._captured.append(graph)
        return graph.replay


class Steps:
    """The steps of one training, over resident images, in one process.

    Args:
        work: What a step does.
        rows: Examples an epoch presents, at most.
        steps: Updates an epoch has, at most.
        lane: Where they run.
        warn: Told in one sentence if a step cannot be captured; steps then go on uncaptured.
    """

    def __init__(
        self, work: Work, *, rows: int, steps: int, lane: Lane | None = None, warn: Callable[[str], None]
    ) -> None:
        device, groups = work.images.device, work.optimiser.param_groups
        self._work, self._lane, self._warn = work, lane or Plain(), warn
        self._order = torch.zeros(rows, dtype=torch.int64, device=device)
        self._rates = torch.zeros((steps, len(groups)), dtype=torch.float32, device=device)
        self._rate = torch.zeros(len(groups), dtype=torch.float32, device=device)
        self._ahead = torch.arange(rows, device=device)
        self._draws: augment.Draws | None = None
        self._row = torch.zeros((), dtype=torch.int64, device=device)
        self._step = torch.zeros(1, dtype=torch.int64, device=device)
        self._loss = torch.zeros(
            (), dtype=torch.float64 if device.type == "cpu" else torch.float32, device=device
        )
        self._correct = torch.zeros((), dtype=torch.int64, device=device)
        self._came, self._replays = Counter[int](), dict[int, Callable[[], None]]()
        self._capture = True
        for group, rate in zip(groups, self._rate, strict=True):
            group["lr"] = rate  # a number would be frozen into the graph
            for parameter in group["params"] if group["momentum"] else ():
                # as if there had been a step without gradient; made during a capture it would not outlive it
                if work.optimiser.state[parameter].get("momentum_buffer") is None:
                    work.optimiser.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)

    def begin(self, order: NDArray[np.int64], draws: augment.Draws, rates: Sequence[float]) -> None:
        """Lay out an epoch on the device.

        Args:
            order: int64[M], the rows in the order they are presented.
            draws: Crops and flips of all examples.
            rates: Learning rate of each of the epoch's updates.
        """
        scales = [float(group["scale"]) for group in self._work.optimiser.param_groups]
        table = torch.tensor([[rate * scale for scale in scales] for rate in rates], dtype=torch.float64)
        self._lane.begin()
        with self._lane.running():
            self._order[: len(order)].copy_(torch.from_numpy(order))
            self._rates[: len(rates)].copy_(table)
            if self._draws is None:
                self._draws = draws
            else:
                for one in fields(draws):
                    getattr(self._draws, one.name).copy_(getattr(draws, one.name))
            for counter in (self._row, self._step, self._loss, self._correct):
                counter.zero_()
        self._lane.end()  # the memory of ``draws`` may be used again only after it was read

    def run(self, length: int) -> None:
        """Make the next step, of ``length`` examples; on a GPU it is asked for, not waited for."""
        with self._lane.running():
            replay = self._replays.get(length)
            if replay is None and self._capture and self._came[length] >= WARM:
                replay = self._captured(length)
            if replay is None:
                self._came[length] += 1
                self._once(length)
            else:
                replay()

    def figures(self) -> tuple[float, int]:
        """Return the sum of losses and the number of correct presentations of the epoch: the one place that waits."""
        self._lane.end()
        return float(self._loss), int(self._correct)

    def _captured(self, length: int) -> Callable[[], None] | None:
        try:
            replay = self._lane.captured(lambda: self._once(length))
        except RuntimeError as error:
            reason = str(error).partition("\n")[0]
            self._warn(
                f"steps cannot be captured ({reason}); each kernel is launched by the host, which is slower"
            )
            replay = None
        if replay is None:
            self._capture = False
        else:
            self._replays[length] = replay
        return replay

    def _once(self, length: int) -> None:
        work = self._work
        indices = self._order.index_select(0, self._row + self._ahead[:length])
        self._rate.copy_(self._rates.index_select(0, self._step)[0])
        self._row += length
        self._step += 1
        pixels = work.images.index_select(0, indices)
        if self._draws is not None and (work.padding or work.flip):
            pixels = augment.crop_and_flip(pixels, indices, self._draws, padding=work.padding, flip=work.flip)
        said = work.say(indices, pixels)
        seen = self._lane.beside(lambda: self._observe(indices, said))
        work.optimiser.zero_grad(set_to_none=True)
        said.loss.backward()  # type: ignore[no-untyped-call]
        work.optimiser.step()
        seen()  # ``said`` is kept until here: its memory must not be given away while it is looked at

    def _observe(self, indices: Tensor, said: Said) -> None:
        with torch.no_grad():
            if self._work.observe is not None:
                self._work.observe(indices, said.logits.detach(), said.labels, said.embedding.detach())
            self._loss += said.loss.detach() * len(indices)
            self._correct += (said.logits.argmax(1) == said.labels).sum()
