"""Tar archives: read in place, listed as the folder that was packed, refused when cut off or hostile."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
import tarfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dataset_audit.errors import DataError, UsageError
from dataset_audit.images.bad_image import BadImage
from dataset_audit.images.dataset import open_dataset
from dataset_audit.images.decode import Limits
from dataset_audit.images.names import decode_name
from dataset_audit.images.opened import ImageDataset
from dataset_audit.images.scan import scan
from dataset_audit.progress import Silent

Tree = Callable[..., Path]
Draw = Callable[..., bytes]
Content = dict[str, bytes]

GNU, PAX, USTAR = tarfile.GNU_FORMAT, tarfile.PAX_FORMAT, tarfile.USTAR_FORMAT


def packed(content: Content, kind: int = GNU) -> bytes:
    """Return an archive of files; names ending in / are folders."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=kind, errors="surrogateescape") as tar:
        for name, data in content.items():
            tar.addfile(entry(name, len(data)), io.BytesIO(data))
    return file.getvalue()


def entry(name: str, size: int = 0, kind: bytes | None = None, link: str = "") -> tarfile.TarInfo:
    made = tarfile.TarInfo(name.rstrip("/"))
    made.size = size
    made.type = kind or (tarfile.DIRTYPE if name.endswith("/") else tarfile.REGTYPE)
    made.linkname = link
    return made


