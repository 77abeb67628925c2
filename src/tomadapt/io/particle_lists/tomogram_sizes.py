"""RELION's STAR file of tomograms (``tomograms.star``): the size of each and of its pixels."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from tomadapt.errors import InputError
from tomadapt.io.particle_lists.model import Doubles, missing_columns, numbers
from tomadapt.io.star import StarDocument, StarTable

SIZES = ("rlnTomoSizeX", "rlnTomoSizeY", "rlnTomoSizeZ")
TILT_SERIES = "rlnTomoTiltSeriesPixelSize"


def require_once(table: StarTable, where: Path) -> None:
    """Refuse two rows of one tomogram's name: series of two sessions that nothing tells apart.

    Raises
    ------
    InputError
        Naming the rows.
    """
    first: dict[str, int] = {}
    for row, name in enumerate(table.column("rlnTomoName")):
        if first.setdefault(name, row) != row:
            raise InputError(
                f"{where} has the tomogram {name[:80]!r} twice",
                expected="each rlnTomoName once",
                got=f"lines {table.line_of(first[name])} and {table.line_of(row)}",
                remedy="rename one of them there and in the particles, or give one session's files",
            )


def stated_sizes(document: StarDocument, where: Path) -> dict[str, tuple[Doubles, float | None]]:
    """What RELION's STAR file of tomograms says of each: size in pixels xyz, Å a pixel.

    Parameters
    ----------
    document, where
        The file, and its path for messages.

    Raises
    ------
    InputError
        When it has no sizes.
    """
    table = next((t for t in document.tables if all(s in t for s in SIZES)), None)
    if table is None or "rlnTomoName" not in table:
        there = [label for t in document.tables for label in t.labels]
        raise missing_columns(where, ["rlnTomoName", *SIZES], there)

    def place(row: int) -> str:
        return f"row {row + 1} (line {table.line_of(row)})"

    require_once(table, where)
    labels = [*SIZES, *([TILT_SERIES] if TILT_SERIES in table else [])]
    columns = [numbers(table.column(c), what=c, path=where, place=place) for c in labels]
    return {
        name: (np.array(row[:3]), float(row[3]) if len(row) > 3 else None)
        for name, *row in zip(table.column("rlnTomoName"), *columns, strict=True)
    }
