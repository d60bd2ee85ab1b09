"""Parquet in the form of Hugging Face: which files, which columns, whose bytes."""

from __future__ import annotations

import json
import os
import pickle
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dataset_audit.errors import AuditError, DataError, UsageError
from dataset_audit.images import parquet
from dataset_audit.images.bad_image import BadImage
from dataset_audit.images.dataset import open_dataset
from dataset_audit.images.scan import scan
from dataset_audit.progress import Silent

IMAGE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
Draw = Callable[..., bytes]


def features(names: list[str] | None = None, label: str = "label", image: str = "image") -> dict[str, str]:
    columns: dict[str, Any] = {image: {"_type": "Image"}}
    if names:
        columns[label] = {"names": names, "_type": "ClassLabel"}
    return {"huggingface": json.dumps({"info": {"features": columns}})}


@pytest.fixture
def write(tmp_path: Path, draw: Draw) -> Callable[..., Path]:
    """Return a function that writes a table of drawn pictures; columns given by name replace or add."""

    def make(name: str = "train.parquet", rows: int = 6, metadata: Any = None, **columns: Any) -> Path:
        options = columns.pop("options", {})
        pictures = [{"bytes": draw(row), "path": f"a/{row}.png"} for row in range(rows)]
        table = {"image": pa.array(pictures, IMAGE), "label": pa.array([row % 3 for row in range(rows)])}
        table = {key: value for key, value in {**table, **columns}.items() if value is not None}
        made = pa.table(table).replace_schema_metadata(metadata or features(["x", "y", "z"]))
        path = tmp_path / "sets" / name
        path.parent.mkdir(exist_ok=True)
        pq.write_table(made, path, **options)
        return path

    return make


Write = Callable[..., Path]


def refuse(path: Path | str, kind: type[AuditError], match: str) -> AuditError:
    with pytest.raises(kind, match=match) as error:
        open_dataset(path)
    return error.value


def test_rows_labels_names_and_bytes_come_in_order(write: Write, draw: Draw) -> None:
    dataset = open_dataset(write(options={"row_group_size": 2}))
    assert dataset.labels.tolist() == [0, 1, 2, 0, 1, 2]
    assert dataset.class_names == ("x", "y", "z")
    assert dataset.file_names == [f"a/{row}.png" for row in range(6)]
    assert dataset.encoded(5) == draw(5)
    assert dataset.pixels(3).shape == (6, 8, 3)
    assert dataset.split == ["train"] * 6


def test_shards_follow_each_other_by_name(write: Write) -> None:
    for number, rows in enumerate((3, 1, 2)):
        write(f"train-{number:05d}-of-00003.parquet", rows=rows)
    folder = write("other.txt").parent
    (folder / "other.txt").unlink()
    for spec in (folder, f"{folder}/train-*.parquet"):
        assert open_dataset(spec).labels.tolist() == [0, 1, 2, 0, 0, 1]


def test_a_folder_of_several_splits_gives_train_and_says_so(write: Write) -> None:
    write("train-00000-of-00001.parquet", rows=4)
    folder = write("test-00000-of-00001.parquet", rows=2).parent
    dataset = open_dataset(folder)
    assert len(dataset) == 4
    assert dataset.split == ["train"] * 4
    assert dict(dataset.warnings)["W-split"].endswith("train is taken; --split chooses")
    assert len(open_dataset(folder, split="test")) == 2
    with pytest.raises(UsageError, match="no split 'val'") as error:
        open_dataset(folder, split="val")
    assert error.value.do == "splits there: test, train"
    (folder / "train-00000-of-00001.parquet").rename(folder / "val-00000-of-00001.parquet")
    refuse(folder, UsageError, "several splits: test, val")


def test_train_and_test_without_numbers_are_splits_too(write: Write) -> None:
    write("train.parquet", rows=4)
    assert len(open_dataset(write("test.parquet", rows=2).parent)) == 4


