"""Evidence: closed forms where the noise is the usual, and what a contaminant may not do."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import minimize_scalar

from tomadapt.judge.evidence import log_likelihood_ratio, profiled_log_likelihood

N = 400.0
ENERGIES = st.floats(0.01, 40.0).map(lambda x: x * N)
FRACTIONS = st.floats(0.0, 1.0)


def ratio(z: float, energy: float, freedom: float = N) -> float:
    return float(log_likelihood_ratio(np.array(z), np.array(energy), freedom))


@given(st.floats(0.0, 1.0).map(lambda x: x * N), FRACTIONS)
def test_in_usual_noise_it_is_half_the_squared_correlation(energy: float, fraction: float) -> None:
    z = (fraction * energy) ** 0.5
    assert ratio(z, energy) == pytest.approx(z**2 / 2, rel=1e-9, abs=1e-9)


@pytest.mark.parametrize("residual", [0.3, 0.99, 1.0, 1.5, 12.0])
def test_the_profile_is_the_largest_likelihood_of_a_variance_of_at_least_one(
    residual: float,
) -> None:
    def lost(log_s: float) -> float:
        return N / 2 * log_s + residual * N / 2 / np.exp(log_s)

    found = minimize_scalar(lost, bounds=(0.0, 5.0), method="bounded", options={"xatol": 1e-9})
    got = float(profiled_log_likelihood(np.array(residual * N), N))
    assert got == pytest.approx(-found.fun, rel=1e-6)


@given(ENERGIES, FRACTIONS, FRACTIONS)
def test_it_grows_with_the_correlation_and_is_never_negative(
    energy: float, a: float, b: float
) -> None:
    low, high = (ratio((f * energy) ** 0.5, energy) for f in sorted((a, b)))
    assert 0 <= low <= high + 1e-9


@given(st.floats(1.5, 30.0), st.floats(2.0, 15.0))
def test_a_contaminant_takes_evidence_away(stronger: float, z: float) -> None:
    assert ratio(z, stronger * N) < ratio(z, N)


def test_in_ten_times_the_energy_a_correlation_counts_a_tenth() -> None:
    assert ratio(10.0, N) == pytest.approx(50.0)
    # N / 2 · log of what is left of the energy.
    assert ratio(10.0, 10 * N) == pytest.approx(-N / 2 * np.log(1 - 100 / (10 * N)))
    assert ratio(10.0, 10 * N) == pytest.approx(5.0, rel=0.02)


def test_a_negative_correlation_is_none() -> None:
    assert ratio(-20.0, 3 * N) == 0.0


def test_energies_go_with_rows() -> None:
    z = np.array([[3.0, 4.0], [3.0, 4.0]])
    got = log_likelihood_ratio(z, np.array([[N], [8 * N]]), N)
    np.testing.assert_allclose(got[0], [4.5, 8.0])
    assert (got[1] < got[0]).all()
