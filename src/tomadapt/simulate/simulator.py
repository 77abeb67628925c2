"""From templates and an acquisition to subtomograms: the physics, in one batched pass.

template → pose → tilt series (central slices) → CTF · MTF → signal images;
white noise → spectrum of the recorded noise → noise images;
both → direct Fourier inversion → a volume of signal and a volume of unit noise.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.fft import next_fast_len

from tomadapt.acquisition import Acquisition
from tomadapt.errors import ConfigError
from tomadapt.simulate import optics
from tomadapt.simulate.projection import (
    SliceGrid,
    central_slices,
    cropped_images,
    template_transform,
)
from tomadapt.simulate.randomness import draw_noise, draw_poses
from tomadapt.simulate.reconstruction import DirectFourierInversion

NULL_CLASS = "null"
"""The class without a macromolecule: its signal is zero, its noise like everyone's."""


@dataclass(frozen=True)
class TiltImages:
    """Signal and noise of some particles, as half-transforms of their cropped tilt images.

    Attributes
    ----------
    signal, noise
        (b, t, n, n // 2 + 1) complex64, [kx, ky], centre at the phase origin. The signal images
        have variance 1 over the box and all tilts, and so has the noise (in expectation).
    variance_ratio
        (b,) variance of the projections before CTF·MTF over that after: multiply an SNR by it to
        have the SNR against the projections before the CTF. NaN for the NULL class.
    """

    signal: torch.Tensor
    noise: torch.Tensor
    variance_ratio: torch.Tensor


@dataclass(frozen=True)
class SimulatedParticles:
    """Some particles of one class.

    Attributes
    ----------
    signal, noise
        (b, n, n, n) float32, [z, y, x]: a subtomogram at a stated SNR is
        ``signal + noise / sqrt(snr)``.
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
    device
        Where to compute. Random numbers are drawn on the CPU, so every device gives the same
        particles up to rounding.

    Raises
    ------
    ConfigError
        When the templates' boxes differ or are not within 24 … 64 voxels.
    """

    def __init__(
        self,
        templates: Mapping[str, NDArray[np.float32]],
        acquisition: Acquisition,
        *,
        voxel_size_A: float,
        seed: int,
        max_shift_fraction: float = 0.1,
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
        self.tilts = torch.tensor(acquisition.tilt_angles_deg, device=self.device)

        # What a shift and the CTF carry out of the box on one side must not come back on the other;
        # a few pixels more hold the tails of the point-spread function.
        spread = optics.delocalisation_px(acquisition, pixel_size_A=voxel_size_A)
        beyond = int(np.ceil(spread + self.max_shift_voxels))
        self.padded = next_fast_len(self.box + beyond + 2)
        self.grid = SliceGrid.inside_nyquist(self.padded, self.device)
        self.transfer_at_slices = self._transfer(self.padded)[self.grid.rows, self.grid.columns]
        if self.transfer_at_slices.square().mean() < 1e-3:
            raise ConfigError(
                "the acquisition passes no signal: its CTF is zero up to Nyquist",
                expected="a defocus or an amplitude contrast that gives contrast",
                got=f"defocus {acquisition.defocus_um:g} µm, amplitude contrast "
                f"{acquisition.amplitude_contrast:g}",
                remedy="mend defocus_um or amplitude_contrast",
            )
        self.noise_filter = self._noise_filter()
        self.reconstruct = DirectFourierInversion.for_tilts(self.tilts, self.box, self.device)
        self.transforms = {
            name: template_transform(torch.from_numpy(density)).to(self.device)
            for name, density in templates.items()
            if name != NULL_CLASS
        }

    def _transfer(self, n: int) -> torch.Tensor:
        """CTF·MTF on an n × n grid, transposed to [kx, ky], full."""
        ctf = optics.contrast_transfer(self.acquisition, n=n, pixel_size_A=self.voxel_size_A)
        transfer = ctf * optics.modulation_transfer(self.acquisition, n=n)
        return transfer.T.contiguous().to(self.device)

    def _noise_filter(self) -> torch.Tensor:
        amplitude = optics.noise_amplitude(
            self._transfer(self.box), before_ctf=self.acquisition.noise_before_ctf
        )
        return amplitude[:, : self.box // 2 + 1].contiguous()

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
        noise = torch.fft.rfft2(white.to(self.device)) * self.noise_filter
        if class_name == NULL_CLASS:
            return TiltImages(torch.zeros_like(noise), noise, torch.full((b,), torch.nan))
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
        images = cropped_images(padded, n)  # (b, t, n, n), [x, y]
        after = images.square().mean(dim=(1, 2, 3)) - images.mean(dim=(1, 2, 3)).square()  # (b,)
        images.div_(after.sqrt()[:, None, None, None])
        return TiltImages(torch.fft.rfft2(images), noise, (before / after).cpu())

    def slice_variance(self, slices: torch.Tensor) -> torch.Tensor:
        """Variance of the projections over the box, by Parseval's theorem, (b,)."""
        pixels = self.box**2
        # Columns other than ky = 0 stand for two frequencies each.
        multiplicity = torch.where(self.grid.columns == 0, 1.0, 2.0)
        power = (slices.real.square() + slices.imag.square()) @ multiplicity  # (b, t)
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
        return SimulatedParticles(
            signal=self.reconstruct(images.signal),
            noise=self.reconstruct(images.noise),
            rotations=rotations,
            shifts=shifts,
            variance_ratio=images.variance_ratio.numpy(),
        )
