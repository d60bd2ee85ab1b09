"""``audit forgetting`` as a function: from images to the table, resumable to the same bytes."""

from __future__ import annotations

import csv
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from dataset_audit.commands.forgetting import Config, run, story
from dataset_audit.commands.forgetting.choices import late
from dataset_audit.errors import DataError, EnvironmentProblem, MismatchError, UsageError
from dataset_audit.images.dataset import open_dataset
from dataset_audit.progress import Silent
from dataset_audit.report.document import Report
from dataset_audit.scores.recorder import Recorder
from dataset_audit.stats.agreement import auroc
from dataset_audit.tables import sidecar
from dataset_audit.tables.scores import ScoreTable
from dataset_audit.train.defaults import default_choice
from tests.reference.histories import Presentation, score


def photos(root: Path, *, n: int = 60, size: int = 8) -> Path:
    """Write images whose brightness tells the class, so that anything learns them."""
    rng = np.random.default_rng(0)
    for i in range(n):
        label = i % 3
        pixels = (rng.integers(0, 60, (size, size, 3)) + 80 * label).astype(np.uint8)
        path = root / ("ant", "bee", "cow")[label] / f"{i:03}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path)
    return root


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return photos(tmp_path_factory.mktemp("photos"))


@pytest.fixture(autouse=True)
def _plain_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """The worker's threads and allocator are the test run's business."""
    monkeypatch.setattr("dataset_audit.train.device.prepare", lambda device, *, allocator: None)


def audit(
    folder: Path, out: Path, *, epochs: int = 3, progress: Silent | None = None, **options: Any
) -> Report:
    overrides = {"epochs": str(epochs), "batch_size": "16", **options.pop("overrides", {})}
    return run(Config(spec=str(folder), out=out, overrides=overrides, **options), progress or Silent())


@pytest.mark.parametrize(
    ("epochs", "at"), [(1, (1,)), (2, (2,)), (3, (2, 3)), (4, (3, 4)), (30, (28, 29, 30))]
)
def test_el2n_is_taken_after_the_last_epochs_of_the_second_half(epochs: int, at: tuple[int, ...]) -> None:
    assert late(epochs) == at


def test_el2n_of_the_end_is_the_default_and_can_be_left_out(folder: Path, tmp_path: Path) -> None:
    for name, told in (("default", None), ("said", (2, 3)), ("none", ())):
        audit(folder, tmp_path / f"{name}.parquet", el2n_epochs=told)
    assert (tmp_path / "default.parquet").read_bytes() == (tmp_path / "said.parquet").read_bytes()
    told, none = (ScoreTable.read(tmp_path / f"{name}.parquet") for name in ("default", "none"))
    assert set(told.names) - set(none.names) == {"el2n"}
    assert np.isfinite(told.floats("el2n")).all()


