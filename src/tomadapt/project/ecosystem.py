"""Which program a folder or a file is of, and its tomograms."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

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
    ecosystem, read = _of_folder(path, notes) if path.is_dir() else _of_file(path)
    entries = read()
    if not entries:
        raise InputError(
            f"{path} has no tomograms of {ecosystem}", expected=EXPECTED, remedy="check the path"
        )
    try:
        return Project(
            ecosystem=ecosystem, folder=root, notes=tuple(notes), tomograms=tuple(entries)
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
        return (_of_folder(path, []) if path.is_dir() else _of_file(path))[0]
    except ConfigError:
        return "RELION"  # with several lists of tomograms
    except InputError:
        return None


Reader = Callable[[], list[TomogramEntry]]


def _of_file(path: Path) -> tuple[str, Reader]:
    root = path.parent
    if path.suffix == ".star":
        found = tomograms_file(path)
        if found is not None:
            return "RELION", lambda: read_relion(found, root)
    elif path.suffix == ".json" and is_copick_config(path):
        roots = copick_roots(path)
        return "copick", lambda: read_copick(roots, root)
    elif path.suffix in (".tomostar", ".settings"):
        return "WarpTools", lambda: read_warp(root, root)
    elif path.suffix == ".aln":
        return "AreTomo", lambda: read_aretomo(root, root)
    raise InputError(
        f"{path} is no file of a project that is known",
        expected=EXPECTED,
        got="a STAR file without tomograms" if path.suffix == ".star" else f"a file {path.name}",
        remedy="give the project's folder, or the STAR file of its tomograms",
    )


def _of_folder(folder: Path, notes: list[str]) -> tuple[str, Reader]:
    """What the folder is; what else it could be is noted."""
    found: list[tuple[str, Reader]] = []
    configs = [p for p in files_below(folder, (".json",), deepest=0) if _is_config(p)]
    if configs:
        found.append(("copick", lambda: read_copick(copick_roots(configs[0]), folder)))
    elif (folder / RUNS).is_dir():
        found.append(("copick", lambda: read_copick([folder], folder)))
    if portal_runs(folder):
        found.append(("the CryoET Data Portal", lambda: read_portal(folder, folder)))
    if files_below(folder, (".tomostar",)) or series_files(folder):
        found.append(("WarpTools", lambda: read_warp(folder, folder)))
    star = _tomograms_below(folder, notes)
    if star is not None:
        found.append(("RELION", lambda: read_relion(star, folder)))
    if files_below(folder, (".aln",), deepest=2):
        found.append(("AreTomo", lambda: read_aretomo(folder, folder)))
    if files_below(folder, (*ANGLES, *MDOCS), deepest=2):
        found.append(("IMOD", lambda: read_imod(folder, folder)))
    if not found:
        raise InputError(
            f"{folder} is no project that is known",
            expected=EXPECTED,
            got="no tomograms.star, .tomostar, .aln, .tlt, .rawtlt, .mdoc, "
            f"{RUNS} or Reconstructions",
            remedy="check the path, or give the STAR file of the tomograms",
        )
    if len(found) > 1:
        others = ", ".join(name for name, _ in found[1:])
        notes.append(f"read as a project of {found[0][0]}; it has files of {others}, too")
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
