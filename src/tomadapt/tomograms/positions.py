"""Positions of particles in one tomogram, picked or listed, and why others are left out."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tomadapt.data.tomogram import Tomogram
from tomadapt.errors import ConfigError, InputError, MismatchError
from tomadapt.io.extracted import SUBTOMOGRAM
from tomadapt.io.particle_lists import ParticleList, write_star
from tomadapt.tomograms.list_reading import Grid, read_list, rows_in_tomogram
from tomadapt.tomograms.picking import Picks
from tomadapt.tomograms.scale import (
    LARGEST_RATIO,
    LEAST_BINNING,
    Scale,
    collapsed,
    pixels_a_voxel,
    placement_notes,
    scale_of,
)

REASON = "tomadaptReason"
"""The column that says what became of a row."""
POSITIONS = ("particles.star", "rejected.star")
"""What :func:`write_positions` writes."""
FURTHER, COPICK = ("particles.csv", "labels.csv", "particles.zarr"), "copick"
"""What further formats and cubes' labels are written to."""


@dataclass(frozen=True, eq=False)
class Positions:
    """Particles of one tomogram among those of a list.

    Attributes
    ----------
    particles
        The whole list.
    rows
        Which of its rows are used, rising.
    rejected
        Row → why it is not.
    notes
        What the user should know of how the list was understood.
    assumed
        Decision → the sentence that says what it rests on.
    cubes
        Digest of the cubes that were cut out of these rows, in their order; empty before.
    doubted
        The scale, where a voxel may also be a whole number of pixels.
    """

    particles: ParticleList
    rows: NDArray[np.int64]
    rejected: Mapping[int, str]
    notes: tuple[str, ...] = ()
    assumed: Mapping[str, str] = field(default_factory=dict)
    cubes: str = ""
    doubted: Scale | None = None

    @property
    def coordinates_A(self) -> NDArray[np.float64]:
        """(n, 3) of the rows that are used, x, y, z in Å."""
        return self.particles.coordinates_A[self.rows]

    def with_notes(self, *notes: str) -> Positions:
        """The same with more that the user should know."""
        return replace(self, notes=(*self.notes, *notes))

    def without(self, dropped: Mapping[int, str]) -> Positions:
        """The same with some of the used rows, by their place among them, rejected."""
        gone = {int(self.rows[place]): reason for place, reason in dropped.items()}
        kept = np.array([row for row in self.rows if row not in gone], dtype=np.int64)
        return replace(self, rows=kept, rejected={**self.rejected, **gone})


def picked_positions(
    tomogram: Tomogram, picks: Picks, *, pixel_size_A: float | None = None
) -> Positions:
    """All picks, as a list of particles of the tomogram.

    Parameters
    ----------
    tomogram, picks
        What was picked where.
    pixel_size_A
        Of the tilt series, in whose pixels RELION counts; the tomogram's voxels where None.
    """
    n = len(picks)
    particles = ParticleList(
        coordinates_A=picks.coordinates_A,
        rotations=None,
        tomograms=(tomogram.name or "tomogram",) * n,
        dialect="relion4",
        scores=picks.scores,
        pixel_size_A=np.full(n, pixel_size_A or tomogram.voxel_size_A),
    )
    return Positions(particles, np.arange(n), {})


def listed_positions(
    path: Path | str,
    tomogram: Grid,
    *,
    pixel_size_A: float | None = None,
    tomograms: Path | str | None = None,
) -> Positions:
    """Read a list and find the particles of a tomogram in it.

    Which rows are the tomogram's, :func:`~tomadapt.tomograms.names.rows_of_tomogram` decides.

    Parameters
    ----------
    path
        See :func:`~tomadapt.io.particle_lists.read_particles`.
    tomogram
        Whose particles are wanted.
    pixel_size_A
        Of the pixels that coordinates count in, where the list does not say it: in Å, the
        tomogram's voxels where None.
    tomograms
        RELION's STAR file of tomograms, where coordinates are from their centres.

    Raises
    ------
    InputError
        When the list cannot be read, has no particle of this tomogram, or names several that may be
        this one.
    MismatchError
        When the pixel size in the list cannot belong to the tomogram's voxels, most particles are
        outside of it, or all are in one place.
    """
    particles, notes, basis = read_list(
        path, tomogram, pixel_size_A=pixel_size_A, tomograms=tomograms
    )
    if particles.basis:
        notes.append(particles.basis)
        basis = basis or particles.basis
    pixel_sizes_A = particles.pixel_size_A
    if pixel_sizes_A is None and particles.table is None:
        # A list in Å names none, and the STAR file that is written of it needs one.
        sizes_A = np.full(len(particles), tomogram.voxel_size_A)
        particles = replace(particles, pixel_size_A=sizes_A)
    rejected = {problem.row: problem.reason for problem in particles.problems}
    named = rows_in_tomogram(particles, tomogram, where=path)
    if named is None:
        names = sorted(set(particles.tomograms))
        raise InputError(
            f"{path} has no particles of tomogram {tomogram.name!r}",
            expected="its name in the list, or a list of one tomogram",
            got=", ".join(names[:8]) + (" …" if len(names) > 8 else ""),
            remedy="rename the tomogram's file, or give that tomogram's particles alone",
        )
    for row, other in enumerate(named.of):
        if other is not None:  # whatever else is wrong with it
            rejected[row] = f"of another tomogram: {other}"
    if named.doubt:
        notes.append(named.text)
    rows = np.array([r for r in range(len(particles)) if r not in rejected], dtype=np.int64)
    if not len(rows):
        raise InputError(
            f"{path} has no particle that can be used",
            expected=f"at least one in tomogram {tomogram.name!r}",
            got="; ".join(sorted(set(rejected.values()))[:3]) or "no rows",
            remedy="mend the list, or give another",
        )
    if particles.in_angstrom or pixel_sizes_A is None:
        basis = basis or "coordinates in Å from the centre of the tomogram's first voxel"
    doubted = None
    if pixel_sizes_A is not None:
        in_A = particles.in_angstrom
        scales = [
            scale_of(size_A, tomogram.voxel_size_A, tomogram.shape)
            for size_A in np.unique(pixel_sizes_A[rows]).tolist()
        ]
        basis = basis or "; ".join(scale.text for scale in scales)
        if pixel_size_A is None:
            notes += _scale_notes(path, scales, in_angstrom=in_A)
            if len(scales) == 1 and scales[0].doubt and not in_A:
                doubted = scales[0]
    _require_inside(path, tomogram, particles.coordinates_A[rows])
    places = particles.coordinates_A[rows] / tomogram.voxel_size_A
    notes += placement_notes(places, tomogram.shape)
    assumed = {"coordinates": basis, "tomogram names": named.text}
    return Positions(particles, rows, rejected, tuple(notes), assumed, doubted=doubted)


