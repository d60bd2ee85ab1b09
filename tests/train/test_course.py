"""What is presented: a stated number of updates, other rows in each epoch, low-loss examples only looked at."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional

from dataset_audit.progress import Silent
from dataset_audit.runs import Settings, forget, learn
from dataset_audit.train.batches import Resident, batch_lengths
from dataset_audit.train.fit import fit, presented, start
from dataset_audit.train.models import build
from dataset_audit.train.networks import Network
from dataset_audit.train.recipes import recipe
from dataset_audit.train.task import Course, State, Task

N, CLASSES = 60, 3
PLAN = recipe("fast", {"epochs": "4", "batch_size": "16", "crop_padding": "0", "flip": "false"})


def task(course: Course, rows: np.ndarray | None = None) -> Task:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, CLASSES, N)
    images = rng.integers(0, 120, (N, 8, 8, 1)) + 60 * labels[:, None, None, None]
    return Task(
        images=Resident(torch.from_numpy(images.astype(np.uint8))),
        labels=torch.from_numpy(labels),
        rows=np.arange(N) if rows is None else rows,
        classes=CLASSES,
        seed=1,
        device=torch.device("cpu"),
        precision="fp32",
        mean=torch.tensor([0.5]),
        std=torch.tensor([0.2]),
        course=course,
    )


def network() -> Network:
    return build("small", classes=CLASSES, channels=1, image_size=8)


def weights(state: State) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in state.network.parameters()])


@pytest.mark.parametrize("steps", [1, 4, 5, 9, 16])
def test_the_stated_number_of_updates_is_made_and_the_last_epoch_is_cut(steps: int) -> None:
    seen: list[int] = []
    given = task(Course(steps=steps))
    state = fit(given, PLAN, start(given, PLAN, network), observe=lambda i, *_: seen.append(len(i)))
    per_epoch = batch_lengths(N, 16)
    assert len(seen) == steps
    assert seen == (per_epoch * 4)[:steps]
    assert state.epoch == -(-steps // len(per_epoch))


def test_the_rate_falls_to_its_end_at_the_last_update_whatever_their_number() -> None:
    given, rates = task(Course(steps=6)), []
    state = start(given, PLAN, network)
    fit(given, PLAN, state, observe=lambda *_: rates.append(state.optimiser.param_groups[0]["lr"]))
    assert rates == [pytest.approx(PLAN.learning_rate(step, 6)) for step in range(6)]
    assert rates[-1] < max(rates) / 2


def test_as_many_updates_as_the_epochs_have_is_the_same_training() -> None:
    whole, stated = task(Course()), task(Course(steps=4 * len(batch_lengths(N, 16))))
    first = fit(whole, PLAN, start(whole, PLAN, network))
    second = fit(stated, PLAN, start(stated, PLAN, network))
    assert torch.equal(weights(first), weights(second))


def test_rows_may_change_with_the_epoch_and_keep_the_order_of_the_full_set() -> None:
    halves = [np.arange(0, N, 2), np.arange(1, N, 2)]
    given = task(Course(rows=lambda epoch: halves[epoch % 2]), rows=halves[0])
    full = task(Course())
    for epoch in range(3):
        order, mine = presented(full, epoch), presented(given, epoch)
        assert sorted(mine.tolist()) == halves[epoch % 2].tolist()
        assert mine.tolist() == [row for row in order.tolist() if row in set(mine.tolist())]


def test_the_easiest_by_their_last_loss_are_seen_but_not_learned_from() -> None:
    """Against a slow loop: the same network, batch by batch, loss over the chosen rows alone."""
    given = task(Course(skip=0.5))
    plain = recipe(PLAN.name, {"epochs": "2", "batch_size": "16", "crop_padding": "0", "flip": "false"})
    batches: list[tuple[torch.Tensor, torch.Tensor]] = []
    state = start(given, plain, network)
    fit(given, plain, state, observe=lambda i, z, *_: batches.append((i.clone(), z.clone())))

    slow = start(given, plain, network)
    last = torch.full((N,), float("inf"))
    lengths, step = batch_lengths(N, 16), 0
    mean, std = given.mean, given.std
    for epoch in range(2):
        for indices, pixels in given.images.epoch(presented(given, epoch), lengths):
            x = ((pixels.float() / 255 - mean) / std).permute(0, 3, 1, 2)
            for group in slow.optimiser.param_groups:
                group["lr"] = plain.learning_rate(step, 2 * len(lengths)) * group["scale"]
            order = sorted(range(len(indices)), key=lambda at: float(last[indices[at]]))
            skipped = sorted(order[: len(indices) // 2]) if epoch else []
            kept = [at for at in range(len(indices)) if at not in set(skipped)]
            slow.network.train()
            logits = torch.empty(len(indices), CLASSES)
            z = slow.network(x[kept])
            loss = functional.cross_entropy(z, given.labels[indices[kept]])
            logits[kept] = z.detach()
            if skipped:
                # in the order of rising loss, as they are run
                ranked = [at for at in order if at in set(skipped)]
                with torch.no_grad():
                    logits[ranked] = slow.network(x[ranked])
            last[indices] = functional.cross_entropy(logits, given.labels[indices], reduction="none")
            slow.optimiser.zero_grad()
            loss.backward()
            slow.optimiser.step()
            expected = batches[step]
            assert torch.equal(expected[0], indices)
            torch.testing.assert_close(expected[1], logits, rtol=1e-3, atol=1e-3)
            step += 1
    torch.testing.assert_close(weights(state), weights(slow), rtol=1e-3, atol=1e-3)


def test_a_training_that_was_interrupted_goes_on_to_the_same_network(tmp_path: Path) -> None:
    given = task(Course(steps=14, skip=0.25))
    settings = Settings(folder=tmp_path, digest="a")
    whole = learn(given, PLAN, network, settings=settings, name="whole", progress=Silent())
    forget(settings, "whole")
    assert not list(tmp_path.iterdir())

    class Stopped(Exception):
        pass

    class Stop(Silent):
        def advance(self, done: int, **figures: float | str) -> None:
            if done > 2 * N + 20:
                raise Stopped

    with pytest.raises(Stopped):
        learn(given, PLAN, network, settings=settings, name="cut", progress=Stop())
    resumed = learn(given, PLAN, network, settings=settings, name="cut", progress=Silent())
    assert whole.epochs_trained == 4
    assert resumed.epochs_trained == 2
    assert torch.equal(weights(whole.state), weights(resumed.state))
    again = learn(
        replace(given, seed=2),
        PLAN,
        network,
        settings=replace(settings, digest="b"),
        name="cut",
        progress=Silent(),
    )
    assert again.epochs_trained == 4
