"""Particles that are stacks of tilt images: what was let through in each series, and rows back."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from tomadapt.classify.judged_summary import label_columns, rejection_reasons
from tomadapt.io.particle_lists import write_star
from tomadapt.judge.groups import Transfers
from tomadapt.judge.verdicts import Verdicts
from tomadapt.recover.fourier import MeasuredPoints
from tomadapt.tomograms.positions import Positions, write_rejected
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
    columns = label_columns(verdicts, made.kept, len(made.particles))
    positions = Positions(made.particles, made.kept, made.dropped)
    labelled = positions.without(rejection_reasons(verdicts, fdr, {}))
    rows = labelled.rows.tolist()
    write_star(out / "particles.star", made.particles, columns=columns, rows=rows)
    write_rejected(out / "rejected.star", labelled, columns)
