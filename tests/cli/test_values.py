from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dataset_audit.cli import values
from dataset_audit.errors import AuditError, UsageError

PARSERS = [
    values.text, values.path, values.output, values.whole, values.number, values.share, values.memory, values.pixels,
    values.wholes, values.wholes_or_none, values.pair, values.names, values.colour, values.assignments, values.keep,
    values.policy,
    values.one_of("a", "b"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("parse", "text", "value"),
    [
        (values.whole, "12", 12),
        (values.whole, "-3", -3),
        (values.number, "1e-3", 0.001),
        (values.number, ".5", 0.5),
        (values.share, "1%", 0.01),
        (values.share, "0.25", 0.25),
        (values.share, "1", 1.0),
        (values.memory, "4G", 4 * 2**30),
        (values.memory, "512 MiB", 512 * 2**20),
        (values.memory, "1.5k", 1536),
        (values.pixels, "89.5M", 89_500_000),
        (values.pixels, "1000", 1000),
        (values.wholes, "5,10", (5, 10)),
        (values.wholes_or_none, "5,10", (5, 10)),
        (values.wholes_or_none, "none", ()),
        (values.pair, "60,10", (60, 10)),
        (values.names, "aum, el2n", ("aum", "el2n")),
        (values.colour, "White", (255, 255, 255)),
        (values.colour, "#0a0B0c", (10, 11, 12)),
        (values.assignments, "crop-padding=2", {"crop_padding": "2"}),
        (values.assignments, "mean=0.1,0.2", {"mean": "0.1,0.2"}),
        (values.path, "a/b", Path("a/b")),
        (values.cache, "auto", "auto"),
        (values.cache, "no", "no"),
        (values.cache, "./no", Path("no")),
    ],
)
def test_texts_are_read(parse: values.Parser, text: str, value: object) -> None:
    assert parse("--flag", text) == value


@pytest.mark.parametrize(
    ("parse", "text"),
    [
        *[(values.whole, text) for text in ("", "1.5", "1_0", "٣", " 1", "0x10", "1e3", "9" * 20)],
        *[
            (values.number, text)
            for text in ("", "nan", "inf", "1e400", "1,5", "٠.٥", "0x1p3", "1_0.0", " 1")
        ],
        *[(values.share, text) for text in ("", "101%", "-1%", "1.01", "nan", "%", "70 %")],
        *[(values.memory, text) for text in ("", "0", "-1G", "4X", "G", "1e9", "9" * 30)],
        *[(values.pixels, text) for text in ("0", "1T", "-5")],
        *[(values.pair, text) for text in ("1", "1,2,3", "a,b")],
        *[(values.names, text) for text in ("", "a,,b", "a,a")],
        *[(values.colour, text) for text in ("", "#12345", "pinkish", "#gggggg")],
        *[(values.assignments, text) for text in ("", "lr", "=1", "lr=")],
        (values.output, "-"),
        (values.path, ""),
        (values.path, "a\0b"),
        (values.text, ""),
    ],
)
def test_bad_texts_are_refused_with_flag_and_text(parse: values.Parser, text: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse("--flag", text)
    assert "--flag" in caught.value.what
    assert "invalid" not in caught.value.what.lower()


def test_an_unknown_choice_names_the_nearest_and_all() -> None:
    with pytest.raises(UsageError, match="did you mean hardest") as caught:
        values.one_of("hardest", "easiest", "random")("--policy", "hardets")
    assert caught.value.do == "--policy hardest | easiest | random"


@given(st.sampled_from(PARSERS), st.text(max_size=30))
def test_any_text_is_a_value_or_one_of_our_errors(parse: values.Parser, text: str) -> None:
    try:
        parse("--flag", text)
    except AuditError as error:
        assert error.exit_code == 2  # noqa: PT017 - most texts are errors, some are values
