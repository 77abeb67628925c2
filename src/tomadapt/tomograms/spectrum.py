"""The mean power spectrum of a tomogram, or of particles' cubes."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from tomadapt.data.subtomograms import Subtomograms
from tomadapt.data.tomogram import Tomogram
from tomadapt.errors import InputError

Doubles = NDArray[np.float64]
Direction = Literal["z", "y", "x"]

_SIDE = 64
_SMALLEST_SIDE = 16
_BATCH = 64
_CORNER = 3  # few voxels, whose window is near 0, but too many to be equal by chance


@dataclass(frozen=True, eq=False)
class MeanPower:
    """The mean power spectrum of some blocks, each with the same total power.

    Attributes
    ----------
    power
        (pz, py, px // 2 + 1), unshifted, kx ≥ 0; p is the side that blocks were padded to.
    shape
        Sides bz, by, bx of the blocks in voxels, before padding.
    blocks
        How many were averaged.
    """

    power: Doubles
    shape: tuple[int, int, int]
    blocks: int

    @property
    def padded(self) -> tuple[int, int, int]:
        """Sides of the padded blocks along z, y, x."""
        z, y, x = map(_padded, self.shape)
        return z, y, x

    def turned(self, beam: Direction) -> MeanPower:
        """The spectrum after the volume was turned by −90° so that ``beam`` is along z.

        About x where it is along y, as ``trimvol -rx`` of IMOD does; about y where it is along x.
        """
        if beam == "z":
            return self
        nz, ny, nx = self.padded
        opposite = -np.arange(nz) % nz, -np.arange(ny) % ny, np.arange((nx - 1) // 2, 0, -1)
        whole = np.concatenate([self.power, self.power[np.ix_(*opposite)]], axis=2)
        z, y, x = self.shape
        if beam == "y":  # x, z, −y
            turned, shape = whole.swapaxes(0, 1), (y, z, x)
            turned = turned[-np.arange(ny) % ny]
        else:  # −z, y, x
            turned, shape = whole.swapaxes(0, 2), (x, y, z)
            turned = turned[..., -np.arange(nz) % nz]
        half = np.ascontiguousarray(turned[..., : turned.shape[2] // 2 + 1])
        return MeanPower(half, shape, self.blocks)


def tomogram_power(tomogram: Tomogram, *, at_most: int = 100) -> MeanPower:
    """Average the power of blocks of up to 64 voxels a side, windowed, spread over a tomogram.

    Blocks with NaN or infinite voxels, and those with a constant corner (the filling around a
    tomogram), are left out.

    Parameters
    ----------
    tomogram
        Only the blocks are read; at least 16 voxels along each axis.
    at_most
        How many blocks.

    Raises
    ------
    InputError
        The tomogram is too thin, or no block can be used.
    """
    _require_sides(f"tomogram {tomogram.name or 'given'}", tomogram.shape)
    nz, ny, nx = (min(n, _SIDE) for n in tomogram.shape)
    side = (nz, ny, nx)
    starts = [
        np.unique(np.linspace(0, n - s, 2 * (n - s) // s + 2).astype(int)).tolist()
        for n, s in zip(tomogram.shape, side, strict=True)
    ]
    places = list(itertools.product(*starts))
    chosen = np.random.default_rng(0).permutation(len(places))[: 4 * at_most]
    blocks = (
        tomogram.block(places[i], [a + s for a, s in zip(places[i], side, strict=True)])
        for i in chosen
    )
    return _mean(
        blocks, side, f"tomogram {tomogram.name or 'given'}", at_most=at_most, fault=_fault_of_part
    )


def cubes_power(data: Subtomograms, *, at_most: int = 500) -> MeanPower:
    """Average the power of particles' cubes, windowed; of large cubes their middle 64 voxels.

    Cubes that are constant, or have NaN or infinite voxels, are left out.

    Parameters
    ----------
    data
        As extracted: cubes that were turned to a common pose have no common wedge.
    at_most
        How many cubes: the first ones.

    Raises
    ------
    InputError
        The cubes are too small, or none can be used.
    """
    _require_sides("each cube", (data.box,) * 3)
    n = min(data.box, _SIDE)
    middle = slice(data.box // 2 - n // 2, data.box // 2 - n // 2 + n)
    count = min(len(data), at_most)
    cubes = (
        cube[middle, middle, middle]
        for first in range(0, count, _BATCH)
        for cube in data.read(range(first, min(first + _BATCH, count))).numpy()
    )
    return _mean(cubes, (n, n, n), "the set of cubes", at_most=at_most, fault=_fault)


def _require_sides(what: str, shape: tuple[int, ...]) -> None:
    if min(shape) < _SMALLEST_SIDE:
        raise InputError(
            f"{what} is too thin for a spectrum",
            expected=f"at least {_SMALLEST_SIDE} voxels along each axis",
            got=" × ".join(map(str, shape)),
        )


def _fault(block: NDArray[Any]) -> str | None:
    """Why a block has no spectrum; None where it has one."""
    low, high = block.min(), block.max()
    if not (np.isfinite(low) and np.isfinite(high)):
        return "NaN or infinite voxels"
    return None if low < high else "one value throughout"


def _fault_of_part(block: NDArray[Any]) -> str | None:
    """The same of a part of a volume, where a border between data and filling would be seen.

    Such a border cuts at least one corner off, which then has one value.
    """
    ends = (slice(_CORNER), slice(-_CORNER, None))
    corners = itertools.product(ends, repeat=3)
    if (fault := _fault(block)) is None and any(np.ptp(block[c]) == 0 for c in corners):
        return "one value in a corner, as where a volume is filled, masked or not stored"
    return fault


def _mean(
    blocks: Iterable[NDArray[Any]],
    shape: tuple[int, int, int],
    what: str,
    *,
    at_most: int,
    fault: Callable[[NDArray[Any]], str | None],
) -> MeanPower:
    """The mean over the first blocks that have a spectrum."""
    total, count = None, 0
    faults: Counter[str] = Counter()
    for block in blocks:
        if (found := fault(block)) is not None:
            faults[found] += 1
            continue
        power = _power(block)
        total = power if total is None else total + power
        count += 1
        if count == at_most:
            break
    if total is None:
        side = " × ".join(map(str, shape))
        raise InputError(
            f"no part of {what} has a spectrum",
            expected=f"a block of {side} voxels (z, y, x) that are finite and not filled in",
            got=f"of {faults.total()} blocks "
            + (", ".join(f"{n} with {f}" for f, n in faults.items()) or "none is so large"),
            remedy="check that this is the file that was meant, and that it is whole",
        )
    return MeanPower(total / count, shape, count)


def _padded(n: int) -> int:
    """Side to which a block is padded: a finer sampling of angles in the spectra of small ones."""
    return min(2 * n, _SIDE)


def _power(block: NDArray[Any]) -> Doubles:
    """The power spectrum of a block that varies, under a Hann window and padded; its mean is 1."""
    values = block.astype(np.float64)
    values -= values.mean()
    for axis, n in enumerate(values.shape):
        values *= np.hanning(n + 2)[1:-1].reshape([-1 if a == axis else 1 for a in range(3)])
    sides = [_padded(n) for n in values.shape]
    power = np.abs(np.fft.rfftn(values, s=sides, axes=(0, 1, 2))) ** 2
    return np.asarray(power / power.mean())