def test_el2n_after_an_epoch_that_never_comes_is_refused(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--el2n-epochs 9 is past the last epoch, 3"):
        audit(folder, tmp_path / "scores.parquet", el2n_epochs=(2, 9))


def test_a_table_of_one_row_per_image_with_its_identity_and_scores(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "scores.parquet"
    report = audit(folder, out, epochs=12, seeds=2, per_run=True, el2n_epochs=(6, 12), tdds=(12, 5))
    table = ScoreTable.read(out, strict=True)
    dataset = open_dataset(str(folder))
    assert len(table) == 60
    assert table.integers("index").tolist() == list(range(60))
    assert table.strings("file_name") == list(dataset.file_names or [])
    assert table.integers("label").tolist() == dataset.labels.tolist()
    assert set(table.strings("class_name")) == {"ant", "bee", "cow"}
    assert set(table.strings("status")) == {"ok"}
    assert table.integers("presentations").tolist() == [24] * 60
    assert table.integers("runs").tolist() == [2] * 60
    for name in (
        "forgetting",
        "aum",
        "el2n",
        "el2n_mean",
        "grand_last",
        "dyn_unc",
        "dual",
        "tdds",
        "confidence",
    ):
        assert np.isfinite(table.floats(name)).all(), name
        assert np.isfinite(table.floats(f"{name}_std")).all(), name
    assert table.has("aum_runs")
    assert report.outputs[0].rows == 60
    document = sidecar.read(out)
    assert document["seeds"] == [1, 2]
    assert document["trained"] is True
    assert document["summary"] == dict(report.summary)
    assert not list(tmp_path.glob(".*runs*"))


def test_a_run_is_learned_and_its_figures_are_told(folder: Path, tmp_path: Path) -> None:
    report = audit(folder, tmp_path / "s.parquet", epochs=10, seeds=2)
    figures = report.summary
    assert min(figures["train_accuracy"]) > 0.8  # type: ignore[call-overload,type-var]
    assert 0 <= figures["unforgettable_all_runs"] <= min(figures["unforgettable_per_run"])  # type: ignore[call-overload,operator,type-var]
    assert figures["runs"] == 2
    assert figures["spearman_aum"] is not None


def test_short_runs_recommend_the_margin_and_long_ones_forgetting(folder: Path, tmp_path: Path) -> None:
    for epochs, wanted in ((3, "aum"), (30, "forgetting")):
        audit(folder, tmp_path / f"{epochs}.parquet", epochs=epochs)
        origin = ScoreTable.read(tmp_path / f"{epochs}.parquet").provenance
        assert origin is not None
        assert origin.recommended["by"] == wanted


class Interrupt(Silent):
    """Stops the run at a given number of images, like a kill: nothing is cleaned up."""

    def __init__(self, at: int) -> None:
        super().__init__()
        self.at, self.calls, self.notes = at, 0, []  # type: ignore[var-annotated]

    def advance(self, done: int, **figures: float | str) -> None:
        self.calls += "epoch" in figures
        if self.calls == self.at:
            raise KeyboardInterrupt

    def note(self, text: str) -> None:
        self.notes.append(text)


@pytest.mark.parametrize("at", [1, 4, 5, 9, 13, 20])
def test_a_run_interrupted_anywhere_and_resumed_gives_the_same_bytes(
    folder: Path, tmp_path: Path, at: int
) -> None:
    options: dict[str, Any] = {"seeds": 2, "el2n_epochs": (2,), "tdds": (3, 3)}
    audit(folder, tmp_path / "whole.parquet", **options)
    with pytest.raises(KeyboardInterrupt):
        audit(folder, tmp_path / "cut.parquet", progress=Interrupt(at), **options)
    assert not (tmp_path / "cut.parquet").exists()
    second = Interrupt(-1)
    report = audit(folder, tmp_path / "cut.parquet", progress=second, **options)
    assert (tmp_path / "cut.parquet").read_bytes() == (tmp_path / "whole.parquet").read_bytes()
    per_epoch = 4
    done = min(at - 1, 6 * per_epoch) // per_epoch  # whole epochs before the interruption
    assert report.recomputed["epochs_trained"] <= 6 - done + 1
    if done:
        assert report.recomputed["epochs_trained"] < 6


def test_resuming_with_another_number_of_threads_is_warned_of(folder: Path, tmp_path: Path) -> None:
    threads = torch.get_num_threads()
    with pytest.raises(KeyboardInterrupt):
        audit(folder, tmp_path / "s.parquet", progress=Interrupt(9))
    progress = Silent()
    try:
        torch.set_num_threads(threads + 1)
        audit(folder, tmp_path / "s.parquet", progress=progress)
    finally:
        torch.set_num_threads(threads)
    assert "W-threads" in [id_ for id_, _ in progress.warnings]


def test_wherever_images_are_held_the_table_has_the_same_bytes(folder: Path, tmp_path: Path) -> None:
    kept, files = tmp_path / "kept", []
    for resident, cache in (("yes", "auto"), ("no", "auto"), ("no", "no"), ("auto", kept), ("auto", kept)):
        out = tmp_path / "scores.parquet"
        audit(folder, out, resident=resident, cache=cache, force=True)
        files.append(out.read_bytes())
        out.unlink()
    assert len(set(files)) == 1
    assert len(list(kept.iterdir())) == 1


def test_one_seed_of_several_repeats_alone(folder: Path, tmp_path: Path) -> None:
    audit(folder, tmp_path / "two.parquet", seeds=2, per_run=True)
    audit(folder, tmp_path / "second.parquet", seed=2)
    both = ScoreTable.read(tmp_path / "two.parquet").data["aum_runs"].to_pylist()
    alone = ScoreTable.read(tmp_path / "second.parquet").floats("aum")
    assert [runs[1] for runs in both] == alone.tolist()


def test_the_recorder_agrees_with_the_stored_history_of_a_real_run(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    history: list[list[Presentation]] = [[] for _ in range(60)]
    update = Recorder.update

    def watched(
        self: Recorder,
        indices: torch.Tensor,
        logits: torch.Tensor,
        labels: torch.Tensor,
        features: Any = None,
    ) -> None:
        for row, index in enumerate(indices.tolist()):
            history[index].append(
                Presentation(logits[row].tolist(), int(labels[row]), features[row].tolist())
            )
        update(self, indices, logits, labels, features)

    monkeypatch.setattr(Recorder, "update", watched)
    audit(folder, tmp_path / "s.parquet", epochs=12)
    table = ScoreTable.read(tmp_path / "s.parquet")
    for index in range(60):
        for name, value in score(history[index]).items():
            if name == "never_learned":
                assert table.flags(name)[index] == value
            elif name == "presentations":
                assert table.integers(name)[index] == value
            elif value == -1:
                assert np.isnan(table.floats(name)[index])
            else:
                assert table.floats(name)[index] == pytest.approx(value, rel=1e-4, abs=1e-6), name


def test_injected_label_noise_is_recorded_and_found(folder: Path, tmp_path: Path) -> None:
    audit(folder, tmp_path / "s.parquet", epochs=8, label_noise=0.2)
    table = ScoreTable.read(tmp_path / "s.parquet")
    flipped = table.integers("label") != table.integers("clean_label")
    assert flipped.sum() == 12
    assert table.integers("clean_label").tolist() == open_dataset(str(folder)).labels.tolist()
    assert auroc(-table.floats("aum"), flipped) > 0.8


def test_the_same_call_again_has_nothing_to_do_and_another_is_refused(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "s.parquet"
    audit(folder, out)
    before = out.read_bytes()
    assert audit(folder, out).summary == {"nothing_to_do": True}
    with pytest.raises(MismatchError, match=r"recipe\.epochs: 3 -> 4"):
        audit(folder, out, epochs=4)
    assert out.read_bytes() == before
    audit(folder, out, epochs=4, force=True)
    assert out.read_bytes() != before


def test_an_unfinished_run_of_another_configuration_is_not_mixed_in(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "s.parquet"
    with pytest.raises(KeyboardInterrupt):
        audit(folder, out, progress=Interrupt(6))
    with pytest.raises(MismatchError, match=r"unfinished run of another configuration: recipe\.lr"):
        audit(folder, out, overrides={"lr": "0.05"})
    audit(folder, out, overrides={"lr": "0.05"}, force=True)
    fresh = tmp_path / "fresh.parquet"
    audit(folder, fresh, overrides={"lr": "0.05"})
    assert out.read_bytes() == fresh.read_bytes()


def test_a_dry_run_writes_nothing(folder: Path, tmp_path: Path) -> None:
    report = audit(folder, tmp_path / "s.parquet", dry_run=True)
    assert report.summary["plan"]["model"] == "small"  # type: ignore[index]
    assert [p.name for p in tmp_path.iterdir() if not p.name.endswith(".lock")] == []


def test_unreadable_images_are_rows_and_too_many_stop_the_command(tmp_path: Path) -> None:
    root = photos(tmp_path / "photos")
    (root / "ant" / "000.png").write_bytes(b"no image")
    with pytest.raises(DataError, match="1 of 60 images cannot be read") as raised:
        audit(root, tmp_path / "s.parquet")
    assert raised.value.exit_code == 3
    audit(root, tmp_path / "s.parquet", max_skipped=0.05)
    table = ScoreTable.read(tmp_path / "s.parquet")
    assert len(table) == 60
    assert table.strings("status").count("unreadable") == 1
    bad = table.strings("status").index("unreadable")
    assert np.isnan(table.floats("aum")[bad])
    assert table.integers("presentations")[bad] == 0
    assert table.strings("error")[bad]
    assert table.strings("file_name")[bad] == "ant/000.png"


def test_excluded_files_keep_their_row_and_are_not_trained_on(folder: Path, tmp_path: Path) -> None:
    audit(folder, tmp_path / "s.parquet", exclude=("bee/*",))
    table = ScoreTable.read(tmp_path / "s.parquet")
    assert table.strings("status").count("excluded") == 20
    assert (table.integers("presentations") == 0).sum() == 20
    with pytest.raises(UsageError, match="matches no file"):
        audit(folder, tmp_path / "t.parquet", exclude=("wasp/*",))


def test_one_class_is_not_enough(tmp_path: Path) -> None:
    root = photos(tmp_path / "photos")
    for name in ("bee", "cow"):
        for path in (root / name).iterdir():
            path.unlink()
        (root / name).rmdir()
    with pytest.raises(DataError, match="1 classes with readable images"):
        audit(root, tmp_path / "s.parquet")


def test_a_run_that_learned_nothing_is_marked(folder: Path, tmp_path: Path) -> None:
    progress = Silent()
    audit(folder, tmp_path / "s.parquet", epochs=2, progress=progress, overrides={"lr": "60", "warmup": "0"})
    assert sidecar.read(tmp_path / "s.parquet")["trained"] is False
    assert "W-untrained" in [id_ for id_, _ in progress.warnings]


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"seeds": 0}, "--seeds 0"),
        ({"seed": -1}, "--seed -1"),
        ({"label_noise": 1.0}, "--label-noise"),
        ({"recipe": "tonewa-cifar"}, "did you mean toneva-cifar"),
        ({"overrides": {"epochs": "0"}}, "epochs must be at least 1"),
        ({"overrides": {"batch_size": "-1"}}, "batch_size"),
        ({"model": "../x"}, "named, not fetched"),
        ({"tdds": (2, 3)}, "--tdds"),
        ({"workers": 0}, "--workers"),
        ({"max_skipped": 1.01}, "--max-skipped"),
    ],
)
def test_impossible_requests_are_refused_before_anything_is_opened(
    options: dict[str, Any], says: str
) -> None:
    with pytest.raises(UsageError, match=says):
        Config(spec="absent", **options)


def test_the_default_follows_data_and_device() -> None:
    assert default_choice((28, 28), 1, gpu=False) == ("toneva-mnist", "mnist-net")
    assert default_choice((32, 32), 3, gpu=False) == ("fast", "small")
    assert default_choice((32, 32), 3, gpu=True) == ("toneva-cifar", "resnet18")
    assert default_choice((224, 224), 3, gpu=True)[0] == "fast"
    assert default_choice((8, 8), 1, gpu=False) == ("fast-plain", "small")


def test_no_augmentation_means_no_crop_and_no_flip(folder: Path, tmp_path: Path) -> None:
    audit(folder, tmp_path / "s.parquet", augment=False)
    recipe = sidecar.read(tmp_path / "s.parquet")["config"]["recipe"]  # type: ignore[index]
    assert (recipe["crop_padding"], recipe["flip"]) == (0, False)


def test_charts_show_every_example_once_and_name_n_and_seeds(folder: Path, tmp_path: Path) -> None:
    for name in ("a", "b"):
        audit(folder, tmp_path / f"{name}.parquet", epochs=4, label_noise=0.2, charts=tmp_path / name)
    made = sorted(path.name for path in (tmp_path / "a").iterdir())
    assert {"forgetting_histogram.svg", "forgetting_histogram.png", "forgetting_hardest.csv"} <= set(made)
    with (tmp_path / "a" / "forgetting_histogram.csv").open() as stream:
        rows = list(csv.reader(stream))[1:]
    assert sum(int(count) for _, count in rows) == 60
    svg = (tmp_path / "a" / "forgetting_histogram.svg").read_text()
    assert "n = 60" in svg
    assert "seeds 1" in svg
    assert svg == (tmp_path / "b" / "forgetting_histogram.svg").read_text()
    for path in (tmp_path / "a").glob("*.png"):
        with Image.open(path) as image:
            assert min(image.size) > 300


def test_charts_without_matplotlib_are_refused_before_any_work(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(EnvironmentProblem, match="matplotlib"):
        audit(folder, tmp_path / "s.parquet", charts=tmp_path / "charts")
    assert list(tmp_path.iterdir()) == []


def test_the_estimate_is_said_once_the_pace_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter(range(0, 4000, 4))
    monkeypatch.setattr(story, "monotonic", lambda: float(next(clock)))
    progress = Interrupt(-1)
    timed = story._Timed(progress, total=100_000)
    for done in range(100, 1000, 100):
        timed.advance(done)
    assert progress.notes == ["about 67 min for all runs, at the pace of the first steps"]
