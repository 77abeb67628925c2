"""The lead of a structure tells its own particles from unnamed proteins."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from tomadapt.judge.lead import (
    EXPECTED_PARTICLES,
    LEAD_FREEDOM,
    LEAST_MEASURED,
    UNNAMED_LEAD,
    ExpectedLeads,
    lead_ratios,
    log_odds_unnamed,
    usual_lead,
)


def test_by_hand() -> None:
    """Two wanted structures, a rival and noise."""
    evidence = np.array(
        [
            [42.0, 12.0, 22.0, 2.0],  # 40 over noise, leads by 20
            [42.0, 52.0, 22.0, 2.0],  # the second leads by 10 of 50
            [1.0, -np.inf, 0.5, 2.0],  # noise explains it best
        ]
    )
    over, ratios = lead_ratios(evidence, 2)
    np.testing.assert_allclose(over, [[40, 10], [40, 50], [1, 1]])
    np.testing.assert_allclose(ratios, [[0.5, -3.0], [-0.25, 0.2], [-1.0, -np.inf]])


def test_a_tie_leads_by_nothing() -> None:
    _, ratios = lead_ratios(np.array([[10.0, 10.0, 0.0]]), 2)
    np.testing.assert_array_equal(ratios, [[0.0, 0.0]])


def test_twins_do_not_lead_each_other() -> None:
    evidence = np.array([[42.0, 40.0, 22.0, 2.0]])
    twins = np.array([[False, True], [True, False]])
    _, ratios = lead_ratios(evidence, 2, twins)
    np.testing.assert_allclose(ratios, [[20 / 40, 18 / 38]])


def test_what_is_expected_of_correlations() -> None:
    """The first two are twins; the third is like the first, and no rival is like it."""
    among = np.array([[1.0, 0.95, 0.6], [0.95, 1.0, 0.5], [0.6, 0.5, 1.0]])
    rivals = np.array([[0.8, 0.7, 0.1], [0.3, 0.2, 0.2]])
    found = ExpectedLeads.of(among, rivals)
    np.testing.assert_allclose(found.ratios, [1 - 0.64, 1 - 0.49, 1 - 0.36])
    assert found.twins.sum() == 2
    np.testing.assert_array_equal(found.twins, found.twins.T)
    assert found.twins[0, 1]
    alone = ExpectedLeads.of(np.ones((1, 1)), np.zeros((0, 1)))
    np.testing.assert_array_equal(alone.ratios, [1.0])


def test_usual_lead_is_between_what_is_measured_and_what_is_expected() -> None:
    ratios, weights = np.array([0.1, 0.7, 0.9]), np.array([1.0, 3.0, 1.0])
    expected = (5 * 0.7 + EXPECTED_PARTICLES * 0.6) / (5 + EXPECTED_PARTICLES)
    assert usual_lead(ratios, weights, 0.6) == pytest.approx(expected)
    assert usual_lead(ratios, 0 * weights, 0.6) == 0.6
    assert usual_lead(ratios[:0], weights[:0], 0.6) == 0.6
    assert usual_lead(ratios, 1e6 * weights, 0.6) == pytest.approx(0.7, abs=1e-4)


def test_an_absent_class_does_not_set_its_standard() -> None:
    """However many unnamed proteins are taken for it."""
    ratios = np.full(300, 0.1)
    assert usual_lead(ratios, np.ones(300), 0.5) >= LEAST_MEASURED * 0.5


def test_odds_are_those_of_the_two_distributions() -> None:
    over, ratios = np.array([30.0, 60.0]), np.array([0.1, 0.35])
    spread = np.sqrt(2 * 0.5 * 0.5 / over)
    expected = stats.laplace(0, UNNAMED_LEAD).logpdf(ratios)
    expected -= stats.t(LEAD_FREEDOM, 0.5, spread).logpdf(ratios)
    np.testing.assert_allclose(log_odds_unnamed(over, ratios, 0.5), expected)


def test_less_lead_is_never_more_of_the_class() -> None:
    ratios = np.linspace(-0.1, 1.5, 200)
    odds = log_odds_unnamed(np.full(200, 40.0), ratios, 0.5)
    assert (np.diff(odds[ratios > 0.15]) <= 1e-12).all()
    assert odds[np.abs(ratios).argmin()] > 2
    assert odds[np.abs(ratios - 0.5).argmin()] < -2
    assert odds[-1] < odds[np.abs(ratios - 0.5).argmin()]  # a larger lead than usual


def test_simulated_leads_are_told_apart() -> None:
    """Particles by the theory of ``temper``, beside leads of chance."""
    rng = np.random.default_rng(0)
    over, c = np.full(300, 40.0), 0.5
    own = c + np.sqrt(2 * c * (1 - c) / over) * rng.normal(size=300)
    chance = np.abs(rng.laplace(0, UNNAMED_LEAD, 300))
    wrong = (log_odds_unnamed(over, own, c) > 0).mean()
    missed = (log_odds_unnamed(over, chance, c) < 0).mean()
    assert wrong < 0.1
    assert missed < 0.2


def test_without_noise_leads_scatter_all_the_same() -> None:
    """At thousands of nats a lead of 0.4 was far from a usual one of 0.5."""
    assert log_odds_unnamed(np.array([1e4]), np.array([0.4]), 0.5)[0] < 0


@pytest.mark.parametrize("usual", [0.0, 0.01, 1.0])
def test_where_nothing_or_all_is_lead_it_says_nothing(usual: float) -> None:
    odds = log_odds_unnamed(np.full(3, 40.0), np.array([-np.inf, 0.0, 1.0]), usual)
    np.testing.assert_array_equal(odds, 0.0)


def test_what_was_not_compared_has_finite_odds() -> None:
    assert np.isfinite(log_odds_unnamed(np.ones(1), np.array([-np.inf]), 0.5)).all()
