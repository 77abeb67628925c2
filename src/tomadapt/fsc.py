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


def resolution_A(
    fsc: NDArray[np.float64], *, voxel_size_A: float, n: int, threshold: float
) -> float | None:
    """Where a Fourier shell correlation first falls below a threshold.

    Parameters
    ----------
    fsc
        Correlations of shells 0, 1, …; shell 0 is not looked at, NaN shells are passed over.
    voxel_size_A, n
        Å; side of the volumes in voxels.
    threshold
        0.5 against a truth, 0.143 between independent half maps (Rosenthal & Henderson 2003, J.
        Mol. Biol. 333, 721).

    Returns
    -------
    float or None
        Å, interpolated linearly between shells; the last shell's where it never falls below; None
        where the first shell is below already.
    """
    last: tuple[int, float] | None = None
    for shell in range(1, len(fsc)):
        value = float(fsc[shell])
        if np.isnan(value):
            continue
        if value < threshold:
            if last is None:
                return None
            before, above = last
            crossing = before + (shell - before) * (above - threshold) / (above - value)
            return n * voxel_size_A / crossing
        last = shell, value
    return None if last is None else n * voxel_size_A / last[0]


def soft_sphere(n: int, *, radius_voxels: float, edge_voxels: float = 3.0) -> NDArray[np.float32]:
    """A ball of ones about voxel n // 2 that falls to zero as a cosine, (n, n, n).

    Parameters
    ----------
    n
        Side in voxels.
    radius_voxels
        Up to which it is 1.
    edge_voxels
        Over which it falls.
    """
    r = np.arange(n) - n // 2
    radius = np.sqrt(r[:, None, None] ** 2 + r[None, :, None] ** 2 + r[None, None, :] ** 2)
    beyond = np.clip((radius - radius_voxels) / edge_voxels, 0, 1)
    return np.asarray(0.5 + 0.5 * np.cos(np.pi * beyond), dtype=np.float32)
