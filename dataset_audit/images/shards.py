"""Which files of a numbered series belong together: ``train-00000-of-00003.parquet`` and its like."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from dataset_audit.errors import DataError, UsageError
from dataset_audit.images.listing import SPLITS
from dataset_audit.images.opened import Request

_SHARD: Final = re.compile(r"(?P<split>.+?)-(?P<number>\d{5})-of-(?P<count>\d{5})(?:-[0-9a-f]+)?\.parquet")


def choose_shards(request: Request) -> tuple[list[Path], str | None, list[tuple[str, str]]]:
    """Return the files in order, the split they are, and what to say about the choice.

    In a folder the split is the name before the number, or the whole name of ``train.parquet`` and its like;
    files of other names are shards of one data set, in the order of their names.

    Raises:
        UsageError: The pattern matches nothing, or the split is not there or not chosen.
        DataError: Shards are missing or there twice.
    """
    if request.path.is_dir():
        return _of_folder(request)
    path = request.path
    files = [path] if path.is_file() else sorted(path.parent.glob(path.name), key=os.fsencode)
    if not files:
        raise UsageError("No such path (a pattern the shell did not expand?).", where=request.spec)
    splits = {_split_of(file) for file in files}
    split = splits.pop() if len(splits) == 1 else None
    if request.split is not None and request.split != split:
        raise UsageError(f"There is no split {request.split!r} in this file.", where=request.spec)
    if len(files) > 1:  # one shard asked for by name is a data set of its own
        _check_shards(files)
    return files, split, []


def _of_folder(request: Request) -> tuple[list[Path], str | None, list[tuple[str, str]]]:
    shards: dict[str | None, list[Path]] = {}
    for file in sorted(request.path.glob("*.parquet"), key=os.fsencode):
        if not file.name.startswith(".") and file.is_file():
            shards.setdefault(_split_of(file), []).append(file)
    known = sorted(name for name in shards if name is not None)
    listed = ", ".join(known) or "none"
    notes = []
    if request.split is not None:
        chosen: str | None = request.split
    elif len(shards) == 1:
        chosen = next(iter(shards))
    elif "train" in shards:
        chosen = "train"
        text = f"{request.spec} holds the splits {listed}: train is taken; --split chooses"
        notes = [("W-split", text)]
    else:
        raise UsageError(f"The folder holds several splits: {listed}.", where=request.spec, do="--split NAME")
    if chosen not in shards:
        raise UsageError(
            f"There is no split {chosen!r} in this folder.", where=request.spec, do=f"splits there: {listed}"
        )
    _check_shards(shards[chosen])
    return shards[chosen], chosen, notes


def _split_of(file: Path) -> str | None:
    if found := _SHARD.fullmatch(file.name):
        return found["split"]
    return file.stem if file.stem.lower() in SPLITS else None


def _check_shards(files: Sequence[Path]) -> None:
    """Refuse a numbered series with a gap or a number twice: a silently smaller data set is the worst."""
    series: dict[tuple[str, int], Counter[int]] = {}
    for file in files:
        if found := _SHARD.fullmatch(file.name):
            series.setdefault((found["split"], int(found["count"])), Counter())[int(found["number"])] += 1
    for (split, count), numbers in series.items():
        wrong = [f"{number} of {count} is missing" for number in range(count) if number not in numbers]
        wrong += [
            f"{number} of {count} is there {times} times" for number, times in numbers.items() if times > 1
        ]
        if wrong:
            raise DataError(
                f"The shards of {split} are not complete: {wrong[0]} (counting from 0).",
                where=str(files[0].parent),
                do="fetch the missing file, or name the files to read one by one",
                id="E-shards",
            )
