"""Unknown scores: how unlike all known classes a particle is, from features and source labels."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray
from sklearn.covariance import LedoitWolf
from sklearn.metrics import roc_auc_score
from sklearn.neighbors import NearestNeighbors

from tomadapt.errors import InputError

UnknownKind = Literal["mahalanobis", "neighbours", "energy"]
NEIGHBOURS = 10
"""The score ``neighbours`` is the distance to the nearest source particle of this rank."""


def unknown_scores(
    target: NDArray[np.floating],
    source: NDArray[np.floating],
    source_labels: NDArray[np.integer],
    *,
    kind: UnknownKind = "neighbours",
    weights: tuple[NDArray[np.floating], NDArray[np.floating]] | None = None,
) -> NDArray[np.float64]:
    r"""Score target particles: the higher, the less like any known class.

    ``mahalanobis``: the Mahalanobis distance to the nearest class mean of the source features,
    with one covariance for all classes (Lee et al. 2018, NeurIPS), shrunk (Ledoit & Wolf 2004).
    ``neighbours``: the distance to the tenth nearest source particle, with features scaled to unit
    length (Sun et al. 2022, ICML). ``energy``: :math:`-\log Σ_c e^{z_c}` of the logits (Liu et al.
    2020, NeurIPS).

    Parameters
    ----------
    target, source
        (n, f) features F_t(x_t) and (m, f) F_s(x_s).
    source_labels
        (m,) classes of the source.
    kind
        Which score.
    weights
        (c, f) and (c,) of the classifier C; for ``energy`` only.

    Raises
    ------
    InputError
        When features are not finite, or ``energy`` has no weights.
    """
    target, source = np.asarray(target, np.float64), np.asarray(source, np.float64)
    if not (np.isfinite(target).all() and np.isfinite(source).all()):
        raise InputError("the features cannot be scored", expected="finite features")
    if kind == "energy":
        if weights is None:
            raise InputError("energy needs the classifier", expected="its weights", got="none")
        logits = target @ np.asarray(weights[0], np.float64).T + weights[1]
        top = logits.max(axis=1)
        return np.asarray(-(top + np.log(np.exp(logits - top[:, None]).sum(axis=1))))
    if kind == "neighbours":
        unit = [
            x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12)
            for x in (source, target)
        ]
        near = NearestNeighbors(n_neighbors=min(NEIGHBOURS, len(source))).fit(unit[0])
        return np.asarray(near.kneighbors(unit[1])[0][:, -1])
    classes = np.unique(source_labels)
    means = np.stack([source[source_labels == label].mean(axis=0) for label in classes])
    within = source - means[np.searchsorted(classes, source_labels)]
    precision = LedoitWolf(assume_centered=True).fit(within).precision_
    distances = []
    for mean in means:
        apart = target - mean
        distances.append(np.einsum("nf,fg,ng->n", apart, precision, apart, optimize=True))
    return np.asarray(np.sqrt(np.min(distances, axis=0)))


def auroc(scores: NDArray[np.floating], is_unknown: NDArray[np.bool_]) -> float:
    """Area under the ROC curve: how often an unknown particle scores higher than a known one.

    Raises
    ------
    InputError
        When all particles are known, or all unknown.
    """
    if is_unknown.all() or not is_unknown.any():
        raise InputError(
            "no AUROC without both known and unknown particles", expected="particles of both kinds"
        )
    return float(roc_auc_score(is_unknown, scores))
