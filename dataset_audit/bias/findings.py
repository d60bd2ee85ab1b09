"""From outcomes to what is said: excess over the worst control, what survives, which artefact, in which words."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from dataset_audit import seeds
from dataset_audit.bias.controls import CONTROLS
from dataset_audit.bias.measure import Figures, Outcome, Trial, figures
from dataset_audit.probes import features
from dataset_audit.probes.classify import Fold, Labels, Learned, boosted, importance, linear
from dataset_audit.probes.registry import PROBES
from dataset_audit.stats.bootstrap import cluster_bootstrap
from dataset_audit.stats.chance import holm, least_test, normalised

NEGLIGIBLE: Final = 0.05  # normalised bias below which nothing is left to speak of
HALF: Final = (
    0.5  # of the bias that must go with what a control takes away, for the control to name the artefact
)

Outcomes = Mapping[tuple[str, str], Outcome]
Reading = Literal[
    "at chance", "explained by artefacts", "content or capture differs", "artefacts name it at least as well",
    "cannot tell",
]  # fmt: skip

READINGS: Final[dict[str, str]] = {
    "at chance": "no probe tells the sources apart",
    "explained by artefacts": "nothing of note is left once artefacts are taken away",
    "content or capture differs": "what is left without artefacts still gives the source away, and pixels say more "
    "than files do",
    "artefacts name it at least as well": "what is left without artefacts still gives the source away, but files "
    "alone, or noise in their size and encoding, name it at least as well",
    "cannot tell": "nothing is shown to be left once artefacts are taken away, but too few images to rule it out",
}


def strongest(outcomes: Outcomes, trial: str, *, facts: bool = False) -> Outcome | None:
    """Return the outcome of a trial with the highest accuracy on validation rows, the cheapest probe of equals.

    Test rows never choose. None where the trial was not made.

    Args:
        outcomes: By (trial, probe).
        trial: Name.
        facts: Whether the probe that looks at files alone takes part.
    """
    best: Outcome | None = None
    for name, probe in PROBES.items():
        found = outcomes.get((trial, name))
        if found is None or (probe.sees == "facts" and not facts):
            continue
        if best is None or found.validation > best.validation:
            best = found
    return best


@dataclass(frozen=True, kw_only=True)
class Effect:
    """A difference of normalised biases, or one bias, with its 95 % interval by redrawing clusters."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, kw_only=True)
class Headline:
    """The sentence and the figures behind it.

    Attributes:
        strongest: Probe with the best validation accuracy on the pictures as they are.
        figures: Of that probe.
        worst: Which artefact control is the floor: ``header`` or ``noise``.
        floor: Figures of the best probe there.
        excess: Bias of the strongest probe over the floor's; negative if files say more than pixels.
        surviving: Bias of the best probe once everything is taken away together.
        reading: Key of READINGS.
        enough: Test images that would settle it, where the reading is ``cannot tell``.
    """

    strongest: str
    figures: Figures
    worst: str
    floor: Figures
    excess: Effect
    surviving: Effect
    surviving_probe: str
    reading: Reading
    enough: int | None = None


def headline(outcomes: Outcomes, clusters: NDArray[np.int64], sources: int, seed: int) -> Headline | None:
    """Return the headline, None where the controls that it rests on were not made.

    Intervals redraw clusters 2,000 times; outcomes on the same pictures stay paired, and the floor is the worse of
    the two controls in every draw.

    Args:
        outcomes: By (trial, probe).
        clusters: int64[M] of the stock.
        sources: K.
        seed: Of the redrawing.
    """
    raw, left = strongest(outcomes, "raw"), strongest(outcomes, "together")
    floors = {
        "noise": strongest(outcomes, "noise"),
        "header": outcomes.get(("raw", "header")),
    }
    known = {name: found for name, found in floors.items() if found is not None}
    if raw is None or left is None or not known:
        return None
    rights = {name: _right(found, len(clusters)) for name, found in known.items()}
    shown = _right(raw, len(clusters))

    def excess(rows: NDArray[np.int64]) -> float:
        return _bias(shown, rows, sources) - max(_bias(right, rows, sources) for right in rights.values())

    everything = np.arange(len(clusters))
    survives = _right(left, len(clusters))
    over = _effect(excess, clusters, everything, seed)
    surviving = _effect(lambda rows: _bias(survives, rows, sources), clusters, everything, seed)
    worst = max(known, key=lambda name: figures(known[name]).bias)
    main = figures(raw)
    header = outcomes.get(("raw", "header"))  # pixels may know nothing where files say all
    p = main.p if header is None else min(main.p, figures(header).p)
    reading = _reading(p, over, surviving)
    return Headline(
        strongest=raw.probe,
        figures=main,
        worst=worst,
        floor=figures(known[worst]),
        excess=over,
        surviving=surviving,
        surviving_probe=left.probe,
        reading=reading,
        enough=least_test(sources, NEGLIGIBLE) if reading == "cannot tell" else None,
    )


