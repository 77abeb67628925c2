r"""Log-likelihood ratio of a structure at a pose against noise alone, in nats.

Whitened data x of energy :math:`E = |x|^2` and a whitened template of norm 1 have the correlation
z, in standard deviations of noise. With a free amplitude (variable projection) the residual energy
is :math:`E - z^2`. The noise in a particle's cube is at least as strong as between particles, and
may be stronger because of gold, ice and neighbours. Its variance s is therefore profiled over
:math:`s \ge 1`, so that

.. math:: \log p(x) = -\frac{N}{2} \log s - \frac{R}{2 s}, \qquad s = \max(1, R / N)

with the residual energy R and N degrees of freedom. Without the profiling, a strong contaminant
would count as evidence for every structure that it correlates with a little.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Doubles = NDArray[np.float64]


def profiled_log_likelihood(residual: Doubles, freedom: Doubles | float) -> Doubles:
    """Log-likelihood of a residual energy, maximised over noise variances of at least 1.

    Parameters
    ----------
    residual
        Energies, any shape, in units of the noise's variance.
    freedom
        Degrees of freedom: the energy that noise alone has on average.
    """
    scale = np.maximum(1.0, residual / freedom)
    return np.asarray(-0.5 * freedom * np.log(scale) - 0.5 * residual / scale)


def log_likelihood_ratio(z: Doubles, energy: Doubles, freedom: Doubles | float) -> Doubles:
    """Log-likelihood ratio of a template with free, non-negative amplitude against noise alone.

    Parameters
    ----------
    z
        Correlations with the whitened template of norm 1, broadcast against ``energy``.
    energy
        Energies of the whitened particles.
    freedom
        See :func:`profiled_log_likelihood`.
    """
    explained = np.clip(z, 0, None) ** 2
    residual = np.maximum(energy - explained, 0.0)
    return np.asarray(
        profiled_log_likelihood(residual, freedom) - profiled_log_likelihood(energy, freedom)
    )
