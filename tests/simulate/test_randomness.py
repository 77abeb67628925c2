"""Random draws: uniform, white, and keyed by particle."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import stats
from scipy.spatial.transform import Rotation

from tomadapt.simulate.randomness import NOISE, POSE, draw_noise, draw_poses, particle_generator


def test_rotations_are_uniform_on_so3() -> None:
    rotations, _ = draw_poses(0, "a", range(3000), max_shift_voxels=4)
    np.testing.assert_allclose(rotations @ rotations.swapaxes(1, 2) - np.eye(3), 0, atol=1e-5)
    np.testing.assert_allclose(np.linalg.det(rotations), 1, atol=1e-5)
    # The angle of a Haar-random rotation has the density (1 − cos θ) / π.
    angle = np.arccos(np.clip((np.trace(rotations, axis1=1, axis2=2) - 1) / 2, -1, 1))
    assert stats.kstest(angle, lambda t: (t - np.sin(t)) / np.pi).pvalue > 0.01
    # Each entry is the z of a point on a sphere, so uniform; and entries do not correlate.
    entries = rotations.reshape(-1, 9)
    for entry in entries.T:
        assert stats.kstest(entry, stats.uniform(-1, 2).cdf).pvalue > 0.001
    np.testing.assert_allclose(np.cov(entries.T), np.eye(9) / 3, atol=0.03)


def test_shifts_are_uniform_in_their_cube() -> None:
    _, shifts = draw_poses(0, "a", range(2000), max_shift_voxels=4)
    assert np.abs(shifts).max() <= 4
    for axis in shifts.T:
        assert stats.kstest(axis, stats.uniform(-4, 8).cdf).pvalue > 0.01
    np.testing.assert_allclose(np.corrcoef(shifts.T), np.eye(3), atol=0.08)
    assert (draw_poses(0, "a", range(3), max_shift_voxels=0)[1] == 0).all()


@pytest.mark.parametrize("shape", [(3, 24, 24), (3, 25, 25)])
def test_noise_is_white_gaussian_and_of_unit_variance(shape: tuple[int, ...]) -> None:
    noise = draw_noise(1, "a", range(60), shape=shape).double()
    assert noise.shape == (60, *shape)
    values = noise.flatten().numpy()
    spread = len(values) ** -0.5
    assert abs(values.mean()) < 4 * spread
    assert abs(values.var() - 1) < 4 * 2**0.5 * spread
    assert stats.kstest(values, "norm").pvalue > 0.01
    assert abs(stats.kurtosis(values)) < 4 * 24**0.5 * spread
    assert np.isfinite(values).all()
    for lag_dim in (-1, -2):  # neighbouring pixels
        lagged = (noise * noise.roll(1, lag_dim)).mean()
        assert abs(float(lagged)) < 4 * spread
    power = torch.fft.fft2(noise).abs().square().mean(dim=(0, 1)) / (shape[-1] * shape[-2])
    assert float(power.std()) < 2 * 180**-0.5  # flat: exponential over 180 images


def test_noise_of_particles_and_of_tilts_is_independent() -> None:
    noise = draw_noise(2, "a", range(8), shape=(5, 40, 40))
    correlations = torch.corrcoef(noise.reshape(40, 1600)) - torch.eye(40)
    assert float(correlations.abs().max()) < 5 / 40  # 780 pairs of 1600 pixels
    assert float(correlations.mean().abs()) < 1e-3
    # The cosine and sine halves of Box–Muller come from the same bits.
    halves = noise.reshape(8, 2, -1)
    assert abs(float((halves[:, 0] * halves[:, 1]).mean())) < 4 * 32000**-0.5
    assert abs(float((halves[:, 0] ** 2 * halves[:, 1] ** 2).mean()) - 1) < 0.05


def test_a_particle_is_keyed_by_seed_class_index_and_purpose() -> None:
    key = (3, "ribosome", 7, POSE)
    same = particle_generator(*key).integers(2**63)
    assert same == particle_generator(*key).integers(2**63)
    others = [(4, "ribosome", 7, POSE), (3, "ribosomes", 7, POSE), (3, "ribosome", 8, POSE)]
    others += [(3, "ribosome", 7, NOISE), (2**63 - 1, "ribosome", 7, POSE)]
    drawn = [particle_generator(*other).integers(2**63) for other in others]
    assert len({same, *drawn}) == len(others) + 1


def test_draws_do_not_depend_on_the_batch() -> None:
    rotations, shifts = draw_poses(5, "a", [4, 1, 9], max_shift_voxels=2)
    alone = draw_poses(5, "a", [1], max_shift_voxels=2)
    assert (rotations[1] == alone[0][0]).all()
    assert (shifts[1] == alone[1][0]).all()
    together = draw_noise(5, "a", [4, 1, 9], shape=(2, 7, 7))
    torch.testing.assert_close(
        together[1], draw_noise(5, "a", [1], shape=(2, 7, 7))[0], rtol=1e-5, atol=1e-6
    )


def test_draws_of_stored_sets_stay_what_they_were() -> None:
    """Faster code draws the same numbers: scipy's poses, Box–Muller of the generator's bytes."""
    rotations, shifts = draw_poses(8, "a", [3, 0], max_shift_voxels=4)
    for row, index in enumerate([3, 0]):
        generator = particle_generator(8, "a", index, POSE)
        pose = Rotation.random(rng=generator).as_matrix().astype(np.float32)
        assert (rotations[row] == pose).all()
        assert (shifts[row] == generator.uniform(-4, 4, 3).astype(np.float32)).all()
    pairs = 3 * 24 * 24 // 2
    noise = draw_noise(8, "a", [5], shape=(3, 24, 24)).reshape(2, pairs)
    bits = particle_generator(8, "a", 5, NOISE).bytes(8 * pairs)
    uniform = np.frombuffer(bits, np.int32).reshape(2, pairs).astype(np.float32)
    uniform = (uniform + np.float32(2**31 + 0.5)) * np.float32(2**-32)
    radius = np.sqrt(-2 * np.log(uniform[0].astype(np.float64)))
    angle = (uniform[1] * np.float32(2 * np.pi)).astype(np.float64)
    expected = np.stack([radius * np.cos(angle), radius * np.sin(angle)])
    np.testing.assert_allclose(noise.numpy(), expected, rtol=1e-5, atol=2e-6)
