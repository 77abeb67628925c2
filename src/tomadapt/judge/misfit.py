"""How well the best structure fits: its contrast, and what it leaves unexplained.

Particles of one class in one data set have about the same contrast. What a structure explains in
part (a homologue, a larger complex that holds it) has less, and leaves more.
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
from tomadapt.recover.reference import Reference
from tomadapt.structures.resampling import radius_A

MARGIN_VOXELS = 2.0
MIN_RELATIVE_SPREAD = 0.08
"""Contrasts of a class, and residuals, scatter at least so much, relative to their medians."""
MIN_RESIDUAL_RATIO = 0.5
"""Of the noise's power: where less is left, nothing is unexplained, however much it is. Particles
with next to no noise leave what poses and interpolation leave, which scatters widely."""
AMPLITUDE_RANGE, RESIDUAL_RANGE = 1.3, 3.0
"""Widths of the uniform distributions of what a structure explains in part."""
MIN_NOISE_PARTICLES = 5.0
"""How many of a set's particles are noise at least, with as many more in the whole: even a clean
list is not believed to hold none."""
_ROUNDS = 4
_MIN_PARTICLES = 8
_CLEAR = 3.0  # nats over noise and rivals, tempered
_BATCH = 16


def fit_with_fits(
    evidence: NDArray[np.float64],
    amplitude: NDArray[np.float64],
    residual_ratio: NDArray[np.float64],
    decoys: NDArray[np.bool_],
) -> tuple[Mixture, NDArray[np.float64]]:
    """EM in which each wanted structure competes with particles that it explains only in part.

    The contrast of a class's particles is normal about their median, the residual power a Student t
    with two degrees of freedom (neighbours make it large at times); medians and spreads are those
    of the particles that the mixture itself gives to the class and that no rival explains nearly as
    well. Of what is explained in part both
    are uniform. Against all else a class gains nothing by them on average: contrast is no evidence
    beside that of the likelihood, which contains it.

    How many particles are explained in part cannot be less than competition with decoys says
    (Elias & Gygi 2007, Nat. Methods 4, 207): to a protein that nobody named a wanted structure is
    one of many that it happens to resemble, so each gets as many of them as a decoy does.

    Parameters
    ----------
    evidence
        (n, w + r) nats of the w wanted structures and r others, noise alone the last.
    amplitude
        (n, w) of each wanted structure; NaN where it was not compared.
    residual_ratio
        (n,) residual power, of the wanted structure with the largest evidence.
    decoys
        (r,) which of the others are proteins or globular shapes that nobody named.

    Returns
    -------
    mixture
        Over w structures, w in part, and r others.
    relative
        (n, w) amplitudes over their class's median; 1 where that is not known.
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
    in_part = np.full_like(of_wanted, -np.inf)  # of classes of too few particles nothing is known
    for _ in range(_ROUNDS):
        whole = of_wanted.copy()
        for column in range(w):
            known = np.isfinite(amplitude[:, column])
            # What noise or a rival explains nearly as well says nothing of the class's contrast.
            clear = of_wanted[known, column] - others[known].max(axis=1) > _CLEAR
            weights = mixture.posterior[known, column] * clear
            in_part[:, column], relative[:, column] = -np.inf, 1.0
            if (weights * (best[known] == column)).sum() < _MIN_PARTICLES:
                continue
            middle, spread = _median_and_spread(amplitude[known, column], weights)
            relative[known, column] = amplitude[known, column] / middle
            fits = stats.norm.logpdf(relative[known, column], 1, spread)
            own = best[known] == column
            left, scatter = _median_and_spread(residual_ratio[known], weights * own)
            residual = stats.t.logpdf(residual_ratio[known] / left, 2, 1, scatter)
            # Of another structure's fit the residual says nothing here.
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
    """Weighted median, and the robust standard deviation relative to it."""
    middle = _weighted_median(values, weights)
    deviation = 1.4826 * _weighted_median(np.abs(values / middle - 1), weights)
    return middle, max(deviation, MIN_RELATIVE_SPREAD)


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
    """Power of the whitened residual in a ball around each particle, over that of noise.

    Parameters
    ----------
    cubes, refined, hypotheses, noise
        As they were refined.
    columns
        (n,) the structure that is subtracted from each particle.

    Returns
    -------
    ndarray
        (n,) 1 on average where the structure explains all.
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
            for first in range(0, len(rows), _BATCH):
                some = rows[first : first + _BATCH]
                x = noise.transforms(cubes.read(some)) * root
                R = torch.from_numpy(refined.rotations[some, column]).to(device)
                s = torch.from_numpy(refined.shifts[some, column]).to(device)
                seen = reference.at(R, points) * points.phases(s) * root
                # The whitened norm counts each point with its multiplicity.
                norm = (seen.abs().square() @ points.multiplicity).sqrt()[:, None].clamp_min(1e-20)
                z = (x * seen.conj()).real @ points.multiplicity
                left = x - seen * (z[:, None] / norm.square())
                real = points.volumes(left) * n**1.5  # of noise, as strong as at the points
                for i, row in enumerate(some.tolist()):
                    sx, sy, sz = refined.shifts[row, column].tolist()
                    near = (
                        (r[:, None, None] - sz) ** 2
                        + (r[None, :, None] - sy) ** 2
                        + (r[None, None, :] - sx) ** 2
                    ) <= radius**2
                    found[row] = float(real[i][near].square().mean()) / expected
    return found
