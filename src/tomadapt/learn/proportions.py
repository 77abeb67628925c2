"""Class frequencies of a target without labels, and sources with the same class frequencies.

Adversarial training matches whole domains. When class frequencies differ between the domains, it
moves target particles between classes until they match. This is most visible for the class NULL,
which is rare in a list of picks and frequent in a balanced source.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tomadapt.data.subtomograms import LabelledSubtomograms

MIN_PROPORTION = 0.01
MIN_PER_CLASS = 8
"""Particles of each class that are kept whatever its proportion, if there are so many."""

_ROUNDS = 200
_TOLERANCE = 1e-6


def estimate_proportions(probabilities: NDArray[np.floating]) -> NDArray[np.float64]:
    """Class proportions by expectation–maximisation.

    Parameters
    ----------
    probabilities
        (n, classes) of a classifier that was trained on equally frequent classes.

    Returns
    -------
    (classes,) proportions that add up to 1.

    Notes
    -----
    Saerens, Latinne & Decaestecker 2002, Neural Computation 14, 21, section 2.2.
    """
    p = np.asarray(probabilities, dtype=np.float64)
    classes = p.shape[1]
    proportions = np.full(classes, 1 / classes)
    for _ in range(_ROUNDS):
        weighted = p * proportions
        weighted /= np.maximum(weighted.sum(axis=1, keepdims=True), np.finfo(float).tiny)
        updated = weighted.mean(axis=0)
        converged = np.abs(updated - proportions).max() < _TOLERANCE
        proportions = updated
        if converged:
            break
    return np.asarray(proportions / proportions.sum())


def corrected(
    probabilities: NDArray[np.floating], proportions: NDArray[np.floating]
) -> NDArray[np.float32]:
    """Correct a classifier trained on equally frequent classes for other class proportions.

    Parameters
    ----------
    probabilities
        (n, classes) see :func:`estimate_proportions`.
    proportions
        (classes,); smaller ones are raised to :data:`MIN_PROPORTION`, so that an estimate of zero
        does not exclude a class.

    Notes
    -----
    Saerens et al. 2002, Eq. 2.4.
    """
    weights = np.maximum(np.asarray(proportions, dtype=np.float64), MIN_PROPORTION)
    weighted = np.asarray(probabilities, dtype=np.float64) * weights
    total = np.maximum(weighted.sum(axis=1, keepdims=True), np.finfo(float).tiny)
    return np.asarray(weighted / total, dtype=np.float32)


def with_proportions(
    data: LabelledSubtomograms, proportions: NDArray[np.floating]
) -> LabelledSubtomograms:
    """The largest subset of particles in which classes have given proportions.

    Parameters
    ----------
    data
        Labelled particles.
    proportions
        (classes,); at least :data:`MIN_PER_CLASS` particles of each class are kept.
    """
    available = np.bincount(data.labels, minlength=len(data.class_names))
    wanted = np.maximum(np.asarray(proportions, dtype=np.float64), 1e-9)
    counts = np.round((available / wanted).min() * wanted).astype(int)
    counts = np.clip(counts, np.minimum(MIN_PER_CLASS, available), available)
    rows = [
        # Evenly spaced in the class, which may hold several acquisitions one after another.
        np.flatnonzero(data.labels == label)[np.arange(n) * available[label] // max(n, 1)]
        for label, n in enumerate(counts)
    ]
    return data.subset(np.sort(np.concatenate(rows)))
