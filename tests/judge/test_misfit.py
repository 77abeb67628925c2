"""Misfit: what is left over is seen, and what fits only in part is told from what fits."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from planted_cubes import (
    STRUCTURES,
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

from tomadapt.judge.lead import ExpectedLeads
from tomadapt.judge.misfit import fit_with_fits, residual_power
from tomadapt.judge.rivals import Hypothesis

pytestmark = pytest.mark.usefixtures("one_thread")

POINTS = measured()
NOISE = white(POINTS)
HYPOTHESES = wanted("alpha", "beta")
Doubles = NDArray[np.float64]


class TestResidualPower:
    particles = planted(STRUCTURES["alpha"], 24, NOISE, z=25.0)
    found = at_the_truth(particles)
    alpha = np.zeros(24, dtype=int)

    def power(self, cubes: Held, columns: NDArray[np.int64] | None = None) -> Doubles:
        columns = self.alpha if columns is None else columns
        return residual_power(cubes, columns, self.found, HYPOTHESES, NOISE)

    def test_what_is_explained_leaves_the_noise(self) -> None:
        """In a box with room around the structure: the window takes none of the noise near it."""
        small = ((2.0, 0.0, 0.0, 1.0, 1.0), (-1.0, 1.5, 1.0, 1.0, 0.8))
        noise = white(measured(box=28))
        particles = planted(small, 24, noise, z=25.0)
        structure = [Hypothesis("small", "wanted", balls(small, box=28))]
        left = residual_power(
            particles.cubes, self.alpha, at_the_truth(particles, 1), structure, noise
        )
        assert left.mean() == pytest.approx(1.0, abs=0.05)
        assert left.std() < 0.15

    @pytest.mark.parametrize("axis", [0, 1, 2])
    def test_what_is_around_a_particle_is_around_where_it_lies(self, axis: int) -> None:
        """Off the centre, on its own side a ball is near and on the other it is far."""
        small = ((2.0, 0.0, 0.0, 1.0, 1.0), (-1.0, 1.5, 1.0, 1.0, 0.8))
        noise = white(measured(box=28))
        structure = [Hypothesis("small", "wanted", balls(small, box=28))]
        shift = 4.0 * np.eye(3)[axis]
        cubes = []
        for side in (0.0, 1.0, -1.0):
            beside = ((*(side * 8.5 * np.eye(3)[axis]), 1.2, 40.0 * abs(side)),)
            particle = 40 * balls(small, shift=shift, box=28) + balls(beside, box=28)
            cubes.append(torch.from_numpy(seen(particle, noise.points)))
        held = Held(torch.stack(cubes) + noise.sample(1, seed=2))
        poses = np.repeat(np.eye(3)[None], 3, axis=0)
        found = at_the_truth(Planted(held, poses, np.repeat(shift[None], 3, axis=0)), 1)
        alone, near, far = residual_power(held, np.zeros(3, dtype=int), found, structure, noise)
        assert near > alone + 0.3
        assert far < alone + 0.3 * (near - alone)

    def test_a_ball_beside_it_is_left(self) -> None:
        ball = ((-4.0, -1.0, -3.0, 1.3, 1.0),)
        extra = [
            seen(balls(ball, R, s), POINTS)
            for R, s in zip(self.particles.rotations, self.particles.shifts, strict=True)
        ]
        cubes = self.particles.cubes.volumes + 30 * torch.from_numpy(np.stack(extra))
        more = self.power(Held(cubes))
        assert (more > self.power(self.particles.cubes) + 0.2).all()

    def test_far_away_counts_little(self) -> None:
        """A ball in the corner of the box is a neighbour's."""
        corner = seen(balls(((8.0, 8.0, 8.0, 1.0, 1.0),)), POINTS)
        cubes = self.particles.cubes.volumes + 30 * torch.from_numpy(corner)
        rise = self.power(Held(cubes)) - self.power(self.particles.cubes)
        assert np.abs(rise).max() < 0.1

    def test_the_wrong_structure_leaves_more(self) -> None:
        right, wrong = (self.power(self.particles.cubes, self.alpha + c) for c in (0, 1))
        assert (wrong > right).all()
        assert wrong.mean() > right.mean() + 0.3

    def test_each_particle_has_its_own_structure(self) -> None:
        mixed = self.alpha.copy()
        mixed[::2] = 1
        right, wrong = (self.power(self.particles.cubes, self.alpha + c) for c in (0, 1))
        np.testing.assert_allclose(
            self.power(self.particles.cubes, mixed), np.where(mixed == 1, wrong, right), rtol=1e-4
        )

    def test_it_does_not_depend_on_the_scale_of_the_structure(self) -> None:
        """The amplitude is fitted."""
        larger = [replace(h, density=np.float32(50) * h.density) for h in HYPOTHESES]
        again = residual_power(self.particles.cubes, self.alpha, self.found, larger, NOISE)
        np.testing.assert_allclose(again, self.power(self.particles.cubes), rtol=1e-3)


