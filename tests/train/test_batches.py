"""Holding images: however they are held, the same pixels in the same order; sizes and statistics are defined."""

from __future__ import annotations

import io
import threading
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
import torch
from PIL import Image

from dataset_audit.errors import DataError, EnvironmentProblem
from dataset_audit.images import scan as scanning
from dataset_audit.images.dataset import open_dataset
from dataset_audit.progress import Silent
from dataset_audit.train.batches import Mapped, Resident, Streaming, fit_to, reduced, told
from dataset_audit.train.hold import Holding, free_memory, hold, native_size, statistics

CPU = torch.device("cpu")


def folder(
    root: Path, *, sizes: tuple[tuple[int, int], ...] = ((20, 20),), n: int = 30, kind: str = "png"
) -> Path:
    rng = np.random.default_rng(0)
    for i in range(n):
        height, width = sizes[i % len(sizes)]
        pixels = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
        path = root / ("cat" if i % 2 else "dog") / f"{i:03}.{kind}"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path)
    return root


@pytest.mark.parametrize("sizes", [((20, 20),), ((30, 50), (64, 20), (9, 9))])
@pytest.mark.parametrize("kind", ["png", "jpg"])
def test_streamed_and_mapped_and_resident_give_the_same_pixels_in_the_same_order(
    tmp_path: Path, sizes: tuple[tuple[int, int], ...], kind: str
) -> None:
    dataset = open_dataset(folder(tmp_path / "set", sizes=sizes, kind=kind))
    resident, streamed, mapped = (
        hold(
            dataset, Holding(size=(16, 16), resident=how, workers=3, work=work), device=CPU, progress=Silent()
        )[0]
        for how, work in (("yes", None), ("no", None), ("no", tmp_path))
    )
    assert isinstance(resident, Resident)
    assert isinstance(streamed, Streaming)
    assert isinstance(mapped, Mapped)
    order, lengths = np.random.default_rng(1).permutation(30), [13, 13, 0, 4]
    for other in (streamed, mapped):
        pairs = zip(resident.epoch(order, lengths), other.epoch(order, lengths), strict=True)
        for (indices, pixels), (same_indices, same_pixels) in pairs:
            assert torch.equal(indices, same_indices)
            assert torch.equal(pixels, same_pixels)


def test_where_images_are_is_told_in_a_few_words(tmp_path: Path) -> None:
    dataset = open_dataset(folder(tmp_path))
    said = [
        told(hold(dataset, Holding(resident=how, work=work), device=CPU, progress=Silent())[0])
        for how, work in (("yes", None), ("no", None), ("no", tmp_path))
    ]
    assert said == ["resident 0 MB", "decoded in each epoch", "decoded once, 0 MB on disk"]


def test_a_consumer_that_stops_early_leaves_no_thread_behind(tmp_path: Path) -> None:
    dataset = open_dataset(folder(tmp_path))
    images, _ = hold(dataset, Holding(size=(16, 16), resident="no"), device=CPU, progress=Silent())
    batches = images.epoch(np.arange(30), [1] * 30)
    next(iter(batches))
    batches.close()  # type: ignore[attr-defined]  # it is a generator
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("decode")]


def waves(height: int, width: int) -> np.ndarray:
    """A picture as smooth as a photograph, with some noise."""
    y, x = np.mgrid[:height, :width]
    smooth = np.stack([np.sin(x / 40 + c) + np.cos(y / 30 - c) for c in range(3)], axis=2) * 50 + 128
    return np.clip(smooth + np.random.default_rng(0).normal(0, 6, smooth.shape), 0, 255).astype(np.uint8)


@pytest.mark.parametrize(
    ("shape", "size", "decoded"),
    [
        ((480, 640), (64, 64), (240, 320)),  # a quarter would leave 120, less than twice 64
        ((480, 640), (60, 60), (120, 160)),
        ((480, 640), (30, 60), (120, 160)),  # the longer side of the target counts
        ((480, 640), (30, 30), (60, 80)),
        ((480, 640), (8, 8), (60, 80)),  # an eighth is the least
        ((100, 640), (64, 64), (100, 640)),
    ],
)
def test_a_jpeg_is_decoded_no_smaller_than_twice_the_training_size(
    tmp_path: Path, shape: tuple[int, int], size: tuple[int, int], decoded: tuple[int, int]
) -> None:
    (tmp_path / "a").mkdir()
    Image.fromarray(waves(*shape)).save(tmp_path / "a" / "1.jpg", quality=95)
    dataset = open_dataset(tmp_path)
    small = reduced(dataset, size)
    assert small.pixels(0).shape[:2] == decoded
    assert min(decoded) >= min(2 * max(size), *shape)
    exact, quick = (fit_to(each.pixels(0), size).astype(int) for each in (dataset, small))
    assert np.abs(exact - quick).mean() < 1.5


def test_automatic_holding_follows_the_memory_it_is_given(tmp_path: Path) -> None:
    dataset = open_dataset(folder(tmp_path))
    small, large = (
        hold(dataset, Holding(size=(16, 16), memory=memory), device=CPU, progress=Silent())[0]
        for memory in (20_000, 10**8)
    )
    assert isinstance(small, Streaming)
    assert isinstance(large, Resident)


