"""Folders of cubes: which files are particles, and which lie beside them.

RELION writes a volume of weights beside each particle (``_data.mrc`` and ``_weights.mrc``, see its
``src/jaz/tomography/programs/subtomo.cpp``), Warp one of the CTF (``_ctf_``); people add averages,
half maps and masks.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tomadapt.errors import InputError

SUFFIXES = (".mrc", ".map", ".em")

TRANSFER = "a CTF or weight volume by its name"
_NAMES = (
    (TRANSFER, re.compile(r"(?:^|[_.-])(?:3d)?(?:ctf|ctfs|weight|weights|wgt|wedge)(?:[_.-]|$)")),
    ("a mask by its name", re.compile(r"(?:^|[_.-])(?:mask|fscmask)\d*(?:[_.-]|$)")),
    (
        "an average or a half map by its name",
        re.compile(
            r"(?:^|[_.-])(?:average|avg|reference|half[_-]?[12ab]?|halfmap[_-]?[12ab]?|unfil)"
            r"(?:[_.-]|$)|^run_.*class\d{3}"
        ),
    ),
)
_SYMMETRIC = 0.999
_TWO_VALUES = 0.6
_SMOOTH = 0.1
_FEWEST = 5
_SHOWN = 3


@dataclass(frozen=True)
class CubeFolder:
    """The files of a folder of cubes.

    Attributes
    ----------
    particles
        In the order of their names.
    left_out
        What is no particle → why.
    """

    particles: tuple[Path, ...]
    left_out: dict[Path, str] = field(default_factory=dict)

    def without(self, more: dict[Path, str]) -> CubeFolder:
        """The same with some of the particles left out, too."""
        kept = tuple(path for path in self.particles if path not in more)
        return CubeFolder(kept, {**self.left_out, **more})

    @property
    def text(self) -> str:
        """What is left out, by reason, with a few names each; empty where nothing is."""
        parts = []
        for reason in dict.fromkeys(self.left_out.values()):
            names = [path.name for path, why in self.left_out.items() if why == reason]
            more = f" … ({len(names)} in all)" if len(names) > _SHOWN else ""
            parts.append(f"{', '.join(names[:_SHOWN])}{more}: {reason}")
        return "; ".join(parts)


def cube_folder(folder: Path) -> CubeFolder:
    """The maps in a folder, particles apart from what their names say is none.

    Files such as ``._p1.mrc``, which macOS leaves there, are passed over. A kind of name that half
    of the files or more have is that of the particles, unless each has a partner without the mark.

    Raises
    ------
    InputError
        There are no maps, or those of two formats.
    """
    maps = (path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES)
    files = sorted(path for path in maps if not path.name.startswith("."))
    if not files:
        inside = sorted(p.name for p in folder.iterdir() if not p.name.startswith("."))[:_FEWEST]
        raise InputError(
            f"no .mrc or .em cubes in {folder}",
            expected="at least one",
            got=", ".join(inside) or "an empty folder",
            remedy="check the folder, or name the files or the folders of cubes in it",
        )
    found = CubeFolder(tuple(files), _by_name(files))
    found = CubeFolder(tuple(f for f in files if f not in found.left_out), found.left_out)
    of_em = sum(file.suffix.lower() == ".em" for file in found.particles)
    if 0 < of_em < len(found.particles):
        raise InputError(
            f"cubes of two formats in {folder}",
            expected=".mrc or .em",
            got=f"{len(found.particles) - of_em} .mrc and {of_em} .em files",
            remedy="move those aside that are no particles",
        )
    return found


def _by_name(files: Sequence[Path]) -> dict[Path, str]:
    left_out: dict[Path, str] = {}
    for reason, pattern in _NAMES:
        named = [f for f in files if f not in left_out and pattern.search(f.stem.lower())]
        others = {_unmarked(f, None) for f in files if f not in named}
        if reason == TRANSFER and named and all(_unmarked(f, pattern) in others for f in named):
            pass  # each lies beside its particle
        elif 2 * len(named) >= len(files):
            continue
        left_out.update(dict.fromkeys(named, reason))
    return left_out


def _unmarked(file: Path, pattern: re.Pattern[str] | None) -> str:
    """A name without the mark of a CTF volume, or without that of its particle."""
    stem = file.stem.lower()
    stem = re.sub(r"_data$", "", stem) if pattern is None else pattern.sub("_", stem)
    return stem.strip("_.-")


def read_cube_folder(
    folder: Path, read: Callable[[Path], NDArray[Any]]
) -> tuple[CubeFolder, NDArray[np.float32]]:
    """Read the cubes of a folder, and leave out what is no particle, with a warning that lists it.

    Parameters
    ----------
    folder
        See :func:`cube_folder`.
    read
        Gives what a file holds.

    Returns
    -------
    The files, and the cubes (n, d, d, d) of the particles.

    Raises
    ------
    InputError
        As for :func:`cube_folder`; when a file is no cube like the others.
    """
    found = cube_folder(folder)
    read_all = {path: read(path) for path in found.particles}
    half = {
        path: "half of a Fourier transform, as CTF and weight volumes are"
        for path, data in read_all.items()
        if data.ndim == 3 and data.shape[0] == data.shape[1] == 2 * (data.shape[2] - 1)
    }
    if len(half) < len(read_all):
        found = found.without(half)
    cubes: list[NDArray[np.float32]] = []
    for path in found.particles:
        data = read_all.pop(path)
        if data.ndim != 3 or len({*data.shape, *(cubes[0].shape if cubes else ())}) != 1:
            raise InputError(
                f"{path} is not a cube like the others",
                expected=cubes[0].shape if cubes else "three equal sides",
                got=data.shape,
                remedy="extract all particles with one box, or move it away if it is no particle",
            )
        cubes.append(np.asarray(data, dtype=np.float32))
    odd = _by_content(found.particles, cubes)
    kept = [cube for path, cube in zip(found.particles, cubes, strict=True) if path not in odd]
    found = found.without(odd)
    if found.left_out:
        warnings.warn(f"in {folder}, no particles and left out: {found.text}", stacklevel=3)
    if smooth := _smooth(found.particles, kept):
        warnings.warn(
            f"in {folder}, {', '.join(p.name for p in smooth[:_SHOWN])} have far less noise than "
            "the others and are taken for particles all the same: move them away if they are "
            "averages",
            stacklevel=3,
        )
    return found, np.stack(kept)


def _by_content(paths: Sequence[Path], cubes: Sequence[NDArray[np.float32]]) -> dict[Path, str]:
    """What is no particle by its voxels → why; nothing where all files are alike in that."""
    found: dict[Path, str] = {}
    for path, cube in zip(paths, cubes, strict=True):
        if is_mask(cube):
            found[path] = "a mask by its values, of which most are 0 or 1"
        elif is_point_symmetric(cube):
            found[path] = "the same in opposite directions, as CTF and weight volumes are"
    return found if len(found) < len(cubes) else {}


def is_mask(cube: NDArray[np.float32]) -> bool:
    """Whether all values are between 0 and 1, and most of them one of both."""
    low, high = float(cube.min()), float(cube.max())
    if low < 0 or high > 1 + 1e-3 or high < 0.9:
        return False
    ends = (cube < 1e-3) | (cube > 1 - 1e-3)
    return bool(ends.mean() > _TWO_VALUES)


def is_point_symmetric(cube: NDArray[np.float32]) -> bool:
    """Whether opposite voxels are alike about the centre, or about the first voxel as FFTs count.

    The power of no real particle is: it has noise.
    """
    values = cube.astype(np.float64) - cube.mean(dtype=np.float64)
    total = float(np.vdot(values, values))
    if not total > 0:
        return False
    opposite = values[::-1, ::-1, ::-1]
    about = [opposite, np.roll(opposite, 1, axis=(0, 1, 2))]
    return any(float(np.vdot(values, other)) > _SYMMETRIC * total for other in about)


def _smooth(paths: Sequence[Path], cubes: Sequence[NDArray[np.float32]]) -> list[Path]:
    """Cubes whose neighbouring voxels differ far less than those of the others, as in averages."""
    if len(cubes) < _FEWEST:
        return []
    steps = np.array([float(np.diff(cube, axis=2).std()) for cube in cubes])
    few = steps < _SMOOTH * np.median(steps)
    return [path for path, is_few in zip(paths, few, strict=True) if is_few]
