"""Two ways to hold images behind one iterator: resident on the training device, or streamed from their files."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
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

CHUNK = 8  # images decoded per task: enough to hide the queue, few enough to spread over the workers


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
    image = torch.from_numpy(view).permute(2, 0, 1)[None]
    resized = torch.nn.functional.interpolate(image, size=size, mode="bilinear", antialias=True)
    return np.ascontiguousarray(resized[0].permute(1, 2, 0).numpy())


@dataclass(frozen=True)
class Resident:
    """All images as one uint8 tensor [N, H, W, C] on the training device; a batch is a gather."""

    images: Tensor

    @property
    def size(self) -> tuple[int, int]:
        """Height and width."""
        return self.images.shape[1], self.images.shape[2]

    @property
    def channels(self) -> int:
        """1 for grey, 3 for RGB."""
        return self.images.shape[3]

    def epoch(self, order: NDArray[np.int64], lengths: Sequence[int]) -> Iterator[Batch]:
        """Yield gathered batches; the order goes to the device once."""
        indices = torch.from_numpy(order).to(self.images.device)
        for part in torch.split(indices, list(lengths)):
            yield part, self.images.index_select(0, part)


@dataclass(frozen=True, kw_only=True)
class Streaming:
    """Images decoded from their encoded bytes in every epoch, a few batches ahead of the training step."""

    dataset: ImageDataset
    size: tuple[int, int]
    channels: int
    device: torch.device
    workers: int
    ahead: int = 3

    def epoch(self, order: NDArray[np.int64], lengths: Sequence[int]) -> Iterator[Batch]:
        """Yield decoded batches in order; at most ``ahead`` batches are held besides the one in use.

        Raises:
            DataError: An image that could be decoded before no longer can.
        """
        starts = np.concatenate([[0], np.cumsum(lengths)])
        pending: deque[list[Future[NDArray[np.uint8]]]] = deque()
        submitted = 0
        with ThreadPoolExecutor(self.workers, thread_name_prefix="decode") as pool:
            try:
                for number, length in enumerate(lengths):
                    while submitted < min(len(lengths), number + self.ahead):
                        chunk = order[starts[submitted] : starts[submitted + 1]]
                        pending.append(
                            [
                                pool.submit(self._decode, chunk[at : at + CHUNK])
                                for at in range(0, len(chunk), CHUNK)
                            ]
                        )
                        submitted += 1
                    parts = [future.result() for future in pending.popleft()]
                    indices = torch.from_numpy(order[starts[number] : starts[number] + length])
                    yield self._moved(indices), self._moved(torch.from_numpy(np.concatenate(parts)))
            finally:
                pool.shutdown(wait=True, cancel_futures=True)

    def _moved(self, tensor: Tensor) -> Tensor:
        if self.device.type == "cuda":
            return tensor.pin_memory().to(self.device, non_blocking=True)
        return tensor

    def _decode(self, indices: NDArray[np.int64]) -> NDArray[np.uint8]:
        return np.stack([self._one(int(index)) for index in indices])

    def _one(self, index: int) -> NDArray[np.uint8]:
        try:
            return fit_to(self.dataset.pixels(index), self.size)
        except BadImage as error:
            names = self.dataset.file_names
            raise DataError(
                f"An image that was readable when the data set was opened no longer is: {error}.",
                where=names[index] if names is not None and names[index] else f"index {index}",
                do="leave the data set alone while it is being read, then run again",
            ) from error