def test_resident_images_that_cannot_fit_are_refused_when_demanded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dataset_audit.train.hold.free_memory", lambda device: 1000)
    with pytest.raises(EnvironmentProblem, match="Resident images take"):
        hold(open_dataset(folder(tmp_path)), Holding(resident="yes"), device=CPU, progress=Silent())


def test_processes_of_one_machine_share_its_memory_and_not_their_gpus(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (1000, 2000))
    alone = free_memory(CPU)
    told = {"RANK": "5", "WORLD_SIZE": "8", "MASTER_ADDR": "there", "MASTER_PORT": "1"}
    for name, value in {**told, "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "4"}.items():
        monkeypatch.setenv(name, value)
    assert free_memory(CPU) == pytest.approx(alone / 4, rel=0.2)  # others of the machine take and give back
    assert free_memory(torch.device("cuda")) == 1000


def test_an_image_that_breaks_between_the_pass_and_the_epoch_is_named(tmp_path: Path) -> None:
    dataset = open_dataset(folder(tmp_path))
    images, _ = hold(dataset, Holding(size=(16, 16), resident="no"), device=CPU, progress=Silent())
    (tmp_path / "cat" / "001.png").write_bytes(b"gone")
    with pytest.raises(DataError, match=r"cat/001\.png"):
        list(images.epoch(np.arange(30), [30]))


def test_small_uniform_images_keep_their_size_and_others_get_a_default(tmp_path: Path) -> None:
    assert native_size(open_dataset(folder(tmp_path / "a", sizes=((20, 24),))), gpu=False) == (20, 24)
    assert native_size(open_dataset(folder(tmp_path / "b", sizes=((20, 24), (24, 20)))), gpu=False) == (
        64,
        64,
    )
    assert native_size(open_dataset(folder(tmp_path / "c", sizes=((200, 200),), n=4)), gpu=True) == (224, 224)


@pytest.mark.parametrize("shape", [(10, 10), (1, 1), (1, 300), (300, 1), (37, 91), (500, 20)])
def test_any_shape_fits_and_a_flat_image_stays_flat(shape: tuple[int, int]) -> None:
    fitted = fit_to(np.full((*shape, 3), 77, dtype=np.uint8), (16, 16))
    assert fitted.shape == (16, 16, 3)
    assert (fitted == 77).all()


def test_fitting_takes_the_centre(tmp_path: Path) -> None:
    pixels = np.zeros((10, 30, 1), dtype=np.uint8)
    pixels[:, 10:20] = 200
    assert (fit_to(pixels, (10, 10)) == 200).all()


def test_statistics_are_those_of_the_chosen_rows() -> None:
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (40, 6, 6, 3), dtype=np.uint8)
    pixels[..., 2] = 9  # a channel that never varies
    mean, std = statistics(Resident(torch.from_numpy(pixels)), np.arange(0, 40, 2))
    wanted = pixels[::2].reshape(-1, 3) / 255
    assert np.allclose(mean, wanted.mean(0), atol=1e-6)
    assert np.allclose(std, [*wanted.std(0)[:2], 1.0], atol=1e-6)


def test_parquet_with_a_bad_row_keeps_every_other_row_in_place(tmp_path: Path) -> None:
    root = folder(tmp_path)
    good = io.BytesIO()
    Image.fromarray(np.full((20, 20, 3), 5, dtype=np.uint8)).save(good, "PNG")
    (root / "cat" / "001.png").write_bytes(good.getvalue()[:40])
    dataset = open_dataset(root)
    images, found = hold(dataset, Holding(resident="yes"), device=CPU, progress=Silent())
    bad = [index for index, status in enumerate(found.status) if status != "ok"]
    assert [dataset.file_names[index] for index in bad] == ["cat/001.png"]  # type: ignore[index]
    for index in range(len(dataset)):
        if index not in bad:
            (_, pixels), *_ = images.epoch(np.array([index]), [1])
            assert np.array_equal(pixels[0].numpy(), dataset.pixels(index))


@pytest.mark.parametrize("how", ["yes", "no"])
def test_tiny_files_are_decoded_in_processes_to_the_same_pixels(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: Literal["yes", "no"]
) -> None:
    dataset = open_dataset(folder(tmp_path / "set", sizes=((20, 20), (9, 12))))
    holding = Holding(size=(16, 16), resident=how, workers=2, work=tmp_path)
    plain, found = hold(dataset, holding, device=CPU, progress=Silent())
    monkeypatch.setattr("dataset_audit.images.scan.MANY", 10)
    asked = []
    original = scanning.share_out
    monkeypatch.setattr(scanning, "share_out", lambda *rest, **named: asked.append(original(*rest, **named)))
    images, same = hold(dataset, holding, device=CPU, progress=Silent())
    assert len(asked) == 1
    assert found.uid == same.uid
    (_, wanted), (_, pixels) = (next(iter(each.epoch(np.arange(30), [30]))) for each in (plain, images))
    assert torch.equal(wanted, pixels)
