"""Everything a data set may be named or stored as: one literal dict, one function per entry.

Named sets come from files the user has or asks to download; each file's MD5 is compared with the one
published in torchvision's tables before a byte of it is believed, and the bytes compared are the bytes used.
torchvision's own loaders are not called: they unpickle from a second read, and unpack archives without a
filter.
"""

from __future__ import annotations

import io
import os
import pickle
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from dataset_audit.errors import DataError, UsageError
from dataset_audit.images.arrays import open_npz, read_idx
from dataset_audit.images.fetch import Remote, download, first_existing, members, unzipped, verified
from dataset_audit.images.folders import open_files, open_folders
from dataset_audit.images.opened import ImageDataset, Request, of_array
from dataset_audit.images.parquet import open_tables
from dataset_audit.images.tars import open_tar
from dataset_audit.seeds import rng

_DIGITS: Final = tuple("0123456789")


@dataclass(frozen=True, kw_only=True)
class Reader:
    """One way to open a data set; ``named`` ones are asked for by name, others chosen by what lies there."""

    open: Callable[[Request], ImageDataset]
    about: str
    splits: tuple[str, ...] = ()

    @property
    def named(self) -> bool:
        """Whether the entry is the name of a data set."""
        return bool(self.splits)


def _split(request: Request) -> str:
    splits = READERS[request.spec].splits
    split = request.split or splits[0]
    if split not in splits:
        raise UsageError(f"{request.spec} has no split {split!r}.", do="--split " + " or ".join(splits))
    return split


def _have(request: Request, folders: Sequence[Path], remote: Remote) -> bytes:
    """Return a published file's bytes, verified: found in one of the folders, or fetched into the first."""
    path = first_existing(folders, remote.name)
    if path is None:
        if not request.download:
            raise _absent(request, folders[0] / remote.name)
        path = download(remote, folders[0])
    return verified(path, remote.md5)


def _absent(request: Request, expected: Path) -> UsageError:
    return UsageError(
        f"{request.spec} is not at {request.data_root}/ and nothing is downloaded unasked.",
        where=str(expected),
        do=f"audit forgetting {request.spec} --data-root {request.data_root} --download",
        id="E-dataset-absent",
    )


# -- digits --------------------------------------------------------------------------------------------------


def _open_digits(request: Request) -> ImageDataset:
    from sklearn.datasets import load_digits

    _split(request)
    digits = load_digits()
    # values are counts from 0 to 16
    pixels = np.rint(np.asarray(digits.images) * (255 / 16)).astype(np.uint8)[:, :, :, None]
    return of_array(request, pixels, np.asarray(digits.target, np.int32), _DIGITS, None)


# -- MNIST and its like --------------------------------------------------------------------------------------


def _idx_set(request: Request, kind: Any, folder: str, class_names: Sequence[str]) -> ImageDataset:
    split = _split(request)
    root = request.data_root
    folders = [root / folder / "raw", root / folder, root / request.spec.removeprefix("permuted-"), root]
    prefix = "train" if split == "train" else "t10k"
    arrays = {}
    for name, md5 in kind.resources:
        if name.startswith(prefix):
            remote = Remote(tuple(f"{mirror}{name}" for mirror in kind.mirrors), name, md5)
            arrays["images" in name] = read_idx(unzipped(_have(request, folders, remote)), name)
    return of_array(request, arrays[True][:, :, :, None], arrays[False].astype(np.int32), class_names, split)


def _open_mnist(request: Request) -> ImageDataset:
    from torchvision.datasets import MNIST

    return _idx_set(request, MNIST, "MNIST", _DIGITS)


def _open_fashion_mnist(request: Request) -> ImageDataset:
    from torchvision.datasets import FashionMNIST

    return _idx_set(request, FashionMNIST, "FashionMNIST", FashionMNIST.classes)


def _open_permuted_mnist(request: Request) -> ImageDataset:
    """MNIST with one permutation of the 784 pixels, the same for all images, drawn from the seed."""
    plain = _open_mnist(request)
    assert plain.array is not None  # noqa: S101 - for the type checker: MNIST is an array source
    flat = plain.array.reshape(len(plain), -1)
    order = rng(request.seed, "permuted-mnist").permutation(flat.shape[1])
    pixels = np.ascontiguousarray(flat[:, order]).reshape(plain.array.shape)
    return of_array(request, pixels, plain.labels, plain.class_names, plain.split[0] if plain.split else None)


# -- CIFAR ---------------------------------------------------------------------------------------------------


