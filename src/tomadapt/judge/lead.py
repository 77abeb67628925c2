r"""How far a structure's evidence leads that of everything else it is compared with.

A particle of a wanted structure leads by a share of its evidence that is the same for the whole
class: :math:`c = 1 - ρ^2` where the nearest rival correlates with the structure by ρ (see
:func:`~tomadapt.judge.mixture.temper`). A protein that nobody named resembles several structures
by chance and about equally, so none of them leads by much. How much a class should lead is known
beforehand, from the correlations of its structure with all rivals.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from tomadapt.robust import weighted_median

Doubles = NDArray[np.float64]

UNNAMED_LEAD = 0.12
"""Mean absolute lead, over the evidence, of a structure on a protein that was not named. Measured
0.06 to 0.2, as a median, on proteins of 200 to 2000 kDa in tomograms made by others."""
LEAD_FREEDOM = 4
"""Degrees of freedom of the t distribution of a class's leads: neighbours make some small."""
MIN_SPREAD = 0.08
"""Least spread of a class's leads: what rivals explain depends on the pose, also without noise."""
PRIOR_PARTICLES = 50
"""How many particles the expected lead of a class counts as."""
INFORMATIVE = (0.02, 0.95)
"""The usual lead of a class must lie between these, else the lead says nothing: above them nothing
resembles the structure, below them something is the same."""


def lead_ratios(evidence: Doubles, n_wanted: int) -> tuple[Doubles, Doubles]:
    """Evidence over noise of each wanted structure, and which share of it is lead.

    Parameters
    ----------
    evidence
        (n, h) nats of wanted structures, rivals and, in the last column, noise.
    n_wanted
        How many columns, the first ones, are wanted structures.

    Returns
    -------
    over
        (n, w) nats over noise, at least 1.
    ratios
        (n, w) the lead over all other columns, divided by that; −inf where a structure was not
        compared.
    """
    best_two = np.sort(evidence, axis=1)[:, -2:]
    own = evidence[:, :n_wanted]
    rest = np.where(own == best_two[:, 1:], best_two[:, :1], best_two[:, 1:])
    over = np.maximum(own - evidence[:, -1:], 1.0)
    return over, (own - rest) / over


def usual_lead(ratios: Doubles, weights: Doubles, expected: float) -> float:
    """The usual lead ratio of a class: measured on its particles, beside what is expected.

    A class that is absent consists of unnamed proteins, so that its measured lead is theirs.

    Parameters
    ----------
    ratios
        (n,) lead ratios.
    weights
        (n,) probabilities that the particles are of the class.
    expected
        Counts as :data:`PRIOR_PARTICLES` particles.
    """
    n = float(weights.sum())
    measured = weighted_median(ratios, weights) if n > 0 else expected
    return (n * measured + PRIOR_PARTICLES * expected) / (n + PRIOR_PARTICLES)


def is_informative(usual: float) -> bool:
    """Whether a class's usual lead tells its particles from unnamed proteins."""
    return INFORMATIVE[0] < usual < INFORMATIVE[1]


def log_odds_unnamed(over: Doubles, ratios: Doubles, usual: float) -> Doubles:
    """Log-odds, by the lead alone, that a particle is not of the class but an unnamed protein.

    They are the same for all particles that something else explains better.

    Parameters
    ----------
    over, ratios
        Of one class, from tempered evidence, see :func:`lead_ratios`.
    usual
        See :func:`usual_lead`.
    """
    if not is_informative(usual):
        return np.zeros_like(ratios)
    # Tempered evidence has the scatter that exact models would have.
    spread = np.maximum(np.sqrt(2 * usual * (1 - usual) / over), MIN_SPREAD)
    # What leads by nothing may as well be led; more than the usual lead is not against the class.
    ratios = np.maximum(ratios, 0.0)
    own = stats.t.logpdf(np.minimum(ratios, usual), LEAD_FREEDOM, usual, spread)
    return np.asarray(stats.laplace.logpdf(ratios, 0, UNNAMED_LEAD) - own)
