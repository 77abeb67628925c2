"""The scatter that outliers do not move, against scipy's."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import median_abs_deviation

from tomadapt.robust import robust_spread, weighted_median


def test_the_same_as_scipys_and_hardly_moved_by_outliers() -> None:
    values = np.random.default_rng(0).normal(3.0, 2.0, size=2001)
    median, deviation = robust_spread(values)
    assert median == np.median(values)
    assert deviation == pytest.approx(median_abs_deviation(values, scale="normal"), rel=1e-4)
    assert deviation == pytest.approx(2.0, rel=0.1)
    values[:200] = 1e6
    assert robust_spread(values)[1] == pytest.approx(2.0, rel=0.25)


def test_nothing_has_no_scatter() -> None:
    assert robust_spread(np.zeros(0)) == (0.0, 0.0)
    assert robust_spread(np.array([4.0])) == (4.0, 0.0)


@pytest.mark.parametrize("repeats", [(1, 1, 1), (3, 1, 1), (1, 0, 2)])
def test_weights_of_the_median_are_repeats(repeats: tuple[int, ...]) -> None:
    values = np.array([3.0, 1.0, 2.0])
    repeated = np.sort(np.repeat(values, repeats))
    expected = repeated[(len(repeated) - 1) // 2]
    assert weighted_median(values, np.array(repeats, dtype=float)) == expected
