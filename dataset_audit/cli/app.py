"""The commands as typer sees them, made from the table of options."""

from __future__ import annotations

import inspect
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import TYPE_CHECKING, Annotated

import typer
import typer.core

from dataset_audit.cli import names, settings
from dataset_audit.cli.failures import installed
from dataset_audit.cli.option import Option, Section
from dataset_audit.cli.options import (
    BIAS,
    EVALUATE,
    FORGETTING,
    NOISE,
    OUTPUT,
    PRUNE,
    TESTSET,
    TRANSFER,
    options_of,
)
from dataset_audit.cli.settings import Raw, Settings
from dataset_audit.cli.streams import Look
from dataset_audit.errors import UsageError
from dataset_audit.progress import Progress
from dataset_audit.report.document import Report

if TYPE_CHECKING:
    from typer._click.formatting import HelpFormatter

ABOUT = "Measures what is in an image data set and what of it is worth training on."
FOOT = (
    "Exit codes: 0 done, 1 gate failed, 2 usage, 3 bad data, 4 environment, 70 bug; all in docs/reference.md."
)


@dataclass(frozen=True, kw_only=True)
class Command:
    """A command: what it does, what it can be told, and the function that does it."""

    about: str
    sections: Sequence[Section]
    run: Callable[[Mapping[str, object], Progress], Report]
    needs: str = ""
    examples: Sequence[str] = ()


@dataclass(frozen=True, kw_only=True)
class Call:
    """What one command line asks for, once it is understood."""

    command: str
    look: Look
    settings: Settings


def _forgetting(told: Mapping[str, object], progress: Progress) -> Report:
    from dataset_audit.commands import forgetting  # noqa: PLC0415 - NumPy and pyarrow, not for --help

    return forgetting.run(forgetting.Config(**told), progress)  # type: ignore[arg-type]  # read by the table


def _prune(told: Mapping[str, object], progress: Progress) -> Report:
    from dataset_audit.commands import prune  # noqa: PLC0415

    return prune.run(prune.Config(**told), progress)  # type: ignore[arg-type]


def _bias(told: Mapping[str, object], progress: Progress) -> Report:
    from dataset_audit.commands import bias  # noqa: PLC0415

    return bias.run(bias.Config(**told), progress)  # type: ignore[arg-type]


def _evaluate(told: Mapping[str, object], progress: Progress) -> Report:
    from dataset_audit.commands import evaluate  # noqa: PLC0415

    return evaluate.run(evaluate.Config(**told), progress)  # type: ignore[arg-type]


def _transfer(told: Mapping[str, object], progress: Progress) -> Report:
    from dataset_audit.commands import transfer  # noqa: PLC0415

    return transfer.run(transfer.Config(**told), progress)  # type: ignore[arg-type]


def _noise(told: Mapping[str, object], progress: Progress) -> Report:
    from dataset_audit.commands import noise  # noqa: PLC0415

    return noise.run(noise.Config(**told), progress)  # type: ignore[arg-type]


def _testset(told: Mapping[str, object], progress: Progress) -> Report:
    from dataset_audit.commands import testset  # noqa: PLC0415

    return testset.run(testset.Config(**told), progress)  # type: ignore[arg-type]


COMMANDS: dict[str, Command] = {
    "forgetting": Command(
        about="Score every example by how it is learned and forgotten.",
        sections=FORGETTING,
        run=_forgetting,
        needs="spec",
        examples=(
            "audit forgetting digits",
            "audit forgetting photos/ --seeds 3 --out photos.parquet",
            "audit forgetting cifar10 --download --recipe fast --lr 0.1",
        ),
    ),
    "prune": Command(
        about="Choose the examples to keep; write the manifest to train on.",
        sections=PRUNE,
        run=_prune,
        examples=(
            "audit prune",
            "audit prune photos.parquet --keep 30% --policy ccs --balance",
            "audit prune theirs.parquet --by their_score --hard high --keep 5000",
        ),
    ),
    "evaluate": Command(
        about="Train on what is kept and on random subsets; say whether it pays.",
        sections=EVALUATE,
        run=_evaluate,
        examples=(
            "audit evaluate manifest.parquet --test photos-test/",
            "audit evaluate --scores scores.parquet --keep 0.7,0.3 --policies ccs",
            "audit evaluate --scores scores.parquet --arms full,random,rs2 --tune 8",
        ),
    ),
    "bias": Command(
        about="Tell apart the sources of images, under controls.",
        sections=BIAS,
        run=_bias,
        needs="sources",
        examples=(
            "audit bias photos/a photos/b photos/c",
            "audit bias a/ b.tar c.parquet --ablate --explain --charts charts",
            "audit bias a/ b/ --json --fail-above 0.2",
        ),
    ),
    "transfer": Command(
        about="Train on each of several sets, test on each of them.",
        sections=TRANSFER,
        run=_transfer,
        needs="sources",
        examples=(
            "audit transfer photos/a photos/b",
            "audit transfer a/ b/ c/ --classes car,person --per-source 2000",
        ),
    ),
    "noise": Command(
        about="Rank the labels that are probably wrong.",
        sections=NOISE,
        run=_noise,
        examples=(
            "audit noise",
            "audit noise photos.parquet --clean-labels checked.csv --charts charts",
            "audit noise --threshold-samples --fail-above 5%",
        ),
    ),
    "testset": Command(
        about="Compare two test sets, and say how long one can still be chosen on.",
        sections=TESTSET,
        run=_testset,
        needs="new",
        examples=(
            "audit testset cifar10 cifar10.1_v6 --predictions predictions.parquet",
            "audit testset old/ new/ --predictions-original a.csv --predictions-new b.csv",
            "audit testset test/ new/ --train train/ --models small@2,small@4,small@8",
        ),
    ),
}
GLOBAL = options_of([OUTPUT])


