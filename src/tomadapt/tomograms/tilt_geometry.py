"""How each image of a tilt series sees a tomogram: direction, defocus, and what it is weighted by.

The frame is the tomogram's own: the beam runs along z in the untilted image, and the specimen turns
about y, see ``docs/conventions.md``. Images may lie in their plane as they like.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch_ctf import calculate_ctf_2d

from tomadapt.acquisition import Acquisition
from tomadapt.robust import robust_spread
from tomadapt.simulate.optics import frequency_radius
from tomadapt.simulate.radiation import critical_exposure

Doubles = NDArray[np.float64]

MIRROR = np.diag([1.0, 1.0, -1.0])
"""What takes a tomogram's frame to its mirror image."""

_SAME_ANGLE_DEG = 0.01
_ALL_ALIKE_DEG = 10.0


@dataclass(frozen=True, eq=False)
class TiltGeometry:
    """The images of one tilt series.

    Attributes
    ----------
    projections
        (t, 3, 3) rotations from the tomogram (x, y, z) to each image: x, y in its plane, and z
        along the beam.
    defocus_um
        (t,) mean defocus at the tomogram's centre, positive = underfocus.
    astigmatism_um, astigmatism_angle_deg
        (t,) half the difference of the principal defoci (not negative), and the direction of the
        larger one from the image's x axis towards y.
    phase_shift_deg
        (t,) of a phase plate.
    scale
        (t,) factor on the amplitudes of an image's contrast transfer; 0 leaves the image out.
    exposure_e_per_A2
        (t,) electrons/Å² that the specimen had before each image.
    b_factor_A2
        (t,) B of the envelope exp(−B k²/4), k in 1/Å.
    b_factor_per_exposure
        B in Å² for each electron/Å², in place of Grant & Grigorieff's curve; 0 for that curve.
    depth_to_defocus
        By how much defocus grows with the depth along the beam: RELION's handedness, −1 or 1, times
        its slope.
    centre_A
        (3,) x, y, z of the tomogram's centre.
    voltage_kv, spherical_aberration_mm, amplitude_contrast
        Of the microscope.
    """

    projections: Doubles
    defocus_um: Doubles
    astigmatism_um: Doubles
    astigmatism_angle_deg: Doubles
    phase_shift_deg: Doubles
    scale: Doubles
    exposure_e_per_A2: Doubles
    b_factor_A2: Doubles
    b_factor_per_exposure: float
    depth_to_defocus: float
    centre_A: Doubles
    voltage_kv: float
    spherical_aberration_mm: float
    amplitude_contrast: float

    def __len__(self) -> int:
        """Give the number of images."""
        return len(self.projections)

    @property
    def tilt_angles_deg(self) -> Doubles:
        """(t,) by how much the specimen was turned about +y in each image, in (−180, 180]."""
        beam = self.projections[:, 2]
        return np.asarray(np.rad2deg(np.arctan2(-beam[:, 0], beam[:, 2])))

    @property
    def tilt_axis(self) -> Doubles:
        """(3,) x, y, z of the direction nearest to all images' planes, y not negative.

        It is y where the images lie in directions that are too much alike to have an axis.
        """
        beam = self.projections[:, 2]
        middle = beam.mean(axis=0)
        spread = np.rad2deg(np.arccos(np.clip(beam @ middle / np.linalg.norm(middle), -1, 1)))
        if not np.isfinite(spread).all() or spread.max() < _ALL_ALIKE_DEG:
            return np.array([0.0, 1.0, 0.0])
        axis: Doubles = np.linalg.svd(beam)[2][2]
        return axis if axis[1] >= 0 else -axis

    @property
    def tilt_axis_off_y_deg(self) -> float:
        """The angle between the tilt axis and the tomogram's y axis."""
        return float(np.rad2deg(np.arccos(np.clip(self.tilt_axis[1], -1, 1))))

    @property
    def tilt_axis_scatter_deg(self) -> float:
        """How far the tilt axis's direction in the images strays from its median.

        The standard deviation, estimated from the median absolute deviation, of the images in use.
        One direction should hold for a whole series: where images were aligned one by one, noise
        turns them.
        """
        seen = self.projections[self.scale > 0][:, :2, 1] @ np.array([1, 1j])
        if not len(seen):
            return 0.0
        # About the mean direction, so that none lies near ±180°.
        degrees = np.rad2deg(np.angle(seen * np.conj(seen.mean())))
        return robust_spread(degrees)[1]

    def mirrored(self) -> TiltGeometry:
        """The same images of the mirror image (z to −z) of the tomogram about its centre.

        What each image sees along its beam changes sign with it, and so the meaning of depth.
        """
        projections = self.projections @ MIRROR
        projections[:, 2] *= -1  # x × y: a mirror image turns the other way
        return replace(self, projections=projections, depth_to_defocus=-self.depth_to_defocus)

    def amplitudes(self, n: int, pixel_size_A: float, position_A: Doubles) -> Doubles:
        r"""What a particle's projections were multiplied by: CTF, exposure, envelope and scale.

        RELION's ``SubtomoProgram::processTomograms`` and WarpTools' ``ReconstructParticleSeries``
        multiply images by it once, and images have it already from the microscope, so that the
        projection P of a density is stored as :math:`c^2 P`. Both take Grant & Grigorieff 2015,
        Eq. 3, as for 300 kV at every voltage.

        Parameters
        ----------
        n
            Side of the images.
        pixel_size_A
            Of the images.
        position_A
            (3,) x, y, z of the particle in the tomogram.

        Returns
        -------
        ndarray
            (t, n, n) float64, indexed [ky, kx], unshifted, density positive at low frequencies.
        """
        depth_A = self.projections[:, 2] @ (np.asarray(position_A) - self.centre_A)
        ctf: torch.Tensor = calculate_ctf_2d(
            defocus=torch.from_numpy(self.defocus_um + self.depth_to_defocus * depth_A * 1e-4),
            astigmatism=torch.from_numpy(self.astigmatism_um),
            astigmatism_angle=torch.from_numpy(self.astigmatism_angle_deg),
            voltage=self.voltage_kv,
            spherical_aberration=self.spherical_aberration_mm,
            amplitude_contrast=self.amplitude_contrast,
            phase_shift=torch.from_numpy(self.phase_shift_deg),
            pixel_size=pixel_size_A,
            image_shape=(n, n),
            rfft=False,
            fftshift=False,
        )
        k = frequency_radius(n) / pixel_size_A
        return np.asarray(ctf.double().numpy() * self._decay(k))

    def _decay(self, k: torch.Tensor) -> Doubles:
        """(t, n, n) scale, exposure and envelope."""
        square = k.square().numpy()
        exponent = -self.b_factor_A2[:, None, None] / 4 * square
        exposure = self.exposure_e_per_A2[:, None, None]
        if self.b_factor_per_exposure > 0:
            exponent = exponent - self.b_factor_per_exposure * exposure / 4 * square
        else:
            critical = critical_exposure(k, voltage_kv=300.0).numpy()  # infinite at k = 0
            exponent = exponent - exposure / (2 * critical)
        return np.asarray(self.scale[:, None, None] * np.exp(exponent))

    def acquisition(self, name: str, images: NDArray[np.bool_]) -> Acquisition:
        """How the series was recorded, for a simulation.

        Images at angles that are alike to 0.01° are taken for one.

        Parameters
        ----------
        name
            What reports call it.
        images
            (t,) which of the images were used.

        Raises
        ------
        ValueError
            When there are fewer than three angles, or they do not lie between −90° and 90°.
        """
        angles = self.tilt_angles_deg[images]
        exposure = self.exposure_e_per_A2[images]
        order = np.argsort(angles)
        new = np.concatenate([[True], np.diff(angles[order]) > _SAME_ANGLE_DEG])
        angles, exposure = angles[order][new], exposure[order][new]
        recorded = np.sort(exposure)
        steps = np.diff(recorded)
        known = len(steps) > 0 and bool((steps > 0).all())
        # Leaving images out leaves gaps: the median step is that of one image.
        options: dict[str, Any] = {
            "exposure_per_tilt_e_per_A2": round(float(np.median(steps)), 4),
            "exposure_order": tuple(angles[np.argsort(exposure)].tolist()),
        }
        return Acquisition(
            name=name,
            voltage_kv=self.voltage_kv,
            spherical_aberration_mm=self.spherical_aberration_mm,
            defocus_um=float(self.defocus_um[images].mean()),
            amplitude_contrast=self.amplitude_contrast,
            tilt_angles_deg=tuple(angles.tolist()),
            **(options if known else {}),
        )
