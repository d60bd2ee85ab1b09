"""The commands on a Ray cluster of two machines, both of them this one: what one process writes."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

SCORING = (
    "forgetting",
    "data.npz",
    "--recipe",
    "fast",
    "--batch-size",
    "24",
    "--lr",
    "0.02",
    "--epochs",
    "2",
)


@pytest.fixture
def address() -> Iterator[str]:
    """Two machines of one core each."""
    pytest.importorskip("ray", reason="Ray is not installed: pip install '.[cluster]'")
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    cluster.add_node(num_cpus=1)
    yield cluster.address
    cluster.shutdown()


def audit(folder: Path, *line: str, address: str = "") -> str:
    """Run a command, on the cluster that has this address; return what it says beside its result."""
    done = subprocess.run(
        [sys.executable, "-m", "dataset_audit", *line, *(("--engine", "ray") if address else ())],
        cwd=folder, env={**os.environ, "RAY_ADDRESS": address}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return " ".join(done.stderr.split())


def close(one: pa.ChunkedArray, two: pa.ChunkedArray) -> bool:
    if not pa.types.is_floating(one.type):
        return bool(one.equals(two))
    return np.allclose(one.to_numpy(), two.to_numpy(), rtol=1e-5, atol=1e-5, equal_nan=True)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_two_machines_score_and_prune_as_one_process_does(address: str, tmp_path: Path) -> None:
    rng, labels = np.random.default_rng(0), np.arange(90) % 3
    images = (rng.integers(0, 120, (90, 28, 28, 1)) + 60 * labels[:, None, None, None]).astype(np.uint8)
    np.savez(tmp_path / "data.npz", images=images, labels=labels, class_names=["a", "b", "c"])
    seeds, shared = ("--seeds", "2", "--model", "small"), ("--model", "mnist-net")
    for at, name in (("", "one"), (address, "two")):
        (tmp_path / name).mkdir()
        audit(tmp_path, *SCORING, *seeds, "--out", f"{name}/scores.parquet", address=at)
        audit(tmp_path, "prune", name, "--out", f"kept-{name}", address=at)
        said = audit(tmp_path, *SCORING, *shared, "--out", f"shared-{name}.parquet", address=at)
        assert ("examples shared among 2 processes" in said) == (name == "two")
    for folder in ("", "kept-"):
        one, two = ((tmp_path / f"{folder}{each}" / "scores.parquet").read_bytes() for each in ("one", "two"))
        assert one == two
    one, two = (pq.read_table(tmp_path / f"shared-{each}.parquet") for each in ("one", "two"))
    assert one.column_names == two.column_names
    assert [name for name in one.column_names if not close(one[name], two[name])] == []
