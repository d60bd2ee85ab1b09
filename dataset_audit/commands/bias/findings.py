"""Everything that was found, in one object; terminal, JSON, charts and sidecar are read off it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from math import isfinite
from time import monotonic
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from dataset_audit import seeds
from dataset_audit.bias import findings as found
from dataset_audit.bias.controls import CONTROLS, Bench, matched_rows, shared_classes
from dataset_audit.bias.measure import (
    Figures,
    Outcome,
    Trial,
    confusion,
    figures,
    pairwise,
    permutation_null,
    without_easiest,
)
from dataset_audit.bias.views import DEEP_REDUCTION, REDUCTION, Setting, reductions
from dataset_audit.probes.classify import Fold
from dataset_audit.probes.registry import PROBES
from dataset_audit.stats.chance import blind_below, null_band, permutation_p
from dataset_audit.stats.curves import LearningCurve, learning_curve

if TYPE_CHECKING:
    from dataset_audit.bias.explain import Explanations

PERMUTATIONS = 200
_CENTRE = 0.5**0.5


class Phases:
    """Seconds of each phase, in order."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def timed(self, name: str) -> Iterator[None]:
        """Count what happens inside towards a phase."""
        began = monotonic()
        yield
        self.seconds[name] = self.seconds.get(name, 0.0) + monotonic() - began


@dataclass(frozen=True, kw_only=True)
class Null:
    """A control that must be at chance.

    Attributes:
        trial: Name.
        probe: The strongest by validation.
        figures: Of it.
        band: 95 % band of the accuracy of one fold by guessing.
        adjusted: p after Holm over all nulls.
    """

    trial: str
    probe: str
    figures: Figures
    band: tuple[float, float]
    adjusted: float


@dataclass(frozen=True, kw_only=True)
class Width:
    """How wide chance is with training and all: a least-squares classifier on labels permuted over clusters.

    Attributes:
        observed: Accuracy on the true labels.
        mean: Over permutations.
        high: Their 95th percentile.
        p: (1 + those at or above)/(1 + draws).
    """

    observed: float
    mean: float
    high: float
    p: float


@dataclass(frozen=True, kw_only=True)
class Duplicates:
    """Pictures that are there more than once.

    Attributes:
        within: In a cluster with another of the same source.
        across: In a cluster with another source.
        across_exact: Likewise, counting equal decoded pixels alone.
        ceiling: Best accuracy that anything could have that sees only what equal pixels share.
        ceiling_near: Likewise of all clusters: of what sees content alone.
    """

    within: int
    across: int
    across_exact: int
    ceiling: float
    ceiling_near: float


@dataclass(frozen=True, kw_only=True)
class Curve:
    """Accuracy over training images of the strongest probe that is no network.

    Attributes:
        probe: Its name.
        points: (training images, accuracy) of each fold.
        fit: None where there are too few sizes.
    """

    probe: str
    points: tuple[tuple[float, float], ...]
    fit: LearningCurve | None


