"""Named data sets: verified against the published digests, never downloaded unasked, never unpickled at large."""

from __future__ import annotations

import gzip
import hashlib
import io
import pickle
import struct
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dataset_audit.errors import DataError, EnvironmentProblem, UsageError
from dataset_audit.images import fetch, readers
from dataset_audit.images.dataset import dataset_names, open_dataset
from dataset_audit.images.fetch import Remote, download, md5_of, members
from dataset_audit.images.readers import READERS

torchvision = pytest.importorskip("torchvision.datasets")
NAMED = [name for name, reader in READERS.items() if reader.named]


def test_digits_come_with_the_package() -> None:
    dataset = open_dataset("digits")
    assert dataset.array is not None
    assert dataset.array.shape == (1797, 8, 8, 1)
    assert dataset.array.max() == 255
    assert dataset.labels[:10].tolist() == list(range(10))
    assert dataset.class_names == tuple("0123456789")
    assert dataset.channels == 1


@pytest.mark.parametrize("name", [name for name in NAMED if name != "digits"])
def test_an_absent_set_is_bad_use_and_says_how_to_get_it(name: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=f"{name} is not at .* nothing is downloaded unasked") as error:
        open_dataset(name, data_root=tmp_path)
    assert error.value.exit_code == 2
    assert error.value.do == f"audit forgetting {name} --data-root {tmp_path} --download"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", NAMED)
