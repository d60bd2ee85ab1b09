"""A short training on a manifest, as anyone would write it: the last step of scripts/quickstart.

    python scripts/quickstart_train.py manifest.parquet

Trains a small network on the kept examples and says how many of the dropped ones it gets right without having seen
them: what prune took away should be what the rest already teaches.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional
from torch.utils.data import DataLoader
from torchvision.transforms import ToTensor

from dataset_audit import Manifest

EPOCHS = 15


def main(path: Path) -> None:
    """Train on the manifest and print the accuracy on what it left out."""
    torch.manual_seed(0)  # noqa: TID251 - a user's script seeds as users do
    manifest = Manifest.read(path)
    kept = manifest.torch(transform=ToTensor())
    model = torch.nn.Sequential(
        torch.nn.Conv2d(1, 32, 3, padding=1),
        torch.nn.ReLU(),
        torch.nn.MaxPool2d(2),
        torch.nn.Conv2d(32, 64, 3, padding=1),
        torch.nn.ReLU(),
        torch.nn.Flatten(),
        torch.nn.Linear(64 * 4 * 4, len(manifest.class_names)),
    )
    optimiser = torch.optim.Adam(model.parameters(), lr=3e-3)
    loader: DataLoader[tuple[torch.Tensor, torch.Tensor]] = DataLoader(kept, batch_size=64, shuffle=True)  # type: ignore[arg-type]
    for epoch in range(EPOCHS):
        losses = []
        for pixels, labels in loader:
            loss = functional.cross_entropy(model(pixels), labels)
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            losses.append(loss.item())
        print(f"epoch {epoch + 1:>2}/{EPOCHS}  loss {np.mean(losses):.3f}", flush=True)

    everything = manifest.dataset()
    dropped = np.setdiff1d(np.arange(len(everything)), manifest.indices())
    pixels = (
        torch.stack([torch.from_numpy(everything.pixels(int(i))) for i in dropped]).permute(0, 3, 1, 2) / 255
    )
    with torch.no_grad():
        right = model(pixels).argmax(1).numpy() == everything.labels[dropped]
    print(
        f"trained on {len(kept):,} kept examples; {right.mean():.1%} of the {len(dropped):,} dropped ones are right"
    )


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "manifest.parquet"))
