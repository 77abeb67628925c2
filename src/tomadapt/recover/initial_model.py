"""An initial model at low resolution: expectation maximisation from random poses."""

from __future__ import annotations

import numpy as np
import torch
from scipy.spatial.transform import Rotation

from tomadapt.data.subtomograms import Subtomograms
from tomadapt.fsc import Volume
from tomadapt.recover.align import Aligner, AlignmentOptions
from tomadapt.recover.fourier import MeasuredPoints
from tomadapt.recover.fourier_sum import FourierSum
from tomadapt.recover.mask import whole_box_mask
from tomadapt.recover.poses import GridPoses

MAX_PARTICLES = 400
"""Most particles that are used: more take longer and do not make the model sharper."""
FIRST_SHELL = 4
"""The resolution limit of the first iteration, in Fourier voxels."""
ITERATIONS = 12
CANDIDATES = 16
"""Poses of each particle that are averaged, weighted by their probability."""


def initial_model(
    data: Subtomograms,
    points: MeasuredPoints,
    power: torch.Tensor,
    *,
    shell: int,
    seed: int,
    starts: int = 2,
    max_shift_voxels: float | None = None,
) -> tuple[Volume, list[float]]:
    """Average particles from random poses by expectation maximisation over a grid of poses.

    Each particle is added in its likeliest poses, weighted by their probability (Xu et al. 2012,
    J. Struct. Biol. 178, 152, weight poses by their scores). The resolution limit rises from
    shell 4 to ``shell`` over the first half of the iterations. The start that ends with the highest
    likelihood is returned.

    Parameters
    ----------
    data
        Particles of one class; the first 400 of them are used.
    points, power
        Where they were measured, and their power in shells.
    shell
        The highest shell, in Fourier voxels.
    seed
        Seed of the random poses.
    starts
        Number of independent starts from random poses.
    max_shift_voxels
        See :class:`~tomadapt.recover.align.AlignmentOptions`.

    Returns
    -------
    model
        (n, n, n) float32, low-passed at ``shell``.
    log_likelihood_ratios
        Of the best start: mean log-likelihood ratio against noise after each iteration, in nats.
    """
    low = points.up_to(shell)
    rows = range(min(len(data), MAX_PARTICLES))
    with torch.inference_mode():
        x = torch.cat(
            [
                low.transforms(data.read(rows[first : first + 32]).to(low.k.device))
                for first in range(0, len(rows), 32)
            ]
        )  # (b, p)
        runs = [
            _from_random_poses(
                x,
                low,
                power,
                shells=_rising(min(FIRST_SHELL, shell), shell, ITERATIONS),
                rng=np.random.default_rng([seed, start]),
                max_shift_voxels=max_shift_voxels,
            )
            for start in range(starts)
        ]
    volume, ratios = max(runs, key=lambda run: run[1][-1])
    return volume.cpu().numpy(), ratios


def _rising(first: int, last: int, iterations: int) -> list[int]:
    """The highest shell of each iteration."""
    rise = max(1, iterations // 2)
    return [min(last, first + (i * (last - first + 1)) // rise) for i in range(iterations)]


def _from_random_poses(
    x: torch.Tensor,
    points: MeasuredPoints,
    power: torch.Tensor,
    *,
    shells: list[int],
    rng: np.random.Generator,
    max_shift_voxels: float | None,
) -> tuple[torch.Tensor, list[float]]:
    """One run of expectation maximisation: the map, and the mean ratio of each iteration."""
    n, device = points.n, x.device
    turns = torch.from_numpy(Rotation.random(len(x), rng=rng).as_matrix()).float().to(device)
    poses = GridPoses(
        turns[:, None],
        torch.zeros(len(x), 1, 3, device=device),
        torch.ones(len(x), 1, device=device),
        torch.zeros(len(x), device=device),
    )
    mask = torch.from_numpy(whole_box_mask(n)).to(device)
    ratios: list[float] = []
    for shell in shells:
        low = points.up_to(shell)
        values = x[:, points.shell <= shell]  # (b, p of these shells)
        reference = _sum(values, poses, low, power).volume(threshold=0.1) * mask
        # A coarser grid than in a search for the single best pose: here many poses are averaged.
        options = AlignmentOptions(
            step_deg=20.0,
            max_shift_voxels=max_shift_voxels,
            shift_step_voxels=0.5 * n / shell,
            search_shell=shell,
            max_shell=shell,
        )
        aligner = Aligner(reference, low, power, options)
        step = aligner.batch
        parts = [
            aligner.likeliest(values[i : i + step], CANDIDATES) for i in range(0, len(x), step)
        ]
        poses = GridPoses.joined(parts)
        ratios.append(float(poses.log_likelihood_ratios.mean()))
    reference = _sum(x, poses, points, power).volume(threshold=0.1) * mask
    return reference, ratios


def _sum(
    x: torch.Tensor, poses: GridPoses, points: MeasuredPoints, power: torch.Tensor
) -> FourierSum:
    """The sum of all particles, each in its c weighted poses."""
    total = FourierSum.empty(points.n, x.device)
    c = poses.weights.shape[1]
    for first in range(0, len(x), 32):
        at = slice(first, first + 32)
        total.add(
            x[at].repeat_interleave(c, dim=0),  # (b c, p)
            poses.rotations[at].flatten(0, 1),  # (b c, 3, 3)
            poses.shifts[at].flatten(0, 1),  # (b c, 3)
            poses.weights[at].flatten(),  # (b c,)
            points,
            power,
        )
    return total
