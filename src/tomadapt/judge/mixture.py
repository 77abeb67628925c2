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
MIN_TEMPER = 0.1
PRIOR_SCATTER, PRIOR_PARTICLES = 2.0, 20
"""Of evidence, in units of what exact models have, and how many particles that is worth."""
_ROUNDS = 300
_MIN_PARTICLES = 4
_DISTINCT = 0.95  # a rival that explains nothing says nothing either


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

    Were the models exact, a particle's evidence E for its structure would be that of its signal,
    plus the noise's, and so would be its log-likelihood ratio D to the nearest rival. Where the
    rival's template correlates with the structure's by ρ, D is :math:`c E` with
    :math:`c = 1 - ρ^2`, and scatters about that with the variance :math:`2 E c (1 - c)`.
    Structures and optics are never exact, and D scatters s times more; evidence is then worth 1/s
    of what it says. Particles of all structures are taken together, robustly, with as many that
    scatter as usual as :data:`PRIOR_PARTICLES` says: short lists alone say little.

    Parameters
    ----------
    evidence
        (n, h); −inf where a component was not compared.
    labels
        (n,) the component of each particle, −1 for none that counts here.

    Returns
    -------
    float
        From 0.1 to 1; 1 / :data:`PRIOR_SCATTER` where no particle says anything.
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
        if 0 < c < _DISTINCT:
            found.append((nearest - c * own) / np.sqrt(2 * own * c * (1 - c)))
    scatter = np.concatenate(found)
    own_scatter = (1.4826 * np.median(np.abs(scatter))) ** 2 if len(scatter) else PRIOR_SCATTER
    count = len(scatter)
    total = count * own_scatter + PRIOR_PARTICLES * PRIOR_SCATTER
    return float(np.clip((count + PRIOR_PARTICLES) / total, MIN_TEMPER, 1.0))


def tempered(evidence: NDArray[np.float64], trust: float, *, nothing: float) -> NDArray[np.float64]:
    """Evidence as far as it is to be trusted.

    Models are wrong about signals, not about noise: what a structure has over noise is multiplied,
    and what it lacks of it counts in full. (Were all multiplied, structures would explain noise
    nearly as well as noise does, and a mixture would give them all of it.)

    Parameters
    ----------
    evidence
        In nats, any shape; −inf where a component was not compared.
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
