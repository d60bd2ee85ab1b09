"""Explanations: networks whose maps are known in closed form, and checks that fail where a map is no explanation."""

from __future__ import annotations

import copy
import sys
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from dataset_audit.bias import attribution
from dataset_audit.bias.ablations import grey
from dataset_audit.bias.attribution import Attribution, Subject, cam_layer, complete, redrawn
from dataset_audit.bias.explain import EXPLANATIONS, Method, available, explain, judge
from dataset_audit.bias.likeness import edges
from dataset_audit.errors import EnvironmentProblem
from dataset_audit.probes.classify import Fold, Learned
from dataset_audit.probes.network import Trained, Training, train
from dataset_audit.progress import Silent
from dataset_audit.train.batches import Resident
from dataset_audit.train.networks import Network, ProbeNet, ResNet18, WideResNet
from dataset_audit.train.recipes import recipe
from dataset_audit.train.task import History, State, Task

Pixels = NDArray[np.uint8]
CPU = torch.device("cpu")
MEAN, STD = torch.tensor([0.4, 0.5, 0.6]), torch.tensor([0.2, 0.25, 0.5])


def noise(count: int = 4, side: int = 16, seed: int = 0) -> Pixels:
    return np.random.default_rng(seed).integers(0, 256, (count, side, side, 3), dtype=np.uint8)


def as_trained(network: Network, pixels: Pixels, classes: int = 2) -> Trained:
    task = Task(
        images=Resident(torch.from_numpy(pixels)),
        labels=torch.zeros(len(pixels), dtype=torch.int64),
        rows=np.arange(len(pixels)),
        classes=classes,
        seed=0,
        device=CPU,
        precision="fp32",
        mean=MEAN,
        std=STD,
    )
    state = State(network=network, optimiser=torch.optim.SGD(network.parameters(), lr=0.1), history=History())
    return Trained(
        learned=Learned(probability=np.zeros((0, classes)), validation=0.0), task=task, state=state
    )


def as_subject(network: Network, layer: str = "") -> Subject:
    return Subject(network=network.eval(), mean=MEAN, std=STD, layer=layer)


def shares(pixels: Pixels) -> Tensor:
    return torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 255


class Flat(Network):
    """A linear model of pixels."""

    def __init__(self, side: int, classes: int = 2, seed: int = 0) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.head = nn.Linear(3 * side * side, classes)

    def features(self, x: Tensor) -> Tensor:
        return x.flatten(1)

    def weights(self, side: int) -> NDArray[np.float64]:
        """Per unit of pixel value, float64[classes, 3, side, side]."""
        weight = self.head.weight.detach().reshape(-1, 3, side, side) / STD[:, None, None]  # type: ignore[operator]
        return np.asarray(weight, np.float64)


class Convolved(Network):
    """One convolution of 2 x 2 patches, whose ReLU is in place, a coarser one, and a linear head on their means."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.fine, self.active = nn.Conv2d(3, 5, 2, 2), nn.ReLU(inplace=True)
        self.head = nn.Linear(5, 3)

    def features(self, x: Tensor) -> Tensor:
        return self.active(self.fine(x)).mean((2, 3))  # type: ignore[no-any-return]


class Shaped(Network):
    """A convolution, and then features in another shape."""

    def __init__(self, shape: Callable[[Tensor], Tensor], last: nn.Module) -> None:
        super().__init__()
        self.patches, self.shape, self.last = nn.Conv2d(3, 6, 2, 2), shape, last
        self.head = nn.Linear(6, 2)

    def features(self, x: Tensor) -> Tensor:
        found = self.last(self.shape(self.patches(x)))
        return found.mean(tuple(range(1, found.ndim - 1)))  # type: ignore[no-any-return]


class Beside(Network):
    """A grid that everything passes, then a convolution on the same grid that a shortcut goes around."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.beside = nn.Conv2d(3, 4, 2, 2), nn.Conv2d(4, 4, 1)
        self.head = nn.Linear(4, 2)

    def features(self, x: Tensor) -> Tensor:
        out = self.stem(x)
        return (out + self.beside(out)).mean((2, 3))  # type: ignore[no-any-return]


class Bent(Network):
    """Nearly all of the margin arises where the mean colour is left, within 1 / slope of the way."""

    def __init__(self, slope: int) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.slope, self.head = slope, nn.Linear(3, 2)

    def features(self, x: Tensor) -> Tensor:
        return (self.slope * x.mean((2, 3))).tanh()


class Headless(Network):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(3, 4), nn.Linear(4, 2)
        self.head = nn.Identity()

    def features(self, x: Tensor) -> Tensor:
        return self.second(self.first(x.mean((2, 3))).relu())  # type: ignore[no-any-return]


