"""From a table of scores to candidates: what ranks, in which run, which end is hard, which rows cannot be ranked."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dataset_audit.errors import DataError, UsageError
from dataset_audit.progress import Silent
from dataset_audit.select.ranking import Ranked, Wanted, betas_for, check_classes, class_name, rank, unscored
from dataset_audit.tables.provenance import Provenance
from dataset_audit.tables.scores import ScoreTable

PATH = Path("scores.parquet")
ORIGIN = Provenance(
    spec="data/cifar-100", fingerprint="ab", n=6, class_names=("ant", "bee", "cow"), seeds=(1, 2, 3)
)
N = 6
AUM = np.array([3.0, -1, 2, 0, 5, 1])
RUNS = np.array([[3.0, 1, 2], [-1, 9, 0], [2, 2, 9], [0, -5, -9], [5, 5, 5], [1, 0, 3]])


def table(origin: Provenance | None = ORIGIN, **changes: Any) -> ScoreTable:
    columns: dict[str, Any] = {
        "index": np.arange(N), "label": np.arange(N, dtype=np.int32) % 3,
        "presentations": np.full(N, 4, np.int32), "forgetting": np.array([0.0, 3, 1, 2, 0, 1]),
        "aum": AUM, "aum_runs": RUNS, "forgetting_runs": RUNS[::-1].copy(),
    }  # fmt: skip
    kept = {name: values for name, values in {**columns, **changes}.items() if values is not None}
    return ScoreTable.of(kept, origin or ORIGIN)


class Heard(Silent):
    def __init__(self) -> None:
        super().__init__()
        self.notes: list[str] = []

    def note(self, text: str) -> None:
        self.notes.append(text)


def ranked(
    given_table: ScoreTable, policy: str = "hardest", progress: Silent | None = None, **options: Any
) -> Ranked:
    return rank(Wanted(scores=PATH, **options), given_table, policy, progress or Silent())


def hardest_first(found: Ranked) -> list[int]:
    return found.rows[found.candidates.hardest_first()].tolist()


def test_forgetting_ranks_by_default_and_the_margin_parts_ties() -> None:
    found = ranked(table())
    assert found.by == ("forgetting", "aum")
    assert hardest_first(found) == [1, 3, 5, 2, 0, 4]
    assert (found.excluded == "").all()
    assert found.candidates.labels.tolist() == [0, 1, 2, 0, 1, 2]


def test_a_policy_that_is_defined_on_a_column_ranks_by_it() -> None:
    found = ranked(table(), "ccs")
    assert found.by == ("aum",)
    assert "ccs" in found.why
    assert found.candidates.columns["aum"].tolist() == AUM.tolist()
    assert hardest_first(found) == np.argsort(AUM).tolist()


def test_the_recipes_recommendation_comes_before_the_default() -> None:
    origin = Provenance(
        spec="x", fingerprint="", n=N, class_names=(), recommended={"by": "aum", "agreement": 0.94}
    )
    found = ranked(table(origin))
    assert found.by == ("aum",)
    assert "agreement 0.94" in found.why


@pytest.mark.parametrize("run", [0, 1, 2])
def test_a_run_ranks_by_its_own_scores(run: int) -> None:
    found = ranked(table(), by=("aum",), run=run)
    assert hardest_first(found) == np.argsort(RUNS[:, run], kind="stable").tolist()
    assert found.candidates.keys[0].tolist() == RUNS[:, run].tolist()
    assert ranked(table(), "ccs", run=run).candidates.columns["aum"].tolist() == RUNS[:, run].tolist()


def test_without_a_run_the_mean_ranks() -> None:
    assert ranked(table(), by=("aum",)).candidates.keys[0].tolist() == AUM.tolist()


def test_every_key_and_needed_column_is_of_the_same_run() -> None:
    found = ranked(table(), run=1)
    assert found.by == ("forgetting", "aum")
    assert found.candidates.keys[0].tolist() == RUNS[::-1][:, 1].tolist()
    assert found.candidates.keys[1].tolist() == RUNS[:, 1].tolist()


def test_a_column_that_no_run_has_of_its_own_is_refused_by_name() -> None:
    with pytest.raises(UsageError, match="'forgetting_runs'") as caught:
        ranked(table(forgetting_runs=None), run=0)
    assert "--per-run" in caught.value.do


def test_rows_that_cannot_be_ranked_are_no_candidates_and_say_why() -> None:
    status = ["ok", "unreadable", "ok", "unlabelled", "excluded", "ok"]
    presentations = np.array([4, 0, 0, 0, 0, 4], np.int32)
    gaps = np.where(presentations[:, None] > 0, RUNS, np.nan)
    given_table = table(
        status=status, presentations=presentations, aum=gaps[:, 0], aum_runs=gaps, forgetting=None
    )
    found = ranked(given_table, by=("aum",))
    assert found.rows.tolist() == [0, 5]
    assert found.excluded.tolist() == ["", "unreadable", "unscored", "unscored", "unscored", ""]
    of_run = ranked(given_table, by=("aum",), run=2)
    assert of_run.rows.tolist() == [0, 5]
    assert of_run.candidates.keys[0].tolist() == [2, 3], "the run's scores stand by their rows"


@pytest.mark.parametrize("kind", [pa.list_(pa.float32(), 2), pa.list_(pa.float32())])
def test_rows_without_runs_leave_the_runs_of_others_where_they_are(kind: pa.DataType) -> None:
    """A list that is null has no values in memory, so that those after it would move up."""
    lists = pa.array([[3.0, 1], None, [2, 7], None], kind)
    foreign = ScoreTable(
        pa.table({"index": [0, 1, 2, 3], "mine": [2.0, None, 4, None], "mine_runs": lists}), None
    )
    found = ranked(foreign, by=("mine",), hard="high", run=1, nan="drop")
    assert found.rows.tolist() == [0, 2]
    assert found.candidates.keys[0].tolist() == [1, 7]
    ragged = pa.array([[3.0, 1], [2.0]], pa.list_(pa.float32()))
    with pytest.raises(DataError, match="not as many runs in every row"):
        ScoreTable(pa.table({"mine_runs": ragged}), None).per_run("mine")


def test_a_table_without_a_row_to_rank_is_an_error() -> None:
    with pytest.raises(DataError, match="no row that can be ranked"):
        ranked(table(presentations=np.zeros(N, np.int32)))
    with pytest.raises(DataError, match="no row that can be ranked"):
        unscored(table(status=["excluded"] * N), PATH)
    with pytest.raises(DataError, match="no row that can be ranked"):
        ranked(table(aum=np.full(N, np.nan)), by=("aum",), nan="drop")


GAP = np.array([3.0, np.nan, 2, 0, np.inf, 1])


def test_an_undefined_score_is_refused_unless_it_is_said_what_becomes_of_it() -> None:
    with pytest.raises(DataError, match="aum is null, NaN or infinite in 2 rows") as caught:
        ranked(table(aum=GAP), by=("aum",))
    assert "rows 1, 4" in caught.value.where
    assert "--nan hardest" in caught.value.do
    dropped = ranked(table(aum=GAP), by=("aum",), nan="drop")
    assert dropped.rows.tolist() == [0, 2, 3, 5]
    assert dropped.excluded[[1, 4]].tolist() == ["unscored", "unscored"]
    hardest = ranked(table(aum=GAP), by=("aum",), nan="hardest")
    assert set(hardest_first(hardest)[:2]) == {1, 4}
    assert hardest_first(hardest)[2:] == [3, 5, 2, 0]
    assert np.isfinite(hardest.candidates.keys[0]).all(), "strata of equal width need a finite range"


def test_rows_dropped_for_one_key_are_dropped_for_all() -> None:
    found = ranked(table(aum=GAP, forgetting=np.array([np.nan, 3, 1, 2, 0, 1])), nan="drop")
    assert found.rows.tolist() == [2, 3, 5]
    assert all(len(key) == 3 for key in found.candidates.keys)
    assert len(found.candidates.tie) == len(found.candidates.labels) == 3


def test_null_of_first_learned_is_hardest_and_of_last_wrong_easiest() -> None:
    values = np.array([4.0, np.nan, 1, 2, 8, 3])
    first = ranked(table(first_learned=values), by=("first_learned",))
    assert hardest_first(first)[:2] == [1, 4]
    last = ranked(table(last_wrong=values), by=("last_wrong",))
    assert hardest_first(last)[-1] == 1


def test_a_foreign_column_needs_its_hard_end() -> None:
    own = np.arange(N, dtype=float)
    with pytest.raises(UsageError, match="Which end of 'mine' is hard") as caught:
        ranked(table(mine=own), by=("mine",))
    assert "--hard high" in caught.value.do
    assert hardest_first(ranked(table(mine=own), by=("mine",), hard="high")) == [5, 4, 3, 2, 1, 0]
    assert hardest_first(ranked(table(mine=own), by=("mine",), hard="low")) == [0, 1, 2, 3, 4, 5]


def test_contradictions_and_misspellings_are_said() -> None:
    with pytest.raises(UsageError, match="aum is hard at its low end; --hard high contradicts"):
        ranked(table(), by=("aum",), hard="high")
    with pytest.raises(UsageError, match="No column 'aumm'; nearest: aum"):
        ranked(table(), by=("aumm",))
    with pytest.raises(UsageError, match="dual_confidence does not rank"):
        ranked(table(dual_confidence=np.full(N, 0.5)), by=("dual_confidence",))
    with pytest.raises(UsageError, match="no column that ranks by default"):
        ranked(table(aum=None, forgetting=None))


def test_a_count_of_events_ranks_by_the_column_that_puts_never_learned_hardest() -> None:
    heard = Heard()
    found = ranked(table(forgetting_events=np.zeros(N)), by=("forgetting_events",), progress=heard)
    assert found.by == ("forgetting",)
    assert heard.notes == ["ranking by forgetting: it puts never learned hardest, forgetting_events does not"]


def test_scores_that_are_all_equal_are_warned_of_and_ranked_by_their_ties() -> None:
    progress = Silent()
    found = ranked(table(aum=np.ones(N)), by=("aum",), progress=progress)
    assert [warning for warning, _ in progress.warnings] == ["W-ties"]
    assert sorted(hardest_first(found)) == list(range(N))
    other = ranked(table(aum=np.ones(N)), by=("aum",), seed=2)
    assert hardest_first(other) != hardest_first(found)


@settings(max_examples=15)
@given(st.permutations(range(N)), st.integers(0, 2))
def test_the_order_of_the_rows_in_the_file_decides_nothing(shuffled: list[int], run: int) -> None:
    """Ties by uid: whatever order the rows stand in, the same examples come first."""
    uids = [f"{number + 1:032x}" for number in range(N)]
    coarse = np.round(RUNS / 4)
    straight = table(uid=uids, aum_runs=coarse)
    mixed = table(
        uid=[uids[at] for at in shuffled], index=np.array(shuffled), label=np.array(shuffled, np.int32) % 3,
        aum=AUM[shuffled], aum_runs=coarse[shuffled], forgetting=None, forgetting_runs=None,
    )  # fmt: skip
    first = ranked(straight, by=("aum",), run=run)
    second = ranked(mixed, by=("aum",), run=run)
    assert hardest_first(first) == np.array(shuffled)[hardest_first(second)].tolist()


def test_cutoffs_are_those_of_the_data_set_of_that_name() -> None:
    assert betas_for(table()) == "cifar100"
    assert betas_for(table(), "somewhere/cifar10") == "cifar10"
    assert betas_for(table(), "photos") == "cifar10"
    assert betas_for(ScoreTable(pa.table({"index": [0]}), None)) == "cifar10"


def test_a_choice_that_empties_a_class_is_refused_by_the_name_of_the_class() -> None:
    labels = np.array([0, 1, 2, 0, 1, -1])
    check_classes(table(), labels, np.array([0, 1, 2]), "do")
    with pytest.raises(UsageError, match="keep 2 of 6 would empty 2 classes: ant, bee") as caught:
        check_classes(table(), labels, np.array([2, 5]), "a larger --keep")
    assert caught.value.id == "E-class-empty"
    assert caught.value.do == "a larger --keep"
    assert class_name(table(), 2) == "cow"
    assert class_name(table(), 3) == "3"
