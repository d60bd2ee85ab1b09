"""``audit noise`` as a function: planted wrong labels, known answers, everything that cannot be answered."""

from __future__ import annotations

import csv
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from dataset_audit.commands import forgetting, prune
from dataset_audit.commands.noise import Config, charts, run
from dataset_audit.errors import (
    AuditError,
    DataError,
    EnvironmentProblem,
    GateFailed,
    MismatchError,
    UsageError,
)
from dataset_audit.progress import Silent
from dataset_audit.report import terminal
from dataset_audit.report.document import Line, Note, Report, Table
from dataset_audit.report.machine import result, success
from dataset_audit.select.budget import Keep
from dataset_audit.stats.agreement import auroc, average_precision
from dataset_audit.tables import sidecar
from dataset_audit.tables.provenance import Provenance
from dataset_audit.tables.scores import ScoreTable

N, CLASSES = 900, ("cat", "dog", "emu")


def planted(seed: int = 1) -> tuple[dict[str, Any], np.ndarray]:
    """Scores that know which labels are wrong up to noise; forgetting events do not, as never learned counts 0."""
    rng = np.random.default_rng(seed)
    clean = rng.integers(0, 3, N)
    wrong = rng.random(N) < 0.15
    labels = np.where(wrong, (clean + rng.integers(1, 3, N)) % 3, clean).astype(np.int32)
    aum = (3 - 4 * wrong + rng.normal(size=N)).astype(np.float32)
    lost = aum < -1
    events = np.where(lost, 0, rng.poisson(np.exp(-aum / 3))).astype(np.float32)
    columns = {
        "index": np.arange(N), "uid": [f"{row:032x}" for row in range(N)],
        "file_name": [f"{CLASSES[label]}/{row}.png" for row, label in enumerate(labels)],
        "label": labels, "class_name": [CLASSES[label] for label in labels],
        "status": ["ok"] * N, "presentations": np.full(N, 12, np.int32),
        "forgetting": np.where(lost, 12, events).astype(np.float32), "forgetting_events": events,
        "first_learned": np.where(lost, np.nan, 1).astype(np.float32),
        "aum": aum, "aum_std": np.ones(N, np.float32),
        "el2n_mean": (1 / (1 + np.exp(aum + rng.normal(size=N) * 0.3))).astype(np.float32),
        "variability": rng.random(N).astype(np.float32),
        "dyn_unc": np.full(N, np.nan, np.float32),
    }  # fmt: skip
    return columns, clean


def write(path: Path, columns: dict[str, Any], config: dict[str, Any] | None = None, **facts: Any) -> Path:
    provenance = Provenance(spec="drawn", fingerprint="ab" * 16, n=N, class_names=CLASSES, seeds=(1,))
    table = ScoreTable.of(columns, provenance)
    facts = {"trained": True, "summary": {"train_accuracy": [0.84]}, **facts}
    table.write(path, document=sidecar.document("scores", path, rows=N, config=config or {}, facts=facts))
    return path


@pytest.fixture
def scores(tmp_path: Path) -> Path:
    columns, clean = planted()
    np.save(tmp_path / "clean.npy", clean)
    rng = np.random.default_rng(2)
    logits = rng.normal(size=(N, 3)) + 3 * np.eye(3)[clean]
    np.save(tmp_path / "p.npy", np.exp(logits) / np.exp(logits).sum(1, keepdims=True))
    return write(tmp_path / "scores.parquet", columns)


def noise(scores: Path, **options: Any) -> tuple[Report, Silent]:
    progress = Silent()
    options = {"out": scores.parent / "noise.parquet", "scores": scores, **options}
    return run(Config(**options), progress), progress


def row(report: Report, name: str) -> dict[str, Any]:
    truth = report.summary["truth"]
    assert isinstance(truth, dict)
    return next(one for one in truth["rankings"] if one["name"] == name)


