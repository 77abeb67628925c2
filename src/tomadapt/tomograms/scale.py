"""How the coordinates of a list become voxels of a tomogram, and whether both sizes can be right.

The list counts in pixels of the tilt series, the tomogram in voxels of any size: programs
reconstruct at 10 Å what was recorded at 1.35 Å, so ratios need not be whole numbers. What counts is
by how many voxels places would be off, at the corner that is farthest from where coordinates count.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

LARGEST_RATIO, LEAST_BINNING = 40.0, 1.5
"""Voxels are as wide as pixels, or so many times as wide."""
OFF_VOXELS = 0.5
NEARLY = 0.02
"""Ratios so near a whole number, and not that number, are more often rounded headers."""
FEWEST, SMALL_PART, OUTSIDE = 10, 0.05, 0.02
_ROUNDED = 0.02
COARSEST = 3.0
"""Voxels: places on a wider lattice than this were counted on another grid than the tomogram's."""


@dataclass(frozen=True)
class Scale:
    """What relates a list's pixels to a tomogram's voxels.

    Attributes
    ----------
    ratio
        Pixels a voxel.
    text
        In one sentence, both sizes and their ratio.
    doubt
        Why places may be off, and what states it; None where nothing speaks for that.
    wrong
        Why the two cannot belong together; None where they can.
    whole
        The whole number of pixels that a voxel may be, where that is the doubt.
    """

    ratio: float
    text: str
    doubt: str | None = None
    wrong: str | None = None
    whole: int | None = None


def scale_of(pixel_size_A: float, voxel_size_A: float, shape: Sequence[int]) -> Scale:
    """Compare the pixel size that a list states with a tomogram's voxel size.

    Parameters
    ----------
    pixel_size_A
        That the list's coordinates count in, in Å.
    voxel_size_A
        Of the tomogram, in Å.
    shape
        Of the tomogram, in voxels.
    """
    ratio = voxel_size_A / pixel_size_A
    text = (
        f"coordinates in pixels of {pixel_size_A:g} Å, tomogram at {voxel_size_A:g} Å: "
        f"{pixels_a_voxel(ratio)}"
    )
    if ratio > LARGEST_RATIO:
        return Scale(
            ratio, text, wrong=f"a binning of {ratio:.0f}: one of them may be in nanometres"
        )
    if ratio < 1 - NEARLY:
        return Scale(ratio, text, wrong="the tomogram's voxels are finer than the pixels recorded")
    if 1 + NEARLY < ratio < LEAST_BINNING:
        return Scale(ratio, text, wrong="nobody bins by so little: one of both is likely wrong")
    whole = max(1, round(ratio))
    off_voxels = abs(ratio / whole - 1) * max(shape)
    if off_voxels <= OFF_VOXELS or abs(ratio / whole - 1) > NEARLY:
        return Scale(ratio, text)
    size_A = whole * pixel_size_A
    return Scale(
        ratio,
        text,
        doubt=f"{voxel_size_A:g} Å is nearly {whole} × {pixel_size_A:g} Å = {size_A:g} Å: if one "
        f"of them is rounded, places are up to {off_voxels:.1f} voxels off "
        f"(--voxel-size {size_A:g} takes the list's word)",
        whole=whole,
    )


def pixels_a_voxel(ratio: float) -> str:
    """A ratio in words."""
    shown = f"{ratio:.4g}"
    return f"{shown} pixel{'' if shown == '1' else 's'} a voxel"


def placement_notes(places: NDArray[np.float64], shape: Sequence[int]) -> list[str]:
    """What is odd in where a list's particles lie.

    Parameters
    ----------
    places
        (n, 3) x, y, z in voxels.
    shape
        Of the tomogram, voxels along z, y, x.
    """
    found: list[str] = []
    n, sides = len(places), np.array(shape[::-1])
    beyond = ((places < -0.5) | (places > sides - 0.5)).any(axis=1)
    if n and OUTSIDE < beyond.mean() < 1:
        found.append(
            f"{int(beyond.sum())} of {n} listed particles lie outside of the tomogram: check in "
            "which pixels they count, where they count from, the order of axes, and that the list "
            "is of this tomogram"
        )
    return found + arrangement_notes(places, shape)


def arrangement_notes(places: NDArray[np.float64], shape: Sequence[int]) -> list[str]:
    """What is odd in how places lie to one another; arguments as for :func:`placement_notes`."""
    found: list[str] = []
    n, sides = len(places), np.array(shape[::-1])
    if n < FEWEST:
        return found
    extent = np.ptp(places, axis=0) / sides
    flat = [axis for axis, part in zip("xyz", np.ptp(places, axis=0), strict=True) if part < 1]
    if flat:
        found.append(
            f"all {n} listed particles have the same {' and '.join(flat)}: check the columns and "
            "the order of axes"
        )
    elif extent.prod() < SMALL_PART:
        x, y, z = extent
        found.append(
            f"the {n} listed particles lie within {x:.0%} × {y:.0%} × {z:.0%} of the tomogram "
            "(x, y, z): check in which pixels they count (--pixel-size)"
        )
    spacing = [lattice_spacing(column) for column in places.T]
    if not flat and min(spacing) >= COARSEST:
        found.append(
            f"all {n} listed particles lie on a lattice of "
            + " × ".join(f"{s:.3g}" for s in spacing)
            + " voxels (x, y, z): it is a grid, or they were picked in a coarser tomogram and may "
            "be off by half of that"
        )
    return found


def lattice_spacing(values: NDArray[np.float64]) -> float:
    """The spacing of which all differences of values (n,) are multiples; 0 where there is none."""
    steps = np.diff(np.unique(np.round(values, 3)))
    if not len(steps):
        return 0.0
    # Euclid's algorithm, with what text files round away.
    spacing = 0.0
    for step in steps.tolist():
        one, other = step, spacing
        while other > _ROUNDED:
            one, other = other, one % other
            other = 0.0 if one - other < _ROUNDED else other
        spacing = one
    return spacing


def collapsed(places: NDArray[np.float64]) -> str | None:
    """Why places (n, 3) in voxels cannot be particles: all of several are one place."""
    if len(places) < 2 or np.ptp(places, axis=0).max() >= 2:
        return None
    low, high = places.min(), places.max()
    within = "" if low < -1 or high > 2 else "; they may be fractions of the volume"
    return f"all {len(places)} lie within two voxels of each other{within}"
