"""Fisher scoring: from near a pose to the pose, without losing what it had."""

from itertools import pairwise

import numpy as np
import torch
from scipy.spatial.transform import Rotation

from recover.conftest import phantom
from tomadapt.recover.fourier import MeasuredPoints
from tomadapt.recover.local_refinement import PoseCandidates, best_of, refine_locally
from tomadapt.recover.reference import Reference
from tomadapt.recover.rotations import angular_distance_deg

N = 28


def refined(turn_rad: float, iterations: int = 5, noise: float = 0.0):
    R = Rotation.random(6, rng=2)
    shifts = np.random.default_rng(2).uniform(-2, 2, (6, 3))
    cubes = np.stack([phantom(N, r, s) for r, s in zip(R.as_matrix(), shifts, strict=True)])
    cubes += noise * np.random.default_rng(3).normal(size=cubes.shape).astype(np.float32)
    points = MeasuredPoints.everywhere(N).up_to(9)
    axes = np.random.default_rng(4).normal(size=(6, 3))
    axes *= turn_rad / np.linalg.norm(axes, axis=1, keepdims=True)
    begin = (R * Rotation.from_rotvec(axes)).as_matrix()
    found = refine_locally(
        Reference.of(phantom(N)),
        points.transforms(torch.from_numpy(cubes)),
        torch.from_numpy(begin).float()[:, None],
        torch.from_numpy(shifts + 0.5).float()[:, None],
        points=points,
        weight=points.multiplicity,
        reach=4.0,
        iterations=iterations,
    )
    turned = angular_distance_deg(found[0][:, 0].numpy(), R.as_matrix())
    moved = np.linalg.norm(found[1][:, 0].numpy() - shifts, axis=1)
    return turned, moved, found


def test_it_finds_the_pose():
    turned, moved, found = refined(0.15)
    assert turned.max() < 1.0
    assert moved.max() < 0.05
    assert found[2].min() > 0.99


def test_more_steps_never_lower_the_score():
    scores = [refined(0.3, iterations=k, noise=0.3)[2][2] for k in (0, 1, 3, 6)]
    for fewer, more in pairwise(scores):
        assert (more >= fewer - 1e-6).all()
    assert (scores[-1] > scores[0]).all()


def test_log_likelihood_ratios_are_those_of_a_gaussian_likelihood():
    # The ratio is |⟨x, m⟩|² / (2 |m|²): score² |x|² / 2.
    _, _, (_, _, scores, log_likelihood_ratios) = refined(0.1)
    points = MeasuredPoints.everywhere(N).up_to(9)
    x = points.transforms(torch.from_numpy(phantom(N)[None]))
    energy = float((x.abs().square() * points.multiplicity).sum())
    np.testing.assert_allclose(
        log_likelihood_ratios.numpy(), scores.numpy() ** 2 * energy / 2, rtol=0.05
    )


def test_the_best_come_first():
    _, _, found = refined(0.1)
    doubled = PoseCandidates(*(torch.cat([part, part], dim=1) for part in found))
    doubled[2][:, 1] += 0.5
    one = best_of(doubled, 1)
    torch.testing.assert_close(one[2][:, 0], doubled[2][:, 1])
    assert one[0].shape == (6, 1, 3, 3)
