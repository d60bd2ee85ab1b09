"""``audit bias`` as a process: exit codes, one JSON document, kills, closed pipes, screens."""

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
from PIL import Image

QUICK = ("--probes", "header,mean-rgb,thumbnail")


@pytest.fixture
def two(tmp_path: Path) -> tuple[str, str]:
    """Two folders of 36 pictures, one of them redder."""
    rng = np.random.default_rng(3)
    for name, red in (("left", 0), ("right", 60)):
        folder = tmp_path / name
        folder.mkdir()
        for number in range(36):
            pixels = rng.integers(0, 190, (20, 24, 3)).astype(np.int16)
            pixels[..., 0] += red
            Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{number}.png")
    return "left", "right"


def test_each_kind_of_bad_input_ends_with_its_own_code_and_says_what_to_do(
    audit, two: tuple[str, str], tmp_path: Path
) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "notes.txt").write_text("no pictures")
    for name, code, said in (
        ("left", 2, "alone: a source is told apart"),
        ("left left", 2, "are the same"),
        ("left nowhere", 2, "no such path"),
        ("left notes.txt", 2, "not a data set"),
        ("left empty", 3, "no image here"),
        ("left right --probes nose", 2, "No probe called 'nose'"),
        ("left right --resamplings 2", 2, "3 to 100"),
        ("left right --model convnext_tinny", 2, "near: convnext_tiny"),
        ("left right --model probe-net --pretrained", 2, "no published weights"),
        ("left right --fail-above 0.1 --no-controls", 2, "--no-controls leaves it out"),
    ):
        done = audit("bias", *name.split(), *(() if "--probes" in name or "--model" in name else QUICK))
        assert done.code == code, (name, done.err)
        assert said in done.err, (name, done.err)
        assert done.out == ""
        assert "Traceback" not in done.err
    assert not (tmp_path / "bias.parquet").exists()


def test_a_plan_writes_nothing(audit, two: tuple[str, str], tmp_path: Path) -> None:
    done = audit("bias", *two, *QUICK, "--dry-run")
    assert done.code == 0
    assert "left 36 · right 36 · 36 of each" in done.err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["left", "right"]


def test_a_failed_gate_is_one_document_with_everything_that_was_found(
    audit, two: tuple[str, str], tmp_path: Path
) -> None:
    done = audit("bias", *two, *QUICK, "--json", "--fail-above", "-1")
    assert done.code == 1, done.err
    document = json.loads(done.out)
    assert document["exit_code"] == 1
    assert document["error"]["id"] == "E-gate"
    found = document["result"]
    assert found["sources"] == ["left", "right"]
    assert found["headline"]["reading"]
    assert {one["probe"] for one in found["probes"]} == {"header", "mean-rgb", "thumbnail"}
    assert {one["control"] for one in found["probes"]} >= {"raw", "permuted", "noise", "recode", "together"}
    assert (tmp_path / "bias.parquet").exists()


@pytest.mark.parametrize("width", [80, 120])
def test_the_screen_fits_its_width(audit, two: tuple[str, str], width: int) -> None:
    done = audit("bias", *two, *QUICK, COLUMNS=str(width))
    assert done.code == 0, done.err
    assert max(map(len, done.out.splitlines())) <= width
    assert "surviving" in done.out
    assert "control" in done.out


def test_a_kill_between_two_fits_loses_none_of_them_and_changes_no_byte(
    audit, two: tuple[str, str], tmp_path: Path
) -> None:
    whole = audit("bias", *two, *QUICK, "--out", "whole.parquet", "--json")
    assert whole.code == 0, whole.err
    command = [sys.executable, "-m", "dataset_audit", "bias", *two, *QUICK, "--json"]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    process = subprocess.Popen(
        command, cwd=tmp_path, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    finished = tmp_path / ".bias.parquet.runs"
    ends = time.monotonic() + 60
    while len(list(finished.glob("*.parquet"))) < 8 and process.poll() is None and time.monotonic() < ends:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    kept = {path.name: path.stat().st_mtime_ns for path in finished.glob("*.parquet")}
    assert len(kept) >= 8
    assert not (tmp_path / "bias.parquet").exists()
    again = audit("bias", *two, *QUICK, "--json")
    assert again.code == 0, again.err
    assert "finished fits taken over" in again.err
    first, second = (json.loads(done.out)["result"]["outputs"][0]["sha256"] for done in (whole, again))
    assert first == second
    assert not finished.exists()
