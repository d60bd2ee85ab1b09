"""Where a value comes from: the flag, else the configuration file, else the environment, else the command's default."""

from __future__ import annotations

import json
import os
import tomllib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from dataset_audit.cli.option import Option
from dataset_audit.cli.values import nearest
from dataset_audit.errors import DataError, UsageError

Raw = str | bool | list[str]  # what a flag, a file or a variable says, before it is read
Said = Mapping[str, Raw]
LARGEST_FILE = 16 * 2**20
NOT_REPEATED = ("force", "download", "dry_run")  # must be said each time


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What a command was told.

    Attributes:
        values: By field of the command's Config; fields nobody mentioned are absent.
        command: The command line that says the same without file and environment.
        environment: ``NAME=value`` of each variable that was used.
    """

    values: dict[str, object]
    command: tuple[str, ...]
    environment: tuple[str, ...]


def gathered(
    name: str, options: Mapping[str, Option], flags: Said, file: Said, environment: Mapping[str, str]
) -> Settings:
    """Combine what flags, file and environment say about one command.

    Raises:
        UsageError: A text that is no value of its option.
    """
    variables = {
        option.name: environment[option.variable]
        for option in options.values()
        if option.variable and environment.get(option.variable)
    }
    said: dict[str, Raw] = {**variables, **file, **flags}
    used = [key for key in variables if key not in file and key not in flags]
    overrides = _overrides(options, file) | _overrides(options, flags)
    values: dict[str, object] = {"overrides": overrides} if overrides else {}
    for key, raw in said.items():
        option = options[key]
        if option.recipe or key == "set":
            continue
        shown = option.variable if key in used else option.shown
        values[key] = _read(option, shown, raw)
    return Settings(
        values=values,
        command=("audit", name, *_spelt(options, {key: raw for key, raw in said.items() if key not in used})),
        environment=tuple(f"{options[key].variable}={variables[key]}" for key in used),
    )


def _read(option: Option, shown: str, raw: Raw) -> object:
    if isinstance(raw, bool):
        return raw
    if isinstance(raw, list):
        return tuple(option.parse(shown, text) for text in raw)
    return option.parse(shown, raw)


def _overrides(options: Mapping[str, Option], said: Said) -> dict[str, str]:
    """Return the recipe fields that one source changes; the same field twice with two values is a contradiction."""
    found: dict[str, str] = {}
    pairs = [(key, str(raw), options[key].shown) for key, raw in said.items() if options[key].recipe]
    assigned = said.get("set", [])
    for text in assigned if isinstance(assigned, list) else [str(assigned)]:
        parsed = options["set"].parse("--set", text)
        pairs += [(key, value, "--set") for key, value in parsed.items()] if isinstance(parsed, dict) else []
    for key, value, shown in pairs:
        if found.setdefault(key, value) != value:
            raise UsageError(f"{shown}: {key} is set to {found[key]} and to {value}.")
    return found


def _spelt(options: Mapping[str, Option], said: Said) -> Iterable[str]:
    """Spell options as on a command line, arguments first; absolute paths become relative, names of users stay out."""
    for key, option in options.items():
        raw = said.get(key)
        if raw is None:
            continue
        if isinstance(raw, bool):
            yield option.shown if raw else option.no
            continue
        for text in raw if isinstance(raw, list) else [raw]:
            plain = os.path.relpath(text) if Path(text).is_absolute() else text
            yield from [option.shown, plain] if option.flags else [plain]


def from_file(
    path: Path,
    command: str,
    tables: Mapping[str, Mapping[str, Option]],
    parse: Callable[[list[str]], dict[str, Raw]],
) -> dict[str, Raw]:
    """Return what a configuration file or a sidecar says about ``command``.

    Args:
        path: TOML, or JSON, or the sidecar of a table (``scores.audit.json``).
        command: The command that runs.
        tables: Options of every command.
        parse: From the arguments of ``command`` to what they say.

    Raises:
        UsageError: No such file, an unknown key (the nearest is given), or a value of the wrong type.
        DataError: Neither TOML nor JSON.
    """
    document = _document(path)
    arguments = document.get("command")
    if isinstance(arguments, list) and "sha256" in document:
        return _from_sidecar(path, command, [str(argument) for argument in arguments], parse)
    for table in document:
        if table not in tables:
            raise UsageError(
                f"{path} has a table [{table}]; commands are {', '.join(tables)}{nearest(table, [*tables])}.",
                where=str(path),
            )
    said = document.get(command, {})
    if not isinstance(said, dict):
        raise UsageError(f"{command} is no table.", where=str(path), do=f"[{command}] and options below it")
    options = tables[command]
    found: dict[str, Raw] = {}
    for key, value in said.items():
        name = key.replace("-", "_")
        if name not in options:
            raise UsageError(f"[{command}] has no option {key}{nearest(name, [*options])}.", where=str(path))
        found[name] = _raw(options[name], value, f"{path}: [{command}] {key}")
    return found


def _document(path: Path) -> dict[str, object]:
    try:
        if path.stat().st_size > LARGEST_FILE:
            raise DataError(
                "A configuration has a few lines; this file is larger than 16 MB.", where=str(path)
            )
        content = path.read_text(encoding="utf-8")
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
        raise UsageError(f"--config {path}: no such file.") from None
    except UnicodeDecodeError:
        raise DataError("The configuration is not UTF-8.", where=str(path)) from None
    try:
        if content.lstrip().startswith("{"):
            document = json.loads(content, parse_float=str, parse_int=str)
        else:
            document = tomllib.loads(content, parse_float=str)
    except (ValueError, RecursionError) as error:
        raise DataError(f"Neither TOML nor JSON: {error}.", where=str(path)) from None
    return dict(document)


def _from_sidecar(
    path: Path, command: str, arguments: list[str], parse: Callable[[list[str]], dict[str, Raw]]
) -> dict[str, Raw]:
    if arguments[:2] != ["audit", command]:
        made = " ".join(arguments[:2]) or "nothing"
        raise UsageError(f"This sidecar was written by {made}, not by audit {command}.", where=str(path))
    return {key: raw for key, raw in parse(arguments[2:]).items() if key not in NOT_REPEATED}


def _raw(option: Option, value: object, where: str) -> Raw:
    """Return a value of a file in the form in which a flag would give it."""
    switch = not option.metavar
    if isinstance(value, bool) and switch:
        if not value and not option.no:
            raise UsageError(
                f"{option.name} = false is the default and has no flag.", where=where, do="leave it out"
            )
        return value
    if option.many and isinstance(value, dict):
        return [f"{key}={_plain(item, where)}" for key, item in value.items()]
    if switch or isinstance(value, bool | dict):
        raise UsageError(f"{option.name} wants {'true or false' if switch else option.metavar}.", where=where)
    if isinstance(value, list):
        items = [_plain(item, where) for item in value]
        return items if option.many else ",".join(items)
    return [_plain(value, where)] if option.many else _plain(value, where)


def _plain(value: object, where: str) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if not isinstance(value, str | int | float):
        raise UsageError(f"{value!r} is no plain value.", where=where)
    return str(value)
