"""Fits of a missing wedge to a power spectrum, for one direction of the beam and one tilt axis."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from tomadapt.tomograms.spectrum import Doubles, MeanPower

Axis = Literal["y", "x"]
AXES: tuple[Axis, ...] = get_args(Axis)

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
# By how many Fourier voxels of a block slices are spread: a Hann window alone spreads by one.
_SPREADS = np.arange(1, 2.01, 0.25)
_NEAR_DEG, _FAR_DEG = 3.0, 12.0
# How much of what a wedge explains, smoothing along the beam may explain: wedges had up to 0.65
# (0.79 in blocks 16 voxels thin, where ranges of ±40° may be unclear), smoothing 0.80 or more.
_SMOOTHED = 0.72


def fitted(spectrum: MeanPower, axis: Axis) -> tuple[float, float, float]:
    """First and last tilt about an axis that explain a spectrum best, in degrees, and the clarity.

    In the plane across the axis, logarithms of power (each ring's mean taken off) are split by two
    borders into a measured and an empty part so that both are as even as possible. What lies
    within one or two voxels beyond the borders, over which a reconstruction and the window spread
    each slice, is fitted as well and is not counted to the range.

    A wedge is the same in every layer along the axis, and so is told from that about another axis
    or of another beam, and from the pyramid that two axes leave. Its borders have the same angles
    at every frequency; a spectrum that rather ends at one height along the beam was smoothed.

    Parameters
    ----------
    spectrum
        Of volumes with the beam along z.
    axis
        Of the tilts.

    Returns
    -------
    tuple
        See :class:`~tomadapt.tomograms.wedge.WedgeEstimate`.
    """
    layers = _layers(spectrum, axis)
    count, total = (np.sum([getattr(p, a) for p in layers], axis=0) for a in ("count", "total"))
    both = replace(layers[0], count=count, total=total)
    first, last, spread = _borders(both)
    falls = _falls(both, (first, last, spread))
    # Rings beyond a low-pass filter hold nothing but rounding: they know of no wedge.
    rings = falls >= max(falls.max() / 2, 0.0)
    if not rings.any():
        return first, last, 0.0
    both = both.of_rings(rings)
    first, last, spread = borders = _borders(both)
    if _explained_by_smoothing(both) > _SMOOTHED * _explained_by(both, borders):
        return first, last, 0.0
    fall = min(float(_falls(part.of_rings(rings), borders).mean()) for part in layers)
    return first, last, max(0.0, 1 - float(np.exp(-fall)))


@dataclass(frozen=True, eq=False)
class _Profile:
    """Logarithms of power by angle in the plane across an axis.

    Attributes
    ----------
    count, total
        (rings, bins): voxels, and the sum of their logarithms; a ring's and layer's mean is 0.
    distance
        (rings,): their mean distance from the axis, in cycles per voxel.
    across, along_beam
        Sides of the blocks across the axis, in voxels: within the plane of the specimen, along z.
    """

    count: Doubles
    total: Doubles
    distance: Doubles
    across: int
    along_beam: int

    def beyond_deg(self, border_deg: Doubles | float, spread: float) -> Doubles:
        """(rings, borders): the angle by which a slice at a border is spread in each ring.

        Parameters
        ----------
        border_deg
            (borders,) or one.
        spread
            In Fourier voxels of the block, which are no cubes where the block is none.
        """
        angle = np.radians(border_deg)
        voxel = np.hypot(np.sin(angle) / self.across, np.cos(angle) / self.along_beam)
        return np.asarray(np.degrees(spread * voxel / self.distance[:, None]))

    def of_rings(self, rings: NDArray[np.bool_]) -> _Profile:
        """The same, of some rings."""
        count, total, distance = (a[rings] for a in (self.count, self.total, self.distance))
        return replace(self, count=count, total=total, distance=distance)


def _layers(spectrum: MeanPower, axis: Axis) -> list[_Profile]:
    """The profiles of layers along the axis, the nearest to the plane across it first."""
    nz, ny, nx = spectrum.padded
    kz = np.fft.fftfreq(nz)[:, None, None]
    ky, kx = np.fft.fftfreq(ny)[:, None], np.fft.rfftfreq(nx)
    # A turn by θ about +y takes the slice kz = 0 to kz = kx tan θ, one about +x to kz = −ky tan θ.
    across, along = (kx + 0 * ky, ky + 0 * kx) if axis == "y" else (ky + 0 * kx, kx + 0 * ky)
    height = np.where(across < 0, -kz, kz) * (1 if axis == "y" else -1)
    angle = np.degrees(np.arctan2(height, np.abs(across)))
    distance = np.hypot(across, kz)
    side = spectrum.shape[2 if axis == "y" else 1]
    low = _FEWEST_VOXELS / min(spectrum.shape[0], side)
    layer = np.broadcast_to(np.abs(along), distance.shape)
    inside = (distance >= low) & (distance < _LARGEST_FREQUENCY) & (layer < _LARGEST_ALONG_AXIS)
    ring = ((distance[inside] - low) / (_LARGEST_FREQUENCY - low) * _RINGS).astype(int)
    layer_of = (layer[inside] / _LARGEST_ALONG_AXIS * _LAYERS).astype(int)
    cell = ring * _LAYERS + layer_of
    values = spectrum.power[inside]
    means = _means(cell, values, _RINGS * _LAYERS)
    values = np.log(values / np.maximum(means, np.finfo(float).tiny)[cell] + _FLOOR)
    values -= _means(cell, values, _RINGS * _LAYERS)[cell]
    bins = ((angle[inside] + 90) / _BIN_DEG).astype(int).clip(0, _BINS - 1)
    where = (layer_of * _RINGS + ring) * _BINS + bins
    shape = (_LAYERS, _RINGS, _BINS)
    count = np.bincount(where, minlength=_LAYERS * _RINGS * _BINS).astype(np.float64)
    total = np.bincount(where, values, _LAYERS * _RINGS * _BINS).astype(np.float64)
    distances = _means(ring, distance[inside], _RINGS)
    return [
        _Profile(c, t, distances, side, spectrum.shape[0])
        for c, t in zip(count.reshape(shape), total.reshape(shape), strict=True)
    ]


def _means(index: NDArray[np.int64], values: Doubles, count: int) -> Doubles:
    return np.asarray(
        np.bincount(index, values, count) / np.maximum(np.bincount(index, minlength=count), 1)
    )


def _explained(profile: _Profile, count: Doubles, total: Doubles) -> Doubles:
    """What a step between an inside and the rest explains of the variance.

    0 where the inside is not the brighter part.
    """
    outside, left = profile.count.sum() - count, profile.total.sum() - total
    count, outside = np.maximum(count, 1), np.maximum(outside, 1)
    gain = total**2 / count + left**2 / outside
    return np.where(total / count > left / outside, gain, 0.0)


def _borders(profile: _Profile) -> tuple[float, float, float]:
    """First and last angle, and by how many Fourier voxels slices are spread beyond them."""
    firsts = np.arange(-_LARGEST_DEG, -_SMALLEST_DEG + 1e-9, _STEP_DEG)
    lasts = -firsts[::-1]
    best = (-np.inf, 0.0, 0.0, 0.0)
    for spread in _SPREADS:
        low = firsts - profile.beyond_deg(firsts, spread)
        high = lasts + profile.beyond_deg(lasts, spread)
        count, total = (
            _up_to(a, high).sum(0) - _up_to(a, low).sum(0)[:, None]
            for a in (profile.count, profile.total)
        )
        gain = _explained(profile, count, total)
        row, column = np.unravel_index(int(gain.argmax()), gain.shape)
        if gain[row, column] > best[0]:
            best = (gain[row, column], firsts[row], lasts[column], spread)
    return float(best[1]), float(best[2]), float(best[3])


def _explained_by(profile: _Profile, borders: tuple[float, float, float]) -> float:
    """What the step at some borders explains of the variance."""
    first, last, spread = borders
    low = first - profile.beyond_deg(first, spread)
    return _best_step(profile, low, last + profile.beyond_deg(last, spread))


def _explained_by_smoothing(profile: _Profile) -> float:
    """What the best step at one height ``|kz|`` explains, as a filter along the beam leaves."""
    heights = np.arange(0.01, _LARGEST_FREQUENCY, 0.01)
    border = np.degrees(np.arcsin(np.minimum(heights / profile.distance[:, None], 1)))
    return _best_step(profile, -border, border)


def _best_step(profile: _Profile, low: Doubles, high: Doubles) -> float:
    count, total = (
        (_up_to(a, high) - _up_to(a, low)).sum(0) for a in (profile.count, profile.total)
    )
    return float(_explained(profile, count, total).max())


def _up_to(values: Doubles, angles_deg: Doubles) -> Doubles:
    """Sums of (rings, bins) over all angles below (rings, angles)."""
    summed = np.concatenate([np.zeros((len(values), 1)), np.cumsum(values, axis=1)], axis=1)
    ends = np.round((angles_deg + 90) / _BIN_DEG).astype(np.int64).clip(0, _BINS)
    return np.take_along_axis(summed, ends, 1)


def _falls(profile: _Profile, borders: tuple[float, float, float]) -> Doubles:
    """(rings,): by how much the logarithm falls across the borders; the lesser of the two."""
    first, last, spread = borders

    def fall(side: int, border: Doubles) -> Doubles:
        """Across the border at this angle on the side of positive or of negative ones."""

        def mean(low: Doubles, high: Doubles) -> Doubles:
            ends = (low, high) if side > 0 else (-high, -low)
            count, total = (
                _up_to(a, ends[1]) - _up_to(a, ends[0]) for a in (profile.count, profile.total)
            )
            return np.asarray((total / np.maximum(count, 1))[:, 0])

        outside = mean(np.minimum(border + _NEAR_DEG, 80.0), np.minimum(border + _FAR_DEG, 90.0))
        return mean(border - _FAR_DEG, border - _NEAR_DEG) - outside

    right = fall(1, last + profile.beyond_deg(last, spread))
    return np.minimum(right, fall(-1, -first + profile.beyond_deg(first, spread)))
