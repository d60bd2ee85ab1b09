"""One training of one arm: as many updates as its budget says, tested once at the end, read again as it was."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from dataset_audit.errors import DataError
from dataset_audit.evaluate import experiment
from dataset_audit.evaluate.arms import Job, random_subset, redrawn
from dataset_audit.evaluate.experiment import Bench, Budget, Outcome, outcome, planned, presentations
from dataset_audit.evaluate.tune import best, trial
from dataset_audit.progress import Silent
from dataset_audit.runs import Settings, learn
from dataset_audit.train.batches import Resident, batch_lengths
from dataset_audit.train.fit import predict
from dataset_audit.train.models import build
from dataset_audit.train.networks import Network
from dataset_audit.train.recipes import recipe
from dataset_audit.train.task import Course, Task

N, M, CLASSES = 64, 30, 3
ROWS = np.arange(4, N)  # the first four are held out


@cache
def images(n: int, seed: int) -> tuple[Resident, np.ndarray]:
    """Grey 8x8 images, brighter from class to class."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, CLASSES, n)
    pixels = rng.integers(0, 120, (n, 8, 8, 1)) + 60 * labels[:, None, None, None]
    return Resident(torch.from_numpy(pixels.astype(np.uint8))), labels


def network() -> Network:
    return build("small", classes=CLASSES, channels=1, image_size=8)


def bench(budget: Budget = "epochs", **changes: str) -> Bench:
    train_images, labels = images(N, 0)
    test_images, test_labels = images(M + 5, 1)
    given = {"epochs": "3", "batch_size": "16", "crop_padding": "0", "flip": "false", **changes}
    rows = np.arange(M + 4, 4, -1)  # not ascending: what is said must stay with its row
    return Bench(
        task=Task(
            images=train_images,
            labels=torch.from_numpy(labels),
            rows=ROWS,
            classes=CLASSES,
            seed=0,
            device=torch.device("cpu"),
            precision="fp32",
            mean=torch.tensor([0.5]),
            std=torch.tensor([0.2]),
        ),
        test=test_images,
        test_rows=rows,
        test_labels=test_labels[rows],
        recipe=recipe("fast", given),
        budget=budget,
        build=network,
    )


def job(arm: str = "full", **options: Any) -> Job:
    return Job(**{"arm": arm, "seed": 1, "rows": ROWS, **options})


class Watched(Silent):
    """Counts updates and images as the loop itself reports them; ends the run after so many updates."""

    def __init__(self, end: int = 10**9) -> None:
        super().__init__()
        self.updates, self.images, self.end, self.notes = 0, 0, end, list[str]()

    def advance(self, done: int, **figures: float | str) -> None:
        if self.updates == self.end:
            raise Stopped
        self.updates, self.images = self.updates + 1, done

    def note(self, text: str) -> None:
        self.notes.append(text)


def work(place: Path, digest: str = "a") -> Settings:
    place.mkdir(exist_ok=True)
    return Settings(folder=place, digest=digest)


class Stopped(Exception):
    pass


def same(a: Outcome, b: Outcome, *, seconds: bool = True) -> bool:
    plain = ("steps", "presentations", "train_accuracy", "learned", *(["seconds"] if seconds else []))
    return all(getattr(a, name) == getattr(b, name) for name in plain) and all(
        np.array_equal(getattr(a, name), getattr(b, name))
        and getattr(a, name).dtype == getattr(b, name).dtype
        for name in ("predicted", "confidence", "loss")
    )


ARMS = {
    "full": job(),
    "curve": job("curve", share=0.4),
    "random": job("random", rows=random_subset(ROWS, 21, 1), keep=0.35),
    "rs2": job("rs2", rows=redrawn(ROWS, 30, 1)(0), redrawn=redrawn(ROWS, 30, 1), keep=0.5),
    "selective": job("selective", skip=0.5),
    "tuned": job("random", rows=random_subset(ROWS, 21, 1), knobs={"batch_size": 8, "lr": 0.05}),
}


@pytest.mark.parametrize("budget", ["epochs", "steps"])
@pytest.mark.parametrize("name", ARMS)
def test_what_is_planned_is_what_is_trained(name: str, budget: Budget, tmp_path: Path) -> None:
    given, arm, watched = bench(budget), ARMS[name], Watched()
    found, _ = outcome(given, arm, work(tmp_path), watched)
    assert (found.steps, found.presentations) == (watched.updates, watched.images)
    assert presentations(given, arm) == watched.images
    size = arm.knobs.get("batch_size", 16)
    per_epoch, of_full = (
        math.ceil(len(arm.rows) / size),
        math.ceil(len(ROWS) / size),
    )  # no tails to share here
    steps = 3 * (of_full if budget == "steps" else per_epoch)
    assert found.steps == (round(0.4 * steps) if name == "curve" else steps)
    if name != "curve" and budget == "epochs":
        assert found.presentations == 3 * len(arm.rows)


