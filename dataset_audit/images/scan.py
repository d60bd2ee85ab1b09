"""One pass over all bytes: read, hash and fully decode each image once, in parallel, in bounded memory."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from typing import Final

import numpy as np
from numpy.typing import NDArray

from dataset_audit.errors import DataError, EnvironmentProblem
from dataset_audit.images.bad_image import UNREADABLE_FILE
from dataset_audit.images.decode import BadImage, allowed_peak
from dataset_audit.images.folders import FileSource
from dataset_audit.images.identity import fingerprint, uid, uid_array
from dataset_audit.images.opened import ImageDataset
from dataset_audit.images.parallel import for_each
from dataset_audit.images.processes import available, share_out
from dataset_audit.progress import Progress

Keep = Callable[[int, NDArray[np.uint8]], None]
_Found = tuple[list[str | None], list[str], list[str | None]]  # uid, status, error

TINY: Final = 8192  # bytes of a file; a larger one is decoded mostly without the interpreter
MANY: Final = 2048  # files, below which processes are not worth their start
PEEKED: Final = 16


@dataclass(frozen=True)
class Kept:
    """Pixels that may be there already.

    Args:
        keep: Called as it would be without this, once per decoded image.
        has: Asked with the index and uid of an image that is small enough to be decoded; where it says True, that
            image counts as decoded and is not decoded again. Called from the worker's thread.
        shared: Decode in processes instead of threads: ``keep`` writes nothing but memory that processes forked from
            this one share with it, and the data set is `tiny`.
    """

    keep: Keep
    has: Callable[[int, str], bool] | None = None
    shared: bool = False


@dataclass(frozen=True, kw_only=True, eq=False)
class Scan:
    """What the pass found, one entry per example in index order.

    Args:
        uid: None where the bytes could not be read.
        status: ``ok``, ``unreadable``, ``too_large``, ``no_bytes`` or ``excluded``.
        error: One line, None where the status is ``ok``.
        fingerprint: Identity of the data set.
        file_names: As in the data set, for messages.
    """

    uid: list[str | None]
    status: list[str]
    error: list[str | None]
    fingerprint: str
    file_names: Sequence[str] | None = None

    @property
    def ok(self) -> NDArray[np.bool_]:
        """bool[N]: decoded completely."""
        return np.array([status == "ok" for status in self.status], dtype=np.bool_)


class ByteBudget:
    """A semaphore that counts bytes: what is being decoded at one time never exceeds it."""

    def __init__(self, total: int) -> None:
        self.total = total
        self._free = total
        self._changed = threading.Condition()

    @contextmanager
    def taken(self, wanted: int) -> Iterator[None]:
        """Hold so many bytes, after waiting until they are free.

        Raises:
            BadImage: More is wanted than there is in all, whatever else goes on.
        """
        if wanted > self.total:
            raise BadImage(
                "too_large", f"too large: needs {_size(wanted)} to decode, --memory is {_size(self.total)}"
            )
        with self._changed:
            self._changed.wait_for(lambda: self._free >= wanted)
            self._free -= wanted
        try:
            yield
        finally:
            with self._changed:
                self._free += wanted
                self._changed.notify_all()


def scan(
    dataset: ImageDataset,
    *,
    workers: int,
    memory: int,
    progress: Progress,
    keep: Keep | Kept | None = None,
    exclude: NDArray[np.bool_] | None = None,
) -> Scan:
    """Read, hash and decode every example once.

    The result does not depend on the number of workers nor on the order in which they finish.

    Args:
        dataset: What `open_dataset` gave.
        workers: Threads; decoders release the interpreter's lock.
        memory: Bytes that may be taken by decoding at one time; an image that needs more is a row
            ``too_large``.
        progress: Told the number of finished images.
        keep: Called once per decoded image with its index and pixels, from the worker's thread and in no
            fixed order; it must copy what it wants to hold, and what it raises ends the pass. `Kept` where some
            need not be decoded.
        exclude: bool[N], examples that are hashed but never given to a decoder.

    Raises:
        Exception: Whatever a worker raised beside `BadImage`, for the first example in index order.
    """
    work = _Pass(dataset, ByteBudget(memory), keep, exclude)
    progress.start("read", len(dataset), "images")
    if workers > 1 and isinstance(keep, Kept) and keep.shared:
        share_out(len(dataset), work.do, work.take, workers=workers, progress=progress)
    else:
        for_each(len(dataset), work.run, workers=workers, progress=progress)
    progress.finish()
    return work.result()


def tiny(dataset: ImageDataset) -> bool:
    """Return whether a data set is of so many so small files that the interpreter takes longer than decoding them."""
    if not available() or not isinstance(dataset.source, FileSource) or len(dataset) < MANY:
        return False
    sizes = []
    for index in np.linspace(0, len(dataset) - 1, PEEKED).astype(int).tolist():
        try:
            sizes.append(len(dataset.encoded(index)))
        except BadImage:
            continue
    return bool(sizes) and max(sizes) <= TINY


class _Pass:
    """The lists that workers fill, each at its own indices."""

    def __init__(
        self,
        dataset: ImageDataset,
        budget: ByteBudget,
        keep: Keep | Kept | None,
        exclude: NDArray[np.bool_] | None,
    ) -> None:
        self.dataset, self.budget, self.exclude = dataset, budget, exclude
        self.keep = keep.keep if isinstance(keep, Kept) else keep
        self.has = keep.has if isinstance(keep, Kept) else None
        self.uid: list[str | None] = [None] * len(dataset)
        self.status = ["ok"] * len(dataset)
        self.error: list[str | None] = [None] * len(dataset)

    def run(self, index: int) -> None:
        """Do one example."""
        try:
            pixels = self._one(index)
        except BadImage as bad:
            self.status[index], self.error[index] = bad.status, bad.reason
            return
        if pixels is not None and self.keep is not None:
            self.keep(index, pixels)

    def do(self, indices: range) -> _Found:
        """Do some examples; return what was found of them."""
        for index in indices:
            self.run(index)
        part = slice(indices.start, indices.stop)
        return self.uid[part], self.status[part], self.error[part]

    def take(self, indices: range, found: _Found) -> None:
        """Note what was found of some examples elsewhere."""
        part = slice(indices.start, indices.stop)
        self.uid[part], self.status[part], self.error[part] = found

    def _one(self, index: int) -> NDArray[np.uint8] | None:
        """Return one picture, or None if it is excluded or held already, and note its identity."""
        array = self.dataset.array
        data = (
            b"" if array is not None else self.dataset.encoded(index)
        )  # once: what is hashed is what is decoded
        known = uid_array(array[index]) if array is not None else uid(data)
        self.uid[index] = known
        if self.exclude is not None and self.exclude[index]:
            self.status[index], self.error[index] = "excluded", "excluded: by name"
            return None
        if array is not None:
            pixels: NDArray[np.uint8] = array[index]
            return pixels
        with self.budget.taken(allowed_peak(data, self.dataset.limits)):
            if self.has is not None and self.has(index, known):
                return None
            return self.dataset.decoded(data)

    def result(self) -> Scan:
        return Scan(
            uid=self.uid,
            status=self.status,
            error=self.error,
            fingerprint=fingerprint(self.uid, self.dataset.labels, self.dataset.class_names),
            file_names=self.dataset.file_names,
        )


def check_skipped(scan: Scan, max_skipped: float) -> None:
    """Stop if more than a share of the images cannot be used.

    Excluded examples do not count. Exactly the share is allowed.

    Raises:
        DataError: Too many are bad, or none is good.
        EnvironmentProblem: Too many may not be read, and without those there would not be too many.
    """
    bad = [index for index, status in enumerate(scan.status) if status not in ("ok", "excluded")]
    total = len(scan.status) - scan.status.count("excluded")
    refused = [index for index in bad if (scan.error[index] or "").startswith(f"{UNREADABLE_FILE}:")]
    limit = Fraction(str(max_skipped)) * total
    if len(bad) <= limit and (len(bad) < total or not total):
        return
    causes = Counter((scan.error[index] or "").split(":")[0] for index in bad)
    share = f"{100 * len(bad) / total:.2f} %, limit {100 * max_skipped:g} %"
    first = "; ".join(f"{_name(scan, index)}: {scan.error[index]}" for index in bad[:5])
    listed = ", ".join(f"{count} {cause}" for cause, count in causes.most_common())
    kind = EnvironmentProblem if refused and len(bad) - len(refused) <= limit else DataError
    raise kind(
        f"{len(bad):,} of {total:,} images cannot be read ({share}): {listed}.",
        where=first,
        do="make the files readable"
        if kind is EnvironmentProblem
        else "--max-skipped, --exclude, or repair them",
        id="E-skipped",
    )


def _name(scan: Scan, index: int) -> str:
    return scan.file_names[index] if scan.file_names is not None else f"index {index}"


def _size(count: int) -> str:
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.1f} MB"
