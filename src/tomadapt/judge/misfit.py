"""How well the best structure fits: its contrast, and the power of the residual.

Particles of one class in one data set have about the same contrast. A particle that a structure
explains only in part (a homologue, or a larger complex that contains it) shows less contrast and a
stronger residual.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import stats

from tomadapt.judge.mixture import Mixture, fit_mixture
from tomadapt.judge.noise import Cubes, Noise
from tomadapt.judge.refine import Refined
from tomadapt.judge.rivals import Hypothesis
from tomadapt.judge.rows import batches
from tomadapt.recover.reference import Reference
from tomadapt.robust import MAD_TO_SIGMA
from tomadapt.structures.resampling import radius_A

MARGIN_VOXELS = 2.0
MIN_RELATIVE_SPREAD = 0.08
"""Least standard deviation of a class's contrasts, and of residuals, relative to their medians."""
MIN_RESIDUAL_RATIO = 0.5
"""Smaller ratios of residual power to noise power are raised to this. In particles with next to no
noise the residual comes from errors of poses and interpolation, and scatters widely."""
AMPLITUDE_RANGE, RESIDUAL_RANGE = 1.3, 3.0
"""Widths of the uniform distributions of contrast and residual when a structure explains a particle
in part."""
MIN_NOISE_PARTICLES = 5.0
"""The proportion of noise among n particles is at least this over (n + this): even a clean list is
assumed to contain some noise."""
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
) -> tuple[Mixture, NDArray[np.float64]]:
    """EM for a mixture in which a structure explains a particle as a whole, or only in part.

    The contrast of a class's particles is normal about their median. Their residual power follows a
    Student t with two degrees of freedom, since neighbours make it large at times. Medians and
    spreads come from the particles that the mixture assigns to the class and that no rival explains
    nearly as well. For particles that a structure explains in part, both are uniform. Both terms
    are shifted so that a class gains nothing from them on average: contrast is part of the
    likelihood and must not count twice.

    The proportion of particles that are explained in part is bounded from below by competition with
    decoys (Elias & Gygi 2007, Nat. Methods 4, 207). A protein that the user did not name resembles
    a wanted structure by chance as often as it resembles a decoy, so each wanted structure gets as
    many of these particles as the average decoy.

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
    uniform = np.log(AMPLITUDE_RANGE * RESIDUAL_RANGE)
    best = of_wanted.argmax(axis=1)
    empty = MIN_NOISE_PARTICLES / (len(evidence) + MIN_NOISE_PARTICLES)
    least = np.zeros(evidence.shape[1])
    least[-1] = empty
    mixture = fit_mixture(evidence, least=least)
    unnamed = float(mixture.proportions[w:][decoys].sum())
    relative = np.ones_like(amplitude)
    in_part = np.full_like(of_wanted, -np.inf)  # stays for classes of too few particles
    for _ in range(_ROUNDS):
        whole = of_wanted.copy()
        for column in range(w):
            known = np.isfinite(amplitude[:, column])
            # Particles that noise or a rival explains nearly as well may not be of the class.
            clear = of_wanted[known, column] - others[known].max(axis=1) > _CLEAR_NATS
            weights = mixture.posterior[known, column] * clear
            in_part[:, column], relative[:, column] = -np.inf, 1.0
            if (weights * (best[known] == column)).sum() < MIN_PARTICLES:
                continue
            middle, spread = _median_and_spread(amplitude[known, column], weights)
            relative[known, column] = amplitude[known, column] / middle
            fits = stats.norm.logpdf(relative[known, column], 1, spread)
            own = best[known] == column
            left, scatter = _median_and_spread(residual_ratio[known], weights * own)
            residual = stats.t.logpdf(residual_ratio[known] / left, 2, 1, scatter)
            # The residual is that of the best structure; other structures get the mean term.
            fits += np.where(own, residual, np.average(residual, weights=weights * own))
            usual_fit = float(np.average(fits, weights=weights))
            whole[known, column] = of_wanted[known, column] + fits - usual_fit
            in_part[:, column] = of_wanted[:, column] - uniform - usual_fit
        least = np.zeros(2 * w + others.shape[1])
        least[-1] = empty
        least[w : 2 * w] = unnamed / max(1, int(decoys.sum()))
        table = np.concatenate([whole, in_part, others], axis=1)
        mixture = fit_mixture(table, least=least)
        unnamed = float(mixture.proportions[2 * w :][decoys].sum())
    return mixture, relative


def _median_and_spread(
    values: NDArray[np.float64], weights: NDArray[np.float64]
) -> tuple[float, float]:
    """Weighted median, and the robust standard deviation relative to it, with its prior."""
    middle, n = _weighted_median(values, weights), weights.sum()
    deviation = MAD_TO_SIGMA * _weighted_median(np.abs(values / middle - 1), weights)
    variance = (n * deviation**2 + PRIOR_PARTICLES * PRIOR_SPREAD**2) / (n + PRIOR_PARTICLES)
    return middle, max(float(np.sqrt(variance)), MIN_RELATIVE_SPREAD)


def _weighted_median(values: NDArray[np.float64], weights: NDArray[np.float64]) -> float:
    order = np.argsort(values, kind="stable")
    below = np.cumsum(weights[order]) / weights.sum()
    return float(values[order][np.searchsorted(below, 0.5)])


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
