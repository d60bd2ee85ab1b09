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

WAITING = (
    "import sys, time\n"
    "from dataset_audit.commands import prune\n"
    "def run(config, progress):\n"
    "    try:\n"
    "        print('ready', file=sys.stderr, flush=True)\n"
    "        time.sleep(60)\n"
    "    finally:\n"
    "        print('tidied', file=sys.stderr, flush=True)\n"
    "        time.sleep({after})\n"
    "prune.run = run\n"
    "from dataset_audit.cli import main\n"
    "main()\n"
)


def _start(folder: Path, *, after: float = 0) -> subprocess.Popen[bytes]:
    process = subprocess.Popen(
        [sys.executable, "-c", WAITING.format(after=after), "prune", "--keep", "0.5"],
        cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True,
    )  # fmt: skip
    assert process.stderr is not None
    assert process.stderr.readline() == b"ready\n"
    return process


@pytest.mark.parametrize(
    ("number", "code", "name"),
    [
        (signal.SIGINT, -signal.SIGINT, "Ctrl-C"),
        (signal.SIGTERM, 143, "SIGTERM"),
        (signal.SIGHUP, 129, "SIGHUP"),
    ],
)
def test_the_first_signal_tidies_up_and_says_how_to_go_on(
    number: int, code: int, name: str, tmp_path: Path
) -> None:
    """A Ctrl-C ends by the signal itself, so that a shell loop around the command stops too."""
    process = _start(tmp_path)
    os.killpg(process.pid, number)
    out, err = process.communicate(timeout=30)
    assert (process.returncode, out) == (code, b"")
    assert err.decode().splitlines() == [
        "tidied",
        f"error[E-interrupted]: Stopped by {name}; finished work is kept.",
        "  do: audit prune --keep 0.5   (the same command goes on where it was)",
    ]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_second_signal_ends_at_once(number: int, tmp_path: Path) -> None:
    process = _start(tmp_path, after=60)
    os.killpg(process.pid, number)
    assert process.stderr is not None
    assert process.stderr.readline() == b"tidied\n"
    began = time.monotonic()
    os.killpg(process.pid, number)
    process.communicate(timeout=30)
    assert time.monotonic() - began < 5
    assert process.returncode in {-number, 128 + number}


def test_an_ignored_hangup_stays_ignored(tmp_path: Path) -> None:
    """As under nohup."""
    ignoring = "import signal; signal.signal(signal.SIGHUP, signal.SIG_IGN)\n" + WAITING.format(after=0)
    process = subprocess.Popen(
        [sys.executable, "-c", ignoring, "prune"],
        cwd=tmp_path,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    assert process.stderr is not None
    assert process.stderr.readline() == b"ready\n"
    os.killpg(process.pid, signal.SIGHUP)
    time.sleep(0.3)
    assert process.poll() is None
    os.killpg(process.pid, signal.SIGTERM)
    process.communicate(timeout=30)
    assert process.returncode == 143


def test_a_shell_loop_stops_with_the_command(tmp_path: Path) -> None:
    (tmp_path / "run.py").write_text(WAITING.format(after=0))
    loop = f"for i in 1 2 3; do {sys.executable} run.py prune; echo next; done"
    process = subprocess.Popen(
        ["bash", "-c", loop],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    assert process.stderr is not None
    assert process.stderr.readline() == b"ready\n"
    os.killpg(process.pid, signal.SIGINT)
    out, _ = process.communicate(timeout=30)
    assert out == b""


def test_a_stopped_training_goes_on_where_it_was(audit, tmp_path: Path) -> None:
    generator = np.random.default_rng(1)
    labels = np.arange(90) % 3
    images = generator.integers(0, 90, (90, 8, 8)) + 60 * labels[:, None, None]
    np.savez(tmp_path / "drawn.npz", x=images.astype(np.uint8), y=labels)
    arguments = ["forgetting", "drawn.npz", "--epochs", "40", "--batch-size", "30"]
    process = subprocess.Popen(
        [sys.executable, "-m", "dataset_audit", *arguments],
        cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True,
    )  # fmt: skip
    until = time.monotonic() + 60
    while not list(tmp_path.glob(".scores.parquet.runs/seed-1.epoch-*.ckpt")) and time.monotonic() < until:
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGTERM)
    out, err = process.communicate(timeout=30)
    assert (process.returncode, out) == (143, b""), err
    assert b"the same command goes on where it was" in err
    assert not (tmp_path / "scores.parquet").exists()
    done = audit(*arguments, "--json")
    assert "resumed seed-1 after epoch" in done.err
    assert 0 < json.loads(done.out)["result"]["recomputed"]["epochs_trained"] < 40


def test_work_that_stands_still_shows_where_and_goes_on(audit) -> None:
    driver = (
        "import time\n"
        "from dataset_audit.cli import progress\n"
        "from dataset_audit.commands import prune\n"
        "from dataset_audit.report.document import Report\n"
        "progress.STUCK = 0.5\n"
        "def stands_still(config, talk):\n"
        "    talk.start('read', 10, 'images')\n"
        "    time.sleep(1.5)\n"
        "    talk.finish()\n"
        "    return Report('prune', 'done')\n"
        "prune.run = stands_still\n"
        "from dataset_audit.cli import main\n"
        "main()\n"
    )
    done = audit("prune", driver=driver)
    assert done.code == 0
    assert "Timeout" in done.err
    assert "in stands_still" in done.err
