"""Where training runs: device, precision, threads, allocator; and the only place that seeds torch."""

from __future__ import annotations

import ctypes
import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import torch

from dataset_audit import seeds
from dataset_audit.errors import EnvironmentProblem, UsageError
from dataset_audit.train.ranks import on_this_machine

PrecisionName = Literal["auto", "bf16", "fp32"]
SMALL_STEP = 2**16  # pixels in a batch


def choose_device(name: str) -> torch.device:
    """Return the device called ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.

    Of several processes on one machine, each gets a GPU of its own by ``auto`` and ``cuda``.

    Raises:
        UsageError: Another name.
        EnvironmentProblem: A CUDA device that is not there; the message lists what is.
    """
    here = on_this_machine(os.environ)[0]
    if name == "auto":
        name = f"cuda:{here}" if torch.cuda.is_available() else "cpu"
    kind, _, number = name.partition(":")
    if kind not in {"cpu", "cuda"} or (number and (kind == "cpu" or not number.isdecimal())):
        raise UsageError(f"--device {name}: no such kind of device.", do="--device auto, cpu, cuda or cuda:N")
    if kind == "cpu":
        return torch.device("cpu")
    count = torch.cuda.device_count()
    if int(number or here) >= count:
        there = (
            ", ".join(f"cuda:{i} {torch.cuda.get_device_name(i)}" for i in range(count)) or "no CUDA device"
        )
        raise EnvironmentProblem(f"--device {name}: not on this machine ({there}).", do="--device cpu")
    return torch.device("cuda", int(number or here))


def describe(device: torch.device) -> str:
    """Return the device's name for people."""
    if device.type == "cuda":
        return f"{device} {torch.cuda.get_device_name(device)}"
    threads = torch.get_num_threads()
    return f"cpu, {threads} thread{'s' * (threads > 1)}"


def choose_precision(name: PrecisionName, device: torch.device) -> Literal["bf16", "fp32"]:
    """Return the precision before the last layer; ``auto`` is bf16 where the hardware multiplies it natively.

    On a CPU this is decided by what the processor states, not by a timing: a resumed run must decide alike.
    """
    if name in {"bf16", "fp32"}:
        return "bf16" if name == "bf16" else "fp32"
    if device.type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp32"
    return "bf16" if _cpu_multiplies_bf16() else "fp32"


def _cpu_multiplies_bf16() -> bool:
    try:
        flags = Path("/proc/cpuinfo").read_text(encoding="ascii", errors="replace").split()
    except OSError:  # not Linux: emulated bf16 is slower than float32, so the safe answer
        return False
    return "amx_bf16" in flags or "avx512_bf16" in flags


def cores() -> int:
    """Return how many cores this process may use: affinity and container quota, not what the machine has.

    Processes that share the machine's work share its cores.
    """
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text(encoding="ascii").split()
        if quota != "max":
            allowed = min(allowed, max(1, int(quota) // int(period)))
    except (OSError, ValueError):
        pass
    return max(1, allowed // on_this_machine(os.environ)[1])


def prepare(device: torch.device, *, allocator: bool) -> None:
    """Set this process up for training: threads, deterministic kernels on a CPU, benchmarked ones on a GPU.

    Args:
        device: Where training will run.
        allocator: On glibc, keep freed memory instead of returning it to the system after every step; page
            faults cost a fifth of a step. Must come before torch allocates much.
    """
    if device.type == "cuda":
        torch.backends.cudnn.benchmark = True
        return
    if "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(cores())
    torch.use_deterministic_algorithms(mode=True)
    # Nothing here reads memory that was never written; filling it costs a twelfth of a small network's step.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]  # made at run time
    if allocator and platform.libc_ver()[0] == "glibc":
        mallopt = ctypes.CDLL(None).mallopt
        for option, value in ((-4, 0), (-1, 2**31 - 1), (-8, 1)):  # M_MMAP_MAX, M_TRIM_THRESHOLD, M_ARENA_MAX
            mallopt(option, value)


def suit_threads(pixels_per_step: int) -> None:
    """Use one thread for steps so small that a second one costs more than it saves.

    For digits and MNIST the second thread gains less than a tenth on an idle machine, and where another process is
    busy the two wait for each other at every operation: four times slower than one alone.
    """
    if "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(1 if pixels_per_step < SMALL_STEP else cores())


@contextmanager
def one_thread_each() -> Iterator[None]:
    """Keep numerical libraries to one thread while Python's own threads share out the work.

    Two decode threads whose resizes ask for two threads each wait for one another at every call: a third slower.
    """
    from threadpoolctl import threadpool_limits  # noqa: PLC0415 - with scikit-learn

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with threadpool_limits(1):
            yield
    finally:
        torch.set_num_threads(before)


def seed_torch(seed: int, *path: str | int) -> None:
    """Seed torch's global generators from (seed, path): for initial weights and dropout, which know no other."""
    torch.manual_seed(seeds.integer(seed, *path))  # noqa: TID251 - here alone
