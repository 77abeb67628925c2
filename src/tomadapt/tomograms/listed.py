"""A tomogram and a list: positions and sign, with what both rest on, for every command alike."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from tomadapt.io.volumes import Contrast
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
from tomadapt.tomograms.tomogram import Tomogram

RADII_A, LEAST_VOXELS = (40.0, 75.0, 140.0), 2.0
"""Radii of apoferritin's kind, of a proteasome's and of a ribosome's; smaller balls are too few
voxels."""
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
        Of the particles, in Å.

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
    positions = listed_positions(
        particles, tomogram, pixel_size_A=pixel_size_A, tomograms=tomograms
    )
    measured = contrast_at(tomogram, positions.coordinates_A, radius_A=radius_A)
    if not measured.sign and len(positions.rows) < FEW:
        # The sign is the whole tomogram's; of the positions so few tell nothing.
        measured = blob_contrast(tomogram, sigma_A=sigma_for_A(2 * radius_A))
        positions = positions.with_notes(too_few(len(positions.rows)))
    path = Path(tomogram.path or tomogram.name)
    sign = decide_sign(contrast, measured, path, notes=positions.notes)
    return replace(tomogram, sign=sign.sign), positions.with_notes(*measured.doubts), sign


def too_few(n: int) -> str:
    """What is told of so few particles that show nothing."""
    return (
        f"{n} listed particle{' is' if n == 1 else 's are'} too few to tell whether particles are "
        "at these positions, and which sign they have"
    )


def measured_at_any_size(
    tomogram: Tomogram, positions: Positions
) -> tuple[ContrastMeasure, tuple[float, ...]]:
    """The density at listed positions where nobody said how large the particles are.

    Returns
    -------
    measured
        At the radius at which the positions stand out most.
    radii_A
        Those that were tried, in Å.
    """
    least_A = LEAST_VOXELS * tomogram.voxel_size_A
    radii_A = tuple(dict.fromkeys(max(radius_A, least_A) for radius_A in RADII_A))
    found = [contrast_at(tomogram, positions.coordinates_A, radius_A=r) for r in radii_A]
    return max(found, key=lambda measured: abs(measured.strength)), radii_A


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
