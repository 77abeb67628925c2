"""The writer of OME-Zarr 0.4 images (Zarr 2), of volumes and of labels alike."""

from __future__ import annotations

import contextlib
import math
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tomadapt.errors import ConfigError, OutputError
from tomadapt.io.ome_zarr import require_zarr
from tomadapt.runs.atomic import output_error

FACTORS = (1, 2, 4)
"""The levels that are written."""
CHUNK = 64
"""Voxels along an edge of the chunks that are written."""


def write_ome_zarr(path: str | Path, volume: NDArray[Any], voxel_size_A: float, name: str) -> None:
    """Write a volume as an OME-Zarr 0.4 image of three levels: its voxels, and 2³ and 4³ averaged.

    Parameters
    ----------
    path
        The folder to make. It appears when it is whole.
    volume
        (nz, ny, nx), real numbers; written as float32. It is read in slabs.
    voxel_size_A
        In Å.
    name
        What programs call the image.

    Raises
    ------
    ConfigError
        An argument cannot be used, or zarr is not installed.
    OutputError
        Something is there already, or the folder cannot be written; nothing is left behind.
    """
    path = Path(path)
    if volume.ndim != 3 or not volume.size or volume.dtype.kind not in "iuf":
        got = f"{volume.dtype} of shape {volume.shape}"
        raise ConfigError(f"volume for {path}", expected="real numbers (nz, ny, nx)", got=got)
    if not (math.isfinite(voxel_size_A) and voxel_size_A > 0):
        raise ConfigError(f"voxel size for {path}", expected="a positive Å", got=voxel_size_A)
    attributes = {"multiscales": [_multiscale(float(voxel_size_A), name)]}
    with new_store(path, attributes) as store:
        _write_levels(store, volume)


@contextlib.contextmanager
def new_store(path: Path, attributes: dict[str, Any]) -> Iterator[Any]:
    """A store (Zarr 2) with these attributes that appears at ``path`` when the block ends well.

    Raises
    ------
    ConfigError
        zarr is not installed.
    OutputError
        Something is there already, or the folder cannot be written; nothing is left behind.
    """
    zarr = require_zarr(path)
    if os.path.lexists(path):
        remedy = "choose another name, or remove it"
        raise OutputError(f"{path} is there already", expected="a new folder", remedy=remedy)
    temporary = path.with_name(f".{os.getpid()}.{path.name}")
    try:
        shutil.rmtree(temporary, ignore_errors=True)  # of a process of this number that was killed
        store = zarr.storage.LocalStore(temporary)
        zarr.create_group(store, zarr_format=2, attributes=attributes)
        yield store
        temporary.rename(path)
    except OSError as error:
        raise output_error(path, error) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def new_level(
    store: Any, number: int, shape: tuple[int, ...], dtype: str, codec: dict[str, Any]
) -> Any:
    """An array for the level of ``FACTORS[number]`` of a volume of ``shape``, Blosc in chunks."""
    import zarr
    from numcodecs import Blosc

    factor = FACTORS[number]
    return zarr.create_array(
        store,
        name=str(number),
        shape=tuple(-(-n // factor) for n in shape),
        chunks=tuple(min(CHUNK, -(-n // factor)) for n in shape),
        dtype=dtype,
        zarr_format=2,
        compressors=Blosc(**codec),
        chunk_key_encoding={"name": "v2", "separator": "/"},
        config={"write_empty_chunks": True},  # so that none is missing of a whole image
    )


def _multiscale(voxel_size_A: float, name: str) -> dict[str, Any]:
    """The metadata; an average lies in the middle of what it is of."""
    levels = [
        {
            "path": str(number),
            "coordinateTransformations": [
                {"type": "scale", "scale": [factor * voxel_size_A] * 3},
                {"type": "translation", "translation": [(factor - 1) / 2 * voxel_size_A] * 3},
            ],
        }
        for number, factor in enumerate(FACTORS)
    ]
    axes = [{"name": axis, "type": "space", "unit": "angstrom"} for axis in "zyx"]
    return {"version": "0.4", "name": name, "axes": axes, "datasets": levels, "type": "mean"}


def _write_levels(store: Any, volume: NDArray[Any]) -> None:
    codec = {"cname": "zstd", "clevel": 3, "shuffle": 1}
    levels = [new_level(store, n, volume.shape, "float32", codec) for n in range(len(FACTORS))]
    for first in range(0, len(volume), CHUNK):
        slab = np.asarray(volume[first : first + CHUNK], dtype=np.float32)
        for level, factor in zip(levels, FACTORS, strict=True):
            part = _averaged(slab, factor)
            level[first // factor : first // factor + len(part)] = part


def _averaged(slab: NDArray[np.float32], factor: int) -> NDArray[np.float32]:
    """Means over cubes of ``factor`` voxels; at the ends over what there is of them."""
    for axis, length in enumerate(slab.shape):
        starts = np.arange(0, length, factor)
        counts = np.minimum(factor, length - starts).astype(np.float32)
        sums = np.add.reduceat(slab, starts, axis=axis)
        slab = sums / np.expand_dims(counts, [other for other in range(3) if other != axis])
    return slab