class _PlainUnpickler(pickle.Unpickler):
    """Reads CIFAR's pickles: NumPy arrays, text and numbers; any other name in them is an error."""

    def find_class(self, module: str, name: str) -> Any:
        """Return one of the four things an array's pickle names."""
        allowed = {
            "_reconstruct": np.empty(0).__reduce__()[0],
            "ndarray": np.ndarray,
            "dtype": np.dtype,
            "encode": _encode,
        }
        if module.split(".")[0] not in ("numpy", "_codecs") or name not in allowed:
            raise DataError(
                "The file asks for code, which is never run.", where=f"{module}.{name}", id="E-pickle"
            )
        return allowed[name]


def _encode(text: str, encoding: str) -> bytes:
    return text.encode("latin1" if encoding in ("latin1", "iso-8859-1") else "ascii")


def _unpickled(data: bytes) -> dict[str, Any]:
    content = _PlainUnpickler(io.BytesIO(data), encoding="latin1").load()
    return dict(content)


def _archived(request: Request, kind: Any, wanted: Sequence[tuple[str, str]]) -> dict[str, bytes]:
    """Return files of a published archive by name, verified: from its folder, else from the archive."""
    folder = request.data_root / kind.base_folder
    if all((folder / name).is_file() for name, _ in wanted):
        return {name: verified(folder / name, md5) for name, md5 in wanted}
    archive = _have(request, [request.data_root], Remote((kind.url,), kind.filename, kind.tgz_md5))
    found = members(archive, [f"{kind.base_folder}/{name}" for name, _ in wanted])
    return {name: found[f"{kind.base_folder}/{name}"] for name, _ in wanted}


def _cifar(request: Request, kind: Any, label: str) -> ImageDataset:
    split = _split(request)
    batches = [
        (str(entry[0]), str(entry[1])) for entry in (kind.train_list if split == "train" else kind.test_list)
    ]
    meta = (kind.meta["filename"], kind.meta["md5"])
    files = _archived(request, kind, [*batches, meta])
    parts = [_unpickled(files[name]) for name, _ in batches]
    planes = np.concatenate([np.asarray(part["data"], np.uint8) for part in parts]).reshape(-1, 3, 32, 32)
    labels = np.concatenate([np.asarray(part[label], np.int32) for part in parts])
    names = _unpickled(files[meta[0]])[kind.meta["key"]]
    return of_array(request, np.ascontiguousarray(planes.transpose(0, 2, 3, 1)), labels, names, split)


def _open_cifar10(request: Request) -> ImageDataset:
    from torchvision.datasets import CIFAR10

    return _cifar(request, CIFAR10, "labels")


def _open_cifar100(request: Request) -> ImageDataset:
    from torchvision.datasets import CIFAR100

    return _cifar(request, CIFAR100, "fine_labels")


# -- SVHN, STL-10, Imagenette --------------------------------------------------------------------------------


def _open_svhn(request: Request) -> ImageDataset:
    """House numbers; the file's label 10 is the digit 0."""
    from scipy.io import loadmat
    from torchvision.datasets import SVHN

    split = _split(request)
    url, name, md5 = SVHN.split_list[split]
    data = _have(request, [request.data_root, request.data_root / "svhn"], Remote((url,), name, md5))
    content = loadmat(io.BytesIO(data), variable_names=["X", "y"])
    pixels: NDArray[np.uint8] = np.ascontiguousarray(content["X"].transpose(3, 0, 1, 2))
    return of_array(request, pixels, content["y"].reshape(-1).astype(np.int32) % 10, _DIGITS, split)


def _open_stl10(request: Request) -> ImageDataset:
    """STL-10; the 100,000 unlabelled images are a split of their own."""
    from torchvision.datasets import STL10

    split = _split(request)
    md5: dict[str, str] = dict(STL10.train_list + STL10.test_list)
    wanted = [name for name in (f"{split}_X.bin", f"{split}_y.bin") if name in md5]
    files = _archived(request, STL10, [(name, md5[name]) for name in wanted])
    columns = np.frombuffer(files[wanted[0]], np.uint8).reshape(-1, 3, 96, 96)  # stored column by column
    pixels = np.ascontiguousarray(columns.transpose(0, 3, 2, 1))
    if len(wanted) == 1:
        labels = np.full(len(pixels), -1, np.int32)
    else:
        labels = np.frombuffer(files[wanted[1]], np.uint8).astype(np.int32) - 1  # published from 1 to 10
    return of_array(request, pixels, labels, _STL10_CLASSES, split)


_STL10_CLASSES: Final = ("airplane", "bird", "car", "cat", "deer", "dog", "horse", "monkey", "ship", "truck")


