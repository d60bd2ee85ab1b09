"""``audit testset`` as a process: exit codes, one JSON document, the gate, the plan."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest


@pytest.fixture
def files(tmp_path: Path) -> tuple[str, ...]:
    """Labels and predictions of two models; the new set is harder by a fifth."""
    rng = np.random.default_rng(0)
    for side, n, merit in (("old", 400, 0.9), ("new", 300, 0.7)):
        label = rng.permutation(np.arange(n) % 2)
        rows = ["a,b"]
        for truth in label:
            answers = [truth if rng.random() < merit - less else 1 - truth for less in (0, 0.1)]
            rows.append(",".join(map(str, answers)))
        (tmp_path / f"{side}.csv").write_text("label\n" + "\n".join(map(str, label)) + "\n")
        (tmp_path / f"{side}-said.csv").write_text("\n".join(rows) + "\n")
    return (
        "old.csv",
        "new.csv",
        "--predictions-original",
        "old-said.csv",
        "--predictions-new",
        "new-said.csv",
    )


def test_one_json_document_then_nothing_to_do(audit, files: tuple[str, ...], tmp_path: Path) -> None:
    done = audit("testset", *files, "--json")
    assert done.code == 0, done.err
    told = json.loads(done.out)
    assert told["result"]["gap"]["verdict"] == "harder"
    assert told["result"]["outputs"][0]["rows"] == 2
    stated = json.loads((tmp_path / "testset.audit.json").read_text())
    assert stated["command"] == ["audit", "testset", *files]
    assert stated["config"]["models"] == ["a", "b"]
    again = audit("testset", "--config", "testset.audit.json")
    assert (again.code, "nothing to do" in again.out) == (0, True)


def test_a_gap_above_the_gate_ends_with_1_and_everything_is_written(
    audit, files: tuple[str, ...], tmp_path: Path
) -> None:
    done = audit("testset", *files, "--fail-gap", "5", "--out", "found.parquet")
    assert done.code == 1, done.err
    assert "more than 5" in done.err
    assert "the new set is harder" in done.out
    for name in ("found.parquet", "found_classes.parquet", "found.audit.json"):
        assert (tmp_path / name).is_file()


def test_each_kind_of_bad_input_ends_with_its_own_code_and_says_what_to_do(
    audit, files: tuple[str, ...], tmp_path: Path
) -> None:
    (tmp_path / "odd.csv").write_text("label\n" + "0\n1\n" * 149 + "0\n7\n")
    (tmp_path / "shares.csv").write_text("a,b\n" + "0.2,0.8\n" * 300)
    for arguments, code, said in (
        (("old.csv",), 2, "NEW is missing"),
        (("old.csv", "odd.csv", *files[2:]), 2, "does not know: 7 (1)"),
        ((*files[:5], "shares.csv"), 3, "is no class"),
        ((*files[:5], "nowhere.csv"), 2, "There is no nowhere.csv"),
    ):
        done = audit("testset", *arguments)
        assert done.code == code, (arguments, done.err)
        assert said in " ".join(done.err.split()), (arguments, done.err)
        assert done.out == ""
        assert "Traceback" not in done.err
    assert not (tmp_path / "testset.parquet").exists()


def test_a_plan_writes_nothing(audit, files: tuple[str, ...], tmp_path: Path) -> None:
    before = sorted(tmp_path.iterdir())
    done = audit("testset", *files, "--dry-run")
    assert (done.code, "2 models: a, b" in done.err) == (0, True)
    assert sorted(tmp_path.iterdir()) == before
