"""What a power spectrum tells of the tilts: range, axis, beam, and whether that was stated.

Central slices of Fourier space at the tilts' angles were measured; what lies between the last of
them and the beam's direction, the missing wedge, is empty unless something filled it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, get_args

from tomadapt.acquisition import Acquisition
from tomadapt.data.tomogram import Tomogram
from tomadapt.errors import InputError
from tomadapt.tomograms.spectrum import Direction, MeanPower, tomogram_power
from tomadapt.tomograms.wedge_fit import AXES, Axis, fitted

BEAMS: tuple[Direction, ...] = get_args(Direction)

CLEAR = 0.5
"""Clarity from which on a range is given. Volumes without a wedge (white, smoothed along any axes,
filtered by a median, with membranes or beads, turned particles, two tilt axes) reached 0.2, and
that only where they were one to three small cubes. Simulated particles and tomograms had 0.87 and
more, real particles 0.1 (ten of them) to 0.8. What fills a wedge lowers it: white noise of 0.3
times the variance to 0.75, of equal variance to 0.5.
"""
CLEAR_ELSEWHERE = 0.65
"""The same where the beam is not along z, as it is in nearly every file. Of right volumes the beam
along y reached 0.37, and 0.56 where they were smoothed along z or their outer tilts were faint."""
DISTINCT = 0.1
"""Two hypotheses whose clarities are closer fit about equally well."""
TOLERANCE_DEG = 6.0
"""Ends of ranges that differ by no more are called the same: the largest error measured in cubes of
24 voxels (that of 32 and more was 3, of tomograms 1), and about two steps between tilts."""


@dataclass(frozen=True)
class WedgeEstimate:
    """The range of tilts that a spectrum shows.

    Attributes
    ----------
    first_deg, last_deg
        Of a specimen turned about ``+axis`` with the beam along z, see ``docs/conventions.md``;
        None where it is unclear. Programs differ in the sense of rotation: a file whose z or hand
        is flipped shows ``-last … -first``. Where the beam is along y or x they are those of the
        volume turned so that it is along z, see :meth:`MeanPower.turned`.
    axis
        Of the tilts, in the volume as it is; None where it is unclear.
    clarity
        By which fraction the power falls within about ten degrees across the less distinct of both
        borders, in those layers along the axis where it falls least: 1 for an empty wedge, 0 for
        none, and 0 where smoothing along the beam explains the spectrum about as well.
    beam
        Its direction in the volume as it is; None where it is unclear.
    """

    first_deg: float | None
    last_deg: float | None
    axis: Direction | None
    clarity: float
    beam: Direction | None = "z"

    @property
    def is_clear(self) -> bool:
        """Whether there is a range; else the wedge is filled, or was never missing."""
        return self.axis is not None

    @property
    def text(self) -> str:
        """The range and the axis, and the beam where it is not along z."""
        if self.first_deg is None or self.last_deg is None:
            return "unclear in the spectrum"
        beam = "" if self.beam == "z" else f", the beam along {self.beam}"
        return f"{_range((self.first_deg, self.last_deg))} about {self.axis}{beam}"

    @property
    def record(self) -> dict[str, Any]:
        """The same for programs."""
        return {
            "first_deg": self.first_deg,
            "last_deg": self.last_deg,
            "axis": self.axis,
            "beam": self.beam,
            "clarity": round(self.clarity, 3),
        }


_UNCLEAR = WedgeEstimate(None, None, None, 0.0, None)


def estimate_wedge(spectrum: MeanPower) -> WedgeEstimate:
    """Find the direction of the beam, the tilt axis, and the first and last tilt.

    The beam and the axis are tried along z, y and x; see
    :func:`~tomadapt.tomograms.wedge_fit.fitted`.

    Returns
    -------
    WedgeEstimate
        Of the beam and axis, out of z, y and x, whose borders are most distinct; unclear below
        :data:`CLEAR` (:data:`CLEAR_ELSEWHERE` for a beam that is not along z), and where others
        have about the same clarity. A range about an axis between two of them is found up to about
        ten degrees from either.
    """
    fits = []
    for beam in BEAMS:
        seen = spectrum.turned(beam)
        fits += [(*fitted(seen, axis), axis, beam) for axis in AXES]
    fits.sort(key=lambda fit: -fit[2])
    first, last, clarity, axis, beam = fits[0]
    needed = CLEAR if beam == "z" else CLEAR_ELSEWHERE
    if clarity < needed or clarity - fits[1][2] < DISTINCT:
        return replace(_UNCLEAR, clarity=clarity)
    # As the axis lies in the volume before it was turned.
    before: dict[tuple[Direction, Axis], Direction] = {("y", "y"): "z", ("x", "x"): "z"}
    return WedgeEstimate(first, last, before.get((beam, axis), axis), clarity, beam)


def tomogram_wedge(tomogram: Tomogram) -> WedgeEstimate:
    """The tilts that a tomogram's spectrum shows; unclear where no part of it has a spectrum."""
    try:
        return estimate_wedge(tomogram_power(tomogram))
    except InputError:  # bad voxels are told of where they matter: by picking and extraction
        return _UNCLEAR


def orientation_fault(estimate: WedgeEstimate) -> tuple[str, str] | None:
    """Say where the beam is not along z or the tilt axis not along y.

    Returns
    -------
    tuple or None
        What is wrong, and how to turn the volumes; None where both are right or unclear.
    """
    beam, axis = estimate.beam, estimate.axis
    if not estimate.is_clear or (beam, axis) == ("z", "y"):
        return None
    about_z = "turn the volumes by 90° about z, so that the tilt axis is along y"
    if beam == "z":
        return f"the tilt axis seems to lie along x (tilts of {estimate.text})", about_z
    if beam == "y":
        remedy = "rotate the volumes by 90° about x (IMOD: `trimvol -rx` or `clip rotx`)"
    else:
        remedy = "rotate the volumes by 90° about y, so that the beam is along z"
    if axis == ("x" if beam == "y" else "z"):  # it is along x then
        remedy += f"; then {about_z}"
    return f"the beam seems to lie along {beam} instead of z (tilts about {axis})", remedy


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
        One sentence with both ranges, the axis and a remedy; None where the beam is along z, the
        tilt axis is y and both ends agree within :data:`TOLERANCE_DEG`, and where the estimate is
        unclear.
    """
    first, last = estimate.first_deg, estimate.last_deg
    if first is None or last is None:
        return None
    shown, stated = (first, last), (acquisition.tilt_angles_deg[0], acquisition.tilt_angles_deg[-1])
    as_stated = _same(shown, stated)
    flipped = _same((-last, -first), stated)
    if fault := orientation_fault(estimate):
        other = "" if as_stated or flipped else ", and state the range that they then show"
        return f"{fault[0]}, where {_range(stated)} about y are stated; {fault[1]}{other}"
    if as_stated:
        return None
    if flipped:
        remedy = (
            "the volumes' z or hand is flipped, or the sign of the angles: flip z, "
            f"or state {_range((-stated[1], -stated[0]))}"
        )
    else:
        remedy = f"state {_range(shown)}, or check that these volumes were meant"
    return (
        f"the volumes show tilts of {estimate.text} in their spectrum where "
        f"{_range(stated)} about y are stated; {remedy}"
    )


def _same(a: tuple[float, float], b: tuple[float, float]) -> bool:
    return all(abs(x - y) <= TOLERANCE_DEG for x, y in zip(a, b, strict=True))


def _range(ends_deg: tuple[float, float]) -> str:
    return "{:+.0f}° … {:+.0f}°".format(*ends_deg)
