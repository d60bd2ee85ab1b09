"""What was found, and every figure derived from it, once: lines and JSON are views of these."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from math import isfinite, nan
from typing import Final

import numpy as np
from numpy.typing import NDArray

from dataset_audit.commands.noise.gather import Gathered, Kind, train_accuracy
from dataset_audit.noise.evaluation import (
    FIGURES,
    Figures,
    OfClass,
    Order,
    Redrawn,
    best,
    by_class,
    confusions,
    figures,
    permuted,
    precision_at,
    redraw,
)
from dataset_audit.noise.thresholds import flags
from dataset_audit.stats.intervals import clopper_pearson

POINTS: Final = 60  # at which precision at k is drawn


@dataclass(frozen=True, kw_only=True, eq=False)
class Tested:
    """What runs with threshold samples gave, over the ranked rows.

    Attributes:
        margins: Per run float64[K], AUM; NaN where not presented.
        members: Per run bool[K], its threshold samples.
        percentile: Of their AUM, below which an example is flagged.
        accuracy: Training accuracy of each run at its end.
        epochs: Of each run.
        trained: Epochs trained just now, of all runs.
    """

    margins: tuple[NDArray[np.float64], ...]
    members: tuple[NDArray[np.bool_], ...]
    percentile: float
    accuracy: tuple[float, ...]
    epochs: int
    trained: int

    @cached_property
    def _judged(self) -> tuple[NDArray[np.bool_], NDArray[np.float64], list[float]]:
        return flags(self.margins, self.members, self.percentile)

    @property
    def flagged(self) -> NDArray[np.bool_]:
        """bool[K]: below the threshold in every run in which the example had its own label."""
        return self._judged[0]

    @property
    def share(self) -> NDArray[np.float64]:
        """float64[K]: share of threshold samples with a higher AUM, mean over those runs."""
        return self._judged[1]

    @property
    def bounds(self) -> list[float]:
        """The threshold of each run, an AUM."""
        return self._judged[2]

    @property
    def samples(self) -> int:
        """Threshold samples of one run."""
        return int(self.members[0].sum())


@dataclass(frozen=True, eq=False)
class Truth:
    """The ranking against known labels, on the rows where one is known and every detector has a value.

    Attributes:
        source: Where the known labels come from.
        rows: int64[J], positions among the ranked rows.
        wrong: bool[J].
        seed: Of redrawing and permuting.
        detectors: All rankings, over the J rows.
        kinds: What each is.
        labels: int64[J], as given.
    """

    source: str
    rows: NDArray[np.int64]
    wrong: NDArray[np.bool_]
    seed: int
    detectors: Mapping[str, NDArray[np.float64]]
    kinds: Mapping[str, Kind]
    labels: NDArray[np.int64]

    @property
    def base_rate(self) -> float:
        """Share of the labels that are wrong: the average precision of guessing."""
        return float(self.wrong.mean())

    @cached_property
    def orders(self) -> dict[str, Order]:
        """Every ranking laid out."""
        return {name: Order.of(values, self.wrong) for name, values in self.detectors.items()}

    @cached_property
    def figures(self) -> dict[str, Figures]:
        """Of every ranking."""
        return {name: figures(order) for name, order in self.orders.items()}

    @cached_property
    def redrawn(self) -> Redrawn:
        """Of every ranking, on the same redrawn examples."""
        return redraw(self.orders, self.seed)

    @property
    def ranking(self) -> str:
        """The ranking this command ranks by."""
        return next(name for name, kind in self.kinds.items() if kind == "ranking")

    @property
    def peer(self) -> str:
        """The best measure of the probabilities; empty without."""
        return best(self.figures, [name for name, kind in self.kinds.items() if kind == "peer"])

    @property
    def single(self) -> str:
        """The best score of the one pass; empty without one."""
        return best(self.figures, [name for name, kind in self.kinds.items() if kind in {"score", "ranking"}])

    @cached_property
    def permuted(self) -> list[float]:
        """AUROC of the ranking against permuted truths."""
        return permuted(self.detectors[self.ranking], self.wrong, self.seed)

    @cached_property
    def classes(self) -> list[OfClass]:
        """Of the ranking within each given label."""
        return by_class(self.detectors[self.ranking], self.wrong, self.labels)

    def curve(self, name: str) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Return counts from 1 to all, evenly on a logarithmic scale, and the precision of a ranking at each."""
        counts = np.unique(np.geomspace(1, len(self.wrong), POINTS).round().astype(np.int64))
        return counts, precision_at(self.orders[name], counts)

    def interval(self, name: str, figure: str, minus: str = "") -> tuple[float, float]:
        """Return the 95 % interval of a figure, or of its difference, over examples."""
        return self.redrawn.interval(name, figure, minus=minus)


