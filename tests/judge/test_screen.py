"""The screen: what is planted on its grid is found there; noise scatters as it should."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import torch
from planted_cubes import BOX, STRUCTURES, VOXEL_A, balls, measured, planted, wanted, white
from scipy.spatial.transform import Rotation

from tomadapt.judge.evidence import log_likelihood_ratio
from tomadapt.judge.noise import Noise
from tomadapt.judge.rivals import Hypothesis, mirror_image, shapes
from tomadapt.judge.screen import (
    CANDIDATES,
    COARSEST_DEG,
    FINEST_DEG,
    Screen,
    Screened,
    grid_step_deg,
    min_search_shell,
    search_shell,
)
from tomadapt.recover.reference import Reference
from tomadapt.recover.rotations import angular_distance_deg, rotation_grid
from tomadapt.structures.resampling import radius_A

pytestmark = pytest.mark.usefixtures("one_thread")

POINTS = measured()
NOISE = white(POINTS)
SHELL = min_search_shell(BOX)
NAMES = tuple(STRUCTURES)


def made(hypotheses: list[Hypothesis], *, reach: float = 2.0) -> Screen:
    return Screen(hypotheses, NOISE, shell=SHELL, reach_voxels=reach)


@cache
def usual() -> Screen:
    return made(wanted())


def sphere(radius_A: float) -> Hypothesis:
    return next(h for h in shapes(BOX, VOXEL_A) if h.name == f"sphere of {radius_A:g} Å")


def on_the_grid(name: str, rotation: int, shift: int, z: float) -> torch.Tensor:
    """Transforms of a structure in a pose of the grid, of norm z at the screen's points."""
    screen = usual()
    reference = Reference.of(balls(STRUCTURES[name]))
    R = screen.banks[NAMES.index(name)].rotations[[rotation]]
    x = reference.at(R, POINTS) * POINTS.phases(screen.shifts[[shift]])
    return x * (z / float((x[:, screen.inside] * screen.root).norm()))


@pytest.mark.parametrize("name", NAMES)
def test_a_pose_of_the_grid_is_found(name: str) -> None:
    rng = np.random.default_rng(len(name))
    screen, column = usual(), NAMES.index(name)
    for rotation, shift in zip(
        rng.integers(len(screen.banks[column].rotations), size=4),
        rng.integers(len(screen.shifts), size=4),
        strict=True,
    ):
        found = screen(on_the_grid(name, rotation, shift, 12.0))
        assert found.z[0].argmax() == column
        assert found.z[0, column] == pytest.approx(12.0, rel=0.06)
        assert found.energy[0] == pytest.approx(144.0, rel=1e-4)
        best = found.rotations[0, column, :1]
        assert angular_distance_deg(best, screen.banks[column].rotations[[rotation]].numpy())[0] < 1
        np.testing.assert_allclose(found.shifts[0, column, 0], screen.shifts[shift])


def test_the_right_structure_is_among_the_best_two_in_noise() -> None:
    """So many are refined at least: the coarse grid alone does not decide."""
    screen = made(wanted())
    for column, name in enumerate(NAMES):
        particles = planted(STRUCTURES[name], 12, NOISE, z=30.0, seed=column)
        found = screen(NOISE.transforms(particles.cubes.volumes))
        best = np.argsort(-found.evidence(screen.freedom), axis=1)[:, :2]
        assert (best == column).any(axis=1).mean() >= 0.9


def test_a_particles_scale_is_in_z() -> None:
    once, twice = (usual()(on_the_grid("beta", 40, 5, z)) for z in (6.0, 12.0))
    np.testing.assert_allclose(2 * once.z, twice.z, rtol=1e-4)
    np.testing.assert_array_equal(once.rotations, twice.rotations)


def test_noise_in_one_pose_has_deviation_one() -> None:
    screen = made([sphere(80)], reach=0.0)
    assert (len(screen.banks[0].rows), len(screen.shifts)) == (1, 1)
    found = screen(POINTS.transforms(NOISE.sample(800, seed=3)))
    assert found.z.mean() == pytest.approx(0.0, abs=0.1)
    assert found.z.std() == pytest.approx(1.0, abs=0.07)
    # With one pose there is nothing to pay for, whatever the sign of z.
    np.testing.assert_allclose(found.occam, 0.0, atol=1e-4)


def test_energy_of_noise_is_its_degrees_of_freedom() -> None:
    screen = usual()
    found = screen(NOISE.transforms(NOISE.sample(60, seed=2)))
    assert found.energy.mean() == pytest.approx(screen.freedom, rel=0.04)