def with_entries(*entries: tarfile.TarInfo, after: Content, kind: int = GNU) -> bytes:
    """Return an archive of bare headers and then of files."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=kind) as tar:
        for made in entries:
            tar.addfile(made, io.BytesIO(bytes(made.size)) if made.isreg() else None)
        for name, data in after.items():
            tar.addfile(entry(name, len(data)), io.BytesIO(data))
    return file.getvalue()


@pytest.fixture
def opened(tmp_path: Path) -> Callable[..., ImageDataset]:
    """Return a function that writes bytes as an archive and opens it."""

    def open_bytes(data: bytes, name: str = "photos.tar", **arguments: object) -> ImageDataset:
        path = tmp_path / name
        path.write_bytes(data)
        return open_dataset(path, **arguments)  # type: ignore[arg-type]

    return open_bytes


Opened = Callable[..., ImageDataset]


def told(dataset: ImageDataset, marker: str) -> str:
    return "; ".join(text for name, text in dataset.warnings if name == marker)


def same(one: ImageDataset, other: ImageDataset) -> None:
    """Check that two data sets hold the same examples in the same order under the same names."""
    first, second = (scan(data, workers=1, memory=2**30, progress=Silent()) for data in (one, other))
    assert first.uid == second.uid
    assert first.status == second.status
    assert first.fingerprint == second.fingerprint
    assert one.labels.tolist() == other.labels.tolist()
    assert one.labels.dtype == np.int32
    assert one.class_names == other.class_names
    assert one.file_names == other.file_names
    assert one.split == other.split
    for index, status in enumerate(first.status):
        if status == "ok":
            assert np.array_equal(one.pixels(index), other.pixels(index))


# -- as the folder -------------------------------------------------------------------------------------------

NAMES = (
    "b/2.png", "b/10.png", "B/1.png", "a/deep/er/1.png", "a/deep-er/2.png", "a/deep/9.png", "a/z.png", "a/bad.jpg",
    "10/1.png", "9/1.png", "ä/1.png", "a b/1.png", "a/.png.png", "empty/", "a/notes.txt", ".hidden/1.png",
    "a/@eaDir/1.png", b"a/\xff%41.png", "a/2.heic",
)  # fmt: skip


@pytest.mark.parametrize("kind", [GNU, PAX], ids=["gnu", "pax"])
@pytest.mark.parametrize("way", ["around", "root", "deep"])
def test_a_packed_folder_is_the_folder_itself(tree: Tree, tmp_path: Path, way: str, kind: int) -> None:
    root = tree(*NAMES)
    arcname = {"around": "photos", "root": ".", "deep": "home/me/photos"}[way]
    with tarfile.open(tmp_path / "x.tar", "w", format=kind) as tar:
        tar.add(root, arcname=arcname)
    archive, folder = open_dataset(tmp_path / "x.tar"), open_dataset(root)
    same(archive, folder)
    assert archive.spec == str(tmp_path / "x.tar")
    for marker in ("W-hidden", "W-empty-class", "W-case", "W-files"):
        assert told(archive, marker) == told(folder, marker)


def test_without_folder_members_the_names_make_the_folders(opened: Opened, tree: Tree, draw: Draw) -> None:
    root = tree("cat/1.png", "dog/2.png")
    content = {name: (root / name).read_bytes() for name in ("dog/2.png", "cat/1.png")}
    same(opened(packed(content)), open_dataset(root))


def test_images_alone_have_no_labels(opened: Opened, draw: Draw) -> None:
    for prefix in ("", "./", "photos/"):
        dataset = opened(packed({f"{prefix}b.png": draw(1), f"{prefix}a.png": draw(2)}))
        assert dataset.file_names == ["a.png", "b.png"]
        assert dataset.labels.tolist() == [-1, -1]
        assert dataset.class_names == ()
        assert ("photos/ is around everything" in told(dataset, "W-tar")) == (prefix == "photos/")


def test_splits_are_those_of_folders(tree: Tree, tmp_path: Path) -> None:
    root = tree("train/a/1.png", "train/b/1.png", "val/a/2.png", "val/.x/1.png", "train/readme.txt")
    with tarfile.open(tmp_path / "x.tar", "w") as tar:
        tar.add(root, arcname="photos")
    archive = open_dataset(tmp_path / "x.tar")
    same(archive, open_dataset(root))
    assert archive.warnings[0][0] == "W-split"
    same(open_dataset(tmp_path / "x.tar", split="val"), open_dataset(root, split="val"))
    with pytest.raises(UsageError, match="no split 'dev'"):
        open_dataset(tmp_path / "x.tar", split="dev")


def test_a_lone_split_is_not_looked_through(opened: Opened, draw: Draw) -> None:
    dataset = opened(packed({"train/a/1.png": draw(1), "train/b/1.png": draw(2)}))
    assert dataset.split == ["train", "train"]
    assert dataset.class_names == ("a", "b")


def test_images_beside_folders_are_ambiguous_unless_labels_are_not_wanted(
    opened: Opened, draw: Draw, tmp_path: Path
) -> None:
    data = packed({"a/1.png": draw(1), "b/deep/2.png": draw(2), "stray.png": draw(3)})
    with pytest.raises(UsageError, match="1 images lie beside 2 folders") as error:
        opened(data)
    assert f"files:{tmp_path}/photos.tar" in error.value.do
    dataset = open_dataset(f"files:{tmp_path}/photos.tar")
    assert dataset.file_names == ["stray.png", "a/1.png", "b/deep/2.png"]
    assert set(dataset.labels.tolist()) == {-1}


@pytest.mark.parametrize("content", [{}, {"a/": b""}, {"a/x.txt": b"x"}, {"train/": b"", "val/": b""}])
def test_no_image_at_all_is_bad_data(opened: Opened, content: Content) -> None:
    with pytest.raises(DataError, match="no image"):
        opened(packed(content))


# -- WebDataset ----------------------------------------------------------------------------------------------


def test_the_text_beside_an_image_is_its_label(opened: Opened, draw: Draw) -> None:
    content = {
        "0002.jpg": draw(1, kind="JPEG"), "0002.cls": b"3\n", "0002.json": b"{}",
        "0001.seg.png": draw(2), "0001.cls": b"0", "0003.png": draw(3),
    }  # fmt: skip
    dataset = opened(packed(content))
    assert dataset.file_names == ["0001.seg.png", "0002.jpg", "0003.png"]
    assert dataset.labels.tolist() == [0, 3, -1]
    assert dataset.class_names == ("0", "1", "2", "3")
    assert told(dataset, "W-label").startswith("1 of 3 images have no label")
    assert told(dataset, "W-files") == "1 files skipped that are no images: 1 .json"


def test_labels_that_are_words_are_classes_in_text_order(opened: Opened, draw: Draw) -> None:
    content = {"s/1.png": draw(1), "s/1.cls": b"dog", "s/2.png": draw(2), "s/2.cls": "\u00e4\x1b".encode()}
    dataset = opened(packed(content))
    assert dataset.class_names == ("dog", "\u00e4%1B")
    assert dataset.labels.tolist() == [0, 1]


def test_a_label_of_a_megabyte_or_named_twice_is_bad_data(opened: Opened, draw: Draw) -> None:
    with pytest.raises(DataError, match="more than a kilobyte"):
        opened(packed({"1.png": draw(1), "1.cls": b"1" * 2**20}))
    with pytest.raises(DataError, match="same name"):
        opened(packed({"1.png": draw(1), "1.cls": b"1", "./1.cls": b"2"}))


def test_a_huge_class_number_is_a_name_not_a_billion_classes(opened: Opened, draw: Draw) -> None:
    dataset = opened(packed({"1.png": draw(1), "1.cls": b"4000000000"}))
    assert dataset.class_names == ("4000000000",)


# -- hostile archives ----------------------------------------------------------------------------------------


def test_links_and_devices_are_left_out_and_counted_a1(opened: Opened, draw: Draw) -> None:
    data = with_entries(
        entry("a/soft.png", kind=tarfile.SYMTYPE, link="/etc/passwd"),
        entry("a/hard.png", kind=tarfile.LNKTYPE, link="a/1.png"),
        entry("c", kind=tarfile.SYMTYPE, link=".."),
        entry("a/fifo.png", kind=tarfile.FIFOTYPE),
        entry("a/disk.png", kind=tarfile.BLKTYPE),
        entry("a/tty.png", kind=tarfile.CHRTYPE),
        entry("a/odd.png", kind=b"Z"),
        after={"a/1.png": draw(1), "b/1.png": draw(2)},
    )
    dataset = opened(data)
    assert dataset.file_names == ["a/1.png", "b/1.png"]
    assert dataset.class_names == ("a", "b")
    assert "3 links skipped" in told(dataset, "W-links")
    assert "4 entries skipped that are no files" in told(dataset, "W-files")


def test_names_that_lead_out_are_only_names_a1(
    opened: Opened, draw: Draw, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "secret").mkdir()
    (tmp_path / "secret" / "1.png").write_bytes(draw(9))
    inside = draw(1)
    content = {"../secret/1.png": inside, "/a/2.png": draw(2), "a/../../3.png": draw(3), "C:\\x.png": draw(4)}
    data, real, touched = packed({**content, "b/1.png": draw(5)}), os.open, []

    def watched(path: os.PathLike[str], *rest: int) -> int:
        touched.append(os.fspath(path))
        return real(path, *rest)

    monkeypatch.setattr(os, "open", watched)
    (tmp_path / "photos.tar").write_bytes(data)
    dataset = open_dataset(f"files:{tmp_path / 'photos.tar'}")
    assert dataset.file_names == ["C:\\x.png", "../secret/1.png", "a/2.png", "a/../../3.png", "b/1.png"]
    assert dataset.encoded(1) == inside
    assert set(touched) == {str(tmp_path / "photos.tar")}
    assert "3 members have absolute names or '..'" in told(dataset, "W-tar")


@pytest.mark.parametrize("second", ["a/1.png", "./a/1.png", "/a//1.png", "a/./1.png"])
def test_an_image_named_twice_is_bad_data_a1(opened: Opened, draw: Draw, second: str) -> None:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as tar:
        for name, shade in (("a/1.png", 1), (second, 2), ("b/1.png", 3)):
            tar.addfile(entry(name, len(draw(shade))), io.BytesIO(draw(shade)))
    with pytest.raises(DataError, match="same name") as error:
        opened(file.getvalue())
    assert error.value.where.endswith("a/1.png")


def test_a_folder_named_twice_is_one(opened: Opened, draw: Draw) -> None:
    data = with_entries(entry("a/"), entry("a/"), entry("b/"), after={"a/1.png": draw(1), "b/1.png": draw(2)})
    assert opened(data).class_names == ("a", "b")


def test_a_sparse_member_is_a_row_and_never_filled_in_a2(opened: Opened, draw: Draw) -> None:
    huge = entry("a/huge.png")
    huge.pax_headers = {"GNU.sparse.map": "0,0", "GNU.sparse.size": str(2**40)}
    small = entry("a/small.png")
    small.pax_headers = {"GNU.sparse.map": "0,0", "GNU.sparse.size": "1000"}
    dataset = opened(with_entries(huge, small, after={"a/x.png": draw(1), "b/1.png": draw(2)}, kind=PAX))
    assert dataset.file_names == ["a/huge.png", "a/small.png", "a/x.png", "b/1.png"]
    with pytest.raises(BadImage, match="too large: 1099511627776 bytes"):
        dataset.encoded(0)
    with pytest.raises(BadImage, match="sparse: stored with holes"):
        dataset.encoded(1)
    assert dataset.encoded(2) == draw(1)


def test_a_large_member_is_a_row_and_never_read(opened: Opened, draw: Draw) -> None:
    dataset = opened(packed({"1.png": bytes(5000), "2.png": draw(1)}), limits=Limits(max_file_bytes=4000))
    with pytest.raises(BadImage, match="too large: 5000 bytes exceed --max-file-bytes 4000"):
        dataset.encoded(0)
    assert dataset.encoded(1) == draw(1)


def test_an_empty_member_is_a_row(opened: Opened, draw: Draw) -> None:
    dataset = opened(packed({"1.png": b"", "2.png": draw(1)}))
    assert dataset.encoded(0) == b""
    with pytest.raises(BadImage, match="empty"):
        dataset.pixels(0)


def test_every_cut_of_an_archive_is_bad_data_a3(opened: Opened, draw: Draw) -> None:
    content = {"a/1.png": draw(1), "a/" + "n" * 150 + ".png": draw(2), "b/1.png": draw(3)}
    data = packed(content)
    ends = data.rindex(draw(3)) + len(draw(3))
    ends += -ends % 512
    assert data[ends:] == bytes(len(data) - ends)
    for cut in [*range(0, ends + 512, 256), ends - 1, ends + 511]:
        with pytest.raises(DataError, match=r"empty|Not a readable tar|cut off or damaged after member"):
            opened(data[:cut])
    assert len(opened(data[: ends + 512])) == 3


def test_a_cut_names_the_last_whole_member_a3(opened: Opened, draw: Draw) -> None:
    data = packed({"a/1.png": draw(1), "b/2.png": bytes(5000)})
    with pytest.raises(DataError, match="after member 2: unexpected end") as error:
        opened(data[: data.index(b"b/2.png") + 2000])
    assert error.value.exit_code == 3
    assert error.value.where.endswith("photos.tar: b/2.png")


@pytest.mark.parametrize("member", [0, 1, 2])
def test_a_damaged_header_is_bad_data_and_not_the_end_a3(opened: Opened, draw: Draw, member: int) -> None:
    names = ["a/1.png", "a/2.png", "b/1.png"]
    data = bytearray(packed({name: draw(shade) for shade, name in enumerate(names)}))
    data[data.index(names[member].encode()) + 120] ^= 1
    with pytest.raises(
        DataError, match=f"after member {member}: bad header" if member else "Not a readable tar"
    ):
        opened(bytes(data))


@pytest.mark.parametrize("size", [2**33, 2**62, 2**70, -512, -(2**40)])
def test_a_size_past_the_end_or_below_nothing_is_bad_data_a3(opened: Opened, draw: Draw, size: int) -> None:
    good = packed({"a/1.png": draw(1)})
    header = bytearray(good[:512])
    header[124:136] = (size & (2**96 - 1)).to_bytes(12, "big")
    header[124] = 0o200 if size > 0 else 0o377
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    for data in (bytes(header) + good[512:], good[:1024] + bytes(header) + bytes(1024)):
        with pytest.raises(DataError, match=r"Not a readable tar|cut off or damaged"):
            opened(data)


@pytest.mark.parametrize(
    "headers",
    [
        {"size": "-1024"}, {"size": str(2**60)}, {"GNU.sparse.map": "1,2,x"}, {"path": "n" * 5000},
        {"GNU.sparse.major": "1", "GNU.sparse.minor": "0"}, {"comment": "9" * 2000}, {"comment": "n" * 2**19},
    ],
    ids="".join,
)  # fmt: skip
def test_hostile_pax_headers_are_bad_data_and_cost_nothing_a4(
    opened: Opened, draw: Draw, headers: dict[str, str]
) -> None:
    bad = entry("a/bad.png")
    bad.pax_headers = headers
    data = with_entries(entry("a/0.png", 3), bad, after={"b/1.png": draw(1)}, kind=PAX)
    start = time.perf_counter()
    with pytest.raises(DataError, match="cut off or damaged after member"):
        opened(data)
    assert time.perf_counter() - start < 1


def test_a_chain_of_headers_without_a_member_is_bad_data_a4(opened: Opened) -> None:
    long = entry("././@LongLink", 600, kind=tarfile.GNUTYPE_LONGNAME).tobuf(GNU) + bytes(1024)
    with pytest.raises(DataError, match="Not a readable tar"):
        opened(long * 5000)


@pytest.mark.parametrize("kind", [GNU, PAX], ids=["gnu", "pax"])
def test_names_that_are_no_text_are_examples_and_find_back_a4(opened: Opened, draw: Draw, kind: int) -> None:
    raw = [b"a/\xff\xfe.png", b"a/new\nline.png", b"a/" + b"\xc3\xa4" * 100 + b".png", b"b/50%.png"]
    content = {os.fsdecode(name): draw(shade) for shade, name in enumerate(raw)}
    dataset = opened(packed(content, kind))
    assert dataset.file_names is not None
    assert dataset.escaped is not None
    found = {
        decode_name(n, escaped=bool(e)) for n, e in zip(dataset.file_names, dataset.escaped, strict=True)
    }
    assert found == set(raw)
    for name in dataset.file_names:
        assert name.isprintable()


@pytest.mark.parametrize(
    ("pack", "command", "name"),
    [
        (gzip.compress, "gunzip", "x.tar.gz"),
        (gzip.compress, "gunzip", "x.TGZ"),
        (gzip.compress, "gunzip", "x.tar"),
        (bz2.compress, "bunzip2", "x.tar.bz2"),
        (lzma.compress, "unxz", "x.txz"),
        (lambda data: b"\x28\xb5\x2f\xfd" + data, "unzstd", "x.tar.zst"),
    ],
)
def test_a_compressed_archive_is_refused_with_advice_a3(
    opened: Opened, draw: Draw, pack: Callable[[bytes], bytes], command: str, name: str
) -> None:
    with pytest.raises(UsageError, match="compressed archive cannot be read in place") as error:
        opened(pack(packed({"a/1.png": draw(1)})), name)
    assert error.value.exit_code == 2
    assert error.value.do.startswith(command)


@pytest.mark.parametrize("data", [b"", b"x", b"PK\3\4" + bytes(600), b"garbage" * 500, bytes(300)])
def test_what_is_no_archive_is_bad_data_a3(opened: Opened, data: bytes) -> None:
    with pytest.raises(DataError, match=r"empty|Not a readable tar"):
        opened(data)


def test_archives_joined_end_to_end_are_told(opened: Opened, draw: Draw) -> None:
    one = packed({"a/1.png": draw(1), "b/1.png": draw(2)})
    assert told(opened(one), "W-tar") == ""
    dataset = opened(one + one)
    assert len(dataset) == 2
    assert "goes on behind its end mark" in told(dataset, "W-tar")


def test_an_archive_in_an_archive_is_no_image(opened: Opened, draw: Draw) -> None:
    dataset = opened(packed({"a/1.png": draw(1), "a/x.tar": packed({"b/2.png": draw(2)})}))
    assert len(dataset) == 1
    assert told(dataset, "W-files").endswith("1 .tar")


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_no_damage_is_anything_but_a_data_set_or_our_error(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    content = {"a/1.png": b"x" * 700, "a/" + "n" * 120 + ".png": b"y", "b/ä.png": b"", "b/2.cls": b"1"}
    whole = bytearray(packed(content, data.draw(st.sampled_from([GNU, PAX]))))
    for _ in range(data.draw(st.integers(1, 3))):
        place = data.draw(st.integers(0, 6 * 1024))
        whole[place : place + data.draw(st.integers(0, 12))] = data.draw(st.binary(max_size=12))
    path = tmp_path_factory.getbasetemp() / "damaged.tar"
    path.write_bytes(whole)
    with suppress(UsageError, DataError):
        dataset = open_dataset(path)
        assert sum(len(dataset.encoded(index)) for index in range(len(dataset))) <= len(whole)


# -- reading -------------------------------------------------------------------------------------------------


def test_threads_read_the_same_bytes(opened: Opened) -> None:
    content = {f"{number % 7}/{number:03}.png": bytes([number]) * (number * 37) for number in range(200)}
    dataset = opened(packed(content))
    assert dataset.file_names is not None
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(dataset.encoded, [*range(200)] * 5))
    assert found == [content[name] for name in dataset.file_names] * 5


def test_no_handle_is_held_and_a_changed_archive_is_noticed(
    opened: Opened, draw: Draw, tmp_path: Path
) -> None:
    before = len([*Path("/proc/self/fd").iterdir()])
    dataset = opened(packed({"1.png": draw(1)}))
    dataset.encoded(0)
    assert len([*Path("/proc/self/fd").iterdir()]) == before
    path = tmp_path / "photos.tar"
    os.utime(path, ns=(1, 1))
    with pytest.raises(DataError, match="changed after it was listed"):
        dataset.encoded(0)
    path.unlink()
    with pytest.raises(DataError, match="vanished"):
        dataset.encoded(0)
    os.mkfifo(path)
    with pytest.raises(DataError, match="no regular file"):
        dataset.encoded(0)


def test_a_hundred_thousand_members_are_listed_quickly_a4(tmp_path: Path) -> None:
    header = bytearray(entry("a/00000.png").tobuf(USTAR))
    path = tmp_path / "many.tar"
    with path.open("wb") as file:
        for number in range(20_000):  # a fifth of the promise per fifth of its time
            header[:12] = b"%c/%05d.png\0" % (97 + number % 10, number)
            header[148:156] = b" " * 8
            header[148:156] = b"%06o\0 " % sum(header)
            file.write(header)
        file.write(bytes(1024))
    start = time.process_time()
    assert len(open_dataset(path)) == 20_000
    assert time.process_time() - start < 4
