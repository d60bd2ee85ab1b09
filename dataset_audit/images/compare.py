"""Is this the data set those rows were made for? Compared by uid, before anything is trained on them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dataset_audit.errors import MismatchError
from dataset_audit.images.bad_image import BadImage
from dataset_audit.images.identity import uid, uid_array
from dataset_audit.images.opened import ImageDataset


@dataclass(frozen=True, kw_only=True)
class Rows:
    """Rows of a table, as far as they name examples.

    Attributes:
        made_by: The table, for messages.
        n: Examples of the full data set it was made for; 0 if unknown.
        index: int64[K].
        uids: One per row, None where unknown; None if the table has none.
        labels: int64[K], -1 where unknown; None if the table has none.
        file_names: One per row, or None.
    """

    made_by: str
    n: int
    index: NDArray[np.int64]
    uids: Sequence[str | None] | None
    labels: NDArray[np.int64] | None
    file_names: Sequence[str | None] | None


def uid_of(dataset: ImageDataset, index: int) -> str | None:
    """Return the identity of one example as it is now; None if its bytes cannot be had."""
    if dataset.array is not None:
        return uid_array(dataset.array[index])
    try:
        return uid(dataset.encoded(index))
    except BadImage:
        return None


def check_length(rows: Rows, dataset: ImageDataset) -> None:
    """Compare the number of examples.

    Raises:
        MismatchError: They differ.
    """
    if rows.n and rows.n != len(dataset):
        raise MismatchError(
            f"{rows.made_by} was made for {rows.n:,} examples, {dataset.spec} has {len(dataset):,}.",
            where=_first_name(rows, dataset),
            do=f"audit forgetting {dataset.spec}",
        )
    if len(rows.index) and int(rows.index.max()) >= len(dataset):
        raise MismatchError(
            f"{rows.made_by} names index {int(rows.index.max()):,}, {dataset.spec} has {len(dataset):,} examples.",
            do=f"audit forgetting {dataset.spec}",
        )


def check_rows(rows: Rows, dataset: ImageDataset, chosen: NDArray[np.int64]) -> None:
    """Compare label and uid of some rows with the data as it is now.

    Args:
        rows: The table.
        dataset: What is there.
        chosen: Positions in ``rows`` to look at.

    Raises:
        MismatchError: Some differ; names the first three.
    """
    found = []
    for position in chosen.tolist():
        index = int(rows.index[position])
        stated = rows.uids[position] if rows.uids is not None else None
        now = uid_of(dataset, index) if stated is not None else None
        label = int(rows.labels[position]) if rows.labels is not None else -1
        if stated is not None and stated != now:
            found.append(
                f"{_name(rows, dataset, position)} (uid {stated[:8]} in {rows.made_by}, {(now or 'none')[:8]} now)"
            )
        elif label >= 0 and label != int(dataset.labels[index]):
            found.append(
                f"{_name(rows, dataset, position)} (label {label}, now {int(dataset.labels[index])})"
            )
        if len(found) == 3:
            break
    if found:
        raise MismatchError(
            f"{rows.made_by} was made for other data than {dataset.spec} holds now.",
            where="; ".join(found),
            do=f"audit forgetting {dataset.spec}",
        )


def match_by_uid(rows: Rows, dataset: ImageDataset) -> NDArray[np.int64]:
    """Return for each row the index that its example has in ``dataset``, whatever the order there.

    Identical images are matched in order of appearance.

    Raises:
        MismatchError: A row's uid is not there; names the first three.
    """
    places: dict[str, list[int]] = {}
    for index in range(len(dataset)):
        identity = uid_of(dataset, index)
        if identity is not None:
            places.setdefault(identity, []).append(index)
    for queue in places.values():
        queue.reverse()
    matched = np.full(len(rows.index), -1, dtype=np.int64)
    for position, identity in enumerate(rows.uids or []):
        if identity is not None and places.get(identity):
            matched[position] = places[identity].pop()
    known = np.array([identity is not None for identity in rows.uids or []], dtype=bool)
    lost = np.flatnonzero((matched < 0) & known) if len(known) else np.arange(len(rows.index))
    if len(lost):
        names = "; ".join(_name(rows, dataset, int(position)) for position in lost[:3])
        raise MismatchError(
            f"{len(lost):,} of {len(rows.index):,} rows of {rows.made_by} are not in {dataset.spec}.",
            where=names,
            do=f"audit forgetting {dataset.spec}",
        )
    return matched


def _name(rows: Rows, dataset: ImageDataset, position: int) -> str:
    stated = rows.file_names[position] if rows.file_names is not None else None
    if stated:
        return stated
    index = int(rows.index[position])
    names = dataset.file_names
    return names[index] if names is not None and index < len(names) and names[index] else f"index {index}"


def _first_name(rows: Rows, dataset: ImageDataset) -> str:
    """Return the first file name in which the two listings differ, if both have names."""
    if rows.file_names is None or dataset.file_names is None:
        return ""
    for position, index in enumerate(rows.index.tolist()):
        stated = rows.file_names[position]
        now = dataset.file_names[index] if index < len(dataset) else None
        if stated != now:
            return f"first differing file: {stated} (index {index}), here {now or 'nothing'}"
    return ""