def test_an_unknown_split_names_the_known_ones(name: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no split 'dev'") as error:
        open_dataset(name, data_root=tmp_path, split="dev")
    assert error.value.do == "--split " + " or ".join(READERS[name].splits)


def test_names_are_listed_with_a_line_each() -> None:
    assert set(dataset_names()) == set(NAMED)
    assert all(dataset_names().values())


def test_an_unknown_name_gets_the_nearest() -> None:
    with pytest.raises(UsageError, match="no data set called 'cifar1O'") as error:
        open_dataset("cifar1O")
    assert error.value.do.startswith("did you mean cifar10")


def test_a_name_is_the_set_unless_it_has_a_slash(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, draw: Callable[..., bytes]
) -> None:
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "digits" / "a"
    folder.mkdir(parents=True)
    (folder / "1.png").write_bytes(draw(1))
    named = open_dataset("digits")
    assert len(named) == 1797
    assert dict(named.warnings)["W-name"].endswith("the folder here is ./digits")
    for spec in ("./digits", "digits/", Path("digits")):
        assert len(open_dataset(spec)) == 1


# -- MNIST -------------------------------------------------------------------------------------------------

IMAGES = np.arange(3 * 28 * 28, dtype=np.uint32).astype(np.uint8).reshape(3, 28, 28)


@pytest.fixture
def mnist(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Three digits in MNIST's files, with torchvision's table made to fit."""
    resources = []
    folder = tmp_path / "MNIST" / "raw"
    folder.mkdir(parents=True)
    for part, count in (("train", 3), ("t10k", 2)):
        for kind, values in (
            ("images-idx3", IMAGES[:count]),
            ("labels-idx1", np.arange(count, dtype=np.uint8)),
        ):
            head = b"\0\0\x08" + bytes([values.ndim]) + struct.pack(f">{values.ndim}I", *values.shape)
            data = gzip.compress(head + values.tobytes())
            name = f"{part}-{kind}-ubyte.gz"
            (folder / name).write_bytes(data)
            resources.append((name, md5_of(data)))
    monkeypatch.setattr(torchvision.MNIST, "resources", resources)
    return tmp_path


def test_mnist_is_read_from_its_own_files(mnist: Path) -> None:
    dataset = open_dataset("mnist", data_root=mnist)
    assert dataset.array is not None
    assert np.array_equal(dataset.array[..., 0], IMAGES)
    assert dataset.labels.tolist() == [0, 1, 2]
    assert dataset.split == ["train"] * 3
    assert len(open_dataset("mnist", data_root=mnist, split="test")) == 2


def test_files_directly_in_a_folder_of_that_name_are_found(mnist: Path) -> None:
    (mnist / "MNIST" / "raw").rename(mnist / "mnist")
    assert len(open_dataset("mnist", data_root=mnist)) == 3
    assert len(open_dataset("mnist", data_root=mnist / "mnist")) == 3


def test_a_damaged_file_is_bad_data_naming_both_digests(mnist: Path) -> None:
    path = mnist / "MNIST" / "raw" / "train-images-idx3-ubyte.gz"
    data = bytearray(path.read_bytes())
    data[50] ^= 1
    path.write_bytes(data)
    with pytest.raises(DataError, match=f"its MD5 is {md5_of(bytes(data))}, published is") as error:
        open_dataset("mnist", data_root=mnist)
    assert error.value.exit_code == 3


def test_permuted_mnist_moves_pixels_alike_in_all_images_by_the_seed(mnist: Path) -> None:
    plain = open_dataset("mnist", data_root=mnist).array
    one, same, other = (
        open_dataset("permuted-mnist", data_root=mnist, seed=seed).array for seed in (1, 1, 2)
    )
    assert plain is not None
    assert one is not None
    assert other is not None
    assert np.array_equal(one, same)
    assert not np.array_equal(one, other)
    flat, moved = plain.reshape(3, -1), one.reshape(3, -1)
    assert not np.array_equal(flat, moved)
    columns = sorted(zip(*flat.tolist(), strict=True))
    assert sorted(zip(*moved.tolist(), strict=True)) == columns


@pytest.mark.real_data
def test_the_published_mnist_is_accepted(real_data: Path) -> None:
    dataset = open_dataset("mnist", data_root=real_data)
    assert dataset.array is not None
    assert dataset.array.shape == (60_000, 28, 28, 1)
    assert round(float(dataset.array.mean()) / 255, 5) == 0.13066
    assert round(float(dataset.array.std()) / 255, 5) == 0.30811
    assert len(open_dataset("mnist", data_root=real_data, split="test")) == 10_000


# -- CIFAR -------------------------------------------------------------------------------------------------


def archive(files: dict[str, bytes]) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w:gz") as tar:
        for name, data in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            tar.addfile(entry, io.BytesIO(data))
    return file.getvalue()


def cifar(batch: bytes, monkeypatch: pytest.MonkeyPatch) -> dict[str, bytes]:
    """Return the files of a CIFAR-10 of one training batch, with torchvision's table made to fit."""
    meta = pickle.dumps({"label_names": ["cat", "dog"]}, protocol=2)
    kind = torchvision.CIFAR10
    monkeypatch.setattr(kind, "train_list", [["data_batch_1", md5_of(batch)]])
    monkeypatch.setattr(kind, "meta", {"filename": "batches.meta", "key": "label_names", "md5": md5_of(meta)})
    return {"data_batch_1": batch, "batches.meta": meta}


@pytest.fixture
def planes() -> np.ndarray:
    return np.random.default_rng(2).integers(0, 256, (4, 3072), dtype=np.uint8)


@pytest.mark.parametrize("stored", ["folder", "archive"])
def test_cifar_is_read_from_its_folder_or_its_archive(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, planes: np.ndarray, stored: str
) -> None:
    batch = pickle.dumps({"data": planes, "labels": [1, 0, 0, 1], "filenames": ["x"] * 4}, protocol=2)
    files = cifar(batch, monkeypatch)
    folder = tmp_path / "cifar-10-batches-py"
    if stored == "folder":
        folder.mkdir()
        for name, data in files.items():
            (folder / name).write_bytes(data)
    else:
        data = archive({f"cifar-10-batches-py/{name}": data for name, data in files.items()})
        monkeypatch.setattr(torchvision.CIFAR10, "tgz_md5", md5_of(data))
        (tmp_path / "cifar-10-python.tar.gz").write_bytes(data)
    dataset = open_dataset("cifar10", data_root=tmp_path)
    assert dataset.array is not None
    assert np.array_equal(dataset.array[2, :, :, 1].ravel(), planes[2, 1024:2048])
    assert dataset.labels.tolist() == [1, 0, 0, 1]
    assert dataset.class_names == ("cat", "dog")
    assert folder.exists() == (stored == "folder"), "nothing is unpacked"


def test_a_pickle_of_another_digest_is_not_opened_s1(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, planes: np.ndarray
) -> None:
    files = cifar(pickle.dumps({"data": planes, "labels": [0] * 4}), monkeypatch)
    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()
    for name, data in files.items():
        (folder / name).write_bytes(data + b" ")
    monkeypatch.setattr(readers, "_unpickled", pytest.fail)
    with pytest.raises(DataError, match="damaged or another one"):
        open_dataset("cifar10", data_root=tmp_path)


def test_a_pickle_of_the_right_digest_still_runs_nothing_s1(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    canary = tmp_path / "canary"

    class Bomb:
        def __reduce__(self) -> tuple[Any, ...]:
            return (open, (str(canary), "w"))

    files = cifar(pickle.dumps({"data": Bomb(), "labels": []}), monkeypatch)
    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()
    for name, data in files.items():
        (folder / name).write_bytes(data)
    with pytest.raises(DataError, match="asks for code, which is never run"):
        open_dataset("cifar10", data_root=tmp_path)
    assert not canary.exists()


# -- SVHN, STL-10, Imagenette ------------------------------------------------------------------------------


def test_svhn_calls_its_ten_the_digit_0(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from scipy.io import savemat

    pixels = np.random.default_rng(2).integers(0, 256, (32, 32, 3, 3), dtype=np.uint8)
    path = tmp_path / "train_32x32.mat"
    savemat(path, {"X": pixels, "y": np.array([[1], [10], [9]], np.uint8)})
    entry = ["http://x/train_32x32.mat", path.name, md5_of(path.read_bytes())]
    monkeypatch.setattr(torchvision.SVHN, "split_list", {"train": entry})
    dataset = open_dataset("svhn", data_root=tmp_path)
    assert dataset.array is not None
    assert dataset.labels.tolist() == [1, 0, 9]
    assert np.array_equal(dataset.array[1], pixels[:, :, :, 1])


def test_stl10_is_turned_from_columns_to_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pixels = np.random.default_rng(2).integers(0, 256, (2, 96, 96, 3), dtype=np.uint8)
    files = {
        "train_X.bin": pixels.transpose(0, 3, 2, 1).tobytes(),
        "train_y.bin": bytes([10, 1]),
        "unlabeled_X.bin": pixels.transpose(0, 3, 2, 1).tobytes(),
    }
    folder = tmp_path / "stl10_binary"
    folder.mkdir()
    for name, data in files.items():
        (folder / name).write_bytes(data)
    table = [[name, md5_of(data)] for name, data in files.items()]
    monkeypatch.setattr(torchvision.STL10, "train_list", table)
    dataset = open_dataset("stl10", data_root=tmp_path)
    assert dataset.array is not None
    assert np.array_equal(dataset.array, pixels)
    assert dataset.labels.tolist() == [9, 0]
    assert dataset.class_names[9] == "truck"
    assert open_dataset("stl10", data_root=tmp_path, split="unlabeled").labels.tolist() == [-1, -1]


def test_imagenette_is_read_in_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, draw: Callable[..., bytes]
) -> None:
    names = ["train/n03888257/b.JPEG", "train/n01440764/a.JPEG", "val/n01440764/c.JPEG"]
    data = archive({f"imagenette2-160/{name}": draw(row, kind="JPEG") for row, name in enumerate(names)})
    monkeypatch.setattr(
        torchvision.Imagenette, "_ARCHIVES", {"160px": ("https://x/imagenette2-160.tgz", md5_of(data))}
    )
    (tmp_path / "imagenette2-160.tgz").write_bytes(data)
    dataset = open_dataset("imagenette-160", data_root=tmp_path)
    assert dataset.class_names == ("tench", "parachute")
    assert dataset.file_names == ["train/n01440764/a.JPEG", "train/n03888257/b.JPEG"]
    assert dataset.labels.tolist() == [0, 1]
    assert dataset.encoded(1) == draw(0, kind="JPEG")
    assert len(open_dataset("imagenette-160", data_root=tmp_path, split="val")) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["imagenette2-160.tgz"]


def test_links_and_paths_in_an_archive_are_never_followed_s10() -> None:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as tar:
        for name, kind in (("link", tarfile.SYMTYPE), ("hard", tarfile.LNKTYPE), ("fifo", tarfile.FIFOTYPE)):
            entry = tarfile.TarInfo(name)
            entry.type, entry.linkname = kind, "/etc/passwd"
            tar.addfile(entry)
    for name in ("link", "hard", "fifo", "missing"):
        with pytest.raises(DataError, match="The archive lacks"):
            members(file.getvalue(), [name])


# -- downloading -------------------------------------------------------------------------------------------


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> dict[str, bytes | OSError]:
    """A network of a few addresses."""
    answers: dict[str, bytes | OSError] = {}

    def stream(url: str, file: Any) -> str:
        answer = answers[url]
        if isinstance(answer, OSError):
            raise answer
        file.write(answer)
        return hashlib.md5(answer).hexdigest()

    monkeypatch.setattr(fetch, "_stream", stream)
    return answers


def remote(data: bytes, *urls: str) -> Remote:
    return Remote(urls, "file.bin", md5_of(data))


def test_a_download_appears_whole_verified_and_readable(tmp_path: Path, served: dict[str, Any]) -> None:
    served["https://a"] = b"content"
    path = download(remote(b"content", "https://a"), tmp_path / "new" / "folder")
    assert path.read_bytes() == b"content"
    assert path.stat().st_mode & 0o444 == 0o444
    assert [entry.name for entry in path.parent.iterdir()] == ["file.bin"]


def test_the_next_address_is_tried(tmp_path: Path, served: dict[str, Any]) -> None:
    served.update({"https://a": OSError("down"), "https://b": b"other", "https://c": b"content"})
    assert download(remote(b"content", "https://a", "https://b", "https://c"), tmp_path).exists()


@pytest.mark.parametrize(
    ("answer", "kind"), [(b"another file", DataError), (OSError("unreachable"), EnvironmentProblem)]
)
def test_a_failed_download_leaves_nothing(
    tmp_path: Path, served: dict[str, Any], answer: bytes | OSError, kind: type[Exception]
) -> None:
    served["https://a"] = answer
    with pytest.raises(kind):
        download(remote(b"content", "https://a"), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_download_fetches_what_is_missing_and_no_more(mnist: Path, served: dict[str, Any]) -> None:
    path = mnist / "MNIST" / "raw" / "train-labels-idx1-ubyte.gz"
    served[torchvision.MNIST.mirrors[0] + path.name] = path.read_bytes()
    path.unlink()
    with pytest.raises(UsageError, match="nothing is downloaded unasked"):
        open_dataset("mnist", data_root=mnist)
    assert len(open_dataset("mnist", data_root=mnist, download=True)) == 3
    assert path.exists()


@pytest.mark.parametrize("url", ["file:///etc/passwd", "ftp://x/y", "data:,x"])
def test_only_web_addresses_are_opened_s9(url: str) -> None:
    with pytest.raises(OSError, match="not a web address"):
        fetch._stream(url, io.BufferedWriter(io.BytesIO()))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("was", "will", "allowed"),
    [
        ("https://a/x", "https://b/x", True),
        ("http://a/x", "http://b/x", True),
        ("http://a/x", "https://b/x", True),
        ("https://a/x", "http://b/x", False),
        ("http://a/x", "file:///etc/passwd", False),
        ("https://a/x", "ftp://b/x", False),
    ],
)
def test_redirects_never_weaken_the_address_s9(was: str, will: str, allowed: bool) -> None:
    import email.message
    import urllib.request

    handler, request = fetch._SameScheme(), urllib.request.Request(was)

    def follow() -> Any:
        return handler.redirect_request(request, io.BytesIO(), 302, "Found", email.message.Message(), will)

    if allowed:
        assert follow().full_url == will
    else:
        with pytest.raises(OSError, match="redirected"):
            follow()
