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


class TestWhitened:
    """With tilts of one axis and amplitudes that fall to nothing at some frequencies."""

    n = 20

    def amplitudes(self) -> NDArray[np.float64]:
        k = np.fft.fftfreq(self.n)
        radius = np.hypot(k[:, None], k[None, :])
        rings = np.cos(25 * radius) * np.exp(-2 * radius)
        return np.repeat(rings[None], 15, axis=0)

    def operator(self) -> SliceInversion:
        tilts = Rotation.from_euler("y", np.arange(-56, 57, 8.0)[:, None], degrees=True).as_matrix()
        return SliceInversion.for_projections(tilts, self.n)

    def premultiplied(self, images: NDArray[np.floating], power: int) -> NDArray[np.float64]:
        spectra = np.fft.fft2(np.fft.ifftshift(images, axes=(1, 2))) * self.amplitudes() ** power
        return np.asarray(np.fft.fftshift(np.fft.ifft2(spectra).real, axes=(1, 2)))

    def test_noise_is_equally_strong_everywhere(self) -> None:
        rng = np.random.default_rng(0)
        operator, amplitudes, total, plain = self.operator(), self.amplitudes(), 0.0, 0.0
        for _ in range(60):
            stored = self.premultiplied(rng.standard_normal((15, self.n, self.n)), 1)
            volume, transfer = operator.whitened(stored, amplitudes)
            total = total + np.abs(np.fft.rfftn(np.fft.ifftshift(volume))) ** 2
            plain = (
                plain + np.abs(np.fft.rfftn(np.fft.ifftshift(operator(stored, amplitudes)))) ** 2
            )
        seen = transfer > 0.5 * np.median(transfer[transfer > 0])
        spread = [np.std(np.log(power[seen])) for power in (total, plain)]
        assert spread[0] < 0.5  # trilinear weights leave some
        assert spread[0] < 0.7 * spread[1]

    def test_the_signal_is_let_through_by_the_transfer(self) -> None:
        operator, amplitudes = self.operator(), self.amplitudes()
        tilts = Rotation.from_euler("y", np.arange(-56, 57, 8.0)[:, None], degrees=True).as_matrix()
        images = blob_images(self.n, tilts, np.zeros(3))
        volume, transfer = operator.whitened(self.premultiplied(images, 2), amplitudes)
        even, _ = operator.whitened(images, np.ones_like(amplitudes))
        weight = operator.whitened(images, np.ones_like(amplitudes))[1]
        as_seen, plain = (np.fft.rfftn(np.fft.ifftshift(v)) for v in (volume, even))
        strong = (np.abs(plain) > 0.1 * np.abs(plain).max()) & (transfer > 0)
        ratio = (as_seen / np.where(strong, plain, 1)).real[strong]
        expected = (transfer / np.where(strong, weight, 1))[strong]
        assert np.corrcoef(ratio, expected)[0, 1] > 0.97

    def test_nothing_where_no_image_reached(self) -> None:
        stored = np.random.default_rng(1).standard_normal((15, self.n, self.n))
        volume, transfer = self.operator().whitened(stored, self.amplitudes())
        spectrum = np.fft.rfftn(np.fft.ifftshift(volume))
        assert (transfer == 0).any()
        assert np.abs(spectrum[transfer == 0]).max() < 1e-3 * np.abs(spectrum).max()

    def test_it_is_the_corrected_cube_less_one_division(self) -> None:
        stored = np.random.default_rng(2).standard_normal((15, self.n, self.n))
        operator, shift = self.operator(), np.array([0.4, -1.1, 0.3])
        volume, transfer = operator.whitened(stored, self.amplitudes(), shift=shift)
        corrected = operator(stored, self.amplitudes(), shift=shift)
        white, plain = (np.fft.rfftn(np.fft.ifftshift(v)) for v in (volume, corrected))
        far_above = transfer > 0.8 * transfer.max()  # there W + ε is about W, and transfer √W
        np.testing.assert_allclose(
            white[far_above], (plain * transfer)[far_above], rtol=0.1, atol=1e-3
        )