def line(report: Report, label: str) -> str:
    return " ".join(
        next(item.cells for item in report.items if isinstance(item, Line) and item.label == label)
    )


def notes(report: Report) -> str:
    return " ".join(item.text for item in report.items if isinstance(item, Note))


def test_scores_alone_give_a_rank_and_no_claim(scores: Path) -> None:
    report, progress = noise(scores)
    data = pq.read_table(scores.parent / "noise.parquet")
    assert data.column_names[-5:] == ["suspicion", "rank", "flagged", "aum", "el2n_mean"]
    assert sorted(data["rank"].to_pylist()) == list(range(N))
    suspicion = data["suspicion"].to_numpy()
    assert suspicion.min() == 0
    assert suspicion.max() == pytest.approx((N - 1) / N)
    assert data["flagged"].null_count == N
    assert report.summary["by"] == ["aum", "el2n_mean"]
    assert report.summary["threshold"] is None
    assert report.summary["truth"] is None
    assert "--threshold-samples" in line(report, "flagged")
    assert "not how many are wrong" in notes(report)
    assert progress.warnings == []
    order = np.argsort(data["rank"].to_numpy())
    assert data["aum"].to_numpy()[order][:20].max() < data["aum"].to_numpy()[order][-300:].min()
    listed = report.summary["most_suspicious"]
    assert isinstance(listed, list)
    assert [one["index"] for one in listed] == order[:10].tolist()


def test_known_labels_measure_every_score_as_the_definitions_do(scores: Path) -> None:
    report, _ = noise(scores, clean_labels=scores.parent / "clean.npy")
    columns, clean = planted()
    wrong = clean != columns["label"]
    data = pq.read_table(scores.parent / "noise.parquet")
    assert data["known_wrong"].to_pylist() == wrong.tolist()
    truth = report.summary["truth"]
    assert isinstance(truth, dict)
    assert truth["wrong"] == wrong.sum()
    assert truth["base_rate"] == pytest.approx(wrong.mean())
    names = [one["name"] for one in truth["rankings"]]
    assert names[0] == "aum + el2n_mean"
    assert set(names[1:]) == {
        "forgetting", "forgetting_events", "first_learned", "variability", "aum", "el2n_mean",
    }  # fmt: skip
    assert "aum_std" not in names
    assert "dyn_unc" not in names  # no value at all
    for name, values in (
        ("aum", -columns["aum"].astype(float)),
        ("forgetting_events", columns["forgetting_events"]),
        ("forgetting", columns["forgetting"]),
        ("first_learned", np.nan_to_num(columns["first_learned"], nan=99)),
    ):
        found = row(report, name)
        assert found["auroc"] == pytest.approx(auroc(values, wrong)), name
        assert found["average_precision"] == pytest.approx(average_precision(values, wrong)), name
        assert found["auroc_low"] < found["auroc"] < found["auroc_high"], name
    top = np.argsort(columns["aum"])[: wrong.sum()]
    assert row(report, "aum")["precision_at_k"] == pytest.approx(wrong[top].mean())
    assert {one["kind"] for one in truth["rankings"] if one["name"] == "variability"} == {"keep"}
    assert np.mean(truth["permuted_auroc"]) == pytest.approx(0.5, abs=0.03)
    assert sum(one["examples"] for one in truth["by_class"]) == N
    assert sum(one["wrong"] for one in truth["by_class"]) == wrong.sum()


def test_a_count_that_leaves_never_learned_at_zero_is_said_to_fail(scores: Path) -> None:
    report, _ = noise(scores, clean_labels=scores.parent / "clean.npy")
    plain, ranked = row(report, "forgetting_events"), row(report, "forgetting")
    assert plain["auroc"] < 0.6 < 0.8 < ranked["auroc"] < row(report, "aum")["auroc"]
    assert f"at 0, AUROC {plain['auroc']:.3f}; forgetting ranks them hardest, {ranked['auroc']:.3f}" in notes(
        report
    )


