"""MRC and CCP4 files: the one reader of their headers and voxels.

The format is MRC2014 (Cheng et al. 2015, J. Struct. Biol. 192, 146) with IMOD's flag for unsigned
bytes. A header is checked against the file before voxels are read, mapped or allocated.
"""

from __future__ import annotations

import math
import struct
import warnings
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from tomadapt.errors import InputError
from tomadapt.io.guards import header_bytes, plain_file
from tomadapt.io.integers import header_unsigned, looks_wrapped
from tomadapt.io.voxel_sizes import SAME_SPACING, Sizes, cubic_voxel_size_A

HEADER_BYTES = 1024
KINDS = {0: "i1", 1: "i2", 2: "f4", 3: "complex int16", 4: "complex64", 6: "u2", 12: "f2"}
"""What each mode holds; the complex ones are named only to be refused."""
REAL_MODES = (0, 1, 2, 6, 12)

_IMOD_STAMP = 1146047817
_IMOD_SIGNED_BYTES = 1
# Zeros after the data are padding; anything else there means that the header is wrong.
_PADDING_BYTES = 2**20
_VOLUME_STACK_GROUPS = range(401, 631)


@dataclass(frozen=True)
class MrcHeader:
    """What an MRC file says of itself, checked against the file.

    Attributes
    ----------
    path
        The file.
    byte_order
        ``<`` or ``>``.
    mode
        0 int8, 1 int16, 2 float32, 6 uint16, 12 float16.
    unsigned
        Whether integers are unsigned, where their mode does not settle it, else None. Of mode 0,
        what the extremes in the header say (programs write 0 to 255 without IMOD's stamp), and
        where they say nothing, IMOD's stamp without its flag for signed bytes; of modes 1 and 6,
        what the extremes say where these contradict the mode.
    stored_shape
        Sections, rows, columns.
    grid
        Samples of the cell along x, y, z (mx, my, mz).
    cell_A
        Lengths of the cell along x, y, z in Å.
    axes
        Which of x, y, z (1, 2, 3) the columns, rows and sections are along.
    space_group
        0 a stack of images, 1 a volume, 401 a stack of volumes; programs seldom care.
    extended_bytes
        Length of the extended header.
    origin_A
        x, y, z as the header has it (programs differ in its sign; nothing here depends on it).
    labels
        Text labels, without those that are blank.
    """

    path: Path
    byte_order: str
    mode: int
    unsigned: bool | None
    stored_shape: tuple[int, int, int]
    grid: tuple[int, int, int]
    cell_A: tuple[float, float, float]
    axes: tuple[int, int, int]
    space_group: int
    extended_bytes: int
    origin_A: tuple[float, float, float]
    labels: tuple[str, ...]

    @property
    def dtype(self) -> np.dtype[Any]:
        """The voxels' type in the file."""
        kind = KINDS[self.mode]
        if self.unsigned is not None:
            kind = ("u" if self.unsigned else "i") + kind[1:]
        return np.dtype(self.byte_order + kind)

    @property
    def is_image_stack(self) -> bool:
        """Whether the header calls it images; many programs write that of volumes, too."""
        return self.space_group == 0

    @property
    def is_volume_stack(self) -> bool:
        """Whether the sections are those of several volumes of ``grid[2]`` sections each."""
        return self.space_group in _VOLUME_STACK_GROUPS

    @property
    def data_offset(self) -> int:
        """Where the voxels begin, in bytes."""
        return HEADER_BYTES + self.extended_bytes

    @property
    def data_bytes(self) -> int:
        """How many bytes the voxels take."""
        return math.prod(self.stored_shape) * self.dtype.itemsize

    @property
    def voxel_sizes_A(self) -> tuple[float, float, float]:
        """Voxel sizes along x, y, z in Å as the header has them: 0 where it has no grid."""
        x, y, z = (a / n if n > 0 else 0.0 for a, n in zip(self.cell_A, self.grid, strict=True))
        return x, y, z

    @property
    def spacings_A(self) -> Sizes:
        """The same, but 0 along z where the header has one sample there, which nobody set."""
        x, y, z = self.voxel_sizes_A
        return x, y, 0.0 if self.grid[2] == 1 and self.stored_shape[0] > 1 else z

    def cubic_voxel_size_A(
        self, *, state: str = "--voxel-size", tolerance: float = SAME_SPACING
    ) -> float | None:
        """The voxel size in Å; see :func:`~tomadapt.io.voxel_sizes.cubic_voxel_size_A`."""
        return cubic_voxel_size_A(self.path, self.spacings_A, state=state, tolerance=tolerance)


