"""What decides a manifest, as its sidecar and its footer tell it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from dataset_audit.commands.prune.config import Config
from dataset_audit.report.document import Report
from dataset_audit.select.order import Hard
from dataset_audit.select.policies import Options
from dataset_audit.tables import files, sidecar
from dataset_audit.tables.provenance import Provenance


@dataclass(frozen=True, kw_only=True)
class Settled:
    """What the rows of a table made of a request.

    Attributes:
        scores_sha256: Of the table.
        count: How many are kept.
        policy: The one that chose.
        by: The columns that rank.
        hard: Which end of each is hard.
        options: What the policy was told.
    """

    scores_sha256: str
    count: int
    policy: str
    by: tuple[str, ...]
    hard: tuple[Hard, ...]
    options: Options


def identity(config: Config, settled: Settled) -> dict[str, object]:
    """Return every setting that decides the bytes of a manifest."""
    return {
        "scores_sha256": settled.scores_sha256,
        "keep": config.keep.text,
        "keep_count": settled.count,
        "policy": settled.policy,
        "by": list(settled.by),
        "hard": list(settled.hard),
        "skip": config.skip,
        "beta": settled.options.beta_or_default() if settled.policy == "ccs" else None,
        "strata": config.strata,
        "embeddings_sha256": files.sha256_file(config.embeddings) if config.embeddings else None,
        "balance": config.balance,
        "drop_noisy": config.noisy_below if config.drop_noisy else None,
        "nan": config.nan,
        "allow_empty_class": config.allow_empty_class,
        "all_rows": config.all_rows,
        "ranks": config.ranks,
        "seed": config.seed,
    }


def choice(config: Config, identity: Mapping[str, object], *, nested: bool) -> dict[str, str]:
    """Return what a manifest's footer says of how it was made."""
    return {
        "audit.keep": json.dumps({"count": identity["keep_count"], "text": config.keep.text}),
        "audit.policy": json.dumps(
            {key: identity[key] for key in ("policy", "skip", "beta", "strata", "balance", "drop_noisy")},
            sort_keys=True,
        ),
        "audit.by": json.dumps(identity["by"]),
        "audit.seed": str(config.seed),
        "audit.scores_sha256": str(identity["scores_sha256"]),
        "audit.nested": json.dumps(nested),
    }


def document(
    config: Config,
    table: Path,
    *,
    rows: int,
    origin: Provenance,
    report: Report,
    identity: Mapping[str, object],
) -> dict[str, object]:
    """Return the sidecar of a manifest, without its hash."""
    return sidecar.document(
        "manifest",
        table,
        rows=rows,
        config=identity,
        facts={
            "command": list(config.command),
            "dataset": {"spec": origin.spec, "fingerprint": origin.fingerprint, "n": origin.n},
            "seeds": [config.seed],
            "summary": dict(report.summary),
            "warnings": [{"id": warning.id, "text": warning.text} for warning in report.warnings],
            "inputs": [{"path": config.scores.name, "sha256": identity["scores_sha256"]}],
        },
    )


def origin_of(provenance: Provenance | None, rows: int) -> Provenance:
    """Return the provenance of a table, for a foreign one an empty one."""
    return provenance or Provenance(spec="", fingerprint="", n=rows, class_names=())
