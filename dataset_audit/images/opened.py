"""What opening a data set gives, whatever it was stored as."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatch
from pathlib import Path
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from dataset_audit.errors import UsageError
from dataset_audit.images.decode import BadImage, Limits, decode
from dataset_audit.images.identity import array_bytes


class Source(Protocol):
    """Where encoded bytes come from; safe for several threads."""

    def encoded(self, index: int) -> bytes:
        """Return the bytes of one example, read once.

        Raises:
            BadImage: They cannot be had.
        """


@dataclass(frozen=True, kw_only=True)
class Request:
    """What ``open_dataset`` was asked for, as readers see it; ``path`` is unused by named sets."""

    spec: str
    path: Path
    data_root: Path
    download: bool
    split: str | None
    seed: int
    limits: Limits


@dataclass(frozen=True, kw_only=True, eq=False)
class ImageDataset:
    """Examples in a fixed order: labels and names at once, pixels one at a time, from any thread.

    Args:
        spec: What was asked for, as given.
        name: Short name for messages.
        labels: int32[N]; -1 where there is no label.
        class_names: One per label; indices never depend on what is in the files.
        source: Gives encoded bytes; array sources give raw pixels behind their type and shape.
        channels: 3, or 1 for sources that are grey by definition.
        file_names: Text relative to the source's root, ``/`` between parts; None for array sources. Rows
            marked in ``escaped`` spell bytes that are no plain text, and ``%``, as ``%XX``
            (`names.decode_name` undoes it).
        split: Name of the split per example, None where the source has none.
        array: uint8[N, H, W, C] for array sources, else None.
        at_least: JPEGs are decoded at a fraction of their size as long as the shorter side keeps so many pixels; None
            decodes all in full. See `decode`.
        warnings: (id, sentence) of what was noticed while listing: folders and links skipped, names that
            mislead.
    """

    spec: str
    name: str
    labels: NDArray[np.int32]
    class_names: tuple[str, ...]
    source: Source
    limits: Limits = field(default_factory=Limits)
    channels: Literal[1, 3] = 3
    file_names: Sequence[str] | None = None
    escaped: NDArray[np.bool_] | None = None
    split: Sequence[str] | None = None
    array: NDArray[np.uint8] | None = None
    at_least: int | None = None
    warnings: list[tuple[str, str]] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def is_array(self) -> bool:
        """Whether the pixels came as an array, so that nothing is encoded and nothing can be unreadable."""
        return self.array is not None

    def matching(self, patterns: Sequence[str]) -> NDArray[np.bool_]:
        """Return which file names match a pattern of ``--exclude``, bool[N].

        Raises:
            UsageError: None does, or there are no file names.
        """
        if self.file_names is None:
            raise UsageError("--exclude names files; this data set is an array.", do="leave --exclude out")
        found = np.array([any(fnmatch(name, pattern) for pattern in patterns) for name in self.file_names])
        if not found.any():
            raise UsageError(
                f"--exclude {', '.join(patterns)} matches no file.",
                do="patterns are relative to the data set",
            )
        return found

    def encoded(self, index: int) -> bytes:
        """Return the bytes whose hash is this example's uid.

        Raises:
            BadImage: They cannot be read.
        """
        return self.source.encoded(index)

    def pixels(self, index: int) -> NDArray[np.uint8]:
        """Return one upright picture, uint8[H, W, channels].

        Raises:
            BadImage: It cannot be read or decoded.
        """
        if self.array is not None:
            picture: NDArray[np.uint8] = self.array[index]
            return picture
        return self.decoded(self.source.encoded(index))

    def decoded(self, data: bytes, *, at_least: int | None = None) -> NDArray[np.uint8]:
        """Return the picture in encoded bytes of this data set, uint8[H, W, channels].

        Args:
            data: What ``encoded`` gave.
            at_least: Instead of the data set's own.

        Raises:
            BadImage: It cannot be decoded.
        """
        enough = self.at_least if at_least is None else at_least
        return decode(data, self.limits, "L" if self.channels == 1 else "RGB", at_least=enough)


@dataclass(frozen=True, eq=False)
class ArraySource:
    """Pixels that are an array already, uint8[N, H, W, C]."""

    pixels: NDArray[np.uint8]

    def encoded(self, index: int) -> bytes:
        """Return type, shape and raw pixels of one image."""
        return array_bytes(self.pixels[index])


def of_array(
    request: Request,
    pixels: NDArray[np.uint8],
    labels: NDArray[np.int32],
    class_names: Sequence[str],
    split: str | None,
) -> ImageDataset:
    """Return a data set over uint8[N, H, W, 1 or 3] and its labels."""
    return ImageDataset(
        spec=request.spec,
        name=request.spec,
        labels=labels,
        class_names=tuple(class_names),
        source=ArraySource(pixels),
        limits=request.limits,
        channels=1 if pixels.shape[3] == 1 else 3,
        split=None if split is None else [split] * len(labels),
        array=pixels,
    )


__all__ = ["ArraySource", "BadImage", "ImageDataset", "Request", "Source", "of_array"]
