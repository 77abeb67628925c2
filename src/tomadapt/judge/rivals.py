"""Rivals of wanted structures: mirror images, shapes of contaminants, other proteins.

Shapes are analytic densities. Proteins are the built-in structures, and pieces of them of many
sizes, which look like proteins in texture but have no real protein's fold. The scale of a density
does not matter, since amplitudes are fitted.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from sklearn.cluster import KMeans

from tomadapt.errors import ConfigError
from tomadapt.fsc import Volume
from tomadapt.judge.noise import window
from tomadapt.simulate.simulator import NULL_CLASS
from tomadapt.structures import BUILTIN, resample, template

Kind = Literal["wanted", "mirror", "sphere", "shell", "membrane", "filament", "edge", "protein"]

SPHERES_A = (30.0, 45.0, 60.0, 80.0, 100.0, 130.0)
SHELLS_A = (70.0, 100.0, 130.0)
SHELL_THICKNESS_A = 35.0
CURVATURES_A = (120.0, 200.0, 350.0)
LEAFLETS_A, LEAFLET_SIGMA_A = 20.0, 8.0
FILAMENTS_A = (35.0, 60.0)
TUBE_A = (80.0, 125.0)
ELLIPSOIDS_A = ((40.0, 2.2), (60.0, 2.2), (55.0, 0.45), (80.0, 0.45))
"""Radius in Å, and the ratio of the third axis to it."""
EXTENDED_SIGMA_RATIO = 0.225
"""σ, in box sides, of the Gaussian by which shapes larger than the box are multiplied."""
PIECES = {
    "ribosome_50s/100": ("ribosome_50s", 1450, 100),
    "tric/100": ("tric", 950, 100),
    "spliceosome/150": ("spliceosome", 1300, 150),
    "ribosome_80s/150": ("ribosome_80s", 3300, 150),
    "ribosome_50s/220": ("ribosome_50s", 1450, 220),
    "tric/220": ("tric", 950, 220),
    "spliceosome/300": ("spliceosome", 1300, 300),
    "ribosome_80s/300": ("ribosome_80s", 3300, 300),
    "ribosome_50s/450": ("ribosome_50s", 1450, 450),
    "tric/450": ("tric", 950, 450),
    "spliceosome/700": ("spliceosome", 1300, 700),
    "ribosome_80s/700": ("ribosome_80s", 3300, 700),
}
"""Name → built-in structure, its mass in kDa, and that of the piece in kDa."""
_PIECE_VOXEL_A, _PIECE_BOX, _PIECE_RESOLUTION_A = 10.0, 48, 15.0


@dataclass(frozen=True, eq=False)
class Hypothesis:
    """A structure that a particle may be.

    Attributes
    ----------
    name
        Unique.
    kind
        ``wanted`` for a structure that the user named, else the kind of rival.
    density
        (n, n, n), [z, y, x], centred on n // 2, any scale.
    of
        For a mirror image, the name of the wanted structure.
    """

    name: str
    kind: Kind
    density: Volume
    of: str | None = None

    @property
    def windowed(self) -> Volume:
        """The density, multiplied by the same window as particles."""
        return np.asarray(self.density * window(len(self.density)).numpy())


def wanted_structures(
    classes: Mapping[str, str], *, box: int, voxel_size_A: float, folder: Path | None = None
) -> list[Hypothesis]:
    """The structures that a user named, on the cubes' grid.

    Parameters
    ----------
    classes
        Label → structure, see :func:`~tomadapt.structures.template`; ``null`` is ignored.
    box, voxel_size_A
        Side in voxels; Å.
    folder
        Folder where PDB IDs are looked up first.
    """
    grid: dict[str, Any] = {"box": box, "voxel_size_A": voxel_size_A}
    grid |= {"resolution_A": max(voxel_size_A, 8.0), "folder": folder}
    return [
        Hypothesis(label, "wanted", template(structure, **grid).density)
        for label, structure in classes.items()
        if label != NULL_CLASS
    ]


def mirror_image(density: Volume) -> Volume:
    """The same density with x reversed about voxel n // 2."""
    reversed_x = density[:, :, ::-1]
    return np.ascontiguousarray(
        np.roll(reversed_x, 1, axis=2) if density.shape[2] % 2 == 0 else reversed_x
    )


def mirrors(wanted: list[Hypothesis]) -> list[Hypothesis]:
    """The mirror image of each wanted structure; it does not exist in nature."""
    return [
        Hypothesis(f"mirror of {w.name}", "mirror", mirror_image(w.density), w.name) for w in wanted
    ]


