"""Features as points in a plane: t-SNE (van der Maaten & Hinton 2008), as in the paper's Fig. 4."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

MAX_PERPLEXITY = 30.0
N_COMPONENTS = 50
"""Principal components that t-SNE works on: the rest carries little, and distances cost less."""


def choose_particles(
    n: int, labels: NDArray[np.integer] | None, *, n_classes: int, per_class: int = 100
) -> NDArray[np.int64]:
    """Which of ``n`` particles to draw: every one where they are few, else an even choice.

    Parameters
    ----------
    n
        Number of particles.
    labels
        (n,) classes; at most ``per_class`` of each are taken. Where None, at most
        ``n_classes * per_class`` of all.
    n_classes
        Number of classes.
    per_class
        Particles a class.

    Returns
    -------
    ndarray
        Increasing indices; the same for the same input.
    """
    everything = np.arange(n)
    if labels is None:
        return _thin(everything, n_classes * per_class)
    groups = [_thin(np.flatnonzero(labels == c), per_class) for c in np.unique(labels)]
    return np.sort(np.concatenate(groups))


def _thin(indices: NDArray[np.int64], most: int) -> NDArray[np.int64]:
    if len(indices) <= most:
        return indices
    return np.sort(np.random.default_rng(0).choice(indices, most, replace=False))


def embed(features: NDArray[np.floating], *, seed: int = 0) -> NDArray[np.float64]:
    """Embed features in a plane so that near neighbours stay near.

    Parameters
    ----------
    features
        (n, f); t-SNE takes some ten seconds for n = 2300.
    seed
        Of t-SNE.

    Returns
    -------
    ndarray
        (n, 2), the same for the same input and seed. Fewer than five particles are given their
        first two principal components, and identical ones all the origin: neither has
        neighbourhoods to preserve.

    Raises
    ------
    ValueError
        When a feature is not finite.
    """
    x = np.asarray(features, dtype=np.float64)
    if not np.isfinite(x).all():
        raise ValueError("features to embed must be finite")
    components = _principal_components(x)
    n = len(components)
    if n < 5 or components.shape[1] == 0:
        padded = np.zeros((n, 2))
        padded[:, : components.shape[1]] = components[:, :2]
        return padded

    from openTSNE import TSNE

    # One core and exact neighbours, or the result would depend on the machine.
    tsne = TSNE(
        perplexity=min(MAX_PERPLEXITY, (n - 1) / 3),
        neighbors="exact",
        negative_gradient_method="bh",
        initialization=_initial_positions(components, seed),
        random_state=seed,
        n_jobs=1,
    )
    return np.asarray(tsne.fit(components), dtype=np.float64)


def _principal_components(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """Scores on the leading components that vary at all; (n, 0) for identical rows."""
    centred = x - x.mean(axis=0)
    # The spread of rounding errors is not a spread of features.
    if np.abs(centred).max(initial=0.0) <= 1e-6 * max(1e-30, np.abs(x).max(initial=0.0)):
        return np.zeros((len(x), 0))
    u, s, vt = np.linalg.svd(centred, full_matrices=False)
    keep = (s > 1e-9 * s[0])[:N_COMPONENTS].sum()
    # A component's sign is arbitrary: its largest loading is made positive.
    largest = vt[np.arange(len(vt)), np.abs(vt).argmax(axis=1)]
    return np.asarray((u * s * np.sign(largest))[:, :keep])


def _initial_positions(components: NDArray[np.float64], seed: int) -> NDArray[np.float64]:
    """Principal components at the small scale that t-SNE starts from, ties broken by the seed."""
    start = np.zeros((len(components), 2))
    kept = min(2, components.shape[1])
    start[:, :kept] = components[:, :kept] / components[:, 0].std() * 1e-4
    return start + np.random.default_rng(seed).normal(0, 1e-6, start.shape)
