from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from dataset_audit.cli.failures import explained
from dataset_audit.errors import (
    EXIT_CODES,
    AuditError,
    DataError,
    EnvironmentProblem,
    GateFailed,
    MismatchError,
    Terminated,
    UsageError,
)

FAULTS = {
    "gate": ("raise GateFailed('excess 0.31 is above 0.2.')", 1, "E-gate"),
    "usage": ("raise UsageError('No.')", 2, "E-usage"),
    "mismatch": ("raise MismatchError('They differ.')", 2, "E-mismatch"),
    "data": ("raise DataError('Bad bytes.')", 3, "E-data"),
    "environment": ("raise EnvironmentProblem('No.')", 4, "E-environment"),
    "memory": ("raise MemoryError", 4, "E-memory"),
    "huge": ("bytearray(2**62)", 4, "E-memory"),
    "disk": ("raise OSError(errno.ENOSPC, 'No space left on device', 'x.tmp')", 4, "E-system"),
    "permission": ("raise PermissionError(errno.EACCES, 'Permission denied', 'x')", 4, "E-system"),
    "open files": ("raise OSError(errno.EMFILE, 'Too many open files')", 4, "E-system"),
    "worker": (
        "from concurrent.futures.process import BrokenProcessPool\n raise BrokenProcessPool",
        4,
        "E-worker",
    ),
    "pipe": ("raise BrokenPipeError(errno.EPIPE, 'Broken pipe')", 4, "E-worker"),
    "bug": ("1 / 0", 70, "E-bug"),
    "missing file": ("open('nowhere')", 70, "E-bug"),
    "recursion": ("f = lambda: f()\n f()", 70, "E-bug"),
    "thread": ("threading.Thread(target=lambda: 1 / 0).start()\n time.sleep(30)", 70, "E-bug"),
    "end of input": ("input()", 70, "E-bug"),
    "Ctrl-C": ("os.kill(os.getpid(), signal.SIGINT)\n time.sleep(30)", 130, "E-interrupted"),
    "SIGTERM": ("os.kill(os.getpid(), signal.SIGTERM)\n time.sleep(30)", 143, "E-interrupted"),
    "SIGHUP": ("os.kill(os.getpid(), signal.SIGHUP)\n time.sleep(30)", 129, "E-interrupted"),
}


def driver(body: str) -> str:
    """Return a program that is ``audit`` with a prune that does ``body``."""
    lines = "\n".join(f"    {line.strip()}" for line in body.split("\n"))
    return (
        "import errno, os, signal, sys, threading, time\n"
        "from dataset_audit.errors import *\n"
        "from dataset_audit.commands import prune\n"
        "from dataset_audit.report.document import Report\n"
        f"def run(config, progress):\n{lines}\n    return Report('prune', 'done')\n"
        "prune.run = run\n"
        "from dataset_audit.cli import main\n"
        "main()\n"
    )


@pytest.mark.parametrize("fault", FAULTS)
def test_every_way_to_fail_has_its_code_and_one_document(fault: str, audit) -> None:
    body, code, id_ = FAULTS[fault]
    done = audit("prune", "--json", driver=driver(body))
    assert done.code == code, done.err
    document = json.loads(done.out)
    assert (document["exit_code"], document["command"], document["result"]) == (code, "prune", None)
    assert document["error"]["id"] == id_
    assert done.err.startswith(f"error[{id_}]: ")
    assert "Traceback" not in done.err


def test_every_code_of_the_table_is_made_here() -> None:
    made = {code for _, code, _ in FAULTS.values()} | {0, 141}  # the two are made in the tests below
    assert made == set(EXIT_CODES)


def test_the_classes_of_errors_have_the_codes_of_the_table() -> None:
    codes = {
        GateFailed: 1, UsageError: 2, MismatchError: 2, DataError: 3, EnvironmentProblem: 4, AuditError: 70,
    }  # fmt: skip
    for kind, code in codes.items():
        assert explained(kind("x"), repeat="")[1] == code
    assert explained(Terminated(15), repeat="")[1] == 143


def test_an_allocator_that_fails_is_the_machines_fault() -> None:
    import torch

    for failure in (
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
        RuntimeError(
            "[enforce fail at alloc_cpu.cpp:98] DefaultCPUAllocator: can't allocate memory: you tried"
        ),
    ):
        error, code = explained(failure, repeat="")
        assert (code, error.id) == (4, "E-memory")
        assert "--batch-size" in error.do
    assert explained(RuntimeError("anything else"), repeat="")[1] == 70


def test_a_bug_writes_its_traceback_where_it_says(audit) -> None:
    done = audit("prune", driver=driver("1 / 0"))
    where = re.search(r"at: traceback in (\S+)", done.err)
    assert where, done.err
    text = Path(where[1]).read_text()
    Path(where[1]).unlink()
    assert "ZeroDivisionError" in text
    assert text.startswith("audit ")


def test_debug_shows_the_traceback_too(audit) -> None:
    assert (
        "Traceback (most recent call last)"
        in audit("prune", "--debug", driver=driver("raise DataError('Bad.')")).err
    )


def test_success_is_zero_and_one_document(audit, scores) -> None:
    done = audit("prune", "--json")
    assert done.code == 0
    document = json.loads(done.out)
    assert (document["exit_code"], document["error"]) == (0, None)
    assert document["result"]["outputs"][0]["path"] == "manifest.parquet"
    assert len(document["result"]["outputs"][0]["sha256"]) == 64


