from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa

from dataset_audit.tables import parquet, sidecar
from dataset_audit.tables.noise import NOISE, NoiseTable
from dataset_audit.tables.provenance import Provenance
from dataset_audit.tables.scores import ScoreTable

ORIGIN = Provenance(spec="drawn", fingerprint="ab", n=3, class_names=("a", "b"), seeds=(1,))


def made() -> NoiseTable:
    table = ScoreTable.of(
        {
            "index": np.array([2, 0, 1]), "label": np.array([0, 1, 1], np.int32), "uid": ["c", "a", "b"],
            "status": ["ok"] * 3, "aum": np.array([1.5, -2, np.nan], np.float32),
        },
        ORIGIN,
    )  # fmt: skip
    columns = {
        "suspicion": np.ma.masked_array([0.0, 0.5, 0.0], mask=[False, False, True]),
        "rank": np.ma.masked_array([1, 0, 0], mask=[False, False, True]),
        "flagged": np.ma.masked_array([False] * 3, mask=True),
        "self_confidence": np.array([0.9, np.nan, 0.1]),
    }
    return NoiseTable.of(table, columns, ("aum",), ORIGIN)


def test_rows_stand_by_index_and_what_is_unknown_is_null() -> None:
    data = made().data
    assert data.column_names == [
        "index", "uid", "label", "status", "suspicion", "rank", "flagged", "aum", "self_confidence",
    ]  # fmt: skip
    assert data["uid"].to_pylist() == ["a", "b", "c"]
    assert data["suspicion"].to_pylist() == [0.5, None, 0.0]
    assert data["rank"].to_pylist() == [0, None, 1]
    assert data["flagged"].null_count == 3
    assert data["aum"].to_pylist() == [-2, None, 1.5]
    assert data["self_confidence"].null_count == 1
    for name, column in NOISE.items():
        if name in data.column_names:
            assert data.schema.field(name).type == column.kind


def test_the_file_says_what_it_is_and_reads_as_a_table_of_scores(tmp_path: Path) -> None:
    path = tmp_path / "n.parquet"
    document = sidecar.document("noise", path, rows=3, config={}, facts={})
    first = made().write(path, document=document, by=("aum",))
    footer = parquet.metadata(path)
    assert footer["audit.format"] == "noise"
    assert footer["audit.by"] == '["aum"]'
    back = ScoreTable.read(path)
    assert back.hard("suspicion") == "high"
    assert back.hard("self_confidence") == "low"
    assert back.hard("rank") is None
    assert back.provenance is not None
    assert back.provenance.recommended == {"by": "suspicion"}
    assert made().write(path, document=document, by=("aum",)).sha256 == first.sha256


def test_a_score_that_is_called_like_ours_is_not_copied_twice() -> None:
    table = ScoreTable(pa.table({"index": [0, 1], "suspicion": [0.25, 0.5]}), None)
    columns = {"suspicion": np.array([0.0, 0.5]), "rank": np.array([1, 0])}
    again = NoiseTable.of(table, columns, ("suspicion",), ORIGIN)
    assert again.data["suspicion"].to_pylist() == [0.0, 0.5]
