"""Particles from copick's JSON files of picks.

Source: copick's ``models.py`` (``CopickPicksFile``, ``CopickPoint``: ``location`` in Å,
``transformation_`` takes object space to tomogram space) and ``util/relion.py`` (the translation
is added to the location).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.spatial.transform import Rotation

from tomadapt.errors import InputError
from tomadapt.io.json_files import json_object
from tomadapt.io.particle_lists.model import (
    Doubles,
    ParticleList,
    ReadOptions,
    agreed_pixel_size_A,
    find_problems,
)

REMEDY = "export the picks from copick again"


def particles_from_copick(text: str, options: ReadOptions) -> ParticleList:
    """Read picks; see :func:`~tomadapt.io.particle_lists.read_particles`."""
    try:
        content = json_object(text, what=str(options.path), remedy=REMEDY)
    except RecursionError as error:
        raise _damaged(options, "JSON of picks", "values nested too deep") from error
    points = content.get("points", None) or []
    if "points" not in content or not isinstance(points, list):
        raise _damaged(options, "a list of points", ", ".join(map(str, list(content)[:10])))
    unit = content.get("unit", "angstrom")
    if unit != "angstrom":
        raise _damaged(options, "the unit angstrom", repr(unit)[:80])
    coordinates_A = np.empty((len(points), 3))
    matrices = np.empty((len(points), 3, 3))
    scores = np.ones(len(points))
    for row, point in enumerate(points):
        try:
            location = point["location"]
            matrix = _matrix(point.get("transformation_"))
            coordinates_A[row] = [float(location[axis]) for axis in "xyz"] + matrix[:3, 3]
            matrices[row] = matrix[:3, :3]
            score = point.get("score", 1.0)
            scores[row] = np.nan if score is None else float(score)
        except (KeyError, TypeError, ValueError, OverflowError, AttributeError) as error:
            what = f"no {error}" if isinstance(error, KeyError) else str(error)
            expected = f"{_place(row)} to be a location with x, y, z, a 4×4 rotation and a score"
            raise _damaged(options, expected, what[:200]) from error
    n = len(points)
    name = content.get("run_name")
    tomograms = options.names((name,) * n if isinstance(name, str) and name else None, n)
    trusted = bool(points) and content.get("trust_orientation", True) is not False
    return ParticleList(
        coordinates_A,
        Rotation.from_matrix(matrices) if trusted else None,
        tomograms,
        "copick",
        classes=(str(content.get("pickable_object_name", "")),) * n,
        scores=scores,
        pixel_size_A=_spacing_A(content, options, n),
        extra_columns=_extra(content, points),
        problems=find_problems(coordinates_A, None, tomograms, _place),
    )


def _place(row: int) -> str:
    return f"point {row + 1}"


def _damaged(options: ReadOptions, expected: str, got: str) -> InputError:
    return InputError(
        f"{options.path} is no file of copick's picks", expected=expected, got=got, remedy=REMEDY
    )


def _matrix(given: Any) -> Doubles:
    """A 4×4 matrix that turns and shifts; anything else would lose a scale or a mirror."""
    if given is None:
        return np.eye(4)
    matrix = np.array(given, dtype=np.float64)
    if matrix.shape != (4, 4) or not np.allclose(matrix[3], [0, 0, 0, 1]):
        raise ValueError("a transformation that is no 4×4 matrix with a last row 0 0 0 1")
    turn = matrix[:3, :3]
    if not np.allclose(turn @ turn.T, np.eye(3), atol=1e-3) or np.linalg.det(turn) < 0:
        raise ValueError("a transformation that scales, shears, mirrors or is not finite")
    return matrix


def _spacing_A(content: dict[str, Any], options: ReadOptions, n: int) -> Doubles | None:
    spacing = content.get("voxel_spacing")
    candidates = {}
    if isinstance(spacing, float) or (isinstance(spacing, int) and abs(spacing) < 1e6):
        candidates["voxel_spacing"] = np.full(n, float(spacing))
    elif options.voxel_size_A is None:
        return None
    return agreed_pixel_size_A(options.path, candidates, options.voxel_size_A, n)


def _extra(content: dict[str, Any], points: list[dict[str, Any]]) -> dict[str, tuple[str, ...]]:
    """What else there is to a point, under names fit for a STAR file."""
    extra = {"copickInstanceId": tuple(str(point.get("instance_id", 0)) for point in points)}
    for key, label in (("user_id", "copickUserId"), ("session_id", "copickSessionId")):
        if key in content:
            extra[label] = (str(content[key]),) * len(points)
    return extra
