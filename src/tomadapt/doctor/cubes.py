"""Subtomograms: stacks, folders and arrays of cubes, and simulated sets."""

from __future__ import annotations

import math
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tomadapt.data.subtomograms import Subtomograms
from tomadapt.doctor.density import contrast_of, measured, sample_findings, spectrum_findings
from tomadapt.doctor.findings import Finding, note, ok, problem, warning
from tomadapt.doctor.kinds import Format
from tomadapt.doctor.volumes import header_findings, shape_finding, voxel_size_finding
from tomadapt.errors import ConfigError, InputError
from tomadapt.inputs.particles import (
    CONTRADICTED,
    ArrayVolumes,
    as_stack,
    measured_contrast,
    open_target,
    require_cubes,
)
from tomadapt.io.arrays import find_cubes, open_npy
from tomadapt.io.cube_folders import cube_folder
from tomadapt.io.em import open_em
from tomadapt.io.extracted import CUBES, read_extracted
from tomadapt.io.hdf import open_hdf
from tomadapt.io.mrc import open_mrc
from tomadapt.io.particle_lists import read_particles
from tomadapt.io.voxel_sizes import NAMED_OTHERWISE
from tomadapt.simulate.dataset import open_set
from tomadapt.tomograms.spectrum import cubes_power

_MOST_CUBES, _MOST_VOXELS = 500, 2**24
_WHOLE_VOXELS = 2**27
_CLEAR_ERRORS = 3.0
_CAN_HOLD_SIZE = ("mrc", "hdf")

Cubes = NDArray[np.float32]


@dataclass(frozen=True)
class CubeFile:
    """Cubes of which single ones can be read.

    Attributes
    ----------
    shape
        (n, d, d, d).
    voxel_size_A
        In Å, or None where the file does not know it.
    read
        Gives some of the cubes, by rows in ascending order.
    """

    shape: tuple[int, ...]
    voxel_size_A: float | None
    read: Callable[[Sequence[int]], Cubes]


def subtomogram_findings(path: Path, kind: Format) -> Iterator[Finding]:
    """What is known of a file or folder of cubes, from a sample of them.

    Raises
    ------
    TomadaptError
        What the reader refuses; findings that came before it stand.
    """
    if kind == "set":
        yield from _of_set(path)
        return
    if kind == "extracted":
        yield from _of_extracted(path)
        return
    yield from header_findings(path, kind)
    if kind in ("npy", "npz", "folder"):
        yield ok("format", {"npy": "NumPy array", "npz": "NumPy archive"}.get(kind, "folder"), kind)
    file = _opened(path, kind)
    n, box = file.shape[0], file.shape[-1]
    can_hold = kind in _CAN_HOLD_SIZE
    if kind == "folder":
        found = cube_folder(path)
        can_hold = found.particles[0].suffix.lower() != ".em"
        if found.left_out:
            yield note("left_out", f"no particles and left out: {found.text}", len(found.left_out))
    yield voxel_size_finding(file.voxel_size_A, can_be_known=can_hold)
    yield _particles(n, box)
    yield shape_finding(file.shape)
    cubes = file.read(_rows(n, box))
    yield from _voxels(cubes, math.prod(file.shape), file.voxel_size_A)
    if math.prod(file.shape) <= _WHOLE_VOXELS:
        yield from _accepted(path, file.voxel_size_A)


def _of_set(path: Path) -> Iterator[Finding]:
    data = open_set(path)
    yield ok("format", "set simulated by tomadapt", "set")
    yield voxel_size_finding(data.voxel_size_A, can_be_known=True)
    yield _particles(len(data), data.box)
    counts = Counter(np.asarray(data.labels).tolist())
    by_name = {name: counts[index] for index, name in enumerate(data.class_names)}
    yield ok("classes", ", ".join(f"{name} {n}" for name, n in by_name.items()), by_name)
    if data.acquisition is not None:
        yield ok("acquisition", f"acquisition {data.acquisition.name}", data.acquisition.name)
    cubes = data.read(_rows(len(data), data.box)).numpy()
    yield from _voxels(cubes, len(data) * data.box**3, data.voxel_size_A, signed=True)


def _of_extracted(path: Path) -> Iterator[Finding]:
    """A folder of ``tomadapt extract``: its card, its cubes, and whether its list fits them."""
    cubes, card = read_extracted(path)
    yield ok("format", "particles extracted by tomadapt", "extracted")
    yield voxel_size_finding(card.voxel_size_A, can_be_known=True)
    yield _particles(len(cubes), card.box)
    yield ok("tomogram", f"cut out of {card.tomogram}", card.tomogram)
    yield ok("contrast_of_tomogram", f"{card.contrast}; the cubes are positive", card.contrast)
    file = _of_array(path / CUBES, cubes, card.voxel_size_A)
    yield shape_finding(file.shape)
    yield from _voxels(file.read(_rows(*file.shape[:2])), cubes.size, card.voxel_size_A)
    if cubes.size <= _WHOLE_VOXELS:
        yield from _accepted(path, card.voxel_size_A)
    rows = _listed_rows(path / "particles.star")
    if rows == len(cubes):
        yield ok("rows", "particles.star has a row for each cube", rows)
    else:
        text = f"particles.star has {rows} rows for {len(cubes)} cubes"
        yield problem("rows", text, rows, remedy="extract them again")


