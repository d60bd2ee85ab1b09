"""Several processes as one: what they share out, add up, hand over and agree on.

``torchrun`` starts them and says in the environment who each is. One process alone is a world of one, which every
function here takes as it is: nothing is copied, added or waited for.
"""

from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Final, TypeVar, cast

import numpy as np
import torch
import torch.distributed as dist
from numpy.typing import NDArray
from torch import Tensor
from torch.distributed import FileStore  # type: ignore[attr-defined]  # public, but not in its __all__
from torch.distributed.distributed_c10d import PrefixStore, Store
from torch.distributed.rendezvous import rendezvous

from dataset_audit.errors import EnvironmentProblem, MismatchError, PeerFailed
from dataset_audit.train.ranks import MEETING, on_this_machine, told

PATIENCE: Final = 5.0  # seconds to wait for the word of a process whose connection broke
UNSEEN: Final = 90.0  # seconds that a network file system may take to show a file of another machine
SILENCE: Final = 60.0  # seconds without a word after which a process counts as gone
PULSE: Final = 5.0  # seconds between two words that a process lives; a store in a file grows with each
T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Failure:
    """How one process failed, as it tells the others.

    Attributes:
        rank: Its number.
        host: Its machine.
        code: Exit code of all.
        id: Of the error.
        what: The fact.
        where: The place.
        do: What helps.
    """

    rank: int
    host: str
    code: int
    id: str
    what: str
    where: str
    do: str

    def error(self, size: int) -> PeerFailed:
        """Return it as the error that ends the other processes."""
        return PeerFailed(
            self.what,
            where=f"process {self.rank + 1} of {size} on {self.host}"
            + (f": {self.where}" if self.where else ""),
            do=self.do,
            id=self.id,
            code=self.code,
        )


