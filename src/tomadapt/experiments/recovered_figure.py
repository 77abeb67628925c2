"""Figure 7's table and picture: slices of recovered maps and their FSC with the truth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from tomadapt.experiments.records import Row
from tomadapt.recover.compare import Comparison
from tomadapt.report.style import styled

LABELS: tuple[Literal["before", "after", "truth"], ...] = ("before", "after", "truth")


def recovered_table(rows: Sequence[Row], line: str) -> str:
    """Markdown: each class by each set of labels."""
    lines = [
        "# Figure 7, stand-in: structures recovered by labels",
        "",
        line + ".",
        "",
        "| class | labels | particles | of them right | discrepancy from the truth (FSC 0.5) | "
        "half maps (FSC 0.143) |",
        "|---|---|---|---|---|---|",
    ]
    for name in dict.fromkeys(row["class"] for row in rows):
        for row in (r for r in rows if r["class"] == name):
            lines.append(
                f"| {name} | {row['labels']} | {row['particles']} | {row['right']} | "
                f"{_nm(row.get('discrepancy_nm'))} | {_nm(row.get('resolution_0.143_nm'))} |"
            )
    return "\n".join(lines) + "\n"


def _nm(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f} nm"


@styled
def draw_recovered(
    compared: Mapping[tuple[str, str], Comparison],
    truths: Mapping[str, NDArray[np.float32]],
    note: str,
) -> Figure:
    """Draw central slices of the maps, by each set of labels and the truth, and their FSC."""
    figure = Figure(figsize=(13, 2.9 * len(truths) + 0.6), layout="constrained")
    grid = figure.subplots(len(truths), len(LABELS) + 2, squeeze=False)
    for row, (name, truth) in zip(grid, truths.items(), strict=True):
        middle = len(truth) // 2
        pictures = {"true structure": truth}
        for when in LABELS:
            if (name, when) in compared:
                pictures[f"labels: {when}"] = compared[name, when].aligned
        for axes, (title, volume) in zip(row, pictures.items(), strict=False):
            axes.imshow(volume[middle], cmap="gray")
            axes.set(title=title)
        for axes in row[:-1]:
            axes.set(xticks=[], yticks=[])
        row[0].set_ylabel(name)
        for when in LABELS:
            if (name, when) in compared:
                row[-1].plot(compared[name, when].fsc, label=when)
        row[-1].axhline(0.5, color="#5d6b78", linewidth=0.8)
        row[-1].set(ylim=(-0.1, 1.05), xlabel="shell", title="FSC with the truth")
    grid[0, -1].legend()
    figure.supxlabel(note, fontsize=8)
    return figure
