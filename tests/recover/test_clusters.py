"""Groups of features."""

import numpy as np
import pytest

from tomadapt.errors import ConfigError, InputError
from tomadapt.recover.clusters import ClusterOptions, best_cluster_f1, cluster


def features(seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(5, 40)) * 4
    labels = np.repeat(np.arange(5), 30)
    return centres[labels] + rng.normal(size=(150, 40)), labels


@pytest.mark.parametrize("method", ["kmeans", "hdbscan"])
def test_planted_groups_are_found(method):
    x, labels = features()
    found = cluster(x, ClusterOptions(method=method, count=5))
    for label in range(5):
        assert best_cluster_f1(found, labels == label)[0] > 0.9


def test_the_length_of_features_does_not_matter():
    x, labels = features()
    centred = x - x.mean(axis=0)
    stretched = centred * np.random.default_rng(1).uniform(0.3, 3, (150, 1))
    found = cluster(stretched, ClusterOptions(count=5))
    assert min(best_cluster_f1(found, labels == label)[0] for label in range(5)) > 0.9


def test_a_seed_gives_the_same_groups():
    x, _ = features()
    one, two = (cluster(x, ClusterOptions(count=7, seed=3)) for _ in range(2))
    np.testing.assert_array_equal(one, two)
    assert set(one) == set(range(7))


def test_the_best_cluster_is_counted_by_hand():
    clusters = np.array([0, 0, 0, 1, 1, 2, -1, -1])
    member = np.array([True, True, False, False, True, False, True, True])
    # Cluster 0: two of three right, of five in all: 2·2 / (3 + 5).
    assert best_cluster_f1(clusters, member) == (0.5, 0)
    assert best_cluster_f1(np.full(8, -1), member) == (0.0, -1)


def test_what_cannot_be_clustered_is_refused():
    x, _ = features()
    with pytest.raises(ConfigError, match="more clusters than particles"):
        cluster(x[:9], ClusterOptions(count=10))
    x[3, 3] = np.nan
    with pytest.raises(InputError, match="finite"):
        cluster(x, ClusterOptions(count=5))
