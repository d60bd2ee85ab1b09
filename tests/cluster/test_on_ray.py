"""How Ray is started and what its failures become; a stand-in for Ray, which need not be installed."""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from dataset_audit.cluster.on_ray import connected, ray_engine
from dataset_audit.errors import DataError, EnvironmentProblem
from dataset_audit.progress import Silent


class RayError(Exception):
    pass


class RayTaskError(RayError):
    def __init__(self, cause: Exception) -> None:
        self.cause = cause


class WorkerCrashedError(RayError):
    pass


class Ray:
    """What of Ray is used; a task is a function that is called when its result is asked for."""

    exceptions = SimpleNamespace(RayError=RayError, RayTaskError=RayTaskError)

    def __init__(self) -> None:
        self.asked: dict[str, object] = {}

    def is_initialized(self) -> bool:
        return False

    def init(self, **asked: object) -> None:
        self.asked = asked

    def shutdown(self) -> None:
        pass

    def cluster_resources(self) -> dict[str, float]:
        return {"CPU": 1.0}

    def remote(self, _function: object) -> Any:
        submitted = SimpleNamespace(remote=lambda task, _folder: task)
        return SimpleNamespace(options=lambda **_: submitted)

    def get(self, task: Callable[[], object]) -> object:
        return task()


@pytest.fixture
def ray(monkeypatch: pytest.MonkeyPatch) -> Ray:
    there = Ray()
    monkeypatch.setitem(sys.modules, "ray", there)  # type: ignore[arg-type]
    return there


@pytest.mark.parametrize(
    ("address", "asked"),
    [("", {"address": "local", "num_cpus": 2}), ("head:6379", {"address": "head:6379"})],
    ids=["none", "a cluster"],
)
def test_without_an_address_ray_starts_here_and_joins_no_cluster_that_happens_to_run(
    address: str, asked: dict[str, object], ray: Ray, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_ADDRESS", address)
    with connected(workers=2):
        assert asked.items() <= ray.asked.items()
        assert ("num_cpus" in ray.asked) == ("num_cpus" in asked)


@pytest.mark.usefixtures("ray")
def test_what_a_task_raises_is_raised_and_a_worker_that_is_killed_is_no_bug() -> None:
    def broken() -> None:
        raise RayTaskError(DataError("It broke.", where="here"))

    def killed() -> None:
        raise WorkerCrashedError("The worker died unexpectedly.\nMore of it.")

    with ray_engine(Silent()) as engine:
        with pytest.raises(DataError, match="It broke"):
            engine._runner.result(broken)
        with pytest.raises(EnvironmentProblem) as raised:
            engine._runner.result(killed)
    error = raised.value
    assert (error.id, error.exit_code) == ("E-worker", 4)
    assert error.where == "WorkerCrashedError: The worker died unexpectedly."
    assert error.do
