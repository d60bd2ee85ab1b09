"""What users write, never run, only type-checked: the public names and what they return."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import DataLoader, Dataset

import dataset_audit
from dataset_audit import Manifest, Recorder, ScoreTable, open_dataset


def recording(
    loader: DataLoader[tuple[torch.Tensor, torch.Tensor, torch.Tensor]], model: torch.nn.Module
) -> Path:
    recorder = Recorder(50_000, 10)
    for images, labels, indices in loader:
        logits: torch.Tensor = model(images)
        recorder.update(indices, logits, labels)
    state = recorder.state_dict()
    recorder.load_state_dict(state)
    recorder.save("scores.parquet")
    return Path("scores.parquet")


def pruned(cifar: Dataset[tuple[torch.Tensor, int]]) -> NDArray[np.int64]:
    manifest = Manifest.read("manifest.parquet", root="data/photos")
    manifest.check(verify="sample")
    kept = manifest.torch()
    image, label = kept[0]
    print(image, label)
    weights: NDArray[np.float32] = manifest.weights
    print(weights.sum(), DataLoader(manifest.subset(cifar), batch_size=128), len(manifest.sampler(seed=1)))
    return manifest.indices()


def opened() -> int:
    dataset = open_dataset("digits")
    pixels: NDArray[np.uint8] = dataset.pixels(0)
    names: tuple[str, ...] = dataset.class_names
    return len(dataset) + len(names) + int(pixels[0, 0, 0])


def scores() -> NDArray[np.float64]:
    table = ScoreTable.read(Path("scores.parquet"))
    return table.floats("aum")


version: object = dataset_audit.__version__
