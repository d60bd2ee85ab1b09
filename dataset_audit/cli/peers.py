"""The other processes of a command, whoever started them: one speaks, and all end together."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, wait
from contextlib import ExitStack, suppress
from typing import TYPE_CHECKING, Final

from dataset_audit.errors import AuditError, PeerFailed, UsageError
from dataset_audit.train import ranks

if TYPE_CHECKING:
    from dataset_audit.cluster.processes import Others
    from dataset_audit.train.distributed import World

SHARED: Final = ("forgetting", "bias", "evaluate")  # commands whose work several processes share
BEAT: Final = 0.5  # seconds between two looks at whether another process failed
GRACE: Final = 10.0  # seconds for a process to end by itself, and for the others to hear of it


class Peers:
    """What this process knows of the others; alone, it does nothing.

    Args:
        environment: With what says which process this is, where others were started.
    """

    def __init__(self, environment: Mapping[str, str]) -> None:
        self.rank, self.size = ranks.told(environment)
        self.ending = False
        self._parent = environment.get(ranks.PARENT)
        self._world: World | None = None
        self._others: Others | None = None
        self._until_then = ExitStack()
        self._lock = threading.Lock()

    @property
    def silent(self) -> bool:
        """Whether another process speaks for this one."""
        return self.rank > 0

    def idle(self, command: str) -> bool:
        """Return whether this process has nothing to do, because only the first does this command."""
        return self.silent and command not in SHARED

    def start(self, command: str, arguments: Sequence[str], told: dict[str, object]) -> None:
        """Start the other processes, if the command is to have any and nobody else started them.

        Args:
            command: Its name.
            arguments: Of the command line, which is that of the others too.
            told: What the command is told; how many processes work on it, and where, is taken out.

        Raises:
            UsageError: Fewer processes than one.
            EnvironmentProblem: There is no room for them.
        """
        if command not in SHARED:
            return
        engine, count = told.pop("engine", "local"), told.pop("processes", None)
        if isinstance(count, int) and count < 1:
            raise UsageError(f"--processes {count}: 1 or more.")
        if self.size > 1 or (engine == "local" and count is None):
            return
        from dataset_audit.cluster import processes  # noqa: PLC0415 - only then

        number = count if isinstance(count, int) else None
        if engine == "ray":
            from dataset_audit.cluster.places import on_ray  # noqa: PLC0415

            room = self._until_then.enter_context(on_ray(number, device=str(told.get("device", "auto"))))
        else:
            room = self._until_then.enter_context(processes.here(number or 1))
        self._others, first = self._until_then.enter_context(processes.started(arguments, room, _free_port()))
        os.environ.update({name: value for name, value in first.items() if value is not None})
        for name in (name for name, value in first.items() if value is None):
            os.environ.pop(name, None)
        self.rank, self.size = ranks.told(os.environ)

    def join(
        self, command: str, *, interrupt: Callable[[PeerFailed], None], stuck: Callable[[PeerFailed], None]
    ) -> None:
        """Meet the others, if they share this command, and watch from now on whether one of them fails.

        Args:
            command: Its name.
            interrupt: Ends the main thread because of a failure elsewhere.
            stuck: Ends the process where the main thread did not.

        Raises:
            EnvironmentProblem: They do not find each other.
        """
        if self.size == 1 or command not in SHARED:
            return
        if self._parent is not None:  # before all that waits: nobody else would end this process
            threading.Thread(target=self._end_with_parent, args=(stuck,), name="parent", daemon=True).start()
        os.environ.setdefault(
            "TORCH_CPP_LOG_LEVEL", "ERROR"
        )  # read when torch is imported; ours says it in words
        from dataset_audit.train import distributed  # noqa: PLC0415 - torch

        self._world = self._met(distributed.world)
        threading.Thread(target=self._watch, args=(interrupt, stuck), name="peers", daemon=True).start()

    def tell(self, error: AuditError, code: int) -> None:
        """Let the others know that this process fails, and why; cut the connections they may wait on."""
        world = self._world
        self._end()
        if world is None:
            return
        from dataset_audit.train import distributed  # noqa: PLC0415 - imported since joining

        if not isinstance(error, PeerFailed):
            said = (error.id, error.what, error.where, error.do)
            with suppress(RuntimeError):  # the others may be gone
                world.tell(distributed.failed(self.rank, code, said))
        with suppress(RuntimeError):  # the others may be gone
            world.close()

    def ended(self, code: int) -> int:
        """Wait for the others and return the exit code of all: that of a failed process, else of the first."""
        self._end()
        if self._world is not None:
            with suppress(RuntimeError):  # the others may be gone
                code = self._world.leave(code, GRACE)
        with suppress(Exception):  # what does not end in order ends with this process
            self._until_then.close()
        return code

    def _met(self, world: Callable[[], World]) -> World:
        """Wait for the others to join, unless one of those that were started here ends before it does.

        Another thread does the waiting, where no signal is heard.
        """
        found: Future[World] = Future()

        def meet() -> None:
            try:
                found.set_result(world())
            except BaseException as error:  # noqa: BLE001 - raised again in the main thread
                found.set_exception(error)

        threading.Thread(target=meet, name="meeting", daemon=True).start()
        while not wait([found], timeout=0.1).done:
            lost = self._lost()
            if lost is not None:
                raise lost
        return found.result()

    def _lost(self) -> PeerFailed | None:
        """Return the failure of a process that was started here and has ended before this one did."""
        lost = None if self._others is None else self._others.lost()
        if lost is None:
            return None
        rank, host, end = lost
        how = f"by signal {-end.code}" if end.code < 0 else f"with exit code {end.code}"
        everywhere = "the same packages, files and folder on every machine"
        return PeerFailed(
            f"A process that shares the work ended {how}.",
            where=f"process {rank + 1} of {self.size} on {host}" + (f": {end.said}" if end.said else ""),
            do="look for what ended it (memory)" if end.code < 0 else everywhere,
            id="E-worker",
            code=4,
        )

    def _end(self) -> None:
        with self._lock:
            self.ending = True

    def _end_with_parent(self, end: Callable[[PeerFailed], None]) -> None:
        """End at once when the process that started this one was killed; nothing here is anybody's any more."""
        while str(os.getppid()) == self._parent:
            time.sleep(BEAT)
        end(
            PeerFailed(
                "The process that started this one went away.",
                where=f"process {self.rank + 1} of {self.size}",
                do="look for what ended it (memory), then the same command again",
                id="E-worker",
                code=4,
            )
        )

    def _watch(self, interrupt: Callable[[PeerFailed], None], stuck: Callable[[PeerFailed], None]) -> None:
        error = None
        while error is None:
            time.sleep(BEAT)
            if self.ending:
                return
            error = self._failed()
        with self._lock:
            if not self.ending:
                interrupt(error)
        time.sleep(GRACE)
        if not self.ending:
            try:
                self._until_then.close()
            finally:
                stuck(error)

    def _failed(self) -> PeerFailed | None:
        if self._world is None:
            return None
        try:
            failure = self._world.failure() or self._world.lives()
            if failure is not None:
                self._world.tell(failure)  # the first word counts; a killed process leaves none itself
        except RuntimeError as error:
            return PeerFailed(
                "The process that keeps what all agree on went away.",
                where=str(error).partition("\n")[0],
                do="look for what ended it (memory, network), then the same command again",
                id="E-worker",
                code=4,
            )
        if failure is None:
            return self._lost()
        return None if failure.rank == self.rank else failure.error(self.size)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("", 0))
        return int(probe.getsockname()[1])
