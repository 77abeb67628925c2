r"""How much a structure at a pose explains of a particle, in nats against noise alone.

Whitened data x of energy :math:`E = |x|^2` and a whitened template of norm 1 have the correlation
z, in standard deviations of noise. With the amplitude free (variable projection) the residual
energy is :math:`E - z^2`. The noise of a particle is at least that between particles and may be
stronger (gold, ice and neighbours add to it): its variance s is profiled over :math:`s \ge 1`, so
that

.. math:: \log p(x) = -\frac{N}{2} \log s - \frac{R}{2 s}, \qquad s = \max(1, R / N)

with the residual energy R and N degrees of freedom. Without the profiling, a strong contaminant
would be evidence for whatever it correlates with a little.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Doubles = NDArray[np.float64]


def profiled_log_likelihood(residual: Doubles, freedom: float) -> Doubles:
    """Log-likelihood of a residual energy with the noise's variance profiled over at least 1.

    Parameters
    ----------
    residual
        Energies, any shape, in units of the noise's variance.
    freedom
        Degrees of freedom: the energy that noise alone has on average.
    """
    scale = np.maximum(1.0, residual / freedom)
    return np.asarray(-0.5 * freedom * np.log(scale) - 0.5 * residual / scale)


def log_likelihood_ratio(z: Doubles, energy: Doubles, freedom: float) -> Doubles:
    """By how many nats a template beats noise alone, its amplitude free and not negative.

    Parameters
    ----------
    z
        Correlations with the whitened template of norm 1, broadcast against ``energy``.
    energy
        Of the whitened particles.
    freedom
        See :func:`profiled_log_likelihood`.
    """
    explained = np.clip(z, 0, None) ** 2
    residual = np.maximum(energy - explained, 0.0)
    return np.asarray(
        profiled_log_likelihood(residual, freedom) - profiled_log_likelihood(energy, freedom)
    )
