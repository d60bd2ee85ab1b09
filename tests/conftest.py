"""What holds for every test: one thread per worker, no network, repeatable random draws."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import hypothesis
import pytest

ROOT = Path(__file__).parents[1]

for _name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ[_name] = "1"  # read when numpy and torch are imported, which is later; children inherit it

hypothesis.settings.register_profile("ci", derandomize=True, max_examples=50, deadline=None, database=None)
hypothesis.settings.register_profile("deep", max_examples=2000, deadline=None, database=None)
hypothesis.settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))


@pytest.fixture(autouse=True)
def _no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: socket.socket, address: object) -> None:
        if self.family != socket.AF_UNIX:
            raise AssertionError(f"a test reached for the network: {address}")
        connect(self, address)  # type: ignore[arg-type]  # passed on as it came

    connect = socket.socket.connect
    monkeypatch.setattr(socket.socket, "connect", refuse)


@pytest.fixture(autouse=True)
def _plain_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """A user's settings must not decide whether a test passes."""
    for name in [*os.environ]:
        if name.startswith("AUDIT_") and not name.startswith("AUDIT_TEST_"):
            monkeypatch.delenv(name)
    for name in ("NO_COLOR", "FORCE_COLOR", "COLUMNS", "LINES", "CI"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real files; tests that use it are marked ``real_data``."""
    folder = Path(os.environ.get("AUDIT_TEST_DATA", ROOT.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no real data at {folder}; AUDIT_TEST_DATA names the folder")
    return folder


_SEED = os.environ.get("AUDIT_TEST_SEED", "0")


@pytest.fixture(params=range(100) if _SEED == "all" else [int(_SEED)])
def seed(request: pytest.FixtureRequest) -> int:
    """A test that takes this promises to hold for seeds 0 to 99; AUDIT_TEST_SEED=7 or =all runs others."""
    return int(request.param)
