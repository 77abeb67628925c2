"""Fourier shell correlation against cases known in closed form."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from tomadapt.fsc import (
    fourier_shell_correlation,
    half_map_fsc,
    phases_randomised,
    resolution_A,
    shell_numbers,
    soft_edge,
    soft_sphere,
)


def noise(n: int, seed: int) -> NDArray[np.float32]:
    return np.random.default_rng(seed).normal(size=(n, n, n)).astype(np.float32)


def wave(n: int, k: tuple[int, int, int], phase: float = 0.0) -> NDArray[np.float32]:
    z, y, x = np.meshgrid(*(np.arange(n),) * 3, indexing="ij")
    angle = 2 * np.pi * (k[0] * z + k[1] * y + k[2] * x) / n
    return np.asarray(np.cos(angle + phase), dtype=np.float32)


@pytest.mark.parametrize("n", [16, 17])
def test_a_volume_correlates_with_itself_whatever_its_scale(n: int) -> None:
    a = noise(n, 0)
    curve = fourier_shell_correlation(a, 3 * a)
    assert curve.shape == (n // 2,)
    np.testing.assert_allclose(curve, 1, atol=1e-6)
    np.testing.assert_allclose(fourier_shell_correlation(a, -a), -1, atol=1e-6)


@pytest.mark.parametrize("n", [32, 33])
def test_independent_noise_does_not_correlate(n: int) -> None:
    curve = fourier_shell_correlation(noise(n, 0), noise(n, 1))
    assert np.abs(curve[5:]).max() < 0.2  # a shell of 5 has some 300 voxels, half of them free


def test_signal_plus_noise_gives_the_textbook_value() -> None:
    signal, first, second = noise(48, 0), noise(48, 1), noise(48, 2)
    curve = fourier_shell_correlation(signal + first, signal + second)
    assert curve[10:].mean() == pytest.approx(0.5, abs=0.02)  # SNR 1: SNR / (SNR + 1)


@pytest.mark.parametrize("phase", [0.0, np.pi / 3, np.pi])
def test_one_wave_gives_the_cosine_of_its_phase_in_its_shell(phase: float) -> None:
    k = (2, -3, 1)  # |k| = 3.74 rounds to 4
    background = 0.1 * noise(16, 0)
    curve = fourier_shell_correlation(
        wave(16, k) * 100 + background, wave(16, k, phase) * 100 + background
    )
    assert curve[4] == pytest.approx(np.cos(phase), abs=1e-3)
    assert curve[3] == pytest.approx(1, abs=1e-3)  # only the common background there


def test_only_measured_voxels_count() -> None:
    a, b = noise(16, 0), noise(16, 0)
    measured = np.ones((16, 16, 16), bool)
    measured[3, 4, 0] = measured[-3, -4, 0] = False
    spoilt = b + 1000 * wave(16, (3, 4, 0))
    np.testing.assert_allclose(
        fourier_shell_correlation(a, spoilt, measured=measured), 1, atol=1e-4
    )
    assert fourier_shell_correlation(a, spoilt)[5] < 0.5


def test_an_empty_shell_is_nan() -> None:
    measured = np.zeros((16, 16, 16), bool)
    measured[0, 0, 0] = True
    curve = fourier_shell_correlation(noise(16, 0), noise(16, 0), measured=measured)
    assert curve[0] == pytest.approx(1)
    assert np.isnan(curve[1:]).all()
    assert np.isnan(fourier_shell_correlation(noise(16, 0), np.zeros((16,) * 3, np.float32))).all()


def test_resolution_is_where_the_curve_crosses() -> None:
    curve = np.array([1.0, 1.0, 0.9, 0.7, 0.3, 0.1])
    found = resolution_A(curve, voxel_size_A=10.0, n=12, threshold=0.5)
    assert found == pytest.approx(120 / 3.5)
    assert resolution_A(curve, voxel_size_A=10.0, n=12, threshold=0.05) == 120 / 5
    assert resolution_A(curve[::-1] / 4, voxel_size_A=10.0, n=12, threshold=0.5) is None


def test_a_first_shell_that_is_low_alone_hides_nothing() -> None:
    """Regression: a CTF is next to zero there, and such a map had no resolution at all."""
    curve = np.array([1.0, 0.07, 0.8, 0.9, 0.7, 0.3, 0.1])
    found = resolution_A(curve, voxel_size_A=10.0, n=14, threshold=0.5)
    assert found == pytest.approx(140 / 4.5)
    low = np.array([1.0, 0.07, 0.2, 0.3, 0.9, 0.9])
    assert resolution_A(low, voxel_size_A=10.0, n=12, threshold=0.5) is None


def test_empty_shells_are_passed_over() -> None:
    curve = np.array([np.nan, 1.0, np.nan, 0.8, 0.2])
    found = resolution_A(curve, voxel_size_A=1.0, n=10, threshold=0.5)
    assert found == pytest.approx(10 / 3.5)
    assert resolution_A(np.full(5, np.nan), voxel_size_A=1.0, n=10, threshold=0.5) is None


@pytest.mark.parametrize("n", [16, 17])
def test_a_soft_sphere_has_its_radius(n: int) -> None:
    ball = soft_sphere(n, radius_voxels=4.0, edge_voxels=2.0)
    middle = n // 2
    assert ball[middle, middle, middle + 4] == 1.0
    assert ball[middle, middle - 5, middle] == pytest.approx(0.5)
    assert ball[middle + 6, middle, middle] == pytest.approx(0.0, abs=1e-7)


@pytest.mark.parametrize("n", [16, 17])
def test_random_phases_keep_amplitudes_and_all_below_their_first_shell(n: int) -> None:
    volume = noise(n, 0)
    found = phases_randomised(volume, from_shell=4, rng=np.random.default_rng(1))
    before, after = np.fft.fftn(volume), np.fft.fftn(found)
    np.testing.assert_allclose(np.abs(after), np.abs(before), rtol=1e-3, atol=1e-3)
    low = shell_numbers(n) < 4
    np.testing.assert_allclose(after[low], before[low], atol=1e-3)
    curve = fourier_shell_correlation(volume, found)
    np.testing.assert_allclose(curve[1:4], 1, atol=1e-5)
    assert np.abs(curve[4:]).max() < 0.4  # a shell of 4 has some 200 voxels, half of them free


@pytest.mark.parametrize("n", [16, 17])
def test_shells_of_a_half_transform_are_those_of_the_whole(n: int) -> None:
    whole = shell_numbers(n)
    assert whole[1, 2, -2] == 3
    np.testing.assert_array_equal(shell_numbers(n, half=True), whole[..., : n // 2 + 1])


def test_what_a_mask_brings_about_is_taken_off() -> None:
    # A narrow mask with a hard edge makes even independent noise alike in neighbouring frequencies;
    # noise that leaks through a common mean is the textbook case.
    n = 40
    mask = soft_sphere(n, radius_voxels=5.0, edge_voxels=1.0)
    common = 30 * soft_sphere(n, radius_voxels=4.0, edge_voxels=1.0)
    one, other = noise(n, 1) + common, noise(n, 2) + common
    found = half_map_fsc(one, other, mask, seed=0)
    beyond = slice(max(found.randomised_from + 2, 8), None)
    assert np.nanmean(found.masked[beyond]) > 0.3  # the ball's own edge, seen through the mask
    np.testing.assert_array_equal(
        found.corrected[: found.randomised_from + 2], found.masked[: found.randomised_from + 2]
    )
    assert (found.corrected[beyond] <= found.masked[beyond] + 1e-12).all()


def test_the_correction_hardly_depends_on_its_seed() -> None:
    """Regression: of one draw of random phases, the resolution of one pair of maps scattered."""
    n = 40
    mask = soft_sphere(n, radius_voxels=8.0)
    signal = noise(n, 0) * mask
    one, other = signal + noise(n, 1), signal + noise(n, 2)
    curves = np.array([half_map_fsc(one, other, mask, seed=s).corrected for s in range(6)])
    assert curves[:, 5:].std(axis=0).max() < 0.06


def test_noise_inside_a_mask_has_no_resolution_after_correction() -> None:
    n = 40
    mask = soft_sphere(n, radius_voxels=4.0, edge_voxels=3.0)
    curves = [half_map_fsc(noise(n, 2 * s), noise(n, 2 * s + 1), mask, seed=s) for s in range(8)]
    corrected = np.mean([c.corrected for c in curves], axis=0)
    assert all(c.randomised_from == 1 for c in curves)
    assert np.abs(corrected[6:]).max() < 0.25
    assert abs(corrected[6:].mean()) < 0.08


def test_a_mask_that_hides_noise_raises_the_fsc_to_what_is_inside_it() -> None:
    n = 40
    ball = soft_sphere(n, radius_voxels=8.0)
    signal = noise(n, 0) * ball
    one, other = signal + 0.7 * noise(n, 1), signal + 0.7 * noise(n, 2)
    found = half_map_fsc(one, other, ball, seed=0)
    assert found.unmasked[8:].mean() < 0.2
    expected = 1 / (1 + 0.7**2)  # the SNR inside the mask
    assert found.corrected[8:].mean() == pytest.approx(expected, abs=0.12)


def test_a_soft_edge_falls_as_a_cosine() -> None:
    np.testing.assert_allclose(
        soft_edge(np.array([-5.0, 0.0, 1.5, 3.0, 9.0]), edge_voxels=3.0), [1, 1, 0.5, 0, 0]
    )
