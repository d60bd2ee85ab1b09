from __future__ import annotations

import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path


def test_twenty_kills_change_no_byte(tmp_path: Path) -> None:
    """SIGKILL at random moments, the same command again: the same table, nothing left over."""
    script = Path(__file__).with_name("crash_loop.py")
    done = subprocess.run(
        [sys.executable, str(script), "20", "1"], cwd=tmp_path, capture_output=True, timeout=110, check=False
    )
    assert done.returncode == 0, done.stderr.decode()
    found = json.loads(done.stdout)
    assert found["violations"] == []
    assert found["kills"] >= 20


def test_sixty_processes_end_with_the_code_they_meant(audit, scores, tmp_path: Path) -> None:
    """Interpreter shutdown after reading Parquet aborted in some runs of a hundred; the process must not get there."""

    def one(number: int) -> int:
        if number % 2:
            return audit("prune", "--keep", "0.5", "--by", "nothing").code
        return audit("prune", "--keep", "0.5", "--out", f"{number}.parquet", "-qq").code

    with ThreadPoolExecutor(3) as pool:
        codes = list(pool.map(one, range(60)))
    assert codes == [0, 2] * 30
    assert len(list(tmp_path.glob("*.audit.json"))) == 31
