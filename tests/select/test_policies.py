"""Selection: a worked example by hand, exact sizes, independence of row order, nesting, and other code's defects."""

from __future__ import annotations

import itertools
from dataclasses import replace
from fractions import Fraction
from hashlib import blake2b

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dataset_audit.errors import UsageError
from dataset_audit.select.budget import Keep, quotas, spread
from dataset_audit.select.order import order, tie_keys
from dataset_audit.select.policies import (
    BETAS,
    POLICIES,
    Candidates,
    Options,
    auto,
    balanced,
    middle,
    strata,
)

FORGETTING = np.array([0, 0, 0, 0, 1, 1, 2, 3, 3, 5, 8, 9], dtype=float)
AUM = np.array([9, 8, 7, 7, 6, 5, 4, 3, 2, 1, -1, -3], dtype=float)
TIE = np.array(
    [int.from_bytes(blake2b(f"0:{i}".encode(), digest_size=8).digest(), "big") for i in range(12)],
    dtype=np.uint64,
)
WORKED = Candidates(
    keys=(FORGETTING, AUM), hard=("high", "low"), tie=TIE, labels=np.arange(12) % 2, columns={"aum": AUM}
)


def chosen(name: str, candidates: Candidates, count: int, **options: object) -> list[int]:
    return POLICIES[name].choose(candidates, count, Options(**options)).kept.tolist()  # type: ignore[arg-type]


def test_the_worked_order_is_hardest_first_with_ties_by_margin_then_key() -> None:
    assert WORKED.hardest_first().tolist() == [11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0]


def test_the_worked_hardest_and_easiest() -> None:
    assert chosen("hardest", WORKED, 6) == [11, 10, 9, 8, 7, 6]
    assert chosen("easiest", WORKED, 6) == [0, 1, 3, 2, 4, 5]  # scores reversed, ties not


@pytest.mark.parametrize(("skip", "kept"), [(0.1, range(5, 11)), (0.25, range(3, 9))])
def test_the_worked_window(skip: float, kept: range) -> None:
    assert sorted(chosen("window", WORKED, 6, skip=skip)) == list(kept)


def test_the_worked_ccs_on_aum() -> None:
    by_aum = replace(WORKED, keys=(AUM,), hard=("low",))
    got = POLICIES["ccs"].choose(by_aum, 6, Options(beta=2 / 12, strata=4))
    assert got.stratum is not None
    assert got.stratum.tolist() == [3, 3, 3, 3, 2, 2, 1, 1, 0, 0, -1, -1]
    assert sorted(got.kept.tolist()) == [2, 3, 4, 5, 7, 9]
    assert set(got.reason[[10, 11]]) == {"beta"}


def test_the_worked_balanced_hardest() -> None:
    kept = balanced(POLICIES["hardest"], WORKED, 6, Options(), floor=1).kept.tolist()
    assert [i for i in kept if i % 2 == 0] == [10, 8, 6]
    assert [i for i in kept if i % 2 == 1] == [11, 9, 7]


def test_moderate_keeps_the_middle_not_the_ends() -> None:
    distance = np.array([0.9, 0.1, 0.5, 0.3, 0.7, 0.2, 0.8, 0.4, 0.6, 1.0])
    assert set(middle(distance, TIE[:10], 4).kept.tolist()) == {2, 4, 7, 8}


def test_moderate_measures_from_the_median_of_the_own_class() -> None:
    embeddings = np.array([[0.0], [1], [2], [3], [100], [101], [102], [103], [104]])
    labels = np.array([0, 0, 0, 0, 1, 1, 1, 1, 1])
    candidates = Candidates(
        keys=(np.arange(9.0),), hard=("high",), tie=TIE[:9], labels=labels, embeddings=embeddings
    )
    # distances 1.5 .5 .5 1.5 | 2 1 0 1 2: the nearest (row 6) and the farthest (rows 4, 8) go first
    assert not {4, 6, 8} & set(chosen("moderate", candidates, 5))


