"""The options of each command: help, configuration files and docs come from here."""

from __future__ import annotations

from collections.abc import Sequence

from dataset_audit.cli import names, values
from dataset_audit.cli.option import (
    ACCEPTED,
    ALLOCATOR,
    AT_LAST,
    BACKGROUND,
    CACHE,
    CHECKPOINT_DIR,
    CHECKPOINT_EVERY,
    COMPILE,
    DATA_ROOT,
    DEVICE,
    DOWNLOAD,
    MEMORY,
    PRECISION,
    PROCESSES,
    RECIPE,
    RESIDENT,
    SEED,
    STRICT,
    WORKERS,
    Option,
    Section,
    charts,
    engine,
    max_skipped,
    option,
    out,
)

OUTPUT = Section(
    title="How it is said (before or after the command)",
    options=(
        option("--format", metavar="table|markdown|json", parse=values.one_of("table", "markdown", "json"),
                default="table", help="of the result on stdout"),
        option("--json", help="the same as --format json: one JSON document, on failure too"),
        option("--quiet", "-q", counted=True, help="no plan, progress, warnings; -qq: no result either"),
        option("--verbose", "-v", counted=True, help="all table rows, seconds per phase; -vv: warnings of libraries"),
        option("--debug", help="print the traceback of an error"),
        option("--color", metavar="auto|always|never", parse=values.one_of("auto", "always", "never"), default="auto",
                variable="AUDIT_COLOR", help="NO_COLOR and FORCE_COLOR are heeded"),
        option("--config", metavar="FILE", parse=values.path,
                help="TOML or JSON with a table per command, or a sidecar: repeats its run"),
        option("--list", metavar="KIND", parse=values.one_of(*names.KINDS), complete=lambda: list(names.KINDS),
                help=f"list {', '.join(names.KINDS)} and stop"),
        option("--version", "-V", help="versions of audit, Python and PyTorch"),
        option("--help", "-h", help="this text"),
    ),
)  # fmt: skip

FORGETTING: Sequence[Section] = (
    Section(
        title="What is scored",
        options=(
            Option(flags=(), argument="spec", metavar="SPEC",
                   help="a folder of class folders, Parquet, .npz, or a name (--list datasets)"),
            out("scores.parquet"),
            charts("histogram and contact sheets"),
            option("--split", metavar="NAME", help="of the data set", default="its training split"),
            option("--exclude", metavar="PATTERN", many=True,
                    help="leave files out, by name relative to the data set"),
            option("--label-noise", metavar="SHARE", parse=values.share, default="0",
                    help="flip this share of labels reproducibly and record which"),
            DATA_ROOT,
            DOWNLOAD,
        ),
    ),
    Section(
        title="How it is trained",
        options=(
            option("--recipe", metavar="NAME", default="by data and device", complete=names.recipes,
                    help="training protocol (--list recipes)"),
            option("--model", metavar="NAME", default="by data and device", complete=names.models,
                    help="network (--list models), or any timm name"),
            *RECIPE,
            option("--seeds", metavar="R", parse=values.whole, default="1",
                    help="number of runs; run r has seed S + r"),
            SEED,
            PRECISION,
            COMPILE,
            option("--augment", no="--no-augment", default="as the recipe", help="random crops and flips"),
            option("--image-size", metavar="PIXELS", parse=values.whole, help="of the training images",
                    default="their own up to 96, else 224 on a GPU and 64 on a CPU"),
        ),
    ),
    Section(
        title="What is recorded",
        options=(
            option("--el2n-epochs", metavar="N[,N]|none", parse=values.wholes_or_none, default="the last three",
                    help="after which epochs to score EL2N in eval mode"),
            option("--tdds", metavar="T,J", parse=values.pair, default="no",
                    help="TDDS over T presentations in windows of J; costs a float per class and example"),
            option("--per-run", help="keep each run's values beside their mean"),
        ),
    ),
    Section(
        title="Which images are accepted",
        options=(
            *ACCEPTED,
            max_skipped("cannot be read"),
            BACKGROUND,
        ),
    ),
    Section(
        title="Machine",
        options=(
            DEVICE,
            *PROCESSES,
            WORKERS,
            MEMORY,
            RESIDENT,
            CACHE,
            ALLOCATOR,
            CHECKPOINT_DIR,
            CHECKPOINT_EVERY,
            *AT_LAST,
        ),
    ),
)  # fmt: skip

