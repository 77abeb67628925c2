"""Places that are parts of the volume, as WarpTools' template matching writes them.

Source: WarpTools' ``TiltSeries.MatchFull.cs``.
"""

from __future__ import annotations

import numpy as np

from tomadapt.io.particle_lists.model import Doubles, ReadOptions

_WHOLE_VOXELS = 0.01


def are_fractions(places: Doubles) -> bool:
    """Whether all places (n, 3) lie between 0 and 1: in pixels, all would lie in one voxel."""
    known = places[np.isfinite(places).all(axis=1)]
    return bool(len(known) and ((known >= 0) & (known <= 1)).all())


def from_fractions_A(fractions: Doubles, options: ReadOptions) -> tuple[Doubles, str]:
    """Parts of the volume's sides, or of n − 1 voxels, which WarpTools wrote up to 2025.

    Maxima are whole voxels in those versions, so that only one of the two gives whole numbers.

    Parameters
    ----------
    fractions
        (n, 3), x, y, z.
    options
        With the tomogram's extent.

    Returns
    -------
    The coordinates (n, 3) in Å, and a sentence that says how they were found.

    Raises
    ------
    ConfigError
        When the tomogram's extent is not known.
    """
    sides_A = options.known_extent_A(f"coordinates in {options.path} are fractions of the volume")
    voxel_A, meant = options.tomogram_voxel_A, "sides"
    if voxel_A is not None:
        steps = fractions * (np.round(sides_A / voxel_A) - 1)
        if np.nanmax(np.abs(steps - np.round(steps))) < _WHOLE_VOXELS:
            sides_A, meant = sides_A - voxel_A, "sides less one voxel"
    shown = " × ".join(f"{side:.0f}" for side in sides_A)
    basis = (
        "coordinates are fractions of the volume, as WarpTools' template matching writes them: "
        f"they were multiplied by its {meant}, {shown} Å (x, y, z)"
    )
    if options.voxel_size_A is not None:
        basis += f"; the stated pixel size of {options.voxel_size_A:g} Å is not used"
    return fractions * sides_A, basis
