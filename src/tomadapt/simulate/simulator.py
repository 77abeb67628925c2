"""From templates and an acquisition to subtomograms, for batches of particles.

template → pose → tilt series (central slices) → CTF · envelope · MTF · exposure → signal images;
white noise → spectrum of the recorded noise, growth with tilt → noise images;
both → direct Fourier inversion → a volume of signal and a volume of unit noise;
neighbours are imaged like the signal and added to its volume.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import copy
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.fft import next_fast_len

from tomadapt.acquisition import Acquisition
from tomadapt.errors import ConfigError
from tomadapt.simulate import optics
from tomadapt.simulate.crowding import Crowd
from tomadapt.simulate.projection import (
    SliceGrid,
    central_slices,
    cropped_images,
    template_transform,
)
from tomadapt.simulate.radiation import relative_noise_variance, tilt_transfer
from tomadapt.simulate.randomness import draw_noise, draw_poses
from tomadapt.simulate.reconstruction import DirectFourierInversion

NULL_CLASS = "null"
"""The class without a macromolecule. Its signal consists of neighbours alone, if there are any; its
noise is that of all classes."""

TYPICAL_POSES = 8
"""Poses over which a template's typical scale is averaged."""

MAX_MALLOC_THRESHOLD_BYTES = 31 * 2**20
"""glibc adapts its thresholds to freed arrays of up to 32 MiB: the largest size that it follows."""


@dataclass(frozen=True)
class TiltImages:
    """Signal and noise of particles, as half-transforms of their cropped tilt images.

    Attributes
    ----------
    signal, noise
        (b, t, n, n // 2 + 1) complex64, [kx, ky], centre at the phase origin. The signal images
        have variance 1 over the box and all tilts, and so has the noise (in expectation).
    variance_ratio
        (b,) variance of the projections before CTF and MTF over that after them. An SNR multiplied
        by it is the SNR of the projections before the CTF. NaN for the NULL class.
    scale
        (b,) factor of the densities that gives the signal variance 1. NaN for the NULL class.
    """

    signal: torch.Tensor
    noise: torch.Tensor
    variance_ratio: torch.Tensor
    scale: torch.Tensor


@dataclass(frozen=True)
class SimulatedParticles:
    """Simulated particles of one class.

    Attributes
    ----------
    signal, noise
        (b, n, n, n) float32, [z, y, x]: a subtomogram at a stated SNR is
        ``signal + noise / sqrt(snr)``. The signal includes the neighbours', multiplied by the
        particle's scale; the SNR is that of the particle without them.
    rotations
        (b, 3, 3), acting on (x, y, z).
    shifts
        (b, 3) voxels, (x, y, z).
    variance_ratio
        (b,) see :class:`TiltImages`.
    """

    signal: torch.Tensor
    noise: torch.Tensor
    rotations: NDArray[np.float32]
    shifts: NDArray[np.float32]
    variance_ratio: NDArray[np.float32]