def test_empty_row_groups_between_full_ones_are_fine_t5(tmp_path: Path, write: Write) -> None:
    table = pq.read_table(write())
    path = tmp_path / "groups.parquet"
    with pq.ParquetWriter(path, table.schema) as writer:
        for rows in (table[:0], table[:4], table[:0], table[4:], table[:0]):
            writer.write_table(rows)
    assert open_dataset(path).labels.tolist() == [0, 1, 2, 0, 1, 2]


def test_no_rows_is_bad_data_t5(write: Write) -> None:
    refuse(write(rows=0), DataError, "no rows")


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"PAR1PAR1",
        b"<html></html>",
        b"PAR1" + b"\0" * 100 + b"PAR1",
        b"PAR1" + b"x" * 50 + b"\xff\xff\xff\x7fPAR1",
    ],
    ids=["T1-empty", "T1-eight-bytes", "T1-html", "T1-zeros", "T1-footer-length"],
)
def test_what_is_no_parquet_is_bad_data(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "train.parquet"
    path.write_bytes(content)
    assert refuse(path, DataError, "Not a readable Parquet file").where.startswith(str(path))


def test_a_file_cut_in_half_is_bad_data_t1(write: Write) -> None:
    path = write()
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    refuse(path, DataError, "Not a readable Parquet file")


def test_a_flipped_bit_in_a_page_is_found_where_there_are_checksums_t2(write: Write, draw: Draw) -> None:
    path = write(options={"write_page_checksum": True, "compression": "none", "use_dictionary": False})
    data = bytearray(path.read_bytes())
    data[data.index(draw(3)) + 40] ^= 1
    path.write_bytes(data)
    with pytest.raises(DataError, match="Not a readable Parquet file"):
        open_dataset(path).encoded(3)


# -- labels ------------------------------------------------------------------------------------------------


def test_null_and_minus_one_are_no_label_t9(write: Write) -> None:
    dataset = open_dataset(write(label=pa.array([0, None, -1, 2, 1, 0])))
    assert dataset.labels.tolist() == [0, -1, -1, 2, 1, 0]


@pytest.mark.parametrize("value", [3, -2, 2**40], ids=["T9-beyond", "T9-negative", "T9-huge"])
def test_a_label_that_is_no_class_names_its_row(write: Write, value: int) -> None:
    error = refuse(write(label=pa.array([0, 1, 2, 0, value, 1])), DataError, "Row 4 has label")
    assert error.exit_code == 3


def test_labels_of_other_kinds_in_two_shards_are_refused_t9(write: Write) -> None:
    write("train-00000-of-00002.parquet")
    folder = write("train-00001-of-00002.parquet", label=pa.array(list("xyzxyz"))).parent
    error = refuse(folder, DataError, "Two shards differ")
    assert "train-00000" in error.where
    assert "train-00001" in error.where


@pytest.mark.parametrize(
    "labels",
    [
        pytest.param(pa.array([0, 1, 2, 0, 1, 2], pa.int8()), id="T10-int8"),
        pytest.param(pa.array([0, 1, 2, 0, 1, 2], pa.uint64()), id="T10-uint64"),
        pytest.param(pa.array(list("xyzxyz")), id="T10-string"),
        pytest.param(pa.array(list("xyzxyz"), pa.large_string()), id="T10-large-string"),
        pytest.param(pa.array(list("xyzxyz"), pa.string_view()), id="T10-string-view"),
        pytest.param(pa.array(list("xyzxyz")).dictionary_encode(), id="T10-dictionary"),
    ],
)
def test_labels_of_equivalent_types_are_the_same(write: Write, labels: pa.Array) -> None:
    assert open_dataset(write(label=labels)).labels.tolist() == [0, 1, 2, 0, 1, 2]


@pytest.mark.parametrize(
    "labels",
    [
        pytest.param(pa.array([0.0] * 6), id="T10-float"),
        pytest.param(pa.array([[0]] * 6), id="T10-list"),
        pytest.param(pa.array([0] * 6, pa.timestamp("s")), id="T10-timestamp"),
        pytest.param(pa.array([True] * 6), id="T10-bool"),
    ],
)
def test_labels_of_other_types_are_refused(write: Write, labels: pa.Array) -> None:
    refuse(write(label=labels), DataError, "labels are whole numbers or text")


def test_text_labels_without_names_become_classes_in_text_order(write: Write) -> None:
    dataset = open_dataset(write(label=pa.array(["b", "a", "c", "a", "b", None]), metadata=features()))
    assert dataset.class_names == ("a", "b", "c")
    assert dataset.labels.tolist() == [1, 0, 2, 0, 1, -1]


def test_numbers_without_names_are_named_by_themselves(write: Write) -> None:
    assert open_dataset(write(metadata={"pandas": "{}"})).class_names == ("0", "1", "2")


def test_without_a_label_column_nothing_is_labelled(write: Write) -> None:
    dataset = open_dataset(write(label=None, metadata=features()))
    assert dataset.labels.tolist() == [-1] * 6
    assert dataset.class_names == ()


def test_other_usual_column_names_are_found(write: Write) -> None:
    pictures = pq.read_table(write()).column("image")
    path = write(
        "b.parquet",
        metadata=features(["p", "q", "r"], "fine_label", "img"),
        image=None,
        label=None,
        img=pictures,
        fine_label=pa.array([0, 1, 2, 0, 1, 2]),
        coarse_label=pa.array([0] * 6),
    )
    assert open_dataset(path).class_names == ("p", "q", "r")


@pytest.mark.parametrize("footer", ["{", "[]", '{"info": 3}', '{"info": {"features": [1]}}', "[" * 100_000])
def test_a_footer_of_another_kind_says_nothing_s2(write: Write, footer: str) -> None:
    assert open_dataset(write(metadata={"huggingface": footer})).class_names == ("0", "1", "2")


# -- image column ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "column",
    [
        pytest.param(pa.array(["aGVsbG8="] * 6), id="T20-base64"),
        pytest.param(pa.array([[1, 2]] * 6, pa.list_(pa.uint8())), id="T20-list"),
        pytest.param(pa.array([{"url": "https://example.org"}] * 6), id="T20-url"),
        pytest.param(pa.array([{"bytes": "x", "path": "x"}] * 6), id="T20-text-bytes"),
    ],
)
def test_an_image_column_of_another_kind_is_refused_saying_what_it_is(write: Write, column: pa.Array) -> None:
    refuse(write(image=column), DataError, r"expected struct<bytes: binary, path: string>")


