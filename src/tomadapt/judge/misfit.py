"""How well the best structure fits: its contrast, the power of the residual, its lead.

Particles of one class in one data set have about the same contrast. A particle that a structure
explains only in part (a homologue, a larger complex that contains it, a protein that resembles it
by chance) shows less contrast, a stronger residual and less lead over other structures.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import stats

from tomadapt.judge.lead import (
    ExpectedLeads,
    is_informative,
    lead_ratios,
    log_odds_unnamed,
    usual_lead,
)
from tomadapt.judge.mixture import Mixture, fit_mixture
from tomadapt.judge.noise import Cubes, Noise
from tomadapt.judge.refine import Refined
from tomadapt.judge.rivals import Hypothesis
from tomadapt.judge.rows import batches
from tomadapt.recover.reference import Reference
from tomadapt.robust import MAD_TO_SIGMA, weighted_median
from tomadapt.structures.resampling import radius_A

MARGIN_VOXELS = 2.0
MIN_RELATIVE_SPREAD = 0.08
"""Least standard deviation of a class's contrasts, and of residuals, relative to their medians."""
MIN_RESIDUAL_RATIO = 0.5
"""Smaller ratios of residual power to noise power are raised to this. In particles with next to no
noise the residual comes from errors of poses and interpolation, and scatters widely."""
AMPLITUDE_RANGE, RESIDUAL_RANGE = 1.3, 3.0
"""Widths of the uniform distributions that contrast and residual have, for half of the particles
that a structure explains in part: relatives, larger complexes, contaminants."""
CHANCE_AMPLITUDE, CHANCE_RESIDUAL = (0.75, 0.15), (1.1, 0.12)
"""Location and scale of both, over the class's medians, for the other half: unnamed proteins that
resemble the structure by chance. In tomograms made by others their medians were 0.6 to 0.9 (of
structures below 500 kDa) and 1.01 to 1.24."""
MIN_NOISE_PARTICLES = 5.0
"""The proportion of noise among n particles is at least this over (n + this): even a clean list is
assumed to contain some noise."""
FEW_IN_PART_NATS = -2.0
"""What contrast and residual usually say of a particle explained in part, for classes of few."""
FREQUENT_DECOYS = 5
_ROUNDS = 4
MIN_PARTICLES = 3
PRIOR_SPREAD, PRIOR_PARTICLES = 0.15, 4
"""Relative standard deviation that contrasts and residuals are expected to have, and how many
particles this prior counts as: few particles do not say how much their class scatters."""
_CLEAR_NATS = 3.0  # over noise and rivals, after tempering
_BATCH = 16


