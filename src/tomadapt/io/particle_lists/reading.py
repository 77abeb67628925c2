"""One reader for all formats: which one a file has is seen by its content, not by its name."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from tomadapt.errors import ConfigError, InputError
from tomadapt.io.particle_lists.copick import particles_from_copick
from tomadapt.io.particle_lists.cryolo import cryolo_table, particles_from_cryolo
from tomadapt.io.particle_lists.csv_lists import particles_from_csv
from tomadapt.io.particle_lists.dynamo import looks_like_dynamo, particles_from_dynamo
from tomadapt.io.particle_lists.eman2 import BOXES, particles_from_eman2
from tomadapt.io.particle_lists.model import ParticleList, ReadOptions
from tomadapt.io.particle_lists.points import looks_like_points, particles_from_points
from tomadapt.io.particle_lists.portal import looks_like_portal, particles_from_portal
from tomadapt.io.particle_lists.relion import particles_from_star
from tomadapt.io.star import parse_star, read_text
from tomadapt.runs.json_files import json_object

MAX_CHARACTERS = 20_000_000
"""Larger files other than STAR are refused: JSON takes some thirty times as much memory."""

_KNOWN = (
    "a STAR file (RELION, WarpTools, M, crYOLO), a Dynamo table, JSON of copick or EMAN2, "
    "annotations of the CryoET Data Portal (.ndjson), CSV, or rows of x, y, z"
)
_EXPORT = "export the particles in one of these formats"
_MODEL2POINT = "run IMOD's `model2point -float FILE.mod FILE.txt`, and give that text"
_BINARY: tuple[tuple[bytes, str, str], ...] = (
    (b"IMOD", "a model of IMOD's, which is binary", _MODEL2POINT),
    (b"\xff\xfe", "text in UTF-16, as spreadsheets write it", "save it as CSV in UTF-8"),
    (b"\xfe\xff", "text in UTF-16, as spreadsheets write it", "save it as CSV in UTF-8"),
    (b"PK\x03\x04", "a ZIP archive, such as a spreadsheet", "export it as CSV"),
    (b"\x1f\x8b", "a file packed by gzip", "unpack it"),
    (b"BZh", "a file packed by bzip2", "unpack it"),
    (b"\x89HDF", "an HDF5 file", _EXPORT),
    (b"\x93NUMPY", "a NumPy array", _EXPORT),
    (b"\x80", "a Python pickle", _EXPORT),
    (b"MATLAB", "a file of Matlab's", _EXPORT),
)
"""First bytes of what is no text, what it is, and what to do."""
_TEXTS: tuple[tuple[str, str, str], ...] = (
    (r"imod \d", "a model of IMOD's as text", _MODEL2POINT.replace("FILE.mod", "MODEL")),
    (r"<", "an XML or HTML page", _EXPORT),
    (r"(HEADER|ATOM  |HETATM|CRYST1|REMARK)", "a PDB file", _EXPORT),
)

_COMMENTS = re.compile(r"(?:#[^\n]*\n?\s*)*+")
_STAR_LINE = re.compile(r"^[ \t]*((?i:data_\S*|loop_)[ \t\r]*(#.*)?$|_(rln|wrp))", re.MULTILINE)


def read_particles(
    path: Path | str,
    *,
    voxel_size_A: float | None = None,
    tomograms: Path | str | None = None,
    extent_A: Sequence[float] | None = None,
    tomogram: str | None = None,
    tomogram_voxel_A: float | None = None,
    strict: bool = True,
) -> ParticleList:
    """Read a list of particles.

    Parameters
    ----------
    path
        A STAR file of RELION 3.0, 3.1, 4, 5, of WarpTools or of M (its own or exported), or a
        RELION optimisation set; a Dynamo table; copick's JSON of picks; a CSV file with names;
        annotations of the CryoET Data Portal (ndjson); EMAN2's ``info.json``; crYOLO's ``.cbox``;
        rows of x, y, z, as IMOD's ``model2point`` writes them.
    voxel_size_A
        Size in Å of the pixels that the coordinates count in; needed where the file does not say.
        Where it names several that may be meant (older WarpTools exports), this decides.
    tomograms
        RELION's STAR file of tomograms, for RELION 5's coordinates from their centres.
    extent_A
        (x, y, z) of the one tomogram in Å, voxels times voxel size, in place of ``tomograms``.
    tomogram
        Name of the tomogram, where the file has none.
    tomogram_voxel_A
        Size in Å of that tomogram's own voxels, where ``extent_A`` is of one. EMAN2 counts from
        voxel n // 2, WarpTools' template matching in parts of n − 1 voxels.
    strict
        Refuse a file with rows that cannot be used: coordinates that are not finite, a place that
        an earlier row of the tomogram has, a tomogram of which ``tomograms`` has no size. Otherwise
        they are in ``problems``, and the rows are as they are, as for the commands.

    Returns
    -------
    ParticleList
        As many particles as the file has rows, in its order.

    Raises
    ------
    InputError
        When the file is missing, damaged or of no known format, lacks columns, ``tomograms`` has a
        size of none of its tomograms, or (``strict``) rows cannot be used: these are named.
    ConfigError
        When the pixel size or the tomogram's size is needed and unknown.
    MismatchError
        When the file says that its coordinates count from the centre, and they do not.
    """
    extent = None if extent_A is None else _extent_A(extent_A)
    options = ReadOptions(
        Path(path),
        voxel_size_A,
        None if tomograms is None else Path(tomograms),
        extent,
        tomogram,
        tomogram_voxel_A,
    )
    with np.errstate(over="ignore", invalid="ignore"):  # what overflows is told as a problem
        particles = _read(_text(options.path), options)
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


def _text(path: Path) -> str:
    """The text of a file; of one that is no text, what it is where its first bytes tell.

    Raises
    ------
    InputError
        As for :func:`~tomadapt.io.star.read_text`.
    """
    try:
        return read_text(path, kind="list of particles")
    except InputError:
        start = b""
        with contextlib.suppress(OSError, ValueError):
            if path.is_file():  # a pipe may never end
                with path.open("rb") as file:
                    start = file.read(212)
        if start[208:211] == b"MAP":
            raise _no_list(path, "an MRC file of voxels", _EXPORT) from None
        for mark, what, remedy in _BINARY:
            if start.startswith(mark):
                raise _no_list(path, what, remedy) from None
        raise


def _no_list(path: Path, got: str, remedy: str) -> InputError:
    what = f"{path} is no list of particles that is known"
    return InputError(what, expected=_KNOWN, got=got, remedy=remedy)


def _read(text: str, options: ReadOptions) -> ParticleList:
    plain = text.removeprefix("\ufeff")
    start = plain.lstrip()
    if not start.startswith(("{", "[")) and _STAR_LINE.search(plain):
        document = parse_star(text, name=str(options.path))
        boxes = cryolo_table(document)
        if boxes is not None:
            return particles_from_cryolo(boxes, options)
        return particles_from_star(document, options)
    if len(plain) > MAX_CHARACTERS:
        raise InputError(
            f"cannot read {options.path}",
            expected=f"a list of particles of at most {MAX_CHARACTERS / 1e6:.0f} MB, or STAR",
            got=f"{len(plain) / 1e6:.0f} MB",
            remedy="split it by tomogram",
        )
    first = start.split("\n", 1)[0].strip()
    if looks_like_portal(first):
        return particles_from_portal(plain, options)
    if start.startswith(("{", "[")):
        return _from_json(plain, options)
    comments = _COMMENTS.match(start)
    content = start[comments.end() :] if comments else start
    for pattern, what, remedy in _TEXTS:
        if re.match(pattern, content):
            raise _no_list(options.path, what, remedy)
    if looks_like_dynamo(first):
        return particles_from_dynamo(text, options)
    if looks_like_points(content.split("\n", 1)[0]):
        return particles_from_points(plain, options)
    if any(delimiter in first for delimiter in ",;\t"):
        return particles_from_csv(text, options)
    raise _no_list(options.path, f"a file that begins with {first[:60]!r}", _EXPORT)


def _from_json(text: str, options: ReadOptions) -> ParticleList:
    """Picks of copick or boxes of EMAN2, told apart by their keys."""
    path, meant = options.path, ""
    for key, what in ((f'"{BOXES}"', "an info file of EMAN2's"), ('"points"', "picks of copick")):
        if key in text:
            meant = f", {what},"
            break
    content = json_object(text, what=f"{path}{meant}", remedy="export the particles again")
    if BOXES in content:
        return particles_from_eman2(content, options)
    if "points" in content:
        return particles_from_copick(content, options)
    keys = ", ".join(str(key)[:30] for key in list(content)[:8]) or "nothing"
    got = f"a JSON file without {BOXES}, points or location; it has {keys}"
    raise _no_list(path, got, _EXPORT)
