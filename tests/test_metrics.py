from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binomtest

from tomadapt.metrics import (
    accuracy,
    binomial_interval,
    confusion_matrix,
    effective_classes,
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
