"""Particles from annotations of the CryoET Data Portal: a JSON object a line.

Source: chanzuckerberg/cryoet-data-portal-backend, in ``ingestion_tools/scripts``:
``common/point_converter.py`` (``type``, ``location``, ``xyz_rotation_matrix``, ``instance_id``; the
matrix made of RELION's angles is their inverse, which is our ``R``) and
``data_validation/standardized/tests/annotation/helper_point.py`` (coordinates go from 0 to the
tomogram's size − 1, in its voxels).
"""

from __future__ import annotations

import numpy as np
from scipy.spatial.transform import Rotation

from tomadapt.errors import InputError
from tomadapt.io.particle_lists.model import (
    Doubles,
    ParticleList,
    ReadOptions,
    find_problems,
    rotation_matrix,
)
from tomadapt.runs.json_files import json_object

TYPES = ("point", "orientedPoint", "instancePoint")
MATRIX = "xyz_rotation_matrix"
_REMEDY = "download the annotation again"


def looks_like_portal(line: str) -> bool:
    """Whether a line is an annotation; a copick file on one line has ``points`` in it."""
    named = any(f'"{name}"' in line for name in ("location", *TYPES))
    return line.startswith("{") and named and '"points"' not in line


def particles_from_portal(text: str, options: ReadOptions) -> ParticleList:
    """Read annotations; see :func:`~tomadapt.io.particle_lists.read_particles`."""
    lines: list[int] = []
    places: list[list[float]] = []
    matrices: list[Doubles] = []
    instances: list[str] = []
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip():
            continue
        what = f"{options.path}, line {number}, an annotation of the CryoET Data Portal,"
        point = json_object(line, what=what, remedy=_REMEDY)
        try:
            location = point["location"]
            places.append([float(location[axis]) for axis in "xyz"])
            if MATRIX in point or point.get("type") == "orientedPoint":
                matrices.append(rotation_matrix(point[MATRIX]))
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise InputError(
                f"{what} is damaged",
                expected=f"a location with x, y, z, and {MATRIX} of an orientedPoint",
                got=(f"no {error}" if isinstance(error, KeyError) else str(error))[:200],
                remedy=_REMEDY,
            ) from error
        lines.append(number)
        instances.append(str(point.get("instance_id", "")))
    n = len(places)
    if len(matrices) not in (0, n):
        raise InputError(
            f"{options.path}, annotations of the CryoET Data Portal, are of two kinds",
            expected=f"{MATRIX} in every line, or in none",
            got=f"{len(matrices)} of {n}",
            remedy="split the file",
        )

    def place(row: int) -> str:
        return f"line {lines[row]}"

    coordinates_A, size_A = options.in_pixels(np.array(places).reshape(n, 3))
    tomograms = options.names(None, n)
    return ParticleList(
        coordinates_A,
        Rotation.from_matrix(np.stack(matrices)) if matrices else None,
        tomograms,
        "portal",
        pixel_size_A=size_A,
        extra_columns={"portalInstanceId": tuple(instances)} if any(instances) else {},
        problems=find_problems(coordinates_A, None, tomograms, place),
        names_stated=True,
    )
