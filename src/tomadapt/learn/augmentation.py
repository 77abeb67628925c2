"""Augmentation by rotations and shifts that leave the missing wedge unchanged."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from tomadapt.acquisition import Acquisition


def wedge_is_symmetric(acquisition: Acquisition | None) -> bool:
    """Whether the tilt range is symmetric about 0° (to 1°); False when it is unknown."""
    if acquisition is None:
        return False
    return abs(acquisition.tilt_angles_deg[0] + acquisition.tilt_angles_deg[-1]) <= 1.0


def half_turns(acquisition: Acquisition | None) -> tuple[bool, bool]:
    """Whether half-turns about y and about z give particles that the acquisition could record.

    A half-turn about y leaves every missing wedge unchanged, but mirrors the direction of
    astigmatism. One about z leaves astigmatism unchanged, but swaps the ends of the tilt range. An
    unknown acquisition is assumed to be without astigmatism and with an asymmetric tilt range.
    """
    stigmatic = acquisition is None or acquisition.astigmatism_um == 0
    return stigmatic, wedge_is_symmetric(acquisition)


def turn_and_shift(
    volumes: torch.Tensor,
    flips: NDArray[np.integer],
    shifts: NDArray[np.integer],
    *,
    turns: tuple[bool, bool],
) -> torch.Tensor:
    """Half-turns about the axes and whole-voxel shifts, exact and without interpolation.

    A half-turn about the tilt axis y maps the missing wedge onto itself for every tilt range;
    half-turns about x and z do so for a symmetric range. Mirror images are not used, because they
    change the handedness.

    Parameters
    ----------
    volumes
        (b, d, d, d), [z, y, x].
    flips
        (b, 2) bits: whether to turn about y, and whether to turn about z.
    shifts
        (b, 3) voxels, (z, y, x); the box is treated as periodic.
    turns
        Whether half-turns about y, and about z, are allowed; see :func:`half_turns`.

    Returns
    -------
    Tensor
        (b, d, d, d).
    """
    b, d = volumes.shape[:2]
    about_y, about_z = (1 - 2 * flips[:, i] * turns[i] for i in (0, 1))
    signs = np.stack([about_y, about_z, about_y * about_z], axis=1)  # of z, y, x
    r = np.arange(d) - d // 2
    index = torch.from_numpy((signs[:, :, None] * (r - shifts[:, :, None]) + d // 2) % d)
    z, y, x = index.unbind(dim=1)  # (b, d) each
    batch = torch.arange(b)[:, None, None, None]
    return volumes[batch, z[:, :, None, None], y[:, None, :, None], x[:, None, None, :]]
