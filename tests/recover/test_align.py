"""Alignment: planted poses are found, and what must not matter does not."""

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from recover.conftest import phantom
from tomadapt.acquisition import BATCH_A
from tomadapt.data.subtomograms import Subtomograms
from tomadapt.errors import ConfigError, MismatchError
from tomadapt.inputs.particles import ArrayVolumes
from tomadapt.recover.align import Aligner, AlignmentOptions, align, shift_grid
from tomadapt.recover.fourier import MeasuredPoints, shell_power
from tomadapt.recover.poses import Poses
from tomadapt.recover.rotations import angular_distance_deg
from tomadapt.recover.symmetry import rotate_volume
from tomadapt.simulate.dataset import open_set


def of_class(planted, label, count=8, snr=0.1):
    rows = np.flatnonzero(planted.data.labels == label)[:count]
    data = open_set(planted.data.source.path, snr=snr).subset(rows).unlabelled()
    return data, planted.rotations[rows], planted.shifts[rows]


def aligner(planted, data, name="ribosome_30s", template=None, **options):
    density = planted.templates[name] if template is None else template
    power = shell_power(data, planted.points)
    return Aligner(density, planted.points, power, AlignmentOptions(**options))


@pytest.mark.parametrize("label", [0, 1])
@pytest.mark.parametrize(("snr", "degrees", "voxels"), [(1000.0, 2.0, 0.2), (0.1, 6.0, 0.5)])
def test_planted_poses_are_found(planted, label, snr, degrees, voxels):
    data, rotations, shifts = of_class(planted, label, snr=snr)
    name = planted.data.class_names[label]
    found = align(data, aligner(planted, data, name))
    turn = angular_distance_deg(found.rotations[:, 0], rotations)
    moved = np.linalg.norm(found.shifts[:, 0] - shifts, axis=1)
    assert np.median(turn) <= degrees
    assert np.median(moved) <= voxels
    assert turn.max() <= 15  # none is flipped


def test_scales_do_not_matter(planted):
    data, _, _ = of_class(planted, 0)
    cubes = data.read(range(4))
    plain = aligner(planted, data)(cubes)
    scaled = aligner(planted, data, template=7 * planted.templates["ribosome_30s"])(3 * cubes)
    np.testing.assert_allclose(plain.scores, scaled.scores, atol=1e-4)
    assert angular_distance_deg(plain.rotations[:, 0], scaled.rotations[:, 0]).max() < 0.05


def test_a_particle_does_not_depend_on_its_batch(planted):
    data, _, _ = of_class(planted, 0)
    one = aligner(planted, data)
    together = one(data.read(range(4)))
    alone = one(data.read([2]))
    np.testing.assert_allclose(alone.scores[0], together.scores[2], atol=1e-4)
    assert angular_distance_deg(alone.rotations[:, 0], together.rotations[2:3, 0])[0] < 0.05


def test_a_turned_reference_turns_the_poses(planted):
    data, rotations, _ = of_class(planted, 0)
    Q = Rotation.random(rng=9).as_matrix()
    turned = rotate_volume(planted.templates["ribosome_30s"], Q)
    found = align(data, aligner(planted, data, template=turned))
    # The template is Q ρ, and a particle R ρ = (R Qᵀ) Q ρ.
    assert np.median(angular_distance_deg(found.rotations[:, 0], rotations @ Q.T)) < 4.0


def test_poses_are_followed_from_where_they_are(planted):
    data, rotations, shifts = of_class(planted, 0)
    near = Rotation.from_matrix(rotations) * Rotation.from_rotvec([[0.06, 0.0, -0.05]] * 8)
    ones = np.ones((8, 1), np.float32)
    begin = Poses(near.as_matrix().astype(np.float32)[:, None], shifts[:, None] + 0.4, ones, ones)
    found = align(data, aligner(planted, data), initial_poses=begin)
    assert np.median(angular_distance_deg(found.rotations[:, 0], rotations)) < 2.0


