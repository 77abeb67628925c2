"""A list read for one tomogram: what the list does not say is taken from the tomogram."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from tomadapt.errors import ConfigError
from tomadapt.io.extracted import CLASS_NAME, KIND
from tomadapt.io.particle_lists import ParticleList, read_particles
from tomadapt.io.particle_lists.relion import ANGLES as RELION_ANGLES
from tomadapt.io.particle_lists.relion import BOX_ANGLES, CENTERED, PIXELS
from tomadapt.io.particle_lists.tomogram_sizes import TILT_SERIES, stated_sizes
from tomadapt.io.star import read_star
from tomadapt.tomograms.names import NamedRows, rows_of_tomogram
from tomadapt.tomograms.scale import OFF_VOXELS

_SAME_VOXELS = 0.5
_CLASSES = (CLASS_NAME, "rlnClassNumber", "tomadaptSecond", KIND)
NOT_NAMES = frozenset((*PIXELS, *CENTERED, *RELION_ANGLES, *BOX_ANGLES, *_CLASSES))
"""Columns that name no tomogram, though a class may be called as one."""


class Grid(Protocol):
    """What places are compared with: a tomogram's voxels, whatever they hold."""

    @property
    def shape(self) -> tuple[int, int, int]:
        """Voxels along z, y, x."""

    @property
    def voxel_size_A(self) -> float:
        """In Å."""

    @property
    def name(self) -> str:
        """The file's name without folders and extension."""

    @property
    def path(self) -> str:
        """The whole path of the file."""


def further_columns(particles: ParticleList) -> dict[str, tuple[str, ...]]:
    """Texts of the columns that may name tomograms."""
    if particles.table is None:
        found = dict(particles.extra_columns)
    else:
        found = {label: particles.table.column(label) for label in particles.table.labels}
    return {label: texts for label, texts in found.items() if label not in NOT_NAMES}


def read_list(
    path: Path | str,
    tomogram: Grid,
    *,
    pixel_size_A: float | None,
    tomograms: Path | str | None,
) -> tuple[ParticleList, list[str], str]:
    """Read a list for a tomogram, of which what the list does not say is taken.

    Parameters
    ----------
    path, tomogram, pixel_size_A, tomograms
        See :func:`~tomadapt.tomograms.positions.listed_positions`.

    Returns
    -------
    particles
        All of the list, bad rows too.
    notes
        What was taken for granted.
    basis
        In a sentence, what coordinates count in; empty where it is not known here.

    Raises
    ------
    TomadaptError
        As for :func:`~tomadapt.io.particle_lists.read_particles`, bad rows apart.
    """
    extent_A = (np.array(tomogram.shape[::-1]) * tomogram.voxel_size_A).tolist()

    def read(voxel_size_A: float | None, *, by_volume: bool = False) -> ParticleList:
        star = None if by_volume else tomograms
        return read_particles(
            path,
            voxel_size_A=voxel_size_A,
            tomograms=star,
            extent_A=None if star is not None else extent_A,
            tomogram_voxel_A=None if star is not None else tomogram.voxel_size_A,
            tomogram=tomogram.name or "tomogram",
            strict=False,
        )

    try:
        stated = read(pixel_size_A)
    except ConfigError:
        if tomograms is not None:
            # A list may need the volume's own extent (fractions, EMAN2's boxes).
            with contextlib.suppress(ConfigError):
                own = read(pixel_size_A, by_volume=True)
                return own, [f"{tomograms} is not used: {path} does not count by it"], ""
        if pixel_size_A is not None:
            raise
        # A format that never says it (Dynamo's) counts in the voxels of its tomogram; whatever
        # else is wrong is told by the second try.
        size_A = tomogram.voxel_size_A
        text = (
            f"{path} does not say in which pixels its coordinates count: taken for the tomogram's "
            f"voxels of {size_A:g} Å (--pixel-size states another size)"
        )
        return read(size_A), [text], text
    twice = _placed_twice(stated, tomogram, path)
    if tomograms is None:
        return stated, twice, _CENTRED if stated.dialect == "relion5" else ""
    try:
        seen = read(pixel_size_A, by_volume=True)
    except ConfigError:  # the tomograms' file says more than their sizes, and is needed
        seen = stated
    particles, notes, basis = _with_sizes(stated, seen, Path(tomograms), tomogram)
    return particles, [*notes, *twice], basis


