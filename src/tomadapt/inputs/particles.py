"""Subtomograms from other programs' files: arrays, MRC, EM and HDF5 stacks, folders of cubes.

The sign of the density is measured before anything is done with it, unless it is stated.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from tomadapt.acquisition import Acquisition
from tomadapt.data.subtomograms import Indices, SourceDefaults, Subtomograms
from tomadapt.errors import ConfigError, InputError, MismatchError
from tomadapt.inputs.filling import filled_part, filling_note
from tomadapt.io.arrays import find_cubes, open_npy
from tomadapt.io.cube_folders import read_cube_folder
from tomadapt.io.em import open_em
from tomadapt.io.extracted import cubes_digest, image_names, is_extracted, read_extracted
from tomadapt.io.hdf import HdfStack, open_hdf
from tomadapt.io.integers import warn_if_wrapped
from tomadapt.io.mrc import open_mrc
from tomadapt.io.voxel_sizes import (
    Sizes,
    agreed_voxel_size,
    farthest_sizes,
    require_stated,
    shown_sizes,
)
from tomadapt.io.zipped import zipped_fault
from tomadapt.simulate.dataset import open_set

Contrast = Literal["measure", "positive", "negative"]
CONTRADICTED = ".* was stated to have (positive|negative) contrast"
"""What :func:`check_contrast` warns of begins so, for those who measure the sign themselves."""


@dataclass(frozen=True)
class ArrayVolumes(SourceDefaults):
    """Cubes held in an array, a memory map or an HDF5 file.

    Attributes
    ----------
    cubes
        (n, d, d, d), [z, y, x], as in the file.
    voxel_size_A
        In Å.
    sign
        +1 where the file's density is positive, −1 where it is negative.
    acquisition
        How they were recorded, where known.
    names
        Names of the files that each cube is or was made of, where each had its own.
    """

    cubes: NDArray[np.floating] | HdfStack
    voxel_size_A: float
    sign: int = 1
    acquisition: Acquisition | None = None
    names: tuple[str, ...] = ()

    def __len__(self) -> int:
        """Give the number of cubes."""
        return len(self.cubes)

    @property
    def box(self) -> int:
        """Side in voxels."""
        return int(self.cubes.shape[-1])

    @cached_property
    def voxels(self) -> str:
        """A digest of the voxels as they are in the file."""
        return cubes_digest(self.cubes)

    @property
    def identity(self) -> str:
        """A digest of the voxels, their size and sign."""
        return f"{self.voxels} {self.voxel_size_A} {self.sign}"

    def read(self, indices: Indices) -> torch.Tensor:
        """(b, d, d, d) float32, density positive."""
        rows = np.asarray(indices)
        return self.sign * torch.from_numpy(np.asarray(self.cubes[rows], dtype=np.float32))


def inverted(data: Subtomograms) -> Subtomograms | None:
    """The same cubes with the other sign; None of simulated ones, whose sign is known."""
    if not isinstance(data.source, ArrayVolumes):
        return None
    return Subtomograms(replace(data.source, sign=-data.source.sign), data.rows)


def open_target(
    path: Path | str,
    *,
    voxel_size_A: float | None = None,
    contrast: Contrast = "measure",
    snr: float | None = None,
) -> Subtomograms:
    """Open particles to be labelled; whatever labels they have are left behind.

    Parameters
    ----------
    path
        A simulated set; a folder of ``tomadapt extract``; a stack of cubes in an
        ``.mrc``/``.mrcs``, ``.em`` or EMAN2's ``.hdf`` file; a folder of ``.mrc`` or of ``.em``
        cubes (taken in the order of their names; what is no particle there is left out, see
        :mod:`~tomadapt.io.cube_folders`); or an ``.npy``/``.npz`` array (n, d, d, d). An
        ``.npz`` must hold exactly one such array.
    voxel_size_A
        In Å; needed where the file carries none, as no ``.em`` file does. Where the file says
        another, a warning names both; of a simulated set it must be the same.
    contrast
        ``positive`` or ``negative`` states the sign of the density, and a warning is given when
        the measured one is clearly another; ``measure`` takes it for positive and refuses the file
        when its particles' centres are darker than their surroundings.
    snr
        Only for a simulated set: the SNR to read it at.

    Raises
    ------
    InputError
        When the file is missing, damaged, not a stack of cubes, or holds NaN or constant cubes.
    ConfigError
        When the voxel size is unknown, the contrast measured is not the one assumed, or h5py is
        needed and not installed.
    MismatchError
        When a stated voxel size differs from a simulated set's, or nothing is stated and the cubes
        in a folder differ in it.
    """
    path = Path(path)
    if is_simulated(path):
        data = open_set(path, snr=snr).unlabelled()
        require_stated(path, data.voxel_size_A, voxel_size_A)
        return data
    if snr is not None:
        raise ConfigError(
            f"an SNR was given for {path}",
            expected="a simulated set, whose signal and noise are kept apart",
            got="a file of recorded particles",
            remedy="leave the SNR out",
        )
    if path.is_dir() and is_extracted(path):
        source = _extracted(path, voxel_size_A)
    else:
        cubes, sizes_A, names = _read_cubes(path, voxel_size_A)
        source = ArrayVolumes(cubes, agreed_voxel_size(path, sizes_A, voxel_size_A), names=names)
        warn_if_wrapped(path, cubes)
    _refuse_bad_values(path, source.cubes)
    found = Subtomograms(replace(source, sign=-1 if contrast == "negative" else 1))
    check_contrast(path, found, contrast)
    return found


def is_simulated(path: Path) -> bool:
    """Whether a folder is a simulated set, or one that is being made."""
    return path.is_dir() and any((path / n).exists() for n in ("set.json", "config.json"))


def _extracted(path: Path, voxel_size_A: float | None) -> ArrayVolumes:
    """Particles that were extracted here: their voxel size is known."""
    cubes, card = read_extracted(path)
    size_A = agreed_voxel_size(path, card.voxel_size_A, voxel_size_A)
    require_real(path, cubes.dtype)
    names = image_names(path, len(cubes))
    return ArrayVolumes(cubes, size_A, acquisition=card.acquisition, names=names)


def _read_cubes(
    path: Path, stated_A: float | None
) -> tuple[NDArray[np.floating] | HdfStack, Sizes | None, tuple[str, ...]]:
    """The cubes, what is said of their voxels, and the name of each where it is a file."""
    if not path.exists():
        raise InputError(
            f"no such target: {path}", expected="a file or folder", remedy="check the path"
        )
    if path.is_dir():
        return _read_folder(path, stated_A)
    suffix = path.suffix.lower()
    if suffix in (".mrc", ".mrcs", ".map", ".st"):
        data, sizes_A = _read_mrc(path)
        return as_stack(path, data), sizes_A, ()
    if suffix == ".em":
        return as_stack(path, open_em(path)), None, ()
    if suffix in (".hdf", ".h5", ".hdf5"):
        stack = open_hdf(path)
        require_cubes(path, stack.shape)
        return stack, stack.voxel_sizes_A(stated_A), ()
    if suffix == ".npy":
        return as_stack(path, open_npy(path)), None, ()
    if suffix == ".npz":
        return as_stack(path, find_cubes(path).read()), None, ()
    if (fault := zipped_fault(path)) is not None:
        raise fault
    raise InputError(
        f"unknown kind of target: {path}",
        expected="a set, .mrc, .em or .hdf stack, folder of .mrc or .em cubes, .npy or .npz",
        got=path.suffix or "no extension",
        remedy="convert it to one of these",
    )


def _read_mrc(path: Path) -> tuple[NDArray[np.floating], Sizes]:
    header, data = open_mrc(path)
    unusable = None
    if header.is_image_stack and len(set(data.shape)) != 1:
        unusable = "a stack of 2D images"
    elif header.axes != (1, 2, 3):
        unusable = f"axes in the order {header.axes}"
    if unusable:
        raise InputError(
            f"{path} does not hold subtomograms",
            expected="cubes with axes z, y, x",
            got=unusable,
            remedy="reconstruct it first",
        )
    # Single precision, as the header has it: what is kept of a set is known by this number.
    x, y, z = (float(np.float32(size)) for size in header.spacings_A)
    return data, (x, y, z)


def _read_folder(
    path: Path, stated_A: float | None
) -> tuple[NDArray[np.floating], Sizes | None, tuple[str, ...]]:
    """The cubes of a folder, what their headers say of voxels, and their names."""
    sizes: dict[Path, Sizes] = {}

    def read(file: Path) -> NDArray[np.floating]:
        if file.suffix.lower() == ".em":
            return open_em(file)
        data, sizes[file] = _read_mrc(file)
        return data

    found, cubes = read_cube_folder(path, read)
    said = {tuple(round(size, 3) for size in sizes[f]) for f in found.particles if f in sizes}
    if len(said) > 1 and stated_A is None:
        raise MismatchError(
            f"the cubes in {path} differ in voxel size",
            expected="one voxel size",
            got=", ".join(sorted({shown_sizes(sizes[f]) for f in found.particles})),
            remedy="mend the headers, split the folder, or state the size (--voxel-size)",
        )
    # Only of particles: a mask beside them may have voxels of its own.
    own = [sizes[file] for file in found.particles if file in sizes]
    size = own[0] if own else None
    if own and stated_A is not None:
        size = farthest_sizes(own, stated_A)
    return cubes, size, tuple(file.name for file in found.particles)


def as_stack(path: Path, data: NDArray[np.floating]) -> NDArray[np.floating]:
    """(n, d, d, d) from that shape, from one cube, or from cubes written one after another.

    Raises
    ------
    InputError
        When it is none of these, or its voxels are no real numbers.
    """
    if data.ndim == 3 and data.size and data.shape[1] == data.shape[2]:
        side = data.shape[1]
        if data.shape[0] % side == 0:
            data = data.reshape(-1, side, side, side)
    require_cubes(path, data.shape)
    require_real(path, data.dtype)
    return data


def require_real(path: Path, dtype: np.dtype[Any]) -> None:
    """Refuse voxels that are no real numbers.

    Raises
    ------
    InputError
        Naming the type.
    """
    if dtype.kind not in "fiu":
        raise InputError(
            f"{path} does not hold real numbers",
            expected="float or integer voxels",
            got=dtype,
            remedy="save it as float32",
        )


def require_cubes(path: Path, shape: tuple[int, ...]) -> None:
    """Refuse what is no stack of cubes (n, d, d, d).

    Raises
    ------
    InputError
        Naming the shape.
    """
    if len(shape) != 4 or 0 in shape or len(set(shape[1:])) != 1:
        raise InputError(
            f"{path} is not a stack of cubes",
            expected="an array (n, d, d, d)",
            got=f"shape {shape}",
            remedy="extract subtomograms as cubes",
        )


def _refuse_bad_values(path: Path, cubes: NDArray[np.floating] | HdfStack) -> None:
    parts = []
    for index, cube in enumerate(cubes):
        parts.append(filled_part(cube))
        wrong = None
        if not np.isfinite(cube).all():
            wrong = "NaN or infinite voxels"
        elif cube.min() == cube.max():
            wrong = "all voxels equal"
        elif max(abs(float(cube.min())), abs(float(cube.max()))) > float(np.finfo(np.float32).max):
            wrong = "voxels beyond the range of float32"
        if wrong:
            raise InputError(
                f"subtomogram {index} of {path} cannot be used",
                expected="finite, varying voxels",
                got=wrong,
                remedy="extract it again or leave it out",
            )
    if told := filling_note(str(path), np.array(parts)):
        warnings.warn(told, stacklevel=3)


def measured_contrast(data: Subtomograms, *, at_most: int = 500) -> float:
    """How many standard errors the particles' centres are brighter than their surroundings.

    The mean over a central ball less that over a shell around it, averaged over up to ``at_most``
    particles. Clearly positive: density positive; clearly negative: inverted. Of two balls (radius
    d/6 with a shell d/3 … d/2, radius 0.3 d with 0.4 d … d/2) the brighter one counts: a cavity
    fills the small one, the dark fringe around a small particle the large one.
    """
    d = data.box
    r = torch.arange(d) - d // 2
    radius = (r[:, None, None] ** 2 + r[None, :, None] ** 2 + r[None, None, :] ** 2).sqrt()
    pairs = [
        (radius <= d / 6, (radius >= d / 3) & (radius <= d / 2)),
        (radius <= 0.3 * d, (radius >= 0.4 * d) & (radius <= d / 2)),
    ]
    differences: list[torch.Tensor] = []
    for first in range(0, min(len(data), at_most), 64):
        cubes = data.read(range(first, min(first + 64, len(data), at_most)))
        excess = [cubes[:, c].mean(dim=1) - cubes[:, s].mean(dim=1) for c, s in pairs]
        differences.append(torch.stack(excess))
    difference = torch.cat(differences, dim=1)  # (2, n)
    n = difference.shape[1]
    if n < 2:
        return 0.0
    return float((difference.mean(dim=1) / (difference.std(dim=1) / n**0.5)).max())


def check_contrast(path: Path, data: Subtomograms, contrast: Contrast) -> None:
    """Hold the sign that was assumed or stated against the one that is measured."""
    z = measured_contrast(data)
    if z >= -3:
        return
    if contrast == "measure":
        raise ConfigError(
            f"the density of {path} seems inverted",
            expected="particles brighter than their surroundings",
            got=f"centres darker by {-z:.1f} standard errors",
            remedy="give --contrast negative (or --contrast positive to insist)",
        )
    warnings.warn(
        f"{path} was stated to have {contrast} contrast, but taken so its particles' centres are "
        f"darker than their surroundings by {-z:.1f} standard errors",
        stacklevel=3,
    )
