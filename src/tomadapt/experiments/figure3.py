"""Figure 3: centre slices (x–z plane) of subtomograms of both batches at each SNR.

The paper shows GroEL (1KP8) and carbamoyl phosphate synthetase (1BXR).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from tomadapt.experiments.domains import Cell, PaperDomains
from tomadapt.experiments.scales import Setting
from tomadapt.report.figures import grey_levels
from tomadapt.report.style import styled, write_figure

SHOWN = ("1kp8", "1mnf", "1bxr", "1bxn")
"""The paper's two complexes and their stand-ins."""


def run(setting: Setting) -> list[Path]:
    """Simulate both batches and draw."""
    scale = setting.scale
    batches = PaperDomains(scale, scale.classes(setting.data))
    names = [n for n in batches.classes if n in SHOWN] or list(batches.classes)[:2]
    pairs = {
        (letter, snr): domain(Cell(snr, snr))
        for letter, domain in (("A", batches.target), ("B", batches.source))
        for snr in scale.snrs
    }
    setting.finish([particles.made for particles in pairs.values()], "figure3")
    rows: dict[str, list[NDArray[np.float32]]] = {}
    for (letter, _), particles in pairs.items():
        data, _ = particles.open(setting.store)
        for name in names:
            first = np.flatnonzero(data.labels == data.class_names.index(name))[:1]
            image = data.read(first)[0, :, data.box // 2].numpy()
            rows.setdefault(f"{name}, batch {letter}", []).append(image)
    side = scale.box * scale.voxel_size_A / 10
    note = f"box {side:.0f} nm, voxels {scale.voxel_size_A / 10:g} nm, scale {scale.name}"
    figure = draw(rows, [f"SNR {snr:g}" for snr in scale.snrs], note)
    path = setting.file("figure3.png")
    write_figure(figure, path)
    return [path]


@styled
def draw(rows: dict[str, list[NDArray[np.float32]]], columns: Sequence[str], note: str) -> Figure:
    """Draw x–z slices, a row for each structure and batch, a column for each SNR."""
    figure = Figure(figsize=(1.9 * len(columns), 2 * len(rows)), layout="constrained")
    panels = figure.subplots(len(rows), len(columns), squeeze=False)
    for axes, column in zip(panels[0], columns, strict=True):
        axes.set_title(column)
    for line, (title, slices) in zip(panels, rows.items(), strict=True):
        for axes, image in zip(line, slices, strict=True):
            axes.imshow(grey_levels(image), cmap="gray", vmin=0, vmax=1, origin="lower")
            axes.set(xticks=[], yticks=[])
        line[0].set_ylabel(title)
    figure.supxlabel(
        f"slices through the centre, x to the right, z upwards; {note}\n"
        "black to white: mean ± 3 standard deviations of each slice",
        fontsize=8,
    )
    return figure
