"""Image formation written down a second time, plainly and slowly: what the simulator must give.

Nothing here uses the package's optics, projections or reconstruction; projections are exact line
integrals of Gaussians, filtered on a grid three times as wide as the box.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from tomadapt.acquisition import Acquisition
from tomadapt.simulate.phantom import GaussianPhantom

Array = NDArray[np.float64]

VOXEL_A = 9.2


def wavelength_A(voltage_kv: float) -> float:
    """h / √(2 m e V (1 + eV / 2mc²)), CODATA 2018."""
    h, m, e, c = 6.62607015e-34, 9.1093837015e-31, 1.602176634e-19, 299792458.0
    volts = voltage_kv * 1e3
    return 1e10 * h / float(np.sqrt(2 * m * e * volts * (1 + e * volts / (2 * m * c**2))))


def ctf(acquisition: Acquisition, k: Array, *, defocus_um: float | None = None) -> Array:
    """CTF at k (1/Å), density positive; ``defocus_um`` replaces the acquisition's."""
    wavelength = wavelength_A(acquisition.voltage_kv)
    defocus_A = 1e4 * (acquisition.defocus_um if defocus_um is None else defocus_um)
    cs_A = 1e7 * acquisition.spherical_aberration_mm
    chi = np.pi * wavelength * defocus_A * k**2 - 0.5 * np.pi * cs_A * wavelength**3 * k**4
    return np.asarray(np.sin(chi + np.arcsin(acquisition.amplitude_contrast)))


def radius(n: int) -> Array:
    f = np.fft.fftfreq(n)
    return np.asarray(np.hypot(f[:, None], f[None, :]))


def projections(phantom: GaussianPhantom, acquisition: Acquisition, n: int) -> NDArray[np.floating]:
    return np.stack([phantom.projection(n, angle) for angle in acquisition.tilt_angles_deg])


def recorded(
    phantom: GaussianPhantom, acquisition: Acquisition, n: int, *, wide: int | None = None
) -> Array:
    """(t, n, n) images with CTF and sinc MTF, before any scaling."""
    wide = 3 * n if wide is None else wide
    k = radius(wide)
    transfer = ctf(acquisition, k / VOXEL_A)
    if acquisition.mtf == "sinc":
        transfer = transfer * np.sinc(k)  # sin(π ω / 2) / (π ω / 2) with ω = 2 k
    exact = np.fft.ifftshift(projections(phantom, acquisition, wide), axes=(1, 2))
    filtered = np.fft.ifft2(np.fft.fft2(exact) * transfer).real
    first = wide // 2 - n // 2
    centred = np.fft.fftshift(filtered, axes=(1, 2))
    return np.asarray(centred[:, first : first + n, first : first + n])


def half_transforms(images: NDArray[np.floating]) -> torch.Tensor:
    """Images (..., n, n) [y, x], centred on n // 2 → complex (..., n, n // 2 + 1) [kx, ky]."""
    stored = np.fft.ifftshift(images, axes=(-2, -1)).swapaxes(-2, -1)
    return torch.fft.rfft2(torch.from_numpy(np.ascontiguousarray(stored)).float())


def images_of(transforms: torch.Tensor) -> NDArray[np.float32]:
    """The inverse of :func:`half_transforms`."""
    n = transforms.shape[-2]
    stored = torch.fft.irfft2(transforms, s=(n, n)).numpy()
    return np.asarray(np.fft.fftshift(stored, axes=(-2, -1)).swapaxes(-2, -1))


def poses(count: int, *, seed: int = 0, reach: float = 2.0) -> tuple[NDArray, NDArray]:
    rng = np.random.default_rng(seed)
    rotations = Rotation.from_quat(rng.normal(size=(count, 4))).as_matrix()
    return rotations.astype(np.float32), rng.uniform(-reach, reach, (count, 3)).astype(np.float32)


def about_y(degrees: float) -> Array:
    c, s = np.cos(np.deg2rad(degrees)), np.sin(np.deg2rad(degrees))
    return np.array([[c, 0, s], [0, 1, 0], [-s, 0, c]])


def error(found: NDArray[np.floating], expected: NDArray[np.floating]) -> float:
    return float(np.linalg.norm(found - expected) / np.linalg.norm(expected))


def correlation(a: NDArray[np.floating], b: NDArray[np.floating]) -> float:
    return float(np.corrcoef(np.ravel(a), np.ravel(b))[0, 1])