@dataclass(frozen=True, kw_only=True, eq=False)
class Findings:
    """Everything that was found about the K ranked rows of a table."""

    gathered: Gathered
    truth: Truth | None
    tested: Tested | None
    top: int
    seed: int

    @staticmethod
    def of(gathered: Gathered, tested: Tested | None, *, top: int, seed: int) -> Findings:
        """Return the findings; figures are computed when they are first asked for."""
        return Findings(gathered=gathered, truth=_truth(gathered, seed), tested=tested, top=top, seed=seed)

    @property
    def n(self) -> int:
        """Rows that are ranked."""
        return len(self.gathered.ranked.rows)

    @cached_property
    def order(self) -> NDArray[np.int64]:
        """int64[K], positions among the ranked rows, the most suspicious first."""
        return np.argsort(self.gathered.suspicion.rank)

    @property
    def unranked(self) -> dict[str, int]:
        """Rows that are not ranked, by reason."""
        reasons, counts = np.unique(self.gathered.ranked.excluded, return_counts=True)
        return {str(r): int(c) for r, c in zip(reasons, counts, strict=True) if r}

    @property
    def wrong(self) -> NDArray[np.bool_] | None:
        """Masked bool[K]: whether the known label differs; masked where none is known. None without any."""
        clean, labels = self.gathered.clean, self.gathered.labels
        if clean is None:
            return None
        return np.ma.masked_array(clean != labels, mask=(clean < 0) | (labels < 0))

    @property
    def meant(self) -> tuple[str, NDArray[np.int64]] | None:
        """What the labels should be, int64[K] with -1 where unknown: as known, else as suggested; None without."""
        if self.gathered.clean is not None:
            return "known", self.gathered.clean
        if self.gathered.suggested is not None:
            return "suggested", self.gathered.suggested
        return None

    @cached_property
    def suspects(self) -> NDArray[np.int64]:
        """Positions of the examples that confusions are counted on, the most suspicious first.

        The flagged ones; else as many as are known to be wrong; else a hundredth, at least fifty.
        """
        if self.tested is not None:
            return self.order[self.tested.flagged[self.order]]
        if self.truth is not None and self.truth.wrong.any():
            return self.order[: int(self.truth.wrong.sum())]
        return self.order[: max(50, self.n // 100)]

    @cached_property
    def confused(self) -> NDArray[np.int64] | None:
        """int64[C, C]: how often a given label stands among the suspects where another class is meant."""
        if self.meant is None:
            return None
        counted = confusions(self.gathered.labels, self.meant[1], self.suspects, len(self.gathered.classes))
        np.fill_diagonal(counted, 0)
        return counted

    def name(self, label: int) -> str:
        """Return the name of a class; empty for none."""
        return self.gathered.classes[label] if 0 <= label < len(self.gathered.classes) else ""

    def listed(self) -> list[dict[str, object]]:
        """Return the most suspicious examples, as many as were asked for."""
        table, rows = self.gathered.table, self.gathered.ranked.rows
        names = table.strings("file_name") if table.has("file_name") else None
        index, labels = table.integers("index"), self.gathered.labels
        meant = self.meant
        found = []
        for rank, at in enumerate(self.order[: self.top].tolist()):
            one: dict[str, object] = {
                "rank": rank,
                "index": int(index[rows[at]]),
                "file_name": names[rows[at]] if names is not None else None,
                "label": self.name(int(labels[at])) or None,
                "scores": {
                    name: float(key[at])
                    for name, key in zip(
                        self.gathered.ranked.by, self.gathered.ranked.candidates.keys, strict=True
                    )
                },
            }
            if meant is not None:
                one[f"{meant[0]}_label"] = self.name(int(meant[1][at])) or None
            found.append(one)
        return found

    def summary(self) -> dict[str, object]:
        """Return every figure as plain JSON values; what is undefined is null."""
        gathered = self.gathered
        return {
            "examples": len(gathered.table),
            "ranked": self.n,
            "unranked": self.unranked,
            "by": list(gathered.ranked.by),
            "train_accuracy": train_accuracy(gathered.document),
            "threshold": None if self.tested is None else self._threshold(self.tested),
            "truth": None if self.truth is None else _summary(self.truth, gathered.classes),
            "predictions": self._predictions(),
            "suspects": {"count": len(self.suspects), "confusions": self.pairs()},
            "most_suspicious": self.listed(),
        }

    def _threshold(self, tested: Tested) -> dict[str, object]:
        flagged = int(tested.flagged.sum())
        low, high = clopper_pearson(flagged, self.n)
        return {
            "percentile": tested.percentile,
            "runs": len(tested.margins),
            "epochs": tested.epochs,
            "samples_per_run": tested.samples,
            "aum_thresholds": [plain(bound) for bound in tested.bounds],
            "train_accuracy": [plain(one) for one in tested.accuracy],
            "flagged": flagged,
            "flagged_share": flagged / self.n,
            "flagged_share_low": low,
            "flagged_share_high": high,
            "against_truth": self.flags_measured(),
        }

    def flags_measured(self) -> dict[str, object] | None:
        """Return precision and recall of the flags where the truth is known, with exact 95 % intervals."""
        if self.truth is None or self.tested is None:
            return None
        flagged, wrong = self.tested.flagged[self.truth.rows], self.truth.wrong
        hits = int((flagged & wrong).sum())
        measured: dict[str, object] = {"hits": hits, "flagged": int(flagged.sum()), "wrong": int(wrong.sum())}
        for name, of in (("precision", int(flagged.sum())), ("recall", int(wrong.sum()))):
            low, high = clopper_pearson(hits, of) if of else (nan, nan)
            measured |= {
                name: hits / of if of else None, f"{name}_low": plain(low), f"{name}_high": plain(high)
            }  # fmt: skip
        return measured

    def _predictions(self) -> dict[str, object] | None:
        if self.gathered.suggested is None:
            return None
        known = np.isfinite(self.gathered.quality["self_confidence"])
        other = int((self.gathered.suggested >= 0).sum())
        return {"examples": int(known.sum()), "other_class_likelier": other}

    def pairs(self) -> list[dict[str, object]]:
        """Return the ten commonest confusions among the suspects: label, class that is meant, count."""
        pairs: list[dict[str, object]] = []
        if self.confused is not None and self.meant is not None:
            for flat in np.argsort(-self.confused, axis=None, kind="stable")[:10]:
                label, other = divmod(int(flat), self.confused.shape[1])
                if self.confused[label, other]:
                    count = int(self.confused[label, other])
                    pairs.append({"label": self.name(label), self.meant[0]: self.name(other), "count": count})
        return pairs


def _truth(gathered: Gathered, seed: int) -> Truth | None:
    if gathered.clean is None:
        return None
    known = (gathered.clean >= 0) & (gathered.labels >= 0)
    for values in gathered.quality.values():
        known &= np.isfinite(values)
    rows = np.flatnonzero(known)
    if not len(rows):
        return None
    return Truth(
        source=gathered.clean_from,
        rows=rows,
        wrong=gathered.clean[rows] != gathered.labels[rows],
        seed=seed,
        detectors={name: one.values[rows] for name, one in gathered.detectors.items()},
        kinds={name: one.kind for name, one in gathered.detectors.items()},
        labels=gathered.labels[rows],
    )


def _summary(truth: Truth, classes: tuple[str, ...]) -> dict[str, object]:
    peer = truth.peer
    rankings = []
    for name, found in truth.figures.items():
        row: dict[str, object] = {"name": name, "kind": truth.kinds[name]}
        for figure in FIGURES:
            low, high = truth.interval(name, figure)
            row |= {
                figure: plain(getattr(found, figure)), f"{figure}_low": plain(low), f"{figure}_high": plain(high)
            }  # fmt: skip
            if peer and truth.kinds[name] != "peer":
                low, high = truth.interval(name, figure, minus=peer)
                row |= {f"{figure}_over_peer_low": plain(low), f"{figure}_over_peer_high": plain(high)}
        rankings.append(row)
    return {
        "source": truth.source,
        "examples": len(truth.rows),
        "wrong": int(truth.wrong.sum()),
        "base_rate": truth.base_rate,
        "rankings": rankings,
        "best_of_the_pass": truth.single or None,
        "best_peer": peer or None,
        "permuted_auroc": [plain(one) for one in truth.permuted],
        "by_class": [
            {
                "label": classes[one.label],
                "examples": one.n,
                "wrong": one.wrong,
                **{figure: plain(getattr(one.figures, figure)) for figure in FIGURES},
            }
            for one in truth.classes
        ],
    }


def plain(value: float) -> float | None:
    """Return a number as JSON has it: null for NaN and infinities."""
    return float(value) if isfinite(value) else None
