"""Crowding: neighbours that reach into a particle's box, and placing of spheres without overlap."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.fft import next_fast_len
from scipy.spatial.transform import Rotation

from tomadapt.acquisition import Acquisition
from tomadapt.simulate import optics
from tomadapt.simulate.projection import SliceGrid, central_slices, cropped_images
from tomadapt.simulate.radiation import tilt_transfer
from tomadapt.simulate.randomness import NEIGHBOURS, particle_generator
from tomadapt.simulate.reconstruction import DirectFourierInversion
from tomadapt.structures.resampling import radius_A

ATTEMPTS = 50
"""Places tried for a neighbour; if all overlap others, the one of least overlap is taken."""

PLACES, PLACES_AT_ONCE = 20_000, 100
"""Places tried for one sphere before it counts as not fitting. Random sequential addition of equal
spheres ends at 38 % of the volume, and needs more and more tries towards that."""


@dataclass(frozen=True)
class PlacedNeighbours:
    """The neighbours of some particles.

    Attributes
    ----------
    templates
        (b, k) indices into the crowd's names.
    rotations
        (b, k, 3, 3), acting on (x, y, z).
    positions
        (b, k, 3) voxels from the centre of the box, (x, y, z).
    """

    templates: NDArray[np.int64]
    rotations: NDArray[np.float32]
    positions: NDArray[np.float32]


def place_neighbours(
    generator: np.random.Generator,
    count: int,
    *,
    radii: NDArray[np.float64],
    keep_out: float,
    centre: NDArray[np.floating],
    box: int,
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Draw neighbours and place them so that they cross the box's faces but not the particle.

    All templates are equally likely. A neighbour lies in a uniformly random direction from the
    particle. The distance of its centre is uniform between the one at which its sphere just reaches
    the face from inside, and the face itself, but at least so large that it touches the particle's
    sphere. Neighbours do not overlap each other if there is room.

    Parameters
    ----------
    generator
        From :func:`~tomadapt.simulate.randomness.particle_generator`.
    count
        Number of neighbours.
    radii
        (m,) radii of the templates in voxels.
    keep_out
        Radius around the particle's centre that stays free, in voxels.
    centre
        (3,) the particle's shift from the box's centre in voxels, (x, y, z).
    box
        Side in voxels.

    Returns
    -------
    templates
        (count,) indices into ``radii``.
    positions
        (count, 3) voxels from the box's centre, (x, y, z).
    """
    templates = generator.integers(len(radii), size=count)
    positions = np.empty((count, 3))
    for row, radius in enumerate(radii[templates]):
        most_room = -math.inf
        for _ in range(ATTEMPTS):
            direction = generator.normal(size=3)
            direction /= np.linalg.norm(direction)
            face = float(np.min((box / 2 - centre * np.sign(direction)) / np.abs(direction)))
            nearest = max(keep_out + radius, face - radius)
            candidate = centre + direction * generator.uniform(nearest, max(nearest, face))
            distances = np.linalg.norm(positions[:row] - candidate, axis=1)
            room = float(np.min(distances - radii[templates[:row]] - radius, initial=0))
            if room > most_room:
                most_room, positions[row] = room, candidate
            if room >= 0:
                break
    return templates, positions


