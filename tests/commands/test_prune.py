"""``audit prune`` as a function: what is kept, what is said, what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dataset_audit.commands.prune import Config, run
from dataset_audit.errors import DataError, MismatchError, UsageError
from dataset_audit.images.dataset import open_dataset
from dataset_audit.images.scan import scan
from dataset_audit.progress import Silent
from dataset_audit.report.document import Line, Report, Table
from dataset_audit.select.budget import Keep
from dataset_audit.tables import sidecar
from dataset_audit.tables.manifest import ManifestTable
from dataset_audit.tables.provenance import Provenance
from dataset_audit.tables.scores import ScoreTable

N = 60


def columns(n: int = N) -> dict[str, Any]:
    rng = np.random.default_rng(0)
    forgetting = rng.integers(0, 5, n).astype(np.float32)
    never = np.zeros(n, bool)
    forgetting[:3], never[:3] = 30, True
    return {
        "index": np.arange(n),
        "uid": [f"{value:032x}" for value in rng.choice(10**9, n, replace=False)],
        "label": np.arange(n) % 3,
        "class_name": [("cat", "dog", "ship")[i % 3] for i in range(n)],
        "status": ["ok"] * n,
        "presentations": np.full(n, 30),
        "forgetting": forgetting,
        "forgetting_events": np.where(never, 0, forgetting).astype(np.float32),
        "never_learned": never,
        "aum": rng.normal(1, 2, n).astype(np.float32),
        "dual": rng.random(n).astype(np.float32),
        "dual_confidence": rng.random(n).astype(np.float32),
    }


def write(path: Path, data: dict[str, Any] | None = None, *, trained: bool = True, **provenance: Any) -> Path:
    data = data or columns()
    n = len(data["index"])
    origin = Provenance(
        **{
            "spec": "drawn",
            "fingerprint": "f" * 64,
            "n": n,
            "class_names": ("cat", "dog", "ship"),
            **provenance,
        }
    )
    facts = {"trained": trained}
    ScoreTable.of(data, origin).write(
        path, document=sidecar.document("scores", path, rows=n, config={}, facts=facts)
    )
    return path


def prune(tmp_path: Path, keep: str = "0.5", **options: Any) -> tuple[Report, Silent]:
    scores = options.pop("scores", None) or write(tmp_path / "scores.parquet")
    progress = Silent()
    options = {"out": tmp_path / "manifest.parquet", **options}
    return run(Config(scores=scores, keep=Keep.parse(keep), **options), progress), progress


def kept(tmp_path: Path) -> list[int]:
    table = ManifestTable.read(tmp_path / "manifest.parquet").data
    return table.filter(table["keep"])["index"].to_pylist()  # type: ignore[no-any-return]


def line(report: Report, label: str) -> tuple[str, ...]:
    return next(item.cells for item in report.items if isinstance(item, Line) and item.label == label)


def test_the_default_keeps_never_learned_first_then_forgetting_then_the_smallest_margin(
    tmp_path: Path,
) -> None:
    report, _ = prune(tmp_path, policy="hardest")
    data = columns()
    wanted = sorted(range(N), key=lambda i: (-data["forgetting"][i], data["aum"][i]))[:30]
    assert kept(tmp_path) == sorted(wanted)
    assert {0, 1, 2} <= set(kept(tmp_path))
    assert report.summary["by"] == ["forgetting", "aum"]
    assert report.outputs[0].rows == 30


def test_the_plain_count_of_events_is_never_ranked_by(tmp_path: Path) -> None:
    prune(tmp_path, policy="hardest", by=("forgetting_events",))
    assert {0, 1, 2} <= set(kept(tmp_path))


def test_a_recommended_column_is_used_and_said(tmp_path: Path) -> None:
    scores = write(tmp_path / "s.parquet", recommended={"by": "aum", "agreement": 0.94, "with": "40 epochs"})
    report, _ = prune(tmp_path, policy="hardest", scores=scores)
    assert kept(tmp_path) == sorted(np.argsort(columns()["aum"], kind="stable")[:30].tolist())
    assert "recommended by its recipe, agreement 0.94" in " ".join(line(report, "by"))


@pytest.mark.parametrize("policy", ["hardest", "easiest", "random", "window", "ccs", "dual", "auto"])
@pytest.mark.parametrize("keep", ["1", "7", "0.1", "50%", "1.0"])
@pytest.mark.parametrize("balance", [False, True])
def test_sizes_are_exact_for_every_policy(tmp_path: Path, policy: str, keep: str, balance: bool) -> None:
    report, _ = prune(tmp_path, keep, policy=policy, balance=balance, allow_empty_class=True)
    count = Keep.parse(keep).count(N)
    assert len(kept(tmp_path)) == count == report.summary["keep_count"]
    document = sidecar.read(tmp_path / "manifest.parquet")
    assert document["summary"]["keep_count"] == count  # type: ignore[index]


def test_the_manifest_carries_ranks_weights_reasons_and_the_score(tmp_path: Path) -> None:
    prune(tmp_path, "0.5", policy="hardest", all_rows=True)
    table = ManifestTable.read(tmp_path / "manifest.parquet").data.to_pydict()
    assert table["index"] == list(range(N))
    inside = [i for i in range(N) if table["keep"][i]]
    assert sorted(table["keep_rank"][i] for i in inside) == list(range(30))
    assert all(table["keep_rank"][i] is None for i in range(N) if i not in inside)
    assert [table["weight"][i] for i in range(N)] == [1.0 if i in inside else 0.0 for i in range(N)]
    assert {table["reason"][i] for i in inside} == {"policy"}
    assert {table["reason"][i] for i in range(N) if i not in inside} == {"easy"}
    ranked = sorted(inside, key=lambda i: table["keep_rank"][i])
    assert [table["forgetting"][i] for i in ranked] == sorted(
        (table["forgetting"][i] for i in ranked), reverse=True
    )
    assert "class_name" in table
    assert "aum" in table


def test_bad_rows_are_never_kept_and_are_counted_by_reason(tmp_path: Path) -> None:
    data = columns()
    data["status"] = ["unreadable" if i in {4, 5} else "unlabelled" if i == 6 else "ok" for i in range(N)]
    for name in ("forgetting", "aum"):
        data[name][[4, 5, 6]] = np.nan
    data["presentations"][[4, 5, 6]] = 0
    report, _ = prune(tmp_path, "1.0", scores=write(tmp_path / "s.parquet", data))
    assert report.summary["dropped"] == {"unreadable": 2, "unscored": 1}
    assert report.summary["keep_count"] == 57
    assert not {4, 5, 6} & set(kept(tmp_path))


def test_smaller_keeps_are_subsets_where_nesting_is_promised(tmp_path: Path) -> None:
    sets = []
    for keep in ("0.2", "0.5", "0.8"):
        report, _ = prune(tmp_path, keep, policy="hardest", force=True)
        assert report.summary["nested"] is True
        sets.append(set(kept(tmp_path)))
    assert sets[0] < sets[1] < sets[2]


def test_shuffled_rows_give_the_same_examples(tmp_path: Path) -> None:
    data = columns()
    shuffle = np.random.default_rng(3).permutation(N)
    moved = {
        name: [values[i] for i in shuffle] if isinstance(values, list) else values[shuffle]
        for name, values in data.items()
        if name != "index"
    } | {"index": np.arange(N)}
    for policy in ("hardest", "random", "ccs", "dual"):
        uids = []
        for values in (data, moved):
            prune(tmp_path, policy=policy, scores=write(tmp_path / "s.parquet", values), force=True)
            uids.append(set(ManifestTable.read(tmp_path / "manifest.parquet").data["uid"].to_pylist()))
        assert uids[0] == uids[1], policy


def test_two_runs_give_equal_bytes(tmp_path: Path) -> None:
    for name in ("a", "b"):
        prune(tmp_path, policy="ccs", out=tmp_path / f"{name}.parquet")
    assert (tmp_path / "a.parquet").read_bytes() == (tmp_path / "b.parquet").read_bytes()


def test_an_emptied_class_is_refused_by_name_unless_allowed(tmp_path: Path) -> None:
    data = columns()
    data["forgetting"] = np.where(data["label"] == 2, 0, 9).astype(np.float32)
    scores = write(tmp_path / "s.parquet", data)
    with pytest.raises(UsageError, match="keep 20 of 60 would empty 1 class: ship"):
        prune(tmp_path, "20", scores=scores, policy="hardest")
    prune(tmp_path, "20", scores=scores, policy="hardest", allow_empty_class=True)
    prune(tmp_path, "20", scores=scores, policy="hardest", balance=True, force=True)
    labels = [i % 3 for i in kept(tmp_path)]
    assert np.bincount(labels).tolist() == [7, 7, 6]


def test_noisy_examples_go_first_and_the_size_stays(tmp_path: Path) -> None:
    report, _ = prune(tmp_path, "0.5", policy="hardest", drop_noisy=True)
    aum = columns()["aum"]
    assert (aum[kept(tmp_path)] >= 0).all()
    assert report.summary["dropped"]["noisy"] == int((aum < 0).sum())  # type: ignore[index]
    with pytest.raises(UsageError, match="--drop-noisy leaves"):
        prune(tmp_path, "0.95", drop_noisy=True, force=True)


def test_class_shares_before_and_after_are_shown_and_a_large_move_is_warned_of(tmp_path: Path) -> None:
    data = columns()
    data["forgetting"] = (data["label"] == 0).astype(np.float32)
    report, _ = prune(tmp_path, "0.5", scores=write(tmp_path / "s.parquet", data), policy="hardest")
    table = next(item for item in report.items if isinstance(item, Table))
    assert {row[0]: row[1] for row in table.rows} == {"cat": "33.3 %", "dog": "33.3 %", "ship": "33.3 %"}
    assert next(row[4] for row in table.rows if row[0] == "cat") == "100.0 %"
    assert [warning.id for warning in report.warnings] == ["W-shares"]


def test_a_boundary_of_ties_is_counted(tmp_path: Path) -> None:
    data = columns()
    data["forgetting"] = np.zeros(N, np.float32)
    report, progress = prune(tmp_path, "0.5", scores=write(tmp_path / "s.parquet", data), policy="hardest")
    assert line(report, "boundary") == ("forgetting 0: 60 examples tie there, 30 of them kept",)
    assert "W-ties" in [id_ for id_, _ in progress.warnings]


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"by": ("auc",)}, "No column 'auc'; nearest: aum"),
        ({"by": ("aum",), "hard": "high"}, "contradicts"),
        ({"by": ("dual_confidence",)}, "does not rank"),
        ({"by": ("shoot",)}, "Which end of 'shoot' is hard"),
    ],
)
def test_a_wrong_column_is_explained(tmp_path: Path, options: dict[str, Any], says: str) -> None:
    scores = write(tmp_path / "s.parquet", columns() | {"shoot": np.arange(N)})
    with pytest.raises(UsageError, match=says):
        prune(tmp_path, scores=scores, **options)


@pytest.mark.parametrize("hard", ["high", "low"])
def test_a_foreign_column_ranks_once_its_hard_end_is_named(tmp_path: Path, hard: str) -> None:
    scores = write(tmp_path / "s.parquet", columns() | {"shoot": np.arange(N)})
    prune(tmp_path, "20", scores=scores, by=("shoot",), hard=hard, policy="hardest")
    assert kept(tmp_path) == (list(range(40, 60)) if hard == "high" else list(range(20)))


def test_anybodys_table_with_an_index_and_a_number_can_be_pruned(tmp_path: Path) -> None:
    path = tmp_path / "theirs.parquet"
    pq.write_table(pa.table({"index": range(20), "mine": [float(i) for i in range(20)]}), path)
    report, progress = prune(tmp_path, "5", scores=path, by=("mine",), hard="high", policy="hardest")
    assert kept(tmp_path) == [15, 16, 17, 18, 19]
    assert "W-foreign" in [id_ for id_, _ in progress.warnings]
    assert report.outputs[0].rows == 5


def test_moderate_reads_embeddings_from_numpy_and_parquet_and_refuses_a_wrong_length(tmp_path: Path) -> None:
    vectors = np.random.default_rng(0).normal(size=(N, 4)).astype(np.float32)
    np.save(tmp_path / "e.npy", vectors)
    pq.write_table(pa.table({"e": list(vectors)}), tmp_path / "e.parquet")
    np.save(tmp_path / "short.npy", vectors[:9])
    results = []
    for name in ("e.npy", "e.parquet"):
        prune(tmp_path, "12", policy="moderate", embeddings=tmp_path / name, force=True)
        results.append(kept(tmp_path))
    assert results[0] == results[1]
    assert len(results[0]) == 12
    with pytest.raises(MismatchError, match="9 rows"):
        prune(tmp_path, "12", policy="moderate", embeddings=tmp_path / "short.npy", force=True)
    with pytest.raises(UsageError, match="moderate needs embeddings"):
        prune(tmp_path, "12", policy="moderate", force=True)


def test_pickled_embeddings_are_not_opened(tmp_path: Path) -> None:
    np.save(tmp_path / "e.npy", np.array([{"a": 1}] * N, dtype=object), allow_pickle=True)
    with pytest.raises(DataError, match="not a readable array"):
        prune(tmp_path, "12", policy="moderate", embeddings=tmp_path / "e.npy")


def test_scores_of_a_run_that_learned_nothing_are_refused(tmp_path: Path) -> None:
    scores = write(tmp_path / "s.parquet", trained=False)
    with pytest.raises(UsageError, match="learned nothing"):
        prune(tmp_path, scores=scores)
    prune(tmp_path, scores=scores, force=True)


def test_a_dry_run_reports_and_writes_nothing(tmp_path: Path) -> None:
    scores = write(tmp_path / "s.parquet")
    before = sorted(p.name for p in tmp_path.iterdir())
    report, _ = prune(tmp_path, scores=scores, dry_run=True)
    assert report.summary["keep_count"] == 30
    assert sorted(p.name for p in tmp_path.iterdir()) == before


def test_the_same_call_again_has_nothing_to_do_and_another_is_refused(tmp_path: Path) -> None:
    scores = write(tmp_path / "s.parquet")
    prune(tmp_path, scores=scores)
    stamp = (tmp_path / "manifest.parquet").stat().st_mtime_ns
    report, _ = prune(tmp_path, scores=scores)
    assert report.summary["nothing_to_do"] is True
    assert (tmp_path / "manifest.parquet").stat().st_mtime_ns == stamp
    with pytest.raises(MismatchError, match=r"keep: 0\.5 -> 0\.6"):
        prune(tmp_path, "0.6", scores=scores)
    prune(tmp_path, "0.6", scores=scores, force=True)
    assert len(kept(tmp_path)) == 36


def digits_scores(path: Path) -> Path:
    dataset = open_dataset("digits")
    found = scan(dataset, workers=1, memory=2**30, progress=Silent())
    rng = np.random.default_rng(0)
    data = {
        "index": np.arange(len(dataset)),
        "uid": found.uid,
        "label": np.asarray(dataset.labels),
        "status": found.status,
        "presentations": np.full(len(dataset), 3),
        "forgetting": rng.random(len(dataset)).astype(np.float32),
    }
    names = tuple(dataset.class_names)
    return write(path, data, spec="digits", fingerprint=found.fingerprint, class_names=names)


def test_scores_are_compared_with_the_data_set_that_is_named(tmp_path: Path) -> None:
    scores = digits_scores(tmp_path / "s.parquet")
    prune(tmp_path, scores=scores, dataset="digits")
    dataset = open_dataset("digits")
    changed = dataset.array.copy()  # type: ignore[union-attr]
    changed[[7, 9]] = 255 - changed[[7, 9]]
    np.savez(tmp_path / "changed.npz", x=changed, y=dataset.labels)
    np.savez(tmp_path / "short.npz", x=changed[:100], y=dataset.labels[:100])
    shuffle = np.random.default_rng(0).permutation(len(dataset))
    np.savez(tmp_path / "moved.npz", x=dataset.array[shuffle], y=dataset.labels[shuffle])  # type: ignore[index]
    for name, says in (("changed", "index 7"), ("short", "1,797 examples"), ("moved", "index 0")):
        with pytest.raises(MismatchError) as raised:
            prune(tmp_path, scores=scores, dataset=str(tmp_path / f"{name}.npz"), force=True)
        assert says in str(raised.value)
        assert raised.value.exit_code == 2
    prune(tmp_path, scores=scores, dataset=str(tmp_path / "moved.npz"), match="uid", force=True)
    with pytest.raises(MismatchError, match="2 of 1,797 rows"):
        prune(tmp_path, scores=scores, dataset=str(tmp_path / "changed.npz"), match="uid", force=True)


def test_uid_words_are_the_halves_of_the_uid() -> None:
    uids = ["0123456789abcdef" + "fedcba9876543210", None, "short", "0" * 31 + "g", "f" * 32]
    origin = Provenance(spec="", fingerprint="", n=5, class_names=())
    words = ScoreTable.of({"index": np.arange(5), "uid": uids}, origin).uid_words()
    assert words is not None
    wanted = [
        [int(u[:16], 16), int(u[16:], 16)]
        if u and u.strip("0123456789abcdef") == "" and len(u) == 32
        else [0, 0]
        for u in uids
    ]
    assert words.tolist() == wanted


@pytest.mark.parametrize(
    ("spec", "beta"), [("data/cifar10", 0.1), ("cifar100", 0.2), ("photos", 0.1), ("ImageNet", 0.2)]
)
def test_the_published_cutoff_goes_by_the_data_set_s_name(tmp_path: Path, spec: str, beta: float) -> None:
    scores = write(tmp_path / "s.parquet", spec=spec)
    report, _ = prune(tmp_path, "0.3", scores=scores, policy="ccs")
    assert report.summary["beta"] == pytest.approx(beta)
    assert report.summary["dropped"]["beta"] == int(beta * N)  # type: ignore[index]
