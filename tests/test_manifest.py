"""The manifest in a training loop: aligned columns, samplers, subsets, and the checks before it is trained on."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms
from torchvision.datasets import ImageFolder

from dataset_audit.commands import prune
from dataset_audit.errors import DataError, MismatchError, UsageError
from dataset_audit.images.dataset import open_dataset
from dataset_audit.images.scan import scan
from dataset_audit.manifest import Manifest
from dataset_audit.progress import Silent
from dataset_audit.select.budget import Keep
from dataset_audit.tables import sidecar
from dataset_audit.tables.provenance import Origin, Provenance
from dataset_audit.tables.scores import ScoreTable


def photos(root: Path) -> Path:
    rng = np.random.default_rng(0)
    for i in range(24):
        path = root / ("cat", "dog")[i % 2] / f"{i:02}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (6, 6, 3), dtype=np.uint8)).save(path)
    return root


def manifest_of(
    root: Path, spec: str, folder: Path, *, keep: str = "0.5", labels: np.ndarray | None = None
) -> Path:
    dataset = open_dataset(spec)
    found = scan(dataset, workers=1, memory=2**30, progress=Silent())
    n = len(dataset)
    data = {
        "index": np.arange(n), "uid": found.uid, "label": np.asarray(dataset.labels) if labels is None else labels,
        "status": found.status, "presentations": np.full(n, 2), "forgetting": np.arange(n, dtype=np.float32) % 7,
    }  # fmt: skip
    if dataset.file_names is not None:
        data["file_name"] = list(dataset.file_names)
    origin = Provenance(spec=spec, fingerprint=found.fingerprint, n=n, class_names=tuple(dataset.class_names))
    scores, out = folder / "scores.parquet", folder / "manifest.parquet"
    ScoreTable.of(data, origin).write(
        scores, document=sidecar.document("scores", scores, rows=n, config={}, facts={})
    )
    prune.run(
        prune.Config(scores=scores, out=out, keep=Keep.parse(keep), policy="hardest", force=True), Silent()
    )
    return out


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return photos(tmp_path / "photos")


@pytest.fixture
def manifest(tmp_path: Path, folder: Path) -> Manifest:
    return Manifest.read(manifest_of(tmp_path, str(folder), tmp_path))


def test_indices_weights_uids_labels_and_names_are_aligned(manifest: Manifest, folder: Path) -> None:
    dataset = open_dataset(str(folder))
    found = scan(dataset, workers=1, memory=2**30, progress=Silent())
    indices = manifest.indices()
    assert len(manifest) == len(indices) == 12
    assert indices.tolist() == sorted(set(indices.tolist()))
    assert manifest.weights.tolist() == [1.0] * 12
    assert manifest.uids == [found.uid[i] for i in indices]
    assert manifest.labels.tolist() == dataset.labels[indices].tolist()
    assert manifest.file_names() == [dataset.file_names[i] for i in indices]  # type: ignore[index]
    assert manifest.class_names == ("cat", "dog")


def test_torch_yields_the_kept_images_and_labels_also_in_worker_processes(
    manifest: Manifest, folder: Path
) -> None:
    data = manifest.torch(transform=transforms.ToTensor(), target_transform=lambda label: label + 10)
    dataset = open_dataset(str(folder))
    image, label = data[3]
    index = int(manifest.indices()[3])
    assert torch.equal(
        (image * 255).round().to(torch.uint8), torch.from_numpy(dataset.pixels(index)).permute(2, 0, 1)
    )
    assert label == dataset.labels[index] + 10
    plain = manifest.torch(transform=transforms.ToTensor())
    assert pickle.loads(pickle.dumps(plain))[3][1] == dataset.labels[index]
    batches = list(DataLoader(plain, batch_size=5, num_workers=1))  # type: ignore[arg-type,var-annotated]
    assert [len(labels) for _, labels in batches] == [5, 5, 2]


def test_subset_of_somebodys_image_folder_shows_the_same_examples(manifest: Manifest, folder: Path) -> None:
    theirs = ImageFolder(str(folder), transform=transforms.ToTensor())
    subset = manifest.subset(theirs)
    ours = manifest.torch(transform=transforms.ToTensor())
    assert len(subset) == len(ours)
    for position in range(len(ours)):
        assert torch.equal(subset[position][0], ours[position][0])
        assert subset[position][1] == ours[position][1]


class Other(Dataset[int]):
    def __init__(self, targets: list[int]) -> None:
        self.targets = targets

    def __len__(self) -> int:
        return len(self.targets)

    def __getitem__(self, index: int) -> int:
        return index


def test_a_subset_of_another_data_set_is_refused(manifest: Manifest) -> None:
    with pytest.raises(MismatchError, match="made for 24 examples, this data set has 9"):
        manifest.subset(Other([0] * 9))
    with pytest.raises(MismatchError, match="labels differ") as raised:
        manifest.subset(Other([0] * 24))
    assert "in the manifest, 0 here" in raised.value.where


def test_the_sampler_covers_the_kept_indices_in_another_order_each_epoch(manifest: Manifest) -> None:
    sampler = manifest.sampler(seed=3)
    first, again = list(sampler), list(sampler)
    sampler.set_epoch(1)
    second = list(sampler)
    assert first == again != second
    assert sorted(first) == sorted(second) == manifest.indices().tolist()
    assert len(sampler) == 12
    assert list(manifest.sampler(seed=4)) != first


def test_an_unchanged_data_set_passes_every_check_also_from_another_place(
    manifest: Manifest, tmp_path: Path
) -> None:
    for verify in ("none", "sample", "all"):
        manifest.check(verify)  # type: ignore[arg-type]
    moved = (tmp_path / "photos").rename(tmp_path / "elsewhere")
    Manifest.read(manifest.path, root=moved).check("all")


def test_a_changed_image_is_found_and_named(manifest: Manifest, folder: Path) -> None:
    names = manifest.file_names()[:4]
    for name in names:
        Image.new("RGB", (6, 6), (1, 2, 3)).save(folder / name)
    with pytest.raises(MismatchError) as raised:
        manifest.check("all")
    assert all(name in raised.value.where for name in names[:3])
    assert names[3] not in raised.value.where
    with pytest.raises(MismatchError):
        manifest.torch()
    manifest.torch(verify="none")


def test_an_added_image_is_found_by_count(manifest: Manifest, folder: Path) -> None:
    Image.new("RGB", (6, 6)).save(folder / "cat" / "new.png")
    with pytest.raises(MismatchError, match=r"made for 24 examples, .* has 25"):
        manifest.check("none")


def test_an_array_data_set_has_indices_but_no_names(tmp_path: Path) -> None:
    manifest = Manifest.read(manifest_of(tmp_path, "digits", tmp_path, keep="0.1"))
    manifest.check("all")
    image, label = manifest.torch()[0]
    assert image.mode == "L"
    assert label == manifest.labels[0]
    with pytest.raises(UsageError, match="no file names"):
        manifest.file_names()


def test_labels_that_scoring_trained_on_are_the_manifest_s(tmp_path: Path, folder: Path) -> None:
    noisy = 1 - np.asarray(open_dataset(str(folder)).labels)
    manifest = Manifest.read(manifest_of(tmp_path, str(folder), tmp_path, labels=noisy))
    assert [label for _, label in (manifest.torch()[i] for i in range(12))] == noisy[
        manifest.indices()
    ].tolist()


def test_a_damaged_manifest_is_refused(manifest: Manifest) -> None:
    data = bytearray(manifest.path.read_bytes())
    data[len(data) // 2] ^= 1
    manifest.path.write_bytes(data)
    with pytest.raises(DataError, match="does not have the hash"):
        Manifest.read(manifest.path)


def test_a_score_table_is_no_manifest(tmp_path: Path, manifest: Manifest) -> None:
    with pytest.raises(MismatchError):
        Manifest.read(tmp_path / "scores.parquet")
    with pytest.raises(UsageError, match="There is no"):
        Manifest.read(tmp_path / "absent.parquet")


def test_a_manifest_opens_its_data_set_as_scoring_did(tmp_path: Path, folder: Path) -> None:
    for i, split in enumerate(("train", "val")):
        photos(tmp_path / "splits" / split)
        Image.new("RGB", (6, 6), (i, i, i)).save(tmp_path / "splits" / split / "cat" / "extra.png")
    spec = str(tmp_path / "splits")
    dataset = open_dataset(spec, split="val")
    found = scan(dataset, workers=1, memory=2**30, progress=Silent())
    n = len(dataset)
    origin = Provenance(
        spec=spec,
        fingerprint=found.fingerprint,
        n=n,
        class_names=dataset.class_names,
        opened={"split": "val"},
    )
    data = {"index": np.arange(n), "uid": found.uid, "forgetting": np.zeros(n, np.float32)}
    scores = tmp_path / "scores.parquet"
    ScoreTable.of(data, origin).write(
        scores, document=sidecar.document("scores", scores, rows=n, config={}, facts={})
    )
    out = tmp_path / "manifest.parquet"
    prune.run(prune.Config(scores=scores, out=out, keep=Keep.parse("1.0"), force=True), Silent())
    Manifest.read(out).check("all")


def of_two(folder: Path) -> Manifest:
    """The manifest of two folders, one of them split, written in the order zoo, ant."""
    photos(folder / "zoo")
    for split in ("train", "val"):
        photos(folder / "ant" / split)
    Image.new("RGB", (6, 6), (9, 9, 9)).save(folder / "ant" / "val" / "cat" / "extra.png")
    specs = {"zoo": (str(folder / "zoo"), None), "ant": (str(folder / "ant"), "val")}
    origins, columns = [], {"source": [], "index": [], "uid": [], "label": [], "file_name": []}
    for name, (spec, split) in specs.items():
        dataset = open_dataset(spec, split=split)
        n = len(dataset)
        origins.append(Origin(name=name, spec=spec, n=n, opened={"split": split}))
        columns["source"] += [name] * n
        columns["index"] += range(n)
        columns["uid"] += scan(dataset, workers=1, memory=2**30, progress=Silent()).uid
        columns["label"] += dataset.labels.tolist()
        columns["file_name"] += list(dataset.file_names or ())
    total = len(columns["index"])
    origin = Provenance(
        spec="", fingerprint="f" * 64, n=total, class_names=("cat", "dog"), sources=tuple(origins),
    )  # fmt: skip
    data = {**columns, "index": np.array(columns["index"]), "label": np.array(columns["label"])}
    data["typicality"] = np.arange(total)[::-1].astype(np.float32) % 17
    scores, out = folder / "bias.parquet", folder / "manifest.parquet"
    ScoreTable.of(data, origin).write(
        scores, document=sidecar.document("bias", scores, rows=total, config={}, facts={}), format_name="bias"
    )
    config = prune.Config(
        scores=scores, out=out, keep=Keep.parse("0.5"), policy="hardest", by=("typicality",)
    )
    prune.run(config, Silent())
    return Manifest.read(out)


def test_a_manifest_of_several_data_sets_is_one_manifest_per_source(tmp_path: Path) -> None:
    both = of_two(tmp_path)
    assert both.sources == ("zoo", "ant")
    zoo, ant = both.source("zoo"), both.source("ant")
    assert zoo.sources == ant.sources == ()
    assert len(both) == len(zoo) + len(ant) == 25  # half of 49
    for part in (zoo, ant):
        indices = part.indices().tolist()
        assert indices == sorted(set(indices))
        part.check("all")
    assert both.indices().tolist() == zoo.indices().tolist() + ant.indices().tolist()
    assert both.uids == zoo.uids + ant.uids
    assert both.file_names() == zoo.file_names() + ant.file_names()


def test_each_source_is_opened_as_it_was_when_the_table_was_made(tmp_path: Path) -> None:
    both = of_two(tmp_path)
    assert len(both.source("zoo").dataset()) == 24
    ant = both.source("ant").dataset()
    assert len(ant) == 25  # of the split val, with its extra picture
    part = both.source("ant")
    assert part.file_names() == [(ant.file_names or ())[index] for index in part.indices()]
    image, label = part.torch()[0]
    assert np.array_equal(np.asarray(image), ant.pixels(int(part.indices()[0])))
    assert label == ant.labels[part.indices()[0]]


def test_a_source_whose_pictures_changed_is_refused_and_the_other_is_not(tmp_path: Path) -> None:
    both = of_two(tmp_path)
    changed = both.source("zoo").file_names()[2]
    Image.new("RGB", (6, 6), (1, 2, 3)).save(tmp_path / "zoo" / changed)
    with pytest.raises(MismatchError) as caught:
        both.source("zoo").check("all")
    assert changed in caught.value.where
    both.source("ant").check("all")
    (tmp_path / "ant" / "val" / "cat" / "extra.png").unlink()
    with pytest.raises(MismatchError, match="was made for 25 examples"):
        both.source("ant").check("none")


def test_several_data_sets_cannot_be_opened_as_one(tmp_path: Path) -> None:
    both = of_two(tmp_path)
    for call in (both.dataset, both.check, both.torch):
        with pytest.raises(UsageError, match="is about 2 data sets") as caught:
            call()
        assert caught.value.where == "zoo, ant"
        assert "source(name)" in caught.value.do


def test_a_source_that_is_not_there_is_named_with_those_that_are(tmp_path: Path, manifest: Manifest) -> None:
    with pytest.raises(UsageError, match="no source 'cow'") as caught:
        of_two(tmp_path / "two").source("cow")
    assert caught.value.where == "zoo, ant"
    with pytest.raises(UsageError) as caught:
        manifest.source("cow")
    assert caught.value.where == "it is of one data set"
    assert manifest.sources == ()