def test_a_table_without_images_is_refused_t20(write: Write) -> None:
    refuse(write(image=None, other=pa.array(range(6))), DataError, "no column 'image'.*only label, other")


def test_two_columns_of_one_name_are_refused_t11(tmp_path: Path) -> None:
    path = tmp_path / "train.parquet"
    pq.write_table(pa.Table.from_arrays([pa.array([1]), pa.array([2])], names=["a", "a"]), path)
    refuse(path, DataError, "Two columns have one name")


def test_bytes_win_over_a_path_t19(write: Write, draw: Draw) -> None:
    path = write(rows=1, image=pa.array([{"bytes": draw(9), "path": "/etc/passwd"}], IMAGE))
    assert open_dataset(path).encoded(0) == draw(9)


def test_a_path_without_bytes_is_read_beside_the_table_t19(write: Write, draw: Draw) -> None:
    path = write(rows=1, image=pa.array([{"bytes": None, "path": "sub/1.png"}], IMAGE))
    (path.parent / "sub").mkdir()
    (path.parent / "sub" / "1.png").write_bytes(draw(7))
    assert open_dataset(path).encoded(0) == draw(7)


@pytest.mark.parametrize("name", ["../out.png", "/etc/passwd", "https://example.org/x.png"])
def test_a_path_without_bytes_that_leaves_the_folder_is_refused_t19(write: Write, name: str) -> None:
    path = write(rows=1, image=pa.array([{"bytes": None, "path": name}], IMAGE))
    (path.parent.parent / "out.png").write_bytes(b"secret")
    dataset = open_dataset(path)
    with pytest.raises(DataError, match="leaves the root"):
        dataset.encoded(0)
    with pytest.raises(DataError, match="leaves the root"):
        scan(dataset, workers=2, memory=10**9, progress=Silent())


