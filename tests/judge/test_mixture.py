"""Mixtures: planted proportions are found; q-values and tempering follow their definitions."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from tomadapt.judge.mixture import (
    MIN_TEMPER,
    PRIOR_SCATTER,
    false_discovery_rates,
    fit_mixture,
    temper,
    tempered,
)

PLANTED = (60, 25, 15, 0)


def separated(gap: float = 30.0, seed: int = 0) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    truth = np.repeat(np.arange(4), PLANTED)
    evidence = np.random.default_rng(seed).normal(size=(100, 4))
    evidence[np.arange(100), truth] += gap
    return truth, evidence


class TestEM:
    def test_planted_proportions_are_found(self) -> None:
        truth, evidence = separated()
        found = fit_mixture(evidence)
        np.testing.assert_allclose(found.proportions, np.array(PLANTED) / 100, atol=0.005)
        np.testing.assert_array_equal(found.posterior.argmax(axis=1), truth)
        assert found.posterior.max(axis=1).min() > 1 - 1e-6
        assert found.proportions.min() > 0

    def test_planted_proportions_are_found_where_single_particles_say_little(self) -> None:
        """Two normals two deviations apart, one of them four times as frequent."""
        rng = np.random.default_rng(1)
        x = np.concatenate([rng.normal(0, 1, 1600), rng.normal(2, 1, 400)])
        evidence = np.stack([-(x**2) / 2, -((x - 2) ** 2) / 2], axis=1)
        found = fit_mixture(evidence)
        np.testing.assert_allclose(found.proportions, [0.8, 0.2], atol=0.03)
        # The posterior is Bayes' with these.
        joint = np.exp(evidence) * found.proportions
        expected = joint / joint.sum(axis=1, keepdims=True)
        np.testing.assert_allclose(found.posterior, expected, atol=1e-4)

    def test_an_absent_component_gets_no_doubtful_particle(self) -> None:
        """Regression of an idea: a mirror image that a few prefer by a little has none of them."""
        _, evidence = separated()
        evidence = evidence[:60, [0, 3]]
        evidence[:3] = [10.0, 11.5]
        found = fit_mixture(evidence)
        assert (found.posterior[:3, 0] > 0.5).all()

    def test_excluded_components(self) -> None:
        _, evidence = separated()
        evidence[:, 2] = -np.inf
        found = fit_mixture(evidence)
        np.testing.assert_array_equal(found.posterior[:, 2], 0.0)
        assert 0 < found.proportions[2] < 0.01
        assert np.isfinite(found.posterior).all()

    @given(st.integers(0, 10_000), st.floats(-1e4, 1e4))
    def test_rows_sum_to_one_and_only_differences_count(self, seed: int, lift: float) -> None:
        evidence = np.random.default_rng(seed).normal(scale=5, size=(12, 3))
        found, lifted = fit_mixture(evidence), fit_mixture(evidence + lift)
        np.testing.assert_allclose(found.posterior.sum(axis=1), 1)
        assert found.proportions.sum() == pytest.approx(1)
        np.testing.assert_allclose(found.posterior, lifted.posterior, atol=1e-6)

    def test_order_of_particles_and_components(self) -> None:
        evidence = np.random.default_rng(5).normal(scale=3, size=(40, 4))
        rows, columns = np.random.default_rng(6).permutation(40), np.array([2, 0, 3, 1])
        found = fit_mixture(evidence)
        shuffled = fit_mixture(evidence[rows][:, columns])
        np.testing.assert_allclose(shuffled.posterior, found.posterior[rows][:, columns], atol=1e-9)

    def test_least_proportions_keep_an_empty_component(self) -> None:
        _, evidence = separated()
        least = np.array([0.0, 0.0, 0.0, 0.1])
        found, without = fit_mixture(evidence, least=least), fit_mixture(evidence)
        assert without.proportions[3] < 0.002
        assert found.proportions[3] > 0.09
        assert found.proportions.sum() == pytest.approx(1)
        # The others share what is left as they were.
        np.testing.assert_allclose(
            found.proportions[:3] / found.proportions[:3].sum(), [0.6, 0.25, 0.15], atol=0.01
        )


class TestTemper:
    def compared(
        self, scatter: float, *, count: int = 4000, rho: float = 0.8, seed: int = 0
    ) -> NDArray[np.float64]:
        """Evidence of a structure and of a rival whose template correlates with it by ρ.

        Signals are of different strengths, as particles' are; noise has the variance ``scatter``.
        """
        rng = np.random.default_rng(seed)
        a = rng.uniform(6, 14, count)
        own, other = rng.normal(size=(2, count)) * scatter**0.5
        z = a + own
        z_rival = rho * z + (1 - rho**2) ** 0.5 * other
        return np.stack([z**2, np.clip(z_rival, 0, None) ** 2], axis=1) / 2

    def of(self, table: NDArray[np.float64]) -> float:
        return temper(table, np.zeros(len(table), dtype=int))

    @pytest.mark.parametrize("rho", [0.6, 0.9])
    def test_exact_evidence_is_trusted_whatever_the_signals(self, rho: float) -> None:
        assert self.of(self.compared(1.0, rho=rho)) == pytest.approx(1.0, abs=0.12)

    @pytest.mark.parametrize("scatter", [2.0, 4.0])
    def test_what_scatters_more_is_trusted_less(self, scatter: float) -> None:
        assert self.of(self.compared(scatter)) == pytest.approx(1 / scatter, rel=0.15)

    def test_limits(self) -> None:
        assert self.of(self.compared(0.1)) == 1.0
        assert self.of(self.compared(40.0)) == MIN_TEMPER

    def test_regression_short_lists_hardly_change_it(self) -> None:
        """Of 25 particles of a list, those that were there decided how all were judged."""
        table = self.compared(2.0)
        found = [self.of(table[first : first + 25]) for first in range(0, 1000, 25)]
        assert min(found) > 0.25
        assert np.std(found) < 0.15
        assert np.mean(found) == pytest.approx(0.5, abs=0.08)

    def test_too_few_say_nothing(self) -> None:
        table = self.compared(40.0)
        assert self.of(table[:3]) == 1 / PRIOR_SCATTER
        assert temper(table, np.full(len(table), -1)) == 1 / PRIOR_SCATTER

    def test_a_rival_that_explains_nothing_says_nothing(self) -> None:
        own = np.random.default_rng(1).normal(60, 20, 500)
        assert self.of(np.stack([own, np.zeros(500)], axis=1)) == 1 / PRIOR_SCATTER

    def test_the_nearest_rival_counts_and_excluded_ones_do_not(self) -> None:
        table = self.compared(3.0)
        more = [np.full((len(table), 1), -np.inf), np.full((len(table), 1), -500.0)]
        assert self.of(np.concatenate([table, *more], axis=1)) == self.of(table)


class TestTempered:
    def test_by_hand(self) -> None:
        evidence = np.array([[24.0, 4.0, 1.0, -np.inf]])
        np.testing.assert_array_equal(
            tempered(evidence, 0.25, nothing=4.0), [[9.0, 4.0, 1.0, -np.inf]]
        )
        np.testing.assert_array_equal(tempered(evidence, 1.0, nothing=4.0), evidence)

    def test_regression_structures_explain_noise_no_better_than_they_do(self) -> None:
        """Without a CTF β was 0.1, noise led by a tenth of its lead, and 11 of 12 were named."""
        table = np.random.default_rng(0).normal(2, 1.5, (50, 5))
        table = np.concatenate([table, np.full((50, 1), 4.0)], axis=1)
        behind = table[:, :5] < 4
        left = tempered(table, 0.1, nothing=4.0)[:, :5]
        np.testing.assert_allclose(left[behind], table[:, :5][behind])
        np.testing.assert_allclose((left - 4)[~behind], 0.1 * (table[:, :5] - 4)[~behind])


class TestFalseDiscoveryRates:
    @given(st.lists(st.tuples(st.floats(0, 1), st.integers(-1, 2)), min_size=1, max_size=40))
    def test_monotone_in_the_score_of_each_label(self, pairs: list[tuple[float, int]]) -> None:
        scores = np.array([p[0] for p in pairs])
        labels = np.array([p[1] for p in pairs])
        rates = false_discovery_rates(scores, labels)
        for label in np.unique(labels):
            rows = np.flatnonzero(labels == label)
            order = rows[np.argsort(-scores[rows], kind="stable")]
            assert (np.diff(rates[order]) >= -1e-12).all()
            # The last is the mean over all of them.
            assert rates[order[-1]] == pytest.approx((1 - scores[rows]).mean())
        assert ((rates >= 0) & (rates <= 1)).all()

    def test_by_hand(self) -> None:
        scores = np.array([0.5, 1.0, 0.9, 0.7, 0.2])
        labels = np.array([0, 0, 0, 1, 1])
        np.testing.assert_allclose(
            false_discovery_rates(scores, labels), [0.2, 0.0, 0.05, 0.3, 0.55]
        )

    def test_calibrated_scores_give_the_rates_they_state(self) -> None:
        rng = np.random.default_rng(0)
        scores = rng.uniform(0.3, 1.0, size=20_000)
        right = rng.uniform(size=20_000) < scores
        rates = false_discovery_rates(scores, np.zeros(20_000, dtype=int))
        for level in (0.05, 0.1, 0.2):
            kept = rates <= level
            assert 1 - right[kept].mean() == pytest.approx(level, abs=0.012)

    def test_a_label_does_not_depend_on_the_others(self) -> None:
        scores = np.random.default_rng(1).uniform(size=30)
        labels = np.repeat([0, 1, 2], 10)
        together = false_discovery_rates(scores, labels)
        alone = false_discovery_rates(scores[10:20], labels[10:20])
        np.testing.assert_array_equal(together[10:20], alone)
