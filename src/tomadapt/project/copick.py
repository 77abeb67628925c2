"""copick projects and the CryoET Data Portal's folders: runs, voxel spacings, tomogram types.

Sources: copick (commit 369fb63), ``impl/filesystem.py`` (``ExperimentRuns/RUN/VoxelSpacing10.000/
TYPE.zarr`` below the static or the overlay root; folders with ``features`` in their names are none)
and ``models.py`` (the configuration). A copick project says nothing of the tilt series.
"""

from __future__ import annotations

import re
from pathlib import Path

from tomadapt.errors import InputError
from tomadapt.project.claims import Claims
from tomadapt.project.model import TomogramEntry
from tomadapt.project.reading import json_of, take_volume, text_of

RUNS = "ExperimentRuns"
SPACING = re.compile(r"VoxelSpacing(\d+(?:\.\d+)?)")
PLAIN_TYPE = "wbp"
"""The reconstruction without denoising, which is taken before other types of the same spacing."""


def is_copick_config(path: Path) -> bool:
    """Whether a JSON file is the configuration of a copick project.

    Raises
    ------
    InputError
        When it cannot be read.
    """
    return path.suffix == ".json" and '"pickable_objects"' in text_of(path, kind="JSON file")


def copick_roots(path: Path) -> list[Path]:
    """The folders of a project on this machine: the static one, then the overlay.

    Raises
    ------
    InputError
        When the configuration is damaged, or names no folder on this machine.
    """
    config = json_of(path, "mend it")
    told = [config.get(key) for key in ("static_root", "overlay_root")]
    roots = []
    for url in told:
        if isinstance(url, str) and ("://" not in url or url.startswith(("local://", "file://"))):
            root = Path(url.partition("://")[2] if "://" in url else url).expanduser()
            root = root if root.is_absolute() else path.parent / root
            if (root / RUNS).is_dir():
                roots.append(root)
    if not roots:
        raise InputError(
            f"{path} names no folder of a copick project on this machine",
            expected=f"static_root or overlay_root with the folder {RUNS}",
            got=", ".join(str(url) for url in told if url) or "neither",
            remedy="copy the project here and mend the paths",
        )
    return list(dict.fromkeys(roots))


def read_copick(roots: list[Path], root: Path) -> list[TomogramEntry]:
    """Read the runs of a copick project.

    Of several volumes of a run that with the largest voxels is taken, and of one spacing the type
    ``wbp`` before others; the others are listed.

    Parameters
    ----------
    roots
        The folders in which ``ExperimentRuns`` lies.
    root
        The project's folder, from which files are named.

    Raises
    ------
    InputError
        When a file says what cannot be.
    """
    runs: dict[str, list[tuple[float, bool, str, Path]]] = {}
    for base in roots:
        for run in sorted(path for path in (base / RUNS).iterdir() if path.is_dir()):
            if run.name.startswith("."):
                continue
            known = runs.setdefault(run.name, [])
            for folder, spacing in spacings(run):
                for zarr in sorted(folder.glob("*.zarr")):
                    if "features" not in zarr.name and not zarr.name.startswith("."):
                        known.append((-spacing, zarr.stem != PLAIN_TYPE, zarr.stem, zarr))
    entries = []
    for name, found in sorted(runs.items()):
        claims = Claims(name, root)
        volumes = [path for *_, path in sorted(found)]
        if volumes:
            state_spacing(claims, volumes[0].parent)
        take_volume(claims, volumes)
        entries.append(claims.entry())
    return entries


def spacings(run: Path) -> list[tuple[Path, float]]:
    """The folders ``VoxelSpacing…`` of a run, and their voxel sizes in Å."""
    return [
        (folder, float(found[1]))
        for folder in sorted(run.glob("VoxelSpacing*"))
        if folder.is_dir() and (found := SPACING.fullmatch(folder.name))
    ]


def state_spacing(claims: Claims, folder: Path) -> None:
    """State the voxel size that a folder's name has."""
    if found := SPACING.fullmatch(folder.name):
        claims.state("voxel_size_A", float(found[1]), folder, "name")
