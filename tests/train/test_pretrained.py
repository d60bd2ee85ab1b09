"""Published weights: used where they are at hand, fetched only when asked; nothing else opens a connection."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import huggingface_hub
import pytest
import safetensors.torch
import timm
import torch
from timm.models import PretrainedCfg, _builder

from dataset_audit.errors import DataError, EnvironmentProblem, UsageError
from dataset_audit.train.models import build
from dataset_audit.train.networks import Network

NAME = "test_resnet"  # 0.5 M parameters
HUB = "models--timm--test_resnet.r160_in1k"


@pytest.fixture(autouse=True)
def _offline(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object, **options: object) -> None:
        raise OSError("a connection was opened")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    for module, names in (
        (_builder, ("load_state_dict_from_hf", "load_state_dict_from_url", "download_cached_file")),
        (huggingface_hub, ("hf_hub_download",)),
    ):
        for name in names:
            monkeypatch.setattr(module, name, refuse)


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(huggingface_hub.file_download, "HF_HUB_CACHE", str(tmp_path / "hub"), raising=False)
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "torch"))
    return tmp_path


def published(cache: Path, *, kind: str = "model.safetensors") -> dict[str, torch.Tensor]:
    """Put weights with a thousand classes into the hub's cache and return them."""
    torch.manual_seed(7)
    weights = timm.create_model(NAME, num_classes=1000).state_dict()
    snapshot = cache / "hub" / HUB / "snapshots" / "c0ffee"
    snapshot.mkdir(parents=True)
    (cache / "hub" / HUB / "refs").mkdir()
    (cache / "hub" / HUB / "refs" / "main").write_text("c0ffee")
    if kind == "model.safetensors":
        safetensors.torch.save_file(weights, snapshot / kind)
    else:
        torch.save(weights, snapshot / kind)
    return weights


def made(name: str = NAME, *, download: bool = False) -> Network:
    return build(name, classes=3, channels=3, image_size=32, pretrained=True, download=download)


@pytest.mark.parametrize("name", [NAME, "timm/resnet18", "test_vit", "gcvit_xxtiny"])
def test_missing_weights_stop_at_once_and_name_the_flag_that_fetches_them(name: str, cache: Path) -> None:
    with pytest.raises(UsageError, match="nothing is downloaded unasked") as caught:
        made(name)
    assert "--download" in caught.value.do
    assert name.removeprefix("timm/") in caught.value.what
    assert caught.value.exit_code == 2
    assert caught.value.__cause__ is None  # no connection was tried


@pytest.mark.parametrize("name", ["small", "probe-net", "botnet50ts_256"])
def test_a_model_without_published_weights_says_so(name: str, cache: Path) -> None:
    for download in (False, True):
        with pytest.raises(UsageError, match=f"{name} has no published weights"):
            made(name, download=download)


@pytest.mark.parametrize("kind", ["model.safetensors", "pytorch_model.bin"])
@pytest.mark.parametrize("download", [False, True])
def test_weights_in_the_hubs_cache_are_used_the_last_layer_excepted(
    kind: str, download: bool, cache: Path
) -> None:
    weights = published(cache, kind=kind)
    torch.manual_seed(0)
    network = made(download=download).eval()
    found = network.model.state_dict()
    differ = {name for name, values in found.items() if not torch.equal(values, weights[name])}
    assert differ == {"fc.weight", "fc.bias"}
    assert network(torch.zeros(2, 3, 32, 32)).shape == (2, 3)


def test_weights_in_torchs_cache_are_used(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    known = PretrainedCfg(
        url="https://example.org/some/where/weights.pth", first_conv="conv1", classifier="fc"
    )
    monkeypatch.setattr(timm, "get_pretrained_cfg", lambda name: known)
    with pytest.raises(UsageError, match="at hand"):
        made()
    weights = timm.create_model(NAME, num_classes=1000).state_dict()
    (cache / "torch" / "checkpoints").mkdir(parents=True)
    torch.save(weights, cache / "torch" / "checkpoints" / "weights.pth")
    assert torch.equal(made().model.state_dict()["conv1.0.weight"], weights["conv1.0.weight"])


def test_weights_that_cannot_be_read_are_bad_data(cache: Path) -> None:
    published(cache)
    file = cache / "hub" / HUB / "snapshots" / "c0ffee" / "model.safetensors"
    file.write_bytes(file.read_bytes()[:1000])
    with pytest.raises(DataError, match="cannot be read") as caught:
        made()
    assert caught.value.where == str(file)


class Planted:
    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self.folder),)


def test_a_pickle_that_is_no_weights_is_not_run(cache: Path) -> None:
    published(cache, kind="pytorch_model.bin")
    file = cache / "hub" / HUB / "snapshots" / "c0ffee" / "pytorch_model.bin"
    torch.save({"conv1.0.weight": Planted(cache / "ran")}, file)
    with pytest.raises(DataError, match="cannot be read"):
        made()
    assert not (cache / "ran").exists()


def test_weights_that_are_asked_for_and_cannot_be_fetched_are_the_machines_trouble(cache: Path) -> None:
    with pytest.raises(EnvironmentProblem, match="a connection was opened") as caught:
        made(download=True)
    assert caught.value.exit_code == 4


def test_without_published_weights_the_seed_decides(cache: Path) -> None:
    published(cache)
    drawn = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        network = build(NAME, classes=3, channels=3, image_size=32)
        drawn.append(network.model.state_dict()["conv1.0.weight"])
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])
