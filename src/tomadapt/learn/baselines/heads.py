"""Classifiers fitted to features that are held fixed: what the feature-level baselines retrain."""

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
    """Refuse, before any work, a source that no classifier can be fitted to.

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
    """Fit multinomial logistic regression, by scikit-learn, as a C for these features.

    Features are scaled to unit variance for the fit, so that the penalty treats them alike; the
    scaling is folded into the layer, which takes features as they are.

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
        scikit-learn's C: large for little L2 penalty.

    Returns
    -------
    torch.nn.Linear
        (b, f) → (b, n_classes) logits.
    """
    scaler = StandardScaler()
    # The default tolerance leaves logits of collinear features several percent off.
    regression = LogisticRegression(C=inverse_penalty, tol=1e-6, max_iter=5000)
    pipeline = make_pipeline(scaler, regression)
    pipeline.fit(features, labels, logisticregression__sample_weight=weights)
    coefficients, intercept = regression.coef_, regression.intercept_
    if len(regression.classes_) == 2:  # scikit-learn then keeps one row of the two
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
