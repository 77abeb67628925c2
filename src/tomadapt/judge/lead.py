r"""How far a structure's evidence leads that of everything else it is compared with.

A particle of a wanted structure leads by a share of its evidence that is about the same for the
whole class: :math:`c = 1 - ρ^2` where the nearest rival correlates with the structure by ρ (see
:func:`~tomadapt.judge.mixture.temper`). A protein that nobody named resembles several structures
by chance and about equally, so none of them leads by much. How much a class should lead is known
beforehand, from the correlations of its structure with all others. This expectation is low: ρ is
that of low resolution, and evidence lacks the Occam factor, which leads do not.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from tomadapt.robust import weighted_median

Doubles = NDArray[np.float64]

UNNAMED_LEAD = 0.12
"""Scale of the Laplace distribution of a structure's lead on proteins that were not named, over its
evidence. Medians of 0.06 to 0.2 were measured in tomograms made by others, on proteins of 200 to
2000 kDa."""
LEAD_FREEDOM = 4
"""Degrees of freedom of the t distribution of a class's leads: neighbours make some small."""
MIN_SPREAD = 0.08
"""Least spread of a class's leads: what rivals explain depends on the pose, also without noise."""
EXPECTED_PARTICLES = 50
"""How many particles the expected lead of a class counts as."""
LEAST_MEASURED = 0.8
"""A measured lead below this part of the expected one counts as this part."""
TWIN_CORRELATION = 0.9
"""Wanted structures that correlate more than this at low resolution are nearly the same."""
LEAST_USUAL = 0.02
"""Below this usual lead another structure is nearly the same, and the lead says nothing."""


@dataclass(frozen=True, eq=False)
class ExpectedLeads:
    """How far w wanted structures should lead all others.

    Attributes
    ----------
    ratios
        (w,) of each, over its evidence.
    twins
        (w, w) pairs that are nearly the same structure, such as two conformations. They do not
        count as others to each other.
    """

    ratios: Doubles
    twins: NDArray[np.bool_]

    @classmethod
    def of(cls, among: Doubles, rivals: Doubles) -> ExpectedLeads:
        """From correlations.

        Parameters
        ----------
        among
            (w, w) of the wanted structures with each other; the diagonal does not matter.
        rivals
            (r, w) of all rivals that compete.
        """
        own = np.eye(len(among), dtype=bool)
        twins = (among > TWIN_CORRELATION) & ~own
        others = np.concatenate([np.where(own | twins, 0.0, among), rivals])
        return cls(1 - others.max(axis=0) ** 2, twins)


def lead_ratios(
    evidence: Doubles, n_wanted: int, twins: NDArray[np.bool_] | None = None
) -> tuple[Doubles, Doubles]:
    """Evidence over noise of each wanted structure, and which share of it is lead.

    Parameters
    ----------
    evidence
        (n, h) nats of wanted structures, rivals and, in the last column, noise.
    n_wanted
        The first w columns are wanted structures.
    twins
        (w, w) pairs of wanted structures that are nearly the same; they do not lead each other.

    Returns
    -------
    over
        (n, w) nats over noise, at least 1.
    ratios
        (n, w) the lead over all other columns, divided by that; −inf where a structure was not
        compared.
    """
    rest = np.empty((len(evidence), n_wanted))
    for column in range(n_wanted):
        others = np.ones(evidence.shape[1], dtype=bool)
        others[column] = False
        if twins is not None:
            others[:n_wanted] &= ~twins[column]
        rest[:, column] = evidence[:, others].max(axis=1)
    own = evidence[:, :n_wanted]
    over = np.maximum(own - evidence[:, -1:], 1.0)
    return over, (own - rest) / over


def usual_lead(ratios: Doubles, weights: Doubles, expected: float) -> float:
    """The usual lead ratio of a class: measured on its particles, beside what is expected.

    The particles of a class that is absent are unnamed proteins, and their lead is small. So it
    must not set the standard.

    Parameters
    ----------
    ratios
        (n,) lead ratios.
    weights
        (n,) probabilities that the particles are of the class.
    expected
        Counts as :data:`EXPECTED_PARTICLES` particles.
    """
    n = float(weights.sum())
    measured = weighted_median(ratios, weights) if n > 0 else expected
    measured = max(measured, LEAST_MEASURED * expected)
    return (n * measured + EXPECTED_PARTICLES * expected) / (n + EXPECTED_PARTICLES)


def is_informative(usual: float) -> bool:
    """Whether a usual lead tells a class from unnamed proteins: not where nothing was compared."""
    return LEAST_USUAL < usual < 1


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
    ratios = np.maximum(ratios, 0.0)
    # More than the usual lead does not speak against the class.
    own = stats.t.logpdf(np.minimum(ratios, usual), LEAD_FREEDOM, usual, spread)
    return np.asarray(stats.laplace.logpdf(ratios, 0, UNNAMED_LEAD) - own)
