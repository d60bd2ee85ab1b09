"""``audit bias`` from folders to table: planted artefacts, planted content, planted copies, bad input, resuming."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dataset_audit import seeds
from dataset_audit.commands import bias, prune
from dataset_audit.commands.bias import Config
from dataset_audit.errors import DataError, MismatchError, UsageError
from dataset_audit.manifest import Manifest
from dataset_audit.progress import Silent
from dataset_audit.report.document import Report
from dataset_audit.select.budget import Keep
from dataset_audit.stats.chance import null_band
from dataset_audit.tables.scores import ScoreTable

Pixels = np.ndarray
SIDE, EACH = 160, 100
CHEAP = ("header", "thumbnail", "hog", "traces")
Lanczos, Bilinear, Bicubic = Image.Resampling.LANCZOS, Image.Resampling.BILINEAR, Image.Resampling.BICUBIC


@lru_cache(maxsize=512)
def leaves(number: int) -> Pixels:
    """A dead-leaves picture uint8[160, 160, 3] (Lee et al. 2001): edges, occlusion, a spectrum as of photographs."""
    rng = seeds.rng(7, "leaves", number)
    large = SIDE * 2
    canvas = np.empty((large, large, 3), np.float32)
    canvas[:] = rng.uniform(40, 215, 3)
    rows, columns = np.mgrid[:large, :large]
    for _ in range(60):
        radius = 10 / (rng.uniform(0.02, 1) ** 0.5)
        y, x = rng.uniform(0, large, 2)
        part = np.s_[
            max(0, int(y - radius)) : int(y + radius) + 1, max(0, int(x - radius)) : int(x + radius) + 1
        ]
        inside = (rows[part] - y) ** 2 + (columns[part] - x) ** 2 <= radius**2
        grain = rng.normal(0, rng.uniform(0, 14), (*inside.shape, 1))
        canvas[part] = np.where(inside[..., None], rng.uniform(20, 235, 3) + grain, canvas[part])
    picture = Image.fromarray(np.clip(canvas, 0, 255).astype(np.uint8))
    return np.asarray(picture.resize((SIDE, SIDE), Lanczos))


def plain(pixels: Pixels) -> Pixels:
    return pixels


def bordered(pixels: Pixels) -> Pixels:
    framed = pixels.copy()
    framed[[0, -1]] = 0
    framed[:, [0, -1]] = 0
    return framed


def brighter(pixels: Pixels) -> Pixels:
    return np.clip(pixels.astype(np.int16) + 3, 0, 255).astype(np.uint8)


def resized(kernel: Image.Resampling) -> Callable[[Pixels], Pixels]:
    return lambda pixels: np.asarray(Image.fromarray(pixels).resize((120, 120), kernel))


def enlarged(pixels: Pixels) -> Pixels:
    small = Image.fromarray(pixels).resize((SIDE // 2, SIDE // 2), Lanczos)
    return np.asarray(small.resize((SIDE, SIDE), Bicubic))


def disc(pixels: Pixels) -> Pixels:
    rows, columns = np.mgrid[:SIDE, :SIDE]
    inside = (rows - 80) ** 2 + (columns - 80) ** 2 <= 48**2
    return np.where(inside[..., None], np.array([200, 30, 30], np.uint8), pixels).astype(np.uint8)


def folder(
    path: Path,
    first: int,
    plant: Callable[[Pixels], Pixels] = plain,
    *,
    quality: int | None = None,
    count: int = EACH,
) -> Path:
    """Write pictures of one pool, as JPEG of a quality or without loss."""
    path.mkdir(parents=True)
    for number in range(first, first + count):
        image = Image.fromarray(plant(leaves(number)))
        if quality is None:
            image.save(path / f"{number:05d}.png", compress_level=1)
        else:
            image.save(path / f"{number:05d}.jpg", quality=quality)
    return path


def audited(*paths: Path, **more: object) -> Report:
    out = paths[0].parent / "bias.parquet"
    settings: dict[str, object] = {"probes": CHEAP, "per_source": EACH, "out": out, **more}
    return bias.run(Config(sources=tuple(map(str, paths)), **settings), Silent())  # type: ignore[arg-type]


def accuracy(report: Report, control: str, probe: str) -> float:
    found = report.summary["probes"]
    return next(one["accuracy"] for one in found if (one["control"], one["probe"]) == (control, probe))  # type: ignore[attr-defined]


def strongest(report: Report, control: str) -> dict[str, float]:
    """The figures of the control's best probe of pixels by validation, as the report chooses it."""
    found = [
        one for one in report.summary["probes"] if one["control"] == control and one["probe"] != "header"
    ]  # type: ignore[attr-defined]
    return max(found, key=lambda one: one["validation"])  # type: ignore[no-any-return]


