"""Kills `audit forgetting` with SIGKILL again and again and compares the table it ends with; run by a test and by hand.

    python tests/cli/crash_loop.py KILLS SEED      prints one line of JSON

Each round is a folder of its own: the same command is started and killed at a random moment, up to three times, then
left to finish. One process imports everything once and forks, so that kills land in the work and not in imports.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path

import numpy as np

from dataset_audit.cli import console

ARGUMENTS = ["forgetting", "digits.npz", "--epochs", "3", "--seeds", "2", "--batch-size", "32", "-qq"]
MADE = {"scores.parquet", "scores.audit.json"}


def start(folder: Path, data: Path, every: int) -> int:
    """Run the command in a child of its own process group and return its number."""
    child = os.fork()
    if child:
        with suppress(OSError):
            os.setpgid(child, child)  # here too: the kill may come before the child has run at all
        return child
    os.setpgid(0, 0)
    os.chdir(folder)
    null = os.open(os.devnull, os.O_RDWR)
    for descriptor in range(3):
        os.dup2(null, descriptor)
    command = [str(data) if word == "digits.npz" else word for word in ARGUMENTS]
    os._exit(console.run([*command, "--checkpoint-every", str(every)]))


def finish(child: int, seconds: float | None) -> int | None:
    """Wait for the child, or kill its group after some seconds; return its exit code, None when killed."""
    until = None if seconds is None else time.monotonic() + seconds
    while True:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        if until is not None and time.monotonic() >= until:
            os.killpg(child, signal.SIGKILL)
            os.waitpid(child, 0)
            return None
        time.sleep(0.002)


def consistent(folder: Path, table: bytes) -> bool:
    """A killed run leaves no table, or the finished one; the sidecar never comes before it."""
    path = folder / "scores.parquet"
    if (folder / "scores.audit.json").exists() and not path.exists():
        return False
    return not path.exists() or path.read_bytes() == table


def main(kills: int, seed: int) -> dict[str, object]:
    """Return what was counted: kills that landed, rounds, and every violation found."""
    import torch  # noqa: F401
    from torch import _dynamo  # noqa: F401 - imported on first use otherwise, by each child

    from dataset_audit import runs  # noqa: F401
    from dataset_audit.commands import forgetting  # noqa: F401

    draw = random.Random(seed)
    violations: list[str] = []
    landed = rounds = 0
    with tempfile.TemporaryDirectory() as name:
        base = Path(name)
        data = base / "digits.npz"
        generator = np.random.default_rng(1)
        labels = np.arange(120) % 3
        images = generator.integers(0, 90, (120, 8, 8)) + 60 * labels[:, None, None]
        np.savez(data, x=images.astype(np.uint8), y=labels)
        whole = base / "whole"
        whole.mkdir()
        began = time.monotonic()
        if finish(start(whole, data, 1), None) != 0:
            raise SystemExit("the run without kills failed")
        duration = time.monotonic() - began
        table = (whole / "scores.parquet").read_bytes()
        while landed < kills:
            folder = base / f"round-{rounds}"
            folder.mkdir()
            rounds += 1
            every = draw.choice([1, 2])
            for _ in range(3):
                if finish(start(folder, data, every), draw.uniform(0, 1.1 * duration)) is not None:
                    break  # it ended before its kill
                landed += 1
                if not consistent(folder, table):
                    violations.append(f"round {rounds}: a torn table after kill {landed}")
            code = finish(start(folder, data, every), None)
            if code != 0:
                violations.append(f"round {rounds}: exit code {code}")
            elif (folder / "scores.parquet").read_bytes() != table:
                violations.append(f"round {rounds}: another table")
            left = {path.name for path in folder.iterdir()} - MADE - {".scores.parquet.lock"}
            if left:
                violations.append(f"round {rounds}: left over {sorted(left)}")
    return {
        "kills": landed,
        "rounds": rounds,
        "seconds_of_one_run": round(duration, 2),
        "violations": violations,
    }


if __name__ == "__main__":
    print(json.dumps(main(int(sys.argv[1]), int(sys.argv[2]))))
