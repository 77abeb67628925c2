"""Structures of Gaussian balls, and cubes of them: made in real space, not by what is tested."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from tomadapt.acquisition import Acquisition, tilt_range
from tomadapt.data.subtomograms import Indices
from tomadapt.judge.noise import Noise, window
from tomadapt.judge.refine import Refined
from tomadapt.judge.rivals import Hypothesis
from tomadapt.recover.fourier import MeasuredPoints

BOX, VOXEL_A = 20, 16.0
STATED = Acquisition(defocus_um=4.0, tilt_angles_deg=tilt_range(-60, 60, 4))
Floats = NDArray[np.floating]

# Balls: x, y, z in voxels from the centre, σ in voxels, and weight. All are chiral.
STRUCTURES: dict[str, tuple[tuple[float, ...], ...]] = {
    "alpha": (
        (5, 0, 0, 1.3, 1.2),
        (-3, 4, 0, 1.3, 0.8),
        (-1, -4, 4, 1.3, 1.0),
        (0, 1, -5, 1.5, 0.6),
    ),
    "beta": (
        (0, 0, 5, 1.4, 1.0),
        (0, 0, 1, 1.6, 1.2),
        (3, 0, -3, 1.4, 0.9),
        (0, 4, -4, 1.3, 0.7),
    ),
    "gamma": (
        (3, 3, 0, 1.5, 1.0),
        (3, -3, 1, 1.5, 1.0),
        (-3, 3, 2, 1.3, 0.8),
        (-4, -2, -3, 1.6, 1.2),
    ),
}


def balls(
    parts: tuple[tuple[float, ...], ...],
    rotation: Floats | None = None,
    shift: Floats | tuple[float, ...] = (0.0, 0.0, 0.0),
    *,
    box: int = BOX,
) -> NDArray[np.float32]:
    """Gaussian balls, turned about voxel n // 2 and then moved."""
    r = np.arange(box) - box // 2
    R = np.eye(3) if rotation is None else rotation
    volume = np.zeros((box, box, box))
    for *centre, sigma, weight in parts:
        x, y, z = R @ np.array(centre, dtype=float) + np.asarray(shift)
        lines = [np.exp(-((r - c) ** 2) / (2 * sigma**2)) for c in (z, y, x)]
        volume += weight * np.einsum("i,j,k->ijk", *lines)
    return volume.astype(np.float32)


def wanted(*names: str) -> list[Hypothesis]:
    """Structures by name, all when none is given."""
    return [Hypothesis(n, "wanted", balls(STRUCTURES[n])) for n in names or STRUCTURES]


def measured(acquisition: Acquisition = STATED, *, box: int = BOX) -> MeasuredPoints:
    return MeasuredPoints.of(acquisition, n=box, voxel_size_A=VOXEL_A)


def white(points: MeasuredPoints, sigma: float = 1.0) -> Noise:
    """White noise of this standard deviation, as it is known without measuring it."""
    power = torch.full((len(points.index),), sigma**2 * points.n**3)
    return Noise(points, power, window(points.n))


def whitened_norm(volume: Floats, noise: Noise) -> float:
    """The norm of a volume in standard deviations of noise, as it is seen in the window."""
    x = noise.transforms(torch.from_numpy(np.asarray(volume, np.float32))[None])[0]
    return float((x.abs().square() @ noise.weight).sqrt())


def seen(volume: Floats, points: MeasuredPoints) -> NDArray[np.float32]:
    """What an acquisition leaves of a volume: the transfer where it measured, nothing elsewhere."""
    volumes = torch.from_numpy(np.asarray(volume, np.float32))[None]
    return points.volumes(points.transforms(volumes) * points.transfer)[0].contiguous().numpy()


@dataclass(frozen=True, eq=False)
class Held:
    """Cubes in memory."""

    volumes: torch.Tensor

    def __len__(self) -> int:
        return len(self.volumes)

    def read(self, indices: Indices) -> torch.Tensor:
        return self.volumes[np.asarray(indices)]


@dataclass(frozen=True, eq=False)
class Planted:
    """Cubes, and their true poses."""

    cubes: Held
    rotations: NDArray[np.float64]
    shifts: NDArray[np.float64]


def planted(
    parts: tuple[tuple[float, ...], ...],
    count: int,
    noise: Noise,
    *,
    z: float,
    seed: int = 0,
    points: MeasuredPoints | None = None,
    reach: float = 1.0,
) -> Planted:
    """Particles in random poses in noise, of norm z in its standard deviations."""
    rng = np.random.default_rng(seed)
    rotations = Rotation.random(count, rng=rng).as_matrix()
    shifts = rng.uniform(-reach, reach, size=(count, 3))
    points = noise.points if points is None else points
    cubes = [
        seen(balls(parts, R, s, box=noise.points.n), points)
        for R, s in zip(rotations, shifts, strict=True)
    ]
    cubes = [cube * np.float32(z / whitened_norm(cube, noise)) for cube in cubes]
    volumes = torch.from_numpy(np.stack(cubes)) + noise.sample(count, seed=seed + 1)
    return Planted(Held(volumes), rotations, shifts)


def at_the_truth(particles: Planted, structures: int = 2) -> Refined:
    """Poses as they are, for each of some structures."""
    n = len(particles.cubes)
    empty = np.zeros((n, structures))
    rotations = particles.rotations.astype(np.float32)[:, None].repeat(structures, axis=1)
    shifts = particles.shifts.astype(np.float32)[:, None].repeat(structures, axis=1)
    return Refined(empty, empty, rotations, shifts, np.zeros(n), np.ones(n))
