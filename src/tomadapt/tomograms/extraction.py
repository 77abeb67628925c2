"""Cubes cut out of a tomogram at given positions, rescaled and centred to parts of a voxel.

Rescaling and centring are one band-limited interpolation: the neighbourhood of a particle is taken
as one period of a function, its Fourier series is cut at the coarser Nyquist frequency (Fourier
cropping), or goes on with zeros (Fourier padding), is shifted by phases, and is summed at the
new voxels.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from tomadapt.data.tomogram import Tomogram
from tomadapt.errors import ConfigError
from tomadapt.inputs.filling import filled_part
from tomadapt.runs.atomic import atomic_path
from tomadapt.structures.resampling import (
    apply_matrices,
    interpolation_matrix,
    require_box,
    require_positive,
)

Array = NDArray[np.floating[Any]]

NOT_FINITE = "its coordinates are not finite"
OUTSIDE = "its centre is outside the tomogram"
REACHES_OUT = "its box reaches out of the tomogram"
BAD_VOXELS = "NaN or infinite voxels around it"
CONSTANT = "all voxels around it are equal"

_FADE = 8  # in the coarser voxels: over so many a neighbourhood fades into its mean
_GAUSSIAN_REACH = 4.0  # in σ
_LARGEST_BOX = 2  # times the tomogram's longest side: what is larger is a mistake


@dataclass(frozen=True, eq=False)
class Extraction:
    """Cubes, and what became of each position asked for.

    Attributes
    ----------
    volumes
        (n, d, d, d) float32, [z, y, x], density positive; a read-only memory map where they were
        written to a file. The particle is at voxel ``d // 2``.
    voxel_size_A
        Of the cubes.
    kept
        (n,): the row of the coordinates that each cube is of, rising.
    inside
        (n,): the fraction of each box that lies within the tomogram; the rest holds the mean of
        what does.
    dropped
        Why each row that is missing in ``kept`` has no cube.
    filled
        (n,): the fraction of the tomogram's voxels around each that are filled with one value.
    """

    volumes: NDArray[np.float32]
    voxel_size_A: float
    kept: NDArray[np.int64]
    inside: NDArray[np.float64]
    dropped: dict[int, str]
    filled: NDArray[np.float64]


@dataclass(frozen=True)
class _Cut:
    """How cubes are cut: edges in new voxels, lengths in the tomogram's voxels.

    Attributes
    ----------
    box
        Edge of a cube in new voxels.
    step
        One new voxel.
    sigma
        Of the Gaussian.
    """

    box: int
    step: float
    sigma: float

    @property
    def fade(self) -> int:
        """Over how far a neighbourhood fades into its mean."""
        return math.ceil(_FADE * max(1.0, self.step))

    @property
    def margin(self) -> int:
        """How much more than the box is read on each side."""
        return self.fade + math.ceil(_GAUSSIAN_REACH * self.sigma)

    def box_span(self, centre: Array) -> tuple[Array, Array]:
        """The first and the last new voxel's centres along z, y, x, for a particle's centre."""
        first = centre - self.box // 2 * self.step
        return first, first + (self.box - 1) * self.step


def extract(
    tomogram: Tomogram,
    coordinates_A: NDArray[np.floating],
    *,
    box: int,
    voxel_size_A: float,
    border: Literal["pad", "drop"] = "pad",
    smoothing_sigma_A: float = 0.0,
    out: Path | str | None = None,
) -> Extraction:
    """Cut cubes out of a tomogram.

    Parameters
    ----------
    tomogram
        Read around one position at a time; its sign is honoured.
    coordinates_A
        (n, 3), x, y, z in Å from the centre of the first voxel.
    box
        Edge of the cubes in new voxels.
    voxel_size_A
        Of the cubes. Frequencies beyond the coarser of the two Nyquist frequencies are absent.
    border
        What happens to a box that reaches out of the tomogram: ``pad`` fills what is outside with
        the mean of what is inside; ``drop`` leaves it out. A centre outside is always left out.
    smoothing_sigma_A
        σ in Å of a Gaussian that the cubes are smoothed with; 0 for none. Lin et al. 2019 smoothed
        S_e1 with 20 Å.
    out
        Write the cubes to this ``.npy`` file instead of holding them in memory.

    Returns
    -------
    Extraction
        Values are densities: they are neither scaled nor shifted.

    Raises
    ------
    ConfigError
        A parameter cannot be used.
    OutputError
        ``out`` cannot be written; nothing is left behind.
    """
    points = np.asarray(coordinates_A, dtype=np.float64)
    _check_arguments(points, box=box, voxel_size_A=voxel_size_A, sigma_A=smoothing_sigma_A)
    if border not in ("pad", "drop"):
        raise ConfigError("border", expected="pad or drop", got=repr(border))
    scale = tomogram.voxel_size_A
    _check_size(tomogram, box * voxel_size_A)
    cut = _Cut(box, voxel_size_A / scale, smoothing_sigma_A / scale)
    centres = points[:, ::-1] / scale
    seen = [_looked_at(tomogram, cut, centre, border) for centre in centres]
    dropped = {row: reason for row, (reason, _) in enumerate(seen) if reason}
    kept = np.array([row for row, (reason, _) in enumerate(seen) if not reason], dtype=np.int64)
    filled = np.array([part for reason, part in seen if not reason], dtype=np.float64)
    cubes = (_cube(tomogram, cut, centres[row]) for row in kept)
    inside = np.array([_inside(tomogram, cut, centres[row]) for row in kept])
    volumes = collected(cubes, count=len(kept), box=box, out=out)
    return Extraction(volumes, float(voxel_size_A), kept, inside, dropped, filled)


def _check_arguments(points: Array, *, box: int, voxel_size_A: float, sigma_A: float) -> None:
    require_positive("voxel_size_A", voxel_size_A)
    require_box("a particle", 0.0, voxel_size_A, box)
    if points.ndim != 2 or points.shape[1] != 3:
        raise ConfigError(
            "coordinates", expected="an array (n, 3) of x, y, z in Å", got=f"shape {points.shape}"
        )
    if not (math.isfinite(sigma_A) and sigma_A >= 0):
        raise ConfigError("smoothing_sigma_A", expected="a length in Å, or 0", got=sigma_A)


def _check_size(tomogram: Tomogram, edge_A: float) -> None:
    longest_A = max(tomogram.shape) * tomogram.voxel_size_A
    if edge_A > _LARGEST_BOX * longest_A:
        raise ConfigError(
            "the box is larger than the tomogram",
            expected=f"an edge of at most {_LARGEST_BOX * longest_A:g} Å",
            got=f"{edge_A:g} Å",
            remedy="check the box and both voxel sizes",
        )


def _looked_at(tomogram: Tomogram, cut: _Cut, centre: Array, border: str) -> tuple[str, float]:
    """Why there can be no cube around a centre (z, y, x, voxels), or nothing; the filled part."""
    if not np.isfinite(centre).all():
        return NOT_FINITE, 0.0
    last = np.array(tomogram.shape) - 1
    # A voxel holds what is within half a voxel of its centre.
    if (centre < -0.5).any() or (centre > last + 0.5).any():
        return OUTSIDE, 0.0
    first_new, last_new = cut.box_span(centre)
    # Coordinates and voxel sizes have been through text files: their last digit says nothing.
    if border == "drop" and ((first_new < -1e-3).any() or (last_new > last + 1e-3).any()):
        return REACHES_OUT, 0.0
    low, high = _reads(tomogram, cut, centre)
    values = tomogram.block(low.tolist(), high.tolist())
    if not (np.isfinite(values.min()) and np.isfinite(values.max())):
        return BAD_VOXELS, 0.0
    return CONSTANT if values.min() == values.max() else "", filled_part(values)


def _inside(tomogram: Tomogram, cut: _Cut, centre: Array) -> float:
    """The fraction of a box whose voxels' centres lie within the tomogram."""
    steps = (np.arange(cut.box) - cut.box // 2) * cut.step
    fractions = []
    for c, n in zip(centre, tomogram.shape, strict=True):
        at = c + steps
        fractions.append(float(((at >= -0.5) & (at <= n - 0.5)).mean()))
    return math.prod(fractions)


def _neighbourhood(cut: _Cut, centre: Array) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The first voxels of what a cube is made of, and those after the last, outside or not."""
    first_new, last_new = cut.box_span(centre)
    low = np.floor(first_new).astype(np.int64) - cut.margin
    return low, np.ceil(last_new).astype(np.int64) + cut.margin + 1


def _reads(
    tomogram: Tomogram, cut: _Cut, centre: Array
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The part of the neighbourhood that is in the tomogram: never empty about a centre in it."""
    low, high = _neighbourhood(cut, centre)
    return np.maximum(low, 0), np.minimum(high, tomogram.shape)


def _cube(tomogram: Tomogram, cut: _Cut, centre: Array) -> NDArray[np.float32]:
    """The cube (d, d, d) around a centre (z, y, x, voxels)."""
    low, high = _neighbourhood(cut, centre)
    read_low, read_high = _reads(tomogram, cut, centre)
    values = tomogram.block(read_low.tolist(), read_high.tolist())
    mean = values.mean(dtype=np.float64)
    # What is outside the tomogram stays 0 here, which is the mean.
    around = np.zeros(tuple(high - low))
    around[tuple(map(slice, read_low - low, read_high - low))] = values - mean
    matrices = [
        _matrix(cut, n, c - first)
        for n, c, first in zip(around.shape, centre.tolist(), low.tolist(), strict=True)
    ]
    return np.asarray(apply_matrices(around, matrices) + mean, dtype=np.float32)


def _matrix(cut: _Cut, count: int, centre: float) -> NDArray[np.float64]:
    """The matrix (d, count) that fades one axis's ends, resamples, shifts and smooths it."""

    def gaussian(frequency: Array) -> Array:
        return np.asarray(np.exp(-2 * (math.pi * cut.sigma * frequency) ** 2))

    # A whole number of new voxels, so that the new Nyquist frequency is one of the series.
    period = math.ceil(count / cut.step - 1e-9) * cut.step
    matrix = interpolation_matrix(
        count, centre, cut.box, step=cut.step, period=period, transfer=gaussian
    )
    return matrix * _window(count, cut.fade)


def _window(count: int, fade: int) -> NDArray[np.float64]:
    """One, and a cosine's half-wave to zero over ``fade`` voxels at both ends."""
    rise = 0.5 - 0.5 * np.cos(np.pi * (np.arange(fade) + 0.5) / fade)
    window = np.ones(count)
    window[:fade] = rise
    window[count - fade :] = rise[::-1]
    return window


def collected(
    cubes: Iterable[NDArray[np.float32]], *, count: int, box: int, out: Path | str | None
) -> NDArray[np.float32]:
    """Cubes as one array (count, d, d, d), or written to an .npy file one by one, and mapped.

    Not through a writable memory map: on a full disk that ends the process instead of an error.
    """
    shape = (count, box, box, box)
    if out is not None:
        header = {"descr": "<f4", "fortran_order": False, "shape": shape}
        with atomic_path(Path(out)) as temporary, temporary.open("wb") as file:
            np.lib.format.write_array_header_1_0(file, header)
            for cube in cubes:
                file.write(np.ascontiguousarray(cube, dtype="<f4").data)
        if count:  # nothing can be mapped of an empty array
            mapped: NDArray[np.float32] = np.lib.format.open_memmap(out, mode="r")
            return mapped
    volumes = np.empty(shape, dtype=np.float32)
    for index, cube in enumerate(cubes):
        volumes[index] = cube
    return volumes