def _listed_rows(path: Path) -> int:
    """How many particles a list has; where they are does not matter, nor what that rests on."""
    extent_A = (1.0, 1.0, 1.0)
    try:
        return len(read_particles(path, extent_A=extent_A, strict=False))
    except ConfigError:
        return len(read_particles(path, extent_A=extent_A, voxel_size_A=1.0, strict=False))


def _particles(n: int, box: int) -> Finding:
    return ok("particles", f"{n} cubes of {box} voxels a side", {"count": n, "box": box})


def _rows(n: int, box: int) -> list[int]:
    """Rows spread over all, so many that the sample stays small."""
    count = min(n, _MOST_CUBES, max(1, _MOST_VOXELS // box**3))
    rows: list[int] = np.unique(np.linspace(0, n - 1, count).round().astype(int)).tolist()
    return rows


def _voxels(
    cubes: Cubes, total: int, voxel_size_A: float | None, *, signed: bool = False
) -> Iterator[Finding]:
    """Values, spectrum, wedge and sign of a sample; ``signed`` where the sign is known."""
    sample = measured(cubes)
    yield from sample_findings(sample, total)
    varying = np.array([bool(np.isfinite(c).all() and c.min() < c.max()) for c in cubes])
    if not varying.any():
        return
    usable = Subtomograms(ArrayVolumes(cubes[varying], voxel_size_A or 1.0))
    yield from spectrum_findings(lambda: cubes_power(usable), voxel_size_A)
    if not signed:
        errors = measured_contrast(usable)
        sign = int(np.sign(errors)) if abs(errors) >= _CLEAR_ERRORS else 0
        side = "brighter" if errors > 0 else "darker"
        text = f"centres are {side} than their surroundings by {abs(errors):.1f} standard errors"
        yield contrast_of(sign, text if sign else f"undecided: {text}")


def _accepted(path: Path, voxel_size_A: float | None) -> Iterator[Finding]:
    """Whether the reader of the other commands takes the file, and what it tells of its voxels."""
    stated = None if voxel_size_A else 1.0
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        warnings.filterwarnings("ignore", CONTRADICTED)  # the sign has its own finding
        if stated is not None:  # it stands for an unknown one
            warnings.filterwarnings("ignore", NAMED_OTHERWISE)
        data = open_target(path, voxel_size_A=stated, contrast="positive")
    if told:
        yield warning("told", "; ".join(str(w.message) for w in told))
    yield ok("readable", f"all {len(data)} cubes can be used")


def _opened(path: Path, kind: Format) -> CubeFile:
    if kind == "mrc":
        header, mapped = open_mrc(path)
        size = header.cubic_voxel_size_A()
        return _of_array(path, mapped, None if size is None else float(np.float32(size)))
    if kind == "em":
        return _of_array(path, open_em(path), None)
    if kind == "hdf":
        stack = open_hdf(path)
        require_cubes(path, stack.shape)
        return CubeFile(
            stack.shape, stack.voxel_size_A, lambda rows: _single(stack[np.array(rows)])
        )
    if kind == "npz":
        return _of_archive(path)
    if kind == "folder":
        return _of_folder(path)
    return _of_array(path, open_npy(path), None)


def _single(values: Any) -> Cubes:
    with np.errstate(over="ignore"):  # what overflows is counted as infinite
        return np.asarray(values, dtype=np.float32)


def _of_array(path: Path, data: NDArray[Any], size_A: float | None) -> CubeFile:
    data = as_stack(path, data)
    return CubeFile(data.shape, size_A, lambda rows: _single(data[list(rows)]))


def _of_archive(path: Path) -> CubeFile:
    """The one array of cubes in an archive, which is not unpacked for it."""
    cubes = find_cubes(path)
    require_cubes(path, cubes.shape)
    if cubes.in_columns or cubes.dtype.kind not in "fiu":
        order = " in Fortran's order" if cubes.in_columns else ""
        remedy = "save it as float32 in C order"
        got = f"voxels of type {cubes.dtype}{order}"
        raise InputError(f"{path} cannot be looked into", got=got, remedy=remedy)
    return CubeFile(cubes.shape, None, lambda rows: cubes.read_rows(list(rows)))


def _of_folder(path: Path) -> CubeFile:
    """The files that names tell to be particles; content is looked at where all are read."""
    found = cube_folder(path)

    def one(file: Path) -> CubeFile:
        return _opened(file, "em" if file.suffix.lower() == ".em" else "mrc")

    first = one(found.particles[0])

    def read(rows: Sequence[int]) -> Cubes:
        cubes = np.empty((len(rows), *first.shape[1:]), np.float32)
        for place, row in enumerate(rows):
            file = one(found.particles[row])
            if file.shape != first.shape:
                raise InputError(
                    f"{found.particles[row]} is not a cube like the others",
                    expected=first.shape[1:],
                    got=file.shape,
                    remedy="extract all particles with one box",
                )
            cubes[place] = file.read([0])[0]
        return cubes

    return CubeFile((len(found.particles), *first.shape[1:]), first.voxel_size_A, read)
