"""What a tomogram's own power spectrum tells: the range of tilts it was made from, and its axis.

Central slices of Fourier space at the tilts' angles were measured; what lies between the last of
them and the beam's direction, the missing wedge, is empty unless something filled it.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from tomadapt.errors import InputError
from tomadapt.subtomograms import Subtomograms
from tomadapt.tomograms.tomogram import Tomogram

Doubles = NDArray[np.float64]

CLEAR = 0.55
"""Clarity from which on a range is given. Volumes without a wedge (isotropic or smoothed more
along z, denoised by a median filter) reached 0.42, those with one 0.76 and more."""
TOLERANCE_DEG = 6.0
"""Ranges that differ by no more are called the same: see ``compare_with_stated``."""

_SIDE = 64
_SMALLEST_SIDE = 16
_BATCH = 64
_BIN_DEG = 0.5
_BINS = round(180 / _BIN_DEG)
_LARGEST_DEG, _SMALLEST_DEG, _STEP_DEG = 85.0, 20.0, 1.0
_FEWEST_VOXELS = 4  # below this distance from the origin an angle is not resolved
_LARGEST_FREQUENCY = 0.47  # of 0.5: at Nyquist an even side has no pairs
_LARGEST_ALONG_AXIS = 0.4
_RINGS, _LAYERS = 6, 4
# Empty space is not quite empty: leakage of the window, interpolation, whole numbers. Logarithms
# end here, relative to a ring's mean, so that how empty it is does not move its border.
_FLOOR = 0.03
_SPREADS = np.arange(0, 2.01, 0.25)
_NEAR_DEG, _FAR_DEG = 3.0, 12.0


@dataclass(frozen=True, eq=False)
class MeanPower:
    """The mean power spectrum of some blocks, each with the same total power.

    Attributes
    ----------
    power
        (bz, by, bx // 2 + 1), unshifted, kx ≥ 0.
    shape
        bz, by, bx in voxels.
    blocks
        How many were averaged.
    """

    power: Doubles
    shape: tuple[int, int, int]
    blocks: int


@dataclass(frozen=True)
class WedgeEstimate:
    """The range of tilts that a spectrum shows.

    Attributes
    ----------
    first_deg, last_deg
        Of a specimen turned about ``+axis`` with the beam along z, see ``docs/conventions.md``;
        None where it is unclear. Programs differ in the sense of rotation: a file whose z or hand
        is flipped shows ``-last … -first``.
    axis
        ``y`` or ``x``; None where it is unclear.
    clarity
        By which fraction the power falls within about ten degrees across the less distinct of both
        borders: 1 for an empty wedge, 0 for none.
    """

    first_deg: float | None
    last_deg: float | None
    axis: Literal["x", "y"] | None
    clarity: float

    @property
    def is_clear(self) -> bool:
        """Whether there is a range; else the wedge is filled, or was never missing."""
        return self.axis is not None


def tomogram_power(tomogram: Tomogram, *, at_most: int = 100) -> MeanPower:
    """Average the power of blocks of up to 64 voxels a side, windowed, spread over a tomogram.

    Blocks with NaN or infinite voxels, and those that reach into a constant part (the filling
    around a tomogram), are left out.

    Parameters
    ----------
    tomogram
        Only the blocks are read; at least 16 voxels along each axis.
    at_most
        How many blocks.

    Raises
    ------
    InputError
        The tomogram is too thin, or no block can be used.
    """
    if min(tomogram.shape) < _SMALLEST_SIDE:
        raise InputError(
            f"tomogram {tomogram.name or 'given'} is too thin for a spectrum",
            expected=f"at least {_SMALLEST_SIDE} voxels along each axis",
            got=" × ".join(map(str, tomogram.shape)),
        )
    nz, ny, nx = (min(n, _SIDE) for n in tomogram.shape)
    side = (nz, ny, nx)
    starts = [
        np.unique(np.linspace(0, n - s, 2 * (n - s) // s + 2).astype(int)).tolist()
        for n, s in zip(tomogram.shape, side, strict=True)
    ]
    places = list(itertools.product(*starts))
    chosen = np.random.default_rng(0).permutation(len(places))[: 4 * at_most]
    total, count = np.zeros((nz, ny, nx // 2 + 1)), 0
    for index in chosen:
        low = places[index]
        block = tomogram.block(low, [a + s for a, s in zip(low, side, strict=True)])
        if _usable(block):
            total += _power(block)
            count += 1
        if count == at_most:
            break
    if not count:
        raise InputError(
            f"no part of tomogram {tomogram.name or 'given'} has a spectrum",
            expected="finite voxels that vary",
            got=f"{len(chosen)} blocks of NaN, infinite or constant voxels",
            remedy="check that this is the file that was meant",
        )
    return MeanPower(total / count, side, count)


def cubes_power(data: Subtomograms, *, at_most: int = 500) -> MeanPower:
    """Average the power of particles' cubes, windowed: the first ``at_most``."""
    count = min(len(data), at_most)
    total = np.zeros((data.box, data.box, data.box // 2 + 1))
    for first in range(0, count, _BATCH):
        for cube in data.read(range(first, min(first + _BATCH, count))).numpy():
            total += _power(cube)
    return MeanPower(total / count, (data.box,) * 3, count)


def _usable(block: NDArray[np.float32]) -> bool:
    if not (np.isfinite(block.min()) and np.isfinite(block.max())):
        return False
    faces = (block.take(at, axis) for axis in range(3) for at in (0, -1))
    return all(face.min() < face.max() for face in faces)


def _power(block: NDArray[Any]) -> Doubles:
    """The power spectrum of a block under a Hann window, its mean 1."""
    values = block.astype(np.float64)
    values -= values.mean()
    for axis, n in enumerate(values.shape):
        values *= np.hanning(n + 2)[1:-1].reshape([-1 if a == axis else 1 for a in range(3)])
    power = np.abs(np.fft.rfftn(values)) ** 2
    mean = power.mean()
    return np.asarray(power / mean if mean > 0 else power)


def estimate_wedge(spectrum: MeanPower) -> WedgeEstimate:
    """Find the tilt axis and the first and last tilt.

    In the plane across the axis, logarithms of power (each ring's mean taken off) are split by two
    borders into a measured and an empty part so that both are as even as possible. What lies
    within some parts of a voxel beyond the borders, over which a reconstruction and the window
    spread each slice, is fitted as well and is not counted to the range.

    Returns
    -------
    WedgeEstimate
        Of the axis whose borders are more distinct; unclear below :data:`CLEAR`.
    """
    fits = {axis: _fit(_profile(spectrum, axis)) for axis in ("y", "x")}
    axis = max(fits, key=lambda a: fits[a][2])
    first, last, clarity = fits[axis]
    if clarity < CLEAR:
        return WedgeEstimate(None, None, None, clarity)
    return WedgeEstimate(first, last, "y" if axis == "y" else "x", clarity)


@dataclass(frozen=True, eq=False)
class _Profile:
    """Logarithms of power by angle in the plane across an axis.

    Attributes
    ----------
    count, total
        (rings, bins): voxels, and the sum of their logarithms; a ring's and layer's mean is 0.
    reach
        (rings,): the mean distance from the axis, in Fourier voxels.
    """

    count: Doubles
    total: Doubles
    reach: Doubles


def _profile(spectrum: MeanPower, axis: str) -> _Profile:
    nz, ny, nx = spectrum.shape
    kz = np.fft.fftfreq(nz)[:, None, None]
    ky, kx = np.fft.fftfreq(ny)[:, None], np.fft.rfftfreq(nx)
    # A turn by θ about +y takes the slice kz = 0 to kz = kx tan θ, one about +x to kz = −ky tan θ.
    across, along = (kx + 0 * ky, ky + 0 * kx) if axis == "y" else (ky + 0 * kx, kx + 0 * ky)
    height = np.where(across < 0, -kz, kz) * (1 if axis == "y" else -1)
    angle = np.degrees(np.arctan2(height, np.abs(across)))
    distance = np.hypot(across, kz)
    side = min(nz, nx if axis == "y" else ny)
    low = _FEWEST_VOXELS / side
    layer = np.broadcast_to(np.abs(along), distance.shape)
    inside = (distance >= low) & (distance < _LARGEST_FREQUENCY) & (layer < _LARGEST_ALONG_AXIS)
    ring = ((distance[inside] - low) / (_LARGEST_FREQUENCY - low) * _RINGS).astype(int)
    cell = ring * _LAYERS + (layer[inside] / _LARGEST_ALONG_AXIS * _LAYERS).astype(int)
    values = spectrum.power[inside]
    means = _means(cell, values, _RINGS * _LAYERS)
    values = np.log(values / np.maximum(means, np.finfo(float).tiny)[cell] + _FLOOR)
    values -= _means(cell, values, _RINGS * _LAYERS)[cell]
    bins = ((angle[inside] + 90) / _BIN_DEG).astype(int).clip(0, _BINS - 1)
    where = ring * _BINS + bins
    return _Profile(
        np.bincount(where, minlength=_RINGS * _BINS).astype(np.float64).reshape(_RINGS, _BINS),
        np.bincount(where, values, _RINGS * _BINS).astype(np.float64).reshape(_RINGS, _BINS),
        _means(ring, distance[inside], _RINGS) * side,
    )


def _means(index: NDArray[np.int64], values: Doubles, count: int) -> Doubles:
    return np.asarray(
        np.bincount(index, values, count) / np.maximum(np.bincount(index, minlength=count), 1)
    )


def _fit(profile: _Profile) -> tuple[float, float, float]:
    """First and last angle and the clarity, from the rings that show the borders."""
    rings = np.ones(_RINGS, dtype=bool)
    first, last, spread = _borders(profile, rings)
    falls = _falls(profile, (first, last, spread))
    # Rings beyond a low-pass filter hold nothing but rounding: they know of no wedge.
    rings = falls >= falls.max() / 2
    if not rings.all() and falls.max() > 0:
        first, last, spread = _borders(profile, rings)
        falls = _falls(profile, (first, last, spread))
    return first, last, float(1 - np.exp(-falls[rings].mean()))


def _borders(profile: _Profile, rings: NDArray[np.bool_]) -> tuple[float, float, float]:
    """First and last angle, and by how many Fourier voxels slices are spread beyond them."""
    firsts = np.arange(-_LARGEST_DEG, -_SMALLEST_DEG + 1e-9, _STEP_DEG)
    lasts = -firsts[::-1]
    counts, totals = (_cumulated(a[rings]) for a in (profile.count, profile.total))
    all_counts, all_totals = counts[:, -1].sum(), totals[:, -1].sum()
    best = (-np.inf, 0.0, 0.0, 0.0)
    for spread in _SPREADS:
        beyond = np.degrees(spread / profile.reach[rings])[:, None]
        low, high = _bin(firsts - beyond), _bin(lasts + beyond)
        count, total = (
            np.take_along_axis(a, high, 1).sum(0) - np.take_along_axis(a, low, 1).sum(0)[:, None]
            for a in (counts, totals)
        )
        outside, left = all_counts - count, all_totals - total
        count, outside = np.maximum(count, 1), np.maximum(outside, 1)
        # What a step explains of the variance, where the inside is the brighter part.
        gain = total**2 / count + left**2 / outside
        gain = np.where(total / count > left / outside, gain, 0.0)
        row, column = np.unravel_index(int(gain.argmax()), gain.shape)
        if gain[row, column] > best[0]:
            best = (gain[row, column], firsts[row], lasts[column], spread)
    return float(best[1]), float(best[2]), float(best[3])


def _cumulated(values: Doubles) -> Doubles:
    return np.concatenate([np.zeros((len(values), 1)), np.cumsum(values, axis=1)], axis=1)


def _bin(angles: Doubles) -> NDArray[np.int64]:
    return np.round((angles + 90) / _BIN_DEG).astype(np.int64).clip(0, _BINS)


def _falls(profile: _Profile, borders: tuple[float, float, float]) -> Doubles:
    """(rings,): by how much the logarithm falls across the borders; the lesser of the two."""
    first, last, spread = borders
    counts, totals = _cumulated(profile.count), _cumulated(profile.total)
    beyond = np.degrees(spread / profile.reach)

    def mean(low: Doubles, high: Doubles) -> Doubles:
        low, high = np.minimum(low, 80.0), np.minimum(high, 90.0)
        ends = [_bin(side)[:, None] for side in (low, high)]
        count, total = (
            np.take_along_axis(a, ends[1], 1)[:, 0] - np.take_along_axis(a, ends[0], 1)[:, 0]
            for a in (counts, totals)
        )
        return np.asarray(total / np.maximum(count, 1))

    at_last = last + beyond
    at_first = first - beyond
    right = mean(at_last - _FAR_DEG, at_last - _NEAR_DEG) - mean(
        at_last + _NEAR_DEG, at_last + _FAR_DEG
    )
    left = mean(at_first + _NEAR_DEG, at_first + _FAR_DEG) - mean(
        np.maximum(at_first - _FAR_DEG, -90.0), np.maximum(at_first - _NEAR_DEG, -80.0)
    )
    return np.minimum(left, right)
