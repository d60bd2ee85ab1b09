"""Listing folders: order, classes, links, names, and what is left out."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from dataset_audit.errors import DataError, EnvironmentProblem, UsageError
from dataset_audit.images import folders
from dataset_audit.images.bad_image import BadImage
from dataset_audit.images.dataset import open_dataset
from dataset_audit.images.names import decode_name

Tree = Callable[..., Path]


def told(root: Path, marker: str) -> str:
    """Return what is said about a data set under one id."""
    return "; ".join(text for name, text in open_dataset(root).warnings if name == marker)


def test_folders_directly_under_the_root_are_the_classes(tree: Tree) -> None:
    dataset = open_dataset(tree("dog/1.png", "cat/2.png", "cat/1.png"))
    assert dataset.class_names == ("cat", "dog")
    assert dataset.file_names == ["cat/1.png", "cat/2.png", "dog/1.png"]
    assert dataset.labels.tolist() == [0, 0, 1]
    assert dataset.labels.dtype == np.int32
    assert dataset.pixels(0).shape == (6, 8, 3)


def test_images_alone_have_no_labels(tree: Tree) -> None:
    dataset = open_dataset(tree("b.png", "a.png"))
    assert dataset.file_names == ["a.png", "b.png"]
    assert dataset.labels.tolist() == [-1, -1]
    assert dataset.class_names == ()


def test_order_equals_that_of_imagefolder(tree: Tree) -> None:
    from torchvision.datasets import ImageFolder

    root = tree(
        "b/2.png", "b/10.png", "b/1.png", "B/1.png", "a/deep/er/1.png", "a/deep-er/2.png", "a/deep/9.png",
        "a/z.png", "10/1.png", "9/1.png", "ä/1.png", "a b/1.png", "a/Z.png", "a/.png.png",
    )  # fmt: skip
    theirs, ours = ImageFolder(str(root)), open_dataset(root)
    assert list(ours.class_names) == theirs.classes
    assert ours.file_names is not None
    hidden = [name for name, _ in theirs.samples if Path(name).name.startswith(".")]
    samples = [(os.path.relpath(name, root), label) for name, label in theirs.samples if name not in hidden]
    assert list(zip(ours.file_names, ours.labels.tolist(), strict=True)) == samples


def test_the_order_does_not_depend_on_the_directory(tree: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    root = tree(*(f"{folder}/{name}.png" for folder in "ba" for name in "cab"))
    expected = open_dataset(root).file_names
    scandir = os.scandir

    class Backwards:
        def __init__(self, path: bytes) -> None:
            self.entries = list(scandir(path))[::-1]

        def __enter__(self) -> list[os.DirEntry[bytes]]:
            return self.entries

        def __exit__(self, *_: object) -> None:
            return None

    monkeypatch.setattr(folders.os, "scandir", Backwards)
    assert open_dataset(root).file_names == expected


# -- links -------------------------------------------------------------------------------------------------


def test_links_to_folders_are_not_followed_and_told_f1(tree: Tree, tmp_path: Path) -> None:
    root = tree("a/1.png", "b/1.png")
    (root / "a" / "loop").symlink_to(root)
    (root / "c").symlink_to(tmp_path)
    dataset = open_dataset(root)
    assert dataset.class_names == ("a", "b")
    assert len(dataset) == 2
    assert "2 linked folders skipped" in told(root, "W-links")
    assert "ImageFolder counts such a folder as a class" in told(root, "W-links")


def test_links_to_files_are_followed_only_inside_the_root_f1(tree: Tree, tmp_path: Path) -> None:
    root = tree("a/1.png", "b/1.png")
    outside = tmp_path / "secret.png"
    outside.write_bytes((root / "a" / "1.png").read_bytes())
    (root / "a" / "inside.png").symlink_to(root / "b" / "1.png")
    (root / "a" / "outside.png").symlink_to(outside)
    (root / "a" / "dangling.png").symlink_to(root / "nowhere.png")
    assert open_dataset(root).file_names == ["a/1.png", "a/inside.png", "b/1.png"]
    assert "2 links to files skipped" in told(root, "W-links")


def test_a_root_that_is_a_link_is_followed_f1(tree: Tree, tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(tree("a/1.png"))
    assert len(open_dataset(link)) == 1


def test_a_folder_that_cannot_be_listed_stops_everything_f2(
    tree: Tree, monkeypatch: pytest.MonkeyPatch
) -> None:
    root, scandir = tree("a/1.png", "b/1.png"), os.scandir

    def refuse(path: bytes) -> object:
        if os.fsencode(path).endswith(b"/b"):
            raise PermissionError(13, "Permission denied")
        return scandir(path)

    monkeypatch.setattr(folders.os, "scandir", refuse)
    with pytest.raises(EnvironmentProblem, match="Permission denied") as error:
        open_dataset(root)
    assert error.value.exit_code == 4
    assert error.value.where.endswith("/b")


# -- names -------------------------------------------------------------------------------------------------


def test_names_that_look_alike_are_two_examples_f3(tree: Tree) -> None:
    root = tree("Cat/caf\u00e9.png", "Cat/cafe\u0301.png", "cat/A.png", "cat/a.png")
    assert len(open_dataset(root)) == 4
    assert told(root, "W-case") == "class names differ only by case"


def test_a_name_that_is_no_text_is_an_example_and_finds_back_f4(tree: Tree) -> None:
    root = tree(b"a/\xff%41.png", "a/50%.png")
    dataset = open_dataset(root)
    assert dataset.file_names == ["a/50%.png", "a/%FF%2541.png"]
    assert dataset.escaped is not None
    assert dataset.escaped.tolist() == [False, True]
    for row, name in enumerate(dataset.file_names):
        raw = decode_name(name, escaped=bool(dataset.escaped[row]))
        assert (root / os.fsdecode(raw)).read_bytes() == dataset.encoded(row)
        name.encode("utf-8")


@pytest.mark.parametrize(
    "name",
    [
        "new\nline", "tab\t", 'quote"', "[/red]", ":car:", "\x1b[31m", "\u009b1m", "\u202eabc", "-x", "=1+1",
        "x" * 250, " ", "$(touch x)", "`id`", "a;b", "CON",
    ],
    ids=lambda name: f"F5-{ascii(name)[1:20]}",
)  # fmt: skip
def test_odd_names_are_examples(tree: Tree, name: str) -> None:
    dataset = open_dataset(tree(f"{name}/{name}.png"))
    assert len(dataset) == 1
    assert dataset.pixels(0).shape == (6, 8, 3)
    assert dataset.file_names is not None
    assert not any(ord(letter) < 32 or 127 <= ord(letter) < 160 for letter in dataset.file_names[0])


def test_a_long_path_is_an_example_f5(tree: Tree) -> None:
    deep = "/".join(["d" * 200] * 15)
    assert len(open_dataset(tree(f"a/{deep}/1.png"))) == 1


def test_hidden_and_system_files_are_skipped_and_told_once_f6(tree: Tree) -> None:
    root = tree(
        "a/1.png", "a/.DS_Store", "a/Thumbs.db", "a/._1.png", "a/desktop.ini", "b/1.png", "a/notes.txt",
        ".ipynb_checkpoints/1.png", "__MACOSX/._1.png", "a/@eaDir/1.png",
    )  # fmt: skip
    dataset = open_dataset(root)
    assert dataset.class_names == ("a", "b")
    assert dataset.file_names == ["a/1.png", "b/1.png"]
    assert told(root, "W-hidden").startswith("3 hidden folders skipped: ")
    assert "class numbers differ" in told(root, "W-hidden")
    assert told(root, "W-files") == "5 files skipped that are no images: 1 .txt, 4 hidden"


def test_empty_classes_keep_their_number_f7(tree: Tree) -> None:
    root = tree("a/1.png", "b/readme.txt", "c/", "d/1.png")
    dataset = open_dataset(root)
    assert dataset.class_names == ("a", "b", "c", "d")
    assert dataset.labels.tolist() == [0, 3]
    assert told(root, "W-empty-class") == "2 classes without an image keep their number: b, c"


def test_a_class_of_broken_images_keeps_its_examples_f7(tree: Tree) -> None:
    dataset = open_dataset(tree("a/1.png", "b/1.jpg"))
    assert dataset.labels.tolist() == [0, 1]
    with pytest.raises(BadImage, match="not an image"):
        dataset.pixels(1)


def test_numbered_classes_in_text_order_are_told(tree: Tree) -> None:
    assert "class '10' is 1" in told(tree("1/1.png", "10/1.png", "2/1.png"), "W-numeric")


# -- roots -------------------------------------------------------------------------------------------------


def test_one_class_is_a_data_set_f8(tree: Tree) -> None:
    assert open_dataset(tree("a/1.png")).class_names == ("a",)


@pytest.mark.parametrize(
    "names", [("a/", "b/"), ("a/x.txt",), ()], ids=["F8-classes", "F8-texts", "F8-empty"]
)
def test_no_image_at_all_is_bad_data(tree: Tree, names: tuple[str, ...]) -> None:
    with pytest.raises(DataError, match="no image"):
        open_dataset(tree(*names))


def test_a_root_that_is_a_file_or_missing_is_bad_use_f8(tree: Tree) -> None:
    root = tree("a/notes.txt")
    with pytest.raises(UsageError, match="not a data set"):
        open_dataset(root / "a" / "notes.txt")
    with pytest.raises(UsageError, match="no such path"):
        open_dataset(root / "missing")


def test_images_beside_folders_are_ambiguous_f9(tree: Tree) -> None:
    root = tree("a/1.png", "b/deep/2.png", "stray.png")
    with pytest.raises(UsageError, match="1 images lie beside 2 folders") as error:
        open_dataset(root)
    assert f"files:{root}" in error.value.do
    all_of_them = open_dataset(f"files:{root}")
    assert all_of_them.file_names == ["stray.png", "a/1.png", "b/deep/2.png"]
    assert set(all_of_them.labels.tolist()) == {-1}


def test_folders_below_a_class_belong_to_it_f9(tree: Tree) -> None:
    dataset = open_dataset(tree("a/b/x.png", "a/c/x.png", "d/x.png"))
    assert dataset.labels.tolist() == [0, 0, 1]


def test_a_hundred_thousand_names_are_listed_quickly_f10(tmp_path: Path) -> None:
    folder = tmp_path / "many" / "a"
    folder.mkdir(parents=True)
    for number in range(20_000):  # a fifth of the promise per fifth of its time
        os.close(os.open(folder / f"{number}.png", os.O_CREAT | os.O_WRONLY))
    start = time.perf_counter()
    assert len(open_dataset(tmp_path / "many")) == 20_000
    assert time.perf_counter() - start < 2


def test_pipes_and_sockets_are_no_files_and_do_not_block_i26(tree: Tree) -> None:
    root = tree("a/1.png", "a/folder.jpg/2.png")
    os.mkfifo(root / "a" / "pipe.png")
    assert open_dataset(root).file_names == ["a/1.png", "a/folder.jpg/2.png"]
    assert "1 entries skipped that are no files" in told(root, "W-files")


def test_a_file_that_became_a_pipe_does_not_block_i26(tree: Tree) -> None:
    root = tree("a/1.png")
    dataset = open_dataset(root)
    (root / "a" / "1.png").unlink()
    os.mkfifo(root / "a" / "1.png")
    with pytest.raises(BadImage, match="not a file"):
        dataset.encoded(0)


def test_foreign_picture_formats_are_rows_not_holes_i24(tree: Tree) -> None:
    assert open_dataset(tree("a/1.png", "a/2.heic")).file_names == ["a/1.png", "a/2.heic"]


# -- splits ------------------------------------------------------------------------------------------------


def test_folders_named_as_splits_are_not_classes(tree: Tree) -> None:
    root = tree("train/a/1.png", "train/b/1.png", "val/a/2.png")
    dataset = open_dataset(root)
    assert dataset.class_names == ("a", "b")
    assert dataset.file_names == ["train/a/1.png", "train/b/1.png"]
    assert dataset.split == ["train", "train"]
    assert "val" in told(root, "W-split")
    assert open_dataset(root, split="val").file_names == ["val/a/2.png"]


def test_a_split_that_is_not_there_is_named(tree: Tree) -> None:
    root = tree("test/a/1.png", "val/a/2.png")
    with pytest.raises(UsageError, match="holds splits, not classes"):
        open_dataset(root)
    with pytest.raises(UsageError, match="no split 'train'"):
        open_dataset(root, split="train")


def test_hidden_folders_inside_a_split_count_as_class_level(tree: Tree) -> None:
    assert "class numbers differ" in told(tree("train/a/1.png", "train/.x/1.png", "val/a/1.png"), "W-hidden")
