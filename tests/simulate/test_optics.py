"""CTF, MTF and noise spectrum against closed forms."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from forward_model import ctf, radius, wavelength_A
from scipy.optimize import brentq

from tomadapt.acquisition import BATCH_A, BATCH_B, Acquisition
from tomadapt.simulate import optics
from tomadapt.simulate.selfcheck import ctf_zeros

TYPICAL = Acquisition(
    defocus_um=2.5, spherical_aberration_mm=2.7, amplitude_contrast=0.1, voltage_kv=200
)
OVERFOCUS = Acquisition(defocus_um=-3.0, spherical_aberration_mm=0, amplitude_contrast=0.0)
ACQUISITIONS = [BATCH_A, BATCH_B, TYPICAL, OVERFOCUS]


@pytest.mark.parametrize(("kv", "textbook"), [(100, 0.03701), (200, 0.02508), (300, 0.01969)])
def test_wavelength(kv: float, textbook: float) -> None:
    assert optics.electron_wavelength_A(kv) == pytest.approx(textbook, abs=6e-6)
    assert optics.electron_wavelength_A(kv) == pytest.approx(wavelength_A(kv), rel=1e-4)


@pytest.mark.parametrize("n", [64, 65])
@pytest.mark.parametrize("acquisition", ACQUISITIONS)
def test_ctf_is_the_textbook_formula(acquisition: Acquisition, n: int) -> None:
    pixel_A = 4.0
    got = optics.contrast_transfer(acquisition, n=n, pixel_size_A=pixel_A)
    assert got.dtype == torch.float32
    # The wavelength enters a phase of some 60 radians: 1e-4 of it shows in the last digits.
    np.testing.assert_allclose(got.numpy(), ctf(acquisition, radius(n) / pixel_A), atol=5e-3)


@pytest.mark.parametrize("acquisition", ACQUISITIONS)
def test_zeros_of_the_ctf(acquisition: Acquisition) -> None:
    pixel_A, n = 4.0, 1024
    highest = 0.5 / pixel_A
    closed = ctf_zeros(acquisition, highest=highest)

    k = np.linspace(1e-4, highest, 20001)
    sign = np.signbit(ctf(acquisition, k))
    own = [
        brentq(lambda q: float(ctf(acquisition, np.array(q))), k[i], k[i + 1])
        for i in np.flatnonzero(sign[1:] != sign[:-1])
    ]
    assert len(own) >= 8
    np.testing.assert_allclose(closed, own, rtol=2e-4)

    row = optics.contrast_transfer(acquisition, n=n, pixel_size_A=pixel_A)[0, 1 : n // 2].numpy()
    before = np.flatnonzero(np.signbit(row[1:]) != np.signbit(row[:-1]))
    crossing = 1 + before + row[before] / (row[before] - row[before + 1])
    seen = closed[closed < (n // 2 - 1) / n / pixel_A]
    np.testing.assert_allclose(crossing / n / pixel_A, seen, atol=0.2 / n / pixel_A)


@pytest.mark.parametrize("n", [40, 41])
@pytest.mark.parametrize("acquisition", [BATCH_A, BATCH_B, TYPICAL])
def test_underfocused_density_is_positive_at_low_frequencies(
    acquisition: Acquisition, n: int
) -> None:
    k = radius(n) / 9.2
    got = optics.contrast_transfer(acquisition, n=n, pixel_size_A=9.2).numpy()
    first_zero = ctf_zeros(acquisition, highest=0.5 / 9.2)[0]
    low = (k > 0) & (k < 0.95 * first_zero)
    assert low.sum() >= 8
    assert (got[low] > 0).all()
    assert got[0, 0] == pytest.approx(acquisition.amplitude_contrast, abs=1e-6)
    assert optics.contrast_transfer(OVERFOCUS, n=n, pixel_size_A=9.2)[0, 1] < 0


@pytest.mark.parametrize("n", [64, 65])
@pytest.mark.parametrize(("angle", "along_y", "along_x"), [(0, 4, 6), (90, 6, 4), (45, 5, 5)])
def test_astigmatism_lies_along_x_at_angle_0(
    n: int, angle: float, along_y: float, along_x: float
) -> None:
    # torch-ctf's own documentation says y; what it computes, like CTFFIND and RELION, is x.
    acquisition = Acquisition(
        defocus_um=5, astigmatism_um=1, astigmatism_angle_deg=angle, amplitude_contrast=0.07
    )
    got = optics.contrast_transfer(acquisition, n=n, pixel_size_A=9.2).numpy()
    k = radius(n)[0] / 9.2
    np.testing.assert_allclose(got[:, 0], ctf(acquisition, k, defocus_um=along_y), atol=2e-3)
    np.testing.assert_allclose(got[0, :], ctf(acquisition, k, defocus_um=along_x), atol=2e-3)
    assert np.abs(ctf(acquisition, k, defocus_um=6) - ctf(acquisition, k, defocus_um=4)).max() > 0.5


def test_astigmatism_turns_from_x_towards_y() -> None:
    acquisition = Acquisition(defocus_um=5, astigmatism_um=1, astigmatism_angle_deg=45)
    got = optics.contrast_transfer(acquisition, n=65, pixel_size_A=9.2).numpy()
    i = np.arange(1, 30)
    k = radius(65)[i, i] / 9.2
    np.testing.assert_allclose(got[i, i], ctf(acquisition, k, defocus_um=6), atol=2e-3)
    np.testing.assert_allclose(got[i, -i], ctf(acquisition, k, defocus_um=4), atol=2e-3)


def test_sinc_mtf_at_zero_and_at_nyquist() -> None:
    mtf = optics.modulation_transfer(BATCH_A, n=40)
    assert mtf[0, 0] == 1
    assert mtf[0, 20] == pytest.approx(2 / np.pi, abs=1e-6)
    assert mtf[20, 0] == pytest.approx(2 / np.pi, abs=1e-6)
    assert mtf[0, 10] == pytest.approx(np.sin(np.pi / 4) / (np.pi / 4), abs=1e-6)


@pytest.mark.parametrize("n", [40, 41])
def test_mtf_none_and_tabulated(n: int) -> None:
    none = Acquisition(defocus_um=5, mtf="none")
    assert (optics.modulation_transfer(none, n=n) == 1).all()
    table = Acquisition(defocus_um=5, mtf=((0.0, 1.0), (0.5, 0.8), (1.0, 0.2)))
    got = optics.modulation_transfer(table, n=n)
    assert got.dtype == torch.float32
    omega = 2 * radius(n)
    below = np.where(omega < 0.5, 1 - 0.4 * omega, 0.8 - 1.2 * (omega - 0.5))
    np.testing.assert_allclose(got, np.where(omega > 1, 0.2, below), atol=1e-6)


@pytest.mark.parametrize("n", [40, 41])
@pytest.mark.parametrize("before", [0.0, 0.3, 1.0])
def test_noise_has_unit_mean_square_and_the_stated_spectrum(n: int, before: float) -> None:
    transfer = optics.contrast_transfer(BATCH_B, n=n, pixel_size_A=9.2)
    amplitude = optics.noise_amplitude(transfer, before_ctf=before)
    assert amplitude.square().mean() == pytest.approx(1, abs=1e-5)
    if before == 0:
        assert (amplitude == 1).all()
    elif before == 1:
        rms = transfer.square().mean().sqrt()
        torch.testing.assert_close(amplitude, transfer.abs() / rms, rtol=1e-4, atol=1e-5)
    else:  # what is left where the CTF is zero is the part that entered after it
        assert amplitude.min() == pytest.approx((1 - before) ** 0.5, abs=5e-3)


def test_delocalisation() -> None:
    assert 11 < optics.delocalisation_px(BATCH_B, pixel_size_A=9.2) < 12
    expected = wavelength_A(300) * 5e4 * 0.5 / 9.2 / 9.2  # Cs is negligible here
    assert optics.delocalisation_px(BATCH_A, pixel_size_A=9.2) == pytest.approx(expected, rel=0.02)
    over = BATCH_A.model_copy(update={"defocus_um": -5.0})
    astigmatic = BATCH_A.model_copy(update={"astigmatism_um": -1.0})
    assert optics.delocalisation_px(over, pixel_size_A=9.2) == pytest.approx(expected, rel=0.02)
    assert optics.delocalisation_px(astigmatic, pixel_size_A=9.2) == pytest.approx(
        1.2 * expected, rel=0.02
    )


def test_delocalisation_may_peak_inside_the_band() -> None:
    # Near focus at high resolution Cs turns the phase round: the peak is where λΔf = 3 Cs λ³ k².
    fine = Acquisition(defocus_um=0.5, spherical_aberration_mm=2.7)
    wavelength = wavelength_A(300)
    k = np.linspace(0, 0.5, 100001)
    exact = np.abs(wavelength * 5e3 * k - 2.7e7 * wavelength**3 * k**3).max()
    assert optics.delocalisation_px(fine, pixel_size_A=1.0) == pytest.approx(exact, rel=1e-3)


@pytest.mark.parametrize("n", [128, 129])
@pytest.mark.parametrize("acquisition", ACQUISITIONS)
def test_the_curve_is_the_image_along_a_line(acquisition: Acquisition, n: int) -> None:
    pixel_A = 4.0
    k = radius(n) / pixel_A
    image = optics.contrast_transfer(acquisition, n=n, pixel_size_A=pixel_A).numpy()
    curve = optics.contrast_transfer_curve(acquisition, k[0])
    assert curve.shape == (n,)
    assert np.abs(curve).max() > 0.9
    np.testing.assert_allclose(curve, image[0], atol=5e-3)
    # Any shape; without astigmatism all directions are alike.
    np.testing.assert_allclose(optics.contrast_transfer_curve(acquisition, k), image, atol=5e-3)


@pytest.mark.parametrize("amplitude_contrast", [0.0, 0.07, 1.0])
def test_the_curve_begins_with_the_amplitude_contrast(amplitude_contrast: float) -> None:
    under = Acquisition(defocus_um=4.0, amplitude_contrast=amplitude_contrast)
    at_zero = optics.contrast_transfer_curve(under, np.zeros(1))
    assert at_zero == pytest.approx(amplitude_contrast)


def test_the_curve_leaves_astigmatism_out() -> None:
    astigmatic = TYPICAL.model_copy(update={"astigmatism_um": 1.0})
    k = np.linspace(0, 0.1, 50)
    np.testing.assert_array_equal(
        optics.contrast_transfer_curve(astigmatic, k), optics.contrast_transfer_curve(TYPICAL, k)
    )
