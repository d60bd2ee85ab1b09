"""A manifest together with its images: indices, weights, samplers and torch data sets for anyone's training loop."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sized
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from dataset_audit import seeds
from dataset_audit.errors import MismatchError, UsageError
from dataset_audit.images import compare
from dataset_audit.images.dataset import dataset_names, open_dataset, opening
from dataset_audit.images.picture import picture
from dataset_audit.tables.manifest import ManifestTable, with_labels

if TYPE_CHECKING:
    from torch.utils.data import Dataset, Subset

    from dataset_audit.images.opened import ImageDataset

Verify = Literal["none", "sample", "all"]
SAMPLED = 256  # rows whose uid ``verify="sample"`` looks at


@dataclass(frozen=True, eq=False)
class Manifest:
    """The examples to train on.

    ``indices()``, ``weights``, ``uids`` and ``file_names()`` are aligned: kept rows by ascending index of the full
    data set.

    Attributes:
        path: The file.
        table: Its content.
        root: Data set to open instead of the one the manifest names; None opens that one.
    """

    path: Path
    table: ManifestTable
    root: Path | None = None

    @staticmethod
    def read(path: str | Path, root: str | Path | None = None) -> Manifest:
        """Read a manifest; its hash is compared with its sidecar first.

        Args:
            path: What ``audit prune`` wrote.
            root: Where its images lie now: the folder or file itself, or for a named data set its data root.

        Raises:
            UsageError: There is no such file.
            DataError: It is damaged, unfinished, or no manifest.
        """
        return Manifest(Path(path), ManifestTable.read(Path(path)), None if root is None else Path(root))

    def __len__(self) -> int:
        return len(self.indices())

    @cached_property
    def _kept(self) -> NDArray[np.int64]:
        keep = self.table.data["keep"].to_numpy(zero_copy_only=False)
        rows = np.flatnonzero(keep)
        index = self.table.data["index"].to_numpy()[rows]
        if self.sources:  # written by source, then index
            return rows
        return rows[np.argsort(index, kind="stable")]

    @property
    def sources(self) -> tuple[str, ...]:
        """Names of the data sets the examples come from, where there are several; empty for one."""
        return tuple(origin.name for origin in self.table.provenance.sources)

    def source(self, name: str) -> Manifest:
        """Return the manifest of one of several sources alone: indices and labels are those of that data set.

        Raises:
            UsageError: There is no such source.
        """
        origin = next((one for one in self.table.provenance.sources if one.name == name), None)
        if origin is None:
            raise UsageError(
                f"{self.path} has no source {name!r}.",
                where=", ".join(self.sources) or "it is of one data set",
            )
        mine = np.array([one == name for one in self.table.data["source"].to_pylist()])
        provenance = replace(
            self.table.provenance,
            spec=origin.spec,
            n=origin.n,
            opened=origin.opened,
            class_names=origin.class_names or self.class_names,
            sources=(),
        )
        rows = with_labels(self.table.data.filter(mine), self.class_names, origin.class_names)
        part = ManifestTable(rows, provenance, self.table.choice)
        return Manifest(self.path, part, self.root)

    def _column(self, name: str) -> list[Any] | None:
        if name not in self.table.data.column_names:
            return None
        return self.table.data[name].take(self._kept).to_pylist()  # type: ignore[no-any-return]

    def indices(self) -> NDArray[np.int64]:
        """Return int64[K]: rows of the full data set, ascending."""
        return self.table.data["index"].to_numpy()[self._kept]  # type: ignore[no-any-return]

    @property
    def weights(self) -> NDArray[np.float32]:
        """float32[K]: factors for the loss."""
        return self.table.data["weight"].to_numpy()[self._kept]  # type: ignore[no-any-return]

    @property
    def uids(self) -> list[str | None]:
        """Identity of each kept example; None where the scores had none."""
        return self._column("uid") or [None] * len(self)

    @property
    def labels(self) -> NDArray[np.int64]:
        """int64[K]: the labels that scoring trained on, -1 where there are none."""
        return np.array(
            [-1 if label is None else label for label in self._column("label") or [None] * len(self)]
        )

    def file_names(self) -> list[str]:
        """Return names relative to the data root.

        Raises:
            UsageError: The data set is an array; its examples have no names.
        """
        names = self._column("file_name")
        if names is None or None in names:
            raise UsageError(f"{self.path}: these examples have no file names.", do="use indices()")
        return names

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names in label order."""
        return self.table.provenance.class_names

    def dataset(self) -> ImageDataset:
        """Open the full data set that the manifest is about.

        Raises:
            UsageError: It names none, or several.
        """
        if self.sources:
            raise UsageError(
                f"{self.path} is about {len(self.sources)} data sets.",
                where=", ".join(self.sources),
                do="Manifest.source(name) is the part of one",
            )
        spec = self.table.provenance.spec
        if not spec:
            raise UsageError(
                f"{self.path} does not say which data set it is about.", do="Manifest.read(path, root=...)"
            )
        how = opening(self.table.provenance.opened)
        if self.root is None:
            return open_dataset(spec, **how)
        if spec in dataset_names():
            return open_dataset(spec, data_root=self.root, **how)
        return open_dataset(self.root, **how)

    def check(self, verify: Verify = "sample", *, dataset: ImageDataset | None = None) -> None:
        """Find out whether the data is still what the manifest was made for.

        Args:
            verify: ``none`` compares the number of examples, ``sample`` also label and uid of 256 seeded rows,
                ``all`` those of every row.
            dataset: The opened data set, if it is at hand.

        Raises:
            MismatchError: It is not; names the first three examples that differ.
        """
        dataset = dataset if dataset is not None else self.dataset()
        rows = compare.Rows(
            made_by=self.path.name,
            n=self.table.provenance.n,
            index=self.indices(),
            uids=self.uids,
            labels=None,  # injected label noise makes them differ on purpose; the uid covers the image
            file_names=self._column("file_name"),
        )
        compare.check_length(rows, dataset)
        if verify == "none":
            return
        chosen = np.arange(len(self))
        if verify == "sample" and len(self) > SAMPLED:
            chosen = np.sort(seeds.rng(0, "verify").permutation(len(self))[:SAMPLED])
        compare.check_rows(rows, dataset, chosen)

    def torch(
        self,
        transform: Callable[[Any], Any] | None = None,
        target_transform: Callable[[int], Any] | None = None,
        *,
        verify: Verify = "sample",
    ) -> KeptImages:
        """Return a map-style data set for torch's DataLoader of (image, label) over the kept examples.

        The image is a PIL image, passed through ``transform``; the label is the one that scoring trained on. It can
        be sent to worker processes. ``weights[i]`` belongs to item i.

        Args:
            transform: For images, for example torchvision's.
            target_transform: For labels.
            verify: As in ``check``.

        Raises:
            MismatchError: The data is not what the manifest was made for.
        """
        dataset = self.dataset()
        self.check(verify, dataset=dataset)
        return KeptImages(dataset, self.indices(), self.labels, transform, target_transform)

    def subset(self, dataset: Dataset[Any]) -> Subset[Any]:
        """Return the kept part of somebody's map-style data set over the same full data, in index order.

        Its length is compared, and its labels where it has them as ``targets`` or ``labels``.

        Raises:
            MismatchError: Length or labels differ; names the first three.
        """
        from torch.utils.data import Subset  # noqa: PLC0415

        if not isinstance(dataset, Sized):
            raise UsageError("subset() needs a map-style data set with a length.")
        n = self.table.provenance.n
        if n != len(dataset):
            raise MismatchError(
                f"{self.path.name} was made for {n:,} examples, this data set has {len(dataset):,}."
            )
        targets = next(
            (getattr(dataset, name) for name in ("targets", "labels") if hasattr(dataset, name)), None
        )
        if targets is not None and (self.labels >= 0).all():
            theirs = np.asarray(targets)[self.indices()]
            different = np.flatnonzero(theirs != self.labels)
            if len(different):
                shown = "; ".join(
                    f"index {self.indices()[i]}: {self.labels[i]} in the manifest, {theirs[i]} here"
                    for i in different[:3]
                )
                raise MismatchError(
                    f"{len(different):,} labels differ between {self.path.name} and this data set.",
                    where=shown,
                    do="check that both list the same files in the same order; noisy labels differ on purpose",
                )
        return Subset(dataset, self.indices().tolist())

    def sampler(self, seed: int = 0) -> KeptSampler:
        """Return a sampler of indices into the full data set, reshuffled by ``set_epoch``."""
        return KeptSampler(self.indices(), seed)


