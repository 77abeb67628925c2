"""The weighted sum in Fourier space gives structures back."""

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from recover.conftest import phantom
from tomadapt.acquisition import Acquisition, tilt_range
from tomadapt.fsc import fourier_shell_correlation
from tomadapt.recover.fourier import MeasuredPoints
from tomadapt.recover.fourier_sum import FourierSum

ONE = torch.ones(1)


def summed(n, rotations, shifts, points, weights=None):
    cubes = np.stack([phantom(n, R, s) for R, s in zip(rotations, shifts, strict=True)])
    total = FourierSum.empty(n)
    total.add(
        points.transforms(torch.from_numpy(cubes)) * points.transfer,
        torch.from_numpy(np.asarray(rotations)).float(),
        torch.from_numpy(np.asarray(shifts)).float(),
        torch.ones(len(cubes)) if weights is None else weights,
        points,
        torch.ones(n // 2),
    )
    return total


@pytest.mark.parametrize("n", [28, 29])
def test_one_whole_particle_is_the_structure(n):
    points = MeasuredPoints.everywhere(n)
    volume = summed(n, [np.eye(3)], [(0, 0, 0)], points).volume().numpy()
    truth = phantom(n) - phantom(n).mean()
    middle = slice(n // 4, -(n // 4))
    inner = volume[middle, middle, middle], truth[middle, middle, middle]
    assert np.corrcoef(inner[0].ravel(), inner[1].ravel())[0, 1] > 0.995


@pytest.mark.parametrize("n", [28, 29])
def test_poses_are_undone(n):
    rotations = Rotation.random(12, rng=3).as_matrix()
    shifts = np.random.default_rng(3).uniform(-2, 2, (12, 3))
    points = MeasuredPoints.everywhere(n)
    volume = summed(n, rotations, shifts, points).volume().numpy()
    fsc = fourier_shell_correlation(volume, phantom(n))
    assert fsc[1 : n // 3].min() > 0.98


def test_other_poses_fill_the_missing_wedge():
    n = 28
    acquisition = Acquisition(defocus_um=0.0, tilt_angles_deg=tilt_range(-60, 60, 3))
    points = MeasuredPoints.of(acquisition, n=n, voxel_size_A=10.0, ctf_corrected=True)
    truth = phantom(n)
    one = summed(n, [np.eye(3)], [(0, 0, 0)], points).volume().numpy()
    rotations = Rotation.random(30, rng=5).as_matrix()
    many = summed(n, rotations, np.zeros((30, 3)), points).volume().numpy()
    poor = fourier_shell_correlation(one, truth)[2:9]
    assert fourier_shell_correlation(many, truth)[2:9].min() > 0.98
    assert poor.min() < 0.95


def test_sums_add():
    n = 24
    rotations, shifts = Rotation.random(4, rng=6).as_matrix(), np.zeros((4, 3))
    points = MeasuredPoints.everywhere(n)
    whole = summed(n, rotations, shifts, points)
    halves = summed(n, rotations[:2], shifts[:2], points) + summed(
        n, rotations[2:], shifts[2:], points
    )
    torch.testing.assert_close(whole.volume(), halves.volume(), atol=1e-5, rtol=1e-4)


def test_a_weight_of_zero_takes_a_particle_out():
    n = 24
    rotations, shifts = Rotation.random(2, rng=7).as_matrix(), np.zeros((2, 3))
    points = MeasuredPoints.everywhere(n)
    alone = summed(n, rotations[:1], shifts[:1], points)
    both = summed(n, rotations, shifts, points, torch.tensor([1.0, 0.0]))
    torch.testing.assert_close(alone.volume(), both.volume(), atol=1e-5, rtol=1e-4)


def test_a_sum_without_signal_is_shrunk_to_nothing():
    n = 24
    total = summed(n, [np.eye(3)], [(0, 0, 0)], MeasuredPoints.everywhere(n))
    strong, weak = total.volume(torch.full((12,), 1e4)), total.volume(torch.full((12,), 1e-4))
    torch.testing.assert_close(strong, total.volume(), rtol=0.05, atol=1e-3)
    assert weak.abs().max() < 1e-2 * strong.abs().max()
