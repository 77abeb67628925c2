"""A tomogram and a list: positions and sign, with what both rest on, for every command alike."""

from __future__ import annotations

import re
import warnings
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from tomadapt.data.tomogram import Tomogram
from tomadapt.errors import InputError, MismatchError
from tomadapt.inputs.particles import Contrast
from tomadapt.io.voxel_sizes import STATED_TAKEN
from tomadapt.tomograms.contrast import (
    ContrastMeasure,
    Sign,
    blob_contrast,
    contrast_at,
    decide_sign,
    unlike_particles,
)
from tomadapt.tomograms.picking import sigma_for_A
from tomadapt.tomograms.positions import Positions, listed_positions

RADII_A, LEAST_VOXELS = (40.0, 75.0, 140.0), 2.0
"""Radii of apoferritin's kind, of a proteasome's and of a ribosome's; smaller balls are too few
voxels."""
NEARLY = 0.6
"""Of the largest distance from the surroundings: so much must a smaller ball show to be heard."""
CLEARLY, ALIKE = 1.5, 0.9
"""Of the density's distance from its surroundings at two sets of places, in standard errors: it is
clearly more at one of them from the first ratio on, and no less from the second on."""
FEW = 4
"""So few particles show no sign by themselves, where they are not very clear."""


def listed_with_sign(
    particles: Path,
    tomogram: Tomogram,
    *,
    contrast: Contrast,
    radius_A: float,
    pixel_size_A: float | None = None,
    tomograms: Path | None = None,
) -> tuple[Tomogram, Positions, Sign]:
    """Read a list, and decide the sign of the density at its places.

    Parameters
    ----------
    particles, pixel_size_A, tomograms
        See :func:`~tomadapt.tomograms.positions.listed_positions`, also for what is raised.
    tomogram
        With the sign of its file.
    contrast
        ``measure``, or what is stated.
    radius_A
        Of the particles, in Å, or more: what is smaller is tried as well.

    Returns
    -------
    tomogram
        With its sign.
    positions
        With notes on places that the density contradicts.
    sign
        How it was found.

    Raises
    ------
    ConfigError
        When the sign is to be measured, and the density at these places is as it is anywhere.
    """
    smaller = [r for r in radii_of_any_A(tomogram.voxel_size_A) if r < radius_A]
    radii_A = (radius_A, *smaller)
    positions = placed(
        particles,
        tomogram,
        radii_A=radii_A,
        pixel_size_A=pixel_size_A,
        tomograms=tomograms,
    )
    # A smaller ball may lie in the cavity of a hollow particle, and shows fewer of them: it says
    # whether places are beside them, and their sign only where the whole of them says none.
    found = measured_at(tomogram, positions, radii_A)
    whole, best = found[-1], clearest(found)
    doubts = [text for text in whole.doubts if text != whole.moved or not best.moved]
    doubts += [best.moved] if best.moved else []
    measured = whole if whole.sign else best
    if not measured.sign and len(positions.rows) < FEW:
        # The sign is the whole tomogram's; of the positions so few tell nothing.
        measured = blob_contrast(tomogram, sigma_A=sigma_for_A(2 * radius_A))
        positions = positions.with_notes(too_few(len(positions.rows)))
    path = Path(tomogram.path or tomogram.name)
    sign = decide_sign(contrast, measured, path, notes=positions.notes)
    return replace(tomogram, sign=sign.sign), positions.with_notes(*doubts), sign


def too_few(n: int) -> str:
    """What is told of so few particles that show nothing."""
    return (
        f"{n} listed particle{' is' if n == 1 else 's are'} too few to tell whether particles are "
        "at these positions, and which sign they have"
    )


def radii_of_any_A(voxel_size_A: float) -> tuple[float, ...]:
    """Radii in Å to try where nobody said how large the particles are."""
    return tuple(dict.fromkeys(max(radius_A, LEAST_VOXELS * voxel_size_A) for radius_A in RADII_A))