@dataclass(frozen=True, eq=False)
class _Members:
    """Encoded images held in memory, from one verified archive."""

    contents: Sequence[bytes]

    def encoded(self, index: int) -> bytes:
        """Return one file's bytes."""
        return self.contents[index]


def _open_imagenette(request: Request) -> ImageDataset:
    """Ten classes of ImageNet; the archive's files are read in place, ordered as ImageFolder orders them."""
    from torchvision.datasets import Imagenette

    split = _split(request)
    size = {"imagenette-320": "320px", "imagenette-160": "160px"}.get(request.spec, "full")
    url, md5 = Imagenette._ARCHIVES[size]  # noqa: SLF001 - the only place where these digests stand
    archive = _have(request, [request.data_root], Remote((url,), os.path.basename(url), md5))
    files = sorted(images_in(archive, split))
    del archive
    classes = sorted({name.split("/")[0] for name, _ in files})
    number = {name: index for index, name in enumerate(classes)}
    words = Imagenette._WNID_TO_CLASS  # noqa: SLF001 - as above, and the only place for the words
    return ImageDataset(
        spec=request.spec,
        name=request.spec,
        labels=np.array([number[name.split("/")[0]] for name, _ in files], np.int32),
        class_names=tuple(words[name][0] if name in words else name for name in classes),
        source=_Members([content for _, content in files]),
        limits=request.limits,
        file_names=[f"{split}/{name}" for name, _ in files],
        split=[split] * len(files),
    )


def images_in(archive: bytes, split: str) -> list[tuple[str, bytes]]:
    """Return (class/file, bytes) of the regular files under ``*/split/class/`` of a tar archive.

    Raises:
        DataError: There is none.
    """
    import tarfile

    found = []
    with tarfile.open(fileobj=io.BytesIO(archive), mode="r:*") as tar:
        for member in tar:
            parts = member.name.split("/")
            file = (
                tar.extractfile(member) if member.isreg() and len(parts) == 4 and parts[1] == split else None
            )
            if file is not None and not parts[3].startswith("."):
                found.append((f"{parts[2]}/{parts[3]}", file.read()))
    if not found:
        raise DataError(f"The archive holds no split {split!r}.", where=split, id="E-no-images")
    return found


# -- the dict ------------------------------------------------------------------------------------------------

_BOTH: Final = ("train", "test")

READERS: Final[dict[str, Reader]] = {
    "digits": Reader(
        open=_open_digits, about="1,797 grey 8x8 digits that come with scikit-learn", splits=("train",)
    ),
    "mnist": Reader(open=_open_mnist, about="60,000 + 10,000 grey 28x28 digits", splits=_BOTH),
    "permuted-mnist": Reader(
        open=_open_permuted_mnist, about="MNIST, its 784 pixels in one random order per seed", splits=_BOTH
    ),
    "fashion-mnist": Reader(
        open=_open_fashion_mnist, about="60,000 + 10,000 grey 28x28 clothes", splits=_BOTH
    ),
    "cifar10": Reader(open=_open_cifar10, about="50,000 + 10,000 colour 32x32, 10 classes", splits=_BOTH),
    "cifar100": Reader(open=_open_cifar100, about="50,000 + 10,000 colour 32x32, 100 classes", splits=_BOTH),
    "svhn": Reader(
        open=_open_svhn, about="73,257 + 26,032 colour 32x32 house numbers", splits=("train", "test", "extra")
    ),
    "stl10": Reader(
        open=_open_stl10,
        about="5,000 + 8,000 colour 96x96, 100,000 unlabelled",
        splits=("train", "test", "unlabeled"),
    ),
    "imagenette": Reader(
        open=_open_imagenette, about="9,469 + 3,925 photographs, 10 classes", splits=("train", "val")
    ),
    "imagenette-320": Reader(
        open=_open_imagenette, about="the same, shorter side 320", splits=("train", "val")
    ),
    "imagenette-160": Reader(
        open=_open_imagenette, about="the same, shorter side 160", splits=("train", "val")
    ),
    "folders": Reader(open=open_folders, about="a folder of class folders, or of images without labels"),
    "files": Reader(open=open_files, about="files:DIR, every image below a folder, without labels"),
    "parquet": Reader(
        open=open_tables, about="a Parquet file, pattern or folder of shards with struct<bytes, path>"
    ),
    "npz": Reader(open=open_npz, about="an .npz with arrays of images and labels"),
    "tar": Reader(open=open_tar, about="a .tar of class folders, of images, or of images beside .cls labels"),
}
