"""Clusters of particles by their features, and how well a cluster matches a class."""

from __future__ import annotations

from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field
from sklearn.cluster import HDBSCAN, KMeans, MiniBatchKMeans
from sklearn.decomposition import PCA

from tomadapt.errors import ConfigError, InputError

_MINI_BATCH_ABOVE = 20_000
"""With more particles than this, k-means uses mini-batches."""


class ClusterOptions(BaseModel):
    """Options of the clustering.

    Parameters
    ----------
    method
        ``kmeans``, or ``hdbscan``, which finds the number of clusters and leaves some particles
        out.
    count
        Number of clusters of k-means (Lin et al. 2019, section 3.4: 100).
    min_size
        Least number of particles in a cluster of HDBSCAN.
    seed
        Seed of k-means.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    method: Literal["kmeans", "hdbscan"] = "kmeans"
    count: Annotated[int, Field(ge=2)] = 100
    min_size: Annotated[int, Field(ge=2)] = 5
    seed: Annotated[int, Field(ge=0)] = 0


def require_enough(particles: int, options: ClusterOptions) -> None:
    """Raise when k-means is asked for more clusters than there are particles.

    Raises
    ------
    ConfigError
        Naming both numbers.
    """
    if options.method == "kmeans" and particles < options.count:
        raise ConfigError(
            "more clusters than particles",
            expected=f"at most {particles} clusters",
            got=options.count,
            remedy="give a smaller --clusters",
        )


def cluster(features: NDArray[np.floating], options: ClusterOptions) -> NDArray[np.int64]:
    """Cluster particles by their features.

    Features are centred and scaled to unit length: their direction distinguishes structures, while
    their length depends more on how clearly a particle was seen. HDBSCAN is given the first 32
    principal components, since density estimates fail in hundreds of dimensions.

    Parameters
    ----------
    features
        (n, f).
    options
        See :class:`ClusterOptions`.

    Returns
    -------
    ndarray
        (n,) cluster numbers from 0; −1 for particles that HDBSCAN leaves out.

    Raises
    ------
    ConfigError
        When there are fewer particles than clusters.
    InputError
        When features are NaN or infinite.
    """
    x = np.asarray(features, dtype=np.float64)
    if not np.isfinite(x).all():
        raise InputError(
            "the features cannot be clustered",
            expected="finite features",
            got="NaN or infinite ones",
            remedy="train or adapt the model again",
        )
    x = x - x.mean(axis=0)
    x = x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12)
    if options.method == "hdbscan":
        kept = min(32, *x.shape)
        reduced = PCA(n_components=kept, random_state=options.seed).fit_transform(x)
        found = HDBSCAN(min_cluster_size=min(options.min_size, len(x)), copy=True)
        return np.asarray(found.fit_predict(reduced), dtype=np.int64)
    require_enough(len(x), options)
    kind = MiniBatchKMeans if len(x) > _MINI_BATCH_ABOVE else KMeans
    fitted = kind(options.count, n_init=3, random_state=options.seed).fit(x)
    return np.asarray(fitted.labels_, dtype=np.int64)


def best_cluster_f1(clusters: NDArray[np.integer], member: NDArray[np.bool_]) -> tuple[float, int]:
    """F1 of the cluster that matches a class best, and its number.

    Parameters
    ----------
    clusters
        (n,) cluster numbers; −1 is none.
    member
        (n,) whether a particle belongs to the class.
    """
    best = 0.0, -1
    for group in np.unique(clusters[clusters >= 0]):
        inside = clusters == group
        f1 = 2 * int((inside & member).sum()) / int(inside.sum() + member.sum())
        best = max(best, (f1, int(group)), key=lambda pair: pair[0])
    return best