def test_predictions_are_peers_and_suggest_a_label(scores: Path) -> None:
    folder = scores.parent
    report, progress = noise(scores, clean_labels=folder / "clean.npy", predictions=folder / "p.npy")
    data = pq.read_table(folder / "noise.parquet")
    p, label = np.load(folder / "p.npy"), planted()[0]["label"]
    assert data["self_confidence"].to_numpy() == pytest.approx(p[np.arange(N), label], abs=1e-6)
    expected = [None if best == own else best for best, own in zip(p.argmax(1), label, strict=True)]
    assert data["suggested_label"].to_pylist() == expected
    truth = report.summary["truth"]
    assert isinstance(truth, dict)
    assert truth["best_peer"] in {"self_confidence", "normalised_margin", "confidence_weighted_entropy"}
    best = row(report, str(truth["best_of_the_pass"]))
    peer = row(report, str(truth["best_peer"]))
    assert best["auroc_over_peer_low"] <= best["auroc"] - peer["auroc"] <= best["auroc_over_peer_high"]
    assert "over" in line(report, "one pass")
    assert progress.warnings == []


def test_predictions_without_known_labels_suggest_and_count_confusions(scores: Path) -> None:
    report, _ = noise(scores, predictions=scores.parent / "p.npy")
    suspects = report.summary["suspects"]
    assert isinstance(suspects, dict)
    assert suspects["count"] == 50
    assert suspects["confusions"]
    assert set(suspects["confusions"][0]) == {"label", "suggested", "count"}
    table = next(item for item in report.items if isinstance(item, Table))
    assert "suggested" in table.columns


def test_predictions_that_agree_with_every_label_are_questioned(scores: Path) -> None:
    columns, _ = planted()
    np.save(scores.parent / "in.npy", np.eye(3)[columns["label"]])
    _, progress = noise(scores, predictions=scores.parent / "in.npy")
    assert [one for one, _ in progress.warnings] == ["W-in-sample"]


def test_injected_noise_is_known_without_a_file(tmp_path: Path) -> None:
    columns, clean = planted()
    path = write(tmp_path / "scores.parquet", columns | {"clean_label": clean.astype(np.int32)})
    report, _ = noise(path)
    assert row(report, "aum")["auroc"] > 0.95
    assert "injected" in line(report, "known labels")


def test_scores_that_know_nothing_do_not_beat_chance(tmp_path: Path) -> None:
    columns, clean = planted()
    random = np.random.default_rng(8).random(N).astype(np.float32)
    path = write(
        tmp_path / "scores.parquet", {**columns, "aum": random, "clean_label": clean.astype(np.int32)}
    )
    found = row(noise(path, by=("aum",))[0], "aum")
    assert found["auroc_low"] < 0.5 < found["auroc_high"]


def test_the_row_order_of_the_scores_changes_no_rank(scores: Path, tmp_path: Path) -> None:
    noise(scores)
    columns, _ = planted()
    mixed = np.random.default_rng(5).permutation(N)
    moved = {
        name: [values[i] for i in mixed] if isinstance(values, list) else values[mixed]
        for name, values in columns.items()
    }
    (tmp_path / "other").mkdir()
    noise(write(tmp_path / "other" / "scores.parquet", moved))
    first, second = (pq.read_table(path / "noise.parquet") for path in (tmp_path, tmp_path / "other"))
    assert first.to_pydict() == second.to_pydict()


def test_rows_without_a_score_are_counted_and_not_ranked(tmp_path: Path) -> None:
    columns, _ = planted()
    columns["aum"][:7] = np.nan
    columns["status"] = ["unreadable"] * 3 + ["ok"] * (N - 3)
    report, _ = noise(write(tmp_path / "scores.parquet", columns))
    assert report.summary["ranked"] == N - 7
    assert report.summary["unranked"] == {"unreadable": 3, "unscored": 4}
    data = pq.read_table(tmp_path / "noise.parquet")
    assert data["rank"].null_count == data["suspicion"].null_count == 7


