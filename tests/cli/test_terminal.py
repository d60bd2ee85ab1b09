from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import struct
import subprocess
import sys
import termios
from pathlib import Path

import pytest
from rich.cells import cell_len

SGR = re.compile(r"\x1b\[[0-9;]*m")
CURSOR = re.compile(r"\x1b\[\??[0-9;]*[A-Za-z]")


def watch(folder: Path, columns: int, *arguments: str, driver: str = "", **environment: str) -> str:
    """Run ``audit`` on a terminal of some width and return what came out, codes included."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
    program = ["-c", driver] if driver else ["-m", "dataset_audit"]
    process = subprocess.Popen(
        [sys.executable, *program, *arguments],
        cwd=folder, stdin=theirs, stdout=theirs, stderr=theirs,
        env={**os.environ, "TERM": "xterm-256color", **environment},
    )  # fmt: skip
    os.close(theirs)
    chunks = []
    while select.select([ours], [], [], 60)[0]:
        try:
            chunk = os.read(ours, 65536)
        except OSError:  # everybody has closed the other end
            break
        if not chunk:
            break
        chunks.append(chunk)
    process.wait(timeout=30)
    os.close(ours)
    return b"".join(chunks).decode().replace("\r\n", "\n")


@pytest.mark.parametrize("columns", [20, 60, 80, 120, 200])
def test_a_screen_is_filled_and_never_overrun(columns: int, tmp_path: Path, scores: Path) -> None:
    text = SGR.sub("", watch(tmp_path, columns, "prune", "-q"))
    assert [line for line in text.splitlines() if cell_len(line) > columns] == []
    assert "42 of 60" in text


def test_a_terminal_gets_colour_and_the_next_step(tmp_path: Path, scores: Path) -> None:
    text = watch(tmp_path, 80, "prune")
    assert "\x1b[1mprune" in text
    assert "next: " in text


@pytest.mark.parametrize("environment", [{"NO_COLOR": "1"}, {"TERM": "dumb"}, {"AUDIT_COLOR": "never"}])
def test_colour_can_be_refused(environment: dict[str, str], tmp_path: Path, scores: Path) -> None:
    assert "\x1b" not in watch(tmp_path, 80, "prune", **environment)


WORKING = (
    "import time\n"
    "from dataset_audit.commands import prune\n"
    "from dataset_audit.report.document import Report\n"
    "def run(config, progress):\n"
    "    progress.plan(['a plan'])\n"
    "    progress.start('run 1/2', 100, 'images')\n"
    "    for done in range(0, 101, 10):\n"
    "        progress.advance(done, epoch='1/3', loss=0.5, accuracy=0.25)\n"
    "        time.sleep(0.1)\n"
    "        if done == 50:\n"
    "            progress.warn('W-half', 'half [red] way \\x1b[2J')\n"
    "    progress.finish()\n"
    "    return Report('prune', 'done')\n"
    "prune.run = run\n"
    "from dataset_audit.cli import main\n"
    "main()\n"
)


@pytest.mark.parametrize("columns", [40, 80, 120])
def test_the_bar_redraws_one_line_and_goes_away(columns: int, tmp_path: Path) -> None:
    text = watch(tmp_path, columns, "prune", driver=WORKING)
    frames = [CURSOR.sub("", frame) for frame in re.split(r"[\r\n]", text)]
    bars = [frame for frame in frames if frame.startswith("run 1/2")]
    assert 3 <= len(bars) <= 16
    assert max(map(cell_len, bars)) < columns
    assert "warning[W-half]: half [red] way \\x1b[2J" in " ".join(frames)
    assert CURSOR.sub("", text).rstrip().endswith("prune · done")


@pytest.mark.parametrize("environment", [{"CI": "true"}, {"TERM": "dumb"}])
def test_no_bar_where_a_line_cannot_be_redrawn(environment: dict[str, str], tmp_path: Path) -> None:
    text = watch(tmp_path, 100, "prune", driver=WORKING, **environment)
    assert "\r" not in text
    assert len(re.findall(r"^\S+Z prune run=1/2 ", text, re.MULTILINE)) == 2
