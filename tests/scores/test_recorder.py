"""The recorder equals the definitions: on published examples, on random histories, however it was fed."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from dataset_audit.errors import DataError, UsageError
from dataset_audit.scores.recorder import Recorder
from dataset_audit.scores.registry import SCORES
from dataset_audit.tables.scores import COLUMNS, ScoreTable
from tests.reference.histories import Presentation, score, tdds

Batch = tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]
COUNTS = ("presentations", "forgetting_events", "learning_events", "first_learned", "last_wrong")


def batch(indices: Sequence[int], classes: int, rng: np.random.Generator) -> Batch:
    logits = rng.normal(0, 3, (len(indices), classes)).astype(np.float32)
    if len(indices) > 2:
        logits[0, :] = 1.0  # an exact tie of all
        logits[1] = np.round(logits[1])  # and likely ties of two
    labels = np.array([i % classes for i in indices])
    features = rng.normal(0, 1, (len(indices), 5)).astype(np.float32)
    return (
        torch.tensor(indices),
        torch.from_numpy(logits),
        torch.from_numpy(labels),
        torch.from_numpy(features),
    )


def feed(recorder: Recorder, batches: Sequence[Batch]) -> None:
    for one in batches:
        recorder.update(*one)


def histories(batches: Sequence[Batch], n: int) -> list[list[Presentation]]:
    found: list[list[Presentation]] = [[] for _ in range(n)]
    for indices, logits, labels, features in batches:
        for row, index in enumerate(indices.tolist()):
            found[index].append(Presentation(logits[row].tolist(), int(labels[row]), features[row].tolist()))
    return found


def assert_equal_to_definitions(
    columns: dict[str, np.ndarray], past: list[list[Presentation]], window: int
) -> None:
    for index, history in enumerate(past):
        wanted = score(history, window=window, dual_epochs=7)
        for name, value in wanted.items():
            got = columns[name][index]
            if name in COUNTS or name == "never_learned":
                assert got == value, (name, index)
            else:
                assert got == pytest.approx(value, rel=1e-4, abs=1e-6, nan_ok=True), (name, index)


@given(st.integers(0, 10**6), st.integers(2, 5), st.sampled_from([3, 10]))
def test_random_histories_score_as_the_definitions_say(seed: int, classes: int, window: int) -> None:
    rng = np.random.default_rng(seed)
    n = int(rng.integers(1, 12))
    batches = []
    for _ in range(int(rng.integers(1, 16))):
        size = int(rng.integers(1, n + 1))  # batches of one included, some examples never presented
        batches.append(batch(rng.permutation(n)[:size].tolist(), classes, rng))
    recorder = Recorder(n, classes, window=window, dual_epochs=7)
    feed(recorder, batches)
    assert_equal_to_definitions(recorder.columns(), histories(batches, n), window)


@given(st.integers(0, 10**6))
def test_an_index_repeated_in_a_batch_counts_as_often_as_it_occurs(seed: int) -> None:
    rng = np.random.default_rng(seed)
    batches = [batch(rng.integers(0, 5, 9).tolist(), 3, rng) for _ in range(6)]
    recorder = Recorder(5, 3, window=3, dual_epochs=7)
    feed(recorder, batches)
    assert_equal_to_definitions(recorder.columns(), histories(batches, 5), 3)


@given(st.integers(0, 10**6), st.integers(0, 8))
def test_a_recorder_resumed_from_its_state_goes_on_with_the_same_bits(seed: int, stop: int) -> None:
    rng = np.random.default_rng(seed)
    batches = [batch(rng.permutation(11).tolist(), 4, rng) for _ in range(8)]
    whole, first = (Recorder(11, 4, window=3, tdds=(6, 4)) for _ in range(2))
    feed(whole, batches)
    feed(first, batches[:stop])
    buffer = io.BytesIO()
    torch.save(first.state_dict(), buffer)
    buffer.seek(0)
    second = Recorder(11, 4, window=3, tdds=(6, 4))
    second.load_state_dict(torch.load(buffer, weights_only=True))
    feed(second, batches[stop:])
    for name, values in whole.columns().items():
        assert values.tobytes() == second.columns()[name].tobytes(), name


@given(st.integers(0, 10**6))
def test_batch_size_and_place_in_the_data_set_do_not_change_a_score(seed: int) -> None:
    """A mean-reduced gradient would carry 1/B and blow up the last, short batch."""
    rng = np.random.default_rng(seed)
    whole = [batch(list(range(13)), 3, rng) for _ in range(5)]
    split = [
        tuple(t[part] for t in one) for one in whole for part in (slice(0, 7), slice(7, 12), slice(12, 13))
    ]
    order = torch.from_numpy(rng.permutation(13))
    moved = [(order[i], z, y, h) for i, z, y, h in whole]
    recorders = [Recorder(13, 3, window=3) for _ in range(3)]
    for recorder, batches in zip(recorders, (whole, split, moved), strict=True):
        feed(recorder, batches)  # type: ignore[arg-type]
    base, pieces, permuted = (recorder.columns() for recorder in recorders)
    for name in base:
        assert np.array_equal(base[name], pieces[name], equal_nan=base[name].dtype.kind == "f"), name
        back = permuted[name][order.numpy()]
        assert np.array_equal(base[name], back, equal_nan=base[name].dtype.kind == "f"), name


@given(st.integers(0, 10**6))
def test_invariants_hold(seed: int) -> None:
    rng = np.random.default_rng(seed)
    batches = [batch(rng.permutation(9)[: int(rng.integers(1, 10))].tolist(), 3, rng) for _ in range(12)]
    recorder = Recorder(9, 3)
    feed(recorder, batches)
    columns, past = recorder.columns(), histories(batches, 9)
    for index, history in enumerate(past):
        if not history:
            continue
        right = [p.logits[p.label] > max(z for k, z in enumerate(p.logits) if k != p.label) for p in history]
        n = len(history)
        assert columns["learning_events"][index] - columns["forgetting_events"][index] == right[-1] - right[0]
        assert columns["forgetting_events"][index] <= n // 2
        assert (columns["last_wrong"][index] == n - 1) == (not right[-1])
        assert columns["never_learned"][index] == (columns["correctness"][index] == 0)
        assert 0 <= columns["el2n_mean"][index] <= 2**0.5 + 1e-6


GOLDEN = {
    "011111": (0, 1, False, 1, 0, 5),
    "101011": (2, 2, False, 0, 3, 4),
    "000000": (0, 0, True, -1, 5, 0),
    "111111": (0, 0, False, 0, -1, 6),
    "001110": (1, 1, False, 2, 5, 3),
    "100000": (1, 0, False, 0, 5, 1),
    "010101": (2, 3, False, 1, 4, 3),
}


@pytest.mark.parametrize(("history", "wanted"), GOLDEN.items())
def test_golden_histories(history: str, wanted: tuple[int, int, bool, int, int, int]) -> None:
    recorder = Recorder(2, 2)
    for outcome in history:
        recorder.update(
            torch.tensor([0]), torch.tensor([[1.0, 0.0]]), torch.tensor([0 if outcome == "1" else 1])
        )
    columns = recorder.columns()
    names = ("forgetting_events", "learning_events", "never_learned", "first_learned", "last_wrong")
    assert tuple(columns[name][0] for name in names) == wanted[:5]
    assert columns["correctness"][0] == pytest.approx(wanted[5] / 6)
    assert columns["presentations"].tolist() == [6, 0]
    assert not columns["never_learned"][1]  # never presented is not never learned
    assert np.isnan(columns["aum"][1])


def test_golden_logits() -> None:
    recorder = Recorder(3, 3)
    logits = torch.tensor([[2.0, 1, 0], [0, 3, 1], [1, 1, 1]])
    features = torch.tensor([[3.0], [2.0], [0.0]])
    recorder.update(torch.arange(3), logits, torch.tensor([0, 0, 2]), features)
    columns = recorder.columns()
    assert columns["aum"] == pytest.approx([1, -3, 0])
    assert columns["el2n_mean"] == pytest.approx([0.424336, 1.281708, 0.816497], abs=1e-6)
    assert columns["grand_last"] == pytest.approx([1.341869, 2.865986, 0.816497], abs=1e-6)
    assert columns["loss_mean"] == pytest.approx([0.407606, 3.169846, 1.098612], abs=1e-6)
    assert columns["correctness"].tolist() == [1, 0, 0]  # the tie is a miss


def test_golden_probabilities_of_windowed_scores() -> None:
    recorder = Recorder(1, 2, window=3)
    for p in (0.10, 0.20, 0.60, 0.50, 0.90, 0.95):
        recorder.update(torch.tensor([0]), torch.tensor([[np.log(p), np.log(1 - p)]]), torch.tensor([0]))
    columns = recorder.columns()
    wanted = {"dyn_unc": 0.231888, "dual": 0.106498, "confidence": 0.541667, "variability": 0.319396}
    for name, value in wanted.items():
        assert columns[name][0] == pytest.approx(value, abs=2e-6), name


def test_aum_is_on_logits_and_averages_all_presentations() -> None:
    """On probabilities the margin would saturate at 0.9999; an accumulator made anew would keep the last one only."""
    recorder = Recorder(1, 2)
    for logits in ([10.0, 0.0], [-4.0, 0.0]):
        recorder.update(torch.tensor([0]), torch.tensor([logits]), torch.tensor([0]))
    assert recorder.columns()["aum"][0] == 3.0


def test_variability_of_an_easy_example_is_not_rounding_noise() -> None:
    rng = np.random.default_rng(0)
    p = 0.999 + rng.normal(0, 1e-4, 200).clip(-9e-4, 9e-4)
    recorder = Recorder(1, 2)
    for value in p:
        recorder.update(
            torch.tensor([0]), torch.tensor([[np.log(value), np.log1p(-value)]]), torch.tensor([0])
        )
    assert recorder.columns()["variability"][0] == pytest.approx(p.std(), rel=5e-3)


def test_a_probability_of_exactly_zero_is_a_value() -> None:
    recorder = Recorder(1, 2, window=2)
    for logit in (-1000.0, 1000.0, -1000.0):
        recorder.update(torch.tensor([0]), torch.tensor([[logit, 0.0]]), torch.tensor([0]))
    columns = recorder.columns()
    assert columns["confidence"][0] == pytest.approx(1 / 3)
    assert columns["dyn_unc"][0] == pytest.approx(0.5**0.5)


@given(st.integers(0, 10**6), st.sampled_from([(5, 4), (30, 10), (8, 3)]))
def test_tdds_recursion_equals_its_definition(seed: int, setting: tuple[int, int]) -> None:
    rng = np.random.default_rng(seed)
    batches = [batch(list(range(4)), 3, rng) for _ in range(12)]
    recorder = Recorder(4, 3, tdds=setting)
    feed(recorder, batches)
    got = recorder.columns()["tdds"]
    for index, history in enumerate(histories(batches, 4)):
        wanted = tdds(history, epochs=setting[0], window=setting[1])
        assert got[index] == pytest.approx(wanted, rel=1e-3, abs=1e-5, nan_ok=True)


def test_tdds_sees_later_windows() -> None:
    """An index that forgets the window number would find nothing in a history that starts constant."""
    recorder = Recorder(1, 2, tdds=(12, 4))
    for t in range(12):
        recorder.update(torch.tensor([0]), torch.tensor([[float(t > 7) * t, 0.0]]), torch.tensor([0]))
    assert recorder.columns()["tdds"][0] > 0.01


def test_checkpoint_el2n_is_the_mean_over_its_passes_and_no_presentation() -> None:
    recorder = Recorder(2, 3, el2n_epochs=(1, 2))
    recorder.update(torch.arange(2), torch.zeros(2, 3), torch.tensor([0, 1]))
    for logits in (torch.tensor([[2.0, 1, 0], [0, 3, 1]]), torch.tensor([[1.0, 1, 1], [0, 3, 1]])):
        recorder.update_checkpoint(torch.arange(2), logits, torch.tensor([0, 0]))
    columns = recorder.columns()
    assert columns["el2n"] == pytest.approx([(0.424336 + 0.816497) / 2, 1.281708], abs=1e-6)
    assert columns["presentations"].tolist() == [1, 1]
    with pytest.raises(UsageError, match="el2n_epochs"):
        Recorder(2, 3).update_checkpoint(torch.arange(2), torch.zeros(2, 3), torch.tensor([0, 0]))


def test_state_stays_under_a_hundred_bytes_per_example() -> None:
    assert Recorder(1000, 10).bytes_per_example == 89
    assert Recorder(1000, 10, el2n_epochs=(20,)).bytes_per_example == 93
    assert Recorder(1000, 100, tdds=(10, 5)).bytes_per_example == 89 + 4 * (100 + 4 + 1)


def test_every_column_is_declared_and_every_ranking_column_is_computed() -> None:
    plain = {"presentations", "never_learned"}
    assert set(SCORES) - plain <= set(COLUMNS)
    assert set(COLUMNS) - {"forgetting", "typicality"} <= set(SCORES)


def test_embeddings_are_optional_and_their_score_then_undefined() -> None:
    recorder = Recorder(1, 2)
    recorder.update(torch.tensor([0]), torch.zeros(1, 2), torch.tensor([0]))
    assert np.isnan(recorder.columns()["grand_last"]).all()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ((torch.tensor([5]), torch.zeros(1, 2), torch.tensor([0])), "Index 5 is outside"),
        ((torch.tensor([-1]), torch.zeros(1, 2), torch.tensor([0])), "outside"),
        ((torch.tensor([0]), torch.zeros(1, 2), torch.tensor([2])), "Label 2 is outside"),
        ((torch.tensor([0]), torch.zeros(1, 3), torch.tensor([0])), "update takes"),
        ((torch.tensor([0, 1]), torch.zeros(2, 2), torch.tensor([0])), "update takes"),
    ],
)
def test_a_wrong_batch_is_refused_and_leaves_no_trace(
    arguments: tuple[torch.Tensor, torch.Tensor, torch.Tensor], says: str
) -> None:
    recorder = Recorder(5, 2)
    with pytest.raises(UsageError, match=says):
        recorder.update(*arguments)
    assert recorder.columns()["presentations"].sum() == 0


def test_logits_that_are_not_finite_are_reported_not_ranked() -> None:
    recorder = Recorder(2, 2)
    recorder.update(torch.tensor([0]), torch.tensor([[float("nan"), 0.0]]), torch.tensor([0]))
    assert "not finite" in recorder.problems()[0]
    with pytest.raises(DataError, match="1 presentations had logits that are not finite"):
        recorder.columns()


def test_an_empty_batch_is_nothing() -> None:
    recorder = Recorder(2, 2)
    recorder.update(
        torch.tensor([], dtype=torch.int64), torch.zeros(0, 2), torch.tensor([], dtype=torch.int64)
    )
    assert recorder.columns()["presentations"].sum() == 0


def test_a_state_of_another_shape_is_refused() -> None:
    with pytest.raises(UsageError, match="another shape"):
        Recorder(3, 2).load_state_dict(Recorder(4, 2).state_dict())


def test_five_lines_in_anyones_loop_give_a_table(tmp_path: Path) -> None:
    generator = torch.Generator().manual_seed(0)
    x, y = torch.randn(60, 4, generator=generator), torch.arange(60) % 3
    model = torch.nn.Linear(4, 3)
    optimiser = torch.optim.SGD(model.parameters(), lr=0.1)
    recorder = Recorder(60, 3)
    for _ in range(4):
        for indices in torch.randperm(60, generator=generator).split(16):
            logits = model(x[indices])
            recorder.update(indices, logits, y[indices])
            optimiser.zero_grad()
            torch.nn.functional.cross_entropy(logits, y[indices]).backward()
            optimiser.step()
    recorder.save(
        tmp_path / "scores.parquet",
        labels=y.numpy(),
        class_names=("a", "b", "c"),
        extra={"shoot": np.arange(60)},
    )
    table = ScoreTable.read(tmp_path / "scores.parquet", strict=True)
    assert len(table) == 60
    assert table.integers("presentations").tolist() == [4] * 60
    assert table.hard("aum") == "low"
    assert table.hard("shoot") is None
    assert np.isfinite(table.floats("aum")).all()
    with pytest.raises(UsageError, match="names of ours"):
        recorder.save(tmp_path / "other.parquet", extra={"aum": np.arange(60)})
