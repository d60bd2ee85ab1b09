"""The rows of ``bias.parquet``, one per image drawn, and where they came from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dataset_audit.bias.measure import typicality
from dataset_audit.bias.stock import Stock
from dataset_audit.commands.bias.findings import Findings
from dataset_audit.tables.provenance import Origin, Provenance
from dataset_audit.tables.scores import ScoreTable


def table_of(
    stock: Stock,
    rows: NDArray[np.int64],
    clusters: NDArray[np.int64],
    told: Findings,
    identity: Mapping[str, object],
    *,
    seed: int,
) -> ScoreTable:
    """Return the table of what was found.

    Args:
        stock: Every image drawn.
        rows: int64[M], those that were used.
        clusters: int64[M], place among ``rows`` of the first image that each is a duplicate of.
        told: What was found of them.
        identity: Every setting that decides the bytes of the table.
        seed: Of all draws.
    """
    columns, class_names = _columns(stock, rows, clusters, told)
    return ScoreTable.of(columns, _origin(stock, class_names, identity, seed))


def _columns(
    stock: Stock, rows: NDArray[np.int64], clusters: NDArray[np.int64], told: Findings
) -> tuple[dict[str, ArrayLike | Sequence[str | None]], tuple[str, ...]]:
    """Return the columns of the table, one entry per image drawn, and the class names over all sources."""
    n, best = len(stock), told.best
    names = stock.class_names()
    class_names = tuple(sorted({name for name in names if name is not None}))
    number = {name: place for place, name in enumerate(class_names)}
    label = np.array([-1 if name is None else number[name] for name in names], np.int32)
    status, error, split = list(stock.status), list(stock.error), ["unused"] * n
    used = set(rows.tolist())
    for row in range(n):
        if row not in used and status[row] == "ok":
            status[row], error[row] = "excluded", "excluded: other sources have fewer"
    tested = rows[best.rows]
    for row, fold in zip(tested.tolist(), best.fold.tolist(), strict=True):
        split[row] = f"test-{fold + 1}"
    cluster = np.full(n, -1, np.int64)
    cluster[rows] = rows[clusters]
    probability = np.full((n, len(stock.sources)), np.nan, np.float32)
    probability[tested] = best.probability
    typical = np.full(n, np.nan, np.float32)
    typical[tested] = typicality(best)
    predicted: list[str | None] = [None] * n
    for row, source in zip(tested.tolist(), best.probability.argmax(1).tolist(), strict=True):
        predicted[row] = stock.names[source]
    columns: dict[str, ArrayLike | Sequence[str | None]] = {
        "source": [stock.names[source] for source in stock.source],
        "index": stock.index,
        "uid": stock.uid,
        "file_name": stock.file_names(),
        "label": np.ma.masked_array(label, mask=label < 0),
        "class_name": names,
        "split": split,
        "status": status,
        "error": error,
        "cluster": np.ma.masked_array(cluster, mask=cluster < 0),
        "predicted_source": predicted,
        "typicality": typical,
    }
    columns |= {f"p_{name}": probability[:, place] for place, name in enumerate(stock.names)}
    return columns, class_names


def _origin(
    stock: Stock, class_names: tuple[str, ...], identity: Mapping[str, object], seed: int
) -> Provenance:
    return Provenance(
        spec="",
        fingerprint=str(identity["fingerprint"]),
        n=len(stock),
        class_names=class_names,
        config=identity,
        seeds=(seed,),
        recommended={"by": "typicality"},
        sources=tuple(
            Origin(
                name=source.name,
                spec=source.dataset.spec,
                n=len(source.dataset),
                opened=source.opened,
                class_names=source.dataset.class_names,
            )
            for source in stock.sources
        ),
    )
