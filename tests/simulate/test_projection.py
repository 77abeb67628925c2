"""Tilt-series projections against exact integrals, real space, and an independent library."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from forward_model import about_y, error, images_of, poses
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.ndimage import affine_transform, gaussian_filter
from torch_fourier_slice import project_3d_to_2d

from tomadapt.simulate.phantom import GaussianPhantom
from tomadapt.simulate.projection import (
    SliceGrid,
    central_slices,
    cropped_images,
    sample_transform,
    template_transform,
)

TILTS = [-50.0, -20.0, 0.0, 35.0, 60.0]


def project(
    density: NDArray[np.floating],
    rotations: NDArray[np.floating],
    shifts: NDArray[np.floating],
    tilts: list[float] = TILTS,
    *,
    n: int | None = None,
) -> NDArray[np.float32]:
    """(b, t, n, n) images [y, x], centred, by the package."""
    grid = SliceGrid.inside_nyquist(density.shape[0] if n is None else n)
    slices = central_slices(
        template_transform(torch.from_numpy(density)),
        torch.from_numpy(np.asarray(rotations, np.float32)),
        torch.from_numpy(np.asarray(shifts, np.float32)),
        torch.tensor(tilts),
        grid,
    )
    return images_of(grid.scatter(slices))


def lump(n: int, seed: int = 5) -> NDArray[np.float32]:
    """A smooth density without symmetry that is no sum of Gaussians."""
    noise = np.random.default_rng(seed).normal(size=(n, n, n))
    r = np.arange(n) - n // 2
    distance = np.sqrt(r[:, None, None] ** 2 + r[:, None] ** 2 + r**2)
    inside = 1 / (1 + np.exp((distance - 0.28 * n) / 0.7))
    return np.asarray(gaussian_filter(noise, 1.6) * inside, dtype=np.float32)


NO_SHIFT = np.zeros((1, 3))


def test_sampling_is_plain_trilinear_interpolation() -> None:
    """On both sides of x = 0 and on it, by eight neighbours of the whole transform."""
    n = 24
    transform = template_transform(torch.from_numpy(lump(n)))
    m = 2 * n
    half = torch.complex(transform[0], transform[1]).to(torch.complex128)  # [kz, ky, kx >= 0]
    whole = torch.cat([half.flip(0, 1, 2)[..., :-1].conj(), half], dim=2)  # kx from −m/2
    generator = torch.Generator().manual_seed(3)
    at = (torch.rand(3, 2, 3, 50, generator=generator) - 0.5) * (m - 1)
    at[0, :, :, :5] = torch.tensor([0.0, -0.0, -1e-3, 1e-3, -1.0])  # x
    expected = torch.zeros(2, 3, 50, dtype=torch.complex128)
    exact = at.double() + m // 2
    for dx, dy, dz in np.ndindex(2, 2, 2):
        x, y, z = (exact[i].floor() + d for i, d in enumerate((dx, dy, dz)))
        weight = 1.0
        for found, wanted in zip((x, y, z), exact, strict=True):
            weight = weight * (1 - (found - wanted).abs())
        expected += weight * whole[z.long(), y.long(), x.clamp(max=m).long()]
    got = sample_transform(transform, *at.clone())[:, 0]
    torch.testing.assert_close(
        got, expected.to(torch.complex64), rtol=0, atol=1e-3 * float(half.abs().max())
    )


@pytest.mark.parametrize("n", [24, 25, 32, 33])
def test_exact_line_integrals(n: int) -> None:
    phantom = GaussianPhantom.random(2, radius=0.2 * n, sigma=1.3)
    rotations, shifts = poses(3, seed=n)
    got = project(phantom.density(n), rotations, shifts)
    for images, rotation, shift in zip(got, rotations, shifts, strict=True):
        exact = np.stack([phantom.posed(rotation, shift).projection(n, a) for a in TILTS])
        assert error(images, exact) < 0.015
        # The same with each mistake of handedness is far off.
        mirrored = np.stack([phantom.posed(rotation, shift).projection(n, -a) for a in TILTS])
        transposed = np.stack([phantom.posed(rotation.T, shift).projection(n, a) for a in TILTS])
        backwards = np.stack([phantom.posed(rotation, -shift).projection(n, a) for a in TILTS])
        assert min(error(images, wrong) for wrong in (mirrored, transposed, backwards)) > 0.05


@pytest.mark.parametrize("n", [24, 25])
def test_the_phantom_itself(n: int) -> None:
    phantom = GaussianPhantom.random(1, radius=5, sigma=1.2)
    density = phantom.density(n).astype(float)
    assert density.sum() == pytest.approx(len(phantom.centres), rel=1e-3)
    np.testing.assert_allclose(phantom.projection(n, 0), density.sum(axis=0), atol=1e-3)
    # A turn of +90° about +y takes z to x and x to −z: the image's x axis shows the former z.
    at_90 = phantom.projection(n, 90)
    np.testing.assert_allclose(at_90, density.sum(axis=2).T, atol=1e-3)


@pytest.mark.parametrize("n", [32, 33])
def test_rotating_and_summing_in_real_space(n: int) -> None:
    density = lump(n)
    rotations, _ = poses(2, seed=4)
    got = project(density, rotations, np.zeros((2, 3)))
    centre = np.full(3, n // 2)
    for images, rotation in zip(got, rotations, strict=True):
        for image, tilt in zip(images, TILTS, strict=True):
            turn = about_y(tilt) @ rotation
            backwards = turn.T[::-1, ::-1]  # zyx
            turned = affine_transform(
                density.astype(float), backwards, offset=centre - backwards @ centre, order=5
            )
            assert error(image, turned.sum(axis=0)) < 0.02


@pytest.mark.parametrize("n", [32, 33])
def test_the_independent_library_agrees(n: int) -> None:
    density = lump(n)
    rotations, _ = poses(2, seed=9)
    got = project(density, rotations, np.zeros((2, 3)))
    # It samples the slice at M k, xyz: M is the inverse of pose and tilt together. It takes every
    # padded side for even, so an odd cube goes into an even one, its centre still on n // 2.
    odd = n % 2
    volume = torch.nn.functional.pad(torch.from_numpy(density), (odd, 0) * 3)
    for images, rotation in zip(got, rotations, strict=True):
        turns = np.stack([about_y(tilt) @ rotation for tilt in TILTS])
        inverse = torch.from_numpy(np.ascontiguousarray(turns.transpose(0, 2, 1))).float()
        theirs = project_3d_to_2d(volume, inverse, pad_factor=2.0).numpy()[:, odd:, odd:]
        assert error(images, theirs) < 0.02
        wrong = project_3d_to_2d(volume, inverse.mT, pad_factor=2.0).numpy()[:, odd:, odd:]
        assert error(images, wrong) > 0.5


@pytest.mark.parametrize("n", [24, 25])
def test_shifts_move_images(n: int) -> None:
    density = lump(n)
    rotation, _ = poses(1, seed=1)
    still = project(density, rotation, NO_SHIFT, [-30.0, 0.0, 30.0])[0]

    def moved(x: float, y: float, z: float) -> NDArray[np.float32]:
        return project(density, rotation, np.array([[x, y, z]]), [-30.0, 0.0, 30.0])[0]

    tolerance = 1e-4 * np.abs(still).max()
    np.testing.assert_allclose(moved(3, 0, 0)[1], np.roll(still[1], 3, axis=1), atol=tolerance)
    np.testing.assert_allclose(moved(0, -2, 0), np.roll(still, -2, axis=1), atol=tolerance)
    along_z = moved(0, 0, 4)  # seen as 4 sin θ along x
    for row, pixels in enumerate((-2, 0, 2)):
        np.testing.assert_allclose(along_z[row], np.roll(still[row], pixels, 1), atol=tolerance)


@settings(max_examples=8, deadline=None)
@given(a=st.floats(-3, 3), b=st.floats(-3, 3), n=st.sampled_from([24, 25]))
def test_linear_in_the_density(a: float, b: float, n: int) -> None:
    rotations, shifts = poses(1, seed=3)
    first, second = lump(n, 1), lump(n, 2)
    together = project((a * first + b * second).astype(np.float32), rotations, shifts)
    apart = a * project(first, rotations, shifts) + b * project(second, rotations, shifts)
    np.testing.assert_allclose(together, apart, atol=1e-4 * np.abs(first).sum(axis=0).max())


@pytest.mark.parametrize("n", [24, 25])
def test_mass_is_kept_on_wider_images_too(n: int) -> None:
    phantom = GaussianPhantom.random(1, radius=5, sigma=1.2)
    density = phantom.density(n)
    rotations, shifts = poses(1, seed=6)
    wide = project(density, rotations, shifts, n=40)
    np.testing.assert_allclose(wide.sum(axis=(-2, -1)), density.sum(), rtol=0.03)
    exact = np.stack([phantom.posed(rotations[0], shifts[0]).projection(40, a) for a in TILTS])
    assert error(wide[0], exact) < 0.015


@pytest.mark.parametrize("n", [8, 9])
def test_slice_grid(n: int) -> None:
    grid = SliceGrid.inside_nyquist(n)
    assert (torch.hypot(grid.kx, grid.ky) < 0.5).all()
    assert (grid.ky >= 0).all()
    assert (grid.kx[0], grid.ky[0]) == (0, 0)  # slice_variance takes point 0 for the mean
    kx, ky = np.meshgrid(np.fft.fftfreq(n), np.fft.rfftfreq(n), indexing="ij")
    assert len(grid.kx) == (np.hypot(kx, ky) < 0.5 - 1e-6).sum()
    values = torch.arange(1.0, len(grid.kx) + 1)
    for real_or_complex in (values, values * (1 - 2j)):
        full = grid.scatter(real_or_complex.expand(2, -1))
        assert full.shape == (2, n, n // 2 + 1)
        assert (full[1, grid.rows, grid.columns] == real_or_complex).all()
        assert (full != 0).sum() == 2 * len(grid.kx)
        assert (grid.scatter(real_or_complex) == full[0]).all()


@pytest.mark.parametrize("padded", [20, 21])
@pytest.mark.parametrize("n", [12, 13])
def test_cropping_keeps_the_centre(n: int, padded: int) -> None:
    image = torch.randn(3, padded, padded, generator=torch.Generator().manual_seed(0))
    got = cropped_images(torch.fft.rfft2(torch.fft.ifftshift(image, dim=(1, 2))), n)
    first = padded // 2 - n // 2
    expected = image[:, first : first + n, first : first + n]
    torch.testing.assert_close(torch.fft.fftshift(got, dim=(1, 2)), expected)
