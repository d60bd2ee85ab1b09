"""The rows of ``evaluation.parquet``, one per training: made of what was measured, and read back without training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from hashlib import sha256
from math import nan

import numpy as np

from dataset_audit.commands.evaluate.choices import Resolved
from dataset_audit.commands.evaluate.config import Config
from dataset_audit.commands.evaluate.findings import Done, Findings
from dataset_audit.errors import MismatchError
from dataset_audit.evaluate.arms import Job
from dataset_audit.evaluate.measure import Measured
from dataset_audit.tables.evaluation import EvaluationTable

KNOBS = ("lr", "weight_decay", "batch_size")


def rows_of(
    found: Findings, config: Config, resolved: Resolved, by: Mapping[str, tuple[str, ...]]
) -> list[dict[str, object]]:
    """Return the fields of EVALUATION of each training.

    Args:
        found: What was measured.
        config: What was asked for.
        resolved: How it was trained.
        by: Score columns that chose the examples, by arm.
    """
    from dataset_audit.train.batches import batch_lengths  # noqa: PLC0415
    from dataset_audit.train.device import describe  # noqa: PLC0415

    rows: list[dict[str, object]] = []
    for one in found.done:
        job, outcome, figures = one.job, one.outcome, one.measured
        used = replace(resolved.recipe, **job.knobs)
        chosen_by = by.get(job.arm)
        rows.append(
            {
                "arm": job.arm,
                "by": ",".join(chosen_by) if chosen_by else None,
                "keep_fraction": job.keep,
                "keep_count": len(job.rows),
                "seed": job.seed,
                "fixed": job.fixed,
                "recipe": used.name,
                "model": resolved.model,
                "budget": config.budget,
                "epochs": outcome.steps / len(batch_lengths(len(job.rows), used.batch_size)),
                "steps": outcome.steps,
                "presentations": outcome.presentations,
                "batch_size": used.batch_size,
                "lr": used.lr,
                "weight_decay": used.weight_decay,
                "skip": job.skip,
                "status": "done" if outcome.learned else "untrained",
                "accuracy": figures.accuracy,
                "accuracy_low": figures.low,
                "accuracy_high": figures.high,
                "worst_class": found.class_names[figures.worst],
                "worst_recall": float(figures.recall[figures.worst]),
                "recall": figures.recall,
                "class_share": one.class_share,
                "wrong_labels": one.wrong_labels,
                "ece": figures.ece,
                "loss": figures.loss,
                "train_accuracy": outcome.train_accuracy,
                "predicted": outcome.predicted,
                "seconds_train": outcome.seconds,
                "seconds_score": found.scoring if chosen_by or job.arm == "kept" else 0.0,
                "seconds_tune": one.seconds_tune,
                "device": describe(resolved.device),
                "rows_sha256": sha256(job.rows.astype("<i8").tobytes()).hexdigest(),
            }
        )
    return rows


def read_back(
    table: EvaluationTable, planned: Sequence[Job], class_names: Sequence[str], *, tuned: bool
) -> list[Done]:
    """Return what a finished evaluation measured, one entry per training, in the order of ``planned``.

    Args:
        table: As it was written.
        planned: The trainings that the same call plans now; their rows are not in the table.
        class_names: In label order.
        tuned: Whether each arm has settings of its own.

    Raises:
        MismatchError: The rows are not those of these trainings.
    """
    rows: list[dict[str, object]] = table.data.to_pylist()
    if [(row["arm"], row["keep_count"], row["seed"]) for row in rows] != [
        (job.arm, len(job.rows), job.seed) for job in planned
    ]:
        raise MismatchError(
            "The finished table has other trainings.", do="--force, or --out with another name"
        )
    return [_done(job, row, list(class_names), tuned=tuned) for job, row in zip(planned, rows, strict=True)]


def _done(job: Job, row: Mapping[str, object], class_names: list[str], *, tuned: bool) -> Done:
    from dataset_audit.evaluate.experiment import Outcome  # noqa: PLC0415 - torch

    def number(name: str) -> float:
        value = row[name]
        return nan if value is None else float(value)  # type: ignore[arg-type]  # a numeric column

    def numbers(name: str) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
        values: list[float | None] = row[name]  # type: ignore[assignment]  # a list column
        return np.array([nan if value is None else value for value in values], np.float64)

    nothing = np.empty(0, np.float32)
    return Done(
        job=replace(job, knobs={name: row[name] for name in KNOBS}) if tuned else job,
        outcome=Outcome(
            predicted=np.array(row["predicted"], np.int64),
            confidence=nothing,
            loss=nothing,
            seconds=number("seconds_train"),
            steps=int(number("steps")),
            presentations=int(number("presentations")),
            train_accuracy=number("train_accuracy"),
            learned=row["status"] == "done",
        ),
        measured=Measured(
            accuracy=number("accuracy"),
            low=number("accuracy_low"),
            high=number("accuracy_high"),
            recall=numbers("recall"),
            worst=class_names.index(str(row["worst_class"])),
            ece=number("ece"),
            loss=number("loss"),
        ),
        class_share=numbers("class_share"),
        wrong_labels=number("wrong_labels"),
        seconds_tune=number("seconds_tune"),
    )
