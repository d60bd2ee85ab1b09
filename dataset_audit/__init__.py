"""Measures what is in an image data set and what of it is worth training on.

The public names are loaded on first use: importing the package imports neither torch nor numpy.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dataset_audit.images.dataset import open_dataset as open_dataset
    from dataset_audit.manifest import Manifest as Manifest
    from dataset_audit.scores.recorder import Recorder as Recorder
    from dataset_audit.tables.scores import ScoreTable as ScoreTable
    from dataset_audit.train.fit import fit as fit

_HOMES = {
    "Manifest": "dataset_audit.manifest",
    "Recorder": "dataset_audit.scores.recorder",
    "ScoreTable": "dataset_audit.tables.scores",
    "fit": "dataset_audit.train.fit",
    "open_dataset": "dataset_audit.images.dataset",
}

__all__ = ["Manifest", "Recorder", "ScoreTable", "fit", "open_dataset"]


def __getattr__(name: str) -> object:
    if name == "__version__":
        from importlib.metadata import version  # noqa: PLC0415 - not wanted at start-up

        return version("dataset-audit")
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
