"""Refinement: poses, amplitudes and optics that were planted are found."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from planted_cubes import (
    BOX,
    STRUCTURES,
    Held,
    Planted,
    balls,
    measured,
    planted,
    seen,
    wanted,
    white,
)
from scipy.spatial.transform import Rotation

from tomadapt.judge.refine import Refined, refine
from tomadapt.judge.rivals import Hypothesis
from tomadapt.judge.screen import Screened, min_search_shell
from tomadapt.recover.rotations import angular_distance_deg

pytestmark = pytest.mark.usefixtures("one_thread")

POINTS = measured()
NOISE = white(POINTS)
SHELL = min_search_shell(BOX)
HYPOTHESES = wanted("alpha", "beta")


def near(particles: Planted, *, degrees: float = 10.0, voxels: float = 0.5) -> Screened:
    """What a screen may say of them: poses that are a little off, for both structures."""
    n = len(particles.cubes)
    rng = np.random.default_rng(2)
    axes = rng.normal(size=(n, 3))
    axes *= np.radians(degrees) / np.linalg.norm(axes, axis=1, keepdims=True)
    turned = Rotation.from_matrix(particles.rotations) * Rotation.from_rotvec(axes)
    rotations = turned.as_matrix().astype(np.float32)[:, None, None].repeat(2, axis=1)
    moves = rng.normal(size=(n, 3))
    moves *= voxels / np.linalg.norm(moves, axis=1, keepdims=True)
    shifts = (particles.shifts + moves).astype(np.float32)[:, None, None].repeat(2, axis=1)
    empty = np.zeros((n, 2))
    return Screened(empty, empty, rotations, shifts, np.zeros(n))


def refined_of(
    particles: Planted,
    pairs: NDArray[np.bool_],
    hypotheses: list[Hypothesis] = HYPOTHESES,
    told: list[int] | None = None,
) -> Refined:
    return refine(
        particles.cubes,
        near(particles),
        pairs,
        hypotheses,
        NOISE,
        shell=SHELL,
        reach_voxels=2.0,
        progress=(lambda _: None) if told is None else told.append,
    )


@dataclass(frozen=True, eq=False)
class Case:
    particles: Planted
    pairs: NDArray[np.bool_]
    told: list[int]
    refined: Refined


@cache
def case() -> Case:
    """Twenty particles of alpha, all compared with alpha, and the first five with beta."""
    particles = planted(STRUCTURES["alpha"], 20, NOISE, z=20.0)
    pairs = np.zeros((20, 2), dtype=bool)
    pairs[:, 0] = True
    pairs[:5, 1] = True
    told: list[int] = []
    return Case(particles, pairs, told, refined_of(particles, pairs, told=told))


def test_planted_poses_are_found_from_neighbours() -> None:
    found, true = case().refined, case().particles
    turned = angular_distance_deg(found.rotations[:, 0], true.rotations)
    moved = np.linalg.norm(found.shifts[:, 0] - true.shifts, axis=1)
    assert np.median(turned) < 3.5
    assert turned.max() < 8
    assert np.median(moved) < 0.25
    assert moved.max() < 0.5


def test_z_is_the_norm_of_what_was_planted() -> None:
    z = case().refined.z[:, 0]
    assert z.mean() == pytest.approx(20.0, abs=1.5)
    assert z.std() < 2.5
    assert (case().refined.z[:5, 1] < z[:5]).all()


@pytest.mark.parametrize("amplitude", [2.0, 20.0])
def test_amplitudes_are_found(amplitude: float) -> None:
    """Without noise; the window takes a little from what reaches into its edge."""
    rotation = Rotation.random(rng=1).as_matrix()
    cube = seen(amplitude * balls(STRUCTURES["alpha"], rotation, (0.5, 0.2, -0.4)), POINTS)
    one = Planted(Held(torch.from_numpy(cube)[None]), rotation[None], np.array([[0.5, 0.2, -0.4]]))
    found = refined_of(one, np.array([[True, False]]))
    assert found.amplitude[0, 0] == pytest.approx(amplitude, rel=0.1)


def test_what_was_not_compared() -> None:
    found, begun = case().refined, near(case().particles)
    out = ~case().pairs
    assert np.isnan(found.z[out]).all()
    assert np.isnan(found.amplitude[out]).all()
    assert np.isneginf(found.log_likelihood_ratio()[out]).all()
    assert np.isfinite(found.log_likelihood_ratio()[~out]).all()
    np.testing.assert_array_equal(found.rotations[out], begun.rotations[:, :, 0][out])
    np.testing.assert_array_equal(found.shifts[out], begun.shifts[:, :, 0][out])


def test_each_comparison_is_told() -> None:
    assert sum(case().told) == case().pairs.sum() == 25


def test_a_particle_does_not_depend_on_its_batch() -> None:
    everything, particles = case().refined, case().particles
    rows = np.array([18, 3])
    some = Planted(
        Held(particles.cubes.volumes[rows]), particles.rotations[rows], particles.shifts[rows]
    )
    begun = near(particles).take(rows)
    found = refine(
        some.cubes, begun, case().pairs[rows], HYPOTHESES, NOISE, shell=SHELL, reach_voxels=2.0
    )
    np.testing.assert_allclose(found.z, everything.z[rows], rtol=1e-3)
    np.testing.assert_allclose(found.energy, everything.energy[rows], rtol=1e-4)
    turned = angular_distance_deg(found.rotations[:, 0], everything.rotations[rows, 0])
    assert turned.max() < 0.2


def test_gain_is_at_most_half_the_squared_correlation() -> None:
    found = case().refined
    compared = ~np.isnan(found.z)
    assert (found.log_likelihood_ratio()[compared] <= found.z[compared] ** 2 / 2 + 1e-9).all()
    assert (found.log_likelihood_ratio()[:, 0] > 60).all()