def _right(found: Outcome, total: int) -> NDArray[np.float64]:
    """Return float64[total]: 1 right, 0 wrong, NaN not tested."""
    right = np.full(total, np.nan)
    right[found.rows] = found.correct
    return right


def _bias(right: NDArray[np.float64], rows: NDArray[np.int64], sources: int) -> float:
    return normalised(float(np.nanmean(right[rows])), sources)


def _effect(
    statistic: Callable[[NDArray[np.int64]], float],
    clusters: NDArray[np.int64],
    everything: NDArray[np.int64],
    seed: int,
) -> Effect:
    low, high = cluster_bootstrap(clusters, statistic, seed=seed)
    return Effect(value=statistic(everything), low=low, high=high)


def _reading(p: float, excess: Effect, surviving: Effect) -> Reading:
    if p > 0.05:
        return "at chance"
    if surviving.high <= NEGLIGIBLE:
        return "explained by artefacts"
    if surviving.low > NEGLIGIBLE:
        return "content or capture differs" if excess.value > 0 else "artefacts name it at least as well"
    return "cannot tell"


def taken_away(outcomes: Outcomes) -> list[tuple[str, float]]:
    """Return (control, share of the bias that is gone) of the controls that take away half or more, most first."""
    raw = strongest(outcomes, "raw")
    if raw is None or figures(raw).p > 0.05:
        return []
    whole = figures(raw).bias
    found = []
    for name, control in CONTROLS.items():
        left = strongest(outcomes, name)
        if control.role == "removes" and left is not None:
            gone = 1 - figures(left).bias / whole
            if gone >= HALF:
                found.append((name, gone))
    return sorted(found, key=lambda one: -one[1])


@dataclass(frozen=True, kw_only=True)
class NamedFact:
    """What one header fact says of the source.

    Attributes:
        name: Of FACTS.
        alone: Accuracy of boosted trees on this fact alone, first fold.
        lost: Accuracy that shuffling it among test rows costs the probe that has all facts (Breiman 2001); facts that
            say the same hide each other's.
    """

    name: str
    alone: float
    lost: float


def named_facts(trial: Trial, seed: int) -> list[NamedFact]:
    """Return the header facts that alone carry half of the bias of all together, the most telling first."""
    from dataset_audit.images.facts import FACTS  # noqa: PLC0415 - Pillow

    fold, vectors, labels = trial.folds[0], trial.view.facts, trial.labels
    learned = boosted(vectors, labels, fold, trial.classes, seed)
    together = normalised(_right_share(learned, labels, fold), trial.classes)
    lost = importance(learned, vectors, labels, fold.test, seeds.rng(seed, "importance"))
    found = []
    for place, name in enumerate(FACTS):
        column = vectors[:, place : place + 1]
        if not np.isfinite(column[fold.train]).any():
            continue
        alone = _right_share(boosted(column, labels, fold, trial.classes, seed), labels, fold)
        if normalised(alone, trial.classes) >= HALF * together:
            found.append(NamedFact(name=name, alone=alone, lost=float(lost[place])))
    return sorted(found, key=lambda fact: -fact.alone)


def _right_share(learned: Learned, labels: Labels, fold: Fold) -> float:
    return float((learned.probability.argmax(1) == labels[fold.test]).mean())


