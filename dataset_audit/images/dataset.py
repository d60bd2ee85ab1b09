"""``open_dataset``: from what a user names to examples in a fixed order."""

from __future__ import annotations

import difflib
import os
import re
import stat
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Final, TypedDict

from dataset_audit.errors import DataError, EnvironmentProblem, UsageError
from dataset_audit.images.decode import Limits
from dataset_audit.images.listing import EXTENSIONS
from dataset_audit.images.opened import ImageDataset, Request
from dataset_audit.images.readers import READERS
from dataset_audit.images.tars import is_tar

__all__ = ["ImageDataset", "Opening", "dataset_names", "open_dataset", "opening"]

_REMOTE: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
_NO_LIMITS: Final = Limits()
_FILES: Final = "files:"


def dataset_names() -> dict[str, str]:
    """Return the data sets that can be asked for by name, each with one line about it."""
    return {name: reader.about for name, reader in READERS.items() if reader.named}


def open_dataset(
    spec: str | Path,
    *,
    data_root: Path | None = None,
    download: bool = False,
    split: str | None = None,
    seed: int = 1,
    limits: Limits = _NO_LIMITS,
) -> ImageDataset:
    """Return the examples that ``spec`` names, in an order that depends on names and contents alone.

    Args:
        spec: A name (``digits``, ``cifar10`` ...), a folder, a ``.parquet`` file, pattern or folder of
            shards, an ``.npz`` or ``.tar`` file, or ``files:DIR``. Text that is a known name and holds no slash is the
            name, even where a folder of that name exists; a ``Path`` is always a path.
        data_root: Where named sets lie; ``./data`` if not given.
        download: Whether a named set that is absent may be fetched.
        split: Which split; ``train`` where there are several and none is named.
        seed: Draws the permutation of ``permuted-mnist``; nothing else.
        limits: What is decoded at all, and the background of transparent pixels.

    Raises:
        UsageError: There is no such thing, it is absent, or it is ambiguous.
        DataError: It holds no images, or its bytes are bad.
        EnvironmentProblem: A folder or file may not be read.
    """
    text = os.fspath(spec)
    request = Request(
        spec=text,
        path=Path(text).expanduser(),
        data_root=data_root if data_root is not None else Path("data"),
        download=download,
        split=split,
        seed=seed,
        limits=limits,
    )
    if isinstance(spec, str) and text in READERS and READERS[text].named:
        dataset = open_with(text, request, request.path)
        if request.path.exists():
            dataset.warnings.append(
                ("W-name", f"{text} is the data set of that name; the folder here is ./{text}")
            )
        return dataset
    if isinstance(spec, str) and text.startswith(_FILES):
        folder = Path(text.removeprefix(_FILES)).expanduser()
        if folder.is_file() and is_tar(folder):
            return open_with("tar", request, folder)
        if not folder.is_dir():
            raise UsageError("No such folder.", where=str(folder))
        return open_with("files", request, folder)
    if _REMOTE.match(text):
        raise UsageError(
            "Remote paths are not read.", where=text, do="copy the data here and name the folder or file"
        )
    return open_with(_kind(request), request, request.path)


class Opening(TypedDict, total=False):
    """The arguments of `open_dataset` that decide what is seen, beside the spec and where it lies."""

    split: str | None
    seed: int
    limits: Limits


def opening(stored: Mapping[str, object]) -> Opening:
    """Return the arguments that open a data set as it was opened when a table was made.

    Args:
        stored: ``split``, ``seed`` and ``background`` as a table's footer holds them; missing ones take the default.
    """
    split, seed, background = stored.get("split"), stored.get("seed"), stored.get("background")
    found: Opening = {"split": split if isinstance(split, str) else None}
    if isinstance(seed, int):
        found["seed"] = seed
    if isinstance(background, list) and len(background) == 3 and all(isinstance(v, int) for v in background):
        found["limits"] = Limits(background=(background[0], background[1], background[2]))
    return found


def open_with(kind: str, request: Request, path: Path) -> ImageDataset:
    """Return what one reader makes of a path; a permission refused is the machine's trouble."""
    try:
        return READERS[kind].open(replace(request, path=path))
    except PermissionError as error:
        raise EnvironmentProblem(f"It may not be read: {error.strerror}.", where=str(path)) from None


def _kind(request: Request) -> str:
    """Return the reader for what lies at the path."""
    path = request.path
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        return _kind_of_absent(request)
    except OSError as error:
        raise EnvironmentProblem(f"It may not be read: {error.strerror}.", where=request.spec) from None
    if stat.S_ISDIR(mode):
        return _kind_of_folder(path)
    if not stat.S_ISREG(mode):
        raise UsageError("Neither a folder nor a file: a device, pipe or socket.", where=request.spec)
    if path.suffix.lower() == ".parquet":
        return "parquet"
    if path.suffix.lower() == ".npz":
        return "npz"
    if is_tar(path):
        return "tar"
    if not path.stat().st_size:
        raise DataError("The file is empty.", where=request.spec)
    raise UsageError(
        "A file of this kind is not a data set.",
        where=request.spec,
        do="name a folder of images, or a .parquet, .npz or .tar file",
    )


def _kind_of_folder(path: Path) -> str:
    with os.scandir(path) as entries:
        visible = [entry for entry in entries if not entry.name.startswith(".")]
    if not any(entry.name.endswith(".parquet") for entry in visible):
        return "folders"
    others = [
        entry.name for entry in visible if entry.is_dir() or Path(entry.name).suffix.lower() in EXTENSIONS
    ]
    if others:
        raise UsageError(
            "The folder holds Parquet files beside folders or images: which are the data set?",
            where=f"{path}: {others[0]}",
            do=f"name the files, for example '{path}/*.parquet', or one of the folders",
        )
    return "parquet"


def _kind_of_absent(request: Request) -> str:
    if any(sign in request.spec for sign in "*?["):
        return "parquet"
    near = difflib.get_close_matches(request.spec, dataset_names(), n=1)
    raise UsageError(
        f"There is no data set called {request.spec!r} and no such path.",
        do=f"did you mean {near[0]}?"
        if near
        else "name a folder or file, or one of: " + ", ".join(dataset_names()),
        id="E-no-dataset",
    )
