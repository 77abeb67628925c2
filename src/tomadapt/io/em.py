"""EM files (TOM toolbox, PyTom, Dynamo): the one reader of their headers and voxels.

The header has 512 bytes: byte 0 the machine, bytes 1 and 2 unused, byte 3 the data type, bytes 4-15
nx, ny, nz as int32, bytes 16-95 a comment, 96-255 forty int32 parameters of the microscope
(programs disagree on them, and none is a dependable voxel size), 256-511 free. The data follow, x
fastest (Hegerl 1996, J. Struct. Biol. 116, 30; TOM toolbox, ``tom_emread``).
"""

from __future__ import annotations

import gzip
import math
import struct
import tempfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from tomadapt.errors import InputError
from tomadapt.runs.atomic import output_error

HEADER_BYTES = 512
KINDS = {1: "i1", 2: "i2", 4: "i4", 5: "f4", 9: "f8"}
"""What each data type holds; the complex ones (8, 10) are refused."""

_MACHINES = ("OS-9", "VAX", "Convex", "SGI", "Sun", "Mac", "PC")
_LITTLE_ENDIAN = ("VAX", "PC")
_PIECE_BYTES = 2**22
# Deflate packs no better than this, so that a small file cannot hold what a large header says.
_DEFLATE_RATIO = 1032


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
    try:
        if not _is_packed(header.path):
            _check_length(header, header.path.stat().st_size)
            with header.path.open("rb") as file:
                return _mapped(header, file)
        with tempfile.TemporaryFile() as unpacked:
            _unpack(header, unpacked)
            return _mapped(header, unpacked)
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
    try:
        # A pipe or a device would be waited for without end.
        if not path.is_file():
            raise InputError(
                f"{path} is no file" if path.exists() else f"{path} does not exist",
                expected="an EM file",
                remedy="check the path",
            )
        with gzip.open(path) if _is_packed(path) else path.open("rb") as file:
            start = bytes(file.read(HEADER_BYTES))
    except (OSError, EOFError, zlib.error, ValueError) as error:
        raise _damaged(path, str(error)) from None
    if len(start) < HEADER_BYTES:
        raise _damaged(path, f"{len(start)} bytes, less than a header of {HEADER_BYTES}")
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


def _is_packed(path: Path) -> bool:
    return path.suffix.lower() == ".gz"


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


def _unpack(header: EmHeader, into: IO[bytes]) -> None:
    """Unpack a file, one byte further than its header says, and check its length."""
    announced = HEADER_BYTES + header.data_bytes
    if announced > _DEFLATE_RATIO * header.path.stat().st_size:
        _check_length(header, 0)
    held = 0
    with gzip.open(header.path) as packed:
        while room := announced + 1 - held:
            try:
                piece = packed.read(min(_PIECE_BYTES, room))
            except (OSError, EOFError, zlib.error) as error:
                raise _damaged(header.path, str(error)) from None
            if not piece:
                break
            held += len(piece)
            try:
                into.write(piece)
                into.flush()
            except OSError as error:
                raise output_error(tempfile.gettempdir(), error) from error
    _check_length(header, held)


def _mapped(header: EmHeader, file: IO[bytes]) -> NDArray[Any]:
    return np.memmap(file, dtype=header.dtype, mode="r", offset=HEADER_BYTES, shape=header.shape)
