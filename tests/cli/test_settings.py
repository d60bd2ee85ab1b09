from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import pytest

from dataset_audit.cli import app, settings
from dataset_audit.cli.app import COMMANDS, Call, understood
from dataset_audit.cli.options import options_of
from dataset_audit.cli.settings import Raw, Settings
from dataset_audit.errors import DataError, UsageError


def told(*arguments: str) -> Settings:
    asked = understood(arguments)
    assert isinstance(asked, Call)
    return asked.settings


def config(folder: Path, text: str, name: str = "audit.toml") -> str:
    path = folder / name
    path.write_text(text)
    return str(path)


def test_a_flag_wins_over_the_file_and_the_file_over_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = config(tmp_path, "[forgetting]\nworkers = 3\nseeds = 4\n")
    monkeypatch.setenv("AUDIT_WORKERS", "7")
    monkeypatch.setenv("AUDIT_MEMORY", "1G")
    said = told("forgetting", "digits", "--config", file, "--seeds", "5")
    assert (said.values["seeds"], said.values["workers"], said.values["memory"]) == (5, 3, 2**30)
    assert said.environment == ("AUDIT_MEMORY=1G",)


def test_what_nobody_said_is_left_to_the_command() -> None:
    assert told("forgetting", "digits").values == {"spec": "digits"}


def test_an_empty_variable_says_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AUDIT_WORKERS", "")
    assert "workers" not in told("forgetting", "digits").values


def test_a_variable_that_cannot_be_read_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AUDIT_WORKERS", "many")
    with pytest.raises(UsageError, match="AUDIT_WORKERS many"):
        told("forgetting", "digits")


def test_recipe_fields_come_from_their_flag_or_from_set() -> None:
    said = told("forgetting", "digits", "--epochs", "3", "--set", "weight-decay=0", "--set", "factor=0.5")
    assert said.values["overrides"] == {"epochs": "3", "weight_decay": "0", "factor": "0.5"}


def test_one_field_with_two_values_is_a_contradiction() -> None:
    with pytest.raises(UsageError, match=r"lr is set to 0\.1 and to 0\.2"):
        told("forgetting", "digits", "--lr", "0.1", "--set", "lr=0.2")


def test_a_flag_replaces_a_field_that_the_file_sets(tmp_path: Path) -> None:
    file = config(tmp_path, "[forgetting]\nset = {lr = 0.1, momentum = 0.8}\n")
    said = told("forgetting", "digits", "--config", file, "--lr", "0.3")
    assert said.values["overrides"] == {"lr": "0.3", "momentum": "0.8"}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[prune]\nkeep = 0.7", ("keep", "0.7")),
        ("[prune]\nkeep = 35000", ("keep", "35000")),
        ('[prune]\nkeep = "70%"', ("keep", "70%")),
        ('{"prune": {"keep": 0.70}}', ("keep", "0.70")),
        ("[prune]\nby = ['aum', 'el2n']", ("by", "aum,el2n")),
        ("[prune]\nall-rows = true", ("all_rows", True)),
        ("[prune]\nranks = false", ("ranks", False)),
    ],
)
def test_values_of_a_file_read_as_a_flag_would(tmp_path: Path, text: str, expected: tuple[str, Raw]) -> None:
    assert _from_file(config(tmp_path, text), "prune") == dict([expected])


def _from_file(path: str, command: str) -> Mapping[str, Raw]:
    tables = {name: options_of(known.sections) for name, known in COMMANDS.items()}
    return settings.from_file(Path(path), command, tables, lambda arguments: app._parsed(command, arguments))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[prune]\nkep = 0.7", "no option kep; did you mean keep"),
        ("[prunes]\nkeep = 0.7", "did you mean prune"),
        ("keep = 0.7", r"a table \[keep\]"),
        ("prune = 3", "no table"),
        ("[prune]\nkeep = true", "keep wants K"),
        ("[prune]\nall_rows = 'yes'", "wants true or false"),
        ("[prune]\nbalance = false", "is the default"),
        ("[prune]\nkeep = [[1]]", "no plain value"),
        ("[prune]\nkeep = 2020-01-01", "no plain value"),
    ],
)
def test_a_wrong_key_or_type_in_a_file_is_refused(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        _from_file(config(tmp_path, text), "prune")


@pytest.mark.parametrize(
    "text", ["!!python/object:os.system {}", "a: b", '{"prune": ', "[prune", "{" * 100_000]
)
def test_only_toml_and_json_are_read(tmp_path: Path, text: str) -> None:
    with pytest.raises(DataError, match="Neither TOML nor JSON"):
        _from_file(config(tmp_path, text), "prune")


def test_a_missing_or_undecodable_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no such file"):
        _from_file(str(tmp_path / "none.toml"), "prune")
    (tmp_path / "bytes.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(DataError, match="UTF-8"):
        _from_file(str(tmp_path / "bytes.toml"), "prune")


def sidecar(folder: Path, *command: str) -> str:
    return config(
        folder, json.dumps({"command": list(command), "sha256": "ab", "format": "manifest"}), "m.audit.json"
    )


def test_a_sidecar_repeats_its_run(tmp_path: Path) -> None:
    first = told(
        "prune", "a.parquet", "--keep", "50%", "--policy", "ccs", "--balance", "--no-ranks", "--seed", "3"
    )
    again = told("prune", "--config", sidecar(tmp_path, *first.command))
    assert again.values == first.values
    assert again.command == first.command


def test_a_sidecar_does_not_force_or_download_by_itself(tmp_path: Path) -> None:
    path = sidecar(
        tmp_path, "audit", "forgetting", "cifar10", "--download", "--force", "--dry-run", "--seeds", "2"
    )
    assert set(told("forgetting", "--config", path).values) == {"spec", "seeds"}


def test_a_sidecar_of_another_command_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="written by audit prune, not by audit forgetting"):
        told("forgetting", "--config", sidecar(tmp_path, "audit", "prune", "a.parquet"))


def test_the_command_is_spelt_out_without_file_users_or_appearance(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    file = config(tmp_path, "[forgetting]\nlr = 0.1\n")
    said = told(
        "forgetting",
        str(tmp_path / "photos"),
        "--config",
        file,
        "-q",
        "--json",
        "--exclude",
        "a",
        "--exclude",
        "b",
    )
    assert said.command == (
        "audit",
        "forgetting",
        "photos",
        "--exclude",
        "a",
        "--exclude",
        "b",
        "--lr",
        "0.1",
    )


def test_options_may_stand_before_the_command_and_repetitions_add_up() -> None:
    asked = understood(["--json", "-v", "forgetting", "digits", "-v"])
    assert isinstance(asked, Call)
    assert (asked.look.format, asked.look.verbose) == ("json", 2)


def test_two_formats_contradict_each_other() -> None:
    with pytest.raises(UsageError, match="contradict"):
        understood(["--json", "prune", "--format", "markdown"])


def test_debug_is_verbose_too() -> None:
    asked = understood(["prune", "--debug"])
    assert isinstance(asked, Call)
    assert asked.look.verbose == 1


def test_the_environment_chooses_the_colour_only_when_no_flag_does(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AUDIT_COLOR", "never")
    for arguments, expected in ((["prune"], "never"), (["prune", "--color", "always"], "always")):
        asked = understood(arguments)
        assert isinstance(asked, Call)
        assert asked.look.color == expected
