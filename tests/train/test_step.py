"""Replayed steps: the same updates and records as the plain loop, captured after they warmed up, nothing waited for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from dataset_audit.errors import DataError
from dataset_audit.progress import Silent
from dataset_audit.scores.recorder import Recorder
from dataset_audit.train import augment, fit
from dataset_audit.train.batches import Resident, batch_lengths
from dataset_audit.train.distributed import World
from dataset_audit.train.models import build
from dataset_audit.train.networks import Network
from dataset_audit.train.recipes import Recipe, recipe
from dataset_audit.train.step import WARM, Plain, Steps, Work
from dataset_audit.train.task import Course, State, Task

N, CLASSES = 53, 3


def task(**changes: object) -> Task:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, CLASSES, N)
    images = rng.integers(0, 120, (N, 12, 12, 3)) + 60 * labels[:, None, None, None]
    made = Task(
        images=Resident(torch.from_numpy(images.astype(np.uint8))),
        labels=torch.from_numpy(labels),
        rows=np.arange(N),
        classes=CLASSES,
        seed=1,
        device=torch.device("cpu"),
        precision="fp32",
        mean=torch.tensor([0.5, 0.4, 0.3]),
        std=torch.tensor([0.2, 0.2, 0.3]),
        replay=True,
    )
    return replace(made, **changes)  # type: ignore[arg-type]


def short(name: str = "fast", **overrides: str) -> Recipe:
    return recipe(name, {"epochs": "3", "batch_size": "16", "crop_padding": "1", "lr": "0.05", **overrides})


def made(name: str) -> Callable[[], Network]:
    return lambda: build(name, classes=CLASSES, channels=3, image_size=12)


def trained(given: Task, chosen: Recipe, model: str = "small") -> tuple[State, Recorder]:
    recorder = Recorder(N, CLASSES)
    state = fit.start(given, chosen, made(model))
    return fit.fit(given, chosen, state, observe=recorder.update), recorder


def same(one: State, other: State) -> bool:
    tensors = zip(one.network.state_dict().values(), other.network.state_dict().values(), strict=True)
    return all(torch.equal(a, b) for a, b in tensors)


@pytest.mark.parametrize(
    ("model", "changes", "overrides"),
    [
        ("small", {}, {}),
        ("airbench", {}, {"label_smoothing": "0.1", "momentum": "0.85"}),
        ("small", {"rows": np.arange(0, N, 3)}, {"schedule": "constant"}),
        ("small", {"course": Course(steps=7)}, {"momentum": "0", "nesterov": "no"}),
        ("small", {}, {"flip": "no", "crop_padding": "0"}),
        ("small", {"precision": "bf16"}, {}),
    ],
)
def test_replayed_steps_end_in_the_bits_of_the_plain_loop(
    model: str, changes: dict[str, object], overrides: dict[str, str]
) -> None:
    chosen = short(**overrides)
    plain, watched = trained(task(replay=False, **changes), chosen, model)
    replayed, recorded = trained(task(**changes), chosen, model)
    assert same(plain, replayed)
    assert plain.history == replayed.history
    for name, values in watched.columns().items():
        assert np.array_equal(values, recorded.columns()[name], equal_nan=True), name


@pytest.mark.parametrize("replay", [True, False])
def test_a_run_may_be_resumed_the_other_way(replay: bool) -> None:
    whole, _ = trained(task(replay=replay), short())

    def stop(state: State) -> None:
        raise KeyboardInterrupt

    cut = fit.start(task(), short(), made("small"))
    with pytest.raises(KeyboardInterrupt):
        fit.fit(task(replay=not replay), short(), cut, after_epoch=stop)
    resumed = fit.start(task(), short(), made("small"))
    resumed.unpack(cut.pack())
    assert resumed.epoch == 1
    assert same(whole, fit.fit(task(replay=replay), short(), resumed))


class Recording(Plain):
    """Captures as a GPU would: knows how often a step was captured and replayed, and does it then and there."""

    def __init__(self, *, fails: bool = False) -> None:
        self.captured_lengths = 0
        self.replays = 0
        self.fails = fails

    def captured(self, step: Callable[[], None]) -> Callable[[], None] | None:
        if self.fails:
            raise RuntimeError("operation not permitted when stream is capturing\nmore")
        self.captured_lengths += 1

        def again() -> None:
            self.replays += 1
            step()

        return again


def test_each_length_is_captured_after_it_has_warmed_up(monkeypatch: pytest.MonkeyPatch) -> None:
    lane = Recording()
    monkeypatch.setattr(fit, "Plain", lambda: lane)
    chosen = short(epochs="6")
    replayed, _ = trained(task(), chosen)
    plain, _ = trained(task(replay=False), chosen)
    lengths = batch_lengths(N, 16) * 6
    assert lane.captured_lengths == len(set(lengths)) == 2
    assert lane.replays == len(lengths) - 2 * WARM
    assert same(plain, replayed)


def test_what_cannot_be_captured_is_said_once_and_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fit, "Plain", lambda: Recording(fails=True))
    quiet, given, chosen = Silent(), task(), short(epochs="5")
    state = fit.start(given, chosen, made("small"))
    fit.fit(given, chosen, state, progress=quiet)
    assert [id_ for id_, _ in quiet.warnings] == ["W-graph"]
    assert "not permitted when stream is capturing)" in quiet.warnings[0][1]
    assert same(state, trained(task(replay=False), chosen)[0])


@pytest.mark.parametrize("replay", [True, False])
def test_trainings_that_take_turns_end_as_each_alone(replay: bool) -> None:
    tasks = [task(seed=seed, replay=replay) for seed in (1, 2)]
    alone = [trained(given, short())[0] for given in tasks]
    states = [fit.start(given, short(), made("small")) for given in tasks]
    turns = [fit.in_steps(given, short(), state) for given, state in zip(tasks, states, strict=True)]
    steps = 0
    while turns:
        turns = [turn for turn in turns if next(turn, "over") != "over"]
        steps += len(turns)
    assert steps == 2 * 3 * len(batch_lengths(N, 16))
    assert same(alone[0], states[0])
    assert same(alone[1], states[1])
    assert not same(alone[0], alone[1])


def test_on_a_gpu_steps_are_replayed_unless_something_would_be_lost() -> None:
    on_gpu, recorder = task(device=torch.device("cuda"), replay=None), Recorder(N, CLASSES)
    assert fit._replayable(on_gpu, None)
    assert fit._replayable(on_gpu, recorder.update)
    assert not fit._replayable(task(replay=None), recorder.update)  # a CPU gains nothing
    seen: list[torch.Tensor] = []
    anyones = lambda indices, logits, labels, features=None: seen.append(indices)  # noqa: E731
    assert not fit._replayable(on_gpu, anyones)  # its list would not grow in a replay
    assert not fit._replayable(replace(on_gpu, course=Course(skip=0.5)), None)
    assert not fit._replayable(replace(on_gpu, world=World(0, 2)), None)
    assert not fit._replayable(replace(on_gpu, replay=False), None)


class NothingWaits(TorchDispatchMode):
    """Refuses operators that bring a value or a shape to the host."""

    WAITS = (
        "_local_scalar_dense",
        "nonzero",
        "masked_select",
        "unique",
        "is_nonzero",
        "equal.default",
        "bincount",
    )

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        if any(name in str(func) for name in self.WAITS):
            raise AssertionError(f"{func} waits for the device")
        return func(*args, **(kwargs or {}))


def test_no_step_waits_for_the_device() -> None:
    given, chosen = task(), short()
    state = fit.start(given, chosen, made("airbench"))
    recorder = Recorder(N, CLASSES, tdds=(3, 3))

    def observe(i: torch.Tensor, z: torch.Tensor, y: torch.Tensor, h: torch.Tensor | None = None) -> None:
        recorder._step(i, z.float(), y, h)  # what update does on a GPU: its checks are for a CPU

    lengths = batch_lengths(N, 16)
    run = fit._Run(
        task=given,
        recipe=chosen,
        state=state,
        features=state.network.features,
        gradients=fit.Gradients([], given.world),
        lengths=lengths,
        steps=3 * len(lengths),
        observe=observe,
        progress=Silent(),
    )
    replay = fit._laid_out(run)
    assert replay is not None
    drawn = fit._drawn(run, 0)
    replay.steps.begin(drawn.order, drawn.draws, [0.1] * len(lengths))
    with NothingWaits():
        for length in lengths:
            replay.steps.run(length)
        with pytest.raises(AssertionError, match="waits for the device"):
            replay.steps.figures()
    assert replay.steps.figures()[0] > 0


def test_a_loss_that_is_not_finite_ends_the_epoch_with_its_name() -> None:
    with pytest.raises(DataError, match="not finite") as raised:
        trained(task(), short(lr="1e30", warmup="0"))
    assert "epoch 1" in str(raised.value)


def test_streamed_images_and_skipped_examples_take_the_plain_loop() -> None:
    class Elsewhere:
        size, channels = (12, 12), 3

        def epoch(self, order: np.ndarray, lengths: list[int]) -> object:
            return task().images.epoch(order, lengths)

    plain, _ = trained(task(replay=False), short())
    streamed, _ = trained(task(images=Elsewhere()), short())
    assert same(plain, streamed)
    skipping = Course(skip=0.5)
    assert same(
        trained(task(course=skipping), short())[0], trained(task(course=skipping, replay=False), short())[0]
    )


@pytest.mark.slow  # importing the compiler is what takes long
def test_the_recorder_is_one_graph_for_the_compiler() -> None:
    """Compiled whole, with the backend that changes nothing: no branch on values, the same state bit for bit."""
    eager, compiled = Recorder(N, CLASSES, tdds=(3, 3)), Recorder(N, CLASSES, tdds=(3, 3))
    step = torch.compile(compiled._step, backend="eager", fullgraph=True)
    rng = np.random.default_rng(0)
    for _ in range(2):
        indices = torch.from_numpy(rng.permutation(N)[:16])
        logits = torch.from_numpy(rng.normal(size=(16, CLASSES)).astype(np.float32))
        labels, embedding = torch.from_numpy(rng.integers(0, CLASSES, 16)), torch.ones(16, 4)
        eager._step(indices, logits, labels, embedding)
        step(indices, logits, labels, embedding)
    kept = compiled.state_dict()
    for name, value in eager.state_dict().items():
        if isinstance(value, torch.Tensor):
            assert torch.equal(torch.nan_to_num(value), torch.nan_to_num(kept[name])), name  # type: ignore[arg-type]


def test_steps_leave_unused_parameters_and_frozen_ones_alone() -> None:
    network = build("airbench", classes=CLASSES, channels=3, image_size=12)
    before = network.whiten.weight.clone()
    groups = [{"params": group.parameters, "scale": group.rate} for group in network.groups()]
    optimiser = torch.optim.SGD(groups, lr=0.1, momentum=0.9, fused=True)
    images = torch.randint(0, 255, (8, 12, 12, 3), dtype=torch.uint8)
    labels = torch.arange(8) % CLASSES

    def say(indices: torch.Tensor, pixels: torch.Tensor) -> fit.Said:
        embedding = network.features(augment.normalise(pixels, torch.zeros(3), torch.ones(3)))
        logits = network.head(embedding)
        return fit.Said(
            logits, labels[indices], embedding, torch.nn.functional.cross_entropy(logits, labels[indices])
        )

    work = Work(images=images, say=say, observe=None, optimiser=optimiser, padding=0, flip=False)
    steps = Steps(work, rows=8, steps=2, warn=pytest.fail)
    draws = augment.draw(1, 0, 8, padding=0, device=torch.device("cpu"))
    steps.begin(np.arange(8), draws, [0.1, 0.05])
    for _ in range(2):
        steps.run(4)
    assert steps.figures()[0] > 0
    assert torch.equal(network.whiten.weight, before)
