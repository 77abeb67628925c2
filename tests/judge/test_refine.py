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
    STATED,
    STRUCTURES,
    VOXEL_A,
    Held,
    Planted,
    at_the_truth,
    balls,
    measured,
    planted,
    seen,
    wanted,
    white,
)
from scipy.spatial.transform import Rotation

from tomadapt.acquisition import Acquisition
from tomadapt.judge.refine import MeasuredOptics, Refined, optics_gains, refine, with_envelope
from tomadapt.judge.rivals import Hypothesis
from tomadapt.judge.screen import Screened, least_shell
from tomadapt.recover.rotations import angular_distance_deg

pytestmark = pytest.mark.usefixtures("one_thread")

POINTS = measured()
NOISE = white(POINTS)
SHELL = least_shell(BOX)
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
    assert np.isneginf(found.gain()[out]).all()
    assert np.isfinite(found.gain()[~out]).all()
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
    assert (found.gain()[compared] <= found.z[compared] ** 2 / 2 + 1e-9).all()
    assert (found.gain()[:, 0] > 60).all()


class TestOptics:
    """With balls so small that they have something to say at all frequencies."""

    sharp = tuple((*(0.6 * c for c in parts[:3]), 1.0, parts[4]) for parts in STRUCTURES["alpha"])

    def optics(
        self, true: Acquisition, stated: Acquisition | None = STATED, *, climbed: bool = False
    ) -> MeasuredOptics:
        """What particles recorded with one acquisition say where another was stated."""
        particles = planted(self.sharp, 12, NOISE, z=25.0, seed=5, points=measured(true))
        sharp = [Hypothesis("sharp", "wanted", balls(self.sharp)), HYPOTHESES[1]]
        found = at_the_truth(particles)
        if climbed:
            found = refined_of(particles, np.repeat([[True, False]], 12, axis=0), hypotheses=sharp)
        gains = optics_gains(
            particles.cubes,
            np.zeros(12, dtype=int),
            found,
            sharp,
            NOISE,
            acquisition=stated,
            voxel_size_A=VOXEL_A,
        )
        return MeasuredOptics.of(gains, stated, 12)

    def test_as_stated(self) -> None:
        found = self.optics(STATED)
        assert found.b_factor_A2 <= 500
        assert found.defocus_um == pytest.approx(4.0, abs=0.51)
        assert 0 <= found.defocus_nats < 5
        assert found.particles == 12

    @pytest.mark.parametrize("change", [-2.0, 3.0])
    def test_another_defocus(self, change: float) -> None:
        true = STATED.model_copy(update={"defocus_um": 4.0 + change})
        found = self.optics(true)
        assert found.defocus_um == pytest.approx(4.0 + change, abs=1.1)
        assert found.defocus_nats > 8

    def test_another_b_factor(self) -> None:
        found = self.optics(STATED.model_copy(update={"b_factor_A2": 3000.0}))
        assert found.b_factor_A2 == pytest.approx(3000.0, abs=1000)

    def test_no_ctf(self) -> None:
        """Nothing is said of a defocus; with the transfer of the points an envelope is found."""
        found = self.optics(STATED.model_copy(update={"b_factor_A2": 3000.0}), stated=None)
        assert found.defocus_um is None
        assert found.defocus_nats == 0.0
        assert found.b_factor_A2 == pytest.approx(3000.0, abs=1000)

    def test_poses_that_were_climbed_to(self) -> None:
        """Their errors are a little more blur."""
        found = self.optics(STATED, climbed=True)
        assert found.b_factor_A2 <= 2000
        assert found.defocus_um == pytest.approx(4.0, abs=1.1)


class TestEnvelope:
    def test_it_damps_amplitudes(self) -> None:
        b = 2000.0
        damped = with_envelope(NOISE, b, VOXEL_A, at_least=SHELL)
        kept = POINTS.shell <= int(damped.points.shell.max())
        k = POINTS.k[kept].norm(dim=1) / VOXEL_A
        torch.testing.assert_close(
            damped.points.transfer, POINTS.transfer[kept] * torch.exp(-b * k.square() / 4)
        )
        torch.testing.assert_close(damped.power, NOISE.power[kept])

    def test_shells_where_little_is_left_are_cut_off(self) -> None:
        highest = [
            int(with_envelope(NOISE, b, VOXEL_A, at_least=SHELL).points.shell.max())
            for b in (0, 20_000, 30_000, 1e5)
        ]
        assert highest[0] == int(POINTS.shell.max())
        assert highest[0] > highest[1] > highest[2] > highest[3]
        assert highest[3] == SHELL  # what the screen used is always kept
        for b, shell in zip((20_000, 30_000), highest[1:3], strict=True):
            left = np.exp(-b / 4 * ((shell + np.array([0, 1])) / BOX / VOXEL_A) ** 2)
            assert left[0] > 0.07
            assert left[1] < 0.1

    def test_none_changes_nothing(self) -> None:
        same = with_envelope(NOISE, 0.0, VOXEL_A, at_least=SHELL)
        torch.testing.assert_close(same.points.transfer, POINTS.transfer)
        assert len(same.power) == len(NOISE.power)
