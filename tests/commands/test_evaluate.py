"""``audit evaluate`` as a function: arms trained alike, resumable to the same content, verdicts that can say no."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from dataset_audit.commands import evaluate, forgetting, prune
from dataset_audit.commands.evaluate import Config, run
from dataset_audit.errors import DataError, MismatchError, UsageError
from dataset_audit.progress import Silent
from dataset_audit.report.document import Line, Note, Report, Table
from dataset_audit.select.budget import Keep
from dataset_audit.tables import sidecar
from dataset_audit.tables.evaluation import EVALUATION, EvaluationTable
from dataset_audit.tables.scores import ScoreTable

CLASSES = ("ant", "bee", "cow")
N, M = 72, 30
SHORT = {"epochs": "2", "batch_size": "36"}  # two steps an epoch for all, one for half


def pictures(n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return grey 8x8 images with a brighter stripe whose place tells the class, in noise enough for mistakes."""
    rng = np.random.default_rng(seed)
    labels = np.arange(n) % 3
    images = rng.integers(0, 150, (n, 8, 8, 1))
    for label, columns in enumerate((slice(0, 2), slice(3, 5), slice(6, 8))):
        images[labels == label, :, columns] += rng.integers(20, 100, ((labels == label).sum(), 1, 1, 1))
    return images.astype(np.uint8), labels


def write(path: Path, n: int, seed: int, names: tuple[str, ...] = CLASSES) -> Path:
    images, labels = pictures(n, seed)
    np.savez(path, images=images, labels=labels, class_names=np.array(names))
    return path


