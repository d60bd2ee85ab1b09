"""``audit testset`` as a function: planted gaps, orders, copies and re-encodings, published models, and bad inputs."""

from __future__ import annotations

import csv
import io
import json
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from numpy.typing import NDArray
from PIL import Image

from dataset_audit.commands.testset import Config, run
from dataset_audit.errors import AuditError, DataError, EnvironmentProblem, MismatchError, UsageError
from dataset_audit.images.identity import uid
from dataset_audit.progress import Silent
from dataset_audit.report import terminal
from dataset_audit.report.document import Line, Report, Table
from dataset_audit.report.machine import result
from dataset_audit.tables import parquet, sidecar
from dataset_audit.tables.testset import CLASSES, TESTSET, classes_path

NAMES = ("cat", "dog", "owl")
MERITS = {"weak": 0.55, "fair": 0.7, "good": 0.8, "strong": 0.88, "best": 0.93}


def answers(
    rng: np.random.Generator, label: NDArray[np.int64], merits: dict[str, float]
) -> dict[str, list[int]]:
    """Answers of models of known merit that err on the same hard images."""
    hard = rng.normal(size=len(label))
    found = {}
    for name, merit in merits.items():
        score = hard + rng.normal(size=len(label))
        right = score < np.quantile(score, merit)
        found[name] = np.where(right, label, (label + 1) % 3).tolist()
    return found


def write_csv(path: Path, columns: dict[str, list[Any]]) -> Path:
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        writer.writerows(zip(*columns.values(), strict=True))
    return path


def planted(
    folder: Path, *, gap: float = 0.0, sizes: tuple[int, int] = (1500, 1000), seed: int = 0
) -> dict[str, Any]:
    """Files of labels and predictions; the new set is harder by ``gap``."""
    rng = np.random.default_rng(seed)
    told: dict[str, Any] = {}
    for side, n, less in (("original", sizes[0], 0.0), ("new", sizes[1], gap)):
        label = rng.permutation(np.arange(n) % 3)
        merits = {name: merit - less for name, merit in MERITS.items()}
        told[side] = str(write_csv(folder / f"{side}.csv", {"label": label.tolist()}))
        told[f"predictions_{side}"] = write_csv(folder / f"{side}_said.csv", answers(rng, label, merits))
    return told


def compare(out: Path, **options: Any) -> tuple[Report, Silent]:
    progress = Silent()
    return run(Config(out=out / "testset.parquet", **options), progress), progress


def line(report: Report, label: str) -> str:
    return " ".join(
        next(
            " ".join(item.cells) for item in report.items if isinstance(item, Line) and item.label == label
        ).split()
    )


@pytest.fixture(scope="module")
def harder(tmp_path_factory: pytest.TempPathFactory) -> tuple[Report, Path, dict[str, Any]]:
    folder = tmp_path_factory.mktemp("harder")
    told = planted(folder, gap=0.08)
    report, _ = compare(folder, charts=folder / "charts", ladder=True, delta=2.0, selections=40, **told)
    return report, folder / "testset.parquet", told


def test_a_planted_gap_is_found_with_its_order_and_line(harder: tuple[Report, Path, dict[str, Any]]) -> None:
    found = harder[0].summary
    assert found["gap"]["verdict"] == "harder"
    assert found["gap"]["low"] < 0.08 < found["gap"]["high"]
    assert found["gaps_excluding_zero"] == 5
    assert found["order"]["spearman"] == 1
    assert found["order"]["reversed"] == 0
    assert found["line"]["slope"] == pytest.approx(1, abs=0.15)
    assert found["line"]["intercept"] == pytest.approx(-0.08, abs=0.12)
    assert found["interval"] == "newcombe"
    assert found["gap_without_duplicates"]["value"] is None
    assert "harder" in line(harder[0], "gap")
    assert line(harder[0], "order").startswith("kept: Spearman 1.000")
    assert "--train names the training set" in line(harder[0], "duplicates")


def test_without_a_gap_none_is_shown_and_what_is_excluded_is_said(tmp_path: Path) -> None:
    report, _ = compare(tmp_path, **planted(tmp_path))
    assert report.summary["gap"]["verdict"] == "no gap shown"
    assert report.summary["gap"]["low"] < 0 < report.summary["gap"]["high"]
    assert "either way is excluded" in line(report, "gap")


def merits(
    tmp_path: Path, old: list[float], new: list[float], *, seed: int, sizes: tuple[int, int] = (2000, 2000)
) -> Report:
    """What is said of models of these merits on the two sets."""
    rng = np.random.default_rng(seed)
    told: dict[str, Any] = {}
    for side, n, these in (("original", sizes[0], old), ("new", sizes[1], new)):
        label = rng.permutation(np.arange(n) % 3)
        told[side] = str(write_csv(tmp_path / f"{side}.csv", {"label": label.tolist()}))
        named = {f"m{place}": merit for place, merit in enumerate(these)}
        told[f"predictions_{side}"] = write_csv(tmp_path / f"{side}_said.csv", answers(rng, label, named))
    return compare(tmp_path, force=True, **told)[0]


