"""t-SNE of features: neighbourhoods, small and degenerate input, determinism."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial import cKDTree

from tomadapt.report.embedding import choose_particles, embed


def test_groups_in_feature_space_stay_groups():
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(4), 30)
    features = rng.normal(0, 8, (4, 20))[labels] + rng.normal(0, 1, (120, 20))
    points = embed(features)
    neighbours = cKDTree(points).query(points, k=6)[1][:, 1:]
    assert points.shape == (120, 2)
    assert np.mean(labels[neighbours] == labels[:, None]) > 0.98


def test_same_input_same_points():
    features = np.random.default_rng(1).normal(size=(40, 8)).astype(np.float32)
    assert np.array_equal(embed(features), embed(features))
    assert not np.array_equal(embed(features), embed(features, seed=1))


@pytest.mark.parametrize("n", [1, 2, 4, 5, 7, 12])
def test_few_particles(n):
    points = embed(np.random.default_rng(n).normal(size=(n, 6)))
    assert points.shape == (n, 2)
    assert np.isfinite(points).all()
    assert len(np.unique(points, axis=0)) == n


@pytest.mark.parametrize("value", [0.0, 0.1, -3e7])
def test_constant_features_coincide(value):
    assert np.array_equal(embed(np.full((30, 5), value, np.float32)), np.zeros((30, 2)))


def test_one_feature_that_varies():
    features = np.ones((20, 5))
    features[:, 2] = np.arange(20)
    assert np.isfinite(embed(features)).all()


def test_features_that_are_no_numbers_are_refused():
    features = np.ones((10, 3))
    features[4, 1] = np.nan
    with pytest.raises(ValueError, match="finite"):
        embed(features)


def test_at_most_so_many_of_each_class():
    labels = np.array([0] * 250 + [1] * 30 + [3] * 101)
    chosen = choose_particles(len(labels), labels, n_classes=4)
    assert np.bincount(labels[chosen]).tolist() == [100, 30, 0, 100]
    assert (np.diff(chosen) > 0).all()
    assert np.array_equal(chosen, choose_particles(len(labels), labels, n_classes=4))


def test_without_labels_at_most_so_many_in_all():
    assert len(choose_particles(5000, None, n_classes=3, per_class=20)) == 60
    assert choose_particles(50, None, n_classes=3, per_class=20).tolist() == list(range(50))