def noise_filter(acquisition: Acquisition, *, n: int, pixel_size_A: float) -> torch.Tensor:
    """Amplitude filter that turns white noise into that of the recorded tilt images.

    Parameters
    ----------
    acquisition
        Optics, tilts, and the parameters of the noise.
    n
        Side of the images in pixels.
    pixel_size_A
        Pixel size in Å.

    Returns
    -------
    Tensor
        (t, n, n // 2 + 1) float32, [kx, ky]. Filtered white noise of variance 1 has variance 1, as
        a mean over the tilts.
    """
    transfer = optics.signal_transfer(acquisition, n=n, pixel_size_A=pixel_size_A)
    amplitude = optics.noise_amplitude(
        transfer.T.contiguous(), before_ctf=acquisition.noise_before_ctf
    )
    growth = relative_noise_variance(acquisition).sqrt().float()
    return growth[:, None, None] * amplitude[:, : n // 2 + 1]


def keep_freed_memory() -> None:
    """Let the C library keep the memory of freed arrays for the next ones.

    glibc returns free memory beyond a threshold to the system, and page faults then take about a
    tenth of a simulation's time. The threshold is twice the largest array that was ever freed
    (mallopt(3), M_MMAP_THRESHOLD and M_TRIM_THRESHOLD). Freeing one large array raises it; the
    array need not be written to.
    """
    torch.empty(MAX_MALLOC_THRESHOLD_BYTES, dtype=torch.uint8)


class Simulator:
    """Simulates subtomograms of given templates under one acquisition.

    Parameters
    ----------
    templates
        Class name → density (d, d, d), [z, y, x], centred on voxel d // 2. ``null`` needs none.
    acquisition
        Optics, detector, tilts.
    voxel_size_A
        Voxel size of the templates and of the subtomograms, in Å.
    seed
        Non-negative; see :mod:`tomadapt.simulate.randomness`.
    max_shift_fraction
        Largest shift along each axis as a fraction of the box.
    neighbours
        Number of other macromolecules that reach into each box, see
        :func:`tomadapt.simulate.crowding.place_neighbours`.
    even_noise
        Whether to compensate that the reconstruction attenuates noise and signal towards the box's
        faces, which does not happen in a cube cut out of a tomogram.
    device
        Where to compute. Random numbers are drawn on the CPU, so every device gives the same
        particles up to rounding.

    Raises
    ------
    ConfigError
        When the templates' boxes differ or are not within 24 … 64 voxels, or the acquisition
        passes no signal.
    """

    def __init__(
        self,
        templates: Mapping[str, NDArray[np.float32]],
        acquisition: Acquisition,
        *,
        voxel_size_A: float,
        seed: int,
        max_shift_fraction: float = 0.1,
        neighbours: int = 0,
        even_noise: bool = False,
        device: torch.device | str = "cpu",
    ) -> None:
        boxes = {density.shape for density in templates.values()}
        if len(boxes) != 1 or len(set(next(iter(boxes)))) != 1:
            raise ConfigError(
                "templates of one simulation must be cubes of one box",
                got=sorted(boxes),
                remedy="make them with one box and one voxel size",
            )
        self.box = int(next(iter(boxes))[0])
        if not 24 <= self.box <= 64:
            raise ConfigError(
                "box out of range",
                expected="24 to 64 voxels",
                got=self.box,
                remedy="choose another box or voxel size",
            )
        self.acquisition = acquisition
        self.voxel_size_A = voxel_size_A
        self.seed = seed
        self.max_shift_voxels = max_shift_fraction * self.box
        self.device = torch.device(device)
        keep_freed_memory()
        self.tilts = torch.tensor(acquisition.tilt_angles_deg, device=self.device)

        # Signal that a shift and the CTF move out of the box must not be wrapped around to the
        # other side; two more pixels hold the tails of the point-spread function.
        spread = optics.delocalisation_px(acquisition, pixel_size_A=voxel_size_A)
        beyond = int(np.ceil(spread + self.max_shift_voxels))
        self.padded = next_fast_len(self.box + beyond + 2)
        self.grid = SliceGrid.inside_nyquist(self.padded, self.device)
        self.transfer_at_slices = tilt_transfer(
            acquisition, self.grid, pixel_size_A=voxel_size_A
        )  # (t, p)
        if self.transfer_at_slices.square().mean() < 1e-3:
            raise ConfigError(
                "the acquisition passes no signal: its CTF, envelope or exposure leave none",
                expected="a defocus or an amplitude contrast that gives contrast, little damage",
                got=f"defocus {acquisition.defocus_um:g} µm, amplitude contrast "
                f"{acquisition.amplitude_contrast:g}, B {acquisition.b_factor_A2:g} Å², "
                f"{acquisition.exposure_per_tilt_e_per_A2:g} e/Å² a tilt",
                remedy="mend defocus_um or amplitude_contrast, or lower the others",
            )
        self.noise_filter = noise_filter(acquisition, n=self.box, pixel_size_A=voxel_size_A).to(
            self.device
        )
        self.reconstruct = DirectFourierInversion.for_tilts(self.tilts, self.box, self.device)
        self.flattening: torch.Tensor | None = None  # (n, 1, n), [z, y, x]
        if even_noise:
            self.flattening = (
                self.reconstruct.noise_amplitude()[:, None].reciprocal().to(self.device)
            )
        self.transforms = self._transforms(templates)
        self.crowd = self._crowd(templates, neighbours) if neighbours else None

    def _crowd(
        self, templates: Mapping[str, NDArray[np.float32]], count: int
    ) -> tuple[Crowd, torch.Tensor]:
        """The neighbours' window, and the typical scale of each template, (m,)."""
        crowd = Crowd.around(
            {name: templates[name] for name in self.transforms},
            self.acquisition,
            count=count,
            voxel_size_A=self.voxel_size_A,
            max_shift_voxels=self.max_shift_voxels,
            device=self.device,
        )
        centred = np.zeros((TYPICAL_POSES, 3), np.float32)
        typical = []
        for name in crowd.names:
            some = range(TYPICAL_POSES)
            rotations, _ = draw_poses(self.seed, name, some, max_shift_voxels=0)
            typical.append(self.tilt_images(name, some, rotations, centred).scale.mean())
        return crowd, torch.stack(typical)

    def with_further(self, templates: Mapping[str, NDArray[np.float32]]) -> Simulator:
        """The same simulator with more classes, which are nobody's neighbours.

        Around a particle of theirs the median radius of the neighbours' classes is kept free.

        Parameters
        ----------
        templates
            Class name → density of the same box.

        Raises
        ------
        ConfigError
            When their box is another one.
        """
        other = copy(self)
        for name, density in templates.items():
            if density.shape != (self.box,) * 3:
                raise ConfigError(
                    f"the template of {name} has another box",
                    expected=f"{self.box} voxels",
                    got=density.shape,
                )
        other.transforms = self.transforms | self._transforms(templates)
        return other

    def _transforms(self, templates: Mapping[str, NDArray[np.float32]]) -> dict[str, torch.Tensor]:
        return {
            name: template_transform(torch.from_numpy(density)).to(self.device)
            for name, density in templates.items()
            if name != NULL_CLASS
        }

    def tilt_images(
        self,
        class_name: str,
        indices: Sequence[int],
        rotations: NDArray[np.float32],
        shifts: NDArray[np.float32],
    ) -> TiltImages:
        """Signal and noise images of given poses; see :class:`TiltImages`.

        Raises
        ------
        ConfigError
            When there is no template of that class.
        """
        b, t, n = len(indices), len(self.tilts), self.box
        white = draw_noise(self.seed, class_name, indices, shape=(t, n, n))
        noise = torch.fft.rfft2(white.to(self.device)).mul_(self.noise_filter)
        if class_name == NULL_CLASS:
            unknown = torch.full((b,), torch.nan)
            return TiltImages(torch.zeros_like(noise), noise, unknown, unknown)
        images, before, after = self.signal_images(class_name, rotations, shifts)
        images.div_(after.sqrt()[:, None, None, None])
        return TiltImages(
            torch.fft.rfft2(images), noise, (before / after).cpu(), after.rsqrt().cpu()
        )

    def signal_images(
        self, class_name: str, rotations: NDArray[np.float32], shifts: NDArray[np.float32]
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Recorded tilt images of given poses, in the unit of the templates, without noise.

        Returns
        -------
        images
            (b, t, n, n) float32, [x, y], the box's centre at index 0.
        before, after
            (b,) variances over the box and all tilts, of the projections and of the images.

        Raises
        ------
        ConfigError
            When there is no template of that class.
        """
        if class_name not in self.transforms:
            raise ConfigError(
                f"unknown class {class_name!r}",
                expected=f"one of {', '.join([*self.transforms, NULL_CLASS])}",
                remedy="add its template",
            )
        slices = central_slices(
            self.transforms[class_name],
            torch.from_numpy(rotations).to(self.device),
            torch.from_numpy(shifts).to(self.device),
            self.tilts,
            self.grid,
        )  # (b, t, p)
        before = self.slice_variance(slices)
        padded = self.grid.scatter(slices * self.transfer_at_slices)
        images = cropped_images(padded, self.box)  # (b, t, n, n), [x, y]
        after = images.square().mean(dim=(1, 2, 3)) - images.mean(dim=(1, 2, 3)).square()  # (b,)
        return images, before, after

    def slice_variance(self, slices: torch.Tensor) -> torch.Tensor:
        """Variance of the projections over the box, by Parseval's theorem, (b,)."""
        pixels = self.box**2
        # Columns other than ky = 0 stand for two frequencies each.
        multiplicity = torch.where(self.grid.columns == 0, 1.0, 2.0)
        squares = torch.view_as_real(slices).square()  # (b, t, p, 2)
        power = squares[..., 0].add(squares[..., 1]) @ multiplicity  # (b, t)
        mean_square = power.mean(dim=1) / self.padded**2 / pixels
        mean = slices[:, :, 0].real.mean(dim=1) / pixels  # point 0 is the zero frequency
        variance: torch.Tensor = mean_square - mean.square()
        return variance

    def particles(self, class_name: str, indices: Sequence[int]) -> SimulatedParticles:
        """Simulate particles of a class by their indices.

        Parameters
        ----------
        class_name
            One of the templates' names, or ``null``.
        indices
            Non-negative indices within the class.
        """
        rotations, shifts = draw_poses(
            self.seed, class_name, indices, max_shift_voxels=self.max_shift_voxels
        )
        images = self.tilt_images(class_name, indices, rotations, shifts)
        signal, noise = self.reconstruct(images.signal), self.reconstruct(images.noise)
        if self.flattening is not None:
            signal, noise = signal.mul_(self.flattening), noise.mul_(self.flattening)
        if self.crowd is not None:
            crowd, typical = self.crowd
            placed = crowd.place(self.seed, class_name, indices, shifts)
            scale = images.scale[:, None].expand(placed.templates.shape)
            if class_name == NULL_CLASS:  # it has no own signal that gives a scale
                scale = typical[torch.from_numpy(placed.templates)]
            signal += crowd.volumes(placed, self.transforms, self.tilts, scale=scale)
        return SimulatedParticles(
            signal=signal,
            noise=noise,
            rotations=rotations,
            shifts=shifts,
            variance_ratio=images.variance_ratio.numpy(),
        )
