"""A gate that fails: the report is shown all the same, then the error, and the process exits with 1."""

from __future__ import annotations

import json

import pytest

DRIVER = """
from dataset_audit.commands import prune
from dataset_audit.errors import GateFailed
from dataset_audit.report.document import Line, Report, Warning

def run(config, progress):
    return Report(
        "prune", "what was found", items=(Line("surviving", ("0.310",)),), summary={"surviving": 0.31},
        warnings=(Warning("W-few", "few images"),), gate=GATE,
    )

prune.run = run
from dataset_audit.cli import main
main()
"""
FAILED = DRIVER.replace(
    "GATE", "GateFailed('It is 0.310; at most 0.2 was allowed.', where='here', do='prune')"
)
PASSED = DRIVER.replace("GATE", "None")


@pytest.mark.parametrize("form", ["table", "markdown"])
def test_a_failed_gate_shows_the_report_on_stdout_and_the_reason_on_stderr(audit, form: str) -> None:
    done = audit("prune", f"--format={form}", driver=FAILED)
    assert done.code == 1
    assert "what was found" in done.out
    assert "0.310" in done.out
    assert "at most" not in done.out
    assert "error[E-gate]: It is 0.310; at most 0.2 was allowed." in done.err
    assert "W-few" in done.err
    assert "Traceback" not in done.err
    passed = audit("prune", f"--format={form}", driver=PASSED)
    assert (passed.code, passed.out) == (0, done.out)
    assert "E-gate" not in passed.err


def test_a_failed_gate_is_one_document_with_result_and_error(audit) -> None:
    done = audit("prune", "--json", driver=FAILED)
    assert done.code == 1
    document = json.loads(done.out)  # one document, nothing after it
    assert (document["exit_code"], document["command"]) == (1, "prune")
    assert document["error"] == {
        "id": "E-gate", "what": "It is 0.310; at most 0.2 was allowed.", "where": "here", "do": "prune",
    }  # fmt: skip
    passed = audit("prune", "--json", driver=PASSED)
    plain = json.loads(passed.out)
    assert (passed.code, plain["exit_code"], plain["error"]) == (0, 0, None)
    assert document["result"] == plain["result"]
    assert document["result"]["surviving"] == 0.31
    assert document["result"]["warnings"] == [{"id": "W-few", "text": "few images"}]


@pytest.mark.parametrize("quiet", ["-q", "-qq"])
def test_a_quiet_call_still_says_that_the_gate_failed(audit, quiet: str) -> None:
    done = audit("prune", quiet, driver=FAILED)
    assert done.code == 1
    assert "error[E-gate]" in done.err
    assert "W-few" not in done.err
    assert ("what was found" in done.out) == (quiet == "-q")
