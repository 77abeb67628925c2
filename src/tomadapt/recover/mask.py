"""A mask made from a map: the particle at the centre, without its neighbours."""

from __future__ import annotations

import math

import numpy as np
from scipy import ndimage
from skimage.filters import threshold_otsu

from tomadapt.fsc import Volume, soft_edge, soft_sphere

SPHERE_RATIO = 0.45
"""Radius of the sphere that bounds every mask, as a fraction of the box."""
_CORE_RATIO = 0.25
"""Parts whose centre of mass lies within this fraction of the box from its centre belong to the
particle. A neighbour's lies further out, since the two do not overlap."""
_MIN_MASS_RATIO = 0.02
"""Parts with less than this fraction of the heaviest part's mass are noise."""
_MIN_VOLUME_RATIO, _MAX_VOLUME_RATIO = 0.002, 0.6
"""Fractions of the sphere's volume: a smaller part is noise, a larger one is no single particle."""


def whole_box_mask(n: int) -> Volume:
    """The soft sphere that bounds every mask, (n, n, n)."""
    return soft_sphere(n, radius_voxels=SPHERE_RATIO * n)


def particle_mask(density: Volume) -> Volume:
    """A soft mask about the particle in the middle of a map, (n, n, n), 0 … 1.

    Voxels above Otsu's threshold (1979, IEEE Trans. Syst. Man Cybern. 9, 62) form connected parts.
    The particle is the part with the most density near the centre, together with other parts whose
    centre of mass lies within a quarter of the box from the centre; parts further out are
    neighbours. Holes are filled, the mask is grown by a fourteenth of the box (at least two
    voxels), and a soft edge of three voxels is added.

    Parameters
    ----------
    density
        (n, n, n), density positive, low-passed at its resolution.

    Returns
    -------
    ndarray
        (n, n, n); the sphere of :func:`whole_box_mask` when no particle stands out of the map.
    """
    n = len(density)
    sphere = whole_box_mask(n)
    inside = sphere > 0.5
    if not np.ptp(density[inside]) > 0:
        return sphere
    threshold = float(threshold_otsu(density[inside]))  # type: ignore[no-untyped-call]
    parts, count = ndimage.label((density > threshold) & inside)
    names = np.arange(1, count + 1)
    r = np.arange(n) - n // 2
    radius2 = r[:, None, None] ** 2 + r[:, None] ** 2 + r**2
    central = ndimage.sum_labels(density * np.exp(-radius2 / (2 * (n / 6) ** 2)), parts, names)
    mass = ndimage.sum_labels(density, parts, names)
    centres = np.array(ndimage.center_of_mass(density, parts, names)) - n // 2
    near = np.linalg.norm(centres, axis=1) < _CORE_RATIO * n
    belongs = near & (mass > _MIN_MASS_RATIO * mass.max())
    belongs[np.argmax(central)] = True
    particle = ndimage.binary_fill_holes(np.isin(parts, names[belongs]))
    if not _MIN_VOLUME_RATIO < particle.sum() / inside.sum() < _MAX_VOLUME_RATIO:
        return sphere
    beyond = ndimage.distance_transform_edt(~particle) - max(2, math.ceil(n / 14))
    return np.asarray(soft_edge(beyond, edge_voxels=3.0) * sphere)