LINES = [
    "--help",
    "--version",
    "--list models",
    "pruen",
    "prune --kep 1",
    "prune --seed x",
    "prune --help",
    "",
]


@pytest.mark.parametrize("line", LINES)
def test_json_is_one_document_whatever_is_asked(line: str, audit) -> None:
    done = audit("--json", *line.split())
    document = json.loads(done.out)
    assert document["exit_code"] == done.code
    assert (document["error"] is None) == (done.code == 0)


def test_a_reader_that_stops_is_silent_and_141(tmp_path: Path, scores: Path) -> None:
    """head -c0 closes the pipe at once; the files are complete."""
    script = f"{sys.executable} -m dataset_audit prune --format json | (exec 0<&-; sleep 5); echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", script], cwd=tmp_path, capture_output=True, timeout=100, check=True)
    assert done.stdout == b"141\n"
    assert b"Traceback" not in done.stderr
    assert b"BrokenPipe" not in done.stderr
    assert (tmp_path / "manifest.audit.json").exists()


@pytest.mark.parametrize("arguments", ["prune", "--help", "prune --json", "--version"])
def test_a_full_stdout_is_four(arguments: str, tmp_path: Path, scores: Path) -> None:
    done = _shell(f"{sys.executable} -m dataset_audit {arguments} >/dev/full; echo $?", tmp_path)
    assert done.stdout.strip() == b"4"
    assert b"stdout" in done.stderr


def test_a_closed_stdout_is_141_and_a_closed_stderr_stops_nothing(tmp_path: Path, scores: Path) -> None:
    assert (
        _shell(f"{sys.executable} -m dataset_audit prune >&-; echo $? >&2", tmp_path)
        .stderr.strip()
        .endswith(b"141")
    )
    done = _shell(f"{sys.executable} -m dataset_audit prune --force 2>&-; echo $?", tmp_path)
    assert done.stdout.strip().endswith(b"0")
    assert b"written" in done.stdout


def test_no_file_is_opened_under_the_number_of_a_closed_stream(tmp_path: Path, scores: Path) -> None:
    """With stdout closed the first file opened would get number 1 and receive whatever is printed."""
    _shell(f"{sys.executable} -m dataset_audit prune >&- 2>&-; true", tmp_path)
    assert (tmp_path / "manifest.parquet").read_bytes()[:4] == b"PAR1"


def _shell(script: str, folder: Path) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(["bash", "-c", script], cwd=folder, capture_output=True, timeout=100, check=True)


def test_a_library_that_prints_does_not_reach_stdout(audit) -> None:
    done = audit("prune", "--json", driver=driver("print('from a library')"))
    assert json.loads(done.out)["exit_code"] == 0


def test_quiet_drops_words_and_never_the_error(audit, scores) -> None:
    assert audit("prune", "-q", "--keep", "0.5").err == ""
    assert "written" in audit("prune", "-q", "--force").out
    silent = audit("prune", "-qq", "--force")
    assert (silent.code, silent.out, silent.err) == (0, "", "")
    assert audit("prune", "-qq", "--keep", "abc").err.startswith("error[E-")


@pytest.mark.parametrize(
    "environment", [{"LC_ALL": "C", "PYTHONIOENCODING": "ascii"}, {"PYTHONOPTIMIZE": "2"}, {"HOME": None}]
)
def test_locale_home_and_optimisation_change_nothing(
    environment: dict[str, str | None], audit, scores_of
) -> None:
    scores_of(("chat · noir", "été", "猫"))
    done = audit("prune", **environment)
    assert done.code == 0, done.err
    assert "written" in done.out


HOSTILE = ("\x1b[31mred\x1b]52;c;aGk=\x07", "[/red]\nerror: forged", ":car: \u202egnp.exe")


@pytest.mark.parametrize("form", ["table", "markdown", "json"])
def test_hostile_class_names_act_nowhere(
    form: str, audit, scores_of: Callable[[tuple[str, ...]], Path]
) -> None:
    scores_of(HOSTILE)
    done = audit("prune", "--format", form, "--color", "never")
    assert done.code == 0, done.err
    for stream in (done.out, done.err):
        assert not [c for c in stream if c != "\n" and not c.isprintable()]
        assert not re.search(r"^error: forged", stream, re.MULTILINE)
    if form == "table":
        assert done.out.count(r"\x1b[31mred") == 1
        assert ":car:" in done.out


def test_a_hostile_path_acts_nowhere(audit) -> None:
    name = os.fsdecode(b"\x1b[2J\xff[/x]\n.parquet")
    done = audit("prune", name)
    assert done.code == 2
    assert not [c for c in done.err if c != "\n" and not c.isprintable()]
    assert r"\x1b[2J\udcff[/x]\x0a.parquet" in done.err


def test_nothing_reaches_for_the_network(audit) -> None:
    guard = (
        "import sys\n"
        "def hook(event, details):\n"
        "    if event in ('socket.connect', 'socket.getaddrinfo', 'urllib.Request'):\n"
        "        print('NETWORK', event, details, file=sys.stderr)\n"
        "sys.addaudithook(hook)\n"
        "from dataset_audit.cli import main\nmain()\n"
    )
    for arguments in (
        ("forgetting", "mnist"),
        ("forgetting", "cifar100", "--dry-run"),
        ("prune", "hf://x/y"),
    ):
        done = audit(*arguments, driver=guard)
        assert done.code == 2
        assert "NETWORK" not in done.err
