from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import dataset_audit
from dataset_audit.cli.app import COMMANDS
from dataset_audit.cli.options import OUTPUT, options_of

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
TIMEOUT = 100


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", README, re.MULTILINE | re.DOTALL)


def run(folder: Path, *arguments: str) -> str:
    environment = {**os.environ, "COLUMNS": "90", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=folder,
        env=environment,
        capture_output=True,
        timeout=TIMEOUT,
        check=False,
    )
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout.decode()


def labels(output: str) -> list[str]:
    """The first word of each line; figures and classes differ between a short run and the one printed."""
    return [line.split()[0] for line in output.splitlines() if re.match(r"\s*[a-z]", line)]


def test_the_readme_says_what_the_commands_print_and_its_python_runs(tmp_path: Path) -> None:
    """With two epochs instead of thirty; the lines are the same, their figures are not compared."""
    printed = {}
    for text in re.split(r"^\$ ", blocks("console")[0], flags=re.MULTILINE)[1:]:
        line, _, output = text.partition("\n")
        printed[line.split()[1]] = (line.split()[1:], output)
    for command, (arguments, output) in printed.items():
        if command not in COMMANDS:
            continue
        short = ["--epochs", "2"] if command == "forgetting" else []
        extra = ["--by", "forgetting"] if command == "prune" else []  # what thirty epochs would recommend
        made = run(tmp_path, "-m", "dataset_audit", *arguments, *short, *extra)
        assert set(labels(output)) <= set(labels(made)) | {"boundary"}
    script = tmp_path / "readme.py"
    script.write_text("\n".join(blocks("python")) + "\nprint(len(kept), len(loader))\n")
    assert run(tmp_path, str(script)).split() == ["1258", "20"]
    assert "of 1,797" in run(
        tmp_path, "-m", "dataset_audit", "prune", "own.parquet", "--out", "own-manifest.parquet"
    )


def test_the_reference_is_current_and_mentions_every_flag() -> None:
    run(ROOT, "scripts/docs", "--check")
    text = (ROOT / "docs" / "reference.md").read_text(encoding="utf-8")
    for command in COMMANDS.values():
        for option in [*options_of(command.sections).values(), *OUTPUT.options]:
            assert all(flag in text for flag in option.flags)


@pytest.mark.parametrize("path", ["README.md", "docs/install.md", "docs/reference.md", "CHANGELOG.md"])
def test_links_lead_somewhere(path: str) -> None:
    text = (ROOT / path).read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)#]+)\)", text):
        assert target.startswith("https://") or (ROOT / path).parent.joinpath(target).exists(), target


def test_the_changelog_has_the_version_of_the_package() -> None:
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert (
        re.findall(r"^## \[(\d+\.\d+\.\d+)\]", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)[0]
        == declared
    )


def test_the_public_names_are_those_that_are_there() -> None:
    for name in dataset_audit.__all__:
        assert getattr(dataset_audit, name).__name__ == name
        assert not (ROOT / "dataset_audit" / name).exists()
    with pytest.raises(AttributeError, match="nonsense"):
        dataset_audit.nonsense  # noqa: B018
    assert set(dir(dataset_audit)) == {*dataset_audit.__all__, "__version__"}


def test_importing_the_package_imports_nothing_heavy() -> None:
    code = (
        "import sys, dataset_audit; print(sorted({'torch', 'numpy', 'pyarrow', 'typer'} & set(sys.modules)))"
    )
    assert run(ROOT, "-c", code) == "[]\n"


@pytest.mark.parametrize("path", sorted(path.name for path in (ROOT / "scripts").iterdir() if path.is_file()))
def test_every_script_can_be_started_and_says_what_it_is(path: str) -> None:
    script = ROOT / "scripts" / path
    head = script.read_text(encoding="utf-8").splitlines()
    assert os.access(script, os.X_OK) or script.suffix == ".py"
    assert head[1].startswith(("# ", '"""')) or head[0].startswith('"""')
