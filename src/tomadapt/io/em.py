"""EM files (TOM toolbox, PyTom, Dynamo): the one reader of their headers and voxels.

The header has 512 bytes: byte 0 the machine, bytes 1 and 2 unused, byte 3 the data type, bytes 4-15
nx, ny, nz as int32, bytes 16-95 a comment, 96-255 forty int32 parameters of the microscope
(programs disagree on them, and none is a dependable voxel size), 256-511 free. The data follow, x
fastest (Hegerl 1996, J. Struct. Biol. 116, 30; TOM toolbox, ``tom_emread``).
"""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tomadapt.errors import InputError
from tomadapt.io.guards import header_bytes, plain_file

HEADER_BYTES = 512
KINDS = {1: "i1", 2: "i2", 4: "i4", 5: "f4", 9: "f8"}
"""What each data type holds; the complex ones (8, 10) are refused."""

_MACHINES = ("OS-9", "VAX", "Convex", "SGI", "Sun", "Mac", "PC")
_LITTLE_ENDIAN = ("VAX", "PC")


@dataclass(frozen=True)
class EmHeader:
    """What an EM file says of its voxels.

    Attributes
    ----------
    path
        The file.
    machine
        0 OS-9, 2 Convex, 3 SGI, 4 Sun and 5 Mac are big-endian, 1 VAX and 6 PC little-endian.
    data_type
        1 int8, 2 int16, 4 int32, 5 float32, 9 float64.
    shape
        Voxels along z, y, x.
    """

    path: Path
    machine: int
    data_type: int
    shape: tuple[int, int, int]

    @property
    def dtype(self) -> np.dtype[Any]:
        """The voxels' type in the file."""
        return np.dtype(_byte_order(self.machine) + KINDS[self.data_type])

    @property
    def data_bytes(self) -> int:
        """How many bytes the voxels take."""
        return math.prod(self.shape) * self.dtype.itemsize


def open_em(path: str | Path) -> NDArray[Any]:
    """Open an EM file without reading its voxels.

    Parameters
    ----------
    path
        The file, of any name; one whose name ends in ``.gz`` is unpacked to a nameless temporary
        file first.

    Returns
    -------
    The voxels (nz, ny, nx), z, y, x, as a read-only memory map in the file's own type.

    Raises
    ------
    InputError
        The file is missing or no regular file, is not an EM file of real numbers, or is not
        exactly as long as its header says.
    OutputError
        A packed file finds no room in the folder for temporary files.
    """
    header = read_em_header(path)
    announced = HEADER_BYTES + header.data_bytes
    try:
        with plain_file(header.path, announced, _damaged) as (file, held):
            _check_length(header, held)
            return np.memmap(
                file, dtype=header.dtype, mode="r", offset=HEADER_BYTES, shape=header.shape
            )
    except (OSError, ValueError) as error:
        raise _damaged(header.path, str(error)) from None


def read_em_header(path: str | Path) -> EmHeader:
    """Read and check the header of an EM file, packed with gzip where its name ends in ``.gz``.

    That the file holds the data announced is checked by :func:`open_em`.

    Raises
    ------
    InputError
        The file is missing, or the header is not that of an EM file of real numbers.
    """
    path = Path(path)
    start = header_bytes(path, HEADER_BYTES, "an EM file", _damaged)
    machine, data_type = start[0], start[3]
    if machine >= len(_MACHINES):
        raise _damaged(path, f"machine {machine}, which is none of 0-{len(_MACHINES) - 1}")
    if data_type not in KINDS:
        complex_ = " (complex numbers)" if data_type in (8, 10) else ""
        raise _damaged(path, f"data type {data_type}{complex_}, which is none of {[*KINDS]}")
    nx, ny, nz = struct.unpack_from(_byte_order(machine) + "3i", start, 4)
    if min(nx, ny, nz) < 1:
        raise _damaged(path, f"{nx} × {ny} × {nz} voxels")
    return EmHeader(path, machine, data_type, (nz, ny, nx))


def _byte_order(machine: int) -> str:
    return "<" if _MACHINES[machine] in _LITTLE_ENDIAN else ">"


def _damaged(path: Path, reason: str) -> InputError:
    return InputError(
        f"cannot read {path}: it is not a complete EM volume",
        expected="a whole EM file of real numbers whose header describes its data",
        got=reason,
        remedy="copy or export the file again, or convert it to MRC",
    )


def _check_length(header: EmHeader, held_bytes: int) -> None:
    announced = HEADER_BYTES + header.data_bytes
    if held_bytes != announced:
        shape = " × ".join(map(str, header.shape[::-1]))
        raise _damaged(
            header.path,
            f"{held_bytes} bytes, {'more' if held_bytes > announced else 'fewer'} than the "
            f"{announced} that its header announces ({shape} voxels of {header.dtype.name}, "
            f"written on {_MACHINES[header.machine]})",
        )
