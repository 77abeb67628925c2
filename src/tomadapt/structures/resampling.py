"""Band-limited resampling of densities, and what is measured on them.

Resampling is a separable linear map: along each axis the samples in are multiplied by a small
matrix that holds Fourier interpolation, an anti-alias low-pass at the coarser of the two Nyquist
frequencies, and, where asked for, a Gaussian. One matrix per axis serves voxelising, resampling,
blurring, cropping, padding and shifting by parts of a voxel, without wrap-around.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tomadapt.errors import ConfigError

Array = NDArray[np.floating[Any]]

# Of the positive mass, what a template's radius holds; the rest is loose ends.
RADIUS_FRACTION = 0.99
# Density below this fraction of the maximum is no part of a structure when it is measured.
WEAK_FRACTION = 0.05


def resample(
    density: Array,
    voxel_size_A: float,
    *,
    to_voxel_size_A: float,
    box: int,
    centre: tuple[float, float, float] | None = None,
    blur_sigma_A: float = 0.0,
) -> NDArray[np.float32]:
    """Resample a density to another voxel size and a cubic box, by band-limited interpolation.

    Frequencies beyond the Nyquist frequency of the new voxels are removed. Space outside the given
    density is zero. Values are densities: they are kept, and so is the sum times the voxel volume,
    as far as the new box holds the density.

    Parameters
    ----------
    density
        Density (nz, ny, nx).
    voxel_size_A
        Its voxel size in Å.
    to_voxel_size_A
        New voxel size in Å.
    box
        New box edge in voxels.
    centre
        The point (z, y, x) in voxels of ``density``, fractions allowed, that comes to ``box // 2``;
        by default ``n // 2``.
    blur_sigma_A
        1-D standard deviation in Å of a Gaussian blur.

    Returns
    -------
    Density (box, box, box), z, y, x.

    Raises
    ------
    ConfigError
        A parameter cannot be used.
    """
    require_positive("voxel_size_A", voxel_size_A)
    require_positive("to_voxel_size_A", to_voxel_size_A)
    require_box("the density", 0.0, to_voxel_size_A, box)
    if density.ndim != 3:
        raise ConfigError("density", expected="three dimensions", got=f"shape {density.shape}")
    middle = tuple(n // 2 for n in density.shape) if centre is None else centre
    step = to_voxel_size_A / voxel_size_A
    sigma = blur_sigma_A / voxel_size_A

    def transfer(frequency: Array) -> Array:
        return np.asarray(np.exp(-2 * (math.pi * sigma * frequency) ** 2))

    matrices = []
    for n, c in zip(density.shape, middle, strict=True):
        reach = max(c + 0.5, n - c - 0.5) + 4 * sigma
        period = period_for(box, reach / step)
        matrices.append(
            interpolation_matrix(n, c, box, step=step, period=period * step, transfer=transfer)
        )
    return apply_matrices(density, matrices).astype(np.float32)


def centre_of_mass(density: Array, *, threshold: float = WEAK_FRACTION) -> NDArray[np.float64]:
    """Give the centre of mass (z, y, x) in voxels, of the density above a threshold.

    Parameters
    ----------
    density
        Density (nz, ny, nx).
    threshold
        Voxels below this fraction of the maximum (and all that are not positive) are ignored.

    Returns
    -------
    Centre (3,), z, y, x, in voxels from the first.

    Raises
    ------
    ConfigError
        Nothing is positive.
    """
    weights = _above(density, threshold)
    total = weights.sum(dtype=np.float64)
    sums = [weights.sum(axis=tuple({0, 1, 2} - {axis}), dtype=np.float64) for axis in range(3)]
    return np.array([s @ np.arange(len(s)) / total for s in sums])


def radius_A(density: Array, voxel_size_A: float, *, threshold: float = WEAK_FRACTION) -> float:
    """Give the smallest radius about voxel ``n // 2`` that holds 99 % of the mass.

    Parameters
    ----------
    density
        Density (nz, ny, nx).
    voxel_size_A
        Voxel size in Å.
    threshold
        Voxels below this fraction of the maximum do not count: the positive half of the ripples
        around a low-passed density would otherwise hold more than 1 % of the mass.

    Returns
    -------
    Radius in Å: a distance between voxel centres.

    Raises
    ------
    ConfigError
        Nothing is positive.
    """
    mass = _above(density, threshold)
    axes = [(np.arange(n) - n // 2) ** 2 for n in density.shape]
    squares = axes[0][:, None, None] + axes[1][:, None] + axes[2]
    return radius_of(np.sqrt(squares).ravel(), mass.ravel()) * voxel_size_A


def _above(density: Array, threshold: float) -> Array:
    """Keep the positive density that reaches a fraction of the maximum, and zero elsewhere."""
    maximum = float(density.max())
    if not maximum > 0:
        raise ConfigError(
            "a density without positive values has no mass",
            expected="positive density (protein brighter than ice)",
            got=f"maximum {maximum:g}",
            remedy="invert the density or subtract its background",
        )
    return np.where(density >= max(threshold, 0.0) * maximum, density, 0.0).clip(min=0)


def radius_of(distances: Array, weights: Array) -> float:
    """Give the smallest distance within which ``RADIUS_FRACTION`` of the weight lies."""
    order = np.argsort(distances)
    held = np.cumsum(weights[order], dtype=np.float64)
    inside = int(np.searchsorted(held, RADIUS_FRACTION * held[-1] * (1 - 1e-12)))
    return float(distances[order][inside])


def require_box(what: str, half_width_A: float, voxel_size_A: float, box: int) -> None:
    """Raise ConfigError when a structure does not fit into a box.

    Parameters
    ----------
    what
        The structure, for the message.
    half_width_A
        Half-width in Å of the centred cube that must fit.
    voxel_size_A, box
        Voxel size in Å and box edge in voxels.

    Raises
    ------
    ConfigError
        The box is too small or not a positive number of voxels.
    """
    if isinstance(box, bool) or int(box) != box or box < 1:
        raise ConfigError(
            "box", expected="a positive whole number of voxels", got=box, remedy="set the box edge"
        )
    required = box_for_extent(half_width_A, voxel_size_A)
    if box < required:
        raise ConfigError(
            f"{what} does not fit into the box at {voxel_size_A:g} Å per voxel",
            expected=f"a box of at least {required} voxels",
            got=f"{box} voxels",
            remedy="enlarge the box or the voxel size",
        )


def box_for_extent(half_width_A: float, voxel_size_A: float) -> int:
    """Give the smallest box edge whose voxels reach ``half_width_A`` on both sides of the centre.

    The centre is voxel ``n // 2``, so an even box reaches one voxel less far on the upper side.
    """
    require_positive("voxel_size_A", voxel_size_A)
    above = max(0, math.ceil(half_width_A / voxel_size_A - 0.5))
    return 2 * above + 1


def require_positive(name: str, value: float) -> None:
    """Raise ConfigError unless a length in Å is positive and finite."""
    if not (math.isfinite(value) and value > 0):
        raise ConfigError(name, expected="a positive length in Å", got=value)


def interpolation_matrix(
    n_in: int,
    centre: float,
    n_out: int,
    *,
    step: float,
    period: float,
    transfer: Callable[[Array], Array],
) -> NDArray[np.float64]:
    """Make the matrix (n_out, n_in) of band-limited interpolation along one axis.

    Sample ``j`` out lies at ``centre + (j - n_out // 2) * step`` in. The samples in are taken as
    one period of a function of period ``period`` (in samples in, any real number that covers them)
    with frequencies up to the smaller of the two Nyquist frequencies, times ``transfer`` of the
    frequency in cycles per sample in. The Nyquist frequency itself counts half.
    """
    limit = min(0.5, 0.5 / step)
    frequency = np.arange(math.floor(period * limit + 1e-9) + 1) / period
    factor = np.where(frequency == 0, 1.0, 2.0) / period
    factor[np.isclose(frequency, limit, rtol=1e-9)] /= 2
    factor = factor * transfer(frequency)
    out = centre + (np.arange(n_out) - n_out // 2) * step
    phase_out = 2 * math.pi * np.outer(out, frequency)
    phase_in = 2 * math.pi * np.outer(frequency, np.arange(n_in))
    return (np.cos(phase_out) * factor) @ np.cos(phase_in) + (np.sin(phase_out) * factor) @ np.sin(
        phase_in
    )


def period_for(box: int, reach: float) -> int:
    """Give a period (in voxels) so long that nothing wraps around into a box.

    It is at least twice the box, so that the ripples of a low-pass, which fall off slowly, do not
    depend on where their next copy lies.

    Parameters
    ----------
    box
        Box edge in voxels.
    reach
        How far the density reaches from the centre, in voxels.

    Returns
    -------
    Period in voxels.
    """
    return max(2 * box, math.ceil(box / 2 + reach))


def apply_matrices(volume: Array, matrices: list[NDArray[np.float64]]) -> NDArray[np.float64]:
    """Multiply the three axes (z, y, x) of a volume by one matrix each."""
    along_x = volume @ matrices[2].T
    along_y = matrices[1] @ along_x
    return np.asarray(np.tensordot(matrices[0], along_y, axes=(1, 0)))
