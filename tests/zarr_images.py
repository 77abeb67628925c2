"""OME-Zarr 0.4 images of three levels, written for tests that read one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tomadapt.io.label_zarr import CHUNK, FACTORS, new_level, new_store


def write_ome_zarr(path: Path, volume: NDArray[Any], voxel_size_A: float, name: str) -> None:
    """Write a volume (nz, ny, nx): its voxels, and 2³ and 4³ of them averaged."""
    with new_store(path, {"multiscales": [_multiscale(float(voxel_size_A), name)]}) as store:
        _write_levels(store, volume)


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