def test_foreign_tables_are_ranked_as_prune_ranks_them(tmp_path: Path) -> None:
    import pyarrow as pa

    rng = np.random.default_rng(1)
    pq.write_table(
        pa.table({"index": np.arange(50), "label": rng.integers(0, 3, 50), "theirs": rng.random(50)}),
        tmp_path / "theirs.parquet",
    )
    with pytest.raises(UsageError, match="finds wrong labels by default"):
        noise(tmp_path / "theirs.parquet")
    with pytest.raises(UsageError, match="Which end of 'theirs'"):
        noise(tmp_path / "theirs.parquet", by=("theirs",))
    report, progress = noise(tmp_path / "theirs.parquet", by=("theirs",), hard="low")
    assert report.summary["ranked"] == 50
    assert [one for one, _ in progress.warnings] == ["W-foreign"]


def test_what_ranks_can_be_pruned_by(scores: Path) -> None:
    noise(scores)
    made = prune.run(
        prune.Config(
            scores=scores.parent / "noise.parquet", out=scores.parent / "m.parquet", by=("suspicion",),
            policy="easiest", keep=Keep.parse("0.85"),
        ),
        Silent(),
    )  # fmt: skip
    assert made.summary["keep_count"] == round(0.85 * N)
    kept = pq.read_table(scores.parent / "m.parquet")
    ranks = dict(enumerate(pq.read_table(scores.parent / "noise.parquet")["rank"].to_pylist()))
    assert min(ranks[index] for index in kept["index"].to_pylist()) == N - round(0.85 * N)


@pytest.mark.parametrize(
    ("options", "error", "said"),
    [
        ({"by": ("variability",)}, UsageError, "worth keeping"),
        ({"by": ("variability", "dyn_unc")}, UsageError, "worth keeping"),
        ({"by": ("amu",)}, UsageError, "nearest: aum"),
        ({"by": ("index",)}, UsageError, "Which end"),
        ({"by": ("aum",), "hard": "high"}, UsageError, "contradicts"),
        ({"percentile": 0.0, "threshold_samples": True}, UsageError, "above 0, below 100"),
        ({"percentile": 95.0}, UsageError, "belongs to --threshold-samples"),
        ({"fail_above": 0.1}, UsageError, "nothing is flagged without"),
        ({"top": -1}, UsageError, "--top"),
        ({"dataset": "digits"}, UsageError, "none is looked at"),
        ({"clean_column": "x"}, UsageError, "not named"),
        ({"clean_labels": Path("absent.npy")}, UsageError, "There is no"),
        ({"predictions": Path("absent.npy")}, UsageError, "There is no"),
        ({"out": Path("nowhere/noise.parquet")}, UsageError, "does not exist"),
    ],
)
def test_requests_that_cannot_be_answered(
    scores: Path, options: dict[str, Any], error: type[AuditError], said: str
) -> None:
    with pytest.raises(error, match=said):
        noise(scores, **options)
    assert not (scores.parent / "noise.parquet").exists()


def test_files_of_another_data_set_are_refused(scores: Path) -> None:
    np.save(scores.parent / "short.npy", np.zeros(5, np.int64))
    with pytest.raises(MismatchError, match="5 rows"):
        noise(scores, clean_labels=scores.parent / "short.npy")
    np.save(scores.parent / "wide.npy", np.full((N, 4), 0.25))
    with pytest.raises(MismatchError, match="4 classes"):
        noise(scores, predictions=scores.parent / "wide.npy")


def test_an_input_is_never_overwritten(scores: Path) -> None:
    with pytest.raises(UsageError, match="is an input"):
        noise(scores, out=scores, force=True)
    with pytest.raises(UsageError, match="There is no"):
        noise(scores.parent / "absent.parquet")


def test_scores_of_a_run_that_learned_nothing_are_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "scores.parquet", planted()[0], trained=False)
    with pytest.raises(UsageError, match="learned nothing"):
        noise(path)
    assert noise(path, force=True)[0].summary["ranked"] == N


