"""Particles from rows of three numbers, as IMOD's ``model2point`` and many scripts write them.

Sources: IMOD's manual of ``model2point`` (a point a line, with nothing, with contour numbers or
with object numbers before it); LabShare-Archive/IMOD, ``flib/model/model2point.f90`` (the widths of
its columns: 6 each of object and contour where asked for, then three numbers of 12, or 7 where
whole) and ``imodutil/imodauto.c`` with ``libimod/icont.c`` (the centre of the pixel i, j of section
k is at i + ½, j + ½, k).
"""

from __future__ import annotations

import re

import numpy as np

from tomadapt.errors import InputError
from tomadapt.io.particle_lists.model import (
    ParticleList,
    ReadOptions,
    find_problems,
    is_number,
    numbers,
    place_by_lines,
)

IMOD_CENTRE = np.array([0.5, 0.5, 0.0])
"""Where IMOD's coordinates have the centre of the first voxel."""
_FEWEST, _MOST = 3, 12
_SPLIT = re.compile(r"\s*[,;\t]\s*|\s+")
_NUMBER_WIDTHS = ((12, re.compile(r" *(?:-?\d+\.\d{2,4}|NaN)")), (7, re.compile(r" *-?\d+")))
_INDEX, _VALUE = 6, 16
_DECIMALS = re.compile(r"-?\d+\.\d+")
_WITH_NUMBERS = {1: "contour, x, y, z", 2: "object, contour, x, y, z"}


def looks_like_points(line: str) -> bool:
    """Whether a line holds three numbers, or a few more, and nothing else."""
    words = _SPLIT.split(line.strip(), maxsplit=_MOST)
    return _FEWEST <= len(words) <= _MOST and all(is_number(word) for word in words)


def particles_from_points(text: str, options: ReadOptions) -> ParticleList:
    """Read rows of numbers; see :func:`~tomadapt.io.particle_lists.read_particles`.

    Whole columns laid out as ``model2point`` does count as IMOD's do, others as array indices.
    """
    lines = [
        (number, line)
        for number, line in enumerate(text.splitlines(), start=1)
        if line.strip() and not line.lstrip().startswith("#")
    ]
    rows = [_SPLIT.split(line.strip(), maxsplit=_MOST) for _, line in lines]

    place = place_by_lines([number for number, _ in lines])
    for row, words in enumerate(rows):
        if len(words) != len(rows[0]):
            raise InputError(
                f"{options.path}, {place(row)}, is no row of a list of points",
                expected=f"{len(rows[0])} numbers, as in the first row",
                got=f"{len(words)}; the file may be cut off",
                remedy="export the points again",
            )
    layouts = {_imod_layout(line) for _, line in lines}
    layout = layouts.pop() if len(layouts) == 1 else None
    if layout is None and _are_contours(rows):
        layout = len(rows[0]) - 3
    if layout is None and len(rows[0]) != 3:
        raise InputError(
            f"{options.path} has {len(rows[0])} numbers a row and no names",
            expected="x, y, z alone; contour, x, y, z or object, contour, x, y, z as IMOD's "
            "model2point writes them: whole numbers from 1 on that do not fall, and coordinates "
            "with decimals",
            got=f"a row {' '.join(rows[0])[:60]!r}",
            remedy="put a line of names above, separated by commas, such as x,y,z,score",
        )
    before = layout or 0
    columns = [
        numbers(
            [words[k] for words in rows], what=f"column {k + 1}", path=options.path, place=place
        )
        for k in range(before, before + 3)
    ]
    places = np.stack(columns, axis=1)
    basis = "three numbers a row were taken as x, y, z of voxels, the first one's centre being 0"
    if layout is not None:
        places = places - IMOD_CENTRE
        named = f" ({_WITH_NUMBERS[before]})" if before else ""
        basis = f"columns{named} as of IMOD's model2point: the first voxel's centre is at ½, ½, 0"
    coordinates_A, size_A = options.in_pixels(places)
    tomograms = options.names(None, len(rows))
    names = ("imodContour",) if before == 1 else ("imodObject", "imodContour")
    return ParticleList(
        coordinates_A,
        None,
        tomograms,
        "points" if layout is None else "imod",
        pixel_size_A=size_A,
        extra_columns={
            name: tuple(words[k] for words in rows) for k, name in enumerate(names[:before])
        },
        problems=find_problems(coordinates_A, None, tomograms, place),
        basis=basis,
        names_stated=True,
    )


def _are_contours(rows: list[list[str]]) -> bool:
    """Whether rows are those of ``model2point -contour`` or ``-object`` in columns of other widths.

    Objects and contours are numbered from 1 and come in their order; coordinates have decimals.
    """
    before = len(rows[0]) - 3
    if before not in (1, 2) or not all(w.isdecimal() for row in rows for w in row[:before]):
        return False
    counts = [tuple(map(int, row[:before])) for row in rows]
    if not all(_DECIMALS.fullmatch(word) for row in rows for word in row[before:]):
        return False
    return min(map(min, counts)) >= 1 and counts == sorted(counts)


def _imod_layout(line: str) -> int | None:
    """How many columns model2point put before x, y, z; None where it did not write the line."""
    for before in range(3):
        start = before * _INDEX
        for width, pattern in _NUMBER_WIDTHS:
            end = start + 3 * width
            if len(line) not in (end, end + _VALUE):
                continue
            parts = [line[at : at + width] for at in range(start, end, width)]
            counts = [line[at : at + _INDEX].strip() for at in range(0, start, _INDEX)]
            if all(map(pattern.fullmatch, parts)) and all(map(str.isdigit, counts)):
                return before
    return None
