"""Fourier shell correlation: of two volumes, of half maps inside a mask, and the masks' edges."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Volume = NDArray[np.float32]
"""A map, (n, n, n), indexed [z, y, x]."""

RANDOMISE_BELOW_FSC = 0.8
"""Half maps' phases are randomised from where their unmasked FSC falls below this (RELION)."""

FIRST_SHELLS = 3
"""Number of the first shells in which a curve may lie below a threshold and rise above it later."""
PHASE_DRAWS = 8
"""Sets of random phases whose FSC curves are averaged: a single curve scatters by 0.1 and more."""


def shell_numbers(n: int, *, half: bool = False) -> NDArray[np.int64]:
    """The shell of each Fourier voxel: its distance from the origin, rounded.

    Parameters
    ----------
    n
        Side of the volume in voxels.
    half
        Whether for a real volume's half-transform.

    Returns
    -------
    ndarray
        (n, n, n), or (n, n, n // 2 + 1), on the unshifted FFT grid.
    """
    k = np.fft.fftfreq(n, 1 / n)
    last = k[: n // 2 + 1] if half else k
    radius = np.sqrt(k[:, None, None] ** 2 + k[:, None] ** 2 + last**2)
    return np.asarray(np.rint(radius), dtype=np.int64)


def fourier_shell_correlation(
    a: Volume, b: Volume, *, measured: NDArray[np.bool_] | None = None
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
    shell = shell_numbers(n)
    keep = shell < n // 2 if measured is None else (shell < n // 2) & measured

    def total(x: NDArray[np.float64]) -> NDArray[np.float64]:
        sums = np.bincount(shell[keep], weights=x[keep], minlength=n // 2)
        return np.asarray(sums, dtype=np.float64)

    power = total(np.abs(fa) ** 2) * total(np.abs(fb) ** 2)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(total((fa * fb.conj()).real) / np.sqrt(power))


@dataclass(frozen=True)
class HalfMapFsc:
    """FSC curves of two half maps, (n // 2,) each.

    Attributes
    ----------
    unmasked, masked
        Without and with the mask.
    randomised
        With the mask, after the phases of both maps were randomised; the mean of several draws.
        This much correlation is due to the mask alone.
    corrected
        ``masked``, corrected for the part that is due to the mask (Eq. 4 of Chen et al. 2013).
    randomised_from
        The first shell whose phases were made random.
    """

    unmasked: NDArray[np.float64]
    masked: NDArray[np.float64]
    randomised: NDArray[np.float64]
    corrected: NDArray[np.float64]
    randomised_from: int


def half_map_fsc(one: Volume, other: Volume, mask: Volume, *, seed: int) -> HalfMapFsc:
    r"""FSC of half maps inside a mask, corrected for the mask (Chen et al. 2013).

    A mask correlates neighbouring frequencies in the same way in both maps, and so raises the FSC
    even of maps that share nothing. Maps with random phases show by how much (:math:`FSC_n`); the
    corrected curve is :math:`(FSC_t - FSC_n) / (1 - FSC_n)` (Ultramicroscopy 135, 24, eq. 4).

    Parameters
    ----------
    one, other
        (n, n, n) half maps, neither masked nor filtered.
    mask
        (n, n, n), 0 … 1, with a soft edge.
    seed
        Seed of the random phases.
    """
    unmasked = fourier_shell_correlation(one, other)
    masked = fourier_shell_correlation(one * mask, other * mask)
    low = np.flatnonzero(np.nan_to_num(unmasked[1:]) < RANDOMISE_BELOW_FSC)
    first = 1 + int(low[0]) if len(low) else len(unmasked)
    rng = np.random.default_rng([seed, 13])
    curves = []
    for _ in range(PHASE_DRAWS):
        pair = [phases_randomised(half, from_shell=first, rng=rng) * mask for half in (one, other)]
        curves.append(fourier_shell_correlation(*pair))
    randomised = np.asarray(np.mean(curves, axis=0))
    corrected = masked.copy()
    # In the first two shells the mask mixes random phases with true ones (RELION skips them too).
    beyond = slice(first + 2, None)
    by_mask = np.clip(np.nan_to_num(randomised[beyond]), 0, None)
    corrected[beyond] = np.where(
        by_mask < 1, (masked[beyond] - by_mask) / np.maximum(1 - by_mask, 1e-6), 0
    )
    return HalfMapFsc(unmasked, masked, randomised, corrected, first)


def phases_randomised(volume: Volume, *, from_shell: int, rng: np.random.Generator) -> Volume:
    """A volume with random phases from a shell on; amplitudes are unchanged.

    Parameters
    ----------
    volume
        (n, n, n).
    from_shell
        The first shell, in Fourier voxels.
    rng
        Generator of the white noise whose phases are taken.
    """
    n = len(volume)
    spectrum = np.fft.rfftn(volume)
    noise = np.fft.rfftn(rng.standard_normal(volume.shape))
    turned = np.abs(spectrum) * noise / np.maximum(np.abs(noise), 1e-30)
    chosen = shell_numbers(n, half=True) >= from_shell
    mixed = np.fft.irfftn(np.where(chosen, turned, spectrum), s=volume.shape, axes=(0, 1, 2))
    return np.asarray(mixed, dtype=np.float32)


def resolution_A(
    fsc: NDArray[np.float64], *, voxel_size_A: float, n: int, threshold: float
) -> float | None:
    """Where a Fourier shell correlation first falls below a threshold.

    The first shells have a handful of voxels, and a CTF is close to zero there. So the first two
    shells may lie below the threshold when a later one of the first three lies above it.

    Parameters
    ----------
    fsc
        Correlations of shells 0, 1, …; shell 0 and shells of NaN are ignored.
    voxel_size_A, n
        Å; side of the volumes in voxels.
    threshold
        0.5 against a truth, 0.143 between independent half maps (Rosenthal & Henderson 2003, J.
        Mol. Biol. 333, 721).

    Returns
    -------
    float or None
        Å, interpolated linearly between shells. The last shell's resolution when the curve never
        falls below; None when the first three shells are all below.
    """
    last: tuple[int, float] | None = None
    for shell in range(1, len(fsc)):
        value = float(fsc[shell])
        if np.isnan(value):
            continue
        if value < threshold:
            if last is None and shell < FIRST_SHELLS:
                continue
            if last is None:
                return None
            before, above = last
            crossing = before + (shell - before) * (above - threshold) / (above - value)
            return n * voxel_size_A / crossing
        last = shell, value
    return None if last is None else n * voxel_size_A / last[0]


def soft_sphere(n: int, *, radius_voxels: float, edge_voxels: float = 3.0) -> Volume:
    """A ball of ones about voxel n // 2 that falls to zero as a cosine, (n, n, n).

    Parameters
    ----------
    n
        Side in voxels.
    radius_voxels
        Radius up to which it is 1.
    edge_voxels
        Width of the edge.
    """
    r = np.arange(n) - n // 2
    radius = np.sqrt(r[:, None, None] ** 2 + r[None, :, None] ** 2 + r[None, None, :] ** 2)
    return soft_edge(radius - radius_voxels, edge_voxels=edge_voxels)


def soft_edge(beyond_voxels: NDArray[np.floating], *, edge_voxels: float) -> Volume:
    """1 up to a surface, falling beyond it to zero as a cosine.

    Parameters
    ----------
    beyond_voxels
        Distance from the surface, negative inside; any shape.
    edge_voxels
        Width of the edge.
    """
    beyond = np.clip(beyond_voxels / edge_voxels, 0, 1)
    return np.asarray(0.5 + 0.5 * np.cos(np.pi * beyond), dtype=np.float32)
