"""Scores of what no class explains."""

import numpy as np
import pytest
from scipy.spatial.distance import mahalanobis
from sklearn.covariance import LedoitWolf

from tomadapt.errors import InputError
from tomadapt.recover.unknown import auroc, unknown_scores


def planted(seed: int = 0):
    """Source of four classes, a target of the same and of a fifth."""
    rng = np.random.default_rng(seed)
    centres = 5 * np.eye(5, 20)
    source_labels = np.repeat(np.arange(4), 50)
    source = centres[source_labels] + rng.normal(size=(200, 20))
    target_labels = np.repeat(np.arange(5), 20)
    target = centres[target_labels] + rng.normal(size=(100, 20))
    return source, source_labels, target, target_labels == 4


@pytest.mark.parametrize("kind", ["mahalanobis", "neighbours", "energy"])
def test_a_class_that_was_never_seen_scores_high(kind):
    source, labels, target, unknown = planted()
    weights = np.eye(4, 20), np.zeros(4)
    scores = unknown_scores(target, source, labels, kind=kind, weights=weights)
    assert scores.shape == (100,)
    assert auroc(scores, unknown) > 0.95


def test_mahalanobis_is_what_scipy_computes():
    source, labels, target, _ = planted()
    means = np.stack([source[labels == c].mean(axis=0) for c in range(4)])
    precision = LedoitWolf(assume_centered=True).fit(source - means[labels]).precision_
    expected = [min(mahalanobis(x, m, precision) for m in means) for x in target[:7]]
    found = unknown_scores(target[:7], source, labels, kind="mahalanobis")
    np.testing.assert_allclose(found, expected, rtol=1e-9)


def test_energy_is_minus_the_log_of_the_sum_even_of_large_logits():
    weights = np.eye(3), np.array([0.0, 1.0, 0.0])
    x = np.array([[1000.0, 999.0, 0.0], [0.0, 0.0, 0.0]])
    found = unknown_scores(x, x, np.array([0, 1]), kind="energy", weights=weights)
    np.testing.assert_allclose(found, [-1000 - np.log(2), -np.log(2 + np.e)])


def test_neighbours_do_not_see_lengths():
    source, labels, target, _ = planted()
    a = unknown_scores(target, source, labels, kind="neighbours")
    b = unknown_scores(3 * target, 7 * source, labels, kind="neighbours")
    np.testing.assert_allclose(a, b, atol=1e-9)


def test_the_area_is_what_it_is():
    unknown = np.array([False, True, False, True])
    assert auroc(np.array([0.0, 3.0, 1.0, 2.0]), unknown) == 1.0
    assert auroc(np.array([0.0, 0.5, 1.0, 2.0]), unknown) == 0.75


def test_what_cannot_be_scored_is_refused():
    source, labels, target, unknown = planted()
    with pytest.raises(InputError, match="classifier"):
        unknown_scores(target, source, labels, kind="energy")
    target[0, 0] = np.inf
    with pytest.raises(InputError, match="finite"):
        unknown_scores(target, source, labels)
    with pytest.raises(InputError, match="known and unknown"):
        auroc(np.zeros(4), np.zeros(4, bool))
    assert unknown.sum() == 20
