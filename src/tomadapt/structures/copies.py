"""Several models in one file: the same structure several times, or its copies side by side."""

from __future__ import annotations

import gemmi
import numpy as np
from scipy.spatial import cKDTree

_NEAR_A = 2.0
_OVERLAP = 0.05
_SAMPLE = 2000


def side_by_side(structure: gemmi.Structure) -> bool:
    """Whether the models of a file are copies next to each other, and no ensemble.

    Models of an ensemble (NMR, frames of a simulation, alternatives) lie on top of each other;
    files of biological assemblies have a model for each copy, and no two atoms in one place.

    Returns
    -------
    bool
        True where of no model more than a twentieth of the atoms lie within 2 Å of another's.
    """
    if len(structure) < 2:
        return False
    placed = [_positions(structure[0])]
    for model in list(structure)[1:]:
        positions = _positions(model)
        if not len(positions):
            continue
        sample = positions[:: max(1, len(positions) // _SAMPLE)]
        distance, _ = cKDTree(np.concatenate(placed)).query(sample, distance_upper_bound=_NEAR_A)
        if np.isfinite(distance).mean() > _OVERLAP:
            return False
        placed.append(positions)
    return True


def _positions(model: gemmi.Model) -> np.ndarray[tuple[int, int], np.dtype[np.float64]]:
    found = [atom.pos.tolist() for chain in model for residue in chain for atom in residue]
    return np.array(found, dtype=np.float64).reshape(-1, 3)
