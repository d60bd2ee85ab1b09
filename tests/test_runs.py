"""When a run protects itself."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from dataset_audit import runs
from dataset_audit.train.batches import Resident
from dataset_audit.train.task import Task


def saving(device: str, every: int, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Return after which of ten epochs of 4 s each a checkpoint is written."""
    now = [0.0]
    monkeypatch.setattr(runs, "monotonic", lambda: now[0])
    task = Task(
        images=Resident(torch.zeros(2, 4, 4, 1, dtype=torch.uint8)),
        labels=torch.zeros(2, dtype=torch.int64),
        rows=np.arange(2),
        classes=2,
        seed=1,
        device=torch.device(device),
        precision="fp32",
        mean=torch.zeros(1),
        std=torch.ones(1),
    )
    rule = runs._Saving(runs.Settings(folder=Path(), digest="", checkpoint_every=every), task)
    found = []
    for epoch in range(1, 11):
        now[0] += 4
        if rule.due(epoch):
            found.append(epoch)
    return found


def test_on_a_cpu_every_epoch_that_was_asked_for_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    assert saving("cpu", 1, monkeypatch) == list(range(1, 11))
    assert saving("cpu", 3, monkeypatch) == [3, 6, 9]


def test_on_a_gpu_checkpoints_are_fifteen_seconds_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    assert saving("cuda", 1, monkeypatch) == [4, 8]
    assert saving("cuda", 5, monkeypatch) == [5, 10]
