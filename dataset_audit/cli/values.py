"""From the text of an option to its value; every refusal says the flag, the text and what is accepted."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import NoReturn

from dataset_audit.errors import UsageError

Parser = Callable[[str, str], object]  # (flag, text) -> value

_NUMBER = re.compile(r"[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]+)?")  # ASCII only; float() takes more
_BYTES = {"": 1, "k": 2**10, "m": 2**20, "g": 2**30, "t": 2**40}
_COUNTS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9}
_COLOURS = {"white": (255, 255, 255), "black": (0, 0, 0), "grey": (128, 128, 128), "gray": (128, 128, 128)}


def _refuse(flag: str, text: str, wanted: str) -> NoReturn:
    raise UsageError(f"{flag} {text or repr(text)}: {wanted}.")


def text(flag: str, text: str) -> str:
    """Return the text itself."""
    if not text:
        _refuse(flag, text, "is empty")
    return text


def path(flag: str, text: str) -> Path:
    """Return a path; ``~`` is the shell's to expand, not ours."""
    if not text or "\0" in text:
        _refuse(flag, text, "is no path")
    return Path(text)


def cache(flag: str, text: str) -> Path | str:
    """Return ``auto``, ``no`` or a folder; ``./no`` is a folder of that name."""
    return text if text in {"auto", "no"} else path(flag, text)


def output(flag: str, text: str) -> Path:
    """Return the path of a table to write; stdout carries the summary, so ``-`` is refused."""
    if text == "-":
        _refuse(flag, text, "a table is written to a file, whole or not at all")
    return path(flag, text)


def whole(flag: str, text: str) -> int:
    """Return a whole number; the command says which range it accepts."""
    if not re.fullmatch(r"[+-]?[0-9]{1,19}", text, re.ASCII):
        _refuse(flag, text, "a whole number is wanted")
    return int(text)


def number(flag: str, text: str) -> float:
    """Return a finite number."""
    if not _NUMBER.fullmatch(text) or not math.isfinite(float(text)):
        _refuse(flag, text, "a number is wanted")
    return float(text)


def share(flag: str, text: str) -> float:
    """Return a share given as ``0.01`` or ``1%``; it lies in [0, 1]."""
    plain = text.removesuffix("%")
    if not _NUMBER.fullmatch(plain):
        _refuse(flag, text, "a share such as 0.01 or 1% is wanted")
    value = float(plain) / (100 if text.endswith("%") else 1)
    if not 0 <= value <= 1:
        _refuse(flag, text, "a share lies between 0 and 1, or 0% and 100%")
    return value


def _scaled(flag: str, text: str, units: dict[str, int], example: str) -> int:
    match = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?)\s?([kKmMgGtT]?)i?[bB]?", text, re.ASCII)
    if not match or match[2].lower() not in units:
        _refuse(flag, text, f"a size such as {example} is wanted")
    value = float(match[1]) * units[match[2].lower()]
    if not 1 <= value < 2**63:
        _refuse(flag, text, "is out of range")
    return int(value)


def memory(flag: str, text: str) -> int:
    """Return bytes from ``4G``, ``512M`` or a plain count; units are powers of 1024."""
    return _scaled(flag, text, _BYTES, "4G or 512M")


def pixels(flag: str, text: str) -> int:
    """Return a number of pixels from ``89.5M`` or a plain count; M is a million."""
    return _scaled(flag, text, _COUNTS, "89.5M")


def one_of(*names: str) -> Parser:
    """Return a parser that accepts one of ``names`` and otherwise gives the nearest."""

    def parse(flag: str, text: str) -> str:
        if text not in names:
            raise UsageError(
                f"{flag} {text or repr(text)}: unknown{nearest(text, names)}.",
                do=f"{flag} " + " | ".join(names),
            )
        return text

    return parse


def nearest(name: str, names: Sequence[str]) -> str:
    """Return ``; did you mean NAME?`` for the nearest of ``names``, or nothing when none is near."""
    close = get_close_matches(name, names, n=1)
    return f"; did you mean {close[0]}?" if close else ""


def wholes(flag: str, text: str) -> tuple[int, ...]:
    """Return whole numbers separated by commas."""
    return tuple(whole(flag, part.strip()) for part in text.split(","))


def wholes_or_none(flag: str, text: str) -> tuple[int, ...]:
    """Return whole numbers separated by commas; the word none for no number."""
    return () if text == "none" else wholes(flag, text)


def pair(flag: str, text: str) -> tuple[int, int]:
    """Return two whole numbers separated by a comma."""
    numbers = wholes(flag, text)
    if len(numbers) != 2:
        _refuse(flag, text, "two numbers separated by a comma are wanted")
    return numbers[0], numbers[1]


def names(flag: str, text: str) -> tuple[str, ...]:
    """Return names separated by commas, in order, none twice."""
    parts = tuple(part.strip() for part in text.split(","))
    if not all(parts):
        _refuse(flag, text, "names separated by commas are wanted")
    if len(set(parts)) != len(parts):
        _refuse(flag, text, "a name stands there twice")
    return parts


def colour(flag: str, text: str) -> tuple[int, int, int]:
    """Return (red, green, blue) from ``white``, ``black``, ``grey`` or ``#rrggbb``."""
    if text.lower() in _COLOURS:
        return _COLOURS[text.lower()]
    if not re.fullmatch(r"#[0-9a-fA-F]{6}", text):
        _refuse(flag, text, "a colour is white, black, grey or #rrggbb")
    return int(text[1:3], 16), int(text[3:5], 16), int(text[5:7], 16)


def assignments(flag: str, text: str) -> dict[str, str]:
    """Return ``{FIELD: VALUE}`` from ``FIELD=VALUE``."""
    field, equals, value = text.partition("=")
    if not equals or not field.strip() or not value.strip():
        _refuse(flag, text, "FIELD=VALUE is wanted")
    return {field.strip().replace("-", "_"): value.strip()}


def keep(_flag: str, text: str) -> object:
    """Return a Keep; its grammar tells a share from a count by how it is written."""
    from dataset_audit.select.budget import Keep  # noqa: PLC0415 - NumPy, not wanted by --help

    return Keep.parse(text)


def keeps(flag: str, text: str) -> tuple[object, ...]:
    """Return Keeps separated by commas."""
    return tuple(keep(flag, part.strip()) for part in text.split(","))


def shares(flag: str, text: str) -> tuple[float, ...]:
    """Return shares separated by commas; ``none`` is none at all."""
    return () if text == "none" else tuple(share(flag, part.strip()) for part in text.split(","))


def policy(flag: str, text: str) -> object:
    """Return the name of a policy, or ``auto``."""
    from dataset_audit.select.policies import POLICIES  # noqa: PLC0415 - NumPy

    return one_of("auto", *POLICIES)(flag, text)
