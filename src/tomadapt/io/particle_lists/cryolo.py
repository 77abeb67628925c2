"""Particles from crYOLO's boxes in three dimensions, ``.cbox`` files, which are STAR files.

Source: MPI-Dortmund/napari-boxmanager, ``src/box_manager/io/cbox.py``: X and Y are of the corner of
the box, Z is of its centre (a slice of the tomogram), all in voxels; what is unknown is ``<NA>``.
"""

from __future__ import annotations

import numpy as np

from tomadapt.errors import InputError
from tomadapt.io.particle_lists.model import (
    Doubles,
    ParticleList,
    ReadOptions,
    find_problems,
    missing_columns,
    numbers,
)
from tomadapt.io.star import StarDocument, StarTable

PLACES = ("CoordinateX", "CoordinateY", "CoordinateZ")
_UNKNOWN = "<NA>"
_USED = (*PLACES, "Confidence")


def cryolo_table(document: StarDocument) -> StarTable | None:
    """The table of boxes, where there is one."""
    found = [table for table in document.tables if any(label in table for label in PLACES)]
    return next((t for t in found if t.block == "cryolo"), found[0] if found else None)


def particles_from_cryolo(table: StarTable, options: ReadOptions) -> ParticleList:
    """Read boxes; see :func:`~tomadapt.io.particle_lists.read_particles`."""
    needed = (*PLACES, "Width", "Height")
    if missing := [label for label in needed if label not in table]:
        raise missing_columns(options.path, missing, table.labels, of="crYOLO's boxes")
    n = len(table)
    if n and all(text == _UNKNOWN for text in table.column("CoordinateZ")):
        raise InputError(
            f"{options.path} has crYOLO's boxes of images",
            expected="boxes of a tomogram, with CoordinateZ",
            got=f"{_UNKNOWN} in every row",
            remedy="give the boxes that crYOLO traced in three dimensions",
        )

    def column(label: str) -> Doubles:
        texts = ["nan" if text == _UNKNOWN else text for text in table.column(label)]
        return numbers(texts, what=label, path=options.path, place=table.place)

    x, y, z = (column(label) for label in PLACES)
    places = np.stack([x + column("Width") / 2, y + column("Height") / 2, z], axis=1)
    scores = column("Confidence") if "Confidence" in table else None
    coordinates_A, size_A = options.in_pixels(places)
    tomograms = options.names(None, n)
    return ParticleList(
        coordinates_A,
        None,
        tomograms,
        "cryolo",
        scores=scores,
        pixel_size_A=size_A,
        extra_columns={
            f"cryolo{label.lstrip('_')}": table.column(label)
            for label in table.labels
            if label not in _USED
        },
        problems=find_problems(coordinates_A, None, tomograms, table.place),
        names_stated=True,
    )
