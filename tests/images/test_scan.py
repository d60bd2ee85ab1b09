"""The one pass over all bytes, and when it stops the command."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dataset_audit.errors import DataError, EnvironmentProblem
from dataset_audit.images import folders
from dataset_audit.images.bad_image import BadImage
from dataset_audit.images.dataset import open_dataset
from dataset_audit.images.decode import Limits, peak_bytes
from dataset_audit.images.identity import fingerprint, uid, uid_array
from dataset_audit.images.scan import ByteBudget, Scan, check_skipped, scan
from dataset_audit.progress import Silent

Tree = Callable[..., Path]
GB = 10**9


def run(dataset: Any, *, workers: int = 2, memory: int = GB, **options: Any) -> Scan:
    return scan(dataset, workers=workers, memory=memory, progress=Silent(), **options)


def test_every_example_is_hashed_decoded_and_kept_once(tree: Tree) -> None:
    dataset = open_dataset(tree("a/1.png", "a/2.jpg", "b/3.png"))
    kept: dict[int, Any] = {}
    found = run(dataset, keep=lambda index, pixels: kept.update({index: pixels}))
    assert found.status == ["ok", "unreadable", "ok"]
    assert found.error == [None, "not an image", None]
    assert found.uid == [uid(dataset.encoded(index)) for index in range(3)]
    assert found.ok.tolist() == [True, False, True]
    assert found.fingerprint == fingerprint(found.uid, dataset.labels, dataset.class_names)
    assert sorted(kept) == [0, 2]
    assert np.array_equal(kept[2], dataset.pixels(2))


def test_arrays_are_hashed_as_they_are() -> None:
    dataset = open_dataset("digits")
    found = run(dataset)
    assert dataset.array is not None
    assert found.uid[7] == uid_array(dataset.array[7]) == uid(dataset.encoded(7))
    assert found.ok.all()


@pytest.mark.parametrize("workers", [1, 2, 8])
def test_the_result_does_not_depend_on_the_number_of_threads(tree: Tree, workers: int) -> None:
    names = [f"{'abc'[number % 3]}/{number}.{'jpg' if number % 7 == 0 else 'png'}" for number in range(150)]
    dataset = open_dataset(tree(*names))
    first, other = run(dataset, workers=1), run(dataset, workers=workers)
    assert (first.uid, first.status, first.error) == (other.uid, other.status, other.error)
    assert first.fingerprint == other.fingerprint


def test_progress_counts_to_the_end(tree: Tree) -> None:
    told: list[int] = []

    class Told(Silent):
        def advance(self, done: int, **figures: float | str) -> None:
            told.append(done)

    scan(open_dataset(tree(*(f"a/{n}.png" for n in range(100)))), workers=2, memory=GB, progress=Told())
    assert told == sorted(told)
    assert told[-1] == 100


def test_what_a_worker_raises_ends_the_pass_p15(tree: Tree) -> None:
    dataset = open_dataset(tree(*(f"a/{number}.png" for number in range(500))))

    def fail(index: int, pixels: Any) -> None:
        if index in (40, 300):
            raise RuntimeError(f"at {index}")

    for workers in (1, 8):
        with pytest.raises(RuntimeError, match="at 40"):
            run(dataset, workers=workers, keep=fail)


def test_an_interrupt_ends_the_pass_soon(tree: Tree) -> None:
    dataset = open_dataset(tree(*(f"a/{number}.png" for number in range(2000))))
    seen: list[int] = []

    class Interrupting(Silent):
        def advance(self, done: int, **figures: float | str) -> None:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        scan(dataset, workers=2, memory=GB, progress=Interrupting(), keep=lambda index, _: seen.append(index))
    assert len(seen) < 1000


def test_excluded_examples_are_hashed_but_never_decoded_p16(
    tree: Tree, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset = open_dataset(tree("a/1.png", "a/2.png"))
    plain = run(dataset)
    decoded: list[bytes] = []
    original = type(dataset).decoded
    monkeypatch.setattr(
        type(dataset), "decoded", lambda self, data: decoded.append(data) or original(self, data)
    )
    found = run(dataset, exclude=np.array([True, False]))
    assert found.status == ["excluded", "ok"]
    assert decoded == [dataset.encoded(1)]
    assert found.fingerprint == plain.fingerprint


# -- memory ------------------------------------------------------------------------------------------------


def test_an_image_that_needs_more_than_there_is_becomes_a_row_p17(tree: Tree, draw: Any) -> None:
    root = tree("a/1.png")
    (root / "a" / "2.png").write_bytes(draw(kind="PNG", size=(500, 400)))
    dataset = open_dataset(root)
    found = run(dataset, memory=1_000_000)
    assert found.status == ["ok", "too_large"]
    assert found.error[1] == "too large: needs 6.4 MB to decode, --memory is 1.0 MB"


def test_what_is_decoded_at_one_time_never_exceeds_the_budget_i11() -> None:
    budget, held, most = ByteBudget(100), 0, 0
    lock = threading.Lock()

    def work(wanted: int) -> None:
        nonlocal held, most
        for _ in range(50):
            with budget.taken(wanted):
                with lock:
                    held += wanted
                    most = max(most, held)
                time.sleep(0)
                with lock:
                    held -= wanted

    threads = [threading.Thread(target=work, args=(wanted,)) for wanted in (100, 60, 50, 30, 10, 10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert not any(thread.is_alive() for thread in threads)
    assert 60 <= most <= 100


def test_the_budget_is_given_back_when_decoding_fails() -> None:
    budget = ByteBudget(10)
    for _ in range(3):
        with pytest.raises(BadImage), budget.taken(10):
            raise BadImage("unreadable", "broken: x")
    with pytest.raises(BadImage, match="--memory"), budget.taken(11):
        pass


def test_small_bombs_pass_one_at_a_time_in_little_memory_i11(tree: Tree, draw: Any) -> None:
    root = tree("a/")
    data = draw(kind="WEBP", size=(600, 500))
    for number in range(8):
        (root / "a" / f"{number}.webp").write_bytes(data)
    found = run(open_dataset(root), workers=8, memory=int(1.5 * peak_bytes(data)))
    assert found.ok.all()


# -- files that change -------------------------------------------------------------------------------------


def test_a_file_that_vanished_is_a_row_i25(tree: Tree) -> None:
    root = tree("a/1.png", "a/2.png")
    dataset = open_dataset(root)
    (root / "a" / "1.png").unlink()
    found = run(dataset)
    assert found.status == ["unreadable", "ok"]
    assert str(found.error[0]).startswith("vanished: ")
    assert found.uid[0] is None


def test_what_is_hashed_is_what_is_decoded_i25(
    tree: Tree, draw: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tree("a/1.png")
    dataset = open_dataset(root)
    reads: list[bytes] = []
    kept: list[Any] = []
    original = folders.read_file

    def replaced(path: Any, most: int) -> bytes:
        reads.append(original(path, most))
        (root / "a" / "1.png").write_bytes(draw(50 + len(reads), size=(9, 9)))
        return reads[-1]

    monkeypatch.setattr(folders, "read_file", replaced)
    found = run(dataset, keep=lambda _, pixels: kept.append(pixels))
    assert len(reads) == 1
    assert found.uid == [uid(reads[0])]
    assert [pixels.shape for pixels in kept] == [(6, 8, 3)]


def test_a_file_above_the_size_limit_is_not_read(tree: Tree) -> None:
    root = tree("a/1.png")
    with (root / "a" / "2.png").open("wb") as file:
        file.truncate(10**11)
    found = run(open_dataset(root, limits=Limits(max_file_bytes=10**6)))
    assert found.status == ["ok", "too_large"]
    assert found.uid[1] is None


def refusing(monkeypatch: pytest.MonkeyPatch, ending: bytes) -> None:
    original = os.open

    def refuse(path: Any, flags: int, *rest: Any, **named: Any) -> int:
        if os.fsencode(path).endswith(ending):
            raise PermissionError(13, "Permission denied")
        return original(path, flags, *rest, **named)

    monkeypatch.setattr(folders.os, "open", refuse)


def test_a_file_that_may_not_be_read_is_a_row_and_beyond_the_limit_exit_4_i27(
    tree: Tree, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset = open_dataset(tree("a/1.png", "a/2.png", "a/3.png"))
    refusing(monkeypatch, b"2.png")
    found = run(dataset)
    assert found.error[1] == "unreadable: Permission denied"
    check_skipped(found, 0.5)
    with pytest.raises(EnvironmentProblem, match="1 unreadable") as error:
        check_skipped(found, 0.01)
    assert error.value.exit_code == 4


# -- how many may be bad -----------------------------------------------------------------------------------


def made(bad: int, total: int, error: str = "truncated: x") -> Scan:
    status = ["unreadable"] * bad + ["ok"] * (total - bad)
    return Scan(
        uid=["0" * 32] * total,
        status=status,
        error=[error] * bad + [None] * (total - bad),
        fingerprint="",
        file_names=[f"a/{number}.png" for number in range(total)],
    )


@pytest.mark.parametrize(
    ("bad", "total", "share", "stops"),
    [
        pytest.param(0, 100, 0.01, False, id="I28-none"),
        pytest.param(1, 100, 0.01, False, id="I28-exactly"),
        pytest.param(2, 100, 0.01, True, id="I28-one-more"),
        pytest.param(7, 100, 0.07, False, id="I28-exactly-in-decimal"),
        pytest.param(29, 100, 0.29, False, id="I28-exactly-where-floats-fail"),
        pytest.param(100, 100, 0.01, True, id="I28-all"),
        pytest.param(100, 100, 1.0, True, id="I28-all-though-allowed"),
        pytest.param(99, 100, 1.0, False, id="I28-nearly-all-allowed"),
        pytest.param(1, 99, 0.01, True, id="I28-small-set"),
        pytest.param(1, 10, 0.0, True, id="I28-none-allowed"),
    ],
)
def test_exactly_the_share_is_allowed(bad: int, total: int, share: float, stops: bool) -> None:
    if not stops:
        check_skipped(made(bad, total), share)
        return
    with pytest.raises(DataError) as error:
        check_skipped(made(bad, total), share)
    assert error.value.exit_code == 3


def test_the_message_counts_by_cause_and_names_the_first_five_i28() -> None:
    found = made(7, 10)
    found.error[3] = "not an image (looks like HTML)"
    with pytest.raises(DataError) as error:
        check_skipped(found, 0.01)
    assert error.value.what == (
        "7 of 10 images cannot be read (70.00 %, limit 1 %): 6 truncated, 1 not an image (looks like HTML)."
    )
    assert error.value.where.count(";") == 4
    assert error.value.where.startswith("a/0.png: truncated: x; ")


def test_excluded_examples_are_not_counted_as_bad() -> None:
    found = made(2, 10)
    found.status[0] = found.status[1] = "excluded"
    check_skipped(found, 0.0)
