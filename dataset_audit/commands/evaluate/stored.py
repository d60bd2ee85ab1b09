"""A finished table read back, so that it can be looked at again without training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from math import nan

import numpy as np

from dataset_audit.commands.evaluate.findings import Done
from dataset_audit.errors import MismatchError
from dataset_audit.evaluate.arms import Job
from dataset_audit.evaluate.measure import Measured
from dataset_audit.tables.evaluation import EvaluationTable

KNOBS = ("lr", "weight_decay", "batch_size")


def stored(
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