PRUNE: Sequence[Section] = (
    Section(
        title="What is kept",
        options=(
            Option(flags=(), argument="scores", metavar="SCORES", parse=values.path, default="scores.parquet",
                   help="table of scores, or a folder of its shards: audit's or anybody's with index and a number"),
            option("--keep", "-k", metavar="K", parse=values.keep, default="0.7",
                    help="0.7 or 70% is a share, 35000 a count; 1.0 is everything, 1 one example"),
            option("--policy", metavar="NAME", parse=values.policy, default="auto", complete=names.policies,
                    help="auto or one of --list policies"),
            option("--by", metavar="COLUMN[,COLUMN]", parse=values.names, complete=names.scores,
                    default="what the table recommends", help="scores to rank by (--list scores)"),
            option("--hard", metavar="high|low", parse=values.one_of("high", "low"),
                    help="which end of a foreign column is hard"),
            option("--balance", help="keep the class shares: a quota for each class"),
            option("--drop-noisy", help="drop examples whose AUM says that the label is wrong"),
            option("--noisy-below", metavar="X", parse=values.number, default="0", help="the AUM that says so"),
            option("--allow-empty-class", help="let a class lose its last example"),
            SEED,
        ),
    ),
    Section(
        title="Of one policy",
        options=(
            option("--skip", metavar="SHARE", parse=values.share, default="0",
                   help="window: share of the hardest left out"),
            option("--beta", metavar="SHARE", parse=values.share, default="published for the share",
                   help="ccs: share of the hardest cut off first"),
            option("--strata", metavar="N", parse=values.whole, default="50", help="ccs: bins of the score"),
            option("--embeddings", metavar="FILE", parse=values.path,
                    help="moderate: float[N, D] as .npy, .npz or Parquet"),
        ),
    ),
    Section(
        title="Against what it is checked",
        options=(
            option("--dataset", metavar="SPEC", help="compare with the data set itself before writing"),
            option("--match", metavar="index|uid", parse=values.one_of("index", "uid"), default="index",
                    help="how rows are matched with --dataset"),
            DATA_ROOT,
            STRICT,
            option("--nan", metavar="refuse|hardest|drop", parse=values.one_of("refuse", "hardest", "drop"),
                    default="refuse", help="what to do with a score that is no number"),
        ),
    ),
    Section(
        title="What is written",
        options=(
            out("manifest.parquet"),
            option("--all-rows", help="write dropped rows too, with keep = false and the reason"),
            option("--ranks", no="--no-ranks", default="up to 5 M rows", help="write keep_rank"),
            engine("who reads a large table: threads"),
            *AT_LAST,
        ),
    ),
)  # fmt: skip