PLANTS: dict[
    str, tuple[Callable[[Pixels], Pixels], int | None, Callable[[Pixels], Pixels], int | None, str, str]
] = {
    # planted in a, its JPEG quality, planted in b, its JPEG quality, the control that removes it, its name
    "JPEG 95 against 50": (plain, 95, plain, 50, "recode", "the encoder or resizer"),
    "a border of one pixel": (plain, 90, bordered, 90, "centre", "the border"),
    "three levels brighter": (plain, None, brighter, None, "photometric", "brightness or contrast"),
    "another kernel": (resized(Lanczos), None, resized(Bilinear), None, "recode", "the encoder or resizer"),
    "twice enlarged": (plain, 90, enlarged, 90, "together", "the encoder or resizer"),
}


@pytest.mark.parametrize("name", PLANTS)
def test_a_planted_artefact_is_seen_removed_by_its_control_and_named(name: str, tmp_path: Path) -> None:
    plant_a, quality_a, plant_b, quality_b, control, artefact = PLANTS[name]
    a = folder(tmp_path / "a", 0, plant_a, quality=quality_a)
    b = folder(tmp_path / "b", EACH, plant_b, quality=quality_b)
    report = audited(a, b)
    raw, left = strongest(report, "raw"), strongest(report, control)
    assert raw["accuracy"] >= (0.8 if name == "three levels brighter" else 0.95)
    # one fold judges, so the band is that of one fold; 99.9 % as this is one of many looks
    low, high = null_band(int(left["tested"]), 0.5, 0.999)
    assert low <= left["accuracy"] <= high
    assert report.summary["artefacts"][0] == artefact  # type: ignore[index]
    headline = report.summary["headline"]
    assert headline["surviving"]["low"] <= 0.05  # type: ignore[index]
    assert headline["reading"] in {"explained by artefacts", "cannot tell"}  # type: ignore[index]


def test_the_header_names_quality_exactly_and_is_then_the_worst_control(tmp_path: Path) -> None:
    report = audited(
        folder(tmp_path / "a", 0, quality=95, count=40), folder(tmp_path / "b", 40, quality=85, count=40)
    )
    assert accuracy(report, "raw", "header") == 1
    assert {fact["name"] for fact in report.summary["header_facts"]} >= {"luma quantiser", "chroma quantiser"}  # type: ignore[attr-defined]
    assert report.summary["headline"]["excess"]["value"] <= 0  # type: ignore[index]
    assert "luma quantiser" in report.summary["artefacts"]  # type: ignore[operator]


def test_planted_content_survives_every_control(tmp_path: Path) -> None:
    report = audited(folder(tmp_path / "a", 0, quality=90), folder(tmp_path / "b", EACH, disc, quality=90))
    for control in ("raw", "recode", "photometric", "centre", "together"):
        assert strongest(report, control)["accuracy"] >= 0.95
    assert strongest(report, "border")["accuracy"] < 0.7  # the disc lies in the middle
    assert report.summary["headline"]["reading"] == "content or capture differs"  # type: ignore[index]
    assert report.summary["artefacts"] == []


def test_two_halves_of_one_pool_are_at_chance_everywhere(tmp_path: Path) -> None:
    report = audited(folder(tmp_path / "a", 0), folder(tmp_path / "b", EACH))
    assert report.summary["headline"]["reading"] == "at chance"  # type: ignore[index]
    assert all(null["adjusted"] > 0.05 for null in report.summary["nulls"])  # type: ignore[attr-defined]
    for one in report.summary["probes"]:  # type: ignore[attr-defined]
        if not one["control"].startswith("curve"):
            low, high = null_band(one["tested"], one["chance"], 0.9999)
            assert low <= one["accuracy"] <= high, one
    assert any(warning.id == "W-small" for warning in report.warnings)