@pytest.mark.parametrize("cell", [{"bytes": None, "path": None}, None], ids=["T19-nulls", "T19-null-struct"])
def test_a_row_with_neither_is_a_row_without_bytes(write: Write, draw: Draw, cell: Any) -> None:
    cells = [{"bytes": draw(1), "path": "a"}, cell]
    dataset = open_dataset(write(rows=2, image=pa.array(cells, IMAGE)))
    assert dataset.file_names is None
    with pytest.raises(BadImage) as bad:
        dataset.encoded(1)
    assert bad.value.status == "no_bytes"


def test_text_that_is_not_utf8_is_bad_data_not_a_crash(tmp_path: Path, draw: Draw) -> None:
    paths = pa.Array.from_buffers(
        pa.string(), 1, [None, pa.py_buffer(np.array([0, 2], np.int32)), pa.py_buffer(b"\xff\xfe")]
    )
    cells = pa.StructArray.from_arrays([pa.array([draw(1)]), paths], fields=list(IMAGE))
    path = tmp_path / "train.parquet"
    pq.write_table(pa.table({"image": cells}), path)
    refuse(path, DataError, "Not a readable Parquet file")


def test_a_pickle_in_extension_metadata_is_never_loaded_s2(tmp_path: Path, draw: Draw) -> None:
    canary = tmp_path / "canary"

    class Bomb:
        def __reduce__(self) -> tuple[Any, ...]:
            return (open, (str(canary), "w"))

    marks = {
        "ARROW:extension:name": "arrow.py_extension_type",
        "ARROW:extension:metadata": pickle.dumps(Bomb()),
    }
    field = pa.field("image", IMAGE, metadata=marks)
    table = pa.table([pa.array([{"bytes": draw(1), "path": "a"}], IMAGE)], schema=pa.schema([field]))
    path = tmp_path / "train.parquet"
    pq.write_table(table, path)
    assert open_dataset(path).pixels(0).shape == (6, 8, 3)
    assert not canary.exists()


# -- which path --------------------------------------------------------------------------------------------


def test_a_pattern_that_matches_nothing_is_bad_use_t15(tmp_path: Path) -> None:
    assert refuse(f"{tmp_path}/*.parquet", UsageError, "pattern").exit_code == 2


@pytest.mark.parametrize("drop", [0, 1, 2])
def test_a_missing_shard_is_named_t15(write: Write, drop: int) -> None:
    for number in range(3):
        write(f"train-{number:05d}-of-00003.parquet")
    folder = write("train-00000-of-00003.parquet").parent
    (folder / f"train-{drop:05d}-of-00003.parquet").unlink()
    for spec in (folder, f"{folder}/*.parquet"):
        refuse(spec, DataError, f"{drop} of 3 is missing")


def test_a_shard_that_is_there_twice_is_named_t15(write: Write) -> None:
    write("train-00000-of-00001-aaaa.parquet")
    refuse(write("train-00000-of-00001-bbbb.parquet").parent, DataError, "there 2 times")


def test_shards_of_other_columns_or_class_names_are_refused_t15(write: Write) -> None:
    write("a.parquet")
    for other in ({"more": pa.array(range(6))}, {"metadata": features(["x", "z", "y"])}):
        refuse(write("b.parquet", **other).parent, DataError, "Two shards differ")


@pytest.mark.parametrize(
    "spec", ["s3://bucket/x.parquet", "file:///etc/passwd", "https://example.org/a.parquet"]
)
def test_remote_paths_are_not_read_t23(spec: str) -> None:
    assert refuse(spec, UsageError, "Remote paths are not read").exit_code == 2