def open_mrc(path: str | Path) -> tuple[MrcHeader, NDArray[Any]]:
    """Open an MRC file without reading its voxels.

    Parameters
    ----------
    path
        The file, of any name; one whose name ends in ``.gz`` is unpacked to a nameless temporary
        file first.

    Returns
    -------
    The header, and the voxels as a read-only memory map in the file's own type, of which a warning
    tells where the header contradicts its mode: (nz, ny, nx), z, y,
    x whatever the order of axes in the file; (n, nz, ny, nx) for a stack of volumes.

    Raises
    ------
    InputError
        The file is missing or no regular file; it is not an MRC file of real numbers; header and
        file contradict each other.
    OutputError
        A packed file finds no room in the folder for temporary files.
    """
    path = Path(path)
    header = read_header(path)
    end = header.data_offset + header.data_bytes
    with plain_file(path, end, _damaged, spare=_PADDING_BYTES) as (file, held):
        file.seek(min(end, held))
        _check_length(header, held, padding=file.read(_PADDING_BYTES))
        data = _mapped(header, file)
    header, data = _by_voxels(header, data)
    return header, _in_zyx(header, data)


def read_header(path: str | Path) -> MrcHeader:
    """Read and check the header of an MRC file, packed with gzip where its name ends in ``.gz``.

    That the file holds all the data announced is checked by :func:`open_mrc`.

    Raises
    ------
    InputError
        The file is missing, or the header is not that of an MRC file of real numbers.
    """
    path = Path(path)
    start = header_bytes(path, HEADER_BYTES, "an MRC file", _damaged)
    if start[208:211] != b"MAP":
        raise _damaged(path, "no 'MAP' mark in the header")
    header = _parse(path, start, _byte_order(path, start))
    _check(header)
    return header


def _damaged(path: Path, reason: str) -> InputError:
    return InputError(
        f"cannot read {path}: it is not a complete MRC/CCP4 volume",
        expected="a whole MRC file of real numbers whose header describes its data",
        got=reason,
        remedy="copy or export the file again, or convert it",
    )


def _byte_order(path: Path, start: bytes) -> str:
    stamp = start[212:216]
    if stamp[0] in (0x44, 0x11):
        order, other = ("<", ">") if stamp[0] == 0x44 else (">", "<")
        if _mode(start, order) not in KINDS and _mode(start, other) in KINDS:
            raise _damaged(path, f"machine stamp {stamp.hex(' ')}, which its mode contradicts")
        return order
    # Older programs left the stamp empty: the order is then what makes sense of the mode (the mode
    # 0 makes sense in both, so the columns, of which there are less than 65536, decide).
    fitting = [
        order
        for order in "<>"
        if _mode(start, order) in KINDS and 0 < struct.unpack_from(order + "i", start)[0] < 2**16
    ]
    if any(stamp) or len(fitting) != 1:
        raise _damaged(path, f"the unknown machine stamp {stamp.hex(' ')}")
    return fitting[0]


def _mode(start: bytes, order: str) -> int:
    return int(struct.unpack_from(order + "i", start, 12)[0])


