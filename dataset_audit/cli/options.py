"""Every option once: its flags, its help, how its text is read; help, configuration files and docs come from here."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial

from dataset_audit.cli import names, values
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


def _option(*flags: str, help: str, **more: object) -> Option:  # noqa: A002 - reads as in the help
    return Option(flags=flags, help=help, **more)  # type: ignore[arg-type]  # keyword by keyword as declared above


_PERCENT = partial(_option, metavar="SHARE", parse=values.share)

SEED = _option(
    "--seed", metavar="S", parse=values.whole, default="1", help="of the first run, of ties and of every draw"
)
FORCE = _option(
    "--force", help="replace an output of another configuration; never an input or a foreign file"
)
DRY_RUN = _option("--dry-run", help="print the plan and stop; nothing is written")
DATA_ROOT = _option(
    "--data-root", metavar="DIR", parse=values.path, default="data", variable="AUDIT_DATA_ROOT",
    help="where named data sets lie",
)  # fmt: skip

OUTPUT = Section(
    title="How it is said (before or after the command)",
    options=(
        _option("--format", metavar="table|markdown|json", parse=values.one_of("table", "markdown", "json"),
                default="table", help="of the result on stdout"),
        _option("--json", help="the same as --format json: one JSON document, on failure too"),
        _option("--quiet", "-q", counted=True, help="no plan, progress, warnings; -qq: no result either"),
        _option("--verbose", "-v", counted=True, help="all table rows, seconds per phase; -vv: warnings of libraries"),
        _option("--debug", help="print the traceback of an error"),
        _option("--color", metavar="auto|always|never", parse=values.one_of("auto", "always", "never"), default="auto",
                variable="AUDIT_COLOR", help="NO_COLOR and FORCE_COLOR are heeded"),
        _option("--config", metavar="FILE", parse=values.path,
                help="TOML or JSON with a table per command, or a sidecar: repeats its run"),
        _option("--list", metavar="KIND", parse=values.one_of(*names.KINDS), complete=lambda: list(names.KINDS),
                help=f"list {', '.join(names.KINDS)} and stop"),
        _option("--version", "-V", help="versions of audit, Python and PyTorch"),
        _option("--help", "-h", help="this text"),
    ),
)  # fmt: skip

FORGETTING: Sequence[Section] = (
    Section(
        title="What is scored",
        options=(
            Option(flags=(), argument="spec", metavar="SPEC",
                   help="a folder of class folders, Parquet, .npz, or a name (--list datasets)"),
            _option("--out", "-o", metavar="FILE", parse=values.output, default="scores.parquet",
                    help="table to write"),
            _option("--charts", metavar="DIR", parse=values.path, default="none",
                    help="histogram and contact sheets as SVG, PNG and CSV"),
            _option("--split", metavar="NAME", help="of the data set", default="its training split"),
            _option("--exclude", metavar="PATTERN", many=True,
                    help="leave files out, by name relative to the data set"),
            _option("--label-noise", metavar="SHARE", parse=values.share, default="0",
                    help="flip this share of labels reproducibly and record which"),
            DATA_ROOT,
            _option("--download", no="--no-download", default="no", help="fetch a named data set that is not there"),
        ),
    ),
    Section(
        title="How it is trained",
        options=(
            _option("--recipe", metavar="NAME", default="by data and device", complete=names.recipes,
                    help="training protocol (--list recipes)"),
            _option("--model", metavar="NAME", default="by data and device", complete=names.models,
                    help="network (--list models), or any timm name"),
            _option("--epochs", metavar="N", recipe=True, help="passes over the data", default="of the recipe"),
            _option("--batch-size", metavar="N", recipe=True, help="examples per step", default="of the recipe"),
            _option("--lr", metavar="X", recipe=True, help="peak learning rate", default="of the recipe"),
            _option("--set", metavar="FIELD=VALUE", parse=values.assignments, many=True,
                    help="any other field of the recipe"),
            _option("--seeds", metavar="R", parse=values.whole, default="1",
                    help="number of runs; run r has seed S + r"),
            SEED,
            _option("--precision", metavar="auto|bf16|fp32", parse=values.one_of("auto", "bf16", "fp32"),
                    default="auto", help="of everything before the last layer"),
            _option("--compile", help="use torch.compile"),
            _option("--augment", no="--no-augment", default="as the recipe", help="random crops and flips"),
            _option("--image-size", metavar="PIXELS", parse=values.whole, help="of the training images",
                    default="their own up to 96, else 224 on a GPU and 64 on a CPU"),
        ),
    ),
    Section(
        title="What is recorded",
        options=(
            _option("--el2n-epochs", metavar="N[,N]", parse=values.wholes, default="none",
                    help="after which epochs to score EL2N in eval mode"),
            _option("--tdds", metavar="T,J", parse=values.pair, default="no",
                    help="TDDS over T presentations in windows of J; costs a float per class and example"),
            _option("--per-run", help="keep each run's values beside their mean"),
        ),
    ),
    Section(
        title="Which images are accepted",
        options=(
            _option("--max-pixels", metavar="N", parse=values.pixels, default="89.5M",
                    help="a larger image is a row with an error"),
            _option("--max-file-bytes", metavar="SIZE", parse=values.memory, default="256M", help="likewise"),
            _option("--max-skipped", metavar="SHARE", parse=values.share, default="1%",
                    help="stop with exit code 3 when more cannot be read"),
            _option("--background", metavar="COLOUR", parse=values.colour, default="white",
                    help="under transparent pixels: white, black, grey, #rrggbb"),
        ),
    ),
    Section(
        title="Machine",
        options=(
            _option("--device", metavar="auto|cpu|cuda[:n]", default="auto", variable="AUDIT_DEVICE",
                    help="where to train"),
            _option("--workers", metavar="N", parse=values.whole, default="one per core", variable="AUDIT_WORKERS",
                    help="threads that decode images"),
            _option("--memory", metavar="SIZE", parse=values.memory, default="40% of what is free",
                    variable="AUDIT_MEMORY", help="that images may fill"),
            _option("--resident", metavar="auto|yes|no", parse=values.one_of("auto", "yes", "no"), default="auto",
                    help="keep all images on the device, or decode them in each epoch"),
            _option("--allocator", no="--no-allocator", default="yes", help="tune malloc for training on a CPU"),
            _option("--checkpoint-dir", metavar="DIR", parse=values.path, default=".<out>.runs",
                    help="for unfinished work"),
            _option("--checkpoint-every", metavar="N", parse=values.whole, default="1", help="epochs"),
            DRY_RUN,
            FORCE,
        ),
    ),
)  # fmt: skip

PRUNE: Sequence[Section] = (
    Section(
        title="What is kept",
        options=(
            Option(flags=(), argument="scores", metavar="SCORES", parse=values.path, default="scores.parquet",
                   help="table of scores: audit's or anybody's with index or uid and a number"),
            _option("--keep", "-k", metavar="K", parse=values.keep, default="0.7",
                    help="0.7 or 70% is a share, 35000 a count; 1.0 is everything, 1 one example"),
            _option("--policy", metavar="NAME", parse=values.policy, default="auto", complete=names.policies,
                    help="auto or one of --list policies"),
            _option("--by", metavar="COLUMN[,COLUMN]", parse=values.names, complete=names.scores,
                    default="what the table recommends", help="scores to rank by (--list scores)"),
            _option("--hard", metavar="high|low", parse=values.one_of("high", "low"),
                    help="which end of a foreign column is hard"),
            _option("--balance", help="keep the class shares: a quota for each class"),
            _option("--drop-noisy", help="drop examples whose AUM says that the label is wrong"),
            _option("--noisy-below", metavar="X", parse=values.number, default="0", help="the AUM that says so"),
            _option("--allow-empty-class", help="let a class lose its last example"),
            SEED,
        ),
    ),
    Section(
        title="Of one policy",
        options=(
            _PERCENT("--skip", default="0", help="window: share of the hardest left out"),
            _PERCENT("--beta", default="published for the share", help="ccs: share of the hardest cut off first"),
            _option("--strata", metavar="N", parse=values.whole, default="50", help="ccs: bins of the score"),
            _option("--embeddings", metavar="FILE", parse=values.path,
                    help="moderate: float[N, D] as .npy, .npz or Parquet"),
        ),
    ),
    Section(
        title="Against what it is checked",
        options=(
            _option("--dataset", metavar="SPEC", help="compare with the data set itself before writing"),
            _option("--match", metavar="index|uid", parse=values.one_of("index", "uid"), default="index",
                    help="how rows are matched with --dataset"),
            DATA_ROOT,
            _option("--strict", help="refuse a table without its sidecar"),
            _option("--nan", metavar="refuse|hardest|drop", parse=values.one_of("refuse", "hardest", "drop"),
                    default="refuse", help="what to do with a score that is no number"),
        ),
    ),
    Section(
        title="What is written",
        options=(
            _option("--out", "-o", metavar="FILE", parse=values.output, default="manifest.parquet",
                    help="table to write"),
            _option("--all-rows", help="write dropped rows too, with keep = false and the reason"),
            _option("--ranks", no="--no-ranks", default="up to 5 M rows", help="write keep_rank"),
            DRY_RUN,
            FORCE,
        ),
    ),
)  # fmt: skip

BIAS: Sequence[Section] = (
    Section(
        title="What is compared",
        options=(
            Option(flags=(), argument="sources", metavar="SPEC", many=True,
                   help="two data sets or more: folders, .tar, Parquet, .npz, names; or a manifest of several"),
            _option("--out", "-o", metavar="FILE", parse=values.output, default="bias.parquet",
                    help="table to write"),
            _option("--charts", metavar="DIR", parse=values.path, default="none",
                    help="accuracies, matrices, pictures and maps as SVG, PNG and CSV"),
            _option("--per-source", metavar="N", parse=values.whole, default="1000",
                    help="images of each, at most; drawn by chance"),
            _option("--allow-identical", help="compare sets that hold the same images"),
            _option("--split", metavar="NAME", help="of every data set", default="its training split"),
            DATA_ROOT,
            _option("--download", no="--no-download", default="no",
                    help="fetch a named data set, or weights for --pretrained, that are not there"),
        ),
    ),
    Section(
        title="How it is measured",
        options=(
            _option("--probes", metavar="NAME[,NAME]", parse=values.names, default="all", complete=names.probes,
                    help="what tries to name the source (--list probes)"),
            _option("--controls", no="--no-controls", default="yes",
                    help="what makes an accuracy mean something (--list controls)"),
            _option("--match-classes", help="also on equal numbers of each class that all sources share"),
            _option("--ablate", help="train the network anew on poorer pictures (--list ablations)"),
            _option("--explain", help="maps of what gives the source away, and tests of them; needs captum"),
            _option("--resamplings", metavar="J", parse=values.whole, default="3",
                    help="folds; each image is tested in one of them"),
            SEED,
        ),
    ),
    Section(
        title="The network among the probes",
        options=(
            _option("--model", metavar="NAME", default="probe-net", complete=names.models,
                    help="network (--list models), or any timm name"),
            _option("--pretrained", help="start from timm's weights, if they are at hand"),
            _option("--image-size", metavar="PIXELS", parse=values.whole, default="64", help="that the network sees"),
            _option("--recipe", metavar="NAME", default="probe", complete=names.recipes,
                    help="training protocol (--list recipes)"),
            _option("--epochs", metavar="N", recipe=True, help="passes over the data", default="of the recipe"),
            _option("--batch-size", metavar="N", recipe=True, help="examples per step", default="of the recipe"),
            _option("--lr", metavar="X", recipe=True, help="peak learning rate", default="of the recipe"),
            _option("--set", metavar="FIELD=VALUE", parse=values.assignments, many=True,
                    help="any other field of the recipe"),
            _option("--precision", metavar="auto|bf16|fp32", parse=values.one_of("auto", "bf16", "fp32"),
                    default="auto", help="of everything before the last layer"),
        ),
    ),
    Section(
        title="Gates (exit code 1)",
        options=(
            _option("--fail-above", metavar="X", parse=values.number, default="none",
                    help="when the surviving bias is larger: (accuracy - 1/K)/(1 - 1/K) with artefacts taken away"),
            _option("--fail-leak", metavar="SHARE", parse=values.share, default="none",
                    help="when duplicates on both sides of a split add more accuracy"),
        ),
    ),
    Section(
        title="Which images are accepted",
        options=(
            _option("--max-pixels", metavar="N", parse=values.pixels, default="89.5M",
                    help="a larger image is a row with an error"),
            _option("--max-file-bytes", metavar="SIZE", parse=values.memory, default="256M", help="likewise"),
            _option("--max-skipped", metavar="SHARE", parse=values.share, default="1%",
                    help="stop with exit code 3 when more of a source cannot be used"),
            _option("--background", metavar="COLOUR", parse=values.colour, default="white",
                    help="under transparent pixels: white, black, grey, #rrggbb"),
        ),
    ),
    Section(
        title="Machine",
        options=(
            _option("--device", metavar="auto|cpu|cuda[:n]", default="auto", variable="AUDIT_DEVICE",
                    help="where the network is trained"),
            _option("--workers", metavar="N", parse=values.whole, default="one per core", variable="AUDIT_WORKERS",
                    help="threads that decode images and fit probes"),
            _option("--memory", metavar="SIZE", parse=values.memory, default="1G", variable="AUDIT_MEMORY",
                    help="that decoding may take at one time"),
            _option("--allocator", no="--no-allocator", default="yes", help="tune malloc for training on a CPU"),
            _option("--checkpoint-dir", metavar="DIR", parse=values.path, default=".<out>.runs",
                    help="for unfinished work"),
            DRY_RUN,
            FORCE,
        ),
    ),
)  # fmt: skip

TRANSFER: Sequence[Section] = (
    Section(
        title="What is compared",
        options=(
            Option(flags=(), argument="sources", metavar="SPEC", many=True,
                   help="two data sets or more with class names in common"),
            _option("--out", "-o", metavar="FILE", parse=values.output, default="transfer.parquet",
                    help="table to write"),
            _option("--charts", metavar="DIR", parse=values.path, default="none",
                    help="matrices and learning curves as SVG, PNG and CSV"),
            _option("--classes", metavar="NAME[,NAME]", parse=values.names, default="shared",
                    help="classes that all sets have, matched letter by letter"),
            _option("--per-source", metavar="N", parse=values.whole, default="1000, or 50 a class",
                    help="images of each set, at most; drawn by chance"),
            _option("--split", metavar="NAME", help="of every data set", default="its training split"),
            _option("--max-skipped", metavar="SHARE", parse=values.share, default="1%",
                    help="stop with exit code 3 when more of a set cannot be read"),
            DATA_ROOT,
            _option("--download", no="--no-download", default="no", help="fetch a named data set that is not there"),
        ),
    ),
    Section(
        title="How it is measured",
        options=(
            _option("--probe", metavar="NAME", default="auto",
                    help="hog, thumbnail, histogram or mean-rgb; auto: the better of the first two on validation"),
            _option("--resamplings", metavar="J", parse=values.whole, default="3",
                    help="draws of training, validation and test images"),
            SEED,
        ),
    ),
    Section(
        title="Machine",
        options=(
            _option("--workers", metavar="N", parse=values.whole, default="one per core", variable="AUDIT_WORKERS",
                    help="threads that decode images"),
            DRY_RUN,
            FORCE,
        ),
    ),
)  # fmt: skip


NOISE: Sequence[Section] = (
    Section(
        title="What is ranked",
        options=(
            Option(flags=(), argument="scores", metavar="SCORES", parse=values.path, default="scores.parquet",
                   help="table of scores: audit's or anybody's with index and a number"),
            _option("--by", metavar="COLUMN[,COLUMN]", parse=values.names, complete=names.scores,
                    default="aum,el2n_mean", help="scores to rank by; of several the mean of their ranks"),
            _option("--hard", metavar="high|low", parse=values.one_of("high", "low"),
                    help="which end of a foreign column is suspicious"),
            _option("--top", metavar="N", parse=values.whole, default="10", help="most suspicious examples to list"),
            _option("--out", "-o", metavar="FILE", parse=values.output, default="noise.parquet",
                    help="table to write"),
            _option("--charts", metavar="DIR", parse=values.path, default="none",
                    help="the 50 most suspicious, precision, confusions, margins as SVG, PNG and CSV"),
            _option("--strict", help="refuse a table without its sidecar"),
            SEED,
        ),
    ),
    Section(
        title="What is known beside the scores",
        options=(
            _option("--clean-labels", metavar="FILE", parse=values.path,
                    help="known labels: Parquet, CSV, .npy, .npz, .txt; measures every score"),
            _option("--clean-column", metavar="NAME", help="its column", default="clean_label, clean, label"),
            _option("--predictions", metavar="FILE", parse=values.path,
                    help="probabilities float[N, C] of networks that were not trained on the row"),
        ),
    ),
    Section(
        title="A threshold (trains twice)",
        options=(
            _option("--threshold-samples", no="--no-threshold-samples", default="no",
                    help="give some examples a label that is surely wrong and flag what looks like them"),
            _option("--percentile", metavar="P", parse=values.number, default="99",
                    help="of their AUM, below which an example is flagged"),
            _option("--fail-above", metavar="SHARE", parse=values.share, default="none",
                    help="exit with 1 when a larger share is flagged"),
            _option("--dataset", metavar="SPEC", help="where the images are now",
                    default="as the scores name it"),
            DATA_ROOT,
        ),
    ),
    Section(
        title="Machine",
        options=(
            _option("--device", metavar="auto|cpu|cuda[:n]", default="auto", variable="AUDIT_DEVICE",
                    help="where to train"),
            _option("--workers", metavar="N", parse=values.whole, default="one per core", variable="AUDIT_WORKERS",
                    help="threads that decode images"),
            _option("--memory", metavar="SIZE", parse=values.memory, default="40% of what is free",
                    variable="AUDIT_MEMORY", help="that images may fill"),
            _option("--allocator", no="--no-allocator", default="yes", help="tune malloc for training on a CPU"),
            _option("--checkpoint-dir", metavar="DIR", parse=values.path, default=".<out>.runs",
                    help="for unfinished work"),
            _option("--checkpoint-every", metavar="N", parse=values.whole, default="1", help="epochs"),
            DRY_RUN,
            FORCE,
        ),
    ),
)  # fmt: skip


EVALUATE: Sequence[Section] = (
    Section(
        title="What is evaluated",
        options=(
            Option(flags=(), argument="manifest", metavar="MANIFEST", parse=values.path,
                   help="what audit prune wrote [manifest.parquet, unless --scores are given]"),
            _option("--scores", metavar="FILE", parse=values.path,
                    help="choose from these scores, at the sizes and by the policies that follow"),
            _option("--keep", "-k", metavar="K[,K]", parse=values.keeps, default="0.9,0.7,0.5,0.3",
                    help="sizes: shares or counts, as audit prune takes them"),
            _option("--policies", metavar="NAME[,NAME]", parse=values.names, default="hardest,ccs,dual",
                    complete=names.policies, help="of --list policies"),
            _option("--by", metavar="COLUMN[,COLUMN]", parse=values.names, complete=names.scores,
                    default="as audit prune", help="scores to rank by (--list scores)"),
            _option("--hard", metavar="high|low", parse=values.one_of("high", "low"),
                    help="which end of a foreign column is hard"),
            _option("--out", "-o", metavar="FILE", parse=values.output, default="evaluation.parquet",
                    help="table to write"),
            _option("--charts", metavar="DIR", parse=values.path, default="none",
                    help="removal, quality against time, classes, overlap as SVG, PNG and CSV"),
        ),
    ),
    Section(
        title="Against what",
        options=(
            _option("--arms", metavar="NAME[,NAME]", parse=values.names, default="full,random,stratified,easiest",
                    complete=names.arms, help="of --list arms"),
            _option("--curve", metavar="SHARE[,SHARE]", parse=values.shares, default="0.25,0.4,0.5,0.7",
                    help="all examples for these shares of the epochs, each with its own decay"),
            _option("--selective", metavar="SHARE", parse=values.share, default="0",
                    help="an arm that leaves this share of each batch, of low last loss, out of the backward pass"),
            _option("--test", metavar="SPEC|SHARE|excluded", default="the test split of a named set",
                    help="a labelled set; 20% of the data set itself; or what scoring left out"),
            _option("--label-noise", metavar="SHARE", parse=values.share, default="0",
                    help="flip labels after choosing, the same in all arms (before: audit forgetting --label-noise)"),
            _option("--dataset", metavar="SPEC", default="what the table names", help="where the images are now"),
            _option("--exclude", metavar="PATTERN", many=True, help="files that no arm trains on"),
            _option("--allow-missing-class", help="train arms that never see one of the classes"),
            DATA_ROOT,
        ),
    ),
    Section(
        title="How it is trained, the same for all arms",
        options=(
            _option("--recipe", metavar="NAME", default="that of scoring", complete=names.recipes,
                    help="training protocol (--list recipes)"),
            _option("--model", metavar="NAME", default="that of scoring", complete=names.models,
                    help="network; another than scored crosses architectures"),
            _option("--epochs", metavar="N", recipe=True, help="passes over the data", default="of the recipe"),
            _option("--batch-size", metavar="N", recipe=True, help="examples per step", default="of the recipe"),
            _option("--lr", metavar="X", recipe=True, help="peak learning rate", default="of the recipe"),
            _option("--set", metavar="FIELD=VALUE", parse=values.assignments, many=True,
                    help="any other field of the recipe"),
            _option("--budget", metavar="epochs|steps", parse=values.one_of("epochs", "steps"), default="epochs",
                    help="what arms of all sizes have in common"),
            _option("--seeds", metavar="R", parse=values.whole, default="3",
                    help="trainings of each arm; 3 can show a point, not two tenths"),
            SEED,
            _option("--tune", metavar="N", parse=values.whole, default="0",
                    help="try N settings for every arm alike, judged on a tenth of the training data"),
            _option("--precision", metavar="auto|bf16|fp32", parse=values.one_of("auto", "bf16", "fp32"),
                    default="auto", help="of everything before the last layer"),
            _option("--compile", help="use torch.compile"),
            _option("--image-size", metavar="PIXELS", parse=values.whole, default="that of scoring",
                    help="of the images"),
        ),
    ),
    Section(
        title="What is concluded",
        options=(
            _option("--delta", metavar="PP", parse=values.number, default="0.2",
                    help="margin of 'no worse' and 'equivalent' in percentage points, stated beforehand"),
            _option("--trainings", metavar="K", parse=values.whole, default="1",
                    help="trainings that share one scoring, for quality against time"),
            _option("--score-seconds", metavar="X", parse=values.number, default="as the scores state",
                    help="what choosing one subset cost"),
            _option("--fail-worse", help="exit with 1 if what the scores keep is worse than random"),
        ),
    ),
    Section(
        title="Machine",
        options=(
            _option("--device", metavar="auto|cpu|cuda[:n]", default="auto", variable="AUDIT_DEVICE",
                    help="where to train"),
            _option("--workers", metavar="N", parse=values.whole, default="one per core", variable="AUDIT_WORKERS",
                    help="threads that decode images"),
            _option("--memory", metavar="SIZE", parse=values.memory, default="40% of what is free",
                    variable="AUDIT_MEMORY", help="that images may fill"),
            _option("--resident", metavar="auto|yes|no", parse=values.one_of("auto", "yes", "no"), default="auto",
                    help="keep all images on the device, or decode them in each epoch"),
            _option("--max-skipped", metavar="SHARE", parse=values.share, default="1%",
                    help="stop with exit code 3 when more cannot be read"),
            _option("--allocator", no="--no-allocator", default="yes", help="tune malloc for training on a CPU"),
            _option("--checkpoint-dir", metavar="DIR", parse=values.path, default=".<out>.runs",
                    help="for unfinished work"),
            _option("--checkpoint-every", metavar="N", parse=values.whole, default="1", help="epochs"),
            DRY_RUN,
            FORCE,
        ),
    ),
)  # fmt: skip


TESTSET: Sequence[Section] = (
    Section(
        title="What is compared",
        options=(
            Option(flags=(), argument="original", metavar="ORIGINAL",
                   help="test set in use: a data set, a file of labels, or a set in --predictions FILE"),
            Option(flags=(), argument="new", metavar="NEW", help="test set of the same classes, likewise"),
            _option("--out", "-o", metavar="FILE", parse=values.output, default="testset.parquet",
                    help="table to write; classes go to <out>_classes.parquet"),
            _option("--charts", metavar="DIR", parse=values.path, default="none",
                    help="accuracies, ranks, classes and bias by size as SVG, PNG and CSV"),
            _option("--train", metavar="SPEC",
                    help="set that models are trained on, and that near-duplicates are looked up in"),
            _option("--paired", no="--not-paired", default="as the images show",
                    help="the sets are the same images in the same order"),
            _option("--split", metavar="NAME", help="of both test sets",
                    default="the test split of a named set, else all"),
            _option("--max-skipped", metavar="SHARE", parse=values.share, default="1%",
                    help="stop with exit code 3 when more of a set cannot be read"),
            DATA_ROOT,
            _option("--download", no="--no-download", default="no", help="fetch a named data set that is not there"),
        ),
    ),
    Section(
        title="Whose answers (one of these)",
        options=(
            _option("--models", metavar="NAME[@EPOCHS][,...]", parse=values.names,
                    help="models to train on --train (--list models, or any timm name)"),
            _option("--predictions-original", metavar="FILE", parse=values.path,
                    help="class per image, a column per model: Parquet, CSV, .npz, JSON, or a folder of them"),
            _option("--predictions-new", metavar="FILE", parse=values.path, help="likewise, of the same models"),
            _option("--predictions", metavar="FILE", parse=values.path,
                    help="both in one table with columns model, set, prediction, label and perhaps index; "
                    "ORIGINAL and NEW are values of set"),
        ),
    ),
    Section(
        title="How models are trained",
        options=(
            _option("--recipe", metavar="NAME", default="by data and device", complete=names.recipes,
                    help="training protocol (--list recipes)"),
            _option("--epochs", metavar="N", recipe=True, help="of models that state none", default="of the recipe"),
            _option("--batch-size", metavar="N", recipe=True, help="examples per step", default="of the recipe"),
            _option("--lr", metavar="X", recipe=True, help="peak learning rate", default="of the recipe"),
            _option("--set", metavar="FIELD=VALUE", parse=values.assignments, many=True,
                    help="any other field of the recipe"),
            _option("--precision", metavar="auto|bf16|fp32", parse=values.one_of("auto", "bf16", "fp32"),
                    default="auto", help="of everything before the last layer"),
            _option("--image-size", metavar="PIXELS", parse=values.whole, help="of the images",
                    default="their own up to 96, else 224 on a GPU and 64 on a CPU"),
        ),
    ),
    Section(
        title="Selection, and the gate (exit code 1)",
        options=(
            _option("--selections", metavar="K", parse=values.whole, default="number of models",
                    help="how many models were compared on the test set so far"),
            _option("--delta", metavar="PP", parse=values.number, default="those measured; 0.2, 0.5, 1",
                    help="difference to believe, in percentage points"),
            _option("--ladder", help="models stand in the order of submission: say which results count"),
            _option("--fail-gap", metavar="PP", parse=values.number, default="none",
                    help="when the mean gap is larger, in percentage points"),
            SEED,
        ),
    ),
    Section(
        title="Machine",
        options=(
            _option("--device", metavar="auto|cpu|cuda[:n]", default="auto", variable="AUDIT_DEVICE",
                    help="where to train"),
            _option("--workers", metavar="N", parse=values.whole, default="one per core", variable="AUDIT_WORKERS",
                    help="threads that decode images"),
            _option("--allocator", no="--no-allocator", default="yes", help="tune malloc for training on a CPU"),
            _option("--checkpoint-dir", metavar="DIR", parse=values.path, default=".<out>.runs",
                    help="for unfinished work"),
            DRY_RUN,
            FORCE,
        ),
    ),
)  # fmt: skip


def options_of(sections: Sequence[Section]) -> dict[str, Option]:
    """Return the options of some sections by name, in order."""
    return {option.name: option for section in sections for option in section.options}