def test_noise_scores_low_and_particles_high(planted):
    data, _, _ = of_class(planted, 0)
    noise, _, _ = of_class(planted, 2)
    one = aligner(planted, data)
    assert (
        align(data, one).log_likelihood_ratios[:, 0].min()
        > 3 * align(noise, one).log_likelihood_ratios[:, 0].max()
    )


def test_shifts_stay_within_reach(planted):
    data, _, _ = of_class(planted, 0)
    found = align(data, aligner(planted, data, max_shift_voxels=1.0))
    assert np.abs(found.shifts).max() <= 2.0 + 1e-5


def test_candidates_are_sorted_and_weighted(planted):
    data, _, _ = of_class(planted, 0)
    found = align(data, aligner(planted, data, candidates=6, finalists=3))
    assert found.rotations.shape == (8, 3, 3, 3)
    assert (np.diff(found.scores, axis=1) <= 0).all()
    np.testing.assert_allclose(found.weights().sum(axis=1), 1.0, rtol=1e-5)
    dets = np.linalg.det(found.rotations.astype(np.float64))
    np.testing.assert_allclose(dets, 1.0, atol=1e-4)


def test_another_box_is_refused(planted):
    data, _, _ = of_class(planted, 0)
    points = MeasuredPoints.everywhere(24)
    small = Aligner(torch.rand(24, 24, 24), points, torch.ones(12))
    with pytest.raises(MismatchError, match="another box"):
        align(Subtomograms(data.source, data.rows), small)


def phantoms(n, shift, count=8, noise=0.1):
    """Particles of the phantom in random rotations and one shift, and where they were measured."""
    rotations = Rotation.random(count, rng=n).as_matrix()
    cubes = np.stack([phantom(n, R, shift) for R in rotations])
    cubes += np.random.default_rng(n).normal(scale=noise * cubes.std(), size=cubes.shape)
    data = Subtomograms(ArrayVolumes(cubes.astype(np.float32), 10.0))
    points = MeasuredPoints.of(BATCH_A, n=n, voxel_size_A=10.0, ctf_corrected=True)
    return data, rotations, points


@pytest.mark.parametrize("n", [24, 32, 33, 40])
@pytest.mark.parametrize("shift", [(0.0, 0.0, 0.0), (1.0, 1.0, 1.0), (1.0, 0.5, 0.0)])
def test_no_shift_falls_between_the_grids_points(n, shift):
    """Regression: an even number of steps left out zero, and half of the poses were flipped."""
    data, rotations, points = phantoms(n, shift)
    one = Aligner(phantom(n), points, shell_power(data, points))
    found = align(data, one)
    assert angular_distance_deg(found.rotations[:, 0], rotations).max() < 4.0
    assert np.abs(found.shifts[:, 0] - shift).max() < 0.5


@pytest.mark.parametrize(("reach", "step"), [(5.0, 2.0), (3.5, 1.9), (4.0, 2.1), (0.0, 2.0)])
def test_the_lattice_of_shifts_has_no_gaps_and_has_zero(reach, step):
    grid = shift_grid(reach, step)
    assert np.abs(grid).max() <= reach
    assert (grid == 0).all(axis=1).sum() == 1
    anywhere = np.random.default_rng(0).uniform(-reach, reach, size=(2000, 3))
    nearest = np.linalg.norm(anywhere[:, None] - grid, axis=2).min(axis=1)
    assert nearest.max() <= 0.56 * step


def test_a_grid_that_does_not_fit_into_memory_is_refused():
    points = MeasuredPoints.everywhere(64)
    with pytest.raises(ConfigError, match="larger angular steps"):
        Aligner(torch.rand(64, 64, 64), points, torch.ones(32), AlignmentOptions(step_deg=5))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU: torch sees none")
def test_a_gpu_finds_the_same_poses(planted):
    data, _, _ = of_class(planted, 0)
    found = []
    for device in ("cpu", "cuda"):
        points = MeasuredPoints.of(BATCH_A, n=32, voxel_size_A=11.5, device=device)
        density = planted.templates["ribosome_30s"]
        found.append(align(data, Aligner(density, points, shell_power(data, points))))
    assert angular_distance_deg(found[0].rotations[:, 0], found[1].rotations[:, 0]).max() < 0.5
