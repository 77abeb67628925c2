"""Where wanted structures may be in a tomogram: a matched filter for each, averaged over rotations.

The structure's spherical average, seen through the CTF and the wedge, is compared with the tomogram
at every voxel, both divided by the noise's amplitude. It knows the structure's size and the signs
of the CTF, and costs two Fourier transforms a structure; which structure it is, and in which pose,
is left to the likelihood.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import fft, ndimage

from tomadapt.acquisition import Acquisition
from tomadapt.data.tomogram import Tomogram
from tomadapt.robust import MAD_TO_SIGMA, robust_spread
from tomadapt.simulate.optics import contrast_transfer_curve
from tomadapt.tomograms.picking import (
    Box,
    Index,
    blocks_of,
    constant,
    require_finite,
    thinned,
)

Volume = NDArray[np.float32]

FINEST_A = 25.0
"""Frequencies up to 1 / this are compared: a spherical average has little to say beyond."""
BELOW_NYQUIST = 0.95
THRESHOLD = 5.0
"""In robust standard deviations of the filter's answer over the tomogram."""
APART_VOXELS = 4.0
STRONG, USUAL, USUAL_PART = 12.0, 5.0, 0.97
"""Gold and the like are smoothed voxels so many robust deviations from the median, and so many
times as far as this part of the voxels: strong particles are not gold."""
CLIP = 5.0
"""Other voxels are clipped at so many robust deviations."""
QUIET = 0.5
"""The fraction of blocks, those of least power, whose mean power is the noise's."""
_CORE, _MARGIN = 192, 32
_PSD_BLOCKS, _PSD_SIDE = 400, 40
_SECTIONS = 16
_SAMPLES = 200_000