def test_scores_of_a_run_that_knows_its_labels_by_heart_are_warned_of(tmp_path: Path) -> None:
    path = write(tmp_path / "scores.parquet", planted()[0], summary={"train_accuracy": [0.99, 0.98]})
    _, progress = noise(path)
    assert [one for one, _ in progress.warnings] == ["W-memorised"]
    assert "98.5 %" in progress.warnings[0][1]


@pytest.mark.parametrize(
    ("fitted", "epochs", "ranks_by"),
    [
        ([0.7, 0.72], [10, 11, 12], ["aum", "el2n"]),
        ([0.7, 0.72], [6], ["aum", "el2n_mean"]),  # the middle is not late
        ([0.9], [10, 11, 12], ["aum", "el2n_mean"]),  # wrong labels may be learned by heart by then
        ([0.7], [], ["aum", "el2n_mean"]),
    ],
)
def test_late_el2n_ranks_only_where_labels_are_not_yet_learned_by_heart(
    tmp_path: Path, fitted: list[float], epochs: list[int], ranks_by: list[str]
) -> None:
    columns = planted()[0] | {"el2n": planted(2)[0]["el2n_mean"]}
    config = {"recipe": {"epochs": 12}, "el2n_epochs": epochs}
    path = write(tmp_path / "scores.parquet", columns, config, summary={"train_accuracy": fitted})
    assert noise(path)[0].summary["by"] == ranks_by
    path = write(tmp_path / "scores.parquet", planted()[0], config, summary={"train_accuracy": fitted})
    assert noise(path, force=True)[0].summary["by"] == ["aum", "el2n_mean"]


def test_a_damaged_table_is_bad_data(scores: Path) -> None:
    content = bytearray(scores.read_bytes())
    content[200] ^= 1
    scores.write_bytes(bytes(content))
    with pytest.raises(DataError):
        noise(scores)


def test_known_labels_that_are_all_right_leave_nothing_to_tell_apart(scores: Path) -> None:
    np.save(scores.parent / "same.npy", planted()[0]["label"])
    report, _ = noise(scores, clean_labels=scores.parent / "same.npy")
    assert "nothing to tell apart" in notes(report)
    assert row(report, "aum")["auroc"] is None
    json.loads(success("noise", result(report, [])))


def test_the_same_request_again_has_nothing_to_do_and_another_is_refused(scores: Path) -> None:
    first, _ = noise(scores)
    again, _ = noise(scores)
    assert again.summary["nothing_to_do"] is True
    with pytest.raises(MismatchError, match="by: "):
        noise(scores, by=("aum",))
    forced, _ = noise(scores, force=True)
    assert forced.outputs[0].sha256 == first.outputs[0].sha256


def test_a_plan_writes_nothing(scores: Path) -> None:
    before = sorted(scores.parent.iterdir())
    report, _ = noise(scores, dry_run=True)
    assert "plan" in report.summary
    assert sorted(scores.parent.iterdir()) == before


def test_the_sidecar_says_what_the_page_says(scores: Path) -> None:
    report, _ = noise(scores, clean_labels=scores.parent / "clean.npy")
    document = sidecar.read(scores.parent / "noise.parquet")
    assert document["summary"] == json.loads(json.dumps(report.summary))
    assert document["format"] == "noise"
    assert len(document["inputs"]) == 2  # type: ignore[arg-type]
    assert document["dataset"]["spec"] == "drawn"  # type: ignore[index]