@dataclass(frozen=True, kw_only=True, eq=False)
class Findings:
    """What was found."""

    names: tuple[str, ...]
    each: int
    outcomes: Mapping[tuple[str, str], Outcome]
    figures: Mapping[tuple[str, str], Figures]
    best: Outcome
    headline: found.Headline | None
    nulls: tuple[Null, ...]
    widths: Mapping[str, Width]
    facts: tuple[found.NamedFact, ...]
    traces: tuple[tuple[str, float], ...]
    taken: tuple[tuple[str, float], ...]
    duplicates: Duplicates
    leak: found.Leak
    confusion: NDArray[np.float64]
    pairwise: NDArray[np.float64]
    easiest: tuple[int, float]
    curve: Curve | None
    blind: float
    setting: Setting
    reduced: tuple[float, float]
    matched: int
    label_aucs: tuple[tuple[str, float], ...] = ()
    explanations: Explanations | None = field(default=None)

    def with_explanations(self, explanations: Explanations) -> Findings:
        """Return the same with maps and what they are worth."""
        return replace(self, explanations=explanations)

    def strongest(self, trial: str) -> tuple[str, Figures] | None:
        """Return the strongest probe of a trial and its figures."""
        one = found.strongest(self.outcomes, trial)
        return None if one is None else (one.probe, self.figures[one.trial, one.probe])

    def summary(self) -> dict[str, object]:
        """Return plain values for machines; what is not a number is null."""
        head = self.headline
        return {
            "sources": list(self.names),
            "images_per_source": self.each,
            "strongest_probe": self.best.probe,
            "headline": None if head is None else _plain(asdict(head)),
            "probes": [
                {"control": trial, "probe": probe, **_plain(asdict(one))}
                for (trial, probe), one in self.figures.items()
            ],
            "nulls": [_plain(asdict(null)) for null in self.nulls],
            "permutations": {name: _plain(asdict(width)) for name, width in self.widths.items()},
            "header_facts": [_plain(asdict(fact)) for fact in self.facts],
            "traces": [{"group": name, "accuracy": value} for name, value in self.traces],
            "taken_away": [{"control": name, "share_of_bias_gone": value} for name, value in self.taken],
            "artefacts": artefacts(self),
            "duplicates": _plain(asdict(self.duplicates)),
            "leak": {**_plain(asdict(self.leak)), "difference": self.leak.points},
            "confusion": self.confusion.tolist(),
            "pairwise": _plain({"values": self.pairwise.tolist()})["values"],
            "easiest_source": self.names[self.easiest[0]],
            "bias_without_easiest": _number(self.easiest[1]),
            "curve": None if self.curve is None else _plain(asdict(self.curve)),
            "blind_below": _number(self.blind),
            "recode_pixels": self.setting.recode,
            "together_pixels": self.setting.together,
            "reduced_enough": {"recode": self.reduced[0], "together": self.reduced[1]},
            "matched_images": self.matched,
            "source_only_auc": [{"class": name, "auc": auc} for name, auc in self.label_aucs],
            "explanations": None
            if self.explanations is None
            else [_plain(row) for row in explained_rows(self.explanations)],
        }


def _number(value: float) -> float | None:
    return float(value) if isfinite(value) else None


def _plain(nested: Mapping[str, object]) -> dict[str, object]:
    """Return nested plain values, what is not finite as null."""

    def plain(value: object) -> object:
        if isinstance(value, Mapping):
            return {str(key): plain(one) for key, one in value.items()}
        if isinstance(value, list | tuple):
            return [plain(one) for one in value]
        if isinstance(value, float | np.floating):
            return _number(float(value))
        if isinstance(value, np.integer):
            return int(value)
        return value

    return {key: plain(value) for key, value in nested.items()}


def explained_rows(explanations: Explanations) -> list[dict[str, object]]:
    """Return one row of figures per method that was tried."""
    rows: list[dict[str, object]] = []
    for name, one in explanations.methods.items():
        rows.append(
            {
                "method": name,
                **asdict(one.verdict),
                "cells": one.cells,
                "top": one.top,
                "blank": one.blank,
                "under_255ths": {str(size): asdict(stable) for size, stable in one.under.items()},
                "random_head": asdict(one.redrawn),
                "random_head_signed": asdict(one.redrawn_signed),
                "edges": asdict(one.edges),
            }
        )
    return rows


def artefacts(findings: Findings) -> list[str]:
    """Return the names of the artefacts that the evidence points at, strongest first.

    What a control takes away is named where half of the bias goes with it; a header fact where it alone carries half
    of what the header knows. Bytes per pixel follow from content too, so they are named beside another fact only.
    """
    facts = [fact.name for fact in findings.facts]
    if facts == ["bytes per pixel"]:
        facts = []
    return [*(CONTROLS[name].takes for name, _ in findings.taken), *facts]


