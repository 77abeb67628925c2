"""From a rough pose to the nearest maximum of the likelihood, by Fisher scoring with damping."""

from __future__ import annotations

from typing import NamedTuple

import torch
from scipy.spatial.transform import Rotation

from tomadapt.recover.fourier import MeasuredPoints
from tomadapt.recover.reference import Reference


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


_LARGEST_TURN, _LARGEST_MOVE = 0.3, 2.0
"""Of one step: radians and voxels. Equations that are linear near a pose say nothing beyond."""


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

    J holds the derivatives of what is measured of the reference by three rotations and three
    shifts, r is what it does not explain. The amplitude is fitted along with the pose (variable
    projection), so that neither the reference's scale nor the particle's matters. A step that does
    not raise the score is taken back, and its damping λ raised.

    Parameters
    ----------
    reference
        The map.
    x
        (b, p) transforms of the particles at the points.
    rotations, shifts
        (b, c, 3, 3) and (b, c, 3) voxels to begin with.
    points, weight
        Where to compare, and with which weights (p,).
    reach
        How far a shift may go along each axis, in voxels.
    iterations
        Steps; the score is looked at once more after the last.
    """
    b, c = shifts.shape[:2]
    root = weight.sqrt()
    data = (x * root)[:, None].expand(-1, c, -1).flatten(0, 1)  # (b c, p)
    energy = data.abs().square().sum(dim=1)  # (b c,)
    R, s = rotations.flatten(0, 1), shifts.flatten(0, 1)
    best_R, best_s = R, s
    score = torch.full_like(energy, -torch.inf)
    damping = torch.full_like(energy, 1e-2)
    normal, gradient = data.real.new_zeros(b * c, 6, 6), data.real.new_zeros(b * c, 6)
    for iteration in range(iterations + 1):
        values, slopes = reference.with_slopes(R, points)
        move = points.phases(s) * root
        model, slopes = values * move, slopes * move[:, None]
        norm = model.abs().square().sum(dim=1).clamp_min(1e-30)
        found = (data * model.conj()).real.sum(dim=1) / (norm * energy).clamp_min(1e-30).sqrt()
        better = found > score
        score = torch.where(better, found, score)
        best_R = torch.where(better[:, None, None], R, best_R)
        best_s = torch.where(better[:, None], s, best_s)
        damping = torch.where(better, damping / 5, damping * 10).clamp(1e-6, 1e3)
        if iteration == iterations:
            break
        by_shift = model[:, None] * (-2j * torch.pi * points.k.T)  # (b c, 3, p)
        slopes = torch.cat([slopes, by_shift], dim=1)
        here = _equations(data, model, slopes, norm)
        # After a step that failed, the last good pose's equations are solved with more damping.
        normal = torch.where(better[:, None, None], here[0], normal)
        gradient = torch.where(better[:, None], here[1], gradient)
        step = _solved(normal, gradient, damping)
        R = best_R @ _rotation(step[:, :3].clamp(-_LARGEST_TURN, _LARGEST_TURN))
        s = best_s + step[:, 3:].clamp(-_LARGEST_MOVE, _LARGEST_MOVE)
        s = s.clamp(-reach - 1, reach + 1)
    log_likelihood_ratios = score.clamp_min(0).square() * energy / 2
    return PoseCandidates(
        best_R.view(b, c, 3, 3),
        best_s.view(b, c, 3),
        score.view(b, c),
        log_likelihood_ratios.view(b, c),
    )


def best_of(found: PoseCandidates, count: int) -> PoseCandidates:
    """The ``count`` candidates of highest score, best first."""
    rotations, shifts, scores, log_likelihood_ratios = found
    best = scores.topk(min(count, scores.shape[1]), dim=1).indices
    return PoseCandidates(
        rotations.gather(1, best[..., None, None].expand(-1, -1, 3, 3)),
        shifts.gather(1, best[..., None].expand(-1, -1, 3)),
        scores.gather(1, best),
        log_likelihood_ratios.gather(1, best),
    )


def _equations(
    data: torch.Tensor, model: torch.Tensor, slopes: torch.Tensor, norm: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """The normal matrix (b, 6, 6) and right-hand side (b, 6), the amplitude projected out."""
    J = torch.view_as_real(slopes).flatten(2)  # (b, 6, 2 p)
    m, d = torch.view_as_real(model).flatten(1), torch.view_as_real(data).flatten(1)
    amplitude = ((d * m).sum(dim=1) / norm)[:, None]
    along = (J @ m[:, :, None]) / norm[:, None, None]  # (b, 6, 1)
    J = (J - along * m[:, None]) * amplitude[:, :, None]
    return J @ J.transpose(1, 2), (J @ (d - amplitude * m)[:, :, None])[..., 0]


def _solved(normal: torch.Tensor, gradient: torch.Tensor, damping: torch.Tensor) -> torch.Tensor:
    diagonal = normal.diagonal(dim1=1, dim2=2)
    # A symmetric reference has rotations that change nothing: they must not make it singular.
    floor = 1e-6 * diagonal.amax(dim=1, keepdim=True) + 1e-30
    solved: torch.Tensor = torch.linalg.solve(
        normal + torch.diag_embed(diagonal * damping[:, None] + floor), gradient
    )
    return solved


def _rotation(vectors: torch.Tensor) -> torch.Tensor:
    """Rotation vectors (b, 3) in radians as matrices (b, 3, 3)."""
    matrices = Rotation.from_rotvec(vectors.cpu().double().numpy()).as_matrix()
    return torch.from_numpy(matrices).to(vectors)
