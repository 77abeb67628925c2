"""Effects that depend on the tilt: attenuation by exposure, and noise that grows with thickness."""

from __future__ import annotations

import torch

from tomadapt.acquisition import Acquisition
from tomadapt.simulate import optics
from tomadapt.simulate.projection import SliceGrid

REST_ENERGY_KEV = 510.999


def accumulated_exposure(acquisition: Acquisition) -> torch.Tensor:
    """Accumulated exposure of the specimen in the middle of each tilt image.

    The attenuation in the middle of an image's exposure is, to second order, the mean over it. A
    dose-symmetric series runs outwards from the smallest angle, with the positive angle of a pair
    first (Hagen et al. 2017, J. Struct. Biol. 197, 191, without their groups).

    Returns
    -------
    Tensor
        (t,) float64 electrons/Å², in the order of ``tilt_angles_deg``.
    """
    angles = acquisition.tilt_angles_deg
    if acquisition.exposure_order == "dose_symmetric":
        recorded = sorted(range(len(angles)), key=lambda i: (abs(angles[i]), angles[i] < 0))
    else:
        order = torch.tensor(acquisition.exposure_order, dtype=torch.float64)
        # Angles are matched by rank, since their digits may differ slightly.
        recorded = order.argsort().argsort().tolist()
    exposure = torch.empty(len(angles), dtype=torch.float64)
    exposure[recorded] = torch.arange(len(angles), dtype=torch.float64) + 0.5
    return exposure * acquisition.exposure_per_tilt_e_per_A2


def critical_exposure(k: torch.Tensor, *, voltage_kv: float) -> torch.Tensor:
    r"""Exposure after which the intensity at a frequency has fallen to 1/e.

    .. math:: N_c(k) = 0.24499\,k^{-1.6649} + 2.8141

    at 300 kV (Grant & Grigorieff 2015, eLife 4, e06980, Eq. 3). At other voltages it is
    proportional to the squared velocity of the electrons, since the energy that an electron
    deposits is inversely proportional to it. For 200 kV this gives the paper's factor 0.8.

    Parameters
    ----------
    k
        Frequencies in 1/Å, any shape; infinite exposure at 0.
    voltage_kv
        Acceleration voltage in kV.

    Returns
    -------
    Tensor
        Electrons/Å², float64, of the same shape.
    """
    speed2 = _squared_speed(voltage_kv) / _squared_speed(300.0)
    return speed2 * (0.24499 * k.double().pow(-1.6649) + 2.8141)


def _squared_speed(voltage_kv: float) -> float:
    """(v/c)² of an electron after this acceleration."""
    return 1 - (1 + voltage_kv / REST_ENERGY_KEV) ** -2


def exposure_attenuation(acquisition: Acquisition, k: torch.Tensor) -> torch.Tensor:
    """Attenuation of amplitudes by exposure: exp(−N / 2 N_c(k)) (Grant & Grigorieff 2015, Eq. 4).

    Parameters
    ----------
    acquisition
        Exposure per tilt, order and voltage.
    k
        Frequencies in 1/Å, (p,).

    Returns
    -------
    Tensor
        (t, p) float32; exactly 1 without exposure and at k = 0.
    """
    critical = critical_exposure(k, voltage_kv=acquisition.voltage_kv)
    exposure = accumulated_exposure(acquisition)
    return torch.exp(-exposure[:, None] / (2 * critical.cpu())).to(k)


def tilt_transfer(
    acquisition: Acquisition, grid: SliceGrid, *, pixel_size_A: float
) -> torch.Tensor:
    """Transfer function of each tilt image: CTF, envelope, MTF and attenuation by exposure.

    Parameters
    ----------
    acquisition
        Optics, detector, tilts and exposure.
    grid
        Where to sample it.
    pixel_size_A
        Pixel size in Å.

    Returns
    -------
    Tensor
        (t, p) float32 on the grid's device.
    """
    transfer = optics.signal_transfer(acquisition, n=grid.n, pixel_size_A=pixel_size_A)
    at_points = transfer.T.to(grid.kx)[grid.rows, grid.columns]
    k = torch.hypot(grid.kx, grid.ky) / pixel_size_A
    return at_points * exposure_attenuation(acquisition, k)


def relative_noise_variance(acquisition: Acquisition) -> torch.Tensor:
    r"""Variance of the noise in each tilt image, divided by its mean over all tilts.

    A fraction :math:`e^{-t / (Λ \cos α)}` of the electrons passes a slab of thickness t, tilted by
    α, without losing energy (Λ is the inelastic mean free path). In images that are scaled to equal
    means, the variance of shot noise is proportional to the inverse,
    :math:`e^{t / (Λ \cos α)}`: at 60° it is :math:`e^{t / Λ}` times that of the untilted image.

    Returns
    -------
    Tensor
        (t,) float64 with mean 1; exactly 1 without thickness.
    """
    cosines = torch.deg2rad(torch.tensor(acquisition.tilt_angles_deg, dtype=torch.float64)).cos()
    # Relative to the untilted image: the common factor cancels, and would only cost digits.
    growth = torch.exp(acquisition.thickness_in_mean_free_paths * (1 / cosines - 1))
    return growth / growth.mean()
