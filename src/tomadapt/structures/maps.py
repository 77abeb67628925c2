"""Reading density maps (MRC/CCP4 and EM files) and making templates of them."""

from __future__ import annotations

import math
import warnings
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from tomadapt.errors import InputError
from tomadapt.io.em import open_em
from tomadapt.io.integers import warn_if_wrapped
from tomadapt.io.mrc import MrcHeader, open_mrc
from tomadapt.io.voxel_sizes import agreed_voxel_size, warn_if_named_otherwise
from tomadapt.robust import robust_spread
from tomadapt.structures.atoms import require_suffix
from tomadapt.structures.density import resolution_sigma_A
from tomadapt.structures.resampling import Array, centre_of_mass, require_box, resample

MRC_SUFFIXES = (".mrc", ".map", ".ccp4")
MAP_SUFFIXES = (*MRC_SUFFIXES, ".em")

# Background noise of a map is what lies within this many standard deviations of its border.
_NOISE_DEVIATIONS = 3.0
# Connected pieces with less than this fraction of the heaviest one's mass are no structure.
_DUST_FRACTION = 0.01
# Density below this fraction of the maximum does not count for whether a map fits into a box.
_EXTENT_FRACTION = 0.05
# So many voxels of a map's outermost layer have such density where its structure was cut off.
_CUT_VOXELS = 5


def read_map(
    path: str | Path, *, voxel_size_A: float | None = None
) -> tuple[NDArray[np.float32], float]:
    """Read a density map.

    Parameters
    ----------
    path
        A ``.mrc``, ``.map``, ``.ccp4`` or ``.em`` file, or one of these with ``.gz``.
    voxel_size_A
        The voxel size in Å, if the file does not say it or says it wrongly: a stated value is
        taken instead of the file's, with a warning where they differ. A file's 0 and 1 mean that
        nobody set it.

    Returns
    -------
    The density (nz, ny, nx), z, y, x whatever the file's axis order, and the voxel size in Å. An
    ``.em`` file has no voxel size: it is NaN unless stated.

    Raises
    ------
    InputError
        The file is missing, damaged or of another kind; the volume is not three-dimensional, is
        constant or holds NaN or Inf; the voxel size is unknown, not positive or differs between
        axes.
    ConfigError
        The stated voxel size cannot be that of an MRC file.
    """
    path = Path(path)
    suffix = require_suffix(path, MAP_SUFFIXES)
    if voxel_size_A is not None and not (math.isfinite(voxel_size_A) and voxel_size_A > 0):
        raise InputError(f"voxel size stated for {path}", expected="a positive Å", got=voxel_size_A)
    if suffix == ".em":
        volume = open_em(path)
        voxel = math.nan if voxel_size_A is None else voxel_size_A
    else:
        header, volume = _read_mrc(path)
        voxel = (
            _known_voxel(header)
            if voxel_size_A is None
            else agreed_voxel_size(path, header.spacings_A, voxel_size_A)
        )
    if not np.isfinite(volume).all():
        raise InputError(
            f"map {path} holds NaN or Inf",
            expected="finite values",
            got=f"{int((~np.isfinite(volume)).sum())} bad voxels",
            remedy="repair the map or write it again",
        )
    if np.ptp(volume) == 0:
        raise InputError(
            f"map {path} is constant",
            expected="a structure",
            got=f"{float(volume.flat[0]):g} everywhere",
            remedy="check that this is the file that was meant",
        )
    warn_if_wrapped(path, volume)
    return volume.astype(np.float32), float(voxel)


def map_template(
    path: str | Path,
    *,
    voxel_size_A: float,
    box: int,
    resolution_A: float | None = None,
    map_voxel_size_A: float | None = None,
) -> NDArray[np.float32]:
    """Make a template of a density map.

    The background (median of the outermost shell of voxels) is subtracted, and what is negative or
    within three standard deviations (1.4826 × median absolute deviation) of the shell's noise is
    set to zero: of a map with noise, negative values alone would leave a positive haze. So is dust:
    connected pieces with less than 1 % of the mass of the heaviest one. The rest is centred on its
    mass (of voxels above 5 % of the maximum), blurred, resampled and scaled. A warning tells of a
    map with density at the faces of its box, and of one with two values alone.

    Parameters
    ----------
    path
        The map; its density must be positive.
    voxel_size_A, box
        Voxel size in Å and box edge in voxels of the template.
    resolution_A
        Blur with a Gaussian of σ = ``resolution_A`` / 2, on top of whatever resolution the map has
        (a file does not say it). None: only the anti-alias low-pass at the template's Nyquist
        frequency.
    map_voxel_size_A
        The map's voxel size in Å if the file does not say it.

    Returns
    -------
    Density (box, box, box), z, y, x, with maximum 1.

    Raises
    ------
    InputError
        The map cannot be read, has no known voxel size, or looks inverted.
    ConfigError
        The structure does not fit into the box.
    """
    volume, voxel = read_map(path, voxel_size_A=map_voxel_size_A)
    if math.isnan(voxel):
        raise InputError(
            f"{path} does not say its voxel size (.em files cannot)",
            expected="a voxel size in Å",
            remedy="state the map's voxel size",
        )
    foreground = remove_background(volume, what=str(path))
    if doubt := map_doubt(volume, foreground):
        warnings.warn(f"map {path} {doubt}", stacklevel=2)
    centre = centre_of_mass(foreground)
    inside = np.nonzero(foreground > _EXTENT_FRACTION * foreground.max())
    extent = max(float(np.abs(where - c).max()) for where, c in zip(inside, centre, strict=True))
    require_box(f"the structure in {path}", extent * voxel, voxel_size_A, box)
    z, y, x = centre.tolist()
    template = resample(
        foreground,
        voxel,
        to_voxel_size_A=voxel_size_A,
        box=box,
        centre=(z, y, x),
        blur_sigma_A=0.0 if resolution_A is None else resolution_sigma_A(resolution_A),
    )
    return np.asarray(template / template.max())