def test_planted_copies_are_kept_together_and_the_leak_is_a_number_of_its_own(tmp_path: Path) -> None:
    a, b = folder(tmp_path / "a", 0), folder(tmp_path / "b", EACH)
    for number in range(40):  # rescaled copies of pictures of the same source
        source = a if number % 2 else b
        picture = Image.fromarray(leaves(number + (0 if number % 2 else EACH)))
        picture.resize((120, 120), Lanczos).save(source / f"copy{number}.png")
    report = audited(a, b, per_source=EACH + 20)
    table = ScoreTable.read(tmp_path / "bias.parquet")
    cluster = dict(zip(table.strings("file_name"), table.integers("cluster"), strict=True))
    split = dict(zip(table.strings("file_name"), table.strings("split"), strict=True))
    pairs = [(f"copy{n}.png", f"{n + (0 if n % 2 else EACH):05d}.png") for n in range(40)]
    together = [cluster[copy] == cluster[original] for copy, original in pairs]
    assert np.mean(together) >= 0.95
    assert all(split[c] == split[o] for (c, o), same in zip(pairs, together, strict=True) if same)
    assert report.summary["duplicates"]["within"] >= 76  # type: ignore[index]
    assert report.summary["leak"]["difference"] > 0.03  # type: ignore[index]
    assert all(null["adjusted"] > 0.05 for null in report.summary["nulls"])  # type: ignore[attr-defined]  # silent, which is the point


def test_pruning_by_typicality_lowers_the_bias_of_what_is_left(tmp_path: Path) -> None:
    a, b = folder(tmp_path / "a", 0, quality=90), folder(tmp_path / "b", EACH, quality=90)
    for number in range(50):  # half of b gives itself away
        Image.fromarray(disc(leaves(EACH + number))).save(b / f"{EACH + number:05d}.jpg", quality=90)
    before = audited(a, b)
    manifest = tmp_path / "manifest.parquet"
    prune.run(
        prune.Config(
            scores=tmp_path / "bias.parquet",
            out=manifest,
            by=("typicality",),
            keep=Keep.parse("0.6"),
            policy="hardest",
        ),
        Silent(),
    )
    kept = Manifest.read(manifest)
    assert kept.sources == ("a", "b")
    assert kept.source("b").dataset().name == str(b)
    after = bias.run(
        Config(sources=(str(manifest),), out=tmp_path / "again.parquet", probes=CHEAP, per_source=EACH),
        Silent(),
    )
    discs = sum(index < 50 for index in kept.source("b").indices().tolist())
    assert discs < 15  # of 50; of the others and of a most are kept
    assert accuracy(before, "raw", "hog") > accuracy(after, "raw", "hog") + 0.1


def test_the_table_holds_every_image_drawn_with_its_fold_and_probabilities(tmp_path: Path) -> None:
    a, b = folder(tmp_path / "a", 0, count=40), folder(tmp_path / "b", 40, disc, count=60)
    audited(a, b)
    table = ScoreTable.read(tmp_path / "bias.parquet")
    assert len(table) == 80
    assert [table.strings("source").count(name) for name in ("a", "b")] == [40, 40]
    assert sorted(set(table.strings("split"))) == ["test-1", "test-2", "test-3"]  # type: ignore[type-var]
    both = table.floats("p_a") + table.floats("p_b")
    np.testing.assert_allclose(both, 1, atol=1e-6)
    own = np.where(
        [name == "a" for name in table.strings("source")], table.floats("p_a"), table.floats("p_b")
    )
    clipped = np.clip(own, 1e-6, 1 - 1e-6)
    np.testing.assert_allclose(table.floats("typicality"), np.log(clipped / (1 - clipped)), atol=0.1)
    assert table.hard("typicality") == "low"
    assert table.provenance is not None
    assert [origin.name for origin in table.provenance.sources] == ["a", "b"]


def test_the_same_call_gives_the_same_bytes_in_any_order_of_the_arguments(tmp_path: Path) -> None:
    a, b = folder(tmp_path / "a", 0, count=40), folder(tmp_path / "b", 40, disc, count=60)
    first = audited(a, b, controls=False)
    second = audited(b, a, controls=False, out=tmp_path / "other.parquet", workers=3)
    assert first.outputs[0].sha256 == second.outputs[0].sha256
    other = audited(a, b, controls=False, out=tmp_path / "third.parquet", seed=2)
    assert other.outputs[0].sha256 != first.outputs[0].sha256


