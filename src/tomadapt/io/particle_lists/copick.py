"""Particles from and as copick's JSON files of picks.

Source: copick's ``models.py`` (``CopickPicksFile``, ``CopickPoint``: ``location`` in Å,
``transformation_`` takes object space to tomogram space), ``util/relion.py`` (the translation
is added to the location), ``impl/filesystem.py`` (names of files) and ``util/escape.py`` (names of
objects).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy.spatial.transform import Rotation

from tomadapt.errors import ConfigError, InputError
from tomadapt.io.particle_lists.columns import checked_rows
from tomadapt.io.particle_lists.model import (
    Doubles,
    ParticleList,
    ReadOptions,
    agreed_pixel_size_A,
    find_problems,
    rotation_matrix,
)
from tomadapt.io.voxel_sizes import require_positive_A
from tomadapt.runs.atomic import output_folder, write_json

_POINT = "a location with x, y, z, a 4×4 rotation and a score"
REMEDY = "export the picks from copick again"
USER, SESSION = "tomadapt", "0"
"""Who picked; ``0`` is copick's session of a program."""


def particles_from_copick(content: dict[str, Any], options: ReadOptions) -> ParticleList:
    """Read picks; see :func:`~tomadapt.io.particle_lists.read_particles`."""
    points = content.get("points") or []
    if "points" not in content or not isinstance(points, list):
        raise _damaged(options, "a list of points", ", ".join(map(str, list(content)[:10])))
    unit = content.get("unit", "angstrom")
    if unit != "angstrom":
        raise _damaged(options, "the unit angstrom", repr(unit)[:80])
    # Before anything is allocated for as many: a point is short, a place for it is not.
    odd = next((n for n, p in enumerate(points) if not (isinstance(p, dict) and p)), None)
    if odd is not None:
        raise _damaged(options, f"{_place(odd)} to be {_POINT}", repr(points[odd])[:80])
    coordinates_A = np.empty((len(points), 3))
    matrices = np.empty((len(points), 3, 3))
    scores = np.ones(len(points))
    for row, point in enumerate(points):
        try:
            location = point["location"]
            given = point.get("transformation_")
            matrix = np.eye(4) if given is None else rotation_matrix(given, side=4)
            coordinates_A[row] = [float(location[axis]) for axis in "xyz"] + matrix[:3, 3]
            matrices[row] = matrix[:3, :3]
            score = point.get("score", 1.0)
            scores[row] = np.nan if score is None else float(score)
        except (KeyError, TypeError, ValueError, OverflowError, AttributeError) as error:
            what = f"no {error}" if isinstance(error, KeyError) else str(error)
            raise _damaged(options, f"{_place(row)} to be {_POINT}", what[:200]) from error
    n = len(points)
    name = content.get("run_name")
    named = isinstance(name, str) and name != ""
    tomograms = options.names((str(name),) * n if named else None, n)
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
        in_angstrom=True,
        names_stated=not named,
    )


def _place(row: int) -> str:
    return f"point {row + 1}"


def _damaged(options: ReadOptions, expected: str, got: str) -> InputError:
    return InputError(
        f"{options.path} is no file of copick's picks", expected=expected, got=got, remedy=REMEDY
    )


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


