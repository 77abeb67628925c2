"""Particles that are stacks of tilt images: what was let through in each series, and rows back."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from tomadapt.classify.judged_summary import label_columns, rejection_reasons
from tomadapt.io.extracted import SUBTOMOGRAM
from tomadapt.io.particle_lists import write_star
from tomadapt.judge.groups import Transfers
from tomadapt.judge.verdicts import Verdicts
from tomadapt.recover.fourier import MeasuredPoints
from tomadapt.tomograms.positions import POSITIONS, Positions, write_rejected
from tomadapt.tomograms.tilt_stacks import TiltStackExtraction


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
    columns = label_columns(verdicts, made.kept, n)
    # The row of labels.csv, from 1.
    cube = np.zeros(n, dtype=int)
    cube[made.kept] = np.arange(len(made.kept)) + 1
    columns[SUBTOMOGRAM] = cube.tolist()
    positions = Positions(made.particles, made.kept, made.dropped)
    labelled = positions.without(rejection_reasons(verdicts, fdr, {}))
    used, unused = POSITIONS
    write_star(out / used, made.particles, columns=columns, rows=labelled.rows.tolist())
    write_rejected(out / unused, labelled, columns)
