"""HDF5 files as EMAN2 writes them: one volume, or a stack of particles, read when asked for.

Image ``i`` is the dataset ``/MDF/images/<i>/image``; its header is the attributes ``EMAN.*`` of the
group around it (EMAN2 wiki, "EMAN2 HDF5 specifications"). Files of few bits hold integers that
stand for equal steps between two values of the header (EMAN2's ``e2compress``). Sizes in a header
are checked before voxels are read or allocated.
"""

from __future__ import annotations

import contextlib
import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tomadapt.errors import InputError, MismatchError
from tomadapt.io.guards import SMALL_BYTES, ratio_fault, require_extra, require_file, size_fault
from tomadapt.io.unpacking import DEFLATE_RATIO, unpacks_beyond
from tomadapt.io.voxel_sizes import (
    Sizes,
    cubic_voxel_size_A,
    farthest_sizes,
    says_a_size,
    shown_sizes,
)

_IMAGES = "MDF/images"
_SAME_SIZE = 1e-3
_DEFLATE = 1  # HDF5's number of the filter


@dataclass(frozen=True)
class HdfVolume:
    """One volume of a file, read by slicing like an array.

    Attributes
    ----------
    path
        The file.
    image
        Its number there.
    shape
        (nz, ny, nx).
    stored_dtype
        The type in the file.
    step, lowest
        Stored integers count steps above a lowest value; 1 and 0 where they are the values.
    voxel_sizes_A
        Along x, y, z in Å, as the header has them: 1 where EMAN2 does not know it.
    """

    path: Path
    image: int
    shape: tuple[int, int, int]
    stored_dtype: np.dtype[Any]
    step: float
    lowest: float
    voxel_sizes_A: Sizes

    @property
    def voxel_size_A(self) -> float | None:
        """In Å, or None where it is unknown; see :func:`~.voxel_sizes.cubic_voxel_size_A`."""
        return cubic_voxel_size_A(self.path, self.voxel_sizes_A)

    @property
    def dtype(self) -> np.dtype[Any]:
        """The type of the values."""
        plain = (self.step, self.lowest) == (1.0, 0.0)
        return self.stored_dtype if plain else np.dtype(np.float32)

    def __getitem__(self, key: Any) -> NDArray[Any]:
        """The values in a block.

        Raises
        ------
        InputError
            The file cannot be read any more, or its packing is damaged.
        """
        with _opened(self.path) as file:
            return self.values(file, key)

    def values(self, file: Any, key: Any = ()) -> NDArray[Any]:
        """As slicing, from a file that is open already."""
        try:
            dataset = file[f"{_IMAGES}/{self.image}/image"]
            if _unpacks_too_far(dataset, key):
                raise _damaged(self.path, "chunks that unpack to far more than a chunk holds")
            values = np.asarray(dataset[key])
        except KeyError:
            raise _damaged(self.path, f"image {self.image} is not there any more") from None
        if self.dtype == self.stored_dtype:
            return values
        scaled = values.astype(np.float32)
        scaled *= np.float32(self.step)
        scaled += np.float32(self.lowest)
        return scaled


