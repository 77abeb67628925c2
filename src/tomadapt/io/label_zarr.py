"""Particles painted as balls into a volume of labels: OME-Zarr 0.4, to lie over a tomogram.

The format is that of https://ngff.openmicroscopy.org/0.4/#label-md. Viewers (napari with
napari-ome-zarr) place it by its scale in Å, as they do a tomogram that this package wrote.
"""

from __future__ import annotations

import colorsys
import contextlib
import itertools
import math
import os
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tomadapt.errors import ConfigError, OutputError
from tomadapt.io.ome_zarr import require_zarr
from tomadapt.io.voxel_sizes import require_positive_A
from tomadapt.runs.atomic import output_error

FACTORS = (1, 2, 4)
"""The levels that are written."""
CHUNK = 64
"""Voxels along an edge of the chunks that are written."""

# Blocks hold whole chunks of each level, so none is written twice.
_BLOCK = CHUNK * max(FACTORS)
# LZ4 packs to a 255th at best, so that readers which distrust more (ours) take empty volumes too.
_CODEC = {"cname": "lz4", "clevel": 5, "shuffle": 0}
_GOLDEN = (math.sqrt(5) - 1) / 2


def write_label_zarr(
    path: str | Path,
    shape_zyx: Sequence[int],
    voxel_size_A: float,
    coordinates_A: ArrayLike,
    labels: ArrayLike,
    radii_A: ArrayLike,
    class_names: Sequence[str],
) -> None:
    """Write particles as an OME-Zarr 0.4 label image of three levels (every 2nd, every 4th voxel).

    A particle is a ball: all voxels whose centres are within its radius of its centre, and at
    least the voxel that it lies in. Its value is its label plus one, as ``rlnClassNumber`` counts;
    0 is what no ball covers. Where balls overlap, the later particle is seen. The volume is painted
    in blocks, so memory does not grow with it (about 100 MB).

    Parameters
    ----------
    path
        The folder to make. It appears when it is whole.
    shape_zyx
        Voxels of the tomogram along z, y, x.
    voxel_size_A
        Of the tomogram, in Å.
    coordinates_A
        (n, 3) xyz from the centre of the first voxel.
    labels
        (n,) indices into ``class_names``.
    radii_A
        (n,) one for each particle.
    class_names
        What the labels mean; stored as properties of the values. uint8 while there are at most
        255, then uint16.

    Raises
    ------
    ConfigError
        An argument cannot be used, a particle lies outside the volume (its row is named), or zarr
        is not installed.
    OutputError
        Something is there already, or the folder cannot be written; nothing is left behind.
    """
    path = Path(path)
    shape = _checked_shape(path, shape_zyx, voxel_size_A, class_names)
    centres = np.asarray(coordinates_A, dtype=np.float64).reshape(-1, 3)[:, ::-1] / voxel_size_A
    numbers = np.asarray(labels).reshape(-1)
    radii = np.asarray(radii_A, dtype=np.float64).reshape(-1) / voxel_size_A
    _check_particles(path, shape, centres, numbers, radii, len(class_names))
    radii = np.minimum(radii, sum(shape))  # more covers no more, and may not fit an integer
    values = numbers.astype("uint16" if len(class_names) > 255 else "uint8") + 1
    with new_store(path, _attributes(path, float(voxel_size_A), class_names)) as store:
        dtype = str(values.dtype)
        levels = [new_level(store, n, shape, dtype, _CODEC) for n in range(len(FACTORS))]
        for start in itertools.product(*(range(0, n, _BLOCK) for n in shape)):
            size = [min(_BLOCK, n - first) for n, first in zip(shape, start, strict=True)]
            block = np.zeros(size, values.dtype)
            _paint(block, centres - start, values, radii)
            for level, factor in zip(levels, FACTORS, strict=True):
                part = block[::factor, ::factor, ::factor]
                corner = zip(start, part.shape, strict=True)
                level[tuple(slice(f // factor, f // factor + n) for f, n in corner)] = part


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


def _checked_shape(
    path: Path, shape_zyx: Sequence[int], voxel_size_A: float, class_names: Sequence[str]
) -> tuple[int, int, int]:
    shape = tuple(int(n) for n in shape_zyx)
    if len(shape) != 3 or min(shape) < 1:
        raise ConfigError(f"volume for {path}", expected="voxels along z, y, x", got=shape)
    require_positive_A(path, voxel_size_A)
    if not 0 < len(class_names) < 2**16:
        expected = f"1 to {2**16 - 1} names"
        raise ConfigError(f"classes for {path}", expected=expected, got=len(class_names))
    return shape[0], shape[1], shape[2]


def _check_particles(
    path: Path,
    shape: tuple[int, int, int],
    centres: NDArray[np.float64],
    numbers: NDArray[Any],
    radii: NDArray[np.float64],
    n_classes: int,
) -> None:
    if not len(centres) == len(numbers) == len(radii):
        got = f"{len(centres)} coordinates, {len(numbers)} labels, {len(radii)} radii"
        raise ConfigError(f"particles for {path}", expected="one of each", got=got)
    if not len(centres):
        return
    good_labels = numbers.dtype.kind in "iu" and (numbers >= 0).all() and numbers.max() < n_classes
    if not good_labels:
        expected = f"indices from 0 to {n_classes - 1}"
        raise ConfigError(f"labels for {path}", expected=expected, got=np.unique(numbers)[:20])
    if not (np.isfinite(radii).all() and radii.min() > 0):
        raise ConfigError(f"radii for {path}", expected="positive Å", got=radii[:20])
    # Written so that NaN is outside as well.
    outside = np.flatnonzero(~((centres > -0.5) & (centres < np.array(shape) - 0.5)).all(axis=1))
    if len(outside):
        first = outside[0]
        raise ConfigError(
            f"{len(outside)} particles lie outside the volume of {path}",
            expected=f"coordinates within {shape} voxels (z, y, x)",
            got=f"particle {first} (from 0) at voxel {np.round(centres[first], 1).tolist()}",
            remedy="check the voxel size, or leave these particles out",
        )


def _attributes(path: Path, voxel_size_A: float, class_names: Sequence[str]) -> dict[str, Any]:
    # Of every nth voxel the first one is kept, so all levels have the same origin.
    datasets = [
        {
            "path": str(number),
            "coordinateTransformations": [{"type": "scale", "scale": [factor * voxel_size_A] * 3}],
        }
        for number, factor in enumerate(FACTORS)
    ]
    axes = [{"name": axis, "type": "space", "unit": "angstrom"} for axis in "zyx"]
    name = path.name.removesuffix(".zarr").removesuffix(".ome")
    image = {"version": "0.4", "name": name, "axes": axes, "datasets": datasets}
    values = range(1, len(class_names) + 1)
    label = {
        "version": "0.4",
        "colors": [{"label-value": value, "rgba": _colour(value)} for value in values],
        "properties": [
            {"label-value": value, "class": str(name)}
            for value, name in zip(values, class_names, strict=True)
        ],
    }
    return {"multiscales": [image | {"type": "nearest"}], "image-label": label}


def _colour(value: int) -> list[int]:
    """Red, green, blue, opacity; steps of the golden ratio around the circle keep hues apart."""
    colour = colorsys.hsv_to_rgb(value * _GOLDEN % 1, 0.7, 0.95)
    return [*(round(255 * part) for part in colour), 255]


def _paint(
    block: NDArray[Any],
    centres: NDArray[np.float64],
    values: NDArray[Any],
    radii: NDArray[np.float64],
) -> None:
    """Paint balls into a block; ``centres`` (voxels, z, y, x) count from its first voxel."""
    size = np.array(block.shape)
    nearest = np.floor(centres + 0.5).astype(np.int64)
    low = np.minimum(np.ceil(centres - radii[:, None]).astype(np.int64), nearest)
    high = np.maximum(np.floor(centres + radii[:, None]).astype(np.int64), nearest) + 1
    for i in np.flatnonzero(((high > 0) & (low < size)).all(axis=1)):
        first, last = np.maximum(low[i], 0), np.minimum(high[i], size)
        for z in range(first[0], last[0], CHUNK):  # in slabs: a ball may fill the block
            planes = (slice(z, min(z + CHUNK, last[0])), *map(slice, first[1:], last[1:]))
            places = (np.arange(part.start, part.stop) for part in planes)
            dz2, dy2, dx2 = ((p - c) ** 2 for p, c in zip(places, centres[i], strict=True))
            inside = dz2[:, None, None] + dy2[:, None] + dx2 <= radii[i] ** 2
            block[planes][inside] = values[i]
        if ((nearest[i] >= 0) & (nearest[i] < size)).all():
            block[tuple(nearest[i])] = values[i]
