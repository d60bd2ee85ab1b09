"""Runs to one table: means, spreads, what "in all runs" means, and never learned as the hardest."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from dataset_audit.scores.merge import merge, summary
from dataset_audit.scores.recorder import Recorder
from dataset_audit.stats.agreement import auroc


def run_of(histories: list[str]) -> dict[str, np.ndarray]:
    recorder = Recorder(len(histories), 2)
    for t in range(max(map(len, histories))):
        for index, history in enumerate(histories):
            if t < len(history):
                label = 0 if history[t] == "1" else 1
                recorder.update(torch.tensor([index]), torch.tensor([[1.0, 0.0]]), torch.tensor([label]))
    return recorder.columns()


def test_never_learned_ranks_hardest_by_the_number_of_presentations() -> None:
    merged = merge([run_of(["000000", "101011", "111111", ""])])
    assert merged["forgetting"][:3].tolist() == [6, 2, 0]
    assert np.isnan(merged["forgetting"][3])
    assert merged["forgetting_events"][:3].tolist() == [0, 2, 0]
    assert np.ma.getmaskarray(merged["never_learned"]).tolist() == [False, False, False, True]


def test_unforgettable_needs_every_run_and_each_run_has_its_own_larger_share() -> None:
    runs = [run_of(["111", "011", "101", "000"]), run_of(["111", "101", "111", "111"])]
    merged = merge(runs)
    assert merged["unforgettable"].tolist() == [True, False, False, False]
    assert merged["unforgettable_runs"].tolist() == [2, 1, 1, 1]
    assert merged["never_learned"].tolist() == [False] * 4
    assert merged["never_learned_runs"].tolist() == [0, 0, 0, 1]
    figures = summary(merged, runs)
    assert figures["unforgettable_all_runs"] == 0.25
    assert figures["unforgettable_per_run"] == [0.5, 0.75]
    assert merged["forgetting"].tolist() == [0, 0.5, 0.5, 1.5]


def test_mean_and_sample_std_over_runs() -> None:
    runs = [run_of(["111", "0111"]), run_of(["101", "1111"]), run_of(["001", "0001"])]
    merged = merge(runs, per_run=True)
    stacked = np.stack([run["confidence"] for run in runs])
    assert merged["confidence"] == pytest.approx(stacked.mean(0))
    assert merged["confidence_std"] == pytest.approx(stacked.std(0, ddof=1))
    assert merged["confidence_runs"] == pytest.approx(stacked.T)
    assert merged["last_wrong"].tolist() == pytest.approx(
        [1.0, 1.0]
    )  # mean over the runs where it is defined
    assert np.isnan(merge([runs[0]])["last_wrong"][0])


def test_one_run_has_no_spread_and_no_agreement() -> None:
    run = run_of(["111", "011"])
    merged = merge([run])
    assert not any(name.endswith("_std") for name in merged)
    assert summary(merged, [run])["pearson_forgetting"] is None


def test_agreement_between_identical_runs_is_one() -> None:
    run = run_of(["111", "011", "101", "000"])
    figures = summary(merge([run, run]), [run, run])
    assert figures["pearson_forgetting"] == pytest.approx(1)
    assert figures["spearman_aum"] == pytest.approx(1)


def test_flipped_labels_are_found_once_never_learned_ranks_hardest() -> None:
    """The commonest defect of other code: 0 events for the never learned detects label errors below chance."""
    rng = np.random.default_rng(0)
    flipped = np.arange(300) < 60
    histories = ["".join("0" if bad or rng.random() < 0.25 else "1" for _ in range(8)) for bad in flipped]
    merged = merge([run_of(histories)])
    assert auroc(merged["forgetting"], flipped) > 0.99
    assert auroc(merged["forgetting_events"], flipped) < 0.3