def placed(
    particles: Path,
    tomogram: Tomogram,
    *,
    radii_A: Sequence[float],
    pixel_size_A: float | None = None,
    tomograms: Path | None = None,
) -> Positions:
    """Read a list, and let the density decide where two scales are possible.

    A voxel size that is nearly a whole multiple of the list's pixels was either chosen so, or one
    of both is rounded and a voxel is that many pixels. Where the density is clearly that of
    particles at the latter places and not at the former, the latter are taken.

    Parameters
    ----------
    particles, tomogram, pixel_size_A, tomograms
        See :func:`~tomadapt.tomograms.positions.listed_positions`, also for what is raised.
    radii_A
        Of the particles, in Å; of several that counts at which they stand out most.

    Returns
    -------
    Positions
        With a note and what it rests on where the density decided.
    """
    positions = listed_positions(
        particles, tomogram, pixel_size_A=pixel_size_A, tomograms=tomograms
    )
    scale = positions.doubted
    if scale is None or scale.whole is None:
        return positions
    try:
        with warnings.catch_warnings():
            # The user did not state this size.
            warnings.filterwarnings("ignore", message=f".*{re.escape(STATED_TAKEN)}")
            whole = listed_positions(
                particles,
                tomogram,
                pixel_size_A=tomogram.voxel_size_A / scale.whole,
                tomograms=tomograms,
            )
    except (InputError, MismatchError):  # most of the list would lie outside
        return positions
    here, there = (clearest(measured_at(tomogram, p, radii_A)) for p in (positions, whole))
    if not _clearly_better(there, here):
        return positions
    text = (
        f"{scale.text}; but the density is that of particles where a voxel is {scale.whole} pixels "
        "and not where it is as many as both sizes say: one of them is rounded, and "
        f"{scale.whole} pixels a voxel are taken"
    )
    notes = (*whole.notes, text)
    return replace(whole, notes=notes, assumed={**whole.assumed, "coordinates": text})


def measured_at(
    tomogram: Tomogram, positions: Positions, radii_A: Sequence[float]
) -> list[ContrastMeasure]:
    """The density at places, for particles of several radii in Å, the smallest first."""
    return [contrast_at(tomogram, positions.coordinates_A, radius_A=r) for r in sorted(radii_A)]


def clearest(found: Sequence[ContrastMeasure]) -> ContrastMeasure:
    """That of the radius where places stand out most; whether they are moved, of the smallest.

    A ball that is larger than the particles still holds them where places are beside them.

    Parameters
    ----------
    found
        As :func:`measured_at` gives it.
    """
    best = max(found, key=lambda measured: abs(measured.strength))
    alike = [m for m in found if m.strength * best.sign >= NEARLY * abs(best.strength)]
    moved = next((m.moved for m in alike if m.moved), "")
    if not moved:
        return best
    others = tuple(text for text in best.doubts if text != best.moved)
    return replace(best, doubts=(moved, *others), moved=moved)


def _clearly_better(one: ContrastMeasure, other: ContrastMeasure) -> bool:
    """Whether places show particles that others do not show, or show beside them."""
    if not one.sign or one.doubts:
        return False
    # Places less than a voxel apart stand out alike: there only the centring tells.
    ratio = ALIKE if other.doubts else CLEARLY
    return abs(one.strength) > ratio * abs(other.strength)


def with_density_notes(
    positions: Positions, tomogram: Tomogram, *, radius_A: float, explained: bool
) -> Positions:
    """Positions with notes on places that the density contradicts.

    For labels by likelihood, which find the sign of the density in another way.

    Parameters
    ----------
    positions, tomogram
        What belongs together.
    radius_A
        Of the particles, in Å.
    explained
        Whether structures explain what is at these places, so that something is there.
    """
    measured = contrast_at(tomogram, positions.coordinates_A, radius_A=radius_A)
    told = list(measured.doubts)
    if measured.sign == 0 and not explained:
        told.append(unlike_particles(measured))
    return positions.with_notes(*told)