def weight_of(network: Network) -> Tensor:
    assert isinstance(network.head, nn.Linear)
    return network.head.weight.detach()


def outlines(_: Subject, x: Tensor, __: Tensor) -> Attribution:
    """What an edge detector would call an explanation."""
    levels = (x * 255).round().to(torch.uint8).permute(0, 2, 3, 1).numpy()
    found = edges(grey(levels)).astype(np.float32)
    return Attribution(magnitude=found, signed=found)


def test_saliency_of_a_linear_model_is_the_difference_of_its_weights_and_nothing_moves_it() -> None:
    pixels, network = noise(3), Flat(16)
    found = explain(as_trained(network, pixels), pixels, np.zeros(3, np.int64), np.arange(3), seed=0, draws=3)
    weight = network.weights(16)
    expected = np.abs(weight[0] - weight[1]).sum(0)
    saliency = found.methods["saliency"]
    for one in saliency.maps:
        np.testing.assert_allclose(one, expected / expected.mean(), rtol=1e-5)
    assert list(saliency.under) == [1, 2, 4, 8]
    for stable in saliency.under.values():
        assert stable.kept > 0
        assert stable.spearman.median == pytest.approx(1)
        assert stable.beyond_chance.median == 1
        assert stable.shift.median == pytest.approx(0, abs=1e-6)
    assert saliency.verdict.trusted
    assert saliency.redrawn.median < 0.5


def test_integrated_gradients_of_a_linear_model_are_weight_times_distance_from_the_mean_colour() -> None:
    pixels, network = noise(3, 8), Flat(8)
    x, target = shares(pixels), torch.tensor([0, 1, 0])
    found = complete(as_subject(network), x, target)
    weight = network.weights(8)
    for one, picture, own in zip(found.maps.signed, x.numpy(), target.tolist(), strict=True):
        expected = ((weight[own] - weight[1 - own]) * (picture - MEAN.numpy()[:, None, None])).sum(0)
        np.testing.assert_allclose(one, expected, atol=1e-5)
    assert found.steps.tolist() == [attribution.STEPS] * 3
    assert found.share == 1


@pytest.mark.parametrize(("slope", "steps", "share"), [(300, 64, 1), (10**6, 256, 0)])
def test_paths_are_refined_until_a_map_sums_to_the_margin_it_explains(
    slope: int, steps: int, share: int
) -> None:
    subject, x = as_subject(Bent(slope)), shares(noise(6, 4))
    target = attribution.predicted(subject, x)
    found = complete(subject, x, target)
    difference = attribution.margins(subject, x, target) - attribution.margins(
        subject, subject.baseline(4).expand_as(x), target
    )
    short = np.abs(found.maps.signed.sum((1, 2)) - difference.numpy()) / np.abs(difference.numpy())
    np.testing.assert_allclose(found.lacks, short, atol=1e-4)
    assert found.share == share == np.mean(short <= 0.05)
    assert attribution.STEPS < found.steps.max() <= steps


def test_grad_cam_is_what_a_hand_computes() -> None:
    pixels, network = noise(3), Convolved()
    x, subject = shares(pixels), as_subject(network, "fine")
    target = attribution.predicted(subject, x)
    with torch.no_grad():
        grid = network.fine((x - MEAN[:, None, None]) / STD[:, None, None]).numpy()
        logits = subject.logits(x).numpy()
    weight = network.head.weight.detach().numpy()  # type: ignore[union-attr]
    found = attribution.grad_cam(subject, x, target)
    for one, cells, said, own in zip(found.signed, grid, logits, target.tolist(), strict=True):
        other = max((c for c in range(3) if c != own), key=lambda c: said[c])
        expected = np.zeros((8, 8))
        for channel in range(5):  # the head sees the mean over 64 cells of what is above zero
            slope = (weight[own, channel] - weight[other, channel]) / 64 * (cells[channel] > 0)
            expected += slope.mean() * cells[channel]
        np.testing.assert_allclose(one, expected, atol=1e-6)
    np.testing.assert_array_equal(found.magnitude, np.maximum(found.signed, 0))


@pytest.mark.parametrize("name", list(EXPLANATIONS))
def test_a_term_common_to_all_classes_changes_no_map(name: str) -> None:
    network, x = Convolved(), shares(noise(2))
    target = torch.tensor([2, 1])
    before = EXPLANATIONS[name].attribute(as_subject(network, "active"), x, target)
    with torch.no_grad():
        network.head.weight += torch.linspace(-3, 3, 5)  # type: ignore[operator]
    after = EXPLANATIONS[name].attribute(as_subject(network, "active"), x, target)
    np.testing.assert_allclose(before.signed, after.signed, atol=1e-4)


