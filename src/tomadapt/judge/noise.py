"""The noise of particles: its power at each measured point, and the window applied to cubes.

The noise of a tomogram depends on direction as well as on frequency (weighted back-projection,
wedge). So its power is not averaged over shells, but measured at each point of Fourier space and
smoothed over the neighbouring points.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage

from tomadapt.data.subtomograms import Indices
from tomadapt.judge.rows import batches, evenly_spaced
from tomadapt.recover.fourier import MeasuredPoints
from tomadapt.robust import MAD_TO_SIGMA

EDGE_VOXELS = 4.0
SMOOTHING_SIGMA_VOXELS = 1.0
"""σ of the smoothing of the power, in Fourier voxels: an estimate from few cubes is rough."""
MAX_CUBES = 400
OUTLIER_SIGMAS = 3.0
"""A cube whose power in a shell is so far above the median of all cubes is no noise alone."""
_BATCH = 32


def window(n: int) -> torch.Tensor:
    """A ball that fills the box, with a soft edge: the corners hold neighbours only.

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
    """Cubes of particles that are read by position."""

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
        (p,) expected |x|² of noise that fills the whole box; windowed noise has the fraction
        ``kept`` of it.
    window
        (n, n, n), multiplies the cubes.
    """

    points: MeasuredPoints
    power: torch.Tensor
    window: torch.Tensor

    @property
    def kept(self) -> float:
        """The fraction of the noise's energy that the window keeps."""
        return float(self.window.square().mean())

    @property
    def weight(self) -> torch.Tensor:
        """(p,) weight of squared differences: multiplicity over power."""
        return self.points.multiplicity / self.power

    def freedom(self, points: MeasuredPoints) -> float:
        """Degrees of freedom: the mean whitened energy of noise at these points."""
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
        measured: Callable[[NDArray[np.integer]], torch.Tensor] | None = None,
        at_most: int = MAX_CUBES,
    ) -> Noise:
        """Measure the noise in cubes that hold little signal.

        Parameters
        ----------
        cubes
            Cubes from between the particles, or the particles themselves; their signal then counts
            as noise (see :func:`~tomadapt.judge.particles.particle_noise`).
        points
            Where they were measured.
        measured
            Gives (m, p) bool for some cubes: the points where each was measured; all of them when
            None.
        at_most
            Largest number of cubes that are read, evenly spaced.
        """
        shape = window(points.n).to(points.k.device)
        rows = evenly_spaced(len(cubes), at_most)
        power = torch.cat(
            [
                windowed_transforms(cubes.read(some), points, shape).abs().square()
                for some in batches(rows, _BATCH)
            ]
        )  # (n, p)
        if measured is None:
            return cls.from_power(usual_power(power, points), points, shape)
        total = power.sum(dim=0)
        counts = measured(rows).sum(dim=0).to(total)
        usual = total.sum() / counts.sum()
        return cls.from_power(
            torch.where(counts > 0, total / counts.clamp_min(1), usual), points, shape
        )

    @classmethod
    def from_power(
        cls, power: torch.Tensor, points: MeasuredPoints, shape: torch.Tensor | None = None
    ) -> Noise:
        """The noise from the mean power (p,) of windowed cubes, which is smoothed over points."""
        shape = window(points.n).to(points.k.device) if shape is None else shape
        smooth = torch.from_numpy(smoothed(points, power.cpu().numpy())).to(power)
        # The floor bounds the weight 1 / power of a point that holds next to no power.
        floor = smooth.max() * 1e-6
        return cls(points, (smooth / shape.square().mean()).clamp_min(floor), shape)

    def sample(self, count: int, *, seed: int) -> torch.Tensor:
        """Cubes (count, n, n, n) of Gaussian noise of this power.

        Parameters
        ----------
        count
            Number of cubes.
        seed
            Seed of the draws.
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


def usual_power(power: torch.Tensor, points: MeasuredPoints) -> torch.Tensor:
    """The mean power of cubes, without the influence of those that are far stronger than usual.

    Gold, ice and membranes in a few cubes would raise the mean many times. So a cube whose mean
    power in a shell is an outlier is scaled down to the median of all cubes. Cubes that differ in
    their noise are not outliers, as the spread is measured in them.

    Parameters
    ----------
    power
        |x|² (n, p) of all cubes.
    points
        Where the cubes were measured.

    Returns
    -------
    Tensor
        (p,) mean of |x|².

    Notes
    -----
    The mean of a few squares has a skewed distribution; its cube root is close to normal (Wilson
    and Hilferty, PNAS 1931). Median and spread are of cube roots. The spread is the median absolute
    deviation, and at least that of as many independent squares as the shell has points.
    """
    weight = points.multiplicity
    shells = torch.zeros(int(points.shell.max()) + 1, device=power.device)
    n_points = shells.index_add(0, points.shell, torch.ones_like(weight))
    total = shells.index_add(0, points.shell, weight)
    sums = power.new_zeros(len(power), len(shells))
    means = sums.index_add(1, points.shell, power * weight) / total.clamp_min(1)  # (n, shells)
    roots = means.pow(1 / 3)
    middle = roots.quantile(0.5, dim=0)
    spread = MAD_TO_SIGMA * (roots - middle).abs().quantile(0.5, dim=0)
    least = middle / (3 * n_points.clamp_min(1).sqrt())
    outlying = roots > middle + OUTLIER_SIGMAS * torch.maximum(spread, least)
    scale = torch.where(outlying, middle.pow(3) / means.clamp_min(1e-30), 1.0)
    scaled = [
        (power[some] * scale[some][:, points.shell]).sum(dim=0)
        for some in batches(len(power), _BATCH)
    ]
    return torch.stack(scaled).sum(dim=0) / len(power)


def windowed_transforms(
    cubes: torch.Tensor, points: MeasuredPoints, shape: torch.Tensor
) -> torch.Tensor:
    """Transforms (b, p) at the points of cubes (b, n, n, n), less their mean and windowed."""
    cubes = cubes.to(points.k.device)
    mean = (cubes * shape).sum(dim=(1, 2, 3), keepdim=True) / shape.sum()
    return points.transforms((cubes - mean) * shape)


def smoothed(points: MeasuredPoints, values: NDArray[np.float32]) -> NDArray[np.float32]:
    """Values (p,) at measured points, smoothed over neighbouring measured points.

    The smoothed values are divided by the smoothed indicator of measured points, so unmeasured
    neighbours have no influence.
    """
    n = points.n
    index = points.index.cpu().numpy()

    def spread(at_points: NDArray[np.floating]) -> NDArray[np.float64]:
        grid = np.zeros(n * n * (n // 2 + 1))
        grid[index] = at_points
        shifted = np.fft.fftshift(grid.reshape(n, n, n // 2 + 1), axes=(0, 1))
        for axis, mode in ((0, "constant"), (1, "constant"), (2, "mirror")):
            shifted = ndimage.gaussian_filter1d(
                shifted, SMOOTHING_SIGMA_VOXELS, axis=axis, mode=mode
            )
        return np.asarray(np.fft.ifftshift(shifted, axes=(0, 1)).reshape(-1)[index])

    return (spread(values) / spread(np.ones(len(index)))).astype(np.float32)
