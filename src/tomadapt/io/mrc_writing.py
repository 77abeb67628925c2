"""Writing MRC files: one volume, or a stack of particles, with a header that is true.

The header is MRC2014's (Cheng et al. 2015, J. Struct. Biol. 192, 146) as mrcfile lays it out. The
voxels are written piece by piece: mrcfile itself would hold a second copy of a volume, or map the
file for writing, which on a full disk ends the process instead of an error.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from mrcfile import utils
from mrcfile.constants import MAP_ID, VOLUME_SPACEGROUP, VOLUME_STACK_SPACEGROUP
from mrcfile.dtypes import HEADER_DTYPE
from numpy.typing import NDArray

from tomadapt.errors import ConfigError
from tomadapt.io.voxel_sizes import require_positive_A
from tomadapt.runs.atomic import atomic_path

_MODE_FLOAT32 = 2
_LABELS, _LABEL_LENGTH = 10, 80
_PIECE_VOXELS = 2**22
_LARGEST_LENGTH = 2**31 - 1


@dataclass(frozen=True)
class _Statistics:
    """Of the voxels as they are stored, in double precision.

    Attributes
    ----------
    count, mean, squares
        How many, their mean, and the sum of squared deviations from it.
    low, high
        The least and the greatest.
    """

    count: int = 0
    mean: float = 0.0
    squares: float = 0.0
    low: float = math.inf
    high: float = -math.inf

    def with_piece(self, piece: NDArray[Any]) -> _Statistics:
        """Of these and some more (Chan, Golub & LeVeque 1983, Am. Stat. 37, 242)."""
        values = piece.astype(np.float64)
        mean = float(values.mean())
        values -= mean
        count = self.count + piece.size
        step = mean - self.mean
        return _Statistics(
            count,
            self.mean + step * piece.size / count,
            self.squares
            + float(np.vdot(values, values))
            + step**2 * self.count * piece.size / count,
            min(self.low, float(piece.min())),
            max(self.high, float(piece.max())),
        )


def write_mrc(
    path: str | Path,
    volume: NDArray[Any],
    *,
    voxel_size_A: float,
    labels: Sequence[str] = (),
) -> None:
    """Write an MRC file of float32; one of that name is replaced when the new one is whole.

    Parameters
    ----------
    path
        The file.
    volume
        Real numbers (nz, ny, nx), or a stack (n, nz, ny, nx). A memory map is read in pieces.
    voxel_size_A
        In Å. A header with 1 is taken by most programs, and by this package, as one that nobody
        set.
    labels
        At most 10 lines of at most 80 printable ASCII characters.

    Raises
    ------
    ConfigError
        An argument cannot be used; a voxel is NaN or infinite as float32.
    OutputError
        The file cannot be written; nothing is left behind.
    """
    path = Path(path)
    texts = _label_bytes(path, labels)
    require_positive_A(path, voxel_size_A)
    if path.suffix.lower() == ".gz":
        raise ConfigError(
            f"name of {path}", expected="a name without .gz", remedy="pack the file afterwards"
        )
    _check_volume(path, volume)
    statistics = _Statistics()
    for piece in _pieces(path, volume):
        statistics = statistics.with_piece(piece)
    header = _header(volume.shape, voxel_size_A)
    header["nlabl"], header["label"][: len(texts)] = len(texts), texts
    header["dmin"], header["dmax"] = statistics.low, statistics.high
    header["dmean"] = statistics.mean
    header["rms"] = math.sqrt(statistics.squares / statistics.count)
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        file.write(header.tobytes())
        for piece in _pieces(path, volume):
            file.write(piece.data)


def _check_volume(path: Path, volume: NDArray[Any]) -> None:
    sections = math.prod(volume.shape[:-2])
    if (
        volume.ndim not in (3, 4)
        or volume.dtype.kind not in "iuf"
        or not volume.size
        or max(*volume.shape, sections) > _LARGEST_LENGTH
    ):
        raise ConfigError(
            f"volume for {path}",
            expected="real numbers (nz, ny, nx) or (n, nz, ny, nx)",
            got=f"{volume.dtype} of shape {volume.shape}",
        )


def _label_bytes(path: Path, labels: Sequence[str]) -> list[bytes]:
    texts = [labels] if isinstance(labels, str) else list(labels)
    unusable = [
        text
        for text in texts
        if not (text.strip() and text.isascii() and text.isprintable()) or len(text) > _LABEL_LENGTH
    ]
    if unusable or len(texts) > _LABELS:
        raise ConfigError(
            f"labels for {path}",
            expected=f"at most {_LABELS} of 1 to {_LABEL_LENGTH} printable ASCII characters",
            got=repr(unusable[0]) if unusable else f"{len(texts)} labels",
        )
    return [text.ljust(_LABEL_LENGTH).encode("ascii") for text in texts]


def _pieces(path: Path, volume: NDArray[Any]) -> Iterator[NDArray[Any]]:
    """The voxels in the order of the file, some sections at a time, as they are stored."""
    for stack in volume if volume.ndim == 4 else [volume]:
        step = max(1, _PIECE_VOXELS // math.prod(stack.shape[1:]))
        for first in range(0, len(stack), step):
            part = np.asarray(stack[first : first + step])
            with np.errstate(over="ignore", invalid="ignore"):
                piece = np.ascontiguousarray(part, dtype="<f4")
            if not np.isfinite(piece).all():
                raise ConfigError(
                    f"voxels for {path}",
                    expected="values of the type float32, none of them NaN or infinite",
                    got=f"values between {part.min():g} and {part.max():g}",
                    remedy="mend or scale the volume",
                )
            yield piece


def _header(shape: tuple[int, ...], voxel_size_A: float) -> NDArray[Any]:
    """A header (zero-dimensional, little-endian) without statistics and labels."""
    nz, ny, nx = shape[-3:]
    header = np.zeros((), dtype=HEADER_DTYPE.newbyteorder("<"))
    header["nx"], header["ny"], header["nz"] = nx, ny, math.prod(shape[:-2])
    header["mx"], header["my"], header["mz"] = nx, ny, nz
    header["mode"] = _MODE_FLOAT32
    header["cella"] = tuple(n * voxel_size_A for n in (nx, ny, nz))
    header["cellb"] = (90.0, 90.0, 90.0)
    header["mapc"], header["mapr"], header["maps"] = 1, 2, 3
    header["ispg"] = VOLUME_STACK_SPACEGROUP if len(shape) == 4 else VOLUME_SPACEGROUP
    header["nversion"] = 20141
    header["map"] = MAP_ID
    header["machst"] = utils.machine_stamp_from_byte_order("<")
    return header