@pytest.mark.parametrize("width", [60, 80, 120])
def test_the_page_fits_the_screen(scores: Path, width: int) -> None:
    folder = scores.parent
    report, _ = noise(scores, clean_labels=folder / "clean.npy", predictions=folder / "p.npy")
    shown = terminal.plain(terminal.render(report, terminal.Screen(width=width)))
    assert max(map(len, shown.splitlines())) <= width
    assert "P at k" in shown


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Scores of 330 small pictures of lines, a tenth of them with another label, after four epochs."""
    folder = tmp_path_factory.mktemp("lines")
    rng = np.random.default_rng(0)
    what = rng.integers(0, 3, 330)
    pictures = rng.normal(90, 15, (330, 8, 8))
    pictures[what == 0, 3:5] += 90
    pictures[what == 1, :, 3:5] += 90
    pictures[what == 2] += 90 * np.eye(8)
    np.savez(folder / "set.npz", x=np.clip(pictures, 0, 255).astype(np.uint8), y=what)
    config = forgetting.Config(
        spec=str(folder / "set.npz"), out=folder / "scores.parquet", recipe="fast-plain", model="small",
        overrides={"epochs": "4", "batch_size": "32"}, label_noise=0.1, workers=1,
    )  # fmt: skip
    forgetting.run(config, Silent())
    return folder / "scores.parquet"


def test_a_plan_of_threshold_samples_says_that_it_trains_twice(trained: Path, tmp_path: Path) -> None:
    class Told(Silent):
        def plan(self, lines: Any) -> None:
            self.lines = " ".join(lines)

    progress = Told()
    run(Config(scores=trained, out=tmp_path / "n.parquet", threshold_samples=True, dry_run=True), progress)
    assert "trains 2 times" in progress.lines
    assert "82 of 330 examples" in progress.lines
    assert [one for one, _ in progress.warnings] == ["W-few-samples"]
    assert list(tmp_path.iterdir()) == []


@pytest.fixture(scope="session")
def judged(trained: Path) -> tuple[Report, Path]:
    out = trained.parent / "judged.parquet"
    options: dict[str, Any] = {"threshold_samples": True, "charts": trained.parent / "charts", "workers": 1}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(charts, "SHEET", 10)  # drawing fifty takes seconds
        return run(Config(scores=trained, out=out, **options), Silent()), out


def test_planted_wrong_labels_lie_below_the_threshold(judged: tuple[Report, Path]) -> None:
    report, path = judged
    threshold = report.summary["threshold"]
    assert isinstance(threshold, dict)
    assert threshold["samples_per_run"] == 330 // 4
    assert threshold["runs"] == 2
    data = pq.read_table(path)
    flagged, wrong = (data[name].to_numpy(zero_copy_only=False) for name in ("flagged", "known_wrong"))
    assert wrong.sum() == 33
    assert flagged[wrong].mean() > 0.9
    against = threshold["against_truth"]
    assert against["hits"] == (flagged & wrong).sum()
    assert against["recall"] == pytest.approx(flagged[wrong].mean())
    assert against["precision"] == pytest.approx(wrong[flagged].mean())
    assert against["precision"] > 0.15  # a tenth are wrong
    assert threshold["flagged_share"] == pytest.approx(flagged.mean())
    assert report.recomputed == {"epochs_trained": 8}
    share = data["threshold_share"].to_numpy()
    assert share[wrong].mean() > share[~wrong].mean()
    assert "a knob, not a rate of errors" in notes(report)


def test_every_chart_has_its_numbers_beside_it(judged: tuple[Report, Path]) -> None:
    report, path = judged
    folder = path.parent / "charts"
    drawn = {"sheet", "precision", "confusions", "margins"}
    assert {one.name for one in folder.iterdir()} == {
        f"noise_{name}.{ending}" for name in drawn for ending in ("svg", "png", "csv")
    }
    for name in drawn:
        assert "n = 330" in (folder / f"noise_{name}.svg").read_text()
    numbers = {
        name: list(csv.reader((folder / f"noise_{name}.csv").read_text().splitlines())) for name in drawn
    }
    assert len(numbers["sheet"]) == 11
    assert sum(int(row[-1]) for row in numbers["margins"][1:]) == 2 * 330
    samples = [int(row[-1]) for row in numbers["margins"][1:] if row[1] == "threshold samples"]
    assert sum(samples) == 2 * 82
    suspects = report.summary["suspects"]
    assert isinstance(suspects, dict)
    counted = [float(cell) for row in numbers["confusions"][1:] for cell in row[1:] if cell != "nan"]
    assert sum(counted) == sum(one["count"] for one in suspects["confusions"])
    last = [row for row in numbers["precision"][1:] if row[2] == "330.0"]
    assert {round(float(row[3]), 6) for row in last} == {0.1}  # all of them: the base rate


def test_a_kill_between_the_runs_changes_no_byte(
    trained: Path, judged: tuple[Report, Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from dataset_audit import runs
    from dataset_audit.train import checkpoint

    save = checkpoint.save

    def killed(folder: Path, name: str, epoch: int, state: Any) -> None:
        save(folder, name, epoch, state)
        if name == "seed-2" and epoch == 2:
            raise KeyboardInterrupt

    options: dict[str, Any] = {
        "scores": trained,
        "out": tmp_path / "again.parquet",
        "threshold_samples": True,
    }
    monkeypatch.setattr(runs.checkpoint, "save", killed)
    with pytest.raises(KeyboardInterrupt):
        run(Config(**options), Silent())
    monkeypatch.undo()
    assert not options["out"].exists()
    report = run(Config(**options), Silent())
    assert report.recomputed == {"epochs_trained": 2}
    assert report.outputs[0].sha256 == judged[0].outputs[0].sha256
    assert not (tmp_path / ".again.parquet.runs").exists()


def test_the_gate_is_the_flagged_share_also_of_a_finished_table(
    judged: tuple[Report, Path], trained: Path
) -> None:
    report, path = judged
    threshold = report.summary["threshold"]
    assert isinstance(threshold, dict)
    share = float(threshold["flagged_share"])
    for allowed, fails in ((share - 0.01, True), (share, False)):
        again = run(Config(scores=trained, out=path, threshold_samples=True, fail_above=allowed), Silent())
        assert again.summary["nothing_to_do"] is True
        assert isinstance(again.gate, GateFailed) == fails


def test_other_settings_than_those_of_the_table_are_refused(
    judged: tuple[Report, Path], trained: Path
) -> None:
    with pytest.raises(MismatchError, match=r"percentile: 99\.0 -> 90"):
        run(Config(scores=trained, out=judged[1], threshold_samples=True, percentile=90), Silent())


def test_threshold_samples_need_the_recipe_of_the_scores_and_their_images(
    scores: Path, trained: Path, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match="which network and recipe"):
        noise(scores, threshold_samples=True)
    np.savez(tmp_path / "other.npz", x=np.zeros((330, 8, 8), np.uint8), y=np.arange(330) % 3)
    np.savez(tmp_path / "short.npz", x=np.zeros((30, 8, 8), np.uint8), y=np.arange(30) % 3)
    out = tmp_path / "n.parquet"
    for spec, said in (("other", "other data"), ("short", "has 30")):
        with pytest.raises(MismatchError, match=said):
            run(
                Config(
                    scores=trained, out=out, threshold_samples=True, dataset=str(tmp_path / f"{spec}.npz")
                ),
                Silent(),
            )
    with pytest.raises(UsageError, match="no such path"):
        run(Config(scores=trained, out=out, threshold_samples=True, dataset="gone/"), Silent())


def test_charts_without_images_lack_the_sheet_and_say_so(scores: Path) -> None:
    _, progress = noise(scores, clean_labels=scores.parent / "clean.npy", charts=scores.parent / "charts")
    assert [one for one, _ in progress.warnings] == ["W-no-images"]
    names = {path.stem for path in (scores.parent / "charts").iterdir()}
    assert names == {"noise_precision", "noise_confusions"}


def test_charts_need_matplotlib(scores: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(EnvironmentProblem, match="matplotlib"):
        noise(scores, charts=scores.parent / "charts")
    assert not (scores.parent / "noise.parquet").exists()
