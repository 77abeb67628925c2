"""Tomograms from the files of other programs, opened without reading their voxels."""

from __future__ import annotations

from pathlib import Path, PurePosixPath
from typing import Literal

from tomadapt.data.tomogram import Density, Tomogram
from tomadapt.errors import ConfigError, InputError
from tomadapt.io.em import open_em
from tomadapt.io.hdf import open_hdf
from tomadapt.io.integers import warn_if_wrapped
from tomadapt.io.mrc import open_mrc
from tomadapt.io.ome_zarr import open_ome_zarr
from tomadapt.io.voxel_sizes import Sizes, agreed_voxel_size
from tomadapt.io.zipped import zipped_fault

MRC_SUFFIXES = (".mrc", ".rec", ".map", ".st", ".ccp4")
EM_SUFFIXES = (".em",)
HDF_SUFFIXES = (".hdf", ".h5", ".hdf5")
ZARR_SUFFIXES = (".zarr",)

_ENDINGS = (*MRC_SUFFIXES, *EM_SUFFIXES, *HDF_SUFFIXES, *ZARR_SUFFIXES, ".tomostar", ".ome")
_PACKED = (*MRC_SUFFIXES, *EM_SUFFIXES)
_START_BYTES = 212


def open_tomogram(
    path: str | Path,
    *,
    contrast: Literal["positive", "negative"],
    voxel_size_A: float | None = None,
) -> Tomogram:
    """Open a tomogram; of its voxels only a few blocks are read, and those only of integers.

    Where integers look wrapped round (:mod:`~tomadapt.io.integers`), a warning tells it.

    Parameters
    ----------
    path
        An MRC file (``.mrc``, ``.rec``, ``.map``, ``.st``, ``.ccp4``) or an EM file (``.em``), both
        also with ``.gz``; an HDF5 file of EMAN2's (``.hdf``, ``.h5``, ``.hdf5``); or the folder of
        an OME-Zarr image, of which the finest level is taken. Of a file of another name, its first
        bytes tell whether it is MRC or HDF5.
    contrast
        The sign of the density in the file. It cannot be measured before particles are known, and
        programs differ, so there is no default.
    voxel_size_A
        In Å; needed where the file does not say it: EM files never do, others hold 0 or 1 where
        their program did not know it, and OME-Zarr may lack a unit. Where the file says another, a
        warning names both.

    Raises
    ------
    InputError
        As for :func:`~tomadapt.io.mrc.open_mrc`, :func:`~tomadapt.io.em.open_em`,
        :func:`~tomadapt.io.hdf.open_hdf` and :func:`~tomadapt.io.ome_zarr.open_ome_zarr`, and when
        the file is of none of these kinds, is no single volume, or its voxels are not cubic and
        no size is stated.
    ConfigError
        When the voxel size is unknown, or the one stated is out of range; or a package that the
        format needs is not installed.
    OutputError
        A packed file finds no room in the folder for temporary files.
    """
    if contrast not in ("positive", "negative"):
        raise ConfigError("contrast", expected="positive or negative", got=repr(contrast))
    path = Path(path)
    suffix, name = _suffix_and_name(path)
    density, sizes_A = _opened(path, _kind(path, suffix))
    if len(density.shape) != 3 or min(density.shape) < 2:
        raise InputError(
            f"{path} is no tomogram",
            expected="one volume with at least two voxels along each axis",
            got=f"shape {density.shape}",
            remedy="give a reconstructed volume",
        )
    size = agreed_voxel_size(path, sizes_A, voxel_size_A)
    warn_if_wrapped(path, density)
    sign = 1 if contrast == "positive" else -1
    return Tomogram(density, size, sign, name, str(path.absolute()))


def volume_shape(path: Path) -> tuple[int, ...]:
    """Shape of what a file of volumes holds, (nz, ny, nx) or (n, nz, ny, nx); voxels are not read.

    Raises
    ------
    InputError
        As for :func:`open_tomogram`.
    """
    kind = _kind(path, _suffix_and_name(path)[0])
    if kind == "hdf":
        return tuple(open_hdf(path).shape)
    return tuple(_opened(path, kind)[0].shape)


def _suffix_and_name(path: Path) -> tuple[str, str]:
    """The suffix in lower case, without ``.gz`` where it may be packed, and the bare name."""
    inner = Path(path.name)
    if inner.suffix.lower() == ".gz" and Path(inner.stem).suffix.lower() in _PACKED:
        inner = Path(inner.stem)
    suffix = inner.suffix.lower()
    if suffix in ZARR_SUFFIXES and Path(inner.stem).suffix.lower() == ".ome":
        inner = Path(inner.stem)
    return suffix, inner.stem


def holds_image(folder: Path) -> bool:
    """Whether a folder is an OME-Zarr store, by its name or what is in it."""
    inside = any((folder / name).exists() for name in ("zarr.json", ".zattrs"))
    return inside or folder.suffix.lower() in ZARR_SUFFIXES


def _kind(path: Path, suffix: str) -> Literal["mrc", "em", "hdf", "zarr"]:
    """What a file is, by its name where that tells it and by its first bytes otherwise."""
    if path.is_dir():
        if holds_image(path):
            return "zarr"
        raise _unknown(path, "a folder without an image in it")
    if suffix in MRC_SUFFIXES:
        return "mrc"
    if suffix in EM_SUFFIXES:
        return "em"
    if suffix in HDF_SUFFIXES:
        return "hdf"
    try:
        # A pipe or a device may never end.
        if not path.is_file():
            raise _unknown(path, "no file" if path.exists() else "nothing there")
        with path.open("rb") as file:
            start = file.read(_START_BYTES)
    except (OSError, ValueError) as error:
        raise InputError(f"cannot read {path}", got=str(error), remedy="check the path") from None
    if start[208:211] == b"MAP":
        return "mrc"
    if start.startswith(b"\x89HDF\r\n\x1a\n"):
        return "hdf"
    if (fault := zipped_fault(path)) is not None:
        raise fault
    raise _unknown(path, f"a file of unknown kind named {suffix or 'without an extension'}")


def _unknown(path: Path, got: str) -> InputError:
    suffixes = (*MRC_SUFFIXES, *EM_SUFFIXES, *HDF_SUFFIXES, *ZARR_SUFFIXES)
    return InputError(
        f"{path} is no tomogram",
        expected=f"one of {', '.join(suffixes)} (MRC and EM also with .gz)",
        got=got,
        remedy="check the path, or convert it to MRC",
    )


def _opened(path: Path, kind: Literal["mrc", "em", "hdf", "zarr"]) -> tuple[Density, Sizes | None]:
    """What the voxels are read from, and what the file says of their size along x, y, z in Å."""
    if kind == "mrc":
        header, data = open_mrc(path)
        return data, header.spacings_A
    if kind == "em":
        return open_em(path), None
    if kind == "zarr":
        image = open_ome_zarr(path)
        return image, image.voxel_sizes_A
    volumes = open_hdf(path).volumes
    if len(volumes) > 1:
        raise InputError(
            f"{path} is no tomogram",
            expected="one volume",
            got=f"{len(volumes)} volumes",
            remedy="give a reconstructed volume, or open it as particles",
        )
    return volumes[0], volumes[0].voxel_sizes_A


def bare_name(name: str) -> str:
    """A tomogram's name without folders and endings, as its file is called."""
    bare = PurePosixPath(name.replace("\\", "/")).name.removesuffix(".gz")
    shortened = True
    while shortened:
        ending = PurePosixPath(bare).suffix
        shortened = ending.lower() in _ENDINGS
        bare = bare.removesuffix(ending) if shortened else bare
    return bare
