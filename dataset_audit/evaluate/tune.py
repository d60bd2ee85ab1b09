"""The same care for every arm: the same trials for each, judged on a part of the training data, never on the test."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dataset_audit import seeds
from dataset_audit.errors import UsageError
from dataset_audit.evaluate.arms import Job, Rows, redrawn, stratified_subset
from dataset_audit.train.recipes import Recipe

SHARE = 0.1  # of the training examples, held out to judge trials
BATCHES = (1, 2, 4)  # a smaller batch is what small random subsets gain most from


def trials(recipe: Recipe, count: int, seed: int) -> list[dict[str, Any]]:
    """Return ``count`` settings to try, the same for every arm; the first is the recipe itself.

    Learning rate log-uniform within a factor of 4, weight decay within a factor of 10 (or 0, 1e-4, 5e-4 where the
    recipe has none), batch size as it is, a half or a quarter.

    Args:
        recipe: What is varied.
        count: N, at least 1.
        seed: Of the draws.
    """
    rng = seeds.rng(seed, "trials")
    found: list[dict[str, Any]] = [{}]
    while len(found) < count:
        rate, decay, batch, none = rng.random(4)
        weight_decay = recipe.weight_decay * 10 ** (2 * decay - 1)
        if not recipe.weight_decay:
            weight_decay = (0.0, 1e-4, 5e-4)[int(none * 3)]
        found.append(
            {
                "lr": float(f"{recipe.lr * 4 ** (2 * rate - 1):.3g}"),
                "weight_decay": float(f"{weight_decay:.3g}"),
                "batch_size": max(
                    min(8, recipe.batch_size), recipe.batch_size // BATCHES[int(batch * len(BATCHES))]
                ),
            }
        )
    return found[:count]


def validation(rows: Rows, labels: NDArray[np.int64], seed: int) -> Rows:
    """Return a tenth of the training rows, stratified by class: no trial of any arm trains on them.

    Args:
        rows: int64[N], all that may be trained on.
        labels: int64[N], of those rows.
        seed: Of the draw.
    """
    return stratified_subset(
        rows, labels, max(1, math.floor(SHARE * len(rows))), seeds.integer(seed, "validation")
    )


def trial(job: Job, knobs: dict[str, Any], number: int, held: Rows, everything: Rows) -> Job:
    """Return the training that tries ``knobs`` for an arm on what its rows have outside ``held``.

    Args:
        job: The arm at one size; the seed of the trial is its seed.
        knobs: Fields of the recipe with their values.
        number: Of the trial, from 0; part of its name.
        held: Validation rows.
        everything: All rows that may be trained on; ``rs2`` draws from them.

    Raises:
        UsageError: Nothing but validation rows was kept.
    """
    rows = np.setdiff1d(job.rows, held)
    if not len(rows):
        raise UsageError(
            f"{job.arm}, {len(job.rows):,} examples: none is left to try settings on.",
            do="a larger --keep, or leave --tune out",
        )
    again = job.redrawn
    if again is not None:
        pool = np.setdiff1d(everything, held)
        count = max(1, round(len(job.rows) * len(pool) / len(everything)))
        again = redrawn(pool, count, job.seed)
        rows = again(0)
    name = f"trial-{number}-{job.arm}-{len(job.rows)}"  # two sizes may have equally many outside ``held``
    return replace(job, arm=name, rows=rows, redrawn=again, knobs=knobs, trial=True)


def best(accuracies: list[float]) -> int:
    """Return the number of the trial with the highest validation accuracy; the earlier of equal ones."""
    return int(np.argmax(accuracies))