BIAS: Sequence[Section] = (
    Section(
        title="What is compared",
        options=(
            Option(flags=(), argument="sources", metavar="SPEC", many=True,
                   help="two data sets or more: folders, .tar, Parquet, .npz, names; or a manifest of several"),
            out("bias.parquet"),
            charts("accuracies, matrices, pictures and maps"),
            option("--per-source", metavar="N", parse=values.whole, default="1000",
                    help="images of each, at most; drawn by chance"),
            option("--allow-identical", help="compare sets that hold the same images"),
            option("--split", metavar="NAME", help="of every data set", default="its training split"),
            DATA_ROOT,
            option("--download", no="--no-download", default="no",
                    help="fetch a named data set, or weights for --pretrained, that are not there"),
        ),
    ),
    Section(
        title="How it is measured",
        options=(
            option("--probes", metavar="NAME[,NAME]", parse=values.names, default="all", complete=names.probes,
                    help="what tries to name the source (--list probes)"),
            option("--controls", no="--no-controls", default="yes",
                    help="what makes an accuracy mean something (--list controls)"),
            option("--match-classes", help="also on equal numbers of each class that all sources share"),
            option("--ablate", help="train the network anew on poorer pictures (--list ablations)"),
            option("--explain", help="maps of what gives the source away, and tests of them; needs captum"),
            option("--resamplings", metavar="J", parse=values.whole, default="3",
                    help="folds; each image is tested in one of them"),
            SEED,
        ),
    ),
    Section(
        title="The network among the probes",
        options=(
            option("--model", metavar="NAME", default="probe-net", complete=names.models,
                    help="network (--list models), or any timm name"),
            option("--pretrained", help="start from timm's weights, if they are at hand"),
            option("--image-size", metavar="PIXELS", parse=values.whole, default="64", help="that the network sees"),
            option("--recipe", metavar="NAME", default="probe", complete=names.recipes,
                    help="training protocol (--list recipes)"),
            *RECIPE,
            PRECISION,
        ),
    ),
    Section(
        title="Gates (exit code 1)",
        options=(
            option("--fail-above", metavar="X", parse=values.number, default="none",
                    help="when the surviving bias is larger: (accuracy - 1/K)/(1 - 1/K) with artefacts taken away"),
            option("--fail-leak", metavar="SHARE", parse=values.share, default="none",
                    help="when duplicates on both sides of a split add more accuracy"),
        ),
    ),
    Section(
        title="Which images are accepted",
        options=(
            *ACCEPTED,
            max_skipped("of a source cannot be used"),
            BACKGROUND,
        ),
    ),
    Section(
        title="Machine",
        options=(
            option("--device", metavar="auto|cpu|cuda[:n]", default="auto", variable="AUDIT_DEVICE",
                    help="where the network is trained"),
            *PROCESSES,
            option("--workers", metavar="N", parse=values.whole, default="one per core", variable="AUDIT_WORKERS",
                    help="threads that decode images and fit probes"),
            option("--memory", metavar="SIZE", parse=values.memory, default="1G", variable="AUDIT_MEMORY",
                    help="that decoding may take at one time"),
            ALLOCATOR,
            CHECKPOINT_DIR,
            *AT_LAST,
        ),
    ),
)  # fmt: skip

TRANSFER: Sequence[Section] = (
    Section(
        title="What is compared",
        options=(
            Option(flags=(), argument="sources", metavar="SPEC", many=True,
                   help="two data sets or more with class names in common"),
            out("transfer.parquet"),
            charts("matrices and learning curves"),
            option("--classes", metavar="NAME[,NAME]", parse=values.names, default="shared",
                    help="classes that all sets have, matched letter by letter"),
            option("--per-source", metavar="N", parse=values.whole, default="1000, or 50 a class",
                    help="images of each set, at most; drawn by chance"),
            option("--split", metavar="NAME", help="of every data set", default="its training split"),
            max_skipped("of a set cannot be read"),
            DATA_ROOT,
            DOWNLOAD,
        ),
    ),
    Section(
        title="How it is measured",
        options=(
            option("--probe", metavar="NAME", default="auto",
                    help="hog, thumbnail, histogram or mean-rgb; auto: the better of the first two on validation"),
            option("--resamplings", metavar="J", parse=values.whole, default="3",
                    help="draws of training, validation and test images"),
            SEED,
        ),
    ),
    Section(
        title="Machine",
        options=(
            WORKERS,
            *AT_LAST,
        ),
    ),
)  # fmt: skip

