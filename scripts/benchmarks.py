"""What every benchmark here shares: ways that take turns, each in its own process, and the state of the machine beside.

A figure is the median of the rounds with (lowest..highest); a ratio is the median of the ratios of each round. A way
is a process that waits on its standard input: allocator and thread settings are a process's own, and ways that share
one would share those. A run during which other processes took more than a fifth of a core is marked as such.
"""

from __future__ import annotations

import json
import os
import platform
import resource
import statistics
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from time import sleep

BUSY = 0.2  # of a core, taken by others: more than that marks a run


@dataclass(frozen=True)
class Measured:
    """Figures of the rounds in order (the first, warm-up round left out), and the peak memory of the process."""

    name: str
    values: list[float]
    peak_bytes: int = 0

    @property
    def median(self) -> float:
        """Median of the rounds."""
        return statistics.median(self.values)

    def shown(self, unit: str, digits: int = 3) -> str:
        """Return median (min..max) with a unit."""
        low, high = min(self.values), max(self.values)
        return f"{self.median:,.{digits}f} {unit} ({low:,.{digits}f}..{high:,.{digits}f})"


def ratio(above: Measured, below: Measured) -> str:
    """Return the median of the rounds' ratios above / below, with its lowest and highest."""
    ratios = [a / b for a, b in zip(above.values, below.values, strict=True)]
    return f"{statistics.median(ratios):.2f}x ({min(ratios):.2f}..{max(ratios):.2f})"


class Way:
    """A process that measures one thing whenever it is asked; see `serve`."""

    def __init__(
        self, name: str, arguments: Sequence[str], environment: Mapping[str, str] | None = None
    ) -> None:
        self.name, self.values = name, list[float]()
        self._process = subprocess.Popen(
            [sys.executable, sys.argv[0], *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, **(environment or {})},
            text=True,
        )

    def ask(self) -> dict[str, float]:
        """Have it measured once; return what the process said."""
        assert self._process.stdin is not None  # noqa: S101 - both were asked for
        assert self._process.stdout is not None  # noqa: S101
        try:
            self._process.stdin.write("go\n")
            self._process.stdin.flush()
            line = self._process.stdout.readline()
        except BrokenPipeError:  # what it had to say stands on stderr
            line = ""
        if not line:
            raise SystemExit(f"{self.name} ended with status {self._process.wait()}")
        said: dict[str, float] = json.loads(line)
        return said

    def close(self) -> None:
        """End it."""
        if self._process.stdin is not None:
            self._process.stdin.close()
        self._process.wait()


def serve(measure: Callable[[], float]) -> int:
    """Answer each line on stdin with one measurement (and the peak memory so far) until there are no more."""
    for _ in sys.stdin:
        said = {"value": measure(), "peak": highest()}
        print(json.dumps(said), flush=True)
    return 0


def highest() -> int:
    """Return the most memory this process had, bytes; what getrusage says begins at the memory of who started it."""
    try:
        status = Path("/proc/self/status").read_text(encoding="ascii")
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM")) * 1024


def take_turns(ways: Sequence[Way], rounds: int) -> tuple[dict[str, Measured], float]:
    """Measure all ways round by round, the first round for warming up; return the figures and what others took.

    Returns:
        Measured by name, and the largest share of a core that other processes took between two rounds.
    """
    values: dict[str, list[float]] = {way.name: [] for way in ways}
    peaks, others = dict.fromkeys(values, 0), 0.0
    for round_ in range(rounds + 1):
        for way in ways:
            said = way.ask()
            peaks[way.name] = max(peaks[way.name], int(said["peak"]))
            if round_:
                values[way.name].append(said["value"])
        others = max(others, busy())
        print(f"round {round_}/{rounds}", file=sys.stderr, flush=True)
    for way in ways:
        way.close()
    return {name: Measured(name, found, peaks[name]) for name, found in values.items()}, others


def compiled() -> dict[str, str]:
    """Return an environment in which modules are compiled once, as pip leaves an installed package."""
    return {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}


def busy(seconds: float = 0.5) -> float:
    """Return how many cores' worth of time the machine's processes take while this one sleeps (Linux; else 0)."""
    sleep(0.1)  # what has just been measured comes to rest
    before = _ticks()
    sleep(seconds)
    used = _ticks() - before
    return used / os.sysconf("SC_CLK_TCK") / seconds


def _ticks() -> int:
    try:
        fields = Path("/proc/stat").read_text(encoding="ascii").splitlines()[0].split()[1:]
    except OSError:
        return 0
    user, nice, system, _, _, irq, soft = map(int, fields[:7])
    return user + nice + system + irq + soft


@dataclass(frozen=True)
class Page:
    """A benchmark's printed page: what was asked, the machine, then the lines."""

    command: str = field(
        default_factory=lambda: " ".join([f"scripts/{Path(sys.argv[0]).name}", *sys.argv[1:]])
    )
    load_before: float = field(default_factory=lambda: os.getloadavg()[0])

    def head(self, packages: Sequence[str], extra: str = "") -> None:
        """Print the command, the processor, the versions and the load before."""
        versions = " · ".join(f"{name} {metadata.version(name)}" for name in packages)
        print(f"{self.command}\n  {processor()}\n  Python {platform.python_version()} · {versions}")
        if extra:
            print(f"  {extra}")

    def foot(self, others: float, rounds: int) -> None:
        """Print rounds, load before and after, and whether the figures can be believed."""
        print(
            f"  {rounds} rounds, taking turns, one process each · load {self.load_before:.2f} before, "
            f"{os.getloadavg()[0]:.2f} after · others took up to {others:.0%} of a core"
        )
        if others > BUSY:
            print("  NOT TO BE QUOTED: another process was busy")


def processor() -> str:
    """Return the processor's name, the cores that may be used, and whether it multiplies bf16."""
    name, flags = platform.machine(), ""
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="ascii", errors="replace").splitlines():
            key, _, value = line.partition(":")
            if key.strip() == "model name":
                name = value.strip()
            if key.strip() == "flags":
                flags = value
                break
    except OSError:
        pass
    told = [word for word in ("avx2", "avx512f", "avx512_bf16", "amx_bf16") if word in flags.split()]
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return f"{name} · {allowed} cores allowed · {' '.join(told)}"