def fit_with_fits(
    evidence: NDArray[np.float64],
    amplitude: NDArray[np.float64],
    residual_ratio: NDArray[np.float64],
    decoys: NDArray[np.bool_],
    expected: ExpectedLeads,
) -> tuple[Mixture, NDArray[np.float64]]:
    """EM for a mixture in which a structure explains a particle as a whole, or only in part.

    The contrast of a class's particles is normal about their median. Their residual power follows a
    Student t with two degrees of freedom, since neighbours make it large at times. Medians and
    spreads come from the particles that the mixture assigns to the class and that no rival explains
    nearly as well. For particles that a structure explains in part, both are uniform for half of
    them, and as in :data:`CHANCE_AMPLITUDE` and :data:`CHANCE_RESIDUAL` for the other half. Both
    terms are shifted so that the median of a class gains nothing from them: contrast is part of the
    likelihood and must not count twice. The lead (:mod:`~tomadapt.judge.lead`) decides between a
    structure as a whole and in part; a structure that does not lead is less probable as a whole.

    The proportion of particles that are explained in part is bounded from below by competition with
    decoys (Elias & Gygi 2007, Nat. Methods 4, 207). A protein that the user did not name resembles
    a wanted structure by chance as often as it resembles a decoy of about its size. So each wanted
    structure gets as many of these particles as the :data:`FREQUENT_DECOYS` most frequent decoys
    have on average, but all of them together no more than all decoys.

    Parameters
    ----------
    evidence
        (n, w + r) nats of the w wanted structures and r others, the last of which is noise alone.
    amplitude
        (n, w) of each wanted structure; NaN for pairs that were not compared.
    residual_ratio
        (n,) residual power, of the wanted structure with the largest evidence.
    decoys
        (r,) which of the others are proteins or globular shapes that the user did not name.
    expected
        How far the wanted structures should lead.

    Returns
    -------
    mixture
        Over w structures, the same w explaining in part, and r others.
    relative
        (n, w) amplitudes over their class's median; 1 when that is not known.
    """
    w = amplitude.shape[1]
    residual_ratio = np.maximum(residual_ratio, MIN_RESIDUAL_RATIO)
    of_wanted, others = evidence[:, :w], evidence[:, w:]
    over, leads = lead_ratios(evidence, w, expected.twins)
    best = of_wanted.argmax(axis=1)
    empty = MIN_NOISE_PARTICLES / (len(evidence) + MIN_NOISE_PARTICLES)
    least = np.zeros(evidence.shape[1])
    least[-1] = empty
    mixture = fit_mixture(evidence, least=least)
    relative = np.ones_like(amplitude)
    in_part = np.full_like(of_wanted, -np.inf)  # stays where a structure was not compared
    for _ in range(_ROUNDS):
        whole = of_wanted.copy()
        for column in range(w):
            known = np.isfinite(amplitude[:, column])
            own = best[known] == column
            # Particles that noise or a rival explains nearly as well may not be of the class.
            clear = of_wanted[known, column] - others[known].max(axis=1) > _CLEAR_NATS
            weights = mixture.posterior[known, column] * clear
            usual = usual_lead(leads[known, column], weights * own, expected.ratios[column])
            odds = log_odds_unnamed(over[known, column], leads[known, column], usual)
            fits, part_fits, relative[known, column] = _log_densities(
                amplitude[known, column], residual_ratio[known], weights, own
            )
            # What something else explains better is less probably of the class; it is not more
            # probably explained in part, which would compete with that other structure.
            leading = leads[known, column] > 0
            whole[known, column] += fits - np.where(leading, 0, odds.clip(0))
            part_fits += np.where(leading, odds, odds.clip(max=0))
            in_part[known, column] = of_wanted[known, column] + part_fits
            if (weights * own).sum() < MIN_PARTICLES and not is_informative(usual):
                in_part[:, column] = -np.inf  # nothing would tell it from the whole
        least = np.zeros(2 * w + others.shape[1])
        least[-1] = empty
        least[w : 2 * w] = _usual_decoy(mixture.proportions[-others.shape[1] :][decoys], w)
        table = np.concatenate([whole, in_part, others], axis=1)
        mixture = fit_mixture(table, least=least)
    return mixture, relative


def _log_densities(
    amplitude: NDArray[np.float64],
    residual_ratio: NDArray[np.float64],
    weights: NDArray[np.float64],
    own: NDArray[np.bool_],
) -> tuple[NDArray[np.float64], ...]:
    """Log-densities of the contrast and residual of n particles, as a whole and in part.

    Parameters
    ----------
    amplitude, residual_ratio
        (n,) of the structure, and of the structure with the largest evidence.
    weights
        (n,) probabilities that the particles are of the class.
    own
        (n,) whether the structure is the one with the largest evidence.

    Returns
    -------
    whole, in_part
        (n,) as a whole and in part, shifted by the same number so that the median of the first is
        0 in the class. If the class has too few particles to know what is usual, they are 0 and
        :data:`FEW_IN_PART_NATS`.
    relative
        (n,) amplitudes over the class's median; 1 if that is not known.
    """
    if (weights * own).sum() < MIN_PARTICLES:
        nothing = np.zeros_like(amplitude)
        return nothing, nothing + FEW_IN_PART_NATS, np.ones_like(amplitude)
    middle, spread = _median_and_spread(amplitude, weights)
    relative = amplitude / middle
    left, scatter = _median_and_spread(residual_ratio, weights * own)
    residual = stats.t.logpdf(residual_ratio / left, 2, 1, scatter)
    # The residual is that of the best structure; other structures get the mean term.
    mean = np.average(residual, weights=weights * own)
    whole = stats.norm.logpdf(relative, 1, spread) + np.where(own, residual, mean)
    by_chance = stats.norm.pdf(relative, *CHANCE_AMPLITUDE)
    left_by_chance = stats.t.pdf(residual_ratio / left, 2, *CHANCE_RESIDUAL)
    uniform = 1 / AMPLITUDE_RANGE
    in_part = np.where(
        own,
        np.log((by_chance * left_by_chance + uniform / RESIDUAL_RANGE) / 2),
        np.log((by_chance + uniform) / 2) + mean,
    )
    usual = weighted_median(whole, weights)
    return whole - usual, in_part - usual, relative