def _require_inside(path: Path | str, tomogram: Grid, coordinates_A: NDArray[np.float64]) -> None:
    """Refuse a list of which most is outside, or that is one place: a wrong scale, most likely."""
    why = collapsed(coordinates_A / tomogram.voxel_size_A)
    if why is not None:
        raise MismatchError(
            f"the positions of {path} cannot be those of particles",
            expected="particles in different places",
            got=why,
            remedy="state in which pixels they count (--pixel-size); fractions of the volume are "
            "understood where rlnMicrographName ends in .tomostar, as WarpTools writes it",
        )
    sides_A = np.array(tomogram.shape[::-1]) * tomogram.voxel_size_A
    half = tomogram.voxel_size_A / 2
    beyond = (coordinates_A < -half) | (coordinates_A > sides_A - half)
    outside = np.atleast_1d(beyond.any(axis=1))
    if len(outside) and outside.mean() > 0.5:
        last_A = sides_A - tomogram.voxel_size_A
        raise MismatchError(
            f"{int(outside.sum())} of {len(outside)} particles of {path} are outside of the "
            "tomogram",
            expected="coordinates up to " + " × ".join(f"{c:.0f}" for c in last_A) + " Å (x, y, z)",
            got="up to " + " × ".join(f"{c:.0f}" for c in coordinates_A.max(axis=0)) + " Å",
            remedy="check in which pixels they count (--pixel-size), where they count from, the "
            "order of axes, and that both are of one tomogram",
        )


def _scale_notes(path: Path | str, scales: Sequence[Scale], *, in_angstrom: bool) -> list[str]:
    """What is doubtful of a list's pixel sizes; those that cannot be the tomogram's are refused.

    Coordinates in Å do not count in these pixels: there a size that does not fit is only told.
    """
    found = []
    for scale in scales:
        if scale.wrong is not None and in_angstrom:
            found.append(
                f"the pixel size in {path} does not fit the tomogram's voxels "
                f"({pixels_a_voxel(scale.ratio)}; {scale.wrong}), but its coordinates are in Å and "
                "do not count in it"
            )
        elif scale.wrong is not None:
            raise MismatchError(
                f"the voxel sizes of {path} and of the tomogram do not belong together",
                expected="voxels as wide as the list's pixels, or "
                f"{LEAST_BINNING:g} to {LARGEST_RATIO:g} times as wide",
                got=f"{scale.text}; {scale.wrong}",
                remedy="state the pixels that the list counts in (--pixel-size), or the tomogram's "
                "voxels (--voxel-size)",
            )
        elif scale.doubt is not None:
            found.append(f"{scale.text}; {scale.doubt}")
    return found


def require_elsewhere(particles: Path | None, out: Path) -> None:
    """Refuse to write particles over the list that they come from.

    Raises
    ------
    ConfigError
        When ``particles`` is one of the files that are written into ``out``.
    """
    # Not Path.resolve, which raises RuntimeError for a link to itself.
    written = {os.path.realpath(out / name) for name in (*POSITIONS, *FURTHER)}
    given = None if particles is None else os.path.realpath(particles)
    if given in written or str(given).startswith(os.path.realpath(out / COPICK) + os.sep):
        raise ConfigError(
            f"{particles} would be overwritten",
            expected="a list outside of --out",
            got=f"one of the files that are written into {out}",
            remedy="choose another --out",
        )


def write_positions(folder: Path, positions: Positions) -> None:
    """Write ``particles.star`` with the rows that are used, ``rejected.star`` with the others.

    Where the rows that are used have cubes, they are numbered from 1; the others have number 0.
    """
    used, unused = POSITIONS
    columns: dict[str, Sequence[object]] = {}
    if positions.cubes:
        numbers = np.zeros(len(positions.particles), dtype=int)
        numbers[positions.rows] = np.arange(len(positions.rows)) + 1
        columns[SUBTOMOGRAM] = numbers.tolist()
    write_star(
        folder / used,
        positions.particles,
        columns=columns,
        rows=positions.rows.tolist(),
        cubes=positions.cubes,
    )
    write_rejected(folder / unused, positions, columns)


def write_rejected(
    path: Path, positions: Positions, columns: Mapping[str, Sequence[object]] | None = None
) -> None:
    """Write the rows that are not used with a reason each; a file without rows where all are.

    ``columns`` are written too, with a value for each particle of the list.
    """
    rows = sorted(positions.rejected)
    reasons = [positions.rejected.get(row, "") for row in range(len(positions.particles))]
    columns = {**(columns or {}), REASON: reasons}
    write_star(path, positions.particles, columns=columns, rows=rows, cubes=positions.cubes)
