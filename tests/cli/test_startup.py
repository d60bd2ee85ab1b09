from __future__ import annotations

from pathlib import Path


def test_an_installed_pandas_is_left_alone(audit, scores, tmp_path: Path) -> None:
    """pyarrow imports it at the first array it converts, a quarter of a second."""
    package = tmp_path / "fake" / "pandas"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("raise SystemExit('imported')\n")
    path = str(tmp_path / "fake")
    assert audit("prune", "--keep", "0.5", "-qq", PYTHONPATH=path).code == 0
    plain = audit(driver="import pyarrow, numpy; pyarrow.array(numpy.zeros(1))", PYTHONPATH=path)
    assert plain.code != 0, "pyarrow no longer imports pandas: the line that forbids it can go"
