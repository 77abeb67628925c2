"""Every structure of a folder, simulated: one picture that shows what a lab would train on.

Usage: python examples/structure_sheet.py FOLDER [FOLDER ...] --out sheet.png

Each row is one file: the template's projection, a noise-free tilt image, and central slices of a
subtomogram at SNR 1000 and 0.1 (batch A of Lin et al. 2019). A file that cannot be simulated in
the box is listed with the reason instead.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import matplotlib as mpl
import numpy as np
import torch
from matplotlib.figure import Figure

from tomadapt import BATCH_A, Simulator, TomadaptError, template

BOX, VOXEL_SIZE_A = 40, 9.2


def panels(path: Path) -> list[np.ndarray]:
    """Projection, tilt image, and slices at SNR 1000 and 0.1 of one structure."""
    density = template(
        str(path), voxel_size_A=VOXEL_SIZE_A, box=BOX, resolution_A=VOXEL_SIZE_A
    ).density
    simulator = Simulator({"x": density}, BATCH_A, voxel_size_A=VOXEL_SIZE_A, seed=0)
    with torch.inference_mode():
        p = simulator.particles("x", [0])
        images = simulator.tilt_images("x", [0], p.rotations, p.shifts)
        middle = images.signal[0, len(simulator.tilts) // 2]
        image = torch.fft.fftshift(torch.fft.irfft2(middle, s=(BOX, BOX))).T
    slices = [(p.signal + p.noise / snr**0.5)[0, BOX // 2] for snr in (1000, 0.1)]
    return [density.sum(axis=0), image.numpy(), *(s.numpy() for s in slices)]


def main() -> None:
    """Simulate every file and write the sheet."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folders", nargs="+", type=Path)
    parser.add_argument("--out", type=Path, default=Path("structure_sheet.png"))
    arguments = parser.parse_args()
    rows: list[tuple[str, list[np.ndarray]]] = []
    for path in sorted(p for folder in arguments.folders for p in folder.iterdir()):
        try:
            rows.append((path.name, panels(path)))
        except TomadaptError as error:
            print(f"left out: {error}")
    mpl.rcParams["font.size"] = 6
    per_row = 4
    height = -(-len(rows) // per_row)
    figure = Figure(figsize=(1.7 * per_row * 2, 1.05 * height), layout="constrained")
    axes = figure.subplots(height, 4 * per_row)
    for axis in axes.flat:
        axis.axis("off")
    for i, (name, pictures) in enumerate(rows):
        for j, picture in enumerate(pictures):
            axis = axes[i // per_row, 4 * (i % per_row) + j]
            axis.imshow(picture, cmap="gray")
        axes[i // per_row, 4 * (i % per_row)].set_title(name.split(".")[0], loc="left")
    figure.savefig(arguments.out, dpi=150)
    print(f"{arguments.out}: {len(rows)} structures")


if __name__ == "__main__":
    main()
