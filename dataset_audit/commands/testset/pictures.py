"""The images behind the labels: read once, held for training, and looked up for near-duplicates."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from dataset_audit import seeds
from dataset_audit.commands.testset.config import Config
from dataset_audit.commands.testset.gather import Material
from dataset_audit.errors import MismatchError
from dataset_audit.images.dataset import ImageDataset
from dataset_audit.images.duplicates import pixel_hash
from dataset_audit.images.scan import check_skipped
from dataset_audit.progress import Progress
from dataset_audit.testset import near

if TYPE_CHECKING:
    import torch

    from dataset_audit.train.batches import Images

SMALL = (32, 32)  # of images that are only compared
CHUNK = 512
LUMA = (0.299, 0.587, 0.114)


@dataclass(frozen=True, kw_only=True, eq=False)
class Held:
    """The images of one set.

    Attributes:
        images: All of one size.
        ok: bool[N], decoded completely.
        fingerprint: Identity of the set.
        vectors: float32[N, 256] for likeness; zero where not ok.
        hashes: Identity of the pixels; unlike all others where not ok.
    """

    images: Images
    ok: NDArray[np.bool_]
    fingerprint: str
    vectors: near.Vectors
    hashes: list[str]


@dataclass(frozen=True, kw_only=True, eq=False)
class Pictures:
    """The images of both sets and of the training set; None where they are not at hand or not needed."""

    sides: tuple[Held | None, Held | None]
    train: Held | None

    def fingerprint(self) -> str | None:
        """Return the identity of all images that were read."""
        known = [each.fingerprint for each in (*self.sides, self.train) if each is not None]
        return sha256("".join(known).encode()).hexdigest() if known else None


NONE = Pictures(sides=(None, None), train=None)


def needed(config: Config, material: Material) -> bool:
    """Return whether images are looked at: to train, to find duplicates, or to see whether the sets are the same."""
    if config.models or config.train is not None:
        return True
    return config.paired is None and may_be_paired(material) and _both_at_hand(material)


def may_be_paired(material: Material) -> bool:
    """Return whether both sets have the same labels in the same order."""
    first, second = material.sides
    return np.array_equal(first.label, second.label)


def _both_at_hand(material: Material) -> bool:
    return all(side.dataset is not None for side in material.sides)


def read(config: Config, material: Material, device: torch.device, progress: Progress) -> Pictures:
    """Read every image of the sets that are at hand.

    Raises:
        MismatchError: Grey and coloured sets cannot be asked the same network.
        DataError: Too many images of a set cannot be read.
        EnvironmentProblem: They cannot be read or held.
    """
    from dataset_audit.train.hold import native_size  # noqa: PLC0415 - torch

    size = SMALL
    if config.models and material.train is not None:
        _check_channels(material)
        native = native_size(material.train, gpu=device.type == "cuda")
        size = (config.image_size, config.image_size) if config.image_size else native
    held = [
        None if dataset is None else _hold(config, name, dataset, size, device, progress)
        for name, dataset in (
            *((side.name, side.dataset) for side in material.sides),
            ("training set", material.train),
        )
    ]
    return Pictures(sides=(held[0], held[1]), train=held[2])


def _check_channels(material: Material) -> None:
    train = material.train
    for side in material.sides:
        if side.dataset is not None and train is not None and side.dataset.channels != train.channels:
            kinds = {1: "grey", 3: "coloured"}
            raise MismatchError(
                f"{side.name} is {kinds[side.dataset.channels]}, {train.spec} {kinds[train.channels]}.",
                do="sets of one kind",
                id="E-channels",
            )


def _hold(
    config: Config,
    name: str,
    dataset: ImageDataset,
    size: tuple[int, int],
    device: torch.device,
    progress: Progress,
) -> Held:
    from dataset_audit.train.hold import Holding, hold  # noqa: PLC0415 - torch

    for id_, text in dataset.warnings:
        progress.warn(id_, f"{name}: {text}")
    holding = Holding(size=size, workers=config.workers, work=config.checkpoint_dir or config.out.parent)
    images, scan = hold(dataset, holding, device=device, progress=progress)
    check_skipped(scan, config.max_skipped)
    ok = scan.ok
    bad = Counter((error or "").split(":")[0] for error in scan.error if error)
    if bad:
        listed = ", ".join(f"{count:,} {cause}" for cause, count in bad.most_common())
        progress.warn(
            "W-skipped", f"{name}: {bad.total():,} image{'s' * (bad.total() > 1)} skipped: {listed}"
        )
    vectors, hashes = _compared(images, np.flatnonzero(ok), len(dataset))
    return Held(images=images, ok=ok, fingerprint=scan.fingerprint, vectors=vectors, hashes=hashes)


def _compared(images: Images, rows: NDArray[np.int64], n: int) -> tuple[near.Vectors, list[str]]:
    """Return what images are compared by."""
    import torch  # noqa: PLC0415
    from torch.nn.functional import adaptive_avg_pool2d  # noqa: PLC0415

    made = np.zeros((n, near.SIDE**2), np.float32)
    hashes = [f"none {row}" for row in range(n)]
    lengths = [min(CHUNK, len(rows) - at) for at in range(0, len(rows), CHUNK)]
    at = 0
    for (_, batch), length in zip(images.epoch(rows, lengths), lengths, strict=True):
        these = rows[at : at + length]
        at += length
        pixels = batch.cpu()
        for row, one in zip(these.tolist(), pixels.numpy(), strict=True):
            hashes[row] = pixel_hash(one)
        grey = pixels.float() @ (torch.tensor(LUMA) if pixels.shape[3] == 3 else torch.ones(1))
        made[these] = near.vectors(adaptive_avg_pool2d(grey[:, None], near.SIDE)[:, 0].numpy())
    return made, hashes


@dataclass(frozen=True, kw_only=True, eq=False)
class Looked:
    """What the images say of the sets.

    Attributes:
        paired: Both sets are the same images in the same order.
        seen: Duplicates in each set and of it in the training set; None where there are no images.
        shared: Images of the new set that are nearly in the original; None where unknown, or where paired.
        searched: Whether there was a training set to look them up in.
    """

    paired: bool
    seen: tuple[near.Seen | None, near.Seen | None]
    shared: int | None
    searched: bool


class _Count:
    """Tells the progress how many images were looked up."""

    def __init__(self, progress: Progress) -> None:
        self._progress, self._done = progress, 0

    def __call__(self, more: int) -> None:
        self._done += more
        self._progress.advance(self._done)


def look(config: Config, material: Material, pictures: Pictures, progress: Progress) -> Looked:
    """Find near-duplicates, and whether the new set is the original once more."""
    first, second = pictures.sides
    train = None
    if pictures.train is not None:
        train = pictures.train.vectors, pictures.train.hashes
    held = [each for each in pictures.sides if each is not None]
    count = _Count(progress)
    times = 1 if train is None else 2
    progress.start("look for near-duplicates", times * sum(len(each.ok) for each in held), "images")
    seed = seeds.integer(config.seed, "testset", "look")
    found = [
        None if each is None else near.seen((each.vectors, each.hashes), train, seed=seed, done=count)
        for each in pictures.sides
    ]
    progress.finish()
    paired = bool(config.paired)
    if config.paired is None and first is not None and second is not None and may_be_paired(material):
        paired = near.same_images(first.vectors, second.vectors)
    shared = None
    if first is not None and second is not None and not paired:
        shared = int(near.alike(second.vectors, first.vectors).sum())
    return Looked(
        paired=paired,
        seen=(found[0], found[1]),
        shared=shared,
        searched=train is not None and all(each is not None for each in found),
    )
