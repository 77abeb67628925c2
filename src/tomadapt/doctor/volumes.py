"""Tomograms: what their headers say, and what their voxels tell."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator
from pathlib import Path

from tomadapt.data.tomogram import Tomogram
from tomadapt.doctor.density import (
    contrast_finding,
    measured,
    sample_findings,
    spectrum_findings,
    spread_blocks,
)
from tomadapt.doctor.findings import Finding, note, ok, problem, warning
from tomadapt.doctor.kinds import Format
from tomadapt.doctor.structures import map_findings
from tomadapt.errors import ConfigError
from tomadapt.inputs.tomogram import open_tomogram
from tomadapt.io.em import read_em_header
from tomadapt.io.hdf import open_hdf
from tomadapt.io.mrc import MrcHeader, read_header
from tomadapt.io.ome_zarr import FEW_MISSING, NOT_STORED, open_ome_zarr
from tomadapt.io.voxel_sizes import LARGEST_A, NAMED_OTHERWISE, SMALLEST_A
from tomadapt.structures.atoms import bare_name
from tomadapt.structures.maps import MAP_SUFFIXES
from tomadapt.tomograms.names import plain_name
from tomadapt.tomograms.spectrum import tomogram_power

STATE_VOXEL_SIZE = "give --voxel-size in Å to the commands that read it"
_STANDS_FOR_UNKNOWN_A = 1.0


def tomogram_findings(path: Path, kind: Format) -> Iterator[Finding]:
    """What is known of a tomogram.

    Raises
    ------
    TomadaptError
        What the reader refuses; findings that came before it stand.
    """
    yield from header_findings(path, kind)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("ignore")  # of other packages, which are for programmers
        warnings.simplefilter("always", UserWarning)
        warnings.filterwarnings("ignore", NOT_STORED)  # chunks have their own finding
        tomogram, size_A = _opened(path)
    if told:
        yield warning("told", "; ".join(dict.fromkeys(str(w.message) for w in told)))
    yield voxel_size_finding(
        size_A, can_be_known=kind != "em", state=f"{STATE_VOXEL_SIZE}{_of_map(path)}"
    )
    yield _name(path, tomogram.name)
    yield shape_finding(tomogram.shape)
    sample = measured(spread_blocks(tomogram))
    yield from sample_findings(sample, math.prod(tomogram.shape))
    if not sample.low < sample.high:
        return
    yield from spectrum_findings(lambda: tomogram_power(tomogram), size_A)
    yield contrast_finding(tomogram, size_A)
    yield from map_findings(path, tomogram.shape, size_A)


def _name(path: Path, name: str) -> Finding:
    """What lists call the tomogram."""
    plain = plain_name(name)
    also = "" if plain == name else f" or {plain!r}"
    text = f"in lists of particles, the tomogram of file {path.name} is called {name!r}{also}"
    return ok("name", text, name)


def _opened(path: Path) -> tuple[Tomogram, float | None]:
    """The tomogram with its own sign, and its voxel size where the file knows it."""
    try:
        tomogram = open_tomogram(path, contrast="positive")
    except ConfigError:
        # Unknown is its size, or a package is missing, which is then said again.
        warnings.filterwarnings("ignore", NAMED_OTHERWISE)
        stand_in = open_tomogram(path, contrast="positive", voxel_size_A=_STANDS_FOR_UNKNOWN_A)
        return stand_in, None
    return tomogram, tomogram.voxel_size_A


def shape_finding(shape: tuple[int, ...]) -> Finding:
    """Voxels along z, y, x, of one or of n volumes."""
    return ok("shape", f"{' × '.join(map(str, shape))} voxels (z, y, x)", list(shape))


def _of_map(path: Path) -> str:
    """How the voxel size is stated where a file is the map of a structure."""
    if bare_name(path)[1] not in MAP_SUFFIXES:
        return ""
    return f"; where it is the map of a structure, name it {path.name}@8.1A, with its own size"


def voxel_size_finding(
    size_A: float | None, *, can_be_known: bool, state: str = STATE_VOXEL_SIZE
) -> Finding:
    """The voxel size in Å; without one the commands refuse the file, whatever its format."""
    if size_A is not None and not SMALLEST_A < size_A < LARGEST_A:
        text = f"voxels of {size_A:g} Å cannot be"
        return problem("voxel_size", text, size_A, remedy=f"mend the header, or {state}")
    if size_A is not None:
        return ok("voxel_size", f"voxels of {size_A:g} Å", size_A)
    if can_be_known:
        text = "the voxel size is unknown: the file has none, or 0 or 1 Å, which nobody set"
        return problem("voxel_size", text, remedy=f"mend the header, or {state}")
    text = "the voxel size is unknown: files of this format hold none"
    return problem("voxel_size", text, remedy=state)


def header_findings(path: Path, kind: Format) -> Iterator[Finding]:
    """What the header of a file of volumes says.

    Raises
    ------
    TomadaptError
        When it cannot be read.
    """
    if kind == "mrc":
        yield from _mrc(read_header(path))
    elif kind == "em":
        em = read_em_header(path)
        yield ok("format", f"EM, {em.dtype.name}, written on machine {em.machine}", "EM")
        yield ok("voxel_type", em.dtype.name, em.dtype.name)
    elif kind == "hdf":
        stack = open_hdf(path)
        count = "one volume" if len(stack) == 1 else f"{len(stack)} volumes"
        yield ok("format", f"HDF5 of EMAN2's layout, {count}", "HDF5")
        stored = stack.volumes[0].stored_dtype.name
        packed = "" if stack.volumes[0].dtype.name == stored else ", packed to few bits"
        yield ok("voxel_type", f"{stored}{packed}", stored)
    elif kind == "zarr":
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", NOT_STORED)
            image = open_ome_zarr(path)
        version = "0.5" if image.array.metadata.zarr_format == 3 else "0.4"
        yield ok("format", f"OME-Zarr {version}, finest level", f"OME-Zarr {version}")
        yield ok("voxel_type", image.dtype.name, image.dtype.name)
        missing, chunks = image.missing_chunks()
        text = f"{missing} of {chunks} chunks are not stored and have the fill value"
        value = {"missing": missing, "of": chunks}
        if missing is None:
            yield ok("chunks", f"{chunks} chunks; whether all are stored was not counted", value)
        elif missing:
            remedy = "copy it again if it was downloaded in part"
            level = warning if missing > FEW_MISSING * chunks else note
            yield level("chunks", text, value, remedy=remedy)
        else:
            yield ok("chunks", f"{chunks} chunks", value)


def _mrc(header: MrcHeader) -> Iterator[Finding]:
    order = "little-endian" if header.byte_order == "<" else "big-endian"
    yield ok("format", f"MRC, {order}", "MRC")
    unsigned = ""
    if header.mode == 0 and header.unsigned:
        unsigned = ", unsigned by IMOD's flag or the extremes in the header"
    elif header.mode != 0 and header.unsigned is not None:
        unsigned = ", by the extremes in the header, which contradict the mode"
    name = header.dtype.name
    yield ok("voxel_type", f"mode {header.mode} ({name}{unsigned})", name)
    sizes = header.voxel_sizes_A
    text = f"{' × '.join(f'{size:g}' for size in sizes)} Å along x, y, z in the header"
    even = max(sizes) - min(sizes) <= 1e-3 * max(sizes)
    yield (ok if even else note)("header_voxel_sizes", text, list(sizes))
    x, y, z = header.origin_A
    if any(header.origin_A):
        text = f"origin {x:g}, {y:g}, {z:g} (x, y, z), which coordinates here do not count from"
        yield note("origin", text, list(header.origin_A))
    else:
        yield ok("origin", "origin 0, 0, 0", [0.0, 0.0, 0.0])
    if header.axes != (1, 2, 3):
        named = ", ".join("xyz"[axis - 1] for axis in header.axes)
        text = f"columns, rows and sections are along {named}; they are turned when read"
        yield note("axes", text, list(header.axes))
    yield _space_group(header)
    count = header.extended_bytes
    yield ok("extended_header", f"{count} bytes of extended header" if count else "none", count)
    labels = list(header.labels)
    yield ok("labels", " | ".join(labels) or "none", labels)


def _space_group(header: MrcHeader) -> Finding:
    group = header.space_group
    if header.is_volume_stack:
        return ok("space_group", f"space group {group}: a stack of volumes", group)
    if header.is_image_stack and header.stored_shape[0] > 1:
        text = "space group 0: a stack of images by its header, as many programs write of volumes"
        return note("space_group", text, 0, remedy="make sure that it is no tilt series")
    return ok("space_group", f"space group {group}: one volume", group)
