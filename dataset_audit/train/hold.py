"""Decides how a data set is held (on the device, on disk, not at all) and fills it in the pass that validates it."""

from __future__ import annotations

import math
import mmap
import os
from contextlib import nullcontext
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
from dataset_audit.images.plain import decoders
from dataset_audit.images.scan import Kept, Scan, scan, tiny
from dataset_audit.progress import Progress
from dataset_audit.tables.files import make_folder
from dataset_audit.train.batches import FIT, Images, Mapped, Resident, Streaming, fit_to, reduced
from dataset_audit.train.cache import Cache, Plan
from dataset_audit.train.device import cores, one_thread_each
from dataset_audit.train.ranks import on_this_machine
from dataset_audit.train.recipes import Recipe

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
        cache: Images that are not resident are decoded once, to a file that is mapped into memory. ``auto``: a file
            without a name, gone when this process ends, if the disk of ``work`` has room for it. ``no``: there is
            none, they are decoded in each epoch. A folder: it is kept there, and what is in it already is not decoded
            again, whether resident or not.
        work: A folder for unfinished work; None is as ``no``.
    """

    size: tuple[int, int] | None = None
    resident: Literal["auto", "yes", "no"] = "auto"
    memory: int | None = None
    workers: int | None = None
    exclude: NDArray[np.bool_] | None = None
    cache: Path | Literal["auto", "no"] = "auto"
    work: Path | None = None


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
            height, width = dataset.pixels(int(index)).shape[:2]
        except BadImage:
            continue
        sizes.add((height, width))
        if len(sizes) > 1 or max(height, width) > NATIVE:
            return default
    return sizes.pop() if sizes else default


def free_memory(device: torch.device) -> int:
    """Return the bytes that this process may still allocate on ``device``; on a CPU within the container's limit.

    Processes that share the machine's work share its memory.
    """
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
    return free // on_this_machine(os.environ)[1]


def hold(
    dataset: ImageDataset, settings: Holding, *, device: torch.device, progress: Progress
) -> tuple[Images, Scan]:
    """Read, hash and decode every image once; return how they are held and what was found.

    Images are put where they are held in that same pass; JPEGs are decoded no larger than needed (`batches.reduced`).
    Rows that cannot be decoded stay black and are never asked for.

    Raises:
        EnvironmentProblem: Resident was asked for and does not fit, or the folder asked for cannot take the file.
    """
    size = settings.size or native_size(dataset, settings.exclude, gpu=device.type == "cuda")
    dataset = reduced(dataset, size)
    shape = (len(dataset), *size, dataset.channels)
    needed, free = math.prod(shape), free_memory(device)
    if settings.resident == "yes" and needed > free:
        raise EnvironmentProblem(
            f"Resident images take {needed / 1e9:.1f} GB, {free / 1e9:.1f} GB are free.", do="--resident no"
        )
    resident = settings.resident == "yes" or (
        settings.resident == "auto" and needed <= (settings.memory or int(free * SHARE))
    )
    cache = _cache(dataset, settings, shape, resident=resident)
    shared = tiny(dataset) and (resident if cache is None else cache.fresh)
    images = _zeros(shape, shared=shared) if resident and cache is None else None
    found = _read(dataset, settings, progress, _Into(images if cache is None else cache, size, shared))
    if cache is not None:
        _tell(cache, progress)
        mapped = torch.from_numpy(cache.pixels)
        if resident and device.type == "cuda":
            return Resident(mapped.to(device)), found
        return Mapped(images=mapped, device=device), found
    if images is not None:
        return Resident(torch.from_numpy(images).to(device)), found
    workers = settings.workers or cores()
    return Streaming(
        dataset=dataset, size=size, channels=dataset.channels, device=device, workers=workers
    ), found


def _cache(
    dataset: ImageDataset, settings: Holding, shape: tuple[int, int, int, int], *, resident: bool
) -> Cache | None:
    """Return where decoded images go on disk, None where they do not."""
    kept = isinstance(settings.cache, Path)
    folder = settings.cache if isinstance(settings.cache, Path) else settings.work
    if folder is None or dataset.is_array or settings.cache == "no" or (resident and not kept):
        return None
    plan = Plan(
        folder=folder if kept else _existing(folder),
        kept=kept,
        shape=shape,
        name=dataset.spec,
        made={
            "split": dataset.split[0] if dataset.split else None,
            "background": list(dataset.limits.background),
            "jpeg_at_least": dataset.at_least,
            "fit": FIT,
            "torch": torch.__version__,
            **decoders(),
        },
    )
    if kept:
        make_folder(folder)
    try:
        if plan.found() or plan.fits():
            return Cache(plan)
    except EnvironmentProblem:  # a quota, a limit, other processes: known only when the space is claimed
        if kept:
            raise
    if kept:
        raise EnvironmentProblem(
            f"Decoded images take {plan.bytes / 1e9:.1f} GB; {folder} has not that much to spare.",
            do="--cache on a larger disk, or --cache no",
            id="E-disk",
        )
    return None


def _zeros(shape: tuple[int, ...], *, shared: bool) -> NDArray[np.uint8]:
    """Return uint8 zeros, on request in memory that forked processes share."""
    if not shared:
        return np.zeros(shape, np.uint8)
    return np.frombuffer(mmap.mmap(-1, math.prod(shape)), np.uint8).reshape(shape)


def _existing(folder: Path) -> Path:
    """Return the folder, or the nearest above it that is there."""
    return next(each for each in (folder.absolute(), *folder.absolute().parents) if each.is_dir())


@dataclass(frozen=True)
class _Into:
    """Where pixels go: an array uint8[N, H, W, C], a file, or nowhere; and whether other processes see it."""

    place: NDArray[np.uint8] | Cache | None
    size: tuple[int, int]
    shared: bool

    def keep(self, index: int, pixels: NDArray[np.uint8]) -> None:
        if isinstance(self.place, Cache):
            self.place.keep(index, fit_to(pixels, self.size))
        elif self.place is not None:
            self.place[index] = fit_to(pixels, self.size)


def _read(dataset: ImageDataset, settings: Holding, progress: Progress, into: _Into) -> Scan:
    """Do the pass over all images."""
    free = int(free_memory(torch.device("cpu")) * SHARE)
    cache = into.place if isinstance(into.place, Cache) else None
    with nullcontext() if cache is None else cache.filling(), one_thread_each():
        return scan(
            dataset,
            workers=settings.workers or cores(),
            memory=settings.memory or min(2**30, free),
            progress=progress,
            keep=Kept(into.keep, None if cache is None else cache.has, shared=into.shared),
            exclude=settings.exclude,
        )


def _tell(cache: Cache, progress: Progress) -> None:
    if cache.reused:
        progress.note(
            f"{cache.reused:,} of {len(cache.pixels):,} images as decoded before: {cache.plan.path}"
        )
    if cache.damaged:
        progress.warn(
            "W-cache", f"{cache.damaged:,} images in {cache.plan.path} were damaged; they are decoded again"
        )


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


def normalisation(
    recipe: Recipe, images: Images, rows: NDArray[np.int64], device: torch.device
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return (mean, std), float32[C] each on the device: those of the recipe if it states as many, else measured."""
    if len(recipe.mean) == images.channels:
        mean, std = torch.tensor(recipe.mean), torch.tensor(recipe.std)
    else:
        mean, std = statistics(images, rows)
    return mean.to(device), std.to(device)