NOISE: Sequence[Section] = (
    Section(
        title="What is ranked",
        options=(
            Option(flags=(), argument="scores", metavar="SCORES", parse=values.path, default="scores.parquet",
                   help="table of scores: audit's or anybody's with index and a number"),
            option("--by", metavar="COLUMN[,COLUMN]", parse=values.names, complete=names.scores,
                    default="aum,el2n where late, else aum,el2n_mean",
                    help="scores; of several the mean of their ranks"),
            option("--hard", metavar="high|low", parse=values.one_of("high", "low"),
                    help="which end of a foreign column is suspicious"),
            option("--top", metavar="N", parse=values.whole, default="10", help="most suspicious examples to list"),
            out("noise.parquet"),
            charts("the 50 most suspicious, precision, confusions, margins"),
            STRICT,
            SEED,
        ),
    ),
    Section(
        title="What is known beside the scores",
        options=(
            option("--clean-labels", metavar="FILE", parse=values.path,
                    help="known labels: Parquet, CSV, .npy, .npz, .txt; measures every score"),
            option("--clean-column", metavar="NAME", help="its column", default="clean_label, clean, label"),
            option("--predictions", metavar="FILE", parse=values.path,
                    help="probabilities float[N, C] of networks that were not trained on the row"),
        ),
    ),
    Section(
        title="A threshold (trains twice)",
        options=(
            option("--threshold-samples", no="--no-threshold-samples", default="no",
                    help="give some examples a label that is surely wrong and flag what looks like them"),
            option("--percentile", metavar="P", parse=values.number, default="99",
                    help="of their AUM, below which an example is flagged"),
            option("--fail-above", metavar="SHARE", parse=values.share, default="none",
                    help="exit with 1 when a larger share is flagged"),
            option("--dataset", metavar="SPEC", help="where the images are now",
                    default="as the scores name it"),
            DATA_ROOT,
        ),
    ),
    Section(
        title="Machine",
        options=(
            DEVICE,
            WORKERS,
            MEMORY,
            ALLOCATOR,
            CHECKPOINT_DIR,
            CHECKPOINT_EVERY,
            *AT_LAST,
        ),
    ),
)  # fmt: skip