class TestOccam:
    def test_between_all_poses_and_none(self) -> None:
        screen = usual()
        x = torch.cat([NOISE.transforms(NOISE.sample(6, seed=1)), on_the_grid("beta", 9, 2, 25.0)])
        occam = screen(x).occam
        poses = np.array([b.log_rotations for b in screen.banks]) + math.log(len(screen.shifts))
        assert (occam <= 0).all()
        assert (occam >= -poses - 1e-3).all()
        # Only few poses explain what is strong; many explain noise.
        assert occam[-1, 1] < occam[:-1].max() - 1
        assert occam[-1, 1] < -0.5 * poses[1]

    def test_without_signal_all_poses_are_alike(self) -> None:
        np.testing.assert_allclose(
            usual()(1e-4 * on_the_grid("beta", 9, 2, 1.0)).occam, 0, atol=1e-4
        )

    def test_it_is_the_mean_likelihood_over_poses(self) -> None:
        """Against all rotations, none left out for being alike, without the basis."""
        screen = made(wanted("gamma"), reach=0.0)
        x = NOISE.transforms(planted(STRUCTURES["gamma"], 3, NOISE, z=9.0).cubes.volumes)
        step = grid_step_deg(screen.hypotheses[0], SHELL)
        rows = screen._whitened(screen._reference(0), torch.from_numpy(rotation_grid(step)))
        rows /= rows.norm(dim=1, keepdim=True)
        z = torch.view_as_real(x[:, screen.inside] * screen.root).flatten(1) @ rows.T
        half = z.clamp_min(0).square() / 2
        mean = (half.logsumexp(dim=1) - math.log(len(rows))).numpy()
        found = screen(x)
        np.testing.assert_allclose(found.occam[:, 0] + found.z[:, 0] ** 2 / 2, mean, atol=1.3)


class TestBanks:
    def test_a_sphere_has_one_rotation(self) -> None:
        screen = made([sphere(60), sphere(100)])
        assert [len(bank.rows) for bank in screen.banks] == [1, 1]
        found = screen(NOISE.transforms(NOISE.sample(2, seed=0)))
        assert found.rotations.shape == (2, 2, CANDIDATES, 3, 3)
        np.testing.assert_array_equal(found.rotations[:, :, 0], found.rotations[:, :, -1])

    def test_symmetry_makes_it_smaller(self) -> None:
        """Turns about the axis of a club change nothing, so directions are left, not rotations."""
        club = balls(((0.0, 0.0, 3.0, 2.0, 1.0), (0.0, 0.0, -4.0, 1.4, 1.0)))
        structures = [Hypothesis("club", "wanted", club), *wanted("beta")]
        screen = Screen(structures, NOISE, shell=2 * SHELL, reach_voxels=1.0)
        symmetric, other = (len(bank.rows) for bank in screen.banks)
        assert symmetric < 0.4 * other

    def test_each_rotation_is_counted_once(self) -> None:
        screen = made([sphere(60), *wanted("alpha")])
        for bank, hypothesis in zip(screen.banks, screen.hypotheses, strict=True):
            count = len(rotation_grid(grid_step_deg(hypothesis, SHELL)))
            assert float(bank.log_counts.exp().sum()) == pytest.approx(count, rel=1e-4)
            assert bank.log_rotations == pytest.approx(math.log(count))

    @pytest.mark.parametrize("shell", [SHELL, 2 * SHELL])
    def test_regression_the_basis_holds_all_rotations(self, shell: int) -> None:
        """It was learnt from some, and held two thirds of the others."""
        screen = Screen(wanted(), NOISE, shell=shell, reach_voxels=1.0)
        for bank in screen.banks:
            kept = bank.rows.square().sum(dim=1)
            assert kept.mean() >= 0.96
            assert kept.min() >= 0.9

    def test_few_rotations_leave_room_for_shifts(self) -> None:
        found = made([sphere(80)])(NOISE.transforms(NOISE.sample(2, seed=0)))
        assert len(np.unique(found.shifts[0, 0], axis=0)) == CANDIDATES