class World:
    """The processes that work on one command.

    Args:
        rank: Number of this one, from 0.
        size: How many there are.
        store: Where they leave word for each other; None where there is one alone.
    """

    def __init__(self, rank: int = 0, size: int = 1, store: Store | None = None) -> None:
        self.rank, self.size = rank, size
        self._store = store
        self._steps = 0
        self._beats: dict[int, tuple[int, float]] = {}
        self._next_beat = 0.0

    @property
    def first(self) -> bool:
        """Whether this is the process that reads and writes the files of the command and speaks."""
        return self.rank == 0

    def share(self, order: NDArray[np.int64], lengths: Sequence[int]) -> tuple[NDArray[np.int64], list[int]]:
        """Return what of an epoch is this process's: of every batch each ``size``-th example, from its rank on.

        Nobody gets an example twice and none is left out, so a recorder counts each presentation once; the last
        batches may be uneven, even empty. (``DistributedSampler`` repeats or drops examples to make them even.)

        Args:
            order: int64[M], the rows of all batches, the same on all processes.
            lengths: Of the batches.

        Returns:
            int64[m] and the lengths of this process's parts, as many as there are batches.
        """
        if self.size == 1:
            return order, list(lengths)
        starts = np.cumsum([0, *lengths[:-1]])
        place = np.arange(len(order)) - np.repeat(starts, lengths)
        return order[place % self.size == self.rank], [
            len(range(self.rank, length, self.size)) for length in lengths
        ]

    def owned(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return those of the rows whose example belongs to this process: index modulo ``size`` is its rank."""
        return rows if self.size == 1 else rows[rows % self.size == self.rank]

    def add(self, *tensors: Tensor) -> None:
        """Replace each tensor by its sum over all processes."""
        if self.size > 1:
            with self._together():
                for tensor in tensors:
                    dist.all_reduce(tensor)

    def added_later(self, tensor: Tensor) -> Callable[[], None]:
        """Begin to replace a tensor by its sum over all processes; return what waits for it."""
        with self._together():
            work = dist.all_reduce(tensor, async_op=True)

        def wait() -> None:
            with self._together():
                work.wait()

        return wait

    def as_first(self, *tensors: Tensor) -> None:
        """Replace each tensor by that of the first process."""
        if self.size > 1:
            with self._together():
                for tensor in tensors:
                    dist.broadcast(tensor, 0)

    def once(self, function: Callable[[], T]) -> T:
        """Return what ``function`` gives on the first process, which alone calls it; the others wait, however long."""
        if self.size == 1:
            return function()
        key = f"decision {self._numbered()}"
        box: list[object] = [None]
        if self.first:
            box[0] = function()
            self._known.set(key, "")
        else:
            self._until(key)
        with self._together():
            dist.broadcast_object_list(box, 0, device=torch.device("cpu"))
        return cast("T", box[0])

    def collected(self, mine: T) -> list[T] | None:
        """Return what each process gives, by rank, on the first process; None on the others.

        Whoever comes early waits for the others, however long.
        """
        if self.size == 1:
            return [mine]
        self.meet(f"collection {self._numbered()}")
        found: list[object] | None = [None] * self.size if self.first else None
        with self._together():
            dist.gather_object(mine, found, 0)
        return cast("list[T] | None", found)

    def agree(self, digest: str) -> None:
        """Make sure that all processes are about to do the same.

        Args:
            digest: Of everything that decides the result.

        Raises:
            MismatchError: They do not: other data, options or kinds of hardware.
        """
        if self.size == 1:
            return
        self.meet(f"agreement {self._numbered()}")
        said: list[tuple[str, str]] = [("", "")] * self.size
        with self._together():
            dist.all_gather_object(said, (digest, socket.gethostname()))
        odd = [f"process {rank + 1} on {host}" for rank, (one, host) in enumerate(said) if one != said[0][0]]
        if odd:
            raise MismatchError(
                f"{len(odd)} of {self.size} processes see other images, options or hardware than the first.",
                where=", ".join(odd[:5]),
                do="the same command, data set and kind of device everywhere",
            )

    def exchanged(self, owner: Tensor, index: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Send every row to the process that owns it; return the rows that came here, by sender and in its order.

        Args:
            owner: int64[M] on the CPU, a rank for each row.
            index: int64[M] on the CPU.
            values: float32[M, C] on the CPU.

        Returns:
            int64[m] and float32[m, C].
        """
        if self.size == 1:
            return index, values
        order = owner.argsort(stable=True)
        sends = torch.bincount(owner, minlength=self.size)
        comes = torch.empty_like(sends)
        with self._together():
            dist.all_to_all_single(comes, sends)
            total, splits = int(comes.sum()), (comes.tolist(), sends.tolist())
            came = torch.empty(total, dtype=torch.int64), torch.empty((total, values.shape[1]))
            dist.all_to_all_single(came[0], index[order], *splits)
            dist.all_to_all_single(came[1], values[order], *splits)
        return came

    def dealt(self, name: str, count: int) -> Iterator[int]:
        """Yield numbers below ``count``, each to one process only, whichever asks first.

        Args:
            name: Of this dealing; used once.
            count: How many there are.
        """
        if self.size == 1:
            yield from range(count)
            return
        while (number := self._known.add(f"dealt {name}", 1) - 1) < count:
            yield number

    def meet(self, name: str) -> None:
        """Wait until all processes have come here, however long they take.

        Args:
            name: Of this meeting; used once.
        """
        if self.size == 1:
            return
        if self._known.add(f"met {name}", 1) == self.size:
            self._known.set(f"all met {name}", "")
        self._until(f"all met {name}")

    def tell(self, failure: Failure) -> None:
        """Leave word that this process failed; the first to say so is heard."""
        self._known.compare_set("failed", "", json.dumps(asdict(failure)))

    def failure(self) -> Failure | None:
        """Return the word a failed process left, None while all is well."""
        if self._store is None or not self._store.check(["failed"]):
            return None
        return Failure(**json.loads(self._store.get("failed")))

    def lives(self, patience: float = SILENCE) -> Failure | None:
        """Say that this process lives, and return the failure of one that did not say so for a while.

        The first process listens to all others and they to it; called every few seconds on each.

        Args:
            patience: Seconds after which silence is a failure: a process that was killed leaves no word.
        """
        now = time.monotonic()
        if now >= self._next_beat:
            self._next_beat = now + PULSE
            self._known.add(f"beats of {self.rank}", 1)
        for rank in range(1, self.size) if self.first else (0,):
            key = f"beats of {rank}"
            beats = int(self._known.get(key)) if self._known.check([key]) else 0
            if beats != self._beats.get(rank, (-1, now))[0]:
                self._beats[rank] = beats, now
            elif now - self._beats[rank][1] > patience:
                return Failure(
                    rank=rank,
                    host="its machine",
                    code=EnvironmentProblem.exit_code,
                    id="E-worker",
                    what="A process that shares the work went away without a word.",
                    where="",
                    do="look for what ended it (memory, network), then the same command again",
                )
        return None

    def leave(self, code: int, patience: float) -> int:
        """Wait for the others at the end and return the exit code of all: that of a failure, else of the first.

        The first process may keep what all leave word in, so it goes last.

        Args:
            code: Of this process.
            patience: Seconds the first waits for the others, and they for the first after a failure.
        """
        if self.first:
            failed = self.failure()
            code = code if failed is None else failed.code
            self._known.set("ended", str(code))
            self._wait_all([f"left {rank}" for rank in range(1, self.size)], patience)
            return code
        while (failed := self.failure() or self.lives()) is None and not self._known.check(["ended"]):
            time.sleep(0.1)
        if failed is not None:
            self._wait_all(["ended"], patience)
        code = int(self._known.get("ended")) if failed is None else failed.code
        self._known.set(f"left {self.rank}", "")
        return code

    def _wait_all(self, keys: list[str], patience: float) -> None:
        until = time.monotonic() + patience
        while time.monotonic() < until and not self._known.check(keys):
            time.sleep(0.02)

    def close(self) -> None:
        """Cut the connections, so that those who wait for this process in a sum notice."""
        if self.size > 1 and dist.is_initialized():
            dist.destroy_process_group()

    def _numbered(self) -> int:
        """Return the number of this step that all take together."""
        self._steps += 1
        return self._steps

    @property
    def _known(self) -> Store:
        if self._store is None:
            raise ValueError("one process alone has nobody to leave word for")
        return self._store

    def _until(self, key: str) -> None:
        pause = 0.005
        while not self._known.check([key]):
            self._raise_failure()
            time.sleep(pause)
            pause = min(2 * pause, 0.2)

    def _raise_failure(self) -> None:
        failure = self.failure()
        if failure is not None:
            raise failure.error(self.size)

    @contextmanager
    def _together(self) -> Iterator[None]:
        """Turn a broken connection into the reason for it."""
        try:
            yield
        except RuntimeError as error:
            until = time.monotonic() + PATIENCE
            with suppress(RuntimeError):  # the store may be gone with its process
                while time.monotonic() < until:
                    self._raise_failure()
                    time.sleep(0.05)
            raise PeerFailed(
                "A process that shares the work went away.",
                where=str(error).partition("\n")[0][:200],
                do="look for what ended it (memory, network), then the same command again",
                id="E-worker",
                code=4,
            ) from error


ALONE: Final = World()


def awaited(read: Callable[[], T | None], where: Path) -> T:
    """Return what another process left in a folder that all share, as soon as it is seen here.

    Args:
        read: Returns None while it is not seen.
        where: The file, for the message.

    Raises:
        EnvironmentProblem: It is not seen in a minute and a half: the machines have no folder in common.
    """
    until = time.monotonic() + UNSEEN
    while (found := read()) is None:
        if time.monotonic() > until:
            raise EnvironmentProblem(
                "What another process finished is not seen by this one.",
                where=str(where),
                do="--checkpoint-dir on a disk that all machines share",
            )
        time.sleep(0.1)
    return found


@cache
def world() -> World:
    """Return the processes this one works with, joined at the first call: those of torchrun, or it alone.

    Tensors on a GPU travel by NCCL where every process of the machine has a GPU of its own, all else by gloo.

    Raises:
        EnvironmentProblem: They do not find each other.
    """
    if told(os.environ)[1] == 1:
        return ALONE
    here = on_this_machine(os.environ)[1]
    fast = torch.cuda.is_available() and torch.cuda.device_count() >= here
    try:
        store, rank, size = _meeting()
        dist.init_process_group(
            "cpu:gloo,cuda:nccl" if fast else "gloo",
            store=PrefixStore("sums", store),
            rank=rank,
            world_size=size,
        )
    except (RuntimeError, ValueError) as error:
        raise EnvironmentProblem(
            f"The processes do not find each other: {str(error).partition(chr(10))[0]}.",
            where=os.environ.get(MEETING) or f"{os.environ['MASTER_ADDR']}:{os.environ['MASTER_PORT']}",
            do="start all of them with one torchrun command a machine, and the same --rdzv-endpoint",
        ) from error
    return World(rank, size, PrefixStore("word", store))


def _meeting() -> tuple[Store, int, int]:
    """Return (store, rank, number of processes) once the store is there."""
    path = os.environ.get(MEETING)
    if path is None:
        found: tuple[Store, int, int] = next(rendezvous("env://"))
        return found
    rank, size = told(os.environ)
    return FileStore(path, size), rank, size


def failed(rank: int, code: int, said: tuple[str, str, str, str]) -> Failure:
    """Return the word of a process that failed.

    Args:
        rank: Its number.
        code: Its exit code.
        said: Id of the error, what, where, do.
    """
    id_, what, where, do = said
    return Failure(rank=rank, host=socket.gethostname(), code=code, id=id_, what=what, where=where, do=do)
