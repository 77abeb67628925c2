"""What a path is, by its name where that tells it and by its first bytes otherwise."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Literal

from tomadapt.errors import ConfigError, InputError, TomadaptError
from tomadapt.inputs.particles import is_simulated
from tomadapt.inputs.tomogram import EM_SUFFIXES, HDF_SUFFIXES, MRC_SUFFIXES, holds_image
from tomadapt.io.em import read_em_header
from tomadapt.io.extracted import is_extracted
from tomadapt.io.hdf import open_hdf
from tomadapt.io.mrc import read_header
from tomadapt.io.particle_lists import read_particles
from tomadapt.io.star import read_text
from tomadapt.io.zipped import zipped_fault
from tomadapt.structures.atoms import MODEL_SUFFIXES

Format = Literal[
    "mrc",
    "em",
    "hdf",
    "zarr",
    "npy",
    "npz",
    "set",
    "extracted",
    "folder",
    "model",
    "structure",
    "toml",
    "tomograms",
    "list",
]

_SUFFIXES: dict[str, Format] = {
    **dict.fromkeys((*MRC_SUFFIXES, ".mrcs"), "mrc"),
    **dict.fromkeys(EM_SUFFIXES, "em"),
    **dict.fromkeys(HDF_SUFFIXES, "hdf"),
    ".npy": "npy",
    ".npz": "npz",
    ".safetensors": "model",
    **dict.fromkeys(MODEL_SUFFIXES, "structure"),
    ".toml": "toml",
}
_STARTS: tuple[tuple[bytes, Format], ...] = (
    (b"\x89HDF\r\n\x1a\n", "hdf"),
    (b"\x93NUMPY", "npy"),
    (b"PK\x03\x04", "npz"),
)
_START_BYTES = 2**16
_LABEL = re.compile(rb"^[ \t]*_(rln|wrp)[A-Z]", re.MULTILINE)
"""A label of RELION's or Warp's at the beginning of a line: a STAR file, whatever its name."""
_COORDINATES = ("rlnCoordinateX", "rlnCenteredCoordinateXAngst", "rlnTomoParticlesFile")


def format_of(path: Path) -> Format:
    """What to read a file or folder as; what is not known otherwise may be a list of particles.

    Raises
    ------
    InputError
        A STAR file cannot be read, or it is a zip archive.
    """
    if path.is_dir():
        if is_simulated(path):
            return "set"
        if is_extracted(path):
            return "extracted"
        return "zarr" if holds_image(path) else "folder"
    with path.open("rb") as file:
        start = file.read(_START_BYTES)
    # Before the name: the commands read a list whatever it is called.
    if _LABEL.search(start):
        return _star(path)
    suffix = Path(path.name.lower().removesuffix(".gz")).suffix
    if suffix in _SUFFIXES:
        kind = _SUFFIXES[suffix]
        # No file of voxels or weights is without zeros at its beginning.
        binary = kind not in ("structure", "toml") and not path.name.lower().endswith(".gz")
        return "list" if binary and b"\0" not in start and _is_list(path) else kind
    if start[208:211] == b"MAP":
        return "mrc"
    if (fault := zipped_fault(path)) is not None:
        raise fault
    for mark, kind in _STARTS:
        if start.startswith(mark):
            return kind
    return _star(path) if suffix == ".star" else "list"


def _is_list(path: Path) -> bool:
    """Whether a text is read as a list of particles; some formats leave sizes to be stated."""
    try:
        return len(read_particles(path, strict=False)) > 0
    except ConfigError:
        return True
    except TomadaptError:
        return False


def _star(path: Path) -> Format:
    """A list of particles, or RELION's of tomograms."""
    try:
        text = read_text(path)
    except InputError:
        return "list"  # whose reader says what it is
    if "_rlnTomoSizeX" in text and not any(f"_{name}" in text for name in _COORDINATES):
        return "tomograms"
    return "list"


def is_tomogram(path: Path, kind: Format) -> bool:
    """Whether a file of volumes is one tomogram and no stack of subtomograms.

    Where a header does not tell, square sections of which there are several times as many as each
    has rows are cubes written one after another; a single cube is taken for a tomogram.

    Raises
    ------
    TomadaptError
        The header cannot be read.
    """
    if kind == "zarr":
        return True
    if kind == "hdf":
        return len(open_hdf(path).volumes) == 1
    if kind == "em":
        nz, ny, nx = read_em_header(path).shape
    elif kind == "mrc":
        header = read_header(path)
        nz, ny, nx = header.stored_shape
        if header.is_volume_stack or path.suffix.lower() == ".mrcs":
            return False
    else:
        return False
    return not (ny == nx and nz > nx and nz % nx == 0)