def shapes(box: int, voxel_size_A: float) -> list[Hypothesis]:
    """Spheres, shells, ellipsoids, bilayers, filaments and an edge.

    Parameters
    ----------
    box
        Side in voxels.
    voxel_size_A
        In Å. Shapes that do not fit into the box are left out.
    """
    r = (np.arange(box) - box // 2) * voxel_size_A
    z, y, x = r[:, None, None], r[None, :, None], r[None, None, :]
    radius = np.sqrt(z**2 + y**2 + x**2)
    across = np.sqrt(x**2 + y**2) + 0 * z
    largest_A = (box / 2 - 2) * voxel_size_A
    near = np.exp(-0.5 * (radius / (EXTENDED_SIGMA_RATIO * box * voxel_size_A)) ** 2)

    def inside(distance_A: NDArray[np.float64]) -> NDArray[np.float64]:
        """1 for negative signed distances, 0 for positive ones, with an edge of about a voxel."""
        return np.asarray(1 / (1 + np.exp(np.clip(distance_A / (0.35 * voxel_size_A), -50, 50))))

    def bilayer(distance_A: NDArray[np.float64]) -> NDArray[np.float64]:
        leaves = [(distance_A + side * LEAFLETS_A) / LEAFLET_SIGMA_A for side in (1, -1)]
        return np.asarray(sum(np.exp(-0.5 * leaf**2) for leaf in leaves) * near)

    found: list[tuple[str, Kind, NDArray[np.float64]]] = []
    for a in SPHERES_A:
        if a <= largest_A:
            found.append((f"sphere of {a:g} Å", "sphere", inside(radius - a)))
    for a in SHELLS_A:
        if a <= largest_A:
            hollow = inside(radius - a) - inside(radius - (a - SHELL_THICKNESS_A))
            found.append((f"shell of {a:g} Å", "shell", hollow))
    for a, longer in ELLIPSOIDS_A:
        if a * max(longer, 1) <= largest_A:
            scaled = np.sqrt((x**2 + y**2) / a**2 + z**2 / (a * longer) ** 2)
            found.append(
                (f"ellipsoid of {a:g} × {a * longer:g} Å", "sphere", inside((scaled - 1) * a))
            )
    found.append(("flat membrane", "membrane", bilayer(z + 0 * x + 0 * y)))
    for a in CURVATURES_A:
        off_centre = np.sqrt((z + a) ** 2 + x**2 + y**2)
        found.append((f"membrane of {a:g} Å radius", "membrane", bilayer(off_centre - a)))
    for a in FILAMENTS_A:
        found.append((f"filament of {a:g} Å", "filament", inside(across - a) * near))
    if TUBE_A[1] <= largest_A:
        tube = (inside(across - TUBE_A[1]) - inside(across - TUBE_A[0])) * near
        found.append(("tube", "filament", tube))
    found.append(("edge", "edge", inside(z + 0 * x + 0 * y) * near))
    return [Hypothesis(name, kind, density.astype(np.float32)) for name, kind, density in found]


def proteins(box: int, voxel_size_A: float, *, seed: int = 0) -> list[Hypothesis]:
    """The built-in structures and pieces of them that fit into a box.

    Parameters
    ----------
    box, voxel_size_A
        Side in voxels; Å.
    seed
        Seed of the cutting of structures into pieces.
    """
    resolution_A = max(voxel_size_A, _PIECE_RESOLUTION_A)
    found = []
    for name in BUILTIN:
        try:
            made = template(name, voxel_size_A=voxel_size_A, box=box, resolution_A=resolution_A)
        except ConfigError:  # it does not fit
            continue
        found.append(Hypothesis(f"protein {name}", "protein", made.density))
    for number, (name, (whole, mass, part)) in enumerate(PIECES.items()):
        piece = resample(
            _piece(whole, mass, part, seed=seed + number),
            _PIECE_VOXEL_A,
            to_voxel_size_A=voxel_size_A,
            box=box,
        )
        if _is_inside(piece):
            density = piece.astype(np.float32)
            found.append(Hypothesis(f"protein piece {name} kDa", "protein", density))
    return found


def _is_inside(density: NDArray[np.floating]) -> bool:
    """Whether a density on the faces of its box is below a tenth of its maximum."""
    faces = [np.take(density, (0, -1), axis=axis).max() for axis in range(3)]
    return bool(max(faces) < 0.1 * density.max())


def _piece(whole: str, mass: float, part: float, *, seed: int) -> Volume:
    """A compact piece of a structure, centred on its mass: a cell of a k-means partition."""
    density = template(
        whole, voxel_size_A=_PIECE_VOXEL_A, box=_PIECE_BOX, resolution_A=_PIECE_RESOLUTION_A
    ).density
    places = np.argwhere(density > 0.15)
    weights = density[tuple(places.T)]
    cells = KMeans(max(2, round(mass / part)), n_init=1, random_state=seed)
    labels = cells.fit(places, sample_weight=weights).labels_
    masses = np.bincount(labels, weights)
    chosen = places[labels == np.argmin(np.abs(masses - weights.sum() * part / mass))]
    piece = np.zeros_like(density)
    piece[tuple(chosen.T)] = density[tuple(chosen.T)]
    piece = ndimage.gaussian_filter(piece, 0.7)
    to_centre = np.full(3, _PIECE_BOX // 2) - np.array(ndimage.center_of_mass(piece))
    return np.asarray(ndimage.shift(piece, to_centre, order=1), dtype=np.float32)
