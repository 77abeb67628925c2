"""What RELION's STAR files of tomograms share: files that they name, and rows of matrices."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from tomadapt.errors import InputError
from tomadapt.io.particle_lists.model import Doubles, numbers
from tomadapt.io.star import StarTable

SERIES_FILE = "rlnTomoTiltSeriesStarFile"
"""The column that names the file of a tomogram's images."""


def located(name: str, star: Path) -> Path:
    """A file that a STAR file names: beside it, or in the project's folder somewhere above it."""
    folders = (star.parent, *star.absolute().parents, Path())
    return next((folder / name for folder in folders if (folder / name).exists()), Path(name))


def triples(table: StarTable, label: str, path: Path) -> Doubles:
    """(n, 3) the first three numbers of a column of lists such as ``[0,1,0,0]``.

    Parameters
    ----------
    table, label
        The table, which must have the column.
    path
        Its file, for errors.

    Raises
    ------
    InputError
        When a list is too short or a word in it is no number.
    """
    rows = [text.strip("[]").split(",")[:3] for text in table.column(label)]
    short = next((row for row, entries in enumerate(rows) if len(entries) < 3), None)
    if short is not None:
        raise InputError(
            f"{path}, {table.place(short)}: {label} is no row of a matrix",
            expected="a list such as [0,1,0,0]",
            got=repr(table.column(label)[short][:80]),
            remedy="export the tomograms again",
        )
    columns = [
        numbers([row[axis] for row in rows], what=label, path=path, place=table.place)
        for axis in range(3)
    ]
    return np.stack(columns, axis=1)