class KeptImages:
    """(image, label) of some examples of a data set; image as PIL, through ``transform``.

    Map-style: torch's DataLoader takes it as it is, and worker processes can be sent it.

    Args:
        dataset: The full data set.
        indices: int64[K], rows to show.
        labels: int64[K].
        transform: For images.
        target_transform: For labels.
    """

    def __init__(
        self,
        dataset: ImageDataset,
        indices: NDArray[np.int64],
        labels: NDArray[np.int64],
        transform: Callable[[Any], Any] | None,
        target_transform: Callable[[int], Any] | None,
    ) -> None:
        self.images, self.indices, self.labels = dataset, indices, labels
        self.transform, self.target_transform = transform, target_transform

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, position: int) -> tuple[Any, Any]:
        image: Any = picture(self.images.pixels(int(self.indices[position])))
        label: Any = int(self.labels[position])
        return (
            image if self.transform is None else self.transform(image),
            label if self.target_transform is None else self.target_transform(label),
        )


class KeptSampler:
    """Yields the kept indices in an order that depends on (seed, epoch) alone; for ``DataLoader(sampler=...)``."""

    def __init__(self, indices: NDArray[np.int64], seed: int) -> None:
        self._indices, self._seed, self._epoch = indices, seed, 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the order of an epoch, as with torch's distributed sampler."""
        self._epoch = epoch

    def __len__(self) -> int:
        return len(self._indices)

    def __iter__(self) -> Iterator[int]:
        yield from seeds.rng(self._seed, "sampler", self._epoch).permutation(self._indices).tolist()
