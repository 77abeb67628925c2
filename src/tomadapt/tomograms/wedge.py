"""What a power spectrum tells of the tilts: their range, their axis, and whether that was stated.

Central slices of Fourier space at the tilts' angles were measured; what lies between the last of
them and the beam's direction, the missing wedge, is empty unless something filled it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from tomadapt.acquisition import Acquisition
from tomadapt.errors import InputError
from tomadapt.tomograms.spectrum import Doubles, MeanPower, tomogram_power
from tomadapt.tomograms.tomogram import Tomogram

Axis = Literal["y", "x"]
AXES: tuple[Axis, ...] = get_args(Axis)

CLEAR = 0.5
"""Clarity from which on a range is given. Volumes without a wedge (white, smoothed along any axes,
filtered by a median, with membranes or beads, turned particles, two tilt axes) reached 0.35, and
that only where they were one to three small cubes; one whose y and z are swapped had 0.43.
Simulated particles and tomograms had 0.87 and more, real particles 0.4 (ten of them) to 0.86. What
fills a wedge lowers it: white noise of 0.3 times the variance to 0.76, of equal variance to 0.52.
"""
TOLERANCE_DEG = 6.0
"""Ends of ranges that differ by no more are called the same: the largest error measured in cubes of
24 voxels (that of 32 and more was 3, of tomograms 1), and about two steps between tilts."""

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
        borders, in those layers along the axis where it falls less: 1 for an empty wedge, 0 for
        none, and 0 where smoothing along the beam explains the spectrum about as well.
    """

    first_deg: float | None
    last_deg: float | None
    axis: Axis | None
    clarity: float

    @property
    def is_clear(self) -> bool:
        """Whether there is a range; else the wedge is filled, or was never missing."""
        return self.axis is not None


def estimate_wedge(spectrum: MeanPower) -> WedgeEstimate:
    """Find the tilt axis and the first and last tilt.

    In the plane across the axis, logarithms of power (each ring's mean taken off) are split by two
    borders into a measured and an empty part so that both are as even as possible. What lies
    within one or two voxels beyond the borders, over which a reconstruction and the window spread
    each slice, is fitted as well and is not counted to the range.

    A wedge is the same in every layer along the axis, and so is told from that about the other
    axis and from the pyramid that two axes leave. Its borders have the same angles at every
    frequency; a spectrum that rather ends at one height along the beam was smoothed.

    Returns
    -------
    WedgeEstimate
        Of the axis whose borders are more distinct; unclear below :data:`CLEAR`. A range about an
        axis between x and y is found up to about ten degrees from either.
    """
    fits = {axis: _fit(_layers(spectrum, axis)) for axis in AXES}
    axis = max(AXES, key=lambda a: fits[a][2])
    first, last, clarity = fits[axis]
    if clarity < CLEAR:
        return WedgeEstimate(None, None, None, clarity)
    return WedgeEstimate(first, last, axis, clarity)


def tomogram_wedge(tomogram: Tomogram) -> WedgeEstimate:
    """The tilts that a tomogram's spectrum shows; unclear where no part of it has a spectrum."""
    try:
        return estimate_wedge(tomogram_power(tomogram))
    except InputError:  # bad voxels are told of where they matter: by picking and extraction
        return WedgeEstimate(None, None, None, 0.0)


def compare_with_stated(estimate: WedgeEstimate, acquisition: Acquisition) -> str | None:
    """Say where the tilts that a spectrum shows are not those that were stated.

    Parameters
    ----------
    estimate
        Of the volumes.
    acquisition
        What was stated of them.

    Returns
    -------
    str or None
        One sentence with both ranges, the axis and a remedy; None where the tilt axis is y and both
        ends agree within :data:`TOLERANCE_DEG`, and where the estimate is unclear.
    """
    first, last, axis = estimate.first_deg, estimate.last_deg, estimate.axis
    if first is None or last is None or axis is None:
        return None
    shown, stated = (first, last), (acquisition.tilt_angles_deg[0], acquisition.tilt_angles_deg[-1])
    as_stated = _same(shown, stated)
    flipped = _same((-last, -first), stated)
    if axis == "y" and as_stated:
        return None
    if axis == "x":
        remedy = "turn the volumes by 90° about z, so that the tilt axis is along y"
        if not (as_stated or flipped):
            remedy += ", and state the range that they then show"
    elif flipped:
        remedy = (
            "the volumes' z or hand is flipped, or the sign of the angles: flip z, "
            f"or state {_range((-stated[1], -stated[0]))}"
        )
    else:
        remedy = f"state {_range(shown)}, or check that these volumes were meant"
    return (
        f"the volumes show tilts of {_range(shown)} about {axis} in their spectrum where "
        f"{_range(stated)} about y are stated; {remedy}"
    )


def _same(a: tuple[float, float], b: tuple[float, float]) -> bool:
    return all(abs(x - y) <= TOLERANCE_DEG for x, y in zip(a, b, strict=True))


def _range(ends_deg: tuple[float, float]) -> str:
    return "{:+.0f}° … {:+.0f}°".format(*ends_deg)


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


def _layers(spectrum: MeanPower, axis: Axis) -> tuple[_Profile, _Profile]:
    """The profiles of layers near the plane across the axis, and of those farther along it."""
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
    where = (layer_of // (_LAYERS // 2) * _RINGS + ring) * _BINS + bins
    shape = (2, _RINGS, _BINS)
    count = np.bincount(where, minlength=2 * _RINGS * _BINS).astype(np.float64).reshape(shape)
    total = np.bincount(where, values, 2 * _RINGS * _BINS).astype(np.float64).reshape(shape)
    distances = _means(ring, distance[inside], _RINGS)
    near, far = (
        _Profile(c, t, distances, side, spectrum.shape[0])
        for c, t in zip(count, total, strict=True)
    )
    return near, far


def _means(index: NDArray[np.int64], values: Doubles, count: int) -> Doubles:
    return np.asarray(
        np.bincount(index, values, count) / np.maximum(np.bincount(index, minlength=count), 1)
    )


def _fit(layers: tuple[_Profile, _Profile]) -> tuple[float, float, float]:
    """First and last angle and the clarity, from the rings that show the borders."""
    near, far = layers
    both = replace(near, count=near.count + far.count, total=near.total + far.total)
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
