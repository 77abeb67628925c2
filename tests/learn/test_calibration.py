"""Temperatures and calibration errors of known cases."""

from __future__ import annotations

import numpy as np
import pytest

from tomadapt.learn.calibration import calibration_error, cross_fitted, fitted_temperature, tempered


def drawn(temperature: float, n: int = 4000):
    """Logits, and labels drawn from their softmax."""
    rng = np.random.default_rng(0)
    logits = rng.normal(scale=2.0, size=(n, 4))
    p = np.exp(logits - logits.max(axis=1, keepdims=True))
    p /= p.sum(axis=1, keepdims=True)
    labels = (p.cumsum(axis=1) > rng.uniform(size=(n, 1))).argmax(axis=1)
    # A classifier whose logits are so many times too large.
    return tempered(p, 1 / temperature), labels


def test_tempered_by_one_is_the_same():
    p, _ = drawn(1.0, 10)
    np.testing.assert_allclose(tempered(p, 1.0), p, atol=1e-9)


def test_a_high_temperature_knows_nothing():
    p, _ = drawn(1.0, 10)
    np.testing.assert_allclose(tempered(p, 1e6), 0.25, atol=1e-4)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_the_temperature_that_was_planted(temperature):
    p, labels = drawn(temperature)
    found = fitted_temperature(p, np.eye(4)[labels])
    assert found == pytest.approx(temperature, rel=0.08)
    after = tempered(p, found)
    error = [calibration_error(q.max(axis=1), q.argmax(axis=1) == labels) for q in (p, after)]
    assert error[1] < 0.03
    if temperature != 1.0:
        assert error[0] > 2 * error[1]


def test_regression_a_few_particles_do_not_move_the_temperature_to_its_bounds():
    """Six particles that are all right once made the temperature 0.2: near certainty of all."""
    p = np.tile([0.6, 0.3, 0.1], (6, 1))
    assert 0.7 < fitted_temperature(p, np.tile([1.0, 0.0, 0.0], (6, 1))) < 1.0
    assert 1.0 < fitted_temperature(p, np.tile([0.0, 1.0, 0.0], (6, 1))) < 1.7


def test_each_half_has_the_temperature_of_the_other():
    p, labels = drawn(3.0)
    soft = np.eye(4)[labels]
    found = cross_fitted(p, soft)
    of_odd = fitted_temperature(p[1::2], soft[1::2])
    np.testing.assert_allclose(found[::2], tempered(p[::2], of_odd))
    changed = soft.copy()
    changed[::2] = soft[::2][:, ::-1]
    np.testing.assert_allclose(cross_fitted(p, changed)[::2], found[::2])
    assert not np.allclose(cross_fitted(p, changed)[1::2], found[1::2])


def test_calibration_error_by_hand():
    """Two of three right at 0.85, one of one at 0.95: |2/3 − 0.85| · 3/4 + 0.05 / 4."""
    confidence = np.array([0.85, 0.85, 0.85, 0.95])
    right = np.array([True, True, False, True])
    expected = 0.75 * (0.85 - 2 / 3) + 0.25 * 0.05
    assert calibration_error(confidence, right) == pytest.approx(expected)


def test_certainty_is_in_the_last_bin():
    assert calibration_error(np.ones(3), np.array([True, True, True])) == 0.0