@dataclass(frozen=True)
class HdfStack:
    """All volumes of a file, which are of one shape; read like an array of them.

    Attributes
    ----------
    volumes
        At least one, in the order of their numbers.
    """

    volumes: tuple[HdfVolume, ...]

    def __len__(self) -> int:
        """Give the number of volumes."""
        return len(self.volumes)

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """(n, nz, ny, nx)."""
        return (len(self.volumes), *self.volumes[0].shape)

    @property
    def dtype(self) -> np.dtype[Any]:
        """A type that holds the values of all volumes."""
        return np.result_type(*{volume.dtype for volume in self.volumes})

    @property
    def voxel_size_A(self) -> float | None:
        """In Å, or None where it is unknown; :meth:`voxel_sizes_A` says what is refused."""
        return cubic_voxel_size_A(self.volumes[0].path, self.voxel_sizes_A())

    def voxel_sizes_A(self, stated_A: float | None = None) -> Sizes:
        """What the headers have along x, y, z, in Å.

        Parameters
        ----------
        stated_A
            The size that counts in place of the headers'. Of several, one that differs from it is
            given.

        Raises
        ------
        MismatchError
            The volumes differ in voxel size, and none is stated.
        """
        found = [volume.voxel_sizes_A for volume in self.volumes]
        if stated_A is not None:
            return farthest_sizes(found, stated_A)
        low, high = np.min(found, axis=0), np.max(found, axis=0)
        x, y, z = high.tolist()
        if not (high <= (1 + _SAME_SIZE) * low).all() and says_a_size((x, y, z)):
            raise MismatchError(
                f"the volumes in {self.volumes[0].path} differ in voxel size",
                expected="one voxel size",
                got=", ".join(sorted({shown_sizes(sizes) for sizes in found})),
                remedy="mend the headers, split the file, or state the size (--voxel-size)",
            )
        return found[0]

    def __iter__(self) -> Iterator[NDArray[Any]]:
        """Read one volume after another."""
        with _opened(self.volumes[0].path) as file:
            for volume in self.volumes:
                yield volume.values(file)

    def __getitem__(self, rows: NDArray[np.integer]) -> NDArray[Any]:
        """(b, nz, ny, nx): the volumes of these rows, in the order asked for.

        Raises
        ------
        InputError
            The file cannot be read any more, or its packing is damaged.
        """
        out = np.empty((len(rows), *self.shape[1:]), self.dtype)
        with _opened(self.volumes[0].path) as file:
            for place, row in enumerate(rows):
                out[place] = self.volumes[int(row)].values(file)
        return out


def open_hdf(path: str | Path) -> HdfStack:
    """Open an HDF5 file of EMAN2's layout without reading its voxels.

    Parameters
    ----------
    path
        The file, of any name.

    Returns
    -------
    Its volumes, one or many.

    Raises
    ------
    InputError
        The file is missing, damaged or of another layout; an image is no volume of real numbers,
        is not wholly in this file, or is of another shape than the others; it takes implausibly
        many bytes.
    ConfigError
        h5py is not installed.
    """
    path = Path(path)
    with _opened(path) as file:
        try:
            volumes = _volumes(path, file)
        except (KeyError, ValueError, TypeError, AttributeError, RuntimeError) as error:
            raise _damaged(path, f"{type(error).__name__}: {error}") from None
    return HdfStack(volumes)


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """The file, open for reading."""
    h5py = require_extra("h5py", path)
    try:
        require_file(path, "an HDF5 file")
        # File systems of clusters and read-only ones often know no locks.
        with h5py.File(path, "r", locking="best-effort") as file:
            yield file
    except OSError as error:
        raise _damaged(path, str(error)) from None


def _damaged(path: Path, reason: str) -> InputError:
    return InputError(
        f"cannot read {path}: it is no complete HDF5 file of volumes",
        expected="an HDF5 file of EMAN2's layout (/MDF/images/<i>/image)",
        got=reason,
        remedy="copy or export the file again, or convert it to MRC",
    )


def _volumes(path: Path, file: Any) -> tuple[HdfVolume, ...]:
    images = _inside(path, file, _IMAGES)
    numbers = sorted(int(name) for name in images if name.isascii() and name.isdigit())
    if not numbers:
        raise _damaged(path, "no image in /MDF/images")
    volumes = tuple(_volume(path, images, number) for number in numbers)
    for volume in volumes:
        if volume.shape != volumes[0].shape:
            raise _damaged(
                path,
                f"image {volume.image} of shape {volume.shape} after others of {volumes[0].shape}",
            )
    return volumes


def _inside(path: Path, group: Any, name: str) -> Any:
    """A group's or dataset's own content: links could lead to any file of this machine."""
    import h5py

    for part in name.split("/"):
        link = group.get(part, getlink=True)
        if link is None:
            raise _damaged(path, f"no {part} in {group.name}")
        if not isinstance(link, h5py.HardLink):
            raise _damaged(path, f"{part} in {group.name}, which is a link to elsewhere")
        group = group[part]
    return group


