"""Calibration of probabilities by temperature scaling, fitted to nearly certain soft labels."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar

TEMPERATURE_RANGE = (0.2, 10.0)
PRIOR_SD = 0.25
"""Standard deviation of the prior of log temperature. Without a prior, a fit to ten particles would
end at either limit of the searched range."""
_MIN_PROBABILITY = 1e-12
_BINS = 10


def tempered(probabilities: NDArray[np.floating], temperature: float) -> NDArray[np.float64]:
    r"""Probabilities (n, classes) of logits divided by a temperature, :math:`\propto p^{1/T}`."""
    log = (
        np.log(np.maximum(np.asarray(probabilities, dtype=np.float64), _MIN_PROBABILITY))
        / temperature
    )
    return normalised(log)


def normalised(log: NDArray[np.float64]) -> NDArray[np.float64]:
    """Probabilities (n, classes) from log-probabilities known up to a constant in each row."""
    p = np.exp(log - log.max(axis=1, keepdims=True))
    return np.asarray(p / p.sum(axis=1, keepdims=True))


def fitted_temperature(
    probabilities: NDArray[np.floating], soft_labels: NDArray[np.floating]
) -> float:
    """The temperature that minimises the cross-entropy of probabilities and soft labels.

    A maximum a posteriori estimate: log temperature has a normal prior about 0 with the standard
    deviation :data:`PRIOR_SD`.

    Parameters
    ----------
    probabilities
        (n, classes) of a classifier, for particles that it was not trained on.
    soft_labels
        (n, classes) probabilities that are taken for the truth.

    Notes
    -----
    Guo et al. 2017, ICML, section 4.2.
    """
    labels = np.asarray(soft_labels, dtype=np.float64)

    def loss(log_temperature: float) -> float:
        p = tempered(probabilities, float(np.exp(log_temperature)))
        entropy = -(labels * np.log(np.maximum(p, _MIN_PROBABILITY))).sum()
        return float(entropy + (log_temperature / PRIOR_SD) ** 2 / 2)

    bounds = (np.log(TEMPERATURE_RANGE[0]), np.log(TEMPERATURE_RANGE[1]))
    return float(np.exp(minimize_scalar(loss, bounds=bounds, method="bounded").x))


def cross_fitted(
    probabilities: NDArray[np.floating], soft_labels: NDArray[np.floating]
) -> NDArray[np.float64]:
    """Two-fold cross-fitting: probabilities of each half at the temperature fitted to the other.

    They show how well calibrated unseen particles are at the temperature fitted to all of these.

    Parameters
    ----------
    probabilities, soft_labels
        As for :func:`fitted_temperature`, at least two particles.
    """
    found = np.empty(probabilities.shape)
    for part, others in (
        (slice(0, None, 2), slice(1, None, 2)),
        (slice(1, None, 2), slice(0, None, 2)),
    ):
        temperature = fitted_temperature(probabilities[others], soft_labels[others])
        found[part] = tempered(probabilities[part], temperature)
    return found


def calibration_error(confidence: NDArray[np.floating], right: NDArray[np.bool_]) -> float:
    """Expected calibration error: mean distance of accuracy and confidence over ten bins.

    Parameters
    ----------
    confidence
        (n,) probability of each predicted label, 0 to 1.
    right
        (n,) whether the label is right.

    Notes
    -----
    Guo et al. 2017, ICML, Eq. 3.
    """
    place = np.minimum((np.asarray(confidence) * _BINS).astype(int), _BINS - 1)
    parts = [
        (place == b).mean() * abs(right[place == b].mean() - confidence[place == b].mean())
        for b in np.unique(place)
    ]
    return float(np.sum(parts))
