"""A recorder whose examples belong to several processes: each keeps the state of its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dataset_audit.scores.presented import Presented, presented
from dataset_audit.scores.recorder import Recorder, check_batch

AT_ONCE: Final = 2**16  # presentations taken into the state together: bounds what is held beside it
_SPREAD: Final = "faults"  # counted where they happen and added up, not owned


class Peers(Protocol):
    """What is needed of the processes."""

    rank: int
    size: int

    def exchanged(self, owner: Tensor, index: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Send rows to their owners; return those that came."""

    def collected(self, mine: dict[str, object]) -> list[dict[str, object]] | None:
        """Return what each gives, on the first."""


class SharedRecorder:
    """Watches the part of a training that one of several processes sees.

    Example i belongs to process i modulo their number, which alone holds its state: 89 bytes for each of its own.
    Whoever is shown an example measures it; once an epoch, ``exchange`` sends the measurements, 28 bytes each, to
    the owners. Since every example is presented once per epoch, the state then is what one recorder would have that
    saw all.

    Args:
        peers: The processes.
        n: Examples of the full data set.
        num_classes: Width of the logits.
        device: Where the state lives; that of the logits.
        tdds: As for `Recorder`.
        el2n_epochs: As for `Recorder`.
    """

    def __init__(
        self,
        peers: Peers,
        n: int,
        num_classes: int,
        *,
        device: torch.device | str = "cpu",
        tdds: tuple[int, int] | None = None,
        el2n_epochs: Sequence[int] = (),
    ) -> None:
        self._peers, self._n = peers, n
        self._settings = {"tdds": tdds, "el2n_epochs": tuple(el2n_epochs)}
        self._device = torch.device(device)
        mine = max(1, len(range(peers.rank, n, peers.size)))
        self._own = Recorder(mine, num_classes, device=device, tdds=tdds, el2n_epochs=el2n_epochs)
        self._indices: list[Tensor] = []
        self._rows: list[Tensor] = []
        self._saw_features = False
        self._infinite = torch.zeros((), dtype=torch.int64, device=device)

    @torch.no_grad()
    def update(
        self, indices: Tensor, logits: Tensor, labels: Tensor, features: Tensor | None = None, /
    ) -> None:
        """Measure one batch of presentations; they count once ``exchange`` was called.

        Args:
            indices: int64[B], rows of the full data set, none of which another process presents in this epoch.
            logits: float[B, C], train mode, before the update of this batch.
            labels: int64[B].
            features: float[B, D], the input of a last linear layer.
        """
        if not len(indices):
            return
        if indices.device.type == "cpu":
            check_batch(indices, logits, labels, self._n, self._own.num_classes)
        logits = logits.detach().float()
        self._saw_features = self._saw_features or features is not None
        self._infinite += (~torch.isfinite(logits).all(1)).sum()
        self._indices.append(indices)
        self._rows.append(presented(logits, labels, features, whole=self._own.tdds is not None).packed())

    @torch.no_grad()
    def exchange(self) -> None:
        """Bring this epoch's presentations to their owners; all processes call it after each epoch.

        Raises:
            ValueError: An example was presented twice since the last call.
        """
        size = self._peers.size
        width = 5 + (self._own.num_classes if self._own.tdds else 0)
        index = torch.cat([torch.empty(0, dtype=torch.int64, device=self._device), *self._indices]).cpu()
        rows = torch.cat([torch.empty((0, width), device=self._device), *self._rows]).cpu()
        self._indices, self._rows = [], []
        index, rows = self._peers.exchanged(index % size, index, rows)
        if not len(index):
            return
        local = index // size
        if int(torch.bincount(local).max()) > 1:
            raise ValueError("an example was presented twice in one epoch")
        for part, figures in zip(torch.split(local, AT_ONCE), torch.split(rows, AT_ONCE), strict=True):
            seen = Presented.unpacked(figures.to(self._device))
            self._own.remember(part.to(self._device), seen)

    def update_checkpoint(self, indices: Tensor, logits: Tensor, labels: Tensor, /) -> None:
        """Take part of an eval-mode pass over examples that belong to this process."""
        self._own.update_checkpoint(indices // self._peers.size, logits, labels)

    def state_dict(self) -> dict[str, object]:
        """Return, on the first process, the state of a `Recorder` that saw everything; empty on the others.

        All processes call it together.
        """
        mine = {
            name: value.cpu() if isinstance(value, Tensor) else value
            for name, value in self._own.state_dict().items()
        }
        faults = mine[_SPREAD]
        if isinstance(faults, Tensor):
            mine[_SPREAD] = faults + torch.tensor([0, int(self._infinite), 0])
        mine["saw_features"] = self._saw_features or self._own.state_dict()["saw_features"]
        parts = self._peers.collected(mine)
        if parts is None:
            return {}
        whole = self._whole().state_dict()
        for name, place in whole.items():
            if isinstance(place, Tensor):
                for rank, part in enumerate(parts):
                    _lay(name, place, part[name], slice(rank, None, self._peers.size))
        whole["saw_features"] = any(part["saw_features"] for part in parts)
        return whole

    def load_state_dict(self, state: Mapping[str, object]) -> None:
        """Take over this process's part of the state of a `Recorder` that saw everything, on every process.

        Raises:
            UsageError: It is of a recorder of another shape.
        """
        whole = self._whole()
        whole.load_state_dict(state)
        mine = self._own.state_dict()
        for name, tensor in whole.state_dict().items():
            if name == _SPREAD and isinstance(tensor, Tensor):
                mine[name] = tensor if self._peers.rank == 0 else torch.zeros_like(tensor)
            elif isinstance(tensor, Tensor) and len(tensor) == self._n:
                own = tensor[self._peers.rank :: self._peers.size]
                mine[name] = own if len(own) else mine[name]
        self._own.load_state_dict(mine)
        self._saw_features = bool(state["saw_features"])

    def columns(self) -> dict[str, NDArray[np.generic]]:
        """Return what `Recorder.columns` gives on the first process, nothing on the others; all call it together.

        Raises:
            DataError: The state cannot be trusted; says why.
        """
        state = self.state_dict()
        if not state:
            return {}
        whole = self._whole()
        whole.load_state_dict(state)
        return whole.columns()

    def _whole(self) -> Recorder:
        return Recorder(self._n, self._own.num_classes, **self._settings)  # type: ignore[arg-type]


def _lay(name: str, whole: Tensor, part: object, where: slice) -> None:
    """Put one process's part in its place."""
    if not isinstance(part, Tensor):
        return
    if name == _SPREAD:
        whole += part
    elif len(whole):
        own = whole[where]
        own.copy_(part[: len(own)])
