"""The Fourier points where a subtomogram was measured, its transfer there, and its noise power.

All of these are arrays over the points of one half of Fourier space that the tilts reached. The
constrained correlation (Förster et al. 2008, J. Struct. Biol. 161, 276; Xu et al. 2012, J. Struct.
Biol. 178, 152) compares two volumes at such points alone.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from tomadapt.acquisition import Acquisition
from tomadapt.data.subtomograms import Subtomograms
from tomadapt.simulate.projection import SliceGrid
from tomadapt.simulate.radiation import tilt_transfer
from tomadapt.simulate.reconstruction import DirectFourierInversion


@dataclass(frozen=True)
class MeasuredPoints:
    """The points of Fourier space that one acquisition measured, in one half of it.

    Attributes
    ----------
    n
        Side of the subtomograms in voxels.
    index
        (p,) into an (n, n, n // 2 + 1) half-transform indexed [kz, kx, ky].
    k
        (p, 3) frequencies in cycles per voxel, (x, y, z).
    shell
        (p,) int64: their radius in Fourier voxels, rounded.
    multiplicity
        (p,) float32: 2 for points that stand for themselves and their opposite, 1 at ky = 0, where
        both are stored.
    transfer
        (p,) float32: what the specimen's transform was multiplied by (CTF, envelope, MTF,
        exposure).
    recording
        The acquisition of the points, for records; empty for the points of a map.
    """

    n: int
    index: torch.Tensor
    k: torch.Tensor
    shell: torch.Tensor
    multiplicity: torch.Tensor
    transfer: torch.Tensor
    recording: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        acquisition: Acquisition,
        *,
        n: int,
        voxel_size_A: float,
        ctf_corrected: bool = False,
        device: torch.device | str = "cpu",
    ) -> MeasuredPoints:
        """The points of an acquisition with its tilt axis along y, below Nyquist, without zero.

        Parameters
        ----------
        acquisition
            Tilts, optics and exposure.
        n, voxel_size_A
            Side of the subtomograms in voxels; Å.
        ctf_corrected
            Whether the transfer was divided out already or is not known: it is then 1 wherever a
            tilt reached.
        device
            Where to keep them.
        """
        operator = DirectFourierInversion.for_tilts(torch.tensor(acquisition.tilt_angles_deg), n)
        transfer = torch.ones(n, n, n // 2 + 1)
        if not ctf_corrected:
            grid = SliceGrid.inside_nyquist(n)
            images = grid.scatter(tilt_transfer(acquisition, grid, pixel_size_A=voxel_size_A))
            transfer = (operator.matrix @ images.flatten(0, 1)).view_as(transfer)
        points = cls._below_nyquist(n, operator.measured[:, :, None], transfer, device)
        recording = {"ctf_applied": not ctf_corrected, **acquisition.model_dump(mode="json")}
        return replace(points, recording=recording)

    @classmethod
    def everywhere(cls, n: int) -> MeasuredPoints:
        """All points below Nyquist, with a transfer of 1: those of a map without a wedge."""
        shape = n, n, n // 2 + 1
        return cls._below_nyquist(n, torch.ones(shape, dtype=torch.bool), torch.ones(shape), "cpu")

    @classmethod
    def of_transfer(
        cls, transfer: NDArray[np.float32], device: torch.device | str = "cpu"
    ) -> MeasuredPoints:
        """The points below Nyquist where a transfer is not 0.

        Parameters
        ----------
        transfer
            (n, n, n // 2 + 1), [kz, ky, kx ≥ 0], unshifted, the same at k and −k.
        device
            Where to keep them.
        """
        by_y = _half_by_y(transfer)
        return cls._below_nyquist(len(transfer), by_y != 0, by_y, device)

    def values_of(self, transfer: NDArray[np.float32]) -> torch.Tensor:
        """The values (p,) float32 at the points of a transfer as for :meth:`of_transfer`."""
        return _half_by_y(transfer).flatten().to(self.k.device)[self.index]

    @classmethod
    def _below_nyquist(
        cls, n: int, measured: torch.Tensor, transfer: torch.Tensor, device: torch.device | str
    ) -> MeasuredPoints:
        f = torch.fft.fftfreq(n, 1 / n)
        half = torch.arange(n // 2 + 1.0)
        radius = (f[:, None, None] ** 2 + f[:, None] ** 2 + half**2).sqrt()  # [kz, kx, ky]
        inside = (radius.round() < n // 2) & (radius > 0) & measured
        kz, kx, ky = inside.nonzero(as_tuple=True)
        return cls(
            n,
            ((kz * n + kx) * (n // 2 + 1) + ky).to(device),
            (torch.stack([f[kx], half[ky], f[kz]], dim=1) / n).to(device),
            radius[inside].round().long().to(device),
            torch.where(ky == 0, 1.0, 2.0).to(device),
            transfer[inside].to(device),
        )

    def up_to(self, shell: int) -> MeasuredPoints:
        """The points of this and all lower shells."""
        keep = self.shell <= shell
        names = ("index", "k", "shell", "multiplicity", "transfer")
        return replace(self, **{name: getattr(self, name)[keep] for name in names})

    def transforms(self, volumes: torch.Tensor) -> torch.Tensor:
        """Transforms of (b, n, n, n) volumes at the points: (b, p) complex64, phases about n//2."""
        centred = torch.fft.ifftshift(volumes.transpose(2, 3), dim=(1, 2, 3))  # (b, z, x, y)
        at_points: torch.Tensor = torch.fft.rfftn(centred, dim=(1, 2, 3)).flatten(1)[:, self.index]
        return at_points

    def volumes(self, transforms: torch.Tensor) -> torch.Tensor:
        """Volumes (b, n, n, n) of transforms (b, p), which are 0 elsewhere."""
        n = self.n
        spectrum = transforms.new_zeros(len(transforms), n * n * (n // 2 + 1))
        spectrum[:, self.index] = transforms
        spectrum = spectrum.view(-1, n, n, n // 2 + 1)
        real = torch.fft.irfftn(spectrum, s=(n, n, n), dim=(1, 2, 3))
        centred: torch.Tensor = torch.fft.fftshift(real, dim=(1, 2, 3))  # (b, z, x, y)
        return centred.transpose(2, 3)

    def phases(self, shifts: torch.Tensor) -> torch.Tensor:
        """Phase factors (..., p) of an object that is moved by (..., 3) voxels."""
        angle = -2 * torch.pi * (shifts @ self.k.T)
        return torch.polar(torch.ones_like(angle), angle)


def _half_by_y(half: NDArray[np.float32]) -> torch.Tensor:
    """Half of an even function of k, [kz, ky, kx ≥ 0], as its other half [kz, kx, ky ≥ 0]."""
    n, positive = len(half), torch.from_numpy(half)
    opposite = (-torch.arange(n)) % n
    negative = positive[:, :, 1 : (n + 1) // 2].flip(2)[opposite][:, opposite]
    full = torch.cat([positive, negative], dim=2)
    return full.transpose(1, 2)[:, :, : n // 2 + 1].contiguous()


def shell_power(data: Subtomograms, points: MeasuredPoints, *, at_most: int = 500) -> torch.Tensor:
    """Mean power of particles in shells, where they were measured.

    At the SNRs of tomograms this is close to the noise's power in all but the lowest shells.
    Dividing by it whitens the particles: every shell then has the same weight.

    Parameters
    ----------
    data
        Particles.
    points
        Where they were measured.
    at_most
        How many of them are read, the first ones.

    Returns
    -------
    Tensor
        (n // 2,) float32, positive; 1 where a shell has no point.
    """
    count = torch.zeros(points.n // 2, device=points.k.device)
    count.index_add_(0, points.shell, points.multiplicity)
    total, n_read = torch.zeros_like(count), min(len(data), at_most)
    for first in range(0, n_read, 32):
        cubes = data.read(range(first, min(first + 32, n_read))).to(points.k.device)
        power = points.transforms(cubes).abs().square().sum(dim=0) * points.multiplicity
        total.index_add_(0, points.shell, power)
    mean = total / count.clamp_min(1) / n_read
    # The floor bounds the weight 1 / power of a shell that holds next to no power.
    floor = mean.max() * 1e-6
    return torch.where(count > 0, mean.clamp_min(floor), torch.ones_like(mean))
