"""Fourier shell correlation between two volumes, optionally only where both were measured."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def fourier_shell_correlation(
    a: NDArray[np.float32], b: NDArray[np.float32], *, measured: NDArray[np.bool_] | None = None
) -> NDArray[np.float64]:
    """Correlation of two transforms in shells one Fourier voxel thick.

    Parameters
    ----------
    a, b
        (n, n, n) volumes.
    measured
        (n, n, n) on the unshifted FFT grid: which Fourier voxels to compare; all when None.

    Returns
    -------
    ndarray
        (n // 2,) correlations; shell i holds frequencies that round to i / n cycles per voxel.
        NaN where a shell is empty or either volume has no power in it.
    """
    n = a.shape[0]
    fa, fb = np.fft.fftn(a), np.fft.fftn(b)
    k = np.fft.fftfreq(n, 1 / n)
    radius = np.sqrt(k[:, None, None] ** 2 + k[None, :, None] ** 2 + k[None, None, :] ** 2)
    shell = np.rint(radius).astype(int)
    keep = shell < n // 2 if measured is None else (shell < n // 2) & measured

    def total(x: NDArray[np.float64]) -> NDArray[np.float64]:
        sums = np.bincount(shell[keep], weights=x[keep], minlength=n // 2)
        return np.asarray(sums, dtype=np.float64)

    power = total(np.abs(fa) ** 2) * total(np.abs(fb) ** 2)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(total((fa * fb.conj()).real) / np.sqrt(power))