class _Sectioned(typer.core.TyperCommand):
    """A command whose help groups its options; without this typer lists fifty in a row."""

    def format_options(self, ctx: typer.Context, formatter: HelpFormatter) -> None:  # type: ignore[override]
        params = {param.name: param for param in self.get_params(ctx)}
        for section in (*COMMANDS[self.name or ""].sections, OUTPUT):
            records = [
                params[option.name].get_help_record(ctx)
                if option.flags
                else (option.metavar, described(option))
                for option in section.options
            ]
            with formatter.section(section.title):
                formatter.write_dl([record for record in records if record])


class _AsGiven:
    """Hands texts on unread: options.py reads them, and typer's own reading would import pydantic (0.15 s)."""

    def coerce(self, value: object, **_: object) -> object:
        return value


def described(option: Option) -> str:
    """Return the help of an option with its default."""
    return f"{option.help} [{option.default}]" if option.default else option.help


def _parameter(option: Option) -> inspect.Parameter:
    shown = described(option)
    complete = option.complete
    kind: object = list[str] | None if option.many else str | None
    if not option.flags:
        info: object = typer.Argument(metavar=option.metavar, help=shown, show_default=False)
    elif option.metavar:
        matching = (
            None
            if complete is None
            else lambda incomplete: [n for n in complete() if n.startswith(incomplete)]
        )
        info = typer.Option(
            *option.flags, metavar=option.metavar, help=shown, show_default=False, autocompletion=matching
        )
    elif option.counted:
        kind, info = int, typer.Option(*option.flags, count=True, help=shown, show_default=False)
    else:
        flags = (f"{option.flags[0]}/{option.no}",) if option.no else option.flags
        kind, info = bool | None, typer.Option(*flags, help=shown, show_default=False)
    default = 0 if option.counted else None
    return inspect.Parameter(
        option.name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=Annotated[kind, info]
    )


def _callback(name: str | None, options: Mapping[str, Option]) -> Callable[..., object]:
    """Return a function with one keyword per option, which is how typer learns of them."""

    def call(context: typer.Context, **given: object) -> object:
        said = {key: value for key, value in given.items() if value not in (None, 0, []) or value is False}
        if name is None:
            context.obj = said
            if said.get("help") or not context.invoked_subcommand:
                return _asked(None, said, context)
            return None
        return _asked(name, _merged(context.obj or {}, said), context)

    context = inspect.Parameter("context", inspect.Parameter.POSITIONAL_OR_KEYWORD, annotation=typer.Context)
    parameters = [context, *(_parameter(option) for option in options.values())]
    call.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]  # read by inspect.signature
    return call


def _merged(before: Mapping[str, object], after: Mapping[str, object]) -> dict[str, object]:
    """Return what was said before and after the command; the later wins, and repetitions add up."""
    merged = {**before, **after}
    for key in ("quiet", "verbose"):
        if key in merged:
            merged[key] = _count(before, key) + _count(after, key)
    return merged


def _count(said: Mapping[str, object], key: str) -> int:
    value = said.get(key, 0)
    return value if isinstance(value, int) else 0


def _asked(command: str | None, said: Mapping[str, object], context: typer.Context) -> object:
    """Return what the line asks for: a Call, or something to show at once."""
    if said.get("help"):
        return context.get_help()
    if said.get("version"):
        return installed()
    if "list" in said:
        return names.listing(str(GLOBAL["list"].parse("--list", str(said["list"]))))
    if command is None:
        raise UsageError(f"A command is missing: {', '.join(COMMANDS)}.", do="audit --help")
    return Call(command=command, look=look(said), settings=_settings(command, said))