def outcome(
    tmp_path: Path, old: list[float], new: list[float], *, seed: int, sizes: tuple[int, int] = (2000, 2000)
) -> str:
    """What is said of the gains of such models."""
    return str(merits(tmp_path, old, new, seed=seed, sizes=sizes).summary["gains"])


def test_an_order_that_is_turned_round_is_told_from_one_that_is_not_settled(tmp_path: Path) -> None:
    turned = merits(tmp_path, [0.9, 0.8, 0.7], [0.6, 0.7, 0.8], seed=7)
    assert line(turned, "order").startswith("changed: Spearman -1.000")
    unsettled = merits(tmp_path, [0.8, 0.8, 0.801], [0.801, 0.8, 0.8], seed=7)
    assert line(unsettled, "order").startswith("not settled")


def test_every_verdict_on_gains_is_found_where_it_was_planted(tmp_path: Path) -> None:
    old = list(np.linspace(0.7, 0.94, 8))
    assert outcome(tmp_path, old, [0.7 + 0.5 * (m - 0.7) for m in old], seed=1) == "gains shrink"
    assert outcome(tmp_path, old, [0.94 + 1.5 * (m - 0.94) for m in old], seed=2) == "better models lose less"
    assert outcome(tmp_path, old, [m - 0.05 for m in old], seed=3) == "gains carry over"
    assert outcome(tmp_path, [0.8] * 8, [0.8] * 8, seed=4) == "not measured"
    assert (
        outcome(tmp_path, [0.7, 0.8, 0.9], [0.8, 0.7, 0.8], seed=5) == "not measured"
    )  # anything may be true


def test_a_worn_out_set_is_rarely_claimed_where_both_are_alike(tmp_path: Path) -> None:
    old = list(np.linspace(0.76, 0.84, 6))
    said = [outcome(tmp_path, old, old, seed=seed, sizes=(300, 300)) for seed in range(8)]
    assert said.count("gains shrink") + said.count("better models lose less") <= 1


def test_the_table_has_a_row_per_model_best_first(harder: tuple[Report, Path, dict[str, Any]]) -> None:
    report, path, told = harder
    table = parquet.read(path)
    assert table.column_names == list(TESTSET)
    rows = table.to_pylist()
    assert [row["model"] for row in rows] == sorted(MERITS, key=MERITS.__getitem__, reverse=True)
    with told["predictions_new"].open() as file:
        said = list(csv.DictReader(file))
    with Path(told["new"]).open() as file:
        truth = [row["label"] for row in csv.DictReader(file)]
    for row in rows:
        assert row["correct_new"] == sum(a[row["model"]] == t for a, t in zip(said, truth, strict=True))
        assert row["accuracy_original_low"] < row["accuracy_original"] < row["accuracy_original_high"]
        assert row["gap"] == pytest.approx(row["accuracy_original"] - row["accuracy_new"])
        assert row["gap_low"] < row["gap"] < row["gap_high"]
        assert row["error_ratio"] > 1
        assert row["p"] < 0.05
        assert row["rank_original"] == row["rank_new"]
    assert report.outputs[0].rows == 5
    assert sidecar.read(path)["inputs"][0]["sha256"]  # type: ignore[index]


def test_classes_are_a_table_of_their_own(harder: tuple[Report, Path, dict[str, Any]]) -> None:
    _, path, _ = harder
    table = parquet.read(classes_path(path))
    assert table.column_names == list(CLASSES)
    rows = table.to_pylist()
    assert len(rows) == 3 * 6
    mean = [row for row in rows if row["model"] is None]
    assert [row["class_name"] for row in mean] == ["0", "1", "2"]
    assert sum(row["n_original"] for row in mean) == 1500
    for each in mean:
        own = [row for row in rows if row["model"] and row["class_name"] == each["class_name"]]
        assert each["gap"] == pytest.approx(np.mean([row["gap"] for row in own]))
        assert each["correct_original"] is None


def test_selection_says_bias_and_life_at_the_differences_asked_about(
    harder: tuple[Report, Path, dict[str, Any]],
) -> None:
    for side in ("original", "new"):
        found = harder[0].summary["selection"][side]
        assert found["selections"] == 40
        assert found["bias"] > 0
        assert 0.02 in [each["difference"] for each in found["lives"]]
        assert [each["difference"] for each in found["lives"]][-3:] == [0.002, 0.005, 0.01]
        assert found["choosing"][0]["models"] == 5
    tables = [item for item in harder[0].items if isinstance(item, Table)]
    assert "selections" in tables[3].columns


