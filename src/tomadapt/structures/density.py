"""Densities of atomic models, of known resolution, on centred cubic grids."""

from __future__ import annotations

import math
from typing import Literal

import gemmi
import numpy as np
from numpy.typing import NDArray

from tomadapt.errors import ConfigError
from tomadapt.structures.atoms import AtomicModel
from tomadapt.structures.resampling import (
    Array,
    apply_matrices,
    box_for_extent,
    interpolation_matrix,
    period_for,
    radius_of,
    require_box,
    require_positive,
)

Weighting = Literal["mass", "electron"]
_ATOMS_AT_ONCE = 20_000


def resolution_sigma_A(resolution_A: float) -> float:
    """Give the 1-D standard deviation in Å of the Gaussian that stands for a resolution.

    The convention is that of Situs' ``pdb2vol`` (Wriggers): resolution = 2σ.
    """
    return resolution_A / 2


def required_box(model: AtomicModel, voxel_size_A: float) -> int:
    """Give the smallest box edge that holds a model about its centre of mass.

    It holds every atom in the model's own orientation, and 99 % of the mass in any orientation.

    Parameters
    ----------
    model
        The atoms.
    voxel_size_A
        Voxel size in Å.

    Returns
    -------
    Box edge in voxels.
    """
    return box_for_extent(extent_A(model), voxel_size_A)


def extent_A(model: AtomicModel) -> float:
    """Give the half-width in Å, about the centre of mass, of the cube that must fit into a box."""
    offsets = model.positions_A - model.centre_of_mass_A
    distances = np.linalg.norm(offsets, axis=1)
    radius = radius_of(distances, model.masses_da * model.occupancies)
    return float(max(np.abs(offsets).max(), radius))


def voxelise(
    model: AtomicModel,
    *,
    voxel_size_A: float,
    box: int,
    resolution_A: float,
    weighting: Weighting = "mass",
) -> NDArray[np.float32]:
    """Make the density of an atomic model at a resolution, centred on its centre of mass.

    Each atom is a Gaussian with σ = ``resolution_A`` / 2 (as in Situs ``pdb2vol``). Its weight is
    its mass (``"mass"``) or its electron scattering factor at zero angle, f_e(0) from gemmi's table
    (International Tables C, 4.3.2.2; ``"electron"``), times its occupancy. The atom's own width and
    its B factor are left out: at the resolutions of tomography the Gaussian dwarfs them. gemmi's
    ``DensityCalculatorE`` is therefore not needed, and both weightings share one path.

    Atoms are spread with cubic B-splines on a grid 1, 2 or 4 times finer than the voxels (for σ of
    at least 2, at least 1, and under 1 voxel); the spline is divided out in Fourier space, the
    Gaussian multiplied in, and frequencies beyond the Nyquist frequency of the voxels are cropped,
    so that nothing aliases. At σ under about 1 voxel the crop leaves small negative ripples.

    Parameters
    ----------
    model
        The atoms.
    voxel_size_A
        Voxel size in Å.
    box
        Edge of the cubic box in voxels, odd or even.
    resolution_A
        Resolution in Å, 2σ.
    weighting
        ``"mass"`` (dalton) or ``"electron"`` (f_e(0) in Å).

    Returns
    -------
    Density (box, box, box), z, y, x, in weight per Å³: its sum times the voxel volume is the total
    weight, up to Gaussian tails outside the box.

    Raises
    ------
    ConfigError
        A parameter is not positive, the weighting is unknown, or the box is too small.
    """
    require_positive("resolution_A", resolution_A)
    if weighting not in ("mass", "electron"):
        raise ConfigError("weighting", expected="'mass' or 'electron'", got=repr(weighting))
    extent = extent_A(model)
    require_box(model.name, extent, voxel_size_A, box)

    weights = model.masses_da if weighting == "mass" else _electron_weights(model)
    sigma = resolution_sigma_A(resolution_A) / voxel_size_A
    finer = 1 if sigma >= 2 else 2 if sigma >= 1 else 4
    spacing = voxel_size_A / finer
    offsets = ((model.positions_A - model.centre_of_mass_A) / spacing)[:, ::-1]  # z, y, x
    low = np.floor(offsets.min(axis=0)).astype(np.int64) - 1  # the spline reaches one below
    shape = np.floor(offsets.max(axis=0)).astype(np.int64) + 3 - low  # and two above
    spread = _spread(offsets - low, weights * model.occupancies, (shape[0], shape[1], shape[2]))

    def transfer(frequency: Array) -> Array:
        gaussian = np.exp(-2 * (math.pi * sigma * finer * frequency) ** 2)
        return np.asarray(gaussian / np.sinc(frequency) ** 4)

    period = period_for(box, extent / voxel_size_A + 4 * sigma)
    matrices = [
        interpolation_matrix(
            int(shape[axis]),
            float(-low[axis]),
            box,
            step=finer,
            period=period * finer,
            transfer=transfer,
        )
        for axis in range(3)
    ]
    return (apply_matrices(spread, matrices) / spacing**3).astype(np.float32)


def _electron_weights(model: AtomicModel) -> NDArray[np.float64]:
    """Give f_e(0) in Å for each atom (n,): the sum of the amplitudes of gemmi's five Gaussians."""
    values = np.zeros(int(model.atomic_numbers.max()) + 1)
    for number in np.unique(model.atomic_numbers):
        coefficients = gemmi.Element(int(number)).c4322
        if coefficients is None:
            raise ConfigError(
                f"{model.name} holds element {gemmi.Element(int(number)).name}, which has no "
                "electron scattering factor",
                remedy="use weighting 'mass'",
            )
        values[number] = sum(coefficients.a)
    return np.asarray(values[model.atomic_numbers])


def _spread(
    points: NDArray[np.float64], weights: NDArray[np.float64], shape: tuple[int, int, int]
) -> NDArray[np.float64]:
    """Spread weights (n,) at points (n, 3; z, y, x in grid units) with cubic B-splines."""
    grid = np.zeros(shape[0] * shape[1] * shape[2])
    for start in range(0, len(points), _ATOMS_AT_ONCE):
        block = points[start : start + _ATOMS_AT_ONCE]
        base = np.floor(block).astype(np.int64)
        t = block - base
        spline = (
            np.stack(
                [(1 - t) ** 3, 4 - 6 * t**2 + 3 * t**3, 1 + 3 * (t + t**2 - t**3), t**3], axis=-1
            )
            / 6
        )  # (n, axis, 4)
        place = base[..., None] + np.arange(-1, 3)
        index = (place[:, 0, :, None, None] * shape[1] + place[:, 1, None, :, None]) * shape[2]
        index = index + place[:, 2, None, None, :]
        value = spline[:, 0, :, None, None] * spline[:, 1, None, :, None]
        value = value * (spline[:, 2] * weights[start : start + len(block), None])[:, None, None, :]
        np.add.at(grid, index.ravel(), value.ravel())
    return grid.reshape(shape)
