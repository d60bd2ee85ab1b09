"""Runs become one table: per-example mean and standard deviation over runs, and what the runs say about each other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dataset_audit.scores.registry import NONE
from dataset_audit.stats.agreement import pearson, spearman

Columns = Mapping[str, NDArray[Any]]
_FLAGS = ("presentations", "never_learned")
_AGREE = ("forgetting", "aum", "el2n_mean")


def merge(runs: Sequence[Columns], *, per_run: bool = False) -> dict[str, NDArray[Any]]:
    """Return the score columns of the table from the columns of R runs of one recipe.

    Every score is the mean over the runs in which it is defined, float32; with two runs or more each has a
    ``<score>_std`` (sample standard deviation, NaN below two defined values). ``forgetting`` is the ranking value:
    the mean over runs of the events, or of the presentations in a run that never learned the example.

    Args:
        runs: What ``Recorder.columns`` gave, one per run, all over the same N examples.
        per_run: Whether to add ``<score>_runs``, float32[N, R].

    Returns:
        Arrays of N; NaN and masked entries mean null.
    """
    presented = np.stack([np.asarray(run["presentations"]) for run in runs])
    never = np.stack([np.asarray(run["never_learned"]) for run in runs])
    events = np.stack([np.asarray(run["forgetting_events"]) for run in runs])
    seen = presented > 0
    n_seen = seen.sum(0)
    absent = n_seen == 0
    unforgettable = seen & ~never & (events == 0)
    merged: dict[str, NDArray[Any]] = {
        "runs": n_seen.astype(np.int16),
        "presentations": presented.sum(0).astype(np.int32),
        "never_learned": np.ma.masked_array(((never | ~seen).all(0) & ~absent), mask=absent),
        "never_learned_runs": np.ma.masked_array(never.sum(0).astype(np.int16), mask=absent),
        "unforgettable": np.ma.masked_array(((unforgettable | ~seen).all(0) & ~absent), mask=absent),
        "unforgettable_runs": np.ma.masked_array(unforgettable.sum(0).astype(np.int16), mask=absent),
    }
    for name in ("forgetting", *(name for name in runs[0] if name not in _FLAGS)):
        values = np.stack([_values(run, name) for run in runs])
        defined = ~np.isnan(values)
        count = defined.sum(0)
        with np.errstate(invalid="ignore", divide="ignore"):
            mean = np.where(defined, values, 0).sum(0) / count
            squares = np.where(defined, (values - mean) ** 2, 0).sum(0)
            std = np.where(count >= 2, np.sqrt(squares / (count - 1)), np.nan)
        merged[name] = mean.astype(np.float32)
        if len(runs) > 1:
            merged[f"{name}_std"] = std.astype(np.float32)
        if per_run:
            merged[f"{name}_runs"] = values.T.astype(np.float32)
    return merged


def ranking_value(run: Columns) -> NDArray[np.float64]:
    """Return the value Toneva's order sorts by: events, or presentations where never learned; NaN if not presented."""
    presented = np.asarray(run["presentations"])
    value = np.where(run["never_learned"], presented, run["forgetting_events"]).astype(np.float64)
    return np.where(presented > 0, value, np.nan)


def _values(run: Columns, name: str) -> NDArray[np.float64]:
    """Return one run's column as float64[N] with NaN where it is undefined."""
    if name == "forgetting":
        return ranking_value(run)
    values = np.asarray(run[name], dtype=np.float64)
    if name in {"first_learned", "last_wrong"}:
        return np.where(values == NONE, np.nan, values)
    return np.where(np.asarray(run["presentations"]) > 0, values, np.nan)


def summary(merged: Columns, runs: Sequence[Columns]) -> dict[str, object]:
    """Return the figures of a table: shares over all runs and per run, ties, events, agreement between runs.

    Shares are of the presented examples. ``*_all_runs`` asks for the property in every run, which is the published
    share; ``*_per_run`` lists each run's own, which is larger. Correlations are means over pairs of runs, null for
    one run.
    """
    presented = np.asarray(merged["presentations"]) > 0
    n = max(1, int(presented.sum()))
    figures: dict[str, object] = {}
    for name in ("unforgettable", "never_learned"):
        count = int(np.ma.filled(merged[name], fill_value=False).sum())
        figures[f"{name}_count"] = count
        figures[f"{name}_all_runs"] = count / n
        figures[f"{name}_per_run"] = [_share(run, name) for run in runs]
    values = np.asarray(merged["forgetting"])[presented]
    figures["tie_share_zero"] = float((values == 0).mean()) if len(values) else 0.0
    events = np.asarray(merged["forgetting_events"])[presented]
    figures["events_mean"] = float(events.mean()) if len(events) else 0.0
    figures["events_max"] = int(max(int(np.asarray(run["forgetting_events"]).max()) for run in runs))
    for name in _AGREE:
        columns = [_values(run, name) for run in runs]
        for kind, measure in (("pearson", pearson), ("spearman", spearman)):
            pairs = []
            for a, b in combinations(columns, 2):
                known = ~np.isnan(a) & ~np.isnan(b)
                pairs.append(measure(a[known], b[known]) if known.sum() > 1 else np.nan)
            mean = float(np.mean(pairs)) if pairs else float("nan")
            figures[f"{kind}_{name}"] = mean if np.isfinite(mean) else None
    return figures


def _share(run: Columns, name: str) -> float:
    presented = np.asarray(run["presentations"]) > 0
    never = np.asarray(run["never_learned"])
    hit = (
        never if name == "never_learned" else presented & ~never & (np.asarray(run["forgetting_events"]) == 0)
    )
    return float(hit[presented].mean()) if presented.any() else 0.0
