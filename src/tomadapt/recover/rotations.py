"""Rotations that cover SO(3) evenly, and the groups of point symmetries."""

from __future__ import annotations

import math
import re

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from tomadapt.errors import ConfigError

_PSI = 1.533751168755204288118041
"""The positive root of ψ⁴ = ψ + 4, a constant of the spiral (Alexa 2022)."""


def rotation_grid(step_deg: float) -> NDArray[np.float32]:
    r"""Rotations that cover SO(3) evenly with a given angular step.

    :math:`8π² / step³` rotations (the volume of SO(3) over that of a cube of this side, in
    radians), on a super-Fibonacci spiral (Alexa 2022, CVPR, "Super-Fibonacci spirals: fast,
    low-discrepancy sampling of SO(3)").

    Parameters
    ----------
    step_deg
        Angular step in degrees.

    Returns
    -------
    ndarray
        (m, 3, 3) float32 matrices acting on (x, y, z).

    Raises
    ------
    ConfigError
        When the step is below 2° (millions of rotations) or above 90°.
    """
    if not 2 <= step_deg <= 90:
        raise ConfigError(
            "the angular step cannot be used",
            expected="2 to 90 degrees",
            got=f"{step_deg:g}",
            remedy="choose another; the best rotation is refined below the step anyway",
        )
    m = math.ceil(8 * math.pi**2 / math.radians(step_deg) ** 3)
    s = np.arange(m) + 0.5
    alpha, beta = 2 * np.pi * s / math.sqrt(2), 2 * np.pi * s / _PSI
    r, big_r = np.sqrt(s / m), np.sqrt(1 - s / m)
    quaternions = np.stack(
        [r * np.sin(alpha), r * np.cos(alpha), big_r * np.sin(beta), big_r * np.cos(beta)], axis=1
    )
    return np.asarray(Rotation.from_quat(quaternions).as_matrix(), dtype=np.float32)


def angular_distance_deg(a: NDArray[np.floating], b: NDArray[np.floating]) -> NDArray[np.float64]:
    """Angles (n,) in degrees of the rotations from a to b, both (n, 3, 3)."""
    return np.asarray(
        np.degrees((Rotation.from_matrix(a).inv() * Rotation.from_matrix(b)).magnitude())
    )


_SYMMETRIES = re.compile(r"([CD])([1-9][0-9]?)|([TOI])")


def symmetry_group(name: str) -> NDArray[np.float32]:
    """The rotations of a point group: C1, C2, …, D2, D7, …, T, O or I.

    The main axis of C and D is z, a two-fold axis of D is x; those of T, O and I are scipy's
    (:meth:`scipy.spatial.transform.Rotation.create_group`).

    Returns
    -------
    ndarray
        (g, 3, 3) float32; the identity is one of them.

    Raises
    ------
    ConfigError
        When the name is not one of these.
    """
    found = _SYMMETRIES.fullmatch(name.upper())
    if not found:
        raise ConfigError(
            f"unknown symmetry {name!r}",
            expected="C1, C2, …, D2, …, T, O or I",
            remedy="mend --symmetry",
        )
    return np.asarray(Rotation.create_group(name.upper()).as_matrix(), dtype=np.float32)
