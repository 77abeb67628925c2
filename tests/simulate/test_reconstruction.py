"""Direct Fourier inversion of tilt images that are known exactly."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from forward_model import half_transforms, poses, projections
from numpy.typing import NDArray

from tomadapt.acquisition import Acquisition, tilt_range
from tomadapt.fsc import fourier_shell_correlation
from tomadapt.simulate.phantom import GaussianPhantom
from tomadapt.simulate.reconstruction import DirectFourierInversion

SYMMETRIC = Acquisition(defocus_um=5)
LOPSIDED = Acquisition(defocus_um=5, tilt_angles_deg=tilt_range(-50, 70, 3))


def operator(n: int, acquisition: Acquisition = SYMMETRIC) -> DirectFourierInversion:
    return DirectFourierInversion.for_tilts(torch.tensor(acquisition.tilt_angles_deg), n)


def reconstructed(
    phantom: GaussianPhantom, n: int, acquisition: Acquisition = SYMMETRIC
) -> NDArray[np.float32]:
    """From exact projections: no part of the package but the operator."""
    slices = half_transforms(projections(phantom, acquisition, n))[None]
    return np.asarray(operator(n, acquisition)(slices)[0].numpy())


def random_slices(n: int, seed: int, acquisition: Acquisition = SYMMETRIC) -> torch.Tensor:
    """Half-transforms of white images: every frequency is lit."""
    tilts = len(acquisition.tilt_angles_deg)
    white = torch.randn(2, tilts, n, n, generator=torch.Generator().manual_seed(seed))
    return torch.fft.rfft2(white)


def direction_deg(n: int) -> NDArray[np.float64]:
    """Angle of (kz, kx) from the kx axis in (−90, 90], on the unshifted grid [kz, kx]."""
    k = np.fft.fftfreq(n, 1 / n)
    angle = np.rad2deg(np.arctan2(k[:, None], k[None, :]))
    return np.asarray((angle + 90) % 180 - 90)


@pytest.mark.parametrize("n", [24, 25])
def test_linear(n: int) -> None:
    invert, a, b = operator(n), random_slices(n, 0), random_slices(n, 1)
    together = invert(2 * a - 0.5 * b)
    torch.testing.assert_close(together, 2 * invert(a) - 0.5 * invert(b), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("n", [24, 25])
@pytest.mark.parametrize("acquisition", [SYMMETRIC, LOPSIDED])
def test_weights_of_a_measured_voxel_sum_to_one(n: int, acquisition: Acquisition) -> None:
    invert = operator(n, acquisition)
    weights = invert.matrix.to_dense()
    sums = weights.sum(dim=1).view(n, n)
    measured = invert.measured
    torch.testing.assert_close(sums[measured], torch.ones(int(measured.sum())))
    assert (sums[~measured] == 0).all()
    assert (weights >= 0).all()
    assert 0.5 < measured.float().mean() < 0.95  # 120° of 180°, of the square


@pytest.mark.parametrize("n", [24, 25, 32, 33])
def test_clean_images_give_back_the_particle(n: int) -> None:
    phantom = GaussianPhantom.random(7, radius=0.2 * n, sigma=1.25)
    rotations, shifts = poses(2, seed=n)
    reach = np.abs(np.fft.fftfreq(n, 1 / n)) <= (n - 1) // 2
    measured = operator(n).measured.numpy()[:, None, :] & reach[None, :, None]
    for rotation, shift in zip(rotations, shifts, strict=True):
        posed = phantom.posed(rotation, shift)
        volume, truth = reconstructed(posed, n), posed.density(n)
        curve = fourier_shell_correlation(volume, truth, measured=measured)
        assert curve[1 : int(0.4 * n)].min() >= 0.95
        mirrored = truth[:, :, ::-1] if n % 2 else np.roll(truth[:, :, ::-1], 1, axis=2)
        wrong = fourier_shell_correlation(volume, mirrored, measured=measured)
        assert wrong[1 : int(0.4 * n)].min() < 0.5


@pytest.mark.parametrize("n", [32, 33])
@pytest.mark.parametrize("acquisition", [SYMMETRIC, LOPSIDED])
def test_the_missing_wedge_is_empty_and_on_its_side(n: int, acquisition: Acquisition) -> None:
    """A tilt of θ records the direction (cos θ, sin θ) of (kx, kz)."""
    volume = operator(n, acquisition)(random_slices(n, 2, acquisition)).numpy()
    power = (np.abs(np.fft.fftn(volume, axes=(1, 2, 3))) ** 2).sum(axis=(0, 2))  # [kz, kx]
    k = np.fft.fftfreq(n, 1 / n)
    radius = np.hypot(k[:, None], k[None, :])
    inside_band = (radius > 4) & (radius < n // 2 - 2)
    angle = direction_deg(n)
    first, last = acquisition.tilt_angles_deg[0], acquisition.tilt_angles_deg[-1]
    margin = np.rad2deg(1.5 / np.maximum(radius, 1))
    outside = (angle > last + margin) | (angle < first - margin)
    recorded = (angle < last - margin) & (angle > first + margin)
    assert (outside & inside_band).sum() > 40
    assert power[outside].sum() < 1e-6 * power.sum()
    assert power[recorded & inside_band].min() > 1e-4 * power.max()


@pytest.mark.parametrize("n", [32, 33])
def test_a_lopsided_range_loses_the_other_side(n: int) -> None:
    """From exact projections at −50° … 70°: truth comes back at +60° and not at −60°."""
    posed = GaussianPhantom.random(7, radius=6, sigma=1.25).posed(np.eye(3), np.array([1.0, 0, 2]))
    found = np.fft.fftn(reconstructed(posed, n, LOPSIDED)).swapaxes(1, 2)  # [kz, kx, ky]
    truth = np.fft.fftn(posed.density(n)).swapaxes(1, 2)
    k = np.fft.fftfreq(n, 1 / n)
    radius = np.hypot(k[:, None], k[None, :])
    angle = direction_deg(n)

    def overlap(around: float) -> float:
        there = (np.abs(angle - around) < 3.5) & (radius > 4) & (radius < 10)
        assert there.sum() >= 8
        projection = np.vdot(truth[there], found[there]) / np.vdot(truth[there], truth[there])
        return float(projection.real) / n**0.5

    assert overlap(60) == pytest.approx(1, abs=0.15)
    assert overlap(-60) == pytest.approx(0, abs=1e-3)


@pytest.mark.parametrize("n", [24, 25])
@pytest.mark.parametrize("place", [(0, 0, 0), (3, -2, 4), (-5, 1, -3)])
def test_a_point_stays_where_it_is(n: int, place: tuple[int, int, int]) -> None:
    point = GaussianPhantom(np.array([place], dtype=float), 1.0)
    volume = reconstructed(point, n)
    assert volume.dtype == np.float32
    assert volume.shape == (n, n, n)
    x, y, z = place
    brightest = np.unravel_index(volume.argmax(), volume.shape)
    assert brightest == (n // 2 + z, n // 2 + y, n // 2 + x)


@pytest.mark.parametrize("n", [24, 25])
def test_each_particle_of_a_batch_is_reconstructed_alone(n: int) -> None:
    invert, slices = operator(n), random_slices(n, 3)
    both = invert(slices)
    torch.testing.assert_close(both[1:], invert(slices[1:]), rtol=1e-5, atol=1e-5)
    assert not torch.allclose(both[0], both[1], atol=0.1)


@pytest.mark.parametrize("n", [24, 25])
def test_unit_noise_comes_out_of_order_one(n: int) -> None:
    assert 0.3 < float(operator(n)(random_slices(n, 4)).std()) < 3
