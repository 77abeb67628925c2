"""Transfer functions of microscope and detector: CTF, envelope, MTF, and the spectrum of noise.

All functions return real-valued transfer functions on the full, unshifted FFT grid of an
``n`` × ``n`` image, indexed ``[ky, kx]``.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch_ctf import calculate_ctf_2d, calculate_relativistic_electron_wavelength

from tomadapt.acquisition import Acquisition


def electron_wavelength_A(voltage_kv: float) -> float:
    """Relativistic electron wavelength in Å (0.0197 Å at 300 kV)."""
    # torch-ctf takes volts here, and kilovolts in calculate_ctf_2d.
    return float(calculate_relativistic_electron_wavelength(voltage_kv * 1e3)) * 1e10


def frequency_radius(n: int) -> torch.Tensor:
    """|k| in cycles per pixel on the unshifted FFT grid, shape (n, n)."""
    f = torch.fft.fftfreq(n, dtype=torch.float64)
    return torch.hypot(f[:, None], f[None, :])


def contrast_transfer(acquisition: Acquisition, *, n: int, pixel_size_A: float) -> torch.Tensor:
    r"""Contrast transfer function with density positive at low frequencies.

    .. math:: \mathrm{CTF}(k) = \sin\left(π λ Δf k² - \tfrac{π}{2} C_s λ³ k⁴ + \arcsin A\right)

    for defocus :math:`Δf > 0` (underfocus): minus the textbook CTF, in which underfocused protein
    is dark (Frank 2006, section 3.3). Astigmatism makes :math:`Δf` depend on direction.

    Parameters
    ----------
    acquisition
        Voltage, aberrations and defocus.
    n
        Side of the image in pixels.
    pixel_size_A
        Pixel size in Å.

    Returns
    -------
    Tensor
        (n, n) float32, indexed [ky, kx], unshifted.
    """
    ctf: torch.Tensor = calculate_ctf_2d(
        defocus=torch.tensor(acquisition.defocus_um, dtype=torch.float64),
        astigmatism=acquisition.astigmatism_um,
        astigmatism_angle=acquisition.astigmatism_angle_deg,
        voltage=acquisition.voltage_kv,
        spherical_aberration=acquisition.spherical_aberration_mm,
        amplitude_contrast=acquisition.amplitude_contrast,
        phase_shift=0.0,
        pixel_size=pixel_size_A,
        image_shape=(n, n),
        rfft=False,
        fftshift=False,
    )
    return ctf.to(torch.float32)


def contrast_transfer_curve(
    acquisition: Acquisition, k: NDArray[np.float64]
) -> NDArray[np.float64]:
    """:func:`contrast_transfer` at frequencies in 1/Å, without astigmatism.

    Parameters
    ----------
    acquisition
        Voltage, aberrations and defocus.
    k
        Any shape, 1/Å.
    """
    wavelength = electron_wavelength_A(acquisition.voltage_kv)
    by_defocus = np.pi * wavelength * acquisition.defocus_um * 1e4 * k**2
    by_aberration = np.pi / 2 * acquisition.spherical_aberration_mm * 1e7 * wavelength**3 * k**4
    shift = math.asin(acquisition.amplitude_contrast)
    return np.asarray(np.sin(by_defocus - by_aberration + shift))


def modulation_transfer(acquisition: Acquisition, *, n: int) -> torch.Tensor:
    """Detector's modulation transfer function.

    ``"sinc"`` is sinc(πω/2) = sin(πω/2)/(πω/2), ω the fraction of Nyquist (McMullan et al. 2009
    as used by Lin et al. 2019, section 3.1): 1 at the origin, 2/π at Nyquist.

    Returns
    -------
    Tensor
        (n, n) float32, indexed [ky, kx], unshifted.
    """
    omega = frequency_radius(n) / 0.5
    if acquisition.mtf == "none":
        return torch.ones(n, n)
    if acquisition.mtf == "sinc":
        return torch.sinc(omega / 2).to(torch.float32)  # torch.sinc(x) = sin(πx)/(πx)
    fractions, transfer = zip(*acquisition.mtf, strict=True)
    values = np.interp(omega.numpy(), fractions, transfer)
    return torch.from_numpy(values).to(torch.float32)


def envelope(acquisition: Acquisition, *, n: int, pixel_size_A: float) -> torch.Tensor:
    """Decay of amplitudes exp(−B k²/4), k in 1/Å, by a B-factor in Å² (Rosenthal & Henderson 2003).

    It models motion, changes of defocus and partial coherence together.

    Returns
    -------
    Tensor
        (n, n) float32, indexed [ky, kx], unshifted; exactly 1 for B = 0.
    """
    k = frequency_radius(n) / pixel_size_A
    return torch.exp(-acquisition.b_factor_A2 / 4 * k.square()).to(torch.float32)


def signal_transfer(acquisition: Acquisition, *, n: int, pixel_size_A: float) -> torch.Tensor:
    """Transfer function of a projection without radiation damage: CTF · envelope · MTF.

    Returns
    -------
    Tensor
        (n, n) float32, indexed [ky, kx], unshifted.
    """
    before_detector = contrast_transfer(acquisition, n=n, pixel_size_A=pixel_size_A)
    before_detector = before_detector * envelope(acquisition, n=n, pixel_size_A=pixel_size_A)
    return before_detector * modulation_transfer(acquisition, n=n)


def noise_amplitude(transfer: torch.Tensor, *, before_ctf: float) -> torch.Tensor:
    """Amplitude filter that gives white noise the spectrum of noise in the recorded images.

    A fraction ``before_ctf`` of the images' noise variance enters before CTF, envelope and MTF and
    is filtered by them; the rest enters after them and is white. Both parts are Gaussian, so their
    sum is Gaussian noise with the summed spectrum, and needs only one draw.

    Parameters
    ----------
    transfer
        From :func:`signal_transfer`, shape (n, n).
    before_ctf
        Fraction in [0, 1] of the variance in the images.

    Returns
    -------
    Tensor
        (n, n), with mean square 1: filtered unit white noise has variance 1.
    """
    power = transfer.double().square()
    coloured = power / power.mean()
    return (before_ctf * coloured + (1 - before_ctf)).sqrt().to(torch.float32)


def delocalisation_px(acquisition: Acquisition, *, pixel_size_A: float) -> float:
    """Largest distance, in pixels, over which the CTF delocalises signal.

    The displacement at frequency k is |∇χ|/2π = |λ Δf k − Cs λ³ k³| (Frank 2006); its maximum is
    taken over 0 … Nyquist.
    """
    wavelength = electron_wavelength_A(acquisition.voltage_kv)
    defocus_A = (abs(acquisition.defocus_um) + abs(acquisition.astigmatism_um)) * 1e4
    defocus_A = math.copysign(defocus_A, acquisition.defocus_um)
    k = torch.linspace(0, 0.5 / pixel_size_A, 257, dtype=torch.float64)
    cs_A = acquisition.spherical_aberration_mm * 1e7
    displacement = (wavelength * defocus_A * k - cs_A * wavelength**3 * k**3).abs()
    return float(displacement.max()) / pixel_size_A
