"""The ``--json`` view: exactly one document, on success and on failure alike."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from dataset_audit.errors import AuditError
from dataset_audit.report.document import Report, Warning

FORMAT = 1  # rises when a key is renamed, removed or changes its meaning; not when one is added


def success(command: str | None, result: Mapping[str, object]) -> str:
    """Return the document of a command that ended with exit code 0."""
    return _encoded(command, 0, None, result)


def gated(command: str, error: AuditError, result: Mapping[str, object]) -> str:
    """Return the document of a command that did its work and failed a gate: the result and the error."""
    return _encoded(command, error.exit_code, _described(error), result)


def failure(command: str | None, exit_code: int, error: AuditError) -> str:
    """Return the document of a command that failed; ``error`` says what, where and what to do."""
    return _encoded(command, exit_code, _described(error), None)


def _described(error: AuditError) -> dict[str, str]:
    return {"id": error.id, "what": error.what, "where": error.where, "do": error.do}


def result(report: Report, warnings: Sequence[Warning]) -> dict[str, object]:
    """Return what a report says to machines: its summary, what was written and recomputed, the warnings."""
    return {
        **report.summary,
        "outputs": [
            {
                "path": output.path,
                "rows": output.rows,
                "size": output.size,
                "sha256": output.sha256,
                "content_sha256": output.sha256,
            }
            for output in report.outputs
        ],
        "recomputed": dict(report.recomputed),
        "warnings": [{"id": warning.id, "text": warning.text} for warning in warnings],
    }


def _encoded(
    command: str | None,
    exit_code: int,
    error: Mapping[str, object] | None,
    outcome: Mapping[str, object] | None,
) -> str:
    document = {
        "audit": FORMAT,
        "command": command,
        "exit_code": exit_code,
        "error": error,
        "result": outcome,
    }
    return json.dumps(document, indent=2, allow_nan=False, sort_keys=True) + "\n"
