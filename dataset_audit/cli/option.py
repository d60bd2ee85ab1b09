"""What an option is, and those that several commands share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from dataset_audit.cli import values
from dataset_audit.cli.values import Parser


@dataclass(frozen=True, kw_only=True)
class Option:
    """One thing that can be said to a command.

    Attributes:
        flags: As typed, longest first; none for an argument given by position.
        help: One phrase; the default is added in brackets.
        metavar: What stands for the value in the help; empty for a switch.
        parse: From text to value.
        default: As shown; the value itself is the default of the command's Config.
        no: Flag that turns the switch off.
        many: Whether it may be given several times.
        counted: Whether giving it several times raises it.
        variable: Environment variable that sets it where neither flag nor file does.
        recipe: Whether it is a field of the recipe.
        complete: Returns the values a shell can complete.
    """

    flags: tuple[str, ...]
    help: str
    metavar: str = ""
    parse: Parser = values.text
    default: str = ""
    no: str = ""
    many: bool = False
    counted: bool = False
    variable: str = ""
    recipe: bool = False
    complete: Callable[[], list[str]] | None = None
    argument: str = ""

    @property
    def name(self) -> str:
        """Field of the Config and key of the configuration file."""
        return self.argument or self.flags[0].lstrip("-").replace("-", "_")

    @property
    def shown(self) -> str:
        """How messages call it."""
        return self.flags[0] if self.flags else self.metavar


@dataclass(frozen=True, kw_only=True)
class Section:
    """Options that belong together in the help."""

    title: str
    options: tuple[Option, ...] = field(default=())


def option(*flags: str, help: str, **more: object) -> Option:  # noqa: A002 - reads as in the help
    """Return an option with these flags; ``more`` are further attributes of `Option`."""
    return Option(flags=flags, help=help, **more)  # type: ignore[arg-type]  # keyword by keyword as declared above


def out(default: str) -> Option:
    """Return ``--out`` of a command that writes one table."""
    return option("--out", "-o", metavar="FILE", parse=values.output, default=default, help="table to write")


def charts(what: str) -> Option:
    """Return ``--charts``; ``what`` is drawn."""
    return option(
        "--charts", metavar="DIR", parse=values.path, default="none", help=f"{what} as SVG, PNG and CSV"
    )


def max_skipped(more: str) -> Option:
    """Return ``--max-skipped``; ``more`` is too much."""
    return option(
        "--max-skipped", metavar="SHARE", parse=values.share, default="1%",
        help=f"stop with exit code 3 when more {more}",
    )  # fmt: skip


def engine(local: str) -> Option:
    """Return ``--engine``; ``local`` does the work without Ray."""
    return option(
        "--engine", metavar="local|ray", parse=values.one_of("local", "ray"), default="local",
        help=f"{local} here, or the Ray cluster that RAY_ADDRESS names",
    )  # fmt: skip


SEED: Final = option(
    "--seed", metavar="S", parse=values.whole, default="1", help="of the first run, of ties and of every draw"
)
STRICT: Final = option("--strict", help="refuse a table without its sidecar")
DATA_ROOT: Final = option(
    "--data-root", metavar="DIR", parse=values.path, default="data", variable="AUDIT_DATA_ROOT",
    help="where named data sets lie",
)  # fmt: skip
DOWNLOAD: Final = option(
    "--download", no="--no-download", default="no", help="fetch a named data set that is not there"
)

ACCEPTED: Final = (
    option("--max-pixels", metavar="N", parse=values.pixels, default="89.5M",
           help="a larger image is a row with an error"),
    option("--max-file-bytes", metavar="SIZE", parse=values.memory, default="256M", help="likewise"),
)  # fmt: skip
BACKGROUND: Final = option(
    "--background", metavar="COLOUR", parse=values.colour, default="white",
    help="under transparent pixels: white, black, grey, #rrggbb",
)  # fmt: skip

RECIPE: Final = (
    option("--epochs", metavar="N", recipe=True, help="passes over the data", default="of the recipe"),
    option("--batch-size", metavar="N", recipe=True, help="examples per step", default="of the recipe"),
    option("--lr", metavar="X", recipe=True, help="peak learning rate", default="of the recipe"),
    option("--set", metavar="FIELD=VALUE", parse=values.assignments, many=True, help="any other field of the recipe"),
)  # fmt: skip
PRECISION: Final = option(
    "--precision", metavar="auto|bf16|fp32", parse=values.one_of("auto", "bf16", "fp32"), default="auto",
    help="of everything before the last layer",
)  # fmt: skip
COMPILE: Final = option("--compile", help="use torch.compile")

DEVICE: Final = option(
    "--device", metavar="auto|cpu|cuda[:n]", default="auto", variable="AUDIT_DEVICE", help="where to train"
)
PROCESSES: Final = (
    option("--processes", metavar="N", parse=values.whole, default="1; with --engine ray one per GPU, else per machine",
           help="that share the work"),
    engine("where they run:"),
)  # fmt: skip
WORKERS: Final = option(
    "--workers", metavar="N", parse=values.whole, default="one per core", variable="AUDIT_WORKERS",
    help="threads that decode images",
)  # fmt: skip
MEMORY: Final = option(
    "--memory", metavar="SIZE", parse=values.memory, default="40% of what is free", variable="AUDIT_MEMORY",
    help="that images may fill",
)  # fmt: skip
RESIDENT: Final = option(
    "--resident", metavar="auto|yes|no", parse=values.one_of("auto", "yes", "no"), default="auto",
    help="keep all images on the device, or see --cache",
)  # fmt: skip
CACHE: Final = option(
    "--cache", metavar="auto|no|DIR", parse=values.cache, default="auto",
    help="decode what is not resident once, to disk: auto for this run, DIR to keep it for others; no in each epoch",
)  # fmt: skip
ALLOCATOR: Final = option(
    "--allocator", no="--no-allocator", default="yes", help="tune malloc for training on a CPU"
)
CHECKPOINT_DIR: Final = option(
    "--checkpoint-dir", metavar="DIR", parse=values.path, default=".<out>.runs", help="for unfinished work"
)
CHECKPOINT_EVERY: Final = option(
    "--checkpoint-every",
    metavar="N",
    parse=values.whole,
    default="1",
    help="epochs; on a GPU 15 s apart",
)
AT_LAST: Final = (
    option("--dry-run", help="print the plan and stop; nothing is written"),
    option("--force", help="replace an output of another configuration; never an input or a foreign file"),
)
