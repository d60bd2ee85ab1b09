"""``audit noise`` as a process: exit codes, one JSON document, nothing heavy imported."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np

from dataset_audit.cli.app import COMMANDS
from dataset_audit.cli.options import options_of
from dataset_audit.commands.noise import Config


def test_every_setting_has_a_flag_and_every_flag_a_setting() -> None:
    flags = set(options_of(COMMANDS["noise"].sections))
    assert flags == {field.name for field in dataclasses.fields(Config)} - {"command"}


def test_scores_alone_need_neither_torch_nor_scipy(audit, scores: Path) -> None:
    driver = (
        "import sys\n"
        "from dataset_audit.cli import console\n"
        "console.run(sys.argv[1:])\n"
        "print(sorted({'torch', 'timm', 'sklearn', 'scipy', 'PIL'} & set(sys.modules)), file=sys.stderr)\n"
    )
    done = audit("noise", "--json", driver=driver)
    assert done.err.splitlines()[-1] == "[]"
    found = json.loads(done.out)["result"]
    assert found["by"] == ["aum"]
    assert found["threshold"] is None
    assert found["outputs"][0]["path"] == "noise.parquet"


def test_each_kind_of_bad_input_ends_with_its_own_code_and_says_what_to_do(audit, scores: Path) -> None:
    folder = scores.parent
    np.save(folder / "short.npy", np.zeros(3, np.int64))
    np.save(folder / "logits.npy", np.full((60, 3), 2.0))
    (folder / "damaged.parquet").write_bytes(b"PAR1 and no more")
    for line, code, said in (
        ("absent.parquet", 2, "There is no absent.parquet"),
        ("damaged.parquet", 3, "not a readable Parquet file"),
        ("--by amu", 2, "nearest: aum"),
        ("--fail-above 5%", 2, "--threshold-samples, which trains twice"),
        ("--fail-above 7", 2, "between 0 and 1"),
        ("--percentile 100 --threshold-samples", 2, "below 100"),
        ("--clean-labels short.npy", 2, "3 rows, scores.parquet was made for 60 examples"),
        ("--predictions logits.npy", 3, "no probabilities"),
        ("--out absent/noise.parquet", 2, "does not exist"),
    ):
        done = audit("noise", *line.split())
        assert done.code == code, (line, done.err)
        assert said in done.err, (line, done.err)
        assert done.out == ""
        assert "Traceback" not in done.err
    assert not (folder / "noise.parquet").exists()
