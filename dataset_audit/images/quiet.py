"""Decoders speak to the terminal in ways of their own: a folder of odd files would print many lines."""

from __future__ import annotations

import ctypes
import logging
import re
import warnings
from functools import cache
from pathlib import Path
from typing import Final

_PILLOW: Final = re.compile(r"PIL\.")
_QUIET: Final = ("ignore", None, Warning, _PILLOW, 0)


def silence_decoders() -> None:
    """Ignore warnings of Pillow's own modules, its log, and what its libtiff writes to standard error.

    The warning filter is put back whenever it is gone, because ``warnings.catch_warnings`` elsewhere restores
    older lists; entering that context here instead would not be safe with several threads.
    """
    if _QUIET not in warnings.filters:
        warnings.filterwarnings("ignore", module=_PILLOW.pattern)
    _silence_once()


@cache
def _silence_once() -> None:
    logging.getLogger("PIL").addHandler(
        logging.NullHandler()
    )  # else its errors go to the handler of last resort
    import PIL

    package = Path(PIL.__file__).parent
    for folder in (package.parent / "pillow.libs", package / ".dylibs"):
        for library in sorted(folder.glob("libtiff*")):
            _silence_libtiff(library)


def _silence_libtiff(path: Path) -> None:
    """Take libtiff's error printer away: Pillow reports the error itself, and leaves no switch for this."""
    try:
        library = ctypes.CDLL(str(path))  # the copy Pillow loads, so the same state
        for name in ("TIFFSetErrorHandler", "TIFFSetWarningHandler"):
            function = getattr(library, name)
            function.restype, function.argtypes = ctypes.c_void_p, [ctypes.c_void_p]
            function(None)
    except (OSError, AttributeError):
        return  # another build of Pillow: noise is all that is lost
