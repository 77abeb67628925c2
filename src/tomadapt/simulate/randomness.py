"""The random draws of one simulated particle: pose, shift, image noise, and its neighbours.

Each draw is keyed by the seed, the class name, the particle's index in that class, and its purpose.
So a particle does not depend on the batch size, on the number of workers, or on the other classes.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

POSE, NOISE, NEIGHBOURS = 0, 1, 2


def particle_generator(seed: int, class_name: str, index: int, purpose: int) -> np.random.Generator:
    """The generator of one purpose (``POSE``, ``NOISE``, ``NEIGHBOURS``) of one particle."""
    class_key = zlib.crc32(class_name.encode())
    sequence = np.random.SeedSequence(seed, spawn_key=(class_key, index, purpose))
    return np.random.Generator(np.random.SFC64(sequence))


def draw_poses(
    seed: int, class_name: str, indices: Sequence[int], *, max_shift_voxels: float
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Uniform poses on SO(3) and shifts uniform in a cube.

    Parameters
    ----------
    seed, class_name, indices
        Which particles, see :func:`particle_generator`.
    max_shift_voxels
        Largest shift along each axis.

    Returns
    -------
    rotations
        (n, 3, 3) matrices acting on (x, y, z).
    shifts
        (n, 3) in voxels, (x, y, z).
    """
    quaternions = np.empty((len(indices), 4))
    shifts = np.empty((len(indices), 3), np.float32)
    for row, index in enumerate(indices):
        generator = particle_generator(seed, class_name, index, POSE)
        quaternions[row] = generator.normal(size=4)  # as Rotation.random draws
        shifts[row] = generator.uniform(-max_shift_voxels, max_shift_voxels, 3)
    # All matrices at once: for single ones scipy's checks take longer than the arithmetic.
    rotations = Rotation.from_quat(quaternions).as_matrix().astype(np.float32)
    return rotations, shifts


def draw_noise(
    seed: int, class_name: str, indices: Sequence[int], *, shape: tuple[int, ...]
) -> torch.Tensor:
    """Unit white Gaussian noise for the tilt images, (n, *shape) float32.

    The bits come from numpy's SFC64, keyed by particle. The Box–Muller transform is done for all
    particles together, which is three times as fast as numpy's normal deviates.
    """
    size = math.prod(shape)
    pairs = (size + 1) // 2
    bits = np.empty((len(indices), pairs), np.uint64)
    for row, index in enumerate(indices):
        # The generator's own words: `Generator.bytes` gives the same ones, copied three times.
        bits[row] = particle_generator(seed, class_name, index, NOISE).bit_generator.random_raw(
            pairs
        )
    halves = bits.view(np.int32).reshape(len(indices), 2, pairs)
    # As signed 32-bit integers the bits are uniform in [−2³¹, 2³¹); the offset avoids log(0).
    uniform = torch.from_numpy(halves).to(torch.float32).add_(2.0**31 + 0.5)
    radius, angle = uniform.mul_(2.0**-32).unbind(1)  # (n, pairs) each, overwritten from here on
    radius.clamp_min_(2.0**-33).log_().mul_(-2).clamp_min_(0).sqrt_()
    angle.mul_(2 * math.pi)
    cosine = angle.cos()
    angle.sin_().mul_(radius)
    radius.mul_(cosine)
    return uniform.flatten(1)[:, :size].reshape(len(indices), *shape)
