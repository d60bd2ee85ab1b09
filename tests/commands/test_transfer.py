"""``audit transfer`` as a function: drawn sets whose drop is planted, and everything that cannot be answered."""

from __future__ import annotations

import csv
import json
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from dataset_audit.commands.transfer import Config, run
from dataset_audit.errors import AuditError, DataError, EnvironmentProblem, MismatchError, UsageError
from dataset_audit.progress import Silent
from dataset_audit.report import terminal
from dataset_audit.report.document import Line, Report, Table
from dataset_audit.report.machine import result
from dataset_audit.tables import parquet, sidecar
from dataset_audit.tables.transfer import TRANSFER

SIZE = 24
DRAWN = {"bar": 0, "post": 1, "slope": 2}  # what is drawn under which name


def draw(what: int, rng: np.random.Generator, noise: float) -> np.ndarray:
    """A bright line in a noisy picture: lying, standing or slanting."""
    picture = rng.normal(90, noise, (SIZE, SIZE, 3))
    at = int(rng.integers(5, SIZE - 5))
    across = np.arange(SIZE)
    if what == 0:
        picture[at - 1 : at + 2] += 90
    elif what == 1:
        picture[:, at - 1 : at + 2] += 90
    else:
        for shift in (-1, 0, 1):
            picture[across, (across + at + shift) % SIZE] += 90
    return np.clip(picture, 0, 255).astype(np.uint8)


def photos(
    root: Path, seed: int, *, counts: dict[str, int], swapped: bool = False, noise: float = 12
) -> Path:
    """Write a set; in a swapped one bars are called posts and posts bars."""
    rng = np.random.default_rng(seed)
    for name, count in counts.items():
        (root / name).mkdir(parents=True)
        for number in range(count):
            what = DRAWN.get(name, 2)
            if swapped and what < 2:
                what = 1 - what
            Image.fromarray(draw(what, rng, noise)).save(root / name / f"{number:03}.png")
    return root


ALL = {"bar": 60, "post": 60, "slope": 60}