NO_DECOYS = np.array([False])


def expecting(*ratios: float) -> ExpectedLeads:
    return ExpectedLeads(np.array(ratios), np.zeros((len(ratios),) * 2, dtype=bool))


ALONE = expecting(1.0)
"""Nothing resembles the structure, so that its lead says nothing."""


def scattered(middle: float, count: int, seed: int, spread: float = 0.06) -> Doubles:
    return middle * (1 + spread * np.random.default_rng(seed).normal(size=count))


class TestFits:
    """One wanted structure beside noise; all particles are clearly more than noise."""

    def fitted(
        self, contrast: Doubles, residual_ratio: Doubles, decoys: NDArray[np.bool_] = NO_DECOYS
    ) -> tuple[Doubles, Doubles]:
        n = len(contrast)
        evidence = np.repeat([[100.0, 0.0]], n, axis=0)
        mixture, relative = fit_with_fits(
            evidence, contrast[:, None], residual_ratio, decoys, ALONE
        )
        np.testing.assert_allclose(mixture.posterior.sum(axis=1), 1)
        return mixture.posterior, relative[:, 0]

    def test_weak_contrast_is_in_part(self) -> None:
        """Thirty define the contrast; of sixteen others half have less."""
        contrast = np.concatenate([scattered(5.0, 38, 0), scattered(3.0, 8, 1)])
        posterior, relative = self.fitted(contrast, scattered(1.0, 46, 2))
        assert posterior[:38].argmax(axis=1).tolist() == [0] * 38
        assert posterior[38:].argmax(axis=1).tolist() == [1] * 8
        assert np.median(relative[:38]) == pytest.approx(1.0, abs=0.03)
        assert np.median(relative[38:]) == pytest.approx(0.6, abs=0.05)

    def test_a_large_residual_is_in_part(self) -> None:
        contrast = scattered(1.0, 40, 0)
        residual_ratio = np.concatenate([scattered(1.0, 34, 1), scattered(4.0, 6, 2)])
        usual, _ = self.fitted(contrast, scattered(1.0, 40, 1))
        posterior, _ = self.fitted(contrast, residual_ratio)
        assert (posterior[34:, 1] > 10 * usual[34:, 1]).all()
        assert posterior[:34, 0].min() > 0.5

    def test_regression_what_is_left_below_the_noise_is_nothing(self) -> None:
        """At an SNR of 1000 a sixth of the particles were called explained in part.

        Poses and interpolation leave a tenth of the noise of some particles and a thirtieth of
        others'; the first were many times the usual.
        """
        residual_ratio = np.concatenate([scattered(0.03, 30, 1), scattered(0.15, 10, 2)])
        posterior, _ = self.fitted(scattered(1.0, 40, 0), residual_ratio)
        assert posterior[:, 0].min() > 0.5

    def test_regression_noise_is_not_named_after_a_class_of_few(self) -> None:
        """Five particles at 80 nats: noise of 4 nats with a fifth of their contrast is none.

        The contrast of classes of fewer than eight particles was not looked at.
        """
        n = 40
        evidence = np.repeat([[80.0, 0.0], [-1.0, 0.0], [4.0, 0.0]], [5, n, 2], axis=0)
        contrast = np.concatenate([scattered(3.4, 5, 0), scattered(0.4, n, 1), [0.65, 0.65]])
        residual_ratio = scattered(1.0, n + 7, 2)
        mixture, relative = fit_with_fits(
            evidence, contrast[:, None], residual_ratio, NO_DECOYS, ALONE
        )
        assert mixture.posterior[:5, 0].min() > 0.9
        assert mixture.posterior[5:, -1].min() > 0.8
        assert np.median(relative[:5, 0]) == pytest.approx(1.0, abs=0.1)

    @pytest.mark.parametrize(("led", "whole"), [(0.0, True), (50.0, True), (92.0, False)])
    def test_one_particle_of_a_class(self, led: float, whole: bool) -> None:
        """Nothing is known of its contrast; its lead decides, where it can say anything."""
        evidence = np.repeat([[100.0, led, 0.0], [-1.0, -1.0, 0.0]], [1, 20], axis=0)
        expected = expecting(0.5 if led else 1.0)
        contrast, ones = np.ones((21, 1)), np.ones(21)
        decoys = np.array([True, False])
        mixture, relative = fit_with_fits(evidence, contrast, ones, decoys, expected)
        assert (mixture.posterior[0, 0] > 0.5) == whole
        np.testing.assert_array_equal(relative, 1.0)

    def test_all_alike_fit(self) -> None:
        posterior, _ = self.fitted(scattered(2.0, 40, 3), scattered(1.3, 40, 4))
        assert posterior[:, 0].min() > 0.5
        assert posterior[:, 0].mean() > 0.95

    @pytest.mark.parametrize("scale", [0.01, 30.0])
    def test_the_unit_of_contrast_does_not_matter(self, scale: float) -> None:
        contrast = np.concatenate([scattered(1.0, 30, 0), scattered(0.6, 8, 1)])
        residual_ratio = scattered(1.0, 38, 2)
        one, other = (self.fitted(s * contrast, residual_ratio) for s in (1.0, scale))
        np.testing.assert_allclose(one[0], other[0], atol=1e-6)
        np.testing.assert_allclose(one[1], other[1], rtol=1e-6)

    def test_decoys_raise_what_is_in_part(self) -> None:
        """As many explained in part as a decoy explains: a structure is one more decoy to them."""
        n = 60
        evidence = np.zeros((n, 4))  # wanted, two decoys, noise
        evidence[:30, 0] = 40.0
        evidence[30:50, 1:3] = [[40.0, 0.0], [0.0, 40.0]] * 10
        evidence[50:, 3] = 40.0
        contrast, residual_ratio = scattered(1.0, n, 0)[:, None], scattered(1.0, n, 1)
        with_them, without = (
            fit_with_fits(evidence, contrast, residual_ratio, np.array(decoys), ALONE)[
                0
            ].proportions
            for decoys in ([True, True, False], [False, False, False])
        )
        assert without[1] < 0.02
        assert 0.6 * 10 / n < with_them[1] < 1.2 * 10 / n

    def test_a_structure_that_no_particle_was_compared_with(self) -> None:
        evidence = np.repeat([[100.0, -np.inf, 0.0]], 20, axis=0)
        amplitude = np.stack([scattered(1.0, 20, 0), np.full(20, np.nan)], axis=1)
        mixture, relative = fit_with_fits(
            evidence, amplitude, np.ones(20), NO_DECOYS, expecting(1.0, 1.0)
        )
        assert np.isfinite(mixture.posterior).all()
        np.testing.assert_array_equal(relative[:, 1], 1.0)
        assert mixture.posterior[:, 0].min() > 0.5