def _volume(path: Path, images: Any, number: int) -> HdfVolume:
    group = _inside(path, images, str(number))
    dataset = _inside(path, group, "image")
    wrong = _fault(dataset)
    header = {name: _number(group, name) for name in ("is_complex", "stored_renderbits")}
    bits = header["stored_renderbits"]
    if header["is_complex"] in (1, ord("T")):  # a number or a letter, by EMAN2's version
        wrong = "a Fourier transform"
    elif not 0 <= bits <= 32:
        wrong = f"voxels of {bits:g} bits"
    if wrong:
        raise _damaged(path, f"image {number} with {wrong}")
    low, high = (_number(group, f"stored_render{end}") for end in ("min", "max"))
    packed = bits > 0 and math.isfinite(low) and math.isfinite(high) and high > low
    return HdfVolume(
        path=path,
        image=number,
        shape=tuple(dataset.shape),
        stored_dtype=dataset.dtype,
        step=(high - low) / (2**bits - 1) if packed else 1.0,
        lowest=low if packed else 0.0,
        voxel_sizes_A=_voxel_sizes_A(group),
    )


def _fault(dataset: Any) -> str:
    """What is wrong with an image's voxels, or nothing; none of them is read for it."""
    import h5py

    if not isinstance(dataset, h5py.Dataset):
        return "no voxels"
    if dataset.shape is None or dataset.ndim != 3 or min(dataset.shape) < 1:
        return f"shape {dataset.shape}, which is no volume"
    if dataset.dtype.kind not in "iuf":
        return f"voxels of type {dataset.dtype}, which are no real numbers"
    if dataset.is_virtual or dataset.external:
        return "voxels in other files"
    chunk = dataset.chunks or (1,)
    count, chunk_bytes = math.prod(dataset.shape), math.prod(chunk) * dataset.dtype.itemsize
    if fault := size_fault(count, chunk_bytes):
        return fault
    codes = _filters(dataset)
    if codes.count(_DEFLATE) > 1:
        return "voxels that are packed twice"
    for code in codes:
        if not h5py.h5z.filter_avail(code):
            return f"the HDF5 filter {code}, which is not installed"
    stored, announced = dataset.id.get_storage_size(), count * dataset.dtype.itemsize
    # Without filters nothing is smaller than its voxels. HDF5 reads what was never written as 0.
    if dataset.chunks:
        chunks = math.prod(-(-n // c) for n, c in zip(dataset.shape, chunk, strict=True))
        whole = dataset.id.get_num_chunks() == chunks
    else:
        whole = stored >= announced
    if not whole:
        return f"{stored} bytes stored of {announced}: it was not written to its end"
    return ratio_fault(announced, stored)


def _filters(dataset: Any) -> list[int]:
    about = dataset.id.get_create_plist()
    return [int(about.get_filter(index)[0]) for index in range(about.get_nfilters())]


def _unpacks_too_far(dataset: Any, key: Any) -> bool:
    """Whether a chunk in a block is a small piece that would fill the memory.

    Of the filters that are built in, Deflate alone allocates whatever comes out.
    """
    if not dataset.chunks or _DEFLATE not in _filters(dataset):
        return False
    limit = 2 * math.prod(dataset.chunks) * dataset.dtype.itemsize + SMALL_BYTES
    whole = not isinstance(key, tuple) or len(key) != 3
    parts = (slice(None),) * 3 if whole else key
    places = []
    for part, length, edge in zip(parts, dataset.shape, dataset.chunks, strict=True):
        start, stop, _ = part.indices(length)
        places.append(range(start // edge * edge, stop, edge))
    for place in itertools.product(*places):
        packed = dataset.id.get_chunk_info_by_coord(place).size
        if packed * DEFLATE_RATIO > limit:
            content = dataset.id.read_direct_chunk(place)[1]
            if unpacks_beyond(content, "zlib", limit):
                return True
    return False


def _number(group: Any, name: str) -> float:
    """A number of the header, 0 where it has none of this name."""
    value = np.asarray(group.attrs.get(f"EMAN.{name}", 0))
    if value.size != 1 or value.dtype.kind not in "iufb":
        raise ValueError(f"EMAN.{name} is no number")
    return float(value.item())


def _voxel_sizes_A(group: Any) -> Sizes:
    # Attributes are in single precision in some versions: 13.48 is then 13.479999…
    x, y, z = (_number(group, f"apix_{axis}") for axis in "xyz")
    return float(f"{x:.6g}"), float(f"{y:.6g}"), float(f"{z:.6g}")
