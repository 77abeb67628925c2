"""A tomogram: voxels that are read in blocks, their size, and the sign of the density."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray


class Density(Protocol):
    """What voxels are read from by slicing: an array, a memory map, or what reads a file."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Voxels along each axis."""

    @property
    def dtype(self) -> np.dtype[Any]:
        """The type of what slicing gives."""

    def __getitem__(self, key: Any, /) -> Any:
        """The voxels of a tuple of slices, each with a start and an end, as an array."""


@dataclass(frozen=True, eq=False)
class Tomogram:
    """A tomogram whose voxels are read when asked for.

    The centre of the first voxel is the origin of coordinates: the voxel with indices (z, y, x)
    lies at ``voxel_size_A * (x, y, z)``. The header's origin is not added.

    Attributes
    ----------
    density
        (nz, ny, nx), [z, y, x], in the type and with the sign of the file; usually a memory map.
        Nothing but :meth:`block` reads it.
    voxel_size_A
        In Å.
    sign
        +1 where the file's density is positive (protein brighter than ice), −1 where it is not.
    name
        The file's name without its extension, as text: ``0012`` stays ``0012``.
    path
        The whole path of the file, as text; empty where there is none.
    """

    density: Density
    voxel_size_A: float
    sign: int = 1
    name: str = ""
    path: str = ""

    @property
    def shape(self) -> tuple[int, int, int]:
        """Voxels along z, y, x."""
        nz, ny, nx = self.density.shape
        return nz, ny, nx

    @property
    def last_A(self) -> NDArray[np.float64]:
        """The centre of the last voxel, x, y, z in Å."""
        return (np.array(self.shape[::-1]) - 1) * self.voxel_size_A

    def block(self, low: Sequence[int], high: Sequence[int]) -> NDArray[np.float32]:
        """A copy of the voxels from ``low`` up to, not with, ``high`` (z, y, x).

        Returns
        -------
        float32, density positive. Voxels that are NaN or infinite stay so.
        """
        part = self.density[tuple(map(slice, low, high))]
        with np.errstate(over="ignore"):
            values = np.array(part, dtype=np.float32)
        return np.negative(values, out=values) if self.sign < 0 else values