def slow_presentations(n: int, batch_size: int, steps: int) -> int:
    lengths = batch_lengths(n, batch_size)
    return sum(lengths[step % len(lengths)] for step in range(steps))


@given(st.integers(1, 60), st.integers(2, 70), st.sampled_from(["epochs", "steps"]), st.floats(0.01, 1))
def test_budgets_are_counted_batch_by_batch(
    count: int, batch_size: int, budget: Budget, share: float
) -> None:
    given = bench(budget, batch_size=str(batch_size))
    arm = job("random", rows=ROWS[:count], share=share)
    chosen, course = planned(given, arm)
    full = len(batch_lengths(60, batch_size))
    own = len(batch_lengths(count, batch_size))
    assert chosen == given.recipe
    assert course.steps == max(1, round(share * (3 * (full if budget == "steps" else own))))
    assert presentations(given, arm) == slow_presentations(count, batch_size, course.steps)


def test_steps_are_as_many_for_every_size_and_epochs_are_not() -> None:
    sizes = [job("random", rows=ROWS[:count]) for count in (60, 45, 30, 16, 5)]
    by_steps = {planned(bench("steps"), arm)[1].steps for arm in sizes}
    by_epochs = [planned(bench("epochs"), arm)[1].steps for arm in sizes]
    assert by_steps == {12}
    assert by_epochs == [12, 9, 6, 3, 3]


def test_knobs_change_the_recipe_of_their_arm_alone() -> None:
    given = bench()
    chosen, _ = planned(given, ARMS["tuned"])
    assert chosen == replace(given.recipe, batch_size=8, lr=0.05)
    assert planned(given, ARMS["random"])[0] == given.recipe


def test_the_network_of_the_last_epoch_is_tested_once_without_augmentation(tmp_path: Path) -> None:
    """Against the same training by hand, and its logits example by example in plain Python."""
    given, arm = bench(), ARMS["random"]
    found, epochs = outcome(given, arm, work(tmp_path), Silent())
    task = replace(given.task, rows=arm.rows, seed=1, course=Course(steps=6))
    by_hand = learn(
        task,
        given.recipe,
        network,
        settings=work(tmp_path / "b"),
        name="x",
        progress=Silent(),
    )
    assert epochs == 3
    assert by_hand.state.epoch == 3
    watched = replace(task, images=given.test)
    (logits,) = [said for _, said in predict(watched, by_hand.state, given.test_rows)]
    for place, row in enumerate(logits.double().tolist()):
        total = sum(math.exp(value - max(row)) for value in row)
        label = int(given.test_labels[place])
        assert found.predicted[place] == row.index(max(row))
        assert found.confidence[place] == pytest.approx(1 / total, rel=1e-6)
        assert found.loss[place] == pytest.approx(math.log(total) + max(row) - row[label], rel=1e-5, abs=1e-7)
    assert (found.predicted == given.test_labels).mean() > 0.6, "it learned something to be tested"
    assert found.train_accuracy == by_hand.state.history.accuracy[-1]
    assert found.learned


def test_batches_of_the_test_do_not_mix_rows_up() -> None:
    given = bench()
    many = np.tile(given.test_rows, 40)  # more than one batch of 512
    labels = np.tile(given.test_labels, 40)
    state = learn_one(given)
    once = experiment.tested(
        replace(given.task, images=given.test), state, given.test_rows, given.test_labels
    )
    found = experiment.tested(replace(given.task, images=given.test), state, many, labels)
    for a, b in zip(once, found, strict=True):
        np.testing.assert_allclose(np.tile(a, 40), b, rtol=1e-4, atol=1e-5)


def learn_one(given: Bench) -> Any:
    from dataset_audit.train.fit import fit, start

    task = replace(given.task, course=Course(steps=4))
    return fit(task, given.recipe, start(task, given.recipe, network))


def test_a_finished_training_is_read_and_not_trained_again(tmp_path: Path) -> None:
    settings = work(tmp_path)
    first, epochs = outcome(bench(), ARMS["random"], settings, Silent())
    assert epochs == 3
    assert [path.name for path in tmp_path.iterdir()] == ["random-21-seed-1.parquet"], "no checkpoint is left"
    watched = Watched()
    again, epochs = outcome(bench(), ARMS["random"], settings, watched)
    assert (epochs, watched.updates) == (0, 0)
    assert same(first, again)


def test_a_shard_of_another_configuration_is_not_used(tmp_path: Path) -> None:
    first, _ = outcome(bench(), ARMS["random"], work(tmp_path), Silent())
    watched = Watched()
    other, epochs = outcome(bench(lr="0.01"), ARMS["random"], work(tmp_path, "b"), watched)
    assert epochs == 3
    assert watched.updates == 6
    assert not np.array_equal(first.confidence, other.confidence)


