"""One self-contained HTML page of averages: surfaces, slices, FSC, and how they converged."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter

from tomadapt.errors import InputError
from tomadapt.recover.averages import AveragedClass
from tomadapt.recover.discover import FoundCluster
from tomadapt.report.isosurfaces import Mesh, draw_isosurfaces, interactive_view, isosurface
from tomadapt.report.page import page_template
from tomadapt.report.style import png_uri, shorten, styled, svg_uri
from tomadapt.runs.atomic import write_text

PICTURED = 24
"""Structures with pictures; all are in the table."""


Columns = tuple[Sequence[str], Mapping[str, Sequence[str]]]
"""Titles of more columns, and the cells of each structure."""


def write_structures_page(
    done: Sequence[AveragedClass],
    path: Path,
    *,
    title: str,
    made: Mapping[str, str],
    columns: Columns = ((), {}),
) -> None:
    """Write the page of some averages.

    It needs no network; the view that can be turned needs JavaScript, which is in the page.

    Parameters
    ----------
    done
        The classes, in the order in which they shall stand.
    path
        The file; one that is there is replaced.
    title
        Its heading.
    made
        How the averages were made, name → value.
    columns
        Of the table, beside particles and resolution.

    Raises
    ------
    OutputError
        When it cannot be written.
    """
    shown = [one for one in done if one.result is not None][:PICTURED]
    meshes = _meshes(shown)
    page = page_template("structures.html.j2").render(
        title=title,
        rows=[(*_row(one), columns[1].get(one.name, [""] * len(columns[0]))) for one in done],
        more=columns[0],
        made=made,
        surfaces=png_uri(draw_isosurfaces(meshes)) if meshes else None,
        view=interactive_view(meshes) if meshes else None,
        slices=png_uri(_slices(shown)) if shown else None,
        curves=svg_uri(_curves(shown)) if shown else None,
        left_out=sum(one.result is not None for one in done) - len(shown),
    )
    write_text(path, page)


def found_columns(found: Sequence[FoundCluster]) -> Columns:
    """What is found of clusters, for the table of their averages."""
    titles = ("candidate", "predicted", "unknown score", "most like", "discrepancy, nm")
    cells = {
        one.name: (
            "candidate" if one.candidate else "",
            f"{one.predicted} ({one.share:.0%})",
            f"{one.unknown_score:.3f}",
            one.match or "–",
            "–" if one.discrepancy_nm is None else f"{one.discrepancy_nm:.2f}",
        )
        for one in found
    }
    return titles, cells


def _meshes(shown: Sequence[AveragedClass]) -> dict[str, Mesh]:
    meshes = {}
    for one in shown:
        assert one.result is not None
        try:
            meshes[one.name] = isosurface(one.result.volume, voxel_size_A=one.result.voxel_size_A)
        except InputError:  # a map without signal has no surface; its slices show that
            continue
    return meshes


def _row(one: AveragedClass) -> tuple[str, int, str, str, str]:
    record = one.record
    found = [record.get(f"resolution_{t}_nm") for t in ("0.5", "0.143")]
    half, seventh = ("–" if value is None else f"{value:.2f}" for value in found)
    return one.name, one.particles, half, seventh, one.reason or ""


@styled
def _slices(shown: Sequence[AveragedClass]) -> Figure:
    figure = Figure(figsize=(9, 2.6 * len(shown)), layout="constrained")
    grid = figure.subplots(len(shown), 3, squeeze=False)
    for row, one in zip(grid, shown, strict=True):
        assert one.result is not None
        volume = one.result.volume
        middle = len(volume) // 2
        cuts = {"x–y": volume[middle], "x–z": volume[:, middle], "y–z": volume[:, :, middle]}
        for axes, (name, cut) in zip(row, cuts.items(), strict=True):
            axes.imshow(cut, cmap="gray", origin="lower")
            axes.set(xticks=[], yticks=[], title=f"{shorten(one.name, 20)}, {name}")
    return figure


@styled
def _curves(shown: Sequence[AveragedClass]) -> Figure:
    figure = Figure(figsize=(12, 4.2), layout="constrained")
    fsc, turn, found = figure.subplots(1, 3)
    for one in shown:
        assert one.result is not None
        result = one.result
        n = len(result.volume)
        k_nm = np.arange(n // 2) / (n * result.voxel_size_A / 10)
        (line,) = fsc.plot(k_nm, result.fsc.corrected, label=shorten(one.name, 20))
        fsc.plot(k_nm, result.fsc.unmasked, ":", linewidth=0.9, color=line.get_color())
        iterations = [record["iteration"] for record in result.history]
        turn.plot(iterations, [record["median_turn_deg"] for record in result.history], marker="o")
        found.plot(iterations, [record["resolution_nm"] for record in result.history], marker="o")
    for threshold in (0.5, 0.143):
        fsc.axhline(threshold, color="#5d6b78", linewidth=0.8)
    fsc.set(ylim=(-0.1, 1.05), xlabel="spatial frequency, 1/nm", title="FSC of the half maps")
    turn.set_yscale("log")
    turn.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
    turn.yaxis.set_minor_formatter(NullFormatter())
    turn.set(xlabel="iteration", title="median turn of particles, °")
    found.set(xlabel="iteration", title="resolution (0.143), nm")
    if len(shown) <= 8:
        fsc.legend(fontsize=8)
    return figure
