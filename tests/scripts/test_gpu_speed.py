"""scripts/gpu_speed, which no machine of ours can run in earnest: every part on a CPU, tiny, to its last line."""

from __future__ import annotations

import importlib.machinery
import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType

import pytest

SCRIPTS = Path(__file__).parents[2] / "scripts"


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(SCRIPTS))
    loader = importlib.machinery.SourceFileLoader("gpu_speed", str(SCRIPTS / "gpu_speed"))
    spec = importlib.util.spec_from_loader("gpu_speed", loader)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    loader.exec_module(module)
    monkeypatch.setattr(module, "prepare", lambda device, *, allocator: None)  # threads are the test run's
    return module


def call(script: ModuleType, monkeypatch: pytest.MonkeyPatch, out: Path, *more: str) -> int:
    monkeypatch.setattr(sys, "argv", ["gpu_speed", "-", str(out), "--device", "cpu", "--tiny", *more])
    return int(script.main())


@pytest.mark.timeout(600)  # ten seconds on an idle machine, minutes on a crowded one
def test_every_part_runs_to_its_figures_and_is_shown_again_when_finished(
    script: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(script, monkeypatch, tmp_path, "--seconds", "0") == 0  # nothing that trains gets far
    assert "call again" in capsys.readouterr().out
    assert call(script, monkeypatch, tmp_path) == 0
    first = capsys.readouterr().out
    assert first.splitlines()[-1] == f"complete: {tmp_path}"
    for part in script.PARTS:
        document = json.loads((tmp_path / f"{part}.json").read_text(encoding="utf-8"))
        assert document["tiny"]
        assert document["figures"]
    for name in script.PARTS:
        monkeypatch.setitem(script.PARTS, name, lambda setting: pytest.fail("a finished part is read"))
    assert call(script, monkeypatch, tmp_path) == 0
    again = capsys.readouterr().out
    assert [line.split()[:1] for line in again.splitlines()] == [
        line.split()[:1] for line in first.splitlines()
    ]


def test_a_part_of_another_name_is_refused(
    script: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with pytest.raises(SystemExit) as ended:
        call(script, monkeypatch, tmp_path, "speed")
    assert ended.value.code == 2