def look(said: Mapping[str, object]) -> Look:
    """Return how the command is to talk."""
    texts: dict[str, object] = {}
    for key in ("format", "color"):
        option = GLOBAL[key]
        text = said.get(key) or os.environ.get(option.variable)
        if text:
            texts[key] = option.parse(option.shown if key in said else option.variable, str(text))
    if said.get("json"):
        if texts.get("format", "json") != "json":
            raise UsageError(f"--json and --format {texts['format']} contradict each other.")
        texts["format"] = "json"
    debug = bool(said.get("debug"))
    return Look(
        quiet=_count(said, "quiet"),
        verbose=max(_count(said, "verbose"), int(debug)),
        debug=debug,
        **texts,  # type: ignore[arg-type]  # one_of returned one of them
    )


def _settings(command: str, said: Mapping[str, object]) -> Settings:
    options = options_of(COMMANDS[command].sections)
    flags = _own(options, said)
    file: dict[str, Raw] = {}
    if "config" in said:
        path = GLOBAL["config"].parse("--config", str(said["config"]))
        tables = {name: options_of(known.sections) for name, known in COMMANDS.items()}
        file = settings.from_file(path, command, tables, lambda arguments: _parsed(command, arguments))  # type: ignore[arg-type]
    found = settings.gathered(command, options, flags, file, os.environ)
    needed = COMMANDS[command].needs
    if needed and needed not in found.values:
        raise UsageError(
            f"{options[needed].metavar} is missing: {options[needed].help}.", do=f"audit {command} --help"
        )
    return found


def misspelt(command: str, environment: Mapping[str, str]) -> list[tuple[str, str]]:
    """Return each variable that is nearly one of ours with the one it is near; those of others are their business."""
    options = [*options_of(COMMANDS[command].sections).values(), *GLOBAL.values()]
    known = {option.variable for option in options if option.variable}
    found = []
    for name in sorted(environment):
        if name.startswith("AUDIT_") and name not in known:
            found += [(name, near) for near in get_close_matches(name, known, n=1, cutoff=0.8)]
    return found


def _own(options: Mapping[str, Option], said: Mapping[str, object]) -> dict[str, Raw]:
    own: dict[str, Raw] = {}
    for key, value in said.items():
        if key in options and value not in (None, (), []):
            own[key] = value if isinstance(value, str | bool) else [str(text) for text in _items(value)]
    return own


def _items(value: object) -> Sequence[object]:
    return value if isinstance(value, list | tuple) else [value]


def _parsed(command: str, arguments: list[str]) -> dict[str, Raw]:
    """Return what the arguments of a command say, as typer reads them."""
    context = commands()[command].make_context(command, list(arguments), resilient_parsing=True)
    return _own(options_of(COMMANDS[command].sections), context.params)


def application() -> typer.Typer:
    """Return the application: its help is plain text of at most 80 columns, the same everywhere."""
    app = typer.Typer(
        name="audit", help=ABOUT, epilog=FOOT, rich_markup_mode=None, pretty_exceptions_enable=False,
        context_settings={"max_content_width": 80}, add_help_option=False,
    )  # fmt: skip
    app.callback(invoke_without_command=True, add_help_option=False)(_callback(None, GLOBAL))
    for name, command in COMMANDS.items():
        options = {**options_of(command.sections), **GLOBAL}
        examples = "\b\nExamples:\n" + "\n".join(f"  {example}" for example in command.examples)
        app.command(name, cls=_Sectioned, help=command.about, epilog=examples, add_help_option=False)(
            _callback(name, options)
        )
    return app


def group() -> typer.core.TyperGroup:
    """Return the application as the group that reads a command line."""
    built = typer.main.get_command(application())
    if not isinstance(built, typer.core.TyperGroup):
        raise TypeError("two commands make a group")
    for command in (built, *built.commands.values()):
        for param in command.params:
            vars(param)["_runtime_param"] = _AsGiven()
    return built


def commands() -> Mapping[str, typer.core.TyperCommand]:
    """Return the commands by name, as typer reads them."""
    return {
        name: command
        for name, command in group().commands.items()
        if isinstance(command, typer.core.TyperCommand)
    }


def understood(arguments: Sequence[str]) -> object:
    """Return the Call, Report or text that a command line asks for.

    Raises:
        typer.TyperException: The line cannot be parsed.
        typer.Exit: Everything was said, as with --show-completion.
        UsageError: A value cannot be read.
    """
    program = group()
    with program.make_context("audit", list(arguments)) as context:
        return program.invoke(context)


def completing() -> bool:
    """Return whether a shell asks for completions; answers and exits if so."""
    if "_AUDIT_COMPLETE" not in os.environ:
        return False
    application()(prog_name="audit", args=sys.argv[1:])
    return True
