"""Reconstruction of boxes and of slabs from tilt images that are known exactly."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from forward_model import correlation, half_transforms, poses, projections
from numpy.typing import NDArray

from tomadapt.acquisition import Acquisition, tilt_range
from tomadapt.errors import ConfigError
from tomadapt.fsc import fourier_shell_correlation
from tomadapt.simulate.phantom import GaussianPhantom
from tomadapt.simulate.reconstruction import (
    DirectFourierInversion,
    SlabInversion,
    slice_weights,
)

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


# --- slabs

ALL_ROUND = torch.arange(-89.0, 91.0, 2.0)
WEDGE = torch.arange(-60.0, 61.0, 3.0)
SLABS = [(22, 26, 30), (23, 31, 27)]


def slab(
    shape: tuple[int, int, int],
    *,
    tilts: torch.Tensor = ALL_ROUND,
    n: int = 96,
    thickness: int = 24,
) -> SlabInversion:
    return SlabInversion.for_tilts(tilts, shape, n=n, thickness=thickness)


def exact(phantom: GaussianPhantom, tilts: torch.Tensor, n: int) -> torch.Tensor:
    return half_transforms(np.stack([phantom.projection(n, float(angle)) for angle in tilts]))


def in_slab(phantom: GaussianPhantom, shape: tuple[int, int, int]) -> NDArray[np.float32]:
    """The phantom's density about voxel n // 2 of each axis, cut from a cube that holds it."""
    n = 2 * max(shape)
    return phantom.density(n)[tuple(slice(n // 2 - s // 2, n // 2 - s // 2 + s) for s in shape)]


def test_where_slices_overlap_weights_are_a_ramp_and_elsewhere_one() -> None:
    tilts, thickness = torch.arange(-60.0, 61.0, 2.0), 24
    k = torch.tensor([0.0, 0.1, 0.15, 0.2, 0.5])
    weights = slice_weights(tilts, k, thickness=thickness)
    torch.testing.assert_close(weights[:, 0], torch.full((61,), 1 / 61, dtype=torch.float64))
    ramp = thickness * k.double() * np.deg2rad(2)
    torch.testing.assert_close(weights[30, 1:4], ramp[1:4], rtol=0.03, atol=0)
    # The last slice shares with those on one side alone.
    ends = 2 / (1 + 1 / ramp[1:4])
    torch.testing.assert_close(weights[0, 1:4], ends, rtol=0.03, atol=0)
    torch.testing.assert_close(weights, weights.flip(0))
    apart = slice_weights(tilts, k[-1:], thickness=64)
    torch.testing.assert_close(apart, torch.ones(61, 1, dtype=torch.float64))


@pytest.mark.parametrize("shape", SLABS)
@pytest.mark.parametrize("n", [96, 97])
def test_a_slab_comes_back_as_its_density(shape: tuple[int, int, int], n: int) -> None:
    """From all round: nothing is missing, so that the density is that of the phantom, unscaled."""
    phantom = GaussianPhantom.random(7, radius=6, sigma=1.3)
    posed = phantom.posed(*(p[0] for p in poses(1, seed=n)))
    found = slab(shape, n=n, thickness=40)(exact(posed, ALL_ROUND, n))
    truth = in_slab(posed, shape)
    assert found.shape == shape
    assert found.dtype == np.float32
    # Each object is reconstructed but for a constant, the least frequencies being shared by all.
    slope, _ = np.polyfit(truth.ravel(), found.ravel(), 1)
    assert slope == pytest.approx(1, abs=0.03)
    assert correlation(found, truth) > 0.995
    swapped = GaussianPhantom(posed.centres[:, [2, 1, 0]], posed.sigma)
    mirrored = GaussianPhantom(posed.centres * [1, 1, -1], posed.sigma)
    for wrong in (swapped, mirrored):
        assert correlation(found, in_slab(wrong, shape)) < 0.8


@pytest.mark.parametrize("shape", SLABS)
@pytest.mark.parametrize("place", [(-12, 8, -7), (11, -9, 8)])
def test_a_point_in_a_slab_stays_where_it_is(
    shape: tuple[int, int, int], place: tuple[int, int, int]
) -> None:
    point = GaussianPhantom(np.array([place], dtype=float), 1.2)
    found = slab(shape, tilts=WEDGE)(exact(point, WEDGE, 96))
    x, y, z = place
    brightest = np.unravel_index(found.argmax(), shape)
    assert brightest == (shape[0] // 2 + z, shape[1] // 2 + y, shape[2] // 2 + x)
    # A periodic reconstruction would show it on the other side too, as bright.
    other_side = np.indices(shape)[2] < shape[2] // 2
    if x < 0:
        other_side = ~other_side
    assert np.abs(found[other_side]).max() < 0.12 * found.max()


@pytest.mark.parametrize("shape", SLABS)
def test_a_slab_does_not_depend_on_what_the_images_hold_beyond(
    shape: tuple[int, int, int],
) -> None:
    phantom = GaussianPhantom.random(7, radius=6, sigma=1.3)
    posed = phantom.posed(np.eye(3), np.array([8.0, -6.0, 4.0]))
    narrow, wide = (slab(shape, n=n, tilts=WEDGE)(exact(posed, WEDGE, n)) for n in (80, 240))
    assert np.linalg.norm(narrow - wide) < 0.01 * np.linalg.norm(wide)


@pytest.mark.parametrize(("n", "cycles"), [(80, 0), (80, 8), (80, 32), (80, 39), (81, 40)])
@pytest.mark.parametrize("tilt", [-40.0, 33.0])
def test_a_wave_in_one_image_comes_back_along_its_direction(
    n: int, cycles: int, tilt: float
) -> None:
    """Of full height at each frequency: what interpolation takes off was put on before."""
    thickness, (nz, ny, nx) = 24, SLABS[0]
    x, _, z = (np.arange(m) - m // 2 for m in (nx, ny, nz))
    image = np.broadcast_to(np.cos(2 * np.pi * cycles / n * (np.arange(n) - n // 2)), (n, n))
    one = torch.tensor([tilt])
    found = slab(SLABS[0], tilts=one, n=n)(half_transforms(image)[None]) * thickness
    across = x * np.cos(np.deg2rad(tilt)) + z[:, None, None] * np.sin(np.deg2rad(tilt))
    expected = np.broadcast_to(np.cos(2 * np.pi * cycles / n * across), found.shape)
    height = np.vdot(found, expected) / np.vdot(expected, expected)
    assert height == pytest.approx(1, abs=0.004)
    # What remains are aliases of the interpolation.
    assert np.linalg.norm(found - expected) < 0.03 * np.linalg.norm(expected)


@pytest.mark.parametrize("n", [64, 65])
def test_slabs_are_linear(n: int) -> None:
    shape = SLABS[0]
    invert, few = slab(shape, tilts=WEDGE, n=n), len(WEDGE)
    white = torch.randn(2, few, n, n, generator=torch.Generator().manual_seed(0))
    a, b = torch.fft.rfft2(white)
    together = invert(2 * a - 0.5 * b)
    expected = 2 * invert(a) - 0.5 * invert(b)
    np.testing.assert_allclose(together, expected, rtol=0, atol=1e-5 * np.abs(expected).max())


def test_a_slab_has_no_constant_and_tells_its_progress() -> None:
    shape, told = SLABS[1], []
    invert = slab(shape, tilts=WEDGE)
    white = torch.randn(len(WEDGE), 96, 96, generator=torch.Generator().manual_seed(0))
    found = invert(torch.fft.rfft2(white), progress=told.append)
    assert abs(found.mean()) < 0.1 * found.std()
    assert told == [1] * (len(WEDGE) + shape[0])


def test_images_must_cover_the_slab() -> None:
    with pytest.raises(ConfigError, match="side of at least 68"):
        slab((22, 68, 30), n=67)
    with pytest.raises(ConfigError, match="too small"):
        slab((22, 20, 80), n=67)


def test_each_tilt_needs_its_image() -> None:
    with pytest.raises(ValueError, match="zip"):
        slab(SLABS[0], tilts=WEDGE)(torch.zeros(3, 96, 49, dtype=torch.complex64))


@pytest.mark.parametrize("n", [24, 25])
def test_noise_amplitude_is_that_of_white_noise(n: int) -> None:
    """What is calculated from the weights is what many reconstructions of noise show."""
    tilts = torch.arange(-60.0, 61, 6)
    inversion = DirectFourierInversion.for_tilts(tilts, n)
    images = torch.randn(60, len(tilts), n, n, generator=torch.Generator().manual_seed(0))
    measured = inversion(torch.fft.rfft2(images)).square().mean(dim=(0, 2)).sqrt()
    amplitude = inversion.noise_amplitude()
    assert amplitude.shape == (n, n)
    ratio = measured / amplitude
    assert float(ratio.std() / ratio.mean()) < 0.05
    # It falls by more than a third towards the corners: an error of centring would show.
    assert float(amplitude[0, 0]) < 0.6
    assert float(amplitude[n // 2, n // 2]) > 0.9
