"""From evidence to probabilities: proportions by EM, and false-discovery rates.

Structures and rivals are the components of a mixture whose proportions are those of the particles
at hand: a mirror image or an absent protein gets next to none, whatever single particles say
(Dempster, Laird & Rubin 1977, J. R. Stat. Soc. B 39, 1).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import logsumexp

PSEUDOCOUNT = 0.1
"""Particles that each component has beside those that are seen; no proportion is zero."""
LEAST_TEMPER = 0.1
_ROUNDS = 300
_FEWEST = 8


@dataclass(frozen=True, eq=False)
class Mixture:
    """Probabilities of what each particle is.

    Attributes
    ----------
    posterior
        (n, h), rows sum to 1.
    proportions
        (h,), sum to 1.
    """

    posterior: NDArray[np.float64]
    proportions: NDArray[np.float64]


def fit_mixture(
    evidence: NDArray[np.float64], *, least: NDArray[np.float64] | None = None
) -> Mixture:
    """Estimate proportions and posterior by EM.

    Parameters
    ----------
    evidence
        (n, h) log-evidence of each component; −inf where it is excluded. Each row needs a finite
        one.
    least
        (h,) what proportions are at least.
    """
    n, h = evidence.shape
    proportions = np.full(h, 1 / h)
    for _ in range(_ROUNDS):
        joint = evidence + np.log(proportions)
        posterior = np.exp(joint - logsumexp(joint, axis=1, keepdims=True))
        updated = (posterior.sum(axis=0) + PSEUDOCOUNT) / (n + h * PSEUDOCOUNT)
        if least is not None:
            updated = _at_least(updated, least)
        done = np.abs(updated - proportions).max() < 1e-6
        proportions = updated
        if done:
            break
    return Mixture(posterior, proportions)


def _at_least(proportions: NDArray[np.float64], least: NDArray[np.float64]) -> NDArray[np.float64]:
    """Proportions raised to their least values, the others scaled so that the sum stays 1."""
    held = np.zeros(len(least), dtype=bool)
    scaled = proportions
    while (low := ~held & (scaled < least)).any():
        held |= low
        rest = max(1 - least[held].sum(), 1e-12) / max(proportions[~held].sum(), 1e-12)
        scaled = np.where(held, least, proportions * rest)
    return np.asarray(scaled)


def temper(evidence: NDArray[np.float64], labels: NDArray[np.integer]) -> float:
    r"""By how much evidence is to be trusted, from how it scatters.

    Were the models exact, the log-likelihood ratio D of the right structure to a wrong one would be
    a Gaussian whose variance is twice its mean. Structures and optics are never exact, and D
    scatters more. With :math:`β = 2 \bar D / \mathrm{var} D`, βD scatters as it should. Of each
    structure the rival that comes nearest counts; the median over structures is taken.

    Parameters
    ----------
    evidence
        (n, h); −inf where a component was not compared.
    labels
        (n,) the component of each particle, −1 for none that counts here.

    Returns
    -------
    float
        From 0.1 to 1; 1 where there are too few particles to say.
    """
    found = []
    for label in np.unique(labels[labels >= 0]):
        rows = evidence[labels == label]
        gaps = rows[:, [label]] - rows
        gaps[:, label] = np.inf
        nearest = gaps.min(axis=1)
        usable = nearest[np.isfinite(nearest)]
        if len(usable) >= _FEWEST:
            centre = np.median(usable)
            spread = 1.4826 * np.median(np.abs(usable - centre))
            found.append(2 * centre / max(spread**2, 1e-9))
    if not found:
        return 1.0
    return float(np.clip(np.median(found), LEAST_TEMPER, 1.0))


def false_discovery_rates(
    scores: NDArray[np.float64], labels: NDArray[np.integer]
) -> NDArray[np.float64]:
    """(n,) q-values: the expected fraction of wrong ones among particles as sure or surer.

    Parameters
    ----------
    scores
        (n,) probability that the label is right.
    labels
        (n,) each label's particles are ranked among themselves.
    """
    rates = np.ones(len(scores))
    for label in np.unique(labels):
        rows = np.flatnonzero(labels == label)
        order = rows[np.argsort(-scores[rows], kind="stable")]
        expected = np.cumsum(1 - scores[order]) / np.arange(1, len(order) + 1)
        rates[order] = np.minimum.accumulate(expected[::-1])[::-1]
    return rates
