"""Rotation of maps, and the search for the axes of a point symmetry."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.spatial.transform import Rotation

from tomadapt.fsc import Volume
from tomadapt.recover.fourier import MeasuredPoints
from tomadapt.recover.reference import Reference
from tomadapt.recover.rotations import rotation_grid

_STEP_DEG = 15.0


def rotate_volume(
    volume: Volume,
    rotation: NDArray[np.floating],
    shift_voxels: NDArray[np.floating] | tuple[float, float, float] = (0, 0, 0),
) -> Volume:
    """Turn a map about its centre, then move it: ρ(R⁻¹(r − s)).

    In Fourier space, below Nyquist; the mean is set to zero.

    Parameters
    ----------
    volume
        (n, n, n), [z, y, x], centre at n // 2.
    rotation
        (3, 3) acting on (x, y, z).
    shift_voxels
        (x, y, z).

    Returns
    -------
    ndarray
        (n, n, n) float32.
    """
    n = len(volume)
    points = MeasuredPoints.everywhere(n)
    turned = Reference.of(volume).at(torch.as_tensor(rotation).float()[None], points)[0]
    turned = turned * points.phases(torch.as_tensor(np.asarray(shift_voxels)).float())
    spectrum = torch.zeros(n * n * (n // 2 + 1), dtype=torch.complex64)
    spectrum[points.index] = turned
    centred = torch.fft.irfftn(spectrum.view(n, n, n // 2 + 1), s=(n, n, n))  # (z, x, y)
    return np.ascontiguousarray(torch.fft.fftshift(centred).transpose(1, 2).numpy())


def symmetry_axes(volume: Volume, group: NDArray[np.float32]) -> tuple[NDArray[np.float32], float]:
    """The rotation that brings a map's axes of symmetry onto a group's.

    The power of the symmetrised map is largest where they coincide. It is searched over a grid of
    rotations in steps of 15° at low resolution, and the best ones are refined.

    Parameters
    ----------
    volume
        (n, n, n), [z, y, x]; its axes pass near the centre.
    group
        (g, 3, 3) from :func:`~tomadapt.recover.rotations.symmetry_group`.

    Returns
    -------
    rotation
        (3, 3), for :func:`rotate_volume`.
    kept
        The fraction of the map's power that is left after symmetrising: 1 for a symmetric map.
    """
    if len(group) == 1:
        return np.eye(3, dtype=np.float32), 1.0
    n = len(volume)
    points = MeasuredPoints.everywhere(n).up_to(max(3, round(n / 5)))
    reference = Reference.of(volume)
    copies = torch.from_numpy(group)
    grid = torch.from_numpy(rotation_grid(_STEP_DEG))
    # Power of rotated maps, since they are interpolated as the symmetrised ones are; the unrotated
    # map is not interpolated and has more power.
    own = _power(reference.at(grid[::100], points), points).mean()

    def kept(rotations: torch.Tensor) -> torch.Tensor:
        # The map turned by Q has at k what it had at Q⁻¹ k; its copy g has it at Q⁻¹ g⁻¹ k.
        mean = sum(reference.at(copy @ rotations, points) for copy in copies) / len(copies)
        return _power(torch.as_tensor(mean), points) / own

    with torch.inference_mode():
        scores = torch.cat([kept(grid[i : i + 256]) for i in range(0, len(grid), 256)])
        best = grid[scores.topk(5).indices].numpy()

        def lost(vector: NDArray[np.float64], start: NDArray[np.float32]) -> float:
            turn = Rotation.from_rotvec(vector).as_matrix() @ start
            return -float(kept(torch.from_numpy(turn).float()[None])[0])

        refined = [
            minimize(
                lost,
                np.zeros(3),
                args=(start,),
                method="Nelder-Mead",
                options={
                    "initial_simplex": np.radians(_STEP_DEG) / 2 * np.eye(4, 3, -1),
                    "xatol": 1e-3,
                    "fatol": 1e-6,
                },
            )
            for start in best
        ]
    at = min(range(len(refined)), key=lambda i: refined[i].fun)
    rotation = Rotation.from_rotvec(refined[at].x).as_matrix() @ best[at]
    return rotation.astype(np.float32), -float(refined[at].fun)


def _power(values: torch.Tensor, points: MeasuredPoints) -> torch.Tensor:
    power: torch.Tensor = values.abs().square() @ points.multiplicity
    return power
