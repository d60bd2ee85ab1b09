"""File names as text, and back to the very bytes."""

from __future__ import annotations

import hypothesis.strategies as st
from hypothesis import given

from dataset_audit.images.names import decode_name, encode_name, encode_names


@given(st.binary(max_size=60))
def test_any_bytes_become_text_and_come_back(name: bytes) -> None:
    text, escaped = encode_name(name)
    text.encode("utf-8")
    assert decode_name(text, escaped=escaped) == name
    assert not any(ord(letter) < 32 or 127 <= ord(letter) < 160 for letter in text)


@given(st.text(st.characters(exclude_categories=("Cc", "Cs"))))
def test_ordinary_names_stay_as_they_are(name: str) -> None:
    assert encode_name(name.encode()) == (name, False)


def test_two_names_never_become_one_row() -> None:
    texts, escaped = encode_names([b"%FF", b"\xff"])
    assert texts == ["%FF", "%FF"]
    assert escaped is not None
    assert escaped.tolist() == [False, True]  # the flag tells them apart


def test_no_column_of_flags_where_no_name_needs_it() -> None:
    assert encode_names([b"a", "\u00e9".encode()]) == (["a", "\u00e9"], None)
