"""Equal numbers from every set, duplicates on one side, and draws that depend on the seed alone."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dataset_audit.transfer.sampling import (
    OTHER,
    Pool,
    TooFew,
    balanced,
    folds,
    halvings,
    quotas,
    tasks,
)


def pool(seed: int = 0, *, sources: int = 3, classes: int = 2, n: int = 300, duplicates: int = 40) -> Pool:
    """Images of random sets and classes, a few of them duplicates of each other across sets and classes."""
    rng = np.random.default_rng(seed)
    cluster = np.arange(n)
    for first, second in rng.integers(0, n, (duplicates, 2)):
        low, high = sorted((cluster[first], cluster[second]))
        cluster[cluster == high] = low
    return Pool(
        source=rng.integers(0, sources, n),
        label=rng.integers(OTHER, classes, n),
        cluster=cluster,
        sources=sources,
        classes=classes,
    )


@given(st.integers(0, 1000))
def test_no_duplicate_is_on_both_sides_of_any_split(seed: int) -> None:
    drawn = pool(seed)
    for draw in range(2):
        fold = folds(drawn, 1, draw)
        for name in np.unique(drawn.cluster):
            assert len(np.unique(fold[drawn.cluster == name])) == 1


def test_folds_hold_their_shares_of_every_class_of_every_set() -> None:
    drawn = pool(n=3000, duplicates=0)
    fold = folds(drawn, 1, 0)
    for source in range(3):
        for label in (OTHER, 0, 1):
            mine = fold[(drawn.source == source) & (drawn.label == label)]
            assert np.bincount(mine) / len(mine) == pytest.approx([0.5, 0.2, 0.3], abs=0.01)


@given(st.integers(0, 1000), st.integers(1, 3))
def test_every_set_gives_as_many_positives_and_negatives_to_every_fold_and_draw(
    seed: int, draws: int
) -> None:
    drawn = pool(seed)
    made = tasks(drawn, 1, draws, seed=3)
    fold = [folds(drawn, 3, draw) for draw in range(draws)]
    shapes = set()
    for draw, task in enumerate(made):
        shapes.add(
            tuple((p.positive.shape, p.negative.shape) for p in (task.train, task.validation, task.test))
        )
        for number, part in enumerate((task.train, task.validation, task.test)):
            for source in range(3):
                rows = part.rows(source)
                assert len(np.unique(rows)) == len(rows)
                assert (drawn.source[rows] == source).all()
                assert (fold[draw][rows] == number).all()
                assert ((drawn.label[rows] == 1) == (part.truth == 1)).all()
    assert len(shapes) == 1


def test_there_are_four_negatives_per_positive_where_there_are_so_many() -> None:
    n = 4000
    rng = np.random.default_rng(0)
    drawn = Pool(
        source=np.arange(n) % 2,
        label=np.where(rng.random(n) < 0.1, 0, OTHER),
        cluster=np.arange(n),
        sources=2,
        classes=1,
    )
    for part in (tasks(drawn, 0, 1, 1)[0].train, tasks(drawn, 0, 1, 1)[0].test):
        assert part.negative.shape[1] == 4 * part.positive.shape[1]


def test_draws_differ_between_draws_and_seeds_and_agree_for_the_same() -> None:
    drawn = pool()
    first, second = tasks(drawn, 0, 2, 1)
    assert not np.array_equal(np.sort(first.test.positive[0]), np.sort(second.test.positive[0]))
    assert np.array_equal(first.test.positive, tasks(drawn, 0, 2, 1)[0].test.positive)
    assert not np.array_equal(first.test.positive, tasks(drawn, 0, 2, 2)[0].test.positive)


def test_a_class_that_a_set_lacks_is_named() -> None:
    drawn = pool()
    label = np.where((drawn.source == 2) & (drawn.label == 1), OTHER, drawn.label)
    lacking = Pool(source=drawn.source, label=label, cluster=drawn.cluster, sources=3, classes=2)
    for call in (lambda: tasks(lacking, 1, 1, 1), lambda: balanced(lacking, 1, 1)):
        with pytest.raises(TooFew) as failed:
            call()
        assert (failed.value.source, failed.value.label) == (2, 1)


@given(st.integers(0, 1000))
def test_all_sets_give_as_many_images_of_each_class_to_every_draw(seed: int) -> None:
    drawn = pool(seed)
    made = balanced(drawn, 2, 1)
    for number in range(3):
        counts = {
            tuple(np.bincount(drawn.label[rows], minlength=2)) for parts in made for rows in parts[number]
        }
        assert len(counts) == 1
    for parts in made:
        for each in parts:
            assert [set(drawn.source[rows]) for rows in each] == [{0}, {1}, {2}]


@given(st.integers(1, 300), st.integers(1, 1200))
def test_training_sizes_double_and_span_a_factor_of_eight(positives: int, negatives: int) -> None:
    sizes = halvings(positives, negatives)
    assert sizes[-1] == (positives, negatives)
    totals = [p + q for p, q in sizes]
    assert totals == sorted(set(totals)) or len(sizes) > 1
    if len(sizes) > 1:
        assert len(sizes) in {4, 5}
        assert sizes[0][0] >= 2
        assert positives >= 8 * sizes[0][0]
    else:
        assert positives < 16


def test_quotas_are_what_the_poorest_set_has_and_leave_room_for_other_classes() -> None:
    counts, others = np.array([[500, 30], [80, 400]]), np.array([900, 700])
    quota, rest = quotas(counts, others, 1000)
    assert (quota.tolist(), rest) == ([80, 30], 600)
    assert quotas(counts, np.array([900, 0]), 1000)[1] == 0
    assert quotas(np.array([[900], [900]]), others, 1000) == (np.array([300]), 700)
    many, rest = quotas(np.full((2, 10), 100), others, 1000)
    assert (many.tolist(), rest) == ([80] * 10, 200)


@given(st.integers(1, 60), st.integers(1, 60), st.integers(1, 5))
def test_slices_of_a_part_have_no_image_in_common(positives: int, negatives: int, most: int) -> None:
    part = tasks(pool(n=2000, duplicates=0), 0, 1, 1)[0].train
    made = part.slices(min(positives, part.positive.shape[1]), min(negatives, part.negative.shape[1]), most)
    rows = np.concatenate([each.rows(1) for each in made])
    assert len(np.unique(rows)) == len(rows)
    assert 1 <= len(made) <= most
    assert np.array_equal(made[0].positive, part.positive[:, : made[0].positive.shape[1]])
