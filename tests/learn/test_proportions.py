"""Class proportions: recovered where they were planted, and a source made alike."""

from __future__ import annotations

import numpy as np
import pytest

from tomadapt.learn import proportions
from tomadapt.learn.proportions import corrected, estimate_proportions, with_proportions


@pytest.mark.parametrize("planted", [(0.6, 0.3, 0.1), (0.02, 0.9, 0.08), (1 / 3, 1 / 3, 1 / 3)])
def test_planted_proportions(planted: tuple[float, ...]) -> None:
    """A calibrated classifier of equally frequent classes: posteriors of three Gaussians."""
    rng = np.random.default_rng(0)
    centres = np.array([[0.0, 0], [2.0, 0], [0, 2.0]])
    labels = rng.choice(3, size=6000, p=planted)
    x = centres[labels] + rng.normal(size=(6000, 2))
    log = -0.5 * ((x[:, None] - centres) ** 2).sum(axis=2)
    p = np.exp(log) / np.exp(log).sum(axis=1, keepdims=True)
    estimated = estimate_proportions(p)
    np.testing.assert_allclose(estimated, planted, atol=0.025)
    # Counting labels alone is much further off, or this test would show nothing.
    if min(planted) < 0.3:
        counted = np.bincount(p.argmax(axis=1), minlength=3) / 6000
        assert np.abs(estimated - planted).max() < np.abs(counted - planted).max() / 2


def test_correction_is_bayes_rule() -> None:
    p = np.array([[0.5, 0.5], [0.9, 0.1]])
    np.testing.assert_allclose(corrected(p, np.array([0.8, 0.2])), [[0.8, 0.2], [36 / 37, 1 / 37]])
    np.testing.assert_allclose(corrected(p, np.array([0.5, 0.5])), p, rtol=1e-6)
    # An estimate of nothing rules nothing out.
    assert corrected(np.array([[0.001, 0.999]]), np.array([1.0, 0.0]))[0].argmax() == 1


def test_certain_labels_are_counted() -> None:
    p = np.eye(3)[[0, 0, 0, 2]]
    np.testing.assert_allclose(estimate_proportions(p), [0.75, 0, 0.25])


def test_a_source_made_alike(make_domain, monkeypatch) -> None:
    monkeypatch.setattr(proportions, "MIN_PER_CLASS", 2)
    data = make_domain(40)
    alike = with_proportions(data, np.array([0.1, 0.6, 0.3]))
    assert np.bincount(alike.labels).tolist() == [7, 40, 20]
    assert len(np.unique(alike.rows)) == len(alike)
    # Spread over each class, and labels still belong to their cubes.
    assert np.flatnonzero(data.labels == 0)[-1] - alike.rows[alike.labels == 0].max() < 40 // 7 + 1
    np.testing.assert_array_equal(data.labels[alike.rows], alike.labels)


def test_no_class_vanishes(make_domain, monkeypatch) -> None:
    monkeypatch.setattr(proportions, "MIN_PER_CLASS", 5)
    data = make_domain(12)
    alike = with_proportions(data, np.array([0.0, 1.0, 0.0]))
    assert np.bincount(alike.labels).tolist() == [5, 12, 5]
    everything = with_proportions(data, np.full(3, 1 / 3))
    assert len(everything) == len(data)
