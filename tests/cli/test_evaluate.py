"""``audit evaluate`` as a process: exit codes, one JSON document, a kill, screens."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from dataset_audit.images.dataset import open_dataset
from dataset_audit.images.identity import uid_array
from dataset_audit.tables import sidecar
from dataset_audit.tables.provenance import Provenance
from dataset_audit.tables.scores import ScoreTable

ROWS = 48
ARMS = ("--arms", "full,random", "--curve", "0.5", "--seeds", "2", "--epochs", "2", "--batch-size", "24")
NETWORK = ("--model", "small", "--recipe", "fast-plain", "--keep", "0.5", "--policies", "hardest")


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A folder with train.npz, test.npz and scores.parquet of it."""
    rng = np.random.default_rng(0)
    for name, n in (("train", ROWS), ("test", 20)):
        labels = np.arange(n) % 2
        images = (rng.integers(0, 150, (n, 8, 8, 1)) + 60 * labels[:, None, None, None]).astype(np.uint8)
        np.savez(tmp_path / f"{name}.npz", images=images, labels=labels, class_names=np.array(["ant", "bee"]))
    dataset = open_dataset(str(tmp_path / "train.npz"))
    table = ScoreTable.of(
        {
            "index": np.arange(ROWS),
            "uid": [uid_array(dataset.array[row]) for row in range(ROWS)],  # type: ignore[index]
            "label": dataset.labels,
            "class_name": [dataset.class_names[label] for label in dataset.labels],
            "status": ["ok"] * ROWS,
            "presentations": np.full(ROWS, 9, np.int32),
            "aum": rng.normal(0, 1, ROWS),
        },
        Provenance(spec="train.npz", fingerprint="", n=ROWS, class_names=("ant", "bee"), seeds=(1,)),
    )
    document = sidecar.document(
        "scores", tmp_path / "scores.parquet", rows=ROWS, config={},
        facts={"trained": True, "run": {"seconds": 3.0}},
    )  # fmt: skip
    table.write(tmp_path / "scores.parquet", document=document)
    return tmp_path


def words(*more: str) -> tuple[str, ...]:
    return ("evaluate", "--scores", "scores.parquet", "--test", "test.npz", *NETWORK, *ARMS, *more)


def test_the_result_is_one_document(audit, place: Path) -> None:
    done = audit(*words("--json"))
    assert done.code == 0, done.err
    document = json.loads(done.out)
    found = document["result"]
    assert {one["arm"] for one in found["arms"]} == {"full", "curve", "hardest", "random"}
    assert found["against_random"][0]["verdict"] in {"no difference shown", "equivalent", "better", "worse"}
    assert found["scoring_seconds"] == 3.0
    assert found["outputs"][0]["rows"] == 8
    assert json.loads(audit(*words("--json")).out)["result"]["nothing_to_do"] is True


@pytest.mark.parametrize("width", [80, 120])
def test_the_screen_fits_its_width(audit, place: Path, width: int) -> None:
    done = audit(*words(), COLUMNS=str(width))
    assert done.code == 0, done.err
    assert max(map(len, done.out.splitlines())) <= width
    assert "verdict" in done.out
    assert "to random" in done.out
    assert "plan" in done.err


def test_each_kind_of_bad_input_ends_with_its_own_code_and_says_what_to_do(audit, place: Path) -> None:
    (place / "broken.parquet").write_bytes((place / "scores.parquet").read_bytes()[:-40])
    for name, code, said in (
        ("evaluate --scores broken.parquet --test test.npz", 3, "broken.parquet"),
        ("evaluate --scores scores.parquet --keep 1.5", 2, "more than everything"),
        ("evaluate --scores scores.parquet --test test.npz --device cuda:9", 4, "not on this machine"),
    ):
        done = audit(*name.split())
        assert done.code == code, (name, done.err)
        assert said in done.err, (name, done.err)
        assert "Traceback" not in done.err
    assert not (place / "evaluation.parquet").exists()


def test_a_kill_in_an_arm_loses_no_finished_one_and_changes_no_figure(audit, place: Path) -> None:
    longer = ("--seeds", "3", "--epochs", "6")
    whole = audit(*words(*longer, "--out", "whole.parquet", "--json"))
    assert whole.code == 0, whole.err
    process = subprocess.Popen(
        [sys.executable, "-m", "dataset_audit", *words(*longer)],
        cwd=place,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    unfinished = place / ".evaluation.parquet.runs"
    ends = time.monotonic() + 60
    while len(list(unfinished.glob("*.parquet"))) < 3 and process.poll() is None and time.monotonic() < ends:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    kept = {path.name: path.read_bytes() for path in unfinished.glob("*.parquet")}
    assert len(kept) >= 3
    again = audit(*words(*longer, "--json"))
    assert again.code == 0, again.err
    first, second = (json.loads(done.out)["result"] for done in (whole, again))
    assert first["content_sha256"] == second["content_sha256"]
    assert second["recomputed"]["epochs_trained"] < first["recomputed"]["epochs_trained"]
    assert not unfinished.exists()