def test_an_interrupted_call_goes_on_after_its_finished_fits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from dataset_audit.commands.bias import experiment

    a, b = folder(tmp_path / "a", 0, count=40), folder(tmp_path / "b", 40, disc, count=40)
    whole = audited(a, b, out=tmp_path / "whole.parquet")
    tried: list[tuple[str, str]] = []
    real = experiment.try_probe

    def stopping(trial: object, probe: str, seed: int) -> object:
        tried.append((trial.name, probe))  # type: ignore[attr-defined]
        if len(tried) == 10:
            raise KeyboardInterrupt
        return real(trial, probe, seed)  # type: ignore[arg-type]

    monkeypatch.setattr(experiment, "try_probe", stopping)
    with pytest.raises(KeyboardInterrupt):
        audited(a, b)
    done = len(list((tmp_path / ".bias.parquet.runs").glob("*.parquet")))
    assert done >= 5
    begun = len(tried)
    monkeypatch.setattr(
        experiment, "try_probe", lambda t, p, s: (tried.append((t.name, p)), real(t, p, s))[1]
    )
    again = audited(a, b)
    total = len(whole.summary["probes"])  # type: ignore[arg-type]
    assert len(tried) - begun == total - done
    assert again.outputs[0].sha256 == whole.outputs[0].sha256
    assert not (tmp_path / ".bias.parquet.runs").exists()
    assert audited(a, b).summary == {"nothing_to_do": True}
    with pytest.raises(MismatchError, match="another run"):
        audited(a, b, seed=3)


def test_unequal_sets_are_equalised_and_the_smallest_visible_bias_is_said(tmp_path: Path) -> None:
    report = audited(
        folder(tmp_path / "a", 0, count=35), folder(tmp_path / "b", 35, count=160), per_source=1000
    )
    assert report.summary["images_per_source"] == 35
    warning = next(warning for warning in report.warnings if warning.id == "W-small")
    assert f"{report.summary['blind_below']:.3f}" in warning.text


def test_tiny_pictures_and_arrays_and_grey_ones_are_defined(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    small = tmp_path / "small"
    small.mkdir()
    for number in range(40):
        Image.fromarray(rng.integers(0, 256, (1, 1, 3), dtype=np.uint8)).save(small / f"{number}.png")
    np.savez(
        tmp_path / "grey.npz",
        x_train=rng.integers(0, 256, (40, 9, 7), dtype=np.uint8),
        y_train=np.zeros(40, np.int64),
    )
    report = audited(small, tmp_path / "grey.npz")
    assert accuracy(report, "raw", "header") == 1  # size and format say it all
    assert any(warning.id == "W-reduction" for warning in report.warnings)


def test_one_set_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="alone: a source is told apart"):
        audited(folder(tmp_path / "a", 0, count=35))


def test_the_same_set_twice_is_refused_and_at_chance_when_allowed(tmp_path: Path) -> None:
    a = folder(tmp_path / "a", 0, count=60)
    with pytest.raises(UsageError, match="are the same"):
        audited(a, a)
    shutil.copytree(a, tmp_path / "copy")
    with pytest.raises(MismatchError, match="same images"):
        audited(a, tmp_path / "copy")
    report = audited(a, tmp_path / "copy", allow_identical=True)
    assert report.summary["duplicates"]["ceiling"] == 0.5  # type: ignore[index]
    assert report.summary["duplicates"]["across_exact"] == 120  # type: ignore[index]
    assert any(warning.id == "W-copies" for warning in report.warnings)
    assert strongest(report, "raw")["accuracy"] <= 0.55


def test_too_few_images_are_bad_data_and_the_set_is_named(tmp_path: Path) -> None:
    a = folder(tmp_path / "a", 0, count=35)
    one = folder(tmp_path / "one", 0, count=1)
    with pytest.raises(DataError, match="one has 1 image; 30"):
        audited(a, one)
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="empty"):
        audited(a, tmp_path / "empty")


def test_a_set_of_broken_images_is_bad_data_and_names_set_and_cause(tmp_path: Path) -> None:
    a = folder(tmp_path / "a", 0, count=35)
    broken = folder(tmp_path / "broken", 0, count=35)
    for file in broken.iterdir():
        file.write_bytes(file.read_bytes()[:300])
    with pytest.raises(DataError, match="35 of 35 images of broken cannot be used") as caught:
        audited(a, broken)
    assert "00000.png" in caught.value.where


