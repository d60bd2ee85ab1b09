"""A report with one of everything, and hostile names in it."""

from __future__ import annotations

import pytest

from dataset_audit.report.document import Line, Note, Output, Report, Table, Warning

HOSTILE = (
    "\x1b[31mred",
    "a\nb",
    "[/red]",
    ":car:",
    "\u202egnp",
    "=HYPERLINK(1)",
    "a|b",
    "<script>",
    "猫" * 30,
)


@pytest.fixture
def report() -> Report:
    classes = ("cat", *HOSTILE, "a name that is much longer than anybody would give to a class of images")
    rows = tuple((name, "5,000", "123,456,789", "2.31") for name in classes)
    return Report(
        command="forgetting",
        title="photos \x1b]0;x\x07 · 50,000 examples",
        items=(
            Line("unforgettable", ("in all 5 runs", "15,640", "31.3%", "per run", "41.0% to 41.6%")),
            Line("never learned", ("in all 5 runs", "3", "0.0%", "per run", "0.0% to 0.1%")),
            Line("rank by", ("aum", "fewer than 30 epochs give too few events to rank by")),
            Table(("class", "examples", "presentations", "aum"), rows, left=("class",), shown=50),
            Note(
                "a sentence that is long enough to be folded on any narrow screen there is, 1,234,567 times"
            ),
        ),
        summary={"unforgettable": 0.313, "never": None},
        outputs=(Output("scores.parquet", 50_000, 4_100_000, "9f3c51aabbccddee"),),
        warnings=(Warning("W-shares", "class shares moved"),),
        recomputed={"epochs_trained": 3},
        next="audit prune --keep 0.7",
    )