def named_traces(trial: Trial, seed: int) -> list[tuple[str, float]]:
    """Return (group of traces, accuracy of a linear machine on it alone, first fold), highest first."""
    fold, start, found = trial.folds[0], 0, []
    for name, width in features.TRACES.items():
        vectors = trial.view.traces[:, start : start + width]
        start += width
        learned = linear(vectors, trial.labels, fold, trial.classes, seed)
        found.append((name, _right_share(learned, trial.labels, fold)))
    return sorted(found, key=lambda one: -one[1])


def corrected(nulls: Sequence[Figures]) -> list[float]:
    """Return the p-values of null controls after Holm: with a dozen looks one in twenty is not news."""
    return holm([null.p for null in nulls])


def ceiling(clusters: NDArray[np.int64], labels: Labels, sources: int) -> tuple[int, float]:
    """Return (pictures that share a cluster with another source, best accuracy that any probe could have).

    Copies in two sources look alike to whatever sees only what the copies share: of each cluster at most the pictures
    of its commonest source can be named right.
    """
    names, which = np.unique(clusters, return_inverse=True)
    counts = np.zeros((len(names), sources), np.int64)
    np.add.at(counts, (which, labels), 1)
    across = (counts > 0).sum(1) > 1
    return int(counts[across].sum()), float(counts.max(1).sum() / len(labels))


@dataclass(frozen=True, kw_only=True)
class Leak:
    """What duplicates on both sides of a split would add.

    Attributes:
        by_row: Accuracy of a nearest neighbour on 32x32 thumbnails, split picture by picture.
        by_cluster: The same pictures and split, each picture's duplicates left out of what it is compared with.
        straddling: Share of the test pictures that have a duplicate among the training pictures.
    """

    by_row: float
    by_cluster: float
    straddling: float

    @property
    def points(self) -> float:
        """The leak, as a share."""
        return self.by_row - self.by_cluster


def leak(trial: Trial, by_row: Sequence[Fold]) -> Leak:
    """Return how much better a nearest neighbour does where duplicates may lie on both sides.

    A nearest neighbour remembers everything, so it shows a leak as large as it can be; without a duplicate on both
    sides it is exactly zero.

    Args:
        trial: Of the pictures as they are.
        by_row: Folds of the same pictures by picture.
    """
    vectors = features.thumbnail(trial.view.pixels)
    vectors = vectors - vectors.mean(0)
    scores, straddling = [], []
    for fold in by_row:
        learn, judge = vectors[fold.train], vectors[fold.test]
        distance = (learn**2).sum(1)[None, :] - 2 * (judge @ learn.T)
        copies = trial.clusters[fold.test][:, None] == trial.clusters[fold.train][None, :]
        truth, known = trial.labels[fold.test], trial.labels[fold.train]
        scores.append(
            [
                float((known[one.argmin(1)] == truth).mean())
                for one in (distance, np.where(copies, np.inf, distance))
            ]
        )
        straddling.append(float(copies.any(1).mean()))
    with_copies, without = np.mean(scores, axis=0)
    return Leak(by_row=float(with_copies), by_cluster=float(without), straddling=float(np.mean(straddling)))


def source_only_auc(labels: NDArray[np.int64], source: Labels) -> list[tuple[int, float]]:
    """Return (class, AUC of guessing it from its prevalence in each source) of every class, highest first.

    How far a model could get on the label task by naming the source alone (Zech et al. 2018); 0.5 says nothing.

    Args:
        labels: int64[M], -1 where there is none; the same number is the same class in every source.
        source: int64[M].
    """
    from dataset_audit.stats.agreement import auroc  # noqa: PLC0415

    known = labels >= 0
    found = []
    for label in np.unique(labels[known]):
        truth = labels[known] == label
        share = np.array(
            [
                truth[source[known] == one].mean() if (source[known] == one).any() else 0
                for one in range(source.max() + 1)
            ]
        )
        if truth.any() and not truth.all():
            found.append((int(label), float(auroc(share[source[known]], truth))))
    return sorted(found, key=lambda one: -one[1])
