"""Sidecars that are missing, torn, forged, foreign or newer."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pyarrow as pa
import pytest

from dataset_audit.errors import AuditError, DataError, MismatchError
from dataset_audit.tables import files, parquet, sidecar
from dataset_audit.tables.scores import ScoreTable

REQUIRED = {
    "audit", "format", "table", "sha256", "rows", "command", "config", "dataset", "seeds", "versions", "summary",
    "warnings", "inputs", "run",
}  # fmt: skip


def written(table: Path, **facts: object) -> Path:
    """Write a small table of ours and its sidecar; return the sidecar's path."""
    document = sidecar.document("scores", table, rows=2, config={"a": 1}, facts=facts)
    data = pa.table({"index": [0, 1], "mine": [0.5, 1.5]})
    footer = {
        "audit.format": "scores", "audit.version": "1", "audit.spec": "s", "audit.fingerprint": "f",
        "audit.n": "2", "audit.class_names": "[]",
    }  # fmt: skip
    beside = sidecar.sidecar_path(table)
    files.publish(table, lambda temp: parquet.write(temp, data, footer), document, beside=beside)
    return beside


def test_a_sidecar_lies_beside_its_table_under_its_name() -> None:
    assert sidecar.sidecar_path(Path("a/scores.parquet")) == Path("a/scores.audit.json")
    assert sidecar.sidecar_path(Path("a/b.c.parquet")) == Path("a/b.c.audit.json")


def test_every_required_key_is_there_sorted_and_in_utf_8(tmp_path: Path) -> None:
    beside = written(tmp_path / "s.parquet", dataset={"spec": "héllo"})
    text = beside.read_text(encoding="utf-8")
    document = json.loads(text)
    assert set(document) == REQUIRED
    assert text == json.dumps(document, indent=2, sort_keys=True, ensure_ascii=False) + "\n"
    assert "héllo" in text
    assert document["table"] == "s.parquet"
    assert document["sha256"] == files.sha256_file(tmp_path / "s.parquet")


def test_nan_is_never_written(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        written(tmp_path / "s.parquet", summary={"mean": float("nan")})
    assert list(tmp_path.iterdir()) == []


def test_a_name_that_is_not_utf_8_can_be_written_and_read_back(tmp_path: Path) -> None:
    name = os.fsdecode(b"caf\xe9")
    written(tmp_path / "s.parquet", command=["audit", "prune", name])
    assert sidecar.read(tmp_path / "s.parquet")["command"] == ["audit", "prune", name]


def nested(depth: int) -> bytes:
    return b'{"audit": 1, "x": ' + b"[" * depth + b"]" * depth + b"}"


CASES: dict[str, tuple[bytes, type[AuditError], int, str]] = {
    "T17-empty": (b"", DataError, 3, "not a readable sidecar"),
    "T17-invalid-json": (b'{"audit": 1', DataError, 3, "not a readable sidecar"),
    "T17-invalid-utf-8": (b'{"audit": 1, "x": "\xff"}', DataError, 3, "not a readable sidecar"),
    "T17-no-object": (b"[1]", DataError, 3, "no sidecar of audit"),
    "T17-no-version": (b'{"sha256": "00"}', DataError, 3, "no sidecar of audit"),
    "T17-hash-of-other-file": (b'{"audit": 1, "sha256": "00"}', DataError, 3, "unfinished or changed"),
    "T17-no-hash": (b'{"audit": 1}', DataError, 3, "unfinished or changed"),
    "T17-newer": (b'{"audit": 2}', DataError, 3, "newer audit"),
    "T17-nan": (b'{"audit": 1, "x": NaN}', DataError, 3, "NaN is no number"),
    "T17-infinity": (b'{"audit": 1, "x": -Infinity}', DataError, 3, "-Infinity is no number"),
    "T17-duplicate-keys": (b'{"audit": 1, "sha256": "a", "sha256": "b"}', DataError, 3, "stands twice"),
    "T17-duplicate-keys-inside": (b'{"audit": 1, "x": {"a": 1, "a": 2}}', DataError, 3, "stands twice"),
    "T17-deep": (nested(200_000), DataError, 3, "not a readable sidecar"),
    "T17-long-number": (b'{"audit": ' + b"9" * 10_000 + b"}", DataError, 3, "not a readable sidecar"),
}


@pytest.mark.parametrize(("content", "kind", "code", "says"), CASES.values(), ids=CASES)
def test_a_sidecar_that_cannot_be_trusted_is_refused(
    tmp_path: Path, content: bytes, kind: type[AuditError], code: int, says: str
) -> None:
    table = tmp_path / "s.parquet"
    written(table).write_bytes(content)
    for act in (lambda: sidecar.verify(table), lambda: ScoreTable.read(table)):
        with pytest.raises(kind, match=says) as raised:
            act()
        assert raised.value.exit_code == code
        assert "s.audit.json" in str(raised.value)
        assert raised.value.do


def test_a_sidecar_of_100_mb_is_refused_before_it_is_read(tmp_path: Path) -> None:
    """T17-100-MB: a sparse file, so that the test costs nothing."""
    table = tmp_path / "s.parquet"
    beside = written(table)
    os.truncate(beside, 100 * 2**20)
    with pytest.raises(DataError, match="larger than 64 MiB"):
        sidecar.verify(table)


@pytest.mark.parametrize("make", [os.mkdir, os.mkfifo], ids=["T17-folder", "T17-pipe"])
def test_a_sidecar_that_is_no_file_is_refused_and_never_waited_for(tmp_path: Path, make: object) -> None:
    table = tmp_path / "s.parquet"
    beside = written(table)
    beside.unlink()
    assert callable(make)
    make(beside)
    with pytest.raises(DataError, match="is no file"):
        ScoreTable.read(table)


def test_a_missing_sidecar_is_foreign_and_strictness_refuses_it(tmp_path: Path) -> None:
    """T17-missing."""
    table = tmp_path / "s.parquet"
    written(table).unlink()
    assert sidecar.verify(table) == "foreign"
    assert len(ScoreTable.read(table)) == 2
    with pytest.raises(DataError, match="--strict"):
        ScoreTable.read(table, strict=True)


def test_a_sidecar_of_another_command_is_a_mismatch(tmp_path: Path) -> None:
    """T17-other-command: its hash fits, its format does not."""
    table = tmp_path / "s.parquet"
    beside = written(table)
    beside.write_text(json.dumps(json.loads(beside.read_text()) | {"format": "evaluation"}))
    with pytest.raises(MismatchError, match="evaluation") as raised:
        ScoreTable.read(table)
    assert raised.value.exit_code == 2


def test_versions_are_told_without_importing_what_they_are_of(tmp_path: Path) -> None:
    found = sidecar.versions()
    assert {"python", "numpy", "pyarrow", "torch"} <= set(found)
    assert all(isinstance(value, str) for value in found.values())


def test_encoding_does_not_depend_on_the_order_of_keys() -> None:
    assert sidecar.encode({"a": 1, "b": {"c": 2, "d": 3}}) == sidecar.encode({"b": {"d": 3, "c": 2}, "a": 1})
