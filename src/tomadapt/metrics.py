"""Measures of predictions against true labels."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

Labels = NDArray[np.integer]


def accuracy(predicted: Labels, true: Labels) -> float:
    """Fraction of particles whose predicted class is the true one."""
    return float(np.mean(predicted == true))


_Z_95 = 1.96


def binomial_interval(fraction: float, n: int) -> tuple[float, float]:
    """Wilson's 95 % score interval of a binomial proportion.

    Returns
    -------
    tuple of float
        Lowest and highest proportion.
    """
    z = _Z_95
    centre = (fraction + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * math.sqrt(fraction * (1 - fraction) / n + z**2 / (4 * n**2))
    return max(0.0, centre - half), min(1.0, centre + half)


def confusion_matrix(predicted: Labels, true: Labels, n_classes: int) -> NDArray[np.int64]:
    """Counts (classes, classes): rows are predicted classes, columns true ones, as in Fig. 5."""
    flat = np.bincount(predicted * n_classes + true, minlength=n_classes**2)
    return np.asarray(flat.reshape(n_classes, n_classes))


def recall_per_class(predicted: Labels, true: Labels, n_classes: int) -> NDArray[np.float64]:
    """(classes,) fraction of each true class that was predicted as such; NaN for absent classes."""
    counts = confusion_matrix(predicted, true, n_classes)
    with np.errstate(invalid="ignore"):
        return np.asarray(np.diag(counts) / counts.sum(axis=0))


def effective_classes(predicted: Labels, n_classes: int) -> float:
    """Exponential of the entropy of the predicted classes' histogram; 1 for a single class."""
    p = np.bincount(predicted, minlength=n_classes) / len(predicted)
    p = p[p > 0]
    return float(np.exp(-(p * np.log(p)).sum()))


def kappa(a: Labels, b: Labels, n_classes: int) -> float:
    """Cohen's kappa of two labellings: 1 when they agree, 0 when they agree as often as by chance.

    When both consist of one and the same class it is 1; when only one consists of a single class
    it is 0.
    """
    agreed = accuracy(a, b)
    fractions = [np.bincount(labels, minlength=n_classes) / len(labels) for labels in (a, b)]
    by_chance = float(fractions[0] @ fractions[1])
    return 1.0 if by_chance == 1 else (agreed - by_chance) / (1 - by_chance)


def match_positions(
    found_A: NDArray[np.floating],
    planted_A: NDArray[np.floating],
    tolerance_A: NDArray[np.floating],
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Pair found positions with planted ones, one to one, in the order of their distance.

    Parameters
    ----------
    found_A, planted_A
        (n, 3) and (m, 3), x, y, z in Å.
    tolerance_A
        (m,) largest distance from each planted position to a found one.

    Returns
    -------
    found, planted
        (k,) indices of the pairs: recall is k / m, precision k / n.
    """
    near = cKDTree(found_A).query_ball_point(planted_A, tolerance_A)
    pairs = [
        (float(np.linalg.norm(found_A[f] - planted_A[p])), f, p)
        for p, candidates in enumerate(near)
        for f in candidates
    ]
    used_found: dict[int, int] = {}
    used_planted: set[int] = set()
    for _, f, p in sorted(pairs):
        if f not in used_found and p not in used_planted:
            used_found[f] = p
            used_planted.add(p)
    found = np.array(list(used_found), dtype=np.int64)
    return found, np.array(list(used_found.values()), dtype=np.int64)


def f1_score(recall: float, precision: float) -> float:
    """The harmonic mean of recall and precision; 0 when both are 0."""
    return 2 * recall * precision / (recall + precision) if recall + precision > 0 else 0.0
