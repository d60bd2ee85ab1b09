"""Tasks on a Ray cluster that is there already, or on one that is started on this machine for the occasion."""

from __future__ import annotations

import logging
import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from dataset_audit.cluster.tasks import Handle, Tasks
from dataset_audit.errors import EnvironmentProblem
from dataset_audit.progress import Progress


class _Ray:
    """Runs tasks with Ray; each takes one core."""

    def __init__(self, ray: Any) -> None:
        self._ray = ray
        # a task that fails is not tried again: what it says of the data will not change
        self._call = ray.remote(called).options(num_cpus=1, max_retries=3, retry_exceptions=False)

    def submit(self, task: Callable[[], object]) -> Handle:
        """Begin a task."""
        return self._call.remote(task, str(Path.cwd()))

    def result(self, handle: Handle) -> Any:
        """Wait for a task; raise what it raised."""
        try:
            return self._ray.get(handle)
        except self._ray.exceptions.RayTaskError as error:
            raise error.cause from None
        except (
            self._ray.exceptions.RayError
        ) as error:  # nothing that the task said: it, or its machine, is gone
            raise EnvironmentProblem(
                "A worker of Ray went away, or the cluster itself.",
                where=f"{type(error).__name__}: {str(error).partition(chr(10))[0][:200]}",
                do="look for what ended it (memory, network; ray status), then the same command again",
                id="E-worker",
            ) from error


def called(task: Callable[[], object], folder: str) -> object:
    """Return what a task gives, run in the folder of who sent it, for its paths may be relative."""
    with suppress(OSError):  # absolute paths need no folder
        os.chdir(folder)  # Ray starts its workers in one of its own
    return task()


@contextmanager
def connected(*, workers: int | None = None) -> Iterator[Any]:
    """Give ``ray``, connected to the cluster that RAY_ADDRESS names, else to one on this machine.

    Every machine of the cluster must see the files under the same paths and have the same version of this package.

    Args:
        workers: Cores of a cluster that is started for the occasion; all by default.

    Raises:
        EnvironmentProblem: Ray is not installed, or its cluster does not answer.
    """
    with _signals_kept():
        try:
            import ray as installed  # noqa: PLC0415 - an extra
        except ImportError:
            raise EnvironmentProblem(
                "--engine ray needs Ray, which is not installed.", do="pip install 'dataset-audit[cluster]'"
            ) from None
        ray: Any = installed
        begun = not ray.is_initialized()
        if begun:
            address = os.environ.get("RAY_ADDRESS")
            # "local": without an address Ray joins whatever runs on this machine
            told: dict[str, object] = (
                {"address": address} if address else {"address": "local", "num_cpus": workers}
            )
            try:
                ray.init(**told, include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
            except (ConnectionError, OSError, RuntimeError, ValueError) as error:
                raise EnvironmentProblem(
                    f"Ray does not start: {str(error).splitlines()[0][:200]}", where=address or "this machine"
                ) from error
    try:
        yield ray
    finally:
        if begun:
            ray.shutdown()


@contextmanager
def ray_engine(progress: Progress, *, workers: int | None = None) -> Iterator[Tasks]:
    """Give an engine over tasks on the cluster; see `connected`."""
    with connected(workers=workers) as ray:
        cores = int(ray.cluster_resources().get("CPU", 1))
        yield Tasks(_Ray(ray), in_flight=cores + 1, progress=progress)


@contextmanager
def _signals_kept() -> Iterator[None]:
    """Put back the handler of SIGTERM, which Ray replaces by one of its own."""
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        if before is not None and threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, before)