def _parse(path: Path, start: bytes, order: str) -> MrcHeader:
    def integers(offset: int) -> tuple[int, int, int]:
        a, b, c = struct.unpack_from(order + "3i", start, offset)
        return a, b, c

    def floats(offset: int) -> tuple[float, float, float]:
        a, b, c = struct.unpack_from(order + "3f", start, offset)
        return a, b, c

    space_group, extended_bytes = struct.unpack_from(order + "2i", start, 88)
    stamp, flags = struct.unpack_from(order + "2i", start, 152)
    texts = [start[i : i + 80].decode("ascii", "replace") for i in range(224, 1024, 80)]
    axes, mode = integers(64), _mode(start, order)
    low, high, mean = floats(76)
    return MrcHeader(
        path=path,
        byte_order=order,
        mode=mode,
        unsigned=header_unsigned(
            mode,
            stamped=stamp == _IMOD_STAMP and not flags & _IMOD_SIGNED_BYTES,
            low=low,
            high=high,
            mean=mean,
        ),
        stored_shape=(integers(0)[2], integers(0)[1], integers(0)[0]),
        grid=integers(28),
        cell_A=floats(40),
        axes=(1, 2, 3) if axes == (0, 0, 0) else axes,
        space_group=space_group,
        extended_bytes=extended_bytes,
        origin_A=floats(196),
        labels=tuple(filter(None, (text.strip("\0 ") for text in texts))),
    )


def _check(header: MrcHeader) -> None:
    """Raise InputError for a header that contradicts itself."""
    wrong = None
    if header.mode not in REAL_MODES:
        wrong = f"mode {header.mode} ({KINDS.get(header.mode, 'unknown')})"
    elif min(header.stored_shape) < 1:
        wrong = f"{' × '.join(map(str, header.stored_shape))} voxels"
    elif header.extended_bytes < 0:
        wrong = f"an extended header of {header.extended_bytes} bytes"
    elif sorted(header.axes) != [1, 2, 3]:
        wrong = f"axis order {header.axes}"
    elif header.is_volume_stack and header.axes != (1, 2, 3):
        wrong = f"a stack of volumes with axis order {header.axes}"
    elif header.is_volume_stack and (
        header.grid[2] < 1 or header.stored_shape[0] % header.grid[2] != 0
    ):
        wrong = f"volumes of {header.grid[2]} sections in {header.stored_shape[0]} sections"
    if wrong:
        raise _damaged(header.path, wrong)


def _check_length(header: MrcHeader, held_bytes: int, *, padding: bytes) -> None:
    """Raise InputError unless the file holds what its header announces, and no other data."""
    announced = header.data_offset + header.data_bytes
    shape = " × ".join(map(str, header.stored_shape))
    if held_bytes < announced:
        raise _damaged(
            header.path,
            f"{held_bytes} bytes, fewer data than the {announced} that its header announces "
            f"({shape} voxels of mode {header.mode})",
        )
    if held_bytes - announced > _PADDING_BYTES or any(padding):
        raise _damaged(
            header.path,
            f"{held_bytes} bytes, more data than the {announced} that its header announces "
            f"({shape} voxels of mode {header.mode}, extended header of "
            f"{header.extended_bytes} bytes)",
        )


def _mapped(header: MrcHeader, file: IO[bytes]) -> NDArray[Any]:
    """A read-only memory map of the data as they are stored."""
    try:
        return np.memmap(
            file,
            dtype=header.dtype,
            mode="r",
            offset=header.data_offset,
            shape=header.stored_shape,
        )
    except (OSError, ValueError) as error:
        raise _damaged(header.path, str(error)) from None


def _by_voxels(header: MrcHeader, data: NDArray[Any]) -> tuple[MrcHeader, NDArray[Any]]:
    """Take the header's word against its mode, unless the voxels say that it is left from before.

    Programs that convert a file do not always renew its extremes.
    """
    if header.mode == 0 or header.unsigned is None:
        return header, data
    if looks_wrapped(data):
        header = replace(header, unsigned=None)
        return header, data.view(header.dtype)
    warnings.warn(
        f"{header.path} is of mode {header.mode} ({np.dtype(KINDS[header.mode]).name}), but the "
        f"extremes in its header are those of {header.dtype.name}: it is read as that",
        stacklevel=3,
    )
    return header, data


def _in_zyx(header: MrcHeader, data: NDArray[Any]) -> NDArray[Any]:
    if header.is_volume_stack:
        return data.reshape(-1, header.grid[2], *data.shape[1:])
    stored = header.axes[::-1]  # slowest to fastest
    return data.transpose([stored.index(axis) for axis in (3, 2, 1)])
