"""Particles from Dynamo's tables: rows of numbers without names.

Sources, in Dynamo's wiki: ``Table convention`` (columns and angles) and ``Volume center``
(coordinates count from the corner of the first pixel, so a voxel's centre has a half in them).
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
    rotations_from,
)

_NAMES = (
    "Tag Aligned Averaged Dx Dy Dz Tdrot Tilt Narot Cc Cc2 Cpu Ftype Ymintilt Ymaxtilt Xmintilt "
    "Xmaxtilt Fs1 Fs2 Tomo Reg Class Annotation X Y Z Dshift Daxis Dnarot Dcc Otag Npar 33 Ref "
    "Sref Apix Def"
)
COLUMNS = tuple(_NAMES.split())
USED = {"Dx", "Dy", "Dz", "Tdrot", "Tilt", "Narot", "Tomo", "Class", "X", "Y", "Z"}


_MOST_COLUMNS = 1000
_PART = r"(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?"
_COMPLEX = re.compile(rf"([+-]?(?:{_PART}|NaN|Inf))([+-]{_PART})i")
_NO_IMAGINARY = 1e-3
"""Matlab writes all of a number when one of its parts was complex, as rounding may make it."""


def looks_like_dynamo(line: str) -> bool:
    """Whether a line is a row of a table: 26 to 1000 numbers and nothing else."""
    words = line.split(maxsplit=_MOST_COLUMNS)
    return 26 <= len(words) <= _MOST_COLUMNS and all(
        _COMPLEX.fullmatch(word) or is_number(word) for word in words
    )


def particles_from_dynamo(text: str, options: ReadOptions) -> ParticleList:
    """Read a table; see :func:`~tomadapt.io.particle_lists.read_particles`.

    The coordinates are ``(x + dx − ½)`` voxels of the tomogram that was cropped.
    """
    lines = [
        (n, line.split(maxsplit=_MOST_COLUMNS)) for n, line in enumerate(text.splitlines(), start=1)
    ]
    rows = [(n, words) for n, words in lines if words]
    for number, words in rows:
        if len(words) != len(rows[0][1]) or len(words) < 26:
            raise InputError(
                f"{options.path}, line {number}, is no row of a Dynamo table",
                expected=f"{max(26, len(rows[0][1]))} numbers",
                got=f"{len(words)} words; the file may be cut off",
                remedy="export the table again",
            )

    place = place_by_lines([number for number, _ in rows])

    def texts(column: int) -> tuple[str, ...]:
        return tuple(_real(words[column - 1]) for _, words in rows)

    def triple(first: int) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
        columns = range(first, first + 3)
        parts = [
            numbers(texts(c), what=f"column {c}", path=options.path, place=place) for c in columns
        ]
        return np.stack(parts, axis=1)

    # All numbers first: a row that is wrong is told even where the pixel size is unknown.
    places, angles = triple(24) + triple(4) - 0.5, triple(7)
    scores = numbers(texts(10), what="column 10", path=options.path, place=place)
    coordinates_A, size_A = options.in_pixels(places)
    tomograms = tuple(_whole(word) for word in texts(20))
    if options.tomogram is not None and len(set(tomograms)) == 1:
        tomograms = (options.tomogram,) * len(rows)  # a number is all that a table can say
    names = [*COLUMNS, *map(str, range(len(COLUMNS) + 1, len(rows[0][1]) + 1))]
    extra = {
        f"dynamo{name}": texts(column)
        for column, name in zip(range(1, len(rows[0][1]) + 1), names, strict=False)
        if name not in USED
    }
    return ParticleList(
        coordinates_A,
        rotations_from(angles, "zxz"),
        tomograms,
        "dynamo",
        classes=tuple(_whole(word) for word in texts(22)),
        scores=scores,
        pixel_size_A=size_A,
        extra_columns=extra,
        problems=find_problems(coordinates_A, angles, tomograms, place),
    )


def _real(word: str) -> str:
    """The real part of a complex number that has no more than that; any other word as it is."""
    parts = _COMPLEX.fullmatch(word)
    if parts is None or abs(float(parts[2])) > _NO_IMAGINARY:
        return word
    return parts[1]


def _whole(word: str) -> str:
    """A number that counts, without what a table's format put behind it; zeros before it stay."""
    try:
        value = float(word)
    except ValueError:
        return word
    return word if word.isdigit() or not value.is_integer() else str(int(value))
