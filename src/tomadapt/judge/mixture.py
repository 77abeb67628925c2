"""From evidence to probabilities: mixture proportions by EM, and false-discovery rates.

Structures and rivals are the components of a mixture, whose proportions are estimated from the
particles (Dempster, Laird & Rubin 1977, J. R. Stat. Soc. B 39, 1). So a protein that is absent gets
a proportion near zero, even if single particles have evidence for it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import logsumexp

from tomadapt.robust import MAD_TO_SIGMA

PSEUDOCOUNT = 0.1
"""Added to the number of particles of each component, so that no proportion becomes zero."""
MIN_TEMPER = 0.1
PRIOR_SCATTER, PRIOR_PARTICLES = 2.0, 20
"""Prior of the scatter of evidence, as a ratio of variances to exact models, and the number of
particles that the prior counts as."""
_ROUNDS = 300
_MIN_PARTICLES = 4
_MAX_GAP_RATIO = 0.95
"""Above this ratio of D to E (see :func:`temper`) the nearest rival explains next to nothing, and
the scatter is not informative."""


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
        (n, h) log-evidence of each component; −inf excludes it. Each row needs a finite value.
    least
        (h,) lower bounds of the proportions.
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
    """Proportions raised to their lower bounds, the others scaled so that the sum stays 1."""
    held = np.zeros(len(least), dtype=bool)
    scaled = proportions
    while (low := ~held & (scaled < least)).any():
        held |= low
        rest = max(1 - least[held].sum(), 1e-12) / max(proportions[~held].sum(), 1e-12)
        scaled = np.where(held, least, proportions * rest)
    return np.asarray(scaled)


def temper(evidence: NDArray[np.float64], labels: NDArray[np.integer]) -> float:
    r"""A factor from 0.1 to 1 for all evidence, estimated from its scatter.

    Consider a particle's evidence E for its structure and its log-likelihood ratio D to the nearest
    rival. If the models were exact and the rival's template correlated with the structure's by ρ,
    D would be :math:`c E` with :math:`c = 1 - ρ^2`, and scatter about it with the variance
    :math:`2 E c (1 - c)`. Structures and optics are never exact, so this variance is s times
    larger, and evidence is multiplied by 1/s. The scatter of particles of all structures is
    estimated together and robustly. Since short lists have little information, the estimate is
    combined with a prior that counts as :data:`PRIOR_PARTICLES` particles.

    Parameters
    ----------
    evidence
        (n, h); −inf for components that were not compared.
    labels
        (n,) the component of each particle; particles with −1 are not used.

    Returns
    -------
    float
        From 0.1 to 1; 1 / :data:`PRIOR_SCATTER` when no particle is usable.
    """
    found = [np.zeros(0)]
    for label in np.unique(labels[labels >= 0]):
        rows = evidence[labels == label]
        own = rows[:, label]
        gaps = own[:, None] - rows
        gaps[:, label] = np.inf
        nearest = gaps.min(axis=1)
        usable = np.isfinite(nearest) & (own > 0)
        if usable.sum() < _MIN_PARTICLES:
            continue
        nearest, own = nearest[usable], own[usable]
        c = float(np.median(nearest / own))
        if 0 < c < _MAX_GAP_RATIO:
            found.append((nearest - c * own) / np.sqrt(2 * own * c * (1 - c)))
    scatter = np.concatenate(found)
    count = len(scatter)
    measured = (MAD_TO_SIGMA * np.median(np.abs(scatter))) ** 2 if count else PRIOR_SCATTER
    total = count * measured + PRIOR_PARTICLES * PRIOR_SCATTER
    return float(np.clip((count + PRIOR_PARTICLES) / total, MIN_TEMPER, 1.0))


def tempered(evidence: NDArray[np.float64], trust: float, *, nothing: float) -> NDArray[np.float64]:
    """Evidence multiplied by the factor of :func:`temper`.

    Models are inexact about signals, not about noise. So the evidence of a structure above that of
    noise is multiplied, while evidence below that of noise is kept in full. (If all differences
    were multiplied, structures would explain noise nearly as well as noise does, and the mixture
    would assign all noise to them.)

    Parameters
    ----------
    evidence
        In nats, any shape; −inf for components that were not compared.
    trust
        See :func:`temper`.
    nothing
        The evidence of noise.
    """
    over = evidence - nothing
    return np.asarray(nothing + np.where(over > 0, trust * over, over))


def false_discovery_rates(
    scores: NDArray[np.float64], labels: NDArray[np.integer]
) -> NDArray[np.float64]:
    """(n,) q-values: expected fraction of wrong labels among particles of at least this score.

    Parameters
    ----------
    scores
        (n,) probability that the label is right.
    labels
        (n,) labels; particles of each label are ranked separately.
    """
    rates = np.ones(len(scores))
    for label in np.unique(labels):
        rows = np.flatnonzero(labels == label)
        order = rows[np.argsort(-scores[rows], kind="stable")]
        expected = np.cumsum(1 - scores[order]) / np.arange(1, len(order) + 1)
        rates[order] = np.minimum.accumulate(expected[::-1])[::-1]
    return rates
