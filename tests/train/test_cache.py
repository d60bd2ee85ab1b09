"""Decoded images on disk: decoded once, found again, never trusted unseen, and nothing left behind."""

from __future__ import annotations

import errno
import fcntl
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from dataset_audit.errors import EnvironmentProblem
from dataset_audit.images import opened
from dataset_audit.images.dataset import open_dataset
from dataset_audit.images.decode import Limits
from dataset_audit.images.opened import ImageDataset
from dataset_audit.images.scan import Scan
from dataset_audit.progress import Silent
from dataset_audit.train import cache as caching
from dataset_audit.train.batches import Images, Mapped, Resident, Streaming, told
from dataset_audit.train.cache import Cache, Plan
from dataset_audit.train.hold import Holding, hold

CPU = torch.device("cpu")
N = 12


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    root = tmp_path / "photos"
    for index in range(N):
        draw(root, index, index)
    return root


def draw(root: Path, index: int, seed: int) -> None:
    path = root / "ab"[index % 2] / f"{index:02}.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (20, 24, 3), dtype=np.uint8)).save(path)


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """Everything that is decoded, in the order in which it is."""
    seen: list[bytes] = []
    original = opened.decode
    monkeypatch.setattr(
        opened, "decode", lambda data, *rest, **named: seen.append(data) or original(data, *rest, **named)
    )
    return seen


def held(
    dataset: Path | ImageDataset, progress: Silent | None = None, **settings: Any
) -> tuple[Images, Scan]:
    opened = dataset if isinstance(dataset, ImageDataset) else open_dataset(dataset)
    holding = Holding(**{"size": (16, 16), "resident": "no", "workers": 2, **settings})
    return hold(opened, holding, device=CPU, progress=progress or Silent())


def pixels(images: Images, rows: list[int] | None = None) -> np.ndarray:
    order = np.arange(N) if rows is None else np.array(rows)
    return np.concatenate([batch.numpy() for _, batch in images.epoch(order, [len(order)])])


def facts(found: Scan) -> tuple[object, ...]:
    return found.uid, found.status, found.error, found.fingerprint


# -- while the command runs ------------------------------------------------------------------------------------


def test_images_that_are_not_resident_are_decoded_once_for_all_epochs(
    photos: Path, tmp_path: Path, decoded: list[bytes]
) -> None:
    images, found = held(photos, work=tmp_path)
    assert isinstance(images, Mapped)
    assert len(decoded) == N
    streamed, same = held(photos)
    assert isinstance(streamed, Streaming)
    assert facts(found) == facts(same)
    before = len(decoded)
    for rows in ([3, 1, 2], list(range(N))):
        assert np.array_equal(pixels(images, rows), pixels(streamed, rows))
    assert len(decoded) == before + 3 + N, "only the streamed ones are decoded again"


def test_the_file_has_no_name_and_is_gone_with_the_images(photos: Path, tmp_path: Path) -> None:
    work = tmp_path / "work"
    work.mkdir()
    images, _ = held(photos, work=work)
    assert list(work.iterdir()) == []
    assert pixels(images).any()


def test_a_folder_that_is_not_there_yet_is_not_made(photos: Path, tmp_path: Path) -> None:
    images, _ = held(photos, work=tmp_path / "later" / "runs")
    assert isinstance(images, Mapped)
    assert not (tmp_path / "later").exists()


@pytest.mark.parametrize("reason", ["no room", "memory", "read-only", "--cache no"])
def test_where_no_file_can_be_images_are_decoded_in_each_epoch(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reason: str
) -> None:
    if reason == "no room":
        monkeypatch.setattr(caching, "MARGIN", 1.1)
    if reason == "memory":
        monkeypatch.setattr(caching, "_in_memory", lambda folder: True)
    if reason == "read-only":
        monkeypatch.setattr(caching.os, "access", lambda path, mode: False)
    images, _ = held(photos, work=tmp_path, cache="no" if reason == "--cache no" else "auto")
    assert isinstance(images, Streaming)


