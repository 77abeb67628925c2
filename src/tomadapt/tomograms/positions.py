"""Positions of particles in one tomogram, picked or listed, and why others are left out."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tomadapt.errors import ConfigError, InputError, MismatchError
from tomadapt.io.particle_lists import ParticleList, read_particles, write_star
from tomadapt.io.tomogram_files import bare_name
from tomadapt.tomograms.picking import Picks
from tomadapt.tomograms.scale import (
    LARGEST_RATIO,
    LEAST_BINNING,
    OFF_VOXELS,
    collapsed,
    placement_notes,
    scale_of,
)
from tomadapt.tomograms.tomogram import Tomogram

REASON = "tomadaptReason"
"""The column that says what became of a row."""
POSITIONS = ("particles.star", "rejected.star")
FURTHER, COPICK = ("particles.csv", "labels.csv", "particles.zarr"), "copick"
"""What further formats and cubes' labels are written to."""
"""What :func:`write_positions` writes."""


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
    """

    particles: ParticleList
    rows: NDArray[np.int64]
    rejected: Mapping[int, str]
    notes: tuple[str, ...] = ()

    @property
    def coordinates_A(self) -> NDArray[np.float64]:
        """(n, 3) of the rows that are used, x, y, z in Å."""
        return self.particles.coordinates_A[self.rows]

    def without(self, dropped: Mapping[int, str]) -> Positions:
        """The same with some of the used rows, by their place among them, rejected."""
        gone = {int(self.rows[place]): reason for place, reason in dropped.items()}
        kept = np.array([row for row in self.rows if row not in gone], dtype=np.int64)
        return Positions(self.particles, kept, {**self.rejected, **gone}, self.notes)


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
    tomogram: Tomogram,
    *,
    pixel_size_A: float | None = None,
    tomograms: Path | str | None = None,
) -> Positions:
    """Read a list and find the particles of a tomogram in it.

    Of a list with one tomogram all particles are taken, whatever it is called there; of a list with
    several, those of the tomogram's name; folders and endings such as ``.mrc`` do not count.

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
        When the list cannot be read, or has no particle of this tomogram.
    MismatchError
        When the pixel size in the list cannot belong to the tomogram's voxels, most particles are
        outside of it, or all are in one place.
    """
    particles, notes = _read(path, tomogram, pixel_size_A=pixel_size_A, tomograms=tomograms)
    if particles.basis:
        notes.append(particles.basis)
    pixel_sizes_A = particles.pixel_size_A
    if pixel_sizes_A is None and particles.table is None:
        # A list in Å names none, and the STAR file that is written of it needs one.
        sizes_A = np.full(len(particles), tomogram.voxel_size_A)
        particles = replace(particles, pixel_size_A=sizes_A)
    rejected = {problem.row: problem.reason for problem in particles.problems}
    names = sorted(set(particles.tomograms))
    if len(names) > 1:
        wanted = bare_name(tomogram.name)
        if wanted not in map(bare_name, names):
            raise InputError(
                f"{path} has no particles of tomogram {tomogram.name!r}",
                expected="its name in the list, or a list of one tomogram",
                got=", ".join(names[:8]) + (" …" if len(names) > 8 else ""),
                remedy="rename the tomogram's file, or give that tomogram's particles alone",
            )
        for row, name in enumerate(particles.tomograms):
            if bare_name(name) != wanted:
                rejected.setdefault(row, f"of another tomogram: {name}")
    elif names and names[0] not in ("", tomogram.name):
        notes.append(f"the list calls its one tomogram {names[0]!r}, the file is {tomogram.name!r}")
    rows = np.array([r for r in range(len(particles)) if r not in rejected], dtype=np.int64)
    if not len(rows):
        raise InputError(
            f"{path} has no particle that can be used",
            expected=f"at least one in tomogram {tomogram.name!r}",
            got="; ".join(sorted(set(rejected.values()))[:3]) or "no rows",
            remedy="mend the list, or give another",
        )
    if pixel_size_A is None and pixel_sizes_A is not None:
        notes += _scale_notes(path, pixel_sizes_A[rows], tomogram)
    _require_inside(path, tomogram, particles.coordinates_A[rows])
    places = particles.coordinates_A[rows] / tomogram.voxel_size_A
    notes += placement_notes(places, tomogram.shape)
    return Positions(particles, rows, rejected, tuple(notes))


def _read(
    path: Path | str,
    tomogram: Tomogram,
    *,
    pixel_size_A: float | None,
    tomograms: Path | str | None,
) -> tuple[ParticleList, list[str]]:
    """The list, and what was taken for granted of it."""
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

    if tomograms is not None:
        stated = read(pixel_size_A)
        here = np.array([bare_name(t) == bare_name(tomogram.name) for t in stated.tomograms])
        here |= len(set(stated.tomograms)) == 1
        try:
            seen = read(pixel_size_A, by_volume=True)
        except ConfigError:  # the tomograms' file says more than their sizes, and is needed
            return stated, []
        off_A = np.abs(stated.coordinates_A - seen.coordinates_A)[here]
        if not len(off_A) or not np.nanmax(off_A) > OFF_VOXELS * tomogram.voxel_size_A:
            return stated, []
        half_A = np.nanmax(off_A, axis=0)
        return seen, [
            f"{tomograms} has another size of this tomogram than its volume of "
            + " × ".join(f"{a:.0f}" for a in extent_A)
            + " Å (x, y, z): coordinates are taken from the centre of the volume, which is "
            + ", ".join(f"{a:.0f}" for a in half_A)
            + " Å from that stated"
        ]
    if pixel_size_A is not None:
        return read(pixel_size_A), []
    try:
        return read(None), []
    except ConfigError:
        # A format that never says it (Dynamo's) counts in the voxels of its tomogram; whatever
        # else is wrong is told by the second try.
        size_A = tomogram.voxel_size_A
        return read(size_A), [
            f"{path} does not say in which pixels its coordinates count: taken for the tomogram's "
            f"voxels of {size_A:g} Å (--pixel-size states another size)"
        ]


def _require_inside(
    path: Path | str, tomogram: Tomogram, coordinates_A: NDArray[np.float64]
) -> None:
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
    half = tomogram.voxel_size_A / 2
    beyond = (coordinates_A < -half) | (coordinates_A > tomogram.last_A + half)
    outside = np.atleast_1d(beyond.any(axis=1))
    if len(outside) and outside.mean() > 0.5:
        raise MismatchError(
            f"{int(outside.sum())} of {len(outside)} particles of {path} are outside of the "
            "tomogram",
            expected="coordinates up to "
            + " × ".join(f"{c:.0f}" for c in tomogram.last_A)
            + " Å (x, y, z)",
            got="up to " + " × ".join(f"{c:.0f}" for c in coordinates_A.max(axis=0)) + " Å",
            remedy="check the pixel size of the coordinates, and that both are of one tomogram",
        )


def _scale_notes(path: Path | str, sizes_A: NDArray[np.float64], tomogram: Tomogram) -> list[str]:
    """What is doubtful of a list's pixel sizes; those that cannot be the tomogram's are refused."""
    found = []
    for size_A in np.unique(sizes_A).tolist():
        scale = scale_of(size_A, tomogram.voxel_size_A, tomogram.shape)
        if scale.wrong is not None:
            raise MismatchError(
                f"the voxel sizes of {path} and of the tomogram do not belong together",
                expected="voxels as wide as the list's pixels, or "
                f"{LEAST_BINNING:g} to {LARGEST_RATIO:g} times as wide",
                got=f"{scale.text}; {scale.wrong}",
                remedy="state the pixels that the list counts in (--pixel-size), or the tomogram's "
                "voxels (--voxel-size)",
            )
        if scale.doubt is not None:
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
    """Write ``particles.star`` with the rows that are used, ``rejected.star`` with the others."""
    used, unused = POSITIONS
    write_star(folder / used, positions.particles, rows=positions.rows.tolist())
    write_rejected(folder / unused, positions)


def write_rejected(
    path: Path, positions: Positions, columns: Mapping[str, Sequence[object]] | None = None
) -> None:
    """Write the rows that are not used with a reason each; a file without rows where all are.

    ``columns`` are written too, with a value for each particle of the list.
    """
    rows = sorted(positions.rejected)
    reasons = [positions.rejected.get(row, "") for row in range(len(positions.particles))]
    columns = {**(columns or {}), REASON: reasons}
    write_star(path, positions.particles, columns=columns, rows=rows)