def test_the_ladder_takes_models_in_the_order_of_submission(
    harder: tuple[Report, Path, dict[str, Any]],
) -> None:
    found = harder[0].summary["ladder"]
    assert list(found) == list(MERITS)  # weakest first: each is real progress
    assert [rung["counted"] for rung in found.values()] == [True] * 5
    rows = parquet.read(harder[1]).to_pylist()
    assert all(row["ladder_counted"] for row in rows)


def test_charts_hold_the_figures_of_the_table(harder: tuple[Report, Path, dict[str, Any]]) -> None:
    _, path, _ = harder
    folder = path.parent / "charts"
    names = ("accuracy", "classes", "ranks", "selection")
    assert sorted(each.name for each in folder.iterdir()) == [
        f"testset_{name}.{ending}" for name in names for ending in ("csv", "png", "svg")
    ]
    drawn = list(csv.DictReader((folder / "testset_accuracy.csv").read_text().splitlines()))
    rows = parquet.read(path).to_pylist()
    for each, row in zip(drawn, rows, strict=True):
        assert each["label"] == row["model"]
        assert float(each["y"]) == row["accuracy_new"]
        assert float(each["x_low"]) == row["accuracy_original_low"]
    svg = (folder / "testset_classes.svg").read_text()
    assert "n = 1,500 and 1,000" in svg
    assert "seed 1" in svg


@pytest.mark.parametrize("width", [60, 80, 120])
def test_every_line_fits_the_screen(harder: tuple[Report, Path, dict[str, Any]], width: int) -> None:
    text = terminal.plain(terminal.render(harder[0], terminal.Screen(width=width, verbose=True)))
    assert max(map(len, text.splitlines())) <= width


def test_the_summary_is_plain_json(harder: tuple[Report, Path, dict[str, Any]]) -> None:
    json.dumps(result(harder[0], []), allow_nan=False)
    assert sidecar.read(harder[1])["summary"]["gap"] == harder[0].summary["gap"]  # type: ignore[index]


def test_the_same_command_gives_the_same_bytes_and_then_does_nothing(tmp_path: Path) -> None:
    told = planted(tmp_path, sizes=(60, 50))
    (tmp_path / "two").mkdir()
    first, _ = compare(tmp_path, **told)
    second, _ = compare(tmp_path / "two", **told)
    assert first.outputs[0].sha256 == second.outputs[0].sha256
    again, _ = compare(tmp_path, **told)
    assert again.summary == {"nothing_to_do": True}
    with pytest.raises(MismatchError, match="seed: 1 -> 2"):
        compare(tmp_path, seed=2, **told)
    classes_path(tmp_path / "testset.parquet").unlink()
    assert compare(tmp_path, **told)[0].outputs[0].rows == 5  # half a result is none
    assert compare(tmp_path, force=True, seed=2, **told)[0].outputs[0].rows == 5


def test_what_a_killed_run_left_is_tidied_up(tmp_path: Path) -> None:
    for name in ("testset", "testset_classes"):
        (tmp_path / f".{name}.parquet.0123456789ab.tmp").write_bytes(b"half a table")
    compare(tmp_path, **planted(tmp_path, sizes=(60, 50)))
    assert not list(tmp_path.glob(".*.tmp"))


def test_changed_predictions_are_another_run(tmp_path: Path) -> None:
    told = planted(tmp_path, sizes=(60, 50))
    compare(tmp_path, **told)
    text = told["predictions_new"].read_text().splitlines()
    told["predictions_new"].write_text("\n".join([*text[:-1], "0,0,0,0,0"]) + "\n")
    with pytest.raises(MismatchError, match="predictions"):
        compare(tmp_path, **told)


def test_a_dry_run_writes_nothing(tmp_path: Path) -> None:
    told = planted(tmp_path, sizes=(60, 50))
    before = sorted(tmp_path.iterdir())
    report, _ = compare(tmp_path, dry_run=True, **told)
    assert report.summary["plan"]["models"] == list(MERITS)
    assert sorted(tmp_path.iterdir()) == before


def test_one_model_has_a_gap_but_neither_line_nor_order(tmp_path: Path) -> None:
    told = planted(tmp_path, sizes=(400, 300), gap=0.1)
    for side in ("original", "new"):
        rows = list(csv.DictReader(told[f"predictions_{side}"].read_text().splitlines()))
        write_csv(told[f"predictions_{side}"], {"good": [row["good"] for row in rows]})
    found = compare(tmp_path, **told)[0].summary
    assert (found["line"], found["order"], found["leaders"]) == (None, None, None)
    assert found["gap"]["value"] == pytest.approx(found["by_model"]["good"]["gap"]["value"])
    assert found["selection"]["original"]["correlation"] is None
    assert found["gains"] == "not measured"


