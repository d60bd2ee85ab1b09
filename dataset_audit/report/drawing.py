"""What every chart shares: the figure, colours told apart by everyone, foreign text made harmless."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

from dataset_audit.errors import EnvironmentProblem
from dataset_audit.report.escape import show

if TYPE_CHECKING:
    from matplotlib.figure import Figure

BLUE, ORANGE, GREY = "#0072B2", "#D55E00", "#555555"
COLOURS: Final = (BLUE, ORANGE, "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
"""Okabe & Ito (2008): told apart with any colour vision; markers and lines tell them apart in grey."""
MARKERS: Final = "osD^vPX"
LINES: Final = ("-", "--", "-.", ":")


@dataclass(frozen=True)
class Chart:
    """A drawn figure, its name in file names, and the numbers it shows as rows under a header."""

    name: str
    figure: Figure
    header: tuple[str, ...]
    rows: tuple[tuple[object, ...], ...]


def new_figure(
    width: float, height: float, *, layout: Literal["constrained", "none"] = "constrained"
) -> Figure:
    """Return an empty figure, sizes in inches.

    Raises:
        EnvironmentProblem: matplotlib is not installed.
    """
    try:
        import matplotlib as mpl  # noqa: PLC0415 - an extra
        from matplotlib.figure import Figure  # noqa: PLC0415
    except ImportError as error:
        raise EnvironmentProblem(
            "Charts need matplotlib, which is not installed.", do="pip install 'dataset-audit[charts]'"
        ) from error
    mpl.rcParams["svg.hashsalt"] = "audit"  # the same bytes every time
    mpl.rcParams["svg.fonttype"] = "none"
    return Figure(figsize=(width, height), layout=layout)  # type: ignore[arg-type]  # "none" is missing in its stubs


def text(foreign: str, limit: int) -> str:
    """Return foreign text for a chart: one line of at most ``limit`` cells, and no formula."""
    return show(foreign, limit).replace("$", r"\$")