@dataclass(frozen=True)
class Level:
    """What is usual in a tomogram, density positive.

    Attributes
    ----------
    median, deviation
        Of voxels; the deviation is robust (1.4826 × median absolute deviation).
    strong
        How far voxels smoothed with σ = 1 voxel may lie from the median.
    """

    median: float
    deviation: float
    strong: float

    @classmethod
    def of(cls, tomogram: Tomogram) -> Level:
        """Measure it on sections spread over the tomogram.

        Raises
        ------
        InputError
            When the tomogram is constant, or holds NaN or infinite voxels.
        """
        nz, ny, nx = tomogram.shape
        places = np.unique(np.linspace(0, max(nz - 5, 0), _SECTIONS).astype(int))
        slabs = [tomogram.block((z, 0, 0), (min(z + 5, nz), ny, nx)) for z in places.tolist()]
        values = np.concatenate([slab.ravel() for slab in slabs])
        require_finite(tomogram, values)
        median, deviation = robust_spread(values)
        smooth = [ndimage.gaussian_filter(slab - median, 1.0)[len(slab) // 2] for slab in slabs]
        blurred = np.abs(np.concatenate([part.ravel() for part in smooth]))
        robust = MAD_TO_SIGMA * float(np.median(blurred))
        strong = max(STRONG * robust, USUAL * float(np.quantile(blurred, USUAL_PART)))
        if not deviation > 0 or not strong > 0:
            raise constant(tomogram, "half of the voxels or more with one value")
        return cls(median, deviation, strong)

    def cleaned(self, block: Volume) -> Volume:
        """A block less the median, without gold and the like, and clipped."""
        strong = ndimage.binary_dilation(self.is_strong(block))
        block = block - np.float32(self.median)
        block[strong] = 0
        limit = CLIP * self.deviation
        return np.asarray(block.clip(-limit, limit), dtype=np.float32)

    def is_strong(self, block: Volume) -> NDArray[np.bool_]:
        """Voxels of gold and the like."""
        smooth = ndimage.gaussian_filter(block - np.float32(self.median), 1.0)
        return np.asarray(np.abs(smooth) > self.strong)


@dataclass(frozen=True, eq=False)
class Candidates:
    """Maxima of the matched filters, the strongest first.

    Attributes
    ----------
    coordinates_A
        (n, 3), x, y, z in Å from the centre of the tomogram's first voxel.
    scores
        (n,) robust standard deviations of the filter's answer.
    names
        (n,) the structure whose filter answered.
    """

    coordinates_A: NDArray[np.float64]
    scores: NDArray[np.float64]
    names: NDArray[np.str_]

    def __len__(self) -> int:
        """Give the number of maxima."""
        return len(self.scores)


def find_candidates(
    tomogram: Tomogram,
    densities: Mapping[str, Volume],
    radii_A: Mapping[str, float],
    *,
    density_voxel_A: float,
    acquisition: Acquisition,
    level: Level,
    threshold: float = THRESHOLD,
) -> dict[int, Candidates]:
    """Maxima of each structure's matched filter, for either sign of the density.

    Parameters
    ----------
    tomogram
        Read in blocks; its sign is honoured.
    densities
        Structure → (d, d, d), centred, density positive.
    radii_A
        Structure → radius in Å; of two maxima of one filter nearer than 0.6 radii the weaker goes.
    density_voxel_A
        Of the densities.
    acquisition
        Tilts and optics.
    level
        Of the tomogram.
    threshold
        From which score on maxima count.

    Returns
    -------
    dict
        +1 and −1 → the maxima where the density has the tomogram's sign, and the opposite one.
    """
    voxel_A = tomogram.voxel_size_A
    power = noise_power(tomogram, level)
    found: dict[tuple[str, int], list[tuple[NDArray[np.float64], NDArray[np.float64]]]] = {}
    samples: dict[str, list[Volume]] = {name: [] for name in densities}
    made: dict[tuple[int, ...], dict[str, Volume]] = {}  # of the last block's shape
    for low, high in blocks_of(tomogram.shape, _CORE):
        read_low, read_high = _read_around(low, high, tomogram.shape)
        block = tomogram.block(read_low, read_high)
        require_finite(tomogram, block)
        block = level.cleaned(block)
        # Zeros around it: what the filter moves across a face must not come back on the other.
        shape = tuple(fft.next_fast_len(n + _MARGIN, real=True) for n in block.shape)
        if shape not in made:
            made = {shape: _filters(shape, densities, density_voxel_A, voxel_A, acquisition, power)}
        spectrum = fft.rfftn(block, s=shape)
        inner = tuple(slice(a - r, b - r) for a, b, r in zip(low, high, read_low, strict=True))
        for name, transfer in made[shape].items():
            answer = fft.irfftn(spectrum * transfer, s=shape)[inner]
            step = max(1, round((answer.size / _SAMPLES) ** (1 / 3)))
            samples[name].append(answer[::step, ::step, ::step].ravel())
            for sign in (1, -1):
                signed = sign * answer
                peak = ndimage.maximum_filter(signed, size=5, mode="nearest") == signed
                peak &= signed > 0
                at = np.argwhere(peak)
                found.setdefault((name, sign), []).append((at + np.array(low), signed[peak]))
    parts: dict[int, list[tuple[NDArray[np.float64], NDArray[np.float64], str]]] = {1: [], -1: []}
    for (name, sign), maxima in found.items():
        values = np.concatenate(samples[name])
        middle, width = robust_spread(values)
        deviation = max(width, 1e-30)
        places = np.concatenate([p for p, _ in maxima])
        scores = (np.concatenate([v for _, v in maxima]) - sign * middle) / deviation
        kept = scores >= threshold
        places, scores = places[kept][:, ::-1] * voxel_A, scores[kept]
        order = np.argsort(-scores, kind="stable")
        order = order[thinned(places[order], 0.6 * radii_A[name])]
        parts[sign].append((places[order], scores[order], name))
    return {sign: _merged(some, APART_VOXELS * voxel_A) for sign, some in parts.items()}


def _merged(
    parts: list[tuple[NDArray[np.float64], NDArray[np.float64], str]], distance_A: float
) -> Candidates:
    places = np.concatenate([p for p, _, _ in parts]).reshape(-1, 3)
    scores = np.concatenate([s for _, s, _ in parts])
    names = np.concatenate([np.full(len(s), name) for _, s, name in parts])
    order = np.lexsort((*places.T, -scores))
    order = order[thinned(places[order], distance_A)]
    return Candidates(places[order].astype(np.float64), scores[order], names[order])


def _read_around(low: Index, high: Index, shape: Index) -> Box:
    """What is read of the volume around a block: a margin on each side, as far as there is one."""
    z, y, x = (max(a - _MARGIN, 0) for a in low)
    last_z, last_y, last_x = (min(b + _MARGIN, n) for b, n in zip(high, shape, strict=True))
    return (z, y, x), (last_z, last_y, last_x)


def noise_power(tomogram: Tomogram, level: Level) -> NDArray[np.float64]:
    """Mean power of the quieter half of blocks at random places, windowed, [kz, ky, kx ≥ 0].

    Returns
    -------
    ndarray
        (side, side, side // 2 + 1), unshifted.
    """
    side = min(_PSD_SIDE, *tomogram.shape)
    line = np.hanning(side + 2)[1:-1]
    window = (line[:, None, None] * line[:, None] * line).astype(np.float32)
    rng = np.random.default_rng(0)
    powers, totals = [], []
    for _ in range(_PSD_BLOCKS):
        low = [int(rng.integers(0, n - side + 1)) for n in tomogram.shape]
        block = level.cleaned(tomogram.block(low, [a + side for a in low]))
        power = np.abs(fft.rfftn((block - block.mean()) * window)) ** 2
        powers.append(power.astype(np.float32))
        totals.append(float(power.sum()))
    quiet = np.argsort(totals)[: max(1, round(QUIET * len(totals)))]
    return np.asarray(np.mean([powers[i] for i in quiet], axis=0), dtype=np.float64)


def _filters(
    shape: tuple[int, ...],
    densities: Mapping[str, Volume],
    density_voxel_A: float,
    voxel_A: float,
    acquisition: Acquisition,
    power: NDArray[np.float64],
) -> dict[str, Volume]:
    """Structure → what a block's half-transform is multiplied by."""
    kz = fft.fftfreq(shape[0])[:, None, None]
    ky = fft.fftfreq(shape[1])[None, :, None]
    kx = fft.rfftfreq(shape[2])[None, None, :]
    radius = np.sqrt(kz**2 + ky**2 + kx**2) / voxel_A  # 1/Å
    tilt = np.degrees(np.arctan2(kz, np.maximum(kx, 1e-12)))
    first, last = acquisition.tilt_angles_deg[0], acquisition.tilt_angles_deg[-1]
    # In the corners beyond Nyquist tomograms hold next to nothing, which whitening would blow up.
    finest = min(1 / FINEST_A, BELOW_NYQUIST * 0.5 / voxel_A)
    seen = (tilt >= first) & (tilt <= last) & (radius > 0) & (radius < finest)
    curve = np.linspace(0, finest, 2000)
    optics = np.interp(radius, curve, contrast_transfer_curve(acquisition, curve))
    smooth = _interpolated(power, shape)
    weight = np.where(seen, optics / smooth, 0.0)
    return {
        name: (weight * np.interp(radius, curve, profile(density, density_voxel_A, curve))).astype(
            np.float32
        )
        for name, density in densities.items()
    }


def _interpolated(power: NDArray[np.float64], shape: tuple[int, ...]) -> NDArray[np.float64]:
    """The power of small blocks at the frequencies of a larger one."""
    side = power.shape[0]
    shifted = np.fft.fftshift(power, axes=(0, 1))
    around = np.concatenate([shifted, shifted[:1]])  # one more plane and row, by periodicity
    around = np.concatenate([around, around[:, :1]], axis=1)
    around = ndimage.gaussian_filter(around, 0.7, mode="nearest")
    places = np.meshgrid(
        fft.fftfreq(shape[0]) * side + side // 2,
        fft.fftfreq(shape[1]) * side + side // 2,
        fft.rfftfreq(shape[2]) * side,
        indexing="ij",
    )
    found = ndimage.map_coordinates(around, places, order=1, mode="nearest")
    return np.asarray(np.maximum(found, power.max() * 1e-6))


def profile(density: Volume, voxel_A: float, k: NDArray[np.float64]) -> NDArray[np.float64]:
    """The transform of a density's spherical average at frequencies k (1/Å), any scale."""
    n = len(density)
    r = np.arange(n) - n // 2
    distance = np.sqrt(r[:, None, None] ** 2 + r[:, None] ** 2 + r**2)
    shells = np.arange(n // 2)
    means = ndimage.mean(density, np.rint(distance).astype(int), shells)
    # 4π r² ρ(r) sinc(2 k r), summed over shells of a voxel.
    weights = np.maximum(4 * np.pi * shells**2, np.pi / 6) * means
    return np.asarray(np.sinc(2 * np.outer(k, shells * voxel_A)) @ weights)
