"""OME-Zarr images, 0.4 (Zarr 2) and 0.5 (Zarr 3): the reader of one level.

The format is that of https://ngff.openmicroscopy.org. What a store's metadata announce is checked
before the library reads a voxel: links out of its folder are refused, sizes must be plausible, and
only codecs that compress are run. (One that unpickles runs whatever code is in a store; only new
releases of the library refuse it.)
"""

from __future__ import annotations

import itertools
import math
import os
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, Field

from tomadapt.errors import InputError
from tomadapt.io.guards import LARGEST_RATIO, SMALL_BYTES, require_extra, size_fault
from tomadapt.io.voxel_sizes import Sizes, cubic_voxel_size_A
from tomadapt.io.zarr_chunks import (
    METADATA,
    codec_fault,
    other_separator,
    stored_bytes,
    stored_chunk,
    stored_names,
    unpacks_too_far,
)

UNITS_A = {"picometer": 1e-2, "angstrom": 1.0, "nanometer": 10.0, "micrometer": 1e4, "meter": 1e10}
UNITS_A |= {"Å": UNITS_A["angstrom"], "nm": UNITS_A["nanometer"], "µm": UNITS_A["micrometer"]}
"""Å in a unit of an axis. Of an axis in another unit, or in none, the voxel size is unknown."""

_MOST_CHUNKS = 2**22
# Looking for a file takes longer than reading so few voxels: nobody stores many such chunks.
_FEW_VOXELS, _MOST_SMALL_CHUNKS = 2**9, 2**12
_FARTHEST_LEVELS = 2**12
_FEW_CHUNKS = 2**12
_MOST_COUNTED = 2**18
FEW_MISSING = 0.05
"""Of all chunks: empty corners, which programs do not store."""
NOT_STORED = r"(?s)\d+ of the \d+ chunks of .* are not stored"
"""How the warning of chunks that are not stored begins."""
_LARGEST_METADATA_BYTES = 2**24


class _Axis(BaseModel):
    name: str
    unit: str | None = None


class _Transform(BaseModel):
    scale: tuple[float, ...] | None = None


class _Level(BaseModel):
    path: str
    coordinateTransformations: tuple[_Transform, ...] = ()


class _Multiscale(BaseModel):
    axes: tuple[_Axis, ...]
    datasets: Annotated[tuple[_Level, ...], Field(min_length=1)]
    coordinateTransformations: tuple[_Transform, ...] = ()


