"""Slow, obvious versions of every score, written from the definitions, one example and one presentation at a time."""

from __future__ import annotations

import itertools
import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

NAN = float("nan")


@dataclass(frozen=True)
class Presentation:
    """What one presentation showed: logits, label, embedding."""

    logits: Sequence[float]
    label: int
    features: Sequence[float]


def softmax(logits: Sequence[float]) -> list[float]:
    top = max(logits)
    exps = [math.exp(z - top) for z in logits]
    return [e / sum(exps) for e in exps]


def margin(p: Presentation) -> float:
    return p.logits[p.label] - max(z for k, z in enumerate(p.logits) if k != p.label)


def loss(p: Presentation) -> float:
    top = max(p.logits)
    return top + math.log(sum(math.exp(z - top) for z in p.logits)) - p.logits[p.label]


def error_norm(p: Presentation) -> float:
    return math.sqrt(sum((q - (k == p.label)) ** 2 for k, q in enumerate(softmax(p.logits))))


def score(history: Sequence[Presentation], *, window: int = 10, dual_epochs: int = 30) -> dict[str, float]:
    """Return every score of one example's presentations; NaN for undefined, -1 for "none" of the two counts."""
    n = len(history)
    correct = [margin(p) > 0 for p in history]
    own = [softmax(p.logits)[p.label] for p in history]
    windows = [own[k : k + window] for k in range(n - window + 1)]
    early = own[:dual_epochs]
    early_windows = [early[k : k + window] for k in range(len(early) - window + 1)]

    def mean(values: Sequence[float]) -> float:
        return sum(values) / len(values) if values else NAN

    return {
        "presentations": n,
        "forgetting_events": sum(a and not b for a, b in itertools.pairwise(correct)),
        "learning_events": sum(b and not a for a, b in itertools.pairwise(correct)),
        "never_learned": n > 0 and not any(correct),
        "first_learned": correct.index(True) if any(correct) else -1,
        "last_wrong": max((t for t, c in enumerate(correct) if not c), default=-1),
        "correctness": mean([float(c) for c in correct]),
        "confidence": mean(own),
        "variability": statistics.pstdev(own) if own else NAN,
        "aum": mean([margin(p) for p in history]),
        "loss_mean": mean([loss(p) for p in history]),
        "el2n_mean": mean([error_norm(p) for p in history]),
        "grand_last": mean([error_norm(p) * math.sqrt(sum(h * h for h in p.features) + 1) for p in history]),
        "dyn_unc": mean([statistics.stdev(w) for w in windows]),
        "dual": mean([statistics.stdev(w) * (1 - mean(w)) for w in early_windows]),
        "dual_confidence": mean(early),
    }


def tdds(history: Sequence[Presentation], *, epochs: int, window: int, beta: float = 0.9) -> float:
    """Return TDDS by its definition: a sum over windows with weights beta (1 - beta)^(T - J - k)."""
    probabilities = [softmax(p.logits) for p in history[:epochs]]
    moved = [
        sum(abs(q * (math.log(q + 1e-8) - math.log(p + 1e-8))) for p, q in zip(before, after, strict=True))
        for before, after in itertools.pairwise(probabilities)
    ]
    windows = [moved[k : k + window - 1] for k in range(len(probabilities) - window + 1)]
    widths = [math.sqrt(sum((d - sum(w) / len(w)) ** 2 for d in w)) for w in windows]
    last = len(widths) - 1
    return sum(beta * (1 - beta) ** (last - k) * width for k, width in enumerate(widths)) if widths else NAN
