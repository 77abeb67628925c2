"""The noise of particles: its power at each measured point, and the window that cubes are seen in.

The noise of a tomogram depends on the direction as well as on the frequency (weighted
back-projection, wedge), so its power is measured at each point of Fourier space and smoothed over
the neighbours, not averaged over shells.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage

from tomadapt.data.subtomograms import Indices
from tomadapt.recover.fourier import MeasuredPoints

EDGE_VOXELS = 4.0
SMOOTHING = 1.0
"""σ in Fourier voxels of the smoothing of the power: few cubes make a rough estimate."""
MAX_CUBES = 400
_BATCH = 32


def window(n: int) -> torch.Tensor:
    """A ball that fills the box, with a soft edge: what is in its corners are neighbours.

    Returns
    -------
    Tensor
        (n, n, n) float32, 0 to 1.
    """
    r = torch.arange(n) - n // 2
    radius = (r[:, None, None] ** 2 + r[:, None] ** 2 + r**2).float().sqrt()
    inner = (n - 1) / 2 - EDGE_VOXELS
    edge = ((radius - inner) / EDGE_VOXELS).clamp(0, 1)
    return 0.5 + 0.5 * torch.cos(torch.pi * edge)


class Cubes(Protocol):
    """What particles are read from, by position."""

    def __len__(self) -> int:
        """Give the number of particles."""

    def read(self, indices: Indices) -> torch.Tensor:
        """(b, n, n, n) float32, density positive."""


@dataclass(frozen=True)
class Noise:
    """The noise at measured points.

    Attributes
    ----------
    points
        Where particles were measured.
    power
        (p,) expected |x|² of noise that fills the whole box; windowed noise has ``kept`` of it.
    window
        (n, n, n), what cubes are multiplied by.
    """

    points: MeasuredPoints
    power: torch.Tensor
    window: torch.Tensor

    @property
    def kept(self) -> float:
        """The fraction of the noise's energy that the window lets through."""
        return float(self.window.square().mean())

    @property
    def weight(self) -> torch.Tensor:
        """(p,) what squared differences are multiplied by: multiplicity over power."""
        return self.points.multiplicity / self.power

    def freedom(self, points: MeasuredPoints) -> float:
        """The whitened energy that noise has on average at these points."""
        return float(points.multiplicity.sum()) * self.kept

    def up_to(self, shell: int) -> Noise:
        """The same at the points of this and all lower shells."""
        return Noise(self.points.up_to(shell), self.power[self.points.shell <= shell], self.window)

    def transforms(self, cubes: torch.Tensor) -> torch.Tensor:
        """Transforms (b, p) of windowed cubes (b, n, n, n) at the points."""
        return windowed_transforms(cubes, self.points, self.window)

    @classmethod
    def of(
        cls,
        cubes: Cubes,
        points: MeasuredPoints,
        *,
        measured: torch.Tensor | None = None,
        at_most: int = MAX_CUBES,
    ) -> Noise:
        """Measure the noise in cubes that hold little else.

        Parameters
        ----------
        cubes
            From between the particles; or the particles themselves, whose signal then counts as
            noise.
        points
            Where they were measured.
        measured
            (n, p) bool: where each was measured, if not all were everywhere.
        at_most
            How many cubes are read, spread evenly.
        """
        shape = window(points.n).to(points.k.device)
        rows = np.unique(np.linspace(0, len(cubes) - 1, min(at_most, len(cubes))).astype(int))
        total = torch.zeros(len(points.index), device=points.k.device)
        for first in range(0, len(rows), _BATCH):
            x = windowed_transforms(cubes.read(rows[first : first + _BATCH]), points, shape)
            total += x.abs().square().sum(dim=0)
        if measured is None:
            return cls.from_power(total / len(rows), points, shape)
        counts = measured[rows].sum(dim=0).to(total)
        usual = total.sum() / counts.sum()
        return cls.from_power(
            torch.where(counts > 0, total / counts.clamp_min(1), usual), points, shape
        )

    @classmethod
    def from_power(
        cls, power: torch.Tensor, points: MeasuredPoints, shape: torch.Tensor | None = None
    ) -> Noise:
        """The noise of a mean power (p,) of windowed cubes, smoothed over neighbouring points."""
        shape = window(points.n).to(points.k.device) if shape is None else shape
        smooth = torch.from_numpy(smoothed(points, power.cpu().numpy())).to(power)
        # A point without power would weigh infinitely.
        floor = smooth.max() * 1e-6
        return cls(points, (smooth / shape.square().mean()).clamp_min(floor), shape)

    def sample(self, count: int, *, seed: int) -> torch.Tensor:
        """Cubes (count, n, n, n) of Gaussian noise of this power.

        Parameters
        ----------
        count
            How many.
        seed
            Of the draws.
        """
        n, points = self.points.n, self.points
        generator = torch.Generator().manual_seed(seed)
        amplitude = torch.zeros(n * n * (n // 2 + 1), device=points.k.device)
        amplitude[points.index] = (self.power / n**3).sqrt()
        found = []
        for _ in range(count):
            white = torch.randn(n, n, n, generator=generator).to(points.k.device)
            spectrum = torch.fft.rfftn(white) * amplitude.view(n, n, n // 2 + 1)
            found.append(torch.fft.irfftn(spectrum, s=(n, n, n)).transpose(1, 2))  # (z, y, x)
        return torch.stack(found)


def windowed_transforms(
    cubes: torch.Tensor, points: MeasuredPoints, shape: torch.Tensor
) -> torch.Tensor:
    """Transforms (b, p) at points of cubes (b, n, n, n), less their mean, in a window."""
    cubes = cubes.to(points.k.device)
    mean = (cubes * shape).sum(dim=(1, 2, 3), keepdim=True) / shape.sum()
    return points.transforms((cubes - mean) * shape)


def smoothed(points: MeasuredPoints, values: NDArray[np.float32]) -> NDArray[np.float32]:
    """Values (p,) at measured points, smoothed over those neighbours that were measured too."""
    n = points.n
    index = points.index.cpu().numpy()

    def spread(at_points: NDArray[np.floating]) -> NDArray[np.float64]:
        grid = np.zeros(n * n * (n // 2 + 1))
        grid[index] = at_points
        shifted = np.fft.fftshift(grid.reshape(n, n, n // 2 + 1), axes=(0, 1))
        for axis, mode in ((0, "constant"), (1, "constant"), (2, "mirror")):
            shifted = ndimage.gaussian_filter1d(shifted, SMOOTHING, axis=axis, mode=mode)
        return np.asarray(np.fft.ifftshift(shifted, axes=(0, 1)).reshape(-1)[index])

    return (spread(values) / spread(np.ones(len(index)))).astype(np.float32)
