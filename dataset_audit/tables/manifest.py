"""``manifest.parquet``: which examples to train on, in a form that needs no other file."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from dataset_audit.errors import DataError, MismatchError
from dataset_audit.tables import files, parquet, sidecar
from dataset_audit.tables.provenance import Provenance
from dataset_audit.tables.scores import ScoreTable
from dataset_audit.tables.shards import Part

Rows = pa.Table  # of a manifest, before they are written


def of_all(folder: Path) -> Path:
    """Return what the sidecar of a folder of manifests is of: not a file, but all of them together."""
    return folder / "_manifest"


COPIED: Final = ("source", "index", "uid", "file_name", "file_name_escaped", "label", "class_name", "split")


@dataclass(frozen=True, kw_only=True)
class Selection:
    """What was decided, one entry per row of the score table.

    Attributes:
        keep: bool[N].
        rank: int64[N], 0 is the first to be kept by the policy, -1 for dropped rows; None leaves the column out.
        stratum: int64[N], -1 for none.
        reason: One word per row.
        scores: Columns the choice was made by; copied under their own names.
        all_rows: Whether dropped rows are written too.
    """

    keep: NDArray[np.bool_]
    rank: NDArray[np.int64] | None
    stratum: NDArray[np.int64]
    reason: NDArray[np.str_]
    scores: tuple[str, ...]
    all_rows: bool


@dataclass(frozen=True, eq=False)
class Layout:
    """How the rows of a manifest are made from one row group of scores at a time.

    Attributes:
        schema: Of the manifest.
        scores: Columns the choice was made by.
        words: Reasons by code.
        all_rows: Whether dropped rows are written too.
    """

    schema: pa.Schema
    scores: tuple[str, ...]
    words: tuple[str, ...]
    all_rows: bool

    @staticmethod
    def of(head: ScoreTable, scores: tuple[str, ...], words: tuple[str, ...], *, all_rows: bool) -> Layout:
        """Return the layout of manifests of a table; its rows are not looked at."""
        empty = Selection(
            keep=np.zeros(0, bool), rank=None, stratum=np.zeros(0, np.int64), reason=np.zeros(0, "<U1"),
            scores=scores, all_rows=all_rows,
        )  # fmt: skip
        none = ScoreTable(head.data.slice(0, 0), head.provenance)
        origin = Provenance(spec="", fingerprint="", n=0, class_names=())
        return Layout(ManifestTable.of(none, empty, origin, {}).data.schema, scores, words, all_rows)

    def rows(
        self,
        part: Part,
        keep: NDArray[np.bool_],
        codes: NDArray[np.uint8],
        stratum: NDArray[np.int64] | None,
    ) -> pa.Table:
        """Return the rows of one part, ordered by index; `ManifestTable.of` says what they are.

        Args:
            part: Rows of scores, none of them with the index of another.
            keep: bool[n].
            codes: uint8[n], places in ``words``.
            stratum: int64[n], -1 for none; None where no row has one.
        """
        index = part.table(["index"]).checked(part.source.path).integers("index")
        rows = np.arange(len(part)) if self.all_rows else np.flatnonzero(keep)
        if not len(rows):
            return self.schema.empty_table()
        names = dict.fromkeys(name for name in (*COPIED, *self.scores) if part.has(name))
        table = part.table(list(names))
        if not (index[1:] > index[:-1]).all():
            rows = rows[np.argsort(index[rows], kind="stable")]
            table = table.rows(rows)
        elif len(rows) < len(part):
            table = ScoreTable(table.data.filter(pa.array(keep)), table.provenance)
        kept = keep[rows] if self.all_rows else np.ones(len(rows), bool)
        made = {name: table.typed(name) for name in COPIED if table.has(name)}
        made["keep"] = pa.array(kept)
        made["weight"] = pa.array(kept.astype(np.float32))
        made["stratum"] = pa.nulls(len(rows), pa.int32())
        if stratum is not None:
            places = stratum[rows]
            made["stratum"] = pa.array(places.astype(np.int32), mask=places < 0)
        reason = codes[rows].astype(np.int32) if self.all_rows else np.zeros(len(rows), np.int32)
        made["reason"] = pa.DictionaryArray.from_arrays(pa.array(reason), list(self.words))
        made |= {name: table.data[name] for name in self.scores if name not in made}
        return pa.table({name: made[name] for name in self.schema.names}).cast(self.schema)


@dataclass(frozen=True, eq=False)
class ManifestTable:
    """Rows to keep (or all rows with their decision), by index; and how the choice was made."""

    data: pa.Table
    provenance: Provenance
    choice: Mapping[str, str]

    @staticmethod
    def of(
        table: ScoreTable, selection: Selection, provenance: Provenance, choice: Mapping[str, str]
    ) -> ManifestTable:
        """Return the manifest of a selection over the rows of a score table."""
        keep = selection.keep
        columns = {name: table.typed(name) for name in COPIED if table.has(name)}
        columns["keep"] = pa.array(keep)
        if selection.rank is not None:
            columns["keep_rank"] = pa.array(selection.rank, mask=~keep)
        columns["weight"] = pa.array(np.where(keep, np.float32(1), np.float32(0)))
        columns["stratum"] = pa.array(selection.stratum.astype(np.int32), mask=selection.stratum < 0)
        columns["reason"] = pa.array(selection.reason.tolist(), pa.string()).dictionary_encode()
        columns |= {name: table.data[name] for name in selection.scores if name not in columns}
        made = pa.table(columns)
        if not selection.all_rows:
            made = made.filter(pa.array(keep))
        if "index" in columns:
            keys = [("index", "ascending")]
            if provenance.sources:  # an index is a row of its source
                place = {origin.name: number for number, origin in enumerate(provenance.sources)}
                made = made.append_column("_place", pa.array([place[n] for n in made["source"].to_pylist()]))
                keys.insert(0, ("_place", "ascending"))
            made = made.take(pc.sort_indices(made, keys)).select(list(columns))
        told = {name: table.data.schema.field(name).metadata for name in selection.scores}
        fixed = [
            f.with_nullable(nullable=f.name not in {"index", "keep", "weight"}).with_metadata(
                told.get(f.name)
            )
            for f in made.schema
        ]
        return ManifestTable(made.combine_chunks().cast(pa.schema(fixed)), provenance, dict(choice))

    def __len__(self) -> int:
        return int(self.data.num_rows)

    def write(self, path: Path, *, document: Mapping[str, object]) -> files.Written:
        """Write table and sidecar; see `files.publish`."""
        footer = self.provenance.footer("manifest") | dict(self.choice)
        return files.publish(
            path,
            lambda temp: parquet.write(temp, self.data, footer),
            document,
            beside=sidecar.sidecar_path(path),
        )

    @staticmethod
    def read(path: Path) -> ManifestTable:
        """Return a manifest, its hash compared with the sidecar first; of a folder, those of all shards in one.

        Raises:
            UsageError: There is no such file.
            DataError: It is damaged or unfinished, or no manifest.
            MismatchError: It is another table of ours.
        """
        found = _of_folder(path) if path.is_dir() else ManifestTable._of_file(path)
        if found.data.num_rows == 0:
            raise DataError(f"{path} has no rows.", where=str(path))
        return found

    @staticmethod
    def _of_file(path: Path) -> ManifestTable:
        with files.steady(path):
            sidecar.verify(path, "manifest")
            footer = parquet.metadata(path)
            table = parquet.read(path)
        provenance = Provenance.of_footer(footer, path)
        if provenance is None:
            raise DataError(
                f"{path} is no manifest of audit: its footer is missing.", do="audit prune writes one"
            )
        if footer.get("audit.format") != "manifest":
            raise MismatchError(
                f"{path} is a {footer.get('audit.format')} table, not a manifest.", do="audit prune"
            )
        missing = [name for name in ("index", "keep", "weight") if name not in table.column_names]
        if missing:
            raise DataError(f"{path} lacks {', '.join(missing)}.", where=str(path))
        _check_decisions(ScoreTable(table, provenance).checked(path), path)
        kept = {key: value for key, value in footer.items() if key not in provenance.footer("manifest")}
        return ManifestTable(table, provenance, kept)

    def policy(self) -> object:
        """Return the policy's name and parameters."""
        return json.loads(self.choice.get("audit.policy", "{}"))


