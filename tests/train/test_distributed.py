"""Two processes make the updates of one, present each example once, and resume each other's work."""

from __future__ import annotations

import importlib.util
import json
import os
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.distributed import FileStore, PrefixStore

from dataset_audit.progress import Silent
from dataset_audit.train.batches import batch_lengths
from dataset_audit.train.distributed import ALONE, Failure, World, awaited, failed
from dataset_audit.train.gradients import Gradients, has_batch_statistics
from dataset_audit.train.models import build
from dataset_audit.train.ranks import on_this_machine, told

SCRIPT = Path(__file__).with_name("two_processes.py")


def _module() -> ModuleType:
    spec = importlib.util.spec_from_file_location("two_processes", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


two = _module()


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what two processes found."""
    root = tmp_path_factory.mktemp("two")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    common = {**os.environ, "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    ranks = [
        subprocess.Popen(
            [sys.executable, str(SCRIPT), str(root)],
            env={**common, "RANK": str(rank), "LOCAL_RANK": str(rank), "LOCAL_WORLD_SIZE": "2"},
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    errors = [rank.communicate(timeout=110)[1] for rank in ranks]
    assert [rank.returncode for rank in ranks] == [0, 0], errors
    return root


def said(root: Path, rank: int) -> dict:
    return json.loads((root / f"said-{rank}.json").read_text())


def columns(path: Path) -> dict[str, np.ndarray]:
    with np.load(path) as stored:
        return dict(stored)


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory):
    """The run of one process."""
    return two.scored(tmp_path_factory.mktemp("one"))


def assert_same_scores(got: dict[str, np.ndarray], wanted: dict[str, np.ndarray]) -> None:
    assert set(got) == set(wanted)
    for name, values in wanted.items():
        if values.dtype.kind in "iub":
            assert np.array_equal(got[name], values), name
        else:
            assert np.allclose(got[name], values, atol=1e-5, equal_nan=True), name


def test_two_processes_score_as_one_where_no_statistic_of_a_batch_is_used(found: Path, alone) -> None:
    assert_same_scores(columns(found / "whole.npz"), alone.columns)
    assert (alone.columns["presentations"] == two.EPOCHS).all()
    for rank in range(2):
        loss, accuracy = said(found, rank)["history"]
        assert loss == pytest.approx(alone.history.loss, rel=1e-5)
        assert accuracy == alone.history.accuracy


def test_an_interrupted_run_of_two_goes_on_with_two_to_the_same_bits(found: Path) -> None:
    assert said(found, 0)["stopped"]
    assert said(found, 0)["resumed"] == said(found, 1)["resumed"] == two.EPOCHS - 1
    whole, resumed = columns(found / "whole.npz"), columns(found / "resumed.npz")
    assert all(np.array_equal(whole[name], resumed[name], equal_nan=True) for name in whole)


def test_one_process_goes_on_where_two_were(found: Path, alone) -> None:
    progress = Silent()
    resumed = two.scored(found / "alone", progress=progress)
    assert resumed.epochs_trained == two.EPOCHS - 1
    assert_same_scores(resumed.columns, alone.columns)
    assert "W-processes" in [id_ for id_, _ in progress.warnings]


def test_running_statistics_and_figures_are_the_same_on_all_processes(found: Path) -> None:
    assert said(found, 0)["normalised"] == said(found, 1)["normalised"]


def test_processes_decide_once_collect_deal_and_exchange(found: Path) -> None:
    first, second = said(found, 0), said(found, 1)
    assert first["once"] == second["once"] == "from 0"
    assert first["collected"] == [0, 10]
    assert second["collected"] is None
    assert sorted(first["dealt"] + second["dealt"]) == list(range(7))
    assert (first["index"], first["values"]) == ([1, 11], [[0, 0], [1, 1]])
    assert (second["index"], second["values"]) == ([0, 2, 10, 12], [[0, 0], [0, 0], [1, 1], [1, 1]])
    for each in (first, second):
        assert "1 of 2 processes see other images" in each["disagreed"]
        assert "process 2 on " in each["disagreed"]


@given(st.integers(1, 200), st.integers(1, 60), st.integers(1, 9))
def test_every_example_of_a_batch_is_one_processes(n: int, size: int, processes: int) -> None:
    order, lengths = np.random.default_rng(n).permutation(n), batch_lengths(n, size)
    parts = [World(rank, processes).share(order, lengths) for rank in range(processes)]
    batches, at = np.split(order, np.cumsum(lengths)[:-1]), [0] * processes
    for number, batch in enumerate(batches):
        seen = []
        for rank, (mine, own) in enumerate(parts):
            assert len(own) == len(lengths)
            seen.append(mine[at[rank] : at[rank] + own[number]])
            at[rank] += own[number]
            assert seen[-1].tolist() == batch[rank::processes].tolist()
        assert sorted(np.concatenate(seen)) == sorted(batch)
        assert max(map(len, seen)) - min(map(len, seen)) <= 1
    for _, own in parts:  # a part once empty stays so: empty batches need no place among the others
        assert sorted(own, key=lambda length: length == 0) == own


def test_one_process_alone_shares_with_nobody() -> None:
    network = nn.Linear(2, 1)
    gradients = Gradients(network.parameters(), ALONE)
    network(torch.ones(1, 2)).sum().backward()
    before = [p.grad.clone() for p in network.parameters() if p.grad is not None]
    gradients.sum()
    assert all(
        torch.equal(p.grad, b)
        for p, b in zip(network.parameters(), before, strict=True)
        if p.grad is not None
    )
    assert ALONE.once(lambda: 3) == 3
    assert ALONE.collected("mine") == ["mine"]
    assert list(ALONE.dealt("all", 3)) == [0, 1, 2]
    assert ALONE.failure() is None
    ALONE.meet("nobody")
    ALONE.agree("with itself")
    assert ALONE.owned(np.arange(3)).tolist() == [0, 1, 2]
    assert World(1, 3).owned(np.arange(8)).tolist() == [1, 4, 7]


def test_batch_norm_is_recognised_and_its_absence_too() -> None:
    made = {
        name: build(name, classes=3, channels=1, image_size=28)
        for name in ("small", "mnist-net", "fixup-resnet18")
    }
    assert {name: has_batch_statistics(network) for name, network in made.items()} == {
        "small": True,
        "mnist-net": False,
        "fixup-resnet18": False,
    }


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({}, (0, 1)),
        ({"RANK": "1", "WORLD_SIZE": "2"}, (0, 1)),  # left over from something else: nobody to meet
        ({"RANK": "1", "WORLD_SIZE": "4", "MASTER_ADDR": "a", "MASTER_PORT": "1"}, (1, 4)),
        ({"RANK": "x", "WORLD_SIZE": "4", "MASTER_ADDR": "a", "MASTER_PORT": "1"}, (0, 1)),
    ],
)
def test_torchruns_variables_say_who_this_is(variables: dict[str, str], expected: tuple[int, int]) -> None:
    assert told(variables) == expected


def test_processes_of_one_machine_divide_its_cores_and_gpus() -> None:
    common = {"RANK": "5", "WORLD_SIZE": "8", "MASTER_ADDR": "a", "MASTER_PORT": "1"}
    assert on_this_machine({**common, "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "4"}) == (1, 4)
    assert on_this_machine(common) == (0, 1)
    assert on_this_machine({"LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "4"}) == (0, 1)


def test_a_failure_elsewhere_names_the_process_and_keeps_its_code() -> None:
    failure = Failure(rank=1, host="node7", code=3, id="E-diverged", what="No.", where="epoch 2", do="less")
    error = failure.error(4)
    assert (error.code, error.id, error.do) == (3, "E-diverged", "less")
    assert str(error) == "No.\n  at: process 2 of 4 on node7: epoch 2\n  do: less"


def test_processes_leave_word_for_each_other_in_a_file(tmp_path: Path) -> None:
    first, second = (
        World(rank, 2, PrefixStore("word", FileStore(str(tmp_path / "met"), 2))) for rank in (0, 1)
    )
    dealt = [first.dealt("work", 3), second.dealt("work", 3)]
    assert [next(dealt[0]), next(dealt[1]), next(dealt[0])] == [0, 1, 2]
    assert [*dealt[0], *dealt[1]] == []
    with ThreadPoolExecutor() as threads:
        came = [threads.submit(one.meet, "here") for one in (first, second)]
        assert [each.result(timeout=10) for each in came] == [None, None]
    assert first.lives() is second.lives() is first.failure() is None
    second.tell(failed(1, 3, ("E-data", "Broken.", "row 3", "")))
    first.tell(failed(0, 4, ("E-worker", "Too late.", "", "")))
    heard = first.failure()
    assert heard is not None
    assert (heard, heard.code, heard.what) == (second.failure(), 3, "Broken.")
    with ThreadPoolExecutor() as threads:
        codes = [threads.submit(one.leave, 0, 5.0) for one in (first, second)]
        assert [each.result(timeout=10) for each in codes] == [3, 3]


def test_a_process_that_falls_silent_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = SimpleNamespace(now=0.0)
    monkeypatch.setattr("dataset_audit.train.distributed.time", SimpleNamespace(monotonic=lambda: clock.now))
    first, second = (World(rank, 2, FileStore(str(tmp_path / "met"), 2)) for rank in (0, 1))
    while clock.now < 200:
        assert first.lives() is second.lives() is None
        clock.now += 0.5
    assert (tmp_path / "met").stat().st_size < 100 * 60  # a word every few seconds, not one for each look
    while clock.now < 250:
        assert first.lives() is None
        clock.now += 0.5
    clock.now = 261.0
    silent = first.lives()
    assert silent is not None
    assert (silent.rank, silent.code) == (1, 4)


def test_what_another_process_left_is_waited_for(tmp_path: Path) -> None:
    seen = iter([None, None, "there"])
    assert awaited(lambda: next(seen), tmp_path) == "there"
