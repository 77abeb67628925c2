"""Parts of volumes that were filled in with one value, which recorded voxels never are."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

_CELL = 4
FILLED = 0.25
"""A cube of which more is filled is told: less is a corner at the tomogram's border."""


def constant_cells(block: NDArray[Any]) -> tuple[int, list[float]]:
    """How many cells of 4³ voxels a block has, and the values of those that are constant.

    In noise there are none, whatever its type.
    """
    sides = [min(_CELL, n) for n in block.shape]
    counts = [n // side for n, side in zip(block.shape, sides, strict=True)]
    cropped = block[tuple(slice(n * side) for n, side in zip(counts, sides, strict=True))]
    split = cropped.reshape([part for pair in zip(counts, sides, strict=True) for part in pair])
    low, high = split.min(axis=(1, 3, 5)), split.max(axis=(1, 3, 5))
    return low.size, low[(low == high) & np.isfinite(low)].tolist()


def filled_part(block: NDArray[Any]) -> float:
    """The fraction of a block's cells that are constant."""
    cells, constant = constant_cells(block)
    return len(constant) / cells if cells else 0.0


def filling_note(what: str, parts: NDArray[np.float64]) -> str | None:
    """Say how many cubes are filled in part.

    Parameters
    ----------
    what
        Whose cubes.
    parts
        (n,) as :func:`filled_part` gives them.

    Returns
    -------
    str or None
        One sentence; None where no cube has more than :data:`FILLED`.
    """
    many = parts[parts > FILLED]
    if not len(many):
        return None
    return (
        f"{len(many)} of {len(parts)} cubes of {what} hold one value in more than {FILLED:.0%} of "
        f"their voxels (up to {many.max():.0%}): they are masked, the tomogram is "
        "filled there, their boxes were padded at its border, or "
        "part of a file is missing (an interrupted download)"
    )
