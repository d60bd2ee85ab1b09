"""Which of several processes this is, as ``torchrun`` says it; asked before torch is imported."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

_NAMES: Final = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
PARENT: Final = "_AUDIT_PARENT"  # number of the process that started this one and is not to be outlived
MEETING: Final = "_AUDIT_MEETING"  # a file by which processes of one machine meet, in place of MASTER_ADDR


def told(environment: Mapping[str, str]) -> tuple[int, int]:
    """Return (rank, number of processes), (0, 1) where none of the kind started this process.

    Args:
        environment: With the variables that torchrun sets.
    """
    texts = [environment.get(name, "") for name in _NAMES]
    if not all(texts) or not texts[0].isdecimal() or not texts[1].isdecimal():
        return 0, 1
    return int(texts[0]), int(texts[1])


def on_this_machine(environment: Mapping[str, str]) -> tuple[int, int]:
    """Return (rank, number of processes) among those that share this machine's cores and GPUs."""
    if told(environment)[1] == 1:
        return 0, 1
    rank, size = environment.get("LOCAL_RANK", "0"), environment.get("LOCAL_WORLD_SIZE", "1")
    return (int(rank), int(size)) if rank.isdecimal() and size.isdecimal() else (0, 1)
