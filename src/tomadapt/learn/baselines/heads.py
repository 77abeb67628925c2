"""Classifiers on fixed features, as the feature-level baselines fit them."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import nn

from tomadapt.data.subtomograms import LabelledSubtomograms
from tomadapt.errors import InputError
from tomadapt.learn.networks import classifier


def require_two_classes(source: LabelledSubtomograms) -> None:
    """Raise, before any work, when the source has particles of one class only.

    Raises
    ------
    InputError
        When its particles are all of one class.
    """
    found = np.unique(source.labels)
    if len(found) < 2:
        raise InputError(
            "the source has particles of a single class",
            expected="at least two classes",
            got=source.class_names[found[0]],
            remedy="give the labelled particles the model was trained on",
        )


def fit_classifier(
    features: NDArray[np.floating],
    labels: NDArray[np.integer],
    *,
    n_classes: int,
    weights: NDArray[np.floating] | None = None,
    inverse_penalty: float = 1.0,
) -> nn.Linear:
    """Fit a classifier C by multinomial logistic regression (scikit-learn).

    Features are scaled to unit variance for the fit, so that the penalty is the same for all. The
    scaling is folded into the returned layer, which takes unscaled features.

    Parameters
    ----------
    features
        (n, f).
    labels
        (n,) in 0 … n_classes − 1.
    n_classes
        Outputs of the layer; a class without examples is never predicted.
    weights
        (n,) of the examples, not negative; all 1 when None.
    inverse_penalty
        scikit-learn's C: the inverse of the L2 penalty.

    Returns
    -------
    torch.nn.Linear
        (b, f) → (b, n_classes) logits.
    """
    scaler = StandardScaler()
    # With the default tolerance, logits of collinear features would be wrong by several percent.
    regression = LogisticRegression(C=inverse_penalty, tol=1e-6, max_iter=5000)
    pipeline = make_pipeline(scaler, regression)
    pipeline.fit(features, labels, logisticregression__sample_weight=weights)
    coefficients, intercept = regression.coef_, regression.intercept_
    if len(regression.classes_) == 2:  # scikit-learn stores only one row then
        coefficients = np.concatenate([-coefficients, coefficients]) / 2
        intercept = np.concatenate([-intercept, intercept]) / 2
    coefficients = coefficients / scaler.scale_
    intercept = intercept - coefficients @ scaler.mean_
    layer = classifier(features.shape[1], n_classes)
    with torch.no_grad():
        layer.weight.zero_()
        layer.bias.fill_(-1e4)
        layer.weight[regression.classes_] = torch.from_numpy(coefficients).float()
        layer.bias[regression.classes_] = torch.from_numpy(intercept).float()
    return layer