@dataclass(frozen=True, eq=False)
class OmeZarrVolume:
    """One level of an image, read by slicing like an array (nz, ny, nx).

    Attributes
    ----------
    path
        The store's folder.
    array
        The library's array.
    axes
        Which of its axes are z, y and x; any others have one element.
    voxel_sizes_A
        Along x, y, z in Å, or None where the store does not say them in a known unit.
    """

    path: Path
    array: Any
    axes: tuple[int, int, int]
    voxel_sizes_A: Sizes | None

    @property
    def voxel_size_A(self) -> float | None:
        """In Å, or None where it is unknown; see :func:`~.voxel_sizes.cubic_voxel_size_A`."""
        return cubic_voxel_size_A(self.path, self.voxel_sizes_A)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Voxels along z, y, x."""
        z, y, x = (int(self.array.shape[axis]) for axis in self.axes)
        return z, y, x

    @property
    def dtype(self) -> np.dtype[Any]:
        """The voxels' type."""
        dtype: np.dtype[Any] = self.array.dtype
        return dtype

    def __getitem__(self, key: tuple[slice, slice, slice]) -> NDArray[Any]:
        """The voxels of a block, z, y, x; those of a chunk that is missing have the fill value.

        Raises
        ------
        InputError
            A chunk is damaged, or is no file in the store.
        """
        index: list[int | slice] = [0] * self.array.ndim
        places: list[Sequence[int]] = [[0]] * self.array.ndim
        for axis, part in zip(self.axes, key, strict=True):
            start, stop, _ = part.indices(self.array.shape[axis])
            edge = stored_chunk(self.array)[axis]
            index[axis], places[axis] = part, range(start // edge, -(-stop // edge))
        for place in itertools.product(*places):
            self._check_chunk(place)
        try:
            values = np.asarray(self.array[tuple(index)])
        except Exception as error:  # damaged bytes make codecs raise anything
            raise _damaged(self.path, _words(error)) from None
        kept = sorted(self.axes)
        return values.transpose([kept.index(axis) for axis in self.axes])

    def check_stored(self) -> None:
        """Raise InputError where far fewer bytes are stored than the metadata announce."""
        announced = math.prod(self.array.shape) * self.dtype.itemsize
        needed = announced / LARGEST_RATIO if announced > SMALL_BYTES else 1
        grid = _grid(self.array)
        if math.prod(grid) <= _FEW_CHUNKS:
            stored = 0
            for place in np.ndindex(grid):
                stored += self._stored_bytes(place)
                if stored >= needed:
                    return
        else:  # each would be asked for, most of them perhaps missing: minutes of waiting
            stored = stored_bytes(self.path / self.array.path, needed)
        if stored < needed:
            got = f"{announced} bytes announced, {stored} stored"
            if other_separator(self.array, self.path):
                got += "; chunks lie under names with another separator than .zarray announces"
            raise _damaged(self.path, got)

    def missing_chunks(self) -> tuple[int | None, int]:
        """How many chunks are not stored, and of how many: their voxels have the fill value.

        None where there are more than 2¹⁸, whose files would take long to list.
        """
        grid = _grid(self.array)
        count = math.prod(grid)
        if count > _MOST_COUNTED:
            return None, count
        stored = stored_names(self.path / self.array.path)
        name = self.array.metadata.encode_chunk_key
        return sum(name(place) not in stored for place in np.ndindex(grid)), count

    def _check_chunk(self, place: tuple[int, ...]) -> None:
        """Raise InputError where a chunk's file is none, or far more comes of it than a chunk."""
        if self._stored_bytes(place) and unpacks_too_far(self.array, self.path / self._name(place)):
            name = self._name(place)
            raise _damaged(self.path, f"{name}, which unpacks to far more than a chunk holds")

    def _name(self, place: tuple[int, ...]) -> str:
        return f"{self.array.path}/{self.array.metadata.encode_chunk_key(place)}"

    def _stored_bytes(self, place: tuple[int, ...]) -> int:
        """How long a chunk's file is, 0 where there is none."""
        name = self._name(place)
        size = _size_inside(self.path, name)
        if size > 2 * math.prod(stored_chunk(self.array)) * self.dtype.itemsize + 2**20:
            raise _damaged(self.path, f"{size} bytes in {name}, far more than a chunk holds")
        return size


def open_ome_zarr(path: str | Path) -> OmeZarrVolume:
    """Open the finest level of an image without reading its voxels.

    Parameters
    ----------
    path
        The store's folder.

    Returns
    -------
    The level, z, y, x whatever the order of its axes. Translations are not read: the centre of its
    first voxel is its origin.

    Raises
    ------
    InputError
        It is no OME-Zarr image of real numbers with axes z, y and x; an axis of time or channels
        is longer than 1; sizes are implausible; something in it leads out of the folder.
    ConfigError
        zarr is not installed.
    """
    path = Path(path)
    zarr = require_zarr(path)
    if not path.is_dir():
        raise _damaged(path, "a file" if path.exists() else "nothing of that name")
    _check_metadata_files(path, "")
    try:
        store = zarr.storage.LocalStore(path, read_only=True)
        group = zarr.open_group(store, mode="r", use_consolidated=False)
        attributes = group.attrs.asdict()
        found = attributes["ome"] if group.metadata.zarr_format == 3 else attributes
        image = _Multiscale.model_validate(found["multiscales"][0])
    except Exception as error:  # of what is no Zarr the library raises many things
        raise _damaged(path, _words(error)) from None
    level = _finest(image.datasets)
    folder = level.path
    if not all(part.strip(".") for part in folder.split("/")) or "\\" in folder:
        raise _damaged(path, f"a level at {folder!r}")
    _check_metadata_files(path, folder)
    try:
        array = zarr.open_array(store, path=folder, mode="r")
        wrong = _fault(array)
    except Exception as error:
        raise _damaged(path, f"in {folder} {_words(error)}") from None
    names = [axis.name for axis in image.axes]
    lengths = dict(zip(names, array.shape, strict=False))
    if not len(names) == len(lengths) == array.ndim or not lengths.keys() >= {*"zyx"}:
        wrong = f"axes {', '.join(names)} of {array.shape} voxels"
    elif any(length > 1 for name, length in lengths.items() if name not in "zyx"):
        wrong = f"several volumes: {', '.join(f'{n} {name}' for name, n in lengths.items())}"
    if wrong:
        raise _damaged(path, wrong)
    z, y, x = (names.index(name) for name in "zyx")
    sizes_A = _voxel_sizes_A(path, image, level, (x, y, z))
    volume = OmeZarrVolume(path, array, (z, y, x), sizes_A)
    volume.check_stored()
    missing, count = volume.missing_chunks()
    if missing is not None and missing > FEW_MISSING * count:
        warnings.warn(
            f"{missing} of the {count} chunks of {path} are not stored and read as "
            f"{array.fill_value:g}: copy it again if it was downloaded in part",
            stacklevel=2,
        )
    return volume


def require_zarr(path: Path) -> Any:
    """The package zarr, see :func:`~tomadapt.io.guards.require_extra`."""
    return require_extra("zarr", path)


def _words(error: Exception) -> str:
    if isinstance(error, RecursionError):
        return "values nested too deep"
    return f"{type(error).__name__}: {error}"


def _damaged(path: Path, reason: str) -> InputError:
    return InputError(
        f"cannot read {path}: it is no complete OME-Zarr volume",
        expected="an OME-Zarr 0.4 or 0.5 image of real numbers with axes z, y, x",
        got=reason,
        remedy="copy or export it again, or convert it to MRC",
    )


def _size_inside(root: Path, name: str) -> int:
    """The length of a regular file in the store, 0 where there is none."""
    if not os.path.lexists(root / name):
        return 0
    try:
        place = (root / name).resolve(strict=True)
        size = place.stat().st_size
    except (OSError, RuntimeError) as error:
        raise _damaged(root, str(error)) from None
    if not place.is_relative_to(root.resolve()):
        raise _damaged(root, f"{name}, which is a link out of the folder")
    if not place.is_file():  # a pipe or a device may never end
        raise _damaged(root, f"{name}, which is no file")
    return size


def _check_metadata_files(root: Path, folder: str) -> None:
    sizes = [_size_inside(root, str(Path(folder) / name)) for name in METADATA]
    if not any(sizes) or max(sizes) > _LARGEST_METADATA_BYTES:
        raise _damaged(root, f"{max(sizes)} bytes of metadata in {root / folder}")


def _grid(array: Any) -> tuple[int, ...]:
    return tuple(-(-n // edge) for n, edge in zip(array.shape, stored_chunk(array), strict=True))


def _fault(array: Any) -> str:
    """What is wrong with an array, as far as its metadata tell, or nothing."""
    count, chunk_bytes = math.prod(array.shape), math.prod(array.chunks) * array.dtype.itemsize
    if array.dtype.kind not in "iuf":
        return f"voxels of type {array.dtype}, which are no real numbers"
    if wrong := codec_fault(array):
        return wrong
    if min((*array.shape, *array.chunks, *stored_chunk(array)), default=0) < 1:
        return f"{array.shape} voxels in chunks of {array.chunks}"
    if wrong := size_fault(count, chunk_bytes):
        return wrong
    most = _MOST_CHUNKS if math.prod(stored_chunk(array)) >= _FEW_VOXELS else _MOST_SMALL_CHUNKS
    if math.prod(_grid(array)) > most:
        return f"{math.prod(_grid(array))} files of chunks, which is implausible"
    return ""


def _finest(levels: Sequence[_Level]) -> _Level:
    """The level of the smallest voxels: some programs write the coarsest one first."""
    scales = [
        [math.prod(t.scale) for t in level.coordinateTransformations if t.scale] for level in levels
    ]
    sizes = [math.prod(of_level) for of_level in scales]
    # One without a scale may be of any size. Levels of an image are not so far apart: such scales
    # are damaged, and order nothing.
    if not all(scales) or not 0 < max(sizes) <= _FARTHEST_LEVELS**3 * min(sizes):
        return levels[0]
    return levels[sizes.index(min(sizes))]


def _voxel_sizes_A(
    path: Path, image: _Multiscale, level: _Level, axes: tuple[int, int, int]
) -> Sizes | None:
    """The products of all scales in Å, or None where a scale or a known unit is missing."""
    own = [t.scale for t in level.coordinateTransformations if t.scale]
    scales = [*own, *(t.scale for t in image.coordinateTransformations if t.scale)]
    units = [UNITS_A.get(image.axes[axis].unit or "") for axis in axes]
    if not own or None in units:
        return None
    if any(len(scale) != len(image.axes) for scale in scales):
        raise _damaged(path, "scales that are not one for each axis")
    sizes = [
        math.prod(scale[axis] for scale in scales) * (unit or 0.0)
        for axis, unit in zip(axes, units, strict=True)
    ]
    if not all(map(math.isfinite, sizes)) or min(sizes) <= 0:
        raise _damaged(path, f"voxels of {sizes} Å")
    x, y, z = (float(f"{size:.9g}") for size in sizes)
    return x, y, z
