"""The loop: each example once per epoch, watched before its update, resumable, the same however images are held."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from dataset_audit.errors import DataError
from dataset_audit.progress import Silent
from dataset_audit.train import checkpoint
from dataset_audit.train.batches import Resident, batch_lengths
from dataset_audit.train.fit import fit, predict, start
from dataset_audit.train.models import build
from dataset_audit.train.networks import Network
from dataset_audit.train.recipes import Recipe, recipe
from dataset_audit.train.task import History, State, Task

N, CLASSES = 53, 3


def task(*, seed: int = 1, rows: np.ndarray | None = None) -> Task:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, CLASSES, N)
    images = rng.integers(0, 120, (N, 8, 8, 1)) + 60 * labels[:, None, None, None]
    return Task(
        images=Resident(torch.from_numpy(images.astype(np.uint8))),
        labels=torch.from_numpy(labels),
        rows=np.arange(N) if rows is None else rows,
        classes=CLASSES,
        seed=seed,
        device=torch.device("cpu"),
        precision="fp32",
        mean=torch.tensor([0.5]),
        std=torch.tensor([0.2]),
    )


def network() -> Network:
    return build("small", classes=CLASSES, channels=1, image_size=8)


def short(**overrides: str) -> Recipe:
    return recipe("fast", {"epochs": "3", "batch_size": "16", "crop_padding": "1", **overrides})


class Watcher:
    def __init__(self) -> None:
        self.batches: list[tuple[torch.Tensor, torch.Tensor, torch.Tensor]] = []

    def __call__(
        self,
        indices: torch.Tensor,
        logits: torch.Tensor,
        labels: torch.Tensor,
        features: torch.Tensor | None = None,
    ) -> None:
        assert features is not None
        assert features.shape == (len(indices), 128)
        self.batches.append((indices.clone(), logits.clone(), labels.clone()))


def weights(state: State) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in state.network.parameters()])


def test_every_example_is_presented_exactly_once_in_every_epoch_with_its_own_label() -> None:
    watcher, given = Watcher(), task()
    fit(given, short(), start(given, short(), network), observe=watcher)
    per_epoch = len(batch_lengths(N, 16))
    assert len(watcher.batches) == 3 * per_epoch
    orders = []
    for epoch in range(3):
        indices = torch.cat([b[0] for b in watcher.batches[epoch * per_epoch : (epoch + 1) * per_epoch]])
        assert sorted(indices.tolist()) == list(range(N))
        orders.append(indices.tolist())
    assert orders[0] != orders[1] != orders[2]
    assert all(torch.equal(labels, given.labels[indices]) for indices, _, labels in watcher.batches)


def test_the_first_observation_is_made_before_any_update() -> None:
    watcher, given = Watcher(), task()
    plain = short(crop_padding="0", flip="false")
    fresh = start(given, plain, network)
    untouched = start(given, plain, network)
    fit(given, plain, fresh, observe=watcher)
    indices, logits, _ = watcher.batches[0]
    x = (given.images.images[indices].float() / 255 - 0.5) / 0.2  # type: ignore[attr-defined]
    untouched.network.train()
    assert torch.allclose(untouched.network(x.permute(0, 3, 1, 2)), logits, atol=1e-4)


def test_a_subset_sees_its_examples_in_the_order_of_the_full_run() -> None:
    rows = np.arange(0, N, 3)
    full, part = Watcher(), Watcher()
    fit(task(), short(epochs="1"), start(task(), short(), network), observe=full)
    given = task(rows=rows)
    fit(given, short(epochs="1"), start(given, short(), network), observe=part)
    everything = torch.cat([b[0] for b in full.batches]).tolist()
    assert torch.cat([b[0] for b in part.batches]).tolist() == [
        i for i in everything if i in set(rows.tolist())
    ]


def test_training_learns_an_easy_task_and_predict_agrees_in_eval_mode() -> None:
    given, chosen = task(), short(epochs="25", crop_padding="0")
    state = fit(given, chosen, start(given, chosen, network))
    assert state.history.accuracy[-1] > 0.9
    assert state.history.trained(CLASSES)
    logits = torch.cat([part for _, part in predict(given, state, given.rows, batch_size=20)])
    assert float((logits.argmax(1) == given.labels).float().mean()) > 0.8
    assert state.network.training


@pytest.mark.parametrize("stop", [1, 2])
def test_a_run_resumed_from_a_checkpoint_ends_with_the_same_bits(tmp_path: Path, stop: int) -> None:
    given, chosen = task(), short()
    whole = fit(given, chosen, start(given, chosen, network))

    def stop_after(state: State) -> None:
        checkpoint.save(tmp_path, "run", state.epoch, {"fit": state.pack()})
        if state.epoch == stop:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit(given, chosen, start(given, chosen, network), after_epoch=stop_after)
    torch.rand(5)  # whatever else drew from the global generator must not matter
    resumed = start(given, chosen, network)
    found = checkpoint.load(tmp_path, "run", Silent())
    assert found is not None
    assert found[0] == stop
    resumed.unpack(found[1]["fit"])  # type: ignore[arg-type]
    fit(given, chosen, resumed)
    assert torch.equal(weights(whole), weights(resumed))
    assert whole.history == resumed.history


def test_two_seeds_differ_and_one_seed_repeats() -> None:
    ends = []
    for seed in (1, 1, 2):
        given = task(seed=seed)
        ends.append(weights(fit(given, short(), start(given, short(), network))))
    assert torch.equal(ends[0], ends[1])
    assert not torch.allclose(ends[0], ends[2])


def test_a_diverging_run_stops_and_names_epoch_and_rate() -> None:
    given, chosen = task(), short(lr="1e30", warmup="0")
    with pytest.raises(DataError, match="not finite") as raised:
        fit(given, chosen, start(given, chosen, network))
    assert "epoch 1, step" in str(raised.value)
    assert raised.value.exit_code == 3


def test_fixup_scalars_learn_at_a_tenth_of_the_rate() -> None:
    given = task()
    state = start(given, short(), lambda: build("fixup-resnet18", classes=CLASSES, channels=1, image_size=8))
    scales = {
        group["scale"]: sum(p.numel() for p in group["params"]) for group in state.optimiser.param_groups
    }
    assert scales[0.1] == 8 * 5 + 2
    assert sum(scales.values()) == sum(p.numel() for p in state.network.parameters())


@pytest.mark.parametrize(
    ("n", "size"), [(1, 4), (4, 4), (5, 4), (6, 4), (50_000, 128), (129, 128), (257, 128), (7, 100)]
)
def test_batches_cover_everything_and_no_tail_is_tiny(n: int, size: int) -> None:
    lengths = batch_lengths(n, size)
    assert sum(lengths) == n
    assert max(lengths) <= size
    if n >= size:
        assert min(lengths) >= max(2, size // 8)


def test_the_published_tail_of_eighty_stays_as_it_is() -> None:
    assert batch_lengths(50_000, 128)[-1] == 80


def test_an_untrained_run_is_recognised() -> None:
    assert not History([1.0] * 6, [0.1] * 6).trained(10)
    assert not History([2.5], [0.3]).trained(10)
    assert History([2.0] * 6, [0.1] * 5 + [0.3]).trained(10)


def test_the_newest_damaged_checkpoint_is_passed_over_and_two_are_kept(tmp_path: Path) -> None:
    for epoch in (1, 2, 3):
        checkpoint.save(tmp_path, "run", epoch, {"epoch": epoch, "weights": torch.ones(3)})
    assert sorted(p.name for p in tmp_path.iterdir()) == ["run.epoch-2.ckpt", "run.epoch-3.ckpt"]
    newest = tmp_path / "run.epoch-3.ckpt"
    data = bytearray(newest.read_bytes())
    data[len(data) // 2] ^= 1
    newest.write_bytes(data)
    quiet = Silent()
    found = checkpoint.load(tmp_path, "run", quiet)
    assert found is not None
    assert found[0] == 2
    assert quiet.warnings[0][0] == "W-checkpoint"
    (tmp_path / "run.epoch-2.ckpt").write_bytes(b"")
    with pytest.raises(DataError, match="Every checkpoint is damaged"):
        checkpoint.load(tmp_path, "run", quiet)
    checkpoint.discard(tmp_path, "run")
    assert checkpoint.load(tmp_path, "run", quiet) is None
