"""``audit --list KIND``: what can be named, read from the dicts that define it."""

from __future__ import annotations

from dataset_audit.report.document import Line, Note, Report

_Rows = tuple[list[tuple[str, ...]], str]  # name and what is known about it; a sentence below
KINDS = ("datasets", "recipes", "models", "scores", "policies", "arms", "probes", "controls", "ablations")


def listing(kind: str) -> Report:
    """Return a report with one row per name of a kind."""
    rows, note = _LISTS[kind]()
    lines = [Line(row[0], row[1:]) for row in rows]
    return Report("list", kind, items=(*lines, Note(note)), summary={kind: [row[0] for row in rows]})


def _datasets() -> _Rows:
    from dataset_audit.images.readers import READERS  # noqa: PLC0415 - NumPy

    rows: list[tuple[str, ...]] = [
        (name, ", ".join(reader.splits), reader.about) for name, reader in READERS.items() if reader.named
    ]
    forms = "; ".join(reader.about for reader in READERS.values() if not reader.named)
    return (
        rows,
        f"or a path: {forms}. A name is a folder only with a slash: ./digits",
    )


def _recipes() -> _Rows:
    from dataset_audit.train.recipes import RECIPES  # noqa: PLC0415 - beside the other lists

    rows: list[tuple[str, ...]] = [
        (name, f"{recipe.epochs} epochs", f"batch {recipe.batch_size}", f"lr {recipe.lr:g}", recipe.source)
        for name, recipe in RECIPES.items()
    ]
    return rows, "any field is changed by --set FIELD=VALUE"


def _models() -> _Rows:
    from dataset_audit.train.models import MODELS  # noqa: PLC0415 - beside the other lists

    rows: list[tuple[str, ...]] = [(name, model.about) for name, model in MODELS.items()]
    return (
        rows,
        "or any timm model by name; timm/resnet18 is timm's where a name is taken here",
    )


def _scores() -> _Rows:
    from dataset_audit.tables.scores import COLUMNS  # noqa: PLC0415 - pyarrow

    rows: list[tuple[str, ...]] = [
        (name, f"{column.hard} is hard" if column.hard else "does not rank", column.formula, column.source)
        for name, column in COLUMNS.items()
    ]
    return rows, "audit prune --by NAME"


def _policies() -> _Rows:
    from dataset_audit.select.policies import POLICIES  # noqa: PLC0415 - NumPy

    rows: list[tuple[str, ...]] = [
        (name, "nested" if policy.nested else "not nested", policy.about) for name, policy in POLICIES.items()
    ]
    return rows, "auto chooses by the share kept"


def _arms() -> _Rows:
    from dataset_audit.evaluate.arms import ARMS  # noqa: PLC0415 - NumPy

    rows: list[tuple[str, ...]] = [(name, arm.about) for name, arm in ARMS.items()]
    return rows, "audit evaluate --arms NAME,NAME; kept, curve and selective have options of their own"


def _probes() -> _Rows:
    from dataset_audit.probes.registry import PROBES  # noqa: PLC0415 - NumPy

    rows: list[tuple[str, ...]] = [(name, probe.about) for name, probe in PROBES.items()]
    return rows, "cheapest first; audit bias --probes NAME,NAME"


def _controls() -> _Rows:
    from dataset_audit.bias.controls import CONTROLS  # noqa: PLC0415 - NumPy

    rows: list[tuple[str, ...]] = [(name, control.role, control.about) for name, control in CONTROLS.items()]
    return rows, "all but classes by default; audit bias --match-classes adds it"


def _ablations() -> _Rows:
    from dataset_audit.bias.ablations import ABLATIONS  # noqa: PLC0415 - NumPy

    rows: list[tuple[str, ...]] = [
        (name, one.about, f"leaves {one.keeps}") for name, one in ABLATIONS.items()
    ]
    return rows, "sizes for 224 pixels, scaled to the pictures at hand; audit bias --ablate"


_LISTS = {
    "datasets": _datasets,
    "recipes": _recipes,
    "models": _models,
    "scores": _scores,
    "policies": _policies,
    "arms": _arms,
    "probes": _probes,
    "controls": _controls,
    "ablations": _ablations,
}


def recipes() -> list[str]:
    """Return the names of recipes, for completion."""
    return [row[0] for row in _recipes()[0]]


def models() -> list[str]:
    """Return the names of our networks, for completion."""
    return [row[0] for row in _models()[0]]


def scores() -> list[str]:
    """Return the names of our score columns, for completion."""
    return [row[0] for row in _scores()[0]]


def policies() -> list[str]:
    """Return the names of policies, for completion."""
    return ["auto", *(row[0] for row in _policies()[0])]


def arms() -> list[str]:
    """Return the names of arms that can be asked for, for completion."""
    return [row[0] for row in _arms()[0] if row[0] not in {"kept", "curve", "selective"}]


def probes() -> list[str]:
    """Return the names of probes, for completion."""
    return [row[0] for row in _probes()[0]]
