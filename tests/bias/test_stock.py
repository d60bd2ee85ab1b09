"""What is drawn of each source, what is read of it, and which of it can be compared."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from io import BytesIO

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from dataset_audit.bias.stock import LEAST, Source, Stock, check_identical, draw, read_headers, usable
from dataset_audit.errors import DataError, MismatchError
from dataset_audit.images.bad_image import BadImage
from dataset_audit.images.decode import Limits
from dataset_audit.images.identity import uid, uid_array
from dataset_audit.images.opened import ArraySource, ImageDataset
from dataset_audit.progress import Silent


class Files:
    """Encoded bytes in memory; None is a file that cannot be read."""

    def __init__(self, data: Sequence[bytes | None]) -> None:
        self.data = data

    def encoded(self, index: int) -> bytes:
        found = self.data[index]
        if found is None:
            raise BadImage("no_bytes", "gone: no such file")
        return found


def listed(count: int, spec: str = "drawn", labels: Sequence[int] | None = None) -> ImageDataset:
    """A data set that lists files and holds none."""
    given_ = np.array(labels if labels is not None else [0] * count, np.int32)
    return ImageDataset(
        spec=spec, name=spec, labels=given_, class_names=("cat", "dog"), source=Files([None] * count),
        file_names=[f"{row:05}.png" for row in range(count)],
    )  # fmt: skip


def source(name: str, count: int, rows: Sequence[int] | None = None, spec: str = "drawn") -> Source:
    chosen = np.arange(count) if rows is None else np.array(rows)
    return Source(name=name, dataset=listed(count, spec), rows=chosen)


def of(stock: Stock, name: str) -> list[int]:
    rows: list[int] = stock.index[stock.source == stock.names.index(name)].tolist()
    return rows


@given(
    sizes=st.lists(st.integers(LEAST, 200), min_size=2, max_size=4),
    per_source=st.integers(LEAST, 250),
    seed=st.integers(0, 2**62),
)
def test_all_sources_give_equally_many_different_rows_of_their_own(
    sizes: list[int], per_source: int, seed: int
) -> None:
    sources = [source(f"s{place}", size) for place, size in enumerate(sizes)]
    stock = draw(sources, per_source, seed)
    count = min(per_source, *sizes)
    assert len(stock) == count * len(sizes)
    for one in sources:
        rows = of(stock, one.name)
        assert len(rows) == count
        assert rows == sorted(set(rows))
        assert set(rows) <= set(one.rows.tolist())
    for number in range(len(sizes)):
        assert sorted(stock.place[stock.source == number].tolist()) == list(range(count))


@pytest.mark.parametrize("seed", range(5))
def test_what_is_drawn_is_never_the_head_of_a_listing(seed: int) -> None:
    stock = draw([source("a", 3000), source("b", 2000)], 100, seed)
    for name, size in (("a", 3000), ("b", 2000)):
        rows = of(stock, name)
        assert rows != list(range(100))
        assert abs(np.mean(rows) / size - 0.5) < 0.15  # 5 standard errors
        assert max(rows) > 0.9 * size


def test_a_draw_depends_on_its_seed() -> None:
    sources = [source("a", 500), source("b", 500)]
    assert of(draw(sources, 50, 1), "a") == of(draw(sources, 50, 1), "a")
    assert of(draw(sources, 50, 1), "a") != of(draw(sources, 50, 2), "a")


@given(order=st.permutations(["ant", "bee", "cow"]))
def test_the_order_of_arguments_changes_nothing(order: list[str]) -> None:
    sizes = {"ant": 80, "bee": 60, "cow": 90}
    plain, moved = (draw([source(n, sizes[n]) for n in names], 50, 3) for names in (sizes, order))
    assert plain.names == moved.names == ("ant", "bee", "cow")
    assert np.array_equal(plain.index, moved.index)
    assert np.array_equal(plain.source, moved.source)
    assert np.array_equal(plain.place, moved.place)


def test_names_and_places_of_sources_change_nothing_of_what_is_drawn() -> None:
    plain = draw([source("a", 80), source("b", 60)], 50, 3)
    renamed = draw([source("z", 80, spec="elsewhere"), source("y", 60)], 50, 3)
    assert of(plain, "a") == of(renamed, "z")
    assert of(plain, "b") == of(renamed, "y")


def test_copies_of_a_set_give_the_same_rows_and_other_sets_others() -> None:
    stock = draw([source("a", 90), source("copy of a", 90), source("c", 91)], 50, 3)
    assert of(stock, "a") == of(stock, "copy of a")
    assert of(stock, "a") != of(stock, "c")


def test_fewer_of_a_source_are_the_first_drawn_of_more() -> None:
    many = draw([source("a", 500), source("b", 500)], 100, 3)
    few = draw([source("a", 500), source("b", 500)], 40, 3)
    first = many.index[(many.source == 0) & (many.place < 40)]
    assert of(few, "a") == first.tolist()


def test_only_rows_that_may_be_drawn_are() -> None:
    odd = range(1, 200, 2)
    stock = draw([source("a", 200, odd), source("b", 100)], 60, 1)
    assert all(row % 2 for row in of(stock, "a"))


@pytest.mark.parametrize(("count", "said"), [(0, "0 images;"), (1, "1 image;"), (LEAST - 1, "29 images;")])
def test_a_source_of_too_few_is_refused_by_name(count: int, said: str) -> None:
    with pytest.raises(DataError) as caught:
        draw([source("fine", 100), source("scant", count, spec="there/scant")], 50, 1)
    assert caught.value.id == "E-few"
    assert caught.value.what.startswith(f"scant has {said}")
    assert caught.value.where == "there/scant"


def test_labels_classes_and_file_names_are_those_of_the_rows() -> None:
    labels = [(row // 3) % 3 - 1 for row in range(50)]
    stock = draw(
        [Source(name="a", dataset=listed(50, labels=labels), rows=np.arange(50)), source("b", 40)], 40, 1
    )
    names = [None, "cat", "dog"]
    for row in range(len(stock)):
        index = int(stock.index[row])
        wanted = labels[index] if stock.source[row] == 0 else 0
        assert stock.labels()[row] == wanted
        assert stock.class_names()[row] == names[wanted + 1]
        assert stock.file_names()[row] == f"{index:05}.png"


def test_some_of_the_pictures_are_the_same_pictures() -> None:
    stock = draw([source("a", 40), source("b", 40)], 40, 1)
    stock.uid[:] = [f"{row:032x}" for row in range(80)]
    stock.status[7] = "unreadable"
    stock.error[7] = "broken: it"
    some = stock.only(np.array([3, 7, 50]))
    assert some.uid == [f"{row:032x}" for row in (3, 7, 50)]
    assert some.status == ["ok", "unreadable", "ok"]
    assert some.error == [None, "broken: it", None]
    assert some.source.tolist() == [0, 0, 1]
    assert some.names == stock.names


def png(level: int) -> bytes:
    stream = BytesIO()
    Image.new("RGB", (5, 4), (level, 0, 0)).save(stream, "PNG")
    return stream.getvalue()


def test_headers_give_uid_and_facts_and_what_cannot_be_read_its_status() -> None:
    data: list[bytes | None] = [png(row) for row in range(LEAST)]
    data[4], data[5], data[6] = None, b"no picture at all", png(6)[:10]
    files = replace(listed(LEAST), source=Files(data))
    pixels = np.random.default_rng(0).integers(0, 256, (LEAST, 6, 7, 1), dtype=np.uint8)
    array = ImageDataset(
        spec="x.npz", name="x", labels=np.zeros(LEAST, np.int32), class_names=("a",), source=ArraySource(pixels),
        channels=1, array=pixels,
    )  # fmt: skip
    rows = np.arange(LEAST)
    stock = draw(
        [Source(name="a", dataset=files, rows=rows), Source(name="b", dataset=array, rows=rows)], 99, 1
    )
    read_headers(stock, workers=2, progress=Silent())
    for row in range(LEAST):
        known, bytes_ = stock.facts[row], data[row]
        if row in (4, 5, 6):
            assert known is None
            assert stock.status[row] in {"no_bytes", "unreadable"}
            assert stock.error[row]
        else:
            assert known is not None
            assert (known.width, known.height, known.format) == (5, 4, "PNG")
            assert bytes_ is not None
            assert stock.uid[row] == uid(bytes_)
            assert (stock.status[row], stock.error[row]) == ("ok", None)
    assert stock.uid[4] is None
    assert stock.uid[5] == uid(b"no picture at all")  # its bytes are known all the same
    assert stock.file_names()[LEAST:] == [None] * LEAST
    for row in range(LEAST):
        known = stock.facts[LEAST + row]
        assert stock.uid[LEAST + row] == uid_array(pixels[row])
        assert known is not None
        assert (known.width, known.height, known.mode, known.format) == (7, 6, "L", "array")


def broken(stock: Stock, name: str, count: int, why: str = "broken: bytes") -> None:
    for row in np.flatnonzero(stock.source == stock.names.index(name))[:count].tolist():
        stock.status[row], stock.error[row] = "unreadable", why


@given(bad=st.tuples(st.integers(0, 20), st.integers(0, 20), st.integers(0, 20)), seed=st.integers(0, 99))
def test_what_is_usable_is_equal_good_and_drawn_first(bad: tuple[int, int, int], seed: int) -> None:
    stock = draw([source(name, 60) for name in "abc"], 50, seed)
    for name, count in zip("abc", bad, strict=True):
        broken(stock, name, count)
    rows = usable(stock, max_skipped=0.5)
    assert rows.tolist() == sorted(set(rows.tolist()))
    assert all(stock.status[row] == "ok" for row in rows)
    for number in range(3):
        good = [row for row in np.flatnonzero(stock.source == number).tolist() if stock.status[row] == "ok"]
        wanted = sorted(good, key=lambda row: int(stock.place[row]))[: 50 - max(bad)]
        assert rows[stock.source[rows] == number].tolist() == sorted(wanted)


def test_too_many_bad_pictures_are_refused_with_source_causes_and_names() -> None:
    stock = draw([source("a", 100), source("b", 100, spec="there/b")], 100, 1)
    broken(stock, "b", 21)
    for row in np.flatnonzero(stock.source == 1)[:5].tolist():
        stock.error[row] = "truncated: of 5 bytes"
    with pytest.raises(DataError) as caught:
        usable(stock, max_skipped=0.2)
    error = caught.value
    assert error.id == "E-skipped"
    assert error.what == "21 of 100 images of b cannot be used (16 broken, 5 truncated); 79 are left."
    assert error.where.startswith("there/b: 00000.png: truncated: of 5 bytes; ")
    assert "--max-skipped" in error.do
    stock.status[int(np.flatnonzero(stock.source == 1)[0])] = "ok"
    assert len(usable(stock, max_skipped=0.2)) == 2 * 80  # a share that is just allowed


def test_too_few_left_are_refused_whatever_may_be_skipped() -> None:
    stock = draw([source("a", 40), source("b", 40)], 40, 1)
    broken(stock, "a", 11)
    with pytest.raises(DataError, match="29 are left") as caught:
        usable(stock, max_skipped=1.0)
    assert "leave the source out" in caught.value.do
    stock = draw([source("a", 40), source("b", 40)], 40, 1)
    broken(stock, "a", 10)
    assert len(usable(stock, max_skipped=1.0)) == 60


def test_a_source_of_broken_files_alone_is_refused_though_none_has_a_name() -> None:
    pixels = np.zeros((LEAST, 4, 4, 3), np.uint8)
    array = ImageDataset(
        spec="x", name="x", labels=np.zeros(LEAST, np.int32), class_names=(), source=ArraySource(pixels), array=pixels
    )  # fmt: skip
    stock = draw([Source(name="a", dataset=array, rows=np.arange(LEAST)), source("b", LEAST)], LEAST, 1)
    broken(stock, "a", LEAST)
    with pytest.raises(DataError, match="30 of 30 images of a"):
        usable(stock, max_skipped=1.0)


def with_uids(first: Sequence[str | None], second: Sequence[str | None]) -> Stock:
    stock = draw([source("a", LEAST), source("b", LEAST, spec="there/b")], LEAST, 1)
    stock.uid[:] = [*first, *second]
    return stock


def test_two_sources_of_the_same_pictures_are_refused_in_any_order() -> None:
    uids: list[str | None] = [f"{row:032x}" for row in range(LEAST)]
    with pytest.raises(MismatchError) as caught:
        check_identical(with_uids(uids, uids[::-1]))
    assert caught.value.id == "E-identical"
    assert caught.value.what == "a and b are the same images."
    assert caught.value.where == "there/b"
    assert "--allow-identical" in caught.value.do


def test_sources_that_differ_in_one_picture_or_could_not_be_read_are_not_identical() -> None:
    uids: list[str | None] = [f"{row:032x}" for row in range(LEAST)]
    check_identical(with_uids(uids, [*uids[:-1], "f" * 32]))
    check_identical(with_uids([None] * LEAST, [None] * LEAST))


def test_a_copied_folder_is_found_to_be_identical() -> None:
    data = [png(row) for row in range(60)]
    sets = [
        Source(
            name=name, dataset=replace(listed(60), source=Files(data), limits=Limits()), rows=np.arange(60)
        )
        for name in ("a", "b")
    ]
    stock = draw(sets, 40, 1)  # a part of each, and the same part
    read_headers(stock, workers=1, progress=Silent())
    with pytest.raises(MismatchError, match="same images"):
        check_identical(stock)