def test_pipes_and_devices_are_bad_use_t23(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.parquet")
    for path in (tmp_path / "pipe.parquet", Path("/dev/zero")):
        refuse(path, UsageError, "device, pipe or socket")


def test_a_large_file_of_zeros_is_refused_at_once_t23(tmp_path: Path) -> None:
    path = tmp_path / "train.parquet"
    with path.open("wb") as file:
        file.truncate(5 * 10**9)
    refuse(path, DataError, "Not a readable Parquet file")


def test_parquet_beside_pictures_is_ambiguous(write: Write, draw: Draw) -> None:
    path = write()
    (path.parent / "1.png").write_bytes(draw(1))
    refuse(path.parent, UsageError, "beside folders or images")


def test_a_file_replaced_while_open_is_an_error_or_the_old_content_t22(write: Write) -> None:
    path = write(options={"row_group_size": 2})
    dataset = open_dataset(path)
    path.write_bytes(b"PAR1 something else")
    with pytest.raises(DataError, match="Not a readable Parquet file"):
        dataset.encoded(0)
    write(rows=4, options={"row_group_size": 1})
    with pytest.raises(DataError, match="Not a readable Parquet file"):
        dataset.encoded(0)


def test_many_zeros_in_a_small_file_are_read_in_batches_t12(write: Write) -> None:
    rows = 2_000_000
    cells = pa.array([None], IMAGE).take(pa.array(np.zeros(rows, np.int64)))
    dataset = open_dataset(write(rows=0, image=cells, label=pa.array(np.zeros(rows, np.int64))))
    assert len(dataset) == rows


# -- threads and memory ------------------------------------------------------------------------------------


def test_every_row_group_is_read_once_by_many_threads(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    dataset = open_dataset(write(rows=40, options={"row_group_size": 10}))
    expected = [dataset.encoded(row) for row in range(40)]
    dataset = open_dataset(write(rows=40, options={"row_group_size": 10}))
    reads: list[int] = []
    original = parquet.ParquetSource._read

    def counted(self: parquet.ParquetSource, number: int) -> Any:
        reads.append(number)
        return original(self, number)

    monkeypatch.setattr(parquet.ParquetSource, "_read", counted)
    barrier = threading.Barrier(8)

    def work(offset: int) -> bool:
        barrier.wait()
        return all(dataset.encoded((offset + row) % 40) == expected[(offset + row) % 40] for row in range(40))

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(work, range(8)))
    assert sorted(reads) == [0, 1, 2, 3]


def test_a_bound_on_what_is_kept_changes_nothing_but_the_reads(write: Write) -> None:
    dataset = open_dataset(write(rows=40, options={"row_group_size": 10}))
    source = dataset.source
    assert isinstance(source, parquet.ParquetSource)
    expected = [dataset.encoded(row) for row in range(40)]
    small = parquet.ParquetSource(source.files, source.groups, source.column, source.limits, kept_bytes=1)
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(small.encoded, [*range(40), *range(40)])) == expected * 2
    assert len(small._cache) == 1


# -- CIFAR-10 ----------------------------------------------------------------------------------------------


@pytest.mark.real_data
def test_cifar10_has_its_published_labels(real_data: Path) -> None:
    dataset = open_dataset(real_data / "cifar10", split="train")
    assert len(dataset) == 50_000
    assert dataset.labels[:10].tolist() == [6, 9, 9, 4, 1, 1, 2, 7, 8, 3]
    assert np.bincount(dataset.labels).tolist() == [5000] * 10
    assert dataset.class_names[6] == "frog"
    tested = open_dataset(real_data / "cifar10", split="test1k")
    assert tested.labels[:10].tolist() == [3, 8, 8, 0, 6, 6, 1, 6, 3, 1]


@pytest.mark.real_data
@pytest.mark.slow
def test_cifar10_has_its_published_mean(real_data: Path) -> None:
    dataset = open_dataset(real_data / "cifar10", split="train")
    pixels = np.zeros((50_000, 32, 32, 3), np.uint8)

    def keep(index: int, picture: Any) -> None:
        pixels[index] = picture

    found = scan(dataset, workers=2, memory=10**9, progress=Silent(), keep=keep)
    assert found.ok.all()
    assert len(set(found.uid)) == 50_000
    mean = pixels.mean(axis=(0, 1, 2)) / 255
    assert np.abs(mean - [0.49139968, 0.48215841, 0.44653091]).max() < 1e-8
