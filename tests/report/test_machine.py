from __future__ import annotations

import json

import pytest

from dataset_audit.errors import GateFailed, MismatchError
from dataset_audit.report import machine
from dataset_audit.report.document import Report


def test_a_success_has_the_summary_and_what_was_written(report: Report) -> None:
    document = json.loads(machine.success("forgetting", machine.result(report, report.warnings)))
    assert document["audit"] == 1
    assert (document["command"], document["exit_code"], document["error"]) == ("forgetting", 0, None)
    result = document["result"]
    assert result["unforgettable"] == 0.313
    assert result["never"] is None
    assert result["outputs"][0] == {
        "path": "scores.parquet", "rows": 50_000, "size": 4_100_000,
        "sha256": "9f3c51aabbccddee", "content_sha256": "9f3c51aabbccddee",
    }  # fmt: skip
    assert result["recomputed"] == {"epochs_trained": 3}
    assert result["warnings"] == [{"id": "W-shares", "text": "class shares moved"}]


def test_a_failure_says_what_where_and_what_to_do() -> None:
    error = MismatchError("They differ.", where="row 3", do="score again")
    document = json.loads(machine.failure("prune", 2, error))
    assert document == {
        "audit": 1, "command": "prune", "exit_code": 2, "result": None,
        "error": {"id": "E-mismatch", "what": "They differ.", "where": "row 3", "do": "score again"},
    }  # fmt: skip


def test_a_number_that_is_none_is_refused_rather_than_written() -> None:
    with pytest.raises(ValueError, match="JSON"):
        machine.success("c", {"x": float("nan")})


def test_half_characters_do_not_break_the_document() -> None:
    assert json.loads(machine.success("c", {"x": "\udcff\x1b\u202e"}))["result"]["x"] == "\udcff\x1b\u202e"


def test_a_failed_gate_has_both_the_result_and_the_error() -> None:
    error = GateFailed("The bias is 0.31; at most 0.2 was allowed.")
    document = json.loads(machine.gated("bias", error, {"bias": 0.31}))
    assert document == {
        "audit": 1, "command": "bias", "exit_code": 1, "result": {"bias": 0.31},
        "error": {"id": "E-gate", "what": "The bias is 0.31; at most 0.2 was allowed.", "where": "", "do": ""},
    }  # fmt: skip
