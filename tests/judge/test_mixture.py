"""Mixtures: planted proportions are found; q-values and tempering follow their definitions."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from tomadapt.judge.mixture import LEAST_TEMPER, false_discovery_rates, fit_mixture, temper

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
    def ratios(self, variance: float, *, count: int = 4000, d: float = 25.0) -> float:
        """Of particles whose lead over the only rival is normal, its variance in units of 2 d."""
        rng = np.random.default_rng(0)
        lead = rng.normal(d, (2 * d * variance) ** 0.5, size=count)
        return temper(np.stack([lead, np.zeros(count)], axis=1), np.zeros(count, dtype=int))

    def test_exact_ratios_are_trusted(self) -> None:
        assert self.ratios(1.0) == pytest.approx(1.0, abs=0.06)

    @pytest.mark.parametrize("variance", [2.0, 4.0])
    def test_what_scatters_more_is_trusted_less(self, variance: float) -> None:
        assert self.ratios(variance) == pytest.approx(1 / variance, rel=0.08)

    def test_limits(self) -> None:
        assert self.ratios(0.05) == 1.0
        assert self.ratios(400.0, d=900.0) == LEAST_TEMPER

    def test_a_tempered_ratio_scatters_as_it_should(self) -> None:
        """β D has a variance of twice its mean."""
        lead = np.random.default_rng(2).normal(30, 13, size=2000)
        table = np.stack([np.zeros(2000), lead], axis=1)
        beta = temper(table, np.ones(2000, dtype=int))
        assert (beta * lead).var() == pytest.approx(2 * (beta * lead).mean(), rel=0.12)

    def test_too_few_say_nothing(self) -> None:
        lead = np.random.default_rng(3).normal(20, 40, size=7)
        table = np.stack([lead, np.zeros(7)], axis=1)
        assert temper(table, np.zeros(7, dtype=int)) == 1.0
        assert temper(table.repeat(20, axis=0), np.full(140, -1)) == 1.0

    def test_the_nearest_rival_counts_and_excluded_ones_do_not(self) -> None:
        rng = np.random.default_rng(4)
        lead = rng.normal(25, (4 * 50) ** 0.5, size=3000)
        table = np.stack([lead, np.zeros(3000), np.full(3000, -np.inf)], axis=1)
        far = np.concatenate([table, np.full((3000, 1), -500.0)], axis=1)
        labels = np.zeros(3000, dtype=int)
        assert temper(table, labels) == pytest.approx(0.25, rel=0.1)
        assert temper(far, labels) == temper(table, labels)

    def test_the_median_over_structures(self) -> None:
        rng = np.random.default_rng(5)
        labels = np.repeat([0, 1, 2], 2000)
        table = np.zeros((6000, 3))
        for label, variance in enumerate((1.0, 3.0, 9.0)):
            rows = labels == label
            table[rows, label] = rng.normal(40, (80 * variance) ** 0.5, size=2000)
        assert temper(table, labels) == pytest.approx(1 / 3, rel=0.1)


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
