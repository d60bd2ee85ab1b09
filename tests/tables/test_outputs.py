"""What may be written over: ours and the same, ours and told to, never anybody else's."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dataset_audit.errors import DataError, MismatchError, UsageError
from dataset_audit.tables import files, outputs, parquet, sidecar

WANTED = {"keep": "0.5", "seed": 1, "by": ["aum"], "nested": {"x": 1, "y": 2}}


def written(path: Path, config: dict[str, object] | None = None, *, form: str = "manifest") -> Path:
    document = sidecar.document(form, path, rows=1, config=config or WANTED, facts={})
    table = pa.table({"index": [0]})
    footer = {"audit.format": form}
    beside = sidecar.sidecar_path(path)
    files.publish(path, lambda temp: parquet.write(temp, table, footer), document, beside=beside)
    return path


def standing(path: Path, *, force: bool = False) -> str:
    return outputs.standing(path, "manifest", WANTED, force=force)


@pytest.fixture
def table(tmp_path: Path) -> Path:
    return tmp_path / "m.parquet"


def test_p10_nothing_there_is_absent(table: Path) -> None:
    assert standing(table) == "absent"
    assert standing(Path("/dev/null")) == "absent"


def test_p10_the_same_configuration_is_finished_unless_forced(table: Path) -> None:
    written(table)
    assert standing(table) == "finished"
    assert standing(table, force=True) == "replaceable"


def test_p10_another_configuration_needs_force_and_every_difference_is_named(table: Path) -> None:
    written(table, WANTED | {"keep": "0.7", "nested": {"x": 1, "y": 9}, "extra": True})
    with pytest.raises(MismatchError) as raised:
        standing(table)
    for phrase in ("keep: 0.7 -> 0.5", "nested.y: 9 -> 2", "extra: True -> none", "--force"):
        assert phrase in str(raised.value)
    assert "seed" not in raised.value.what
    assert standing(table, force=True) == "replaceable"


def foreign_parquet(path: Path) -> None:
    pq.write_table(pa.table({"index": [0]}), path)


def scores_of_ours(path: Path) -> None:
    written(path, form="scores")


FOREIGN = {
    "P10-parquet": foreign_parquet,
    "P10-other-table-of-ours": scores_of_ours,
    "P10-text": lambda path: path.write_text("my diary"),
    "P10-empty": lambda path: path.touch(),
    "P10-pipe": os.mkfifo,
}


@pytest.mark.parametrize("force", [False, True])
@pytest.mark.parametrize("make", FOREIGN.values(), ids=FOREIGN)
def test_what_is_not_ours_is_never_overwritten(table: Path, make: object, force: bool) -> None:
    assert callable(make)
    make(table)
    with pytest.raises(UsageError, match="never overwritten") as raised:
        standing(table, force=force)
    assert raised.value.exit_code == 2


SIDECARS = {
    "P10-notes": b"my own notes",
    "P10-json": b'{"mine": 1}',
    "P10-other-format": b'{"audit": 1, "format": "scores", "table": "m.parquet"}',
    "P10-other-table": b'{"audit": 1, "format": "manifest", "table": "other.parquet"}',
}


@pytest.mark.parametrize("content", SIDECARS.values(), ids=SIDECARS)
def test_what_lies_where_the_sidecar_goes_is_never_overwritten_if_it_is_not_its_own(
    table: Path, content: bytes
) -> None:
    sidecar.sidecar_path(table).write_bytes(content)
    for force in (False, True):
        with pytest.raises(UsageError, match=r"m\.audit\.json exists and belongs to something else"):
            standing(table, force=force)


def test_a_table_whose_name_lacks_the_suffix_keeps_its_sidecar(tmp_path: Path) -> None:
    """``m`` and ``m.parquet`` would both have ``m.audit.json``."""
    written(tmp_path / "m")
    with pytest.raises(UsageError, match="belongs to something else"):
        standing(tmp_path / "m.parquet")


def damaged(table: Path) -> None:
    data = bytearray(table.read_bytes())
    data[10] ^= 1
    table.write_bytes(data)


UNFINISHED = {
    "P2-no-sidecar": lambda table: sidecar.sidecar_path(table).unlink(),
    "P2-old-sidecar": lambda table: sidecar.sidecar_path(table).write_text(
        json.dumps({"audit": 1, "format": "manifest", "table": table.name, "sha256": "00"})
    ),
    "P2-torn-sidecar": lambda table: sidecar.sidecar_path(table).write_bytes(b'{"audit"'),
    "P2-flipped-bit": damaged,
    "P2-no-table": lambda table: table.unlink(),
}


@pytest.mark.parametrize("spoil", UNFINISHED.values(), ids=UNFINISHED)
def test_an_unfinished_or_damaged_output_of_ours_is_made_again(table: Path, spoil: object) -> None:
    written(table)
    assert callable(spoil)
    spoil(table)
    assert standing(table) == ("replaceable" if table.exists() else "absent")


def test_a_pair_under_another_name_is_still_ours(table: Path) -> None:
    written(table)
    moved = table.rename(table.with_name("n.parquet"))
    sidecar.sidecar_path(table).rename(sidecar.sidecar_path(moved))
    assert standing(moved) == "finished"


def test_a_newer_version_s_output_is_not_touched(table: Path) -> None:
    written(table)
    beside = sidecar.sidecar_path(table)
    beside.write_text(json.dumps(json.loads(beside.read_text()) | {"audit": 2}))
    for force in (False, True):
        with pytest.raises(DataError, match="newer audit"):
            standing(table, force=force)


def test_differences_see_through_nesting_tuples_and_what_is_no_configuration() -> None:
    assert outputs.differences({"a": [1, 2], "digest": "x"}, {"a": (1, 2)}) == []
    assert outputs.differences(None, {"a": 1}) == ["a: none -> 1"]
    assert outputs.differences({"a": {"b": 1}}, {"a": {"b": 2}}) == ["a.b: 1 -> 2"]
    assert outputs.differences({"a": 1}, {}) == ["a: 1 -> none"]


def test_a_digest_depends_on_content_alone() -> None:
    assert outputs.digest({"a": 1, "b": 2}) == outputs.digest({"b": 2, "a": 1})
    assert outputs.digest({"a": 1}) != outputs.digest({"a": 2})
    assert len(outputs.digest({})) == 64