def write_copick(
    folder: Path | str,
    particles: ParticleList,
    class_names: Sequence[str],
    *,
    scores: Sequence[float] | None = None,
    rows: Sequence[int] | None = None,
    voxel_size_A: float | None = None,
) -> list[Path]:
    r"""Write particles as copick's picks, a file for each object of each tomogram.

    The files are ``<tomogram>/Picks/<user>_<session>_<object>.json``, as in the folder
    ``ExperimentRuns`` of a copick project; one that is there is replaced, others are left alone.
    Points have the location in Å, the pose as a 4×4 matrix (``trust_orientation`` is false where
    the list has none), the score, and as ``instance_id`` the row of the list, counted from 1.

    Parameters
    ----------
    folder
        Where the tomograms' folders are, or are made.
    class_names
        n names, one for *each* particle of the list. copick allows no blanks, underscores and
        ``<>:"/\|?*`` in an object's name, so they become dashes. Its project's file has to list
        these objects.
    scores
        n scores; those of the list when None. Where neither is known copick takes 1.
    rows
        Which particles; all of them when None.
    voxel_size_A
        Of the tomograms that were picked in; copick names their ``voxel_spacing`` by it.

    Returns
    -------
    The files, in the order in which their first particles stand in the list.

    Raises
    ------
    ConfigError
        When a particle has no name or cannot be used (``problems``), two names become the same,
        or numbers do not fit.
    OutputError
        When a file cannot be written.
    """
    n = len(particles)
    kept = checked_rows(rows, n)
    given = particles.scores if scores is None else np.asarray(scores, dtype=np.float64)
    if len(class_names) != n or (given is not None and given.shape != (n,)):
        got = f"{len(class_names)} names, {'no' if given is None else given.shape} scores"
        raise ConfigError(f"picks for {folder}", expected=f"a name and a score for {n}", got=got)
    if voxel_size_A is not None:
        require_positive_A(folder, voxel_size_A)
    _require_usable(particles, kept, given)
    objects = _distinct_names("class", (class_names[row] for row in kept), _object_name)
    runs = _distinct_names("tomogram", (particles.tomograms[row] for row in kept), _run_name)
    groups: dict[tuple[str, str], list[int]] = {}
    for row in kept:
        groups.setdefault((particles.tomograms[row], class_names[row]), []).append(row)
    written = []
    for (tomogram, class_name), members in groups.items():
        content = {
            "pickable_object_name": objects[class_name],
            "user_id": USER,
            "session_id": SESSION,
            "run_name": tomogram,
            "voxel_spacing": voxel_size_A,
            "unit": "angstrom",
            "points": _points(particles, given, members),
            "trust_orientation": particles.rotations is not None,
        }
        picks = output_folder(Path(folder) / runs[tomogram] / "Picks")
        path = picks / f"{USER}_{SESSION}_{objects[class_name]}.json"
        write_json(path, content)
        written.append(path)
    return written


def _points(particles: ParticleList, scores: Doubles | None, rows: list[int]) -> list[Any]:
    matrices = np.tile(np.eye(4), (len(rows), 1, 1))
    if particles.rotations is not None:
        matrices[:, :3, :3] = particles.rotations[rows].as_matrix()
    points = []
    for row, matrix in zip(rows, matrices, strict=True):
        point = {
            "location": dict(zip("xyz", particles.coordinates_A[row].tolist(), strict=True)),
            "transformation_": matrix.tolist(),
            "instance_id": row + 1,
        }
        if scores is not None:
            point["score"] = None if np.isnan(scores[row]) else float(scores[row])
        points.append(point)
    return points


def _require_usable(particles: ParticleList, rows: Sequence[int], scores: Doubles | None) -> None:
    reasons = {problem.row: problem.reason for problem in particles.problems}
    finite = np.atleast_1d(np.isfinite(particles.coordinates_A).all(axis=1))
    if scores is not None:
        finite &= ~np.isinf(scores)
    bad = [row for row in rows if row in reasons or not finite[row]]
    if bad:
        raise ConfigError(
            f"{len(bad)} particles cannot be written as copick's picks",
            expected="finite coordinates, angles and scores, and each particle once",
            got="; ".join(reasons.get(row, f"row {row + 1} is not finite") for row in bad[:5]),
            remedy="leave these rows out",
        )


def _object_name(name: str) -> str:
    return re.sub(r'[<>:"/\\|?*\x00-\x1f\x7f\s_]', "-", name).strip("-")


def _run_name(name: str) -> str:
    return re.sub(r'[<>:"/\\|?*\x00-\x1f\x7f]', "-", name).strip(" .-")


def _distinct_names(
    kind: str, names: Iterable[str], renamed: Callable[[str], str]
) -> dict[str, str]:
    """What each name becomes; two that become the same, or one that vanishes, raise ConfigError."""
    found: dict[str, str] = {}
    first: dict[str, str] = {}
    for name in names:
        if name in found:
            continue
        new = found[name] = renamed(name)
        if not new or not new.isprintable() or first.setdefault(new, name) != name:
            raise ConfigError(
                f"the {kind} {name[:80]!r} cannot be named in copick",
                expected="names that differ in more than blanks, underscores and signs",
                got=f"{first[new]!r} too" if new in first else "nothing that can be kept of it",
                remedy=f"rename the {kind}",
            )
    return found
