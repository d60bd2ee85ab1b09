"""What an evaluation is about: a table of scores, a manifest, or both of one data set."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import nan
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dataset_audit.commands.evaluate.config import Config
from dataset_audit.errors import MismatchError, UsageError
from dataset_audit.images.compare import Rows
from dataset_audit.manifest import Manifest
from dataset_audit.select.ranking import unscored
from dataset_audit.tables import sidecar
from dataset_audit.tables.provenance import Provenance
from dataset_audit.tables.scores import ScoreTable


@dataclass(frozen=True, kw_only=True, eq=False)
class Tables:
    """The inputs, and what they say about the data set.

    Attributes:
        scores: The table of scores, None without ``--scores``.
        manifest: The manifest, None without one.
        provenance: Of the data set.
        named: The rows they name, to be compared with the images.
        labels: int64[K], labels of those rows as scoring trained on them; -1 where unknown.
        facts: Sidecar of the scores, {} where there is none.
    """

    scores: ScoreTable | None
    manifest: Manifest | None
    provenance: Provenance
    named: Rows
    labels: NDArray[np.int64]
    facts: Mapping[str, object]

    def excluded(self, n: int) -> NDArray[np.bool_]:
        """Return bool[N]: rows that scoring was told to leave out."""
        found = np.zeros(n, dtype=bool)
        if self.scores is not None and self.scores.has("status"):
            found[self.named.index[self.scores.equals("status", "excluded")]] = True
        return found

    def trainable(self, n: int) -> NDArray[np.bool_]:
        """Return bool[N]: rows that may be trained on; with scores those that can be ranked."""
        if self.scores is None:
            return np.ones(n, dtype=bool)
        found = np.zeros(n, dtype=bool)
        found[self.named.index[unscored(self.scores, Path(self.named.made_by)) == ""]] = True
        return found

    def clean(self, labels: NDArray[np.int64]) -> tuple[NDArray[np.int64], bool]:
        """Return the labels before any were flipped for scoring, int64[N], and whether that is known to have been."""
        if self.scores is None or not self.scores.has("clean_label"):
            return labels, False
        found, stated = labels.copy(), self.scores.integers("clean_label")
        found[self.named.index] = np.where(stated >= 0, stated, found[self.named.index])
        return found, True

    @property
    def config(self) -> Mapping[str, object]:
        """Settings that the scores were made with; {} where they are not known."""
        stored = self.facts.get("config")
        return stored if isinstance(stored, Mapping) else {}

    @property
    def image_size(self) -> tuple[int, int] | None:
        """Height and width that scoring trained at."""
        size = self.config.get("image_size")
        if isinstance(size, list) and len(size) == 2 and all(isinstance(side, int) for side in size):
            return size[0], size[1]
        return None

    @property
    def runs(self) -> int:
        """Scoring runs behind the table."""
        return max(1, len(self.provenance.seeds))

    @property
    def seconds(self) -> float:
        """Seconds that scoring took, all runs; NaN where they are not known."""
        run = self.facts.get("run")
        seconds = run.get("seconds") if isinstance(run, Mapping) else None
        return float(seconds) if isinstance(seconds, int | float) else nan

    @property
    def model(self) -> str:
        """Network that scored, "" where it is not known."""
        return str(self.config.get("model") or "")


def read_tables(config: Config) -> Tables:
    """Read what is evaluated; hashes are compared with sidecars first.

    Raises:
        UsageError: There is no such file, or the manifest is about several data sets.
        MismatchError: Manifest and scores are about different data sets, or a manifest of flipped labels stands alone.
        DataError: A table is damaged.
    """
    scores = None if config.scores is None else ScoreTable.read(config.scores)
    wanted = config.manifest is not None or scores is None
    manifest = Manifest.read(config.manifest or Path("manifest.parquet")) if wanted else None
    if manifest is not None and manifest.sources:
        raise UsageError(
            f"{manifest.path} is about {len(manifest.sources)} data sets.",
            where=", ".join(manifest.sources),
            do="evaluate the manifest of one",
        )
    if scores is None or config.scores is None:
        if manifest is None:
            raise ValueError("one of the two was read")
        return _of_manifest(manifest)
    if not scores.has("index"):
        raise UsageError(
            f"{config.scores} has no index: which rows of the data set these are is not known.",
            where="columns: " + ", ".join(scores.names[:50]),
            do="add the column index, 0 for the first example of the data set",
        )
    origin = scores.provenance
    if manifest is not None and (
        origin is None or origin.fingerprint != manifest.table.provenance.fingerprint
    ):
        raise MismatchError(
            f"{manifest.path} was made for another data set than {config.scores}.",
            do="the scores that the manifest was pruned from",
        )
    try:
        facts = sidecar.read(config.scores)
    except FileNotFoundError:
        facts = {}
    return Tables(
        scores=scores,
        manifest=manifest,
        provenance=origin or Provenance(spec="", fingerprint="", n=0, class_names=()),
        named=Rows(
            made_by=str(config.scores),
            n=origin.n if origin else 0,
            index=scores.integers("index"),
            uids=scores.strings("uid") if scores.has("uid") else None,
            labels=None,
            file_names=scores.strings("file_name") if scores.has("file_name") else None,
        ),
        labels=scores.integers("label") if scores.has("label") else np.full(len(scores), -1),
        facts=facts,
    )


def _of_manifest(manifest: Manifest) -> Tables:
    return Tables(
        scores=None,
        manifest=manifest,
        provenance=manifest.table.provenance,
        named=Rows(
            made_by=str(manifest.path),
            n=manifest.table.provenance.n,
            index=manifest.indices(),
            uids=manifest.uids,
            labels=None,
            file_names=None,
        ),
        labels=manifest.labels,
        facts={},
    )