def map_doubt(volume: Array, foreground: Array) -> str | None:
    """Why a map may be no whole density of a structure; None where nothing speaks against it.

    Parameters
    ----------
    volume
        The map as it is in the file, (nz, ny, nx).
    foreground
        What :func:`remove_background` left of it.
    """
    doubts = []
    if bool(((volume == volume.min()) | (volume == volume.max())).all()):
        doubts.append("has two values alone, as a mask has: give the density that was masked")
    outermost = foreground[border_of(volume)]
    if int((outermost > _EXTENT_FRACTION * foreground.max()).sum()) >= _CUT_VOXELS:
        doubts.append(
            "has density at the faces of its box: a structure that is cut off there is simulated "
            "without the rest; give a larger box, or a map centred in it"
        )
    return "; and it ".join(doubts) or None


def border_of(volume: Array) -> NDArray[np.bool_]:
    """(nz, ny, nx), True in the outermost layer of voxels."""
    border = np.ones(volume.shape, dtype=bool)
    border[1:-1, 1:-1, 1:-1] = False
    return border


def remove_background(volume: Array, *, what: str) -> NDArray[np.float32]:
    """Subtract the border's median; set to zero what is negative, within its noise, or dust.

    Parameters
    ----------
    volume
        Density (nz, ny, nx).
    what
        Where it came from, for the message.

    Returns
    -------
    Density of the same shape, nowhere negative.

    Raises
    ------
    InputError
        The strongest deviation from the background is negative, or nothing stands out from it.
    """
    border = border_of(volume)
    background, noise = robust_spread(volume[border])
    signal = volume - background
    if -float(signal.min()) > float(signal.max()):
        raise InputError(
            f"map {what} looks inverted",
            expected="positive density: the structure brighter than its surroundings",
            got=f"deviations from the border between {signal.min():g} and {signal.max():g}",
            remedy="multiply the map by -1",
        )
    signal[signal <= _NOISE_DEVIATIONS * noise] = 0
    if not signal.any():
        raise InputError(
            f"map {what} holds nothing that stands out from its border",
            expected="a structure surrounded by background",
            got=f"all within {_NOISE_DEVIATIONS:g} standard deviations of the border's noise",
            remedy="give a map with a margin of background around the structure",
        )
    pieces, count = ndimage.label(signal)
    mass = ndimage.sum_labels(signal, pieces, np.arange(count + 1))
    signal[mass[pieces] < _DUST_FRACTION * mass.max()] = 0
    return signal.astype(np.float32)


def _read_mrc(path: Path) -> tuple[MrcHeader, Array]:
    """Read an MRC/CCP4 file: its header and its volume as z, y, x."""
    header, volume = open_mrc(path)
    if volume.ndim != 3 or (header.is_image_stack and volume.shape[0] == 1):
        raise InputError(
            f"{path} does not hold a map",
            expected="one three-dimensional volume",
            got=f"{volume.dtype} data of shape {volume.shape}",
            remedy="give a reconstructed volume",
        )
    return header, volume


def _known_voxel(header: MrcHeader) -> float:
    """Return the voxel size of a file, if it says one."""
    state = f"{header.path.name}@8.1A"
    voxel = header.cubic_voxel_size_A(state=state)
    if voxel is None:
        raise InputError(
            f"map {header.path} does not say its voxel size",
            expected="a positive voxel size other than 1 (0 and 1 are what unset headers hold)",
            got=f"{' × '.join(f'{size:g}' for size in header.voxel_sizes_A)} Å",
            remedy=f"state it: {state}, or set it in the header",
        )
    warn_if_named_otherwise(header.path, voxel)
    return voxel
