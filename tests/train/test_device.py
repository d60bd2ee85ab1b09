"""The machine: which device, which precision, how many threads."""

from __future__ import annotations

import pytest
import torch

from dataset_audit.errors import EnvironmentProblem, UsageError
from dataset_audit.train import device


def test_auto_takes_what_is_there_and_an_absent_gpu_is_the_environment_s_fault() -> None:
    assert device.choose_device("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")
    assert device.choose_device("cpu") == torch.device("cpu")
    with pytest.raises(EnvironmentProblem, match="not on this machine") as raised:
        device.choose_device("cuda:99")
    assert raised.value.exit_code == 4


@pytest.mark.parametrize("name", ["gpu", "cuda:x", "cpu:0", "", "cuda:-1"])
def test_other_names_are_usage_errors(name: str) -> None:
    with pytest.raises(UsageError, match="no such kind of device"):
        device.choose_device(name)


def test_precision_is_as_asked_and_auto_repeats_itself() -> None:
    cpu = torch.device("cpu")
    assert device.choose_precision("bf16", cpu) == "bf16"
    assert device.choose_precision("fp32", cpu) == "fp32"
    assert device.choose_precision("auto", cpu) == device.choose_precision("auto", cpu)


@pytest.mark.parametrize(("flags", "wanted"), [("avx512f amx_bf16", "bf16"), ("avx512f avx2", "fp32")])
def test_bf16_on_a_cpu_needs_the_instruction(
    monkeypatch: pytest.MonkeyPatch, flags: str, wanted: str
) -> None:
    monkeypatch.setattr("dataset_audit.train.device.Path.read_text", lambda *_, **__: f"flags : {flags}\n")
    assert device.choose_precision("auto", torch.device("cpu")) == wanted


def test_small_steps_take_one_thread_unless_the_user_says_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    before = torch.get_num_threads()
    monkeypatch.setattr(device, "cores", lambda: 2)
    try:
        monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
        device.suit_threads(64 * 28 * 28)
        assert torch.get_num_threads() == 1
        device.suit_threads(128 * 32 * 32)
        assert torch.get_num_threads() == 2
        monkeypatch.setenv("OMP_NUM_THREADS", "2")
        device.suit_threads(1)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_cores_are_those_this_process_may_use(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(8)))
    monkeypatch.setattr("dataset_audit.train.device.Path.read_text", lambda *_, **__: "200000 100000\n")
    assert device.cores() == 2
    monkeypatch.setattr("dataset_audit.train.device.Path.read_text", lambda *_, **__: "max 100000\n")
    assert device.cores() == 8


def test_weights_drawn_after_the_same_path_are_the_same() -> None:
    draws = []
    for path in (("weights",), ("weights",), ("epoch", 0)):
        device.seed_torch(3, *path)
        draws.append(torch.rand(4))
    assert torch.equal(draws[0], draws[1])
    assert not torch.equal(draws[0], draws[2])
