"""A name from a data set opens nothing outside its root."""

from __future__ import annotations

import os
from pathlib import Path

import hypothesis.strategies as st
import pytest
from hypothesis import HealthCheck, given, settings

from dataset_audit.errors import DataError
from dataset_audit.images.paths import resolve_under


@pytest.mark.parametrize(
    "name",
    [
        "../../etc/passwd", "/etc/passwd", "C:\\x", "C:/x", "a/../../b", "a/../b", "a\0b", "file:///etc/passwd",
        "https://example.org/x.png", "s3://bucket/x", "\\\\host\\share", "..", "a/..", "..\\x", "", "x" * 1_000_000,
    ],
    ids=lambda name: f"T18-{ascii(name)[1:20]}",
)  # fmt: skip
def test_hostile_names_are_refused_before_anything_is_asked_of_the_system(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    def touch(*_: object, **__: object) -> None:
        raise AssertionError("the system was asked")

    for function in ("open", "stat", "lstat", "readlink"):
        monkeypatch.setattr(os, function, touch)
    with pytest.raises(DataError, match="leaves the root") as error:
        resolve_under(tmp_path, name)
    assert error.value.exit_code == 3
    assert len(error.value.where) < 1000


def test_links_are_followed_only_inside_t18(tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    (root / "in.png").write_bytes(b"x")
    (tmp_path / "out.png").write_bytes(b"x")
    (root / "good").symlink_to(root / "in.png")
    (root / "bad").symlink_to(tmp_path / "out.png")
    (root / "up").symlink_to(tmp_path)
    assert resolve_under(root, "good") == (root / "in.png").resolve()
    for name in ("bad", "up/out.png", "up/root/../out.png"):
        with pytest.raises(DataError, match="leaves the root"):
            resolve_under(root, name)


def test_what_is_no_regular_file_is_refused_t18(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for name in ("pipe", "."):
        with pytest.raises(DataError, match="no regular file"):
            resolve_under(tmp_path, name)


SEGMENT = st.sampled_from(["a", "b", "..", ".", "", "out", "loop", "in", "f", "/", "c:", "\\..", "a\0"])


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=300)
@given(st.lists(SEGMENT, max_size=6))
def test_whatever_the_segments_the_result_is_inside_or_an_error_s3(tmp_path: Path, parts: list[str]) -> None:
    root = tmp_path / "root"
    if not root.exists():
        (root / "a" / "b").mkdir(parents=True)
        (root / "a" / "f").write_bytes(b"inside")
        (tmp_path / "f").write_bytes(b"outside")
        (root / "out").symlink_to(tmp_path)
        (root / "loop").symlink_to(root / "loop")
        (root / "in").symlink_to(root / "a")
        (root / "a" / "out").symlink_to(tmp_path / "f")
    try:
        path = resolve_under(root, "/".join(parts))
    except DataError:
        return
    assert root.resolve() in path.parents
    if path.exists():
        assert path.read_bytes() == b"inside"
