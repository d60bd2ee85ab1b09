"""Tables whose rows come from several data sets: an index is then a row of its source."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dataset_audit.commands import prune
from dataset_audit.errors import DataError
from dataset_audit.progress import Silent
from dataset_audit.select.budget import Keep
from dataset_audit.tables import parquet, sidecar
from dataset_audit.tables.manifest import ManifestTable, Selection
from dataset_audit.tables.provenance import Origin, Provenance
from dataset_audit.tables.scores import ScoreTable

ZOO = Origin(name="zoo", spec="sets/zoo", n=40, opened={"split": None, "seed": 3, "background": [1, 2, 3]})
ANT = Origin(name="ant", spec="sets/ant", n=30, opened={"split": "test"})
BOTH = Provenance(
    spec="", fingerprint="f" * 64, n=4, class_names=("cat", "dog"), seeds=(3,), sources=(ZOO, ANT),
    recommended={"by": "typicality"},
)  # fmt: skip


def table(source: Sequence[str | None], index: Sequence[int], **more: Any) -> ScoreTable:
    typicality = np.arange(len(index), dtype=np.float32)
    data: dict[str, Any] = {"source": list(source), "index": np.array(index), "typicality": typicality}
    return ScoreTable.of(data | more, BOTH)


def write(path: Path, made: ScoreTable) -> Path:
    made.write(
        path, document=sidecar.document("bias", path, rows=len(made), config={}, facts={}), format_name="bias"
    )
    return path


def test_the_same_index_in_two_sources_is_two_examples(tmp_path: Path) -> None:
    made = table(["zoo", "ant", "zoo", "ant"], [5, 5, 0, 2])
    back = ScoreTable.read(write(tmp_path / "b.parquet", made))
    assert back.strings("source") == ["zoo", "ant", "zoo", "ant"]
    assert back.integers("index").tolist() == [5, 5, 0, 2]
    assert back.of_sources(tmp_path).tolist() == [0, 1, 0, 1]  # places in the footer, not in the alphabet
    assert back.provenance is not None
    assert back.provenance.sources == (ZOO, ANT)
    assert parquet.metadata(tmp_path / "b.parquet")["audit.format"] == "bias"


@given(rows=st.lists(st.tuples(st.sampled_from(["zoo", "ant"]), st.integers(0, 6)), min_size=1, max_size=12))
def test_a_row_of_a_source_may_be_there_once(rows: list[tuple[str, int]]) -> None:
    made = table([name for name, _ in rows], [index for _, index in rows])
    if len(set(rows)) == len(rows):
        assert made.checked(Path("b.parquet")) is made
        return
    twice = len(rows) - len(set(rows))
    with pytest.raises(DataError, match=f"b.parquet: index has {twice} duplicates"):
        made.checked(Path("b.parquet"))


@pytest.mark.parametrize(("name", "row"), [("cow", 1), (None, 1), ("", 1), ("Zoo", 1)])
def test_a_source_that_the_footer_does_not_name_is_refused(
    tmp_path: Path, name: str | None, row: int
) -> None:
    path = write(tmp_path / "b.parquet", table(["zoo", name, "ant"], [0, 1, 2]))
    with pytest.raises(DataError, match=rf"b.parquet: row {row} has a source that its footer does not name"):
        ScoreTable.read(path)


def test_a_footer_of_sources_over_a_table_without_the_column_is_refused(tmp_path: Path) -> None:
    made = ScoreTable.of({"index": np.arange(3), "typicality": np.zeros(3, np.float32)}, BOTH)
    with pytest.raises(DataError, match="no column source, though its footer names 2"):
        ScoreTable.read(write(tmp_path / "b.parquet", made))


def origin(**change: Any) -> dict[str, Any]:
    return {"name": "a", "spec": "s", "n": 3, "opened": {}} | change


DAMAGED: dict[str, str] = {
    "cut": '[{"name": "zo',
    "empty": "",
    "deep": "[" * 100_000,
    "an object": "{}",
    "a number": "5",
    "numbers": "[1]",
    "nulls": "[null]",
    "lists": '[["zoo"]]',
    "texts": '["zoo"]',
    "no name": json.dumps([{key: value for key, value in origin().items() if key != "name"}]),
    "no number": json.dumps([{key: value for key, value in origin().items() if key != "n"}]),
    "opened is null": json.dumps([origin(opened=None)]),
    "opened is a list": json.dumps([origin(opened=[])]),
    "n is a text": json.dumps([origin(n="3")]),
    "n is null": json.dumps([origin(n=None)]),
    "n is infinite": '[{"name": "a", "spec": "s", "n": Infinity, "opened": {}}]',
    "n is negative": json.dumps([origin(n=-1)]),
    "n is a truth": json.dumps([origin(n=True)]),
    "one name twice": json.dumps([origin(), origin(spec="other")]),
}


@pytest.mark.parametrize("damage", DAMAGED.values(), ids=DAMAGED)
def test_a_damaged_footer_of_sources_is_bad_data(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "b.parquet"
    made = table(["zoo", "ant"], [0, 0])
    parquet.write(path, made.data, BOTH.footer("bias") | {"audit.sources": damage})
    with pytest.raises(DataError, match="damaged footer") as raised:
        ScoreTable.read(path)
    assert str(path) in str(raised.value)


def test_a_table_of_one_data_set_says_nothing_of_sources(tmp_path: Path) -> None:
    alone = Provenance(spec="drawn", fingerprint="f" * 64, n=3, class_names=())
    made = ScoreTable.of({"index": np.arange(3), "aum": np.zeros(3, np.float32)}, alone)
    path = write(tmp_path / "s.parquet", made)
    assert "audit.sources" not in parquet.metadata(path)
    back = ScoreTable.read(path).provenance
    assert back is not None
    assert back.sources == ()


def everything(count: int, **more: Any) -> Selection:
    given_: dict[str, Any] = {
        "keep": np.ones(count, bool), "rank": None, "stratum": np.full(count, -1),
        "reason": np.full(count, "policy"), "scores": ("typicality",), "all_rows": True,
    }  # fmt: skip
    return Selection(**given_ | more)


def test_a_manifest_is_ordered_by_source_as_the_footer_names_them_then_by_index(tmp_path: Path) -> None:
    source = ["ant", "zoo", "ant", "zoo", "zoo"]
    made = ManifestTable.of(table(source, [7, 9, 1, 0, 7]), everything(5), BOTH, {})
    path = tmp_path / "m.parquet"
    made.write(path, document=sidecar.document("manifest", path, rows=5, config={}, facts={}))
    back = ManifestTable.read(path)
    assert back.data["source"].to_pylist() == ["zoo", "zoo", "zoo", "ant", "ant"]
    assert back.data["index"].to_pylist() == [0, 7, 9, 1, 7]
    assert back.data["typicality"].to_pylist() == [3, 4, 1, 2, 0]
    assert back.data.column_names == ["source", "index", "keep", "weight", "stratum", "reason", "typicality"]
    assert back.data.schema.field("source").type == pa.dictionary(pa.int32(), pa.string())
    assert back.provenance.sources == (ZOO, ANT)


def test_a_manifest_with_a_row_of_a_source_twice_is_refused(tmp_path: Path) -> None:
    made = ManifestTable.of(table(["ant", "zoo", "ant"], [1, 1, 1]), everything(3), BOTH, {})
    path = tmp_path / "m.parquet"
    made.write(path, document=sidecar.document("manifest", path, rows=3, config={}, facts={}))
    with pytest.raises(DataError, match="index has 1 duplicates"):
        ManifestTable.read(path)


def bias_table(folder: Path) -> Path:
    """30 rows of the ant and 40 of the zoo, of which the typicality of ten is not known."""
    source = ["ant"] * 30 + ["zoo"] * 40
    index = [*range(30), *range(40)]
    typicality = np.random.default_rng(1).normal(0, 3, 70).astype(np.float32)
    typicality[60:] = np.nan
    status = ["ok"] * 60 + ["excluded"] * 9 + ["unreadable"]
    uids = [f"{row:032x}" for row in range(70)]
    return write(
        folder / "bias.parquet", table(source, index, typicality=typicality, status=status, uid=uids)
    )


def pruned(folder: Path, **more: Any) -> ManifestTable:
    out = folder / "manifest.parquet"
    config = prune.Config(
        scores=bias_table(folder), out=out, keep=Keep.parse("0.5"), policy="hardest", **more
    )
    prune.run(config, Silent())
    return ManifestTable.read(out)


@pytest.mark.parametrize("by", [("typicality",), ()], ids=["asked for", "recommended"])
def test_pruning_by_typicality_drops_what_most_gives_its_source_away(
    tmp_path: Path, by: tuple[str, ...]
) -> None:
    made = pruned(tmp_path, by=by, all_rows=True)
    keep = made.data["keep"].to_numpy(zero_copy_only=False)
    typical = made.data["typicality"].to_numpy()
    unranked = np.isnan(typical)
    assert keep.sum() == 30
    assert unranked.sum() == 10
    assert not keep[unranked].any()
    assert typical[keep].max() < typical[~keep & ~unranked].min()


def test_a_pruned_bias_table_is_a_manifest_that_names_its_sources(tmp_path: Path) -> None:
    made = pruned(tmp_path, by=("typicality",))
    assert made.provenance.sources == (ZOO, ANT)
    assert len(made) == 30
    footer = parquet.metadata(tmp_path / "manifest.parquet")
    assert footer["audit.format"] == "manifest"
    told = json.loads(footer["audit.sources"])
    assert [one["name"] for one in told] == ["zoo", "ant"]
    assert told[0]["opened"] == {"split": None, "seed": 3, "background": [1, 2, 3]}
    assert set(made.data["source"].to_pylist()) == {"zoo", "ant"}
    whole = ScoreTable.read(tmp_path / "bias.parquet")
    known = set(zip(whole.strings("source"), whole.integers("index").tolist(), strict=True))
    rows = list(zip(made.data["source"].to_pylist(), made.data["index"].to_pylist(), strict=True))
    assert len(set(rows)) == 30
    assert set(rows) <= known
