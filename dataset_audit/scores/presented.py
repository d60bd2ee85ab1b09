"""What a batch of presentations comes to, before it meets what was remembered of its examples."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Presented:
    """All that a recorder remembers of a batch, float32[B] each.

    Attributes:
        margin: Logit of the label minus the largest other; above zero is a hit.
        loss: Cross-entropy in nats.
        p_own: Probability of the label.
        error: |p - onehot(y)|.
        norm: Of the embedding with a one appended; 0 where there is none.
        p: float32[B, C], all probabilities, only where they are asked for.
    """

    margin: Tensor
    loss: Tensor
    p_own: Tensor
    error: Tensor
    norm: Tensor
    p: Tensor | None = None

    def packed(self) -> Tensor:
        """Return float32[B, 5] or float32[B, 5 + C], one row per presentation."""
        figures = torch.stack([self.margin, self.loss, self.p_own, self.error, self.norm], dim=1)
        return figures if self.p is None else torch.cat([figures, self.p], dim=1)

    @classmethod
    def unpacked(cls, rows: Tensor) -> Presented:
        """Return what ``packed`` gave."""
        margin, loss, p_own, error, norm = rows[:, :5].unbind(1)
        return cls(margin, loss, p_own, error, norm, rows[:, 5:] if rows.shape[1] > 5 else None)


def presented(logits: Tensor, labels: Tensor, features: Tensor | None, *, whole: bool) -> Presented:
    """Return what logits float32[B, C] say of labels int64[B], and of embeddings float[B, D] where there are any.

    Args:
        logits: Before the update of the batch.
        labels: Trained on.
        features: Input of the last layer.
        whole: Whether all probabilities are wanted.
    """
    at = labels[:, None]
    own = logits.gather(1, at).squeeze(1)
    margin = own - logits.scatter(1, at, -torch.inf).amax(1)
    log_p = torch.log_softmax(logits, 1)
    p = log_p.exp()
    loss = -log_p.gather(1, at).squeeze(1)
    norm = (
        torch.zeros_like(loss) if features is None else (features.detach().float().square().sum(1) + 1).sqrt()
    )
    return Presented(margin, loss, p.gather(1, at).squeeze(1), error_norm(p, at), norm, p if whole else None)


def error_norm(p: Tensor, at: Tensor) -> Tensor:
    """Return |p - onehot(y)|, float32[B], of p float32[B, C] and y int64[B, 1].

    From the other classes alone: sum p^2 - 2 p_y + 1 cancels to noise of 3e-4 for an easy example.
    """
    others = p.scatter(1, at, 0.0)
    return (others.square().sum(1) + others.sum(1).square()).sqrt()