def gather(
    bench: Bench,
    made: Sequence[Trial],
    outcomes: Mapping[tuple[str, str], Outcome],
    by_row: Sequence[Fold],
    common: Setting,
) -> Findings:
    """Return everything that follows from the outcomes."""
    whole, sources = made[0], len(bench.stock.sources)
    numbers = {key: figures(one) for key, one in outcomes.items()}
    best = found.strongest(outcomes, "raw")
    if best is None:
        raise ValueError("no probe of pictures was tried")
    header = "header" in bench.probes
    tells_apart = header and numbers["raw", "header"].p <= 0.05
    return Findings(
        names=bench.stock.names,
        each=len(bench.stock) // sources,
        outcomes=outcomes,
        figures=numbers,
        best=best,
        headline=found.headline(outcomes, bench.clusters, sources, bench.seed),
        nulls=_nulls(made, outcomes, numbers),
        widths=_widths(whole, bench) if any(trial.name == "permuted" for trial in made) else {},
        facts=tuple(found.named_facts(whole, bench.seed)) if tells_apart else (),
        traces=tuple(found.named_traces(whole, bench.seed)) if "traces" in bench.probes else (),
        taken=tuple(found.taken_away(outcomes)),
        duplicates=_duplicates(bench),
        leak=found.leak(whole, by_row),
        confusion=confusion(best),
        pairwise=pairwise(best),
        easiest=without_easiest(best),
        curve=_curve(outcomes),
        blind=blind_below(numbers["raw", best.probe].tested, sources),
        setting=common,
        reduced=(
            float((reductions(bench.stock, common.recode) >= REDUCTION).mean()),
            float((reductions(bench.stock, common.together, _CENTRE) >= DEEP_REDUCTION).mean()),
        ),
        matched=len(matched_rows(bench)),
        label_aucs=_label_aucs(bench),
    )


def _nulls(
    made: Sequence[Trial],
    outcomes: Mapping[tuple[str, str], Outcome],
    numbers: Mapping[tuple[str, str], Figures],
) -> tuple[Null, ...]:
    kept: list[tuple[Outcome, Figures]] = []
    for trial in made:
        control = next((one for name, one in CONTROLS.items() if trial.name.split(" ")[0] == name), None)
        one = found.strongest(outcomes, trial.name, facts=True)
        if control is not None and control.role == "null" and one is not None:
            kept.append((one, numbers[one.trial, one.probe]))
    adjusted = found.corrected([one for _, one in kept])
    return tuple(
        Null(
            trial=one.trial,
            probe=one.probe,
            figures=numbers_of,
            band=null_band(numbers_of.tested, numbers_of.chance),
            adjusted=p,
        )
        for (one, numbers_of), p in zip(kept, adjusted, strict=True)
    )


def _widths(whole: Trial, bench: Bench) -> dict[str, Width]:
    """Return the permutation null of every kind of vectors; refits are by least squares, so 200 cost seconds."""
    found_widths = {}
    for name in bench.probes:
        vectors = PROBES[name].vectors
        if vectors is None:
            continue
        rng = seeds.rng(bench.seed, "permutations", name)
        observed, permuted = permutation_null(vectors(whole.view), whole, PERMUTATIONS, rng)
        found_widths[name] = Width(
            observed=observed,
            mean=float(permuted.mean()),
            high=float(np.quantile(permuted, 0.95)),
            p=permutation_p(observed, permuted),
        )
    return found_widths


def _duplicates(bench: Bench) -> Duplicates:
    sources = len(bench.stock.sources)
    label = bench.stock.source
    _, exact = np.unique(np.array(bench.seen.hashes), return_inverse=True)
    across, near = found.ceiling(bench.clusters, label, sources)
    across_exact, ceiling = found.ceiling(exact, label, sources)
    keys, counts = np.unique(np.stack([bench.clusters, label]), axis=1, return_counts=True)
    del keys
    return Duplicates(
        within=int(counts[counts > 1].sum()),
        across=across,
        across_exact=across_exact,
        ceiling=ceiling,
        ceiling_near=near,
    )


def _curve(outcomes: Mapping[tuple[str, str], Outcome]) -> Curve | None:
    sizes = [one for (trial, _), one in outcomes.items() if trial.startswith("curve ")]
    if not sizes:
        return None
    probe = sizes[0].probe
    points, tested = [], []
    for one in [*sizes, outcomes["raw", probe]]:
        numbers = figures(one)
        points += [(one.trained, accuracy) for accuracy in numbers.folds]
        tested.append(numbers.tested)
    fit = learning_curve([n for n, _ in points], [accuracy for _, accuracy in points], min(tested))
    return Curve(probe=probe, points=tuple(points), fit=fit)


def _label_aucs(bench: Bench) -> tuple[tuple[str, float], ...]:
    """Return how well the classes that all sources share are guessed from the source alone, highest first."""
    shared = {name: number for number, name in enumerate(shared_classes(bench.stock))}
    if len(shared) < 2:
        return ()
    labels = np.array([shared.get(name or "", -1) for name in bench.stock.class_names()])
    names = list(shared)
    return tuple((names[label], auc) for label, auc in found.source_only_auc(labels, bench.stock.source))
