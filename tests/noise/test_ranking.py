from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from dataset_audit.noise.ranking import suspect_high, suspicion

COLUMN = hnp.arrays(np.float64, st.integers(1, 12), elements=st.integers(-3, 3).map(float))


def test_the_share_less_suspicious_and_the_rank() -> None:
    tie = np.array([5, 1, 2, 3], np.uint64)
    found = suspicion([np.array([0.1, 9.0, 0.1, -4.0])], tie)
    assert found.value.tolist() == [0.25, 0.75, 0.25, 0.0]
    assert found.rank.tolist() == [2, 0, 1, 3]  # the smaller tie key first


def test_two_columns_are_joined_by_their_mean_rank() -> None:
    first, second = np.array([1.0, 2, 3, 4]), np.array([10.0, 40, 20, 30])
    # ranks 1 2 3 4 and 1 4 2 3: sums 2 6 5 7
    assert suspicion([first, second], np.arange(4, dtype=np.uint64)).rank.tolist() == [3, 1, 2, 0]


@given(COLUMN, st.integers(0, 99))
def test_it_is_what_counting_says_whatever_the_row_order(values: np.ndarray, seed: int) -> None:
    rng = np.random.default_rng(seed)
    tie = rng.permutation(len(values)).astype(np.uint64)
    found = suspicion([values], tie)
    assert found.value.tolist() == [(values < value).mean() for value in values]
    expected = sorted(range(len(values)), key=lambda row: (-values[row], tie[row]))
    assert np.argsort(found.rank).tolist() == expected
    moved = rng.permutation(len(values))
    again = suspicion([values[moved]], tie[moved])
    assert again.rank.tolist() == found.rank[moved].tolist()


@given(COLUMN)
def test_a_monotone_change_of_scale_changes_nothing(values: np.ndarray) -> None:
    tie = np.arange(len(values), dtype=np.uint64)
    assert suspicion([np.exp(values) * 7], tie).rank.tolist() == suspicion([values], tie).rank.tolist()


def test_a_low_end_is_turned_and_nulls_go_where_their_meaning_puts_them() -> None:
    assert suspect_high("aum", np.array([3.0, -1.0]), "low").tolist() == [-3.0, 1.0]
    late = suspect_high("first_learned", np.array([0.0, np.nan, 7.0]), "high")
    assert np.argmax(late) == 1
    early = suspect_high("last_wrong", np.array([0.0, np.nan, 7.0]), "high")
    assert np.argmin(early) == 1
    assert np.isnan(suspect_high("aum", np.array([np.nan, 1.0]), "low")[0])
    assert np.isnan(suspect_high("last_wrong", np.array([np.nan, np.nan]), "high")).all()


def test_a_ranking_needs_a_column() -> None:
    with pytest.raises(ValueError, match="needs a column"):
        suspicion([], np.zeros(1, np.uint64))
