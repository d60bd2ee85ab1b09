"""Decides how a data set is held (resident or streamed) and fills it in the one pass that validates it."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from dataset_audit import seeds
from dataset_audit.errors import EnvironmentProblem
from dataset_audit.images.bad_image import BadImage
from dataset_audit.images.opened import ImageDataset
from dataset_audit.images.scan import Scan, scan
from dataset_audit.progress import Progress
from dataset_audit.train.batches import Images, Resident, Streaming, fit_to
from dataset_audit.train.device import cores

NATIVE = 96  # images up to this size, all alike, are trained on as they are
SHARE = 0.4  # of the free memory that resident images may take
PEEKED = 64  # images decoded to learn the size before the pass over all
MEASURED = 2048  # images that mean and standard deviation are measured on
CHUNK = 256


@dataclass(frozen=True, kw_only=True)
class Holding:
    """What the user may say about it.

    Attributes:
        size: Height and width to train at; None means ``native_size``.
        resident: Whether to hold all images on the device; ``auto`` does when they fit the budget.
        memory: Bytes for resident images and for decoding; None means a share of what is free.
        workers: Decode threads; None means as many as cores.
        exclude: bool[N], rows that must not be decoded.
    """

    size: tuple[int, int] | None = None
    resident: Literal["auto", "yes", "no"] = "auto"
    memory: int | None = None
    workers: int | None = None
    exclude: NDArray[np.bool_] | None = None


def native_size(
    dataset: ImageDataset, exclude: NDArray[np.bool_] | None = None, *, gpu: bool
) -> tuple[int, int]:
    """Return (height, width) to train at: the images' own if a seeded peek finds it small and uniform, else a default.

    The default is 224 pixels on a GPU and 64 on a CPU.
    """
    default = (224, 224) if gpu else (64, 64)
    wanted = np.arange(len(dataset)) if exclude is None else np.flatnonzero(~exclude)
    sizes = set()
    for index in seeds.rng(0, "peek").permutation(wanted)[:PEEKED]:
        try:
            sizes.add(dataset.pixels(int(index)).shape[:2])
        except BadImage:
            continue
    if len(sizes) == 1 and max(max(size) for size in sizes) <= NATIVE:
        height, width = sizes.pop()
        return height, width
    return default


def free_memory(device: torch.device) -> int:
    """Return the bytes that can still be allocated on ``device``; on a CPU within the container's limit."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    free = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    try:
        with open("/proc/meminfo", encoding="ascii") as lines:  # noqa: PTH123 - a kernel file, read line by line
            free = next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable"))
        limit = Path("/sys/fs/cgroup/memory.max").read_text(encoding="ascii").strip()
        if limit != "max":
            used = int(Path("/sys/fs/cgroup/memory.current").read_text(encoding="ascii"))
            free = min(free, max(0, int(limit) - used))
    except (OSError, StopIteration, ValueError):
        pass  # not Linux, or no container: what is known so far
    return free


def hold(
    dataset: ImageDataset, settings: Holding, *, device: torch.device, progress: Progress
) -> tuple[Images, Scan]:
    """Read, hash and decode every image once; return how they are held and what was found.

    Resident images are filled in that same pass. Unreadable rows of a resident tensor stay black and are never
    asked for.

    Raises:
        EnvironmentProblem: Resident was asked for and does not fit.
    """
    size = settings.size or native_size(dataset, settings.exclude, gpu=device.type == "cuda")
    needed = len(dataset) * size[0] * size[1] * dataset.channels
    free = free_memory(device)
    budget = settings.memory or int(free * SHARE)
    if settings.resident == "yes" and needed > free:
        raise EnvironmentProblem(
            f"Resident images take {needed / 1e9:.1f} GB, {free / 1e9:.1f} GB are free.", do="--resident no"
        )
    workers = settings.workers or cores()
    decode_memory = settings.memory or min(2**30, int(free_memory(torch.device("cpu")) * SHARE))
    if settings.resident == "no" or (settings.resident == "auto" and needed > budget):
        found = scan(
            dataset, workers=workers, memory=decode_memory, progress=progress, exclude=settings.exclude
        )
        streaming = Streaming(
            dataset=dataset, size=size, channels=dataset.channels, device=device, workers=workers
        )
        return streaming, found
    images = np.zeros((len(dataset), *size, dataset.channels), dtype=np.uint8)

    def keep(index: int, pixels: NDArray[np.uint8]) -> None:
        images[index] = fit_to(pixels, size)

    found = scan(
        dataset, workers=workers, memory=decode_memory, progress=progress, keep=keep, exclude=settings.exclude
    )
    return Resident(torch.from_numpy(images).to(device)), found


def statistics(images: Images, rows: NDArray[np.int64]) -> tuple[torch.Tensor, torch.Tensor]:
    """Return (mean, std), float32[C] each as a share of 255, over a seeded draw of at most 2,048 of ``rows``.

    The same for resident and streamed images. A channel that never varies gets a std of one.
    """
    chosen = np.sort(seeds.rng(0, "statistics").permutation(rows)[:MEASURED])
    total = torch.zeros(images.channels, dtype=torch.float64)
    square, count = total.clone(), 0
    lengths = [min(CHUNK, len(chosen) - at) for at in range(0, len(chosen), CHUNK)]
    for _, pixels in images.epoch(chosen, lengths):
        values = pixels.reshape(-1, images.channels).double().cpu() / 255
        total += values.sum(0)
        square += (values**2).sum(0)
        count += len(values)
    mean = total / count
    std = (
        (square / count - mean**2).clamp_min(0).sqrt()
    )  # float64 over at most 10^8 pixels: no cancellation to fear
    return mean.float(), torch.where(std > 1e-6, std, 1.0).float()
