"""The real executable in a process of its own, and a small table of scores for it to read."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from dataset_audit.tables import sidecar
from dataset_audit.tables.provenance import Provenance
from dataset_audit.tables.scores import ScoreTable

CLASSES = ("cat", "dog", "emu")
ROWS = 60


@dataclass(frozen=True)
class Result:
    """What one call did: exit code as a shell shows it, and both streams."""

    code: int
    out: str
    err: str


Audit = Callable[..., Result]


def _environment(extra: Mapping[str, str | None]) -> dict[str, str]:
    merged = {**os.environ, "PYTHONWARNINGS": "default", **extra}
    return {name: value for name, value in merged.items() if value is not None}


@pytest.fixture
def audit(tmp_path: Path) -> Audit:
    """Run ``audit`` with arguments in the test's folder; ``driver`` is Python code that ends in ``main()`` instead."""

    def call(*arguments: str | Path, driver: str = "", **environment: str | None) -> Result:
        program = ["-c", driver] if driver else ["-m", "dataset_audit"]
        done = subprocess.run(
            [sys.executable, *program, *map(str, arguments)],
            cwd=tmp_path,
            env=_environment({"TMPDIR": str(tmp_path), **environment}),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=100,
            check=False,
        )
        code = done.returncode if done.returncode >= 0 else 128 - done.returncode
        return Result(code, done.stdout.decode(), done.stderr.decode())

    return call


def write_scores(path: Path, *, class_names: tuple[str, ...] = CLASSES, rows: int = ROWS) -> None:
    """Write a finished table of scores with as many examples in each class."""
    generator = np.random.default_rng(7)
    labels = np.arange(rows, dtype=np.int32) % len(class_names)
    table = ScoreTable.of(
        {
            "index": np.arange(rows, dtype=np.int64),
            "uid": [f"{row:032x}" for row in range(rows)],
            "file_name": [f"{class_names[label]}/{row}.png" for row, label in enumerate(labels)],
            "label": labels,
            "class_name": [class_names[label] for label in labels],
            "status": ["ok"] * rows,
            "runs": np.ones(rows, dtype=np.int16),
            "presentations": np.full(rows, 40, dtype=np.int32),
            "forgetting": generator.integers(0, 9, rows).astype(np.float32),
            "aum": generator.normal(3, 2, rows).astype(np.float32),
        },
        Provenance(spec="drawn", fingerprint="ab" * 16, n=rows, class_names=class_names, seeds=(1,)),
    )
    document = sidecar.document("scores", path, rows=rows, config={}, facts={"trained": True})
    table.write(path, document=document)


@pytest.fixture
def scores(tmp_path: Path) -> Path:
    """``scores.parquet`` in the test's folder: 60 examples of cat, dog and emu."""
    path = tmp_path / "scores.parquet"
    write_scores(path)
    return path


@pytest.fixture
def scores_of(tmp_path: Path) -> Callable[[tuple[str, ...]], Path]:
    """Write ``scores.parquet`` with other class names."""

    def write(class_names: tuple[str, ...]) -> Path:
        path = tmp_path / "scores.parquet"
        write_scores(path, class_names=class_names)
        return path

    return write