def test_a_disk_that_fills_up_is_told_before_anything_is_mapped(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(handle: int, start: int, length: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(caching.os, "posix_fallocate", full)
    with pytest.raises(EnvironmentProblem, match="No space left"):
        held(photos, cache=tmp_path / "kept")
    assert list((tmp_path / "kept").iterdir()) == []


@pytest.mark.parametrize("number", [errno.EFBIG, errno.EDQUOT, errno.ENOSPC])
def test_a_file_nobody_asked_for_that_cannot_be_claimed_is_gone_without(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def refused(handle: int, start: int, length: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(caching.os, "posix_fallocate", refused)
    images, _ = held(photos, work=tmp_path)
    assert told(images) == "decoded in each epoch"
    assert pixels(images).any()


def test_what_others_claim_at_the_same_time_is_not_taken_from_the_tenth_left_free(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Processes of one machine all ask whether there is room before any of them has claimed its own."""
    claim, kept = os.posix_fallocate, tmp_path / "kept"

    def together(handle: int, start: int, length: int) -> None:
        claim(handle, start, length)
        monkeypatch.setattr(caching, "MARGIN", 1.1)

    monkeypatch.setattr(caching.os, "posix_fallocate", together)
    assert isinstance(held(photos, work=tmp_path)[0], Streaming)
    monkeypatch.setattr(caching, "MARGIN", 0.0)
    with pytest.raises(EnvironmentProblem, match="No space left"):
        held(photos, cache=kept)
    assert list(kept.iterdir()) == []


def test_what_lies_in_memory_is_no_disk() -> None:
    if Path("/dev/shm").is_dir():
        assert caching._in_memory(Path("/dev/shm"))
    assert not caching._in_memory(Path("/proc"))


# -- kept for later runs ---------------------------------------------------------------------------------------


def test_a_later_run_decodes_nothing_and_hashes_everything(
    photos: Path, tmp_path: Path, decoded: list[bytes]
) -> None:
    first, found = held(photos, cache=tmp_path / "kept")
    assert len(decoded) == N
    progress = Told()
    second, same = held(photos, progress, cache=tmp_path / "kept")
    assert len(decoded) == N
    assert facts(found) == facts(same)
    assert np.array_equal(pixels(first), pixels(second))
    assert [path.suffix for path in (tmp_path / "kept").iterdir()] == [".pixels"]
    assert progress.notes[0].startswith("12 of 12 images as decoded before: ")


class Told(Silent):
    def __init__(self) -> None:
        super().__init__()
        self.notes: list[str] = []

    def note(self, text: str) -> None:
        self.notes.append(text)


def test_resident_images_come_from_it_too(photos: Path, tmp_path: Path, decoded: list[bytes]) -> None:
    plain, _ = held(photos, resident="yes")
    assert isinstance(plain, Resident)
    for _ in range(2):
        images, _ = held(photos, resident="yes", cache=tmp_path / "kept")
        assert np.array_equal(pixels(images), pixels(plain))
    assert len(decoded) == 2 * N


def test_an_image_that_changed_is_decoded_again_and_only_that(
    photos: Path, tmp_path: Path, decoded: list[bytes]
) -> None:
    held(photos, cache=tmp_path / "kept")
    draw(photos, 4, 99)
    for again in (1, 0):
        decoded.clear()
        images, found = held(photos, cache=tmp_path / "kept")
        assert len(decoded) == again
        assert np.array_equal(pixels(images), pixels(held(photos)[0]))
        assert found.uid == held(photos)[1].uid


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=8)
@given(st.data())
def test_damage_anywhere_in_the_file_never_reaches_the_pixels(
    photos: Path, tmp_path: Path, data: st.DataObject
) -> None:
    folder = tmp_path / "kept"
    held(photos, cache=folder)
    (file,) = folder.iterdir()
    whole = bytearray(file.read_bytes())
    for _ in range(data.draw(st.integers(1, 3))):
        whole[data.draw(st.integers(0, len(whole) - 1))] ^= data.draw(st.integers(1, 255))
    file.write_bytes(whole[: data.draw(st.just(len(whole)) | st.integers(0, len(whole)))])
    images, _ = held(photos, cache=folder)
    assert np.array_equal(pixels(images), pixels(held(photos)[0]))
    assert [path.suffix for path in folder.iterdir()] == [".pixels"]


def test_a_damaged_row_is_said_and_healed(photos: Path, tmp_path: Path, decoded: list[bytes]) -> None:
    held(photos, cache=tmp_path / "kept")
    (file,) = (tmp_path / "kept").iterdir()
    whole = bytearray(file.read_bytes())
    whole[5 * 16 * 16 * 3] ^= 1
    file.write_bytes(whole)
    for again in (1, 0):
        decoded.clear()
        progress = Silent()
        held(photos, progress, cache=tmp_path / "kept")
        assert len(decoded) == again
        assert [id_ for id_, _ in progress.warnings] == ["W-cache"] * again


def test_a_pass_that_is_broken_off_loses_nothing(
    photos: Path, tmp_path: Path, decoded: list[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    original = Cache.keep
    with monkeypatch.context() as patched:

        def keep(self: Cache, index: int, pixels: np.ndarray) -> None:
            if index == 7:
                raise KeyboardInterrupt
            original(self, index, pixels)

        patched.setattr(Cache, "keep", keep)
        with pytest.raises(KeyboardInterrupt):
            held(photos, cache=tmp_path / "kept", workers=1)
    done = len(decoded) - 1
    assert done == 7
    decoded.clear()
    images, _ = held(photos, cache=tmp_path / "kept")
    assert len(decoded) == N - done
    assert np.array_equal(pixels(images), pixels(held(photos)[0]))


def test_a_refill_that_is_broken_off_loses_nothing_and_keeps_no_damage(
    photos: Path, tmp_path: Path, decoded: list[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    held(photos, cache=tmp_path / "kept")
    (file,) = (tmp_path / "kept").iterdir()
    whole = bytearray(file.read_bytes())
    whole[3 * 16 * 16 * 3] ^= 1
    file.write_bytes(whole)
    names = open_dataset(photos).file_names
    assert names is not None
    (photos / names[0]).write_bytes((photos / names[1]).read_bytes())
    keep = Cache.keep

    def stopped(self: Cache, index: int, pixels: np.ndarray) -> None:
        if index == 3:
            raise KeyboardInterrupt
        keep(self, index, pixels)

    with monkeypatch.context() as patched:
        patched.setattr(Cache, "keep", stopped)
        with pytest.raises(KeyboardInterrupt):
            held(photos, cache=tmp_path / "kept", workers=1)
    decoded.clear()
    progress = Told()
    images, _ = held(photos, progress, cache=tmp_path / "kept")
    assert len(decoded) == 1, "row 3 alone: row 0 was decoded, the others were there"
    assert progress.notes[0].startswith("11 of 12 images as decoded before: ")
    assert progress.warnings == [], "row 3 was left out, not carried along"
    assert np.array_equal(pixels(images), pixels(held(photos)[0]))


def test_unreadable_and_excluded_rows_stay_what_they_are(photos: Path, tmp_path: Path) -> None:
    (photos / "a" / "02.png").write_bytes(b"no image")
    exclude = np.arange(N) == 3
    for _ in range(2):
        images, found = held(photos, cache=tmp_path / "kept", exclude=exclude)
        rows = np.flatnonzero([status != "ok" for status in found.status])
        assert len(rows) == 2
        assert not pixels(images, rows.tolist()).any()
        assert pixels(images, np.flatnonzero(found.ok).tolist()).any(axis=(1, 2, 3)).all()


def test_an_image_beyond_the_limits_is_refused_though_its_pixels_are_there(
    photos: Path, tmp_path: Path
) -> None:
    held(photos, cache=tmp_path / "kept")
    found = held(open_dataset(photos, limits=Limits(max_pixels=100)), cache=tmp_path / "kept")[1]
    assert set(found.status) == {"too_large"}


def test_what_is_decoded_otherwise_is_another_file(photos: Path, tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    held(photos, cache=kept)
    held(photos, cache=kept, size=(8, 8))
    held(open_dataset(photos, limits=Limits(background=(0, 0, 0))), cache=kept)
    held(open_dataset(f"files:{photos}"), cache=kept)
    assert len(list(kept.iterdir())) == 4


def test_a_folder_without_room_is_refused_when_it_is_asked_for(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(caching, "MARGIN", 1.1)
    with pytest.raises(EnvironmentProblem, match="has not that much to spare"):
        held(photos, cache=tmp_path / "kept")


def test_temporary_files_of_killed_runs_are_removed_and_those_of_living_ones_are_not(tmp_path: Path) -> None:
    plan = Plan(folder=tmp_path, kept=True, shape=(2, 4, 4, 3), name="photos", made={})
    dead, alive = (tmp_path / f".{plan.path.name}.{name}.tmp" for name in ("dead", "alive"))
    dead.touch()
    with alive.open("wb") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        with Cache(plan).filling():
            pass
        assert sorted(path.name for path in tmp_path.iterdir()) == [alive.name], "nothing kept, nothing left"


def test_arrays_are_never_put_on_disk(tmp_path: Path) -> None:
    np.savez(tmp_path / "set.npz", images=np.zeros((4, 8, 8, 3), np.uint8), labels=np.arange(4))
    images, _ = held(tmp_path / "set.npz", cache=tmp_path / "kept")
    assert isinstance(images, Streaming)
    assert not (tmp_path / "kept").exists()