@pytest.fixture(autouse=True)
def _plain_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """The worker's threads and allocator are the test run's business."""
    monkeypatch.setattr("dataset_audit.train.device.prepare", lambda device, *, allocator: None)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with train.npz, test.npz, scores.parquet of two runs and manifest.parquet."""
    root = tmp_path_factory.mktemp("evaluate")
    write(root / "train.npz", N, 0)
    write(root / "test.npz", M, 1)
    plan = {"epochs": "12", "batch_size": "24"}
    forgetting.run(
        forgetting.Config(
            spec=str(root / "train.npz"), out=root / "scores.parquet", seeds=2, per_run=True, overrides=plan,
            model="small", recipe="fast-plain", allocator=False,
        ),
        Silent(),
    )  # fmt: skip
    prune.run(
        prune.Config(scores=root / "scores.parquet", out=root / "manifest.parquet", keep=Keep.parse("0.5")),
        Silent(),
    )
    return root


def audit(place: Path, out: Path, *, progress: Silent | None = None, **options: Any) -> Report:
    given: dict[str, Any] = {
        "scores": place / "scores.parquet",
        "keep": (Keep.parse("0.5"),),
        "policies": ("hardest",),
        "arms": ("full", "random"),
        "curve": (),
        "seeds": 2,
        "test": str(place / "test.npz"),
        "overrides": SHORT,
        "out": out / "evaluation.parquet",
        "allow_missing_class": True,
        **options,
    }
    return run(Config(**given), progress or Silent())


def table(out: Path) -> dict[str, list[Any]]:
    return EvaluationTable.read(out / "evaluation.parquet").data.to_pydict()


def text(report: Report) -> str:
    words: list[str] = []
    for item in report.items:
        if isinstance(item, Line):
            words += [item.label, *item.cells]
        elif isinstance(item, Note):
            words.append(item.text)
        elif isinstance(item, Table):
            words += [cell for row in (item.columns, *item.rows) for cell in row]
    return "\n".join(words)


def test_every_arm_is_a_row_for_each_seed_trained_by_one_recipe(place: Path, tmp_path: Path) -> None:
    report = audit(
        place, tmp_path, keep=(Keep.parse("0.5"), Keep.parse("18")), policies=("hardest", "dual"),
        arms=("full", "random", "stratified", "easiest", "rs2"), curve=(0.5,), selective=0.25,
    )  # fmt: skip
    found = table(tmp_path)
    assert list(found) == list(EVALUATION)
    rows = list(zip(found["arm"], found["keep_count"], found["seed"], strict=True))
    sized = ("hardest", "dual", "random", "stratified", "easiest", "rs2")
    wanted = {(arm, count, seed) for arm in sized for count in (36, 18) for seed in (1, 2)}
    wanted |= {(arm, N, seed) for arm in ("full", "curve", "selective") for seed in (1, 2)}
    assert set(rows) == wanted
    assert len(rows) == len(wanted)
    for name in ("recipe", "model", "budget", "batch_size", "lr", "weight_decay"):
        assert len(set(found[name])) == 1, name
    assert set(found["status"]) <= {"done", "untrained"}, "four steps"
    by = dict(zip(found["arm"], found["by"], strict=True))
    assert by["dual"] == "dual"
    assert by["hardest"] == by["easiest"] == "aum", "what twelve epochs recommend"
    assert by["random"] is None
    steps = dict(zip(rows, found["steps"], strict=True))
    assert steps["full", N, 1] == 2 * 2
    assert steps["curve", N, 1] == 2
    assert steps["hardest", 36, 1] == 2 * 1
    assert report.summary["seeds"] == 2
    predicted = found["predicted"]
    labels = pictures(M, 1)[1]
    assert found["accuracy"] == [float((np.array(one) == labels).mean()) for one in predicted]
    document = sidecar.read(tmp_path / "evaluation.parquet")
    assert document["summary"] == dict(report.summary)
    assert not list(tmp_path.glob(".*runs*"))


def test_a_budget_of_steps_gives_every_size_as_many_updates_as_the_full_set(
    place: Path, tmp_path: Path
) -> None:
    audit(place, tmp_path, budget="steps", arms=("full", "random", "rs2"))
    found = table(tmp_path)
    assert set(found["steps"]) == {4}
    epochs = dict(zip(found["arm"], found["epochs"], strict=True))
    assert epochs["full"] == 2
    assert epochs["random"] == 4
    assert set(found["budget"]) == {"steps"}


class Stopped(Exception):
    """Ends a run at a given number of batches, like a kill: nothing is cleaned up."""


class Stop(Silent):
    def __init__(self, at: int) -> None:
        super().__init__()
        self.at, self.calls = at, 0

    def advance(self, done: int, **figures: float | str) -> None:
        self.calls += "epoch" in figures
        if self.calls == self.at:
            raise Stopped


def test_an_interrupted_evaluation_goes_on_at_the_epoch_it_was_in(place: Path, tmp_path: Path) -> None:
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    whole.mkdir()
    cut.mkdir()
    first = audit(place, whole)
    with pytest.raises(Stopped):
        audit(place, cut, progress=Stop(4 + 2 + 2))  # in the second epoch of the third training
    again = audit(place, cut)
    assert again.summary["content_sha256"] == first.summary["content_sha256"]
    assert first.recomputed["epochs_trained"] == 12
    assert again.recomputed["epochs_trained"] == 8 - 1, (
        "five of six trainings were left, one of them half done"
    )


def test_a_finished_evaluation_is_left_alone_and_another_one_refused(place: Path, tmp_path: Path) -> None:
    audit(place, tmp_path)
    before = (tmp_path / "evaluation.parquet").read_bytes()
    again = audit(place, tmp_path)
    assert again.summary["nothing_to_do"] is True
    assert not again.outputs
    with pytest.raises(MismatchError, match=r"recipe.epochs: 2 -> 3"):
        audit(place, tmp_path, overrides={**SHORT, "epochs": "3"})
    assert (tmp_path / "evaluation.parquet").read_bytes() == before
    audit(place, tmp_path, overrides={**SHORT, "epochs": "3"}, force=True)
    assert (tmp_path / "evaluation.parquet").read_bytes() != before


def test_a_finished_evaluation_is_shown_again_with_another_margin_and_its_charts(
    place: Path, tmp_path: Path
) -> None:
    pytest.importorskip("matplotlib")
    first = audit(place, tmp_path, arms=("full", "random", "rs2"), curve=(0.5,), tune=2)
    before = (tmp_path / "evaluation.parquet").read_bytes()
    again = audit(
        place, tmp_path, arms=("full", "random", "rs2"), curve=(0.5,), tune=2, delta=90.0, trainings=7,
        charts=tmp_path / "charts",
    )  # fmt: skip
    assert (tmp_path / "evaluation.parquet").read_bytes() == before
    same = ("arms", "curve", "overlap_between_seeds", "pace_spread")
    assert [again.summary[name] for name in same[1:]] == [first.summary[name] for name in same[1:]]
    rounded = {"recall", "worst_recall", "class_share"}  # the table holds them in float32
    for one, other in zip(again.summary["arms"], first.summary["arms"], strict=True):  # type: ignore[call-overload]
        assert {key: one[key] for key in one.keys() - rounded - {"knobs"}} == {
            key: other[key] for key in other.keys() - rounded - {"knobs"}
        }
        assert one["recall"] == pytest.approx(other["recall"], abs=1e-6)
        assert other["knobs"].items() <= one["knobs"].items()
    assert again.summary["trainings_per_scoring"] == 7
    verdicts = {one["verdict"] for one in again.summary["against_full"]}  # type: ignore[union-attr]
    assert verdicts <= {"no worse", "no difference shown"}
    assert (tmp_path / "charts" / "evaluate_removal.svg").exists()


def test_a_run_of_scoring_for_every_seed_gives_every_seed_a_kept_set_of_its_own(
    place: Path, tmp_path: Path
) -> None:
    audit(place, tmp_path, policies=("hardest", "ccs"))
    found = table(tmp_path)
    arms, kept = found["arm"], found["rows_sha256"]
    hardest = [digest for arm, digest in zip(arms, kept, strict=True) if arm == "hardest"]
    assert len(set(hardest)) == 2
    assert not any(found["fixed"])
    scores = ScoreTable.read(place / "scores.parquet")
    for run_number, digest in enumerate(hardest):
        aum = scores.per_run("aum")[:, run_number]
        rows = np.sort(np.argsort(aum, kind="stable")[:36]).astype("<i8")
        assert digest == __import__("hashlib").sha256(rows.tobytes()).hexdigest()

    three = audit(place, tmp_path, seeds=3, force=True)
    fixed = dict(zip(table(tmp_path)["arm"], table(tmp_path)["fixed"], strict=True))
    assert fixed == {"full": False, "hardest": True, "random": False}, "two runs do not do for three seeds"
    assert "the luck that the kept sets of all seeds share" in text(three)


def test_a_manifest_is_compared_with_subsets_of_its_size(place: Path, tmp_path: Path) -> None:
    report = audit(
        place, tmp_path, scores=None, manifest=place / "manifest.parquet", keep=(), policies=(),
        arms=("full", "random", "stratified", "easiest"),
    )  # fmt: skip
    found = table(tmp_path)
    assert set(found["arm"]) == {"full", "kept", "random", "stratified"}, "no scores, no easiest"
    kept = [one for one in report.summary["against_random"] if one["arm"] == "kept"]  # type: ignore[union-attr]
    assert kept[0]["one_subset_for_all_seeds"] is True
    assert kept[0]["keep"] == 0.5
    both = audit(
        place, tmp_path, manifest=place / "manifest.parquet", keep=(), policies=(), curve=(0.5,), force=True
    )
    assert both.summary["scoring_seconds"] is not None, "the scores tell what the manifest cost"


def test_what_scoring_left_out_can_be_the_test_set(tmp_path: Path) -> None:
    images, labels = pictures(60, 3)
    for number, (image, label) in enumerate(zip(images, labels, strict=True)):
        path = tmp_path / "photos" / CLASSES[label] / f"{'held' if number >= 45 else 'kept'}-{number:02}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image[:, :, 0]).save(path)
    plan = {"epochs": "3", "batch_size": "16"}
    forgetting.run(
        forgetting.Config(
            spec=str(tmp_path / "photos"), out=tmp_path / "scores.parquet", overrides=plan, model="small",
            exclude=("*/held-*",), image_size=8,
        ),
        Silent(),
    )  # fmt: skip
    out = tmp_path / "out"
    out.mkdir()
    report = audit(tmp_path, out, test="excluded")
    assert report.summary["test_examples"] == 15
    assert {one["examples"] for one in report.summary["arms"] if one["arm"] == "full"} == {45}  # type: ignore[union-attr]


def test_there_is_no_test_set_where_scoring_left_nothing_out(place: Path, tmp_path: Path) -> None:
    refused(place, tmp_path, UsageError, "scoring left nothing out", test="excluded")


def test_a_share_of_the_data_set_is_held_out_of_every_arm(place: Path, tmp_path: Path) -> None:
    report = audit(place, tmp_path, test="25%", arms=("full", "random", "rs2"))
    assert report.summary["test_examples"] == 18
    sizes = {(one["arm"], one["examples"]) for one in report.summary["arms"]}  # type: ignore[union-attr]
    assert sizes == {("full", 54), ("hardest", 27), ("random", 27), ("rs2", 27)}


def test_the_same_settings_are_tried_for_every_arm_and_the_test_set_has_no_say(
    place: Path, tmp_path: Path
) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    first.mkdir()
    second.mkdir()
    audit(place, first, tune=3, curve=(0.5,))
    images, labels = pictures(M, 1)
    np.savez(place / "shuffled.npz", images=images, labels=np.roll(labels, 1), class_names=np.array(CLASSES))
    audit(place, second, tune=3, curve=(0.5,), test=str(place / "shuffled.npz"))
    chosen = []
    for out in (first, second):
        found = table(out)
        columns = ("arm", "keep_count", "lr", "batch_size", "weight_decay")
        chosen.append(set(zip(*(found[name] for name in columns), strict=True)))
        knobs = {(arm, count): rest for arm, count, *rest in chosen[-1]}
        assert knobs["curve", N] == knobs["full", N], "one setting for one curve"
        assert len(knobs) == len(chosen[-1]), "one setting for all seeds of an arm"
        assert (np.array(found["seconds_tune"])[np.array(found["arm"]) == "random"] > 0).all()
    assert chosen[0] == chosen[1]
    accuracies = [table(out)["accuracy"] for out in (first, second)]
    assert accuracies[0] != accuracies[1]


def test_kept_labels_that_are_wrong_are_told_and_make_an_arm_worse(tmp_path: Path) -> None:
    write(tmp_path / "train.npz", 150, 5)
    write(tmp_path / "test.npz", 90, 6)
    forgetting.run(
        forgetting.Config(
            spec=str(tmp_path / "train.npz"), out=tmp_path / "scores.parquet", label_noise=0.2, per_run=True,
            seeds=3, overrides={"epochs": "8", "batch_size": "30"}, model="small", recipe="fast-plain",
        ),
        Silent(),
    )  # fmt: skip
    report = audit(
        tmp_path, tmp_path, seeds=3, keep=(Keep.parse("0.3"),), overrides={"epochs": "12", "batch_size": "15"},
        arms=("random", "easiest"), fail_worse=True,
    )  # fmt: skip
    shares = {one["arm"]: one["wrong_labels"] for one in report.summary["arms"]}  # type: ignore[union-attr]
    assert 0.1 < shares["random"] < 0.3
    assert shares["hardest"] > 0.5
    assert shares["easiest"] < 0.05
    said = {one["arm"]: one["verdict"] for one in report.summary["against_random"]}  # type: ignore[union-attr]
    assert said["hardest"] == "worse"
    assert report.gate is not None
    assert "hardest at 0.3" in report.gate.what
    assert "wrong %" in text(report)


def test_labels_flipped_after_choosing_are_the_same_in_all_arms(place: Path, tmp_path: Path) -> None:
    report = audit(place, tmp_path, label_noise=0.25)
    shares = {one["arm"]: one["wrong_labels"] for one in report.summary["arms"]}  # type: ignore[union-attr]
    assert shares["full"] == pytest.approx(0.25)
    assert 0 < shares["hardest"] < 0.6


def test_another_network_than_scored_is_said(place: Path, tmp_path: Path) -> None:
    report = audit(place, tmp_path, model="probe-net")
    assert "scored with small, trained probe-net" in text(report)
    assert set(table(tmp_path)["model"]) == {"probe-net"}


def test_quality_is_set_against_the_time_it_took(place: Path, tmp_path: Path) -> None:
    report = audit(place, tmp_path, curve=(0.25, 0.5), arms=("full", "random", "rs2"), trainings=10)
    assert len(report.summary["curve"]) == 3  # type: ignore[arg-type]
    stood = {one["arm"]: one for one in report.summary["quality_time"]}  # type: ignore[union-attr]
    scoring = report.summary["scoring_seconds"]
    assert stood["random"]["scoring_seconds"] == 0
    assert stood["hardest"]["total_seconds"] == pytest.approx(stood["hardest"]["seconds"] + scoring / 10)  # type: ignore[operator]
    assert "all examples for less time" in text(report)
    free = audit(place, tmp_path, score_seconds=0.0, curve=(0.25, 0.5), force=True)
    assert free.summary["scoring_seconds"] == 0


def test_charts_are_drawn_with_their_numbers_beside_them(place: Path, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    audit(
        place, tmp_path, keep=(Keep.parse("0.5"), Keep.parse("0.25")), curve=(0.5,), charts=tmp_path / "charts",
        policies=("hardest", "ccs"),
    )  # fmt: skip
    names = {path.stem for path in (tmp_path / "charts").glob("*.svg")}
    assert names >= {
        "evaluate_removal", "evaluate_quality_time", "evaluate_differences", "evaluate_recall",
        "evaluate_overlap_50", "evaluate_overlap_25",
    }  # fmt: skip
    removal = (tmp_path / "charts" / "evaluate_removal.csv").read_text().splitlines()
    assert {line.split(",")[0] for line in removal[1:]} >= {"hardest", "ccs", "random"}


def test_a_plan_trains_nothing(place: Path, tmp_path: Path) -> None:
    class Plan(Silent):
        lines: tuple[str, ...] = ()

        def plan(self, lines: Any) -> None:
            self.lines = tuple(lines)

    progress = Plan()
    audit(place, tmp_path, progress=progress, dry_run=True)
    assert any("6 trainings, 8 passes over the data in all" in line for line in progress.lines)
    assert not list(tmp_path.iterdir())


def refused(place: Path, out: Path, kind: type[Exception], said: str, **options: Any) -> None:
    with pytest.raises(kind, match=said):
        audit(place, out, **options)
    assert not (out / "evaluation.parquet").exists()


def test_what_cannot_be_evaluated_is_refused_by_name(place: Path, tmp_path: Path) -> None:
    usage = (
        ({"policies": ("hardset",)}, "did you mean hardest"),
        ({"arms": ("fall",)}, "did you mean full"),
        ({"policies": ("moderate",)}, "needs embeddings"),
        ({"keep": (Keep.parse("0.5"), Keep.parse("0.5"))}, "a size twice"),
        ({"keep": (Keep.parse("1"),), "allow_missing_class": False}, "would empty 2 classes"),
        ({"keep": (Keep.parse("200"),)}, "200"),
        ({"by": ("nose",)}, "No column 'nose'"),
        ({"test": str(place / "nowhere.npz")}, "no such path"),
        ({"test": None}, "No test set is known"),
        ({"test": "200%"}, "a share between 0 and 1"),
        ({"scores": None}, "--keep and --policies are of --scores"),
        ({"model": "convnext_tinny"}, "convnext_tiny"),
        ({"scores": place / "nowhere.parquet"}, "nowhere"),
        ({"delta": 0.0}, "--delta"),
        ({"fail_worse": True, "seeds": 1}, "a gate is of what is measured"),
        ({"fail_worse": True, "arms": ("full",)}, "a gate is of what is measured"),
    )
    for options, said in usage:
        refused(place, tmp_path, UsageError, said, **options)


def test_a_test_set_with_other_classes_is_refused_and_one_in_another_order_is_mapped(
    place: Path, tmp_path: Path
) -> None:
    write(tmp_path / "other.npz", M, 1, ("ant", "bee", "dog"))
    refused(place, tmp_path, UsageError, "does not have: dog", test=str(tmp_path / "other.npz"))
    images, labels = pictures(M, 1)
    np.savez(tmp_path / "order.npz", images=images, labels=2 - labels, class_names=np.array(CLASSES[::-1]))
    first = audit(place, tmp_path, arms=("full",), policies=("hardest",))
    second = audit(place, tmp_path, arms=("full",), test=str(tmp_path / "order.npz"), force=True)
    accuracies = [[one["accuracy"] for one in each.summary["arms"]] for each in (first, second)]  # type: ignore[union-attr]
    assert accuracies[0] == accuracies[1]


def test_a_manifest_of_other_images_is_refused_by_the_first_that_differs(place: Path, tmp_path: Path) -> None:
    write(tmp_path / "changed.npz", N, 9)
    for options in ({}, {"scores": None, "manifest": place / "manifest.parquet", "keep": (), "policies": ()}):
        refused(
            place,
            tmp_path,
            MismatchError,
            "are not those that",
            dataset=str(tmp_path / "changed.npz"),
            **options,
        )
    write(tmp_path / "short.npz", N - 3, 0)
    refused(place, tmp_path, MismatchError, "was made for 72", dataset=str(tmp_path / "short.npz"))


def test_a_manifest_without_one_of_the_classes_needs_to_be_allowed(place: Path, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    labels = pictures(N, 0)[1]
    scores = ScoreTable.of(
        {"index": np.arange(N), "label": labels, "mine": (labels == 2) + rng.random(N) / 2},
        replace(ScoreTable.read(place / "scores.parquet").provenance, seeds=(1,)),  # type: ignore[type-var]
    )
    document = sidecar.document(
        "scores", tmp_path / "mine.parquet", rows=N, config={}, facts={"trained": True}
    )
    scores.write(tmp_path / "mine.parquet", document=document)
    prune.run(
        prune.Config(
            scores=tmp_path / "mine.parquet", out=tmp_path / "two.parquet", by=("mine",), hard="low",
            policy="hardest", keep=Keep.parse("40"), allow_empty_class=True,
        ),
        Silent(),
    )  # fmt: skip
    options: dict[str, Any] = {
        "scores": None,
        "manifest": tmp_path / "two.parquet",
        "keep": (),
        "policies": (),
    }
    options |= {"recipe": "fast-plain", "model": "small"}
    refused(place, tmp_path, UsageError, "1 class missing: cow", allow_missing_class=False, **options)
    report = audit(place, tmp_path, **options)
    kept = next(one for one in report.summary["arms"] if one["arm"] == "kept")  # type: ignore[union-attr]
    assert kept["worst_class"] == "cow"
    assert kept["worst_recall"] == 0


def test_a_manifest_of_flipped_labels_is_evaluated_from_its_scores(tmp_path: Path) -> None:
    write(tmp_path / "train.npz", N, 0)
    write(tmp_path / "test.npz", M, 1)
    forgetting.run(
        forgetting.Config(
            spec=str(tmp_path / "train.npz"), out=tmp_path / "scores.parquet", label_noise=0.3, model="small",
            overrides={"epochs": "2", "batch_size": "16"},
        ),
        Silent(),
    )  # fmt: skip
    prune.run(
        prune.Config(scores=tmp_path / "scores.parquet", out=tmp_path / "m.parquet", force=True), Silent()
    )
    refused(
        tmp_path, tmp_path, UsageError, "scoring flipped them", scores=None, manifest=tmp_path / "m.parquet",
        keep=(), policies=(),
    )  # fmt: skip
    with pytest.raises(UsageError, match="flipped before scoring already"):
        audit(tmp_path, tmp_path, label_noise=0.1)


def test_an_arm_that_diverges_stops_the_evaluation_by_name_and_keeps_what_is_finished(
    place: Path, tmp_path: Path
) -> None:
    with pytest.raises(DataError) as caught:
        audit(place, tmp_path, overrides={**SHORT, "lr": "1e30"})
    assert caught.value.id == "E-diverged"
    assert "arm full, 72 examples, seed 1" in caught.value.where
    assert not (tmp_path / "evaluation.parquet").exists()


def test_the_page_says_what_one_seed_cannot(place: Path, tmp_path: Path) -> None:
    report = audit(place, tmp_path, seeds=1)
    assert "one seed: no spread, no interval, no verdict" in text(report)
    assert {one["verdict"] for one in report.summary["against_random"]} == {"not measured"}  # type: ignore[union-attr]


def test_the_defaults_are_those_that_are_documented() -> None:
    config = evaluate.Config()
    assert config.source == Path("manifest.parquet")
    assert config.delta == 0.2
    assert config.budget == "epochs"