@pytest.mark.parametrize(
    ("sizes", "count", "wanted"),
    [((3, 0, 10, 7), 12, (3, 0, 5, 4)), ((5, 5, 5), 7, (2, 2, 3)), ((0, 0, 9, 1), 6, (0, 0, 5, 1))],
)
def test_worked_budgets(sizes: tuple[int, ...], count: int, wanted: tuple[int, ...]) -> None:
    assert tuple(spread(np.array(sizes), count)) == wanted


def test_a_budget_larger_than_its_strata_is_an_error() -> None:
    with pytest.raises(UsageError, match="5 examples were asked of strata that hold 3"):
        spread(np.array([1, 1, 1]), 5)


@pytest.mark.parametrize(
    ("sizes", "count", "floor", "wanted"),
    [((50, 30, 20), 33, 0, (16, 10, 7)), ((97, 2, 1), 10, 0, (10, 0, 0)), ((97, 2, 1), 10, 1, (8, 1, 1))],
)
def test_worked_quotas(sizes: tuple[int, ...], count: int, floor: int, wanted: tuple[int, ...]) -> None:
    assert tuple(quotas(np.array(sizes), count, floor=floor)) == wanted


@given(st.lists(st.integers(0, 200), min_size=1, max_size=12), st.floats(0, 1), st.integers(0, 1))
def test_quotas_are_exact_and_never_ask_for_more_than_there_is(
    sizes: list[int], share: float, floor: int
) -> None:
    array = np.array(sizes)
    count = int(share * array.sum())
    nonempty = int((array > 0).sum())
    if not array.sum() or (floor and count < nonempty):
        return
    got = quotas(array, count, floor=floor)
    assert got.sum() == count
    assert (got <= array).all()
    assert (got >= 0).all()
    if floor:
        assert (got[array > 0] >= 1).all()


def random_candidates(seed: int, n: int) -> Candidates:
    rng = np.random.default_rng(seed)
    uids = rng.integers(1, 2**63, (n, 2), dtype=np.uint64)
    aum = np.round(rng.normal(0, 2, n), 1)
    return Candidates(
        keys=(rng.integers(0, 4, n).astype(float), aum),
        hard=("high", "low"),
        tie=tie_keys(seed, uids, np.arange(n)),
        labels=rng.integers(0, 3, n),
        columns={"aum": aum, "dual": rng.random(n), "dual_confidence": rng.choice([0.0, 0.3, 0.8, 1.0], n)},
        embeddings=rng.normal(size=(n, 2)),
    )


@given(
    st.integers(0, 10**6),
    st.integers(1, 80),
    st.floats(0.01, 1),
    st.sampled_from(sorted(POLICIES)),
    st.booleans(),
)
def test_every_policy_keeps_exactly_the_count_and_the_same_examples_in_any_row_order(
    seed: int, n: int, share: float, name: str, balance: bool
) -> None:
    candidates = random_candidates(seed, n)
    count = max(1, int(share * n))
    options = Options(pruned=1 - count / n, strata=7)
    shuffle = np.random.default_rng(seed + 1).permutation(n)

    def keep(those: Candidates) -> np.ndarray:
        if balance:
            return balanced(POLICIES[name], those, count, options, floor=0).kept
        return POLICIES[name].choose(those, count, options).kept

    kept = keep(candidates)
    assert len(kept) == len(set(kept.tolist())) == count
    assert set(shuffle[keep(candidates.only(shuffle))].tolist()) == set(kept.tolist())


@given(
    st.integers(0, 10**6), st.integers(2, 60), st.sampled_from([n for n, p in POLICIES.items() if p.nested])
)
def test_nested_policies_nest(seed: int, n: int, name: str) -> None:
    candidates = random_candidates(seed, n)
    sets = [set(chosen(name, candidates, count)) for count in range(1, n + 1)]
    assert all(small < large for small, large in itertools.pairwise(sets))


