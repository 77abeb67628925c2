"""Classifiers on fixed features, against scikit-learn and hand-made cases."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from tomadapt.errors import InputError
from tomadapt.learn.baselines.heads import fit_classifier, require_two_classes


def blobs(n_classes, *, n=60, features=5, seed=0):
    rng = np.random.default_rng(seed)
    labels = np.arange(n) % n_classes
    centres = rng.normal(scale=2, size=(n_classes, features))
    scales = 10.0 ** np.arange(features)  # very different units
    return (centres[labels] + rng.normal(size=(n, features))) * scales + 3 * scales, labels


def probabilities(layer, x):
    with torch.no_grad():
        return layer(torch.from_numpy(x).float()).softmax(dim=1).numpy()


@pytest.mark.parametrize("n_classes", [2, 3, 4])
def test_is_scikit_learns_on_unit_variance(n_classes):
    x, labels = blobs(n_classes)
    z = StandardScaler().fit_transform(x)
    expected = LogisticRegression(C=0.5, tol=1e-8, max_iter=10_000).fit(z, labels)
    layer = fit_classifier(x, labels, n_classes=n_classes, inverse_penalty=0.5)
    np.testing.assert_allclose(probabilities(layer, x), expected.predict_proba(z), atol=2e-3)


def test_weights_are_repetitions():
    x, labels = blobs(3)
    weights = np.random.default_rng(1).integers(1, 4, len(x))
    repeated = np.repeat(np.arange(len(x)), weights)
    # The scale must be the same for both: it ignores weights.
    z = StandardScaler().fit_transform(x)
    one = LogisticRegression(tol=1e-8, max_iter=10_000).fit(z, labels, sample_weight=weights)
    other = LogisticRegression(tol=1e-8, max_iter=10_000).fit(z[repeated], labels[repeated])
    layer = fit_classifier(x, labels, n_classes=3, weights=weights)
    np.testing.assert_allclose(one.predict_proba(z), other.predict_proba(z), atol=1e-3)
    np.testing.assert_allclose(probabilities(layer, x), other.predict_proba(z), atol=2e-3)


def test_a_class_without_examples_is_never_predicted():
    x, labels = blobs(2)
    layer = fit_classifier(x, 2 * labels, n_classes=4)  # classes 1 and 3 have none
    found = probabilities(layer, x)
    assert found.shape == (len(x), 4)
    assert found[:, [1, 3]].max() == 0
    assert (found.argmax(axis=1) == 2 * labels).mean() > 0.9


def test_a_constant_feature_does_no_harm():
    x, labels = blobs(3)
    x[:, 2] = 7.0
    layer = fit_classifier(x, labels, n_classes=3)
    assert np.isfinite(layer.weight.detach().numpy()).all()
    assert (probabilities(layer, x).argmax(axis=1) == labels).mean() > 0.9


def test_a_single_class_is_refused(make_domain):
    data = make_domain(4)
    require_two_classes(data)
    with pytest.raises(InputError, match=r"a single class.*got null.*Remedy"):
        require_two_classes(data.subset(np.flatnonzero(data.labels == 0)))
