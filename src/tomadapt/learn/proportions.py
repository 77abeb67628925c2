"""How frequent each class is in the target, without its labels; and a source that is alike.

Adversarial training matches whole domains. Where classes are not as frequent in the target as in
the source it moves particles from one class to another until they are, most visibly into the class
NULL, of which a list of picks has few and a balanced source many.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tomadapt.data.subtomograms import LabelledSubtomograms

MIN_PROPORTION = 0.01

_ROUNDS = 200
_SETTLED = 1e-6


def estimate_proportions(probabilities: NDArray[np.floating]) -> NDArray[np.float64]:
    """Class proportions by expectation–maximisation.

    Parameters
    ----------
    probabilities
        (n, classes) what a classifier trained on equally frequent classes gives each particle.

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
        settled = np.abs(updated - proportions).max() < _SETTLED
        proportions = updated
        if settled:
            break
    return np.asarray(proportions / proportions.sum())


def corrected(
    probabilities: NDArray[np.floating], proportions: NDArray[np.floating]
) -> NDArray[np.float32]:
    """Probabilities of a classifier of equally frequent classes, where they are not.

    Parameters
    ----------
    probabilities
        (n, classes) see :func:`estimate_proportions`.
    proportions
        (classes,); a class counts as at least :data:`MIN_PROPORTION`, so that a rare one is not
        ruled out by an estimate.

    Notes
    -----
    Saerens et al. 2002, Eq. 2.4.
    """
    weights = np.maximum(np.asarray(proportions, dtype=np.float64), MIN_PROPORTION)
    weighted = np.asarray(probabilities, dtype=np.float64) * weights
    total = np.maximum(weighted.sum(axis=1, keepdims=True), np.finfo(float).tiny)
    return np.asarray(weighted / total, dtype=np.float32)


def with_proportions(
    data: LabelledSubtomograms, proportions: NDArray[np.floating], *, fewest: int = 8
) -> LabelledSubtomograms:
    """The particles with some left out so that classes are as frequent as stated.

    Parameters
    ----------
    data
        Labelled particles.
    proportions
        (classes,) wanted.
    fewest
        Of each class so many stay whatever its proportion, where there are so many.
    """
    available = np.bincount(data.labels, minlength=len(data.class_names))
    wanted = np.maximum(np.asarray(proportions, dtype=np.float64), 1e-9)
    counts = np.round((available / wanted).min() * wanted).astype(int)
    counts = np.clip(counts, np.minimum(fewest, available), available)
    rows = [
        # Spread over the class, which may hold several acquisitions one after another.
        np.flatnonzero(data.labels == label)[np.arange(n) * available[label] // max(n, 1)]
        for label, n in enumerate(counts)
    ]
    return data.subset(np.sort(np.concatenate(rows)))