def test_a_damaged_shard_is_said_and_not_guessed_at(tmp_path: Path) -> None:
    settings = work(tmp_path)
    outcome(bench(), ARMS["random"], settings, Silent())
    shard = tmp_path / "random-21-seed-1.parquet"
    content = bytearray(shard.read_bytes())
    content[len(content) // 3] ^= 0xFF
    shard.write_bytes(content)
    with pytest.raises(DataError, match=r"random-21-seed-1\.parquet"):
        outcome(bench(), ARMS["random"], settings, Silent())


@pytest.mark.parametrize("name", ["rs2", "selective", "curve"])
def test_an_interrupted_training_comes_to_what_an_uninterrupted_one_does(name: str, tmp_path: Path) -> None:
    whole, _ = outcome(bench(), ARMS[name], work(tmp_path / "whole"), Silent())
    settings = work(tmp_path / "cut")
    per_epoch = len(batch_lengths(len(ARMS[name].rows), 16))
    with pytest.raises(Stopped):
        outcome(bench(), ARMS[name], settings, Watched(end=per_epoch))
    watched = Watched()
    resumed, epochs = outcome(bench(), ARMS[name], settings, watched)
    assert watched.notes == [f"resumed {ARMS[name].name} after epoch 1"]
    assert epochs == math.ceil(whole.steps / per_epoch) - 1
    assert watched.updates == whole.steps - per_epoch
    assert same(whole, resumed, seconds=False)
    assert resumed.seconds > 0


def test_a_training_killed_between_its_last_epoch_and_its_shard_is_only_tested(tmp_path: Path) -> None:
    settings, given, arm = work(tmp_path), bench(), ARMS["random"]
    _, course = planned(given, arm)
    task = replace(given.task, rows=arm.rows, seed=1, course=course)
    learn(task, given.recipe, network, settings=settings, name=arm.name, progress=Silent())
    watched = Watched()
    found, epochs = outcome(given, arm, settings, watched)
    assert (epochs, watched.updates) == (0, 0)
    whole, _ = outcome(given, arm, work(tmp_path / "whole"), Silent())
    assert same(found, whole, seconds=False)
    assert found.seconds > 0, "the seconds of the epochs were kept with the checkpoint"


def test_seeds_are_other_trainings_and_arms_of_a_seed_begin_alike(tmp_path: Path) -> None:
    """One step at a rate of nothing: what is tested are the initial weights."""
    still = bench(epochs="1", lr="1e-30", batch_size="64", weight_decay="0")
    settings = work(tmp_path)
    jobs = [job(seed=1), job("random", rows=ROWS, seed=1), job(seed=2)]
    first, other_arm, other_seed = (outcome(still, one, settings, Silent())[0] for one in jobs)
    assert np.array_equal(first.loss, other_arm.loss)
    assert not np.allclose(first.loss, other_seed.loss)


def test_an_arm_that_diverges_is_named(tmp_path: Path) -> None:
    settings = work(tmp_path)
    with pytest.raises(DataError) as caught:
        outcome(bench(lr="1e30"), ARMS["random"], settings, Silent())
    assert caught.value.id == "E-diverged"
    assert "arm random, 21 examples, seed 1; epoch" in caught.value.where
    assert "a lower --lr for all arms" in caught.value.do
    assert not list(tmp_path.glob("*.parquet"))


def test_an_update_that_breaks_the_network_after_its_last_loss_is_seen_at_the_test(tmp_path: Path) -> None:
    """One update: the loss before it is finite, what the network says after it is not."""
    one_step = bench(epochs="1", lr="1e38", batch_size="64")
    with pytest.raises(DataError, match="says nothing finite") as caught:
        outcome(one_step, job(), work(tmp_path), Silent())
    assert caught.value.id == "E-diverged"
    assert "arm full, 60 examples, seed 1" in caught.value.where


def test_a_trial_that_diverges_only_loses(tmp_path: Path) -> None:
    settings = work(tmp_path)
    held = ROWS[::10]
    given = replace(bench(), test=bench().task.images, test_rows=held)
    given = replace(given, test_labels=given.task.labels.numpy()[held])
    tried = [trial(job(), knobs, number, held, ROWS) for number, knobs in enumerate(({}, {"lr": 1e30}))]
    watched = Watched()
    outcomes = [outcome(given, one, settings, watched)[0] for one in tried]
    accuracies = [float((one.predicted == given.test_labels).mean()) for one in outcomes]
    assert accuracies[1] == 0
    assert best(accuracies) == 0
    assert accuracies[0] > 0
    assert not outcomes[1].learned
    assert any("trial-1-full" in note and "not finite" in note for note in watched.notes)
    again, epochs = outcome(given, tried[1], settings, Silent())
    assert epochs == 0
    assert same(again, outcomes[1])
