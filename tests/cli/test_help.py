from __future__ import annotations

import dataclasses
import importlib
import os
import re
from pathlib import Path

import pytest

from dataset_audit.cli.app import COMMANDS
from dataset_audit.cli.option import PROCESSES
from dataset_audit.cli.options import OUTPUT, options_of
from dataset_audit.cli.peers import SHARED

HELP = Path(__file__).parent / "help"
LINES = {"audit": (), **{name: (name,) for name in COMMANDS}}


@pytest.mark.parametrize("name", LINES)
@pytest.mark.parametrize("columns", ["80", "200"])
def test_help_is_the_same_plain_text_everywhere(name: str, columns: str, audit) -> None:
    """AUDIT_TEST_WRITE=1 writes the snapshots anew."""
    shown = audit(*LINES[name], "--help", COLUMNS=columns, FORCE_COLOR="1")
    assert (shown.code, shown.err) == (0, "")
    snapshot = HELP / f"{name}.txt"
    if os.environ.get("AUDIT_TEST_WRITE"):
        snapshot.write_text(shown.out)
    assert shown.out == snapshot.read_text()
    assert max(map(len, shown.out.splitlines())) <= 80


@pytest.mark.parametrize(
    "arguments", [("--help",), ("prune", "-h"), ("--version",), ("forgetting", "--sed", "3")]
)
def test_nothing_heavy_is_imported_before_work_begins(arguments: tuple[str, ...], audit) -> None:
    driver = (
        "import sys\n"
        "from dataset_audit.cli import console\n"
        "console.run(sys.argv[1:])\n"
        "heavy = {'torch', 'torchvision', 'timm', 'numpy', 'pyarrow', 'scipy', 'sklearn', 'PIL', 'pydantic'}\n"
        "print(sorted(heavy & set(sys.modules)), file=sys.stderr)\n"
    )
    assert audit(*arguments, driver=driver).err.splitlines()[-1] == "[]"


@pytest.mark.parametrize(
    "arguments",
    [
        ("prune", "--keep", "0.5"),
        ("forgetting", "digits", "--seeds", "0"),
        ("forgetting", "cifra10"),
        ("evaluate", "--scores", "scores.parquet", "--arms", "fall"),
    ],
)
def test_torch_is_not_imported_for_prune_or_for_a_wrong_argument(
    arguments: tuple[str, ...], audit, scores
) -> None:
    driver = (
        "import sys\n"
        "from dataset_audit.cli import console\n"
        "console.run(sys.argv[1:])\n"
        "print(sorted({'torch', 'torchvision', 'timm', 'sklearn', 'scipy'} & set(sys.modules)), file=sys.stderr)\n"
    )
    assert audit(*arguments, driver=driver).err.splitlines()[-1] == "[]"


@pytest.mark.parametrize("command", COMMANDS)
def test_every_setting_has_a_flag_and_every_flag_a_setting(command: str) -> None:
    config = importlib.import_module(f"dataset_audit.commands.{command}").Config
    options = options_of(COMMANDS[command].sections)
    flags = {name for name, option in options.items() if not option.recipe and name != "set"}
    settings = {field.name for field in dataclasses.fields(config)} - {"command", "overrides"}
    shared = {option.name for option in PROCESSES if command in SHARED}  # not of the command itself
    assert flags == settings | shared
    assert not settings & shared


@pytest.mark.parametrize("command", COMMANDS)
def test_no_flag_means_two_things(command: str) -> None:
    options = [*options_of(COMMANDS[command].sections).values(), *OUTPUT.options]
    flags = [flag for option in options for flag in (*option.flags, option.no) if flag]
    assert sorted(flags) == sorted(set(flags))


def test_the_version_is_one_line_with_what_decides_results(audit) -> None:
    shown = audit("-V")
    assert re.fullmatch(r"audit \S+ \(python 3\.\d+\.\d+, torch \S+, torchvision \S+\)\n", shown.out)


@pytest.mark.parametrize("kind", ["datasets", "recipes", "models", "scores", "policies"])
def test_what_can_be_named_is_listed(kind: str, audit) -> None:
    shown = audit("--list", kind)
    assert shown.code == 0
    assert len(shown.out.splitlines()) > 3


def test_listing_works_after_a_command_without_its_arguments(audit) -> None:
    assert "toneva-cifar" in audit("forgetting", "--list", "recipes").out


def test_a_shell_gets_names_to_complete(audit) -> None:
    shown = audit(_AUDIT_COMPLETE="complete_bash", COMP_WORDS="audit prune --policy ha", COMP_CWORD="3")
    assert shown.out.split() == ["hardest"]
