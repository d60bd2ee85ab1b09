"""What is remembered of each presentation: O(1) state per example on the device, updated by tensor operations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from dataset_audit.errors import DataError, UsageError
from dataset_audit.scores.presented import Presented, error_norm, presented
from dataset_audit.scores.registry import NONE, SCORES, Remembered

MOST: Final = 32_767  # presentations an int16 counter can hold

_COUNTS: Final = ("presentations", "correct", "forgetting", "learning", "first_learned", "last_wrong")
_SUMS: Final = ("margin", "loss", "el2n", "grand", "dyn_unc", "dual", "dual_confidence", "mean", "m2")


class Recorder:
    """Watches a training and keeps every score of each example in one pass.

    Call ``update`` once per batch with what the network said before the update of that batch; the unit of time is
    the presentation of an example, not the epoch. All scores follow from 12 + 1 + 36 + 40 = 89 bytes per example
    (`SCORES` has the formulas): six 16-bit counts, one bit of the last outcome, nine float32 sums, and the last ten
    probabilities.

    Args:
        n: Examples of the full data set; indices are 0..n-1.
        num_classes: Width of the logits.
        device: Where the state lives; that of the logits.
        window: J of Dyn-Unc and DUAL.
        dual_epochs: Presentations that DUAL and its confidence look at.
        tdds: (T, J) to keep TDDS as well, at 4 (C + J) bytes per example.
        el2n_epochs: Non-empty if checkpoint EL2N will be given by ``update_checkpoint``; +4 bytes.
    """

    def __init__(  # noqa: PLR0913 - keywords with published defaults
        self,
        n: int,
        num_classes: int,
        *,
        device: torch.device | str = "cpu",
        window: int = 10,
        dual_epochs: int = 30,
        tdds: tuple[int, int] | None = None,
        el2n_epochs: Sequence[int] = (),
    ) -> None:
        if n < 1 or num_classes < 2 or window < 2:
            raise UsageError(
                f"A recorder needs examples, two classes and a window of two, not {n}, {num_classes}, {window}."
            )
        self.n, self.num_classes, self.window, self.dual_epochs = n, num_classes, window, dual_epochs
        self.tdds, self.el2n_epochs = tdds, tuple(el2n_epochs)
        device = torch.device(device)
        self._counts = torch.zeros((n, len(_COUNTS)), dtype=torch.int16, device=device)
        self._counts[:, _COUNTS.index("first_learned")] = NONE
        self._counts[:, _COUNTS.index("last_wrong")] = NONE
        self._last = torch.zeros(n, dtype=torch.bool, device=device)
        self._sums = torch.zeros((n, len(_SUMS)), dtype=torch.float32, device=device)
        self._ring = torch.zeros((n, window), dtype=torch.float32, device=device)
        self._checkpoint = torch.zeros(n if self.el2n_epochs else 0, dtype=torch.float32, device=device)
        self._saw_features = False
        # [repeated index, non-finite logits, counter overflow], looked at when the columns are made
        self._faults = torch.zeros(3, dtype=torch.int64, device=device)
        self._drift = _Drift(n, num_classes, tdds, device) if tdds else None

    @property
    def bytes_per_example(self) -> float:
        """State per example, all of it."""
        tensors = [t for t in self.state_dict().values() if isinstance(t, Tensor) and len(t) == self.n]
        return sum(t.element_size() * t.numel() for t in tensors) / self.n

    @torch.no_grad()
    def update(
        self, indices: Tensor, logits: Tensor, labels: Tensor, features: Tensor | None = None, /
    ) -> None:
        """Take one batch of presentations.

        Nothing is copied to the host. An index may occur once per batch; on a CPU a repeated one is taken as several
        batches in a row, on a GPU it is noticed and reported by ``problems``.

        Args:
            indices: int64[B], rows of the full data set.
            logits: float[B, C], train mode, before the update of this batch; computed in float32 for exact ties.
            labels: int64[B], the labels trained on.
            features: float[B, D], the input of a last linear layer with bias; without it ``grand_last`` is undefined.
        """
        if not len(indices):
            return
        if indices.device.type == "cpu":
            check_batch(indices, logits, labels, self.n, self.num_classes)
            rounds = _occurrences(indices)
            if rounds is not None:
                for number in range(int(rounds.max()) + 1):
                    part = rounds == number
                    self.update(
                        indices[part],
                        logits[part],
                        labels[part],
                        None if features is None else features[part],
                    )
                return
        else:
            ordered = indices.sort().values
            self._faults[0] += (ordered[1:] == ordered[:-1]).sum()
        self._saw_features = self._saw_features or features is not None
        self._step(indices, logits.detach().float(), labels, features)

    update.__dict__["replayable"] = (
        True  # on a GPU it is tensor operations alone, so a step may be captured with it
    )

    def _step(self, indices: Tensor, logits: Tensor, labels: Tensor, features: Tensor | None) -> None:
        self._faults[1] += (~torch.isfinite(logits).all(1)).sum()
        self.remember(indices, presented(logits, labels, features, whole=self._drift is not None))

    @torch.no_grad()
    def remember(self, indices: Tensor, seen: Presented) -> None:
        """Take presentations that were measured before, each index once; ``update`` measures and calls this."""
        p_own = seen.p_own
        correct = seen.margin > 0  # a tie is a miss
        counts = self._counts.index_select(0, indices)
        n, n_correct, forgetting, learning, first, last_wrong = counts.unbind(1)
        last = self._last.index_select(0, indices)
        self._faults[2] += (n >= MOST).sum()
        self._counts.index_copy_(
            0,
            indices,
            torch.stack(
                [
                    n + 1,
                    n_correct + correct,
                    forgetting + (last & ~correct),
                    learning + ((n > 0) & ~last & correct),
                    torch.where((first == NONE) & correct, n, first),
                    torch.where(correct, last_wrong, n),
                ],
                dim=1,
            ).to(torch.int16),
        )
        self._last.index_copy_(0, indices, correct)

        times = n.long() + 1
        ring = self._ring.index_select(0, indices)
        ring.scatter_(1, (n.long() % self.window)[:, None], p_own[:, None])
        self._ring.index_copy_(0, indices, ring)
        full = times >= self.window
        spread = torch.where(full, ring.std(1, correction=1), 0.0)
        early = times <= self.dual_epochs
        sums = self._sums.index_select(0, indices)
        mean = sums[
            :, _SUMS.index("mean")
        ]  # mean and m2 are a Welford pair: a sum of squares cancels near p = 1
        delta = p_own - mean
        added = torch.stack(
            [
                seen.margin, seen.loss, seen.error, seen.error * seen.norm, spread,
                torch.where(early, spread * (1 - ring.mean(1)), 0.0),
                torch.where(early, p_own, 0.0), delta / times, delta * (p_own - (mean + delta / times)),
            ],
            dim=1,
        )  # fmt: skip
        self._sums.index_copy_(0, indices, sums + added)
        if self._drift is not None and seen.p is not None:
            self._drift.step(indices, seen.p, n.long())

    @torch.no_grad()
    def update_checkpoint(self, indices: Tensor, logits: Tensor, labels: Tensor, /) -> None:
        """Take (part of) an eval-mode pass over un-augmented images for EL2N as published; no presentation.

        Args:
            indices: int64[B], each once per pass.
            logits: float[B, C].
            labels: int64[B].

        Raises:
            UsageError: The recorder was made without ``el2n_epochs``.
        """
        if not self.el2n_epochs:
            raise UsageError("This recorder keeps no checkpoint EL2N.", do="Recorder(..., el2n_epochs=(20,))")
        p = logits.detach().float().softmax(1)
        self._checkpoint.index_add_(0, indices, error_norm(p, labels[:, None]))

    def problems(self) -> list[str]:
        """Return what went wrong since the start, one sentence each; the one place that waits for the device."""
        repeated, infinite, overflow = self._faults.tolist()
        said = {
            f"{repeated:,} presentations repeated an index within a batch, which a GPU cannot count": repeated,
            f"{infinite:,} presentations had logits that are not finite": infinite,
            f"{overflow:,} presentations came after the {MOST:,} that can be counted": overflow,
        }
        return [text for text, count in said.items() if count]

    def columns(self) -> dict[str, NDArray[np.generic]]:
        """Return one array of N per score of this run, on the host.

        Counts are int32 with -1 for "none", shares and means float32 with NaN for "undefined" (never presented, too
        few presentations for a window, no embeddings). Orientation and formula of each stand in
        ``tables.scores.COLUMNS``.

        Raises:
            DataError: The state cannot be trusted; says why.
        """
        problems = self.problems()
        if problems:
            raise DataError("; ".join(problems) + ".", do="each index once per batch; a lower learning rate")
        counts = {name: self._counts[:, i].cpu().numpy().astype(np.int32) for i, name in enumerate(_COUNTS)}
        sums = {name: self._sums[:, i].cpu().numpy() for i, name in enumerate(_SUMS)}
        remembered = Remembered(
            counts=counts,
            sums=sums,
            window=self.window,
            dual_epochs=self.dual_epochs,
            features=self._saw_features,
            checkpoint=(self._checkpoint / len(self.el2n_epochs)).cpu().numpy() if self.el2n_epochs else None,
            drift=self._drift.score().cpu().numpy() if self._drift is not None else None,
        )
        made = {name: score.compute(remembered) for name, score in SCORES.items()}
        return {name: values for name, values in made.items() if values is not None}

    def state_dict(self) -> dict[str, object]:
        """Return the whole state as tensors and numbers, for ``load_state_dict`` of a recorder of the same shape."""
        state: dict[str, object] = {
            "counts": self._counts,
            "last": self._last,
            "sums": self._sums,
            "ring": self._ring,
            "checkpoint": self._checkpoint,
            "faults": self._faults,
            "saw_features": self._saw_features,
            "shape": [self.n, self.num_classes, self.window, self.dual_epochs, *(self.tdds or (0, 0))],
        }
        if self._drift is not None:
            state |= self._drift.state_dict()
        return state

    def load_state_dict(self, state: Mapping[str, object]) -> None:
        """Take over a saved state.

        Raises:
            UsageError: It is of a recorder of another shape.
        """
        mine = self.state_dict()
        if list(state["shape"]) != mine["shape"] or set(state) != set(mine):  # type: ignore[call-overload]
            raise UsageError(
                "The saved recorder has another shape.", where=f"{state['shape']}, here {mine['shape']}"
            )
        for name, tensor in mine.items():
            if isinstance(tensor, Tensor):
                tensor.copy_(state[name])  # type: ignore[arg-type]
        self._saw_features = bool(state["saw_features"])

    def save(
        self,
        path: str | Path,
        *,
        uids: Sequence[str | None] | None = None,
        labels: ArrayLike | None = None,
        class_names: Sequence[str] = (),
        extra: Mapping[str, ArrayLike] | None = None,
        spec: str = "",
    ) -> None:
        """Write ``scores.parquet`` and its sidecar for this one run, from anyone's training loop.

        Args:
            path: Ends in ``.parquet``; replaced in one step.
            uids: One per example; without them the manifest can be matched by index alone.
            labels: int[N], for class quotas and the class table.
            class_names: In label order.
            extra: More columns of N to keep beside ours.
            spec: What ``audit`` should open when it needs the images.
        """
        from dataset_audit.scores.export import save_run  # noqa: PLC0415 - writing is not part of recording

        save_run(
            Path(path), self, uids=uids, labels=labels, class_names=class_names, extra=extra or {}, spec=spec
        )


class _Drift:
    """TDDS (Zhang et al. 2024): S <- (1 - beta) S + beta w_k, exact, over the first T presentations."""

    BETA: Final = 0.9

    def __init__(self, n: int, classes: int, tdds: tuple[int, int], device: torch.device) -> None:
        self.epochs, self.window = tdds
        self.before = torch.zeros((n, classes), dtype=torch.float32, device=device)
        self.ring = torch.zeros((n, self.window - 1), dtype=torch.float32, device=device)
        self.sum = torch.full((n,), torch.nan, dtype=torch.float32, device=device)

    def step(self, indices: Tensor, p: Tensor, n: Tensor) -> None:
        """Take presentation number ``n`` (0-based) of each index."""
        before = self.before.index_select(0, indices)
        moved = (p * ((p + 1e-8).log() - (before + 1e-8).log())).abs().sum(1)
        self.before.index_copy_(0, indices, p)
        ring = self.ring.index_select(0, indices)
        slot = ((n - 1).clamp_min(0) % (self.window - 1))[:, None]
        ring = torch.where((n > 0)[:, None], ring.scatter(1, slot, moved[:, None]), ring)
        self.ring.index_copy_(0, indices, ring)
        width = (ring - ring.mean(1, keepdim=True)).square().sum(1).sqrt()
        old = self.sum.index_select(0, indices)
        counted = (n + 1 >= self.window) & (n < self.epochs)
        new = torch.where(torch.isnan(old), 0.0, old) * (1 - self.BETA) + self.BETA * width
        self.sum.index_copy_(0, indices, torch.where(counted, new, old))

    def score(self) -> Tensor:
        """Return float32[N], NaN where there was no whole window."""
        return self.sum

    def state_dict(self) -> dict[str, Tensor]:
        """Return the tensors."""
        return {"tdds_before": self.before, "tdds_ring": self.ring, "tdds_sum": self.sum}


def check_batch(indices: Tensor, logits: Tensor, labels: Tensor, n: int, classes: int) -> None:
    """Refuse a batch of other shapes or with indices or labels that do not exist.

    Raises:
        UsageError: Says what was wrong.
    """
    if logits.ndim != 2 or logits.shape != (len(indices), classes) or labels.shape != indices.shape:
        raise UsageError(
            f"update takes int64[B], float[B, {classes}], int64[B]; "
            f"got {tuple(indices.shape)}, {tuple(logits.shape)}, {tuple(labels.shape)}."
        )
    if int(indices.min()) < 0 or int(indices.max()) >= n:
        raise UsageError(
            f"Index {int(indices.max())} is outside 0..{n - 1}.", do="pass indices of the full data set"
        )
    if int(labels.min()) < 0 or int(labels.max()) >= classes:
        raise UsageError(f"Label {int(labels.max())} is outside 0..{classes - 1}.")


def _occurrences(indices: Tensor) -> Tensor | None:
    """Return which occurrence of its index each entry is (0 = first), or None when all are distinct."""
    ordered, places = indices.sort(stable=True)
    same = ordered[1:] == ordered[:-1]
    if not bool(same.any()):
        return None
    starts = torch.cat([torch.tensor([True]), ~same])
    position = torch.arange(len(indices))
    first = torch.where(starts, position, 0).cummax(0).values
    rounds = torch.empty_like(indices)
    rounds[places] = position - first
    return rounds