def rows_in_tomogram(
    particles: ParticleList, tomogram: Grid, *, where: Path | str
) -> NamedRows | None:
    """The rows of a list that are a tomogram's, by its name and whatever else the list says.

    Parameters
    ----------
    particles, tomogram
        The list, and the tomogram.
    where
        The list's file, for messages.

    Returns
    -------
    NamedRows or None
        As :func:`~tomadapt.tomograms.names.rows_of_tomogram` says, also of what is raised.
    """
    return rows_of_tomogram(
        particles.own_tomograms,
        tomogram.name,
        path=tomogram.path,
        columns=further_columns(particles),
        where=where,
    )


_CENTRED = "coordinates in Å from the centre of the tomogram's volume"


def _placed_twice(particles: ParticleList, tomogram: Grid, path: Path | str) -> list[str]:
    """What to tell of a list with coordinates in pixels beside those from the centre in Å.

    Nothing is told where both are within half a voxel of one another.
    """
    table = particles.table
    if particles.dialect != "relion5" or table is None or any(c not in table for c in PIXELS):
        return []
    taken = "those from the centre are taken"
    both = f"{path} has coordinates in pixels ({PIXELS[0]} …) and from the centre ({CENTERED[0]} …)"
    optics = None if particles.document is None else particles.document.table("optics")
    if particles.pixel_size_A is None or not any(t and TILT_SERIES in t for t in (table, optics)):
        return [f"{both}, and no {TILT_SERIES} by which they could be compared: {taken}"]
    here = rows_in_tomogram(particles, tomogram, where=path)
    rows = [] if here is None else here.rows
    if not rows:
        return []

    def columns(labels: Sequence[str]) -> NDArray[np.float64]:
        texts = [table.column(label) for label in labels]
        return np.array([[_number(column[row]) for column in texts] for row in rows])

    half_A = np.array(tomogram.shape[::-1]) * tomogram.voxel_size_A / 2
    in_pixels_A = columns(PIXELS) * particles.pixel_size_A[rows][:, None]
    apart = np.abs(columns(CENTERED) + half_A - in_pixels_A).max(axis=1) / tomogram.voxel_size_A
    apart = apart[np.isfinite(apart)]
    count = int((apart > _SAME_VOXELS).sum())
    if not count:
        return []
    return [
        f"{both}, which contradict one another: {count} of {len(rows)} particles are up to "
        f"{apart.max():.3g} voxels apart by the two; {taken}"
    ]


def _number(text: str) -> float:
    """NaN of what is none: nothing else reads the coordinates in pixels."""
    try:
        return float(text)
    except ValueError:
        return np.nan


def _with_sizes(
    stated: ParticleList, seen: ParticleList, tomograms: Path, tomogram: Grid
) -> tuple[ParticleList, list[str], str]:
    """A list that was given with sizes of tomograms: where these are not the volume's, it is told.

    ``stated`` has coordinates from the centre by the file's sizes, ``seen`` by the volume's.
    """
    here = rows_in_tomogram(stated, tomogram, where=tomograms)
    rows = [] if here is None else here.rows
    names = dict.fromkeys(stated.tomograms[row] for row in rows)
    sizes = stated_sizes(read_star(tomograms), tomograms)
    size, pixel_A = next((sizes[name] for name in names if name in sizes), (None, None))
    centred = stated.dialect == "relion5"
    basis = _CENTRED if centred else ""
    notes: list[str] = []
    # Other tilt series may have been recorded at other pixel sizes.
    own_A = np.empty(0) if stated.pixel_size_A is None else stated.pixel_size_A[rows]
    if pixel_A is None and len(own_A):
        pixel_A = float(own_A[0])
    elif pixel_A is not None and len(own_A) and not centred:
        off = np.nan_to_num(np.abs(own_A / pixel_A - 1))
        if off.max() * max(tomogram.shape) > OFF_VOXELS:
            notes.append(
                f"the list counts in pixels of {own_A[off.argmax()]:g} Å, and {tomograms} has "
                f"{pixel_A:g} Å for this tilt series: the list's own size is taken"
            )
    if size is None or pixel_A is None:
        return stated, notes, basis
    volume_A = np.array(tomogram.shape[::-1]) * tomogram.voxel_size_A
    half_A = np.abs(size * pixel_A - volume_A) / 2
    if not (half_A > OFF_VOXELS * tomogram.voxel_size_A).any():
        return stated, notes, basis
    text = (
        f"{tomograms} has another size of this tomogram than its volume of "
        + " × ".join(f"{a:.0f}" for a in volume_A)
        + " Å (x, y, z): "
    )
    off_A = ", ".join(f"{a:.0f}" for a in half_A)
    if centred:
        text += "coordinates are taken from the centre of the volume, which is "
        return seen, [*notes, f"{text}{off_A} Å from that stated"], basis
    text += "coordinates are taken from the corner of the volume; if it was cut, or made larger, "
    return stated, [*notes, f"{text}about its centre, they are {off_A} Å off"], basis
