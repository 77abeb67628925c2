"""Figures of the domains and of training; those of the results are in ``result_figures``."""

from __future__ import annotations

import math

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Wedge
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from tomadapt.acquisition import Acquisition
from tomadapt.report.content import Domain, ReportContent
from tomadapt.report.style import (
    GRID,
    INK,
    MUTED,
    SOURCE,
    TARGET,
    adaptation_method,
    fraction_axis,
    method_colours,
    styled,
    wrap,
)
from tomadapt.simulate.optics import signal_transfer

UNLABELLED = "unlabelled"


def transfer_curve(
    acquisition: Acquisition, voxel_size_A: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """CTF·envelope·MTF against spatial frequency, of the mean defocus.

    Returns
    -------
    tuple of ndarray
        Spatial frequency in 1/nm from 0 to Nyquist, and the transfer there.
    """
    n = 1024
    round_ = acquisition.model_copy(update={"astigmatism_um": 0.0})
    transfer = signal_transfer(round_, n=n, pixel_size_A=voxel_size_A)
    frequency = np.abs(np.fft.fftfreq(n, d=voxel_size_A / 10))[: n // 2 + 1]
    return frequency, transfer[0, : n // 2 + 1].double().numpy()


def tilt_text(acquisition: Acquisition) -> str:
    """Describe tilt angles in a line: range, number, step."""
    angles = np.asarray(acquisition.tilt_angles_deg)
    steps = np.diff(angles)
    even = np.allclose(steps, steps[0])
    step = f"{steps[0]:g}° step" if even else f"{steps.min():g}–{steps.max():g}° steps"
    first, last = (f"{a:g}".replace("-", "−") for a in (angles[0], angles[-1]))
    span = f"±{last}°" if angles[0] == -angles[-1] else f"{first}° to {last}°"
    return f"{span}, {len(angles)} tilts, {step}"


@styled
def acquisitions(content: ReportContent) -> Figure:
    """Contrast transfer and tilt range of both domains."""
    figure = Figure(figsize=(11, 3.9), layout="constrained")
    curves, *wedges = figure.subplots(1, 3, width_ratios=[2.5, 1, 1])
    ends = [5 / domain.voxel_size_A for _, domain, _, _ in _domains(content)]
    highest = max(ends)
    curves.axhline(0, color=MUTED, linewidth=0.9)
    for name, domain, colour, dash in _domains(content):
        curves.axvline(
            5 / domain.voxel_size_A, color=MUTED if ends[0] == ends[1] else colour, linestyle=dash,
            linewidth=1.2,
        )  # fmt: skip
        if domain.acquisition is not None:
            label = f"{name}: {domain.acquisition.defocus_um:g} µm defocus"
            curves.plot(
                *transfer_curve(domain.acquisition, domain.voxel_size_A), color=colour, label=label
            )
    curves.text(highest, 1.02, "Nyquist", color=MUTED, ha="right", va="bottom", fontsize=10)
    curves.set(
        title="Contrast transfer (CTF · MTF)",
        xlabel="spatial frequency (1/nm)",
        ylabel="transfer",
        xlim=(0, highest * 1.015),
        ylim=(-1.05, 1.05),
        yticks=[-1, -0.5, 0, 0.5, 1],
    )
    curves.grid(axis="y")
    if curves.get_legend_handles_labels()[0]:
        figure.legend(
            *curves.get_legend_handles_labels(), loc="outside lower left", ncols=2, fontsize=10.5
        )
    for axes, (name, domain, colour, _) in zip(wedges, _domains(content), strict=True):
        _draw_wedge(axes, domain.acquisition, colour)
        axes.set_title(f"Tilts of the {name}", loc="center")
    return figure


def _domains(content: ReportContent) -> list[tuple[str, Domain, str, str]]:
    return [("source", content.source, SOURCE, "--"), ("target", content.target, TARGET, "--")]


def _draw_wedge(axes: Axes, acquisition: Acquisition | None, colour: str) -> None:
    """Sketch the central slices of Fourier space that the tilts measure."""
    axes.set(xlim=(-1.12, 1.12), ylim=(-1.12, 1.12), aspect="equal")
    axes.axis("off")
    axes.add_patch(Wedge((0, 0), 1, 0, 360, facecolor="#f3f5f7", edgecolor=GRID, linewidth=1))
    if acquisition is None:
        axes.text(0, 0, "not known", ha="center", va="center", color=MUTED)
        return
    angles = acquisition.tilt_angles_deg
    for turn in (0, 180):
        axes.add_patch(
            Wedge((0, 0), 1, angles[0] + turn, angles[-1] + turn, color=colour, alpha=0.2)
        )
    for angle in angles:
        x, z = math.cos(math.radians(angle)), math.sin(math.radians(angle))
        axes.plot([-x, x], [-z, z], color=colour, linewidth=0.8)
    if angles[-1] - angles[0] < 150:
        beam = math.radians((angles[0] + angles[-1]) / 2 + 90)
        axes.text(
            0.72 * math.cos(beam), 0.72 * math.sin(beam), "missing", ha="center", va="center",
            fontsize=9.5,
        )  # fmt: skip
    axes.text(
        0.5, -0.02, tilt_text(acquisition).replace(", ", "\n", 1), transform=axes.transAxes,
        ha="center", va="top", fontsize=10,
    )  # fmt: skip


@styled
def example_slices(content: ReportContent) -> Figure:
    """Central slices of both domains, a column a class."""
    names = content.class_names
    n_columns = min(8, len(names)) if len(names) <= 16 else 12
    n_examples = 3 if len(names) <= 4 else 2
    letters = 112 // n_columns  # what fits above a tile
    blocks = [names[i : i + n_columns] for i in range(0, len(names), n_columns)]
    strips: list[tuple[str, str, list[list[NDArray[np.float32]]], tuple[str, ...]]] = []
    target_is_labelled = set(content.target.examples) != {UNLABELLED}
    for block in blocks:
        for title, domain, colour, _ in _domains(content):
            if domain is content.source or target_is_labelled:
                cells = [list(domain.examples.get(n, ()))[:n_examples] for n in block]
                strips.append((title, colour, cells, block if domain is content.source else ()))
    if not target_is_labelled:
        slices = list(content.target.examples[UNLABELLED])[: n_columns * n_examples]
        cells = [slices[i::n_columns] for i in range(n_columns)]
        strips.append(("target", TARGET, cells, ()))

    rows = [max(1, *(len(column) for column in cells)) for _, _, cells, _ in strips]
    tile = 10.3 / n_columns
    headings = sum(bool(strip[3]) for strip in strips)
    height = tile * sum(rows) + 0.5 * headings + 0.12 * len(strips)
    figure = Figure(figsize=(11, height), layout="constrained")
    all_axes = np.atleast_1d(figure.subplots(len(strips), 1, height_ratios=rows))
    for axes, n_rows, (title, colour, cells, heading) in zip(all_axes, rows, strips, strict=True):
        _draw_strip(axes, cells, n_rows, n_columns)
        axes.set_ylabel(title, color=colour, fontweight="bold", fontsize=13)
        axes.set_xticks(
            [i * (1 + _GAP) + 0.5 for i in range(len(heading))],
            labels=[wrap(name, letters) for name in heading],
            fontsize=10.5 if n_columns <= 8 else 9,
        )
    return figure


_GAP = 0.06
"""Between tiles, in units of a tile."""


def _draw_strip(
    axes: Axes, cells: list[list[NDArray[np.float32]]], n_rows: int, n_columns: int
) -> None:
    side = 1 + _GAP
    for column, slices in enumerate(cells):
        for row, image in enumerate(slices):
            x, y = column * side, row * side
            axes.imshow(
                grey_levels(image), cmap="gray", vmin=0, vmax=1, interpolation="nearest",
                extent=(x, x + 1, y + 1, y),
            )  # fmt: skip
    axes.set(xlim=(-0.01, n_columns * side - _GAP), ylim=(n_rows * side - _GAP, -0.01), yticks=[])
    axes.set_aspect("equal")
    axes.tick_params(length=0, top=False, labeltop=True, labelbottom=False, pad=3)
    axes.spines[:].set_visible(False)


def grey_levels(image: NDArray[np.float32]) -> NDArray[np.float64]:
    """Map mean ± 3 standard deviations of a slice to black … white; 0.5 if it is constant."""
    values = np.asarray(image, dtype=np.float64)
    deviation = values.std()
    if deviation < 1e-9:
        return np.full(values.shape, 0.5)
    return np.asarray(np.clip((values - values.mean()) / (6 * deviation) + 0.5, 0, 1))


@styled
def source_training(content: ReportContent) -> Figure:
    """Loss and accuracy of the source model an epoch."""
    figure = Figure(figsize=(11, 3.4), layout="constrained")
    loss, accuracy = figure.subplots(1, 2)
    epochs, history = _epochs(content.source_history)
    loss.plot(epochs, history["loss"], color=SOURCE, **_points(epochs))
    loss.set(title="Cross-entropy on training particles", ylabel="loss")
    loss.set_ylim(bottom=0)
    loss.grid(axis="y")
    accuracy.plot(
        epochs, history["accuracy"], color=SOURCE, alpha=0.55, linestyle="--",
        label="particles trained on", **_points(epochs),
    )  # fmt: skip
    accuracy.plot(
        epochs, history["validation_accuracy"], color=SOURCE, label="validation particles",
        **_points(epochs),
    )  # fmt: skip
    accuracy.set(title="Accuracy in the source domain")
    fraction_axis(accuracy)
    accuracy.legend(loc="lower right")
    for axes in (loss, accuracy):
        _epoch_axis(axes)
    return figure


@styled
def adversarial_training(content: ReportContent) -> Figure:
    """Accuracy of the discriminator, losses, and how many classes are in use, an epoch."""
    figure = Figure(figsize=(11, 3.7), layout="constrained")
    discriminator, losses, classes = figure.subplots(1, 3)
    methods = content.transductive.predictions
    colour = method_colours(methods)[adaptation_method(methods)]
    epochs, history = _epochs(content.adaptation_history)

    discriminator.axhline(0.5, color=INK, linestyle="--", linewidth=1.4)
    discriminator.text(
        0.02, 0.475, "domains indistinguishable", va="top", fontsize=10,
        transform=discriminator.get_yaxis_transform(),
    )  # fmt: skip
    discriminator.plot(epochs, history["discriminator_accuracy"], color=colour, **_points(epochs))
    discriminator.set_title("Accuracy of the discriminator")
    fraction_axis(discriminator)

    for key, label, style_, chance in (
        ("discriminator_loss", "discriminator", "-", 2 * math.log(2)),
        ("feature_loss", "feature extractor", "--", math.log(2)),
    ):
        line_colour = MUTED if key == "discriminator_loss" else colour
        losses.plot(
            epochs, history[key], color=line_colour, linestyle=style_, label=label,
            **_points(epochs),
        )  # fmt: skip
        losses.axhline(chance, color=line_colour, linestyle=":", linewidth=1.2)
    losses.set_title("Adversarial losses")
    losses.set_ylim(bottom=0)
    losses.margins(y=0.25)
    losses.grid(axis="y")
    losses.legend(loc="best", fontsize=10)

    n = len(content.class_names)
    classes.axhline(n, color=INK, linestyle="--", linewidth=1.4)
    classes.text(
        0.02, n * 0.97, f"all {n} classes equally", va="top", fontsize=10,
        transform=classes.get_yaxis_transform(),
    )  # fmt: skip
    classes.plot(epochs, history["effective_classes"], color=colour, **_points(epochs))
    classes.set_title("Effective predicted classes")
    classes.set_ylim(0, n * 1.08)
    classes.grid(axis="y")
    for axes in (discriminator, losses, classes):
        _epoch_axis(axes)
    return figure


def _epochs(records: list[dict[str, float]]) -> tuple[list[float], dict[str, list[float]]]:
    """Turn records into columns; a value that a record lacks is NaN and leaves a gap."""
    keys = {key for record in records for key in record}
    columns = {
        key: [record.get(key, math.nan) for record in records]
        for key in keys
        | {"loss", "accuracy", "validation_accuracy", "discriminator_accuracy"}
        | {"discriminator_loss", "feature_loss", "effective_classes"}
    }
    return [r.get("epoch", i + 1) for i, r in enumerate(records)], columns


def _points(epochs: list[float]) -> dict[str, float | str]:
    return {"marker": "o", "markersize": 4.5} if len(epochs) <= 40 else {}


def _epoch_axis(axes: Axes) -> None:
    axes.set_xlabel("epoch")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=8))
