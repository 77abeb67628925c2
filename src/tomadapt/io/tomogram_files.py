"""Tomograms from the files of other programs, opened without reading their voxels."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from tomadapt.errors import ConfigError, InputError
from tomadapt.io.mrc import open_mrc
from tomadapt.io.voxel_sizes import agreed_voxel_size
from tomadapt.tomograms.tomogram import Tomogram


def open_tomogram(
    path: str | Path,
    *,
    contrast: Literal["positive", "negative"],
    voxel_size_A: float | None = None,
) -> Tomogram:
    """Open a tomogram in an MRC file without reading its voxels.

    Parameters
    ----------
    path
        The file; see :func:`open_mrc`.
    contrast
        The sign of the density in the file. It cannot be measured before particles are known, and
        programs differ, so there is no default.
    voxel_size_A
        In Å; needed where the header holds 0 or 1, which is what programs write that do not know.

    Raises
    ------
    InputError
        As for :func:`open_mrc`, and when the file is no single volume or its voxels are not cubic.
    ConfigError
        When the voxel size is unknown, or the one stated is out of range.
    MismatchError
        When the stated voxel size is not the file's.
    OutputError
        As for :func:`open_mrc`.
    """
    if contrast not in ("positive", "negative"):
        raise ConfigError("contrast", expected="positive or negative", got=repr(contrast))
    path = Path(path)
    header, data = open_mrc(path)
    if data.ndim != 3 or min(data.shape) < 2:
        raise InputError(
            f"{path} is no tomogram",
            expected="one volume with at least two voxels along each axis",
            got=f"shape {data.shape}",
            remedy="give a reconstructed volume",
        )
    size = agreed_voxel_size(path, header.cubic_voxel_size_A(), voxel_size_A)
    inner = Path(path.name[:-3] if path.name.lower().endswith(".gz") else path.name)
    return Tomogram(data, size, 1 if contrast == "positive" else -1, inner.stem)
