"""What experiments change on purpose: the conformation of structures, the centres of particles."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial.transform import Rotation

from tomadapt.inputs.particles import open_target
from tomadapt.io.mrc_writing import write_mrc
from tomadapt.runs.atomic import output_folder
from tomadapt.structures import template

_VOXEL_A, _BOX = 4.6, 96


def bent(density: NDArray[np.floating], degrees: float) -> NDArray[np.float32]:
    """Turn the half of a density above its middle.

    The middle plane goes through the centre of mass, across the longest principal axis; the hinge
    lies in it along the second axis.

    Parameters
    ----------
    density
        (n, n, n), [z, y, x], not negative.
    degrees
        By how much.

    Returns
    -------
    ndarray
        The same shape. Where the halves run into each other the larger value stands.
    """
    places = np.indices(density.shape).reshape(3, -1).T.astype(np.float64)  # (v, 3) z, y, x
    weights = np.clip(density, 0, None).ravel()
    centre = weights @ places / weights.sum()
    apart = places - centre
    axes = np.linalg.eigh((apart * weights[:, None]).T @ apart / weights.sum())[1]
    long, hinge = axes[:, 2], axes[:, 1]
    turn = Rotation.from_rotvec(np.deg2rad(degrees) * hinge).as_matrix()
    above = apart @ long > 0
    turned_back = apart @ turn  # rows times R: each place before the turn, as R⁻¹ takes it there
    moved = ndimage.map_coordinates(density, (turned_back + centre).T, order=1)
    halves = density.ravel() * ~above, moved * (turned_back @ long > 0)
    return np.asarray(np.maximum(*halves).reshape(density.shape), dtype=np.float32)


def bent_maps(structures: Mapping[str, Path], degrees: int, out: Path) -> dict[str, str]:
    """Write maps of structures in another conformation, see :func:`bent`; class → file."""
    output_folder(out)
    paths = {}
    for name, path in structures.items():
        made = template(path, voxel_size_A=_VOXEL_A, box=_BOX, resolution_A=2 * _VOXEL_A)
        paths[name] = str(out / f"{name}_{degrees}.mrc")
        write_mrc(paths[name], bent(made.density, degrees), voxel_size_A=_VOXEL_A)
    return paths


def shifted_cubes(folder: Path, voxels: int) -> Path:
    """Write the cubes of a set rolled by so many voxels along a random axis each."""
    data = open_target(folder / "cubes.mrc")
    cubes = data.source.read(range(len(data)))
    rng = np.random.default_rng(voxels)
    moved = [
        np.roll(cube, int(rng.choice((-1, 1))) * voxels, axis=int(rng.integers(3)))
        for cube in cubes.numpy()
    ]
    path = folder / f"shifted_{voxels}.npy"
    np.save(path, np.stack(moved))
    return path
