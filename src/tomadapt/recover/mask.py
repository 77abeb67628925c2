"""A mask from a map itself: the particle at the centre, without what lies beside it."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from skimage.filters import threshold_otsu

from tomadapt.fsc import soft_edge, soft_sphere

Volume = NDArray[np.float32]

SPHERE = 0.45
"""Radius of the sphere that bounds every mask, as a fraction of the box."""
_CORE = 0.25
"""What has its centre of mass this near the box's centre, as a fraction of the box, is of the
particle; a neighbour's lies further out, since the two do not overlap."""
_SPECK = 0.02
"""Parts with less density than this share of the heaviest are noise."""
_LEAST, _MOST = 0.002, 0.6
"""Fractions of that sphere: less is a speck of noise, more is no particle with room about it."""


def whole_box_mask(n: int) -> Volume:
    """The soft sphere that bounds every mask, (n, n, n)."""
    return soft_sphere(n, radius_voxels=SPHERE * n)


def particle_mask(density: Volume) -> Volume:
    """A soft mask about the particle in the middle of a map, (n, n, n), 0 … 1.

    What is denser than Otsu's threshold (1979, IEEE Trans. Syst. Man Cybern. 9, 62) falls into
    connected parts. The part with the most density near the centre is the particle, and so are
    others whose centre of mass lies within a quarter of the box from the centre; what lies further
    out is a neighbour. It is filled, and grown by a fourteenth of the box, at least two voxels,
    beside a soft edge of three.

    Parameters
    ----------
    density
        (n, n, n), density positive, filtered to what is known of it.

    Returns
    -------
    ndarray
        The soft sphere of :func:`whole_box_mask` where the map has no particle that stands out.
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
    near = np.linalg.norm(centres, axis=1) < _CORE * n
    belongs = near & (mass > _SPECK * mass.max())
    belongs[np.argmax(central)] = True
    particle = ndimage.binary_fill_holes(np.isin(parts, names[belongs]))
    if not _LEAST < particle.sum() / inside.sum() < _MOST:
        return sphere
    beyond = ndimage.distance_transform_edt(~particle) - max(2, math.ceil(n / 14))
    return np.asarray(soft_edge(beyond, edge_voxels=3.0) * sphere)