def place_apart(
    generators: Sequence[np.random.Generator],
    *,
    radii: NDArray[np.float64],
    gap: float,
    sides: NDArray[np.floating],
) -> NDArray[np.float64]:
    """Place spheres in a cuboid one by one, each at the first free one of uniformly random places.

    Parameters
    ----------
    generators
        One for each sphere, so that its draws do not depend on other spheres.
    radii
        (n,) in any unit.
    gap
        Least distance between two spheres' surfaces.
    sides
        (3,) sides of the cuboid; all spheres lie completely inside it.

    Returns
    -------
    (k, 3) centres from the cuboid's first corner; k < n when sphere k does not fit.
    """
    centres = np.empty((len(radii), 3))
    for row, (generator, radius) in enumerate(zip(generators, radii, strict=True)):
        if (sides < 2 * radius).any():
            return centres[:row]
        for _ in range(PLACES // PLACES_AT_ONCE):
            tried = generator.uniform(radius, sides - radius, (PLACES_AT_ONCE, 3))
            between = np.linalg.norm(tried[:, None] - centres[:row], axis=-1)
            free = (between >= radii[:row] + radius + gap).all(axis=1)
            if free.any():
                centres[row] = tried[free.argmax()]
                break
        else:
            return centres[:row]
    return centres


@dataclass(frozen=True)
class Crowd:
    """The templates of neighbours, and the larger window in which they are imaged.

    A neighbour lies partly outside the box. Images of the box's size would cut it off, and in a
    periodic volume of that size its parts above the box would appear below it. So neighbours are
    imaged and reconstructed in a window that contains them, which is then cropped to the box.

    Attributes
    ----------
    names
        The templates' names, sorted, so that the order of classes does not matter.
    radii
        (m,) radii in voxels that hold 99 % of their mass.
    count
        Number of neighbours of each particle.
    box
        Side of the box in voxels.
    grid, transfer, reconstruct
        Sampling of the images, (t, p) transfer, and inversion, for the larger window.
    """

    names: tuple[str, ...]
    radii: NDArray[np.float64]
    count: int
    box: int
    grid: SliceGrid
    transfer: torch.Tensor
    reconstruct: DirectFourierInversion

    @classmethod
    def around(
        cls,
        templates: Mapping[str, NDArray[np.float32]],
        acquisition: Acquisition,
        *,
        count: int,
        voxel_size_A: float,
        max_shift_voxels: float,
        device: torch.device,
    ) -> Crowd:
        """Prepare the window for templates (d, d, d), ``count`` > 0 neighbours of each particle."""
        names = tuple(sorted(templates))
        radii = np.array([radius_A(templates[name], 1.0) for name in names])
        box, largest = templates[names[0]].shape[0], float(radii.max())
        # A neighbour's centre is inside the box, or it touches the particle.
        touching = 2 * largest
        depth = max(box / 2, max_shift_voxels + touching) + largest
        reach = max(3**0.5 * box / 2, 3**0.5 * max_shift_voxels + touching) + largest
        # A density at z above the window appears at z − window, which must lie below the box.
        window = next_fast_len(math.ceil(depth + box / 2), real=True)
        spread = optics.delocalisation_px(acquisition, pixel_size_A=voxel_size_A)
        padded = next_fast_len(math.ceil(window / 2 + reach + spread) + 2)
        grid = SliceGrid.inside_nyquist(padded, device)
        transfer = tilt_transfer(acquisition, grid, pixel_size_A=voxel_size_A)
        tilts = torch.tensor(acquisition.tilt_angles_deg)
        reconstruct = DirectFourierInversion.for_tilts(tilts, window, device)
        return cls(names, radii, count, box, grid, transfer, reconstruct)

    def place(
        self, seed: int, class_name: str, indices: Sequence[int], shifts: NDArray[np.float32]
    ) -> PlacedNeighbours:
        """Draw the neighbours of particles, keyed like the particles' poses.

        Parameters
        ----------
        seed, class_name, indices
            Which particles. For a class without a template the median radius is kept free.
        shifts
            (b, 3) shifts of the particles in voxels, (x, y, z).
        """
        b = len(indices)
        own = dict(zip(self.names, self.radii, strict=True))
        keep_out = float(own.get(class_name, np.median(self.radii)))
        templates = np.empty((b, self.count), np.int64)
        rotations = np.empty((b, self.count, 3, 3), np.float32)
        positions = np.empty((b, self.count, 3), np.float32)
        for row, index in enumerate(indices):
            generator = particle_generator(seed, class_name, index, NEIGHBOURS)
            templates[row], positions[row] = place_neighbours(
                generator,
                self.count,
                radii=self.radii,
                keep_out=keep_out,
                centre=shifts[row].astype(np.float64),
                box=self.box,
            )
            rotations[row] = Rotation.random(self.count, rng=generator).as_matrix()
        return PlacedNeighbours(templates, rotations, positions)

    def volumes(
        self,
        placed: PlacedNeighbours,
        transforms: Mapping[str, torch.Tensor],
        tilts: torch.Tensor,
        *,
        scale: torch.Tensor,
    ) -> torch.Tensor:
        """Reconstructed signal of neighbours.

        Parameters
        ----------
        placed
            From :meth:`place`.
        transforms
            Of each template, from :func:`~tomadapt.simulate.projection.template_transform`.
        tilts
            (t,) degrees.
        scale
            (b, k) factors of the images of each neighbour's density.

        Returns
        -------
        Tensor
            (b, n, n, n) float32, [z, y, x], in the units of the particles' own volumes.
        """
        device = self.transfer.device
        b, n, window = len(placed.templates), self.box, self.reconstruct.n
        slices = torch.zeros(b, len(tilts), len(self.grid.kx), dtype=torch.complex64, device=device)
        for nth in range(self.count):  # one at a time: memory does not grow with their number
            for template in np.unique(placed.templates[:, nth]):
                rows = np.flatnonzero(placed.templates[:, nth] == template)
                part = central_slices(
                    transforms[self.names[template]],
                    torch.from_numpy(placed.rotations[rows, nth]).to(device),
                    torch.from_numpy(placed.positions[rows, nth]).to(device),
                    tilts,
                    self.grid,
                )
                slices[rows] += part * scale[rows, nth, None, None].to(device)
        images = cropped_images(self.grid.scatter(slices.mul_(self.transfer)), window)
        wide = self.reconstruct(torch.fft.rfft2(images))
        first = window // 2 - n // 2
        inside = slice(first, first + n)
        # An inversion multiplies by the square root of its side.
        cropped: torch.Tensor = wide[:, inside, inside, inside] * (n / window) ** 0.5
        return cropped
