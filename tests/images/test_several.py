"""Several data sets at once: their short names, and that none is named twice."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dataset_audit.errors import UsageError
from dataset_audit.images.several import refuse_twice, short_names


@pytest.mark.parametrize(
    ("specs", "names"),
    [
        (["data/cats", "data/dogs"], ["cats", "dogs"]),
        (["data/cats/", "data/dogs//"], ["cats", "dogs"]),
        (["cats/", "./dogs"], ["cats", "dogs"]),
        (["a/x/train", "b/x/train"], ["a/x/train", "b/x/train"]),
        (["r/a/train", "r/b/train", "r/a/test"], ["a/train", "b/train", "a/test"]),
        (["a/b", "b"], ["a/b", "b"]),
        (["/cats", "cats"], ["/cats", "cats"]),
        (["cifar10", "some/mnist"], ["cifar10", "mnist"]),
        (["x/one"], ["one"]),
        (["one/"], ["one"]),
        (["x", "x", "y"], ["x (1)", "x (2)", "y (3)"]),
        (["x", "./x"], ["x", "./x"]),
    ],
)
def test_a_short_name_is_the_end_of_a_path_that_tells_it_apart(specs: list[str], names: list[str]) -> None:
    assert short_names(specs) == names


@given(st.lists(st.text("ab./ ()1", min_size=1, max_size=6), min_size=1, max_size=5))
def test_every_list_of_specs_gets_as_many_different_names(specs: list[str]) -> None:
    names = short_names(specs)
    assert len(set(names)) == len(names) == len(specs)
    assert all(names)


def test_one_set_under_two_spellings_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "cats").mkdir()
    (tmp_path / "dogs").mkdir()
    (tmp_path / "link").symlink_to("cats")
    monkeypatch.chdir(tmp_path)
    refuse_twice(["cats", "dogs"])
    for other in ("cats", "cats/", "./cats", "dogs/../cats", "link", str(tmp_path / "cats")):
        with pytest.raises(UsageError, match="are the same") as caught:
            refuse_twice(["dogs", "cats", other])
        assert caught.value.id == "E-identical"
        assert f"cats and {other}" in str(caught.value)


def test_equal_contents_in_two_places_are_two_sets(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "a.png").write_bytes(b"same")
    refuse_twice([str(tmp_path / "one"), str(tmp_path / "two")])


def test_names_that_are_no_paths_are_compared_as_text() -> None:
    refuse_twice(["cifar10", "mnist", "cifar100"])
    with pytest.raises(UsageError, match="cifar10 and cifar10 are the same"):
        refuse_twice(["cifar10", "mnist", "cifar10"])


@pytest.mark.parametrize("spec", ["x" * 5000, "a\0b"])
def test_a_spec_that_no_file_system_takes_is_left_to_whoever_opens_it(spec: str) -> None:
    refuse_twice([spec, "other", os.curdir])
