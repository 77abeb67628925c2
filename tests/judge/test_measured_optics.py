"""Optics, scale and SNR that were planted are measured."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from planted_cubes import (
    BOX,
    STATED,
    STRUCTURES,
    VOXEL_A,
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
from tomadapt.judge.optics import (
    SEARCHED_SCALE,
    MeasuredOptics,
    Sample,
    b_factor_log_likelihoods,
    defocus_sums,
    scale_log_likelihoods,
    signal_to_noise,
    with_envelope,
)
from tomadapt.judge.rivals import Hypothesis
from tomadapt.judge.screen import min_search_shell
from tomadapt.recover.fourier import MeasuredPoints

pytestmark = pytest.mark.usefixtures("one_thread")

POINTS = measured()
NOISE = white(POINTS)
SHELL = min_search_shell(BOX)
HYPOTHESES = wanted("alpha", "beta")
SHARP = tuple((*(0.6 * c for c in parts[:3]), 1.0, parts[4]) for parts in STRUCTURES["alpha"])
"""Balls so small that they have something to say at all frequencies."""


def sample_of(particles: Planted, parts: tuple[tuple[float, ...], ...] = SHARP) -> Sample:
    hypotheses = [Hypothesis("sharp", "wanted", balls(parts)), HYPOTHESES[1]]
    n = len(particles.cubes)
    found = at_the_truth(particles)
    return Sample(particles.cubes, np.zeros(n, dtype=int), found, hypotheses, NOISE, VOXEL_A)


class TestOptics:
    def optics(
        self, true: Acquisition, stated: Acquisition | None = STATED, *, degrees: float = 0.0
    ) -> MeasuredOptics:
        """What particles recorded with one acquisition say where another was stated."""
        particles = planted(SHARP, 12, NOISE, z=25.0, seed=5, points=measured(true))
        sample = sample_of(particles)
        if degrees:
            turn = Rotation.from_rotvec([np.radians(degrees), 0, 0]).as_matrix()
            rotations = (sample.refined.rotations @ turn).astype(np.float32)
            sample = replace(sample, refined=replace(sample.refined, rotations=rotations))
        found = MeasuredOptics.of(b_factor_log_likelihoods(sample), 12)
        return found if stated is None else found.with_defocus(defocus_sums(sample, stated), stated)

    def test_as_stated(self) -> None:
        found = self.optics(STATED)
        assert found.b_factor_A2 <= 500
        assert found.defocus_um == pytest.approx(4.0, abs=0.51)
        assert 0 <= found.defocus_nats < 5
        assert found.particles == 12

    @pytest.mark.parametrize("change", [-2.0, 3.0])
    def test_another_defocus(self, change: float) -> None:
        stated = STATED.model_copy(update={"defocus_um": 9.0})
        true = STATED.model_copy(update={"defocus_um": 9.0 + change})
        found = self.optics(true, stated)
        assert found.defocus_um == pytest.approx(9.0 + change, abs=1.1)
        assert found.defocus_nats > 8
        assert found.defocus_range_um is not None
        assert found.defocus_range_um[0] - 0.6 <= 9.0 + change <= found.defocus_range_um[1] + 0.6

    def test_another_b_factor(self) -> None:
        found = self.optics(STATED.model_copy(update={"b_factor_A2": 3000.0}))
        assert found.b_factor_A2 == pytest.approx(3000.0, abs=1000)

    def test_regression_no_zero_below_nyquist_tells_no_defocus(self) -> None:
        """Particles blurred by what is not modelled, of 2.5 µm, in voxels of 16 Å.

        The first zero lies beyond the Nyquist frequency. A defocus that lets more through at low
        frequencies would fit such particles better, if the envelope were known.
        """
        stated = STATED.model_copy(update={"defocus_um": 2.5})
        found = self.optics(stated.model_copy(update={"b_factor_A2": 6000.0}), stated)
        assert found.defocus_um == 2.5
        assert found.defocus_nats == 0.0
        lowest, highest = found.defocus_range_um or (2.5, 2.5)
        assert lowest <= 2.0
        assert highest >= 3.5

    def test_no_ctf(self) -> None:
        """Nothing is said of a defocus; with the transfer of the points an envelope is found."""
        found = self.optics(STATED.model_copy(update={"b_factor_A2": 3000.0}), stated=None)
        assert found.defocus_um is None
        assert found.defocus_nats == 0.0
        assert found.b_factor_A2 == pytest.approx(3000.0, abs=1000)

    def test_poses_that_are_a_little_off(self) -> None:
        """Their errors are a little more blur."""
        found = self.optics(STATED, degrees=2.0)
        assert found.b_factor_A2 <= 2000
        assert found.defocus_um == pytest.approx(4.0, abs=1.1)


class TestScale:
    @pytest.mark.parametrize("steps", [-2, 0, 1, 3])
    def test_particles_of_another_size(self, steps: int) -> None:
        """A voxel size that is wrong changes the CTF with the size; both are found at once."""
        scale = 1.08**steps
        larger = tuple((*(scale * c for c in parts[:4]), parts[4]) for parts in SHARP)
        true = MeasuredPoints.of(STATED, n=BOX, voxel_size_A=VOXEL_A / scale)
        particles = planted(larger, 12, NOISE, z=25.0, seed=6, points=true)
        log_likelihoods = scale_log_likelihoods(sample_of(particles), STATED)
        found = MeasuredOptics.of(torch.zeros(25), 12).with_scale(log_likelihoods)
        assert SEARCHED_SCALE.index(found.scale) - SEARCHED_SCALE.index(1.0) == steps
        assert (found.scale_nats > 30) == (steps != 0)

    def test_without_a_ctf_only_the_structure_is_scaled(self) -> None:
        larger = tuple((*(1.08**2 * c for c in parts[:4]), parts[4]) for parts in SHARP)
        particles = planted(larger, 12, NOISE, z=25.0, seed=6)
        log_likelihoods = scale_log_likelihoods(sample_of(particles), None)
        assert SEARCHED_SCALE[int(log_likelihoods.argmax())] == pytest.approx(1.08**2, abs=1e-3)


class TestSignalToNoise:
    def test_power_that_was_planted(self) -> None:
        """Against the voxels of the particle itself, before noise is added."""
        particles = planted(SHARP, 12, NOISE, z=25.0, seed=7)
        ratios = signal_to_noise(sample_of(particles), 0.0)
        noise = NOISE.sample(12, seed=8)
        power = [
            (POINTS.transforms(cubes).abs().square() @ POINTS.multiplicity).numpy()
            for cubes in (particles.cubes.volumes - noise, noise)
        ]
        planted_there = power[0].mean() / power[1].mean()
        # What the CTF spread beyond the window is not seen: a few per cent less.
        assert ratios[:, 0].mean() == pytest.approx(planted_there, rel=0.12)

    def test_before_the_ctf(self) -> None:
        """The ratio of both is that of the structure with and without its transfer."""
        particles = planted(SHARP, 4, NOISE, z=25.0, seed=7)
        after, before = signal_to_noise(sample_of(particles), 0.0).T
        whole = replace(POINTS, transfer=torch.ones_like(POINTS.transfer))
        expected = []
        for R in particles.rotations:
            parts = [np.square(seen(balls(SHARP, R), p)).sum() for p in (whole, POINTS)]
            expected.append(parts[0] / parts[1])
        np.testing.assert_allclose(before / after, expected, rtol=0.05)

    def test_an_envelope_lets_less_through(self) -> None:
        particles = planted(SHARP, 4, NOISE, z=25.0, seed=7)
        sample = sample_of(particles)
        sharp, blurred = signal_to_noise(sample, 0.0), signal_to_noise(sample, 4000.0)
        assert (blurred[:, 1] / blurred[:, 0] > sharp[:, 1] / sharp[:, 0]).all()


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
