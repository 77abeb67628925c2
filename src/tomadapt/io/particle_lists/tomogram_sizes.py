"""RELION's STAR file of tomograms (``tomograms.star``): the size of each and of its pixels."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from tomadapt.errors import InputError
from tomadapt.io.particle_lists.model import Doubles, missing_columns, numbers
from tomadapt.io.star import StarDocument, StarTable

SIZES = ("rlnTomoSizeX", "rlnTomoSizeY", "rlnTomoSizeZ")
TILT_SERIES = "rlnTomoTiltSeriesPixelSize"


def table_of_tomograms(document: StarDocument, where: Path) -> StarTable:
    """The table with the sizes of tomograms, each of another name.

    Raises
    ------
    InputError
        When there is none, or two rows have one name: series of two sessions that nothing tells
        apart.
    """
    table = next((t for t in document.tables if all(s in t for s in SIZES)), None)
    if table is None or "rlnTomoName" not in table:
        there = [label for t in document.tables for label in t.labels]
        raise missing_columns(where, ["rlnTomoName", *SIZES], there)
    first: dict[str, int] = {}
    for row, name in enumerate(table.column("rlnTomoName")):
        if first.setdefault(name, row) != row:
            raise InputError(
                f"{where} has the tomogram {name[:80]!r} twice",
                expected="each rlnTomoName once",
                got=f"lines {table.line_of(first[name])} and {table.line_of(row)}",
                remedy="rename one of them there and in the particles, or give one session's files",
            )
    return table


def stated_sizes(document: StarDocument, where: Path) -> dict[str, tuple[Doubles, float | None]]:
    """What RELION's STAR file of tomograms says of each: size in pixels xyz, Å a pixel.

    Parameters
    ----------
    document, where
        The file, and its path for messages.

    Raises
    ------
    InputError
        As for :func:`table_of_tomograms`.
    """
    table = table_of_tomograms(document, where)
    labels = [*SIZES, *([TILT_SERIES] if TILT_SERIES in table else [])]
    columns = [numbers(table.column(c), what=c, path=where, place=table.place) for c in labels]
    return {
        name: (np.array(row[:3]), float(row[3]) if len(row) > 3 else None)
        for name, *row in zip(table.column("rlnTomoName"), *columns, strict=True)
    }
