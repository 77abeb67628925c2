"""NumPy's files: one array (``.npy``), or the one array of cubes among several (``.npz``).

``np.load`` would wait for a pipe that never ends, and allocate what a header announces.
"""

from __future__ import annotations

import math
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tomadapt.errors import InputError
from tomadapt.io.guards import ratio_fault, require_file

# NumPy's own have 128 bytes; Python's parser, which reads them, is not made for hostile ones.
_LONGEST_HEADER = 1000


@dataclass(frozen=True)
class ArchivedCubes:
    """The one array (n, d, d, d) of an archive.

    Attributes
    ----------
    path, member
        The archive, and the name of the array's file in it.
    shape, dtype, in_columns
        What its header says; ``in_columns`` is Fortran's order.
    start
        Where its elements begin in the unpacked file, in bytes.
    """

    path: Path
    member: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    in_columns: bool
    start: int

    def read(self) -> NDArray[Any]:
        """All of it.

        Raises
        ------
        InputError
            Its bytes are damaged.
        """
        with _opened(self.path) as archive, archive.open(self.member) as file:
            return np.lib.format.read_array(
                file, allow_pickle=False, max_header_size=_LONGEST_HEADER
            )

    def read_rows(self, rows: list[int]) -> NDArray[np.float32]:
        """Some cubes, by rows in ascending order, as float32; the others are not kept.

        Raises
        ------
        InputError
            Its bytes are damaged.
        """
        one = self.shape[1:]
        cube_bytes = math.prod(one) * self.dtype.itemsize
        cubes = np.empty((len(rows), *one), np.float32)
        with _opened(self.path) as archive, archive.open(self.member) as file:
            for place, row in enumerate(rows):
                file.seek(self.start + row * cube_bytes)
                values = np.frombuffer(file.read(cube_bytes), self.dtype)
                with np.errstate(over="ignore"):  # what overflows becomes infinite
                    cubes[place] = values.reshape(one)
        return cubes


def open_npy(path: Path) -> NDArray[Any]:
    """Map an array read-only.

    Raises
    ------
    InputError
        The file is missing, no regular file, or holds no whole array of plain values.
    """
    require_file(path, "a whole .npy array")
    try:
        # Not np.load: it would also open an archive, or a pickle, under this name.
        return np.lib.format.open_memmap(path, mode="r", max_header_size=_LONGEST_HEADER)
    except Exception as error:  # a damaged header makes Python's parser raise anything
        raise _damaged(path, ".npy array", error) from None


def find_cubes(path: Path) -> ArchivedCubes:
    """Find the array of cubes in an archive by the headers of all; nothing else is unpacked.

    Raises
    ------
    InputError
        The file is missing, damaged or no regular file; it does not hold exactly one array of four
        dimensions; or that array's length is not what its header says, or implausible.
    """
    require_file(path, "a whole .npz archive")
    found = []
    with _opened(path) as archive:
        for info in archive.infolist():
            if info.filename.endswith(".npy"):
                cubes = _header(path, archive, info.filename)
                if len(cubes.shape) == 4:
                    found.append((cubes, info))
    if len(found) != 1:
        names = ", ".join(cubes.member.removesuffix(".npy") for cubes, _ in found)
        raise InputError(
            f"{path} must hold exactly one array (n, d, d, d)",
            expected="one",
            got=f"{len(found)} ({names or 'none'})",
            remedy="save the one to be labelled as .npy",
        )
    ((cubes, info),) = found
    _check_length(cubes, info)
    return cubes


def _header(path: Path, archive: zipfile.ZipFile, name: str) -> ArchivedCubes:
    with archive.open(name) as file:
        version = np.lib.format.read_magic(file)
        of_version = (
            np.lib.format.read_array_header_1_0
            if version == (1, 0)
            else np.lib.format.read_array_header_2_0
        )
        shape, in_columns, dtype = of_version(file, max_header_size=_LONGEST_HEADER)
        return ArchivedCubes(path, name, tuple(shape), dtype, bool(in_columns), file.tell())


def _check_length(cubes: ArchivedCubes, info: zipfile.ZipInfo) -> None:
    held = info.file_size - cubes.start
    announced = math.prod(cubes.shape) * cubes.dtype.itemsize
    wrong = ratio_fault(announced, info.compress_size)
    if min(cubes.shape) < 0 or (held != announced and not cubes.dtype.hasobject):
        wrong = f"{held} bytes of an array of shape {cubes.shape} and type {cubes.dtype}"
    if wrong:
        raise _damaged(cubes.path, ".npz archive", ValueError(wrong))


@contextmanager
def _opened(path: Path) -> Iterator[zipfile.ZipFile]:
    try:
        with zipfile.ZipFile(path) as archive:
            yield archive
    except InputError:
        raise
    except Exception as error:  # as a damaged header; damaged packing raises more kinds still
        raise _damaged(path, ".npz archive", error) from None


def _damaged(path: Path, kind: str, error: Exception) -> InputError:
    return InputError(
        f"cannot read {path}",
        expected=f"a whole {kind}",
        got=str(error)[:200] or "a header that cannot be understood",
        remedy="copy or export the file again",
    )
