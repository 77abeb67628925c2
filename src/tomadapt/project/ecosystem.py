"""Which program a folder or a file is of, and its tomograms."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from pydantic import ValidationError

from tomadapt.errors import ConfigError, InputError
from tomadapt.project.aretomo import read_aretomo
from tomadapt.project.copick import RUNS, copick_roots, is_copick_config, read_copick
from tomadapt.project.imod import ANGLES, MDOCS, read_imod
from tomadapt.project.model import Project, TomogramEntry, told
from tomadapt.project.portal import portal_runs, read_portal
from tomadapt.project.reading import files_below
from tomadapt.project.relion import read_relion, tomograms_file
from tomadapt.project.warp import read_warp, series_files

EXPECTED = (
    "a folder or STAR file of RELION 4 or 5, or a folder of WarpTools, AreTomo, IMOD, copick or "
    "the CryoET Data Portal"
)
_TOMOGRAMS = re.compile(r"(.*_)?tomograms\.star")
_SERIES = re.compile(r".*tilt_series.*\.star")
_JOB = re.compile(r"job(\d+)")


def import_project(path: Path | str) -> Project:
    """Read what a project's files say of its tomograms.

    Parameters
    ----------
    path
        A folder; RELION's ``tomograms.star``, its STAR file of tilt series or an optimisation set;
        a copick configuration; or a ``.tomostar`` or ``.aln``, which stands for its folder.

    Returns
    -------
    Project
        With an entry a tomogram. Damaged files of single tomograms are told in their entries.

    Raises
    ------
    InputError
        When it is nothing of these, has no tomograms, or the file that lists them is damaged.
    ConfigError
        When it has several STAR files of tomograms and nothing tells which is the last.
    """
    path = Path(path).absolute()
    if not path.exists():
        raise InputError(f"{path} does not exist", expected=EXPECTED, remedy="check the path")
    root = path if path.is_dir() else path.parent
    notes: list[str] = []
    found = _of_folder(path, notes) if path.is_dir() else _of_file(path)
    ecosystem, entries = found.program, found.read()
    if not entries:
        raise InputError(
            f"{path} has no tomograms of {ecosystem}", expected=EXPECTED, remedy="check the path"
        )
    try:
        return Project(
            ecosystem=ecosystem,
            folder=root,
            tomograms_star=found.star,
            notes=tuple(notes),
            tomograms=tuple(entries),
        )
    except ValidationError as error:
        raise InputError(
            f"{path} cannot be one project",
            got=told(error),
            remedy="import the folders one by one",
        ) from None


def program_of(path: Path) -> str | None:
    """Which program a folder or a file is a project of; None for none."""
    try:
        return (_of_folder(path, []) if path.is_dir() else _of_file(path)).program
    except ConfigError:
        return "RELION"  # with several lists of tomograms
    except InputError:
        return None


class _Found(NamedTuple):
    """A program, how its tomograms are read, and its STAR file of them."""

    program: str
    read: Callable[[], list[TomogramEntry]]
    star: Path | None = None


def _of_file(path: Path) -> _Found:
    root = path.parent
    if path.suffix == ".star":
        found = tomograms_file(path)
        if found is not None:
            return _Found("RELION", lambda: read_relion(found, root), found)
    elif path.suffix == ".json" and is_copick_config(path):
        roots = copick_roots(path)
        return _Found("copick", lambda: read_copick(roots, root))
    elif path.suffix in (".tomostar", ".settings"):
        return _Found("WarpTools", lambda: read_warp(root, root))
    elif path.suffix == ".aln":
        return _Found("AreTomo", lambda: read_aretomo(root, root))
    raise InputError(
        f"{path} is no file of a project that is known",
        expected=EXPECTED,
        got="a STAR file without tomograms" if path.suffix == ".star" else f"a file {path.name}",
        remedy="give the project's folder, or the STAR file of its tomograms",
    )


def _of_folder(folder: Path, notes: list[str]) -> _Found:
    """What the folder is; what else it could be is noted."""
    found: list[_Found] = []
    configs = [p for p in files_below(folder, (".json",), deepest=0) if _is_config(p)]
    if configs:
        found.append(_Found("copick", lambda: read_copick(copick_roots(configs[0]), folder)))
    elif (folder / RUNS).is_dir():
        found.append(_Found("copick", lambda: read_copick([folder], folder)))
    if portal_runs(folder):
        found.append(_Found("the CryoET Data Portal", lambda: read_portal(folder, folder)))
    if files_below(folder, (".tomostar",)) or series_files(folder):
        found.append(_Found("WarpTools", lambda: read_warp(folder, folder)))
    star = _tomograms_below(folder, notes)
    if star is not None:
        found.append(_Found("RELION", lambda: read_relion(star, folder), star))
    if files_below(folder, (".aln",), deepest=2):
        found.append(_Found("AreTomo", lambda: read_aretomo(folder, folder)))
    if files_below(folder, (*ANGLES, *MDOCS), deepest=2):
        found.append(_Found("IMOD", lambda: read_imod(folder, folder)))
    if not found:
        raise InputError(
            f"{folder} is no project that is known",
            expected=EXPECTED,
            got="no tomograms.star, .tomostar, .aln, .tlt, .rawtlt, .mdoc, "
            f"{RUNS} or Reconstructions",
            remedy="check the path, or give the STAR file of the tomograms",
        )
    if len(found) > 1:
        others = ", ".join(other.program for other in found[1:])
        notes.append(f"read as a project of {found[0].program}; it has files of {others}, too")
    return found[0]


def _is_config(path: Path) -> bool:
    try:
        return is_copick_config(path)
    except InputError:  # some other program's file, in whatever state
        return False


def _tomograms_below(folder: Path, notes: list[str]) -> Path | None:
    """The STAR file of tomograms of the last job; or that of tilt series, where there is no other.

    Raises
    ------
    ConfigError
        When there are several and nothing tells which is the last.
    """
    stars = files_below(folder, (".star",))
    for pattern in (_TOMOGRAMS, _SERIES):
        found = [
            path
            for path in stars
            if pattern.fullmatch(path.name) and path.parent.name != "tilt_series"
        ]
        if not found:
            continue
        at_top = [path for path in found if path.parent == folder]
        ranked = sorted(at_top or found, key=_job)
        if len(ranked) > 1 and _job(ranked[-1]) == _job(ranked[-2]):
            raise ConfigError(
                f"{folder} has several STAR files of tomograms",
                expected="one, or one of the last job",
                got=", ".join(str(path.relative_to(folder)) for path in ranked[-4:]),
                remedy="give the path of the file itself",
            )
        if len(found) > 1:
            notes.append(
                f"read {ranked[-1].relative_to(folder)}, the last of {len(found)} such files"
            )
        return ranked[-1]
    return None


def _job(path: Path) -> int:
    """The number of RELION's job that a file is of; -1 for none."""
    numbers = [int(found[1]) for part in path.parts if (found := _JOB.fullmatch(part))]
    return numbers[-1] if numbers else -1
