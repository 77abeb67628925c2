"""Whether integers in a file are signed: what the header says, and what neighbouring voxels show.

Programs write uint16 into a type that is int16, and bytes of 0 to 255 where −128 to 127 are meant.
Read by the type's name, values beyond its middle come out at the other end: they have wrapped
round. Neighbouring voxels differ little, so the wrong reading shows jumps of nearly the whole
range.
"""

from __future__ import annotations

import itertools
import math
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

_BLOCK, _PLACES = 32, 3
_MOST_CUBES = 27
_FEWEST_PAIRS = 30
# Of neighbours on different sides of the seam, how many are nearer by the other reading.
_NEARLY_ALL = 0.9
# What the other reading makes of them must be a step as others are: hot pixels are none.
_USUAL_STEPS = 3.0
_PILED = 2.0


def header_unsigned(
    mode: int, *, stamped: bool, low: float, high: float, mean: float
) -> bool | None:
    """Whether an MRC file's integers are unsigned by its header; None where its mode says it.

    Parameters
    ----------
    mode
        0 bytes, 1 int16, 6 uint16.
    stamped
        Whether the header has IMOD's stamp without its flag for signed bytes.
    low, high, mean
        The header's; where ``low`` is not below ``high`` nobody set them.
    """
    is_set = math.isfinite(low) and math.isfinite(high) and low < high
    if mode == 0:
        if not is_set:
            return stamped
        if low >= 0 and 127 < high <= 255:
            return True
        return stamped and not -128 <= low < 0
    if not is_set or not low <= mean <= high:
        return None
    if mode == 1 and low >= 0 and 32767 < high <= 65535:
        return True
    if mode == 6 and -32768 <= low < 0 and high <= 32767:
        return False
    return None


def other_reading(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """The signed type for an unsigned one, and the reverse."""
    return np.dtype(
        dtype.str.replace("i", "u") if dtype.kind == "i" else dtype.str.replace("u", "i")
    )


def looks_wrapped(data: Any) -> bool:
    """Whether voxels jump between the ends of their integer type where the other sign has no jump.

    Two neighbours, one of them beyond the middle of the unsigned range, are far apart by one of the
    two readings. Values that pile up at an end of what occurs are left out: there they were cut
    off, or they are a mask.

    Parameters
    ----------
    data
        (nz, ny, nx) or (n, nz, ny, nx), read in blocks. Only integers of 8 and 16 bits can tell.
    """
    dtype = np.dtype(data.dtype)
    if dtype.kind not in "iu" or dtype.itemsize > 2:
        return False
    blocks = [block for block in _blocks(data) if block.shape[-1] > 1]
    if not blocks:
        return False
    values = np.concatenate([block.ravel() for block in blocks]).astype(np.int32)
    ends = _piled_ends(values)
    half = 1 << (8 * dtype.itemsize - 1)
    apart, steps, usual = [], [], []
    for block in blocks:
        here = block.astype(np.int32)
        first, second = here[..., :-1], here[..., 1:]
        kept = ~(np.isin(first, ends) | np.isin(second, ends))
        step = np.abs(first - second)[kept]
        # Signed: on both sides of 0. Unsigned: on both sides of the middle.
        seam = 0 if dtype.kind == "i" else half
        across = ((first < seam) != (second < seam))[kept]
        apart.append(step[across] > half)
        steps.append(2 * half - step[across])
        usual.append(step[~across & (step > 0)])
    is_apart, other, common = map(np.concatenate, (apart, steps, usual))
    if len(is_apart) < _FEWEST_PAIRS or not len(common):
        return False
    if is_apart.mean() < _NEARLY_ALL:
        return False
    return bool(np.median(other[is_apart]) <= _USUAL_STEPS * np.median(common))


def wrapped_note(path: Path | str, data: Any) -> str | None:
    """What to tell of a file whose integers look wrapped round; None where they do not."""
    if not looks_wrapped(data):
        return None
    dtype = np.dtype(data.dtype)
    return (
        f"{path} was read as {dtype.name}, and its values jump between the ends of that type where "
        f"as {other_reading(dtype).name} they would not: they seem to have wrapped round, and "
        "density, contrast and whatever is measured are then wrong; write it again as 32-bit "
        "floating point (MRC mode 2) with the program that made it"
    )


def warn_if_wrapped(path: Path | str, data: Any) -> None:
    """Warn of integers that look wrapped round."""
    if told := wrapped_note(path, data):
        warnings.warn(told, stacklevel=3)


def _blocks(data: Any) -> Iterator[NDArray[Any]]:
    """Blocks spread over a volume, or over some volumes of a stack."""
    if len(data.shape) == 4:
        chosen = np.unique(np.linspace(0, data.shape[0] - 1, min(_MOST_CUBES, data.shape[0])))
        for row in chosen.astype(int):
            cube = np.asarray(data[np.array([row])])[0]
            middle = tuple(slice(max(0, (n - 2 * _BLOCK) // 2), None) for n in cube.shape)
            yield cube[middle][tuple(slice(0, 2 * _BLOCK) for _ in middle)]
        return
    starts = []
    for n in data.shape:
        places = np.linspace(0, max(0, n - _BLOCK), _PLACES).astype(int)
        starts.append(np.unique(places).tolist())
    for low in itertools.product(*starts):
        ends = [min(a + _BLOCK, n) for a, n in zip(low, data.shape, strict=True)]
        yield np.asarray(data[tuple(map(slice, low, ends))])


def _piled_ends(values: NDArray[np.int32]) -> NDArray[np.int32]:
    """Which of the least and the largest value has more voxels than those beside it."""
    low, high = int(values.min()), int(values.max())
    ends = []
    for end, inwards in ((low, 1), (high, -1)):
        beside = [int((values == end + inwards * step).sum()) for step in range(1, 5)]
        if (values == end).sum() > _PILED * np.mean(beside):
            ends.append(end)
    return np.array(ends, dtype=np.int32)
