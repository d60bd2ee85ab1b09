"""One command run by several processes: one voice, one exit code, the files of one."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from dataset_audit.tables.scores import ScoreTable

Audit = Callable[..., Any]  # of conftest
SCORING = ("forgetting", "data.npz", "--recipe", "fast", "--batch-size", "24", "--lr", "0.02")


@pytest.fixture(autouse=True)
def data(tmp_path: Path) -> Path:
    """90 grey pictures of 28 pixels in three classes that can be told apart."""
    rng = np.random.default_rng(0)
    labels = np.arange(90) % 3
    images = rng.integers(0, 120, (90, 28, 28, 1)) + 60 * labels[:, None, None, None]
    np.savez(
        tmp_path / "data.npz", images=images.astype(np.uint8), labels=labels, class_names=["a", "b", "c"]
    )
    return tmp_path


def started(folder: Path, *commands: tuple[str, ...]) -> list[subprocess.CompletedProcess[str]]:
    """Run one command line in each of several processes that know of one another, and return how they ended."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    common = {**os.environ, "WORLD_SIZE": str(len(commands)), "LOCAL_WORLD_SIZE": str(len(commands))}
    running = [
        subprocess.Popen(
            [sys.executable, "-m", "dataset_audit", *command],
            cwd=folder,
            env={
                **common, "RANK": str(rank), "LOCAL_RANK": str(rank), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port,
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank, command in enumerate(commands)
    ]  # fmt: skip
    said = [process.communicate(timeout=110) for process in running]
    return [
        subprocess.CompletedProcess(process.args, process.returncode, *texts)
        for process, texts in zip(running, said, strict=True)
    ]


def test_the_first_process_speaks_and_writes_and_batch_norm_is_said_to_be_of_each(tmp_path: Path) -> None:
    line = (*SCORING, "--epochs", "2", "--model", "small", "--json")
    first, second = started(tmp_path, line, line)
    assert (first.returncode, second.returncode) == (0, 0), first.stderr + second.stderr
    assert json.loads(first.stdout)["exit_code"] == 0
    assert second.stdout == second.stderr == ""
    assert "examples shared among 2" in " ".join(first.stderr.split())
    config = json.loads((tmp_path / "scores.audit.json").read_text())["config"]
    assert (config["batch_norm"], config["processes"]) == ("per-rank", 2)
    presented = ScoreTable.read(tmp_path / "scores.parquet").integers("presentations")
    assert (presented == 2).all()
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        ".scores.parquet.lock", "data.npz", "scores.audit.json", "scores.parquet",
    ]  # fmt: skip


def test_what_ends_one_process_ends_all_with_its_code_and_is_said_once(tmp_path: Path) -> None:
    bad = dict(np.load(tmp_path / "data.npz"))
    bad["images"] = np.zeros((90, 28, 28, 2), np.uint8)  # no pictures have two channels
    np.savez(tmp_path / "bad.npz", **bad)
    line = (*SCORING, "--epochs", "2", "--model", "mnist-net", "--json")
    first, second = started(tmp_path, line, ("forgetting", "bad.npz", *line[2:]))
    assert (first.returncode, second.returncode) == (3, 3), first.stderr + second.stderr
    assert second.stdout == second.stderr == ""
    told = json.loads(first.stdout)
    assert told["exit_code"] == 3
    assert "process 2 of 2" in told["error"]["where"]
    assert first.stderr.count("error[") == 1
    assert not (tmp_path / "scores.parquet").exists()


def test_a_command_that_nothing_can_share_is_done_by_the_first(tmp_path: Path) -> None:
    first, second = started(tmp_path, ("--version",), ("prune", "absent.parquet"))
    assert first.returncode == second.returncode == 0
    assert first.stdout.startswith("audit ")
    assert second.stdout == second.stderr == ""


def test_no_process_at_all_is_refused_before_anything_is_read(audit: Audit) -> None:
    done = audit("forgetting", "absent", "--processes", "0")
    assert (done.code, done.out) == (2, "")
    assert "--processes 0: 1 or more" in done.err


def test_a_process_that_dies_before_it_joins_ends_all_with_its_last_words(
    audit: Audit, tmp_path: Path
) -> None:
    (tmp_path / "dataset_audit").mkdir()  # what `python -m` finds first: as if the package were missing there
    (tmp_path / "dataset_audit" / "__init__.py").write_text("raise SystemExit('No module named torch')")
    driver = "import sys; sys.path.remove(''); from dataset_audit.cli import main; main()"
    done = audit(*SCORING, "--processes", "2", "--json", driver=driver)
    assert done.code == json.loads(done.out)["exit_code"] == 4, done.err
    assert "process 2 of 2 on this machine: No module named torch" in " ".join(done.err.split())
    assert not (tmp_path / "scores.parquet").exists()


def _waiting() -> tuple[socket.socket, dict[str, str]]:
    """Return a socket where the second of two processes waits for the first, in vain, and what that one is told."""
    first = socket.create_server(("127.0.0.1", 0))
    first.settimeout(60)
    variables = {"RANK": "1", "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1"}
    return first, {**variables, "MASTER_PORT": str(first.getsockname()[1])}


def test_a_process_that_waits_for_the_others_hears_that_it_is_to_end(tmp_path: Path) -> None:
    first, told = _waiting()
    call = [sys.executable, "-m", "dataset_audit", *SCORING]
    with first, subprocess.Popen(call, cwd=tmp_path, env={**os.environ, **told}) as second, first.accept()[0]:
        try:
            second.terminate()
            assert second.wait(timeout=20) == 143
        finally:
            second.kill()


@pytest.mark.skipif(
    sys.platform == "win32", reason="there a process keeps the number of a parent that is gone"
)
def test_a_process_that_waits_for_the_others_ends_when_the_one_that_started_it_is_killed(
    tmp_path: Path,
) -> None:
    first, told = _waiting()
    start = "import sys, time; from dataset_audit.cluster.processes import Child; "
    start += f"Child().start({list(SCORING)!r}, '.', {told!r}); time.sleep(60)"
    with (
        first,
        subprocess.Popen([sys.executable, "-c", start], cwd=tmp_path) as parent,
        first.accept()[0] as second,
    ):
        parent.kill()
        second.settimeout(20)
        while second.recv(4096):  # until it hangs up
            pass


def _children(process: int) -> list[int]:
    return [int(pid) for pid in Path(f"/proc/{process}/task/{process}/children").read_text().split()]


def _listening(process: int) -> list[str]:
    """Return the addresses under which a process can be reached."""
    sockets = {str(file.readlink()) for file in Path(f"/proc/{process}/fd").iterdir() if file.is_symlink()}
    found = []
    for name, family in (("tcp", socket.AF_INET), ("tcp6", socket.AF_INET6)):
        for line in Path(f"/proc/{process}/net/{name}").read_text().splitlines()[1:]:
            words = line.split()
            if words[3] == "0A" and f"socket:[{words[9]}]" in sockets:  # listens
                address = np.frombuffer(bytes.fromhex(words[1].partition(":")[0]), ">u4").astype("<u4")
                found.append(socket.inet_ntop(family, address.tobytes()))
    return found


@pytest.mark.slow
@pytest.mark.timeout(400)
@pytest.mark.skipif(not Path("/proc").is_dir(), reason="looks for children in /proc")
@pytest.mark.parametrize(
    ("number", "whom", "code", "words"),
    [
        (signal.SIGKILL, "the second", 4, "ended by signal 9. at: process 2 of 2"),
        (signal.SIGTERM, "the first", 143, "Stopped by SIGTERM"),
    ],
)
def test_no_process_outlives_another(number: int, whom: str, code: int, words: str, tmp_path: Path) -> None:
    line = (*SCORING, "--epochs", "9999", "--model", "mnist-net", "--processes", "2")
    with subprocess.Popen(
        [sys.executable, "-m", "dataset_audit", *line],
        cwd=tmp_path,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    ) as first:
        assert first.stderr is not None
        while "run=1/1" not in (heard := first.stderr.readline()):
            assert heard
        (second,) = _children(first.pid)
        reached = {address for pid in (first.pid, second) for address in _listening(pid)}
        os.kill(second if whom == "the second" else first.pid, number)
        assert words in " ".join(first.stderr.read().split())
        assert first.wait(timeout=60) == code
    assert reached == {"127.0.0.1"}
    until = time.monotonic() + 60
    while Path(f"/proc/{second}").exists() and time.monotonic() < until:
        time.sleep(0.05)
    assert not Path(f"/proc/{second}").exists()


TORCHRUN = ("-m", "torch.distributed.run", "--nproc-per-node", "2")


def _by_one_and_by_two(folder: Path, *line: str, start: tuple[str, ...] = TORCHRUN) -> list[bytes]:
    """Return the table that one process writes and the one that two write: of torchrun, or of --processes 2."""
    two = () if start else ("--processes", "2")
    for name, begin, more in (("one", (), ()), ("two", start, two)):
        call = [sys.executable, *begin, "-m", "dataset_audit", *line, "--out", f"{name}.parquet", "-q", *more]
        done = subprocess.run(call, cwd=folder, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
    return [(folder / f"{name}.parquet").read_bytes() for name in ("one", "two")]


@pytest.mark.slow
@pytest.mark.timeout(400)
@pytest.mark.parametrize("start", [TORCHRUN, ()], ids=["torchrun", "--processes"])
def test_as_many_seeds_as_processes_are_shared_out_whole_and_give_the_same_bytes(
    start: tuple[str, ...], tmp_path: Path
) -> None:
    line = (*SCORING, "--seeds", "2", "--epochs", "2", "--model", "small")
    one, two = _by_one_and_by_two(tmp_path, *line, start=start)
    assert one == two


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_arms_of_an_evaluation_come_to_the_same_whoever_trained_them(tmp_path: Path) -> None:
    np.savez(tmp_path / "test.npz", **dict(np.load(tmp_path / "data.npz")))
    scored = subprocess.run(
        [sys.executable, "-m", "dataset_audit", *SCORING, "--epochs", "2", "--model", "mnist-net", "-q"],
        cwd=tmp_path, capture_output=True, check=False,
    )  # fmt: skip
    assert scored.returncode == 0
    line = (
        "evaluate",
        "--scores",
        "scores.parquet",
        "--keep",
        "0.5",
        "--policies",
        "hardest",
        "--seeds",
        "2",
    )
    _by_one_and_by_two(tmp_path, *line, "--arms", "full,random", "--test", "test.npz", "--epochs", "2")
    told = [json.loads((tmp_path / f"{name}.audit.json").read_text())["summary"] for name in ("one", "two")]
    assert told[0]["content_sha256"] == told[1]["content_sha256"]  # seconds differ


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_fits_of_a_bias_audit_come_to_the_same_whoever_made_them(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for name, brighter in (("a", 0), ("b", 25)):
        (tmp_path / name).mkdir()
        for number in range(40):
            pixels = (rng.integers(0, 200, (48, 48, 3)) + brighter).astype(np.uint8)
            Image.fromarray(pixels).save(tmp_path / name / f"{number}.jpg")
    line = ("bias", "a", "b", "--probes", "header,thumbnail,network", "--ablate", "--epochs", "1")
    one, two = _by_one_and_by_two(tmp_path, *line)
    assert one == two