@pytest.mark.parametrize("n", [1, 2])
def test_tiny_sets_have_a_defined_result(tmp_path: Path, n: int) -> None:
    report, _ = compare(tmp_path, **planted(tmp_path, sizes=(n, n)))
    json.dumps(report.summary, allow_nan=False)


def test_models_that_are_always_right_have_a_defined_result(tmp_path: Path) -> None:
    told: dict[str, Any] = {}
    for side in ("original", "new"):
        label = [0, 1, 2] * 10
        told[side] = str(write_csv(tmp_path / f"{side}.csv", {"label": label}))
        told[f"predictions_{side}"] = write_csv(tmp_path / f"{side}_said.csv", dict.fromkeys("abc", label))
    report, progress = compare(tmp_path, **told)
    assert report.summary["error_ratio"] is None
    assert "all models are equally good" in line(report, "order")
    assert "not fitted" in line(report, "line")
    assert [id_ for id_, _ in progress.warnings] == ["W-paired"]


def test_names_of_classes_are_matched_whatever_their_order(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    label = rng.integers(0, 3, 300)
    said = answers(rng, label, MERITS)
    told = {
        "original": str(write_csv(tmp_path / "original.csv", {"class_name": [NAMES[v] for v in label]})),
        "new": str(write_csv(tmp_path / "new.csv", {"class_name": [NAMES[v] for v in reversed(label)]})),
    }
    told_said = {
        "predictions_original": write_csv(
            tmp_path / "a.csv", {name: [NAMES[v] for v in values] for name, values in said.items()}
        ),
        "predictions_new": write_csv(
            tmp_path / "b.csv", {name: [NAMES[v] for v in reversed(values)] for name, values in said.items()}
        ),
    }
    found = compare(tmp_path, **told, **told_said)[0].summary
    assert found["gap"]["value"] == pytest.approx(0)
    assert found["by_model"]["best"]["new"]["accuracy"] == pytest.approx(0.93, abs=0.01)


def test_rows_are_matched_by_index_never_by_place(tmp_path: Path) -> None:
    told = planted(tmp_path, sizes=(200, 150))
    (tmp_path / "straight").mkdir()
    straight, _ = compare(tmp_path / "straight", **told)
    rows = list(csv.DictReader(told["predictions_new"].read_text().splitlines()))
    order = np.random.default_rng(1).permutation(150).tolist()
    shuffled = {name: [rows[row][name] for row in order] for name in rows[0]}
    write_csv(told["predictions_new"], {"index": order, **shuffled})
    found, _ = compare(tmp_path, **told)
    assert found.summary["by_model"] == straight.summary["by_model"]


def test_the_gate_compares_the_mean_gap(tmp_path: Path) -> None:
    told = planted(tmp_path, gap=0.08)
    report, _ = compare(tmp_path, fail_gap=20.0, **told)
    assert report.gate is None
    report, _ = compare(tmp_path, fail_gap=2.0, force=True, **told)
    assert report.gate is not None
    assert report.gate.exit_code == 1
    assert "more than 2" in report.gate.what


def test_answers_outside_the_labels_count_as_wrong_and_are_said(tmp_path: Path) -> None:
    told = planted(tmp_path, sizes=(30, 30))
    rows = told["predictions_new"].read_text().splitlines()
    told["predictions_new"].write_text("\n".join([rows[0], "7,7,7,7,7", *rows[2:]]) + "\n")
    report, progress = compare(tmp_path, **told)
    assert ("W-outside", "new.csv: 5 answers are classes that the labels never name; counted as wrong") in (
        progress.warnings
    )
    assert report.summary["new"]["n"] == 30


# -- images --------------------------------------------------------------------------------------------------


def pictures(n: int, seed: int, *, level: float = 70.0) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Blots, and a bright lying, standing or slanting line that tells the class."""
    rng = np.random.default_rng(seed)
    label = np.arange(n) % 3
    ground = rng.normal(110, 25, (n, 8, 8, 1)).repeat(2, 1).repeat(2, 2).repeat(3, 3)
    shown = ground + rng.normal(0, 8, (n, 16, 16, 3))
    at = rng.integers(3, 13, n)
    across = np.arange(16)
    for row in range(n):
        if label[row] == 0:
            shown[row, at[row] - 1 : at[row] + 1] += level
        elif label[row] == 1:
            shown[row, :, at[row] - 1 : at[row] + 1] += level
        else:
            shown[row, across, (across + at[row]) % 16] += 2 * level
    return np.clip(shown, 0, 255).astype(np.uint8), label


def write_set(path: Path, pixels: NDArray[np.uint8], label: NDArray[np.int64]) -> str:
    np.savez(path, x=pixels, y=label, class_names=np.array(NAMES))
    return str(path)


def recoded(pixels: NDArray[np.uint8], quality: int) -> NDArray[np.uint8]:
    found = []
    for one in pixels:
        coded = io.BytesIO()
        Image.fromarray(one).save(coded, "JPEG", quality=quality)
        found.append(np.asarray(Image.open(coded)))
    return np.stack(found)


TRAINING = {
    "models": ("probe-net@1", "small@4"),
    "overrides": {"batch_size": "32", "crop_padding": "0", "flip": "false"},
    "recipe": "fast",
    "precision": "fp32",
    "device": "cpu",
    "workers": 1,
}


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("images")
    pixels, label = pictures(150, 1)
    write_set(folder / "train.npz", pixels, label)
    test, truth = pictures(120, 2)
    write_set(folder / "test.npz", test, truth)
    write_set(folder / "other.npz", *pictures(90, 3))
    write_set(folder / "jpeg.npz", recoded(test, 20), truth)
    copies = np.concatenate([pixels[:30][:, :, ::-1] // 2 + 60, pictures(60, 4)[0]])
    write_set(folder / "leaky.npz", copies, np.concatenate([label[:30], pictures(60, 4)[1]]))
    return folder


@pytest.fixture(scope="module")
def trained(images: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Report, Silent, Path]:
    out = tmp_path_factory.mktemp("trained")
    told = {name: str(images / f"{name}.npz") for name in ("train", "test", "jpeg")}
    report, progress = compare(out, original=told["test"], new=told["jpeg"], train=told["train"], **TRAINING)
    return report, progress, out


def test_models_are_trained_and_asked_about_both_sets(trained: tuple[Report, Silent, Path]) -> None:
    report, _, out = trained
    assert sorted(report.summary["by_model"]) == sorted(TRAINING["models"])
    assert report.recomputed == {"epochs_trained": 5}
    best = report.summary["by_model"]["small@4"]["original"]["accuracy"]
    assert best > 0.5  # guessing has a third
    assert best == max(each["original"]["accuracy"] for each in report.summary["by_model"].values())
    assert not [each for each in out.iterdir() if each.name.endswith(".runs")]


def test_the_same_images_recoded_are_recognised_and_compared_in_pairs(
    trained: tuple[Report, Silent, Path],
) -> None:
    report, _, out = trained
    assert report.summary["paired"] is True
    assert "the same images" in report.title
    rows = parquet.read(out / "testset.parquet").to_pylist()
    assert {row["interval"] for row in rows} == {"paired"}
    assert all(row["p"] is not None for row in rows)


def test_other_images_of_the_same_labels_are_no_pairs(images: Path, tmp_path: Path) -> None:
    pixels, label = pictures(120, 9)
    other = write_set(tmp_path / "other.npz", pixels, label)
    said = answers(np.random.default_rng(0), label, MERITS)
    files = {f"predictions_{side}": write_csv(tmp_path / f"{side}.csv", said) for side in ("original", "new")}
    report, _ = compare(tmp_path, original=str(images / "test.npz"), new=other, workers=1, **files)
    assert report.summary["paired"] is False
    assert report.summary["duplicates"]["shared"] == 0
    forced, _ = compare(
        tmp_path, original=str(images / "test.npz"), new=other, workers=1, paired=True, force=True, **files
    )
    assert forced.summary["paired"] is True
    assert forced.summary["gap"]["value"] == 0


def test_an_interrupted_training_goes_on_where_it_was(
    images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from dataset_audit.train import checkpoint

    told: dict[str, Any] = {
        "original": str(images / "test.npz"),
        "new": str(images / "other.npz"),
        "train": str(images / "train.npz"),
        **TRAINING,
        "models": ("small@1", "small@2"),
    }
    whole, _ = compare(tmp_path, **told)
    (tmp_path / "stopped").mkdir()
    saved = checkpoint.save
    count = 0

    def stop(*arguments: Any, **more: Any) -> None:
        nonlocal count
        saved(*arguments, **more)
        count += 1
        if count == 2:  # small@1 is done, small@2 half
            raise KeyboardInterrupt

    monkeypatch.setattr(checkpoint, "save", stop)
    with pytest.raises(KeyboardInterrupt):
        compare(tmp_path / "stopped", **told)
    monkeypatch.setattr(checkpoint, "save", saved)
    assert not (tmp_path / "stopped" / "testset.parquet").exists()
    again, _ = compare(tmp_path / "stopped", **told)
    assert again.recomputed == {"epochs_trained": 1}
    assert again.outputs[0].sha256 == whole.outputs[0].sha256


def test_copies_of_training_images_are_counted_and_left_out(images: Path, tmp_path: Path) -> None:
    label = np.load(images / "leaky.npz")["y"]
    before = np.load(images / "test.npz")["y"]
    known = np.where(
        np.arange(90) < 30, label, (label + (np.arange(90) % 2)) % 3
    )  # right on copies, half elsewhere
    files = {
        "predictions_original": write_csv(tmp_path / "a.csv", {"m": before.tolist()}),
        "predictions_new": write_csv(tmp_path / "b.csv", {"m": known.tolist()}),
    }
    report, _ = compare(
        tmp_path,
        original=str(images / "test.npz"), new=str(images / "leaky.npz"), train=str(images / "train.npz"),
        workers=1, **files,
    )  # fmt: skip
    found = report.summary["duplicates"]["new"]
    assert (found["near"], found["dropped"], found["exact"]) == (30, 30, 0)  # mirrored and paler
    assert found["accuracy"] == pytest.approx(60 / 90)
    assert found["accuracy_without"] == pytest.approx(0.5)
    assert report.summary["duplicates"]["original"]["near"] == 0
    assert report.summary["gap"]["value"] == pytest.approx(1 / 3)
    assert report.summary["gap_without_duplicates"]["value"] == pytest.approx(0.5)
    assert "30 nearly in the training set" in " ".join(
        cell for item in report.items if isinstance(item, Line) for cell in item.cells
    )


def test_rows_are_matched_by_uid_with_the_images(tmp_path: Path) -> None:
    pixels, label = pictures(12, 5)
    coded = []
    for one in pixels:
        stream = io.BytesIO()
        Image.fromarray(one).save(stream, "PNG")
        coded.append(stream.getvalue())
    rows = {"image": [{"bytes": each, "path": None} for each in coded], "label": label}
    pq.write_table(pa.table(rows), tmp_path / "set.parquet")
    order = np.random.default_rng(0).permutation(12)
    said = {"uid": [uid(coded[row]) for row in order], "m": label[order].tolist()}
    write_csv(tmp_path / "labels.csv", {"label": label.tolist()})
    told = {
        "original": str(tmp_path / "set.parquet"),
        "new": str(tmp_path / "labels.csv"),
        "predictions_original": write_csv(tmp_path / "a.csv", said),
        "predictions_new": write_csv(tmp_path / "b.csv", {"m": label.tolist()}),
    }
    assert compare(tmp_path, **told)[0].summary["by_model"]["m"]["original"]["accuracy"] == 1
    write_csv(tmp_path / "a.csv", {**said, "uid": ["0" * 32, *said["uid"][1:]]})
    with pytest.raises(MismatchError):
        compare(tmp_path, force=True, **told)


# -- what cannot be answered ---------------------------------------------------------------------------------


def refused(kind: type[AuditError], out: Path, **options: Any) -> AuditError:
    with pytest.raises(kind) as failed:
        compare(out, **options)
    assert type(failed.value) is kind
    assert not (out / "testset.parquet").exists()
    return failed.value


@pytest.fixture
def told(tmp_path: Path) -> dict[str, Any]:
    return planted(tmp_path, sizes=(40, 30))


def test_labels_that_the_original_does_not_know_are_named(tmp_path: Path, told: dict[str, Any]) -> None:
    write_csv(Path(told["new"]), {"label": [*[0, 1, 2] * 9, 3, 9, 9]})
    error = refused(MismatchError, tmp_path, **told)
    assert (error.exit_code, error.id) == (2, "E-unknown-label")
    assert "3 (1), 9 (2)" in error.what
    assert error.where.endswith("0, 1, 2")


def test_labels_that_the_training_set_does_not_know_are_named(images: Path, tmp_path: Path) -> None:
    pixels, label = pictures(9, 1)
    np.savez(tmp_path / "new.npz", x=pixels, y=label, class_names=np.array(["cat", "dog", "Owl"]))
    error = refused(
        MismatchError, tmp_path, original=str(images / "test.npz"), new=str(tmp_path / "new.npz"),
        train=str(images / "train.npz"), **TRAINING,
    )  # fmt: skip
    assert (error.exit_code, "Owl (3)" in error.what) == (2, True)


def test_a_class_that_one_set_lacks_is_warned_about(tmp_path: Path, told: dict[str, Any]) -> None:
    write_csv(Path(told["new"]), {"label": [0, 1] * 15})
    report, progress = compare(tmp_path, **told)
    assert ("W-class-missing", "new.csv has no image of 2: no gap there") in progress.warnings
    rows = parquet.read(classes_path(tmp_path / "testset.parquet")).to_pylist()
    gone = [row for row in rows if row["class_name"] == "2"]
    assert all(row["gap"] is None and row["accuracy_new"] is None for row in gone)
    assert report.summary["gap_balanced"]["value"] is not None


def test_a_model_on_one_set_only_is_named(tmp_path: Path, told: dict[str, Any]) -> None:
    rows = list(csv.DictReader(told["predictions_new"].read_text().splitlines()))
    write_csv(told["predictions_new"], {name: [row[name] for row in rows] for name in list(MERITS)[1:]})
    error = refused(MismatchError, tmp_path, **told)
    assert error.exit_code == 2
    assert error.what.startswith("weak: predictions in")


def test_predictions_of_another_number_of_images_are_refused(tmp_path: Path, told: dict[str, Any]) -> None:
    write_csv(Path(told["new"]), {"label": [0, 1, 2] * 9})
    error = refused(MismatchError, tmp_path, **told)
    assert "answers to 30 images, new.csv has 27" in error.what


def test_an_index_that_is_no_permutation_is_refused(tmp_path: Path, told: dict[str, Any]) -> None:
    rows = list(csv.DictReader(told["predictions_new"].read_text().splitlines()))
    columns = {name: [row[name] for row in rows] for name in MERITS}
    write_csv(told["predictions_new"], {"index": [*range(29), 28], **columns})
    assert "image 28 has 2 rows" in refused(MismatchError, tmp_path, **told).what
    write_csv(told["predictions_new"], {"index": [*range(1, 31)], **columns})
    assert "index 30 is none of" in refused(MismatchError, tmp_path, **told).what


def test_an_answer_that_is_no_class_of_a_known_list_is_bad_data(images: Path, tmp_path: Path) -> None:
    label = np.load(images / "test.npz")["y"].tolist()
    files = {
        "predictions_original": write_csv(tmp_path / "a.csv", {"m": [*label[:-1], 3]}),
        "predictions_new": write_csv(tmp_path / "b.csv", {"m": [0] * 90}),
    }
    error = refused(
        DataError, tmp_path, original=str(images / "test.npz"), new=str(images / "other.npz"), **files
    )
    assert (error.exit_code, "m, row 119: 3 is none of the 3 classes" in error.what) == (3, True)


def test_a_set_without_labels_is_refused(images: Path, tmp_path: Path) -> None:
    np.savez(tmp_path / "bare.npz", x=pictures(9, 1)[0])
    error = refused(
        UsageError, tmp_path, original=str(images / "test.npz"), new=str(tmp_path / "bare.npz"),
        train=str(images / "train.npz"), **TRAINING,
    )  # fmt: skip
    assert error.id == "E-unlabelled"


def test_models_need_images(images: Path, tmp_path: Path, told: dict[str, Any]) -> None:
    error = refused(
        UsageError,
        tmp_path,
        original=told["original"],
        new=told["new"],
        train=str(images / "train.npz"),
        **TRAINING,
    )
    assert "models need images" in error.what


def test_grey_and_coloured_sets_are_told_apart(images: Path, tmp_path: Path) -> None:
    pixels, label = pictures(9, 1)
    write_set(tmp_path / "grey.npz", pixels[..., :1], label)
    error = refused(
        MismatchError, tmp_path, original=str(images / "test.npz"), new=str(tmp_path / "grey.npz"),
        train=str(images / "train.npz"), **TRAINING,
    )  # fmt: skip
    assert "grey" in error.what


def test_pairs_must_have_the_same_labels(tmp_path: Path, told: dict[str, Any]) -> None:
    error = refused(MismatchError, tmp_path, paired=True, **told)
    assert "40 and 30 images" in error.what
    truth = [row["label"] for row in csv.DictReader(Path(told["original"]).read_text().splitlines())]
    write_csv(Path(told["new"]), {"label": [*truth[:-1], (int(truth[-1]) + 1) % 3]})
    told["predictions_new"] = told["predictions_original"]
    assert "image 39 is" in refused(MismatchError, tmp_path, paired=True, **told).what


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"predictions_new": None}, "--predictions-new is missing"),
        ({"predictions_new": None, "predictions_original": None}, "none is named"),
        ({"models": ("small",)}, "two are named"),
        ({"predictions": Path("x.parquet")}, "two are named"),
        ({"recipe": "fast"}, "A recipe is for models"),
        ({"selections": 0}, "--selections 0"),
        ({"selections": 10**16}, "--selections"),
        ({"delta": 0.0}, "--delta 0.0"),
        ({"fail_gap": 101.0}, "--fail-gap"),
        ({"seed": -1}, "--seed -1"),
        ({"workers": 0}, "--workers 0"),
        ({"max_skipped": 2.0}, "--max-skipped"),
        ({"new": "original.csv"}, "twice"),
    ],
)
def test_values_and_contradictions_are_refused_by_name(
    tmp_path: Path, told: dict[str, Any], options: dict[str, Any], words: str
) -> None:
    if "new" in options:
        options = {"new": told["original"]}
    error = refused(UsageError, tmp_path, **{**told, **options})
    assert error.exit_code == 2
    assert words in error.what


@pytest.mark.parametrize("name", ["small@0", "small@x", "small@", "hf-hub:a", "../x"])
def test_models_are_named_with_epochs_or_without(tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError):
        Config(original="a", new="b", train="c", models=(name,))


def test_models_without_a_training_set_are_refused() -> None:
    with pytest.raises(UsageError, match="nothing to train them on"):
        Config(original="a", new="b", models=("small",))


def test_an_unknown_model_ends_before_any_training(images: Path, tmp_path: Path) -> None:
    error = refused(
        UsageError, tmp_path, original=str(images / "test.npz"), new=str(images / "other.npz"),
        train=str(images / "train.npz"), **{**TRAINING, "models": ("smal",)},
    )  # fmt: skip
    assert error.exit_code == 2


def test_a_long_table_needs_labels_and_names_of_sets(tmp_path: Path) -> None:
    rows = {"model": ["m"] * 4, "set": ["a", "a", "b", "b"], "prediction": [0, 1, 0, 1]}
    pq.write_table(pa.table(rows), tmp_path / "p.parquet")
    told = {"original": "a", "new": "b", "predictions": tmp_path / "p.parquet"}
    assert "no column label" in refused(DataError, tmp_path, **told).what
    assert "no set 'c'" in refused(UsageError, tmp_path, **{**told, "new": "c"}).what
    assert "twice" in refused(UsageError, tmp_path, **{**told, "new": "a"}).what
    with pytest.raises(UsageError, match="without images"):
        Config(**told, train="x")


def test_somebody_elses_files_are_never_overwritten(tmp_path: Path, told: dict[str, Any]) -> None:
    theirs = tmp_path / "testset_classes.parquet"
    pq.write_table(pa.table({"a": [1]}), theirs)
    before = theirs.read_bytes()
    assert "never overwritten" in refused(UsageError, tmp_path, force=True, **told).what
    assert theirs.read_bytes() == before
    theirs.unlink()
    (tmp_path / "testset.parquet").write_bytes(b"somebody's")
    with pytest.raises(UsageError, match="never overwritten"):
        compare(tmp_path, force=True, **told)


def test_charts_without_matplotlib_are_refused_before_any_work(
    tmp_path: Path, told: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    error = refused(EnvironmentProblem, tmp_path, charts=tmp_path / "charts", **told)
    assert (error.exit_code, "matplotlib" in error.what) == (4, True)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_may_not_be_written_is_told_before_any_work(
    tmp_path: Path, told: dict[str, Any]
) -> None:
    (tmp_path / "locked").mkdir(mode=0o500)
    with pytest.raises(EnvironmentProblem):
        compare(tmp_path / "locked", **told)


# -- published models ----------------------------------------------------------------------------------------


@pytest.mark.real_data
@pytest.mark.parametrize(
    ("new", "slope", "ranks", "mean", "rho", "first"),
    [
        ("cifar10.1_v6", 1.5952, (0.97096, 0.86076), 0.07782, 0.5911, (0.0401, 0.0292, 0.0525)),
        ("cifar10.1_v4", 1.6166, (0.97786, 0.88838), 0.08111, None, (0.0414, 0.0304, 0.0537)),
    ],
)
def test_thirty_published_models_give_the_published_table(
    real_data: Path,
    tmp_path: Path,
    new: str,
    slope: float,
    ranks: tuple[float, float],
    mean: float,
    rho: float | None,
    first: tuple[float, float, float],
) -> None:
    path = real_data / "cifar10_1" / "predictions.parquet"
    if not path.is_file():
        pytest.skip(f"no {path}")
    found = compare(tmp_path, original="cifar10", new=new, predictions=path)[0].summary
    assert found["line"]["slope"] == pytest.approx(slope, abs=5e-5)
    assert (found["order"]["spearman"], found["order"]["kendall"]) == pytest.approx(ranks, abs=5e-6)
    assert found["order"]["reversed"] == 0
    assert found["gap"]["value"] == pytest.approx(mean, abs=6e-6)
    assert found["gap"]["verdict"] == "harder"
    assert found["gaps_excluding_zero"] == 30
    assert found["gains"] == "better models lose less"
    best = found["by_model"]["shake_shake_26_2x64d_SSI_cutout16"]
    assert (best["gap"]["value"], best["gap"]["low"], best["gap"]["high"]) == pytest.approx(first, abs=6e-5)
    assert best["original"]["correct"] == 9711
    assert found["by_model"]["shake_drop"]["new"]["rank"] == 2
    assert found["selection"]["original"]["correlation"] == pytest.approx(0.548, abs=5e-4)
    if rho is not None:
        assert found["selection"]["new"]["correlation"] == pytest.approx(rho, abs=5e-5)
    measured = {each["images"]: each["bias"] for each in found["selection"]["original"]["choosing"]}
    assert measured[1000] == pytest.approx(0.00445, abs=0.0006)
    assert found["selection"]["original"]["choosing"][0]["formula"] > measured[1000]