EVALUATE: Sequence[Section] = (
    Section(
        title="What is evaluated",
        options=(
            Option(flags=(), argument="manifest", metavar="MANIFEST", parse=values.path,
                   help="what audit prune wrote [manifest.parquet, unless --scores are given]"),
            option("--scores", metavar="FILE", parse=values.path,
                    help="choose from these scores, at the sizes and by the policies that follow"),
            option("--keep", "-k", metavar="K[,K]", parse=values.keeps, default="0.9,0.7,0.5,0.3",
                    help="sizes: shares or counts, as audit prune takes them"),
            option("--policies", metavar="NAME[,NAME]", parse=values.names, default="hardest,ccs,dual",
                    complete=names.policies, help="of --list policies"),
            option("--by", metavar="COLUMN[,COLUMN]", parse=values.names, complete=names.scores,
                    default="as audit prune", help="scores to rank by (--list scores)"),
            option("--hard", metavar="high|low", parse=values.one_of("high", "low"),
                    help="which end of a foreign column is hard"),
            out("evaluation.parquet"),
            charts("removal, quality against time, classes, overlap"),
        ),
    ),
    Section(
        title="Against what",
        options=(
            option("--arms", metavar="NAME[,NAME]", parse=values.names, default="full,random,stratified,easiest",
                    complete=names.arms, help="of --list arms"),
            option("--curve", metavar="SHARE[,SHARE]", parse=values.shares, default="0.25,0.4,0.5,0.7",
                    help="all examples for these shares of the epochs, each with its own decay"),
            option("--selective", metavar="SHARE", parse=values.share, default="0",
                    help="an arm that leaves this share of each batch, of low last loss, out of the backward pass"),
            option("--test", metavar="SPEC|SHARE|excluded", default="the test split of a named set",
                    help="a labelled set; 20% of the data set itself; or what scoring left out"),
            option("--label-noise", metavar="SHARE", parse=values.share, default="0",
                    help="flip labels after choosing, the same in all arms (before: audit forgetting --label-noise)"),
            option("--dataset", metavar="SPEC", default="what the table names", help="where the images are now"),
            option("--exclude", metavar="PATTERN", many=True, help="files that no arm trains on"),
            option("--allow-missing-class", help="train arms that never see one of the classes"),
            DATA_ROOT,
        ),
    ),
    Section(
        title="How it is trained, the same for all arms",
        options=(
            option("--recipe", metavar="NAME", default="that of scoring", complete=names.recipes,
                    help="training protocol (--list recipes)"),
            option("--model", metavar="NAME", default="that of scoring", complete=names.models,
                    help="network; another than scored crosses architectures"),
            *RECIPE,
            option("--budget", metavar="epochs|steps", parse=values.one_of("epochs", "steps"), default="epochs",
                    help="what arms of all sizes have in common"),
            option("--seeds", metavar="R", parse=values.whole, default="3",
                    help="trainings of each arm; 3 can show a point, not two tenths"),
            SEED,
            option("--tune", metavar="N", parse=values.whole, default="0",
                    help="try N settings for every arm alike, judged on a tenth of the training data"),
            PRECISION,
            COMPILE,
            option("--image-size", metavar="PIXELS", parse=values.whole, default="that of scoring",
                    help="of the images"),
        ),
    ),
    Section(
        title="What is concluded",
        options=(
            option("--delta", metavar="PP", parse=values.number, default="0.2",
                    help="margin of 'no worse' and 'equivalent' in percentage points, stated beforehand"),
            option("--trainings", metavar="K", parse=values.whole, default="1",
                    help="trainings that share one scoring, for quality against time"),
            option("--score-seconds", metavar="X", parse=values.number, default="as the scores state",
                    help="what choosing one subset cost"),
            option("--fail-worse", help="exit with 1 if what the scores keep is worse than random"),
        ),
    ),
    Section(
        title="Machine",
        options=(
            DEVICE,
            *PROCESSES,
            WORKERS,
            MEMORY,
            RESIDENT,
            CACHE,
            max_skipped("cannot be read"),
            ALLOCATOR,
            CHECKPOINT_DIR,
            CHECKPOINT_EVERY,
            *AT_LAST,
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
            option("--out", "-o", metavar="FILE", parse=values.output, default="testset.parquet",
                    help="table to write; classes go to <out>_classes.parquet"),
            charts("accuracies, ranks, classes and bias by size"),
            option("--train", metavar="SPEC",
                    help="set that models are trained on, and that near-duplicates are looked up in"),
            option("--paired", no="--not-paired", default="as the images show",
                    help="the sets are the same images in the same order"),
            option("--split", metavar="NAME", help="of both test sets",
                    default="the test split of a named set, else all"),
            max_skipped("of a set cannot be read"),
            DATA_ROOT,
            DOWNLOAD,
        ),
    ),
    Section(
        title="Whose answers (one of these)",
        options=(
            option("--models", metavar="NAME[@EPOCHS][,...]", parse=values.names,
                    help="models to train on --train (--list models, or any timm name)"),
            option("--predictions-original", metavar="FILE", parse=values.path,
                    help="class per image, a column per model: Parquet, CSV, .npz, JSON, or a folder of them"),
            option("--predictions-new", metavar="FILE", parse=values.path, help="likewise, of the same models"),
            option("--predictions", metavar="FILE", parse=values.path,
                    help="both in one table with columns model, set, prediction, label and perhaps index; "
                    "ORIGINAL and NEW are values of set"),
        ),
    ),
    Section(
        title="How models are trained",
        options=(
            option("--recipe", metavar="NAME", default="by data and device", complete=names.recipes,
                    help="training protocol (--list recipes)"),
            option("--epochs", metavar="N", recipe=True, help="of models that state none", default="of the recipe"),
            *RECIPE[1:],
            PRECISION,
            option("--image-size", metavar="PIXELS", parse=values.whole, help="of the images",
                    default="their own up to 96, else 224 on a GPU and 64 on a CPU"),
        ),
    ),
    Section(
        title="Selection, and the gate (exit code 1)",
        options=(
            option("--selections", metavar="K", parse=values.whole, default="number of models",
                    help="how many models were compared on the test set so far"),
            option("--delta", metavar="PP", parse=values.number, default="those measured; 0.2, 0.5, 1",
                    help="difference to believe, in percentage points"),
            option("--ladder", help="models stand in the order of submission: say which results count"),
            option("--fail-gap", metavar="PP", parse=values.number, default="none",
                    help="when the mean gap is larger, in percentage points"),
            SEED,
        ),
    ),
    Section(
        title="Machine",
        options=(
            DEVICE,
            WORKERS,
            ALLOCATOR,
            CHECKPOINT_DIR,
            *AT_LAST,
        ),
    ),
)  # fmt: skip


def options_of(sections: Sequence[Section]) -> dict[str, Option]:
    """Return the options of some sections by name, in order."""
    return {option.name: option for section in sections for option in section.options}
