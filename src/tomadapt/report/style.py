"""How every figure looks, what methods are called, and figures as data URIs."""

from __future__ import annotations

import base64
import functools
import io
import math
import textwrap
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ParamSpec

from matplotlib import style
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from tomadapt.runs.atomic import atomic_path

INK = "#1b2733"
MUTED = "#5d6b78"
GRID = "#dde3e8"
SOURCE = "#0072B2"
TARGET = "#D55E00"

SOURCE_ONLY = "source_only"
TARGET_STATISTICS = "target_statistics"
_METHOD_TITLES = {
    SOURCE_ONLY: "source only",
    TARGET_STATISTICS: "statistics re-estimated",
    "ie": "importance estimation",
    "sc": "structural correspondence",
    "partial_statistics": "statistics re-estimated in part",
    "most_consistent": "most consistent of several adaptations",
    "ie_target_statistics": "importance estimation, statistics re-estimated",
    "sc_target_statistics": "structural correspondence, statistics re-estimated",
    "ada": "3D-ADA",
    "ada_paper_recipe": "3D-ADA, the paper's recipe",
}
_METHOD_COLOURS = {SOURCE_ONLY: "#8a949e", TARGET_STATISTICS: "#CC79A7"}
_OTHER_METHODS = ("#009E73", "#E69F00", "#56B4E9", "#332288")

# Okabe & Ito 2008: told apart with every common kind of colour blindness. More classes than
# colours repeat the colours with another marker.
_CLASS_COLOURS = (
    "#0072B2",
    "#E69F00",
    "#009E73",
    "#D55E00",
    "#CC79A7",
    "#56B4E9",
    "#F0E442",
    "#2b2b2b",
)
_CLASS_MARKERS = ("o", "^", "s", "D")

_RC: dict[str, Any] = {
    # Shipped with matplotlib, so that a figure is the same on every machine.
    "font.family": ["DejaVu Sans"],
    "font.size": 11.0,
    "text.color": INK,
    "text.parse_math": False,  # a class name may hold dollar signs
    "axes.titlesize": 12.0,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.titlepad": 9.0,
    "axes.labelcolor": INK,
    "axes.edgecolor": MUTED,
    "axes.linewidth": 0.9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.formatter.use_mathtext": False,
    "grid.color": GRID,
    "grid.linewidth": 0.9,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "legend.frameon": False,
    "legend.fontsize": 10.5,
    "lines.linewidth": 2.2,
    "lines.solid_capstyle": "round",
    "figure.facecolor": "white",
    "svg.hashsalt": "tomadapt",  # element names in an SVG are random without it
    "figure.constrained_layout.h_pad": 0.06,
    "figure.constrained_layout.w_pad": 0.06,
}

P = ParamSpec("P")


def styled(draw: Callable[P, Figure]) -> Callable[P, Figure]:
    """Draw with the report's style, whatever the user's own matplotlib settings say."""

    @functools.wraps(draw)
    def inner(*args: P.args, **kwargs: P.kwargs) -> Figure:
        with style.context(["default", _RC]):
            return draw(*args, **kwargs)

    return inner


def svg_uri(figure: Figure) -> str:
    """Give a figure as an SVG in a data URI; the same bytes for the same figure."""
    return _uri(figure, "svg+xml", format="svg", metadata={"Date": None, "Creator": None})


def png_uri(figure: Figure) -> str:
    """Give a figure as a PNG in a data URI, twice as fine as a plain screen."""
    return _uri(
        figure,
        "png",
        format="png",
        dpi=192,
        metadata={"Software": None},
        pil_kwargs={"optimize": True},
    )


def _uri(figure: Figure, mime: str, **options: Any) -> str:
    buffer = io.BytesIO()
    with style.context(["default", _RC]):
        # What the layout could not fit is kept, and what it left empty is not.
        figure.savefig(buffer, bbox_inches="tight", pad_inches=0.06, **options)
    return f"data:image/{mime};base64,{base64.b64encode(buffer.getvalue()).decode('ascii')}"


def write_figure(figure: Figure, path: Path) -> None:
    """Write a figure as a PNG for documents, atomically."""
    with atomic_path(path) as temporary, style.context(["default", _RC]):
        figure.savefig(
            temporary, dpi=110, bbox_inches="tight", pad_inches=0.06, metadata={"Software": None}
        )


def method_title(method: str) -> str:
    """Name a method in words; one this package does not know keeps its key."""
    return _METHOD_TITLES.get(method, method)


def adaptation_method(methods: Mapping[str, Any]) -> str:
    """Find the method that the report is about: neither the baseline nor the simple remedy."""
    others = [m for m in methods if m not in (SOURCE_ONLY, TARGET_STATISTICS)]
    if others:
        return "ada" if "ada" in others else others[0]
    return TARGET_STATISTICS if TARGET_STATISTICS in methods else SOURCE_ONLY


def ordered_methods(methods: Mapping[str, Any]) -> list[str]:
    """Baseline first, then the simple remedy, then the rest, the report's own method last."""
    rank = {SOURCE_ONLY: 0, TARGET_STATISTICS: 1, adaptation_method(methods): 3}
    rank[SOURCE_ONLY] = 0
    return sorted(methods, key=lambda m: rank.get(m, 2))


def method_colours(methods: Mapping[str, Any]) -> dict[str, str]:
    """Give each method its colour; the report's own method always has the same."""
    others = [m for m in reversed(ordered_methods(methods)) if m not in _METHOD_COLOURS]
    colours = {m: _OTHER_METHODS[i % len(_OTHER_METHODS)] for i, m in enumerate(others)}
    return _METHOD_COLOURS | colours


def class_style(index: int) -> tuple[str, str]:
    """Colour and marker of a class."""
    n = len(_CLASS_COLOURS)
    return _CLASS_COLOURS[index % n], _CLASS_MARKERS[index // n % len(_CLASS_MARKERS)]


def shorten(name: str, width: int) -> str:
    """Cut a long class name, marked by an ellipsis."""
    return name if len(name) <= width else name[: width - 1] + "…"


def wrap(name: str, width: int) -> str:
    """Break a class name onto at most two lines, at underscores, hyphens or spaces if it can."""
    spaced = name.replace("_", "_ ").replace("-", "- ")
    lines = [line.replace("_ ", "_").replace("- ", "-") for line in textwrap.wrap(spaced, width)]
    if len(lines) > 2:
        lines = [lines[0], shorten("".join(lines[1:]), width)]
    return "\n".join(lines)


def fraction_axis(axes: Axes, which: str = "y") -> None:
    """Make an axis run from 0 to 100 %."""
    axis = axes.yaxis if which == "y" else axes.xaxis
    axis.set_ticks([0, 0.25, 0.5, 0.75, 1], labels=["0", "25", "50", "75", "100 %"])
    (axes.set_ylim if which == "y" else axes.set_xlim)(0, 1)
    axes.grid(axis="y" if which == "y" else "x")


def percent(fraction: float) -> str:
    """Write a fraction as a percentage with one decimal; a dash where there is none."""
    return "–" if math.isnan(fraction) else f"{100 * fraction:.1f} %"
