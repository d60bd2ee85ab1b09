"""From what was named to the sources that are compared."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from dataset_audit.bias.stock import Source
from dataset_audit.commands.bias.config import Config
from dataset_audit.errors import UsageError
from dataset_audit.images.dataset import open_dataset
from dataset_audit.images.decode import Limits
from dataset_audit.images.several import refuse_twice, short_names
from dataset_audit.manifest import Manifest
from dataset_audit.progress import Progress
from dataset_audit.tables import parquet


def open_sources(config: Config, progress: Progress) -> tuple[Source, ...]:
    """Open what is compared: two data sets or more, or the sources of one manifest, of its kept examples alone.

    Raises:
        UsageError: Fewer than two, one of them twice, or no such data set.
        DataError: One of them holds no pictures.
    """
    if not config.allow_identical:
        refuse_twice(config.sources)
    sources: list[Source] = []
    for spec, name in zip(config.sources, short_names(config.sources), strict=True):
        sources += _of_manifest(Path(spec)) if _is_manifest(Path(spec)) else [_of_dataset(config, spec, name)]
    if len(sources) < 2:
        raise UsageError(
            f"{sources[0].name if sources else 'Nothing'} alone: a source is told apart from another.",
            do="audit bias A B [C ...]",
        )
    if len({source.name for source in sources}) < len(sources):
        raise UsageError(
            "Two sources have the same name.", where=", ".join(source.name for source in sources)
        )
    for source in sources:
        for id_, text in source.dataset.warnings:
            progress.warn(id_, f"{source.name}: {text}")
    return tuple(sources)


def _of_dataset(config: Config, spec: str, name: str) -> Source:
    limits = Limits(
        max_pixels=config.max_pixels, max_file_bytes=config.max_file_bytes, background=config.background
    )
    dataset = open_dataset(
        spec,
        data_root=config.data_root,
        download=config.download,
        split=config.split,
        seed=config.seed,
        limits=limits,
    )
    opened = {"split": config.split, "seed": config.seed, "background": list(config.background)}
    return Source(name=name, dataset=dataset, rows=np.arange(len(dataset)), opened=opened)


def _is_manifest(path: Path) -> bool:
    return (
        path.suffix == ".parquet"
        and path.is_file()
        and parquet.metadata(path).get("audit.format") == "manifest"
    )


def _of_manifest(path: Path) -> list[Source]:
    manifest = Manifest.read(path)
    if not manifest.sources:
        dataset = manifest.dataset()
        manifest.check(dataset=dataset)
        opened = manifest.table.provenance.opened
        return [Source(name=path.name, dataset=dataset, rows=manifest.indices(), opened=opened)]
    found = []
    for name in manifest.sources:
        part = manifest.source(name)
        dataset = part.dataset()
        part.check(dataset=dataset)
        found.append(
            Source(name=name, dataset=dataset, rows=part.indices(), opened=part.table.provenance.opened)
        )
    return found
