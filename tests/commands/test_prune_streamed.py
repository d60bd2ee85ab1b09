"""Tables larger than memory: row group by row group, the manifest and what is said of it are those of the whole."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dataset_audit.commands.prune import Config, run, story, streamed
from dataset_audit.errors import AuditError, DataError, MismatchError, UsageError
from dataset_audit.progress import Silent
from dataset_audit.report.document import Report
from dataset_audit.select import stream
from dataset_audit.select.budget import Keep
from dataset_audit.select.threads import Threads
from dataset_audit.tables import parquet, sidecar
from dataset_audit.tables.files import sha256_file
from dataset_audit.tables.manifest import ManifestTable
from dataset_audit.tables.provenance import Provenance
from dataset_audit.tables.scores import ScoreTable

NAMES = ("ant", "bee", "cow", "dog")


def drawn(rng: np.random.Generator, n: int, *, odd: bool) -> dict[str, Any]:
    """Return columns with ties, and where odd is true with nulls, infinities, unread rows and twins."""
    coarse = rng.integers(-3, 4, n).astype(np.float32) * rng.choice([1, 0.1, 1e30])
    columns: dict[str, Any] = {
        "index": np.cumsum(rng.integers(1, 4, n)) - 1,
        "uid": [f"{value:032x}" for value in rng.integers(0, 2**62, n)],
        "label": rng.integers(0, rng.integers(1, 5), n).astype(np.int32),
        "class_name": [NAMES[i % 4] for i in range(n)],
        "status": ["ok"] * n,
        "presentations": np.full(n, 9, np.int32),
        "forgetting": np.abs(coarse),
        "first_learned": np.where(rng.random(n) < 0.2, np.nan, rng.integers(0, 4, n)).astype(np.float32),
        "aum": rng.choice([coarse, rng.normal(size=n).astype(np.float32)][int(rng.integers(2))], n),
        "theirs": rng.choice([0.0, -0.0, 1.0, 1 + 2**-40, -1.0, 5e-324], n),
    }
    if odd:
        columns["label"][rng.random(n) < 0.1] = -1
        columns["status"] = rng.choice(["ok", "ok", "ok", "unreadable", "unlabelled"], n).tolist()
        columns["presentations"] = rng.integers(0, 4, n).astype(np.int32)
        for name in ("aum", "theirs"):
            columns[name] = np.where(
                rng.random(n) < 0.15, rng.choice([np.nan, np.inf, -np.inf], n), columns[name]
            )
        columns["uid"] = [None if rng.random() < 0.1 else columns["uid"][i // 2] for i in range(n)]
    return columns


def put(path: Path, columns: dict[str, Any], *, ours: bool = True, group: int = 7) -> Path:
    """Write a table in row groups of so many rows, with a sidecar where it is ours."""
    sidecar.sidecar_path(path).unlink(missing_ok=True)
    n = len(columns["index"])
    origin = Provenance(spec="drawn", fingerprint="f" * 64, n=1000, class_names=NAMES)
    data = ScoreTable.of(columns, origin).data
    for name in ("aum", "theirs"):  # infinities are in files of others
        if name in columns:
            place = data.column_names.index(name)
            data = data.set_column(
                place, data.schema.field(name), pa.array(columns[name], data.schema.field(name).type)
            )
    data = data.replace_schema_metadata(origin.footer("scores") if ours else {})
    pq.write_table(data, path, row_group_size=group)
    if ours:
        stated = sidecar.document("scores", path, rows=n, config={}, facts={"trained": True})
        digest = sha256_file(path)
        sidecar.sidecar_path(path).write_bytes(sidecar.encode({**stated, "sha256": digest}))
    return path


def answer(config: Config, engine: Threads | None) -> tuple[Report | str, list[tuple[str, str]]]:
    progress = Silent()
    try:
        return run(config, progress, engine), progress.warnings
    except AuditError as error:
        return f"{type(error).__name__} {error.id} {error}", progress.warnings


def both(folder: Path, **options: Any) -> tuple[Any, Any, list[Any], list[Any]]:
    """Return report (or refusal) and manifest of the whole table, and of the same row group by row group."""
    found: list[Any] = []
    tables: list[Any] = []
    with Threads(2) as threads:
        for engine in (None, threads):
            out = folder / f"manifest-{'whole' if engine is None else 'streamed'}.parquet"
            config = Config(out=out, ranks=False, force=True, **options)
            report, warnings = answer(config, engine)
            found.append((report, warnings))
            tables.append(None if isinstance(report, str) else ManifestTable.read(out))
    return found[0], found[1], [found[0][1], found[1][1]], tables


def same(folder: Path, **options: Any) -> Report | str:
    """Check that both ways give the same rows, columns, schema, report and warnings; return the report."""
    (whole, _), (streamed_, _), warnings, tables = both(folder, **options)
    if isinstance(whole, str) or isinstance(streamed_, str):
        assert streamed_ == whole
        return whole
    assert tables[1].data.schema.equals(tables[0].data.schema, check_metadata=True)
    assert repr(tables[1].data.to_pydict()) == repr(tables[0].data.to_pydict())  # NaN is NaN
    assert tables[1].provenance == tables[0].provenance
    assert tables[1].choice == tables[0].choice
    assert streamed_.items == whole.items
    assert streamed_.summary == whole.summary
    assert streamed_.warnings == whole.warnings
    assert sorted(warnings[1]) == sorted(warnings[0])
    assert [o.rows for o in streamed_.outputs] == [o.rows for o in whole.outputs]
    return whole


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("streamed")


POLICIES = st.sampled_from(["hardest", "easiest", "random", "ccs", "auto"])
BY = st.sampled_from(
    [(), ("aum",), ("theirs",), ("first_learned",), ("forgetting", "aum"), ("theirs", "aum"), ("label",)]
)
WITHOUT = st.sets(
    st.sampled_from(["uid", "status", "presentations", "class_name", "aum", "label"]), max_size=2
)


@settings(max_examples=40)
@given(
    seed=st.integers(0, 10**6), n=st.integers(1, 60), group=st.integers(3, 40), policy=POLICIES, by=BY,
    keep=st.sampled_from(["0.5", "0.3", "1.0", "0.05", "1", "12"]), balance=st.booleans(), odd=st.booleans(),
    nan=st.sampled_from(["refuse", "hardest", "drop"]), hard=st.sampled_from(["high", "low"]), without=WITHOUT,
    noisy=st.booleans(), all_rows=st.booleans(), empty=st.booleans(), strata=st.sampled_from([1, 3, 50]),
    ours=st.booleans(), cap=st.sampled_from([0, 4, 10**6]), beta=st.sampled_from([None, 0.0, 0.1, 0.3]),
)  # fmt: skip
def test_the_manifest_and_all_that_is_said_are_those_of_the_whole_table(
    folder: Path, seed: int, n: int, group: int, policy: str, by: tuple[str, ...], keep: str, balance: bool,
    odd: bool, nan: str, hard: str, without: set[str], noisy: bool, all_rows: bool, empty: bool, strata: int,
    ours: bool, cap: int, beta: float | None,
) -> None:  # fmt: skip
    columns = {k: v for k, v in drawn(np.random.default_rng(seed), n, odd=odd).items() if k not in without}
    scores = put(folder / "scores.parquet", columns, ours=ours, group=group)
    options = {
        "policy": policy,
        "by": by,
        "balance": balance,
        "nan": nan,
        "all_rows": all_rows,
        "seed": seed % 7,
    }
    if by and by[0] in {"theirs", "label"}:
        options["hard"] = hard
    if policy in {"ccs", "auto"}:
        options["beta"] = beta
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stream, "CAP", cap)
        same(
            folder, scores=scores, keep=Keep.parse(keep), drop_noisy=noisy, allow_empty_class=empty,
            strata=strata, **options,
        )  # fmt: skip


def plain(n: int = 50, **more: Any) -> dict[str, Any]:
    return drawn(np.random.default_rng(1), n, odd=False) | more


HARDEST: dict[str, Any] = {"keep": Keep.parse("0.5"), "policy": "hardest", "by": ("aum",)}


def written(folder: Path, scores: Path, name: str = "m.parquet", **options: Any) -> tuple[Report, Silent]:
    progress = Silent()
    with Threads(2) as threads:
        report = run(Config(scores=scores, out=folder / name, **{**HARDEST, **options}), progress, threads)
    return report, progress


def test_a_large_table_is_streamed_and_a_small_one_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scores, ways = put(tmp_path / "s.parquet", plain()), []
    monkeypatch.setattr(streamed, "run", lambda *_: ways.append("streamed") or Report("prune", ""))
    run(Config(scores=scores, out=tmp_path / "a.parquet", **HARDEST), Silent())
    assert ways == []
    assert "keep_rank" in ManifestTable.read(tmp_path / "a.parquet").data.column_names
    monkeypatch.setattr(story, "STREAMED_ABOVE", 49)
    run(Config(scores=scores, out=tmp_path / "b.parquet", **HARDEST), Silent())
    assert ways == ["streamed"]


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"policy": "window", "skip": 0.1}, "the policy window looks at all rows at once"),
        ({"ranks": True}, "--ranks orders all that is kept"),
        ({"balance": True, "policy": "ccs", "strata": 100_000}, "its classes have too many strata"),
    ],
)
def test_what_needs_every_row_at_once_reads_the_table_and_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: dict[str, Any], reason: str
) -> None:
    monkeypatch.setattr(story, "STREAMED_ABOVE", 10)
    scores, said = put(tmp_path / "s.parquet", plain(), group=9), []
    progress = Silent()
    monkeypatch.setattr(progress, "note", said.append)
    run(Config(scores=scores, out=tmp_path / "m.parquet", **{**HARDEST, **options}), progress)
    assert said == [f"{scores} is read into memory: {reason}"]
    assert ManifestTable.read(tmp_path / "m.parquet").data.num_rows == 25


def test_rows_in_disorder_are_put_in_order_inside_a_row_group_and_in_memory_beyond(tmp_path: Path) -> None:
    rng = np.random.default_rng(2)
    inside = np.concatenate([rng.permutation(10) + 10 * part for part in range(5)])
    same(tmp_path, scores=put(tmp_path / "a.parquet", plain(index=inside), group=10), **HARDEST)
    found, _ = written(tmp_path, tmp_path / "a.parquet", force=True)
    assert found.outputs[0].rows == 25
    across = rng.permutation(50)
    same(tmp_path, scores=put(tmp_path / "b.parquet", plain(index=across), group=10), **HARDEST)


def test_an_index_that_stands_twice_is_refused_wherever_it_stands(tmp_path: Path) -> None:
    for name, place in (("inside", 3), ("across", 15)):
        index = np.arange(50)
        index[place + 1 if name == "inside" else 10] = index[place]
        with pytest.raises(DataError, match="duplicates"):
            written(tmp_path, put(tmp_path / f"{name}.parquet", plain(index=index), group=10))


def test_bytes_that_are_not_what_the_sidecar_states_never_become_a_manifest(tmp_path: Path) -> None:
    scores = put(tmp_path / "s.parquet", plain(400), group=100)
    data = bytearray(scores.read_bytes())
    data[len(data) // 3] ^= 4
    scores.write_bytes(data)
    with pytest.raises(DataError, match="does not have the hash"):
        written(tmp_path, scores)
    sidecar.sidecar_path(scores).unlink()
    parquet.write(
        scores, pa.table({"index": np.arange(3000), "aum": np.random.default_rng(0).random(3000)}), {}
    )
    data = bytearray(scores.read_bytes())
    data[2 * len(data) // 3] ^= 4
    scores.write_bytes(data)
    with pytest.raises(DataError, match="damaged"):
        written(tmp_path, scores)
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith("m.")] == []
    with pytest.raises(DataError, match="has no sidecar"):
        written(tmp_path, scores, strict=True)


def test_a_dry_run_counts_and_writes_nothing_and_the_same_call_again_has_nothing_to_do(
    tmp_path: Path,
) -> None:
    scores = put(tmp_path / "s.parquet", plain())
    report, _ = written(tmp_path, scores, dry_run=True)
    assert report.summary["keep_count"] == 25
    assert not (tmp_path / "m.parquet").exists()
    first, _ = written(tmp_path, scores)
    assert replace(first, outputs=()) == report
    assert written(tmp_path, scores)[0].summary["nothing_to_do"] is True
    with pytest.raises(MismatchError, match=r"keep: 0\.5 -> 0\.6"):
        written(tmp_path, scores, keep=Keep.parse("0.6"))
    again, _ = written(tmp_path, scores, force=True)
    assert again.outputs == first.outputs, "equal bytes"


@pytest.mark.parametrize("known", [[], [3.0, 4.0], [-1.0, 4.0]])
def test_an_aum_that_is_none_is_as_noisy_row_by_row_as_in_memory(tmp_path: Path, known: list[float]) -> None:
    aum = np.full(50, np.nan, np.float32)
    aum[: len(known)] = known
    scores = put(tmp_path / "s.parquet", plain(aum=aum))
    for keep in ("1", "0.5"):
        same(
            tmp_path, scores=scores, keep=Keep.parse(keep), policy="random", drop_noisy=True, nan="hardest",
            allow_empty_class=True,
        )  # fmt: skip


def shards(folder: Path, columns: dict[str, Any], edges: list[int], names: list[str] | None = None) -> Path:
    folder.mkdir()
    n = len(columns["index"])
    for number, (a, b) in enumerate(itertools.pairwise([0, *edges, n])):
        part = {name: values[a:b] for name, values in columns.items()}
        name = names[number] if names else f"part-{number:05d}.parquet"
        put(folder / name, part, group=8)
    return folder


def test_shards_of_a_table_give_what_the_table_gives(tmp_path: Path) -> None:
    columns = plain(50)
    whole = put(tmp_path / "whole.parquet", columns)
    names = ["z.parquet", "a.parquet", "m.parquet"]  # in the order of the index, not of the names
    parts = shards(tmp_path / "parts", columns, [13, 30], names)
    for options in (
        {},
        {"policy": "random"},
        {"policy": "ccs", "keep": Keep.parse("0.3")},
        {"balance": True},
    ):
        written(tmp_path, whole, "one.parquet", force=True, **options)
        wanted = ManifestTable.read(tmp_path / "one.parquet").data
        for scores in (parts, parts / "*.parquet"):
            written(tmp_path, scores, "several.parquet", force=True, **options)
            assert ManifestTable.read(tmp_path / "several.parquet").data.to_pydict() == wanted.to_pydict()
        written(tmp_path, parts, "kept", force=True, **options)
        assert ManifestTable.read(tmp_path / "kept").data.to_pydict() == wanted.to_pydict()
        for name in names:
            alone = ManifestTable.read(tmp_path / "kept" / name).data["index"].to_pylist()
            theirs = parquet.read(parts / name, ["index"])["index"].to_pylist()
            assert alone == [index for index in wanted["index"].to_pylist() if index in set(theirs)]
    run(Config(scores=parts, out=tmp_path / "small.parquet", **HARDEST), Silent())
    assert "keep_rank" in ManifestTable.read(tmp_path / "small.parquet").data.column_names


def test_a_folder_of_manifests_is_finished_when_its_sidecar_says_so(tmp_path: Path) -> None:
    parts = shards(tmp_path / "parts", plain(50), [20])
    report, _ = written(tmp_path, parts, "kept")
    made = [ManifestTable.read(Path(output.path)).data.num_rows for output in report.outputs]
    assert made == [output.rows for output in report.outputs]
    assert sum(made) == 25
    assert written(tmp_path, parts, "kept")[0].summary["nothing_to_do"] is True
    with pytest.raises(MismatchError, match=r"keep: 0\.5 -> 0\.6"):
        written(tmp_path, parts, "kept", keep=Keep.parse("0.6"))
    kept = tmp_path / "kept" / "part-00001.parquet"
    untouched = (tmp_path / "kept" / "part-00000.parquet").stat().st_mtime_ns
    kept.unlink()
    with pytest.raises(DataError, match="unfinished or changed"):
        ManifestTable.read(tmp_path / "kept")
    written(tmp_path, parts, "kept")
    assert ManifestTable.read(tmp_path / "kept").data.num_rows == 25
    assert (tmp_path / "kept" / "part-00000.parquet").stat().st_mtime_ns == untouched, (
        "what is finished stays"
    )
    (tmp_path / "kept" / "_manifest.audit.json").unlink()
    with pytest.raises(DataError, match=r"has no _manifest\.audit\.json"):
        ManifestTable.read(tmp_path / "kept")


def test_one_manifest_and_a_folder_of_the_same_name_stand_side_by_side(tmp_path: Path) -> None:
    parts = shards(tmp_path / "parts", plain(50), [20])
    for out in ("kept.parquet", "kept", "kept.parquet", "kept"):
        written(tmp_path, parts, out)
    one, all_ = (ManifestTable.read(tmp_path / name).data for name in ("kept.parquet", "kept"))
    assert one["index"].to_pylist() == all_["index"].to_pylist()


class Meddler(Silent):
    """Replaces the scores once the pass that writes has begun."""

    def __init__(self, scores: Path, other: Path) -> None:
        super().__init__()
        self.scores, self.other, self.phase = scores, other, ""

    def start(self, phase: str, total: int, unit: str) -> None:
        self.phase = phase

    def advance(self, done: int, **facts: object) -> None:
        if self.phase == "pass 4" and self.other.exists():
            self.other.replace(self.scores)


@pytest.mark.parametrize("out", ["m.parquet", "m"])
def test_scores_that_change_while_they_are_read_leave_no_manifest(tmp_path: Path, out: str) -> None:
    parts, other = tmp_path / "parts", tmp_path / "other.parquet"
    parts.mkdir()
    scores = parts / "part-00001.parquet"
    same_layout = {"row_group_size": 8, "compression": "none", "use_dictionary": False}
    for path, index in ((parts / "part-00000.parquet", 0), (scores, 32), (other, 5000)):
        rows = np.arange(32)
        pq.write_table(pa.table({"index": rows + index, "aum": rows.astype(np.float32)}), path, **same_layout)
    meddler = Meddler(scores, other)
    with Threads(1, progress=meddler) as threads, pytest.raises(DataError, match=r"part-00001.*was changed"):
        run(Config(scores=parts, out=tmp_path / out, **HARDEST), meddler, threads)
    assert not other.exists(), "the scores were replaced"
    with pytest.raises((DataError, UsageError)):
        ManifestTable.read(tmp_path / out)


def test_what_is_no_shard_of_the_same_table_is_refused(tmp_path: Path) -> None:
    parts = shards(tmp_path / "parts", plain(50), [20])
    pq.write_table(pa.table({"index": [900], "aum": [1.0]}), parts / "other.parquet")
    with pytest.raises(MismatchError, match="is no shard of the table"):
        written(tmp_path, parts)
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match="There is no table in"):
        written(tmp_path, tmp_path / "empty")
    with pytest.raises(UsageError, match="--ranks"):
        written(tmp_path, parts, "kept", ranks=True)
    with pytest.raises(UsageError, match="is an input"):
        written(tmp_path, tmp_path / "parts", "parts")
    with pytest.raises(UsageError, match="among the shards"):
        written(tmp_path, tmp_path / "parts", "parts/kept.parquet")


def test_what_the_footer_states_of_a_strangers_table_is_not_believed(tmp_path: Path) -> None:
    columns = plain(30, status=["ok"] * 29 + ["unreadable"])
    same(tmp_path, scores=put(tmp_path / "a.parquet", columns, ours=False), **HARDEST)
    report, _ = written(tmp_path, tmp_path / "a.parquet", keep=Keep.parse("1.0"))
    assert report.summary["dropped"] == {"unreadable": 1}
    assert report.summary["rankable"] == 29
