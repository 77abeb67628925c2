"""The picture of Figure 8: one class highlighted among all others."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from tomadapt.report.style import styled


@styled
def draw_novel(
    positions: dict[str, NDArray[np.float64]], is_novel: NDArray[np.bool_], name: str, note: str
) -> Figure:
    """Draw embeddings (n, 2) before and after, the novel class in red as in the paper."""
    figure = Figure(figsize=(11, 5.4), layout="constrained")
    for axes, (when, points) in zip(figure.subplots(1, 2), positions.items(), strict=True):
        axes.scatter(*points[~is_novel].T, s=7, color="#9aa7b3", linewidths=0, label="others")
        axes.scatter(*points[is_novel].T, s=14, color="#c0182b", linewidths=0, label=name)
        axes.set(xticks=[], yticks=[], title=f"{when} 3D-ADA")
    figure.axes[0].legend(loc="lower left")
    figure.supxlabel(note, fontsize=8)
    return figure
