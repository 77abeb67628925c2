"""Tilt images of a specimen of many particles, with noise.

The projections of each particle (central slices) are pasted into periodic images of the whole
specimen, which are then filtered by CTF, envelope, MTF and exposure. White noise gets the spectrum
of the recorded noise, and grows with tilt. To save memory, only the projections of all tilts are
stored; images are filtered one at a time.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.fft import next_fast_len

from tomadapt.simulate import optics
from tomadapt.simulate.projection import SliceGrid, central_slices
from tomadapt.simulate.radiation import tilt_transfer
from tomadapt.simulate.randomness import draw_noise
from tomadapt.simulate.reconstruction import SlabInversion
from tomadapt.simulate.simulator import Simulator, noise_filter

KEY = "tomogram"
"""Class name in the keys of random draws, so that a set of the same seed has other poses and noise
(unless one of its classes has this name)."""


@dataclass(frozen=True)
class TiltSeries:
    """Tilt images of all particles, and their noise.

    All particles have the same defocus, whatever their height.

    Attributes
    ----------
    projections
        (t, n, n) float32, [x, y], periodic, the specimen's centre at index 0.
    grid, transfer
        The images' frequencies, and their transfer (t, p).
    noise_filter
        (t, n, n // 2 + 1), see :func:`~tomadapt.simulate.simulator.noise_filter`.
    seed
        Seed of the noise.
    """

    projections: torch.Tensor
    grid: SliceGrid
    transfer: torch.Tensor
    noise_filter: torch.Tensor
    seed: int

    def signal(self, tilt: int) -> torch.Tensor:
        """Half-transform (n, n // 2 + 1) of one tilt's recorded signal, [kx, ky]."""
        transform: torch.Tensor = torch.fft.rfft2(self.projections[tilt])
        return transform.mul_(self.grid.scatter(self.transfer[tilt]))

    def noise(self, tilt: int) -> torch.Tensor:
        """Half-transform of one tilt's noise, of variance 1 as a mean over the tilts.

        It is keyed by the seed and the tilt's index, and does not depend on the particles.
        """
        n = self.grid.n
        white = draw_noise(self.seed, KEY, [tilt], shape=(n, n))[0]
        transform: torch.Tensor = torch.fft.rfft2(white.to(self.noise_filter.device))
        return transform.mul_(self.noise_filter[tilt])


def image_particles(
    simulator: Simulator,
    class_names: Sequence[str],
    positions: NDArray[np.floating],
    rotations: NDArray[np.floating],
    *,
    shape_zyx: tuple[int, int, int],
    progress: Callable[[int], None] = lambda _: None,
) -> tuple[TiltSeries, NDArray[np.float64]]:
    """Tilt images of particles in a slab.

    Parameters
    ----------
    simulator
        Templates, acquisition and seed. Its shifts and neighbours are not used.
    class_names
        n names of templates.
    positions
        (n, 3) voxels from the slab's centre, voxel n // 2 along each axis, (x, y, z). The images
        are wide enough for particles that lie inside.
    rotations
        (n, 3, 3), acting on (x, y, z).
    shape_zyx
        Voxels of the slab.
    progress
        Called with 1 after each particle.

    Returns
    -------
    series
        The images.
    variances
        (n,) variance of each particle's own recorded signal over its box and all tilts.

    Raises
    ------
    ConfigError
        When there is no template of a class.
    """
    tilts, device = simulator.tilts, simulator.device
    n = _image_side(simulator, shape_zyx)
    images = torch.zeros(len(tilts), n, n, device=device)
    centred = np.zeros((1, 3), np.float32)
    variances = np.empty(len(class_names))
    for row, name in enumerate(class_names):
        pose = rotations[row : row + 1].astype(np.float32)
        _, _, variance = simulator.signal_images(name, pose, centred)
        variances[row] = float(variance)
        position = torch.from_numpy(positions[row].astype(np.float32)).to(device)
        slices = central_slices(
            simulator.transforms[name],
            torch.from_numpy(pose).to(device),
            position[None],
            tilts,
            simulator.grid,
        )
        patches = torch.fft.irfft2(simulator.grid.scatter(slices[0]), s=(simulator.padded,) * 2)
        paste_projections(images, patches, position, tilts)
        progress(1)
    acquisition, pixel_size_A = simulator.acquisition, simulator.voxel_size_A
    grid = SliceGrid.inside_nyquist(n, device)
    series = TiltSeries(
        images,
        grid,
        tilt_transfer(acquisition, grid, pixel_size_A=pixel_size_A),
        noise_filter(acquisition, n=n, pixel_size_A=pixel_size_A).to(device),
        simulator.seed,
    )
    return series, variances


def _image_side(simulator: Simulator, shape_zyx: tuple[int, int, int]) -> int:
    """Side of periodic images in which nothing is wrapped around to the other side of the slab.

    The margin is twice the CTF's delocalisation, and a box for the spread of the reconstruction's
    filter. Images three times as wide change a tomogram by 0.1 % (tested).
    """
    spread = optics.delocalisation_px(simulator.acquisition, pixel_size_A=simulator.voxel_size_A)
    widest = max(2 * SlabInversion.reach_of(simulator.tilts, shape_zyx), shape_zyx[1])
    return int(next_fast_len(math.ceil(widest + 2 * spread) + simulator.box))


def paste_projections(
    images: torch.Tensor, patches: torch.Tensor, position: torch.Tensor, tilts_deg: torch.Tensor
) -> None:
    """Add the projections of a particle to tilt images, at its position in each image.

    Parameters
    ----------
    images
        (t, n, n) periodic images [x, y], centre at index 0; changed.
    patches
        (t, m, m) periodic images of the particle alone, m < n. The particle is shifted by its full
        position, including fractions of a pixel, and wrapped around: pixel x of the large image is
        pixel x modulo m here.
    position
        (3,) in voxels from the centre, (x, y, z).
    tilts_deg
        (t,) degrees.
    """
    n, m = images.shape[-1], patches.shape[-1]
    theta = torch.deg2rad(tilts_deg)
    x = position[0] * theta.cos() + position[2] * theta.sin()
    span = torch.arange(m, device=images.device) - m // 2
    rows = x.round().long()[:, None] + span  # (t, m)
    columns = position[1].round().long() + span
    tilt = torch.arange(len(theta), device=images.device)[:, None, None]
    seen = patches[tilt, rows[:, :, None] % m, columns % m]
    images[tilt, rows[:, :, None] % n, columns % n] += seen
