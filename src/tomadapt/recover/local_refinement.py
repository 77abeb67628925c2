"""Local refinement of poses: Fisher scoring from a rough pose to the nearest likelihood maximum."""

from __future__ import annotations

from typing import NamedTuple

import torch
from scipy.spatial.transform import Rotation

from tomadapt.recover.fourier import MeasuredPoints
from tomadapt.recover.reference import Reference

_MAX_STEP_RAD, _MAX_STEP_VOXELS = 0.3, 2.0
"""Largest rotation and shift of one step: the equations are linearised and hold only nearby."""


class PoseCandidates(NamedTuple):
    """Several candidate poses of each of b particles; see ``Poses`` for the units.

    Attributes
    ----------
    rotations, shifts
        (b, c, 3, 3) and (b, c, 3).
    scores, log_likelihood_ratios
        (b, c) each.
    """

    rotations: torch.Tensor
    shifts: torch.Tensor
    scores: torch.Tensor
    log_likelihood_ratios: torch.Tensor


def refine_locally(
    reference: Reference,
    x: torch.Tensor,
    rotations: torch.Tensor,
    shifts: torch.Tensor,
    *,
    points: MeasuredPoints,
    weight: torch.Tensor,
    reach: float,
    iterations: int = 5,
) -> PoseCandidates:
    r"""Improve poses by steps of :math:`(J^T J + λ\,\mathrm{diag})^{-1} J^T r`.

    J holds the derivatives of the transformed reference by three rotations and three shifts; r is
    the residual. The amplitude is fitted along with the pose (variable projection), so neither
    the reference's scale nor the particle's matters. A step that does not raise the score is
    undone, and its damping λ is raised (Levenberg-Marquardt).

    Parameters
    ----------
    reference
        The map.
    x
        (b, p) transforms of the particles at the points.
    rotations, shifts
        (b, c, 3, 3) and (b, c, 3) voxels: the initial poses.
    points, weight
        Where to compare, and with which weights (p,).
    reach
        How far a shift may go along each axis, in voxels.
    iterations
        Number of steps; the score is evaluated once more after the last.
    """
    b, c = shifts.shape[:2]
    root = weight.sqrt()  # (p,)
    data = (x * root)[:, None].expand(-1, c, -1).flatten(0, 1)  # (b c, p)
    energy = data.abs().square().sum(dim=1)  # (b c,)
    R, s = rotations.flatten(0, 1), shifts.flatten(0, 1)  # (b c, 3, 3), (b c, 3)
    best_R, best_s = R, s
    score = torch.full_like(energy, -torch.inf)  # (b c,)
    damping = torch.full_like(energy, 1e-2)  # (b c,)
    normal, gradient = data.real.new_zeros(b * c, 6, 6), data.real.new_zeros(b * c, 6)
    for iteration in range(iterations + 1):
        values, slopes = reference.with_slopes(R, points)  # (b c, p), (b c, 3, p)
        phase = points.phases(s) * root  # (b c, p)
        model, slopes = values * phase, slopes * phase[:, None]
        norm = model.abs().square().sum(dim=1).clamp_min(1e-30)  # (b c,)
        new_score = (data * model.conj()).real.sum(dim=1) / (norm * energy).clamp_min(1e-30).sqrt()
        better = new_score > score
        score = torch.where(better, new_score, score)
        best_R = torch.where(better[:, None, None], R, best_R)
        best_s = torch.where(better[:, None], s, best_s)
        damping = torch.where(better, damping / 5, damping * 10).clamp(1e-6, 1e3)
        if iteration == iterations:
            break
        by_shift = model[:, None] * (-2j * torch.pi * points.k.T)  # (b c, 3, p)
        jacobian = torch.cat([slopes, by_shift], dim=1)  # (b c, 6, p)
        new_normal, new_gradient = _normal_equations(data, model, jacobian, norm)
        # After a failed step, the equations of the best pose are solved again with more damping.
        normal = torch.where(better[:, None, None], new_normal, normal)
        gradient = torch.where(better[:, None], new_gradient, gradient)
        step = _damped_step(normal, gradient, damping)  # (b c, 6): radians, then voxels
        R = best_R @ _rotation(step[:, :3].clamp(-_MAX_STEP_RAD, _MAX_STEP_RAD))
        s = best_s + step[:, 3:].clamp(-_MAX_STEP_VOXELS, _MAX_STEP_VOXELS)
        s = s.clamp(-reach - 1, reach + 1)
    ratios = score.clamp_min(0).square() * energy / 2  # (b c,)
    return PoseCandidates(
        best_R.view(b, c, 3, 3), best_s.view(b, c, 3), score.view(b, c), ratios.view(b, c)
    )


def best_of(found: PoseCandidates, count: int) -> PoseCandidates:
    """The ``count`` candidates of highest score, best first."""
    rotations, shifts, scores, ratios = found
    best = scores.topk(min(count, scores.shape[1]), dim=1).indices  # (b, count)
    return PoseCandidates(
        rotations.gather(1, best[..., None, None].expand(-1, -1, 3, 3)),
        shifts.gather(1, best[..., None].expand(-1, -1, 3)),
        scores.gather(1, best),
        ratios.gather(1, best),
    )


def _normal_equations(
    data: torch.Tensor, model: torch.Tensor, jacobian: torch.Tensor, norm: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """The normal matrix (b, 6, 6) and right-hand side (b, 6), with the amplitude projected out."""
    J = torch.view_as_real(jacobian).flatten(2)  # (b, 6, 2 p)
    m, d = torch.view_as_real(model).flatten(1), torch.view_as_real(data).flatten(1)  # (b, 2 p)
    amplitude = ((d * m).sum(dim=1) / norm)[:, None]  # (b, 1)
    # Variable projection: a change along the model itself is absorbed by the amplitude.
    along = (J @ m[:, :, None]) / norm[:, None, None]  # (b, 6, 1)
    J = (J - along * m[:, None]) * amplitude[:, :, None]  # (b, 6, 2 p)
    return J @ J.transpose(1, 2), (J @ (d - amplitude * m)[:, :, None])[..., 0]


def _damped_step(
    normal: torch.Tensor, gradient: torch.Tensor, damping: torch.Tensor
) -> torch.Tensor:
    """Solve the damped normal equations: (b, 6)."""
    diagonal = normal.diagonal(dim1=1, dim2=2)  # (b, 6)
    # Rotations that leave a symmetric reference unchanged must not make the matrix singular.
    floor = 1e-6 * diagonal.amax(dim=1, keepdim=True) + 1e-30
    step: torch.Tensor = torch.linalg.solve(
        normal + torch.diag_embed(diagonal * damping[:, None] + floor), gradient
    )
    return step


def _rotation(vectors: torch.Tensor) -> torch.Tensor:
    """Rotation vectors (b, 3) in radians as matrices (b, 3, 3)."""
    matrices = Rotation.from_rotvec(vectors.cpu().double().numpy()).as_matrix()
    return torch.from_numpy(matrices).to(vectors)
