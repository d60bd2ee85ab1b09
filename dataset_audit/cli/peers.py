"""The other processes of a command that torchrun started several times: one speaks, and all end together."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from dataset_audit.errors import AuditError, PeerFailed
from dataset_audit.train import ranks

if TYPE_CHECKING:
    from dataset_audit.train.distributed import World

SHARED: Final = ("forgetting", "bias", "evaluate")  # commands whose work several processes share
BEAT: Final = 0.5  # seconds between two looks at whether another process failed
GRACE: Final = 10.0  # seconds for a process to end by itself, and for the others to hear of it


class Peers:
    """What this process knows of the others; alone, it does nothing.

    Args:
        environment: With what torchrun says.
    """

    def __init__(self, environment: Mapping[str, str]) -> None:
        self.rank, self.size = ranks.told(environment)
        self.ending = False
        self._world: World | None = None
        self._lock = threading.Lock()

    @property
    def silent(self) -> bool:
        """Whether another process speaks for this one."""
        return self.rank > 0

    def idle(self, command: str) -> bool:
        """Return whether this process has nothing to do, because only the first does this command."""
        return self.silent and command not in SHARED

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
        os.environ.setdefault(
            "TORCH_CPP_LOG_LEVEL", "ERROR"
        )  # read when torch is imported; ours says it in words
        from dataset_audit.train import distributed  # noqa: PLC0415 - torch

        self._world = distributed.world()
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
        return code

    def _end(self) -> None:
        with self._lock:
            self.ending = True

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
        return None if failure is None or failure.rank == self.rank else failure.error(self.size)
