"""What is known before anything is trained: scores, their ranking, known labels, probabilities."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from dataset_audit.commands.noise.config import Config
from dataset_audit.errors import UsageError
from dataset_audit.noise.quality import QUALITY, suggested
from dataset_audit.noise.ranking import Suspicion, suspect_high, suspicion
from dataset_audit.progress import Progress
from dataset_audit.select.order import hard_first
from dataset_audit.select.ranking import Ranked, Wanted, rank
from dataset_audit.tables import sidecar
from dataset_audit.tables.given import Rows, read_labels, read_probabilities
from dataset_audit.tables.scores import COLUMNS, ScoreTable

FIRST: Final = ("aum", "el2n_mean")  # what ranks by default
LATE: Final = (
    "aum",
    "el2n",
)  # what does where EL2N was taken late in a run that had not learned its labels by heart
UNLEARNED: Final = 0.8  # of the labels fitted at the end: up to here few wrong ones can be among them
ELSE: Final = ("loss_mean", "confidence", "el2n", "correctness", "forgetting")
MEMORISED: Final = 0.98  # of the labels fitted at the end: wrong ones among them have been learned by heart
IN_SAMPLE: Final = 0.99  # of the labels that out-of-fold predictions would hardly ever reproduce

Kind = Literal["score", "keep", "ranking", "peer"]


@dataclass(frozen=True, eq=False)
class Detector:
    """A ranking to be measured: float64[K] over the ranked rows, high is suspicious; and what it is.

    ``keep`` is a score of what is worth keeping, ``peer`` comes from the probabilities, ``ranking`` is what this
    command ranks by.
    """

    kind: Kind
    values: NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, eq=False)
class Gathered:
    """Everything known about K ranked rows of N.

    Attributes:
        table: The scores.
        document: Their sidecar; empty for a foreign table.
        ranked: Which rows rank, by which columns.
        suspicion: Of the ranked rows.
        detectors: By name; the ranking itself comes first.
        classes: Names in label order.
        clean: int64[K], known labels, -1 where none; None if none were given.
        clean_from: Where those came from.
        quality: By name of QUALITY float64[K], NaN where no probabilities are; empty without.
        suggested: int64[K], -1 for none; None without probabilities.
    """

    table: ScoreTable
    document: Mapping[str, object]
    ranked: Ranked
    suspicion: Suspicion
    detectors: Mapping[str, Detector]
    classes: tuple[str, ...]
    clean: NDArray[np.int64] | None
    clean_from: str
    quality: Mapping[str, NDArray[np.float64]]
    suggested: NDArray[np.int64] | None

    @property
    def labels(self) -> NDArray[np.int64]:
        """int64[K], as given; -1 where unlabelled."""
        return self.ranked.candidates.labels

    @property
    def spec(self) -> str:
        """The data set as it was named when it was scored."""
        return self.table.provenance.spec if self.table.provenance else ""


def gather(config: Config, progress: Progress) -> Gathered:
    """Read and rank; no image is opened.

    Raises:
        UsageError: A column is missing or finds no wrong labels, or scores of a run that learned nothing.
        MismatchError: Known labels or probabilities of another data set.
        DataError: Bad bytes.
    """
    table = ScoreTable.read(config.scores, strict=config.strict)
    document = _document(config, progress)
    if not table.has("index") or (table.provenance and table.provenance.sources):
        raise UsageError(
            f"{config.scores} does not say which rows of one data set these are.",
            where="columns: " + ", ".join(table.names[:50]),
            do="scores of one data set with a column index, 0 for its first example",
        )
    by = config.by or _default_by(table, document, config.scores)
    if all(name in COLUMNS and COLUMNS[name].keep for name in by):
        raise UsageError(
            f"{', '.join(by)} says which examples are worth keeping, not which are wrong: wrong labels are steadily "
            "wrong, so they vary little.",
            do="--by aum,el2n_mean",
        )
    wanted = Wanted(scores=config.scores, by=by, hard=config.hard, nan="drop", seed=config.seed)
    ranked = rank(wanted, table, "hardest", progress)
    candidates = ranked.candidates
    turned = [hard_first(key, end) for key, end in zip(candidates.keys, candidates.hard, strict=True)]
    found = suspicion(turned, candidates.tie)
    rows = Rows.of(table, config.scores)
    clean, clean_from = _clean(config, table, rows)
    quality, likelier = _predicted(config, rows, ranked, progress)
    return Gathered(
        table=table,
        document=document,
        ranked=ranked,
        suspicion=found,
        detectors=_detectors(table, ranked, found, dict(zip(ranked.by, turned, strict=True)), quality),
        classes=rows.classes,
        clean=None if clean is None else clean[ranked.rows],
        clean_from=clean_from,
        quality=quality,
        suggested=likelier,
    )


def _document(config: Config, progress: Progress) -> Mapping[str, object]:
    try:
        document = sidecar.read(config.scores)
    except FileNotFoundError:
        progress.warn("W-foreign", f"{config.scores} has no sidecar: not made by audit, or unfinished")
        return {}
    if document.get("trained") is False and not config.force:
        raise UsageError(
            f"{config.scores} comes from a run that learned nothing: its scores are noise.",
            do="score again with a lower --lr, or --force",
        )
    fitted = train_accuracy(document)
    if fitted is not None and fitted >= MEMORISED:
        progress.warn(
            "W-memorised",
            f"the scoring run ended with {100 * fitted:.1f} % of the labels fitted as given: wrong ones among them "
            "are learned by heart; fewer --epochs find more",
        )
    return document


def train_accuracy(document: Mapping[str, object]) -> float | None:
    """Return the mean over runs of the training accuracy in the last epoch, None where the sidecar does not say."""
    summary = document.get("summary")
    stated = summary.get("train_accuracy") if isinstance(summary, Mapping) else None
    numbers = [one for one in stated if isinstance(one, int | float)] if isinstance(stated, list) else []
    return float(np.mean(numbers)) if numbers else None


def _late(document: Mapping[str, object]) -> bool:
    """Return whether EL2N was taken in the second half of training by a network that fits few wrong labels.

    Averages over a training carry its poor beginning; what a network says at its end does not, but a label that was
    learned by heart by then looks right.
    """
    made, fitted = document.get("config"), train_accuracy(document)
    if not isinstance(made, Mapping) or fitted is None or fitted > UNLEARNED:
        return False
    used, at = made.get("recipe"), made.get("el2n_epochs")
    epochs = used.get("epochs") if isinstance(used, Mapping) else None
    if not isinstance(epochs, int) or not isinstance(at, list) or not at:
        return False
    return all(isinstance(one, int) and 2 * one > epochs for one in at)


def _default_by(table: ScoreTable, document: Mapping[str, object], path: Path) -> tuple[str, ...]:
    if _late(document) and all(table.has(name) for name in LATE):
        return LATE
    found = (
        tuple(name for name in FIRST if table.has(name))
        or tuple(name for name in ELSE if table.has(name))[:1]
    )
    if not found:
        raise UsageError(
            f"{path} has no column that finds wrong labels by default.",
            where="columns: " + ", ".join(table.names[:50]),
            do="--by COLUMN --hard high|low",
        )
    return found


def _clean(config: Config, table: ScoreTable, rows: Rows) -> tuple[NDArray[np.int64] | None, str]:
    """Return int64[N] of known labels and their source: the file, else what the scores know of injected noise."""
    if config.clean_labels is not None:
        return read_labels(config.clean_labels, rows, config.clean_column), str(config.clean_labels)
    if table.has("clean_label"):
        return table.integers("clean_label"), f"injected when {config.scores.name} was made"
    return None, ""


def _predicted(
    config: Config, rows: Rows, ranked: Ranked, progress: Progress
) -> tuple[dict[str, NDArray[np.float64]], NDArray[np.int64] | None]:
    """Return the label quality of the ranked rows by each measure, and the likelier class."""
    if config.predictions is None:
        return {}, None
    labels = ranked.candidates.labels
    probabilities = read_probabilities(config.predictions, rows)[ranked.rows]
    known = np.isfinite(probabilities).all(axis=1) & (labels >= 0)
    if not known.any():
        raise UsageError(
            f"{config.predictions} has no probabilities for a ranked, labelled row.", where=str(config.scores)
        )
    agree = float((probabilities[known].argmax(axis=1) == labels[known]).mean())
    if agree >= IN_SAMPLE:
        progress.warn(
            "W-in-sample",
            f"{config.predictions} agrees with {100 * agree:.1f} % of the labels: out of fold, or of a network that "
            "was trained on them?",
        )
    quality = {}
    for name, one in QUALITY.items():
        values = np.full(len(labels), np.nan)
        values[known] = one.compute(probabilities[known], labels[known])
        quality[name] = values
    likelier = np.full(len(labels), -1, np.int64)
    likelier[known] = suggested(probabilities[known], labels[known])
    return quality, likelier


def _detectors(
    table: ScoreTable,
    ranked: Ranked,
    found: Suspicion,
    used: Mapping[str, NDArray[np.float64]],
    quality: Mapping[str, NDArray[np.float64]],
) -> dict[str, Detector]:
    """Return every column that ranks, the ranking of several before them, the peers last."""
    made: dict[str, Detector] = {}
    if len(ranked.by) > 1:
        made[" + ".join(ranked.by)] = Detector("ranking", found.value)
    for name in table.names:
        end = table.hard(name)
        if name in used:
            made[name] = Detector("ranking" if len(ranked.by) == 1 else "score", used[name])
        elif end is not None and not name.endswith("_std"):
            values = suspect_high(name, table.floats(name)[ranked.rows], end)
            known = np.isfinite(values)
            if known.any():  # what is undefined for an example says nothing against its label
                least = float(values[known].min()) - 1
                keep = name in COLUMNS and COLUMNS[name].keep
                made[name] = Detector("keep" if keep else "score", np.where(known, values, least))
    return made | {name: Detector("peer", -values) for name, values in quality.items()}
