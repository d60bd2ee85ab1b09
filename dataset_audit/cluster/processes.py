"""The other processes of a command, which the first starts: on this machine, or where Ray has room.

Each is the same command line again. Which of them it is stands in its environment, in the words of ``torchrun``, so
that from then on nothing differs from processes that ``torchrun`` started.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Protocol

from dataset_audit.errors import EnvironmentProblem
from dataset_audit.train.ranks import MEETING, PARENT

PATIENCE: Final = 5.0  # seconds that a process gets to end by itself
_TAIL: Final = 4096  # bytes of what a process said last
Environment = Mapping[str, str | None]  # None takes a variable away


@dataclass(frozen=True, kw_only=True)
class End:
    """How a process ended.

    Attributes:
        code: As Popen gives it: negative for a signal.
        said: The last line of its stderr.
    """

    code: int
    said: str = ""


class Place(Protocol):
    """Where one process runs.

    Attributes:
        host: Names the machine; the same for places that share one.
        gpus: What of the machine's GPUs is for this process, as CUDA_VISIBLE_DEVICES names them.
    """

    host: str
    gpus: tuple[str, ...]

    def start(self, arguments: Sequence[str], folder: str, environment: Environment) -> None:
        """Begin ``audit`` with these arguments."""

    def ended(self) -> End | None:
        """Return how it ended, None while it runs."""

    def signal(self, number: int) -> None:
        """Send it a signal, if it still runs."""


class Child:
    """A process of this machine; see `Place`."""

    host: str = "this machine"
    gpus: tuple[str, ...] = ()
    _end: End | None = None

    def start(self, arguments: Sequence[str], folder: str, environment: Environment) -> None:
        """Begin ``audit`` with these arguments, with this Python."""
        told = {**os.environ, **environment, PARENT: str(os.getpid())}
        self._said = tempfile.TemporaryFile()  # noqa: SIM115 - open as long as the process
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "dataset_audit", *arguments],
                cwd=folder,
                env={name: value for name, value in told.items() if value is not None},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=self._said,
            )
        except OSError:
            self._said.close()
            raise

    def ended(self) -> End | None:
        """Return how it ended, None while it runs."""
        code = self._process.poll()
        if self._end is None and code is not None:
            with self._said as said:
                said.seek(max(0, said.seek(0, os.SEEK_END) - _TAIL))
                lines = [line.strip() for line in said.read().decode(errors="replace").splitlines()]
            self._end = End(code=code, said=next(filter(None, reversed(lines)), ""))
        return self._end

    def signal(self, number: int) -> None:
        """Send it a signal, if it still runs."""
        self._process.send_signal(number)


@dataclass(frozen=True, kw_only=True)
class Room:
    """Places for all but the first process, which stays where it is.

    Attributes:
        others: The places.
        address: Under which they reach the first process.
        host: Its machine.
        gpus: What of the GPUs there is for it.
        extra: What else all processes find in their environment.
    """

    others: Sequence[Place]
    address: str = "127.0.0.1"
    host: str = Child.host
    gpus: tuple[str, ...] = ()
    extra: Environment = field(default_factory=dict)


class Others:
    """The processes that the first has started, by rank from 1 on."""

    def __init__(self, places: Sequence[Place]) -> None:
        self._places = places

    def lost(self) -> tuple[int, str, End] | None:
        """Return (rank, machine, end) of one that has ended, None while all run."""
        for rank, place in enumerate(self._places, 1):
            end = place.ended()
            if end is not None:
                return rank, place.host, end
        return None

    def stop(self, patience: float = PATIENCE) -> None:
        """End those that still run: they are told to, and ``patience`` seconds later made to."""
        for place in self._running():
            place.signal(signal.SIGTERM)
        until = time.monotonic() + patience
        while self._running() and time.monotonic() < until:
            time.sleep(0.02)
        for place in self._running():
            place.signal(signal.SIGKILL)

    def _running(self) -> list[Place]:
        return [place for place in self._places if place.ended() is None]


@contextmanager
def here(count: int) -> Iterator[Room]:
    """Give room on this machine for ``count`` processes, the first included, until the block is left.

    They meet by a file that is this user's alone, and send each other nothing by way of a network.
    """
    loopback = {"linux": "lo", "darwin": "lo0"}.get(sys.platform)
    with tempfile.TemporaryDirectory(prefix="audit-", ignore_cleanup_errors=True) as folder:
        extra = {MEETING: str(Path(folder) / "meeting")}
        if loopback is not None:
            extra["GLOO_SOCKET_IFNAME"] = os.environ.get("GLOO_SOCKET_IFNAME", loopback)
        yield Room(others=[Child() for _ in range(count - 1)], extra=extra)


@contextmanager
def started(arguments: Sequence[str], room: Room, port: int) -> Iterator[tuple[Others, Environment]]:
    """Start all but the first process, and end them when the block is left.

    Args:
        arguments: Of the command line, without the program.
        room: Where they run.
        port: Of the first process's machine, free.

    Yields:
        The processes, and what the first is to have in its environment.

    Raises:
        EnvironmentProblem: The system starts no further process.
    """
    places = sorted(room.others, key=lambda place: (place.host != room.host, place.host))
    told = [
        {**variables, "MASTER_ADDR": room.address, "MASTER_PORT": str(port), **room.extra}
        for variables in ranked([(room.host, room.gpus), *((place.host, place.gpus) for place in places)])
    ]
    begun: list[Place] = []
    others = Others(begun)
    try:
        for place, environment in zip(places, told[1:], strict=True):
            try:
                place.start(arguments, str(Path.cwd()), environment)
            except OSError as error:
                raise EnvironmentProblem(
                    f"Process {len(begun) + 2} of {len(told)} does not start: {error.strerror}.",
                    do="fewer --processes",
                ) from error
            begun.append(place)
        yield others, told[0]
    finally:
        others.stop()


def ranked(places: Sequence[tuple[str, tuple[str, ...]]]) -> list[dict[str, str | None]]:
    """Return what tells each process which one it is, by rank.

    Processes of one machine all see the GPUs that are for any of them and take the one of their number, as under
    ``torchrun``: GPUs that do not see each other exchange nothing directly.

    Args:
        places: (machine, its GPUs for this process) by rank.
    """
    machines: dict[str, list[int]] = {}
    for rank, (host, _) in enumerate(places):
        machines.setdefault(host, []).append(rank)
    told: list[dict[str, str | None]] = []
    for rank, (host, gpus) in enumerate(places):
        near = machines[host]
        variables: dict[str, str | None] = {
            "RANK": str(rank),
            "WORLD_SIZE": str(len(places)),
            "LOCAL_RANK": str(near.index(rank)),
            "LOCAL_WORLD_SIZE": str(len(near)),
        }
        if gpus:
            variables["CUDA_VISIBLE_DEVICES"] = ",".join(places[one][1][0] for one in near)
        told.append(variables)
    return told
