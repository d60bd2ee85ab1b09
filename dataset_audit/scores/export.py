"""From a recorder in anyone's loop to ``scores.parquet``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from dataset_audit.errors import UsageError
from dataset_audit.images.identity import fingerprint
from dataset_audit.scores.merge import merge, summary
from dataset_audit.tables import files, sidecar
from dataset_audit.tables.provenance import Provenance
from dataset_audit.tables.scores import ScoreTable

if TYPE_CHECKING:
    from dataset_audit.scores.recorder import Recorder


def save_run(  # noqa: PLR0913 - the keywords of Recorder.save
    path: Path,
    recorder: Recorder,
    *,
    uids: Sequence[str | None] | None,
    labels: ArrayLike | None,
    class_names: Sequence[str],
    extra: Mapping[str, ArrayLike],
    spec: str,
) -> None:
    """Write one run's table and sidecar; see ``Recorder.save``.

    Raises:
        UsageError: An argument has another length than the recorder, or a name that is taken.
        EnvironmentProblem: The files could not be written.
    """
    files.check_writable(path)
    n = recorder.n
    run = recorder.columns()
    merged = merge([run])
    columns: dict[str, ArrayLike | Sequence[str | None]] = {"index": np.arange(n), **merged}
    columns["status"] = ["ok" if seen else "excluded" for seen in np.asarray(run["presentations"]) > 0]
    if uids is not None:
        columns["uid"] = list(uids)
    if labels is not None:
        columns["label"] = np.asarray(labels)
        if class_names:
            columns["class_name"] = [
                class_names[label] if label >= 0 else None for label in np.asarray(labels)
            ]
    taken = sorted(set(extra) & set(columns))
    if taken:
        raise UsageError(f"Extra columns have names of ours: {', '.join(taken)}.", do="rename them")
    columns |= extra
    wrong = [name for name, values in columns.items() if len(values) != n]  # type: ignore[arg-type]  # all sized
    if wrong:
        raise UsageError(f"The recorder has {n:,} examples; {', '.join(wrong)} do not.")
    known = np.full(n, -1, np.int32) if labels is None else np.asarray(labels, dtype=np.int32)
    identity = (
        fingerprint(list(uids), known, tuple(class_names))
        if uids is not None
        else sha256(b"unknown").hexdigest()
    )
    provenance = Provenance(
        spec=spec,
        fingerprint=identity,
        n=n,
        class_names=tuple(class_names),
        config={"recorder": {"window": recorder.window, "dual_epochs": recorder.dual_epochs}},
    )
    document = sidecar.document(
        "scores",
        path,
        rows=n,
        config=provenance.config,
        facts={"summary": summary(merged, [run]), "trained": True},
    )
    ScoreTable.of(columns, provenance).write(path, document=document)