@pytest.fixture(scope="session")
def sets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``a`` and ``b`` are drawn alike, ``turned`` has two names swapped."""
    root = tmp_path_factory.mktemp("sets")
    photos(root / "a", 1, counts=ALL)
    photos(root / "b", 2, counts=ALL)
    photos(root / "turned", 3, counts=ALL, swapped=True)
    return root


def transfer(out: Path, *sources: Path | str, **options: Any) -> tuple[Report, Silent]:
    progress = Silent()
    config = Config(sources=tuple(map(str, sources)), out=out / "transfer.parquet", workers=1, **options)
    return run(config, progress), progress


@pytest.fixture(scope="session")
def planted(sets: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Report, Path]:
    out = tmp_path_factory.mktemp("out")
    options = {"probe": "hog", "charts": out / "charts"}
    return transfer(out, sets / "a", sets / "b", sets / "turned", **options)[0], out / "transfer.parquet"


def line(report: Report, label: str) -> str:
    return " ".join(
        next(item.cells for item in report.items if isinstance(item, Line) and item.label == label)
    )


def test_sets_drawn_alike_transfer_and_the_turned_one_does_not(planted: tuple[Report, Path]) -> None:
    report, _ = planted
    ap = report.summary["ap"]
    matrix = np.array(ap["matrix"])
    assert np.diagonal(matrix).min() > 0.9
    assert matrix[:2, :2] == pytest.approx(np.ones((2, 2)), abs=0.1)
    for name in ("bar", "post"):
        found = np.array(report.summary["ap_by_class"][name]["matrix"])
        assert found[:2, 2].max() < found[2, 2] - 0.3
        assert found[2, :2].max() < found[2, 2] - 0.3
    slope = np.array(report.summary["ap_by_class"]["slope"]["matrix"])
    assert slope.min() > 0.85  # the class that means the same everywhere
    assert ap["drop"][2] > 0.3 > 0.25 > ap["drop"][0] - 0.1
    assert ap["grand_drop"] == pytest.approx(1 - np.mean(ap["mean_others"]) / np.mean(ap["self"]))
    assert ap["cd"][2] > 0.55
    accuracy = np.array(report.summary["accuracy"]["matrix"])
    assert accuracy[:2, :2].min() > 0.9
    assert accuracy[2, 0] == pytest.approx(1 / 3, abs=0.1)  # slopes right, bars and posts swapped


def test_the_table_has_a_row_per_class_pair_draw_and_size(planted: tuple[Report, Path]) -> None:
    report, path = planted
    table = parquet.read(path)
    assert table.column_names == list(TRANSFER)
    assert table.num_rows == report.outputs[0].rows
    rows = table.to_pylist()
    ap = [row for row in rows if row["metric"] == "ap" and row["negatives"] == "own"]
    full = [row for row in ap if row["low"] is not None]
    assert len(full) == 3 * 3 * 3 * 3  # classes, sets, sets, draws
    assert {
        (row["class_name"], row["train_source"], row["test_source"], row["resampling"]) for row in full
    } == {
        (c, a, b, j)
        for c in ALL
        for a in ("a", "b", "turned")
        for b in ("a", "b", "turned")
        for j in (1, 2, 3)
    }
    assert all(row["low"] <= row["value"] <= row["high"] for row in full)
    assert len({(row["class_name"], row["n_train"], row["n_test"], row["chance"]) for row in full}) == 3
    values = [
        row["value"]
        for row in full
        if (row["class_name"], row["train_source"], row["test_source"]) == ("bar", "a", "turned")
    ]
    assert np.mean(values) == pytest.approx(report.summary["ap_by_class"]["bar"]["matrix"][0][2])
    pooled = [row for row in rows if row["negatives"] == "all"]
    assert len(pooled) == 3 * 3 * 3
    assert all(row["train_source"] == row["test_source"] for row in pooled)
    named = [row for row in rows if row["metric"] == "accuracy"]
    assert len(named) == 3 * 3 * 3
    assert {row["class_name"] for row in named} == {None}
    assert all(row["chance"] == pytest.approx(1 / 3, abs=0.03) for row in named)
    assert sidecar.verify(path, "transfer") == "finished"


def test_the_report_is_the_table_of_the_paper(planted: tuple[Report, Path]) -> None:
    report, _ = planted
    table = next(item for item in report.items if isinstance(item, Table))
    assert table.columns == ("train on", "1", "2", "3", "self", "others", "drop", "CD")
    assert [row[0] for row in table.rows] == ["1 a", "2 b", "3 turned", "mean others", "drop"]
    matrix = report.summary["ap"]["matrix"]
    assert table.rows[0][3] == f"{100 * matrix[0][2]:.1f}"
    assert "±" in table.rows[2][6]
    assert "bar 0.50, post 0.50, slope 0.50" in line(report, "source alone")
    assert "matched by name" in line(report, "classes")
    assert "hog" in report.title


def points(chart: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(chart.read_text().splitlines()))


def test_the_charts_hold_the_figures_of_the_report(planted: tuple[Report, Path]) -> None:
    report, path = planted
    folder = path.parent / "charts"
    charts = ["accuracy", "matrix", "tested_on_1", "tested_on_2", "tested_on_3"]
    endings = ("csv", "png", "svg")
    assert sorted(each.name for each in folder.iterdir()) == [
        f"transfer_{name}.{ending}" for name in charts for ending in endings
    ]
    for name, metric in (("matrix", "ap"), ("accuracy", "accuracy")):
        header, *rows = csv.reader((folder / f"transfer_{name}.csv").read_text().splitlines())
        assert header == ["trained on", "a", "b", "turned"]
        assert [row[0] for row in rows] == ["a", "b", "turned"]
        shown = np.array([row[1:] for row in rows], float)
        assert shown == pytest.approx(np.array(report.summary[metric]["matrix"]))
    rows = points(folder / "transfer_tested_on_3.csv")
    assert {row["series"] for row in rows} == {"a", "b", "turned (its own)"}
    measured = [row for row in rows if row["kind"] == "measured"]
    assert all(float(row["low"]) <= float(row["value"]) <= float(row["high"]) for row in measured)
    last = [
        float(row["value"]) for row in measured if float(row["n"]) == max(float(r["n"]) for r in measured)
    ]
    assert last == pytest.approx(np.array(report.summary["ap"]["matrix"])[:, 2])
    svg = (folder / "transfer_matrix.svg").read_text()
    assert "n = 180 each" in svg
    assert "mean of 3 classes" in svg


def test_only_a_rising_line_is_drawn_as_one(planted: tuple[Report, Path]) -> None:
    """Bars and posts are swapped in the third set: more of them does not help on the others' tests."""
    report, path = planted
    made = report.summary["market_value"]["rates"]
    for tested in range(3):
        rows = points(path.parent / "charts" / f"transfer_tested_on_{tested + 1}.csv")
        fitted = {row["series"].split()[0] for row in rows if row["kind"] == "fitted"}
        for trained, name in enumerate(("a", "b", "turned")):
            rate = made[trained][tested]
            if trained != tested and rate["alpha"] and not rate["reason"]:
                assert name in fitted
            if rate["reason"].startswith("the foreign curve is no rising line"):
                assert name not in fitted