@pytest.mark.parametrize("name", list(EXPLANATIONS))
def test_a_batch_gives_what_its_pictures_give_alone(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    network, x, target = Convolved(), shares(noise(5)), torch.tensor([2, 1, 0, 0, 1])
    attribute, subject = EXPLANATIONS[name].attribute, as_subject(network, "active")
    together = attribute(subject, x, target)
    monkeypatch.setattr(attribution, "_PIXELS", 2 * 16**2)
    np.testing.assert_allclose(attribute(subject, x, target).signed, together.signed, atol=1e-5)
    alone = [attribute(subject, x[[i]], target[[i]]).magnitude[0] for i in range(5)]
    np.testing.assert_allclose(np.stack(alone), together.magnitude, atol=1e-5)


@pytest.mark.parametrize(
    ("network", "side", "layer"),
    [
        (ProbeNet(2, 3), 64, "stages.7"),  # 8 x 8; the last stage has 4 x 4
        (ProbeNet(2, 3), 128, "stages"),
        (ProbeNet(2, 3), 16, "stages.3"),  # none has 7 x 7: the largest, 4 x 4
        (
            ResNet18(2, 3),
            32,
            "blocks.5",
        ),  # 8 x 8, where the stride of the next block has a shortcut beside it
        (WideResNet(2, 3, widen=1), 32, "norm"),
        (Beside(), 16, "stem"),
    ],
)
def test_grad_cam_looks_at_the_last_grid_that_everything_passes(
    network: Network, side: int, layer: str
) -> None:
    subject = as_subject(network)
    assert cam_layer(subject, shares(noise(2, side))) == (layer, "")
    assert not any(module._forward_hooks for module in network.modules())


@pytest.mark.parametrize(
    ("network", "shape"),
    [
        (Shaped(lambda x: x.flatten(2).transpose(1, 2), nn.LayerNorm(6)), "(2, 64, 6)"),
        (Shaped(lambda x: x.permute(0, 2, 3, 1), nn.LayerNorm(6)), "(2, 8, 8, 6)"),
        (Flat(16), "no layer on a grid"),
    ],
    ids=["tokens", "channels-last", "linear"],
)
def test_features_that_are_no_grid_are_refused_with_the_reason(network: Network, shape: str) -> None:
    layer, why = cam_layer(as_subject(network), shares(noise(2)))
    assert layer == ""
    assert shape in why
    pixels = noise(2)
    found = explain(as_trained(network, pixels), pixels, np.zeros(2, np.int64), np.arange(2), seed=0, draws=1)
    assert found.skipped == {"grad-cam": why}
    assert list(found.methods) == ["saliency", "integrated-gradients"]
    assert found.layer == ""


def test_edges_sold_as_an_explanation_are_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(EXPLANATIONS, "edges", Method(attribute=outlines, about="the picture's edges"))
    side = np.arange(32)
    rings = np.hypot(side[:, None] - 9, side - 15)  # smooth, or a perturbation would move its edges
    pixels = np.repeat((127 + 100 * np.sin(rings / 3))[None, ..., None], 3, axis=3).astype(np.uint8)
    torch.manual_seed(0)
    trained = as_trained(ProbeNet(2, 3), pixels)
    found = explain(trained, pixels, np.zeros(1, np.int64), np.zeros(1, np.int64), seed=0, draws=2)
    sold = found.methods["edges"]
    assert sold.edges.median == pytest.approx(1)
    assert sold.redrawn.median == pytest.approx(1)
    assert sold.verdict.spearman > 0.5
    assert not sold.verdict.trusted
    assert "last layer" in sold.verdict.why
    assert found.methods["saliency"].edges.median < 0.5


def test_maps_lie_on_the_mark_that_gives_the_source_away() -> None:
    pixels, labels = noise(200, 32), np.repeat([0, 1], 100)
    pixels[100:, 2:8, 24:30] = np.maximum(pixels[100:, 2:8, 24:30], 200)
    order = np.random.default_rng(0).permutation(200)
    fold = Fold(train=order[:160], validation=order[160:180], test=order[180:])
    plain = replace(recipe("probe"), batch_size=16, crop_padding=0, flip=False)
    trained = train(pixels, labels, fold, Training(model="probe-net", recipe=plain, device=CPU), seed=0)
    found = explain(trained, pixels, labels, fold.test, seed=0, draws=2, epsilons=(2,))
    assert found.accuracy >= 0.9
    marked = found.methods["integrated-gradients"].maps[labels[fold.test] == 1]
    share = marked[:, 2:8, 24:30].sum((1, 2)) / marked.sum((1, 2))
    assert np.median(share) > 4 * 36 / 32**2
    salient = found.methods["saliency"].maps[labels[fold.test] == 1]
    share = salient[:, 2:8, 24:30].sum((1, 2)) / salient.sum((1, 2))
    assert np.median(share) > 3 * 36 / 32**2


def test_perturbations_stay_pictures_and_only_those_that_keep_the_prediction_are_explained(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pixels, network = noise(2, 8), Flat(8)
    pixels[0, :4] = (0, 255, 1)
    subject, x = as_subject(network), shares(pixels)
    with torch.no_grad():  # the first picture on the fence, the second far from it
        logits = subject.logits(x)
        network.head.bias[0] -= logits[0, 0] - logits[0, 1] - 1e-4  # type: ignore[operator, index]
    seen: list[tuple[Tensor, Tensor]] = []

    def look(subject: Subject, x: Tensor, target: Tensor) -> Attribution:
        seen.append((x, target))
        return attribution.saliency(subject, x, target)

    for name in list(EXPLANATIONS):
        monkeypatch.delitem(EXPLANATIONS, name)
    monkeypatch.setitem(EXPLANATIONS, "look", Method(attribute=look, about="looks"))
    found = explain(
        as_trained(network, pixels), pixels, np.zeros(2, np.int64), np.arange(2), seed=0, draws=20
    )
    stable = found.methods["look"].under
    for epsilon, (moved, target) in zip((1, 2, 4, 8), seen[1:5], strict=True):
        assert len(moved) == round(40 * stable[epsilon].kept)
        assert torch.equal(attribution.predicted(subject, moved), target)
        for one in moved:
            near = min((one - picture).abs().max() for picture in x)
            assert near <= epsilon / 255 + 1e-6
        assert moved.min() >= 0
        assert moved.max() <= 1
    last = seen[4][0][-1]  # of the second picture at 8/255: moved by exactly that, or clipped
    expected = [(x[1] + sign * 8 / 255).clamp(0, 1) for sign in (1, -1)]
    assert torch.minimum((last - expected[0]).abs(), (last - expected[1]).abs()).max() < 1e-6
    assert 0.3 < stable[8].kept < 0.95  # the first falls on either side


def test_what_is_drawn_for_a_picture_depends_on_its_row_alone() -> None:
    pixels = noise(12, 32)
    torch.manual_seed(0)
    trained, labels = as_trained(ProbeNet(2, 3), pixels), np.zeros(12, np.int64)
    alone = explain(trained, pixels, labels, np.array([11]), seed=3, draws=2, epsilons=(2, 8))
    among = explain(trained, pixels, labels, np.arange(12)[::-1].copy(), seed=3, draws=2, epsilons=(2, 8))
    again = explain(trained, pixels, labels, np.array([11]), seed=3, draws=2, epsilons=(2, 8))
    other = explain(trained, pixels, labels, np.array([11]), seed=4, draws=2, epsilons=(2, 8))
    for name in EXPLANATIONS:
        one = alone.methods[name]
        assert one.under == again.methods[name].under
        assert one.verdict == again.methods[name].verdict
        np.testing.assert_allclose(one.maps[0], among.methods[name].maps[0], atol=1e-3)
    assert alone.methods["saliency"].under != other.methods["saliency"].under


def test_the_network_is_left_as_it_was() -> None:
    pixels = noise(2, 32)
    trained = as_trained(ProbeNet(2, 3), pixels)
    trained.state.network.train()
    before = copy.deepcopy(trained.state.network.state_dict())
    found = explain(trained, pixels, np.array([0, 1]), np.arange(2), seed=0, draws=1, epsilons=(2,))
    after = trained.state.network.state_dict()
    assert trained.state.network.training
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert all(parameter.grad is None for parameter in trained.state.network.parameters())
    for one in found.methods.values():
        assert one.maps.shape == (2, 32, 32)
        assert one.maps.dtype == np.float32
        mean = one.maps.mean((1, 2))
        assert np.all((np.abs(mean - 1) < 1e-4) | (mean == 0))
    assert found.methods["grad-cam"].cells == 64
    assert found.methods["grad-cam"].top == 6
    assert found.methods["saliency"].cells == 1024
    assert found.accuracy == np.mean(found.predicted == [0, 1])


def test_a_redrawn_head_has_its_old_scale_and_nothing_else_changes() -> None:
    torch.manual_seed(0)
    network = WideResNet(10, 3, widen=2)
    with torch.no_grad():
        network.head.weight.mul_(7).add_(3)  # type: ignore[union-attr, operator]
    subject = as_subject(network)
    drawn = redrawn(subject, shares(noise(1)), 0, 0).network
    old, new = weight_of(network), weight_of(drawn)
    assert float(new.mean()) == pytest.approx(float(old.mean()), abs=0.1)
    assert float(new.std()) == pytest.approx(float(old.std()), rel=0.1)
    assert abs(float(torch.corrcoef(torch.stack([old.flatten(), new.flatten()]))[0, 1])) < 0.1
    theirs = drawn.state_dict()
    assert all(
        torch.equal(value, theirs[name])
        for name, value in network.state_dict().items()
        if not name.startswith("head")
    )
    again, other = (weight_of(redrawn(subject, shares(noise(1)), 0, draw).network) for draw in (0, 1))
    assert torch.equal(new, again)
    assert not torch.equal(new, other)


def test_without_a_head_the_last_layer_with_weights_is_redrawn() -> None:
    network = Headless()
    drawn = redrawn(as_subject(network), shares(noise(1)), 0, 0).network
    changed = {
        name
        for name, value in drawn.state_dict().items()
        if not torch.equal(value, network.state_dict()[name])
    }
    assert changed == {"second.weight", "second.bias"}


def test_blank_maps_are_counted_and_give_no_reason_to_trust() -> None:
    pixels = noise(3)
    network = Flat(16)
    with torch.no_grad():
        network.head.weight.zero_()  # type: ignore[operator]
    found = explain(as_trained(network, pixels), pixels, np.zeros(3, np.int64), np.arange(3), seed=0, draws=2)
    saliency = found.methods["saliency"]
    assert saliency.blank == 1
    assert saliency.under[2].kept == 1
    assert saliency.under[2].pictures == 0
    assert not saliency.verdict.trusted
    assert not saliency.maps.any()
    assert found.completeness is not None
    assert found.completeness.share == 1  # nothing to explain, and nothing explained


@pytest.mark.parametrize(
    ("spearman", "overlap", "redrawn_to", "trusted", "word"),
    [
        (0.5, 0.2, 0.39, True, "no reason"),
        (0.49, 0.9, 0.0, False, "order"),
        (0.9, 0.19, 0.0, False, "highest"),
        (0.9, 0.9, 0.81, False, "last layer"),
        (float("nan"), 0.9, 0.0, False, "order"),
        (0.9, 0.9, float("nan"), False, "last layer"),
        (0.9, 0.9, -1.0, True, "no reason"),
    ],
)
def test_a_verdict_needs_all_three_numbers(
    spearman: float, overlap: float, redrawn_to: float, trusted: bool, word: str
) -> None:
    verdict = judge(spearman=spearman, overlap=overlap, redrawn=redrawn_to)
    assert verdict.trusted is trusted
    assert word in verdict.why
    assert f"{overlap:.2f}" in verdict.why


def test_without_captum_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "captum.attr", None)
    with pytest.raises(EnvironmentProblem) as caught:
        available()
    assert caught.value.do == "pip install 'dataset-audit[explain]'"


def test_calls_that_cannot_be_meant_are_refused() -> None:
    pixels, labels = noise(2), np.zeros(2, np.int64)
    trained = as_trained(Flat(16), pixels)
    with pytest.raises(ValueError, match="0 rows"):
        explain(trained, pixels, labels, np.array([], np.int64), seed=0)
    with pytest.raises(ValueError, match="0 draws"):
        explain(trained, pixels, labels, np.arange(2), seed=0, draws=0)
    with pytest.raises(ValueError, match="about 2"):
        explain(trained, pixels, labels, np.arange(2), seed=0, epsilons=(1, 4))
    with pytest.raises(ValueError, match="uint8"):
        explain(trained, pixels.astype(np.float32), labels, np.arange(2), seed=0)  # type: ignore[arg-type]


def test_progress_is_told_of_every_picture() -> None:
    class Told(Silent):
        def __init__(self) -> None:
            super().__init__()
            self.calls: list[object] = []

        def start(self, task: str, total: int, unit: str) -> None:
            self.calls.append((task, total, unit))

        def advance(self, done: int, **figures: float | str) -> None:
            self.calls.append(done)

        def finish(self) -> None:
            self.calls.append("finished")

    pixels, told = noise(10, 8), Told()
    explain(
        as_trained(Flat(8), pixels),
        pixels,
        np.zeros(10, np.int64),
        np.arange(10),
        seed=0,
        draws=1,
        epsilons=(2,),
        progress=told,
    )
    assert told.calls == [("explain", 10, "pictures"), 8, 10, "finished"]
