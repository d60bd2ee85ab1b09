"""Score tables larger than memory: read a row group at a time, from one file or from the shards of one table."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from dataset_audit.errors import DataError, MismatchError, UsageError
from dataset_audit.tables import parquet, sidecar
from dataset_audit.tables.provenance import Provenance
from dataset_audit.tables.scores import ScoreTable

_OF_ONE: Final = (
    "format",
    "version",
    "spec",
    "fingerprint",
    "n",
    "class_names",
    "config",
    "recommended",
    "sources",
)
_IN_FLOAT32: Final = (pa.float32(), pa.float16(), pa.int8(), pa.int16(), pa.uint8(), pa.uint16())


@dataclass(frozen=True, eq=False)
class Part:
    """One row group; a column is read when it is asked for.

    Attributes:
        source: Its file.
        group: Which row group.
        first: Rows of the table before it.
        provenance: Of the table.
    """

    source: parquet.Groups
    group: int
    first: int
    provenance: Provenance | None = None
    _columns: dict[str, pa.ChunkedArray] = field(default_factory=dict, repr=False)

    def __len__(self) -> int:
        return int(self.source.sizes[self.group])

    @property
    def name(self) -> tuple[str, int]:
        """What no other part has."""
        return str(self.source.path), self.group

    def has(self, column: str) -> bool:
        """Return whether the file has such a column."""
        return column in self.source.schema.names

    def table(self, columns: Sequence[str]) -> ScoreTable:
        """Return columns, read together unless they were read already."""
        missing = [name for name in columns if name not in self._columns]
        if missing:
            read = self.source.read(self.group, missing)
            self._columns.update({name: read[name] for name in missing})
        schema = pa.schema([self.source.schema.field(name) for name in columns])
        made = pa.Table.from_arrays([self._columns[name] for name in columns], schema=schema)
        return ScoreTable(made, self.provenance)

    def numbers(self, column: str) -> NDArray[np.float32] | NDArray[np.float64]:
        """Return a numeric column, NaN for null: float32 where that holds every value of its type, else float64."""
        table = self.table([column])
        if table.data.schema.field(column).type in _IN_FLOAT32:
            found = table.data[column].cast(pa.float32())
            return found.to_numpy(zero_copy_only=False)  # type: ignore[no-any-return]
        return table.floats(column)

    def always(self, column: str, *, least: Any, most: Any) -> bool:
        """Return whether the footer says that no value here is null or beyond these; False where it does not say."""
        stated = self.source.stated(self.group, column)
        return stated is not None and not stated.nulls and bool(least <= stated.least and stated.most <= most)


@dataclass(frozen=True, eq=False)
class Shard:
    """A file of a score table, with the number of rows before it; cheap to send to another process.

    Attributes:
        path: The file.
        first: Rows of the table before it.
        provenance: Of the table.
    """

    path: Path
    first: int
    provenance: Provenance | None

    def parts(self) -> Iterator[Part]:
        """Open the file, give its row groups one after the other."""
        yield from _parts(parquet.Groups(self.path), self.first, self.provenance)


def _parts(source: parquet.Groups, first: int, provenance: Provenance | None) -> Iterator[Part]:
    for group, rows in enumerate(source.sizes):
        if rows:
            yield Part(source, group, first, provenance)
        first += rows


@dataclass(frozen=True, eq=False)
class Shards:
    """A score table as its files: nothing of it is in memory but the footers.

    Attributes:
        path: As it was named: a file, a folder of shards, or a pattern.
        sources: The files, by ascending index where the footers say it, else by name.
        provenance: Of the table, None for a foreign one.
    """

    path: Path
    sources: tuple[parquet.Groups, ...]
    provenance: Provenance | None

    @staticmethod
    def open(path: Path) -> Shards:
        """Read the footers.

        Raises:
            UsageError: There is no such file, or no table in that folder.
            DataError: A footer is damaged, or there are no rows.
            MismatchError: A manifest, or files that are not shards of one table.
        """
        paths = find(path)
        sources = [parquet.Groups(each) for each in paths]
        footers = [parquet.metadata(each) for each in paths]
        if footers[0].get("audit.format") == "manifest":
            raise MismatchError(
                f"{paths[0]} is a manifest, not a score table.", do="name the scores it is of"
            )
        for each, source, footer in zip(paths, sources, footers, strict=True):
            for key in _OF_ONE:
                if footer.get(f"audit.{key}") != footers[0].get(f"audit.{key}"):
                    raise MismatchError(
                        f"{each} is no shard of the table that {paths[0]} is of: {key} differs.",
                        do="shards of one table alone in a folder",
                    )
            if not source.schema.equals(sources[0].schema):
                raise MismatchError(f"{each} has other columns than {paths[0]}.", do="shards of one table")
        if not sum(sum(source.sizes) for source in sources):
            raise DataError(f"{path} has no rows.", where=str(path))
        known = [_least(source) for source in sources]
        if all(least is not None for least in known):
            sources = [sources[place] for place in np.argsort(np.array(known), kind="stable")]
        return Shards(path, tuple(sources), Provenance.of_footer(footers[0], paths[0]))

    def __len__(self) -> int:
        return sum(sum(source.sizes) for source in self.sources)

    @property
    def files(self) -> tuple[Path, ...]:
        """The files in order."""
        return tuple(source.path for source in self.sources)

    @property
    def head(self) -> ScoreTable:
        """The table without its rows: names, types and provenance."""
        return ScoreTable(self.sources[0].schema.empty_table(), self.provenance)

    def shards(self) -> list[Shard]:
        """Return the files as they are sent elsewhere."""
        firsts = np.cumsum([0, *(sum(source.sizes) for source in self.sources)]).tolist()
        return [
            Shard(source.path, first, self.provenance)
            for source, first in zip(self.sources, firsts, strict=False)
        ]

    def parts(self) -> Iterator[Part]:
        """Give all row groups in order, none of them read."""
        for shard, source in zip(self.shards(), self.sources, strict=True):
            yield from _parts(source, shard.first, self.provenance)

    def ascending(self) -> bool:
        """Return whether the footers say that each row group's index lies above those before it."""
        last = -1
        for part in self.parts():
            stated = part.source.stated(part.group, "index")
            if stated is None or stated.nulls or not isinstance(stated.least, int) or stated.least <= last:
                return False
            last = stated.most
        return True

    def most(self, column: str) -> int:
        """Return the largest whole number that the footers state of a column, -2 where one does not."""
        stated = [part.source.stated(part.group, column) for part in self.parts()]
        if any(one is None or not isinstance(one.most, int) for one in stated):
            return -2
        return max((int(one.most) for one in stated if one is not None), default=-2)

    def verify(self, *, strict: bool) -> list[str]:
        """Return the SHA-256 of each file, compared with what its sidecar states; each file is read once for both.

        Raises:
            DataError: Another hash is stated, or there is no sidecar and ``strict`` was given.
            MismatchError: A sidecar is of another kind of table.
        """

        def of(path: Path) -> str:
            found, state = sidecar.checked(path, parquet.metadata(path).get("audit.format"))
            if state == "foreign" and strict:
                raise DataError(
                    f"{path} has no sidecar, and --strict was given.", do="make the table with audit"
                )
            return found

        with ThreadPoolExecutor(min(2, len(self.sources))) as pool:
            return list(pool.map(of, self.files))

    def whole(self, *, strict: bool) -> ScoreTable:
        """Return the table in memory; see `ScoreTable.read`."""
        tables = [ScoreTable.read(path, strict=strict) for path in self.files]
        if len(tables) == 1:
            return tables[0]
        data = pa.concat_tables([table.data for table in tables]).unify_dictionaries()
        return ScoreTable(data, self.provenance).checked(self.path)


def find(path: Path) -> list[Path]:
    """Return the files of a table: the file itself, those in a folder or those a pattern matches, by name.

    Raises:
        UsageError: There is none.
    """
    if path.is_dir():
        found = [each for each in path.glob("*.parquet") if each.is_file() and not each.name.startswith(".")]
    elif not path.exists() and set(path.name) & set("*?["):
        found = [each for each in path.parent.glob(path.name) if each.is_file()]
    else:
        return [path]
    if not found:
        raise UsageError(f"There is no table in {path}.", do="a Parquet file, or a folder of shards")
    return sorted(found, key=os.fsencode)


def digest(hashes: Sequence[str]) -> str:
    """Return the SHA-256 that stands for several files: their own, if it is one; else that of their hashes in order."""
    return hashes[0] if len(hashes) == 1 else sha256("\n".join(hashes).encode()).hexdigest()


def _least(source: parquet.Groups) -> int | None:
    stated = [source.stated(group, "index") for group, rows in enumerate(source.sizes) if rows]
    if not stated or any(one is None or not isinstance(one.least, int) for one in stated):
        return None
    return min(int(one.least) for one in stated if one is not None)