def test_charts_without_matplotlib_are_refused_before_any_work(
    sets: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    error = refused(EnvironmentProblem, tmp_path, sets / "a", sets / "b", charts=tmp_path / "charts")
    assert (error.exit_code, "matplotlib" in error.what) == (4, True)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("width", [60, 80, 120])
def test_every_line_fits_the_screen(planted: tuple[Report, Path], width: int) -> None:
    text = terminal.plain(terminal.render(planted[0], terminal.Screen(width=width, verbose=True)))
    assert max(map(len, text.splitlines())) <= width


def test_the_summary_is_plain_json(planted: tuple[Report, Path]) -> None:
    report, path = planted
    json.dumps(result(report, []), allow_nan=False)
    assert sidecar.read(path)["summary"]["ap"] == report.summary["ap"]


def test_the_same_command_gives_the_same_bytes_and_then_does_nothing(sets: Path, tmp_path: Path) -> None:
    shas = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        report, _ = transfer(
            tmp_path / name, sets / "a", sets / "b", probe="hog", resamplings=1, classes=("bar",)
        )
        shas.append(report.outputs[0].sha256)
        assert "not known from one draw" in line(report, "spread")
        assert report.summary["accuracy"] is None
    assert shas[0] == shas[1]
    again, _ = transfer(
        tmp_path / "one", sets / "a", sets / "b", probe="hog", resamplings=1, classes=("bar",)
    )
    assert again.summary == {"nothing_to_do": True}
    with pytest.raises(MismatchError, match="seed: 1 -> 2"):
        transfer(
            tmp_path / "one", sets / "a", sets / "b", probe="hog", resamplings=1, classes=("bar",), seed=2
        )
    forced, _ = transfer(
        tmp_path / "one",
        sets / "a",
        sets / "b",
        probe="hog",
        resamplings=1,
        classes=("bar",),
        seed=2,
        force=True,
    )
    assert forced.outputs[0].sha256 != shas[0]


def test_auto_takes_the_probe_that_validates_best_and_says_both_figures(sets: Path, tmp_path: Path) -> None:
    report, _ = transfer(tmp_path, sets / "a", sets / "b", resamplings=1)
    tried = report.summary["validation_ap"]
    assert set(tried) == {"hog", "thumbnail"}
    assert report.summary["probe"] == max(tried, key=tried.get)
    assert f"hog {100 * tried['hog']:.1f}" in line(report, "probe")


def test_a_dry_run_reads_no_image_and_writes_nothing(sets: Path, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr("dataset_audit.commands.transfer.story.read", None)
    report, _ = transfer(tmp_path, sets / "a", sets / "b", dry_run=True, per_source=90)
    assert report.summary["plan"]["quota"] == [30, 30, 30]
    assert not list(tmp_path.iterdir())


def test_a_copy_of_a_set_shares_every_image_and_loses_nothing(sets: Path, tmp_path: Path) -> None:
    shutil.copytree(sets / "a", tmp_path / "copy")
    report, _ = transfer(tmp_path, sets / "a", tmp_path / "copy", probe="hog", resamplings=1)
    assert report.summary["duplicates_across_sets"] == 2 * 180
    assert abs(report.summary["ap"]["grand_drop"]) < 0.05
    assert "kept on the same side" in line(report, "duplicates")


def test_images_of_other_classes_are_negatives_and_the_source_alone_knows_unequal_shares(
    tmp_path: Path,
) -> None:
    photos(tmp_path / "rare", 1, counts={"bar": 40, "other": 160})
    photos(tmp_path / "often", 2, counts={"bar": 80, "further": 40})
    report, _ = transfer(tmp_path, tmp_path / "rare", tmp_path / "often", probe="hog", resamplings=2)
    assert report.summary["classes"] == ["bar"]
    assert report.summary["accuracy"] is None
    assert report.summary["ap"]["chance"] == pytest.approx(0.5)  # the poorer set has as many others as bars
    positive, negative = (40, 80), (160, 40)
    wins = (positive[1] * negative[0] + 0.5 * (positive[0] * negative[0] + positive[1] * negative[1])) / (
        120 * 200
    )
    assert report.summary["source_only_auc"]["bar"] == pytest.approx(wins)


def test_a_class_too_small_for_a_curve_is_left_out_of_the_mean_market(sets: Path, tmp_path: Path) -> None:
    photos(tmp_path / "c", 4, counts={"bar": 60, "post": 60, "slope": 14})
    report, _ = transfer(tmp_path, sets / "a", tmp_path / "c", probe="hog")
    by_class = report.summary["market_value_by_class"]
    assert "4 sizes" in by_class["slope"]["rates"][0][1]["reason"]
    for name in ("bar", "post"):
        assert "4 sizes" not in by_class[name]["rates"][0][1]["reason"]
    assert "4 sizes" not in report.summary["market_value"]["rates"][0][1]["reason"]
    assert report.summary["market_value"]["rates"][0][0]["alpha"] == 1


def test_a_few_unreadable_images_are_skipped_and_said(sets: Path, tmp_path: Path) -> None:
    shutil.copytree(sets / "a", tmp_path / "a")
    (tmp_path / "a" / "bar" / "000.png").write_bytes(b"no picture")
    options = {"probe": "hog", "resamplings": 1, "classes": ("bar", "post")}
    report, progress = transfer(tmp_path, tmp_path / "a", sets / "b", **options)
    assert report.summary["skipped"] == 1
    assert ("W-skipped", "a: 1 image skipped: 1 not an image") in progress.warnings
    with pytest.raises(DataError, match="cannot be read"):
        transfer(tmp_path, tmp_path / "a", sets / "b", max_skipped=0.0, force=True, **options)


def refused(kind: type[AuditError], out: Path, *sources: Path | str, **options: Any) -> AuditError:
    with pytest.raises(kind) as failed:
        transfer(out, *sources, **options)
    assert not (out / "transfer.parquet").exists()
    return failed.value


def test_one_set_is_refused(sets: Path, tmp_path: Path) -> None:
    error = refused(UsageError, tmp_path, sets / "a")
    assert (error.exit_code, error.what) == (2, "One set: transfer compares two or more.")


def test_the_same_folder_twice_is_refused_however_it_is_spelt(sets: Path, tmp_path: Path) -> None:
    for second in (sets / "a", f"{sets}/./a/", sets / "b" / ".." / "a"):
        error = refused(UsageError, tmp_path, sets / "a", sets / "b", second)
        assert (error.exit_code, error.id) == (2, "E-identical")


def test_sets_without_a_shared_class_are_refused_with_the_classes_of_each(sets: Path, tmp_path: Path) -> None:
    photos(tmp_path / "c", 4, counts={"Bar": 12, "door": 12})
    error = refused(UsageError, tmp_path, sets / "a", tmp_path / "c")
    assert error.exit_code == 2
    assert error.where == "a: bar, post, slope; c: Bar, door"


def test_a_class_asked_for_that_a_set_lacks_is_named(sets: Path, tmp_path: Path) -> None:
    error = refused(UsageError, tmp_path, sets / "a", sets / "b", classes=("bar", "tree"))
    assert error.what == "a has no class 'tree'."
    assert "bar, post, slope" in error.where


def test_a_set_without_labels_is_refused(sets: Path, tmp_path: Path) -> None:
    flat = tmp_path / "flat"
    shutil.copytree(sets / "a" / "bar", flat)
    error = refused(UsageError, tmp_path, sets / "a", flat)
    assert (error.exit_code, error.id) == (2, "E-unlabelled")
    assert error.what.startswith("flat has no labels")


def test_a_class_with_too_few_examples_is_named_with_its_set_and_number(sets: Path, tmp_path: Path) -> None:
    photos(tmp_path / "c", 4, counts={"bar": 40, "post": 7})
    error = refused(DataError, tmp_path, sets / "a", tmp_path / "c")
    assert (error.exit_code, error.id) == (3, "E-few")
    assert error.what == "c has 7 images of post; 10 of each class are the least."


def test_a_set_of_one_class_alone_has_no_negatives(sets: Path, tmp_path: Path) -> None:
    photos(tmp_path / "c", 4, counts={"bar": 40})
    error = refused(DataError, tmp_path, sets / "a", tmp_path / "c")
    assert error.exit_code == 3
    assert error.what == "c has 0 images that are no bar; 10 are the least."


def test_sets_of_broken_images_end_with_exit_code_3(sets: Path, tmp_path: Path) -> None:
    for name in ("bar", "post"):
        (tmp_path / "c" / name).mkdir(parents=True)
        for number in range(20):
            (tmp_path / "c" / name / f"{number}.png").write_bytes(b"no picture")
    error = refused(DataError, tmp_path, sets / "a", tmp_path / "c")
    assert error.exit_code == 3
    assert "40 of 40 images cannot be read" in error.what
    assert refused(DataError, tmp_path, sets / "a", tmp_path / "c", max_skipped=1.0).exit_code == 3


def test_a_class_that_is_one_image_many_times_cannot_be_split(sets: Path, tmp_path: Path) -> None:
    photos(tmp_path / "c", 4, counts={"bar": 40, "post": 1, "slope": 40})
    for number in range(1, 30):
        shutil.copy(tmp_path / "c" / "post" / "000.png", tmp_path / "c" / "post" / f"{number:03}.png")
    error = refused(DataError, tmp_path, sets / "a", tmp_path / "c")
    assert (error.exit_code, error.id) == (3, "E-few")
    assert "c, class post" in error.what


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"resamplings": 0}, "--resamplings"),
        ({"per_source": 3}, "--per-source"),
        ({"per_source": 20}, "--per-source"),
        ({"probe": "header"}, "header"),
        ({"seed": -1}, "--seed"),
        ({"workers": 0}, "--workers"),
        ({"max_skipped": 2.0}, "--max-skipped"),
    ],
)
def test_values_out_of_range_are_refused_by_name(
    sets: Path, tmp_path: Path, options: dict[str, Any], word: str
) -> None:
    with pytest.raises(UsageError, match=word):
        run(
            Config(sources=(str(sets / "a"), str(sets / "b")), out=tmp_path / "t.parquet", **options),
            Silent(),
        )


def test_an_input_is_never_overwritten(sets: Path, tmp_path: Path) -> None:
    (tmp_path / "transfer.parquet").write_bytes(b"somebody's")
    with pytest.raises(UsageError, match="never overwritten"):
        transfer(tmp_path, sets / "a", sets / "b", probe="hog", resamplings=1, force=True)
    assert (tmp_path / "transfer.parquet").read_bytes() == b"somebody's"


@pytest.mark.parametrize("size", [1, 3])
def test_tiny_images_have_a_defined_result(tmp_path: Path, size: int) -> None:
    rng = np.random.default_rng(0)
    for name in ("a", "b"):
        for label, level in (("dark", 60), ("light", 180)):
            (tmp_path / name / label).mkdir(parents=True)
            for number in range(24):
                pixels = rng.normal(level, 25, (size, size, 3)).clip(0, 255).astype(np.uint8)
                Image.fromarray(pixels).save(tmp_path / name / label / f"{number}.png")
    report, _ = transfer(tmp_path, tmp_path / "a", tmp_path / "b", probe="thumbnail", resamplings=1)
    assert np.min(report.summary["ap"]["matrix"]) > 0.8