class TestScreened:
    def found(self) -> Screened:
        return usual()(NOISE.transforms(NOISE.sample(5, seed=8)))

    def test_particles_do_not_depend_on_their_batch(self) -> None:
        x = NOISE.transforms(NOISE.sample(5, seed=8))
        joined = Screened.joined([usual()(x[:2]), usual()(x[2:])])
        for name in ("z", "occam", "rotations", "shifts", "energy"):
            np.testing.assert_allclose(
                getattr(joined, name), getattr(self.found(), name), rtol=1e-4, atol=1e-4
            )

    def test_structures_are_joined_along_columns(self) -> None:
        one = self.found()
        both = Screened.joined([one, one], axis=1)
        assert both.z.shape == (5, 6)
        assert both.shifts.shape == (5, 6, CANDIDATES, 3)
        np.testing.assert_array_equal(both.z[:, 3:], one.z)
        np.testing.assert_array_equal(both.energy, one.energy)

    def test_take(self) -> None:
        one = self.found()
        some = one.take(np.array([4, 1]))
        np.testing.assert_array_equal(some.z, one.z[[4, 1]])
        np.testing.assert_array_equal(some.rotations, one.rotations[[4, 1]])
        np.testing.assert_array_equal(some.energy, one.energy[[4, 1]])

    def test_evidence_pays_for_the_poses(self) -> None:
        one = self.found()
        ratio = log_likelihood_ratio(one.z, one.energy[:, None], usual().freedom)
        np.testing.assert_allclose(one.evidence(usual().freedom), ratio + one.occam)

    def test_the_best_pose_comes_first(self) -> None:
        found = usual()(on_the_grid("alpha", 77, 3, 10.0))
        turns = angular_distance_deg(
            found.rotations[0, 0],
            np.repeat(usual().banks[0].rotations[[77]].numpy(), CANDIDATES, axis=0),
        )
        assert turns.argmin() == 0
        assert (turns[1:] > 1).all()


class TestSimilarity:
    @pytest.mark.parametrize("name", NAMES)
    def test_of_itself_in_any_pose_and_scale(self, name: str) -> None:
        turned = 9 * balls(STRUCTURES[name], Rotation.random(rng=3).as_matrix(), (0.8, -0.5, 0.3))
        alike = usual().similarity(Hypothesis("turned", "wanted", turned))
        assert alike[NAMES.index(name)] > 0.98
        assert np.delete(alike, NAMES.index(name)).max() < 0.95

    @pytest.mark.parametrize("name", NAMES)
    def test_a_mirror_image_is_another_structure(self, name: str) -> None:
        """In no rotation is a chiral density its mirror image, nor is that another's."""
        mirror = Hypothesis("mirror", "mirror", mirror_image(balls(STRUCTURES[name])))
        assert usual().similarity(mirror)[NAMES.index(name)] < 0.95

    def test_of_spheres(self) -> None:
        alike = made([sphere(60), sphere(80), sphere(100)]).similarity(sphere(60))
        assert alike[0] > 0.98
        assert alike[0] > alike[1] + 0.01 > alike[2] + 0.05


class TestSteps:
    def test_by_hand(self) -> None:
        """Half a period of shell 8 is BOX / 16 voxels; 1.8 of them at the edge are a step."""
        ball = Hypothesis("ball", "wanted", sphere(80).density)
        expected = math.degrees(1.8 * (BOX / 16) / radius_A(ball.windowed, 1.0))
        assert FINEST_DEG < expected < COARSEST_DEG
        assert grid_step_deg(ball, 8) == round(expected)

    def test_large_structures_and_high_shells_need_finer_grids(self) -> None:
        small, large = (
            [grid_step_deg(Hypothesis("x", "wanted", sphere(r).density), shell) for shell in (4, 8)]
            for r in (45.0, 100.0)
        )
        assert large[0] <= small[0]
        assert large[1] < small[1]
        assert all(FINEST_DEG <= step <= COARSEST_DEG for step in small + large)

    def test_shapes_are_smooth(self) -> None:
        assert {grid_step_deg(h, 8) for h in shapes(BOX, VOXEL_A)} == {COARSEST_DEG}


class TestSearchShell:
    def damped(self, low: float) -> Noise:
        """What lies below half of Nyquist is let through by this factor alone."""
        transfer = torch.where(POINTS.shell < BOX // 4, low, 1.0).float()
        return replace(NOISE, points=replace(POINTS, transfer=transfer))

    def test_low_frequencies_tell_most(self) -> None:
        assert search_shell(self.damped(1.0), wanted()) == min_search_shell(BOX)

    def test_regression_near_focus_they_do_not(self) -> None:
        """Real ribosomes lost their poses on a screen that saw a third of what tells them apart."""
        assert search_shell(self.damped(0.02), wanted()) > min_search_shell(BOX)

    def test_memory_bounds_it(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("tomadapt.judge.screen.MAX_POINTS", 1)
        assert search_shell(self.damped(0.02), wanted()) == min_search_shell(BOX)

    def test_the_scale_of_noise_does_not_matter(self) -> None:
        louder = replace(NOISE, power=9 * NOISE.power)
        assert search_shell(louder, wanted()) == search_shell(NOISE, wanted())