@given(st.integers(0, 10**6), st.integers(1, 60), st.sampled_from(sorted(POLICIES)))
def test_reasons_and_strata_have_one_entry_per_candidate(seed: int, n: int, name: str) -> None:
    got = POLICIES[name].choose(random_candidates(seed, n), max(1, n // 3), Options(pruned=0.6))
    assert len(got.reason) == n
    assert got.stratum is None or len(got.stratum) == n


@pytest.mark.parametrize(
    "score",
    [np.zeros(300), -np.arange(1.0, 301), np.full(300, -5.0)],
    ids=["all zero", "all negative", "constant"],
)
def test_ccs_loses_nobody_at_the_edges_of_its_strata(score: np.ndarray) -> None:
    """An upper edge of max * 1.0001 drops the maximum of negative scores, and everything when all are zero."""
    n = len(score)
    candidates = Candidates(
        keys=(score,), hard=("high",), tie=tie_keys(1, None, np.arange(n)), labels=np.zeros(n, int)
    )
    assert len(chosen("ccs", candidates, n, beta=0.0)) == n
    assert strata(score, 50).min() >= 0
    assert strata(score, 50).max() <= 49


@pytest.mark.parametrize(("beta", "count"), [(0.2, 70), (0.3, 70)])
def test_beta_and_keep_together_may_be_everything(beta: float, count: int) -> None:
    candidates = random_candidates(0, 100)
    assert len(chosen("ccs", candidates, count, beta=beta)) == count


def test_beta_and_keep_above_everything_is_an_error_with_the_numbers() -> None:
    with pytest.raises(UsageError, match="cuts 40 of 100; 70 to keep are 10 too many") as raised:
        chosen("ccs", random_candidates(0, 100), 70, beta=0.4)
    assert "--beta 0.3" in raised.value.do


def test_the_default_beta_is_the_published_one_and_never_more_than_may_be_pruned() -> None:
    for pruned, beta in BETAS["cifar10"]:
        assert Options(pruned=pruned).beta_or_default() == pytest.approx(min(beta, pruned))
    assert Options(pruned=0.75).beta_or_default() == pytest.approx(0.1)
    assert Options(pruned=0.4, table="cifar100").beta_or_default() == pytest.approx(0.15)


def test_window_past_the_end_is_an_error_with_the_numbers() -> None:
    with pytest.raises(UsageError, match="leaves out 50 of 100; 70 to keep are 20 too many"):
        chosen("window", random_candidates(0, 100), 70, skip=0.5)


def test_balance_uses_each_class_s_own_size() -> None:
    """A count left over from the last class would be used for all."""
    labels = np.repeat([0, 1, 2], [97, 2, 1])
    candidates = Candidates(
        keys=(np.arange(100.0),), hard=("high",), tie=tie_keys(1, None, np.arange(100)), labels=labels
    )
    kept = balanced(POLICIES["hardest"], candidates, 50, Options(), floor=1).kept
    assert np.bincount(labels[kept]).tolist() == [48, 1, 1]


def test_balance_does_not_turn_the_orientation() -> None:
    one_class = replace(WORKED, labels=np.zeros(12, dtype=int))
    assert balanced(POLICIES["hardest"], one_class, 6, Options(), floor=1).kept.tolist() == chosen(
        "hardest", WORKED, 6
    )


def test_dual_prefers_uncertain_examples_and_follows_the_law_of_its_weights() -> None:
    """Successive sampling without replacement: first inclusion is proportional to the weight."""
    n, trials = 4, 4000
    base = Candidates(
        keys=(np.zeros(n),), hard=("high",), tie=np.zeros(n, np.uint64), labels=np.zeros(n, int),
        columns={"dual": np.array([1.0, 2.0, 4.0, 8.0]), "dual_confidence": np.full(n, 0.5)},
    )  # fmt: skip
    first = [
        chosen("dual", replace(base, tie=tie_keys(seed, None, np.arange(n))), 1, pruned=0.5)[0]
        for seed in range(trials)
    ]
    share = np.bincount(first, minlength=n) / trials
    assert share == pytest.approx(np.array([1, 2, 4, 8]) / 15, abs=0.025)


def test_dual_takes_probabilities_of_zero_and_one_and_a_weight_of_zero_comes_last() -> None:
    columns = {"dual": np.array([0.0, 1.0, 1.0, 1.0]), "dual_confidence": np.array([0.5, 0.0, 1.0, 0.5])}
    candidates = Candidates(
        keys=(np.zeros(4),), hard=("high",), tie=TIE[:4], labels=np.zeros(4, int), columns=columns
    )
    assert 0 not in chosen("dual", candidates, 3, pruned=0.3)
    assert len(chosen("dual", candidates, 4, pruned=0.3)) == 4


def test_dual_without_its_columns_says_what_is_missing() -> None:
    with pytest.raises(UsageError, match="dual and dual_confidence"):
        chosen("dual", replace(WORKED, columns={}), 3)
    undefined = replace(WORKED, columns={"dual": np.full(12, np.nan), "dual_confidence": np.zeros(12)})
    with pytest.raises(UsageError, match="undefined for 12 examples"):
        chosen("dual", undefined, 3)


@pytest.mark.parametrize(
    ("share", "policy"), [(1.0, "hardest"), (0.5, "hardest"), (0.49, "ccs"), (0.05, "ccs")]
)
def test_auto_never_takes_plain_hardest_where_it_collapses(share: float, policy: str) -> None:
    assert auto(share) == policy


def test_tie_keys_depend_on_seed_and_uid_alone() -> None:
    uids = np.random.default_rng(0).integers(1, 2**63, (200, 2), dtype=np.uint64)
    keys = tie_keys(3, uids, np.arange(200))
    assert np.array_equal(tie_keys(3, uids[::-1], np.arange(200))[::-1], keys)
    assert np.array_equal(tie_keys(3, uids[50:70], np.arange(20)), keys[50:70])
    assert len(set(keys.tolist())) == 200
    other = tie_keys(4, uids, np.arange(200))
    assert abs(np.corrcoef(np.argsort(keys), np.argsort(other))[0, 1]) < 0.25
    assert np.array_equal(
        tie_keys(3, np.zeros((5, 2), np.uint64), np.arange(5)), tie_keys(3, None, np.arange(5))
    )


def test_tie_keys_are_uniform() -> None:
    keys = tie_keys(0, None, np.arange(20_000)).astype(float) / 2**64
    assert np.histogram(keys, 10, (0, 1))[0].min() > 1_800
    assert abs(keys.mean() - 0.5) < 0.01


@given(
    st.lists(st.sampled_from([0.0, -0.0, 1.0, -1.0, 5e-324, 1e300]), min_size=1, max_size=30), st.booleans()
)
def test_order_equals_a_sort_of_tuples(values: list[float], easiest: bool) -> None:
    tie = tie_keys(0, None, np.arange(len(values)) % 3)
    got = order([np.array(values)], ["high"], tie, easiest=easiest).tolist()
    sign = 1 if easiest else -1
    assert got == sorted(range(len(values)), key=lambda i: (sign * values[i], int(tie[i]), i))


@pytest.mark.parametrize(
    ("text", "n", "count"),
    [
        ("1", 50, 1), ("1.0", 50, 50), ("0.7", 10, 7), ("70%", 10, 7), (".5", 3, 2), ("0.29", 100, 29),
        ("35000", 50000, 35000),
        ("2.5%", 1000, 25), ("1e-3", 10, None), ("1.0e-3", 2000, 2), ("0.5", 1, 1), ("0.001", 10, 1), ("100%", 7, 7),
        ("0.15", 10, 2), ("0.145", 100, 15),
    ],
)  # fmt: skip
def test_keep_in_exact_arithmetic(text: str, n: int, count: int | None) -> None:
    if count is None:
        with pytest.raises(UsageError):
            Keep.parse(text)
    else:
        assert Keep.parse(text).count(n) == count


@pytest.mark.parametrize(
    "text",
    ["0", "-0.1", "NaN", "inf", "abc", "", "1e400", "0x10", "1 000", "1_0", " 0.5 ", "٠.٥", "1.5", "101%", "0.0",
     "0%", "1.0e9999"],
)  # fmt: skip
def test_anything_else_after_keep_is_refused_with_the_grammar(text: str) -> None:
    with pytest.raises(UsageError) as raised:
        Keep.parse(text)
    assert "a share with a point" in raised.value.do


def test_a_count_above_what_there_is_names_both() -> None:
    with pytest.raises(UsageError, match="70 asks for more than the 50 examples"):
        Keep.parse("70").count(50)
    assert Keep.parse("0.7").share == Fraction(7, 10)
