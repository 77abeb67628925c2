from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binomtest

from tomadapt.metrics import (
    accuracy,
    binomial_interval,
    confusion_matrix,
    effective_classes,
    f1_score,
    match_positions,
    recall_per_class,
)


def test_confusion_rows_are_predicted():
    predicted, true = np.array([0, 0, 1, 2]), np.array([0, 1, 1, 1])
    counts = confusion_matrix(predicted, true, 3)
    assert counts.tolist() == [[1, 1, 0], [0, 1, 0], [0, 1, 0]]
    assert counts.sum(axis=0).tolist() == [1, 3, 0]  # columns are true classes


def test_accuracy_and_recall():
    predicted, true = np.array([0, 0, 1, 2]), np.array([0, 1, 1, 1])
    assert accuracy(predicted, true) == 0.5
    recall = recall_per_class(predicted, true, 3)
    assert recall[:2].tolist() == [1.0, pytest.approx(1 / 3)]
    assert np.isnan(recall[2])


@pytest.mark.parametrize(("hits", "n"), [(0, 10), (7, 10), (400, 400), (57, 133)])
def test_interval_is_wilsons(hits, n):
    expected = binomtest(hits, n).proportion_ci(method="wilson")
    low, high = binomial_interval(hits / n, n)
    assert (low, high) == (
        pytest.approx(expected.low, abs=1e-4),
        pytest.approx(expected.high, abs=1e-4),
    )


def test_effective_classes_counts_evenly_used_ones():
    assert effective_classes(np.array([3, 3, 3]), 5) == pytest.approx(1)
    assert effective_classes(np.arange(5).repeat(3), 5) == pytest.approx(5)


class TestPositions:
    planted = np.array([[0.0, 0, 0], [100, 0, 0], [0, 100, 0]])

    def test_each_is_used_once_and_the_nearest_first(self) -> None:
        found = np.array([[8.0, 0, 0], [3, 0, 0], [60, 0, 0], [900, 0, 0]])
        pairs = match_positions(found, self.planted, np.full(3, 50.0))
        assert sorted(zip(*(p.tolist() for p in pairs), strict=True)) == [(1, 0), (2, 1)]

    def test_tolerance_is_each_planted_ones_own(self) -> None:
        found = np.array([[0.0, 30, 0], [100, 30, 0]])
        pairs = match_positions(found, self.planted, np.array([20.0, 40, 20]))
        assert [p.tolist() for p in pairs] == [[1], [1]]

    def test_nothing_found(self) -> None:
        pairs = match_positions(np.array([[500.0, 0, 0]]), self.planted, np.full(3, 50.0))
        assert [len(p) for p in pairs] == [0, 0]

    def test_f1(self) -> None:
        assert f1_score(1.0, 0.5) == pytest.approx(2 / 3)
        assert f1_score(0.0, 0.0) == 0