def _usual_decoy(proportions: NDArray[np.float64], n_wanted: int) -> float:
    """Mean proportion of the most frequent decoys; all wanted ones have no more than all decoys."""
    if not len(proportions):
        return 0.0
    frequent = float(np.sort(proportions)[-FREQUENT_DECOYS:].mean())
    return min(frequent, float(proportions.sum()) / n_wanted)


def _median_and_spread(
    values: NDArray[np.float64], weights: NDArray[np.float64]
) -> tuple[float, float]:
    """Weighted median, and the robust standard deviation relative to it, with its prior."""
    middle, n = weighted_median(values, weights), weights.sum()
    deviation = MAD_TO_SIGMA * weighted_median(np.abs(values / middle - 1), weights)
    variance = (n * deviation**2 + PRIOR_PARTICLES * PRIOR_SPREAD**2) / (n + PRIOR_PARTICLES)
    return middle, max(float(np.sqrt(variance)), MIN_RELATIVE_SPREAD)


def residual_power(
    cubes: Cubes,
    columns: NDArray[np.integer],
    refined: Refined,
    hypotheses: Sequence[Hypothesis],
    noise: Noise,
) -> NDArray[np.float64]:
    """Power of the whitened residual in a ball around each particle, relative to noise.

    Parameters
    ----------
    cubes, refined, hypotheses, noise
        As they were refined.
    columns
        (n,) the structure that is subtracted from each particle.

    Returns
    -------
    ndarray
        (n,) 1 on average when the structure explains the whole particle.
    """
    n, points = noise.points.n, noise.points
    device = noise.power.device
    root = noise.power.rsqrt()
    r = torch.arange(n, device=device) - n // 2
    # Whitened noise that fills the box has this variance in each voxel.
    expected = float(points.multiplicity.sum()) / n**3
    found = np.ones(len(cubes))
    with torch.inference_mode():
        for column in np.unique(columns):
            rows = np.flatnonzero(columns == column)
            reference = Reference.of(hypotheses[column].windowed, device)
            radius = radius_A(hypotheses[column].density, 1.0) + MARGIN_VOXELS
            for some in batches(rows, _BATCH):
                x = noise.transforms(cubes.read(some)) * root  # (b, p)
                R = torch.from_numpy(refined.rotations[some, column]).to(device)
                s = torch.from_numpy(refined.shifts[some, column]).to(device)
                seen = reference.at(R, points) * points.phases(s) * root  # (b, p)
                # The whitened norm counts each point with its multiplicity.
                norm = (seen.abs().square() @ points.multiplicity).sqrt()[:, None].clamp_min(1e-20)
                z = (x * seen.conj()).real @ points.multiplicity  # (b,)
                left = x - seen * (z[:, None] / norm.square())  # the fitted structure subtracted
                real = points.volumes(left) * n**1.5  # (b, n, n, n); unit noise: variance 1
                for i, row in enumerate(some.tolist()):
                    sx, sy, sz = refined.shifts[row, column].tolist()
                    near = (
                        (r[:, None, None] - sz) ** 2
                        + (r[None, :, None] - sy) ** 2
                        + (r[None, None, :] - sx) ** 2
                    ) <= radius**2
                    found[row] = float(real[i][near].square().mean()) / expected
    return found
