"""The inversion of slices in any directions, with images that are known exactly."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from tomadapt.tomograms.tilt_inversion import SliceInversion


def directions(count: int, seed: int = 0) -> NDArray[np.float64]:
    return np.asarray(Rotation.random(count, random_state=seed).as_matrix())


def blob_images(n: int, matrices: NDArray[np.float64], place: NDArray[np.float64]) -> np.ndarray:
    """Projections of a Gaussian of width 1.2 at a place (x, y, z)."""
    axis = np.arange(n) - n // 2
    y, x = np.meshgrid(axis, axis, indexing="ij")
    centres = matrices @ place
    square = (x - centres[:, 0, None, None]) ** 2 + (y - centres[:, 1, None, None]) ** 2
    return np.asarray(np.exp(-square / (2 * 1.2**2)) * np.sqrt(2 * np.pi) * 1.2)


def centroid(volume: NDArray[np.float32]) -> NDArray[np.float64]:
    """x, y, z from the centre, of what stands out."""
    weight = np.maximum(volume - 0.2 * volume.max(), 0)
    axis = np.arange(len(volume)) - len(volume) // 2
    sums = [(weight.sum(axis=others) * axis).sum() for others in ((0, 1), (0, 2), (1, 2))]
    return np.array(sums) / weight.sum()


@pytest.mark.parametrize("n", [20, 21])
def test_directions_from_everywhere_give_the_density_at_its_place(n: int) -> None:
    matrices, place = directions(300), np.array([2.0, -3.0, 4.0])
    operator = SliceInversion.for_projections(matrices, n)
    volume = operator(blob_images(n, matrices, place), np.ones((300, n, n)))
    # Trilinear weights make densities fainter towards the edges: centroids lean inwards.
    np.testing.assert_allclose(centroid(volume), place, atol=0.3)
    peak = np.unravel_index(volume.argmax(), volume.shape)
    assert [int(i) - n // 2 for i in peak[::-1]] == place.tolist()
    assert volume.max() == pytest.approx(1.0, abs=0.3)


@pytest.mark.parametrize("n", [20, 21])
def test_a_shift_brings_the_particle_to_the_centre(n: int) -> None:
    matrices, place = directions(300), np.array([0.7, -0.4, 0.3])
    operator = SliceInversion.for_projections(matrices, n)
    images, amplitudes = blob_images(n, matrices, place), np.ones((300, n, n))
    np.testing.assert_allclose(centroid(operator(images, amplitudes)), place, atol=0.1)
    volume = operator(images, amplitudes, shift=place)
    np.testing.assert_allclose(centroid(volume), 0, atol=0.04)


def test_images_with_amplitude_zero_are_left_out() -> None:
    n, matrices = 20, directions(8)
    images = np.random.default_rng(1).standard_normal((8, n, n))
    amplitudes = np.random.default_rng(2).uniform(0.5, 1, (8, n, n))
    amplitudes[5:] = 0
    all_of_them = SliceInversion.for_projections(matrices, n)(images, amplitudes)
    first = SliceInversion.for_projections(matrices[:5], n)(images[:5], amplitudes[:5])
    np.testing.assert_allclose(all_of_them, first, atol=1e-6)


def test_linear_and_of_any_scale_in_the_amplitudes() -> None:
    n, matrices = 20, directions(12)
    operator = SliceInversion.for_projections(matrices, n)
    rng = np.random.default_rng(1)
    a, b = rng.standard_normal((2, 12, n, n))
    amplitudes = rng.uniform(0.2, 1, (12, n, n))
    together = operator(2 * a - 0.5 * b, amplitudes)
    apart = 2 * operator(a, amplitudes) - 0.5 * operator(b, amplitudes)
    np.testing.assert_allclose(together, apart, atol=1e-5)
    # The regularisation follows the amplitudes: a common factor comes out squared.
    np.testing.assert_allclose(operator(a, 3 * amplitudes) * 9, operator(a, amplitudes), atol=1e-5)


def test_one_slice_fills_its_plane_alone() -> None:
    n = 20
    matrices = np.eye(3)[None]
    images = np.random.default_rng(1).standard_normal((1, n, n))
    volume = SliceInversion.for_projections(matrices, n)(images, np.ones((1, n, n)))
    power = np.abs(np.fft.fftn(volume)) ** 2
    assert power[0].sum() > 0.999 * power.sum()
