"""The one way foreign text (paths, class names, messages of other libraries) reaches a screen or a document."""

from __future__ import annotations

import unicodedata

from rich.cells import cell_len

# Cc: C0, DEL, C1. Zl, Zp: other line ends. Cs: half characters of undecodable file names. Cf: bidi and invisible ones.
_HIDDEN = frozenset({"Cc", "Zl", "Zp", "Cs", "Cf"})
_JOINERS = frozenset("\u200c\u200d")  # Persian, Indic scripts and emoji are misspelt without them


def show(text: str, limit: int | None = 120) -> str:
    r"""Return ``text`` on one line, without a character that could act on a terminal or forge a line.

    Control characters, line ends, bidi controls, invisible format characters and lone surrogates become ``\xNN`` or
    ``\uNNNN``. Text wider than ``limit`` terminal cells loses its middle.
    """
    visible = text if text.isascii() and text.isprintable() else "".join(map(_visible, text))
    return visible if limit is None else shorten(visible, limit)


def _visible(character: str) -> str:
    if unicodedata.category(character) not in _HIDDEN or character in _JOINERS:
        return character
    code = ord(character)
    if code < 0x100:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def shorten(text: str, limit: int) -> str:
    """Return ``text`` cut in the middle to at most ``limit`` terminal cells, with an ellipsis where it was cut."""
    if cell_len(text) <= limit:
        return text
    if limit < 2:
        return "…"[:limit]
    head, tail = _fitting(text, limit // 2), _fitting(text[::-1], (limit - 1) // 2)
    return f"{head}…{tail[::-1]}"


def _fitting(text: str, limit: int) -> str:
    """Return the longest start of ``text`` that is at most ``limit`` cells wide."""
    used = 0
    for position, character in enumerate(text):
        used += cell_len(character)
        if used > limit:
            return text[:position]
    return text