def test_a_few_broken_images_are_rows_of_the_table(tmp_path: Path) -> None:
    a, b = folder(tmp_path / "a", 0, count=40), folder(tmp_path / "b", 40, count=40)
    (a / "00003.png").write_bytes(b"no picture")
    (b / "00041.png").write_bytes((b / "00041.png").read_bytes()[:2000])
    audited(a, b, max_skipped=0.05)
    table = ScoreTable.read(tmp_path / "bias.parquet")
    status = dict(zip(table.strings("file_name"), table.strings("status"), strict=True))
    assert status["00003.png"] == "unreadable"
    assert status["00041.png"] == "unreadable"
    typical = table.floats("typicality")
    assert np.isnan(typical).sum() == len(table) - 78


def test_a_file_that_is_no_data_set_is_refused(tmp_path: Path) -> None:
    a = folder(tmp_path / "a", 0, count=35)
    (tmp_path / "notes.txt").write_text("no images")
    with pytest.raises(UsageError, match="not a data set"):
        audited(a, tmp_path / "notes.txt")


def test_a_gate_fails_on_what_survives_only(tmp_path: Path) -> None:
    a, b = (
        folder(tmp_path / "a", 0, quality=90, count=60),
        folder(tmp_path / "b", 60, disc, quality=90, count=60),
    )
    assert audited(a, b, fail_above=0.2).gate is not None
    encoder = audited(
        folder(tmp_path / "c", 0, quality=95, count=60),
        folder(tmp_path / "d", 60, quality=50, count=60),
        fail_above=0.35,
        out=tmp_path / "encoder.parquet",
    )
    assert strongest(encoder, "raw")["accuracy"] > 0.9
    assert encoder.gate is None


def test_the_sidecar_tells_what_the_report_tells(tmp_path: Path) -> None:
    a, b = folder(tmp_path / "a", 0, count=35), folder(tmp_path / "b", 35, disc, count=35)
    report = audited(a, b)
    document = json.loads((tmp_path / "bias.audit.json").read_text())
    for key in ("headline", "probes", "nulls", "confusion", "leak", "artefacts"):
        assert document["summary"][key] == json.loads(json.dumps(report.summary[key]))
    assert document["sha256"] == report.outputs[0].sha256


def test_matched_classes_take_as_many_of_each_class_from_each_source(tmp_path: Path) -> None:
    for source, first in (("a", 0), ("b", 80)):
        folder(tmp_path / source / "cat", first, count=50 if source == "a" else 20)
        folder(tmp_path / source / "dog", first + 50, count=20 if source == "a" else 50)
    report = audited(tmp_path / "a", tmp_path / "b", match_classes=True)
    found = next(one for one in report.summary["probes"] if one["control"] == "classes")  # type: ignore[attr-defined]
    assert found["trained"] < 80 * 2 / 3
    aucs = {one["class"]: one["auc"] for one in report.summary["source_only_auc"]}  # type: ignore[attr-defined]
    assert set(aucs) == {"cat", "dog"}
    assert aucs["cat"] == pytest.approx(0.5 + (50 / 70 - 20 / 70) / 2, abs=0.02)


def test_labels_count_all_classes_in_the_table_and_a_sets_own_in_its_part_of_the_manifest(
    tmp_path: Path,
) -> None:
    folder(tmp_path / "a" / "dog", 0, count=40)
    folder(tmp_path / "b" / "cat", 40, count=20)
    folder(tmp_path / "b" / "dog", 60, count=20)
    audited(tmp_path / "a", tmp_path / "b", controls=False)
    table = ScoreTable.read(tmp_path / "bias.parquet")
    assert table.provenance is not None
    assert table.provenance.class_names == ("cat", "dog")
    assert set(table.integers("label")[[name == "a" for name in table.strings("source")]].tolist()) == {1}
    prune.run(
        prune.Config(scores=tmp_path / "bias.parquet", out=tmp_path / "m.parquet", keep=Keep.parse("1.0")),
        Silent(),
    )
    manifest = Manifest.read(tmp_path / "m.parquet")
    for name in ("a", "b"):
        part = manifest.source(name)
        dataset = part.dataset()
        assert part.labels.tolist() == dataset.labels[part.indices()].tolist()
        assert len(part.subset([(None, int(label)) for label in dataset.labels])) == 40  # type: ignore[arg-type]
