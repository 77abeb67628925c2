"""Where no particle is in a tomogram: positions for the class NULL and the noise's spectrum."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from tomadapt.data.tomogram import Tomogram
from tomadapt.errors import ConfigError
from tomadapt.tomograms.picking import Picks

_ROUNDS = 200


def random_background(
    tomogram: Tomogram,
    picks: Picks | NDArray[np.floating],
    *,
    count: int,
    distance_A: float,
    border_A: float = 0.0,
    seed: int = 0,
) -> NDArray[np.float64]:
    """Draw positions of no particle, uniformly where no pick is near: the class NULL.

    What counts as empty is what the picks leave: give picks at a low threshold, so that faint
    particles are avoided too.

    Parameters
    ----------
    tomogram
        Where to draw.
    picks
        What to stay away from: picks, or coordinates (n, 3), x, y, z in Å.
    count
        How many positions.
    distance_A
        From every pick at least so far, in Å. The half-diagonal of a box and a particle's radius
        together leave no part of a particle in the box.
    border_A
        From the tomogram's faces at least so far.
    seed
        Of the random draws: the same seed gives the same positions.

    Returns
    -------
    (count, 3), x, y, z in Å, in the order in which they were drawn.

    Raises
    ------
    ConfigError
        A parameter cannot be used, or there is too little room.
    """
    low, high = np.full(3, float(border_A)), tomogram.last_A - border_A
    distances = (distance_A, border_A)
    unusable = not all(math.isfinite(n) and n >= 0 for n in distances)
    if count < 0 or unusable or (high < low).any():
        raise ConfigError(
            "positions of no particle",
            expected="a count and distances that are not negative, and borders that leave room",
            got=f"{count} positions, {distance_A:g} Å from picks, {border_A:g} Å from faces",
            remedy="lower the distances",
        )
    occupied = picks.coordinates_A if isinstance(picks, Picks) else np.asarray(picks, np.float64)
    tree = cKDTree(occupied.reshape(-1, 3)) if occupied.size else None
    rng = np.random.default_rng(seed)
    found = np.empty((0, 3))
    for _ in range(_ROUNDS):
        if len(found) >= count:
            break
        drawn = rng.uniform(low, high, size=(max(2 * count, 100), 3))
        if tree is not None:
            drawn = drawn[tree.query(drawn)[0] >= distance_A]
        found = np.concatenate([found, drawn])
    if len(found) < count:
        raise ConfigError(
            "too little room for positions of no particle",
            expected=f"{count} of them, {distance_A:g} Å from picks",
            got=len(found),
            remedy="ask for fewer, or lower the distances",
        )
    return np.asarray(found[:count])
