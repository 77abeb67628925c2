"""A first reference out of particles in random poses, at low resolution."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from tomadapt.data.subtomograms import Subtomograms
from tomadapt.fsc import soft_sphere
from tomadapt.recover.align import Aligner, AlignmentOptions
from tomadapt.recover.fourier import MeasuredPoints
from tomadapt.recover.fourier_sum import FourierSum
from tomadapt.recover.poses import GridPoses

MAX_PARTICLES = 400
"""Particles a first reference is made of: more would not sharpen it, and cost time."""
FIRST_SHELL = 4
ITERATIONS = 12
CANDIDATES = 16
"""Poses of each particle that count, weighted by their probability."""


def initial_model(
    data: Subtomograms,
    points: MeasuredPoints,
    power: torch.Tensor,
    *,
    shell: int,
    seed: int,
    starts: int = 2,
    max_shift_voxels: float | None = None,
) -> tuple[NDArray[np.float32], list[float]]:
    """Average particles from random poses by expectation maximisation over a grid of poses.

    Each particle is added in its likeliest poses, weighted by their probability (Xu et al. 2012,
    J. Struct. Biol. 178, 152, weight poses by their scores). The limit of resolution rises from
    shell 4 to ``shell`` over the first half of the iterations. The best of several starts counts.

    Parameters
    ----------
    data
        Particles of one class; the first 400 of them are used.
    points, power
        Where they were measured, and their power in shells.
    shell
        The highest shell, in Fourier voxels.
    seed
        Of the random poses.
    starts
        From random poses.
    max_shift_voxels
        See :class:`~tomadapt.recover.align.AlignmentOptions`.

    Returns
    -------
    reference
        (n, n, n) float32, low-passed at ``shell``.
    log_likelihood_ratios
        Of the best start: mean log-likelihood gain at the end of each iteration.
    """
    low = points.up_to(shell)
    rows = range(min(len(data), MAX_PARTICLES))
    with torch.inference_mode():
        x = torch.cat(
            [
                low.transforms(data.read(rows[first : first + 32]).to(low.k.device))
                for first in range(0, len(rows), 32)
            ]
        )
        found = [
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
    volume, log_likelihood_ratios = max(found, key=lambda one: one[1][-1])
    return volume.cpu().numpy(), log_likelihood_ratios


def _rising(first: int, last: int, iterations: int) -> list[int]:
    """The limit of resolution in each iteration."""
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
    n, device = points.n, x.device
    turns = torch.from_numpy(Rotation.random(len(x), rng=rng).as_matrix()).float().to(device)
    poses = GridPoses(
        turns[:, None],
        torch.zeros(len(x), 1, 3, device=device),
        torch.ones(len(x), 1, device=device),
        torch.zeros(len(x), device=device),
    )
    mask = torch.from_numpy(soft_sphere(n, radius_voxels=0.45 * n)).to(device)
    log_likelihood_ratios: list[float] = []
    for shell in shells:
        low = points.up_to(shell)
        values = x[:, points.shell <= shell]
        reference = _sum(values, poses, low, power).volume(threshold=0.1) * mask
        # Coarser than a search that has to find the one pose: here many of them count.
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
        log_likelihood_ratios.append(float(poses.log_likelihood_ratios.mean()))
    reference = _sum(x, poses, points, power).volume(threshold=0.1) * mask
    return reference, log_likelihood_ratios


def _sum(
    x: torch.Tensor, poses: GridPoses, points: MeasuredPoints, power: torch.Tensor
) -> FourierSum:
    total = FourierSum.empty(points.n, x.device)
    c = poses.weights.shape[1]
    for first in range(0, len(x), 32):
        at = slice(first, first + 32)
        total.add(
            x[at].repeat_interleave(c, dim=0),
            poses.rotations[at].flatten(0, 1),
            poses.shifts[at].flatten(0, 1),
            poses.weights[at].flatten(),
            points,
            power,
        )
    return total
