"""A recorder spread over processes holds, put together, what one that saw everything holds."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dataset_audit.errors import DataError, UsageError
from dataset_audit.scores.recorder import Recorder
from dataset_audit.scores.shared import SharedRecorder

Epoch = list[tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]]


class Peers:
    """Threads that stand for processes: everything is put on one table, everybody takes what is his."""

    def __init__(self, rank: int, size: int, table: list, barrier: threading.Barrier) -> None:
        self.rank, self.size, self._table, self._barrier = rank, size, table, barrier

    def _all(self, mine: object) -> list:
        self._table[self.rank] = mine
        self._barrier.wait(10)
        found = list(self._table)
        self._barrier.wait(10)
        return found

    def exchanged(self, owner, index, values):
        everything = self._all((owner, index, values))
        came = [(i[o == self.rank], v[o == self.rank]) for o, i, v in everything]
        return torch.cat([i for i, _ in came]), torch.cat([v for _, v in came])

    def collected(self, mine):
        found = self._all(mine)
        return found if self.rank == 0 else None


def together(size: int, each: Callable[[Peers], object]) -> list:
    table, barrier = [None] * size, threading.Barrier(size)

    def one(rank: int) -> object:
        try:
            return each(Peers(rank, size, table, barrier))
        except BaseException:
            barrier.abort()
            raise

    with ThreadPoolExecutor(size) as pool:
        return list(pool.map(one, range(size)))


def history(seed: int, n: int, epochs: int, classes: int) -> list[Epoch]:
    """Return epochs in batches of four; some examples are never presented, some logits tie."""
    rng = np.random.default_rng(seed)
    rows = rng.permutation(n)[: int(rng.integers(1, n + 1))]
    labels = torch.from_numpy(rng.integers(0, classes, n))
    found = []
    for _ in range(epochs):
        order = torch.from_numpy(rng.permutation(rows))
        logits = torch.from_numpy(np.round(rng.normal(0, 3, (len(order), classes))).astype(np.float32))
        features = torch.from_numpy(rng.normal(0, 1, (len(order), 3)).astype(np.float32))
        parts = zip(*(t.split(4) for t in (order, logits, labels[order], features)), strict=True)
        found.append(list(parts))
    return found


def assert_same(found: dict, wanted: dict) -> None:
    assert set(found) == set(wanted)
    for name, value in wanted.items():
        if isinstance(value, torch.Tensor):
            assert torch.allclose(found[name].double(), value.double(), atol=1e-6, equal_nan=True), name
            if not value.is_floating_point():
                assert torch.equal(found[name], value), name
        else:
            assert found[name] == value, name


@settings(max_examples=8)
@given(st.integers(0, 10**6), st.integers(1, 5), st.integers(1, 14), st.booleans())
def test_parts_put_together_are_what_one_recorder_remembers(
    seed: int, size: int, n: int, drift: bool
) -> None:
    past, tdds = history(seed, n, 11, 3), (9, 4) if drift else None
    whole = Recorder(n, 3, tdds=tdds, el2n_epochs=(1,))
    for epoch in past:
        for batch in epoch:
            whole.update(*batch)
    for index, logits, labels, _ in past[0]:
        whole.update_checkpoint(index, logits, labels)

    def one(peers: Peers) -> tuple[dict, dict]:
        mine = SharedRecorder(peers, n, 3, tdds=tdds, el2n_epochs=(1,))
        for number, epoch in enumerate(past):
            for batch in epoch:
                mine.update(*(part[peers.rank :: peers.size] for part in batch))
            mine.exchange()
            if number == 6:  # as if killed and resumed, everyone from the state of all
                saved = peers._all(mine.state_dict())[0]
                mine = SharedRecorder(peers, n, 3, tdds=tdds, el2n_epochs=(1,))
                mine.load_state_dict(saved)
        for index, logits, labels, _ in past[0]:
            own = index % peers.size == peers.rank
            mine.update_checkpoint(index[own], logits[own], labels[own])
        return mine.state_dict(), mine.columns()

    first, *others = together(size, one)
    assert_same(first[0], whole.state_dict())
    assert all(state == columns == {} for state, columns in others)
    for name, values in whole.columns().items():
        assert np.allclose(first[1][name], values, atol=1e-6, equal_nan=True), name


def test_each_process_holds_the_state_of_its_own_examples_alone() -> None:
    held = together(4, lambda peers: len(SharedRecorder(peers, 1001, 10)._own.state_dict()["counts"]))
    assert held == [251, 250, 250, 250]


def test_an_example_presented_by_two_processes_is_refused() -> None:
    def one(peers: Peers) -> None:
        mine = SharedRecorder(peers, 4, 2)
        mine.update(torch.tensor([2]), torch.zeros(1, 2), torch.tensor([0]))
        mine.exchange()

    with pytest.raises(ValueError, match="twice"):
        together(2, one)


def test_infinite_logits_on_any_process_spoil_the_scores_of_all() -> None:
    def one(peers: Peers) -> str:
        mine = SharedRecorder(peers, 4, 2)
        logits = torch.full((1, 2), torch.inf if peers.rank else 0.0)
        mine.update(torch.tensor([peers.rank]), logits, torch.tensor([0]))
        mine.exchange()
        try:
            return str(mine.columns())
        except DataError as error:
            return str(error)

    said = together(2, one)
    assert "1 presentations had logits that are not finite" in said[0]
    assert said[1] == "{}"


def test_labels_and_indices_that_do_not_exist_are_refused_at_once() -> None:
    mine = SharedRecorder(Peers(0, 2, [], threading.Barrier(2)), 4, 2)
    with pytest.raises(UsageError, match="Index 4"):
        mine.update(torch.tensor([4]), torch.zeros(1, 2), torch.tensor([0]))
