"""One reader for all formats: which one a file has is seen by its content, not by its name."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from tomadapt.errors import ConfigError, InputError
from tomadapt.io.particle_lists.copick import particles_from_copick
from tomadapt.io.particle_lists.dynamo import looks_like_dynamo, particles_from_dynamo
from tomadapt.io.particle_lists.model import ParticleList, ReadOptions
from tomadapt.io.particle_lists.named_columns import particles_from_csv
from tomadapt.io.particle_lists.relion import particles_from_star
from tomadapt.io.star import parse_star, read_text

MAX_CHARACTERS = 20_000_000
"""Larger files other than STAR are refused: JSON takes some thirty times as much memory."""

_STAR_LINE = re.compile(r"^[ \t]*((data_\S*|loop_)[ \t\r]*(#.*)?$|_(rln|wrp))", re.MULTILINE)


def read_particles(
    path: Path | str,
    *,
    voxel_size_A: float | None = None,
    tomograms: Path | str | None = None,
    extent_A: Sequence[float] | None = None,
    tomogram: str | None = None,
    strict: bool = True,
) -> ParticleList:
    """Read a list of particles.

    Parameters
    ----------
    path
        A STAR file of RELION 3.0, 3.1, 4, 5, of WarpTools or of M (its own or exported), or a
        RELION optimisation set; a Dynamo table; copick's JSON of picks; a CSV file with names.
    voxel_size_A
        Size in Å of the pixels that the coordinates count in; needed where the file does not say.
        Where it names several that may be meant (older WarpTools exports), this decides.
    tomograms
        RELION's STAR file of tomograms, for RELION 5's coordinates from their centres.
    extent_A
        (x, y, z) of the one tomogram in Å, voxels times voxel size, in place of ``tomograms``.
    tomogram
        Name of the tomogram, where the file has none.
    strict
        Refuse a file with rows that cannot be used. Otherwise they are in ``problems``, and the
        rows are as they are.

    Returns
    -------
    ParticleList
        As many particles as the file has rows, in its order.

    Raises
    ------
    InputError
        When the file is missing, damaged or of no known format, lacks columns, or (``strict``) has
        rows with NaN or infinite values or a particle twice: these are named.
    ConfigError
        When the pixel size or the tomogram's size is needed and unknown.
    MismatchError
        When the stated pixel size is not the file's.
    """
    extent = None if extent_A is None else _extent_A(extent_A)
    options = ReadOptions(
        Path(path), voxel_size_A, None if tomograms is None else Path(tomograms), extent, tomogram
    )
    with np.errstate(over="ignore", invalid="ignore"):  # what overflows is told as a problem
        particles = _read(read_text(path, kind="list of particles"), options)
    if strict and particles.problems:
        reasons = "; ".join(problem.reason for problem in particles.problems[:5])
        raise InputError(
            f"{len(particles.problems)} of {len(particles)} rows of {path} cannot be used",
            expected="finite coordinates and each particle once",
            got=reasons + (" …" if len(particles.problems) > 5 else ""),
            remedy="mend these rows, or let them be listed as rejected",
        )
    return particles


def _extent_A(given: Sequence[float]) -> tuple[float, float, float]:
    sides = [float(side) for side in given]
    if len(sides) != 3 or not (np.isfinite(sides).all() and min(sides) > 0):
        raise ConfigError(
            "the extent of the tomogram cannot be used",
            expected="three lengths (x, y, z) in Å",
            got=sides[:10],
            remedy="give voxels times voxel size along each axis",
        )
    return sides[0], sides[1], sides[2]


def _read(text: str, options: ReadOptions) -> ParticleList:
    plain = text.removeprefix("\ufeff")
    start = plain.lstrip()
    if not start.startswith(("{", "[")) and _STAR_LINE.search(plain):
        return particles_from_star(parse_star(text, name=str(options.path)), options)
    if len(plain) > MAX_CHARACTERS:
        raise InputError(
            f"cannot read {options.path}",
            expected=f"a list of particles of at most {MAX_CHARACTERS / 1e6:.0f} MB, or STAR",
            got=f"{len(plain) / 1e6:.0f} MB",
            remedy="split it by tomogram",
        )
    if start.startswith(("{", "[")):
        return particles_from_copick(plain, options)
    first = start.split("\n", 1)[0]
    if looks_like_dynamo(first):
        return particles_from_dynamo(text, options)
    if any(delimiter in first for delimiter in ",;\t"):
        return particles_from_csv(text, options)
    raise InputError(
        f"{options.path} is no list of particles that is known",
        expected="a STAR file, a Dynamo table (26 or more numbers a row), copick's JSON, or CSV",
        got=f"a file that begins with {first[:60]!r}",
        remedy="export the particles in one of these formats",
    )
