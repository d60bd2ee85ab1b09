"""Several data sets at once: what to call them, and that none is named twice."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from dataset_audit.errors import UsageError


def refuse_twice(specs: Sequence[str]) -> None:
    """Stop if two specs are the same text or the same path.

    Raises:
        UsageError: They are.
    """
    for place, spec in enumerate(specs):
        for other in specs[:place]:
            same = spec == other
            if not same and os.path.exists(spec) and os.path.exists(other):  # False also for what is no path
                same = os.path.samefile(spec, other)
            if same:
                raise UsageError(
                    f"{other} and {spec} are the same.", do="name each set once", id="E-identical"
                )


def short_names(specs: Sequence[str]) -> list[str]:
    """Return the last part of each path, with as many parts before it as tell them all apart."""
    parts = [Path(os.path.normpath(spec)).parts or (spec,) for spec in specs]
    for depth in range(1, max(map(len, parts)) + 1):
        names = [str(Path(*each[-depth:])) for each in parts]
        if len(set(names)) == len(names):
            return names
    if len(set(specs)) < len(specs):
        return [f"{spec} ({number})" for number, spec in enumerate(specs, 1)]
    return list(specs)
