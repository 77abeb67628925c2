"""Particles that are stacks of tilt images: what was let through in each series, and rows back."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from tomadapt.classify.judged_summary import label_columns, labelled_reason, rejection_reasons
from tomadapt.io.extracted import IMAGES, SUBTOMOGRAM
from tomadapt.io.particle_lists import write_star
from tomadapt.judge.groups import Transfers
from tomadapt.judge.verdicts import Verdicts
from tomadapt.recover.fourier import MeasuredPoints
from tomadapt.tomograms.positions import POSITIONS, REASON, Positions, write_rejected
from tomadapt.tomograms.tilt_stacks import TiltStackExtraction

_FEW_OF_A_SERIES = 5
_MAX_AXIS_SCATTER_DEG = 0.75
"""Of four series of real ribosomes, two with 0.2° and 0.4° are named whole; of those with 0.9° and
2.1° four and none of ten."""


def stacks_transfers(
    made: TiltStackExtraction, device: torch.device | str = "cpu"
) -> tuple[MeasuredPoints, Transfers]:
    """Where the particles of whitened tilt stacks were measured, and what was let through in each.

    Parameters
    ----------
    made
        Reconstructed with ``whitened``.
    device
        Where to keep them.
    """
    names = list(made.transfers)
    grids = np.stack([made.transfers[name] for name in names])
    points = MeasuredPoints.of_transfer(np.sqrt(np.square(grids).mean(axis=0)), device)
    by_group = torch.stack([points.values_of(grid) for grid in grids])
    return points, Transfers(np.array([names.index(t) for t in made.tomograms]), by_group)


def series_counts(made: TiltStackExtraction, kept: NDArray[np.bool_]) -> dict[str, list[int]]:
    """Tilt series → how many of its particles have a label, and how many there are."""
    of = np.array(made.tomograms)
    return {
        str(name): [int(kept[of == name].sum()), int((of == name).sum())] for name in np.unique(of)
    }


def series_warnings(made: TiltStackExtraction, verdicts: Verdicts) -> list[str]:
    """Series whose images are badly aligned, or that have hardly a label where others have many."""
    scatter = {name: made.geometries[name].tilt_axis_scatter_deg for name in made.acquisitions}
    stray = [f"{name} ({by:.1f}°)" for name, by in scatter.items() if by > _MAX_AXIS_SCATTER_DEG]
    told = []
    if stray:
        told.append(
            "the direction of the tilt axis strays from image to image in the tilt series "
            f"{', '.join(stray)}: their images seem to be badly aligned, and particles are then "
            "not recognised; align them with one tilt axis for all images"
        )
    counts = series_counts(made, verdicts.label >= 0)
    labelled, there = (sum(values) for values in zip(*counts.values(), strict=True))
    odd = [
        f"{name} ({some} of {all_of_it})"
        for name, (some, all_of_it) in counts.items()
        if all_of_it >= _FEW_OF_A_SERIES and some / all_of_it < labelled / there / 3
    ]
    if odd:
        told.append(
            f"tilt series with far fewer labels than the others: {', '.join(odd)}; their "
            "alignment, defocus or signal may be worse"
        )
    return told


def stack_names(made: TiltStackExtraction) -> tuple[str, ...]:
    """The file of each cube's tilt images, as the STAR file names it."""
    table = made.particles.table
    if table is None or IMAGES not in table:
        return ()
    names = table.column(IMAGES)
    return tuple(names[row] for row in made.kept)


def write_stack_labels(
    out: Path, made: TiltStackExtraction, verdicts: Verdicts, fdr: float | None
) -> None:
    """Write the rows of the file that was given, labelled and rejected ones, with their labels.

    Angles and origins stay as they are: these particles have been refined already.

    Parameters
    ----------
    out
        Where ``particles.star`` and ``rejected.star`` go.
    made
        The particles.
    verdicts
        Of those that have a cube.
    fdr
        The rate above which a label is rejected.
    """
    n = len(made.particles)
    reasons = rejection_reasons(verdicts, fdr, {})
    columns = label_columns(verdicts, made.kept, n)
    columns[REASON] = [""] * n
    for place, row in enumerate(made.kept):
        if place not in reasons:
            columns[REASON][row] = labelled_reason(verdicts, place)
    # The row of labels.csv, from 1.
    cube = np.zeros(n, dtype=int)
    cube[made.kept] = np.arange(len(made.kept)) + 1
    columns[SUBTOMOGRAM] = cube.tolist()
    positions = Positions(made.particles, made.kept, made.dropped)
    labelled = positions.without(reasons)
    used, unused = POSITIONS
    write_star(out / used, made.particles, columns=columns, rows=labelled.rows.tolist())
    write_rejected(out / unused, labelled, columns)
