"""Several processes, one task per shard: the bytes are those that one process writes."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dataset_audit.cluster.on_ray import called
from dataset_audit.cluster.tasks import Tasks
from dataset_audit.commands.prune import Config, run
from dataset_audit.errors import DataError, EnvironmentProblem
from dataset_audit.progress import Silent
from dataset_audit.select.budget import Keep
from dataset_audit.select.threads import Threads
from dataset_audit.tables.manifest import ManifestTable


class Processes:
    """Two workers that share nothing with this process but the disk."""

    def __init__(self) -> None:
        self.pool = ProcessPoolExecutor(2, mp_context=get_context("forkserver"))

    def submit(self, task: Callable[[], object]) -> Future[object]:
        return self.pool.submit(task)

    def result(self, handle: Future[object]) -> object:
        return handle.result()


@pytest.fixture(scope="module")
def workers() -> Iterator[Processes]:
    processes = Processes()
    yield processes
    processes.pool.shutdown()


@pytest.fixture(scope="module")
def scores(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three shards of one table, with ties across them."""
    folder = tmp_path_factory.mktemp("scores")
    rng, n = np.random.default_rng(0), 600
    table = pa.table(
        {
            "index": np.arange(n), "uid": [f"{value:032x}" for value in rng.integers(0, 2**62, n)],
            "label": rng.integers(0, 3, n).astype(np.int32), "score": rng.integers(0, 5, n).astype(np.float32),
            "aum": rng.normal(size=n),
        }
    )  # fmt: skip
    for number, (first, rows) in enumerate([(0, 250), (250, 50), (300, 300)]):
        pq.write_table(table.slice(first, rows), folder / f"part-{number}.parquet", row_group_size=64)
    return folder


WAYS: list[dict[str, Any]] = [
    {"policy": "hardest", "by": ("score",), "hard": "high"},
    {"policy": "easiest", "by": ("score", "aum"), "hard": "low", "balance": True},
    {"policy": "random", "by": ("aum",)},
    {"policy": "ccs", "by": ("aum",), "beta": 0.1, "balance": True},
]


def bytes_of(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.glob("*.parquet")}


def same_by(engine: Any, scores: Path, tmp_path: Path, ways: list[dict[str, Any]]) -> None:
    """Check that an engine writes what threads write, in one manifest and in one per shard, byte for byte."""
    for number, way in enumerate(ways):
        with Threads(2) as threads:
            for name, each in (("threads", threads), ("cluster", engine)):
                for out in (tmp_path / f"{name}-{number}.parquet", tmp_path / f"{name}-{number}"):
                    run(Config(scores=scores, out=out, keep=Keep.parse("0.3"), **way), Silent(), each)
        one, other = (tmp_path / f"{name}-{number}" for name in ("threads", "cluster"))
        assert one.with_suffix(".parquet").read_bytes() == other.with_suffix(".parquet").read_bytes()
        assert bytes_of(one) == bytes_of(other)
        assert len(bytes_of(one)) == 3
        assert ManifestTable.read(other).data.num_rows == 180


def test_two_processes_write_what_one_writes(workers: Processes, scores: Path, tmp_path: Path) -> None:
    same_by(Tasks(workers, in_flight=2), scores, tmp_path, WAYS[1::2])


def test_what_a_task_refuses_is_refused_here(workers: Processes, scores: Path, tmp_path: Path) -> None:
    damaged = tmp_path / "scores"
    damaged.mkdir()
    for path in scores.glob("*.parquet"):
        data = bytearray(path.read_bytes())
        if path.name == "part-2.parquet":
            data[len(data) // 2] ^= 0xFF
        (damaged / path.name).write_bytes(data)
    config = Config(scores=damaged, out=tmp_path / "m.parquet", keep=Keep.parse("0.5"), **WAYS[0])
    with pytest.raises(DataError, match="part-2") as caught:
        run(config, Silent(), Tasks(workers, in_flight=2))
    assert caught.value.exit_code == 3
    assert not (tmp_path / "m.parquet").exists()


def test_a_task_on_the_cluster_runs_in_the_folder_of_who_sent_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # and back
    for folder, found in ((tmp_path / "there", "there"), (tmp_path / "absent", "there")):
        (tmp_path / "there").mkdir(exist_ok=True)
        assert called(lambda: Path.cwd().name, str(folder)) == found


def test_without_ray_the_extra_is_named(
    scores: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(EnvironmentProblem, match="--engine ray needs Ray") as caught:
        run(Config(scores=scores, out=tmp_path / "m.parquet", engine="ray", **WAYS[0]), Silent())
    assert "cluster" in caught.value.do


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_a_cluster_of_two_workers_writes_what_one_process_writes(scores: Path, tmp_path: Path) -> None:
    pytest.importorskip("ray", reason="Ray is not installed: pip install '.[cluster]'")
    from dataset_audit.cluster.on_ray import ray_engine

    with ray_engine(Silent(), workers=2) as engine:
        same_by(engine, scores, tmp_path, WAYS)
