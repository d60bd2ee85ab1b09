"""Three ways to hold images behind one iterator: on the training device, mapped from disk, or streamed from files."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dataset_audit.errors import DataError
from dataset_audit.images.bad_image import BadImage
from dataset_audit.images.opened import ImageDataset

Batch = tuple[Tensor, Tensor]
"""indices int64[B] and images uint8[B, H, W, C], both on the training device."""

AHEAD = 3  # batches under way
CHUNK = 8  # images decoded per task: enough to hide the queue, few enough to spread over the workers
FIT = "centre crop to the shape, bilinear antialiased on uint8"  # what `fit_to` does
REDUCED = 2  # times the training size that is left to the antialiased resize


class Images(Protocol):
    """What the loop needs of a collection of images of one size."""

    @property
    def size(self) -> tuple[int, int]:
        """Height and width."""

    @property
    def channels(self) -> int:
        """1 for grey, 3 for RGB."""

    def epoch(self, order: NDArray[np.int64], lengths: Sequence[int]) -> Iterator[Batch]:
        """Yield the images of ``order`` in consecutive batches of the given lengths."""


def batch_lengths(n: int, batch_size: int) -> list[int]:
    """Return the lengths of an epoch's batches: full ones, then the tail.

    A tail below max(2, batch_size / 8) would make batch norm estimate its statistics from a handful of images,
    so it is shared evenly with the batch before it. Nothing is dropped: the lengths sum to ``n``.
    """
    full, tail = divmod(n, batch_size)
    lengths = [batch_size] * full
    if tail and full and tail < max(2, batch_size // 8):
        together = lengths.pop() + tail
        return [*lengths, together - together // 2, together // 2]
    return [*lengths, tail] if tail else lengths


def fit_to(pixels: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    """Return ``pixels`` (uint8[H, W, C]) as uint8[*size, C]: centre crop to the shape, then one antialiased resize.

    Cropping first costs a fraction of resizing first and gives the same view.
    """
    height, width = pixels.shape[:2]
    if (height, width) == size:
        return pixels
    scale = min(height / size[0], width / size[1])
    crop_height = min(height, max(1, round(size[0] * scale)))
    crop_width = min(width, max(1, round(size[1] * scale)))
    top, left = (height - crop_height) // 2, (width - crop_width) // 2
    view = np.ascontiguousarray(pixels[top : top + crop_height, left : left + crop_width])
    # the batch axis first, else its stride is not that of channels-last and the resize, through planes, half as fast
    image = torch.from_numpy(view)[None].permute(0, 3, 1, 2)
    resized = torch.nn.functional.interpolate(image, size=size, mode="bilinear", antialias=True)
    return np.ascontiguousarray(resized.permute(0, 2, 3, 1)[0].numpy())


def reduced(dataset: ImageDataset, size: tuple[int, int]) -> ImageDataset:
    """Return the data set decoded no larger than training at ``size`` can tell.

    A JPEG is decoded at a half, a quarter or an eighth of its size (by its own cosine transform, which averages) as
    long as its shorter side keeps twice the longer side of ``size``; the antialiased resize does the rest. At once the
    training size it would alias; at twice it differs from resizing the whole by one to two levels on photographs.
    """
    return replace(dataset, at_least=REDUCED * max(size))


@dataclass(frozen=True)
class _Stacked:
    images: Tensor

    @property
    def size(self) -> tuple[int, int]:
        """Height and width."""
        return self.images.shape[1], self.images.shape[2]

    @property
    def channels(self) -> int:
        """1 for grey, 3 for RGB."""
        return self.images.shape[3]


@dataclass(frozen=True)
class Resident(_Stacked):
    """All images as one uint8 tensor [N, H, W, C] on the training device; a batch is a gather."""

    def epoch(self, order: NDArray[np.int64], lengths: Sequence[int]) -> Iterator[Batch]:
        """Yield gathered batches; the order goes to the device once."""
        indices = torch.from_numpy(order).to(self.images.device)
        for part in torch.split(indices, list(lengths)):
            yield part, self.images.index_select(0, part)


@dataclass(frozen=True, kw_only=True)
class Mapped(_Stacked):
    """All images as one uint8 tensor [N, H, W, C] mapped from a file; a batch is a gather, made one ahead for a GPU."""

    device: torch.device

    def epoch(self, order: NDArray[np.int64], lengths: Sequence[int]) -> Iterator[Batch]:
        """Yield gathered batches; what is not in the page cache is read from disk."""
        parts = torch.split(torch.from_numpy(order), list(lengths))
        if self.device.type == "cpu":
            for part in parts:
                yield part, self.images.index_select(0, part)
            return
        with ThreadPoolExecutor(1, thread_name_prefix="gather") as pool:
            waiting: deque[tuple[Tensor, Future[Tensor]]] = deque()
            for part in parts:
                waiting.append((part, pool.submit(self._pinned, part)))
                if len(waiting) > AHEAD:
                    yield self._moved(*waiting.popleft())
            while waiting:
                yield self._moved(*waiting.popleft())

    def _pinned(self, part: Tensor) -> Tensor:
        out = torch.empty((len(part), *self.images.shape[1:]), dtype=torch.uint8, pin_memory=True)
        return torch.index_select(self.images, 0, part, out=out)

    def _moved(self, part: Tensor, pixels: Future[Tensor]) -> Batch:
        return part.to(self.device), pixels.result().to(self.device, non_blocking=True)


@dataclass(frozen=True, kw_only=True)
class Streaming:
    """Images decoded from their encoded bytes in every epoch, a few batches ahead of the training step."""

    dataset: ImageDataset
    size: tuple[int, int]
    channels: int
    device: torch.device
    workers: int

    def epoch(self, order: NDArray[np.int64], lengths: Sequence[int]) -> Iterator[Batch]:
        """Yield decoded batches in order; at most three are held besides the one in use.

        Threads decode a few images at a time straight to their places in the batch.

        Raises:
            DataError: An image that could be decoded before no longer can.
        """
        parts = np.split(order, np.cumsum(lengths)[:-1])
        waiting: deque[tuple[Tensor, list[Future[None]]]] = deque()
        with ThreadPoolExecutor(self.workers, thread_name_prefix="decode") as pool:
            try:
                for number, part in enumerate(parts):
                    for coming in parts[number + len(waiting) : number + AHEAD]:
                        waiting.append(self._begun(coming, pool))
                    batch, decoding = waiting.popleft()
                    for each in decoding:
                        each.result()
                    indices = torch.from_numpy(part)
                    yield indices.to(self.device), batch.to(self.device, non_blocking=True)
            finally:
                pool.shutdown(wait=True, cancel_futures=True)

    def _begun(
        self, indices: NDArray[np.int64], pool: ThreadPoolExecutor
    ) -> tuple[Tensor, list[Future[None]]]:
        shape = (len(indices), *self.size, self.channels)
        batch = torch.empty(shape, dtype=torch.uint8, pin_memory=self.device.type == "cuda")
        rows = batch.numpy()
        return batch, [
            pool.submit(self._decode, indices[at : at + CHUNK], rows[at : at + CHUNK])
            for at in range(0, len(indices), CHUNK)
        ]

    def _decode(self, indices: NDArray[np.int64], rows: NDArray[np.uint8]) -> None:
        for row, index in zip(rows, indices.tolist(), strict=True):
            try:
                row[:] = fit_to(self.dataset.pixels(index), self.size)
            except BadImage as error:
                names = self.dataset.file_names
                raise DataError(
                    f"An image that was readable when the data set was opened no longer is: {error}.",
                    where=names[index] if names is not None and names[index] else f"index {index}",
                    do="leave the data set alone while it is being read, then run again",
                ) from error


def told(images: Images) -> str:
    """Return in a few words where images are held."""
    if isinstance(images, Resident):
        return f"resident {images.images.nbytes / 1e6:,.0f} MB"
    if isinstance(images, Mapped):
        return f"decoded once, {images.images.nbytes / 1e6:,.0f} MB on disk"
    return "decoded in each epoch"
