"""Room for processes on a Ray cluster: reserved all at once, a GPU and a fair number of cores each."""

from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, Final

from dataset_audit.cluster.on_ray import connected
from dataset_audit.cluster.processes import Child, End, Environment, Room
from dataset_audit.errors import EnvironmentProblem

WAIT: Final = 120.0  # seconds that a busy cluster has to make room
LOOK: Final = 0.1  # seconds between two looks at a process
_JOB: Final = "RAY_JOB_CONFIG_JSON_ENV_VAR"  # in the environment of what `ray job submit` started
_UNASKED: Final = "RAY_EXPERIMENTAL_NOSET_CUDA_VISIBLE_DEVICES"  # there if that asked for no resources
_CARRIED: Final = ("AUDIT_", "GLOO_", "NCCL_", "TORCH_")  # settings of the first process that all have


@dataclass(frozen=True, kw_only=True)
class Node:
    """A machine of the cluster, as Ray counts it.

    Attributes:
        id: Its name.
        cores: All of them, whoever uses them.
        gpus: Likewise.
    """

    id: str
    cores: int
    gpus: int


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What is asked of Ray for a command.

    Attributes:
        count: Of processes, the first included.
        cores: For each.
        gpu: Whether each has a GPU.
    """

    count: int
    cores: int
    gpu: bool


def planned(nodes: Sequence[Node], first: str, count: int | None, *, gpu: bool) -> Plan:
    """Decide how many processes there are and what each gets: as many cores as all of them can have.

    Args:
        nodes: Of the cluster.
        first: The machine of the first process, which takes a place there.
        count: Of processes; None for one on each GPU, without GPUs one on each machine.
        gpu: Whether GPUs may be used.

    Raises:
        EnvironmentProblem: The cluster is too small.
    """
    gpus = sum(node.gpus for node in nodes)
    gpu = gpu and gpus > 0
    count = count or (gpus if gpu else len(nodes))
    most = max(node.cores for node in nodes)
    for cores in range(most, -1 if gpu else 0, -1):
        places = {
            node.id: min(node.gpus if gpu else count, node.cores // cores if cores else count)
            for node in nodes
        }
        if sum(places.values()) - min(1, places[first]) >= count - 1:
            return Plan(count=count, cores=cores, gpu=gpu)
    what = f"{gpus} GPUs" if gpu else f"{sum(node.cores for node in nodes)} cores"
    raise EnvironmentProblem(
        f"{count} processes are more than Ray has room for: {what} in all.",
        do="fewer --processes",
    )


@contextmanager
def on_ray(count: int | None, *, device: str) -> Iterator[Room]:
    """Reserve places on the cluster that RAY_ADDRESS names, or on a Ray of this machine, until the block is left.

    Processes with GPUs are kept close to each other, for they exchange gradients; those without are spread out, for
    each is to have the cores of a machine.

    Args:
        count: Of processes, the first included; None for as many as there are GPUs, else machines.
        device: As ``--device`` says it.

    Raises:
        EnvironmentProblem: No Ray, or no room within two minutes.
    """
    if os.environ.get("RAY_ADDRESS", "").startswith("ray://"):
        raise EnvironmentProblem(
            "A client of Ray is no part of its cluster: the other processes could not reach this one.",
            where=os.environ["RAY_ADDRESS"],
            do="start it on a machine of the cluster: ray job submit -- audit ...",
        )
    with connected() as ray:
        nodes = [
            Node(
                id=node["NodeID"],
                cores=int(node["Resources"].get("CPU", 0)),
                gpus=int(node["Resources"].get("GPU", 0)),
            )
            for node in ray.nodes()
            if node["Alive"]
        ]
        first = ray.get_runtime_context().get_node_id()
        plan = planned(nodes, first, count, gpu=device != "cpu")
        with (
            _own(ray, next(node for node in nodes if node.id == first), plan) as gpus,
            _group(ray, plan) as handles,
        ):
            yield Room(
                others=[
                    _Seat(ray, handle, *where)
                    for handle, where in zip(handles, _asked(ray, handles), strict=True)
                ],
                address=ray.util.get_node_ip_address(),
                host=_machine(first),
                gpus=gpus,
                extra=carried(os.environ),
            )


class Process:
    """A child process where Ray has reserved a place; Ray makes it an actor."""

    def __init__(self) -> None:
        self._child: Child | None = None
        self._signalled: list[int] = []

    def where(self) -> tuple[str, tuple[str, ...]]:
        """Return the machine and the GPUs that Ray reserved."""
        import ray as installed  # noqa: PLC0415 - an extra

        ray: Any = installed
        node = ray.get_runtime_context().get_node_id()
        return _machine(node), tuple(str(gpu) for gpu in ray.get_gpu_ids())

    def run(self, arguments: Sequence[str], folder: str, environment: Environment) -> End:
        """Start the process and wait until it ends."""
        child = Child()
        try:
            child.start(arguments, folder, environment)
        except OSError as error:  # no such folder on this machine
            return End(code=1, said=f"{error.strerror}: {error.filename}")
        self._child = child
        for number in self._signalled:  # before there was anything to signal
            child.signal(number)
        while (end := child.ended()) is None:
            time.sleep(LOOK)
        return end

    def signal(self, number: int) -> None:
        """Send the process a signal, if it runs."""
        self._signalled.append(number)
        if self._child is not None:
            self._child.signal(number)


class _Seat:
    """One of the others, as the first process sees it; see `processes.Place`."""

    def __init__(self, ray: Any, handle: Any, host: str, gpus: tuple[str, ...]) -> None:
        self._ray, self._handle = ray, handle
        self.host, self.gpus = host, gpus
        self._run: Any = None
        self._end: End | None = None

    def start(self, arguments: Sequence[str], folder: str, environment: Environment) -> None:
        self._run = self._handle.run.remote(list(arguments), folder, dict(environment))

    def ended(self) -> End | None:
        if self._end is None and self._ray.wait([self._run], timeout=0)[0]:
            try:
                self._end = self._ray.get(self._run)
            except self._ray.exceptions.RayError as error:
                self._end = End(code=1, said=_last_line(error))
        return self._end

    def signal(self, number: int) -> None:
        self._handle.signal.remote(number)


def given(environment: Mapping[str, str]) -> tuple[str, ...] | None:
    """Return the GPUs that ``ray job submit --entrypoint-num-gpus`` reserved for this process, () for none.

    None means that nothing was reserved for it, so that a place has to be asked for.
    """
    if _JOB not in environment or environment.get(_UNASKED) == "1":
        return None
    return tuple(name for name in environment.get("CUDA_VISIBLE_DEVICES", "").split(",") if name)


def carried(environment: Mapping[str, str]) -> dict[str, str | None]:
    """Return what all processes have of the first one's environment.

    Ray sets OMP_NUM_THREADS where nobody did: to one in a job. Left alone, a process takes its share of the cores.
    """
    settings: dict[str, str | None] = {
        name: value for name, value in environment.items() if name.startswith(_CARRIED)
    }
    runtime = (json.loads(environment.get(_JOB, "{}")).get("runtime_env") or {}).get("env_vars") or {}
    said = runtime if _JOB in environment else environment
    return {**settings, "OMP_NUM_THREADS": said.get("OMP_NUM_THREADS")}


@contextmanager
def _own(ray: Any, node: Node, plan: Plan) -> Iterator[tuple[str, ...]]:
    """Reserve the place of the first process, on its machine; give its GPUs."""
    reserved = given(os.environ)
    if reserved is not None and (reserved or not plan.gpu):
        yield reserved[:1]
        return
    if plan.gpu and not node.gpus:
        raise EnvironmentProblem(
            "The first process, this one, has no GPU: Ray has none on this machine.",
            do="start it on a machine with one: ray job submit --entrypoint-num-gpus 1 -- audit ...",
        )
    at = ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy(node.id, soft=False)
    holder = _actor(ray, replace(plan, cores=min(plan.cores, node.cores)), at)
    try:
        yield _asked(ray, [holder])[0][1]
    finally:
        ray.kill(holder)


@contextmanager
def _group(ray: Any, plan: Plan) -> Iterator[list[Any]]:
    """Reserve the places of all others at once; give the actors that wait there."""
    if plan.count == 1:
        yield []
        return
    share = {"CPU": plan.cores, "GPU": int(plan.gpu)}
    group = ray.util.placement_group(
        [{kind: amount for kind, amount in share.items() if amount}] * (plan.count - 1),
        strategy="PACK" if plan.gpu else "SPREAD",
    )
    try:
        if not group.wait(WAIT):
            raise _no_room(ray)
        at = ray.util.scheduling_strategies.PlacementGroupSchedulingStrategy
        yield [_actor(ray, plan, at(group, number)) for number in range(plan.count - 1)]
    finally:
        ray.util.remove_placement_group(group)


def _actor(ray: Any, plan: Plan, at: Any) -> Any:
    return (
        ray.remote(Process)
        .options(
            num_cpus=plan.cores,
            num_gpus=int(plan.gpu),
            max_concurrency=2,  # a signal, while it runs
            scheduling_strategy=at,
            runtime_env={"env_vars": {"RAY_worker_niceness": "0"}},  # in every sum all wait for the slowest
        )
        .remote()
    )


def _asked(ray: Any, handles: Sequence[Any]) -> list[tuple[str, tuple[str, ...]]]:
    """Return where each is, as soon as all are there."""
    try:
        found: list[tuple[str, tuple[str, ...]]] = ray.get(
            [handle.where.remote() for handle in handles], timeout=WAIT
        )
    except ray.exceptions.GetTimeoutError:
        raise _no_room(ray) from None
    except ray.exceptions.RayError as error:
        raise EnvironmentProblem(
            "A process does not start on a machine of the cluster.",
            where=_last_line(error),
            do="the same Python packages on every machine",
        ) from error
    return found


def _machine(node: str) -> str:
    """Return a name of the machine this runs on that is clear to people and nobody else's."""
    return f"{socket.gethostname()} ({node[:12]})"


def _no_room(ray: Any) -> EnvironmentProblem:
    free = ray.available_resources()
    return EnvironmentProblem(
        f"Ray has made no room within {WAIT:.0f} seconds; free are "
        f"{int(free.get('CPU', 0))} cores and {int(free.get('GPU', 0))} GPUs.",
        do="fewer --processes, or wait for what uses the cluster (ray status)",
    )


def _last_line(error: Exception) -> str:
    return next((line.strip()[:200] for line in reversed(str(error).split("\n")) if line.strip()), "")
