"""``scores.parquet``: what each column means (COLUMNS), and the table of one row per example."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import ArrayLike, NDArray

from dataset_audit.errors import DataError, MismatchError, UsageError
from dataset_audit.tables import files, finished, parquet, sidecar
from dataset_audit.tables.bias import BIAS
from dataset_audit.tables.provenance import Provenance

Hard = Literal["high", "low"]


@dataclass(frozen=True, kw_only=True)
class Column:
    """What a score column says: which end is hard, its unit, formula and paper.

    Attributes:
        hard: Which end is hard; None for columns that do not rank.
        unit: Of its values.
        formula: How one run's value is made of its presentations t = 1..n.
        source: The paper.
        rank_by: Another column that must be used to rank in its place.
        keep: True where high means "worth keeping" rather than "wrong": such a score finds no label errors.
    """

    hard: Hard | None
    unit: str
    formula: str
    source: str = ""
    rank_by: str = ""
    keep: bool = False


COLUMNS: Final[dict[str, Column]] = {
    "forgetting": Column(
        hard="high", unit="events",
        formula="forgetting events, or n in a run that never learned the example; mean over runs",
        source="Toneva et al. 2019, as their code sorts",
    ),
    "forgetting_events": Column(
        hard="high", unit="events", formula="number of t with correct(t-1) and not correct(t)",
        source="Toneva et al. 2019, sec. 3", rank_by="forgetting",
    ),
    "learning_events": Column(
        hard="high", unit="events", formula="number of t > 1 with not correct(t-1) and correct(t)",
        source="Toneva et al. 2019", rank_by="forgetting",
    ),
    "first_learned": Column(
        hard="high", unit="presentation", formula="first t that is correct, counted from 0; none is hardest",
        source="Toneva et al. 2019",
    ),
    "last_wrong": Column(
        hard="high", unit="presentation", formula="last t that is wrong, counted from 0; none is easiest",
        source="Mangalam & Prabhu 2019 (learned for good)",
    ),
    "correctness": Column(
        hard="low", unit="share", formula="share of presentations that are correct", source="Swayamdipta et al. 2020"
    ),
    "confidence": Column(
        hard="low", unit="probability", formula="mean of p_y", source="Swayamdipta et al. 2020"
    ),
    "variability": Column(
        hard="high", unit="probability", formula="population std of p_y", source="Swayamdipta et al. 2020", keep=True
    ),
    "aum": Column(
        hard="low", unit="logit", formula="mean of z_y - max over k != y of z_k", source="Pleiss et al. 2020"
    ),
    "loss_mean": Column(hard="high", unit="nat", formula="mean of -log p_y", source="mean cross-entropy"),
    "el2n": Column(
        hard="high", unit="L2 norm", formula="norm of p - onehot(y) in eval mode, not augmented, at stated epochs",
        source="Paul et al. 2021, def. 2.3",
    ),
    "el2n_mean": Column(
        hard="high", unit="L2 norm", formula="mean of the norm of p - onehot(y) over presentations, train mode",
        source="streaming variant of Paul et al. 2021",
    ),
    "grand_last": Column(
        hard="high", unit="gradient norm", formula="mean of |p - onehot(y)| * sqrt(|h|^2 + 1)",
        source="last-layer GraNd, Paul et al. 2021, def. 2.1",
    ),
    "dyn_unc": Column(
        hard="high", unit="probability", formula="mean over windows of 10 of the std (ddof 1) of p_y",
        source="He et al. 2024", keep=True,
    ),
    "dual": Column(
        hard="high", unit="probability", formula="mean over windows of 10 of std * (1 - mean) of p_y, first 30 t",
        source="Cho et al. 2025", keep=True,
    ),
    "dual_confidence": Column(hard=None, unit="probability", formula="mean of p_y over the first 30 t"),
    "tdds": Column(
        hard="high", unit="nat", formula="decayed sum over windows of the norm of centred KL terms",
        source="Zhang et al. 2024", keep=True,
    ),
    "typicality": Column(hard="low", unit="log-odds", formula="log-odds of its own source, out of fold"),
}  # fmt: skip

TYPES: Final[dict[str, pa.DataType]] = {
    "source": BIAS["source"][0],
    "index": pa.int64(),
    "uid": pa.string(),
    "file_name": pa.string(),
    "file_name_escaped": pa.bool_(),
    "label": pa.int32(),
    "class_name": pa.dictionary(pa.int32(), pa.string()),
    "clean_label": pa.int32(),
    "split": pa.dictionary(pa.int32(), pa.string()),
    "status": pa.dictionary(pa.int32(), pa.string()),
    "error": pa.string(),
    **{name: BIAS[name][0] for name in ("cluster", "predicted_source", "typicality")},
    "runs": pa.int16(),
    "presentations": pa.int32(),
    "forgetting": pa.float32(),
    "forgetting_events": pa.float32(),
    "learning_events": pa.float32(),
    "never_learned": pa.bool_(),
    "never_learned_runs": pa.int16(),
    "unforgettable": pa.bool_(),
    "unforgettable_runs": pa.int16(),
    **dict.fromkeys(
        (
            "first_learned", "last_wrong", "correctness", "confidence", "variability", "aum", "loss_mean", "el2n",
            "el2n_mean", "grand_last", "dyn_unc", "dual", "dual_confidence", "tdds",
        ),
        pa.float32(),
    ),
}  # fmt: skip


@dataclass(frozen=True, eq=False)
class ScoreTable:
    """One row per example of the full data set, unreadable ones included, and where it came from.

    Columns that are not ours are kept; their orientation travels in the field's metadata, if anyone stated it.
    """

    data: pa.Table
    provenance: Provenance | None

    @staticmethod
    def of(columns: Mapping[str, ArrayLike | Sequence[str | None]], provenance: Provenance) -> ScoreTable:
        """Return a table of these columns, each of N rows, in the order of the format, foreign columns last by name.

        NaN in a float column and a masked entry become null; a float[N, R] array becomes a list column.

        Raises:
            UsageError: Columns of different length, or a column that is no plain array.
        """
        lengths = {name: len(values) for name, values in columns.items()}  # type: ignore[arg-type]  # sized, all of them
        if len(set(lengths.values())) > 1:
            raise UsageError(
                "Columns have different lengths: " + ", ".join(f"{k} {v}" for k, v in lengths.items())
            )
        names = [name for name in TYPES if name in columns] + sorted(
            name for name in columns if name not in TYPES
        )
        arrays = [_array(name, columns[name]) for name in names]
        fields = [
            pa.field(
                name,
                array.type,
                nullable=name not in {"index", "presentations"},
                metadata=_told(name, provenance),
            )
            for name, array in zip(names, arrays, strict=True)
        ]
        return ScoreTable(pa.Table.from_arrays(arrays, schema=pa.schema(fields)), provenance)

    def __len__(self) -> int:
        return int(self.data.num_rows)

    @property
    def names(self) -> list[str]:
        """Column names in file order."""
        return list(self.data.column_names)

    def has(self, name: str) -> bool:
        """Return whether there is such a column."""
        return name in self.data.column_names

    def hard(self, name: str) -> Hard | None:
        """Return which end of a column is hard: by name if it is ours, else as the file states, else None."""
        base = name.removesuffix("_std")
        if name in COLUMNS:
            return COLUMNS[name].hard
        stated = (
            (self.data.schema.field(name).metadata or {}).get(b"hard")
            if self.has(name) and base == name
            else None
        )
        return {b"high": "high", b"low": "low"}.get(stated)  # type: ignore[return-value,arg-type]

    def floats(self, name: str) -> NDArray[np.float64]:
        """Return a numeric column as float64[N] with NaN for null; float32 values keep their exact value.

        Raises:
            UsageError: No such column, or one of text.
            DataError: It is nested, a time, or has values that float64 cannot hold.
        """
        return _cast(_numeric(self.data, name), name, pa.float64()).to_numpy(zero_copy_only=False)  # type: ignore[no-any-return]

    def integers(self, name: str, null: int = -1) -> NDArray[np.int64]:
        """Return an integer column as int64[N]; whole numbers of any numeric type are accepted."""
        column = _cast(_numeric(self.data, name), name, pa.int64())
        filled = column.fill_null(null) if column.null_count else column
        return filled.to_numpy(zero_copy_only=False)  # type: ignore[no-any-return]

    def flags(self, name: str) -> NDArray[np.bool_]:
        """Return a boolean column as bool[N], null as False."""
        column = _cast(self.data, name, pa.bool_()).fill_null(pa.scalar(value=False))
        found: NDArray[np.bool_] = column.to_numpy(zero_copy_only=False)
        return found

    def per_run(self, name: str) -> NDArray[np.float64]:
        """Return the scores of each run, float64[N, R] in the order of the seeds, NaN for null.

        Raises:
            UsageError: The table was written without per-run columns, or has no such score.
            DataError: Rows have different numbers of runs, or none has any.
        """
        column = f"{name}_runs"
        if column not in self.data.column_names:
            raise UsageError(f"There is no column {column!r}.", do="audit forgetting --per-run")
        lists = self.data[column].combine_chunks()
        lengths = pc.unique(pc.list_value_length(lists).drop_null()).to_pylist()
        if len(lengths) != 1:
            raise DataError(f"Column {column!r} has not as many runs in every row: {sorted(lengths)}.")
        values = lists.flatten().cast(pa.float64()).to_numpy(zero_copy_only=False)
        found = np.full((len(self), lengths[0]), np.nan)
        found[lists.is_valid().to_numpy(zero_copy_only=False)] = values.reshape(
            -1, lengths[0]
        )  # none of null
        return found

    def strings(self, name: str) -> list[str | None]:
        """Return a text column."""
        texts: list[str | None] = _cast(self.data, name, pa.string()).to_pylist()
        return texts

    def rows(self, positions: NDArray[np.int64]) -> ScoreTable:
        """Return the table of these rows alone, in their order."""
        return ScoreTable(self.data.take(pa.array(positions)), self.provenance)

    def equals(self, name: str, value: str) -> NDArray[np.bool_]:
        """Return where a text column is ``value``, bool[N]; null is not."""
        same = pc.fill_null(pc.equal(_cast(self.data, name, pa.string()), value), pa.scalar(value=False))
        found: NDArray[np.bool_] = same.to_numpy(zero_copy_only=False)
        return found

    def of_sources(self, path: Path) -> NDArray[np.int64]:
        """Return int64[N], the place of each row's source among those the footer names.

        Raises:
            DataError: The column ``source`` is missing or names another.
        """
        names = [origin.name for origin in self.provenance.sources] if self.provenance else []
        place = {name: number for number, name in enumerate(names)}
        if not self.has("source"):
            raise DataError(f"{path} has no column source, though its footer names {len(names)} sources.")
        found = [place.get(name or "", -1) for name in self.strings("source")]
        if -1 in found:
            raise DataError(f"{path}: row {found.index(-1):,} has a source that its footer does not name.")
        return np.array(found, np.int64)

    def checked(self, path: Path) -> ScoreTable:
        """Return the table itself if its index and labels, where it has them, name examples and classes.

        Raises:
            DataError: They do not; names ``path``.
        """
        if self.has("index"):
            _check_index(self, path)
        if self.has("label"):
            _check_labels(self, path)
        return self

    def typed(self, name: str) -> pa.Array:
        """Return a column in the type that the format gives it; foreign tables have others."""
        kind = TYPES[name]
        if pa.types.is_dictionary(kind):
            return pc.dictionary_encode(_cast(self.data, name, pa.string()))
        return _cast(self.data if pa.types.is_string(kind) else _numeric(self.data, name), name, kind)

    def uid_words(self) -> NDArray[np.uint64] | None:
        """Return the two halves of each uid, uint64[N, 2]; (0, 0) where it is null or malformed, None without."""
        if not self.has("uid"):
            return None
        column = _cast(self.data, "uid", pa.string())
        usable = pc.fill_null(pc.equal(pc.binary_length(column), 32), pa.scalar(value=False))
        if not pc.all(usable, min_count=0).as_py():
            column = pc.if_else(usable, column, "0" * 32)
        _, offsets, text = column.buffers()
        start = int(np.frombuffer(offsets, np.int32)[column.offset]) if len(column) else 0
        pairs = np.frombuffer(text or b"", np.uint8)[start : start + 32 * len(column)].view("<u2")
        octets = _hexadecimal()[pairs]
        words: NDArray[np.uint64] = octets.astype(np.uint8).view(">u8").astype(np.uint64).reshape(-1, 2)
        if len(octets) and octets.max() > 255:
            words[(octets.reshape(-1, 16) > 255).any(axis=1)] = 0
        return words

    def write(
        self, path: Path, *, document: Mapping[str, object], format_name: str = "scores"
    ) -> files.Written:
        """Write table and sidecar; see `finished.write`.

        Args:
            path: Where.
            document: The sidecar without its hash.
            format_name: ``scores``, or ``bias`` for the per-image table of that command.

        Raises:
            EnvironmentProblem: They could not be written; what was there is intact.
        """
        footer = self.provenance.footer(format_name) if self.provenance else {"audit.format": format_name}
        return finished.write(path, self.data, footer, document)

    @staticmethod
    def read(path: Path, *, columns: Sequence[str] | None = None, strict: bool = False) -> ScoreTable:
        """Return (some columns of) a table of ours, or of anyone's with ``index`` or ``uid`` and a numeric column.

        The sidecar's hash is compared first: it covers the footer, which has no checksum of its own.

        Args:
            path: The file.
            columns: Only these, where present.
            strict: Whether to refuse a table without sidecar.

        Raises:
            UsageError: There is no such file.
                MismatchError: It is a manifest, or its sidecar belongs to another kind of table.
            DataError: Damaged, unfinished, empty, or rows that are no rows of a data set.
        """
        with files.steady(path):
            schema = parquet.schema(path)
            footer = parquet.metadata(path)
            if sidecar.verify(path, footer.get("audit.format")) == "foreign" and strict:
                raise DataError(
                    f"{path} has no sidecar, and --strict was given.", do="make the table with audit"
                )
            wanted = None if columns is None else [name for name in schema.names if name in set(columns)]
            table = parquet.read(path, wanted)
        if footer.get("audit.format") == "manifest":
            raise MismatchError(f"{path} is a manifest, not a score table.", do="name the scores it is of")
        if table.num_rows == 0:
            raise DataError(f"{path} has no rows.", where=str(path))
        if not {"index", "uid"} & set(schema.names):
            raise DataError(
                f"{path} has neither index nor uid, so its rows name no example.",
                where="columns: " + ", ".join(schema.names[:50]),
            )
        return ScoreTable(table, Provenance.of_footer(footer, path)).checked(path)


@cache
def _hexadecimal() -> NDArray[np.uint16]:
    """Return the value of each pair of characters, as the two bytes stand in memory; 256 for no digits."""
    values = np.full(2**16, 256, np.uint16)
    digits = np.frombuffer(b"0123456789abcdef", np.uint8).astype(np.uint16)
    values[digits[:, None] + (digits[None, :] << 8)] = np.arange(256, dtype=np.uint16).reshape(16, 16)
    return values


def _check_labels(table: ScoreTable, path: Path) -> None:
    try:
        labels = table.integers("label")
    except UsageError as error:
        raise DataError(
            f"{path}: label is text, not a class number.", do="class numbers as label, names as class_name"
        ) from error
    known = (len(table.provenance.class_names) if table.provenance else 0) or 2**31
    if len(labels) and (labels.min() < -1 or labels.max() >= known):
        wrong = np.flatnonzero((labels < -1) | (labels >= known))
        raise DataError(
            f"{path}: label is {labels[wrong[0]]:,} in row {wrong[0]:,}, of {known:,} classes from 0.",
            where=f"{len(wrong):,} rows: " + ", ".join(map(str, wrong[:5])),
        )


def _check_index(table: ScoreTable, path: Path) -> None:
    kind = table.data.schema.field("index").type
    if not pa.types.is_integer(kind):
        raise DataError(f"{path}: index is {kind}, not an integer.", where=str(path))
    if table.data["index"].null_count:
        raise DataError(f"{path}: index has {table.data['index'].null_count:,} nulls.", where=str(path))
    index = table.integers("index")
    if (index < 0).any():
        raise DataError(
            f"{path}: index has negative values.", where=", ".join(map(str, index[index < 0][:5]))
        )
    if table.provenance is not None and table.provenance.sources:
        named = table.of_sources(path)
    elif (index[1:] > index[:-1]).all():
        return  # as audit writes them: nothing to sort
    else:
        named = np.zeros(len(index), np.int64)
    order = np.lexsort((index, named))
    ordered, behind = index[order], named[order]
    twice = ordered[1:][(ordered[1:] == ordered[:-1]) & (behind[1:] == behind[:-1])]
    if len(twice):
        raise DataError(f"{path}: index has {len(twice):,} duplicates.", where=", ".join(map(str, twice[:5])))


def _told(name: str, provenance: Provenance) -> dict[str, str] | None:
    base = name.removesuffix("_std").removesuffix("_runs")
    known = COLUMNS.get(name)
    told: dict[str, str] = {}
    if known is not None:
        told = {"unit": known.unit, "source": known.source, "formula": known.formula}
        if known.hard:
            told["hard"] = known.hard
    if base in provenance.epochs and name == base:
        told["epochs"] = json.dumps(list(provenance.epochs[base]))
    return told or None


def _array(name: str, values: ArrayLike | Sequence[str | None]) -> pa.Array:
    kind = TYPES.get(name)
    if isinstance(values, list | tuple):
        text = [None if v is None else v.encode("utf-8", "backslashreplace").decode() for v in values]
        return pa.array(text, pa.string()).cast(kind or pa.string())
    array = np.asanyarray(values)
    if array.ndim == 2:
        flat = _array("", array.ravel())
        return pa.FixedSizeListArray.from_arrays(flat.cast(pa.float32()), array.shape[1])
    if array.dtype.kind == "O":
        return _array(name, array.tolist())
    if array.ndim != 1 or array.dtype.kind not in "biuf":
        raise UsageError(
            f"Column {name} is no plain array of numbers or texts: {array.dtype}, {array.ndim} axes."
        )
    mask = np.ma.getmaskarray(array) if isinstance(array, np.ma.MaskedArray) else None
    data = np.ma.getdata(array)
    if data.dtype.kind == "f":
        missing = ~np.isfinite(data)
        mask = missing if mask is None else mask | missing
    made = pa.array(data, mask=mask)
    return made.cast(kind) if kind is not None else made


def _numeric(table: pa.Table, name: str) -> pa.Table:
    """Return ``table`` if a column can be read as numbers: arrow would parse them out of texts and times."""
    if name not in table.column_names:
        raise _no_column(table, name)
    kind = table.schema.field(name).type
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    if pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
        raise UsageError(
            f"Column {name} is text, not a number.", where="columns: " + ", ".join(table.column_names[:50])
        )
    plain = (
        pa.types.is_integer,
        pa.types.is_floating,
        pa.types.is_boolean,
        pa.types.is_decimal,
        pa.types.is_null,
    )
    if not any(fits(kind) for fits in plain):
        raise DataError(f"Column {name} is {kind}, not a number.", where=name)
    return table


def _no_column(table: pa.Table, name: str) -> UsageError:
    return UsageError(f"There is no column {name!r}.", where="columns: " + ", ".join(table.column_names[:50]))


def _cast(table: pa.Table, name: str, kind: pa.DataType) -> pa.Array:
    if name not in table.column_names:
        raise _no_column(table, name)
    column = table[name]
    column = column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()  # copies even one
    if isinstance(column, pa.ChunkedArray):
        column = column.chunk(0) if column.num_chunks else pa.array([], column.type)
    try:
        return column if column.type.equals(kind) else column.cast(kind)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise DataError(f"Column {name} is {column.type}, which cannot be read as {kind}.") from error
