"""Pictures of a classification by likelihood: slices with particles, cubes, curves of scores."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import imsave
from matplotlib.lines import Line2D
from matplotlib.patheffects import withStroke
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from tomadapt.report.figures import grey_levels
from tomadapt.report.judged_content import JudgedContent, Slice
from tomadapt.report.style import class_style, shorten, styled

_DASHES = {"o": "-", "^": "--", "s": ":", "D": "-."}
_WIDE = 30
"""From this ratio of the largest to the smallest class on, numbers of particles are logarithmic."""


def classes_shown(content: JudgedContent) -> list[str]:
    """Every class of the report in the order of its colours: those counted, then any others."""
    marked = [marker.label for one in content.slices for marker in one.markers]
    lists = (content.counts, content.scores, content.surest, content.least_sure, marked)
    return list(dict.fromkeys(name for names in lists for name in names))


def stretched(image: NDArray[np.float32]) -> NDArray[np.float64]:
    """Map the 1st … 99th percentile of a slice to black … white; 0.5 where it is constant."""
    values = np.asarray(image, dtype=np.float64)
    finite = values[np.isfinite(values)]
    low, high = np.percentile(finite, [1, 99]) if finite.size else (0.0, 0.0)
    if high - low <= 1e-9 * max(abs(low), abs(high)):
        return np.full(values.shape, 0.5)
    return np.asarray(np.clip((np.nan_to_num(values, nan=low) - low) / (high - low), 0, 1))


@styled
def marked_slice(one: Slice, names: Sequence[str]) -> Figure:
    """A slice of the tomogram, y upwards, with a circle for each labelled particle.

    Parameters
    ----------
    one
        The slice.
    names
        All classes of the report, in the order of their colours.
    """
    ny, nx = one.image.shape
    figure = Figure(figsize=(5.4, 5.4 * min(max(ny / nx, 0.25), 2)))
    axes = figure.add_axes((0.0, 0.0, 1.0, 1.0))
    axes.imshow(
        stretched(one.image), cmap="gray", vmin=0, vmax=1, origin="lower",
        interpolation="nearest" if max(nx, ny) <= 1000 else "auto",
    )  # fmt: skip
    for index, name in enumerate(names):
        places = [(m.x, m.y) for m in one.markers if m.label == name]
        if not places:
            continue
        colour, marker = class_style(index)
        axes.plot(
            *np.transpose(places), linestyle="", marker=marker, markersize=12, label=name,
            markerfacecolor="none", markeredgecolor=colour, markeredgewidth=2,
            path_effects=[withStroke(linewidth=3.6, foreground="white")],
        )  # fmt: skip
    axes.set(xlim=(-0.5, nx - 0.5), ylim=(-0.5, ny - 0.5))
    axes.axis("off")
    return figure


def tile_uri(image: NDArray[np.float32]) -> str:
    """Give a particle's slice as a PNG in a data URI, a pixel a voxel, y upwards."""
    buffer = io.BytesIO()
    imsave(
        buffer, grey_levels(image), cmap="gray", vmin=0, vmax=1, origin="lower", format="png",
        metadata={"Software": "tomadapt"},
    )  # fmt: skip
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode('ascii')}"


@styled
def score_curves(content: JudgedContent) -> Figure:
    """False-discovery rate against how many are kept, and how scores are distributed."""
    figure = Figure(figsize=(11, 4.2), layout="constrained")
    rates, scores = figure.subplots(1, 2)
    handles, labels = [], []
    for index, name in enumerate(classes_shown(content)):
        colour, marker = class_style(index)
        line: dict[str, Any] = {"color": colour, "linestyle": _DASHES[marker]}
        drawn = _draw_rates(rates, content.fdr.get(name), line)
        drawn |= _draw_scores(scores, content.scores.get(name), line)
        if drawn:
            handles.append(Line2D([], [], **line))
            labels.append(shorten(name, 24))
    _count_axis(rates, [len(fdr) for fdr in content.fdr.values() if len(fdr)])
    rates.set(title="False-discovery rate", ylabel="expected wrong among them")
    rates.set_ylim(0, max(0.01, 1.08 * rates.dataLim.y1))
    rates.yaxis.set_major_formatter(lambda value, _: f"{100 * value:g} %")
    rates.grid(axis="y")
    scores.set(
        title="Scores", xlabel="posterior probability of the label", xlim=(0, 1),
        ylabel="fraction of the class",
    )  # fmt: skip
    scores.set_ylim(bottom=0)
    scores.grid(axis="y")
    if handles:
        figure.legend(handles, labels, loc="outside upper left", ncols=4)
    return figure


def _draw_rates(axes: Axes, fdr: NDArray[np.float64] | None, line: dict[str, Any]) -> bool:
    if fdr is None or not len(fdr):
        return False
    axes.plot(np.arange(1, len(fdr) + 1), fdr, **line)
    axes.plot(len(fdr), fdr[-1], marker="o", markersize=5.5, color=line["color"], clip_on=False)
    return True


def _draw_scores(axes: Axes, scores: NDArray[np.float64] | None, line: dict[str, Any]) -> bool:
    if scores is None or not len(scores):
        return False
    heights, edges = np.histogram(np.clip(scores, 0, 1), bins=20, range=(0, 1))
    axes.stairs(heights / len(scores), edges, linewidth=2.2, **line)
    return True


def _count_axis(axes: Axes, counts: list[int]) -> None:
    """Number of particles along x, logarithmic where classes differ much in size."""
    axes.set_xlabel("particles kept, surest first")
    if counts and max(counts) >= _WIDE * min(counts):
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
        axes.set_xlim(left=1)
        return
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=7))
    axes.set_xlim(0, 1.03 * max(counts, default=1))
