"""An asymmetric phantom made of Gaussians, with exactly known density and projections."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


@dataclass(frozen=True)
class GaussianPhantom:
    """A sum of equal isotropic Gaussians, the ground truth of tests and of the self-check.

    Attributes
    ----------
    centres
        (m, 3) in voxels from the centre, (x, y, z).
    sigma
        Standard deviation in voxels.
    """

    centres: Array
    sigma: float

    @classmethod
    def random(cls, seed: int = 0, *, radius: float = 8.0, sigma: float = 1.2) -> GaussianPhantom:
        """24 centres, uniform in a ball of ``radius`` voxels."""
        rng = np.random.default_rng(seed)
        direction = rng.normal(size=(24, 3))
        direction /= np.linalg.norm(direction, axis=1, keepdims=True)
        distance = radius * rng.uniform(size=(24, 1)) ** (1 / 3)
        return cls(direction * distance, sigma)

    def posed(self, rotation: NDArray[np.floating], shift: NDArray[np.floating]) -> GaussianPhantom:
        """The phantom at pose (R, s)."""
        return GaussianPhantom(self.centres @ np.asarray(rotation, float).T + shift, self.sigma)

    def density(self, n: int) -> NDArray[np.float32]:
        """(n, n, n) density, [z, y, x]; each Gaussian integrates to 1."""
        gx, gy, gz = (self._profile(n, axis) for axis in range(3))
        density = np.einsum("mz,my,mx->zyx", gz, gy, gx, optimize=True)
        return np.asarray(density, dtype=np.float32)

    def projection(self, n: int, tilt_deg: float) -> NDArray[np.float32]:
        """(n, n) line integrals along z after a turn by ``tilt_deg`` about +y, [y, x]."""
        c, s = np.cos(np.deg2rad(tilt_deg)), np.sin(np.deg2rad(tilt_deg))
        about_y = np.array([[c, 0, s], [0, 1, 0], [-s, 0, c]])
        turned = self.posed(about_y, np.zeros(3))
        image = np.einsum("my,mx->yx", turned._profile(n, 1), turned._profile(n, 0))
        return np.asarray(image, dtype=np.float32)

    def _profile(self, n: int, axis: int) -> Array:
        distance = np.arange(n) - n // 2 - self.centres[:, axis, None]  # (m, n)
        height = 1 / (self.sigma * np.sqrt(2 * np.pi))
        return np.asarray(height * np.exp(-0.5 * (distance / self.sigma) ** 2))
