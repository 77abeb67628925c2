"""Particles from EMAN2's ``info.json``: its boxes of a tomogram.

Source: cryoem/eman2, ``programs/e2spt_boxer.py`` (boxes are X, Y, Z of the centre, method, score,
class; with ``apix_unbin`` they count in pixels of that size from voxel ``n // 2`` of the tomogram,
without it in its voxels from the first one) and ``programs/e2spt_tempmatch.py``.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tomadapt.errors import InputError, MismatchError
from tomadapt.io.particle_lists.model import (
    Doubles,
    ParticleList,
    ReadOptions,
    find_problems,
)

BOXES, UNBINNED = "boxes_3d", "apix_unbin"
_OUTSIDE = 0.02
_ENDING = "_info.json"


def particles_from_eman2(content: dict[str, Any], options: ReadOptions) -> ParticleList:
    """Read boxes; see :func:`~tomadapt.io.particle_lists.read_particles`."""
    boxes = content[BOXES]
    if not isinstance(boxes, list):
        raise _damaged(options, f"a list as {BOXES}", repr(boxes)[:80])
    rows = [_box(options, number, box) for number, box in enumerate(boxes, start=1)]
    n = len(rows)
    places = np.array([row[:3] for row in rows], dtype=np.float64).reshape(n, 3)
    sizes_A = {}
    if UNBINNED in content:
        try:
            sizes_A[UNBINNED] = np.full(n, float(content[UNBINNED]))
        except (TypeError, ValueError, OverflowError) as error:
            got = repr(content[UNBINNED])[:80]
            raise _damaged(options, f"a size in Å as {UNBINNED}", got) from error
    coordinates_A, size_A = options.in_pixels(places, sizes_A)
    basis = ""
    if sizes_A and n:
        coordinates_A = _from_centre(coordinates_A, options)
        basis = (
            f"coordinates count from the tomogram's centre in pixels of {size_A[0]:g} Å, as "
            f"{UNBINNED} in EMAN2's file says"
        )
    tomograms = (_tomogram(options),) * n
    return ParticleList(
        coordinates_A,
        None,
        tomograms,
        "eman2",
        classes=tuple(_class_name(content, row[5]) for row in rows),
        scores=np.array([row[4] for row in rows], dtype=np.float64),
        pixel_size_A=size_A,
        extra_columns={"eman2Method": tuple(row[3] for row in rows)},
        problems=find_problems(coordinates_A, None, tomograms, _place),
        basis=basis,
    )


def _place(row: int) -> str:
    return f"box {row + 1}"


def _damaged(options: ReadOptions, expected: str, got: str) -> InputError:
    return InputError(
        f"{options.path}, an info file of EMAN2's, is damaged",
        expected=expected,
        got=got,
        remedy="save the boxes again in EMAN2",
    )


def _box(
    options: ReadOptions, number: int, box: object
) -> tuple[float, float, float, str, float, str]:
    """X, y, z, method, score and class of a box, of which EMAN2 needs the first three."""
    try:
        if not isinstance(box, list):
            raise TypeError(f"{box!r}")
        x, y, z = (float(value) for value in box[:3])
        method = str(box[3]) if len(box) > 3 else "manual"
        score = float(box[4]) if len(box) > 4 else 0.0
        return x, y, z, method, score, str(int(box[5])) if len(box) > 5 else "0"
    except (TypeError, ValueError, OverflowError) as error:
        expected = f"box {number} to be x, y, z, method, score and class"
        raise _damaged(options, expected, str(error)[:200]) from error


def _from_centre(offsets_A: Doubles, options: ReadOptions) -> Doubles:
    """Places from the first voxel, of those from the tomogram's voxel n // 2."""
    extent_A = options.known_extent_A(f"boxes in {options.path} count from the tomogram's centre")
    voxel_A = options.tomogram_voxel_A
    centre_A = extent_A / 2
    if voxel_A is not None:
        centre_A = np.round(extent_A / voxel_A) // 2 * voxel_A
    found = offsets_A + centre_A
    if _outside(found, extent_A) > _OUTSIDE and _outside(offsets_A, extent_A) == 0:
        raise MismatchError(
            f"the boxes in {options.path} contradict themselves",
            expected=f"coordinates from the tomogram's centre, as {UNBINNED} in the file says",
            got=f"{_outside(found, extent_A):.0%} of them outside of the tomogram; counted from "
            "its first voxel all lie inside",
            remedy=f"open and save them in EMAN2, or take {UNBINNED} out of the file if they count "
            "in voxels of the tomogram from its first one",
        )
    return found


def _outside(coordinates_A: Doubles, extent_A: Doubles) -> float:
    return float(((coordinates_A < 0) | (coordinates_A > extent_A)).any(axis=1).mean())


def _tomogram(options: ReadOptions) -> str:
    """EMAN2 names the file by the tomogram, without what follows two underscores."""
    stated = options.tomogram or ""
    name = options.path.name
    if not name.endswith(_ENDING):
        return stated
    own = name.removesuffix(_ENDING)
    return stated if stated.split("__", 1)[0] == own else own


def _class_name(content: dict[str, Any], number: str) -> str:
    classes = content.get("class_list")
    entry = classes.get(number) if isinstance(classes, dict) else None
    name = entry.get("name") if isinstance(entry, dict) else entry
    return name if isinstance(name, str) else number