class TestLeads:
    """What the lead decides, among structures, decoys and noise."""

    DECOYS = 20

    def compared(self, best: Doubles, others: Doubles, rng: np.random.Generator) -> Doubles:
        """(n, decoys + 1) evidence of three decoys each; ``best`` is that of the first of them."""
        found = np.full((len(best), self.DECOYS + 1), -np.inf)
        found[:, -1] = 0.0
        for row, evidence in enumerate(found):
            some = rng.choice(self.DECOYS, 3, replace=False)
            evidence[some] = [best[row], *others[row]]
        return found

    @pytest.mark.parametrize(("nats", "lead"), [(8.0, 0.4), (12.0, 0.2), (20.0, 0.4)])
    def test_regression_faint_classes_are_not_lost(self, nats: float, lead: float) -> None:
        """Structures that trailed had an advantage over the one that led: 6 of 180 were right."""
        rng, w, each = np.random.default_rng(0), 6, 30
        n, truth = w * each, np.repeat(np.arange(w), each)
        own = np.maximum(nats + rng.normal(0, np.sqrt(2 * nats), n), 1)
        spread = np.sqrt(2 * own * lead * (1 - lead))[:, None]
        wanted = (1 - lead) * own[:, None] + spread * rng.normal(size=(n, w))
        wanted[np.arange(n), truth] = own
        rivals = (1 - lead) * own[:, None] + spread * rng.normal(size=(n, 3))
        table = np.column_stack([wanted, self.compared(rivals[:, 0], rivals[:, 1:], rng)])
        table[:, :w] = np.where(table[:, :w] > 0, table[:, :w], -np.inf)
        decoys = np.array([True] * self.DECOYS + [False])
        contrast = rng.normal(1, 0.12, (n, w))
        mixture, _ = fit_with_fits(
            table, contrast, scattered(1.0, n, 1), decoys, expecting(*[lead] * w)
        )
        named = mixture.posterior[:, :w].max(axis=1) > 0.5
        right = named & (mixture.posterior[:, :w].argmax(axis=1) == truth)
        likeliest = table[:, :w].argmax(axis=1) == truth
        assert right.sum() > 0.65 * likeliest.sum()

    def test_regression_many_named_structures_have_no_more_in_part_than_all_decoys(self) -> None:
        """With two conformations of eight classes named, two of twelve empty cubes had a name."""
        rng, w, n = np.random.default_rng(0), 16, 100
        table = np.full((n, w + 3), -np.inf)  # two decoys and noise
        table[:, -1] = 0.0
        table[:80, 0] = 40.0
        table[80:84, w] = 40.0
        contrast = rng.normal(1, 0.08, (n, w))
        decoys = np.array([True, True, False])
        expected = expecting(*[0.5] * w)
        mixture, _ = fit_with_fits(table, contrast, scattered(1.0, n, 1), decoys, expected)
        in_part, of_decoys = mixture.proportions[w : 2 * w], mixture.proportions[-3:-1]
        assert in_part.sum() < 1.5 * of_decoys.sum()
        assert mixture.posterior[84:, -1].min() > 0.9

    @pytest.mark.parametrize(("nats", "lead"), [(20.0, 0.2), (40.0, 0.2), (40.0, 0.6)])
    def test_regression_few_particles_among_many_unnamed(self, nats: float, lead: float) -> None:
        """Two particles of a class, of which nothing but the lead is known: 0 of 40 were named."""
        named = 0
        for seed in range(10):
            rng = np.random.default_rng(seed)
            n = 40 + 2 + 150
            best = np.where(np.arange(n) < 42, 0.4, 0.7) * nats
            decoys = self.compared(best, np.full((n, 2), 0.4 * nats), rng)
            table = np.column_stack([np.full((n, 2), 0.5 * nats), decoys])
            table[:40, 0] = table[40:42, 1] = nats
            leads = lead * nats + rng.normal(0, np.sqrt(2 * nats * lead * (1 - lead)), 2)
            table[40:42, 2] = nats - leads
            known = np.array([True] * self.DECOYS + [False])
            mixture, _ = fit_with_fits(
                table,
                rng.normal(1, 0.08, (n, 2)),
                scattered(1.0, n, seed),
                known,
                expecting(0.6, lead),
            )
            named += int((mixture.posterior[40:42, 1] > 0.5).sum())
        assert named >= 16