def _of_folder(path: Path) -> ManifestTable:
    """Return the manifests of all shards, which the folder's sidecar names, as one.

    Raises:
        DataError: There is no sidecar, as of an unfinished folder, or it states other files.
    """
    beside = sidecar.sidecar_path(of_all(path))
    try:
        document = sidecar.read(of_all(path))
    except FileNotFoundError:
        raise DataError(
            f"{path} has no {beside.name}: unfinished, or no manifest.",
            do="audit prune writes one for the shards of a table",
            id="E-unfinished",
        ) from None
    shards = document.get("shards")
    if not isinstance(shards, dict) or not shards:
        raise DataError(f"{path} is no folder of manifests.", where=str(beside))
    parts = []
    for name, digest in shards.items():
        if Path(name).name != name or not (path / name).is_file() or files.sha256_file(path / name) != digest:
            raise DataError(
                f"{path / name} is not what {beside.name} states: unfinished or changed.",
                do="run the command that makes it again",
                id="E-unfinished",
            )
        parts.append(ManifestTable._of_file(path / name))  # noqa: SLF001 - a part of the same reading
    data = pa.concat_tables([part.data for part in parts]).unify_dictionaries()
    checked = ScoreTable(data.take(pc.sort_indices(data, [("index", "ascending")])), parts[0].provenance)
    return ManifestTable(checked.checked(path).data, parts[0].provenance, parts[0].choice)


def with_labels(table: pa.Table, counted: Sequence[str], own: Sequence[str]) -> pa.Table:
    """Return a table whose labels count the names in ``own`` and no longer those in ``counted``; null if absent."""
    if "label" not in table.column_names or not own:
        return table
    place = {name: number for number, name in enumerate(own)}
    labels = [None if label is None else place.get(counted[label]) for label in table["label"].to_pylist()]
    column = table.column_names.index("label")
    return table.set_column(column, table.schema.field("label"), pa.array(labels, pa.int32()))


def _check_decisions(table: ScoreTable, path: Path) -> None:
    kinds = {name: table.data.schema.field(name).type for name in ("keep", "weight")}
    if not pa.types.is_boolean(kinds["keep"]) or not pa.types.is_floating(kinds["weight"]):
        raise DataError(
            f"{path}: keep is {kinds['keep']} and weight is {kinds['weight']}, not bool and float."
        )
    weight = table.floats("weight")
    wrong = np.flatnonzero(~np.isfinite(weight) | (weight < 0))
    if table.data["keep"].null_count or len(wrong):
        raise DataError(
            f"{path}: keep is null in {table.data['keep'].null_count:,} rows, weight is no factor in {len(wrong):,}.",
            where="rows " + ", ".join(map(str, wrong[:5])),
        )
